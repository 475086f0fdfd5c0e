#include "worker/watch.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/nvml.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define PROCESSES_MAX 256
#define DEVICES_MAX 64
#define XID_WAIT_MS 5000
#define XID_PAUSE_US (1 * US_PER_S) /* after an error of waiting */

/* The handle of a GPU, or of a MIG instance, whose errors are those of its GPU. */
struct watched {
        const char *uuid;
        struct nvml_device *device, *gpu; /* NULL: it was not found yet */
        bool events;                      /* it tells of XIDs */
};

struct watching {
        struct nvml nvml;
        struct nvml_events *events; /* NULL: this driver tells of none */
        struct watched devices[DEVICES_MAX];
        int n_devices;
        pthread_mutex_t lock; /* of the output, and of the handles above */
        char *said;           /* the devices as they were told last, without what always changes */
};

/* Takes json. Without a reader there is nobody to watch for. */
static void say(struct watching *x, json_t *json)
{
        _cleanup_(buf_done) struct buf line = BUF_INIT((size_t)1 << 20);

        if (json && json_write(json, &line) >= 0 && buf_append(&line, "\n", 1, NULL) >= 0) {
                (void)pthread_mutex_lock(&x->lock);
                for (size_t sent = 0; sent < line.size;) {
                        ssize_t n = write(STDOUT_FILENO, line.data + sent, line.size - sent);

                        if (n < 0 && errno != EINTR)
                                _exit(1);
                        sent += (size_t)MAX(n, (ssize_t)0);
                }
                (void)pthread_mutex_unlock(&x->lock);
        } else {
                log_error("no memory to tell how the GPUs are");
        }
        json_decref(json);
}

/* ---- a look at a GPU */

static const char *error_text(const struct watching *x, int result, char *ret, size_t size)
{
        (void)snprintf(ret, size, "NVML: %s (%d)", x->nvml.error_text ? x->nvml.error_text(result) : "error", result);
        return ret;
}

static int find(struct watching *x, struct watched *w)
{
        struct nvml_device *device, *gpu;
        int r = w->device ? NVML_OK : x->nvml.by_uuid(w->uuid, &device);

        if (w->device || r != NVML_OK)
                return r;
        if (strncmp(w->uuid, "MIG-", 4) || !x->nvml.parent || x->nvml.parent(device, &gpu) != NVML_OK)
                gpu = device;
        (void)pthread_mutex_lock(&x->lock);
        w->device = device;
        w->gpu = gpu;
        (void)pthread_mutex_unlock(&x->lock);
        if (x->events)
                w->events = x->nvml.events_add(gpu, NVML_EVENT_XID, x->events) == NVML_OK;
        if (!w->events)
                log_warning("%s: the driver tells of none of its XID errors", w->uuid);
        return r;
}

static int look_at_processes(const struct watching *x, const struct watched *w, json_t *o)
{
        static struct nvml_process list[PROCESSES_MAX];
        unsigned n = PROCESSES_MAX;
        int r = x->nvml.processes ? x->nvml.processes(w->device, &n, list) : NVML_NOT_SUPPORTED;
        json_t *processes;

        if (r != NVML_OK && r != NVML_INSUFFICIENT_SIZE) /* of too many the first are enough */
                return r;
        processes = json_array();
        for (unsigned i = 0; i < MIN(n, (unsigned)PROCESSES_MAX); i++) {
                json_t *p = json_pack("{s:I}", "pid", (json_int_t)list[i].pid);

                if (list[i].bytes != NVML_UNKNOWN_BYTES)
                        (void)json_object_set_new(p, "bytes", json_integer((json_int_t)list[i].bytes));
                (void)json_array_append_new(processes, p);
        }
        (void)json_object_set_new(o, "processes", processes);
        return NVML_OK;
}

/* What a driver answers of a GPU that must be brought back. That it knows none of a name, or tells nobody here of it,
 * is no reason to use it no more: CUDA has found it. */
static bool is_lost(int result)
{
        return result == NVML_GPU_IS_LOST || result == NVML_RESET_REQUIRED;
}

/* All but its energy. */
static json_t *look(struct watching *x, struct watched *w)
{
        json_t *o = json_pack("{s:s}", "uuid", w->uuid);
        unsigned long long ecc;
        char text[160];
        int found = find(x, w), errors = NVML_OK, processes = NVML_OK, lost;

        if (found == NVML_OK) {
                errors = x->nvml.ecc_errors ? x->nvml.ecc_errors(w->gpu, NVML_ECC_UNCORRECTED, NVML_ECC_VOLATILE, &ecc)
                                            : NVML_NOT_SUPPORTED;
                if (errors == NVML_OK)
                        (void)json_object_set_new(o, "ecc", json_integer((json_int_t)ecc));
                processes = look_at_processes(x, w, o);
        }
        lost = is_lost(found) ? found : is_lost(errors) ? errors : is_lost(processes) ? processes : NVML_OK;
        if (lost != NVML_OK)
                (void)json_object_set_new(o, "lost", json_string(error_text(x, lost, text, sizeof text)));
        return o;
}

