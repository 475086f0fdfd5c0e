#include "daemon/device.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/system.h"
#include "daemon/daemon.h"
#include "daemon/memory.h"
#include "daemon/process.h"
#include "daemon/stop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PROBE_TIMEOUT_US (30 * US_PER_S)

/* ---- what the worker's program finds */

struct probing {
        struct daemon *daemon;
        struct helper *helper;
        json_t *found; /* object, or NULL: there was no answer */
        int r;         /* no memory for the answer */
        struct error *err;
};

static void on_probed(void *user, int r, int status, const struct buf *output, const struct error *why)
{
        struct probing *p = user;
        struct error err = {0};

        p->helper = NULL;
        if (r >= 0)
                r = json_parse(output->data ? output->data : "", output->size, &p->found, &err);
        else
                err = *why;
        if (p->found && !json_is_array(json_object_get(p->found, "devices"))) {
                json_decref(p->found);
                p->found = NULL;
                (void)error_set(&err, -EIO, NULL, "it named none");
        }
        if (error_is_hosts(r)) {
                *p->err = err;
                p->r = r;
        } else if (!p->found)
                log_warning(
                        "which devices there are is not known, so jobs run on the processor: the worker's probe ended "
                        "with status %d: %s",
                        status, err.text);
        loop_quit(p->daemon->loop);
}

/* *ret_found: NULL when the worker's program does not say. Negative when it cannot be asked now. */
static int probe(struct daemon *d, json_t **ret_found, struct error *err)
{
        struct probing p = {.daemon = d, .err = err};
        char *argv[] = {d->settings.worker, (char[]){"--probe"}, NULL};
        int r = helper_run(d->loop, d->settings.worker, argv, NULL, NULL, PROBE_TIMEOUT_US, 65536, on_probed, &p,
                           &p.helper, err);

        if (r >= 0)
                r = loop_run(d->loop, err);
        p.helper = helper_cancel(p.helper); /* told to end meanwhile */
        *ret_found = p.found;
        return MIN(r, p.r);
}

/* The device of that back end, and, where it is given, of that index or UUID; borrowed. */
static const json_t *find_found(const json_t *found, const char *backend, const char *which)
{
        const json_t *o;
        size_t i;

        json_array_foreach(json_object_get(found, "devices"), i, o)
        {
                const char *uuid = json_string_value(json_object_get(o, "uuid")),
                           *name = json_string_value(json_object_get(o, "backend"));
                char index[24];

                (void)snprintf(index, sizeof index, "%lld", (long long)json_integer_value(json_object_get(o, "index")));
                if (name && !strcmp(name, backend) &&
                    (!which || !strcmp(which, index) || (uuid && !strcmp(which, uuid))))
                        return o;
        }
        return NULL;
}

static void describe(struct device *x, const json_t *found)
{
        const char *uuid = json_string_value(json_object_get(found, "uuid")),
                   *model = json_string_value(json_object_get(found, "name"));

        (void)snprintf(x->uuid, sizeof x->uuid, "%s", uuid && x->gpu ? uuid : "");
        (void)snprintf(x->model, sizeof x->model, "%s", model ? model : "");
        x->memory_bytes = x->gpu ? json_integer_value(json_object_get(found, "memory_total")) : 0;
}

static struct device *add(struct daemon *d, const char *name, bool gpu)
{
        struct device *x = &d->devices[d->n_devices++];

        *x = (struct device){.daemon = d, .gpu = gpu, .energy_mj = -1, .ecc_errors = -1};
        (void)snprintf(x->name, sizeof x->name, "%s", name);
        return x;
}

/* ---- which of them are used */

/* The processor, and every GPU with its UUID. */
static void take_all(struct daemon *d, const json_t *found)
{
        const json_t *o;
        char name[32];
        size_t i;

        describe(add(d, "cpu", false), find_found(found, "cpu", NULL));
        json_array_foreach(json_object_get(found, "devices"), i, o)
        {
                const char *backend = json_string_value(json_object_get(o, "backend"));

                if (!backend || strcmp(backend, "cuda") != 0 || d->n_devices == DEVICES_MAX)
                        continue;
                (void)snprintf(name, sizeof name, "gpu%lld",
                               (long long)json_integer_value(json_object_get(o, "index")));
                describe(add(d, name, true), o);
        }
}

static int take_setting(struct daemon *d, const struct device_setting *s, const json_t *found, struct error *err)
{
        const json_t *o = find_found(found, s->gpu ? "cuda" : "cpu", s->gpu ? s->which : NULL);
        struct device *x;
        cpu_set_t own;

        if (s->gpu && !o)
                return error_set(err, -ENODEV, "--device", "%s: there is no GPU %s here", s->name, s->which);
        x = add(d, s->name, s->gpu);
        describe(x, o);
        if (s->gpu)
                return 0;
        x->has_cores = system_cores(s->which, &x->cores);
        if (sched_getaffinity(0, sizeof own, &own) == 0)
                CPU_AND(&own, &own, &x->cores);
        return x->has_cores && CPU_COUNT(&own) == CPU_COUNT(&x->cores)
                       ? 0
                       : error_set(err, -ENODEV, "--device", "%s: not all of the cores %s are there, or allowed",
                                   s->name, s->which);
}

bool device_shares(const struct device *a, const struct device *b)
{
        return a->gpu && b->gpu && a->uuid[0] && !strcmp(a->uuid, b->uuid);
}

