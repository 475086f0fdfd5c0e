/* Removing a job: its mark, then its files, then its rows, so that a crash leaves what the next start goes on with. */
#include "base/clock.h"
#include "daemon/folder.h"
#include "daemon/op.h"
#include "daemon/worker.h"

#include <errno.h>

static void on_removed(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r < 0)
                op_fail(op, op->from, &c->err); /* marked: the next start goes on */
        else
                op_answer(op, 0, op->job, op->from, NULL);
}

static void on_marked(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;
        struct write *w;
        struct error err;

        if (c->r < 0) {
                op_fail(op, op->from, &c->err);
                return;
        }
        log_info("job %lld is removed", (long long)op->job);
        if (folder_remove(d, op->job, &err) < 0) {
                log_error("job %lld: its files: %s: %s", (long long)op->job, err.path, err.text);
                err.code = -EIO;
                op_fail(op, op->from, &err);
                return;
        }
        w = write_new(WRITE_JOB_REMOVE);
        if (w)
                w->job = op->job;
        commit_submit(d, w, on_removed, op);
}

static void on_remove_again(void *user)
{
        struct op *op = user;

        op->timer = NULL;
        op_remove(op);
}

static int find_pinned(const struct artifact_row *a, void *user)
{
        int64_t *step = user;

        *step = a->pinned ? a->step : *step;
        return 0;
}

/* Whoever needs what is about to go, as an error. */
static int check_users(const struct op *op, struct error *err)
{
        struct daemon *d = op->daemon;
        int64_t id, pinned = -1;
        int r = reader_user_of_checkpoint(d->reader, op->job, -1, &id, err);

        if (r >= 0)
                return error_set(err, -EBUSY, NULL, "a job that is not over (%lld) reads its checkpoint",
                                 (long long)id);
        if (r == -ENOENT)
                r = reader_user_of_job(d->reader, op->job, &id, err);
        if (r >= 0)
                return error_set(err, -EBUSY, NULL, "a job that is not over (%lld) waits for it", (long long)id);
        if (r != -ENOENT)
                return r;
        if (control_pins(d, op->job, -1))
                return error_set(err, -EBUSY, NULL, "a job that is not over reads its checkpoint");
        r = reader_artifacts(d->reader, op->job, ARTIFACT_CHECKPOINT, find_pinned, &pinned, err);
        if (r >= 0 && pinned >= 0)
                return error_set(err, -EBUSY, NULL, "its checkpoint at step %lld is pinned", (long long)pinned);
        return r;
}

void op_remove(struct op *op)
{
        struct daemon *d = op->daemon;
        struct job_row row;
        struct write *w;
        struct error err;

        if (!op_read_job(op, &row))
                return;
        op->from = row.state;
        job_row_done(&row);
        if (!job_state_is_final(op->from) || queue_find(&d->queue, op->job)) {
                op_busy(op, op->from, "cancel it before");
                return;
        }
        if (check_users(op, &err) < 0) {
                op_fail(op, op->from, &err);
                return;
        }
        for (const struct worker *worker = d->workers; worker; worker = worker->next)
                if (worker->job_id == op->job) { /* its last moments */
                        (void)loop_add_timer(d->loop, clock_monotonic_us() + 50 * US_PER_MS, on_remove_again, op,
                                             &op->timer, NULL);
                        return;
                }
        w = write_new(WRITE_JOB_MARK);
        if (w)
                w->job = op->job;
        op_commit(op, w, on_marked);
}
