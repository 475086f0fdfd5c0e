/* Reading rows. Each function resets its statement when it leaves, so that no read transaction stays open. */
#include "store/internal.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int not_found(const char *what, int64_t id, struct error *err)
{
        return error_set(err, -ENOENT, NULL, "there is no %s %lld", what, (long long)id);
}

static int column_string(sqlite3_stmt *st, int i, char **ret, struct error *err)
{
        const char *text = (const char *)sqlite3_column_text(st, i);

        *ret = strdup(text ? text : "");
        return *ret ? 0 : error_set(err, -ENOMEM, NULL, "no memory for a row");
}

static void copy_text(char *to, size_t size, sqlite3_stmt *st, int i)
{
        const char *text = (const char *)sqlite3_column_text(st, i);

        (void)snprintf(to, size, "%s", text ? text : "");
}

static int column_json(sqlite3_stmt *st, int i, json_t **ret, struct error *err)
{
        const char *text = (const char *)sqlite3_column_text(st, i);

        return text ? json_parse(text, strlen(text), ret, err) : 0;
}

static_assert(JOB_QUEUED == 0 && JOB_RUNNING == 1 && JOB_SUCCEEDED == 2 && JOB_PAUSED == 5, "statements.def says so");

/* "trigger detail" of the last transition. */
static int fill_moved(sqlite3_stmt *st, int i, struct job_row *j, struct error *err)
{
        const char *text = (const char *)sqlite3_column_text(st, i);
        size_t n = text ? strcspn(text, " ") : 0;

        j->moved_by = strndup(text ? text : "", n);
        j->moved_why = strdup(text ? text + n + (text[n] == ' ') : "");
        return j->moved_by && j->moved_why ? 0 : error_set(err, -ENOMEM, NULL, "no memory for a row");
}

static int column_config(sqlite3_stmt *st, int i, unsigned without, json_t **ret, struct error *err)
{
        const char *text = (const char *)sqlite3_column_text(st, i);

        if (!(without & CONFIG_AS_TEXT) || !text || !strcmp(text, "{}"))
                return column_json(st, i, ret, err);
        *ret = json_verbatim(text, (size_t)sqlite3_column_bytes(st, i));
        return *ret ? 0 : error_set(err, -ENOMEM, NULL, "no memory for a configuration");
}

static int fill_job(sqlite3_stmt *st, unsigned without, struct job_row *j, struct error *err)
{
        int r;

        *j = (struct job_row){
                .id = sqlite3_column_int64(st, 0),
                .kind = (enum job_kind)sqlite3_column_int(st, 1),
                .state = (enum job_state)sqlite3_column_int(st, 2),
                .created_us = sqlite3_column_int64(st, 9),
                .started_us = sqlite3_column_int64(st, 10),
                .ended_us = sqlite3_column_int64(st, 11),
                .attempts = sqlite3_column_int64(st, 12),
                .step = sqlite3_column_int64(st, 13),
                .steps = sqlite3_column_int64(st, 14),
                .images_per_second = column_real(st, 15),
                .seconds_left = column_real(st, 16),
                .source_job = sqlite3_column_int64(st, 17),
                .source_step = sqlite3_column_int64(st, 18),
                .stop_requested = (enum stop_reason)sqlite3_column_int(st, 19),
                .accept_changed_data = sqlite3_column_int(st, 22) != 0,
                .priority = -sqlite3_column_int64(st, 24),
                .unmet = sqlite3_column_int64(st, 25),
                .version = sqlite3_column_int64(st, 26),
                .memory_bytes = sqlite3_column_int64(st, 29),
                .gpu = sqlite3_column_int(st, 30) != 0,
                .devices = sqlite3_column_int64(st, 31),
        };
        for (int i = 0; i < LIMIT_N; i++)
                j->limits.of[i] = sqlite3_column_int64(st, 33 + i);
        copy_text(j->dataset, sizeof j->dataset, st, 28);
        copy_text(j->owner, sizeof j->owner, st, 32);
        copy_text(j->identity, sizeof j->identity, st, 21);
        if ((r = column_string(st, 3, &j->name, err)) < 0 || (r = column_string(st, 4, &j->config_name, err)) < 0 ||
            (r = column_json(st, 5, &j->tags, err)) < 0 || (r = column_config(st, 6, without, &j->config, err)) < 0 ||
            (r = column_json(st, 23, &j->import, err)) < 0 || (r = column_json(st, 7, &j->result, err)) < 0 ||
            (r = column_json(st, 8, &j->error, err)) < 0 || (r = fill_moved(st, 20, j, err)) < 0 ||
            (r = column_string(st, 27, &j->notes, err)) < 0 ||
            (r = column_json(st, 33 + LIMIT_N, &j->ran_on, err)) < 0 ||
            (r = column_json(st, 34 + LIMIT_N, &j->data, err)) < 0)
                job_row_done(j);
        return r;
}

