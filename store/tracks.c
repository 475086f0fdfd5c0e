/* Writing points: tails, chunks and the levels above them (README.md), inside the writer's transaction. Nothing is kept
 * in memory between two writes: what a rolled back savepoint undoes is all there was.
 *
 * A batch waits in the tail until there are TAIL_ROWS rows or TAIL_EVENTS events; then all series of the attempt go
 * into their chunks at once. The last chunk of a track is written anew until it has CHUNK_POINTS points. Every 16th
 * full row of a level makes one of the next. */
#include "store/internal.h"

#include "base/array.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define TAIL_ROWS 2048
#define TAIL_EVENTS 128
#define CHUNK_BYTES_MAX ((size_t)CHUNK_POINTS * 25 + 4096) /* whatever is in it; cells of a row are shorter */
#define BATCH_BYTES_MAX ((size_t)16 << 20)

static void bind_blob(sqlite3_stmt *st, const char *name, const struct buf *b)
{
        (void)sqlite3_bind_blob64(st, sqlite3_bind_parameter_index(st, name), b->data, b->size, SQLITE_STATIC);
}

static int missing(const struct db *db, struct error *err)
{
        return error_set(err, -EBADMSG, db->path, "points are missing or damaged");
}

/* ---- rows */

/* points NULL: of a level above 0. */
static int row_put(struct db *db, int64_t id, int64_t first_step, int64_t last_step, const struct cells *cells,
                   const struct buf *points, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(CHUNK_BYTES_MAX);
        sqlite3_stmt *st = db_statement(db, ST_CHUNK_PUT);
        int r = cells_encode(cells, &b, err);

        if (r < 0)
                return r;
        if (!id)
                return error_set(err, -E2BIG, db->path, "there is no room for more points");
        bind_int(st, ":id", id);
        bind_int(st, ":first_step", first_step);
        bind_int(st, ":last_step", last_step);
        bind_blob(st, ":cells", &b);
        if (points)
                bind_blob(st, ":points", points);
        return db_run(db, st, err);
}

static int row_get(struct db *db, int64_t id, int64_t *ret_first, int64_t *ret_last, struct cells *ret,
                   struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_CHUNK);
        int r;

        bind_int(st, ":id", id);
        r = db_step(db, st, err);
        if (r <= 0)
                return r < 0 ? r : missing(db, err);
        *ret_first = sqlite3_column_int64(st, 0);
        *ret_last = sqlite3_column_int64(st, 1);
        return cells_decode(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2), ret, err);
}

/* The row of a level whose 16 children, of which number is the last, are there. */
static int summarise(struct db *db, int64_t track, int level, int64_t number, struct error *err)
{
        struct cells child[LEVEL_FAN], all = {0};
        int64_t first = 0, last = 0, from = 0, to = 0;

        for (int i = 0; i < LEVEL_FAN; i++) {
                int r = row_get(db, chunk_id(track, level - 1, number * LEVEL_FAN + i), &from, &to, &child[i], err);

                if (r < 0)
                        return r;
                first = i ? first : from;
                last = to;
                all.shift = MAX(all.shift, child[i].shift);
        }
        all.shift = cells_shift(first, last, all.shift);
        for (int i = 0; i < LEVEL_FAN; i++) {
                int r = cells_merge(&all, &child[i], err);

                if (r < 0)
                        return r;
        }
        return row_put(db, chunk_id(track, level, number), first, last, &all, NULL, err);
}

static int put_chunk(struct db *db, int64_t track, int64_t number, const struct point *p, size_t n, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(CHUNK_BYTES_MAX);
        struct codec *codec = db_codec(db, err);
        struct cells cells;
        int r = codec ? chunk_encode(codec, p, n, &b, err) : -ENOMEM;

        if (r < 0)
                return r;
        cells_from_points(p, n, &cells);
        r = row_put(db, chunk_id(track, 0, number), p[0].step, p[n - 1].step, &cells, &b, err);
        for (int level = 1; r >= 0 && n == CHUNK_POINTS && level < LEVEL_N && (number + 1) % LEVEL_FAN == 0; level++) {
                number /= LEVEL_FAN;
                r = summarise(db, track, level, number, err);
                if (r == -EBADMSG)
                        r = 0; /* who reads finds that it is missing; what comes is written all the same */
        }
        return r;
}

