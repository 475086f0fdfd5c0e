/* Each kind of write, inside the writer's transaction and savepoint: it may return at any point, what it did is undone.
 */
#include "store/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int no_such(const char *what, int64_t id, struct error *err)
{
        return error_set(err, -ENOENT, NULL, "there is no %s %lld", what, (long long)id);
}

int job_event_add(struct db *db, const struct job_event_row *e, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_EVENT_INSERT);

        bind_int(st, ":job", e->job);
        bind_int(st, ":time", e->time_us);
        if (e->from >= 0)
                bind_int(st, ":from", e->from);
        bind_int(st, ":to", e->to);
        bind_text(st, ":trigger", e->trigger);
        bind_text(st, ":detail", e->detail);
        return db_run(db, st, err);
}

int job_event_once(struct db *db, int64_t job, int64_t time_us, const char *trigger, const char *detail,
                   struct error *err)
{
        struct job_event_row e = {.job = job, .time_us = time_us, .trigger = trigger, .detail = detail};
        sqlite3_stmt *st = db_statement(db, ST_JOB_EVENT_OF);
        int r;

        bind_int(st, ":job", job);
        bind_text(st, ":trigger", trigger);
        r = db_step(db, st, err);
        (void)sqlite3_reset(st);
        if (r != 0)
                return MIN(r, 0);
        st = db_statement(db, ST_JOB_STATE);
        bind_int(st, ":id", job);
        r = db_step(db, st, err);
        if (r > 0)
                e.from = e.to = sqlite3_column_int(st, 0);
        (void)sqlite3_reset(st);
        return r <= 0 ? r : job_event_add(db, &e, err); /* 0: it is being removed */
}

static int log_event(struct db *db, const struct write *w, int64_t job, int from, int to, const char *trigger,
                     struct error *err)
{
        return job_event_add(db,
                             &(struct job_event_row){.job = job,
                                                     .time_us = w->time_us,
                                                     .from = from,
                                                     .to = to,
                                                     .trigger = trigger,
                                                     .detail = w->detail},
                             err);
}

static int expect_state(struct db *db, int64_t job, enum job_state from, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_JOB_STATE);
        int r, state;

        bind_int(st, ":id", job);
        r = db_step(db, st, err);
        if (r < 0)
                return r;
        if (r == 0)
                return no_such("job", job, err);
        state = sqlite3_column_int(st, 0);
        if (state != (int)from)
                return error_set(err, -EAGAIN, NULL, "job %lld is %s, not %s", (long long)job,
                                 state >= 0 && state < JOB_STATE_N ? job_state_names[state] : "?",
                                 job_state_names[from]);
        return 0;
}

/* JSON as text, bound until the statement is reset; SQLite frees the text. */
static int bind_json(sqlite3_stmt *st, const char *name, const json_t *v, struct error *err)
{
        char *text;

        if (!v)
                return 0;
        text = json_to_text(v);
        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory for a text");
        (void)sqlite3_bind_text(st, sqlite3_bind_parameter_index(st, name), text, -1, free);
        return 0;
}

/* How the attempt ended whose job moves. */
static int set_outcome(struct db *db, const struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_ATTEMPT_OUTCOME);
        const struct attempt_row *a = &w->attempt_row;

        bind_int(st, ":id", w->attempt);
        bind_int(st, ":outcome", a->outcome);
        bind_int(st, ":stop", a->stop);
        bind_text(st, ":class", a->class);
        bind_text(st, ":blame", a->blame);
        bind_text(st, ":detail", a->detail);
        return db_run(db, st, err);
}

static int count_failed_start(struct db *db, const struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_ARTIFACT_FAILED_START);

        bind_int(st, ":job", w->job);
        bind_int(st, ":attempt", w->attempt);
        return db_run(db, st, err);
}

static int run_for_job(struct db *db, enum statement s, int64_t job, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, s);

        bind_int(st, ":job", job);
        return db_run(db, st, err);
}

/* The job has succeeded: who waited for it waits for one less. */
static int meet(struct db *db, int64_t job, struct error *err)
{
        int r;

        for (;;) {
                sqlite3_stmt *st = db_statement(db, ST_JOB_AFTER_OF);
                int64_t waiting = 0;

                bind_int(st, ":job", job);
                r = db_step(db, st, err);
                if (r > 0)
                        waiting = sqlite3_column_int64(st, 0);
                (void)sqlite3_reset(st);
                if (r <= 0)
                        return r;
                st = db_statement(db, ST_JOB_AFTER_MEET);
                bind_int(st, ":job", job);
                bind_int(st, ":waiting", waiting);
                r = db_run(db, st, err);
                if (r >= 0)
                        r = run_for_job(db, ST_JOB_COUNT_UNMET, waiting, err);
                if (r < 0)
                        return r;
        }
}