static int read_ids(struct reader *r, enum statement s, int64_t job, int64_t ret[AFTER_MAX], size_t *ret_n,
                    struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, s);
        int n;

        *ret_n = 0;
        bind_int(st, ":job", job);
        while ((n = db_step(&r->db, st, err)) > 0 && *ret_n < AFTER_MAX)
                ret[(*ret_n)++] = sqlite3_column_int64(st, 0);
        return MIN(n, 0);
}

int reader_unmet(struct reader *r, int64_t job, int64_t ret[AFTER_MAX], size_t *ret_n, struct error *err)
{
        return read_ids(r, ST_JOB_UNMET, job, ret, ret_n, err);
}

int reader_job_without(struct reader *r, int64_t id, unsigned without, struct job_row *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOB_BY_ID);
        int n;

        bind_int(st, ":id", id);
        bind_int(st, ":without", without);
        n = db_step(&r->db, st, err);
        if (n <= 0)
                return n < 0 ? n : not_found("job", id, err);
        n = fill_job(st, without, ret, err);
        if (n >= 0)
                n = read_ids(r, ST_JOB_AFTER, id, ret->after, &ret->n_after, err);
        if (n < 0)
                job_row_done(ret);
        return n;
}

int reader_job(struct reader *r, int64_t id, struct job_row *ret, struct error *err)
{
        return reader_job_without(r, id, 0, ret, err);
}

int reader_ready(struct reader *r, bool gpu, int (*row)(const struct job_row *j, void *user), void *user,
                 struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOBS_READY);
        int n;

        bind_int(st, ":without", WITHOUT_CONFIG | WITHOUT_OUTCOME);
        bind_int(st, ":gpu", gpu);
        while ((n = db_step(&r->db, st, err)) > 0) {
                struct job_row j;

                n = fill_job(st, 0, &j, err);
                if (n < 0)
                        return n;
                n = row(&j, user);
                job_row_done(&j);
                if (n)
                        return n;
        }
        return n;
}

#define PLACE_KEPT_US (US_PER_S / 2)

/* The place that has so many before it, as it was a moment ago: for a page of a long queue, and whoever submits many,
 * it is looked for once. */
static int place_at(struct reader *r, bool gpu, int64_t before, const struct place **ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOB_READY_AT);
        struct place *p = &r->places[gpu];
        int64_t now_us = clock_monotonic_us();
        int n;

        *ret = p;
        if (p->before == before && p->read_us && now_us - p->read_us < PLACE_KEPT_US)
                return 0;
        bind_int(st, ":gpu", gpu);
        bind_int(st, ":before", before);
        n = db_step(&r->db, st, err);
        *p = (struct place){.id = INT64_MAX, .rank = INT64_MAX, .before = before, .read_us = now_us};
        if (n > 0) {
                p->rank = sqlite3_column_int64(st, 0);
                p->id = sqlite3_column_int64(st, 1);
        }
        return MIN(n, 0);
}

int reader_ready_before(struct reader *r, const struct job_row *j, int64_t max, int64_t *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOBS_READY_BEFORE);
        const struct place *last;
        int n = place_at(r, j->gpu, max, &last, err);

        if (n < 0)
                return n;
        if (-j->priority > last->rank || (-j->priority == last->rank && j->id >= last->id)) {
                *ret = max;
                return 0;
        }
        bind_int(st, ":gpu", j->gpu);
        bind_int(st, ":rank", -j->priority);
        bind_int(st, ":id", j->id);
        bind_int(st, ":max", max);
        n = db_step(&r->db, st, err);
        if (n > 0)
                *ret = sqlite3_column_int64(st, 0);
        return MIN(n, 0);
}

/* The one id that a statement answers, as NULL or no row where there is none. */
static int read_id(struct reader *r, sqlite3_stmt *st, int64_t *ret_id, struct error *err)
{
        int n = db_step(&r->db, st, err);

        if (n < 0)
                return n;
        if (n == 0 || sqlite3_column_type(st, 0) == SQLITE_NULL)
                return -ENOENT;
        *ret_id = sqlite3_column_int64(st, 0);
        return 0;
}

int reader_ready_first(struct reader *r, bool gpu, int64_t *ret_id, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOB_READY_FIRST);

        bind_int(st, ":gpu", gpu);

        return read_id(r, st, ret_id, err);
}

int reader_user_of_job(struct reader *r, int64_t job, int64_t *ret_id, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_USER_OF_JOB);

        bind_int(st, ":job", job);
        return read_id(r, st, ret_id, err);
}

