#include "worker/task.h"

#include "base/clock.h"
#include "base/log.h"

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

int task_between(void *progress, int64_t done, int64_t all, struct error *err)
{
        const struct task_progress *p = progress;
        double rate = (double)done / ((double)(clock_monotonic_us() - p->start_us) / 1e6);
        int r;

        reporter_progress(p->task->reporter, done, all, done ? rate : NAN, done ? (double)(all - done) / rate : NAN);
        r = reporter_poll(p->task->reporter, NULL, err);
        if (r < 0)
                return r;
        return reporter_stopping(p->task->reporter) ? error_set(err, -ECANCELED, NULL, "a stop was asked for") : 0;
}

/* What an attempt that was killed left half-written: files by their writer's pattern (base/file.h), up to a whole
 * checkpoint each. */
void task_sweep(const struct task *t)
{
        static const char *const written[] = {"safetensors", "png", "csv", NULL};
        struct error err;

        if (file_sweep(t->assignment->folder, written, &err) < 0)
                log_warning("%s: %s", err.path, err.text);
}
