/* struct control: each call becomes an operation that is posted to the loop, done there, and answered from there. */
#include "base/clock.h"
#include "daemon/backup.h"
#include "daemon/limit.h"
#include "daemon/op.h"
#include "daemon/process.h"
#include "daemon/stop.h"
#include "daemon/watch.h"
#include "daemon/webhook.h"
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
        changing_done(&op->changing);
        json_decref(op->config);
        free(op->ids);
        free(op);
}

void op_answer(struct op *op, int r, int64_t id, enum job_state state, const struct errors *errs)
{
        struct daemon *d = op->daemon;
        struct errors none = {0};
        struct control_answer answer = {.r = r,
                                        .id = id,
                                        .state = state,
                                        .changed = op->changed,
                                        .left = op->ids,
                                        .n_left = op->n_left,
                                        .job = op->stored,
                                        .errs = errs ? errs : &none};

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

void op_commit(struct op *op, struct write *w, void (*done)(struct daemon *d, const struct commit *c, void *user))
{
        if (w)
                w->audit = op->by;
        commit_submit(op->daemon, w, done, op);
}

void op_busy(struct op *op, enum job_state state, const char *text)
{
        struct error err;

        (void)error_set(&err, -EBUSY, NULL, "%s", text);
        op_fail(op, state, &err);
}

bool op_read_job(struct op *op, struct job_row *ret)
{
        struct error err;

        if (reader_job(op->daemon->reader, op->job, ret, &err) >= 0)
                return true;
        op_fail(op, JOB_QUEUED, &err);
        return false;
}

void op_wait_for(struct job *j, struct op *op)
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

/* ---- cancel and pause */

static void on_halted(struct daemon *d _unused_, struct job *j, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r < 0)
                op_fail(op, j->state, &c->err);
        else
                op_answer(op, 0, j->id, j->state, NULL);
}

static void on_stop_noted(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r == -EAGAIN) /* it moved meanwhile */
                op_run(op);
        else if (c->r < 0)
                op_fail(op, JOB_RUNNING, &c->err);
        else
                op_answer(op, 0, op->job, JOB_RUNNING, NULL);
}

/* Of a job that runs. */
static void halt_running(struct op *op, struct job *j)
{
        if (j->stop == op->reason)
                op_answer(op, 0, j->id, JOB_RUNNING, NULL);
        else if (j->stop == STOP_CANCEL)
                op_busy(op, j->state, "it is being cancelled");
        else
                stop_ask(op->daemon, j, op->reason, NULL, &op->by, on_stop_noted, op);
}

/* The job in memory, for an operation on one that is not over. NULL: answered, or it waits for a transition. */
static struct job *load_job(struct op *op)
{
        struct job_row row;
        struct job *j;
        struct error err;
        int r = job_load(op->daemon, op->job, &j, &err);

        if (r >= 0) {
                if (!j->pending && !j->noting_stop)
                        return j;
                op_wait_for(j, op);
        } else if (r != -ENOENT) {
                op_fail(op, JOB_QUEUED, &err);
        } else if (op_read_job(op, &row)) {
                op_busy(op, row.state, "it is over");
                job_row_done(&row);
        }
        return NULL;
}

static void op_halt(struct op *op)
{
        enum job_trigger trigger = job_stop_trigger(op->reason);
        struct job *j = load_job(op);
        struct write *w;
        struct error err;

        if (!j)
                return;
        if (j->state == JOB_RUNNING) {
                halt_running(op, j);
        } else if (job_next(j->state, trigger) < 0) {
                op_busy(op, j->state, "there is nothing to pause");
        } else {
                w = write_new(WRITE_JOB_TRANSITION);
                if (w)
                        w->audit = op->by;
                if (job_transition(op->daemon, j, trigger, w, on_halted, op, &err) < 0)
                        op_fail(op, j->state, &err);
        }
}

/* ---- cancel and pause of many */

static void on_many_moved(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;

        d->moving--;
        if (c->r < 0) {
                op_fail(op, JOB_QUEUED, &c->err);
        } else {
                op->changed = c->ret_number;
                log_info("%lld jobs are %s", (long long)op->changed, op->reason == STOP_PAUSE ? "paused" : "cancelled");
                op_answer(op, 0, 0, JOB_QUEUED, NULL);
        }
        daemon_schedule(d);
}

