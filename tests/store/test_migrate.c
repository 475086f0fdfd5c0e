/* Databases that releases made are taken over, with all that is in them, and kept as they were beside it. */
#include "helpers.h"

#include <sys/stat.h>

/* The file of a release, which its build made, as text. */
static void load_release(const struct fixture *f, const char *version, const char *more)
{
        const char *folder = getenv("TEST_RELEASES");
        struct buf b = BUF_INIT(1 << 20);
        char path[120], source[1000];
        struct error err;

        assert_non_null(folder);
        (void)snprintf(source, sizeof source, "%s/release-%s.sql", folder, version);
        (void)snprintf(path, sizeof path, "%s/mulund.db", f->folder);
        (void)unlink(path);
        if (file_read(source, &b, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
        run_sql(f, b.data);
        run_sql(f, more);
        buf_done(&b);
}

static void a_database_of_the_release_before_is_migrated(void **state)
{
        struct fixture *f = *state;
        struct job_row j;
        int64_t id;

        fixture_close(f);
        load_release(f, "0.1", "UPDATE job SET cancel_requested = 1 WHERE id = 3");
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

/* Bits per dimension of the results that there are, which lists are sorted by, on the side of the images they are of.
 */
static void results_of_before_are_sorted_by(void **state)
{
        struct fixture *f = *state;

        fixture_close(f);
        load_release(f, "0.1",
                     "UPDATE job SET result = CASE id WHEN 1 THEN '{\"bpd\": 2.5, \"split\": \"test\"}' WHEN 2 THEN "
                     "'{\"bpd\": 3}' "
                     "WHEN 3 THEN '{\"bpd\": 4.5, \"split\": \"train\"}' WHEN 4 THEN '{\"bpd\": \"NaN\", \"split\": "
                     "\"test\"}' "
                     "WHEN 5 THEN '{\"images\": 3}' END");
        fixture_open(f);
        assert_int_equal(count(f, "SELECT count(*) FROM job WHERE id <= 5"), 5);
        assert_int_equal(count(f, "SELECT count(*) FROM job WHERE (id, test_bpd) IN ((1, 2.5), (2, 3)) OR (id, "
                                  "train_bpd) = (3, 4.5)"),
                         3);
        assert_int_equal(count(f, "SELECT count(*) FROM job WHERE test_bpd IS NOT NULL OR train_bpd IS NOT NULL"), 3);
}

static void what_was_before_a_migration_is_kept(void **state)
{
        struct fixture *f = *state;
        char path[120];
        sqlite3 *db;
        sqlite3_stmt *st;

        fixture_close(f);
        load_release(f, "0.1", "");
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

/* ---- points */

static void expect_shown(struct fixture *f, const char *name, const struct point *expected, size_t n)
{
        struct point_place place = POINTS_BEGIN;
        struct point p[100];
        size_t got;

        assert_int_equal(reader_points_behind(f->reader, 1, name, &place, 100, p, &got, NULL), 0);
        assert_int_equal(got, n);
        for (size_t i = 0; i < n; i++) {
                assert_true(p[i].step == expected[i].step && p[i].time_ms == expected[i].time_ms);
                assert_true(p[i].value == expected[i].value || (isnan(p[i].value) && isnan(expected[i].value)));
        }
}

static int keep_curve(int64_t job _unused_, const char *name _unused_, struct curve *c, void *user)
{
        *(struct curve *)user = *c;
        *c = (struct curve){0};
        return 0;
}

static struct curve read_attempt(struct fixture *f, int64_t job, const char *name, int64_t attempt)
{
        struct curve c = {0};
        struct curve_question q = {.n_jobs = 1,
                                   .n_names = 1,
                                   .jobs = &job,
                                   .names = &name,
                                   .to = INT64_MAX,
                                   .to_ms = INT64_MAX,
                                   .n_buckets = 1000,
                                   .attempt = attempt};

        assert_int_equal(reader_curves(f->reader, &q, keep_curve, &c, NULL), 0);
        return c;
}

/* A step a bucket. */
static void expect_attempt(struct fixture *f, int64_t attempt, const struct point *expected, size_t n)
{
        struct curve c = read_attempt(f, 1, "train/bpd", attempt);
        size_t at = 0;

        assert_int_equal(c.points_total, n);
        for (size_t i = 0; i < c.n; i++) {
                at += (size_t)c.count[i];
                assert_true(at <= n && c.step[i] == expected[at - 1].step && c.time_ms[i] == expected[at - 1].time_ms);
                assert_true(c.last[i] == expected[at - 1].value || (isnan(c.last[i]) && isnan(expected[at - 1].value)));
        }
        curve_done(&c);
}

static int64_t points_of(struct fixture *f, int64_t job, const char *name)
{
        struct curve c = read_attempt(f, job, name, 0);
        int64_t n = c.points_total;

        curve_done(&c);
        return n;
}

static double odd(int64_t s)
{
        static const double others[] = {[7] = NAN, [9] = INFINITY, [11] = -INFINITY};

        if (s == 7 || s == 9 || s == 11)
                return others[s];
        return s % 2 ? 0.1 * (double)s : (double)(float)(0.3 * (double)s);
}

/* Of what the release's first job said: a first attempt whose step 19 came three times, and a second from step 15 on.
 */
static void points_of_before_chunks_are_all_there(void **state)
{
        struct fixture *f = *state;
        struct point first[32], shown[41];
        size_t n = 0;

        fixture_close(f);
        load_release(f, "0.2", "");
        fixture_open(f);
        for (int64_t s = 0; s < 15; s++)
                shown[n++] = (struct point){s, 1000 * s, odd(s)};
        for (int64_t s = 15; s < 39; s++)
                shown[n++] = (struct point){s, 1000 * s, -(double)s};
        shown[n++] = (struct point){38, 38000, 38};
        shown[n++] = (struct point){39, 39000, -39};
        expect_shown(f, "train/bpd", shown, n);
        expect_shown(f, "eval/bpd", (struct point[]){{0, 0, 0}, {1, 1000, 1}, {2, 2000, 2}}, 3);
        /* those of the first attempt, superseded ones too */
        n = 0;
        for (int64_t s = 0; s < 30; s++) {
                first[n++] = (struct point){s, 1000 * s, odd(s)};
                if (s == 19) {
                        first[n++] = (struct point){s, 1000 * s, 19};
                        first[n++] = (struct point){s, 1000 * s, odd(s)};
                }
        }
        assert_int_equal(n, 32);
        expect_attempt(f, 1, first, n);
        assert_int_equal(count(f, "SELECT count(*) FROM sqlite_schema WHERE name = 'point'"), 0);
        assert_int_equal(count(f, "SELECT series FROM job WHERE id = 1"), 2);
        /* a job goes on where it was */
        assert_int_equal(send(f, 2, scalars(4, 40, 5, "train/bpd", identity)), 0);
        assert_int_equal(points_of(f, 1, "train/bpd"), 46);
}

static void many_points_of_before_chunks_are_all_there(void **state)
{
        struct fixture *f = *state;
        struct curve c;
        int64_t n = 0;

        fixture_close(f);
        load_release(
                f, "0.2",
                "INSERT INTO series (id, job, name, points, last_step, last, min, max) VALUES (100, 2, 'long', "
                "300000, 299999, 1, 0, 6); INSERT INTO attempt (id, job, number, started_us, first_step, last_seq) "
                "VALUES (100, 2, 1, 1, 0, 9); UPDATE job SET attempts = 1 WHERE id = 2;"
                "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT 300000) "
                "INSERT INTO point SELECT 100, i, 100, i, 1000000000000 + 20 * i, i % 7 FROM n;");
        fixture_open(f);
        assert_int_equal(reader_curve(f->reader, 2, "long", 0, INT64_MAX, 1000, &c, NULL), 0);
        for (size_t i = 0; i < c.n; i++) {
                n += c.count[i];
                assert_true(c.min[i] == 0 && c.max[i] == 6 && c.last[i] == (double)(c.step[i] % 7));
                assert_int_equal(c.time_ms[i], 1000000000000 + 20 * c.step[i]);
        }
        assert_int_equal(n, 300000);
        curve_done(&c);
        assert_int_equal(count(f, "SELECT count(*) FROM chunk WHERE id >> 29 & 7 > 0"), 1);
}

static int refuse_token(const struct token_row *t _unused_, void *user _unused_)
{
        return -EEXIST;
}

static int refuse_audit(const struct audit_row *a _unused_, void *user _unused_)
{
        return -EEXIST;
}

static void before_tokens_there_were_none_and_nobody_was_noted(void **state)
{
        struct fixture *f = *state;
        struct write *w;

        fixture_close(f);
        load_release(f, "0.2", "");
        fixture_open(f);
        assert_int_equal(reader_tokens(f->reader, refuse_token, NULL, NULL), 0);
        assert_int_equal(reader_audit(f->reader, 0, 100, refuse_audit, NULL, NULL), 0);
        w = write_new(WRITE_TOKEN);
        (void)strcpy(w->token.name, "first");
        (void)strcpy(w->audit.action, "POST /v1/tokens");
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(reader_tokens(f->reader, refuse_token, NULL, NULL), -EEXIST);
        assert_int_equal(reader_audit(f->reader, 0, 100, refuse_audit, NULL, NULL), -EEXIST);
}

/* A configuration that asks for many devices counts for the kinds that can use them. */
static void jobs_of_before_run_on_as_many_devices_as_they_asked_for(void **state)
{
        struct fixture *f = *state;

        fixture_close(f);
        load_release(f, "0.2",
                     "UPDATE job SET config = '{\"machine\":{\"devices\":3}}', kind = 0 WHERE id = 1;"
                     "UPDATE job SET config = '{\"machine\":{\"devices\":3}}', kind = 2 WHERE id = 2");
        fixture_open(f);
        for (int64_t id = 1; id <= 2; id++) {
                struct job_row j;

                assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
                assert_int_equal(j.devices, id == 1 ? 3 : 1);
                job_row_done(&j);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                FIXTURE(a_database_of_the_release_before_is_migrated),
                FIXTURE(results_of_before_are_sorted_by),
                FIXTURE(what_was_before_a_migration_is_kept),
                FIXTURE(points_of_before_chunks_are_all_there),
                FIXTURE(many_points_of_before_chunks_are_all_there),
                FIXTURE(before_tokens_there_were_none_and_nobody_was_noted),
                FIXTURE(jobs_of_before_run_on_as_many_devices_as_they_asked_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
