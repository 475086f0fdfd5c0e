#include "helpers.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>

/* ---- statements */

static const struct {
        const char *name, *sql;
} statements[] = {
#define READ(name, sql) {#name, sql},
#define WRITE(name, sql) {#name, sql},
#include "store/statements.def"
#undef READ
#undef WRITE
};

static void every_statement_searches_by_index(void **state)
{
        struct fixture *f = *state;
        char path[100];
        sqlite3 *db;

        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
                char *sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", statements[i].sql);
                sqlite3_stmt *st;

                if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
                        fail_msg("%s: %s", statements[i].name, sqlite3_errmsg(db));
                while (sqlite3_step(st) == SQLITE_ROW) {
                        const char *detail = (const char *)sqlite3_column_text(st, 3);

                        /* a subquery is searched by itself, on a line of its own */
                        if ((!strncmp(detail, "SCAN", 4) && !strstr(detail, ":M2") &&
                             !strstr(detail, "VIRTUAL TABLE INDEX 1:") && !strstr(detail, "VIRTUAL TABLE INDEX 3:") &&
                             !strstr(detail, "(subquery")) ||
                            strstr(detail, "TEMP B-TREE"))
                                fail_msg("%s: %s", statements[i].name, detail);
                }
                (void)sqlite3_finalize(st);
                sqlite3_free(sql);
        }
        (void)sqlite3_close(db);
}

/* ---- files */

static void opens_again_with_what_it_had(void **state)
{
        struct fixture *f = *state;
        struct job_row j;
        int64_t id = new_job(f, "kept", JOB_TRAIN, "[\"a\", \"b\"]");

        fixture_close(f);
        fixture_open(f);
        assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
        assert_string_equal(j.name, "kept");
        assert_int_equal(json_array_size(j.tags), 2);
        assert_int_equal(j.state, JOB_QUEUED);
        assert_true(isnan(j.seconds_left));
        assert_null(j.result);
        job_row_done(&j);
}

static void newer_schema_is_refused(void **state)
{
        struct fixture *f = *state;
        struct error err;

        int64_t ours = count(f, "PRAGMA user_version");
        char back[40];

        fixture_close(f);
        run_sql(f, "PRAGMA user_version = 99");
        assert_true(store_open(f->folder, &f->store, &err) < 0);
        assert_non_null(strstr(err.text, "newer"));
        (void)snprintf(back, sizeof back, "PRAGMA user_version = %lld", (long long)ours);
        run_sql(f, back);
        fixture_open(f);
}

static void every_job_has_an_identity_of_its_own(void **state)
{
        struct fixture *f = *state;
        char seen[3][33];

        for (int i = 0; i < 3; i++) {
                int64_t id = new_job(f, "a", JOB_TRAIN, NULL);
                struct job_row j;

                assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
                assert_int_equal(strspn(j.identity, "0123456789abcdef"), 32);
                memcpy(seen[i], j.identity, sizeof seen[i]);
                job_row_done(&j);
                for (int k = 0; k < i; k++)
                        assert_string_not_equal(seen[i], seen[k]);
        }
}

static void ids_below_are_never_given(void **state)
{
        struct fixture *f = *state;
        static const int64_t above[] = {7, 3, 8, 1};
        static const int64_t next[] = {8, 9, 10, 11};

        for (size_t i = 0; i < ARRAY_LEN(above); i++) {
                struct write *w = write_new(WRITE_JOB_IDS_ABOVE);

                w->job = above[i];
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
                assert_int_equal(new_job(f, "a", JOB_TRAIN, NULL), next[i]);
        }
}

static int64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The log is larger than what a reader's end is waited for, and somebody reads a long curve. */
static void who_writes_does_not_wait_for_who_reads(void **state)
{
        struct fixture *f = *state;
        char path[100], *long_text = malloc((size_t)1 << 20);
        sqlite3 *db = NULL;
        int64_t worst = 0;

        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        memset(long_text, 'x', ((size_t)1 << 20) - 1);
        long_text[((size_t)1 << 20) - 1] = 0;
        (void)new_job(f, "a", JOB_TRAIN, NULL);
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM job", NULL, NULL, NULL), SQLITE_OK);
        for (int i = 0; i < 160; i++) {
                struct write *w = job_write("a", JOB_TRAIN, NULL);
                int64_t began = now_ms();

                (void)json_object_set_new(w->row.config, "long", json_string(long_text));
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
                worst = MAX(worst, now_ms() - began);
        }
        assert_true(worst < 5000); /* it was ten seconds */
        (void)sqlite3_close(db);
        free(long_text);
}

static void foreign_database_is_refused(void **state)
{
        struct fixture *f = *state;
        struct error err;

        fixture_close(f);
        run_sql(f, "PRAGMA application_id = 7");
        assert_true(store_open(f->folder, &f->store, &err) < 0);
        assert_non_null(strstr(err.text, "another program"));
        f->store = NULL;
}