/* What is in memory has something going on, and is left to whoever asks. */
static void op_halt_many(struct op *op)
{
        struct daemon *d = op->daemon;
        struct write *w = write_new(WRITE_JOBS_MOVE);
        int64_t *ids = w ? malloc(MAX(op->n_ids, (size_t)1) * sizeof *ids) : NULL;

        if (!ids)
                w = write_free(w);
        for (size_t i = 0; w && i < op->n_ids; i++)
                if (queue_find(&d->queue, op->ids[i]))
                        op->ids[op->n_left++] = op->ids[i];
                else
                        ids[w->n_ids++] = op->ids[i];
        if (w) {
                enum job_trigger trigger = job_stop_trigger(op->reason);

                w->ids = ids;
                w->to = (enum job_state)job_next(JOB_QUEUED, trigger);
                w->trigger = job_trigger_names[trigger];
                w->time_us = clock_wall_us();
        }
        d->moving++;
        op_commit(op, w, on_many_moved);
}

/* ---- changes */

static void apply_changes(struct op *op, struct job *j)
{
        if (op->changing.change & CHANGE_PRIORITY)
                j->priority = op->changing.priority;
        limit_change(&j->limits, &op->changing.limits, op->changing.change);
        if (j->worker)
                limit_watch(j->worker);
}

static void on_changed(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;
        struct job *j = queue_find(&d->queue, op->job);
        struct job_row row;

        if (c->r >= 0 && j)
                apply_changes(op, j);
        if (c->r == -EAGAIN && op_read_job(op, &row)) {
                op_busy(op, row.state, "only name, tags and notes of a job that is over can be changed");
                job_row_done(&row);
        } else if (c->r < 0 && c->r != -EAGAIN) {
                op_fail(op, JOB_QUEUED, &c->err);
        } else if (c->r >= 0) {
                op_answer(op, 0, op->job, JOB_QUEUED, NULL);
                daemon_schedule(d);
        }
}

static void op_change(struct op *op)
{
        struct write *w = write_new(WRITE_JOB_SET);
        struct changing *c = &op->changing;

        if (w) {
                w->job = op->job;
                w->time_us = clock_wall_us();
                w->change = c->change;
                w->row.version = c->version;
                w->row.name = TAKE_PTR(c->name);
                w->row.notes = TAKE_PTR(c->notes);
                w->row.tags = TAKE_PTR(c->tags);
                w->row.priority = c->priority;
                w->row.limits = c->limits;
        }
        op_commit(op, w, on_changed);
}

static void on_checkpoint_changed(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r < 0)
                op_fail(op, JOB_QUEUED, &c->err);
        else
                op_answer(op, 0, op->job, JOB_QUEUED, NULL);
}

static void op_change_checkpoint(struct op *op)
{
        const struct checkpoint_changing *what = &op->checkpoint;
        struct write *w = write_new(WRITE_ARTIFACT_SET);

        if (w) {
                w->artifact = what->artifact;
                w->change = what->change;
                w->artifact_row.pinned = what->pinned;
                w->artifact_row.failed_starts = what->bad ? FAILED_STARTS_BAD : 0;
        }
        op_commit(op, w, on_checkpoint_changed);
}

/* ---- devices */

static void on_service(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;
        struct device *x = &d->devices[daemon_device(d, op->device)];

        if (c->r < 0) {
                op_fail(op, JOB_QUEUED, &c->err);
                return;
        }
        x->out = op->out;
        x->out_why[0] = 0;
        log_info("device %s is %s", x->name, x->out ? "out of service" : "in service");
        if (!op->out)
                watch_anew(x);
        else if (op->preempt)
                device_preempt(d, x, x->name);
        daemon_schedule(d);
        op_answer(op, 0, 0, JOB_QUEUED, NULL);
}

static void op_service(struct op *op)
{
        struct daemon *d = op->daemon;
        struct write *w;
        struct error err;

        if (!d->n_devices || strcmp(d->devices[daemon_device(d, op->device)].name, op->device) != 0) {
                (void)error_set(&err, -ENOENT, NULL, "there is no device %s", op->device);
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        w = write_new(WRITE_DEVICE);
        if (w) {
                (void)snprintf(w->device, sizeof w->device, "%s", op->device);
                w->out = op->out;
        }
        op_commit(op, w, on_service);
}

/* ---- tokens */

static void on_token(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r < 0) {
                op_fail(op, JOB_QUEUED, &c->err);
                return;
        }
        log_info("token %s is %s", op->token.name, op->out ? "removed" : role_names[op->token.role]);
        op_answer(op, 0, 0, JOB_QUEUED, NULL);
}

static void op_token(struct op *op)
{
        struct write *w = write_new(WRITE_TOKEN);

        if (w) {
                w->token = op->token;
                w->out = op->out;
        }
        op_commit(op, w, on_token);
}

/* ---- sessions */

static void on_session(struct daemon *d _unused_, const struct commit *c, void *user)
{
        if (c->r < 0)
                op_fail(user, JOB_QUEUED, &c->err);
        else
                op_answer(user, 0, 0, JOB_QUEUED, NULL);
}

