#include "daemon/limit.h"

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/stop.h"
#include "daemon/worker.h"

#include <errno.h>

static int add_time(const struct attempt_row *a, void *user)
{
        int64_t *used_us = user, end_us = a->ended_us ? a->ended_us : clock_wall_us();

        *used_us += MAX(end_us - a->started_us, 0);
        return 0;
}

int limit_used_us(struct daemon *d, int64_t job, int64_t *ret, struct error *err)
{
        int64_t used_us = 0;
        int r = reader_attempts(d->reader, job, add_time, &used_us, err);

        if (r >= 0)
                *ret = used_us;
        return MIN(r, 0);
}

void limit_change(struct limits_row *l, const struct limits_row *new, unsigned change)
{
        if (change & CHANGE_WALL)
                l->wall_s = new->wall_s;
        if (change & CHANGE_STEPS)
                l->steps = new->steps;
}

bool limit_reached(const struct limits_row *l, int64_t used_us, int64_t step, struct error *ret)
{
        if (l->wall_s && used_us >= l->wall_s * US_PER_S)
                (void)error_set(ret, -EINVAL, "/limits/wall", "its limit of %lld s is used up: its attempts ran %lld s",
                                (long long)l->wall_s, (long long)(used_us / US_PER_S));
        else if (l->steps && step >= l->steps)
                (void)error_set(ret, -EINVAL, "/limits/steps", "its limit of %lld steps is reached: it is at step %lld",
                                (long long)l->steps, (long long)step);
        else
                return false;
        return true;
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
        int64_t used_us = 0;
        struct error err;

        w->limit_timer = loop_remove(w->daemon->loop, w->limit_timer);
        if (!j || !life_has_process(w->life) || j->state != JOB_RUNNING || j->pending || j->stop != STOP_NONE ||
            j->noting_stop)
                return;
        if (j->limits.wall_s && limit_used_us(w->daemon, j->id, &used_us, &err) < 0) {
                log_warning("job %lld: what it has used is not known: %s", (long long)j->id, err.text);
                watch_again(w, w->daemon->settings.retry_us);
                return;
        }
        if (limit_reached(&j->limits, used_us, w->last_step, &err)) {
                log_info("job %lld: %s", (long long)j->id, err.text);
                stop_ask(w->daemon, j, STOP_LIMIT, err.text, NULL, NULL, NULL);
                watch_again(w, w->daemon->settings.retry_us); /* for when that could not be written down */
        } else if (j->limits.wall_s) {
                watch_again(w, j->limits.wall_s * US_PER_S - used_us);
        }
}
