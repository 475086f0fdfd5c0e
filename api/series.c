#include "api/cursor.h"
#include "api/names.h"
#include "api/response.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define JOBS_MAX 100
#define POINTS_MAX 10000
#define POINTS_DEFAULT 1000
#define QUICK_BUCKETS                                                                                                  \
        4000 /* what may answer more is long: a text of that takes longer to make than to read its points */
#define ANSWER_BYTES_MAX ((size_t)64 << 20)

static int add_series(const struct series_row *s, void *user)
{
        json_t *o = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o}", "name", s->name, "points", (json_int_t)s->points,
                              "last_step", (json_int_t)s->last_step, "last", json_from_real(s->last), "min",
                              json_from_real(s->min), "max", json_from_real(s->max));

        return json_array_append_new(user, o) < 0 ? -ENOMEM : 0;
}

static void list_series(struct request *r)
{
        struct reader *reader = request_reader(r);
        _cleanup_json_ json_t *list = json_array();
        _cleanup_(job_row_done) struct job_row j = {0};
        struct error err;
        int code;

        if (!reader || request_job(r, reader, r->id, &j) < 0)
                return;
        code = reader_series(reader, r->id, add_series, list, &err);
        if (code < 0)
                problem_failed(r, "the series cannot be read", code, &err);
        else
                response_json(r, 200, json_pack("{s:O}", "series", list));
}

void series_list(struct request *r)
{
        request_apart(r, list_series, false);
}

/* ---- points of many series */

static const char *const widths_names[] = {"shared", "own", NULL};
enum widths { WIDTHS_SHARED, WIDTHS_OWN };
static const char *const axis_names[] = {"linear", "log", NULL};
enum axis { AXIS_LINEAR, AXIS_LOG };

struct question {
        size_t n_jobs;
        int64_t jobs[JOBS_MAX];
        struct names names;
        int64_t points, from, to, from_ms, to_ms, attempt;
        int widths, axis;
        struct buf text; /* all that it asks: for cursors */
        bool goes_on;    /* from `since` */
        struct cursor since;
};

static void question_done(struct question *q)
{
        names_done(&q->names);
        buf_done(&q->text);
        cursor_done(&q->since);
}

static int print_question(struct question *q)
{
        int x = buf_printf(&q->text, NULL, "%lld %lld %lld %lld %lld %lld %d %d", (long long)q->points,
                           (long long)q->from, (long long)q->to, (long long)q->from_ms, (long long)q->to_ms,
                           (long long)q->attempt, q->widths, q->axis);

        for (size_t i = 0; i < q->n_jobs && x >= 0; i++)
                x = buf_printf(&q->text, NULL, " %lld", (long long)q->jobs[i]);
        for (size_t i = 0; i < q->names.n && x >= 0; i++)
                x = buf_printf(&q->text, NULL, "\n%s", q->names.items[i]);
        return x;
}

static void read_cursor(struct request *r, struct question *q)
{
        const char *text = NULL;
        int found = request_query_text(r, "cursor", CURSOR_BYTES_MAX, &text), x = print_question(q);

        if (x >= 0 && found > 0)
                x = cursor_parse(text, (const char *)q->text.data, &q->since);
        q->goes_on = found > 0;
        if (x == -EINVAL)
                (void)errors_add(
                        &r->errs, x, "cursor",
                        "expected the cursor of an answer to the same question: jobs, names, points, from, to, "
                        "from_ms, to_ms, attempt, widths and axis as they were");
        else if (x < 0)
                (void)errors_add(&r->errs, x, "cursor", "no memory");
}

