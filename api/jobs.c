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
        answer_job(r, r->id, NULL, 200);
}

/* ---- list */

#define TOTAL_MAX 1000 /* beyond it a total that is not kept is not counted either */

struct page {
        json_t *jobs;
        struct reader *reader;
        struct control *control;
        struct control_status status;
        const char *prefix;
        uint64_t members;
        int64_t limit, last_id, last_priority;
        bool more;
};

static int add_job(const struct job_row *j, void *user)
{
        struct page *p = user;
        const struct job_view v = {j, p->reader, p->control, &p->status, p->prefix};

        if ((int64_t)json_array_size(p->jobs) == p->limit) {
                p->more = true;
                return 0;
        }
        p->last_id = j->id;
        p->last_priority = j->priority;
        return json_array_append_new(p->jobs, job_to_json(&v, p->members)) < 0 ? -ENOMEM : 0;
}

/* A place in the list: an id, or, in the queue's order, priority and id: "-5.17". */
static void read_cursor(struct request *r, struct job_filter *f)
{
        const char *s = target_param(&r->target, "cursor"), *dot = s ? strchr(s, '.') : NULL;
        bool negative = s && *s == '-';
        char priority[16];

        if (f->order != ORDER_QUEUE) {
                (void)request_query_int(r, "cursor", 1, INT64_MAX, &f->bound);
                return;
        }
        if (!s)
                return;
        (void)snprintf(priority, sizeof priority, "%.*s", dot ? (int)(dot - s) - negative : 0, s + negative);
        if (!dot || !int_parse(priority, 0, PRIORITY_MAX, &f->bound_priority) ||
            !int_parse(dot + 1, 1, INT64_MAX, &f->bound))
                (void)errors_add(&r->errs, -EINVAL, "cursor", "expected an answer's next, of the same order");
        if (negative)
                f->bound_priority = -f->bound_priority;
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

static void read_filter(struct request *r, struct page *p, struct job_filter *f)
{
        static const char *const orders[] = {"-id", "id", "priority", NULL};
        int order = ORDER_NEWEST;

        (void)request_query_choices(r, "state", job_state_names, &f->states);
        (void)request_query_choices(r, "kind", job_kind_names, &f->kinds);
        (void)request_query_text(r, "tag", 64, &f->tag);
        (void)request_query_text(r, "text", 200, &f->text);
        (void)request_query_choice(r, "order", orders, &order);
        (void)request_query_int(r, "limit", 1, LIMIT_MAX, &p->limit);
        f->order = (enum job_order)order;
        if (f->order == ORDER_QUEUE && f->states != JOB_ANY && f->states != 1U << JOB_QUEUED)
                (void)errors_add(&r->errs, -EINVAL, "order", "only what is queued has an order by priority");
        if (f->order == ORDER_QUEUE)
                f->states = 1U << JOB_QUEUED;
        read_cursor(r, f);
        read_fields(r, p, f);
        f->limit = p->limit + 1; /* one more, to know whether there is a next page */
}

static json_t *next_to_json(const struct page *p, const struct job_filter *f)
{
        char next[48];

        if (!p->more)
                return json_null();
        if (f->order == ORDER_QUEUE)
                (void)snprintf(next, sizeof next, "%lld.%lld", (long long)p->last_priority, (long long)p->last_id);
        else
                (void)snprintf(next, sizeof next, "%lld", (long long)p->last_id);
        return json_string(next);
}

static void list_jobs(struct request *r)
{
        struct job_filter f = {.states = JOB_ANY, .kinds = JOB_ANY};
        struct page p = {.limit = LIMIT_DEFAULT};
        struct job_counts counts;
        int64_t total = 0;
        struct error err;
        int code;

        read_filter(r, &p, &f);
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
        code = reader_jobs(p.reader, &f, add_job, &p, &err);
        if (code >= 0)
                code = reader_jobs_total(p.reader, &f, TOTAL_MAX, &total, &err);
        if (code >= 0)
                code = reader_job_counts(p.reader, &counts, &err);
        if (code < 0) {
                json_decref(p.jobs);
                problem_failed(r, "the jobs cannot be read", code, &err);
                return;
        }
        response_json(r, 200,
                      json_pack("{s:o, s:o, s:o, s:o}", "jobs", p.jobs, "next", next_to_json(&p, &f), "total",
                                total < 0 ? json_null() : json_integer(total), "counts", job_counts_to_json(&counts)));
}

/* What a text, a tag or the queue brings is filtered as it comes: few may be left of very many. */
static bool may_walk_many(const struct request *r)
{
        const struct target *t = &r->target;
        bool narrows = target_param(t, "state") || target_param(t, "kind");

        return target_param(t, "text") || (target_param(t, "tag") && (narrows || target_param(t, "order"))) ||
               (target_param(t, "order") && target_param(t, "kind"));
}

void jobs_list(struct request *r)
{
        request_apart(r, list_jobs, may_walk_many(r));
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
