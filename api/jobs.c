#include "api/response.h"
#include "api/submit.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LIMIT_DEFAULT 50
#define LIMIT_MAX 500

static json_t *object_or_null(json_t *o)
{
        return o ? json_incref(o) : json_null();
}

static json_t *real_or_null(double v)
{
        return isnan(v) ? json_null() : json_from_real(v);
}

static json_t *text_or_null(const char *s)
{
        return s && *s ? json_string(s) : json_null();
}

static json_t *links_to_json(int64_t id)
{
        static const char *const names[] = {"log", "series", "artifacts"};
        json_t *o = json_object();
        char path[64];

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                (void)snprintf(path, sizeof path, "v1/jobs/%lld/%s", (long long)id, names[i]);
                (void)json_object_set_new(o, names[i], json_string(path));
        }
        return o;
}

static json_t *checkpoint_to_json(const struct job_row *j)
{
        return !j->source_job
                       ? json_null()
                       : json_pack("{s:I, s:I}", "job", (json_int_t)j->source_job, "step", (json_int_t)j->source_step);
}

/* A queued job waits for what holds up all of them, or for what its event log says. */
static json_t *waiting_to_json(const struct job_row *j, const struct control_status *status)
{
        return text_or_null(j->state == JOB_QUEUED && status->waiting[0] ? status->waiting : j->waiting);
}

/* New reference, NULL without memory. */
static json_t *job_to_json(const struct job_row *j, const struct control_status *status)
{
        json_t *progress = json_pack("{s:I, s:I, s:o, s:o}", "step", (json_int_t)j->step, "steps", (json_int_t)j->steps,
                                     "images_per_second", real_or_null(j->images_per_second), "seconds_left",
                                     real_or_null(j->seconds_left));
        const struct {
                const char *key;
                json_t *value;
        } members[] = {
                {"id", json_integer(j->id)},
                {"kind", json_string(job_kind_names[j->kind])},
                {"name", json_string(j->name)},
                {"tags", j->tags ? json_incref(j->tags) : json_array()},
                {"state", json_string(job_state_names[j->state])},
                {"created", json_from_time(j->created_us)},
                {"started", json_from_time(j->started_us)},
                {"ended", json_from_time(j->ended_us)},
                {"attempts", json_integer(j->attempts)},
                {"progress", progress},
                {"config", object_or_null(json_object_size(j->config) ? j->config : NULL)},
                {"import", object_or_null(j->import)},
                {"config_name", text_or_null(j->config_name)},
                {"checkpoint", checkpoint_to_json(j)},
                {"accept_changed_data", json_boolean(j->accept_changed_data)},
                {"cancel_requested", json_boolean(j->cancel_requested)},
                {"waiting", waiting_to_json(j, status)},
                {"result", object_or_null(j->result)},
                {"error", object_or_null(j->error)},
                {"links", links_to_json(j->id)},
        };
        _cleanup_json_ json_t *o = json_object();
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(members); i++)
                r |= json_object_set_new(o, members[i].key, members[i].value);
        return r ? NULL : TAKE_PTR(o);
}

static void answer_job(struct request *r, int64_t id, unsigned status)
{
        struct reader *reader = request_reader(r);
        struct control *control = request_settings(r)->control;
        struct control_status now;
        struct job_row j = {0};
        struct error err;
        int code = reader ? reader_job(reader, id, &j, &err) : 0;

        if (!reader)
                return;
        control->status(control, &now);
        if (code == -ENOENT)
                problem(r, PROBLEM_NOT_FOUND, "there is no job %lld", (long long)id);
        else if (code < 0)
                problem(r, PROBLEM_INTERNAL, "%s", err.text);
        else
                response_json(r, status, job_to_json(&j, &now));
        if (code >= 0)
                job_row_done(&j);
}

void jobs_read(struct request *r)
{
        answer_job(r, r->id, 200);
}

/* ---- list */

struct page {
        json_t *jobs;
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
        return json_array_append_new(p->jobs, job_to_json(j, &p->status)) < 0 ? -ENOMEM : 0;
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
        reader = request_reader(r);
        if (!reader)
                return;
        f.limit = p.limit + 1; /* one more, to know whether there is a next page */
        p.jobs = json_array();
        request_settings(r)->control->status(request_settings(r)->control, &p.status);
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

/* ---- actions */

static void acted(struct request *r)
{
        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else
                answer_job(r, r->id, 200);
}

void answer_removed(struct request *r)
{
        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else
                response_empty(r, 204);
}

void jobs_cancel(struct request *r)
{
        static const char *const none[] = {NULL};
        struct control *control = request_settings(r)->control;
        _cleanup_json_ json_t *body = NULL;
        struct pending *pending = request_body(r, none, true, &body) ? request_ask(r, acted) : NULL;

        if (pending)
                control->cancel(control, r->id, request_done, pending);
}

#define STEPS_PATH "training.num_steps_train"
#define STEPS_MAX 1000000000 /* config.def's */

/* {"steps": N} or {"overrides": {"training.num_steps_train": N}}; 0 where neither is given. */
static void resume_steps(const json_t *body, int64_t *ret, struct errors *errs)
{
        json_t *overrides = json_object_get(body, "overrides");
        int64_t steps = 0, changed = 0;
        const char *path;
        json_t *v;
        struct error err;

        if (json_get_int(body, "", "steps", 1, STEPS_MAX, &steps, &err) < 0)
                (void)errors_add(errs, -EINVAL, err.path, "%s", err.text);
        if (overrides && !json_is_object(overrides))
                (void)errors_add(errs, -EINVAL, "/overrides", "expected an object");
        json_object_foreach(overrides, path, v)
        {
                char pointer[sizeof err.path];

                json_pointer_append(pointer, sizeof pointer, "/overrides", path);
                if (strcmp(path, STEPS_PATH) != 0)
                        (void)errors_add(errs, -EINVAL, pointer,
                                         "only " STEPS_PATH " can be changed when a job is resumed");
                else if (json_get_int(overrides, "/overrides", path, 1, STEPS_MAX, &changed, &err) < 0)
                        (void)errors_add(errs, -EINVAL, err.path, "%s", err.text);
        }
        if (steps && changed && steps != changed)
                (void)errors_add(errs, -EINVAL, "/steps", "differs from the overrides' " STEPS_PATH);
        *ret = steps ? steps : changed;
}

static void reopen(struct request *r, const char *const *keys, bool retry)
{
        struct control *control = request_settings(r)->control;
        struct reopening how = {.retry = retry};
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct pending *pending;
        struct error err;

        if (!request_body(r, keys, true, &body))
                return;
        resume_steps(body, &how.steps, &errs);
        if (json_get_bool(body, "", "accept_changed_data", &how.accept_changed_data, &err) < 0)
                (void)errors_add(&errs, -EINVAL, err.path, "%s", err.text);
        if (errs.n) {
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        pending = request_ask(r, acted);
        if (pending)
                control->reopen(control, r->id, &how, request_done, pending);
}

void jobs_resume(struct request *r)
{
        static const char *const keys[] = {"steps", "overrides", "accept_changed_data", NULL};

        reopen(r, keys, false);
}

void jobs_retry(struct request *r)
{
        static const char *const keys[] = {"accept_changed_data", NULL};

        reopen(r, keys, true);
}

void jobs_remove(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct pending *pending = request_ask(r, answer_removed);

        if (pending)
                control->remove(control, r->id, request_done, pending);
}
