/* Curves: which points are superseded, summaries, and reading in buckets.
 *
 * A point of attempt a at step s is left out when a later attempt that has said anything began at or below s. So each
 * attempt has one limit, the smallest first step of those after it, and its points below the limit are shown. */
#include "store/internal.h"

#include "base/array.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int limits_read(struct db *db, int64_t job, struct limits *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_ATTEMPTS);
        _cleanup_(freep) struct limit *items = NULL;
        int64_t below = INT64_MAX;
        size_t n = 0, room = 0;
        int r;

        bind_int(st, ":job", job);
        while ((r = db_step(db, st, err)) > 0) {
                if (!array_grow(&items, n, &room, sizeof *items))
                        return error_set(err, -ENOMEM, NULL, "no memory for a list of attempts");
                /* below holds the first step for now; one that said nothing supersedes nothing */
                items[n++] = (struct limit){sqlite3_column_int64(st, 0),
                                            sqlite3_column_int64(st, 6) > 0 ? sqlite3_column_int64(st, 5) : INT64_MAX};
        }
        if (r < 0)
                return r;
        for (size_t i = n; i-- > 0;) {
                int64_t first_step = items[i].below;

                items[i].below = below;
                below = MIN(below, first_step);
        }
        *ret = (struct limits){n, TAKE_PTR(items)};
        return 0;
}

void limits_done(struct limits *l)
{
        free(l->items);
        *l = (struct limits){0};
}

bool limits_visible(const struct limits *l, int64_t attempt, int64_t step)
{
        size_t lo = 0, hi = l->n;

        while (lo < hi) {
                size_t mid = (lo + hi) / 2;

                if (l->items[mid].attempt < attempt)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo < l->n && l->items[lo].attempt == attempt && step < l->items[lo].below;
}

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

int summary_recompute(struct db *db, const struct limits *l, int64_t series, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_POINTS);
        struct summary s = {0, 0, NAN, NAN, NAN};
        int r;

        bind_int(st, ":series", series);
        bind_int(st, ":from", INT64_MIN);
        bind_int(st, ":to", INT64_MAX);
        while ((r = db_step(db, st, err)) > 0)
                if (limits_visible(l, sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 0)))
                        summary_add(&s, sqlite3_column_int64(st, 0), column_real(st, 3));
        (void)sqlite3_reset(st);
        return r < 0 ? r : summary_write(db, series, &s, err);
}

/* First or last step in from..to that is shown; 0 when there is none. */
static int edge(struct db *db, const struct limits *l, enum statement which, int64_t series, int64_t from, int64_t to,
                int64_t *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, which);
        int r;

        bind_int(st, ":series", series);
        bind_int(st, ":from", from);
        bind_int(st, ":to", to);
        while ((r = db_step(db, st, err)) > 0) {
                *ret = sqlite3_column_int64(st, 0);
                if (limits_visible(l, sqlite3_column_int64(st, 1), *ret))
                        return 1;
        }
        return r;
}

static int curve_allocate(struct curve *c, size_t n, struct error *err)
{
        c->step = calloc(n, sizeof *c->step);
        c->time_ms = calloc(n, sizeof *c->time_ms);
        c->count = calloc(n, sizeof *c->count);
        c->min = calloc(n, sizeof *c->min);
        c->max = calloc(n, sizeof *c->max);
        c->mean = calloc(n, sizeof *c->mean);
        c->last = calloc(n, sizeof *c->last);
        if (c->step && c->time_ms && c->count && c->min && c->max && c->mean && c->last)
                return 0;
        return error_set(err, -ENOMEM, NULL, "no memory for %zu buckets", n);
}

static void curve_add(struct curve *c, int64_t *finite, int shift, int64_t step, int64_t time_ms, double value)
{
        size_t i;

        if (c->n == 0 || c->step[c->n - 1] >> shift != step >> shift) {
                i = c->n++;
                c->count[i] = 0;
                c->min[i] = c->max[i] = c->mean[i] = NAN;
                *finite = 0;
        }
        i = c->n - 1;
        c->step[i] = step;
        c->time_ms[i] = time_ms;
        c->count[i]++;
        c->last[i] = value;
        c->points_total++;
        if (!isfinite(value))
                return;
        if (++*finite == 1) {
                c->min[i] = c->max[i] = c->mean[i] = value;
                return;
        }
        c->min[i] = MIN(c->min[i], value);
        c->max[i] = MAX(c->max[i], value);
        c->mean[i] += (value - c->mean[i]) / (double)*finite; /* does not overflow where a sum would */
}

