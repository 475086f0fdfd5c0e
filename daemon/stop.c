#include "daemon/stop.h"

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/limit.h"
#include "daemon/worker.h"

#include <errno.h>
#include <string.h>

struct asking {
        int64_t job;
        enum stop_reason before;
        void (*done)(struct daemon *d, const struct commit *c, void *user);
        void *user;
};

static void on_noted(struct daemon *d, const struct commit *c, void *user)
{
        struct asking *x = user;
        struct job *j = queue_find(&d->queue, x->job);

        if (j) {
                j->noting_stop = false;
                if (c->r < 0 && c->r != -EAGAIN)
                        j->stop = x->before;
                if (c->r >= 0 && j->worker)
                        worker_stop(j->worker);
                j->held = true;
        }
        if (x->done)
                x->done(d, c, x->user);
        if (j)
                daemon_job_settled(d, j);
        free(x);
}

bool stop_is_possible(const struct job *j)
{
        return j->state == JOB_RUNNING && !j->pending && !j->noting_stop && j->stop == STOP_NONE;
}

void stop_ask(struct daemon *d, struct job *j, enum stop_reason reason, const char *detail, const struct audit_row *by,
              void (*done)(struct daemon *d, const struct commit *c, void *user), void *user)
{
        struct asking *x = calloc(1, sizeof *x);
        struct write *w = x ? write_new(WRITE_JOB_STOP) : NULL;

        if (!x) {
                struct commit failed = {.daemon = d};

                failed.r = error_set(&failed.err, -ENOMEM, NULL, "no memory to stop a job");
                if (done)
                        done(d, &failed, user);
                return;
        }
        *x = (struct asking){j->id, j->stop, done, user};
        j->noting_stop = true;
        j->stop = reason;
        if (w) {
                w->job = j->id;
                w->time_us = clock_wall_us();
                w->row.stop_requested = reason;
                w->detail = detail ? strdup(detail) : NULL;
                if (by)
                        w->audit = *by;
        }
        commit_submit(d, w, on_noted, x);
}
