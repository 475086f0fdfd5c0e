/* Jobs: one, a list of them, a new one. */
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
        answer_job(r, r->id, 200);
}

/* ---- list */

struct page {
        json_t *jobs;
        struct reader *reader;
        struct control *control;
        struct control_status status;
        int64_t limit, last_id;
        bool more;
};

static int add_job(const struct job_row *j, void *user)
{
        struct page *p = user;

        if ((int64_t)json_array_size(p->jobs) == p->limit) {
                p->more = true;
                return 0;
        }
        p->last_id = j->id;
        return json_array_append_new(p->jobs,
                                     job_to_json(&(struct job_view){j, p->reader, p->control, &p->status}, JOB_ALL)) < 0
                       ? -ENOMEM
                       : 0;
}

static void list_jobs(struct request *r)
{
        struct job_filter f = {.state = -1, .kind = -1};
        struct page p = {.limit = LIMIT_DEFAULT};
        struct reader *reader;
        struct error err;
        char next[24];
        int code;

        (void)request_query_choice(r, "state", job_state_names, &f.state);
        (void)request_query_choice(r, "kind", job_kind_names, &f.kind);
        (void)request_query_text(r, "tag", 64, &f.tag);
        (void)request_query_text(r, "text", 200, &f.text);
        (void)request_query_int(r, "limit", 1, LIMIT_MAX, &p.limit);
        (void)request_query_int(r, "cursor", 1, INT64_MAX, &f.before_id);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        p.reader = reader = request_reader(r);
        if (!reader)
                return;
        p.control = request_settings(r)->control;
        f.limit = p.limit + 1; /* one more, to know whether there is a next page */
        p.jobs = json_array();
        p.control->status(p.control, &p.status);
        code = reader_jobs(reader, &f, add_job, &p, &err);
        if (code < 0) {
                json_decref(p.jobs);
                problem(r, PROBLEM_INTERNAL, "the jobs cannot be read: %s", code == -ENOMEM ? "no memory" : err.text);
                return;
        }
        (void)snprintf(next, sizeof next, "%lld", (long long)p.last_id);
        response_json(r, 200,
                      json_pack("{s:o, s:o}", "jobs", p.jobs, "next", p.more ? json_string(next) : json_null()));
}

void jobs_list(struct request *r)
{
        request_apart(r, list_jobs, target_param(&r->target, "text")); /* which walks all of them */
}

/* ---- submit */

void jobs_submitted(struct request *r)
{
        char location[40];

        if (r->answer.r == -ENOENT) { /* the source's job or checkpoint: it is the request that is wrong */
                if (!r->answer_errs.n)
                        (void)errors_add(&r->answer_errs, -ENOENT, "/checkpoint", "there is no such checkpoint");
                if (!r->answer_errs.items[0].path[0])
                        (void)snprintf(r->answer_errs.items[0].path, sizeof r->answer_errs.items[0].path,
                                       "/checkpoint");
                problem_errors(r, PROBLEM_REQUEST_INVALID, &r->answer_errs);
                return;
        }
        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_CONFIG_INVALID);
                return;
        }
        answer_job(r, r->answer.id, 201);
        if (r->status != 201)
                return;
        (void)snprintf(location, sizeof location, "/v1/jobs/%lld", (long long)r->answer.id);
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
        pending = request_ask(r, jobs_submitted);
        if (pending)
                control->submit(control, TAKE_PTR(s), request_done, pending);
}