static void read_file(const char *path, struct buf *b)
{
        *b = BUF_INIT(1 << 26);
        assert_int_equal(file_read(path, b, NULL), 0);
}

static void damaged_file_is_refused_and_left_as_it_is(void **state)
{
        struct fixture *f = *state;
        struct buf whole, after;
        char path[100];
        struct error err;

        for (int i = 0; i < 200; i++)
                (void)new_job(f, "some", JOB_TRAIN, NULL);
        fixture_close(f);
        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        read_file(path, &whole);
        for (int kind = 0; kind < 4; kind++) {
                size_t size = kind == 0 ? 0 : kind == 1 ? whole.size / 2 : whole.size;
                int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

                assert_int_equal(write(fd, whole.data, size), size);
                if (kind == 2)
                        assert_int_equal(pwrite(fd, "garbage garbage garbage", 23, 4096), 23);
                if (kind == 3)
                        assert_int_equal(pwrite(fd, "garbage", 7, 0), 7);
                (void)close(fd);
                struct buf before;

                read_file(path, &before);
                assert_true(store_open(f->folder, &f->store, &err) < 0);
                assert_non_null(strstr(err.text, "damaged"));
                assert_string_equal(err.path, path);
                read_file(path, &after);
                assert_int_equal(before.size, after.size);
                if (before.size)
                        assert_memory_equal(before.data, after.data, before.size);
                buf_done(&before);
                buf_done(&after);
        }
        buf_done(&whole);
        f->store = NULL;
}

static void missing_file_beside_its_log_is_refused(void **state)
{
        struct fixture *f = *state;
        char path[100];
        struct error err;
        int fd;

        fixture_close(f);
        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        assert_int_equal(unlink(path), 0);
        (void)snprintf(path, sizeof path, "%s/mulund.db-wal", f->folder);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, "log", 3), 3);
        (void)close(fd);
        assert_true(store_open(f->folder, &f->store, &err) < 0);
        assert_int_equal(access(path, F_OK), 0);
        f->store = NULL;
}

/* ---- the writer */

struct order {
        pthread_mutex_t lock;
        int64_t ids[1000];
        int results[1000];
        size_t n;
};

static void note_order(struct write *w, int r, const struct error *err _unused_)
{
        struct order *o = w->user;

        (void)pthread_mutex_lock(&o->lock);
        o->results[o->n] = r;
        o->ids[o->n++] = w->ret_id;
        (void)pthread_mutex_unlock(&o->lock);
}

static void writes_complete_in_order_and_a_failing_one_alone(void **state)
{
        struct fixture *f = *state;
        static struct order o = {.lock = PTHREAD_MUTEX_INITIALIZER};

        for (int i = 0; i < 1000; i++) {
                struct write *w;

                if (i % 10 == 7) {
                        w = write_new(WRITE_JOB_TRANSITION);
                        w->job = 100000;
                } else {
                        w = job_write("x", JOB_TRAIN, NULL);
                }
                w->done = note_order;
                w->user = &o;
                store_submit(f->store, w);
        }
        (void)new_job(f, "after all", JOB_TRAIN, NULL);
        assert_int_equal(o.n, 1000);
        int64_t last = 0;

        for (size_t i = 0; i < o.n; i++) {
                assert_int_equal(o.results[i], i % 10 == 7 ? -ENOENT : 0);
                if (i % 10 == 7)
                        continue;
                assert_int_equal(o.ids[i], last + 1);
                last = o.ids[i];
        }
}

static void each_commit_has_a_stamp_and_nothing_else_has(void **state)
{
        struct fixture *f = *state;

        for (int i = 0; i < 20; i++) {
                int64_t before = store_stamp(f->store), after, id = new_job(f, "x", JOB_TRAIN, NULL);
                struct job_row j;

                after = store_stamp(f->store); /* a commit is over when it is told */
                assert_true(before > 0 && after > 0 && after != before);
                assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
                job_row_done(&j);
                assert_true(store_stamp(f->store) == after);
        }
}

static void transition_checks_the_state_it_comes_from(void **state)
{
        struct fixture *f = *state;
        struct job_row j;
        int64_t id = new_job(f, "x", JOB_TRAIN, NULL);

        assert_int_equal(transition(f, id, JOB_RUNNING, JOB_SUCCEEDED), -EAGAIN);
        assert_int_equal(transition(f, id, JOB_QUEUED, JOB_RUNNING), 0);
        assert_int_equal(transition(f, id, JOB_QUEUED, JOB_RUNNING), -EAGAIN);
        assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
        assert_int_equal(j.state, JOB_RUNNING);
        job_row_done(&j);
}

