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

                        if ((!strncmp(detail, "SCAN", 4) && !strstr(detail, ":M2")) || strstr(detail, "TEMP B-TREE"))
                                fail_msg("%s: %s", statements[i].name, detail);
                }
                (void)sqlite3_finalize(st);
                sqlite3_free(sql);
        }
        (void)sqlite3_close(db);
}

/* ---- files */

static void run_sql(const struct fixture *f, const char *sql)
{
        char path[100];
        sqlite3 *db;

        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        (void)sqlite3_close(db);
}

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

        fixture_close(f);
        run_sql(f, "PRAGMA user_version = 99");
        assert_true(store_open(f->folder, &f->store, &err) < 0);
        assert_non_null(strstr(err.text, "newer"));
        run_sql(f, "PRAGMA user_version = 5");
        fixture_open(f);
}

/* The file of a release, which its build made, as text. */
static void load_release(const struct fixture *f, const char *more)
{
        const char *source = getenv("TEST_RELEASE");
        struct buf b = BUF_INIT(1 << 20);
        char path[120];
        struct error err;

        assert_non_null(source);
        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        (void)unlink(path);
        if (file_read(source, &b, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
        run_sql(f, b.data);
        run_sql(f, more);
        buf_done(&b);
}

static int note_attempt(const struct attempt_row *a, void *user)
{
        struct buf *b = user;
        _cleanup_(freep) char *devices = json_to_text(a->devices);

        return buf_printf(b, NULL, "%lld:%s:%s:%s:%s:%s:%lld:%zu\n", (long long)a->number,
                          attempt_outcome_names[a->outcome], stop_reason_names[a->stop], a->class, a->blame, devices,
                          (long long)a->ranks, strlen(a->detail) ? (size_t)1 : 0);
}

static void expect_attempts(struct fixture *f, int64_t job, const char *expected)
{
        struct buf b = BUF_INIT(4096);

        assert_int_equal(buf_append(&b, "", 0, NULL), 0);
        assert_int_equal(reader_attempts(f->reader, job, note_attempt, &b, NULL), 0);
        assert_string_equal(b.data, expected);
        buf_done(&b);
}

static void a_database_of_the_release_before_is_migrated(void **state)
{
        struct fixture *f = *state;
        struct job_row j;
        int64_t id;

        fixture_close(f);
        load_release(f, "UPDATE job SET cancel_requested = 1 WHERE id = 3");
        fixture_open(f);
        assert_int_equal(reader_job(f->reader, 1, &j, NULL), 0);
        assert_string_equal(j.name, "first of the release before");
        assert_string_equal(j.dataset, "scripted");
        assert_string_equal(j.notes, "");
        assert_true(j.state == JOB_SUCCEEDED && j.priority == 0 && j.version == 1 && j.unmet == 0 && j.n_after == 0);
        assert_int_equal(json_array_size(j.tags), 2);
        job_row_done(&j);
        assert_int_equal(reader_job(f->reader, 3, &j, NULL), 0);
        assert_true(j.state == JOB_RUNNING && j.stop_requested == STOP_CANCEL && j.attempts == 2);
        job_row_done(&j);
        expect_attempts(f, 1, "1:done::::[\"cpu\"]:1:0\n");
        expect_attempts(f, 2, "1:failed::numeric:job:[\"cpu\"]:1:0\n");
        expect_attempts(f, 3, "1:failed::::[\"cpu\"]:1:1\n2:::::[\"cpu\"]:1:0\n");
        assert_int_equal(reader_ready_first(f->reader, false, &id, NULL), 0);
        assert_int_equal(id, 4);
        assert_int_equal(reader_user_of_checkpoint(f->reader, 1, 30, &id, NULL), 0);
        assert_int_equal(id, 5);
        assert_int_equal(reader_user_of_dataset(f->reader, "coming", true, &id, NULL), 0);
        assert_int_equal(id, 8);
        assert_int_equal(reader_user_of_dataset(f->reader, "coming", false, &id, NULL), -ENOENT);
        assert_int_equal(new_job(f, "new", JOB_TRAIN, NULL), 9);
}

static void what_was_before_a_migration_is_kept(void **state)
{
        struct fixture *f = *state;
        char path[120];
        sqlite3 *db;
        sqlite3_stmt *st;

        fixture_close(f);
        load_release(f, "");
        (void)snprintf(path, sizeof path, "%s/mulund.db.schema-3.new", f->folder);
        assert_int_equal(mkdir(path, 0700), 0);
        (void)strcat(path, "/full");
        assert_int_equal(mkdir(path, 0700), 0); /* nothing can be made there */
        assert_true(store_open(f->folder, &f->store, NULL) < 0);
        assert_int_equal(rmdir(path), 0);
        *strrchr(path, '/') = 0;
        assert_int_equal(rmdir(path), 0);
        run_sql(f, "SELECT cancel_requested FROM job"); /* it was left as it was */
        fixture_open(f);
        *strrchr(path, '.') = 0;
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(cancel_requested), (SELECT count(*) FROM point) FROM job",
                                            -1, &st, NULL),
                         SQLITE_OK);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(st, 0), 8);
        assert_int_equal(sqlite3_column_int(st, 1), 56);
        (void)sqlite3_finalize(st);
        (void)sqlite3_close(db);
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

