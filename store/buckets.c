/* What readers ask of curves: buckets of many series, points behind a place, the list of a job's series. */
#include "store/internal.h"

#include "base/array.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int find_series(struct db *db, int64_t job, const char *name, int64_t *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_SERIES_BY_NAME);
        int r;

        bind_int(st, ":job", job);
        bind_text(st, ":name", name);
        r = db_step(db, st, err);
        if (r == 0)
                return error_set(err, -ENOENT, NULL, "job %lld has no such series", (long long)job);
        if (r > 0)
                *ret = sqlite3_column_int64(st, 0);
        return MIN(r, 0);
}

/* One view for all statements of what follows. */
static int view_begin(struct reader *r, struct error *err)
{
        return db_run(&r->db, db_statement(&r->db, ST_BEGIN), err);
}

static int view_end(struct reader *r, int result)
{
        (void)db_run(&r->db, db_statement(&r->db, ST_COMMIT), NULL);
        return result;
}

/* ---- what a question is about */

/* One of its series that there are. */
struct asked {
        int64_t series, job;
        const char *name;
        size_t limits;       /* which of limits[] */
        int64_t first, last; /* steps of what there is to read; first above last: nothing */
};
struct asking {
        struct reader *reader;
        struct db *db; /* its */
        const struct curve_question *q;
        struct limits *limits; /* of each job */
        struct asked *series;
        size_t n;
};

static void asking_done(struct asking *a)
{
        for (size_t i = 0; a->limits && i < a->q->n_jobs; i++)
                limits_done(&a->limits[i]);
        free(a->limits);
        free(a->series);
}

static void widen(struct asked *s, int64_t from, int64_t to)
{
        if (from > to)
                return;
        s->first = MIN(s->first, from);
        s->last = MAX(s->last, to);
}

struct tail_range {
        struct asked *series;
        int64_t from, to;
};

static int widen_by_batch(const struct batch *b, void *user)
{
        struct tail_range *t = user;

        for (size_t i = 0; b->n_columns && i < b->n_rows; i++)
                if (b->step[i] >= t->from && b->step[i] <= t->to)
                        widen(t->series, b->step[i], b->step[i]);
        return 0;
}

static int widen_by_attempt(struct asking *a, struct asked *s, const struct limit *l, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(a->db, ST_TRACKS);
        struct tail_range t = {s, a->q->from, a->q->to};
        int r;

        if (!a->q->attempt && l->below != INT64_MAX)
                t.to = MIN(t.to, l->below - 1);
        bind_int(st, ":series", s->series);
        bind_int(st, ":attempt", l->attempt);
        while ((r = db_step(a->db, st, err)) > 0)
                widen(s, MAX(t.from, sqlite3_column_int64(st, 2)), MIN(t.to, sqlite3_column_int64(st, 3)));
        return r < 0 || !l->tail ? r : tail_read(a->db, l->attempt, s->series, widen_by_batch, &t, err);
}

/* From the first to the last step of what is shown in from..to; where a track has a gap at their edge, as if there were
 * points: that makes buckets a little wider and reads nothing. */
static int find_range(struct asking *a, struct asked *s, struct error *err)
{
        const struct limits *l = &a->limits[s->limits];

        s->first = INT64_MAX;
        s->last = INT64_MIN;
        for (size_t i = 0; i < l->n; i++)
                if (!a->q->attempt || a->q->attempt == l->items[i].number) {
                        int r = widen_by_attempt(a, s, &l->items[i], err);

                        if (r < 0)
                                return r;
                }
        return 0;
}

static int ask_job(struct asking *a, size_t job, struct error *err)
{
        int r = limits_read(a->db, a->q->jobs[job], INT64_MAX, &a->limits[job], err);

        for (size_t k = 0; r >= 0 && k < a->q->n_names; k++) {
                struct asked *s = &a->series[a->n];

                *s = (struct asked){.job = a->q->jobs[job], .name = a->q->names[k], .limits = job};
                r = find_series(a->db, s->job, s->name, &s->series, err);
                if (r == -ENOENT) { /* not every job has every series */
                        r = 0;
                        continue;
                }
                if (r >= 0)
                        r = find_range(a, s, err);
                a->n++;
        }
        return r;
}