int reader_user_of_checkpoint(struct reader *r, int64_t job, int64_t step, int64_t *ret_id, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_USER_OF_CHECKPOINT);

        bind_int(st, ":job", job);
        bind_int(st, ":step", step);
        return read_id(r, st, ret_id, err);
}

int reader_user_of_dataset(struct reader *r, const char *name, bool import, int64_t *ret_id, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_USER_OF_DATASET);

        bind_text(st, ":name", name);
        bind_int(st, ":import_kind", JOB_IMPORT);
        bind_int(st, ":import", import);
        return read_id(r, st, ret_id, err);
}

static int read_events(struct reader *r, sqlite3_stmt *st, int64_t after, int64_t limit,
                       int (*row)(const struct job_event_row *e, void *user), void *user, struct error *err)
{
        int n;

        bind_int(st, ":after", after);
        bind_int(st, ":limit", limit);
        while ((n = db_step(&r->db, st, err)) > 0) {
                const struct job_event_row e = {
                        .id = sqlite3_column_int64(st, 0),
                        .job = sqlite3_column_int64(st, 1),
                        .time_us = sqlite3_column_int64(st, 2),
                        .from = sqlite3_column_type(st, 3) == SQLITE_NULL ? -1 : sqlite3_column_int(st, 3),
                        .to = sqlite3_column_int(st, 4),
                        .trigger = (const char *)sqlite3_column_text(st, 5),
                        .detail = (const char *)sqlite3_column_text(st, 6),
                };

                n = row(&e, user);
                if (n < 0)
                        return n;
        }
        return n;
}

int reader_job_events(struct reader *r, int64_t job, int64_t after, int64_t limit,
                      int (*row)(const struct job_event_row *e, void *user), void *user, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOB_EVENTS);

        bind_int(st, ":job", job);
        return read_events(r, st, after, limit, row, user, err);
}

int reader_events(struct reader *r, int64_t after, int64_t limit, int (*row)(const struct job_event_row *e, void *user),
                  void *user, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_EVENTS);

        return read_events(r, st, after, limit, row, user, err);
}

int reader_last_event(struct reader *r, int64_t *ret_id, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_LAST_EVENT);
        int n = read_id(r, st, ret_id, err);

        if (n == -ENOENT)
                *ret_id = 0;
        return n == -ENOENT ? 0 : n;
}

static int read_attempts(struct reader *r, sqlite3_stmt *st, int (*row)(const struct attempt_row *a, void *user),
                         void *user, struct error *err)
{
        int n;

        while ((n = db_step(&r->db, st, err)) > 0) {
                struct attempt_row a = {
                        .id = sqlite3_column_int64(st, 0),
                        .job = sqlite3_column_int64(st, 1),
                        .number = sqlite3_column_int64(st, 2),
                        .started_us = sqlite3_column_int64(st, 3),
                        .ended_us = sqlite3_column_int64(st, 4),
                        .first_step = sqlite3_column_int64(st, 5),
                        .last_seq = sqlite3_column_int64(st, 6),
                        .checkpoints = sqlite3_column_int64(st, 7),
                        .pid = sqlite3_column_int64(st, 8),
                        .start_ticks = sqlite3_column_int64(st, 10),
                        .last_step = sqlite3_column_int64(st, 11),
                        .ranks = sqlite3_column_int64(st, 13),
                        .outcome = (enum attempt_outcome)sqlite3_column_int(st, 14),
                        .stop = (enum stop_reason)sqlite3_column_int(st, 15),
                        .energy_j = column_real(st, 20),
                };

                copy_text(a.boot, sizeof a.boot, st, 9);
                copy_text(a.class, sizeof a.class, st, 16);
                copy_text(a.blame, sizeof a.blame, st, 17);
                n = column_json(st, 12, &a.devices, err);
                if (n >= 0)
                        n = column_string(st, 18, &a.detail, err);
                if (n >= 0)
                        n = column_json(st, 21, &a.data, err);
                if (n >= 0)
                        n = row(&a, user);
                attempt_row_done(&a);
                if (n < 0)
                        return n;
        }
        return n;
}

int reader_attempts(struct reader *r, int64_t job, int (*row)(const struct attempt_row *a, void *user), void *user,
                    struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_ATTEMPTS);

        bind_int(st, ":job", job);
        return read_attempts(r, st, row, user, err);
}

int reader_attempts_open(struct reader *r, int (*row)(const struct attempt_row *a, void *user), void *user,
                         struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_ATTEMPTS_OPEN);

        bind_int(st, ":after", 0);
        return read_attempts(r, st, row, user, err);
}

