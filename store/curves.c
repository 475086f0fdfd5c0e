/* Reading points: which of them are shown, and the walk through levels, chunks and tails that everybody reads by.
 *
 * A point of attempt a at step s is left out when a later attempt that has said anything began at or below s. So each
 * attempt has one limit, the smallest first step of those after it, and its points below the limit are shown. */
#include "store/internal.h"

#include "base/array.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int limits_read(struct db *db, int64_t job, int64_t as_of, struct limits *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_ATTEMPTS);
        _cleanup_(freep) struct limit *items = NULL;
        int64_t below = INT64_MAX, spoken = 0;
        size_t n = 0, room = 0;
        int r;

        bind_int(st, ":job", job);
        while ((r = db_step(db, st, err)) > 0 && sqlite3_column_int64(st, 2) <= as_of) { /* by number */
                if (!array_grow(&items, n, &room, sizeof *items))
                        return error_set(err, -ENOMEM, NULL, "no memory for a list of attempts");
                /* below holds the first step for now; one that said nothing supersedes nothing */
                items[n++] = (struct limit){
                        .attempt = sqlite3_column_int64(st, 0),
                        .number = sqlite3_column_int64(st, 2),
                        .below = sqlite3_column_int64(st, 6) > 0 ? sqlite3_column_int64(st, 5) : INT64_MAX,
                        .tail = sqlite3_column_int64(st, 19) > 0,
                };
                spoken = items[n - 1].below < INT64_MAX ? items[n - 1].number : spoken;
        }
        if (r < 0)
                return r;
        for (size_t i = n; i-- > 0;) {
                int64_t first_step = items[i].below;

                items[i].below = below;
                below = MIN(below, first_step);
        }
        *ret = (struct limits){spoken, n, TAKE_PTR(items)};
        return 0;
}

void limits_done(struct limits *l)
{
        free(l->items);
        *l = (struct limits){0};
}

/* FNV-1a. */
uint64_t limits_digest(const struct limits *l)
{
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < l->n; i++) {
                const int64_t words[] = {l->items[i].attempt, l->items[i].below};
                const unsigned char *bytes = (const unsigned char *)words;

                for (size_t k = 0; k < sizeof words; k++)
                        h = (h ^ bytes[k]) * UINT64_C(0x100000001b3);
        }
        return h;
}

/* ---- the walk */

struct walk {
        struct db *db;
        const struct curves_query *q;
        const struct curves_sink *sink;
        int64_t to; /* of the track that is read */
        struct error *err;
};

/* Those of sorted points that lie in from..to. */
static int give_points(const struct walk *w, const struct point *p, size_t n)
{
        size_t begin = 0;

        while (begin < n && p[begin].step < w->q->from)
                begin++;
        while (n > begin && p[n - 1].step > w->to)
                n--;
        return n > begin ? w->sink->points(p + begin, n - begin, w->sink->user) : 0;
}

enum found { FOUND_NOTHING, FOUND_CELLS, FOUND_COARSE };

/* What there is of a row to use: nothing of it is asked for, its cells, or only what is below it. Its points, which are
 * many pages, are not read here. */
static int read_row(struct walk *w, int64_t id, struct cells *cells)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(w->db, ST_CHUNK);
        int64_t first, last;
        int r;

        bind_int(st, ":id", id);
        r = db_step(w->db, st, w->err);
        if (r <= 0)
                return r < 0 ? r : error_set(w->err, -EBADMSG, w->db->path, "points are missing or damaged");
        first = sqlite3_column_int64(st, 0);
        last = sqlite3_column_int64(st, 1);
        if (last < w->q->from || first > w->to)
                return FOUND_NOTHING;
        if (w->q->shift < 0 || first < w->q->from || last > w->to)
                return FOUND_COARSE;
        r = cells_decode(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2), cells, w->err);
        return r < 0 ? r : cells->shift <= w->q->shift ? FOUND_CELLS : FOUND_COARSE;
}

static int walk_points(struct walk *w, int64_t id)
{
        struct point *points = db_points(w->db, w->err);
        size_t n = 0;
        int r = points ? chunk_read(w->db, id, points, &n, w->err) : -ENOMEM;

        return r < 0 ? r : give_points(w, points, n);
}

/* A row and what is below it. */
static int walk_row(struct walk *w, int64_t track, int level, int64_t number)
{
        int64_t id = chunk_id(track, level, number);
        struct cells cells;
        int r = read_row(w, id, &cells);

        if (r == FOUND_CELLS)
                return w->sink->cells(&cells, w->sink->user);
        if (r != FOUND_COARSE)
                return r; /* FOUND_NOTHING is 0 */
        if (level == 0)
                return walk_points(w, id);
        r = 0;
        for (int i = 0; r == 0 && i < LEVEL_FAN; i++)
                r = walk_row(w, track, level - 1, number * LEVEL_FAN + i);
        return r;
}

