/* struct control: each call becomes an operation that is posted to the loop, done there, and answered from there. */
#include "base/clock.h"
#include "contract/config.h"
#include "daemon/op.h"
#include "daemon/process.h"
#include "daemon/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void op_run(struct op *op);

/* ---- answering */

static void unlink_op(struct op *op)
{
        struct op **at = &op->daemon->ops;

        while (*at && *at != op)
                at = &(*at)->next;
        if (*at)
                *at = op->next;
}

static void op_free(struct op *op)
{
        (void)helper_cancel(op->helper);
        (void)loop_remove(op->daemon->loop, op->timer);
        (void)submission_free(op->submission);
        json_decref(op->config);
        free(op);
}

void op_answer(struct op *op, int r, int64_t id, enum job_state state, const struct errors *errs)
{
        struct daemon *d = op->daemon;
        struct errors none = {0};
        struct control_answer answer = {.r = r, .id = id, .state = state, .errs = errs ? errs : &none};

        (void)pthread_mutex_lock(&d->control_lock);
        unlink_op(op);
        (void)pthread_mutex_unlock(&d->control_lock);
        op->done(op->user, &answer);
        op_free(op);
}

void op_fail(struct op *op, enum job_state state, const struct error *err)
{
        struct errors errs = {.n = 1, .items[0] = *err};

        op_answer(op, err->code, op->job, state, &errs);
}

static void op_busy(struct op *op, enum job_state state, const char *text)
{
        struct error err;

        (void)error_set(&err, -EBUSY, NULL, "%s", text);
        op_fail(op, state, &err);
}

/* The job's state as the store has it, for operations on jobs that are over. False: answered. */
static bool read_job(struct op *op, struct job_row *ret)
{
        struct error err;

        if (reader_job(op->daemon->reader, op->job, ret, &err) >= 0)
                return true;
        op_fail(op, JOB_QUEUED, &err);
        return false;
}

static void wait_for(struct job *j, struct op *op)
{
        struct op **at = &j->waiting;

        while (*at)
                at = &(*at)->next_waiting;
        op->next_waiting = NULL;
        *at = op;
}

/* Each is run again, and may wait again. */
void control_job_settled(struct daemon *d _unused_, struct job *j)
{
        struct op *op = TAKE_PTR(j->waiting), *next;

        for (; op; op = next) {
                next = op->next_waiting;
                op_run(op);
        }
}

/* ---- cancel */

static void on_cancelled(struct daemon *d _unused_, struct job *j, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r < 0)
                op_fail(op, j->state, &c->err);
        else
                op_answer(op, 0, j->id, JOB_CANCELLED, NULL);
}

static void on_cancel_noted(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;
        struct job *j = queue_find(&d->queue, op->job);

        if (j)
                j->noting_cancel = false;
        if (c->r < 0 && c->r != -EAGAIN && j)
                j->cancel_requested = false;
        if (c->r >= 0 && j && j->worker)
                worker_stop(j->worker);
        if (c->r == -EAGAIN) /* it moved meanwhile */
                op_run(op);
        else if (c->r < 0)
                op_fail(op, JOB_RUNNING, &c->err);
        else
                op_answer(op, 0, op->job, JOB_RUNNING, NULL);
        if (j)
                control_job_settled(d, j);
}

static void op_cancel(struct op *op)
{
        struct job *j = queue_find(&op->daemon->queue, op->job);
        struct job_row row;
        struct error err;
        struct write *w;

        if (!j || job_state_is_final(j->state)) {
                if (!read_job(op, &row))
                        return;
                op_busy(op, row.state, "it is over");
                job_row_done(&row);
        } else if (j->pending || j->noting_cancel) {
                wait_for(j, op);
        } else if (j->state == JOB_QUEUED) {
                if (job_transition(op->daemon, j, TRIGGER_CANCEL, NULL, on_cancelled, op, &err) < 0)
                        op_fail(op, j->state, &err);
        } else if (j->cancel_requested) {
                op_answer(op, 0, j->id, JOB_RUNNING, NULL);
        } else {
                j->noting_cancel = true;
                j->cancel_requested = true; /* from now on, so that an end that comes first counts as cancelled */
                w = write_new(WRITE_JOB_CANCEL);
                if (w)
                        w->job = j->id;
                commit_submit(op->daemon, w, on_cancel_noted, op);
        }
}

/* ---- resume and retry */

static enum job_trigger trigger_of(const struct op *op)
{
        return op->how.retry ? TRIGGER_RETRY : TRIGGER_RESUME;
}