/* The job is in state from. */
static int move_job(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_TRANSITION);
        int r;

        bind_int(st, ":id", w->job);
        bind_int(st, ":to", w->to);
        bind_int(st, ":started", w->row.started_us);
        bind_int(st, ":ended", w->row.ended_us);
        r = bind_json(st, ":result", w->row.result, err);
        if (r >= 0)
                r = bind_json(st, ":error", w->row.error, err);
        if (r >= 0)
                r = db_run(db, st, err);
        if (r >= 0 && w->attempt_row.outcome != OUTCOME_NONE)
                r = set_outcome(db, w, err);
        if (r >= 0 && w->failed_start)
                r = count_failed_start(db, w, err);
        if (r >= 0 && w->to == JOB_SUCCEEDED)
                r = meet(db, w->job, err);
        return r < 0 ? r : log_event(db, w, w->job, (int)w->from, (int)w->to, w->trigger ? w->trigger : "", err);
}

static int apply_transition(struct db *db, struct write *w, struct error *err)
{
        int r = expect_state(db, w->job, w->from, err);

        return r < 0 ? r : move_job(db, w, err);
}

#define MOVED_AT_ONCE 250 /* what a savepoint keeps of the pages that they change is memory */

/* 0: it is not there. */
static int state_of(struct db *db, int64_t job, enum job_state *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_JOB_STATE);
        int r;

        bind_int(st, ":id", job);
        r = db_step(db, st, err);
        if (r > 0)
                *ret = (enum job_state)sqlite3_column_int(st, 0);
        return r;
}

static int apply_jobs_move(struct db *db, struct write *w, struct error *err)
{
        size_t end = MIN(w->ids_done + MOVED_AT_ONCE, w->n_ids);

        for (; w->ids_done < end; w->ids_done++) {
                int r = state_of(db, w->ids[w->ids_done], &w->from, err);

                if (r < 0)
                        return r;
                if (r == 0 || (w->from != JOB_QUEUED && (w->from != JOB_PAUSED || w->to == JOB_PAUSED)))
                        continue;
                w->job = w->ids[w->ids_done];
                w->row.ended_us = job_state_is_final(w->to) ? w->time_us : 0;
                r = move_job(db, w, err);
                if (r < 0)
                        return r;
                w->ret_number++;
        }
        return w->ids_done < w->n_ids;
}

