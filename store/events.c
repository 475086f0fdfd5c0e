/* A worker's events, applied in order and once: what is not above the attempt's last_seq is dropped, and last_seq moves
 * in the same transaction as what the events did.
 *
 * An attempt supersedes the tail of those before it from its first step on, once it has said anything: one that died
 * before its first event hides nothing. The series' summaries are of the points that are left; they are kept as points
 * come in, and computed anew for the series that lost points. */
#include "store/internal.h"

#include "base/array.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct applying {
        struct db *db;
        struct write *w;
        int64_t job, last_seq, last_step, checkpoints;
        bool latest; /* of the job's attempts */
        bool first;  /* its first event */
};

/* Series whose points from first_step on are superseded now. */
static int supersede(struct applying *a, int64_t first_step, struct error *err)
{
        struct db *db = a->db;
        sqlite3_stmt *series = db_statement(db, ST_SERIES);
        _cleanup_(limits_done) struct limits limits = {0};
        _cleanup_(freep) int64_t *ids = NULL;
        size_t n = 0, room = 0;
        int r = limits_read(db, a->job, &limits, err);

        if (r < 0)
                return r;
        bind_int(series, ":job", a->job);
        while ((r = db_step(db, series, err)) > 0) {
                if (!array_grow(&ids, n, &room, sizeof *ids)) {
                        (void)sqlite3_reset(series);
                        return error_set(err, -ENOMEM, NULL, "no memory for a list of series");
                }
                ids[n++] = sqlite3_column_int64(series, 6);
        }
        (void)sqlite3_reset(series);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                sqlite3_stmt *st = db_statement(db, ST_POINT_AFTER);

                bind_int(st, ":series", ids[i]);
                bind_int(st, ":from", first_step);
                r = db_step(db, st, err);
                (void)sqlite3_reset(st);
                if (r > 0)
                        r = summary_recompute(db, &limits, ids[i], err);
        }
        return r;
}

static int find_series(struct applying *a, const char *name, int64_t *ret_id, struct summary *ret, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_SERIES_BY_NAME);
        int r;

        bind_int(st, ":job", a->job);
        bind_text(st, ":name", name);
        r = db_step(a->db, st, err);
        if (r > 0) {
                *ret_id = sqlite3_column_int64(st, 0);
                *ret = (struct summary){sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2), column_real(st, 3),
                                        column_real(st, 4), column_real(st, 5)};
        }
        (void)sqlite3_reset(st);
        if (r != 0)
                return r < 0 ? r : 0;
        st = db_statement(a->db, ST_SERIES_INSERT);
        bind_int(st, ":job", a->job);
        bind_text(st, ":name", name);
        r = db_run(a->db, st, err);
        *ret_id = sqlite3_last_insert_rowid(a->db->handle);
        *ret = (struct summary){0, 0, NAN, NAN, NAN};
        return r;
}

static int insert_points(struct applying *a, const struct event *e, const double *values, int64_t series,
                         struct summary *s, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_POINT_INSERT);
        int step = sqlite3_bind_parameter_index(st, ":step"), ordinal = sqlite3_bind_parameter_index(st, ":ordinal"),
            time_ms = sqlite3_bind_parameter_index(st, ":time_ms"), value = sqlite3_bind_parameter_index(st, ":value");

        bind_int(st, ":series", series);
        bind_int(st, ":attempt", a->w->attempt);
        for (size_t i = 0; i < e->n_rows; i++) {
                int r;

                (void)sqlite3_bind_int64(st, step, e->row_step[i]);
                (void)sqlite3_bind_int64(st, ordinal, e->seq * EVENT_ROWS_MAX + (int64_t)i);
                (void)sqlite3_bind_int64(st, time_ms, e->row_time_ms[i]);
                (void)sqlite3_bind_double(st, value, values[i]); /* not a number: NULL */
                r = db_run(a->db, st, err);
                if (r < 0)
                        return r;
                summary_add(s, e->row_step[i], values[i]);
        }
        return 0;
}