static int ask(struct asking *a, struct error *err)
{
        int r = 0;

        a->limits = calloc(MAX(a->q->n_jobs, 1), sizeof *a->limits);
        a->series = calloc(MAX(a->q->n_jobs * a->q->n_names, 1), sizeof *a->series);
        if (!a->limits || !a->series)
                return error_set(err, -ENOMEM, NULL, "no memory for a question");
        for (size_t i = 0; r >= 0 && i < a->q->n_jobs; i++)
                r = ask_job(a, i, err);
        return r;
}

static struct grid grid_of(const struct asking *a, const struct asked *s)
{
        struct grid g = {.logarithmic = a->q->logarithmic};

        grid_fit(&g, s->first, s->last, a->q->n_buckets);
        return g;
}

static struct grid grid_of_all(const struct asking *a)
{
        struct grid g = {.logarithmic = a->q->logarithmic};

        for (size_t i = 0; i < a->n; i++)
                grid_fit(&g, a->series[i].first, a->series[i].last, a->q->n_buckets);
        return g;
}

/* ---- buckets */

struct buckets {
        const struct grid *grid;
        int64_t first; /* index of the first of them */
        size_t n;
        struct cell *cell;
};

static struct cell *bucket(const struct buckets *b, int64_t step)
{
        uint64_t at = (uint64_t)grid_index(b->grid, step) - (uint64_t)b->first;

        return at < b->n ? &b->cell[at] : NULL;
}

static int add_cells(const struct cells *c, void *user)
{
        for (size_t i = 0; i < c->n; i++) {
                struct cell *to = bucket(user, c->cell[i].last_step);

                if (!to)
                        return -EBADMSG;
                cell_merge(to, &c->cell[i]);
        }
        return 0;
}

static int add_points(const struct point *p, size_t n, void *user)
{
        const struct buckets *b = user;

        for (size_t i = 0, end; i < n; i = end) {
                struct cell *to = bucket(b, p[i].step);
                int64_t next = grid_end(b->grid, p[i].step);

                if (!to)
                        return -EBADMSG;
                for (end = i + 1; end < n && p[end].step < next;)
                        end++;
                cell_add(to, p + i, end - i);
        }
        return 0;
}

static int curve_allocate(struct curve *c, size_t n, struct error *err)
{
        int64_t **const ints[] = {&c->step, &c->time_ms, &c->count, &c->not_a_number, &c->infinite, &c->minus_infinite};
        double **const reals[] = {&c->min, &c->max, &c->mean, &c->last};
        bool good = true;

        for (size_t i = 0; i < ARRAY_LEN(ints); i++)
                good &= (*ints[i] = calloc(n, sizeof **ints[i])) != NULL;
        for (size_t i = 0; i < ARRAY_LEN(reals); i++)
                good &= (*reals[i] = calloc(n, sizeof **reals[i])) != NULL;
        return good ? 0 : error_set(err, -ENOMEM, NULL, "no memory for %zu buckets", n);
}

static void curve_add(struct curve *c, const struct cell *x)
{
        size_t i = c->n++;

        c->points_total += x->count;
        c->step[i] = x->last_step;
        c->time_ms[i] = x->last_time_ms;
        c->count[i] = x->count;
        c->not_a_number[i] = x->not_a_number;
        c->infinite[i] = x->infinite;
        c->minus_infinite[i] = x->minus_infinite;
        c->min[i] = x->min;
        c->max[i] = x->max;
        c->mean[i] = cell_mean(x);
        c->last[i] = x->last;
}