static int one_series(const struct series_row *s, void *user)
{
        *(struct series_row *)user = *s;
        return 0;
}

static double negative(int64_t step)
{
        return -(double)step - 1;
}

static void later_attempt_supersedes_the_tail(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), first = new_attempt(f, job, 0), second;
        struct series_row s;
        struct curve c;

        assert_int_equal(send(f, first, plain(EVENT_START, 1, 0)), 0);
        assert_int_equal(send(f, first, scalars(2, 0, 100, "a", identity)), 0);
        second = new_attempt(f, job, 80); /* has not said anything: hides nothing */
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 1000, &c, NULL), 0);
        assert_int_equal(c.points_total, 100);
        curve_done(&c);
        assert_int_equal(send(f, second, plain(EVENT_START, 1, 50)), 0); /* from an older checkpoint than was offered */
        assert_int_equal(reader_series(f->reader, job, one_series, &s, NULL), 0);
        assert_int_equal(s.points, 50);
        assert_int_equal(s.last_step, 49);
        assert_true(s.max == 49);
        assert_int_equal(send(f, second, scalars(2, 50, 20, "a", negative)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 1000, &c, NULL), 0);
        assert_int_equal(c.points_total, 70);
        for (size_t i = 0; i < c.n; i++) {
                assert_int_equal(c.step[i], i);
                assert_true(c.last[i] == (i < 50 ? identity((int64_t)i) : negative((int64_t)i)));
        }
        curve_done(&c);
        assert_int_equal(reader_series(f->reader, job, one_series, &s, NULL), 0);
        assert_int_equal(s.points, 70);
        assert_true(s.min == -70 && s.max == 49 && s.last == -70);
}

/* The points themselves, some at a time. */
static void points_are_read_behind_a_place(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), first = new_attempt(f, job, 0), second;
        struct point_place place = POINTS_BEGIN;
        struct point p[30];
        size_t n = 0, seen = 0;

        assert_int_equal(send(f, first, plain(EVENT_START, 1, 0)), 0);
        assert_int_equal(send(f, first, scalars(2, 0, 100, "a", identity)), 0);
        second = new_attempt(f, job, 50);
        assert_int_equal(send(f, second, plain(EVENT_START, 1, 50)), 0);
        assert_int_equal(send(f, second, scalars(2, 50, 20, "a", negative)), 0);
        do {
                assert_int_equal(reader_points_behind(f->reader, job, "a", &place, 30, p, &n, NULL), 0);
                for (size_t i = 0; i < n; i++, seen++) {
                        assert_int_equal(p[i].step, seen);
                        assert_true(p[i].value == (seen < 50 ? identity(p[i].step) : negative(p[i].step)));
                }
        } while (n == 30);
        assert_int_equal(seen, 70);
        assert_int_equal(reader_points_behind(f->reader, job, "a", &place, 30, p, &n, NULL), 0);
        assert_int_equal(n, 0);
        assert_int_equal(reader_points_behind(f->reader, job, "b", &place, 30, p, &n, NULL), -ENOENT);
}

