#include "daemon/daemon.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const job_trigger_names[] = {"start", "cancel", "pause", "limit", "preempt", "disk",  "refuse",
                                         "done",  "error",  "lost",  "stop",  "resume",  "retry", NULL};
static_assert(ARRAY_LEN(job_trigger_names) == TRIGGER_N + 1, "a name a trigger");

int job_next(enum job_state state, enum job_trigger trigger)
{
        static const struct {
                enum job_state from;
                enum job_trigger trigger;
                enum job_state to;
        } rows[] = {
#define T(from, trigger, to) {JOB_##from, TRIGGER_##trigger, JOB_##to},
#include "daemon/job.def"
#undef T
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (rows[i].from == state && rows[i].trigger == trigger)
                        return (int)rows[i].to;
        return -EINVAL;
}

enum job_trigger job_stop_trigger(enum stop_reason reason)
{
        static const enum job_trigger triggers[] = {
                [STOP_NONE] = TRIGGER_STOP,   [STOP_CANCEL] = TRIGGER_CANCEL, [STOP_PAUSE] = TRIGGER_PAUSE,
                [STOP_LIMIT] = TRIGGER_LIMIT, [STOP_SHUTDOWN] = TRIGGER_STOP, [STOP_PREEMPT] = TRIGGER_PREEMPT,
                [STOP_DISK] = TRIGGER_DISK,
        };
        static_assert(ARRAY_LEN(triggers) == STOP_REASON_N, "a trigger a reason");

        return triggers[reason];
}

int job_load(struct daemon *d, int64_t id, struct job **ret, struct error *err)
{
        struct job *j = queue_find(&d->queue, id);
        struct job_row row;
        int r;

        if (j) {
                *ret = j;
                return job_state_is_final(j->state) ? -ENOENT : 0;
        }
        r = reader_job(d->reader, id, &row, err);
        if (r < 0)
                return r;
        if (job_state_is_final(row.state))
                r = error_set(err, -ENOENT, NULL, "job %lld is over", (long long)id);
        else if (!(j = job_new(&row, err)))
                r = -ENOMEM;
        job_row_done(&row);
        if (r < 0)
                return r;
        (void)pthread_mutex_lock(&d->control_lock);
        r = queue_add(&d->queue, j, err);
        (void)pthread_mutex_unlock(&d->control_lock);
        if (r < 0)
                (void)job_free(j);
        else
                *ret = j;
        return r;
}

void job_rest(struct daemon *d, struct job *j, int64_t not_before_us, const struct error *why)
{
        (void)pthread_mutex_lock(&d->control_lock);
        j->not_before_us = not_before_us;
        (void)snprintf(j->rests_why, sizeof j->rests_why, "%s%.*s", why ? "it does not start yet: " : "",
                       (int)sizeof j->rests_why - 32, why ? why->text : "");
        (void)pthread_mutex_unlock(&d->control_lock);
        d->control.causes++;
}

static bool is_idle(const struct job *j)
{
        if (j->pending || j->held || j->noting_stop || j->worker || j->waiting)
                return false;
        /* what it has suffered decides how long it rests the next time */
        return j->state == JOB_PAUSED || job_state_is_final(j->state) ||
               (j->state == JOB_QUEUED && !j->failures && j->not_before_us <= clock_monotonic_us());
}

void job_forget(struct daemon *d, int64_t id)
{
        struct job *j = queue_find(&d->queue, id);

        if (!j || !is_idle(j))
                return;
        (void)pthread_mutex_lock(&d->control_lock);
        (void)queue_take(&d->queue, id);
        (void)pthread_mutex_unlock(&d->control_lock);
        (void)job_free(j);
}

struct moving {
        struct job *job;
        enum job_state to;
        enum job_trigger trigger;
        job_moved *done;
        void *user;
};

static void on_moved(struct daemon *d, const struct commit *c, void *user)
{
        struct moving *m = user;
        struct job *j = m->job;
        struct moving copy = *m;

        free(m);
        j->pending = false;
        j->held = true;
        if (c->r >= 0) {
                log_info("job %lld: %s -> %s (%s)", (long long)j->id, job_state_names[j->state],
                         job_state_names[copy.to], job_trigger_names[copy.trigger]);
                j->state = copy.to;
                if (copy.to == JOB_RUNNING)
                        j->started = true;
                else
                        j->stop = STOP_NONE;
        } else if (c->r == -EAGAIN) {
                log_error("job %lld: the store disagrees about its state: %s", (long long)j->id, c->err.text);
        }
        if (copy.done)
                copy.done(d, j, c, copy.user);
        daemon_job_settled(d, j);
}

int job_transition(struct daemon *d, struct job *j, enum job_trigger trigger, struct write *carrier, job_moved *done,
                   void *user, struct error *err)
{
        _cleanup_(write_freep) struct write *w = carrier ? carrier : write_new(WRITE_JOB_TRANSITION);
        int to = job_next(j->state, trigger);
        struct moving *m;

        assert(!j->pending);
        if (to < 0)
                return error_set(err, to, NULL, "job %lld is %s: %s does not fit", (long long)j->id,
                                 job_state_names[j->state], job_trigger_names[trigger]);
        m = calloc(1, sizeof *m);
        if (!w || !m) {
                free(m);
                return error_set(err, -ENOMEM, NULL, "no memory for a transition");
        }
        *m = (struct moving){j, (enum job_state)to, trigger, done, user};
        w->job = j->id;
        w->from = j->state;
        w->to = (enum job_state)to;
        w->trigger = job_trigger_names[trigger];
        w->time_us = clock_wall_us();
        if (to == JOB_RUNNING && !j->started)
                w->row.started_us = w->time_us;
        if (job_state_is_final(w->to))
                w->row.ended_us = w->time_us;
        j->pending = true;
        commit_submit(d, TAKE_PTR(w), on_moved, m);
        return 0;
}

void job_note(struct daemon *d, int64_t id, const char *trigger, const char *fmt, ...)
{
        struct write *w = write_new(WRITE_JOB_NOTE);
        va_list args;

        if (!w)
                return;
        w->job = id;
        w->time_us = clock_wall_us();
        w->trigger = trigger;
        va_start(args, fmt);
        if (vasprintf(&w->detail, fmt, args) < 0)
                w->detail = NULL;
        va_end(args);
        commit_submit(d, w, NULL, NULL);
}

const char *import_dataset_name(const json_t *import)
{
        const char *what = json_string_value(json_object_get(import, "what"));

        return what && !strcmp(what, import_what_names[IMPORT_DATASET])
                       ? json_string_value(json_object_get(import, "name"))
                       : NULL;
}

struct job *job_new(const struct job_row *row, struct error *err)
{
        struct job *j = calloc(1, sizeof *j);

        if (!j) {
                (void)error_set(err, -ENOMEM, NULL, "no memory for a job");
                return NULL;
        }
        *j = (struct job){
                .id = row->id,
                .kind = row->kind,
                .state = row->state,
                .stop = row->stop_requested,
                .priority = row->priority,
                .limits = row->limits,
                .started = row->started_us != 0,
                .accept_changed_data = row->accept_changed_data,
                .source_job = row->source_job,
                .source_step = row->source_step,
                .n_devices = (int)row->devices,
        };
        (void)snprintf(j->owner, sizeof j->owner, "%s", row->owner);
        (void)snprintf(j->dataset, sizeof j->dataset, "%s", row->dataset);
        (void)snprintf(j->identity, sizeof j->identity, "%s", row->identity);
        return j;
}

struct job *job_free(struct job *j)
{
        free(j);
        return NULL;
}

json_t *job_error(const char *class, const char *detail, int64_t step)
{
        return json_pack("{s:s, s:s, s:o*}", "class", class, "detail", detail, "step",
                         step >= 0 ? json_integer(step) : NULL);
}
