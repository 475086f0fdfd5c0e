#include "api/response.h"
#include "contract/text.h"

#include <errno.h>
#include <string.h>

#define JOBS_MAX 100
#define NAMES_MAX 50
#define POINTS_MAX 10000
#define POINTS_DEFAULT 1000
#define COST_MAX ((int64_t)16 << 20) /* points that one request may read, of more than one series */
#define COST_LONG ((int64_t)200000)  /* what reads more is long */
#define COST_LOOKUPS 16              /* series that are looked up before it is known where to read them */
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

        if (!reader || request_job(r, reader, r->id, &j) < 0)
                return;
        if (reader_series(reader, r->id, add_series, list, &err) < 0)
                problem(r, PROBLEM_INTERNAL, "the series cannot be read");
        else
                response_json(r, 200, json_pack("{s:O}", "series", list));
}

void series_list(struct request *r)
{
        request_apart(r, list_series, false);
}

/* ---- points of many series */

struct question {
        size_t n_jobs, n_names;
        int64_t jobs[JOBS_MAX];
        char *memory, *names[NAMES_MAX];
        int64_t points, from, to;
};

static void question_done(struct question *q)
{
        free(q->memory);
}

/* What is named twice is read once. */
static bool has_job(const struct question *q, int64_t job)
{
        for (size_t i = 0; i < q->n_jobs; i++)
                if (q->jobs[i] == job)
                        return true;
        return false;
}

static bool has_name(const struct question *q, const char *name)
{
        for (size_t i = 0; i < q->n_names; i++)
                if (!strcmp(q->names[i], name))
                        return true;
        return false;
}

static void add_item(struct request *r, const char *parameter, char *item, struct question *q)
{
        int64_t job;

        if (!strcmp(parameter, "jobs")) {
                if (!int_parse(item, 1, INT64_MAX, &job))
                        (void)errors_add(&r->errs, -EINVAL, parameter, "expected ids of jobs, separated by commas");
                else if (has_job(q, job))
                        return;
                else if (q->n_jobs == JOBS_MAX)
                        (void)errors_add(&r->errs, -EINVAL, parameter, "at most %d jobs at once", JOBS_MAX);
                else
                        q->jobs[q->n_jobs++] = job;
        } else {
                if (has_name(q, item))
                        return;
                if (q->n_names == NAMES_MAX)
                        (void)errors_add(&r->errs, -EINVAL, parameter, "at most %d names at once", NAMES_MAX);
                else if (!text_is_printable(item, EVENT_NAME_MAX))
                        (void)errors_add(&r->errs, -EINVAL, parameter, "expected names of series, separated by commas");
                else
                        q->names[q->n_names++] = item;
        }
}

/* A list that commas separate; its memory is cut into items. */
static void read_list(struct request *r, const char *parameter, char *list, struct question *q)
{
        for (char *item = list, *next; item && !r->errs.n; item = next) {
                next = strchr(item, ',');
                if (next)
                        *next++ = 0;
                add_item(r, parameter, item, q);
        }
}

