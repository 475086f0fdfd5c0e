/* Jobs: one, a list of them, a new one. */
#include "api/filter.h"
#include "api/job_json.h"
#include "api/response.h"
#include "api/submit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LIMIT_DEFAULT 50
#define LIMIT_MAX 500

void jobs_read(struct request *r)
{
        answer_job(r, r->id, NULL, 200);
}

/* ---- list */

#define TOTAL_MAX 1000 /* beyond it a total that is not kept is not counted either */

struct page {
        json_t *jobs, *next;
        struct reader *reader;
        struct control *control;
        struct control_status status;
        const char *prefix;
        uint64_t members;
        int64_t limit, last_id, last_priority;
        bool more;
        struct job_sorted sorted;
        bool is_sorted;
};

static json_t *sort_key_to_json(const struct sort_key *k)
{
        return k->type == SORT_NUMBER ? json_real_or_null(k->number)
               : k->type == SORT_TEXT ? json_string(k->text)
                                      : json_null();
}

static int add_job(const struct job_row *j, void *user)
{
        struct page *p = user;
        const struct job_view v = {j, p->reader, p->control, &p->status, p->prefix};
        json_t *job;

        if ((int64_t)json_array_size(p->jobs) == p->limit) {
                p->more = true;
                return 0;
        }
        p->last_id = j->id;
        p->last_priority = j->priority;
        job = job_to_json(&v, p->members);
        if (p->is_sorted)
                (void)json_object_set_new(job, "sorted_by", sort_key_to_json(&p->sorted.last));
        return json_array_append_new(p->jobs, job) < 0 ? -ENOMEM : 0;
}

static void read_fields(struct request *r, struct page *p, struct job_filter *f)
{
        const char *names = target_param(&r->target, "fields");
        struct error err;

        p->members = JOB_ALL;
        if (names && (!*names || job_members(names, &p->members, &f->without, &err) < 0))
                (void)errors_add(&r->errs, -EINVAL, "fields", "%s",
                                 *names ? err.text : "expected members of a job, separated by commas");
        f->without |= CONFIG_AS_TEXT;
}

/* Its page; *ret_total -1: not counted. */
static int read_page(struct page *p, struct filter *f, int64_t *ret_total, struct error *err)
{
        bool counted = f->of.config || f->of.source_job;
        int code;

        p->is_sorted = f->sorting.by != SORT_NONE;
        if (p->is_sorted) {
                f->of.limit = p->limit;
                code = reader_jobs_sorted(p->reader, &f->of, &f->sorting, add_job, p, &p->sorted, err);
                *ret_total = p->sorted.total;
                p->next = p->sorted.more ? filter_next(f, 0, 0, &p->sorted.last) : json_null();
                return code;
        }
        f->of.limit = p->limit + 1; /* one more, to know whether there is a next page */
        code = reader_jobs(p->reader, &f->of, add_job, p, err);
        p->next = p->more ? filter_next(f, p->last_id, p->last_priority, NULL) : json_null();
        if (code >= 0 && !p->more && !f->of.bound)
                *ret_total = (int64_t)json_array_size(p->jobs);
        else if (code >= 0)
                code = reader_jobs_total(p->reader, &f->of, counted ? INT64_MAX - 1 : TOTAL_MAX, ret_total, err);
        return code;
}

static void list_jobs(struct request *r)
{
        _cleanup_(filter_done) struct filter f = {0};
        struct page p = {.limit = LIMIT_DEFAULT};
        struct job_counts counts;
        int64_t total = 0;
        struct error err;
        int code;

        filter_from_query(r, &f);
        (void)request_query_int(r, "limit", 1, LIMIT_MAX, &p.limit);
        read_fields(r, &p, &f.of);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        p.reader = request_reader(r);
        if (!p.reader)
                return;
        p.control = request_settings(r)->control;
        p.prefix = request_settings(r)->prefix;
        p.control->status(p.control, &p.status);
        p.jobs = json_array();
        code = read_page(&p, &f, &total, &err);
        if (code >= 0)
                code = reader_job_counts(p.reader, &counts, &err);
        if (code < 0) {
                json_decref(p.jobs);
                json_decref(p.next);
                problem_failed(r, "the jobs cannot be read", code, &err);
                return;
        }
        response_json(r, 200,
                      json_pack("{s:o, s:o, s:o, s:o}", "jobs", p.jobs, "next", p.next, "total",
                                total < 0 ? json_null() : json_integer(total), "counts", job_counts_to_json(&counts)));
}

void jobs_list(struct request *r)
{
        request_apart(r, list_jobs, filter_may_walk(r));
}

/* ---- submit */

void jobs_submitted(struct request *r)
{
        char location[40 + PREFIX_MAX];

        if (r->answer.r == -ENOENT) { /* the source's job or checkpoint: it is the request that is wrong */
                if (!r->errs.n)
                        (void)errors_add(&r->errs, -ENOENT, "/checkpoint", "there is no such checkpoint");
                if (!r->errs.items[0].path[0])
                        (void)snprintf(r->errs.items[0].path, sizeof r->errs.items[0].path, "/checkpoint");
                problem_errors(r, PROBLEM_REQUEST_INVALID, &r->errs);
                return;
        }
        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_CONFIG_INVALID);
                return;
        }
        if (r->answer.job && !r->answer.job->id) {
                jobs_checked(r);
                return;
        }
        answer_job(r, r->answer.id, r->answer.job, 201);
        if (r->status != 201)
                return;
        (void)snprintf(location, sizeof location, "%s/v1/jobs/%lld", request_settings(r)->prefix,
                       (long long)r->answer.id);
        response_header(r, "Location", location);
}

void jobs_submit(struct request *r)
{
        struct control *control = request_settings(r)->control;
        _cleanup_(submission_freep) struct submission *s = NULL;
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        enum problem p;
        struct pending *pending;

        if (!request_body(r, submit_keys, false, &body))
                return;
        if (submission_from_json(body, request_settings(r)->configs_folder, &s, &p, &errs) < 0) {
                problem_errors(r, p, &errs);
                return;
        }
        s->dry = request_is_dry(r);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        if (!s->dry && !request_read_key(r, &s->key))
                return;
        pending = request_ask(r, jobs_submitted);
        if (pending)
                control->submit(control, &r->by, TAKE_PTR(s), request_done, pending);
}