static double spiky(int64_t step)
{
        return step == 777 ? 1e300 : step == 778 ? -1e300 : step % 100 == 3 ? NAN : step == 1500 ? INFINITY : 1.0;
}

static void buckets_keep_spikes_and_what_is_not_a_number(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct series_row s;
        struct curve c;
        double min = 0, max = 0;
        int64_t count = 0;

        assert_int_equal(send(f, attempt, scalars(1, 0, 3000, "a", spiky)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 100, &c, NULL), 0);
        assert_int_equal(c.bucket_width, 32);
        assert_true(c.n <= 100);
        assert_int_equal(c.points_total, 3000);
        for (size_t i = 0; i < c.n; i++) {
                min = fmin(min, c.min[i]);
                max = fmax(max, c.max[i]);
                count += c.count[i];
                assert_true(isfinite(c.mean[i]));
        }
        assert_true(min == -1e300 && max == 1e300 && count == 3000);
        curve_done(&c);
        /* alone in its bucket it is itself */
        assert_int_equal(reader_curve(f->reader, job, "a", 103, 103, 100, &c, NULL), 0);
        assert_int_equal(c.n, 1);
        assert_true(isnan(c.last[0]) && isnan(c.min[0]) && isnan(c.mean[0]));
        curve_done(&c);
        assert_int_equal(reader_curve(f->reader, job, "a", 1500, 1500, 100, &c, NULL), 0);
        assert_true(isinf(c.last[0]) && isnan(c.max[0]));
        curve_done(&c);
        assert_int_equal(reader_series(f->reader, job, one_series, &s, NULL), 0);
        assert_true(s.min == -1e300 && s.max == 1e300);
        assert_int_equal(reader_curve(f->reader, job, "a", 5000, 6000, 100, &c, NULL), 0);
        assert_int_equal(c.n, 0);
        curve_done(&c);
        assert_int_equal(reader_curve(f->reader, job, "b", 0, 10, 100, &c, NULL), -ENOENT);
}

static double one(int64_t step _unused_)
{
        return 1;
}

static void equal_steps_are_all_kept_in_order(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct event e = scalars(1, 0, 3, "a", identity);
        struct curve c;

        e.row_step[0] = e.row_step[1] = e.row_step[2] = 5;
        assert_int_equal(send(f, attempt, e), 0);
        assert_int_equal(send(f, attempt, scalars(2, 5, 1, "a", one)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 10, &c, NULL), 0);
        assert_int_equal(c.count[0], 4);
        assert_true(c.last[0] == 1 && c.max[0] == 2);
        curve_done(&c);
}