/* Cells are asked for as wide as buckets are, which on a logarithmic axis are wider the further one goes. */
static int read_buckets(const struct asking *a, const struct asked *s, struct buckets *b, struct error *err)
{
        const struct curves_sink sink = {.cells = add_cells, .points = add_points, .user = b};
        int64_t at = s->first;
        int r = 0;

        while (r >= 0 && at <= s->last) {
                struct curves_query q = {.series = s->series,
                                         .limits = &a->limits[s->limits],
                                         .attempt = a->q->attempt,
                                         .from = at,
                                         .tails = true};
                int64_t end = grid_stretch(b->grid, at, &q.shift);

                q.to = MIN(end, s->last);
                r = curves_read(a->db, &q, &sink, err);
                if (q.to == s->last)
                        break;
                at = q.to + 1;
        }
        return r == -EBADMSG ? error_set(err, r, a->db->path, "points of %s are damaged", s->name) : r;
}

static int read_curve(const struct asking *a, const struct asked *s, struct grid grid, struct curve *c,
                      struct error *err)
{
        struct buckets b = {.grid = &grid};
        _cleanup_(freep) struct cell *cells = NULL;
        int r;

        c->grid = grid;
        c->bucket_width = grid_end(&grid, MAX(s->last, 0)) - grid_begin(&grid, MAX(s->last, 0));
        c->view = limits_digest(&a->limits[s->limits]);
        if (s->first > s->last)
                return 0;
        b.first = grid_index(&grid, s->first);
        b.n = (size_t)(grid_index(&grid, s->last) - b.first + 1);
        b.cell = cells = calloc(b.n, sizeof *cells);
        if (!cells)
                return error_set(err, -ENOMEM, NULL, "no memory for %zu buckets", b.n);
        r = curve_allocate(c, b.n, err);
        if (r >= 0)
                r = read_buckets(a, s, &b, err);
        for (size_t i = 0; r >= 0 && i < b.n; i++)
                if (cells[i].count)
                        curve_add(c, &cells[i]);
        return r;
}

void curve_done(struct curve *c)
{
        free(c->step);
        free(c->time_ms);
        free(c->count);
        free(c->not_a_number);
        free(c->infinite);
        free(c->minus_infinite);
        free(c->min);
        free(c->max);
        free(c->mean);
        free(c->last);
        *c = (struct curve){0};
}

/* ---- a range of times */

#define FAN 1024 /* buckets of a look */

/* The first step of a series whose last point came at time_ms or later; 0: there is none, 1: there is. Each look is
 * into the bucket that the one before found. */
static int find_step(const struct asking *a, struct asked s, int64_t time_ms, int64_t *ret, struct error *err)
{
        for (;;) {
                _cleanup_(curve_done) struct curve c = {0};
                struct grid g = {0};
                int64_t end;
                size_t i = 0;
                int r;

                grid_fit(&g, s.first, s.last, FAN);
                r = read_curve(a, &s, g, &c, err);
                if (r < 0)
                        return r;
                while (i < c.n && c.time_ms[i] < time_ms)
                        i++;
                if (i == c.n)
                        return 0;
                *ret = c.step[i];
                if (g.shift == 0)
                        return 1;
                end = grid_end(&g, c.step[i]);
                s.first = MAX(s.first, grid_begin(&g, c.step[i]));
                s.last = MIN(s.last, end == INT64_MAX ? end : end - 1);
        }
}

static int narrow(const struct asking *a, struct asked *s, struct error *err)
{
        const struct asked all = *s;
        int64_t step;
        int r = 0;

        if (a->q->from_ms > 0) {
                r = find_step(a, all, a->q->from_ms, &step, err);
                s->first = r > 0 ? step : INT64_MAX;
                s->last = r > 0 ? s->last : INT64_MIN;
        }
        if (r >= 0 && a->q->to_ms < INT64_MAX) {
                r = find_step(a, all, a->q->to_ms + 1, &step, err);
                if (r > 0)
                        s->last = MIN(s->last, step - 1);
        }
        return MIN(r, 0);
}

static int narrow_all(struct asking *a, struct error *err)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < a->n; i++)
                r = narrow(a, &a->series[i], err);
        return r;
}

/* ---- answers */

static int answer(struct asking *a, int (*found)(int64_t, const char *, struct curve *, void *), void *user,
                  struct error *err)
{
        struct grid shared = grid_of_all(a);
        int r = 0;

