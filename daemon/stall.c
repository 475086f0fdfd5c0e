#include "daemon/stall.h"

#include "base/clock.h"
#include "base/units.h"
#include "daemon/daemon.h"
#include "daemon/stop.h"
#include "daemon/worker.h"

#include <stdio.h>
#include <string.h>

#define TIMES_A_STEP 10

static int compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

int64_t stall_patience_us(const struct stall *s, int64_t least_us)
{
        int64_t sorted[STALL_STEPS], most;
        size_t n = MIN(s->n_steps, (size_t)STALL_STEPS);

        if (!n)
                return least_us;
        memcpy(sorted, s->steps_us, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare);
        return __builtin_mul_overflow(sorted[n / 2], TIMES_A_STEP, &most) ? INT64_MAX : MAX(most, least_us);
}

static void arm(struct worker *w, int64_t at_us);

/* Its job is told to stop where the settings want that; either way it is an event of the job's. */
static void say(struct worker *w, int64_t still_us)
{
        struct daemon *d = w->daemon;
        char time[UNITS_SIZE], text[160];

        w->stall.said = true;
        (void)snprintf(text, sizeof text, "no step for %s%s", units_time_text(still_us / US_PER_S * US_PER_S, time),
                       d->settings.stalled_stop ? ": it is paused" : "");
        log_warning("job %lld: %s", (long long)w->job_id, text);
        job_note(d, w->job_id, "stalled", "%s", text);
        if (d->settings.stalled_stop && w->job && stop_is_possible(w->job))
                stop_ask(d, w->job, STOP_LIMIT, text, NULL, NULL, NULL);
}

static void on_timer(void *user)
{
        struct worker *w = user;
        int64_t still_us = clock_monotonic_us() - w->stall.moved_us,
                left_us = stall_patience_us(&w->stall, w->daemon->settings.stalled_after_us) - still_us;

        w->stall.timer = NULL;
        if (left_us > 0)
                arm(w, clock_monotonic_us() + left_us);
        else if (w->job && w->job->stop == STOP_NONE)
                say(w, still_us);
}

/* Not at each event anew: the timer looks for itself how long it is now. */
static void arm(struct worker *w, int64_t at_us)
{
        if (!w->stall.timer)
                (void)loop_add_timer(w->daemon->loop, at_us, on_timer, w, &w->stall.timer, NULL);
}

void stall_begin(struct worker *w)
{
        w->stall = (struct stall){.moved_us = clock_monotonic_us(), .step = -1, .timer = w->stall.timer};
        arm(w, w->stall.moved_us + w->daemon->settings.stalled_after_us);
}

void stall_note(struct worker *w, const struct event *e)
{
        struct stall *s = &w->stall;
        int64_t now_us = clock_monotonic_us();

        if (!s->moved_us || (e->type == EVENT_PROGRESS && e->step == s->step))
                return;
        if (e->type == EVENT_PROGRESS) {
                if (s->step >= 0 && e->step > s->step)
                        s->steps_us[s->n_steps++ % STALL_STEPS] = (now_us - s->moved_us) / (e->step - s->step);
                s->step = e->step;
        }
        s->moved_us = now_us;
        if (s->said)
                log_info("job %lld: it makes steps again", (long long)w->job_id);
        s->said = false;
        arm(w, now_us + w->daemon->settings.stalled_after_us);
}

void stall_end(struct worker *w)
{
        w->stall.timer = loop_remove(w->daemon->loop, w->stall.timer);
        w->stall.moved_us = 0;
}
