/* Lists of jobs: filters, pages, totals, texts, the queue. */
#include "helpers.h"

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

static void a_configuration_can_be_read_unparsed(void **state)
{
        struct fixture *f = *state;
        struct write *w = job_write("x", JOB_TRAIN, NULL);
        int64_t ids[2];

        json_decref(w->row.config);
        w->row.config = json_loads("{\"a\": [1.5]}", 0, NULL);
        assert_int_equal(store_write(f->store, w, &ids[0], NULL), 0);
        w = job_write("an import", JOB_IMPORT, NULL);
        json_decref(w->row.config);
        w->row.config = NULL;
        assert_int_equal(store_write(f->store, w, &ids[1], NULL), 0);
        for (int i = 0; i < 2; i++) {
                _cleanup_(job_row_done) struct job_row j = {0};
                _cleanup_(freep) char *text = NULL;

                assert_int_equal(reader_job_without(f->reader, ids[i], CONFIG_AS_TEXT, &j, NULL), 0);
                text = json_to_text(j.config);
                assert_string_equal(text, i ? "{}" : "{\"a\":[1.5]}");
                assert_int_equal(json_is_verbatim(j.config), !i);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                FIXTURE(filters_and_cursor_select_jobs),
                FIXTURE(totals_are_kept_through_all_that_happens_to_jobs),
                FIXTURE(names_come_and_go_and_the_index_with_them),
                FIXTURE(the_queue_is_listed_as_it_goes),
                FIXTURE(a_configuration_can_be_read_unparsed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