/* Of all; without an energy, which no two looks find the same. NULL without memory. */
static json_t *look_at_all(struct watching *x)
{
        json_t *devices = json_array();

        for (int i = 0; i < x->n_devices; i++)
                (void)json_array_append_new(devices, look(x, &x->devices[i]));
        return devices;
}

static void add_energy(struct watching *x, json_t *devices)
{
        for (int i = 0; i < x->n_devices; i++) {
                struct nvml_device *device = x->devices[i].device;
                unsigned long long mj;

                if (device && x->nvml.energy && x->nvml.energy(device, &mj) == NVML_OK)
                        (void)json_object_set_new(json_array_get(devices, (size_t)i), "energy_mj",
                                                  json_integer((json_int_t)mj));
        }
}

/* question: its number as it came, or NULL: only what has changed is told. */
static void tell(struct watching *x, const char *question)
{
        json_t *devices = look_at_all(x), *line;
        char *text = devices ? json_to_text(devices) : NULL;
        bool changed = !text || !x->said || strcmp(text, x->said) != 0;

        free(x->said);
        x->said = text;
        if (!changed && !question) {
                json_decref(devices);
                return;
        }
        add_energy(x, devices);
        line = json_pack("{s:o}", "devices", devices);
        if (question)
                (void)json_object_set_new(line, "answers", json_integer(strtoll(question, NULL, 10)));
        say(x, line);
}

/* ---- XIDs, on a thread of their own */

static void tell_xid(struct watching *x, const struct nvml_event *e)
{
        for (int i = 0; i < x->n_devices; i++) {
                bool here;

                (void)pthread_mutex_lock(&x->lock);
                here = x->devices[i].gpu == e->device;
                (void)pthread_mutex_unlock(&x->lock);
                if (here)
                        say(x, json_pack("{s:s, s:I}", "uuid", x->devices[i].uuid, "xid", (json_int_t)e->data));
        }
}

static void *watch_events(void *user)
{
        struct watching *x = user;

        for (;;) {
                struct nvml_event e = {0};
                int r = x->nvml.events_wait(x->events, &e, XID_WAIT_MS);

                if (r == NVML_OK && e.type == NVML_EVENT_XID)
                        tell_xid(x, &e);
                else if (r != NVML_OK && r != NVML_TIMEOUT) /* a lost GPU is an error each time */
                        (void)usleep(XID_PAUSE_US);
        }
        return NULL;
}

static void begin_events(struct watching *x)
{
        pthread_t thread;

        if (!x->nvml.events_new || !x->nvml.events_add || !x->nvml.events_wait ||
            x->nvml.events_new(&x->events) != NVML_OK)
                x->events = NULL;
        if (x->events && pthread_create(&thread, NULL, watch_events, x) == 0)
                (void)pthread_detach(thread);
        else
                x->events = NULL;
}

/* ---- questions */

/* Every whole line is one. False: the input is at its end, or is none. */
static bool answer(struct watching *x, char *pending, size_t *n, size_t size)
{
        ssize_t got = read(STDIN_FILENO, pending + *n, size - *n - 1);
        char *line = pending, *end;

        if (got <= 0)
                return got < 0 && errno == EINTR;
        *n += (size_t)got;
        pending[*n] = 0;
        for (; (end = strchr(line, '\n')); line = end + 1) {
                *end = 0;
                if (!*line || line[strspn(line, "0123456789")])
                        return false;
                tell(x, line);
        }
        *n = strlen(line);
        memmove(pending, line, *n + 1);
        return *n + 1 < size;
}

int watch(int every_ms, int n_uuids, char **uuids)
{
        static struct watching x = {.lock = PTHREAD_MUTEX_INITIALIZER};
        struct error err;
        char pending[256];
        size_t n = 0;
        int r = nvml_open(&x.nvml, &err);

        if (r < 0) {
                say(&x, json_pack("{s:s}", "none", err.text));
                return 0;
        }
        x.n_devices = MIN(n_uuids, DEVICES_MAX);
        for (int i = 0; i < x.n_devices; i++)
                x.devices[i].uuid = uuids[i];
        begin_events(&x);
        tell(&x, NULL);
        do {
                struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

                r = poll(&in, 1, every_ms);
                if (r == 0)
                        tell(&x, NULL);
        } while (r == 0 || (r < 0 && errno == EINTR) || (r > 0 && answer(&x, pending, &n, sizeof pending)));
        _exit(0); /* the other thread may hang in the driver */
}
