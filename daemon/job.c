#include "daemon/daemon.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *const job_trigger_names[] = {"start", "cancel", "refuse", "done",  "error",
                                         "lost",  "stop",   "resume", "retry", NULL};
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
        if (c->r >= 0) {
                log_info("job %lld: %s -> %s (%s)", (long long)j->id, job_state_names[j->state],
                         job_state_names[copy.to], job_trigger_names[copy.trigger]);
                j->state = copy.to;
                if (copy.to == JOB_RUNNING)
                        j->started = true;
                else
                        j->cancel_requested = false;
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
        const char *dataset = import_dataset_name(row->import);

        if (!j) {
                (void)error_set(err, -ENOMEM, NULL, "no memory for a job");
                return NULL;
        }
        *j = (struct job){
                .id = row->id,
                .kind = row->kind,
                .state = row->state,
                .cancel_requested = row->cancel_requested,
                .started = row->started_us != 0,
                .accept_changed_data = row->accept_changed_data,
                .source_job = row->source_job,
                .source_step = row->source_step,
        };
        if (j->kind != JOB_IMPORT)
                (void)json_get_string(json_object_get(row->config, "data"), "/data", "dataset", sizeof j->dataset - 1,
                                      &dataset, NULL);
        (void)snprintf(j->dataset, sizeof j->dataset, "%s", dataset ? dataset : "");
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
        json_t *o = json_pack("{s:s, s:s}", "class", class, "detail", detail);

        if (o && step >= 0)
                (void)json_object_set_new(o, "step", json_integer(step));
        return o;
}