        for (size_t i = 0; r >= 0 && i < a->n; i++) {
                const struct asked *s = &a->series[i];
                const struct reader *reader = a->reader;
                _cleanup_(curve_done) struct curve c = {0};

                if (reader->cancelled && reader->cancelled(reader->user)) /* chunks are few steps of SQLite */
                        return error_set(err, -ECANCELED, NULL, "nobody waits for the answer");
                r = read_curve(a, s, a->q->own_grid ? grid_of(a, s) : shared, &c, err);
                if (r >= 0)
                        r = found(s->job, s->name, &c, user);
        }
        return r;
}

int reader_curves(struct reader *r, const struct curve_question *q,
                  int (*found)(int64_t job, const char *name, struct curve *c, void *user), void *user,
                  struct error *err)
{
        _cleanup_(asking_done) struct asking a = {.reader = r, .db = &r->db, .q = q};
        int n;

        if (q->n_buckets < 1)
                return error_set(err, -EINVAL, NULL, "at least 1 bucket");
        n = view_begin(r, err);
        if (n < 0)
                return n;
        n = ask(&a, err);
        if (n >= 0)
                n = narrow_all(&a, err);
        if (n >= 0)
                n = answer(&a, found, user, err);
        return view_end(r, n);
}

static int keep(int64_t job _unused_, const char *name _unused_, struct curve *c, void *user)
{
        *(struct curve *)user = *c;
        *c = (struct curve){0};
        return 1;
}

int reader_curve(struct reader *r, int64_t job, const char *name, int64_t from, int64_t to, int64_t n_buckets,
                 struct curve *ret, struct error *err)
{
        const struct curve_question q = {.n_jobs = 1,
                                         .n_names = 1,
                                         .jobs = &job,
                                         .names = &name,
                                         .from = from,
                                         .to = to,
                                         .to_ms = INT64_MAX,
                                         .n_buckets = n_buckets};
        int n = reader_curves(r, &q, keep, ret, err);

        if (n == 0)
                return error_set(err, -ENOENT, NULL, "job %lld has no such series", (long long)job);
        return MIN(n, 0);
}

/* ---- points */

struct collected {
        struct point *p;
        size_t n, room;
        size_t want, in_source; /* of each source: so many are enough */
};

static void begin_source(void *user)
{
        ((struct collected *)user)->in_source = 0;
}

static int collect(const struct point *p, size_t n, void *user)
{
        struct collected *c = user;

        n = MIN(n, c->want - c->in_source);
        for (size_t i = 0; i < n; i++) {
                if (!array_grow(&c->p, c->n, &c->room, sizeof *c->p))
                        return -ENOMEM;
                c->p[c->n++] = p[i];
        }
        c->in_source += n;
        return c->in_source == c->want;
}

/* Of the sorted points from the place's step on, those behind it. */
static size_t take_behind(const struct collected *c, struct point_place *place, size_t n, struct point *ret)
{
        size_t begin = 0, end;

        while (begin < c->n && begin < (size_t)place->passed && c->p[begin].step == place->step)
                begin++;
        n = MIN(n, c->n - begin);
        if (n == 0)
                return 0;
        memcpy(ret, c->p + begin, n * sizeof *ret);
        end = begin + n;
        *place = (struct point_place){.step = c->p[end - 1].step, .as_of = place->as_of};
        while ((size_t)place->passed < end && c->p[end - 1 - (size_t)place->passed].step == place->step)
                place->passed++;
        return n;
}

static int read_points(struct db *db, int64_t job, const char *name, struct point_place *place, size_t n,
                       struct point *ret, size_t *ret_n, struct error *err)
{
        _cleanup_(limits_done) struct limits limits = {0};
        struct collected c = {.want = n + (size_t)place->passed};
        struct curves_query q = {.limits = &limits, .from = place->step, .to = INT64_MAX, .shift = -1, .tails = true};
        const struct curves_sink sink = {.source = begin_source, .points = collect, .user = &c};
        int r = find_series(db, job, name, &q.series, err);

