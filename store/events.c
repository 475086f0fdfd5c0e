/* A worker's events, applied in order and once: what is not above the attempt's last_seq is dropped, and last_seq moves
 * in the same transaction as what the events did.
 *
 * An attempt supersedes the tail of those before it from its first step on, once it has said anything: one that died
 * before its first event hides nothing. The series' summaries are of the points in chunks that are left; they are kept
 * as chunks are written, and computed anew for the series that lost points. */
#include "store/internal.h"

#include "base/array.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct applying {
        struct db *db;
        struct write *w;
        int64_t job, last_seq, last_step, checkpoints;
        struct tail tail;
        bool first; /* its first event */
        /* columns of the event before, which the next one has, too, most of the time */
        size_t n_columns;
        const char *column_name[EVENT_COLUMNS_MAX]; /* borrowed from the write */
        int64_t series[EVENT_COLUMNS_MAX];
};

/* Series whose points from first_step on are superseded now. */
static int supersede(struct applying *a, int64_t first_step, struct error *err)
{
        struct db *db = a->db;
        sqlite3_stmt *series = db_statement(db, ST_SERIES);
        _cleanup_(limits_done) struct limits limits = {0};
        _cleanup_(freep) int64_t *ids = NULL;
        size_t n = 0, room = 0;
        int r = limits_read(db, a->job, INT64_MAX, &limits, err);

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
                sqlite3_stmt *st = db_statement(db, ST_SERIES_AFTER);

                bind_int(st, ":series", ids[i]);
                bind_int(st, ":from", first_step);
                r = db_step(db, st, err);
                (void)sqlite3_reset(st);
                if (r > 0)
                        r = summary_recompute(db, &limits, ids[i], err);
        }
        return r;
}

/* -EDQUOT: the job has as many as it may. */
static int new_series(struct applying *a, const char *name, int64_t *ret_id, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_JOB_SERIES_ADD);
        int r;

        bind_int(st, ":job", a->job);
        bind_int(st, ":max", SERIES_MAX);
        r = db_run(a->db, st, err);
        if (r >= 0 && !sqlite3_changes(a->db->handle))
                return error_set(err, -EDQUOT, NULL, "job %lld has %d series", (long long)a->job, SERIES_MAX);
        if (r < 0)
                return r;
        st = db_statement(a->db, ST_SERIES_INSERT);
        bind_int(st, ":job", a->job);
        bind_text(st, ":name", name);
        r = db_run(a->db, st, err);
        *ret_id = sqlite3_last_insert_rowid(a->db->handle);
        return r;
}

static int find_series(struct applying *a, const char *name, int64_t *ret_id, struct error *err)
{
        sqlite3_stmt *st = db_statement(a->db, ST_SERIES_BY_NAME);
        int r;

        bind_int(st, ":job", a->job);
        bind_text(st, ":name", name);
        r = db_step(a->db, st, err);
        if (r > 0)
                *ret_id = sqlite3_column_int64(st, 0);
        (void)sqlite3_reset(st);
        return r == 0 ? new_series(a, name, ret_id, err) : MIN(r, 0);
}

static int find_columns(struct applying *a, const struct event *e, struct error *err)
{
        for (size_t c = 0; c < e->n_columns; c++) {
                int r;

                if (c < a->n_columns && !strcmp(a->column_name[c], e->column_name[c]))
                        continue;
                a->n_columns = MIN(a->n_columns, c); /* until it is found there is none here */
                r = find_series(a, e->column_name[c], &a->series[c], err);
                if (r < 0)
                        return r;
                a->column_name[c] = e->column_name[c];
                a->n_columns = c + 1;
        }
        return 0;
}

static int apply_scalars(struct applying *a, const struct event *e, struct error *err)
{
        struct batch b = {
                .n_rows = e->n_rows, .n_columns = e->n_columns, .step = e->row_step, .time_ms = e->row_time_ms};
        int r = find_columns(a, e, err);

        if (r == -EDQUOT)
                return job_event_once(a->db, a->job, a->w->time_us, "refused_series",
                                      "an event with more series than a job may have was refused, as others will be",
                                      err);
        if (r < 0 || !e->n_rows)
                return r;
        for (size_t c = 0; c < e->n_columns; c++) {
                b.series[c] = a->series[c];
                b.value[c] = e->column[c];
        }
        a->tail.seq = e->seq;
        return tail_add(a->db, &a->tail, &b, err);
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
        bind_int(st, ":tail_rows", a->tail.rows);
        bind_int(st, ":tail_events", a->tail.events);
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

static int read_attempt(struct db *db, struct write *w, struct applying *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_ATTEMPT_BY_ID);
        int r;

        bind_int(st, ":id", w->attempt);
        r = db_step(db, st, err);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(err, -ENOENT, NULL, "there is no attempt %lld", (long long)w->attempt);
        *ret = (struct applying){.db = db,
                                 .w = w,
                                 .job = sqlite3_column_int64(st, 0),
                                 .last_seq = sqlite3_column_int64(st, 2),
                                 .first = sqlite3_column_int64(st, 2) == 0,
                                 .tail = {.job = sqlite3_column_int64(st, 0),
                                          .attempt = w->attempt,
                                          .time_us = w->time_us,
                                          .latest = sqlite3_column_int64(st, 1) == sqlite3_column_int64(st, 3),
                                          .rows = sqlite3_column_int64(st, 4),
                                          .events = sqlite3_column_int64(st, 5)}};
        return 0;
}

int apply_points_close(struct db *db, struct write *w, struct error *err)
{
        struct applying a;
        int r = read_attempt(db, w, &a, err);

        if (r < 0 || !a.tail.events)
                return r;
        r = tail_close(db, &a.tail, err);
        return r < 0 ? r : set_last_seq(&a, err);
}

int apply_events(struct db *db, struct write *w, struct error *err)
{
        struct applying a;
        int r = read_attempt(db, w, &a, err);

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
