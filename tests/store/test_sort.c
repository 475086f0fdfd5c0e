/* Sorted lists against SQL's own order of the same rows, which it computes by its own expressions. */
#include "helpers.h"

#define N 700

static const char *const fill =
        "WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 700) "
        "INSERT INTO job (id, kind, state, created_us, started_us, ended_us, attempts, step, steps, images_per_second, "
        "source_job, rank, "
        "name, owner, notes, config_name, tags, config) "
        "SELECT i, i % 4, i * 7 % 6, 1000 + i * 31 % 97, i % 5 * 100, CASE WHEN i % 3 THEN 900 + i * 17 % 89 ELSE 0 "
        "END, i % 3, i * 13 % 50, i % 9 * 10, "
        "CASE WHEN i % 2 THEN i * 11 % 23 END, i % 7, i % 8 - 4, "
        "CASE WHEN i % 6 THEN char(65 + i % 26 + 32 * (i % 2)) || 'un ' || (i % 37) ELSE '' END, substr('  anna bob   "
        "', "
        "1 + i % 3 * 4, 4), "
        "CASE WHEN i % 4 THEN 'note ' || (i % 11) ELSE '' END, '', '[]', json_object('seed', i % 5, 'optimizer', "
        "json_object('rate', "
        "CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN 'fast' WHEN 2 THEN 'Slow' ELSE i % 10 * 1e-3 END), 'evaluation', "
        "json_object('seed', i % 2)) FROM k;"
        "UPDATE job SET result = json_object('bpd', 2 + id * 19 % 101 / 50.0, 'split', CASE WHEN id % 2 THEN 'train' "
        "ELSE 'test' END) WHERE id % 10 = 2 OR id % 10 = 3;"
        "UPDATE job SET test_bpd = json_extract(result, '$.bpd') WHERE json_extract(result, '$.split') = 'test';"
        "UPDATE job SET train_bpd = json_extract(result, '$.bpd') WHERE json_extract(result, '$.split') = 'train';"
        "INSERT INTO series (job, name, points, last, min) SELECT id, 'eval/bpd', 3, CASE WHEN id % 8 THEN 2 + id * 23 "
        "% 103 / 50.0 END, id * 29 % 71 / 10.0 FROM job WHERE id % 3;"
        "INSERT INTO series (job, name, points, last, min) SELECT id, 'train/bpd', 3, id * 3 % 107 / 30.0, CASE WHEN "
        "id % 4 THEN id * 5 % 73 / 10.0 END FROM job WHERE id % 4;"
        "INSERT INTO series (job, name, points, last, min) SELECT id, 'train/loss', 3, 1, 1 FROM job;"
        "INSERT INTO attempt (job, number, started_us, first_step, devices) SELECT id, 1, 1, 0, '[\"gpu:' || id % 4 || "
        "'\"]' FROM job WHERE attempts >= 1;"
        "INSERT INTO attempt (job, number, started_us, first_step, devices) SELECT id, 2, 1, 0, '[\"gpu:' || id % 3 || "
        "'\"]' FROM job WHERE attempts >= 2;"
        "INSERT OR IGNORE INTO job_tag SELECT 'few', id FROM job WHERE id % 50 = 7;"
        "INSERT OR IGNORE INTO job_tag SELECT 'many', id FROM job WHERE id % 3 = 1;";

/* What each order is of, for SQL. */
static const char *const expressions[SORT_N] = {
        [SORT_NAME] = "nullif(name, '')",
        [SORT_KIND] = "kind",
        [SORT_STATE] = "CASE state WHEN 1 THEN 'a' WHEN 0 THEN 'b' WHEN 5 THEN 'c' WHEN 2 THEN 'd' WHEN 3 THEN 'e' "
                       "ELSE 'f' END",
        [SORT_PROGRESS] = "1.0 * step / nullif(steps, 0)",
        [SORT_SPEED] = "CASE state WHEN 1 THEN images_per_second END",
        [SORT_TEST_BPD] = "CASE WHEN json_extract(result, '$.split') = 'test' THEN json_extract(result, '$.bpd') ELSE "
                          "(SELECT last FROM series WHERE job = j.id AND name = 'eval/bpd') END",
        [SORT_TRAIN_BPD] =
                "CASE WHEN json_extract(result, '$.split') = 'train' THEN json_extract(result, '$.bpd') ELSE "
                "(SELECT last FROM series WHERE job = j.id AND name = 'train/bpd') END",
        [SORT_BEST_TEST_BPD] = "(SELECT min FROM series WHERE job = j.id AND name = 'eval/bpd')",
        [SORT_BEST_TRAIN_BPD] = "(SELECT min FROM series WHERE job = j.id AND name = 'train/bpd')",
        [SORT_CREATED] = "created_us",
        [SORT_STARTED] = "nullif(started_us, 0)",
        [SORT_ENDED] = "nullif(ended_us, 0)",
        [SORT_DURATION] =
                "CASE WHEN started_us THEN (CASE ended_us WHEN 0 THEN 950 ELSE ended_us END) - started_us END",
        [SORT_STEP] = "step",
        [SORT_ATTEMPTS] = "attempts",
        [SORT_PRIORITY] = "-rank",
        [SORT_OWNER] = "nullif(owner, '')",
        [SORT_DEVICES] = "(SELECT devices FROM attempt WHERE job = j.id ORDER BY number DESC LIMIT 1)",
        [SORT_NOTES] = "nullif(notes, '')",
        [SORT_CONFIG] = "json_extract(config, '$.optimizer.rate')",
};