static void on_reopened(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;
        struct job_row row;
        struct job *j;
        struct error err;

        if (c->r < 0 && c->r != -EAGAIN) {
                op_fail(op, op->from, &c->err);
                return;
        }
        if (!read_job(op, &row))
                return;
        if (c->r == -EAGAIN) {
                op_busy(op, row.state, "it is not over any more");
                job_row_done(&row);
                return;
        }
        j = job_new(&row, &err);
        job_row_done(&row);
        if (!j || queue_add(&d->queue, j, &err) < 0) {
                log_error("job %lld is queued, but waits for the daemon's next start: %s", (long long)op->job,
                          err.text);
                (void)job_free(j);
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

static int check_resume(struct op *op, const struct job_row *row, struct errors *errs)
{
        int64_t steps = op->how.steps > 0 ? op->how.steps : row->steps, done = 0;

        if (row->kind != JOB_TRAIN)
                return errors_add(errs, -EINVAL, "", "only a training job can be resumed");
        (void)checkpoint_resolve(op->daemon, row->id, -1, &done, NULL); /* none: from the start */
        if (steps <= done)
                return errors_add(errs, -EINVAL, "/steps",
                                  "its last checkpoint is at step %lld: expected more steps than that",
                                  (long long)done);
        return op->how.steps > 0 ? lengthen(op, row, errs) : 0;
}

/* Whatever it needs is still there. */
static int check_retry(struct op *op, const struct job_row *row, struct errors *errs)
{
        struct error err;
        int64_t step;

        if (row->kind == JOB_IMPORT)
                return import_check_retry(op, row, errs);
        if (!row->source_job || checkpoint_resolve(op->daemon, row->id, -1, &step, NULL) >= 0 ||
            checkpoint_resolve(op->daemon, row->source_job, row->source_step, &step, &err) >= 0)
                return 0;
        return errors_add(errs, -EINVAL, "", "what it began with is gone: %s", err.text);
}

static void op_reopen(struct op *op)
{
        struct job *j = queue_find(&op->daemon->queue, op->job);
        struct errors errs = {0};
        struct job_row row;
        struct write *w;
        int r;

        if (j) {
                op_busy(op, j->state, "only a job that is over can be queued again");
                return;
        }
        if (!read_job(op, &row))
                return;
        op->from = row.state;
        if (job_next(op->from, trigger_of(op)) < 0) {
                job_row_done(&row);
                op_busy(op, op->from,
                        "only a failed or cancelled job is run again; a finished training can be resumed");
                return;
        }
        r = op->how.retry ? check_retry(op, &row, &errs) : check_resume(op, &row, &errs);
        job_row_done(&row);
        if (r < 0) {
                op_answer(op, r, op->job, op->from, &errs);
                return;
        }
        w = write_new(WRITE_JOB_REOPEN);
        if (w) {
                w->job = op->job;
                w->from = op->from;
                w->trigger = job_trigger_names[trigger_of(op)];
                w->time_us = clock_wall_us();
                w->row.steps = op->how.steps;
                w->row.accept_changed_data = op->how.accept_changed_data;
                w->row.config = TAKE_PTR(op->config);
        }
        commit_submit(op->daemon, w, on_reopened, op);
}

/* ---- remove */

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
        char path[PATH_MAX];
        struct write *w;
        struct error err;

        if (c->r < 0) {
                op_fail(op, op->from, &c->err);
                return;
        }
        log_info("job %lld is removed", (long long)op->job);
        if (!daemon_job_path(d, op->job, NULL, path, sizeof path))
                (void)error_set(&err, -ENAMETOOLONG, NULL, "the path of its folder is too long");
        else if (file_remove_tree(path, &err) >= 0)
                err.code = 0;
        if (err.code) {
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
        op_run(op);
}

/* The job, queued or running or being submitted, that reads this one's checkpoint; 0: none; -1: one without id yet. */
static int64_t reader_of(const struct op *op)
{
        const struct queue *q = &op->daemon->queue;

        for (size_t i = 0; i < q->n; i++)
                if (q->jobs[i]->source_job == op->job)
                        return q->jobs[i]->id;
        for (const struct op *o = op->daemon->ops; o; o = o->next)
                if (o->pinned_job == op->job)
                        return -1;
        return 0;
}

static void op_remove(struct op *op)
{
        struct daemon *d = op->daemon;
        struct job *j = queue_find(&d->queue, op->job);
        struct job_row row;
        char text[96];
        struct write *w;
        int64_t reader;

        if (j) {
                op_busy(op, j->state, "cancel it before");
                return;
        }
        if (!read_job(op, &row))
                return;
        op->from = row.state;
        job_row_done(&row);
        reader = reader_of(op);
        if (reader) {
                (void)snprintf(text, sizeof text, "a job that is not over (%lld) reads its checkpoint",
                               (long long)reader);
                op_busy(op, op->from, reader > 0 ? text : "a job that is not over reads its checkpoint");
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
        commit_submit(d, w, on_marked, op);
}

/* ---- stop */

static void op_stop(struct op *op)
{
        struct daemon *d = op->daemon;

        log_info("told to stop: workers write their checkpoints and end");
        op_answer(op, 0, 0, JOB_QUEUED, NULL);
        daemon_stop(d);
}

/* ---- the door */

static void op_run(struct op *op)
{
        struct error err;

        if (op->daemon->control_closed) {
                (void)error_set(&err, -ESHUTDOWN, NULL, "the daemon ends");
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        switch (op->kind) {
        case OP_SUBMIT:
                op_submit(op);
                break;
        case OP_CANCEL:
                op_cancel(op);
                break;
        case OP_REOPEN:
                op_reopen(op);
                break;
        case OP_REMOVE:
                op_remove(op);
                break;
        case OP_REMOVE_DATASET:
                op_remove_dataset(op);
                break;
        case OP_STOP:
                op_stop(op);
                break;
        }
}

static void on_post(struct post *p)
{
        op_run((struct op *)p); /* its first member */
}

/* On an HTTP thread. */
static void enter(struct control *c, const struct op *what, control_done *done, void *user)
{
        struct daemon *d = c->daemon;
        struct op *op = calloc(1, sizeof *op);
        struct errors none = {0};
        bool closed;

        if (op) {
                *op = *what;
                op->daemon = d;
                op->done = done;
                op->user = user;
                (void)pthread_mutex_lock(&d->control_lock);
                closed = d->control_closed;
                if (!closed) {
                        op->next = d->ops;
                        d->ops = op;
                        loop_post(d->loop, &op->post, on_post);
                }
                (void)pthread_mutex_unlock(&d->control_lock);
                if (!closed)
                        return;
                free(op);
        }
        (void)submission_free(what->submission);
        done(user, &(struct control_answer){.r = op ? -ESHUTDOWN : -ENOMEM, .errs = &none});
}

static void call_submit(struct control *c, struct submission *s, control_done *done, void *user)
{
        enter(c, &(struct op){.kind = OP_SUBMIT, .submission = s}, done, user);
}

static void call_cancel(struct control *c, int64_t job, control_done *done, void *user)
{
        enter(c, &(struct op){.kind = OP_CANCEL, .job = job}, done, user);
}

static void call_reopen(struct control *c, int64_t job, const struct reopening *how, control_done *done, void *user)
{
        enter(c, &(struct op){.kind = OP_REOPEN, .job = job, .how = *how}, done, user);
}

static void call_remove(struct control *c, int64_t job, control_done *done, void *user)
{
        enter(c, &(struct op){.kind = OP_REMOVE, .job = job}, done, user);
}

static void call_remove_dataset(struct control *c, const char *name, control_done *done, void *user)
{
        struct op what = {.kind = OP_REMOVE_DATASET};

        (void)snprintf(what.dataset, sizeof what.dataset, "%s", name);
        enter(c, &what, done, user);
}

static void call_stop(struct control *c, control_done *done, void *user)
{
        enter(c, &(struct op){.kind = OP_STOP}, done, user);
}

/* On an HTTP thread. The disk is looked at anew: while nothing happens nobody else does. */
static void call_status(struct control *c, struct control_status *ret)
{
        struct daemon *d = c->daemon;
        struct disk disk;

        (void)pthread_mutex_lock(&d->control_lock);
        disk = d->disk;
        (void)pthread_mutex_unlock(&d->control_lock);
        disk = disk_read(d->settings.state, d->settings.disk_reserve_bytes, disk.low);
        *ret = (struct control_status){
                .disk_low = disk.low, .disk_free_bytes = disk.free_bytes, .disk_reserve_bytes = disk.reserve_bytes};
        disk_describe(&disk, ret->waiting, sizeof ret->waiting);
}

void control_init(struct daemon *d)
{
        (void)pthread_mutex_init(&d->control_lock, NULL);
        d->control = (struct control){d,           call_submit,         call_cancel, call_reopen,
                                      call_remove, call_remove_dataset, call_stop,   call_status};
}

/* The list has no one but the loop's thread from here on. */
void control_close(struct daemon *d)
{
        (void)pthread_mutex_lock(&d->control_lock);
        d->control_closed = true;
        (void)pthread_mutex_unlock(&d->control_lock);
        for (struct op *op = d->ops, *next; op; op = next) {
                next = op->next;
                if (op->helper || op->timer)
                        op_run(op);
        }
}

void control_end(struct daemon *d)
{
        while (d->ops)
                op_run(d->ops);
}

bool control_pins(struct daemon *d, int64_t job, int64_t step)
{
        bool pinned = false;

        (void)pthread_mutex_lock(&d->control_lock);
        for (const struct op *op = d->ops; op && !pinned; op = op->next)
                pinned = op->pinned_job == job && op->pinned_step == step;
        (void)pthread_mutex_unlock(&d->control_lock);
        return pinned;
}