static int insert_tags(struct db *db, const json_t *tags, int64_t job, struct error *err)
{
        const json_t *tag;
        size_t i;

        json_array_foreach(tags, i, tag)
        {
                sqlite3_stmt *st = db_statement(db, ST_JOB_TAG_INSERT);
                int r;

                bind_text(st, ":tag", json_string_value(tag));
                bind_int(st, ":job", job);
                r = db_run(db, st, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int insert_after(struct db *db, const struct job_row *row, int64_t job, struct error *err)
{
        for (size_t i = 0; i < row->n_after; i++) {
                sqlite3_stmt *st = db_statement(db, ST_JOB_AFTER_INSERT);
                int r;

                bind_int(st, ":job", job);
                bind_int(st, ":dependency", row->after[i]);
                r = db_run(db, st, err);
                if (r < 0)
                        return r;
                if (!sqlite3_changes(db->handle))
                        return no_such("job", row->after[i], err);
        }
        return row->n_after ? run_for_job(db, ST_JOB_COUNT_UNMET, job, err) : 0;
}

static void bind_limits(sqlite3_stmt *st, const struct limits_row *l, unsigned change)
{
        char name[48];

        for (int i = 0; i < LIMIT_N; i++)
                if (change & (unsigned)(CHANGE_LIMIT << i)) {
                        (void)snprintf(name, sizeof name, ":limit_%s", limit_names[i]);
                        bind_int(st, name, l->of[i]);
                }
}

#define KEYS_KEPT_US (24 * 3600 * INT64_C(1000000))

static int remember_key(struct db *db, const struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_REQUEST_KEY_EXPIRE);
        int r;

        bind_int(st, ":before", w->time_us - KEYS_KEPT_US);
        r = db_run(db, st, err);
        if (r < 0)
                return r;
        st = db_statement(db, ST_REQUEST_KEY_INSERT);
        bind_text(st, ":key", w->key.key);
        bind_text(st, ":digest", w->key.digest);
        bind_int(st, ":job", w->ret_id);
        bind_int(st, ":time", w->time_us);
        return db_run(db, st, err);
}

static char *text_or_empty(char *owned)
{
        return owned ? owned : strdup("");
}

/* What the columns that were left to their defaults say. */
static int complete_row(struct job_row *row, int64_t id, struct error *err)
{
        row->id = id;
        row->state = JOB_QUEUED;
        row->version = 1;
        row->images_per_second = row->seconds_left = __builtin_nan("");
        row->name = text_or_empty(row->name);
        row->config_name = text_or_empty(row->config_name);
        row->notes = text_or_empty(row->notes);
        row->moved_by = strdup("submit");
        row->moved_why = strdup("");
        if (!row->name || !row->config_name || !row->notes || !row->moved_by || !row->moved_why)
                return error_set(err, -ENOMEM, NULL, "no memory for a row");
        return 0;
}

static int count_unmet(struct db *db, struct job_row *row, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_JOB_UNMET);
        int r;

        bind_int(st, ":job", row->id);
        while ((r = db_step(db, st, err)) > 0)
                row->unmet++;
        return r;
}

static int insert_job(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_INSERT);
        int r;

        w->row.devices = MAX(w->row.devices, 1); /* 0: its kind asks for none */
        bind_int(st, ":kind", w->row.kind);
        bind_int(st, ":state", JOB_QUEUED);
        bind_int(st, ":created", w->row.created_us);
        bind_int(st, ":steps", w->row.steps);
        bind_int(st, ":accept_changed_data", w->row.accept_changed_data);
        bind_int(st, ":source_job", w->row.source_job);
        bind_int(st, ":source_step", w->row.source_step);
        bind_int(st, ":priority", w->row.priority);
        bind_limits(st, &w->row.limits, CHANGE_LIMITS);
        bind_int(st, ":memory_bytes", w->row.memory_bytes);
        bind_int(st, ":gpu", w->row.gpu);
        bind_int(st, ":devices", w->row.devices);
        bind_text(st, ":owner", w->row.owner);
        bind_text(st, ":dataset", w->row.dataset);
        bind_text(st, ":notes", w->row.notes ? w->row.notes : "");
        bind_text(st, ":name", w->row.name ? w->row.name : "");
        bind_text(st, ":config_name", w->row.config_name ? w->row.config_name : "");
        if (!w->row.tags)
                bind_text(st, ":tags", "[]");
        r = bind_json(st, ":tags", w->row.tags, err);
        if (r >= 0)
                r = bind_json(st, ":config", w->row.config, err);
        if (!w->row.config)
                bind_text(st, ":config", "{}");
        if (r >= 0)
                r = bind_json(st, ":import", w->row.import, err);
        if (r >= 0)
                r = db_run(db, st, err);
        if (r < 0)
                return r;
        w->ret_id = sqlite3_last_insert_rowid(db->handle);
        r = complete_row(&w->row, w->ret_id, err);
        if (r < 0)
                return r;
        r = insert_tags(db, w->row.tags, w->ret_id, err);
        if (r >= 0)
                r = insert_after(db, &w->row, w->ret_id, err);
        if (r >= 0 && w->row.n_after)
                r = count_unmet(db, &w->row, err);
        if (r < 0)
                return r;
        return log_event(db, w, w->ret_id, -1, JOB_QUEUED, w->trigger ? w->trigger : "submit", err);
}

static int apply_job_new(struct db *db, struct write *w, struct error *err)
{
        int r = w->key.key[0] ? request_key_find(db, &w->key, &w->ret_id, err) : -ENOENT;

        if (r != -ENOENT)
                return r;
        r = insert_job(db, w, err);
        return r < 0 || !w->key.key[0] ? r : remember_key(db, w, err);
}

/* The table remembers the largest id that it ever had, also of a row that is gone again. */
static int apply_job_ids_above(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_INSERT_ID);
        int r;

        bind_int(st, ":id", w->job);
        r = db_run(db, st, err);
        if (r < 0 || !sqlite3_changes(db->handle))
                return r;
        return run_for_job(db, ST_JOB_DELETE, w->job, err);
}

