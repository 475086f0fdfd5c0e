#include "daemon/device.h"

#include "base/clock.h"
#include "base/json.h"
#include "daemon/daemon.h"
#include "daemon/memory.h"
#include "daemon/process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PROBE_TIMEOUT_US (30 * US_PER_S)

bool device_parse_cores(const char *s, cpu_set_t *ret)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        do {
                char *end;
                unsigned long first, last;

                if (*s < '0' || *s > '9')
                        return false;
                first = last = strtoul(s, &end, 10);
                if (*end == '-' && end[1] >= '0' && end[1] <= '9')
                        last = strtoul(end + 1, &end, 10);
                if (last < first || last >= CPU_SETSIZE || (*end && *end != ','))
                        return false;
                for (unsigned long i = first; i <= last; i++)
                        CPU_SET(i, &set);
                s = end + 1;
                if (!*end)
                        break;
        } while (true);
        *ret = set;
        return true;
}

/* ---- what the worker's program finds */

struct probing {
        struct daemon *daemon;
        struct helper *helper;
        json_t *found; /* object, or NULL: there was no answer */
};

static void on_probed(void *user, int r, int status, const struct buf *output, const struct error *why)
{
        struct probing *p = user;
        struct error err = {0};

        p->helper = NULL;
        if (r < 0)
                err = *why;
        else if (json_parse(output->data ? output->data : "", output->size, &p->found, &err) >= 0 &&
                 !json_is_array(json_object_get(p->found, "devices"))) {
                json_decref(p->found);
                p->found = NULL;
                (void)error_set(&err, -EIO, NULL, "it named none");
        }
        if (!p->found)
                log_warning(
                        "which devices there are is not known, so jobs run on the processor: the worker's probe ended "
                        "with status %d: %s",
                        status, err.text);
        loop_quit(p->daemon->loop);
}

static json_t *probe(struct daemon *d)
{
        struct probing p = {.daemon = d};
        char *argv[] = {d->settings.worker, (char[]){"--probe"}, NULL};
        struct error err;

        if (helper_run(d->loop, d->settings.worker, argv, NULL, PROBE_TIMEOUT_US, 65536, on_probed, &p, &p.helper,
                       &err) < 0 ||
            loop_run(d->loop, &err) < 0)
                log_warning("which devices there are is not known, so jobs run on the processor: %s", err.text);
        p.helper = helper_cancel(p.helper); /* told to end meanwhile */
        return p.found;
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

        *x = (struct device){.gpu = gpu};
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
        x->has_cores = device_parse_cores(s->which, &x->cores);
        if (sched_getaffinity(0, sizeof own, &own) == 0)
                CPU_AND(&own, &own, &x->cores);
        return x->has_cores && CPU_COUNT(&own) == CPU_COUNT(&x->cores)
                       ? 0
                       : error_set(err, -ENODEV, "--device", "%s: not all of the cores %s are there, or allowed",
                                   s->name, s->which);
}

int devices_find(struct daemon *d, struct error *err)
{
        _cleanup_json_ json_t *found = probe(d);
        int r = 0;

        d->n_devices = 0;
        d->memory_bytes = memory_total("");
        if (d->terminated)
                return 0;
        if (!d->settings.n_devices)
                take_all(d, found);
        for (size_t i = 0; r >= 0 && i < d->settings.n_devices; i++)
                r = take_setting(d, &d->settings.devices[i], found, err);
        for (size_t i = 0; r >= 0 && i < d->n_devices; i++) {
                struct device *x = &d->devices[i];

                r = reader_device_out(d->reader, x->name, &x->out, err);
                log_info("device %s: %s%s%s%s", x->name, x->gpu ? "GPU" : "processor", x->model[0] ? ", " : "",
                         x->model, x->out ? "; out of service" : "");
        }
        return r;
}