static void op_session(struct op *op)
{
        struct write *w = write_new(WRITE_SESSION);

        if (w) {
                w->session = op->session;
                w->out = op->out;
                w->time_us = clock_wall_us();
        }
        op_commit(op, w, on_session);
}

/* ---- webhooks */

static void on_webhook_send(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;
        struct error err = c->err;

        if (c->r < 0 || webhooks_send(d->webhooks, op->name, op->event, &err) < 0)
                op_fail(op, JOB_QUEUED, &err);
        else
                op_answer(op, 0, 0, JOB_QUEUED, NULL);
}

static void op_webhook_send(struct op *op)
{
        struct error err;

        if (webhooks_can_send(op->daemon->webhooks, op->daemon->reader, op->name, op->event, &err) < 0)
                op_fail(op, JOB_QUEUED, &err);
        else
                op_commit(op, write_new(WRITE_AUDIT), on_webhook_send);
}

/* ---- stop */

/* A disk that takes nothing any more keeps nobody from stopping. */
static void on_stop_told(struct daemon *d, const struct commit *c _unused_, void *user)
{
        log_info("told to stop: workers write their checkpoints and end");
        op_answer(user, 0, 0, JOB_QUEUED, NULL);
        daemon_stop(d);
}

static void op_stop(struct op *op)
{
        op_commit(op, write_new(WRITE_AUDIT), on_stop_told);
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
        if (op->daemon->backup && (op->kind == OP_REMOVE || op->kind == OP_REMOVE_DATASET)) {
                (void)error_set(&err, -EEXIST, NULL, "a backup is being made, which needs it: try again soon");
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        switch (op->kind) {
        case OP_SUBMIT:
                op_submit(op);
                break;
        case OP_HALT:
                op_halt(op);
                break;
        case OP_HALT_MANY:
                op_halt_many(op);
                break;
        case OP_CHANGE:
                op_change(op);
                break;
        case OP_CHANGE_CHECKPOINT:
                op_change_checkpoint(op);
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
        case OP_SERVICE:
                op_service(op);
                break;
        case OP_TOKEN:
                op_token(op);
                break;
        case OP_SESSION:
                op_session(op);
                break;
        case OP_WEBHOOK_SEND:
                op_webhook_send(op);
                break;
        case OP_BACKUP:
                op_backup(op);
                break;
        case OP_STOP:
                op_stop(op);
                break;
        }
}

static void on_post(struct post *p)
{
        struct op *op = (struct op *)p; /* its first member */
        struct daemon *d = op->daemon;
        int64_t job = op->job;

        op_run(op);
        job_forget(d, job);
}

/* On an HTTP thread. */
static void enter(struct control *c, const struct audit_row *by, const struct op *what, control_done *done, void *user)
{
        struct daemon *d = c->daemon;
        struct op *op = calloc(1, sizeof *op);
        struct errors none = {0};
        bool closed;

        if (op) {
                *op = *what;
                op->daemon = d;
                op->by = *by;
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
        free(what->ids);
        changing_done(&(struct changing){
                .name = what->changing.name, .notes = what->changing.notes, .tags = what->changing.tags});
        done(user, &(struct control_answer){.r = op ? -ESHUTDOWN : -ENOMEM, .errs = &none});
}

static void call_submit(struct control *c, const struct audit_row *by, struct submission *s, control_done *done,
                        void *user)
{
        enter(c, by, &(struct op){.kind = OP_SUBMIT, .submission = s}, done, user);
}

static void call_halt(struct control *c, const struct audit_row *by, int64_t job, enum stop_reason reason,
                      control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_HALT, .job = job, .reason = reason}, done, user);
}

static void call_halt_many(struct control *c, const struct audit_row *by, const int64_t *ids, size_t n,
                           enum stop_reason reason, control_done *done, void *user)
{
        struct op what = {.kind = OP_HALT_MANY, .reason = reason, .n_ids = n, .ids = malloc(n * sizeof *ids)};
        struct errors none = {0};

        if (!what.ids) {
                done(user, &(struct control_answer){.r = -ENOMEM, .errs = &none});
                return;
        }
        memcpy(what.ids, ids, n * sizeof *ids);
        enter(c, by, &what, done, user);
}

static void call_change(struct control *c, const struct audit_row *by, int64_t job, struct changing *what,
                        control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_CHANGE, .job = job, .changing = *what}, done, user);
}

static void call_change_checkpoint(struct control *c, const struct audit_row *by,
                                   const struct checkpoint_changing *what, control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_CHANGE_CHECKPOINT, .job = what->job, .checkpoint = *what}, done, user);
}

static void call_reopen(struct control *c, const struct audit_row *by, int64_t job, const struct reopening *how,
                        control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_REOPEN, .job = job, .how = *how}, done, user);
}