/* ---- tracks */

static int track_latest(struct db *db, int64_t series, int64_t attempt, struct track *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_TRACK_LATEST);
        int r;

        bind_int(st, ":series", series);
        bind_int(st, ":attempt", attempt);
        r = db_step(db, st, err);
        *ret = (struct track){0};
        if (r > 0)
                *ret = (struct track){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                      sqlite3_column_int64(st, 2), sqlite3_column_int64(st, 3)};
        return MIN(r, 0);
}

/* id 0: a new one, which then has an id. */
static int track_put(struct db *db, int64_t series, int64_t attempt, struct track *t, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_TRACK_PUT);
        int r;

        if (t->id)
                bind_int(st, ":id", t->id);
        bind_int(st, ":series", series);
        bind_int(st, ":attempt", attempt);
        bind_int(st, ":points", t->points);
        bind_int(st, ":first_step", t->first_step);
        bind_int(st, ":last_step", t->last_step);
        r = db_run(db, st, err);
        if (r >= 0 && !t->id)
                t->id = sqlite3_last_insert_rowid(db->handle);
        return r;
}

int chunk_read(struct db *db, int64_t id, struct point *ret, size_t *ret_n, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_CHUNK_POINTS);
        struct codec *codec = db_codec(db, err);
        int r;

        if (!codec)
                return -ENOMEM;
        bind_int(st, ":id", id);
        r = db_step(db, st, err);
        if (r <= 0)
                return r < 0 ? r : missing(db, err);
        return chunk_decode(codec, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0), ret, ret_n, err);
}

/* The points of the last chunk, if it is not full: into p, which has room. */
static int reopen_chunk(struct db *db, const struct track *t, struct point *p, size_t *ret_n, struct error *err)
{
        size_t n = (size_t)(t->points % CHUNK_POINTS);
        int r;

        *ret_n = 0;
        if (n == 0)
                return 0;
        r = chunk_read(db, chunk_id(t->id, 0, t->points / CHUNK_POINTS), p, ret_n, err);
        return r >= 0 && *ret_n != n ? missing(db, err) : r;
}

/* Sorted points, none below the track's last step, behind n_open of its last chunk, which are in open. */
static int append_sorted(struct db *db, const struct track *t, struct point *open, size_t n_open, const struct point *p,
                         size_t n, struct error *err)
{
        int64_t number = t->points / CHUNK_POINTS;
        int r = 0;

        for (size_t at = 0; r >= 0 && at < n; number++) {
                size_t more = MIN(n - at, CHUNK_POINTS - n_open);

                memcpy(open + n_open, p + at, more * sizeof *p);
                r = put_chunk(db, t->id, number, open, n_open + more, err);
                at += more;
                n_open = 0;
        }
        return r;
}

/* Stable, from the bottom up; memory has room for n points, too. */
static void sort_by_step(struct point *p, struct point *memory, size_t n)
{
        for (size_t width = 1; width < n; width *= 2) {
                for (size_t begin = 0; begin < n; begin += 2 * width) {
                        size_t middle = MIN(begin + width, n), end = MIN(begin + 2 * width, n);

                        for (size_t a = begin, b = middle, i = begin; i < end; i++)
                                memory[i] = b == end || (a < middle && p[a].step <= p[b].step) ? p[a++] : p[b++];
                }
                memcpy(p, memory, n * sizeof *p);
        }
}

int points_sort(struct point *p, size_t n, struct error *err)
{
        struct point *memory;
        size_t i = 1;

        while (i < n && p[i].step >= p[i - 1].step)
                i++;
        if (i >= n)
                return 0;
        memory = malloc(n * sizeof *memory);
        if (!memory)
                return error_set(err, -ENOMEM, NULL, "no memory for points");
        sort_by_step(p, memory, n);
        free(memory);
        return 0;
}