static void fill_artifact(sqlite3_stmt *st, struct artifact_row *a)
{
        *a = (struct artifact_row){
                .id = sqlite3_column_int64(st, 0),
                .job = sqlite3_column_int64(st, 1),
                .attempt = sqlite3_column_int64(st, 2),
                .step = sqlite3_column_int64(st, 3),
                .bytes = sqlite3_column_int64(st, 4),
                .created_us = sqlite3_column_int64(st, 5),
                .kind = (enum artifact_kind)sqlite3_column_int(st, 6),
                .metric = column_real(st, 9),
                .pinned = sqlite3_column_int(st, 10) != 0,
                .failed_starts = sqlite3_column_int64(st, 11),
        };
        copy_text(a->name, sizeof a->name, st, 7);
        copy_text(a->digest, sizeof a->digest, st, 8);
}

int reader_artifacts(struct reader *r, int64_t job, int kind, int (*row)(const struct artifact_row *a, void *user),
                     void *user, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_ARTIFACTS);
        int n;

        bind_int(st, ":job", job);
        bind_int(st, ":kind", kind);
        while ((n = db_step(&r->db, st, err)) > 0) {
                struct artifact_row a;

                fill_artifact(st, &a);
                n = row(&a, user);
                if (n < 0)
                        return n;
        }
        return n;
}

int reader_artifact(struct reader *r, int64_t id, struct artifact_row *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_ARTIFACT_BY_ID);
        int n;

        bind_int(st, ":id", id);
        n = db_step(&r->db, st, err);
        if (n <= 0)
                return n < 0 ? n : not_found("artifact", id, err);
        fill_artifact(st, ret);
        return 0;
}

int reader_marked_artifact(struct reader *r, int64_t after, struct artifact_row *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_ARTIFACTS_MARKED);
        int n;

        bind_int(st, ":after", after);
        n = db_step(&r->db, st, err);
        if (n <= 0)
                return n < 0 ? n : -ENOENT;
        fill_artifact(st, ret);
        return 0;
}

int reader_marked_job(struct reader *r, int64_t after, int64_t *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOBS_MARKED);
        int n;

        bind_int(st, ":after", after);
        n = db_step(&r->db, st, err);
        if (n <= 0)
                return n < 0 ? n : -ENOENT;
        *ret = sqlite3_column_int64(st, 0);
        return 0;
}

int request_key_find(struct db *db, const struct request_key *key, int64_t *ret_id, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, ST_REQUEST_KEY);
        int n;

        bind_text(st, ":key", key->key);
        n = db_step(db, st, err);
        if (n <= 0)
                return n < 0 ? n : -ENOENT;
        if (strcmp((const char *)sqlite3_column_text(st, 1), key->digest) != 0)
                return error_set(err, -EKEYREJECTED, NULL, "the key was that of another request");
        *ret_id = sqlite3_column_int64(st, 0);
        return 0;
}

int reader_request_key(struct reader *r, const struct request_key *key, int64_t *ret_id, struct error *err)
{
        return request_key_find(&r->db, key, ret_id, err);
}

int reader_device_out(struct reader *r, const char *name, bool *ret, char *ret_why, size_t size, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_DEVICE_OUT);
        int n;

        bind_text(st, ":name", name);
        n = db_step(&r->db, st, err);
        *ret = n > 0;
        ret_why[0] = 0;
        if (n > 0)
                copy_text(ret_why, size, st, 0);
        return MIN(n, 0);
}

static void fill_dataset(sqlite3_stmt *st, struct dataset_row *d)
{
        *d = (struct dataset_row){
                .n_train = sqlite3_column_int64(st, 4),
                .n_test = sqlite3_column_int64(st, 5),
                .mean = {sqlite3_column_double(st, 6), sqlite3_column_double(st, 7), sqlite3_column_double(st, 8)},
                .imported = sqlite3_column_int(st, 10) != 0,
        };
        copy_text(d->source, sizeof d->source, st, 9);
        copy_text(d->name, sizeof d->name, st, 0);
        copy_text(d->path, sizeof d->path, st, 1);
        copy_text(d->format, sizeof d->format, st, 2);
        copy_text(d->digest, sizeof d->digest, st, 3);
}

int reader_datasets(struct reader *r, int (*row)(const struct dataset_row *d, void *user), void *user,
                    struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_DATASETS);
        int n;

        while ((n = db_step(&r->db, st, err)) > 0) {
                struct dataset_row d;

                fill_dataset(st, &d);
                n = row(&d, user);
                if (n < 0)
                        return n;
        }
        return n;
}

int reader_dataset(struct reader *r, const char *name, struct dataset_row *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_DATASET_BY_NAME);
        int n;

        bind_text(st, ":name", name);
        n = db_step(&r->db, st, err);
        if (n <= 0)
                return n < 0 ? n : error_set(err, -ENOENT, NULL, "there is no such data set");
        fill_dataset(st, ret);
        return 0;
}