static int read_question(struct request *r, struct question *q)
{
        *q = (struct question){
                .points = POINTS_DEFAULT, .to = INT64_MAX, .to_ms = INT64_MAX, .text = BUF_INIT(2 * TARGET_BYTES_MAX)};
        if (request_query_ids(r, "jobs", JOBS_MAX, q->jobs, &q->n_jobs) == 0)
                (void)errors_add(&r->errs, -EINVAL, "jobs", "expected ids of jobs, separated by commas");
        if (request_query_names(r, &q->names) == 0)
                (void)errors_add(&r->errs, -EINVAL, "names", "expected names of series, separated by commas");
        (void)request_query_int(r, "points", 1, POINTS_MAX, &q->points);
        (void)request_query_int(r, "from", 0, INT64_MAX, &q->from);
        (void)request_query_int(r, "to", 0, INT64_MAX, &q->to);
        (void)request_query_int(r, "from_ms", 0, INT64_MAX, &q->from_ms);
        (void)request_query_int(r, "to_ms", 0, INT64_MAX, &q->to_ms);
        (void)request_query_choice(r, "widths", widths_names, &q->widths);
        (void)request_query_choice(r, "axis", axis_names, &q->axis);
        (void)request_query_int(r, "attempt", 1, INT64_MAX, &q->attempt);
        if (q->from > q->to)
                (void)errors_add(&r->errs, -EINVAL, "from", "is above to");
        if (q->from_ms > q->to_ms)
                (void)errors_add(&r->errs, -EINVAL, "from_ms", "is above to_ms");
        read_cursor(r, q);
        return r->errs.n ? -EINVAL : 0;
}

static json_t *ints(const int64_t *values, size_t n)
{
        json_t *a = json_array();

        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(a, json_integer(values[i]));
        return a;
}

static json_t *reals(const double *values, size_t n)
{
        json_t *a = json_array();

        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(a, json_from_real(values[i]));
        return a;
}

/* How many of each bucket's points are not finite; left out where all are, as they nearly always are. */
static void add_others(json_t *o, const char *key, const int64_t *n, size_t n_buckets)
{
        for (size_t i = 0; i < n_buckets; i++)
                if (n[i]) {
                        (void)json_object_set_new(o, key, ints(n, n_buckets));
                        return;
                }
}

/* One series becomes text at once, so that only the text of the others is held. Its buckets from the first-th on. */
static int append_curve(struct buf *b, int64_t job, const char *name, const struct curve *c, size_t first, json_t *from,
                        struct error *err)
{
        const size_t n = c->n - first;
        _cleanup_json_ json_t *o = json_pack(
                "{s:I, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o*, s:o*}", "job", (json_int_t)job, "name",
                name, "points_total", (json_int_t)c->points_total, "bucket_width", (json_int_t)c->bucket_width, "step",
                ints(c->step + first, n), "time_ms", ints(c->time_ms + first, n), "count", ints(c->count + first, n),
                "min", reals(c->min + first, n), "max", reals(c->max + first, n), "mean", reals(c->mean + first, n),
                "last", reals(c->last + first, n), "from", from, "bucket_ratio",
                c->grid.logarithmic ? json_real(grid_ratio(&c->grid)) : NULL);
        int r;

        if (!o)
                return error_set(err, -ENOMEM, NULL, "no memory for a series");
        add_others(o, "nan", c->not_a_number + first, n);
        add_others(o, "infinity", c->infinite + first, n);
        add_others(o, "minus_infinity", c->minus_infinite + first, n);
        r = b->data[b->size - 1] == '[' ? 0 : buf_append(b, ",", 1, err);
        if (r >= 0)
                r = response_dump(o, b);
        return r < 0 ? error_set(err, r, NULL, "no room for a series") : 0;
}

struct answering {
        const struct question *q;
        struct cursor now; /* where this answer ends */
        struct buf *b;
        struct error *err;
};

static uint64_t index_of(const struct question *q, int64_t job, const char *name)
{
        size_t i = 0;

        while (q->jobs[i] != job)
                i++;
        return i * q->names.n + (size_t)names_find(&q->names, name);
}

static struct cursor_item place_of(const struct curve *c, uint64_t index)
{
        struct cursor_item x = {
                .index = index, .view = c->view, .below = (uint64_t)c->points_total, .shift = (uint64_t)c->grid.shift};

        if (c->n) {
                x.last = (uint64_t)c->count[c->n - 1];
                x.below -= x.last;
                x.edge = (uint64_t)grid_begin(&c->grid, c->step[c->n - 1]);
        }
        return x;
}

/* How many of the first buckets were said before and are as they were: those before the last one of then, where as many
 * points lie there as did, and that one, too, where it has not grown. Steps may go back, or another attempt begin:
 * none. *ret_from: where the others begin. */
