/* What ties the parts together: when to look at the queue, what follows a job's transition, paths. */
#include "daemon/daemon.h"

#include "base/clock.h"
#include "daemon/backfill.h"
#include "daemon/quota.h"
#include "daemon/retention.h"
#include "daemon/start.h"
#include "daemon/suspect.h"
#include "daemon/watch.h"
#include "daemon/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool daemon_job_path(const struct daemon *d, int64_t job, const char *name, char *ret, size_t size)
{
        int n = snprintf(ret, size, "%s/jobs/%lld%s%s", d->settings.state, (long long)job, name ? "/" : "",
                         name ? name : "");

        return n >= 0 && (size_t)n < size;
}

const struct dataset *daemon_dataset(const struct daemon *d, const char *name)
{
        for (size_t i = 0; i < d->n_datasets; i++)
                if (d->datasets[i].available && !strcmp(d->datasets[i].row.name, name))
                        return &d->datasets[i];
        return NULL;
}

void daemon_note_write(struct daemon *d, int r, const struct error *err)
{
        bool failing = r == -ENOSPC || r == -EIO;

        if (failing && !d->disk_failing)
                log_error("the store cannot write (%s): what workers send stays in their spools, and is tried again",
                          err->text);
        if (r == -ENOSPC)
                disk_release(d);
        if (!failing && r >= 0 && d->disk_failing)
                log_info("the store can write again");
        if (failing || r >= 0)
                d->disk_failing = failing;
}

void daemon_back_off(struct daemon *d, struct job *j, uint64_t devices, enum failure f)
{
        int64_t now_us = clock_monotonic_us();

        /* longer than the device, so that another job shows whether it was this one */
        if (!job_state_is_final(j->state))
                job_rest(d, j, now_us + 2 * failure_wait_us(d->settings.retry_us, ++j->failures), NULL);
        FOR_EACH_DEVICE(i, devices)
        {
                struct device *x = &d->devices[i];
                int64_t wait_us = failure_wait_us(d->settings.retry_us, ++x->failures);

                x->not_before_us = now_us + wait_us;
                log_warning("job %lld: a failure of class %s, which is the %s's: it %s; nothing starts on %s for %.1f "
                            "s",
                            (long long)j->id, failure_rules[f].name, failure_rules[f].blame,
                            job_state_is_final(j->state) ? "may not fail more often" : "stays in the queue", x->name,
                            (double)wait_us / 1e6);
        }
}

void daemon_device_works(struct daemon *d, struct job *j, uint64_t devices)
{
        FOR_EACH_DEVICE(i, devices)
        {
                d->devices[i].failures = 0;
                d->devices[i].failed_early = 0;
                d->devices[i].check_passed = false;
        }
        if (j)
                j->failures = 0;
}

static bool has_dataset(struct daemon *d, const struct job_row *j)
{
        if (j->kind == JOB_IMPORT || daemon_dataset(d, j->dataset))
                return true;
        if (!d->waiting_said)
                log_warning("job %lld waits: this daemon was started without its data set \"%s\"", (long long)j->id,
                            j->dataset);
        d->waiting_said = true;
        return false;
}

size_t daemon_device(const struct daemon *d, const char *name)
{
        size_t i = 0;

        while (i < d->n_devices && (!name || strcmp(d->devices[i].name, name) != 0))
                i++;
        return i < d->n_devices ? i : 0;
}

static void on_schedule_timer(void *user)
{
        struct daemon *d = user;

        d->schedule_timer = NULL;
        daemon_schedule(d);
}

/* Wakes for the first job, and the first device, that may not begin yet. */
static void arm_schedule(struct daemon *d, int64_t now_us)
{
        int64_t at_us = INT64_MAX;

        d->schedule_timer = loop_remove(d->loop, d->schedule_timer);
        for (size_t i = 0; i < d->queue.n; i++)
                if (d->queue.jobs[i]->state == JOB_QUEUED && d->queue.jobs[i]->not_before_us > now_us)
                        at_us = MIN(at_us, d->queue.jobs[i]->not_before_us);
        for (size_t i = 0; i < d->n_devices; i++)
                if (d->devices[i].not_before_us > now_us)
                        at_us = MIN(at_us, d->devices[i].not_before_us);
        if (d->look_again)
                at_us = MIN(at_us, now_us + d->settings.retry_us);
        d->look_again = false;
        if (at_us < INT64_MAX)
                (void)loop_add_timer(d->loop, at_us, on_schedule_timer, d, &d->schedule_timer, NULL);
}