static void transition_with_events_is_one(void **state)
{
        struct fixture *f = *state;
        struct job_row j;
        int64_t id = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, id, 0);
        struct event e = plain(EVENT_PROGRESS, 1, 10);
        struct write *w = events_write(attempt, &e, 1);

        w->job = id;
        w->from = JOB_RUNNING; /* it is queued */
        w->to = JOB_SUCCEEDED;
        w->trigger = "done";
        assert_int_equal(store_write(f->store, w, NULL, NULL), -EAGAIN);
        assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
        assert_int_equal(j.step, 0); /* the event is undone too */
        job_row_done(&j);
        w = events_write(attempt, &e, 1);
        w->job = id;
        w->from = JOB_QUEUED;
        w->to = JOB_SUCCEEDED;
        w->trigger = "done";
        w->row.result = json_pack("{s:f}", "bpd", 3.5);
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
        assert_int_equal(j.step, 10);
        assert_int_equal(j.state, JOB_SUCCEEDED);
        assert_true(json_real_value(json_object_get(j.result, "bpd")) == 3.5);
        job_row_done(&j);
}

/* ---- events and curves */

static int last_attempt(const struct attempt_row *a, void *user)
{
        *(struct attempt_row *)user = *a;
        return 0;
}

static void duplicates_are_dropped(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct attempt_row a;
        struct curve c;

        assert_int_equal(send(f, attempt, plain(EVENT_START, 1, 0)), 0);
        for (int again = 0; again < 3; again++)
                assert_int_equal(send(f, attempt, scalars(2, 0, 100, "train/bpd", identity)), 0);
        struct event both[] = {scalars(2, 0, 100, "train/bpd", identity), scalars(3, 100, 50, "train/bpd", identity)};

        assert_int_equal(store_write(f->store, events_write(attempt, both, 2), NULL, NULL), 0);
        assert_int_equal(reader_curve(f->reader, job, "train/bpd", 0, INT64_MAX, 1000, &c, NULL), 0);
        assert_int_equal(c.points_total, 150);
        curve_done(&c);
        assert_int_equal(reader_attempts(f->reader, job, last_attempt, &a, NULL), 0);
        assert_int_equal(a.last_seq, 3);
}

/* ---- artifacts, jobs, data sets */

static int count_artifact(const struct artifact_row *a _unused_, void *user)
{
        ++*(int *)user;
        return 0;
}

static int64_t add_artifact(struct fixture *f, int64_t attempt, int64_t seq, int64_t step)
{
        struct event e = plain(EVENT_ARTIFACT, seq, step);
        char name[32];

        (void)snprintf(name, sizeof name, "step-%lld.safetensors", (long long)step);
        e.name = strdup(name);
        e.metric = (double)step;
        assert_int_equal(send(f, attempt, e), 0);
        return 0;
}

static void artifacts_are_marked_before_they_go(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct artifact_row a;
        struct attempt_row row;
        struct write *w;
        int n = 0;

        for (int i = 1; i <= 3; i++)
                (void)add_artifact(f, attempt, i, 10 * i);
        (void)add_artifact(f, attempt, 4, 20); /* written again: one row */
        assert_int_equal(reader_artifacts(f->reader, job, ARTIFACT_CHECKPOINT, count_artifact, &n, NULL), 0);
        assert_int_equal(n, 3);
        assert_int_equal(reader_attempts(f->reader, job, last_attempt, &row, NULL), 0);
        assert_int_equal(row.checkpoints, 4);
        assert_int_equal(reader_marked_artifact(f->reader, 0, &a, NULL), -ENOENT);
        w = write_new(WRITE_ARTIFACT_MARK);
        w->artifact = 1;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_artifact(f->reader, 1, &a, NULL), -ENOENT);
        assert_int_equal(reader_marked_artifact(f->reader, 0, &a, NULL), 0);
        assert_int_equal(a.step, 10);
        w = write_new(WRITE_ARTIFACT_REMOVE);
        w->artifact = 1;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_marked_artifact(f->reader, 0, &a, NULL), -ENOENT);
}

static void removing_a_job_removes_all_of_it(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, "[\"t\"]"), attempt = new_attempt(f, job, 0), marked;
        struct job_row j;
        struct write *w;
        struct curve c;

        assert_int_equal(send(f, attempt, scalars(1, 0, 100, "a", identity)), 0);
        (void)add_artifact(f, attempt, 2, 10);
        w = write_new(WRITE_JOB_MARK);
        w->job = job;
        assert_int_equal(store_write(f->store, w, NULL, NULL), -EBUSY);
        assert_int_equal(transition(f, job, JOB_QUEUED, JOB_CANCELLED), 0);
        w = write_new(WRITE_JOB_MARK);
        w->job = job;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_job(f->reader, job, &j, NULL), -ENOENT);
        assert_int_equal(reader_marked_job(f->reader, 0, &marked, NULL), 0);
        assert_int_equal(marked, job);
        w = write_new(WRITE_JOB_REMOVE);
        w->job = job;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_marked_job(f->reader, 0, &marked, NULL), -ENOENT);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, 100, 10, &c, NULL), -ENOENT);
        assert_true(new_job(f, "y", JOB_TRAIN, NULL) > job); /* its id is not used again */
}