static size_t count_known(const struct curve *c, const struct cursor_item *before, const struct cursor_item *now,
                          uint64_t *ret_from)
{
        uint64_t below = 0;
        size_t n = 0;

        if (before->view != now->view || before->shift != now->shift)
                return 0;
        *ret_from = before->edge;
        for (; n < c->n && (uint64_t)c->step[n] < *ret_from; n++)
                below += (uint64_t)c->count[n];
        if (below != before->below)
                return 0;
        if (n == c->n || (uint64_t)c->count[n] != before->last)
                return n;
        *ret_from = (uint64_t)grid_end(&c->grid, (int64_t)*ret_from);
        return n + 1;
}

static int answer_curve(int64_t job, const char *name, struct curve *c, void *user)
{
        struct answering *a = user;
        const struct cursor_item now = place_of(c, index_of(a->q, job, name));
        const struct cursor_item *before = cursor_find(&a->q->since, now.index);
        uint64_t from = 0;
        size_t known = 0;

        if (cursor_add(&a->now, &now) < 0)
                return error_set(a->err, -ENOMEM, NULL, "no memory for a cursor");
        if (before && !memcmp(before, &now, sizeof now))
                return 0;
        if (before)
                known = count_known(c, before, &now, &from);
        return append_curve(a->b, job, name, c, known,
                            !a->q->goes_on ? NULL
                            : known        ? json_integer((json_int_t)from)
                                           : json_null(),
                            a->err);
}

static int append_cursor(const struct answering *a)
{
        _cleanup_(buf_done) struct buf text = BUF_INIT(CURSOR_BYTES_MAX);
        int r = cursor_print(&a->now, (const char *)a->q->text.data, &text);

        if (r == -E2BIG)
                return buf_append(a->b, "],\"cursor\":null}", strlen("],\"cursor\":null}"), a->err);
        if (r < 0)
                return error_set(a->err, r, NULL, "no memory for a cursor");
        return buf_printf(a->b, a->err, "],\"cursor\":\"%s\"}", text.data);
}

static int read_curves(struct reader *reader, const struct question *q, struct buf *b, struct error *err)
{
        const struct curve_question question = {.n_jobs = q->n_jobs,
                                                .n_names = q->names.n,
                                                .jobs = q->jobs,
                                                .names = q->names.items,
                                                .from = q->from,
                                                .to = q->to,
                                                .from_ms = q->from_ms,
                                                .to_ms = q->to_ms,
                                                .n_buckets = q->points,
                                                .attempt = q->attempt,
                                                .logarithmic = q->axis == AXIS_LOG,
                                                .own_grid = q->widths == WIDTHS_OWN};
        struct answering a = {.q = q, .b = b, .err = err};
        int r = buf_append(b, "{\"series\":[", strlen("{\"series\":["), err);

        if (r >= 0)
                r = reader_curves(reader, &question, answer_curve, &a, err);
        if (r >= 0)
                r = append_cursor(&a);
        cursor_done(&a.now);
        return r;
}

static void read_series(struct request *r)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(ANSWER_BYTES_MAX);
        _cleanup_(question_done) struct question q = {0};
        struct reader *reader;
        struct error err;
        int code;

        if (read_question(r, &q) < 0) {
                problem(r, PROBLEM_INTERNAL, "no memory"); /* it was read before */
                return;
        }
        reader = request_reader(r);
        if (!reader)
                return;
        code = read_curves(reader, &q, &b, &err);
        if (code == -ECANCELED)
                problem(r, PROBLEM_UNAVAILABLE, "the server ends, or nobody waits for the answer");
        else if (code == -E2BIG)
                problem(r, PROBLEM_ANSWER_TOO_LARGE, "ask for fewer jobs, names or points at once");
        else if (code < 0)
                problem_failed(r, "the series cannot be read", code, &err);
        else
                response_text(r, "application/json", &b);
}

void series_read(struct request *r)
{
        _cleanup_(question_done) struct question q = {0};

        if (read_question(r, &q) < 0)
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
        else
                request_apart(r, read_series, (int64_t)(q.n_jobs * q.names.n) * q.points > QUICK_BUCKETS);
}
