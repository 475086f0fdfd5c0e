#include "daemon/backfill.h"

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/limit.h"
#include "daemon/quota.h"

#include <math.h>

#define CANDIDATES_MAX 32 /* who stands further behind waits for its turn */
#define SECONDS_MAX 1e9

/* ---- when devices become free */

/* What the job that runs there says; INT64_MAX: nothing. */
static int64_t end_of(struct daemon *d, int64_t job, int64_t now_us)
{
        struct job_row row;
        int64_t end_us = INT64_MAX;

        if (reader_job(d->reader, job, &row, NULL) < 0)
                return INT64_MAX;
        if (isfinite(row.seconds_left) && row.seconds_left >= 0 && row.seconds_left < SECONDS_MAX)
                end_us = now_us + (int64_t)(row.seconds_left * 1e6);
        job_row_done(&row);
        return end_us;
}

int64_t backfill_reservation(struct daemon *d, const struct job *first, bool gpu, int64_t now_us)
{
        int64_t free_us[DEVICES_MAX];

        for (size_t i = 0; i < d->n_devices; i++) {
                const struct device *x = &d->devices[i];

                free_us[i] = x->gpu != gpu || x->out     ? INT64_MAX
                             : x->users                  ? end_of(d, x->job, now_us)
                             : x->suspect || x->n_others ? INT64_MAX
                                                         : MAX(x->not_before_us, now_us);
        }
        return scheduler_when(d->devices, d->n_devices, gpu, first->n_devices, free_us);
}

/* ---- who may run until then */

struct collecting {
        struct daemon *daemon;
        int64_t first, now_us;
        struct job_row candidates[CANDIDATES_MAX]; /* numbers alone */
        size_t n;
};

static int collect(const struct job_row *row, void *user)
{
        struct collecting *x = user;

        if (row->id == x->first || !scheduler_eligible(queue_find(&x->daemon->queue, row->id), x->now_us) ||
            (row->kind != JOB_IMPORT && !daemon_dataset(x->daemon, row->dataset)) ||
            !quota_allows(x->daemon, row->owner, row->devices))
                return 0;
        x->candidates[x->n++] = (struct job_row){
                .id = row->id,
                .kind = row->kind,
                .gpu = row->gpu,
                .devices = row->devices,
                .memory_bytes = row->memory_bytes,
                .step = row->step,
                .steps = row->steps,
                .limits = row->limits,
        };
        return x->n == CANDIDATES_MAX;
}

/* Of the job before, which most often was one like it; below 0: not known. */
struct measured {
        enum job_kind kind;
        int64_t memory_bytes;
        double a_step;
};

static double seconds_a_step(struct daemon *d, const struct job_row *row, struct measured *m)
{
        struct step_cost cost;

        if (m->memory_bytes == row->memory_bytes && m->kind == row->kind)
                return m->a_step;
        *m = (struct measured){row->kind, row->memory_bytes, -1};
        if (reader_step_cost(d->reader, row, &cost, NULL) >= 0)
                m->a_step = cost.seconds;
        return m->a_step;
}

/* How long it will run; INT64_MAX: nobody can say. */
static int64_t duration_of(struct daemon *d, const struct job_row *row, struct measured *m)
{
        int64_t duration_us = INT64_MAX;
        struct usage used = {0};
        double a_step = row->memory_bytes && row->steps > row->step ? seconds_a_step(d, row, m) : -1;

        if (a_step >= 0 && a_step * (double)(row->steps - row->step) < SECONDS_MAX)
                duration_us = (int64_t)(a_step * (double)(row->steps - row->step) * 1e6);
        if (limit_is_timed(&row->limits) && limit_usage(d, row->id, &used, NULL) >= 0)
                duration_us = MIN(duration_us, limit_time_left_us(&row->limits, &used, row->devices));
        return duration_us;
}

bool backfill_next(struct daemon *d, const struct job *first, bool gpu, int64_t reserved_us, int64_t now_us,
                   struct backfill *ret)
{
        struct collecting x = {.daemon = d, .first = first->id, .now_us = now_us};
        struct measured m = {0};
        struct error err;

        if (reserved_us == INT64_MAX)
                return false;
        if (reader_ready(d->reader, gpu, collect, &x, &err) < 0) {
                log_error("the queue cannot be read: %s", err.text);
                return false;
        }
        for (size_t i = 0; i < x.n; i++) {
                const struct job_row *row = &x.candidates[i];
                uint64_t set = scheduler_pick(d->devices, d->n_devices, gpu, (int)row->devices, now_us);

                if (!set || duration_of(d, row, &m) > reserved_us - now_us ||
                    (!gpu && !scheduler_fits(d->devices, d->n_devices, row->memory_bytes, d->memory_bytes)))
                        continue;
                *ret = (struct backfill){row->id, gpu ? 0 : row->memory_bytes, set};
                return true;
        }
        return false;
}