int track_append(struct db *db, int64_t series, int64_t attempt, struct point *p, size_t n, struct error *err)
{
        _cleanup_(freep) struct point *open = malloc(CHUNK_POINTS * sizeof *open);
        size_t n_open = 0;
        struct track t;
        int r = open ? track_latest(db, series, attempt, &t, err)
                     : error_set(err, -ENOMEM, NULL, "no memory for points");

        if (r >= 0)
                r = points_sort(p, n, err);
        if (r >= 0 && t.id && p[0].step >= t.last_step) {
                r = reopen_chunk(db, &t, open, &n_open, err);
                if (r == -EBADMSG)
                        t.id = 0;
        }
        if (r < 0 && r != -EBADMSG)
                return r;
        if (!t.id || p[0].step < t.last_step) {
                t = (struct track){.first_step = p[0].step, .last_step = p[0].step};
                r = track_put(db, series, attempt, &t, err); /* chunks carry its id */
                n_open = 0;
        }
        if (r >= 0)
                r = append_sorted(db, &t, open, n_open, p, n, err);
        if (r < 0)
                return r;
        t.points += (int64_t)n;
        t.last_step = p[n - 1].step;
        return track_put(db, series, attempt, &t, err);
}

/* At most *budget of a track's rows. 0: there are no more. */
static int delete_chunks(struct db *db, int64_t track, int64_t *budget, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_CHUNKS_DELETE);
        int r;

        bind_int(st, ":first", track << 32);
        bind_int(st, ":last", track << 32 | 0xffffffff);
        bind_int(st, ":max", *budget);
        r = db_run(db, st, err);
        *budget -= sqlite3_changes(db->handle);
        return r < 0 ? r : *budget <= 0;
}

static int run_with(struct db *db, enum statement which, const char *name, int64_t id, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, which);

        bind_int(st, name, id);
        return db_run(db, st, err);
}

int tracks_remove(struct db *db, int64_t series, int64_t *budget, struct error *err)
{
        /* whoever reads meanwhile finds no points, not some that are missing */
        int r = run_with(db, ST_TRACKS_EMPTY, ":series", series, err);

        while (r >= 0) {
                sqlite3_stmt *st = db_statement(db, ST_TRACKS_OF_SERIES);
                int64_t track = 0;

                bind_int(st, ":series", series);
                r = db_step(db, st, err);
                if (r > 0)
                        track = sqlite3_column_int64(st, 0);
                (void)sqlite3_reset(st);
                if (r <= 0)
                        return r;
                r = delete_chunks(db, track, budget, err);
                if (r != 0)
                        return r;
                r = run_with(db, ST_TRACK_DELETE, ":id", track, err);
        }
        return r;
}

/* ---- tails */

int tail_read(struct db *db, int64_t attempt, int64_t only, int (*batch)(const struct batch *b, void *user), void *user,
              struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_TAIL);
        struct codec *codec = db_codec(db, err);
        int r;

        if (!codec)
                return -ENOMEM;
        bind_int(st, ":attempt", attempt);
        while ((r = db_step(db, st, err)) > 0) {
                struct batch b = {0};

                r = batch_decode(codec, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0), only, &b, err);
                if (r >= 0)
                        r = batch(&b, user);
                batch_done(&b);
                if (r < 0)
                        return r;
        }
        return r;
}

/* What a tail has of each series. */
struct gathered {
        struct part {
                int64_t series;
                size_t at; /* order of arrival */
                struct point *points;
                size_t n;
        } * parts;
        size_t n, room;
};

static void gathered_done(struct gathered *g)
{
        for (size_t i = 0; i < g->n; i++)
                free(g->parts[i].points);
        free(g->parts);
}

static int gather(const struct batch *b, void *user)
{
        struct gathered *g = user;

        for (size_t k = 0; k < b->n_columns; k++) {
                struct point *p = malloc(b->n_rows * sizeof *p);

                if (!p || !array_grow(&g->parts, g->n, &g->room, sizeof *g->parts)) {
                        free(p);
                        return -ENOMEM;
                }
                for (size_t i = 0; i < b->n_rows; i++)
                        p[i] = (struct point){b->step[i], b->time_ms[i], b->value[k][i]};
                g->parts[g->n] = (struct part){b->series[k], g->n, p, b->n_rows};
                g->n++;
        }
        return 0;
}

static int by_series(const void *a, const void *b)
{
        const struct part *x = a, *y = b;

        if (x->series != y->series)
                return x->series < y->series ? -1 : 1;
        return x->at < y->at ? -1 : x->at > y->at;
}