/* What HTTP threads may know of the devices. */
static void publish_devices(struct daemon *d)
{
        struct control_device before;
        bool changed = false;

        (void)pthread_mutex_lock(&d->control_lock);
        changed = d->devices_per_owner != d->settings.devices_per_owner;
        d->devices_per_owner = d->settings.devices_per_owner;
        d->disk_reserve_bytes = d->settings.disk_reserve_bytes;
        for (size_t i = 0; i < d->n_devices; i++) {
                struct control_device *s = &d->device_status[i];

                before = *s;
                (void)snprintf(s->name, sizeof s->name, "%s", d->devices[i].name);
                s->gpu = d->devices[i].gpu;
                s->out = d->devices[i].out;
                s->has_cores = d->devices[i].has_cores;
                s->cores = d->devices[i].cores;
                s->memory_bytes = d->devices[i].gpu ? d->devices[i].memory_bytes : d->memory_bytes;
                s->job_bytes = d->devices[i].users ? d->devices[i].job_bytes : 0;
                (void)snprintf(s->uuid, sizeof s->uuid, "%s", d->devices[i].uuid);
                (void)snprintf(s->model, sizeof s->model, "%s", d->devices[i].model);
                s->job = d->devices[i].users ? d->devices[i].job : 0;
                s->rests_until_us = d->devices[i].not_before_us;
                quota_owner(d, i, s->owner, sizeof s->owner);
                s->suspect = d->devices[i].suspect;
                s->watched = d->devices[i].watched;
                (void)snprintf(s->why, sizeof s->why, "%s",
                               s->out       ? d->devices[i].out_why
                               : s->suspect ? d->devices[i].suspect_why
                                            : "");
                memcpy(s->others, d->devices[i].others, sizeof s->others);
                s->n_others = d->devices[i].n_others;
                changed |= memcmp(&before, s, sizeof before) != 0;
        }
        (void)pthread_mutex_unlock(&d->control_lock);
        if (changed)
                d->control.causes++;
}

/* Jobs that are passed over at a time, since they want more devices than there are. */
#define TOO_WIDE_MAX 64

struct choosing {
        struct daemon *daemon;
        int64_t now_us;
        int64_t job, bytes; /* the one that was chosen; 0: none */
        int64_t too_wide[TOO_WIDE_MAX];
        size_t n_too_wide;
};

static bool is_too_wide(const struct choosing *x, int64_t job)
{
        for (size_t i = 0; i < x->n_too_wide; i++)
                if (x->too_wide[i] == job)
                        return true;
        return false;
}

/* The next that may start; one that waits for memory holds up those behind it, which would else keep it waiting. */
static int choose(const struct job_row *row, void *user)
{
        struct choosing *x = user;
        struct daemon *d = x->daemon;

        if (!scheduler_eligible(queue_find(&d->queue, row->id), x->now_us) || is_too_wide(x, row->id) ||
            !has_dataset(d, row) || !quota_allows(d, row->owner, row->devices))
                return 0;
        if (!row->gpu && !scheduler_fits(d->devices, d->n_devices, row->memory_bytes, d->memory_bytes))
                return 1;
        x->job = row->id;
        x->bytes = row->gpu ? 0 : row->memory_bytes;
        return 1;
}

/* The first in the queue of those for which there are devices enough, free or not; NULL: none. */
static struct job *first_in_line(struct daemon *d, bool gpu, int64_t now_us, int64_t *ret_bytes)
{
        struct choosing x = {.daemon = d, .now_us = now_us};
        struct error err;
        struct job *j;
        int r;

        while (x.n_too_wide < TOO_WIDE_MAX) {
                x.job = 0;
                r = reader_ready(d->reader, gpu, choose, &x, &err);
                if (r < 0)
                        log_error("the queue cannot be read: %s", err.text);
                if (x.job)
                        r = job_load(d, x.job, &j, &err);
                if (x.job && r < 0)
                        log_error("job %lld cannot be read: %s", (long long)x.job, err.text);
                d->look_again |= r < 0;
                if (!x.job || r < 0)
                        return NULL;
                if (j->n_devices <= scheduler_most(d->devices, d->n_devices, gpu)) {
                        *ret_bytes = x.bytes;
                        return j;
                }
                x.too_wide[x.n_too_wide++] = x.job;
                job_forget(d, x.job);
        }
        return NULL;
}

static void reserve(struct daemon *d, bool gpu, int64_t job, int64_t from_us)
{
        struct control_reservation *r = &d->reserved[gpu];

        /* those behind that take longer than they were to do not make room for more of them */
        d->promised_us[gpu] = r->job == job ? MIN(d->promised_us[gpu], from_us) : from_us;
        if (r->job == job && (!job || llabs(r->from_us - from_us) < US_PER_S)) /* it is worth no news */
                return;
        (void)pthread_mutex_lock(&d->control_lock);
        *r = (struct control_reservation){job, from_us};
        (void)pthread_mutex_unlock(&d->control_lock);
        d->control.causes++;
}