static int read_question(struct request *r, struct question *q)
{
        const char *jobs = NULL, *names = NULL;

        *q = (struct question){.points = POINTS_DEFAULT, .to = INT64_MAX};
        if (!request_query_text(r, "jobs", TARGET_BYTES_MAX, &jobs))
                (void)errors_add(&r->errs, -EINVAL, "jobs", "expected ids of jobs, separated by commas");
        if (!request_query_text(r, "names", TARGET_BYTES_MAX, &names))
                (void)errors_add(&r->errs, -EINVAL, "names", "expected names of series, separated by commas");
        (void)request_query_int(r, "points", 1, POINTS_MAX, &q->points);
        (void)request_query_int(r, "from", 0, INT64_MAX, &q->from);
        (void)request_query_int(r, "to", 0, INT64_MAX, &q->to);
        if (jobs && names) {
                size_t n = strlen(jobs) + 1;

                q->memory = malloc(n + strlen(names) + 1);
                if (!q->memory)
                        return errors_add(&r->errs, -ENOMEM, "", "no memory");
                memcpy(q->memory, jobs, n);
                memcpy(q->memory + n, names, strlen(names) + 1);
                read_list(r, "jobs", q->memory, q);
                read_list(r, "names", q->memory + n, q);
        }
        if (q->from > q->to)
                (void)errors_add(&r->errs, -EINVAL, "from", "is above to");
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

/* One series becomes text at once, so that only the text of the others is held. */
static int append_curve(struct buf *b, int64_t job, const char *name, const struct curve *c, struct error *err)
{
        _cleanup_json_ json_t *o =
                json_pack("{s:I, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "job", (json_int_t)job, "name",
                          name, "points_total", (json_int_t)c->points_total, "bucket_width",
                          (json_int_t)c->bucket_width, "step", ints(c->step, c->n), "time_ms", ints(c->time_ms, c->n),
                          "count", ints(c->count, c->n), "min", reals(c->min, c->n), "max", reals(c->max, c->n), "mean",
                          reals(c->mean, c->n), "last", reals(c->last, c->n));
        int r;

        if (!o)
                return error_set(err, -ENOMEM, NULL, "no memory for a series");
        r = b->data[b->size - 1] == '[' ? 0 : buf_append(b, ",", 1, err);
        if (r >= 0)
                r = response_dump(o, b);
        return r < 0 ? error_set(err, r, NULL, "no room for a series") : 0;
}

static int read_curves(struct reader *reader, const struct question *q, struct buf *b, struct error *err)
{
        int r = buf_append(b, "{\"series\":[", strlen("{\"series\":["), err);

        for (size_t i = 0; i < q->n_jobs; i++)
                for (size_t k = 0; r >= 0 && k < q->n_names; k++) {
                        struct curve c = {0};

                        r = reader_curve(reader, q->jobs[i], q->names[k], q->from, q->to, q->points, &c, err);
                        if (r == -ENOENT) {
                                r = 0; /* not every job has every series */
                                continue;
                        }
                        if (r >= 0) {
                                r = append_curve(b, q->jobs[i], q->names[k], &c, err);
                                curve_done(&c);
                        }
                }
        return r < 0 ? r : buf_append(b, "]}", 2, err);
}

/* Points that are read, of at most so many series; each counts at least 1. */
static int cost(struct reader *reader, const struct question *q, size_t lookups, int64_t *ret, struct error *err)
{
        int64_t sum = 0;

        for (size_t i = 0; i < q->n_jobs; i++)
                for (size_t k = 0; k < q->n_names; k++) {
                        int64_t points = 0;
                        int r = lookups ? reader_points(reader, q->jobs[i], q->names[k], &points, err) : 0;

                        if (r < 0)
                                return r;
                        lookups -= lookups > 0;
                        sum += MAX(points, 1);
                }
        *ret = sum;
        return 0;
}

static void read_series(struct request *r)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(ANSWER_BYTES_MAX);
        _cleanup_(question_done) struct question q = {0};
        struct reader *reader;
        struct error err;
        int64_t points = 0;
        int code;

        if (read_question(r, &q) < 0) {
                problem(r, PROBLEM_INTERNAL, "no memory"); /* it was read before */
                return;
        }
        reader = request_reader(r);
        if (!reader)
                return;
        code = cost(reader, &q, SIZE_MAX, &points, &err);
        if (code >= 0 && points > COST_MAX && q.n_jobs * q.n_names > 1) {
                problem(r, PROBLEM_ANSWER_TOO_LARGE,
                        "it would read %lld points, at most %lld are read at once: ask for fewer jobs or names",
                        (long long)points, (long long)COST_MAX);
                return;
        }
        if (code >= 0)
                code = read_curves(reader, &q, &b, &err);
        if (code == -ECANCELED)
                problem(r, PROBLEM_UNAVAILABLE, "the server ends, or nobody waits for the answer");
        else if (code == -E2BIG)
                problem(r, PROBLEM_ANSWER_TOO_LARGE, "ask for fewer jobs, names or points at once");
        else if (code < 0)
                problem(r, PROBLEM_INTERNAL, "%s", err.text);
        else
                response_text(r, "application/json", &b);
}

void series_read(struct request *r)
{
        _cleanup_(question_done) struct question q = {0};
        struct reader *reader;
        struct error err;
        int64_t points = 0;

        if (read_question(r, &q) < 0) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        reader = request_reader(r);
        if (!reader)
                return;
        if (cost(reader, &q, COST_LOOKUPS, &points, &err) < 0)
                problem(r, PROBLEM_INTERNAL, "%s", err.text);
        else
                request_apart(r, read_series, points > COST_LONG || q.n_jobs * q.n_names > COST_LOOKUPS);
}