static const struct {
        struct job_filter f;
        const char *where;
} filters[] = {
        {{JOB_ANY, JOB_ANY}, "1"},
        {{1U << JOB_FAILED, JOB_ANY}, "state = 3"},
        {{1U << JOB_FAILED, 1U << JOB_EVALUATE}, "state = 3 AND kind = 1"},
        {{1U << JOB_FAILED | 1U << JOB_RUNNING | 1U << JOB_QUEUED, JOB_ANY}, "state IN (0, 1, 3)"},
        {{JOB_ANY, JOB_ANY, .tag = "few"}, "id % 50 = 7"},
        {{1U << JOB_CANCELLED, JOB_ANY, .tag = "many"}, "id % 3 = 1 AND state = 4"},
        {{JOB_ANY, JOB_ANY, .text = "un 3"}, "instr(lower(name), 'un 3')"},
        {{JOB_ANY, JOB_ANY, .text = "3"}, "instr(lower(name || notes), '3')"},
        {{JOB_ANY, JOB_ANY, .text = "un 1", .tag = "many"}, "instr(lower(name), 'un 1') AND id % 3 = 1"},
        {{JOB_ANY, JOB_ANY, .source_job = 3}, "source_job = 3"},
        {{1U << JOB_CANCELLED, JOB_ANY, .source_job = 3, .tag = "many"}, "source_job = 3 AND id % 3 = 1 AND state = 4"},
        {{JOB_ANY, JOB_ANY, .ids = "[5, 700, 12, 9999, 303]"}, "id IN (5, 12, 303, 700)"},
        {{JOB_ANY, JOB_ANY, .ids = "[5, 700, 12, 303]", .source_job = 5}, "id IN (5, 12, 303, 700) AND source_job = 5"},
        {{JOB_ANY, JOB_ANY, .ids = "[7, 107, 12]", .tag = "few", .text = "un"}, "id IN (7, 107)"},
        {{JOB_ANY, JOB_ANY, .config = "{\"$.optimizer.rate\": 5e-3}"},
         "json_extract(config, '$.optimizer.rate') = 0.005"},
        {{JOB_ANY, JOB_ANY, .config = "{\"$.optimizer.rate\": \"fast\"}"}, "id % 6 = 1"},
        {{JOB_ANY, JOB_ANY, .config = "{\"$.optimizer.rate\": null}"}, "id % 6 = 0"},
        {{JOB_ANY, JOB_ANY, .config = "{\"$.seed\": 1, \"$.evaluation.seed\": 0}", .tag = "many"},
         "id % 5 = 1 AND id % 2 = 0 AND id % 3 = 1"},
        {{1U << JOB_RUNNING, JOB_ANY, .config = "{\"$.seed\": 2}"}, "id % 5 = 2 AND state = 1"},
};

struct found {
        int64_t ids[N];
        size_t n;
};

static int note(const struct job_row *j, void *user)
{
        struct found *x = user;

        x->ids[x->n++] = j->id;
        return 0;
}

static void ask_sql(sqlite3 *db, const char *where, const char *order, struct found *ret)
{
        char *sql = sqlite3_mprintf("SELECT id FROM job j WHERE %s ORDER BY %s", where, order);
        sqlite3_stmt *st;

        if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
                fail_msg("%s: %s", sqlite3_errmsg(db), sql);
        for (ret->n = 0; sqlite3_step(st) == SQLITE_ROW;)
                ret->ids[ret->n++] = sqlite3_column_int64(st, 0);
        (void)sqlite3_finalize(st);
        sqlite3_free(sql);
}