static void reopened_job_keeps_its_past(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct write *w = write_new(WRITE_JOB_REOPEN);
        struct job_row j;

        assert_int_equal(send(f, attempt, plain(EVENT_PROGRESS, 1, 100)), 0);
        w->job = job;
        w->from = JOB_FAILED;
        assert_int_equal(store_write(f->store, w, NULL, NULL), -EAGAIN);
        assert_int_equal(transition(f, job, JOB_QUEUED, JOB_CANCELLED), 0);
        w = write_new(WRITE_JOB_REOPEN);
        w->job = job;
        w->from = JOB_CANCELLED;
        w->row.steps = 5000;
        w->row.config = json_pack("{s:i}", "new", 1);
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_job(f->reader, job, &j, NULL), 0);
        assert_true(j.state == JOB_QUEUED && j.steps == 5000 && j.attempts == 1 && j.step == 100 && j.ended_us == 0);
        assert_non_null(json_object_get(j.config, "new"));
        job_row_done(&j);
}

/* ---- what a person does to a job */

static int note_ready(const struct job_row *j, void *user)
{
        struct buf *b = user;

        assert_null(j->config); /* nobody needs it, and it takes time */
        (void)buf_printf(b, NULL, "%lld ", (long long)j->id);
        return j->id == 99;
}

static void expect_ready(struct fixture *f, const char *expected)
{
        struct buf b = BUF_INIT(4096);
        struct job_row j;
        int64_t first = 0, before = 0, n = 0;

        assert_int_equal(buf_append(&b, "", 0, NULL), 0);
        assert_int_equal(reader_ready(f->reader, false, note_ready, &b, NULL), 0);
        assert_string_equal(b.data, expected);
        assert_int_equal(reader_ready_first(f->reader, false, &first, NULL), *expected ? 0 : -ENOENT);
        assert_int_equal(first, strtoll(expected, NULL, 10));
        for (char *p = b.data; *p; p = strchr(p, ' ') + 1, n++) {
                assert_int_equal(reader_job(f->reader, strtoll(p, NULL, 10), &j, NULL), 0);
                assert_int_equal(reader_ready_before(f->reader, &j, 100, &before, NULL), 0);
                assert_int_equal(before, n);
                job_row_done(&j);
        }
        buf_done(&b);
}

static void ready_jobs_come_by_priority_then_id(void **state)
{
        struct fixture *f = *state;
        int64_t id;

        expect_ready(f, "");
        for (int64_t i = 1; i <= 5; i++)
                assert_int_equal(new_job_after(f, i == 2 ? -1 : i == 4 ? 7 : 0, 0, 0), i);
        expect_ready(f, "4 1 3 5 2 ");
        assert_int_equal(transition(f, 1, JOB_QUEUED, JOB_PAUSED), 0);
        assert_int_equal(transition(f, 5, JOB_QUEUED, JOB_RUNNING), 0);
        expect_ready(f, "4 3 2 ");
        assert_int_equal(new_job_after(f, 100, 3, 0), 6);
        assert_int_equal(new_job_after(f, 100, 3, 4), 7);
        expect_ready(f, "4 3 2 "); /* two wait for others */
        assert_int_equal(reader_user_of_job(f->reader, 3, &id, NULL), 0);
        assert_int_equal(id, 6);
        assert_int_equal(transition(f, 3, JOB_QUEUED, JOB_SUCCEEDED), 0);
        expect_ready(f, "6 4 2 ");
        assert_int_equal(reader_user_of_job(f->reader, 3, &id, NULL), -ENOENT);
        assert_int_equal(reader_user_of_job(f->reader, 4, &id, NULL), 0);
        assert_int_equal(id, 7);
        assert_int_equal(transition(f, 4, JOB_QUEUED, JOB_FAILED), 0); /* that does not do */
        expect_ready(f, "6 2 ");
        assert_int_equal(transition(f, 7, JOB_QUEUED, JOB_CANCELLED), 0);
        assert_int_equal(reader_user_of_job(f->reader, 4, &id, NULL), -ENOENT); /* who is over waits for nobody */
        assert_int_equal(new_job_after(f, 0, 77, 0), -1);
        assert_int_equal(new_job_after(f, 0, 3, 0), 8); /* it has succeeded already */
        expect_ready(f, "6 8 2 ");
}

/* ---- who may, and who did */

static struct write *token_write(const char *name, bool out)
{
        struct write *w = write_new(WRITE_TOKEN);