#define LOOK_BEHIND_US (US_PER_S / 4) /* it asks much of the store, and thousands may be submitted meanwhile */

/* What is free is held for the first in line; meanwhile one behind it may run that does not keep it waiting. */
static bool start_behind(struct daemon *d, const struct job *first, bool gpu, int64_t now_us)
{
        int64_t reserved_us;
        struct backfill next;
        struct error err;
        struct job *j;

        d->look_again = true; /* those that run say anew when they will be over */
        if (d->reserved[gpu].job == first->id && now_us < d->behind_us)
                return false;
        reserved_us = backfill_reservation(d, first, gpu, now_us);
        reserve(d, gpu, first->id, reserved_us);
        if (!backfill_next(d, first, gpu, d->promised_us[gpu], now_us, &next)) {
                d->behind_us = now_us + LOOK_BEHIND_US;
                return false;
        }
        if (job_load(d, next.job, &j, &err) < 0) {
                log_error("job %lld cannot be read: %s", (long long)next.job, err.text);
                return false;
        }
        if (!watch_is_fresh(d, next.devices)) {
                job_forget(d, next.job);
                return false;
        }
        log_info("job %lld runs before job %lld has its devices", (long long)next.job, (long long)first->id);
        return start_job(d, j, next.devices, next.bytes);
}

/* One at a time: what the next may have depends on what this one takes. False: nothing more starts. So what becomes
 * free is held for the first in line, until it is enough: narrow jobs behind it never keep it waiting. */
static bool start_next(struct daemon *d, bool gpu, int64_t now_us)
{
        size_t devices[DEVICES_MAX];
        uint64_t set;
        int64_t bytes, id;
        struct job *j;
        bool started;

        if (!scheduler_free(d->devices, d->n_devices, gpu, now_us, devices))
                return false;
        j = first_in_line(d, gpu, now_us, &bytes);
        if (!j) {
                reserve(d, gpu, 0, 0);
                return false;
        }
        id = j->id;
        set = scheduler_pick(d->devices, d->n_devices, gpu, j->n_devices, now_us);
        if (set && !watch_is_fresh(d, set)) {
                job_forget(d, id);
                return false;
        }
        if (set) {
                reserve(d, gpu, 0, 0);
                return start_job(d, j, set, bytes);
        }
        started = start_behind(d, j, gpu, now_us);
        job_forget(d, id);
        return started;
}

void daemon_schedule(struct daemon *d)
{
        int64_t now_us = clock_monotonic_us();

        publish_devices(d);
        if (d->stopping || d->moving || disk_check(d))
                return;
        suspect_check(d);
        for (int gpu = 0; gpu < 2; gpu++)
                while (start_next(d, gpu, now_us))
                        ;
        publish_devices(d);
        arm_schedule(d, now_us);
}

static void job_over(struct daemon *d, struct job *j)
{
        int64_t source = j->source_job;

        if (j->kind == JOB_IMPORT)
                datasets_import_over(d, j);
        if (source)
                retention_run(d, source);
}

void daemon_job_settled(struct daemon *d, struct job *j)
{
        if (!j->pending && !j->noting_stop) {
                j->held = true;
                control_job_settled(d, j);
        }
        j->held = false;
        if (j->pending || j->noting_stop)
                return;
        if (job_state_is_final(j->state))
                job_over(d, j);
        job_forget(d, j->id);
        daemon_schedule(d);
        daemon_check_stopped(d);
}

static void on_quit_timer(void *user)
{
        struct daemon *d = user;

        d->quit_timer = NULL;
        loop_quit(d->loop);
}

static void on_stop_timer(void *user)
{
        struct daemon *d = user;

        d->stop_timer = NULL;
        log_error("not everything could be written in time: the next start goes on from the workers' spools");
        loop_quit(d->loop);
}

void daemon_stop(struct daemon *d)
{
        if (d->stopping)
                return;
        d->stopping = true;
        for (struct worker *w = d->workers, *next; w; w = next) {
                next = w->next;
                worker_stop(w);
        }
        /* a disk that stays full must not keep it alive */
        (void)loop_add_timer(d->loop, clock_monotonic_us() + d->settings.stop_timeout_us + 5 * US_PER_S, on_stop_timer,
                             d, &d->stop_timer, NULL);
        daemon_check_stopped(d);
}

void daemon_check_stopped(struct daemon *d)
{
        if (!d->stopping || d->workers || d->quit_timer)
                return;
        for (size_t i = 0; i < d->n_devices; i++)
                if (d->devices[i].users)
                        return;
        log_info("all workers have ended");
        /* the answer to whoever asked may still be on its way */
        if (loop_add_timer(d->loop, clock_monotonic_us() + 200 * US_PER_MS, on_quit_timer, d, &d->quit_timer, NULL) < 0)
                loop_quit(d->loop);
}