static int apply_job_reopen(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st;
        int r = expect_state(db, w->job, w->from, err);

        if (r < 0)
                return r;
        if (!job_state_is_final(w->from) && w->from != JOB_PAUSED)
                return error_set(err, -EAGAIN, NULL, "job %lld is neither over nor paused", (long long)w->job);
        st = db_statement(db, ST_JOB_REOPEN);
        bind_int(st, ":over", job_state_is_final(w->from));
        bind_limits(st, &w->row.limits, w->change);
        bind_int(st, ":id", w->job);
        bind_int(st, ":to", JOB_QUEUED);
        bind_int(st, ":steps", w->row.steps);
        bind_int(st, ":accept_changed_data", w->row.accept_changed_data);
        r = bind_json(st, ":config", w->row.config, err);
        if (r >= 0)
                r = db_run(db, st, err);
        return r < 0 ? r : log_event(db, w, w->job, (int)w->from, JOB_QUEUED, w->trigger ? w->trigger : "resume", err);
}

/* Runs a statement that must change a row. */
static int run_changing(struct db *db, sqlite3_stmt *st, int code, const char *what, int64_t id, struct error *err)
{
        int r = db_run(db, st, err);

        if (r < 0 || sqlite3_changes(db->handle) > 0)
                return r;
        return error_set(err, code, NULL, code == -ENOENT ? "there is no %s %lld" : "%s %lld is in another state", what,
                         (long long)id);
}

static int apply_job_stop(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_STOP);
        char trigger[32];
        int r;

        bind_int(st, ":id", w->job);
        bind_int(st, ":state", JOB_RUNNING);
        bind_int(st, ":reason", w->row.stop_requested);
        r = run_changing(db, st, -EAGAIN, "job", w->job, err);
        (void)snprintf(trigger, sizeof trigger, "ask_%s", stop_reason_names[w->row.stop_requested]);
        return r < 0 ? r : log_event(db, w, w->job, JOB_RUNNING, JOB_RUNNING, trigger, err);
}

/* The job's state and version, checked against what the change asks of them. */
static int expect_changeable(struct db *db, const struct write *w, int *ret_state, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_JOB_STATE);
        int64_t version;
        int r;

        bind_int(st, ":id", w->job);
        r = db_step(db, st, err);
        if (r <= 0)
                return r < 0 ? r : no_such("job", w->job, err);
        *ret_state = sqlite3_column_int(st, 0);
        version = sqlite3_column_int64(st, 1);
        if (w->row.version && w->row.version != version)
                return error_set(err, -ESTALE, NULL, "job %lld has version %lld now", (long long)w->job,
                                 (long long)version);
        if ((w->change & CHANGE_OF_LIVE) && job_state_is_final((enum job_state) * ret_state))
                return error_set(err, -EAGAIN, NULL, "job %lld is over", (long long)w->job);
        return 0;
}

static int set_columns(struct db *db, const struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_SET);
        int r = 0;

        bind_int(st, ":id", w->job);
        if (w->change & CHANGE_NAME)
                bind_text(st, ":name", w->row.name);
        if (w->change & CHANGE_NOTES)
                bind_text(st, ":notes", w->row.notes);
        if (w->change & CHANGE_PRIORITY)
                bind_int(st, ":priority", w->row.priority);
        bind_limits(st, &w->row.limits, w->change);
        if (w->change & CHANGE_TAGS)
                r = bind_json(st, ":tags", w->row.tags, err);
        return r < 0 ? r : db_run(db, st, err);
}

static int apply_job_set(struct db *db, struct write *w, struct error *err)
{
        int state = 0, r = expect_changeable(db, w, &state, err);

        if (r >= 0)
                r = set_columns(db, w, err);
        if (r >= 0 && (w->change & CHANGE_TAGS)) {
                r = run_for_job(db, ST_JOB_TAG_DELETE, w->job, err);
                if (r >= 0)
                        r = insert_tags(db, w->row.tags, w->job, err);
        }
        return r < 0 ? r : log_event(db, w, w->job, state, state, "set", err);
}

static int apply_job_mark(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_MARK);

        int r;

        bind_int(st, ":id", w->job);
        r = run_changing(db, st, -EBUSY, "job", w->job, err);
        return r < 0 ? r : run_for_job(db, ST_JOB_TAG_DELETE, w->job, err); /* what is not seen is not counted */
}

#define REMOVE_ROWS 16 /* of chunks, in one transaction: some milliseconds */