        w->out = out;
        w->token.role = ROLE_SUBMIT;
        w->token.created_us = 5;
        (void)snprintf(w->token.name, sizeof w->token.name, "%s", name);
        (void)snprintf(w->token.salt, sizeof w->token.salt, "salt");
        (void)snprintf(w->token.hash, sizeof w->token.hash, "hash");
        return w;
}

static int count_token(const struct token_row *t _unused_, void *user)
{
        ++*(int *)user;
        return 0;
}

static void a_token_is_there_until_it_is_removed(void **state)
{
        struct fixture *f = *state;
        struct token_row t;
        int n = 0;

        assert_int_equal(reader_token(f->reader, "ci", &t, NULL), -ENOENT);
        assert_int_equal(store_write(f->store, token_write("ci", true), NULL, NULL), -ENOENT);
        assert_int_equal(store_write(f->store, token_write("ci", false), NULL, NULL), 0);
        assert_int_equal(store_write(f->store, token_write("ci", false), NULL, NULL), -EEXIST);
        assert_int_equal(store_write(f->store, token_write("another", false), NULL, NULL), 0);
        assert_int_equal(reader_token(f->reader, "ci", &t, NULL), 0);
        assert_true(t.role == ROLE_SUBMIT && t.created_us == 5);
        assert_string_equal(t.salt, "salt");
        assert_string_equal(t.hash, "hash");
        assert_int_equal(store_write(f->store, token_write("ci", true), NULL, NULL), 0);
        assert_int_equal(reader_token(f->reader, "ci", &t, NULL), -ENOENT);
        assert_int_equal(reader_tokens(f->reader, count_token, &n, NULL), 0);
        assert_int_equal(n, 1);
}

static struct write *session_write(int i, const char *token, int64_t until_us, int64_t now_us, bool out)
{
        struct write *w = write_new(WRITE_SESSION);

        w->out = out;
        w->time_us = now_us;
        w->session = (struct session_row){.uid = i, .until_us = until_us};
        (void)snprintf(w->session.hash, sizeof w->session.hash, "%d", i);
        (void)snprintf(w->session.token, sizeof w->session.token, "%s", token);
        return w;
}

static bool has_session(struct fixture *f, int i, int64_t now_us)
{
        struct session_row s;
        char hash[65];

        (void)snprintf(hash, sizeof hash, "%d", i);
        if (reader_session(f->reader, hash, now_us, &s, NULL) < 0)
                return false;
        assert_true(s.uid == i && s.until_us > now_us);
        assert_string_equal(s.hash, hash);
        return true;
}

static void a_session_is_there_until_its_end_its_tokens_or_that_of_a_crowd(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(store_write(f->store, token_write("ci", false), NULL, NULL), 0);
        assert_int_equal(store_write(f->store, session_write(1, "", 100, 0, false), NULL, NULL), 0);
        assert_int_equal(store_write(f->store, session_write(2, "ci", 200, 0, false), NULL, NULL), 0);
        assert_int_equal(store_write(f->store, session_write(3, "other", 200, 0, false), NULL, NULL), 0);
        fixture_close(f);
        fixture_open(f);
        assert_true(has_session(f, 1, 99) && !has_session(f, 1, 100) && has_session(f, 2, 100) &&
                    !has_session(f, 4, 0));
        assert_int_equal(store_write(f->store, session_write(3, "", 0, 100, true), NULL, NULL), 0);
        assert_true(!has_session(f, 3, 0) && !has_session(f, 1, 0) && has_session(f, 2, 0));        /* 1 was over */
        assert_int_equal(store_write(f->store, session_write(3, "", 0, 100, true), NULL, NULL), 0); /* again: nothing */
        assert_int_equal(store_write(f->store, token_write("ci", true), NULL, NULL), 0);
        assert_int_equal(store_write(f->store, token_write("ci", false), NULL, NULL), 0);
        assert_false(has_session(f, 2, 0));
        for (int i = 0; i < SESSIONS_MAX + 2; i++)
                assert_int_equal(store_write(f->store, session_write(i, "", 1000 + i, 0, false), NULL, NULL), 0);
        assert_true(!has_session(f, 0, 0) && !has_session(f, 1, 0) && has_session(f, 2, 0));
}

static int note_delivery(const struct delivery_row *d, void *user)
{
        return buf_printf(user, NULL, "%s:%lld:%lld:%s ", d->hook, (long long)d->event, (long long)d->code, d->detail);
}

