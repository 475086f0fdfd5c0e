#include "daemon/suspect.h"

#include "base/clock.h"
#include "base/json.h"
#include "daemon/daemon.h"
#include "daemon/process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EARLY_US (60 * US_PER_S)
#define CHECK_TIMEOUT_US (180 * US_PER_S)
#define CHECK_BYTES 65536

void suspect_note(struct daemon *d, int64_t job, uint64_t devices, enum failure f, int64_t lasted_us)
{
        if ((f != FAILURE_DEVICE && f != FAILURE_HOST) || lasted_us >= EARLY_US)
                return;
        FOR_EACH_DEVICE(i, devices)
        {
                struct device *x = &d->devices[i];

                if (x->failed_early && x->failed_early != job && !x->suspect && !x->out && !x->check_passed) {
                        x->suspect = true;
                        (void)snprintf(x->suspect_why, sizeof x->suspect_why,
                                       "jobs %lld and %lld failed on it in their first minute: it is checked",
                                       (long long)x->failed_early, (long long)job);
                        log_warning("device %s is suspect: %s", x->name, x->suspect_why);
                }
                x->failed_early = job;
        }
}

/* "": it did not say that the device is at fault. */
static void find_fault(const struct buf *output, char *ret, size_t size)
{
        _cleanup_json_ json_t *json = NULL;
        const json_t *error;
        const char *class, *detail;

        ret[0] = 0;
        if (json_parse(output->data ? output->data : "", output->size, &json, NULL) < 0)
                return;
        error = json_object_get(json, "error");
        class = json_string_value(json_object_get(error, "class"));
        detail = json_string_value(json_object_get(error, "detail"));
        if (class && detail && !strcmp(class, failure_rules[FAILURE_DEVICE].name))
                (void)snprintf(ret, size, "its check failed: %s", detail);
}

/* Nothing is known of the device: the host did not let it be checked. */
static void not_checked(struct daemon *d, struct device *x, const char *why)
{
        int64_t wait_us = failure_wait_us(d->settings.retry_us, MAX(x->failures, 1));

        x->not_before_us = clock_monotonic_us() + wait_us;
        log_warning("device %s cannot be checked, which is the host's doing: %s; nothing starts on it for %.1f s",
                    x->name, why, (double)wait_us / 1e6);
}

static void on_checked(void *user, int r, int status, const struct buf *output, const struct error *err)
{
        struct device *x = user;
        struct daemon *d = x->daemon;
        char text[sizeof x->out_why];

        x->check = NULL;
        x->suspect = false;
        find_fault(output, text, sizeof text);
        if (r == -ETIMEDOUT && x->gpu)
                (void)snprintf(text, sizeof text, "its check did not end within %lld s",
                               (long long)(CHECK_TIMEOUT_US / US_PER_S));
        if (text[0]) {
                device_out(d, x, text);
        } else if (r < 0 || status != 0) {
                (void)snprintf(text, sizeof text, "it ended with status %d", status);
                not_checked(d, x, r < 0 ? err->text : text);
        } else {
                x->check_passed = true;
                log_info("device %s computes what it should: it is used again after its rest", x->name);
        }
        daemon_schedule(d);
}

static int start(struct device *x, struct error *err)
{
        struct daemon *d = x->daemon;
        char *argv[] = {d->settings.worker, (char[]){"--check"}, x->gpu ? (char[]){"cuda"} : (char[]){"cpu"}, NULL};
        char visible[32 + sizeof x->uuid];
        struct process_place place = {x->has_cores ? &x->cores : NULL, x->gpu ? visible : NULL};

        (void)snprintf(visible, sizeof visible, "CUDA_VISIBLE_DEVICES=%s", x->uuid);
        return helper_run(d->loop, d->settings.worker, argv, NULL, &place, CHECK_TIMEOUT_US, CHECK_BYTES, on_checked, x,
                          &x->check, err);
}

void suspect_check(struct daemon *d)
{
        struct error err;

        for (size_t i = 0; i < d->n_devices; i++) {
                struct device *x = &d->devices[i];

                if (!x->suspect || x->check || x->users || start(x, &err) >= 0)
                        continue;
                x->suspect = false;
                not_checked(d, x, err.text);
        }
}

void suspect_end(struct daemon *d)
{
        for (size_t i = 0; i < d->n_devices; i++)
                d->devices[i].check = helper_cancel(d->devices[i].check);
}