/* Series with what they have; 1: there are more. */
static int remove_series(struct db *db, int64_t job, int64_t *budget, struct error *err)
{
        for (;;) {
                sqlite3_stmt *st = db_statement(db, ST_SERIES_OF_JOB);
                int64_t series = 0;
                int r;

                bind_int(st, ":job", job);
                r = db_step(db, st, err);
                if (r > 0)
                        series = sqlite3_column_int64(st, 0);
                (void)sqlite3_reset(st);
                if (r <= 0)
                        return r;
                r = *budget > 0 ? tracks_remove(db, series, budget, err) : 1;
                if (r != 0)
                        return r;
                st = db_statement(db, ST_SERIES_DELETE);
                bind_int(st, ":id", series);
                r = db_run(db, st, err);
                if (r < 0)
                        return r;
        }
}

/* Curves of many points go some at a time, so that other writes do not wait for all of them. */
static int apply_job_remove(struct db *db, struct write *w, struct error *err)
{
        static const enum statement order[] = {ST_ARTIFACT_DELETE_ALL, ST_TAILS_DELETE,   ST_ATTEMPT_DELETE,
                                               ST_JOB_EVENT_DELETE,    ST_JOB_TAG_DELETE, ST_JOB_AFTER_DELETE,
                                               ST_JOB_DELETE};
        int64_t budget = REMOVE_ROWS;
        int r = remove_series(db, w->job, &budget, err);

        for (size_t i = 0; r == 0 && i < ARRAY_LEN(order); i++)
                r = run_for_job(db, order[i], w->job, err);
        return r;
}

static int apply_attempt_new(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_JOB_ATTEMPTS);
        int r;

        bind_int(st, ":id", w->attempt_row.job);
        r = db_step(db, st, err);
        if (r > 0)
                w->ret_number = sqlite3_column_int64(st, 0);
        (void)sqlite3_reset(st);
        if (r < 0)
                return r;
        if (r == 0)
                return no_such("job", w->attempt_row.job, err);
        st = db_statement(db, ST_ATTEMPT_INSERT);
        bind_int(st, ":job", w->attempt_row.job);
        bind_int(st, ":number", w->ret_number);
        bind_int(st, ":started", w->attempt_row.started_us ? w->attempt_row.started_us : w->time_us);
        bind_int(st, ":first_step", w->attempt_row.first_step);
        bind_int(st, ":ranks", MAX(w->attempt_row.ranks, 1));
        r = bind_json(st, ":devices", w->attempt_row.devices, err);
        if (r >= 0)
                r = bind_json(st, ":data", w->attempt_row.data, err);
        if (r >= 0)
                r = db_run(db, st, err);
        w->ret_id = sqlite3_last_insert_rowid(db->handle);
        return r;
}

static int apply_by_id(struct db *db, enum statement s, int64_t id, const char *value_name, int64_t value,
                       const char *what, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, s);

        bind_int(st, ":id", id);
        if (value_name)
                bind_int(st, value_name, value);
        return run_changing(db, st, -ENOENT, what, id, err);
}

static int apply_attempt_end(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_ATTEMPT_END);
        int r;

        bind_int(st, ":id", w->attempt);
        bind_int(st, ":ended", w->attempt_row.ended_us);
        bind_real(st, ":energy", w->attempt_row.energy_j);
        r = run_changing(db, st, -ENOENT, "attempt", w->attempt, err);
        return r < 0 ? r : apply_points_close(db, w, err);
}

static int apply_attempt_pid(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_ATTEMPT_PID);

        bind_int(st, ":id", w->attempt);
        bind_int(st, ":pid", w->attempt_row.pid);
        bind_text(st, ":boot", w->attempt_row.boot);
        bind_int(st, ":start_ticks", w->attempt_row.start_ticks);
        return run_changing(db, st, -ENOENT, "attempt", w->attempt, err);
}

static int apply_dataset(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_DATASET_REPLACE);

        bind_text(st, ":name", w->dataset.name);
        bind_text(st, ":path", w->dataset.path);
        bind_text(st, ":format", w->dataset.format);
        bind_text(st, ":digest", w->dataset.digest);
        bind_int(st, ":n_train", w->dataset.n_train);
        bind_int(st, ":n_test", w->dataset.n_test);
        bind_real(st, ":mean_red", w->dataset.mean[0]);
        bind_real(st, ":mean_green", w->dataset.mean[1]);
        bind_real(st, ":mean_blue", w->dataset.mean[2]);
        bind_text(st, ":source", w->dataset.source);
        bind_int(st, ":imported", w->dataset.imported);
        return db_run(db, st, err);
}