static int apply_scalars(struct applying *a, const struct event *e, struct error *err)
{
        for (size_t c = 0; c < e->n_columns; c++) {
                struct summary summary;
                int64_t series;
                int r = find_series(a, e->column_name[c], &series, &summary, err);

                if (r >= 0)
                        r = insert_points(a, e, e->column[c], series, &summary, err);
                if (r < 0)
                        return r;
                if (a->latest) {
                        r = summary_write(a->db, series, &summary, err);
                } else {
                        _cleanup_(limits_done) struct limits limits = {0};

                        r = limits_read(a->db, a->job, &limits, err);
                        if (r >= 0)
                                r = summary_recompute(a->db, &limits, series, err);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static int apply_progress(struct applying *a, const struct event *e, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_JOB_PROGRESS);
        bool start = e->type == EVENT_START;

        bind_int(st, ":id", a->job);
        bind_int(st, ":step", e->step);
        bind_int(st, ":steps", e->steps);
        bind_real(st, ":images_per_second", start ? NAN : e->images_per_second);
        bind_real(st, ":seconds_left", start ? NAN : e->seconds_left);
        return db_run(a->db, st, err);
}

static int set_last_seq(struct applying *a, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_ATTEMPT_SEQ);

        bind_int(st, ":id", a->w->attempt);
        bind_int(st, ":seq", a->last_seq);
        bind_int(st, ":checkpoints", a->checkpoints);
        bind_int(st, ":last_step", a->last_step);
        a->checkpoints = 0;
        return db_run(a->db, st, err);
}

static int apply_start(struct applying *a, const struct event *e, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_ATTEMPT_FIRST_STEP);
        int r;

        bind_int(st, ":id", a->w->attempt);
        bind_int(st, ":step", e->step);
        r = db_run(a->db, st, err);
        if (r >= 0)
                r = set_last_seq(a, err); /* it counts from now on */
        if (r >= 0)
                r = supersede(a, e->step, err);
        return r < 0 ? r : apply_progress(a, e, err);
}

static int apply_artifact(struct applying *a, const struct event *e, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_ARTIFACT_INSERT);

        bind_int(st, ":job", a->job);
        bind_int(st, ":attempt", a->w->attempt);
        bind_int(st, ":kind", e->kind);
        bind_int(st, ":step", e->step);
        bind_int(st, ":bytes", e->bytes);
        bind_int(st, ":created", a->w->time_us);
        bind_text(st, ":name", e->name);
        bind_text(st, ":digest", e->digest);
        bind_real(st, ":metric", e->metric);
        if (e->kind == ARTIFACT_CHECKPOINT)
                a->checkpoints++;
        return db_run(a->db, st, err);
}

static int apply_event(struct applying *a, const struct event *e, struct error *err)
{
        switch (e->type) {
        case EVENT_START:
                return apply_start(a, e, err);
        case EVENT_PROGRESS:
                return apply_progress(a, e, err);
        case EVENT_SCALARS:
                return apply_scalars(a, e, err);
        case EVENT_ARTIFACT:
                return apply_artifact(a, e, err);
        case EVENT_HELLO:
        case EVENT_DONE:
        case EVENT_STOPPED:
        case EVENT_ERROR:
        case EVENT_UNKNOWN:
        case EVENT_TYPE_N:
                break; /* the outcome is the job's transition; what is unknown only counts */
        }
        return 0;
}

static int read_attempt(struct applying *a, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(a->db, ST_ATTEMPT_BY_ID);
        int r;

        bind_int(st, ":id", a->w->attempt);
        r = db_step(a->db, st, err);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(err, -ENOENT, NULL, "there is no attempt %lld", (long long)a->w->attempt);
        a->job = sqlite3_column_int64(st, 0);
        a->last_seq = sqlite3_column_int64(st, 2);
        a->latest = sqlite3_column_int64(st, 1) == sqlite3_column_int64(st, 3);
        a->first = a->last_seq == 0;
        return 0;
}

int apply_events(struct db *db, struct write *w, struct error *err)
{
        struct applying a = {.db = db, .w = w};
        int r = read_attempt(&a, err);

        if (r < 0)
                return r;
        w->ret_number = a.last_seq;
        for (size_t i = 0; i < w->n_events; i++) {
                struct event *e = &w->events[i];

                if (e->seq <= a.last_seq)
                        continue;
                a.last_seq = e->seq;
                if (a.first && e->type != EVENT_START) {
                        a.first = false; /* no start: the first step is the one that the attempt was made with */
                        r = set_last_seq(&a, err);
                        if (r >= 0)
                                r = supersede(&a, 0, err);
                        if (r < 0)
                                return r;
                }
                a.first = false;
                a.last_step = MAX(a.last_step, event_last_step(e));
                r = apply_event(&a, e, err);
                if (r < 0)
                        return r;
        }
        if (a.last_seq == w->ret_number)
                return 0;
        w->ret_number = a.last_seq;
        return set_last_seq(&a, err);
}
