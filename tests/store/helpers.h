/* What the store's tests share: a folder of their own, jobs, attempts, events. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define ROOM_BYTES ((uint64_t)2 << 30)
#define FIXTURE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

struct fixture {
        char folder[64];
        struct store *store;
        struct reader *reader;
};

static inline void fixture_open(struct fixture *f)
{
        struct error err = {0};

        if (store_open(f->folder, &f->store, &err) < 0 || reader_open(f->store, &f->reader, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
}

static inline void fixture_close(struct fixture *f)
{
        f->reader = reader_close(f->reader);
        f->store = store_close(f->store);
}

/* Where there is room in memory, syncs cost nothing (tests/quick.py, for Python's). */
static inline const char *quick_folder(void)
{
        struct statvfs v;
        bool room = !statvfs("/dev/shm", &v) && v.f_bavail * v.f_frsize >= ROOM_BYTES;

        return room ? "/dev/shm" : "/tmp";
}

static inline int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);

        if (!f)
                return -1;
        (void)snprintf(f->folder, sizeof f->folder, "%s/mulund-store-XXXXXX", quick_folder());
        assert_non_null(mkdtemp(f->folder));
        fixture_open(f);
        *state = f;
        return 0;
}

static inline int teardown(void **state)
{
        struct fixture *f = *state;

        fixture_close(f);
        (void)file_remove_tree(f->folder, NULL);
        free(f);
        return 0;
}

static inline struct write *job_write(const char *name, enum job_kind kind, const char *tags)
{
        struct write *w = write_new(WRITE_JOB_NEW);

        w->row.kind = kind;
        w->row.name = strdup(name);
        w->row.config_name = strdup("");
        w->row.tags = json_loads(tags ? tags : "[]", 0, NULL);
        w->row.config = json_pack("{s:{s:s}}", "data", "dataset", "photos32");
        w->row.created_us = w->time_us = 1;
        w->row.steps = 1000;
        return w;
}

static inline int64_t new_job(struct fixture *f, const char *name, enum job_kind kind, const char *tags)
{
        int64_t id = 0;

        assert_int_equal(store_write(f->store, job_write(name, kind, tags), &id, NULL), 0);
        return id;
}

static inline int transition(struct fixture *f, int64_t job, enum job_state from, enum job_state to)
{
        struct write *w = write_new(WRITE_JOB_TRANSITION);

        w->job = job;
        w->from = from;
        w->to = to;
        w->trigger = "test";
        w->time_us = 2;
        return store_write(f->store, w, NULL, NULL);
}

static inline int64_t new_attempt(struct fixture *f, int64_t job, int64_t first_step)
{
        struct write *w = write_new(WRITE_ATTEMPT_NEW);
        int64_t id = 0;

        w->attempt_row.job = job;
        w->attempt_row.first_step = first_step;
        w->time_us = 3;
        assert_int_equal(store_write(f->store, w, &id, NULL), 0);
        return id;
}

static inline struct event scalars(int64_t seq, int64_t first, size_t n, const char *name,
                                   double (*value)(int64_t step))
{
        struct event e = {.type = EVENT_SCALARS,
                          .seq = seq,
                          .n_rows = n,
                          .n_columns = 1,
                          .images_per_second = NAN,
                          .seconds_left = NAN};

        e.row_step = calloc(n, sizeof *e.row_step);
        e.row_time_ms = calloc(n, sizeof *e.row_time_ms);
        e.column[0] = calloc(n, sizeof *e.column[0]);
        e.column_name[0] = strdup(name);
        for (size_t i = 0; i < n; i++) {
                e.row_step[i] = first + (int64_t)i;
                e.row_time_ms[i] = 1000 * (first + (int64_t)i);
                e.column[0][i] = value(first + (int64_t)i);
        }
        return e;
}

static inline struct event plain(enum event_type type, int64_t seq, int64_t step)
{
        return (struct event){.type = type,
                              .seq = seq,
                              .step = step,
                              .steps = 1000,
                              .images_per_second = NAN,
                              .seconds_left = NAN,
                              .metric = NAN};
}

static inline struct write *events_write(int64_t attempt, struct event *e, size_t n)
{
        struct write *w = write_new(WRITE_EVENTS);

        w->attempt = attempt;
        w->events = calloc(n, sizeof *e);
        memcpy(w->events, e, n * sizeof *e);
        w->n_events = n;
        w->time_us = 4;
        return w;
}

static inline int send(struct fixture *f, int64_t attempt, struct event e)
{
        return store_write(f->store, events_write(attempt, &e, 1), NULL, NULL);
}

static inline double identity(int64_t step)
{
        return (double)step;
}

/* SQL of one's own on the file, beside the store. */
static inline sqlite3 *open_file(const struct fixture *f)
{
        char path[100];
        sqlite3 *db;

        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        return db;
}

static inline void run_sql(const struct fixture *f, const char *sql)
{
        sqlite3 *db = open_file(f);

        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
                fail_msg("%s", sqlite3_errmsg(db));
        (void)sqlite3_close(db);
}

/* The number that a query answers. */
static inline int64_t count(const struct fixture *f, const char *sql)
{
        sqlite3 *db = open_file(f);
        sqlite3_stmt *st;
        int64_t n;

        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        n = sqlite3_column_int64(st, 0);
        (void)sqlite3_finalize(st);
        (void)sqlite3_close(db);
        return n;
}

static inline int note_attempt(const struct attempt_row *a, void *user)
{
        struct buf *b = user;
        _cleanup_(freep) char *devices = json_to_text(a->devices);

        return buf_printf(b, NULL, "%lld:%s:%s:%s:%s:%s:%lld:%zu\n", (long long)a->number,
                          attempt_outcome_names[a->outcome], stop_reason_names[a->stop], a->class, a->blame, devices,
                          (long long)a->ranks, strlen(a->detail) ? (size_t)1 : 0);
}

static inline void expect_attempts(struct fixture *f, int64_t job, const char *expected)
{
        struct buf b = BUF_INIT(4096);

        assert_int_equal(buf_append(&b, "", 0, NULL), 0);
        assert_int_equal(reader_attempts(f->reader, job, note_attempt, &b, NULL), 0);
        assert_string_equal(b.data, expected);
        buf_done(&b);
}

static inline int64_t new_job_after(struct fixture *f, int64_t priority, int64_t a, int64_t b)
{
        struct write *w = job_write("x", JOB_TRAIN, NULL);
        int64_t id = 0;

        w->row.priority = priority;
        w->row.after[0] = a;
        w->row.after[1] = b;
        w->row.n_after = (a > 0) + (b > 0);
        return store_write(f->store, w, &id, NULL) < 0 ? -1 : id;
}

static inline struct write *change_write(int64_t job, unsigned change, int64_t version)
{
        struct write *w = write_new(WRITE_JOB_SET);

        w->job = job;
        w->change = change;
        w->row.version = version;
        w->row.name = strdup("new");
        w->row.tags = json_loads("[\"b\"]", 0, NULL);
        w->row.priority = 5;
        w->row.limits = (struct limits_row){.of = {[LIMIT_WALL] = 60, [LIMIT_STEPS] = 100}};
        return w;
}