static void buckets_of_the_same_question_are_the_same(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct curve a, b;

        assert_int_equal(send(f, attempt, scalars(1, 0, 1001, "a", identity)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 300, &a, NULL), 0);
        assert_int_equal(send(f, attempt, scalars(2, 1001, 1, "a", identity)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 300, &b, NULL), 0);
        assert_int_equal(a.bucket_width, b.bucket_width);
        assert_int_equal(a.n, b.n);
        for (size_t i = 0; i + 1 < a.n; i++)
                assert_true(a.step[i] == b.step[i] && a.mean[i] == b.mean[i] && a.count[i] == b.count[i]);
        curve_done(&a);
        curve_done(&b);
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

static int64_t new_job_after(struct fixture *f, int64_t priority, int64_t a, int64_t b)
{
        struct write *w = job_write("x", JOB_TRAIN, NULL);
        int64_t id = 0;

        w->row.priority = priority;
        w->row.after[0] = a;
        w->row.after[1] = b;
        w->row.n_after = (a > 0) + (b > 0);
        return store_write(f->store, w, &id, NULL) < 0 ? -1 : id;
}

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

static struct write *change_write(int64_t job, unsigned change, int64_t version)
{
        struct write *w = write_new(WRITE_JOB_SET);

        w->job = job;
        w->change = change;
        w->row.version = version;
        w->row.name = strdup("new");
        w->row.tags = json_loads("[\"b\"]", 0, NULL);
        w->row.priority = 5;
        w->row.limits = (struct limits_row){60, 100};
        return w;
}

static void a_change_is_of_what_it_names_and_of_one_version(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "old", JOB_TRAIN, "[\"a\"]");
        struct job_row j;

        assert_int_equal(store_write(f->store, change_write(job, CHANGE_PRIORITY | CHANGE_STEPS, 1), NULL, NULL), 0);
        assert_int_equal(store_write(f->store, change_write(job, CHANGE_NAME, 1), NULL, NULL), -ESTALE);
        assert_int_equal(store_write(f->store, change_write(77, CHANGE_NAME, 0), NULL, NULL), -ENOENT);
        assert_int_equal(reader_job(f->reader, job, &j, NULL), 0);
        assert_string_equal(j.name, "old");
        assert_true(j.version == 2 && j.priority == 5 && j.limits.steps == 100 && j.limits.wall_s == 0);
        job_row_done(&j);
        assert_int_equal(transition(f, job, JOB_QUEUED, JOB_CANCELLED), 0);
        assert_int_equal(store_write(f->store, change_write(job, CHANGE_WALL, 0), NULL, NULL), -EAGAIN);
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

struct page {
        int64_t ids[64];
        size_t n;
};

static int note_job(const struct job_row *j, void *user)
{
        struct page *p = user;

        p->ids[p->n++] = j->id;
        return 0;
}

static size_t list(struct fixture *f, struct job_filter filter, struct page *p)
{
        p->n = 0;
        assert_int_equal(reader_jobs(f->reader, &filter, note_job, p, NULL), 0);
        return p->n;
}

#define ANY .states = JOB_ANY, .kinds = JOB_ANY

static void filters_and_cursor_select_jobs(void **state)
{
        struct fixture *f = *state;
        struct page p;

        for (int i = 1; i <= 30; i++) {
                char name[32];

                (void)snprintf(name, sizeof name, "Run %d", i);
                assert_int_equal(new_job(f, name, i % 3 == 0 ? JOB_EVALUATE : JOB_TRAIN,
                                         i % 2 ? "[\"odd\", \"odd\"]" : "[\"even\"]"),
                                 i);
                if (i % 5 == 0)
                        assert_int_equal(transition(f, i, JOB_QUEUED, JOB_CANCELLED), 0);
        }
        assert_int_equal(list(f, (struct job_filter){ANY, .limit = 10}, &p), 10);
        assert_true(p.ids[0] == 30 && p.ids[9] == 21);
        assert_int_equal(list(f, (struct job_filter){ANY, .limit = 50, .bound = 21}, &p), 20);
        assert_int_equal(list(f, (struct job_filter){ANY, .limit = 3, .bound = 5, .order = ORDER_OLDEST}, &p), 3);
        assert_true(p.ids[0] == 6 && p.ids[2] == 8);
        assert_int_equal(list(f, (struct job_filter){1U << JOB_CANCELLED, JOB_ANY, .limit = 50}, &p), 6);
        assert_int_equal(list(f, (struct job_filter){1U << JOB_CANCELLED, 1U << JOB_EVALUATE, .limit = 50}, &p), 2);
        assert_int_equal(list(f, (struct job_filter){1U << JOB_CANCELLED | 1U << JOB_QUEUED, JOB_ANY, .limit = 7}, &p),
                         7);
        assert_true(p.ids[0] == 30 && p.ids[1] == 29 && p.ids[6] == 24);
        assert_int_equal(list(f, (struct job_filter){JOB_ANY, 1U << JOB_EVALUATE, .limit = 50}, &p), 10);
        assert_int_equal(list(f, (struct job_filter){ANY, .tag = "odd", .limit = 50}, &p), 15);
        assert_int_equal(
                list(f, (struct job_filter){1U << JOB_CANCELLED, JOB_ANY, .tag = "odd", .limit = 50, .bound = 25}, &p),
                2);
        assert_int_equal(list(f, (struct job_filter){ANY, .text = "run 2", .limit = 50}, &p), 11);
        assert_int_equal(list(f, (struct job_filter){ANY, .text = "rUn 2", .tag = "odd", .limit = 50}, &p), 5);
        assert_int_equal(list(f, (struct job_filter){ANY, .text = "n 2", .limit = 4, .order = ORDER_OLDEST}, &p), 4);
        assert_true(p.ids[0] == 2 && p.ids[1] == 20);
        assert_int_equal(list(f, (struct job_filter){ANY, .text = " 3", .limit = 50}, &p), 2); /* in no index */
        for (const char *const *odd = (const char *const[]){"%", "%%%", "\"", "\"\"\"", "run\"", "a OR b", "name:run",
                                                            "^run", "*", NULL};
             *odd; odd++)
                assert_int_equal(list(f, (struct job_filter){ANY, .text = *odd, .limit = 50}, &p), 0);
}

static int64_t total(struct fixture *f, struct job_filter filter)
{
        int64_t n = 0;

        assert_int_equal(reader_jobs_total(f->reader, &filter, 3, &n, NULL), 0);
        return n;
}

static void totals_are_kept_through_all_that_happens_to_jobs(void **state)
{
        struct fixture *f = *state;
        struct job_counts c;
        struct write *w;
        int64_t ids[8];

        for (int i = 0; i < 8; i++)
                ids[i] = new_job(f, "name", i % 2 ? JOB_TRAIN : JOB_SAMPLE, i < 4 ? "[\"t\", \"u\"]" : "[\"u\"]");
        assert_int_equal(total(f, (struct job_filter){ANY}), 8);
        assert_int_equal(transition(f, ids[0], JOB_QUEUED, JOB_CANCELLED), 0);
        assert_int_equal(transition(f, ids[1], JOB_QUEUED, JOB_RUNNING), 0);
        assert_int_equal(transition(f, ids[1], JOB_RUNNING, JOB_SUCCEEDED), 0);
        assert_int_equal(total(f, (struct job_filter){1U << JOB_QUEUED, JOB_ANY}), 6);
        assert_int_equal(total(f, (struct job_filter){1U << JOB_CANCELLED | 1U << JOB_SUCCEEDED, JOB_ANY}), 2);
        assert_int_equal(total(f, (struct job_filter){1U << JOB_QUEUED, 1U << JOB_TRAIN}), 3);
        assert_int_equal(total(f, (struct job_filter){ANY, .tag = "t"}), 4);
        w = write_new(WRITE_JOB_MARK);
        w->job = ids[0];
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(total(f, (struct job_filter){ANY}), 7);
        assert_int_equal(total(f, (struct job_filter){ANY, .tag = "t"}), 3);
        w = write_new(WRITE_JOB_REMOVE);
        w->job = ids[0];
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        w = write_new(WRITE_JOB_IDS_ABOVE);
        w->job = 100;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(total(f, (struct job_filter){ANY}), 7);
        w = write_new(WRITE_JOB_REOPEN);
        w->job = ids[1];
        w->from = JOB_SUCCEEDED;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(store_write(f->store, change_write(ids[2], CHANGE_TAGS | CHANGE_NAME, 0), NULL, NULL), 0);
        assert_int_equal(total(f, (struct job_filter){ANY, .tag = "t"}), 2);
        assert_int_equal(total(f, (struct job_filter){ANY, .tag = "b"}), 1);
        assert_int_equal(total(f, (struct job_filter){ANY, .text = "new"}), 1);   /* its name is found as it is now */
        assert_int_equal(total(f, (struct job_filter){ANY, .text = "name"}), -1); /* more than are counted */
        assert_int_equal(reader_job_counts(f->reader, &c, NULL), 0);
        assert_true(c.n[JOB_QUEUED][JOB_TRAIN] == 4 && c.n[JOB_QUEUED][JOB_SAMPLE] == 3 &&
                    c.n[JOB_SUCCEEDED][JOB_TRAIN] == 0);
}

static void check_text_index(const struct fixture *f)
{
        run_sql(f, "INSERT INTO job_text (job_text, rank) VALUES ('integrity-check', 0)");
}

static int rename_job(struct fixture *f, int64_t job, const char *name)
{
        struct write *w = change_write(job, CHANGE_NAME, 0);

        free(w->row.name);
        w->row.name = strdup(name);
        return store_write(f->store, w, NULL, NULL);
}

/* FTS5 calls the whole database malformed when it is told of a text that it never had. */
static void names_come_and_go_and_the_index_with_them(void **state)
{
        static const char *const names[] = {"first of", "", "", "second", "", "third of them"};
        struct fixture *f = *state;
        int64_t job = new_job(f, "", JOB_TRAIN, NULL), named = new_job(f, "named", JOB_TRAIN, NULL);
        struct page p;
        struct write *w;

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                assert_int_equal(rename_job(f, job, names[i]), 0);
                assert_int_equal(rename_job(f, named, names[ARRAY_LEN(names) - 1 - i]), 0);
                check_text_index(f);
                if (*names[i]) {
                        assert_int_equal(
                                list(f, (struct job_filter){ANY, .text = names[i], .order = ORDER_OLDEST, .limit = 1},
                                     &p),
                                1);
                        assert_int_equal(p.ids[0], job);
                }
        }
        assert_int_equal(list(f, (struct job_filter){ANY, .text = "second", .limit = 50}, &p), 0);
        for (int64_t id = job; id <= named; id++) {
                assert_int_equal(transition(f, id, JOB_QUEUED, JOB_CANCELLED), 0);
                w = write_new(WRITE_JOB_MARK);
                w->job = id;
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
                w = write_new(WRITE_JOB_REMOVE);
                w->job = id;
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
                check_text_index(f);
        }
        assert_int_equal(list(f, (struct job_filter){ANY, .text = "third", .limit = 50}, &p), 0);
}

