/* Resume and retry: a job that is over or paused is put into the queue again, when whatever it needs is still there. */
#include "base/clock.h"
#include "contract/config.h"
#include "daemon/limit.h"
#include "daemon/op.h"

#include <errno.h>

static enum job_trigger trigger_of(const struct op *op)
{
        return op->how.retry ? TRIGGER_RETRY : TRIGGER_RESUME;
}

/* A paused one, which was held in memory meanwhile, is what the store says now. */
static void reopen_in_memory(struct daemon *d, struct op *op, bool committed)
{
        struct job *j = queue_find(&d->queue, op->job);

        if (!j || op->from != JOB_PAUSED)
                return;
        j->pending = false;
        if (committed) {
                j->state = JOB_QUEUED;
                j->accept_changed_data = op->how.accept_changed_data;
                limit_change(&j->limits, &op->how.limits, op->how.change);
        }
        daemon_job_settled(d, j);
}

static void on_reopened(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;
        struct job_row row;

        reopen_in_memory(d, op, c->r >= 0);
        if (c->r == -EAGAIN) {
                if (!op_read_job(op, &row))
                        return;
                op_busy(op, row.state, "it is queued again already");
                job_row_done(&row);
                return;
        }
        if (c->r < 0) {
                op_fail(op, op->from, &c->err);
                return;
        }
        log_info("job %lld: %s -> queued (%s)", (long long)op->job, job_state_names[op->from],
                 job_trigger_names[trigger_of(op)]);
        op_answer(op, 0, op->job, JOB_QUEUED, NULL);
        daemon_schedule(d);
}

/* The configuration with the new length, checked as a whole, in op->config. */
static int lengthen(struct op *op, const struct job_row *row, struct errors *errs)
{
        _cleanup_json_ json_t *steps = json_integer(op->how.steps);
        struct config c;

        op->config = json_deep_copy(row->config);
        if (!op->config || !steps)
                return errors_add(errs, -ENOMEM, "", "no memory for a configuration");
        if (config_override(op->config, "training.num_steps_train", steps, errs) < 0)
                return -EINVAL;
        return config_from_json(op->config, &c, errs);
}

static int check_limits(const struct op *op, const struct job_row *row, int64_t step, struct errors *errs)
{
        struct limits_row l = row->limits;
        struct usage used = {0};
        struct error err;
        int r = limit_usage(op->daemon, row->id, &used, &err);

        if (r < 0)
                return errors_add(errs, r, "", "%s", err.text);
        limit_change(&l, &op->how.limits, op->how.change);
        if (limit_reached(&l, &used, step, &err))
                return errors_add(errs, -EINVAL, err.path, "%s: give \"limits\" to go on", err.text);
        return 0;
}

static int check_resume(struct op *op, const struct job_row *row, struct errors *errs)
{
        int64_t steps = op->how.steps > 0 ? op->how.steps : row->steps, done = 0;
        struct error err;
        int r;

        if (row->kind != JOB_TRAIN && (row->state != JOB_PAUSED || op->how.steps > 0))
                return errors_add(errs, -EINVAL, "", "only a training job can be resumed, or one that is paused");
        r = checkpoint_resolve(op->daemon, row->id, -1, &done, &err);
        if (r < 0 && r != -ENOENT) /* none: from the start */
                return errors_add(errs, r, "", "%s", err.text);
        /* one that was paused at its last step has its outcome to bring yet */
        if (row->kind == JOB_TRAIN && steps <= done && !(row->state == JOB_PAUSED && op->how.steps <= 0))
                return errors_add(errs, -EINVAL, "/steps",
                                  "its last checkpoint is at step %lld: expected more steps than that",
                                  (long long)done);
        if (check_limits(op, row, done, errs) < 0)
                return -EINVAL;
        return op->how.steps > 0 ? lengthen(op, row, errs) : 0;
}

/* Whatever it needs is still there. */
static int check_retry(struct op *op, const struct job_row *row, struct errors *errs)
{
        struct error err;
        int64_t step = 0;
        bool has_own;
        int r;

        if (row->kind == JOB_IMPORT && import_check_name(op, row->import, errs) < 0)
                return errs->items[0].code;
        r = checkpoint_resolve(op->daemon, row->id, -1, &step, &err);
        if (r < 0 && r != -ENOENT)
                return errors_add(errs, r, "", "%s", err.text);
        has_own = r >= 0;
        if (check_limits(op, row, has_own ? step : 0, errs) < 0)
                return -EINVAL;
        if (!row->source_job || has_own)
                return 0;
        r = checkpoint_resolve(op->daemon, row->source_job, row->source_step, &step, &err);
        if (r < 0)
                return errors_add(errs, r == -ENOENT ? -EINVAL : r, "", "what it began with is gone: %s", err.text);
        return 0;
}

/* Once it was over, whom it waits for could be removed; then it would wait for ever. */
static int check_after(struct op *op, struct errors *errs)
{
        int64_t ids[AFTER_MAX];
        struct error err;
        size_t n = 0;
        int r = reader_unmet(op->daemon->reader, op->job, ids, &n, &err);

        for (size_t i = 0; i < n && r >= 0; i++) {
                struct job_row row;

                r = reader_job(op->daemon->reader, ids[i], &row, &err);
                if (r == -ENOENT)
                        return errors_add(errs, -EINVAL, "",
                                          "it waits for job %lld, which was removed: submit it anew without that",
                                          (long long)ids[i]);
                if (r >= 0)
                        job_row_done(&row);
        }
        return r < 0 ? errors_add(errs, r, "", "%s", err.text) : 0;
}

static void store_reopening(struct op *op, struct job *j)
{
        struct write *w = write_new(WRITE_JOB_REOPEN);

        if (j)
                j->pending = true;
        if (w) {
                w->job = op->job;
                w->from = op->from;
                w->trigger = job_trigger_names[trigger_of(op)];
                w->time_us = clock_wall_us();
                w->change = op->how.change;
                w->row.steps = op->how.steps;
                w->row.accept_changed_data = op->how.accept_changed_data;
                w->row.limits = op->how.limits;
                w->row.config = TAKE_PTR(op->config);
        }
        op_commit(op, w, on_reopened);
}

void op_reopen(struct op *op)
{
        struct errors errs = {0};
        struct job_row row;
        struct job *j = NULL;
        struct error err;
        int r = job_load(op->daemon, op->job, &j, &err);

        if (r < 0 && r != -ENOENT) {
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        if (r >= 0 && (j->pending || j->noting_stop)) {
                op_wait_for(j, op);
                return;
        }
        if (!op_read_job(op, &row))
                return;
        op->from = row.state;
        if (job_next(op->from, trigger_of(op)) < 0) {
                job_row_done(&row);
                op_busy(op, op->from,
                        op->how.retry ? "only a failed or cancelled job is run again"
                                      : "only a paused job, or a training that is over, can be resumed");
                return;
        }
        r = check_after(op, &errs);
        if (r >= 0)
                r = op->how.retry ? check_retry(op, &row, &errs) : check_resume(op, &row, &errs);
        op->pinned_job = row.source_job;
        op->pinned_step = row.source_step;
        job_row_done(&row);
        if (r < 0)
                op_answer(op, r, op->job, op->from, &errs);
        else
                store_reopening(op, r >= 0 && op->from == JOB_PAUSED ? j : NULL);
}