static int read_buckets(struct db *db, const struct limits *l, int64_t series, int64_t first, int64_t last,
                        int64_t n_buckets, struct curve *c, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_POINTS);
        int64_t finite = 0;
        int shift = 0, r;

        while ((last >> shift) - (first >> shift) >= n_buckets)
                shift++;
        c->bucket_width = (int64_t)1 << shift;
        r = curve_allocate(c, (size_t)((last >> shift) - (first >> shift) + 1), err);
        if (r < 0)
                return r;
        bind_int(st, ":series", series);
        bind_int(st, ":from", first);
        bind_int(st, ":to", last);
        while ((r = db_step(db, st, err)) > 0) {
                int64_t step = sqlite3_column_int64(st, 0);

                if (limits_visible(l, sqlite3_column_int64(st, 1), step))
                        curve_add(c, &finite, shift, step, sqlite3_column_int64(st, 2), column_real(st, 3));
        }
        return r;
}

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
        return r < 0 ? r : 0;
}

static int read_curve(struct db *db, int64_t job, const char *name, int64_t from, int64_t to, int64_t n_buckets,
                      struct curve *c, struct error *err)
{
        _cleanup_(limits_done) struct limits limits = {0};
        int64_t series = 0, first = 0, last = 0;
        int r = find_series(db, job, name, &series, err);

        if (r >= 0)
                r = limits_read(db, job, &limits, err);
        if (r >= 0)
                r = edge(db, &limits, ST_POINTS, series, MAX(from, 0), to, &first, err);
        if (r > 0)
                r = edge(db, &limits, ST_POINTS_BACKWARD, series, MAX(from, 0), to, &last, err);
        return r <= 0 ? r : read_buckets(db, &limits, series, first, last, n_buckets, c, err);
}

int reader_curve(struct reader *r, int64_t job, const char *name, int64_t from, int64_t to, int64_t n_buckets,
                 struct curve *ret, struct error *err)
{
        struct curve c = {.bucket_width = 1};
        int n;

        if (n_buckets < 1)
                return error_set(err, -EINVAL, NULL, "at least 1 bucket");
        n = db_exec(&r->db, "BEGIN", err); /* one view for all of its statements */
        if (n < 0)
                return n;
        n = read_curve(&r->db, job, name, from, to, n_buckets, &c, err);
        (void)sqlite3_exec(r->db.handle, "COMMIT", NULL, NULL, NULL);
        if (n < 0) {
                curve_done(&c);
                return n;
        }
        *ret = c;
        return 0;
}

void curve_done(struct curve *c)
{
        free(c->step);
        free(c->time_ms);
        free(c->count);
        free(c->min);
        free(c->max);
        free(c->mean);
        free(c->last);
        *c = (struct curve){0};
}

static int read_points(struct db *db, int64_t job, const char *name, struct point_place *place, size_t n,
                       struct point *ret, size_t *ret_n, struct error *err)
{
        _cleanup_(limits_done) struct limits limits = {0};
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_POINTS_BEHIND);
        int64_t series = 0;
        int r = find_series(db, job, name, &series, err);

        if (r >= 0)
                r = limits_read(db, job, &limits, err);
        if (r < 0)
                return r;
        bind_int(st, ":series", series);
        bind_int(st, ":step", place->step);
        bind_int(st, ":attempt", place->attempt);
        bind_int(st, ":ordinal", place->ordinal);
        while (*ret_n < n && (r = db_step(db, st, err)) > 0) {
                *place = (struct point_place){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                              sqlite3_column_int64(st, 4)};
                if (limits_visible(&limits, place->attempt, place->step))
                        ret[(*ret_n)++] = (struct point){place->step, sqlite3_column_int64(st, 2), column_real(st, 3)};
        }
        return r < 0 ? r : 0;
}

int reader_points_behind(struct reader *r, int64_t job, const char *name, struct point_place *place, size_t n,
                         struct point *ret, size_t *ret_n, struct error *err)
{
        int x = db_exec(&r->db, "BEGIN", err); /* one view of points and attempts */

        if (x < 0)
                return x;
        *ret_n = 0;
        x = read_points(&r->db, job, name, place, n, ret, ret_n, err);
        (void)sqlite3_exec(r->db.handle, "COMMIT", NULL, NULL, NULL);
        return x;
}