static void of_each_hook_the_last_deliveries_are_kept(void **state)
{
        struct fixture *f = *state;
        struct buf b = BUF_INIT(4096);
        int64_t attempts = -1;

        for (int i = 0; i < DELIVERIES_MAX + 5; i++) {
                struct write *w = write_new(WRITE_DELIVERY);

                w->delivery = (struct delivery_row){.event = i, .attempt = i % 7, .code = i % 2 ? 200 : 0};
                (void)snprintf(w->delivery.hook, sizeof w->delivery.hook, "%s", i == 2 ? "rare" : "often");
                (void)snprintf(w->delivery.detail, sizeof w->delivery.detail, "%s", i % 2 ? "" : "gone");
                store_submit(f->store, w);
        }
        (void)new_job(f, "after all", JOB_TRAIN, NULL);
        assert_int_equal(count(f, "SELECT count(*) FROM delivery WHERE hook = 'often'"), DELIVERIES_MAX);
        assert_int_equal(count(f, "SELECT min(event) FROM delivery WHERE hook = 'often'"), 5);
        assert_int_equal(reader_deliveries(f->reader, "often", INT64_MAX, 2, note_delivery, &b, NULL), 0);
        assert_int_equal(reader_deliveries(f->reader, "rare", INT64_MAX, 9, note_delivery, &b, NULL), 0);
        assert_int_equal(reader_deliveries(f->reader, "none", INT64_MAX, 9, note_delivery, &b, NULL), 0);
        assert_string_equal(b.data, "often:1004:0:gone often:1003:200: rare:2:0:gone ");
        assert_int_equal(reader_delivery_attempts(f->reader, "often", 1003, &attempts, NULL), 0);
        assert_int_equal(attempts, 1003 % 7);
        assert_int_equal(reader_delivery_attempts(f->reader, "often", 2, &attempts, NULL), 0);
        assert_int_equal(attempts, 0);
        buf_done(&b);
}

static int note_audit(const struct audit_row *a, void *user)
{
        return buf_printf(user, NULL, "%s:%lld:%lld:%s ", a->action, (long long)a->job, (long long)a->uid, a->token);
}

static int write_asked(struct fixture *f, struct write *w, const char *action, int64_t job)
{
        w->audit = (struct audit_row){.time_us = 1, .job = job, .uid = job ? 7 : -1};
        (void)snprintf(w->audit.action, sizeof w->audit.action, "%s", action);
        (void)snprintf(w->audit.token, sizeof w->audit.token, "ci");
        return store_write(f->store, w, NULL, NULL);
}

static void a_change_and_who_asked_for_it_are_one(void **state)
{
        struct fixture *f = *state;
        struct write *w = write_new(WRITE_JOB_NEW);
        struct buf b = BUF_INIT(4096);

        w->row.name = strdup("n");
        assert_int_equal(write_asked(f, w, "new", 0), 0);
        assert_int_equal(write_asked(f, change_write(1, CHANGE_NAME, 1), "set", 1), 0);
        assert_int_equal(write_asked(f, change_write(1, CHANGE_NAME, 1), "late", 1), -ESTALE); /* it has not changed */
        assert_int_equal(write_asked(f, write_new(WRITE_AUDIT), "stop", 0), 0);
        assert_int_equal(store_write(f->store, change_write(1, CHANGE_NAME, 0), NULL, NULL), 0); /* nobody's */
        assert_int_equal(reader_audit(f->reader, 0, 100, note_audit, &b, NULL), 0);
        assert_string_equal(b.data, "new:1:-1:ci set:1:7:ci stop:0:-1:ci ");
        buf_clear(&b);
        assert_int_equal(reader_audit(f->reader, 1, 1, note_audit, &b, NULL), 0);
        assert_string_equal(b.data, "set:1:7:ci ");
        buf_done(&b);
}

static void many_jobs_move_in_parts_and_are_one_change(void **state)
{
        struct fixture *f = *state;
        struct write *w = write_new(WRITE_JOBS_MOVE);
        struct buf b = BUF_INIT(4096);
        int64_t id;

        w->ids = calloc(2503, sizeof *w->ids);
        for (int i = 0; i < 2500; i++)
                w->ids[w->n_ids++] = new_job(f, "n", JOB_TRAIN, NULL);
        w->ids[w->n_ids++] = 77777; /* there is none */
        assert_int_equal(transition(f, 3, JOB_QUEUED, JOB_RUNNING), 0);
        assert_int_equal(transition(f, 4, JOB_QUEUED, JOB_PAUSED), 0);
        assert_int_equal(transition(f, 5, JOB_QUEUED, JOB_FAILED), 0);
        w->to = JOB_CANCELLED;
        w->trigger = "cancel";
        w->time_us = 9;
        assert_int_equal(write_asked(f, w, "many", 0), 0);
        assert_int_equal(count(f, "SELECT count(*) FROM job WHERE state = 4 AND ended_us = 9"), 2498); /* not 3 and 5 */
        assert_int_equal(count(f, "SELECT n FROM job_count WHERE state = 4 AND kind = 0"), 2498);
        assert_int_equal(count(f, "SELECT count(*) FROM job_event WHERE trigger = 'cancel'"), 2498);
        assert_int_equal(reader_audit(f->reader, 0, 100, note_audit, &b, NULL), 0);
        assert_string_equal(b.data, "many:0:-1:ci ");
        assert_int_equal(reader_ready_first(f->reader, false, &id, NULL), -ENOENT);
        buf_done(&b);
}