static void assert_same(const struct found *a, const struct found *b, const char *what, const char *where)
{
        if (a->n != b->n || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) != 0)
                fail_msg("%s where %s: %zu and %zu jobs", what, where, a->n, b->n);
}

/* The jobs of fill, for SQL of the test's own. */
static sqlite3 *fill_file(const struct fixture *f)
{
        run_sql(f, fill);
        return open_file(f);
}

/* All pages, one behind the other. */
static void read_pages(struct fixture *f, struct job_filter filter, struct job_sorting by, struct found *ret)
{
        struct job_sorted page;
        struct sort_key behind;
        size_t n;

        ret->n = 0;
        do {
                n = ret->n;
                assert_int_equal(reader_jobs_sorted(f->reader, &filter, &by, note, ret, &page, NULL), 0);
                assert_true(ret->n - n == (size_t)filter.limit || !page.more);
                behind = page.last;
                by.behind = &behind;
        } while (page.more);
        assert_int_equal(page.total, ret->n);
}

static void a_sorted_list_is_in_sqls_order_page_by_page(void **state)
{
        static const int64_t limits[] = {1000, 7, 1};
        struct fixture *f = *state;
        struct found got, wanted;
        sqlite3 *db = fill_file(f);

        for (size_t i = 0; i < ARRAY_LEN(filters); i++)
                for (int by = SORT_NAME; by < SORT_N; by++)
                        for (int down = 0; down < 2; down++) {
                                struct job_filter filter = filters[i].f;
                                struct job_sorting s = {(enum job_sort)by, "$.optimizer.rate", down, 950, NULL};
                                char order[1500];

                                /* numbers, texts, nothing */
                                (void)snprintf(order, sizeof order,
                                               "CASE typeof(%s) WHEN 'null' THEN 2 WHEN 'text' THEN 1 ELSE 0 END, %s "
                                               "COLLATE NOCASE %s, id DESC",
                                               expressions[by], expressions[by], down ? "DESC" : "ASC");
                                ask_sql(db, filters[i].where, order, &wanted);
                                if (!wanted.n)
                                        fail_msg("where %s: nothing", filters[i].where);
                                filter.limit = limits[i ? i % 3 : (size_t)down];
                                read_pages(f, filter, s, &got);
                                assert_same(&got, &wanted, job_sort_names[by], filters[i].where);
                        }
        (void)sqlite3_close(db);
}

/* The same filters where nothing is sorted. */
static void every_filter_takes_what_sql_takes(void **state)
{
        struct fixture *f = *state;
        struct found got, wanted;
        sqlite3 *db = fill_file(f);

        for (size_t i = 0; i < ARRAY_LEN(filters); i++)
                for (int oldest = 0; oldest < 2; oldest++) {
                        struct job_filter filter = filters[i].f;
                        int64_t total;
                        size_t n;

                        ask_sql(db, filters[i].where, oldest ? "id" : "id DESC", &wanted);
                        filter.order = oldest ? ORDER_OLDEST : ORDER_NEWEST;
                        filter.limit = 11;
                        got.n = 0;
                        do {
                                n = got.n;
                                assert_int_equal(reader_jobs(f->reader, &filter, note, &got, NULL), 0);
                                filter.bound = got.n ? got.ids[got.n - 1] : 0;
                        } while (got.n - n == 11);
                        assert_same(&got, &wanted, oldest ? "oldest" : "newest", filters[i].where);
                        assert_int_equal(reader_jobs_total(f->reader, &filter, N, &total, NULL), 0);
                        assert_int_equal(total, wanted.n);
                }
        ask_sql(db, "id IN (5, 700, 12, 303, 6) AND state = 0", "rank, id", &wanted);
        got.n = 0;
        assert_int_equal(reader_jobs(f->reader,
                                     &(struct job_filter){1U << JOB_QUEUED, JOB_ANY, .ids = "[5, 700, 12, 303, 6]",
                                                          .order = ORDER_QUEUE, .limit = 10},
                                     note, &got, NULL),
                         0);
        assert_same(&got, &wanted, "queue", "ids");
        (void)sqlite3_close(db);
}

static struct sort_key key_of(struct fixture *f, int64_t id, enum job_sort by)
{
        struct job_filter filter = {JOB_ANY, JOB_ANY, .limit = 10};
        struct job_sorting s = {.by = by};
        struct job_sorted page;
        struct found x = {.n = 0};
        char ids[24];

        (void)snprintf(ids, sizeof ids, "[%lld]", (long long)id);
        filter.ids = ids;
        assert_int_equal(reader_jobs_sorted(f->reader, &filter, &s, note, &x, &page, NULL), 0);
        assert_int_equal(page.total, 1);
        return page.last;
}

