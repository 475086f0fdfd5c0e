#include "daemon/limit.h"

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/stop.h"
#include "daemon/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

struct counting {
        struct daemon *daemon;
        struct usage used;
};

static int add_usage(const struct attempt_row *a, void *user)
{
        struct counting *x = user;
        struct usage *used = &x->used;
        const struct worker *w = a->ended_us ? NULL : worker_find(x->daemon, a->id);
        int64_t wall_us = w ? worker_age_us(w) : MAX(a->ended_us - a->started_us, 0);

        used->wall_us += wall_us;
        used->device_us += wall_us * (int64_t)MAX(json_array_size(a->devices), (size_t)1);
        used->failures += a->outcome == OUTCOME_FAILED;
        return 0;
}

int limit_usage(struct daemon *d, int64_t job, struct usage *ret, struct error *err)
{
        struct counting x = {.daemon = d};
        int r = reader_attempts(d->reader, job, add_usage, &x, err);

        if (r >= 0)
                *ret = x.used;
        return MIN(r, 0);
}

void limit_change(struct limits_row *l, const struct limits_row *new, unsigned change)
{
        for (int i = 0; i < LIMIT_N; i++)
                if (change & (unsigned)(CHANGE_LIMIT << i))
                        l->of[i] = new->of[i];
}

bool limit_reached(const struct limits_row *l, const struct usage *used, int64_t step, struct error *ret)
{
        const struct {
                int64_t used;
                const char *format;
        } rules[] = {
                [LIMIT_WALL] = {used->wall_us / US_PER_S, "its limit of %lld s is used up: its attempts ran %lld s"},
                [LIMIT_DEVICE_SECONDS] = {used->device_us / US_PER_S,
                                          "its limit of %lld device seconds is used up: its attempts took %lld"},
                [LIMIT_STEPS] = {step, "its limit of %lld steps is reached: it is at step %lld"},
                [LIMIT_FAILURES] = {used->failures,
                                    "its limit of %lld failed attempts is reached: %lld of them failed"},
        };
        char path[64];

        static_assert(ARRAY_LEN(rules) == LIMIT_N, "a rule a limit");
        for (int i = 0; i < LIMIT_N; i++) {
                if (!l->of[i] || rules[i].used < l->of[i])
                        continue;
                (void)snprintf(path, sizeof path, "/limits/%s", limit_names[i]);
                (void)error_set(ret, -EINVAL, path, rules[i].format, (long long)l->of[i], (long long)rules[i].used);
                return true;
        }
        return false;
}

bool limit_is_timed(const struct limits_row *l)
{
        return l->of[LIMIT_WALL] || l->of[LIMIT_DEVICE_SECONDS];
}

int64_t limit_time_left_us(const struct limits_row *l, const struct usage *used, int64_t n_devices)
{
        int64_t left_us = INT64_MAX, device_s = l->of[LIMIT_DEVICE_SECONDS];

        if (l->of[LIMIT_WALL])
                left_us = l->of[LIMIT_WALL] * US_PER_S - used->wall_us;
        if (device_s)
                left_us = MIN(left_us, (device_s * US_PER_S - used->device_us) / MAX(n_devices, (int64_t)1));
        return MAX(left_us, (int64_t)0);
}

static void on_timer(void *user)
{
        struct worker *w = user;

        w->limit_timer = NULL;
        limit_watch(w);
}

static void watch_again(struct worker *w, int64_t after_us)
{
        w->limit_timer = loop_remove(w->daemon->loop, w->limit_timer);
        (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + after_us, on_timer, w, &w->limit_timer, NULL);
}

void limit_watch(struct worker *w)
{
        struct job *j = w->job;
        bool timed = j && limit_is_timed(&j->limits);
        struct usage used = {0};
        struct error err;

        w->limit_timer = loop_remove(w->daemon->loop, w->limit_timer);
        if (!j || !life_has_process(w->life) || !stop_is_possible(j))
                return;
        if (timed && limit_usage(w->daemon, j->id, &used, &err) < 0) {
                log_warning("job %lld: what it has used is not known: %s", (long long)j->id, err.text);
                watch_again(w, w->daemon->settings.retry_us);
                return;
        }
        if (limit_reached(&j->limits, &used, w->last_step, &err)) {
                log_info("job %lld: %s", (long long)j->id, err.text);
                stop_ask(w->daemon, j, STOP_LIMIT, err.text, NULL, NULL, NULL);
                watch_again(w, w->daemon->settings.retry_us); /* for when that could not be written down */
        } else if (timed) {
                watch_again(w, limit_time_left_us(&j->limits, &used, j->n_devices));
        }
}
