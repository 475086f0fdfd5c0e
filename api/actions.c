/* What is done to a job that is there. */
#include "api/job_json.h"
#include "api/members.h"
#include "api/response.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void acted(struct request *r)
{
        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else
                answer_job(r, r->id, NULL, 200);
}

void answer_removed(struct request *r)
{
        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else
                response_empty(r, 204);
}

static void halt(struct request *r, enum stop_reason reason)
{
        static const char *const none[] = {NULL};
        struct control *control = request_settings(r)->control;
        _cleanup_json_ json_t *body = NULL;
        struct pending *pending = request_body(r, none, true, &body) ? request_ask(r, acted) : NULL;

        if (pending)
                control->halt(control, &r->by, r->id, reason, request_done, pending);
}

void jobs_cancel(struct request *r)
{
        halt(r, STOP_CANCEL);
}

void jobs_pause(struct request *r)
{
        halt(r, STOP_PAUSE);
}

/* ---- changes */

void changing_done(struct changing *c)
{
        free(c->name);
        free(c->notes);
        json_decref(c->tags);
        *c = (struct changing){0};
}

/* If-Match: "3", or *. */
static void read_version(struct request *r, int64_t *ret, struct errors *errs)
{
        const char *header = request_header(r, "If-Match");
        size_t n = header ? strlen(header) : 0;
        char digits[24];

        if (!header || !strcmp(header, "*"))
                return;
        (void)snprintf(digits, sizeof digits, "%.*s", n > 2 && n < sizeof digits ? (int)n - 2 : 0, header + 1);
        if (header[0] != '"' || header[n - 1] != '"' || !int_parse(digits, 1, INT64_MAX, ret))
                (void)errors_add(errs, -EINVAL, "", "If-Match names a version in quotes: \"3\"");
}

static void read_change(const json_t *body, struct changing *c, struct errors *errs)
{
        static const struct {
                const char *key;
                enum job_change change;
        } keys[] = {
                {"name", CHANGE_NAME}, {"tags", CHANGE_TAGS}, {"notes", CHANGE_NOTES}, {"priority", CHANGE_PRIORITY}};

        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
                if (json_object_get(body, keys[i].key))
                        c->change |= keys[i].change;
        members_name(body, &c->name, errs);
        members_tags(body, &c->tags, errs);
        members_notes(body, &c->notes, errs);
        members_priority(body, &c->priority, errs);
        c->change |= members_limits(body, &c->limits, errs);
}

void jobs_change(struct request *r)
{
        static const char *const keys[] = {"name", "tags", "notes", "priority", "limits", NULL};
        struct control *control = request_settings(r)->control;
        struct changing c = {0};
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct pending *pending;

        if (!request_body(r, keys, false, &body))
                return;
        read_change(body, &c, &errs);
        read_version(r, &c.version, &errs);
        if (!errs.n && !c.change)
                (void)errors_add(&errs, -EINVAL, "", "nothing is to be changed");
        if (!errs.n && (!c.name || !c.notes || !c.tags))
                (void)errors_add(&errs, -ENOMEM, "", "no memory");
        pending = errs.n ? NULL : request_ask(r, acted);
        if (errs.n)
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
        if (pending)
                control->change(control, &r->by, r->id, &c, request_done, pending);
        else
                changing_done(&c);
}

/* ---- resume and retry */

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
        how.change = members_limits(body, &how.limits, &errs);
        if (json_get_bool(body, "", "accept_changed_data", &how.accept_changed_data, &err) < 0)
                (void)errors_add(&errs, -EINVAL, err.path, "%s", err.text);
        if (errs.n) {
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        pending = request_ask(r, acted);
        if (pending)
                control->reopen(control, &r->by, r->id, &how, request_done, pending);
}

void jobs_resume(struct request *r)
{
        static const char *const keys[] = {"steps", "overrides", "accept_changed_data", "limits", NULL};

        reopen(r, keys, false);
}

void jobs_retry(struct request *r)
{
        static const char *const keys[] = {"accept_changed_data", "limits", NULL};

        reopen(r, keys, true);
}

void jobs_remove(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct pending *pending = request_ask(r, answer_removed);

        if (pending)
                control->remove(control, &r->by, r->id, request_done, pending);
}
