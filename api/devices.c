/* The devices of this server: what they are, what runs there, in and out of service. */
#include "api/response.h"

#include "base/clock.h"
#include "base/system.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *state_of(const struct control_device *d)
{
        if (d->out)
                return d->job ? "draining" : "drained";
        if (d->job)
                return "busy";
        if (d->suspect)
                return "suspect";
        if (d->n_others)
                return "occupied";
        return d->rests_until_us > clock_monotonic_us() ? "rests" : "idle";
}

static json_t *others_to_json(const struct control_device *d)
{
        json_t *list = json_array();

        for (size_t i = 0; i < d->n_others; i++)
                (void)json_array_append_new(
                        list, json_pack("{s:I, s:o, s:o}", "pid", (json_int_t)d->others[i].pid, "user",
                                        json_text_or_null(d->others[i].user), "bytes",
                                        d->others[i].bytes < 0 ? json_null() : json_integer(d->others[i].bytes)));
        return list;
}

static json_t *device_to_json(const struct control_device *d)
{
        int64_t wait_us = d->rests_until_us - clock_monotonic_us();
        char cores[512];

        system_cores_text(&d->cores, cores, sizeof cores);
        return json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:o, s:o, s:s, s:o, s:b, s:o, s:o, s:o}", "name", d->name,
                         "kind", d->gpu ? "gpu" : "cpu", "cores", d->has_cores ? cores : NULL, "uuid",
                         d->uuid[0] ? d->uuid : NULL, "model", d->model[0] ? d->model : NULL, "memory_bytes",
                         d->memory_bytes > 0 && d->memory_bytes < INT64_MAX ? json_integer(d->memory_bytes)
                                                                            : json_null(),
                         "job_bytes", d->job_bytes > 0 ? json_integer(d->job_bytes) : json_null(), "state", state_of(d),
                         "why", json_text_or_null(d->why), "watched", d->watched, "occupied_by", others_to_json(d),
                         "job", json_int_or_null(d->job), "rests_until",
                         wait_us > 0 ? json_from_time(clock_wall_us() + wait_us) : json_null());
}

void devices_list(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct control_status status;
        json_t *list = json_array();

        control->status(control, &status);
        for (size_t i = 0; i < status.n_devices; i++)
                (void)json_array_append_new(list, device_to_json(&status.devices[i]));
        response_json(r, 200, json_pack("{s:o}", "devices", list));
}

static void serviced(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct control_status status;

        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_REQUEST_INVALID);
                return;
        }
        control->status(control, &status);
        for (size_t i = 0; i < status.n_devices; i++)
                if (!strcmp(status.devices[i].name, r->name))
                        response_json(r, 200, device_to_json(&status.devices[i]));
        if (!r->response)
                problem(r, PROBLEM_NOT_FOUND, "there is no such device");
}

static void service(struct request *r, bool out, const char *const *keys)
{
        struct control *control = request_settings(r)->control;
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct pending *pending;
        bool preempt = false;
        struct error err;

        if (!request_body(r, keys, true, &body))
                return;
        if (json_get_bool(body, "", "preempt", &preempt, &err) < 0) {
                (void)errors_add(&errs, -EINVAL, err.path, "%s", err.text);
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        pending = request_ask(r, serviced);
        if (pending)
                control->service(control, &r->by, r->name, out, preempt, request_done, pending);
}

void devices_drain(struct request *r)
{
        static const char *const keys[] = {"preempt", NULL};

        service(r, true, keys);
}

void devices_enable(struct request *r)
{
        static const char *const none[] = {NULL};

        service(r, false, none);
}