static int64_t before_of(struct fixture *f, int64_t job, int64_t max)
{
        struct job_row j;
        int64_t before = -1;

        assert_int_equal(reader_job(f->reader, job, &j, NULL), 0);
        assert_int_equal(reader_ready_before(f->reader, &j, max, &before, NULL), 0);
        job_row_done(&j);
        return before;
}

static void who_is_far_back_is_not_counted_again_for_half_a_second(void **state)
{
        struct fixture *f = *state;

        for (int64_t i = 1; i <= 5; i++)
                assert_int_equal(new_job_after(f, 0, 0, 0), i);
        assert_int_equal(before_of(f, 5, 3), 3);
        assert_int_equal(before_of(f, 4, 3), 3);
        assert_int_equal(before_of(f, 3, 3), 2);
        assert_int_equal(before_of(f, 5, 100), 4);
        assert_int_equal(before_of(f, 5, 3), 3);
        assert_int_equal(new_job_after(f, 1, 0, 0), 6); /* it comes first: others are not nearer for that */
        assert_int_equal(before_of(f, 6, 3), 0);
        assert_int_equal(before_of(f, 3, 3), 3);
        for (int64_t i = 1; i <= 4; i++)
                assert_int_equal(transition(f, i, JOB_QUEUED, JOB_CANCELLED), 0);
        assert_int_equal(before_of(f, 5, 3), 3);
        assert_int_equal(usleep(600000), 0);
        assert_int_equal(before_of(f, 5, 3), 1);
}

static void a_change_is_of_what_it_names_and_of_one_version(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "old", JOB_TRAIN, "[\"a\"]");
        struct job_row j;

        assert_int_equal(
                store_write(f->store, change_write(job, CHANGE_PRIORITY | CHANGE_LIMIT << LIMIT_STEPS, 1), NULL, NULL),
                0);
        assert_int_equal(store_write(f->store, change_write(job, CHANGE_NAME, 1), NULL, NULL), -ESTALE);
        assert_int_equal(store_write(f->store, change_write(77, CHANGE_NAME, 0), NULL, NULL), -ENOENT);
        assert_int_equal(reader_job(f->reader, job, &j, NULL), 0);
        assert_string_equal(j.name, "old");
        assert_true(j.version == 2 && j.priority == 5 && j.limits.of[LIMIT_STEPS] == 100 &&
                    j.limits.of[LIMIT_WALL] == 0);
        job_row_done(&j);
        assert_int_equal(transition(f, job, JOB_QUEUED, JOB_CANCELLED), 0);
        assert_int_equal(store_write(f->store, change_write(job, CHANGE_LIMIT << LIMIT_WALL, 0), NULL, NULL), -EAGAIN);
        assert_int_equal(store_write(f->store, change_write(job, CHANGE_NAME | CHANGE_TAGS, 2), NULL, NULL), 0);
        assert_int_equal(reader_job(f->reader, job, &j, NULL), 0);
        assert_string_equal(j.name, "new");
        assert_string_equal(json_string_value(json_array_get(j.tags, 0)), "b");
        job_row_done(&j);
}

static void an_outcome_stands_in_the_row_of_its_attempt(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 3);
        struct write *w = write_new(WRITE_JOB_STOP);
        struct event e = plain(EVENT_STOPPED, 1, 40);
        struct job_row j;

        w->job = job;
        w->row.stop_requested = STOP_PAUSE;
        assert_int_equal(store_write(f->store, w, NULL, NULL), -EAGAIN); /* it does not run */
        assert_int_equal(transition(f, job, JOB_QUEUED, JOB_RUNNING), 0);
        w = write_new(WRITE_JOB_STOP);
        w->job = job;
        w->row.stop_requested = STOP_PAUSE;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_job(f->reader, job, &j, NULL), 0);
        assert_int_equal(j.stop_requested, STOP_PAUSE);
        job_row_done(&j);
        expect_attempts(f, job, "1:::::[]:1:0\n");
        w = events_write(attempt, &e, 1);
        w->job = job;
        w->from = JOB_RUNNING;
        w->to = JOB_PAUSED;
        w->trigger = "pause";
        w->attempt_row = (struct attempt_row){.outcome = OUTCOME_STOPPED,
                                              .stop = STOP_PAUSE,
                                              .class = "host",
                                              .blame = "host",
                                              .detail = strdup("why")};
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        expect_attempts(f, job, "1:stopped:pause:host:host:[]:1:1\n");
        assert_int_equal(reader_job(f->reader, job, &j, NULL), 0);
        assert_true(j.state == JOB_PAUSED && j.stop_requested == STOP_NONE);
        assert_string_equal(j.moved_by, "pause");
        assert_string_equal(j.moved_why, "");
        job_row_done(&j);
}