static void the_queue_is_listed_as_it_goes(void **state)
{
        struct fixture *f = *state;
        struct page p;

        for (int64_t i = 1; i <= 9; i++)
                assert_int_equal(new_job_after(f, i % 3 - 1, 0, 0), i); /* priorities 0 1 -1 .. */
        assert_int_equal(list(f, (struct job_filter){1U << JOB_QUEUED, JOB_ANY, .order = ORDER_QUEUE, .limit = 4}, &p),
                         4);
        assert_true(p.ids[0] == 2 && p.ids[1] == 5 && p.ids[2] == 8 && p.ids[3] == 1);
        assert_int_equal(
                list(f, (struct job_filter){1U << JOB_QUEUED, JOB_ANY, .order = ORDER_QUEUE, .limit = 50, .bound = 1},
                     &p),
                5);
        assert_true(p.ids[0] == 4 && p.ids[1] == 7 && p.ids[2] == 3);
        assert_int_equal(list(f,
                              (struct job_filter){1U << JOB_QUEUED, JOB_ANY, .order = ORDER_QUEUE, .limit = 50,
                                                  .bound = 3, .bound_priority = -1},
                              &p),
                         2);
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
                FIXTURE(a_database_of_the_release_before_is_migrated),
                FIXTURE(what_was_before_a_migration_is_kept),
                FIXTURE(every_job_has_an_identity_of_its_own),
                FIXTURE(an_import_has_no_configuration),
                FIXTURE(ids_below_are_never_given),
                FIXTURE(who_writes_does_not_wait_for_who_reads),
                FIXTURE(foreign_database_is_refused),
                FIXTURE(damaged_file_is_refused_and_left_as_it_is),
                FIXTURE(missing_file_beside_its_log_is_refused),
                FIXTURE(writes_complete_in_order_and_a_failing_one_alone),
                FIXTURE(transition_checks_the_state_it_comes_from),
                FIXTURE(transition_with_events_is_one),
                FIXTURE(duplicates_are_dropped),
                FIXTURE(later_attempt_supersedes_the_tail),
                FIXTURE(points_are_read_behind_a_place),
                FIXTURE(buckets_keep_spikes_and_what_is_not_a_number),
                FIXTURE(equal_steps_are_all_kept_in_order),
                FIXTURE(buckets_of_the_same_question_are_the_same),
                FIXTURE(artifacts_are_marked_before_they_go),
                FIXTURE(removing_a_job_removes_all_of_it),
                FIXTURE(reopened_job_keeps_its_past),
                FIXTURE(ready_jobs_come_by_priority_then_id),
                FIXTURE(a_change_is_of_what_it_names_and_of_one_version),
                FIXTURE(an_outcome_stands_in_the_row_of_its_attempt),
                FIXTURE(filters_and_cursor_select_jobs),
                FIXTURE(totals_are_kept_through_all_that_happens_to_jobs),
                FIXTURE(names_come_and_go_and_the_index_with_them),
                FIXTURE(the_queue_is_listed_as_it_goes),
                FIXTURE(data_sets_are_replaced_and_cleared),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