        if (r >= 0)
                r = limits_read(db, job, place->as_of, &limits, err);
        if (r >= 0)
                r = curves_read(db, &q, &sink, err);
        if (r == -ENOMEM)
                (void)error_set(err, r, NULL, "no memory for points");
        if (r >= 0)
                r = points_sort(c.p, c.n, err);
        if (r >= 0)
                *ret_n = take_behind(&c, place, n, ret);
        free(c.p);
        return r;
}

int reader_points_behind(struct reader *r, int64_t job, const char *name, struct point_place *place, size_t n,
                         struct point *ret, size_t *ret_n, struct error *err)
{
        int x = view_begin(r, err);

        if (x < 0)
                return x;
        *ret_n = 0;
        return view_end(r, read_points(&r->db, job, name, place, n, ret, ret_n, err));
}

/* ---- the list */

struct listed {
        int64_t id;
        struct series_row row;
        struct summary s;
};
struct list {
        struct listed *items; /* by id while tails are added */
        size_t n, room;
        int64_t below; /* of the attempt whose tail is added */
        int64_t as_of; /* the rows' */
};

static int add_listed(struct db *db, int64_t job, struct list *l, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_SERIES);
        int r;

        bind_int(st, ":job", job);
        while ((r = db_step(db, st, err)) > 0) {
                struct listed *x;

                if (!array_grow(&l->items, l->n, &l->room, sizeof *l->items))
                        return error_set(err, -ENOMEM, NULL, "no memory for a list of series");
                x = &l->items[l->n++];
                *x = (struct listed){.id = sqlite3_column_int64(st, 6),
                                     .s = {sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2), column_real(st, 3),
                                           column_real(st, 4), column_real(st, 5)}};
                (void)snprintf(x->row.name, sizeof x->row.name, "%s", (const char *)sqlite3_column_text(st, 0));
        }
        return r;
}

static int by_id(const void *a, const void *b)
{
        const struct listed *x = a, *y = b;

        return x->id < y->id ? -1 : x->id > y->id;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct listed *)a)->row.name, ((const struct listed *)b)->row.name);
}

static int add_batch(const struct batch *b, void *user)
{
        struct list *l = user;

        for (size_t k = 0; k < b->n_columns; k++) {
                const struct listed key = {.id = b->series[k]};
                struct listed *x = bsearch(&key, l->items, l->n, sizeof key, by_id);

                for (size_t i = 0; x && i < b->n_rows; i++)
                        if (b->step[i] < l->below)
                                summary_add(&x->s, b->step[i], b->value[k][i]);
        }
        return 0;
}

static int add_tails(struct db *db, int64_t job, struct list *l, struct error *err)
{
        _cleanup_(limits_done) struct limits limits = {0};
        int r = limits_read(db, job, INT64_MAX, &limits, err);

        l->as_of = limits.spoken;
        if (r >= 0 && l->n)
                qsort(l->items, l->n, sizeof *l->items, by_id);
        for (size_t i = 0; r >= 0 && i < limits.n; i++) {
                l->below = limits.items[i].below;
                if (limits.items[i].tail)
                        r = tail_read(db, limits.items[i].attempt, 0, add_batch, l, err);
        }
        if (r >= 0 && l->n)
                qsort(l->items, l->n, sizeof *l->items, by_name);
        return r;
}

int reader_series(struct reader *r, int64_t job, int (*row)(const struct series_row *s, void *user), void *user,
                  struct error *err)
{
        struct list l = {0};
        int n = view_begin(r, err);

        if (n < 0)
                return n;
        n = add_listed(&r->db, job, &l, err);
        if (n >= 0)
                n = add_tails(&r->db, job, &l, err);
        (void)view_end(r, 0);
        for (size_t i = 0; n >= 0 && i < l.n; i++) {
                struct listed *x = &l.items[i];

                x->row.points = x->s.points;
                x->row.last_step = x->s.last_step;
                x->row.last = x->s.last;
                x->row.min = x->s.min;
                x->row.max = x->s.max;
                x->row.as_of = l.as_of;
                n = row(&x->row, user);
        }
        free(l.items);
        return n;
}