/* What a list is sorted by is kept as jobs go on, end and are opened again. */
static void a_result_is_sorted_by_as_long_as_it_holds(void **state)
{
        static const struct {
                const char *result;
                double test, train;
        } cases[] = {
                {"{\"bpd\": 2.5, \"split\": \"test\"}", 2.5, NAN},
                {"{\"bpd\": 3, \"split\": \"train\"}", NAN, 3},
                {"{\"bpd\": 2.25}", 2.25, NAN},
                {"{\"bpd\": \"NaN\", \"split\": \"test\"}", NAN, NAN},
                {"{\"images\": 3}", NAN, NAN},
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                int64_t id = new_job(f, "one", JOB_TRAIN, NULL);
                struct write *w;

                assert_int_equal(transition(f, id, JOB_QUEUED, JOB_RUNNING), 0);
                w = write_new(WRITE_JOB_TRANSITION);
                w->job = id;
                w->from = JOB_RUNNING;
                w->to = JOB_SUCCEEDED;
                w->trigger = "done";
                w->row.result = json_loads(cases[i].result, 0, NULL);
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
                for (int train = 0; train < 2; train++) {
                        struct sort_key key = key_of(f, id, train ? SORT_TRAIN_BPD : SORT_TEST_BPD);
                        double wanted = train ? cases[i].train : cases[i].test;

                        assert_int_equal(key.type, isnan(wanted) ? SORT_NOTHING : SORT_NUMBER);
                        assert_true(isnan(wanted) || key.number == wanted);
                }
                w = write_new(WRITE_JOB_REOPEN);
                w->job = id;
                w->from = JOB_SUCCEEDED;
                assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
                assert_int_equal(
                        count(f, "SELECT count(*) FROM job WHERE test_bpd IS NOT NULL OR train_bpd IS NOT NULL"), 0);
        }
}

static double wave(int64_t step)
{
        return step == 3 ? -1.0 : (double)step;
}

/* Points that are in no chunk and no summary yet, and those of an attempt that goes on from before them. */
static void a_run_is_sorted_by_what_its_curve_says_now(void **state)
{
        struct fixture *f = *state;
        int64_t others[3], id, attempt;
        struct found x = {.n = 0};
        struct job_sorted page;

        for (size_t i = 0; i < 3; i++)
                others[i] = new_job(f, "other", JOB_TRAIN, NULL);
        id = new_job(f, "grows", JOB_TRAIN, NULL);
        attempt = new_attempt(f, id, 0);
        assert_int_equal(key_of(f, id, SORT_TEST_BPD).type, SORT_NOTHING);
        assert_int_equal(send(f, attempt, scalars(1, 1, 5, "eval/bpd", wave)), 0);
        assert_true(key_of(f, id, SORT_TEST_BPD).number == 5 && key_of(f, id, SORT_BEST_TEST_BPD).number == -1);
        assert_int_equal(key_of(f, id, SORT_TRAIN_BPD).type, SORT_NOTHING);
        assert_int_equal(send(f, attempt, scalars(2, 1, 7, "train/bpd", identity)), 0);
        assert_true(key_of(f, id, SORT_TRAIN_BPD).number == 7 && key_of(f, id, SORT_BEST_TRAIN_BPD).number == 1);
        assert_int_equal(reader_jobs_sorted(f->reader, &(struct job_filter){JOB_ANY, JOB_ANY, .limit = 10},
                                            &(struct job_sorting){.by = SORT_TEST_BPD, .descending = true}, note, &x,
                                            &page, NULL),
                         0);
        assert_true(x.n == 4 && x.ids[0] == id && x.ids[1] == others[2] && x.ids[3] == others[0] && page.total == 4);
        attempt = new_attempt(f, id, 2);
        assert_int_equal(send(f, attempt, scalars(1, 3, 1, "eval/bpd", identity)), 0);
        assert_true(key_of(f, id, SORT_TEST_BPD).number == 3 && key_of(f, id, SORT_BEST_TEST_BPD).number == 1);
        run_sql(f, "UPDATE job SET test_bpd = 2.5");
        assert_true(key_of(f, id, SORT_TEST_BPD).number == 2.5 && key_of(f, id, SORT_BEST_TEST_BPD).number == 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                FIXTURE(a_sorted_list_is_in_sqls_order_page_by_page),
                FIXTURE(every_filter_takes_what_sql_takes),
                FIXTURE(a_result_is_sorted_by_as_long_as_it_holds),
                FIXTURE(a_run_is_sorted_by_what_its_curve_says_now),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