static int apply_dataset_remove(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_DATASET_DELETE);

        bind_text(st, ":name", w->dataset.name);
        return db_run(db, st, err);
}

static int apply_device(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, w->out ? ST_DEVICE_OUT_INSERT : ST_DEVICE_OUT_DELETE);

        bind_text(st, ":name", w->device);
        if (w->out)
                bind_text(st, ":why", w->detail ? w->detail : "");
        return db_run(db, st, err);
}

static int apply_artifact_set(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_ARTIFACT_SET);

        bind_int(st, ":id", w->artifact);
        if (w->change & CHANGE_PINNED)
                bind_int(st, ":pinned", w->artifact_row.pinned);
        if (w->change & CHANGE_FAILED_STARTS)
                bind_int(st, ":failed_starts", w->artifact_row.failed_starts);
        return run_changing(db, st, -ENOENT, "artifact", w->artifact, err);
}

/* An artifact that is gone already was removed before a crash: success. */
static int apply_artifact_remove(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_ARTIFACT_DELETE);

        bind_int(st, ":id", w->artifact);
        return db_run(db, st, err);
}

static int and_transition(struct db *db, struct write *w, int r, struct error *err)
{
        return r < 0 || !w->trigger ? r : apply_transition(db, w, err);
}

static int apply_kind(struct db *db, struct write *w, struct error *err)
{
        switch (w->kind) {
        case WRITE_JOB_NEW:
                return apply_job_new(db, w, err);
        case WRITE_JOB_IDS_ABOVE:
                return apply_job_ids_above(db, w, err);
        case WRITE_JOBS_MOVE:
                return apply_jobs_move(db, w, err);
        case WRITE_JOB_TRANSITION:
                return apply_transition(db, w, err);
        case WRITE_JOB_STOP:
                return apply_job_stop(db, w, err);
        case WRITE_JOB_NOTE:
                return log_event(db, w, w->job, JOB_RUNNING, JOB_RUNNING, w->trigger, err);
        case WRITE_JOB_SET:
                return apply_job_set(db, w, err);
        case WRITE_JOB_REOPEN:
                return apply_job_reopen(db, w, err);
        case WRITE_JOB_MARK:
                return apply_job_mark(db, w, err);
        case WRITE_JOB_REMOVE:
                return apply_job_remove(db, w, err);
        case WRITE_ATTEMPT_NEW:
                return and_transition(db, w, apply_attempt_new(db, w, err), err);
        case WRITE_ATTEMPT_PID:
                return apply_attempt_pid(db, w, err);
        case WRITE_ATTEMPT_END:
                return apply_attempt_end(db, w, err);
        case WRITE_EVENTS:
                return and_transition(db, w, apply_events(db, w, err), err);
        case WRITE_ARTIFACT_SET:
                return apply_artifact_set(db, w, err);
        case WRITE_ARTIFACT_MARK:
                return apply_by_id(db, ST_ARTIFACT_MARK, w->artifact, NULL, 0, "artifact", err);
        case WRITE_ARTIFACT_REMOVE:
                return apply_artifact_remove(db, w, err);
        case WRITE_DATASET:
                return apply_dataset(db, w, err);
        case WRITE_DATASET_REMOVE:
                return apply_dataset_remove(db, w, err);
        case WRITE_DEVICE:
                return apply_device(db, w, err);
        case WRITE_DATASETS_CLEAR:
                return db_run(db, db_statement(db, ST_DATASET_CLEAR), err);
        case WRITE_TOKEN:
                return apply_token(db, w, err);
        case WRITE_SESSION:
                return apply_session(db, w, err);
        case WRITE_DELIVERY:
                return apply_delivery(db, w, err);
        case WRITE_AUDIT:
                return 0; /* what all have */
        case WRITE_KIND_N:
                break;
        }
        return error_set(err, -EINVAL, NULL, "no such write: %d", (int)w->kind);
}

/* What was asked for again, with its Idempotency-Key, changed nothing. */
static bool made_nothing(const struct write *w)
{
        return w->kind == WRITE_JOB_NEW && !w->row.id;
}

int apply_write(struct db *db, struct write *w, struct error *err)
{
        int r = apply_kind(db, w, err), told;

        if (r || !w->audit.action[0] || made_nothing(w)) /* above 0: with its last part */
                return r;
        told = apply_audit(db, w, err);
        return MIN(told, 0);
}
