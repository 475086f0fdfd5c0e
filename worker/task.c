#include "worker/task.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

void task_path(const struct task *t, const char *name, char *ret, size_t size)
{
        (void)snprintf(ret, size, "%s/%s", t->assignment->folder, name);
}

int task_load(struct task *t, enum weights weights, const struct runtime_need *need, int64_t steps, struct error *err)
{
        const struct assignment *a = t->assignment;
        unsigned section = 1u << (weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS);
        int r;

        if (!a->n_checkpoints)
                return error_set(err, -EINVAL, "/checkpoints", "expected a checkpoint");
        r = runtime_allocate(t->rt, section, false, need, err);
        if (r >= 0)
                r = runtime_load(t->rt, a->checkpoints[0].path, a->checkpoints[0].digest, &t->step, NULL, err);
        if (r >= 0)
                r = reporter_start(t->reporter, 0, steps, (int64_t)runtime_total_bytes(t->rt, section, false, need),
                                   t->rt->layout->n_parameters, t->rt->k->name, t->rt->info.threads, err);
        return r;
}

int task_between(void *progress, int64_t done, int64_t all)
{
        const struct task_progress *p = progress;
        double rate = (double)done / ((double)(clock_monotonic_us() - p->start_us) / 1e6);
        struct error err;

        reporter_progress(p->task->reporter, done, all, done ? rate : NAN, done ? (double)(all - done) / rate : NAN);
        if (reporter_poll(p->task->reporter, NULL, &err) < 0)
                return err.code;
        return reporter_stopping(p->task->reporter) ? -ECANCELED : 0;
}
