/* Opening and closing, and the lifetimes of rows and writes. */
#include "store/internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

const char *const job_state_names[] = {"queued", "running", "succeeded", "failed", "cancelled", "paused", NULL};
const char *const stop_reason_names[] = {"", "cancel", "pause", "limit", "shutdown", "preempt", "disk", NULL};
const char *const limit_names[] = {"wall", "device_seconds", "steps", "failures", NULL};
_Static_assert(ARRAY_LEN(limit_names) == LIMIT_N + 1, "a name a limit");
const char *const attempt_outcome_names[] = {"", "done", "failed", "stopped", NULL};
_Static_assert(ARRAY_LEN(job_state_names) == JOB_STATE_N + 1, "a name a state");
_Static_assert(ARRAY_LEN(stop_reason_names) == STOP_REASON_N + 1, "a name a reason");
_Static_assert(ARRAY_LEN(attempt_outcome_names) == OUTCOME_N + 1, "a name an outcome");

int store_look(const char *folder, int64_t *ret_behind, struct error *err)
{
        char path[sizeof((struct store *)0)->path];
        struct db db = {0};
        int r = db_check_file(folder, path, sizeof path, err);

        if (r <= 0)
                return r;
        r = db_open_to_look(&db, path, err);
        if (r >= 0)
                r = db_schema(&db, ret_behind, err);
        db_close(&db);
        return r < 0 ? r : 1;
}

int store_open(const char *folder, struct store **ret, struct error *err)
{
        struct store *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return error_set(err, -ENOMEM, folder, "no memory to open the store");
        r = db_prepare_file(folder, s->path, sizeof s->path, err);
        if (r >= 0)
                r = db_open(&s->db, s->path, DB_WRITE, err);
        if (r < 0) {
                free(s);
                return r;
        }
        r = writer_start(s, err);
        if (r < 0) {
                db_close(&s->db);
                free(s);
                return r;
        }
        *ret = s;
        return 0;
}

struct store *store_close(struct store *s)
{
        if (!s)
                return NULL;
        writer_stop(s);
        db_close(&s->db);
        free(s);
        return NULL;
}

int64_t store_stamp(const struct store *s)
{
        int64_t stamp = atomic_load(&s->stamp);

        return stamp % 2 ? 0 : stamp;
}

int reader_open(struct store *s, struct reader **ret, struct error *err)
{
        struct reader *r = calloc(1, sizeof *r);
        int n;

        if (!r)
                return error_set(err, -ENOMEM, s->path, "no memory for a reader");
        n = db_open(&r->db, s->path, DB_READ, err);
        if (n < 0) {
                free(r);
                return n;
        }
        *ret = r;
        return 0;
}

const char *store_library_version(void)
{
        return sqlite3_libversion();
}

int store_copy(const struct store *s, const char *path, const atomic_bool *cancelled, struct error *err)
{
        struct db db = {0};
        int64_t version;
        int r = db_open_file(&db, s->path, SQLITE_OPEN_READONLY, err);

        if (r < 0)
                return r;
        /* a transaction that has read is a snapshot: writes meanwhile do not begin the copy anew */
        r = db_exec(&db, "BEGIN", err);
        if (r >= 0)
                r = db_query_int(&db, "PRAGMA user_version", &version, err);
        if (r >= 0)
                r = db_copy(&db, path, cancelled, err);
        db_close(&db);
        return r;
}

struct reader *reader_close(struct reader *r)
{
        if (!r)
                return NULL;
        db_close(&r->db);
        free(r);
        return NULL;
}

#define STEPS_BETWEEN 4000 /* of SQLite's machine, a fraction of a millisecond */

static int on_progress(void *user)
{
        struct reader *r = user;

        return r->cancelled(r->user);
}

void reader_watch(struct reader *r, bool (*cancelled)(void *user), void *user)
{
        r->cancelled = cancelled;
        r->user = user;
        sqlite3_progress_handler(r->db.handle, cancelled ? STEPS_BETWEEN : 0, cancelled ? on_progress : NULL, r);
}

void job_row_done(struct job_row *j)
{
        free(j->name);
        free(j->config_name);
        free(j->notes);
        free(j->moved_by);
        free(j->moved_why);
        json_decref(j->tags);
        json_decref(j->config);
        json_decref(j->import);
        json_decref(j->result);
        json_decref(j->error);
        json_decref(j->ran_on);
        json_decref(j->data);
        *j = (struct job_row){0};
}

void attempt_row_done(struct attempt_row *a)
{
        json_decref(a->devices);
        json_decref(a->data);
        free(a->detail);
        *a = (struct attempt_row){0};
}

struct write *write_new(enum write_kind kind)
{
        struct write *w = calloc(1, sizeof *w);

        if (w)
                *w = (struct write){.kind = kind, .attempt_row.energy_j = NAN};
        return w;
}

struct write *write_free(struct write *w)
{
        if (!w)
                return NULL;
        free(w->detail);
        free(w->ids);
        job_row_done(&w->row);
        attempt_row_done(&w->attempt_row);
        for (size_t i = 0; i < w->n_events; i++)
                event_done(&w->events[i]);
        free(w->events);
        free(w);
        return NULL;
}