static int count_dataset(const struct dataset_row *d _unused_, void *user)
{
        ++*(int *)user;
        return 0;
}

static void an_import_has_no_configuration(void **state)
{
        struct fixture *f = *state;
        struct write *w = write_new(WRITE_JOB_NEW);
        struct job_row j;
        int64_t id;

        w->row.kind = JOB_IMPORT;
        w->row.name = strdup("mine");
        w->row.import = json_pack("{s:s}", "what", "dataset");
        assert_int_equal(store_write(f->store, w, &id, NULL), 0);
        assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
        assert_int_equal(j.kind, JOB_IMPORT);
        assert_int_equal(json_object_size(j.config), 0);
        assert_string_equal(json_string_value(json_object_get(j.import, "what")), "dataset");
        job_row_done(&j);
}

static void data_sets_are_replaced_and_cleared(void **state)
{
        struct fixture *f = *state;
        struct dataset_row d;
        int n = 0;

        for (int i = 0; i < 2; i++) {
                struct write *w = write_new(WRITE_DATASET);

                w->dataset =
                        (struct dataset_row){.name = "photos32", .path = "/x", .format = "cifar10", .n_train = 10 + i};
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        }
        assert_int_equal(reader_dataset(f->reader, "photos32", &d, NULL), 0);
        assert_int_equal(d.n_train, 11);
        assert_false(d.imported);
        struct write *imported = write_new(WRITE_DATASET);

        imported->dataset = (struct dataset_row){.name = "imported",
                                                 .path = "/y",
                                                 .format = "images",
                                                 .source = "tfrecord",
                                                 .mean = {1.5, 2, 255},
                                                 .imported = true};
        assert_int_equal(store_write(f->store, imported, NULL, NULL), 0);
        assert_int_equal(reader_dataset(f->reader, "imported", &d, NULL), 0);
        assert_true(d.imported && d.mean[0] == 1.5 && d.mean[1] == 2 && d.mean[2] == 255);
        assert_string_equal(d.source, "tfrecord");
        assert_int_equal(reader_dataset(f->reader, "other", &d, NULL), -ENOENT);
        for (int i = 0; i < 2; i++) { /* that it is gone already is no failure */
                struct write *w = write_new(WRITE_DATASET_REMOVE);

                w->dataset = (struct dataset_row){.name = "imported"};
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
                assert_int_equal(reader_dataset(f->reader, "imported", &d, NULL), -ENOENT);
        }
        assert_int_equal(store_write(f->store, write_new(WRITE_DATASETS_CLEAR), NULL, NULL), 0);
        assert_int_equal(reader_datasets(f->reader, count_dataset, &n, NULL), 0);
        assert_int_equal(n, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                FIXTURE(every_statement_searches_by_index),
                FIXTURE(opens_again_with_what_it_had),
                FIXTURE(newer_schema_is_refused),
                FIXTURE(every_job_has_an_identity_of_its_own),
                FIXTURE(an_import_has_no_configuration),
                FIXTURE(ids_below_are_never_given),
                FIXTURE(who_writes_does_not_wait_for_who_reads),
                FIXTURE(foreign_database_is_refused),
                FIXTURE(damaged_file_is_refused_and_left_as_it_is),
                FIXTURE(missing_file_beside_its_log_is_refused),
                FIXTURE(writes_complete_in_order_and_a_failing_one_alone),
                FIXTURE(each_commit_has_a_stamp_and_nothing_else_has),
                FIXTURE(transition_checks_the_state_it_comes_from),
                FIXTURE(transition_with_events_is_one),
                FIXTURE(duplicates_are_dropped),
                FIXTURE(artifacts_are_marked_before_they_go),
                FIXTURE(removing_a_job_removes_all_of_it),
                FIXTURE(reopened_job_keeps_its_past),
                FIXTURE(ready_jobs_come_by_priority_then_id),
                FIXTURE(a_token_is_there_until_it_is_removed),
                FIXTURE(a_session_is_there_until_its_end_its_tokens_or_that_of_a_crowd),
                FIXTURE(of_each_hook_the_last_deliveries_are_kept),
                FIXTURE(a_change_and_who_asked_for_it_are_one),
                FIXTURE(many_jobs_move_in_parts_and_are_one_change),
                FIXTURE(who_is_far_back_is_not_counted_again_for_half_a_second),
                FIXTURE(a_change_is_of_what_it_names_and_of_one_version),
                FIXTURE(an_outcome_stands_in_the_row_of_its_attempt),
                FIXTURE(data_sets_are_replaced_and_cleared),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