static void call_remove(struct control *c, const struct audit_row *by, int64_t job, control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_REMOVE, .job = job}, done, user);
}

static void call_remove_dataset(struct control *c, const struct audit_row *by, const char *name, control_done *done,
                                void *user)
{
        struct op what = {.kind = OP_REMOVE_DATASET};

        (void)snprintf(what.dataset, sizeof what.dataset, "%s", name);
        enter(c, by, &what, done, user);
}

static void call_service(struct control *c, const struct audit_row *by, const char *name, bool out, bool preempt,
                         control_done *done, void *user)
{
        struct op what = {.kind = OP_SERVICE, .out = out, .preempt = preempt};

        (void)snprintf(what.device, sizeof what.device, "%s", name); /* a longer one is none */
        enter(c, by, &what, done, user);
}

static void call_token(struct control *c, const struct audit_row *by, const struct token_row *t, bool remove,
                       control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_TOKEN, .token = *t, .out = remove}, done, user);
}

static void call_session(struct control *c, const struct audit_row *by, const struct session_row *s, bool end,
                         control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_SESSION, .session = *s, .out = end}, done, user);
}

static void call_webhook_send(struct control *c, const struct audit_row *by, const char *name, int64_t event,
                              control_done *done, void *user)
{
        struct op what = {.kind = OP_WEBHOOK_SEND, .event = event};

        (void)snprintf(what.name, sizeof what.name, "%s", name);
        enter(c, by, &what, done, user);
}

static void call_backup(struct control *c, const struct audit_row *by, const char *name, control_done *done, void *user)
{
        struct op what = {.kind = OP_BACKUP};

        (void)snprintf(what.name, sizeof what.name, "%s", name);
        enter(c, by, &what, done, user);
}

static void call_stop(struct control *c, const struct audit_row *by, control_done *done, void *user)
{
        enter(c, by, &(struct op){.kind = OP_STOP}, done, user);
}

/* On an HTTP thread. The disk is looked at anew: while nothing happens nobody else does. */
static void call_status(struct control *c, struct control_status *ret)
{
        struct daemon *d = c->daemon;
        int64_t reserve_bytes;
        struct disk disk;

        *ret = (struct control_status){.n_devices = d->n_devices};
        (void)pthread_mutex_lock(&d->control_lock);
        ret->devices_per_owner = d->devices_per_owner;
        reserve_bytes = d->disk_reserve_bytes;
        disk = d->disk;
        memcpy(ret->devices, d->device_status, sizeof ret->devices);
        memcpy(ret->reserved, d->reserved, sizeof ret->reserved);
        (void)pthread_mutex_unlock(&d->control_lock);
        disk = disk_read(d->settings.state, reserve_bytes, disk.low);
        ret->disk_low = disk.low;
        ret->disk_free_bytes = disk.free_bytes;
        ret->disk_reserve_bytes = disk.reserve_bytes;
        disk_describe(&disk, ret->disk_waiting, sizeof ret->disk_waiting);
}

/* On an HTTP thread. */
static int64_t call_rests(struct control *c, int64_t job, char *ret_why, size_t size)
{
        struct daemon *d = c->daemon;
        const struct job *j;
        int64_t until_us;

        (void)pthread_mutex_lock(&d->control_lock);
        j = queue_find(&d->queue, job);
        until_us = j ? j->not_before_us : 0;
        (void)snprintf(ret_why, size, "%s", j ? j->rests_why : "");
        (void)pthread_mutex_unlock(&d->control_lock);
        return until_us;
}

/* On an HTTP thread. */
static size_t call_webhooks(struct control *c, struct control_webhook ret[CONTROL_WEBHOOKS_MAX])
{
        struct daemon *d = c->daemon;

        return webhooks_status(d->webhooks, ret);
}

/* On an HTTP thread. */
static void call_log(struct control *c _unused_, const char *line)
{
        log_info("%s", line);
}

void control_init(struct daemon *d)
{
        (void)pthread_mutex_init(&d->control_lock, NULL);
        d->control = (struct control){
                .daemon = d,
                .submit = call_submit,
                .halt = call_halt,
                .halt_many = call_halt_many,
                .change = call_change,
                .change_checkpoint = call_change_checkpoint,
                .reopen = call_reopen,
                .remove = call_remove,
                .remove_dataset = call_remove_dataset,
                .service = call_service,
                .token = call_token,
                .session = call_session,
                .webhook_send = call_webhook_send,
                .webhooks = call_webhooks,
                .backup = call_backup,
                .stop = call_stop,
                .log = d->settings.request_log ? call_log : NULL,
                .status = call_status,
                .rests = call_rests,
        };
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
                pinned = op->pinned_job == job && (step < 0 || op->pinned_step == step);
        (void)pthread_mutex_unlock(&d->control_lock);
        return pinned;
}
