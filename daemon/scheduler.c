#include "daemon/scheduler.h"

static bool eligible(const struct job *j, int64_t now_us, bool (*startable)(const struct job *j, void *user),
                     void *user)
{
        return j->state == JOB_QUEUED && !j->pending && j->not_before_us <= now_us &&
               (!startable || startable(j, user));
}

size_t scheduler_decide(const struct queue *q, const struct device *devices, size_t n_devices, int64_t now_us,
                        bool (*startable)(const struct job *j, void *user), void *user, struct decision *ret,
                        size_t max)
{
        size_t n = 0, at = 0;

        for (size_t device = 0; device < n_devices && n < max; device++) {
                if (devices[device].users || devices[device].not_before_us > now_us)
                        continue;
                while (at < q->n && !eligible(q->jobs[at], now_us, startable, user))
                        at++;
                if (at == q->n)
                        break;
                ret[n++] = (struct decision){q->jobs[at++], device};
        }
        return n;
}