/* Its rows that have none above them, in order: those of the highest level first, the chunk that is not full last. */
static int walk_track(struct walk *w, const struct track *t)
{
        int64_t full = t->points / CHUNK_POINTS, chunks = full + (t->points % CHUNK_POINTS > 0);
        int r = 0;

        for (int64_t at = 0; r == 0 && at < chunks;) {
                int level = LEVEL_N - 1;

                while (level > 0 && at + ((int64_t)1 << 4 * level) > full)
                        level--;
                r = walk_row(w, t->id, level, at >> 4 * level);
                at += (int64_t)1 << 4 * level;
        }
        return MIN(r, 0);
}

static int walk_tracks(struct walk *w, int64_t attempt)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(w->db, ST_TRACKS);
        int r;

        bind_int(st, ":series", w->q->series);
        bind_int(st, ":attempt", attempt);
        while ((r = db_step(w->db, st, w->err)) > 0) {
                struct track t = {sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2),
                                  sqlite3_column_int64(st, 3)};

                if (t.last_step < w->q->from || t.first_step > w->to)
                        continue;
                if (w->sink->source)
                        w->sink->source(w->sink->user);
                r = walk_track(w, &t);
                if (r < 0)
                        return r;
        }
        return r;
}

struct tail_points {
        struct point *p;
        size_t n, room;
};

static int add_tail(const struct batch *b, void *user)
{
        struct tail_points *t = user;

        for (size_t k = 0; k < b->n_columns; k++)
                for (size_t i = 0; i < b->n_rows; i++) {
                        if (!array_grow(&t->p, t->n, &t->room, sizeof *t->p))
                                return -ENOMEM;
                        t->p[t->n++] = (struct point){b->step[i], b->time_ms[i], b->value[k][i]};
                }
        return 0;
}

static int walk_tail(struct walk *w, int64_t attempt)
{
        struct tail_points t = {0};
        int r = tail_read(w->db, attempt, w->q->series, add_tail, &t, w->err);

        if (r >= 0)
                r = points_sort(t.p, t.n, w->err);
        if (r >= 0 && w->sink->source)
                w->sink->source(w->sink->user);
        if (r >= 0)
                r = give_points(w, t.p, t.n);
        free(t.p);
        return MIN(r, 0);
}

int curves_read(struct db *db, const struct curves_query *q, const struct curves_sink *sink, struct error *err)
{
        struct walk w = {.db = db, .q = q, .sink = sink, .err = err};
        int r = 0;

        for (size_t i = 0; r >= 0 && i < q->limits->n; i++) {
                const struct limit *l = &q->limits->items[i];

                if (q->attempt && q->attempt != l->number)
                        continue;
                w.to = q->attempt || l->below == INT64_MAX ? q->to : MIN(q->to, l->below - 1);
                if (w.to < q->from)
                        continue;
                r = walk_tracks(&w, l->attempt);
                if (r >= 0 && q->tails && l->tail)
                        r = walk_tail(&w, l->attempt);
        }
        return r;
}

/* ---- summaries */

void summary_add(struct summary *s, int64_t step, double value)
{
        if (s->points == 0 || step >= s->last_step) {
                s->last_step = step;
                s->last = value;
        }
        s->points++;
        if (!isfinite(value))
                return;
        s->min = isnan(s->min) || value < s->min ? value : s->min;
        s->max = isnan(s->max) || value > s->max ? value : s->max;
}

int summary_write(struct db *db, int64_t series, const struct summary *s, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_SERIES_SUMMARY);

        bind_int(st, ":id", series);
        bind_int(st, ":points", s->points);
        bind_int(st, ":last_step", s->last_step);
        bind_real(st, ":last", s->last);
        bind_real(st, ":min", s->min);
        bind_real(st, ":max", s->max);
        return db_run(db, st, err);
}

static int sum_cells(const struct cells *c, void *user)
{
        for (size_t i = 0; i < c->n; i++)
                cell_merge(user, &c->cell[i]);
        return 0;
}

static int sum_points(const struct point *p, size_t n, void *user)
{
        cell_add(user, p, n);
        return 0;
}

int summary_recompute(struct db *db, const struct limits *l, int64_t series, struct error *err)
{
        struct cell all = {.min = NAN, .max = NAN, .last = NAN};
        const struct curves_query q = {.series = series, .limits = l, .from = INT64_MIN, .to = INT64_MAX, .shift = 62};
        const struct curves_sink sink = {.cells = sum_cells, .points = sum_points, .user = &all};
        int r = curves_read(db, &q, &sink, err);

        if (r < 0)
                return r == -EBADMSG ? 0 : r;
        return summary_write(db, series, &(struct summary){all.count, all.last_step, all.last, all.min, all.max}, err);
}