uint64_t device_slots(const struct device *devices, size_t n_devices, size_t device)
{
        uint64_t slots = (uint64_t)1 << device;

        for (size_t i = 0; i < n_devices; i++)
                if (device_shares(&devices[device], &devices[i]))
                        slots |= (uint64_t)1 << i;
        return slots;
}

/* Each slot of a GPU has its part of the memory. */
static void divide_memory(struct daemon *d)
{
        for (size_t i = 0; i < d->n_devices; i++)
                d->devices[i].memory_bytes /= __builtin_popcountll(device_slots(d->devices, d->n_devices, i));
}

int devices_find(struct daemon *d, struct error *err)
{
        _cleanup_json_ json_t *found = NULL;
        const char *missing;
        int r = probe(d, &found, err);

        d->n_devices = 0;
        d->memory_bytes = memory_total("");
        if (r < 0 || d->terminated)
                return MIN(r, 0);
        missing = json_string_value(json_object_get(found, "cuda"));
        if (!d->settings.n_devices)
                take_all(d, found);
        for (size_t i = 0; r >= 0 && i < d->settings.n_devices; i++)
                r = take_setting(d, &d->settings.devices[i], found, err);
        divide_memory(d);
        if (missing && find_found(found, "cuda", NULL))
                log_warning("not each GPU can be used: %s", missing);
        for (size_t i = 0; r >= 0 && i < d->n_devices; i++) {
                struct device *x = &d->devices[i];

                r = reader_device_out(d->reader, x->name, &x->out, x->out_why, sizeof x->out_why, err);
                log_info("device %s: %s%s%s%s", x->name, x->gpu ? "GPU" : "processor", x->model[0] ? ", " : "",
                         x->model, x->out ? "; out of service" : "");
        }
        return r;
}

/* ---- what jobs hold */

void devices_take(struct daemon *d, uint64_t set, int64_t job, int64_t bytes)
{
        FOR_EACH_DEVICE(i, set)
        {
                d->devices[i].users++;
                d->devices[i].job = job;
                d->devices[i].job_bytes = bytes / __builtin_popcountll(set);
        }
}

void devices_release(struct daemon *d, uint64_t set)
{
        FOR_EACH_DEVICE(i, set)
        {
                d->devices[i].users--;
                d->devices[i].released_us = clock_monotonic_us();
        }
}

/* ---- out of service */

void device_preempt(struct daemon *d, const struct device *x, const char *why)
{
        struct job *j = x->users ? queue_find(&d->queue, x->job) : NULL;

        if (j && stop_is_possible(j))
                stop_ask(d, j, STOP_PREEMPT, why, NULL, NULL, NULL);
}

static void on_out(struct daemon *d _unused_, const struct commit *c, void *user)
{
        const struct device *x = user;

        if (c->r < 0)
                log_warning("device %s: that it is out of service is not written down, and over with this daemon: %s",
                            x->name, c->err.text);
}

void device_out(struct daemon *d, struct device *x, const char *why)
{
        struct write *w;
        char text[sizeof x->name + sizeof x->out_why];

        if (x->out)
                return;
        x->out = true;
        (void)snprintf(x->out_why, sizeof x->out_why, "%s", why);
        (void)snprintf(text, sizeof text, "%s: %s", x->name, why);
        log_error("device %s is out of service: %s", x->name, why);
        w = write_new(WRITE_DEVICE);
        if (w) {
                (void)snprintf(w->device, sizeof w->device, "%s", x->name);
                w->out = true;
                w->detail = strdup(x->out_why);
        }
        commit_submit(d, w, on_out, x);
        device_preempt(d, x, text);
}

json_t *devices_names(const struct daemon *d, uint64_t set)
{
        _cleanup_json_ json_t *names = json_array();
        int r = 0;

        FOR_EACH_DEVICE(i, set)
        r |= json_array_append_new(names, json_string(d->devices[i].name));
        return r ? NULL : TAKE_PTR(names);
}

uint64_t devices_of(const struct daemon *d, const json_t *names)
{
        const json_t *name;
        uint64_t set = 0;
        size_t i;

        json_array_foreach(names, i, name)
        {
                size_t k = daemon_device(d, json_string_value(name));

                if (d->n_devices && json_is_string(name) && !strcmp(d->devices[k].name, json_string_value(name)))
                        set |= (uint64_t)1 << k;
        }
        return set ? set : 1;
}

/* The cores that its rank may use: those of a part of the processor, or all. */
static void describe_place(const struct device *x, char *ret, size_t size)
{
        cpu_set_t cores = x->cores;

        if (!x->gpu && !x->has_cores && sched_getaffinity(0, sizeof cores, &cores) < 0)
                CPU_ZERO(&cores);
        if (x->gpu)
                (void)snprintf(ret, size, "%s", x->uuid);
        else
                system_cores_text(&cores, ret, size);
}

int devices_assign(const struct daemon *d, uint64_t set, struct assignment *a, struct error *err)
{
        char place[512];

        a->devices = calloc((size_t)__builtin_popcountll(set), sizeof *a->devices);
        FOR_EACH_DEVICE(i, a->devices ? set : 0)
        {
                describe_place(&d->devices[i], place, sizeof place);
                a->devices[a->n_devices] = (struct assignment_device){strdup(d->devices[i].name), strdup(place)};
                if (!a->devices[a->n_devices].name || !a->devices[a->n_devices].place)
                        return error_set(err, -ENOMEM, NULL, "no memory for an assignment");
                a->n_devices++;
        }
        return a->devices ? 0 : error_set(err, -ENOMEM, NULL, "no memory for an assignment");
}