static int add_to_summary(struct db *db, int64_t series, const struct point *p, size_t n, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_SERIES_BY_ID);
        struct summary s = SUMMARY_NONE;
        int r;

        bind_int(st, ":id", series);
        r = db_step(db, st, err);
        if (r > 0)
                s = (struct summary){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), column_real(st, 2),
                                     column_real(st, 3), column_real(st, 4)};
        (void)sqlite3_reset(st);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                summary_add(&s, p[i].step, p[i].value);
        return summary_write(db, series, &s, err);
}

/* Parts of one series, in order of arrival. */
static int close_series(struct db *db, const struct tail *t, const struct limits *limits, const struct part *part,
                        size_t n_parts, struct error *err)
{
        _cleanup_(freep) struct point *p = NULL;
        size_t n = 0;
        int r;

        for (size_t i = 0; i < n_parts; i++)
                n += part[i].n;
        p = malloc(n * sizeof *p);
        if (!p)
                return error_set(err, -ENOMEM, NULL, "no memory for points");
        n = 0;
        for (size_t i = 0; i < n_parts; i++) {
                memcpy(p + n, part[i].points, part[i].n * sizeof *p);
                n += part[i].n;
        }
        r = track_append(db, part->series, t->attempt, p, n, err);
        if (r < 0)
                return r;
        return t->latest ? add_to_summary(db, part->series, p, n, err)
                         : summary_recompute(db, limits, part->series, err);
}

static int close_gathered(struct db *db, const struct tail *t, struct gathered *g, struct error *err)
{
        _cleanup_(limits_done) struct limits limits = {0};
        int r = t->latest ? 0 : limits_read(db, t->job, INT64_MAX, &limits, err);

        if (g->n)
                qsort(g->parts, g->n, sizeof *g->parts, by_series);
        for (size_t i = 0, end; r >= 0 && i < g->n; i = end) {
                for (end = i + 1; end < g->n && g->parts[end].series == g->parts[i].series;)
                        end++;
                r = close_series(db, t, &limits, g->parts + i, end - i, err);
        }
        return r;
}

/* A tail that is damaged is kept, under the attempt's number negated, and the job goes on. */
static int put_aside(struct db *db, const struct tail *t, struct gathered *g, struct error *err)
{
        int r = run_with(db, ST_TAIL_ASIDE, ":attempt", t->attempt, err);

        gathered_done(g);
        *g = (struct gathered){0};
        return r < 0 ? r
                     : job_event_once(db, t->job, t->time_us, "damaged_points",
                                      "some of its latest points cannot be read: they were set aside in the database",
                                      err);
}

/* last: a batch that has not been in it; or NULL. */
static int close_with(struct db *db, struct tail *t, const struct batch *last, struct error *err)
{
        _cleanup_(gathered_done) struct gathered g = {0};
        sqlite3_stmt *st;
        int r = t->rows ? tail_read(db, t->attempt, 0, gather, &g, err) : 0;

        if (r == -EBADMSG)
                r = put_aside(db, t, &g, err);
        if (r >= 0 && last)
                r = gather(last, &g);
        if (r >= 0)
                r = close_gathered(db, t, &g, err);
        if (r < 0)
                return r == -ENOMEM ? error_set(err, r, NULL, "no memory for points") : r;
        st = db_statement(db, ST_TAIL_DELETE);
        bind_int(st, ":attempt", t->attempt);
        t->rows = t->events = 0;
        return db_run(db, st, err);
}

int tail_close(struct db *db, struct tail *t, struct error *err)
{
        return close_with(db, t, NULL, err);
}

int tail_add(struct db *db, struct tail *t, const struct batch *batch, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(BATCH_BYTES_MAX);
        struct codec *codec = db_codec(db, err);
        sqlite3_stmt *st;
        int r;

        if (t->rows + (int64_t)batch->n_rows >= TAIL_ROWS || t->events + 1 >= TAIL_EVENTS)
                return close_with(db, t, batch, err);
        r = codec ? batch_encode(codec, batch, &b, err) : -ENOMEM;
        if (r < 0)
                return r;
        st = db_statement(db, ST_TAIL_INSERT);
        bind_int(st, ":attempt", t->attempt);
        bind_int(st, ":seq", t->seq);
        bind_blob(st, ":data", &b);
        t->rows += (int64_t)batch->n_rows;
        t->events++;
        return db_run(db, st, err);
}
