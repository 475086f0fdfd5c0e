#include "daemon/worker.h"

#include "base/array.h"
#include "base/clock.h"
#include "daemon/channel.h"
#include "daemon/daemon.h"
#include "daemon/ending.h"
#include "daemon/limit.h"
#include "daemon/memory.h"
#include "daemon/process.h"
#include "daemon/retention.h"
#include "daemon/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define BATCH_BYTES ((size_t)4 << 20) /* taken and not yet on the disk: then its connection is read no more */
#define GRACE_US (30 * US_PER_S)      /* for a worker to end after its last word is acknowledged */

static void on_lock_timer(void *user);

/* j: NULL when the job has moved on. */
static struct worker *worker_new(struct daemon *d, struct job *j, int64_t job, const char *identity, int64_t attempt,
                                 size_t device)
{
        struct worker *w = calloc(1, sizeof *w);

        if (!w)
                return NULL;
        *w = (struct worker){.daemon = d,
                             .job = j,
                             .job_id = job,
                             .attempt = attempt,
                             .device = device,
                             .pidfd = -1,
                             .stdin_fd = -1,
                             .status = INT_MIN,
                             .failure = FAILURE_NONE,
                             .oom_kills = memory_oom_kills(""),
                             .last_step = -1};
        (void)snprintf(w->identity, sizeof w->identity, "%s", identity);
        w->next = d->workers;
        d->workers = w;
        if (j)
                j->worker = w;
        return w;
}

static void clear_events(struct worker *w)
{
        for (size_t i = 0; i < w->n_events; i++)
                event_done(&w->events[i]);
        w->n_events = w->events_bytes = 0;
}

static void remove_sources(struct worker *w)
{
        struct loop *l = w->daemon->loop;

        w->pidfd_source = loop_remove(l, w->pidfd_source);
        w->lock_timer = loop_remove(l, w->lock_timer);
        w->kill_timer = loop_remove(l, w->kill_timer);
        w->retry_timer = loop_remove(l, w->retry_timer);
        w->limit_timer = loop_remove(l, w->limit_timer);
        w->stdin_source = loop_remove(l, w->stdin_source);
        closep(&w->pidfd);
        closep(&w->stdin_fd);
        w->pidfd = w->stdin_fd = -1;
}

static void worker_free(struct worker *w)
{
        struct worker **at = &w->daemon->workers;

        while (*at && *at != w)
                at = &(*at)->next;
        if (*at)
                *at = w->next;
        remove_sources(w);
        if (w->connection)
                (void)connection_close(w->connection);
        clear_events(w);
        free(w->events);
        free(w->assignment);
        (void)spool_close(w->spool);
        if (w->job)
                w->job->worker = NULL;
        free(w);
}

void worker_forget_all(struct daemon *d)
{
        while (d->workers)
                worker_free(d->workers);
}

struct worker *worker_find(struct daemon *d, int64_t attempt)
{
        struct worker *w = d->workers;

        while (w && w->attempt != attempt)
                w = w->next;
        return w;
}

static bool attempt_path(const struct daemon *d, int64_t job, int64_t attempt, const char *suffix, char *ret,
                         size_t size)
{
        char name[64];

        (void)snprintf(name, sizeof name, "attempt-%lld.%s", (long long)attempt, suffix);
        return daemon_job_path(d, job, name, ret, size);
}

bool attempt_lock_is_held(const struct daemon *d, int64_t job, int64_t attempt)
{
        char path[PATH_MAX];
        _cleanup_(closep) int fd = -1;

        if (!attempt_path(d, job, attempt, "lock", path, sizeof path))
                return false;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* ---- the end of the process */

static void process_ended(struct worker *w)
{
        remove_sources(w);
        if (w->connection)
                connection_drain(w->connection);
        w->ended = true;
        worker_pump(w);
}

static void watch_lock(struct worker *w)
{
        if (!w->lock_timer)
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + US_PER_S / 2, on_lock_timer, w,
                                     &w->lock_timer, NULL);
}

static void on_lock_timer(void *user)
{
        struct worker *w = user;

        w->lock_timer = NULL;
        if (attempt_lock_is_held(w->daemon, w->job_id, w->attempt))
                watch_lock(w);
        else
                process_ended(w);
}

static void on_pidfd(void *user, uint32_t events _unused_)
{
        struct worker *w = user;
        siginfo_t info = {0};

        if (!w->child) {
                /* the process that had this id has ended; the lock says whether it was the worker */
                w->pidfd_source = loop_remove(w->daemon->loop, w->pidfd_source);
                closep(&w->pidfd);
                w->pidfd = -1;
                w->pid = 0;
                on_lock_timer(w);
                return;
        }
        (void)kill(-w->pid, SIGKILL); /* what it left behind; the id is still its own until it is reaped */
        (void)waitid(P_PIDFD, (id_t)w->pidfd, &info, WEXITED);
        w->status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        process_ended(w);
}

static void kill_group(struct worker *w)
{
        if (w->ended || w->pid <= 0)
                return;
        if (!w->child && poll(&(struct pollfd){.fd = w->pidfd, .events = POLLIN}, 1, 0) != 0)
                return; /* it ended just now, and is not ours to reap: the number may be another's already */
        w->killed = true;
        (void)kill(-w->pid, SIGKILL);
        if (w->pidfd >= 0)
                (void)pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
}

static void on_kill_timer(void *user)
{
        struct worker *w = user;

        w->kill_timer = NULL;
        log_warning("job %lld: its worker did not end in time and is killed", (long long)w->job_id);
        kill_group(w);
        if (w->pid <= 0) /* adopted, and never said which process it is: perhaps it does yet */
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + US_PER_S, on_kill_timer, w, &w->kill_timer,
                                     NULL);
}

static void arm_kill(struct worker *w, int64_t after_us)
{
        w->kill_timer = loop_remove(w->daemon->loop, w->kill_timer);
        if (!w->ended)
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + after_us, on_kill_timer, w, &w->kill_timer,
                                     NULL);
}

void worker_stop(struct worker *w)
{
        if (w->stop_requested || w->outcome_committed)
                return;
        w->stop_requested = true;
        arm_kill(w, w->daemon->settings.stop_timeout_us);
        if (w->connection && !w->hello_waits && !w->ended)
                connection_send_stop(w->connection);
}

/* ---- its connection */

static void answer_hello(struct worker *w)
{
        w->hello_waits = false;
        connection_send_ack(w->connection, w->last_seq);
        if (w->connection && w->stop_requested)
                connection_send_stop(w->connection);
}

/* Takes the pidfd; -1: by the lock. */
static void watch_process(struct worker *w, pid_t pid, int pidfd)
{
        w->pidfd = pidfd;
        if (w->pidfd < 0 || loop_add_fd(w->daemon->loop, w->pidfd, EPOLLIN, on_pidfd, w, &w->pidfd_source, NULL) < 0) {
                closep(&w->pidfd);
                w->pidfd = -1;
                watch_lock(w);
                return;
        }
        w->pid = pid;
        w->lock_timer = loop_remove(w->daemon->loop, w->lock_timer);
}

int worker_hello(struct worker *w, struct connection *c, const struct event *hello, struct error *err)
{
        if (hello->pid != connection_peer_pid(c))
                log_debug("job %lld: its worker says that it is process %lld, the socket says %lld",
                          (long long)w->job_id, (long long)hello->pid, (long long)connection_peer_pid(c));
        if (w->connection)
                (void)connection_close(w->connection); /* the worker gave it up */
        (void)err;
        w->connection = c;
        if (w->pidfd < 0)
                watch_process(w, (pid_t)connection_peer_pid(c), pidfd_open((pid_t)connection_peer_pid(c), 0));
        w->hello_waits = w->committing || w->retry_timer;
        if (!w->hello_waits)
                answer_hello(w);
        return 0;
}

void worker_disconnected(struct worker *w, struct connection *c)
{
        if (w->connection == c) {
                w->connection = NULL;
                w->hello_waits = false;
        }
}

static bool is_outcome(enum event_type t)
{
        return t == EVENT_DONE || t == EVENT_ERROR || t == EVENT_STOPPED;
}

static bool has_outcome(const struct worker *w)
{
        return w->outcome_committed || w->batch_has_outcome ||
               (w->n_events && is_outcome(w->events[w->n_events - 1].type));
}

/* Something in the spool was not applied: it is kept for a person, or for a daemon that understands it. Of what the
 * connection brings, that is done before it is acknowledged. */
static void keep_spool(struct worker *w, const struct error *why)
{
        char path[PATH_MAX], kept[PATH_MAX];
        struct error err = {0};

        if (w->spool_kept)
                return;
        w->spool_kept = true;
        w->spool_stays = !attempt_path(w->daemon, w->job_id, w->attempt, "events", path, sizeof path) ||
                         !attempt_path(w->daemon, w->job_id, w->attempt, "kept", kept, sizeof kept) ||
                         spool_keep(path, kept, &err) < 0;
        log_warning("job %lld: something of its worker was not applied (%s%s%s): the spool is kept as attempt-%lld.%s",
                    (long long)w->job_id, why->path, why->path[0] ? ": " : "", why->text, (long long)w->attempt,
                    w->spool_stays ? "events" : "kept");
        if (err.text[0])
                log_warning("job %lld: %s: %s", (long long)w->job_id, err.path, err.text);
}

/* What is not understood but has its number is an event, too, so that those after it are applied. */
static int decode_line(struct worker *w, const char *line, size_t size, struct event *ret, struct error *err)
{
        int r = event_decode(line, size, ret, err);

        if (r != -EINVAL || event_decode_unknown(line, size, ret, NULL) < 0)
                return r;
        if (ret->seq > w->accepted_seq)
                keep_spool(w, err);
        return 0;
}

/* Takes e. */
static int take_event(struct worker *w, struct event *e, size_t bytes, struct error *err)
{
        if (e->seq <= w->accepted_seq || has_outcome(w)) {
                event_done(e);
                return 0;
        }
        if (e->seq != w->accepted_seq + 1) {
                int r = error_set(err, -EPROTO, NULL, "event %lld after %lld", (long long)e->seq,
                                  (long long)w->accepted_seq);

                event_done(e);
                return r;
        }
        if (!array_grow(&w->events, w->n_events, &w->room, sizeof *w->events)) {
                event_done(e);
                return error_set(err, -ENOMEM, NULL, "no memory for events");
        }
        if (e->type != EVENT_DONE)
                w->last_step = MAX(w->last_step, event_last_step(e));
        w->accepted_seq = e->seq;
        w->events_bytes += bytes + sizeof *e;
        w->events[w->n_events++] = *e;
        return w->events_bytes > BATCH_BYTES ? 1 : 0;
}

int worker_take_line(struct worker *w, const char *line, size_t size, struct error *err)
{
        struct event e;
        int r = decode_line(w, line, size, &e, err);

        if (r < 0)
                return r;
        if (e.type == EVENT_HELLO) {
                event_done(&e);
                return error_set(err, -EPROTO, NULL, "a second hello");
        }
        return take_event(w, &e, size, err);
}

/* ---- batches */

static void on_retry(void *user)
{
        struct worker *w = user;

        w->retry_timer = NULL;
        if (w->connection && w->hello_waits)
                answer_hello(w);
        worker_pump(w);
}

static void retry_later(struct worker *w)
{
        if (!w->retry_timer)
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + w->daemon->settings.retry_us, on_retry, w,
                                     &w->retry_timer, NULL);
}

/* The disk said no. The events are dropped here and stay in the worker's spool, unacknowledged: it sends them again
 * after its next hello, which is not answered before the retry; of a worker that ended the spool is read again. */
static void batch_failed(struct worker *w)
{
        clear_events(w);
        w->accepted_seq = w->last_seq;
        w->batch_has_outcome = w->batch_has_checkpoint = false;
        w->spool = spool_close(w->spool);
        w->spool_read = w->spool_known = false;
        if (w->connection)
                (void)connection_close(w->connection);
        retry_later(w);
}

static void batch_committed(struct worker *w, const struct commit *c)
{
        struct connection *connection = w->connection;

        w->last_seq = c->ret_number;
        w->accepted_seq = MAX(w->accepted_seq, w->last_seq);
        if (w->batch_has_checkpoint) {
                w->batch_has_checkpoint = false;
                w->checkpoints++;
                daemon_device_works(w->daemon, w->job, w->device);
                retention_run(w->daemon, w->job_id);
        }
        limit_watch(w);
        if (!connection)
                return;
        if (w->hello_waits)
                answer_hello(w);
        else
                connection_send_ack(connection, w->last_seq);
        if (w->connection)
                connection_resume(w->connection);
}

static void on_batch(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct worker *w = user;

        w->committing = false;
        if (c->r < 0 && c->r != -ENOSPC && c->r != -EIO)
                log_error("job %lld: its events cannot be stored: %s", (long long)w->job_id, c->err.text);
        if (c->r < 0)
                batch_failed(w);
        else
                batch_committed(w, c);
        worker_pump(w);
}

/* After the transition of an end: whether the device rests. */
static void settle_failure(struct worker *w, struct job *j, const struct commit *c)
{
        if (c->r < 0)
                return;
        if (w->failure != FAILURE_NONE && j->state == JOB_QUEUED)
                daemon_back_off(w->daemon, j, w->device, w->failure);
        else if (job_state_is_final(j->state))
                daemon_device_works(w->daemon, j, w->device);
}

static void on_outcome(struct daemon *d _unused_, struct job *j, const struct commit *c, void *user)
{
        struct worker *w = user;

        w->committing = w->batch_has_outcome = false;
        if (c->r < 0 && c->r != -EAGAIN) {
                batch_failed(w);
                return;
        }
        settle_failure(w, j, c);
        w->outcome_committed = true;
        w->job = NULL;
        j->worker = NULL;
        arm_kill(w, GRACE_US);
        if (c->r >= 0)
                batch_committed(w, c);
        worker_pump(w);
}

/* An error of the job ends it; any other sends it back to the queue, with the reason in its event log. */
static enum job_trigger error_trigger(struct worker *w, const struct event *e, struct write *write)
{
        enum failure f = failure_of_error(e->error_class);
        enum stop_reason asked = w->job->stop;

        failure_note(f, e->detail, &write->attempt_row);
        if (asked == STOP_CANCEL || (asked != STOP_NONE && failure_rules[f].retried))
                return job_stop_trigger(asked);
        if (!failure_rules[f].retried) {
                write->row.error = job_error(failure_rules[f].name, e->detail, e->step);
                return TRIGGER_ERROR;
        }
        w->failure = f;
        if (asprintf(&write->detail, "%s: %s", failure_rules[f].name, e->detail) < 0)
                write->detail = NULL;
        return TRIGGER_LOST;
}

/* The transition that an outcome means, with what it carries. */
static enum job_trigger outcome_trigger(struct worker *w, const struct event *e, struct write *write)
{
        switch (e->type) {
        case EVENT_DONE:
                write->attempt_row.outcome = OUTCOME_DONE;
                write->row.result = e->result ? json_incref(e->result) : NULL;
                if (w->job->kind == JOB_IMPORT && w->job->dataset[0])
                        datasets_imported(w->daemon, w->job->dataset, e->result);
                return TRIGGER_DONE;
        case EVENT_ERROR:
                return error_trigger(w, e, write);
        default:
                return ending_stopped(w, write);
        }
}

static void submit_batch(struct worker *w)
{
        struct write *write = write_new(WRITE_EVENTS);
        struct event *last = &w->events[w->n_events - 1];
        struct error err;

        if (!write) {
                batch_failed(w);
                return;
        }
        for (size_t i = 0; i < w->n_events; i++)
                if (w->events[i].type == EVENT_ARTIFACT && w->events[i].kind == ARTIFACT_CHECKPOINT)
                        w->batch_has_checkpoint = true;
        write->attempt = w->attempt;
        write->job = w->job_id;
        write->time_us = clock_wall_us();
        w->batch_has_outcome = is_outcome(last->type);
        enum job_trigger trigger = w->batch_has_outcome ? outcome_trigger(w, last, write) : TRIGGER_N;

        write->events = TAKE_PTR(w->events);
        write->n_events = w->n_events;
        w->n_events = w->room = w->events_bytes = 0;
        w->committing = true;
        if (trigger == TRIGGER_N) {
                commit_submit(w->daemon, write, on_batch, w);
        } else if (job_transition(w->daemon, w->job, trigger, write, on_outcome, w, &err) < 0) {
                log_error("job %lld: %s", (long long)w->job_id, err.text);
                w->committing = false;
                batch_failed(w);
        }
}

/* ---- after the process */

static void on_attempt_end(struct daemon *d _unused_, const struct commit *c _unused_, void *user _unused_)
{
}

/* Its files, and only then its end in the store: whoever is killed in between leaves an attempt without an end, which
 * the next daemon tidies. */
static void finish(struct worker *w)
{
        struct daemon *d = w->daemon;
        struct write *write = write_new(WRITE_ATTEMPT_END);
        char path[PATH_MAX];

        if (!w->spool_stays && attempt_path(d, w->job_id, w->attempt, "events", path, sizeof path))
                (void)unlink(path);
        if (attempt_path(d, w->job_id, w->attempt, "lock", path, sizeof path))
                (void)unlink(path);
        if (write) {
                write->attempt = w->attempt;
                write->attempt_row.ended_us = clock_wall_us();
        }
        commit_submit(d, write, on_attempt_end, NULL);
        d->devices[w->device].users--;
        worker_free(w);
        daemon_schedule(d);
        daemon_check_stopped(d);
}

static void on_lost(struct daemon *d _unused_, struct job *j, const struct commit *c, void *user)
{
        struct worker *w = user;

        w->committing = false;
        if (c->r < 0 && c->r != -EAGAIN) {
                batch_failed(w);
                return;
        }
        settle_failure(w, j, c);
        w->outcome_committed = true;
        w->job = NULL;
        j->worker = NULL;
        finish(w);
}

/* It ended without a word. */
static void lost(struct worker *w)
{
        struct write *write = write_new(WRITE_JOB_TRANSITION);
        enum job_trigger trigger;
        struct error err;

        if (!write) {
                batch_failed(w);
                return;
        }
        write->attempt = w->attempt;
        trigger = ending_of(w, write);
        w->committing = true;
        if (job_transition(w->daemon, w->job, trigger, write, on_lost, w, &err) < 0) {
                log_error("job %lld: %s", (long long)w->job_id, err.text);
                w->committing = false;
                batch_failed(w);
        }
}

/* An event of the spool, or its first line, which says whose it is. */
static int take_spool_event(struct worker *w, struct event *e, size_t bytes, struct error *err)
{
        bool hello = e->type == EVENT_HELLO;

        /* of a job that has no identity, the spool may say nothing either */
        if (hello ? e->job != w->job_id || e->attempt != w->attempt || strcmp(e->identity, w->identity) != 0
                  : !w->spool_known && w->identity[0]) {
                (void)error_set(err, -ESTALE, NULL, "it is the spool of another attempt, or does not say whose it is");
                keep_spool(w, err);
                w->spool_read = true;
        }
        w->spool_known = true;
        if (hello || w->spool_read) {
                event_done(e);
                return 0;
        }
        if (e->seq > w->accepted_seq + 1) {
                (void)error_set(err, -EPROTO, NULL, "events %lld to %lld are missing", (long long)w->accepted_seq + 1,
                                (long long)e->seq - 1);
                keep_spool(w, err);
                w->accepted_seq = e->seq - 1;
        }
        return take_event(w, e, bytes, err);
}

/* 0: a line is done; 1: enough for a batch. */
static int take_spool_line(struct worker *w, struct error *err)
{
        struct event e;
        const char *line;
        size_t size;
        int r = spool_next(w->spool, &line, &size, err);

        if (r == 0)
                w->spool_read = true;
        if (r > 0) {
                r = decode_line(w, line, size, &e, err);
                if (r >= 0)
                        return take_spool_event(w, &e, size, err);
        }
        if (r != -EMSGSIZE && r != -EINVAL)
                return r;
        keep_spool(w, err); /* without a number: those after it say that it is missing */
        return 0;
}

/* 1: a batch was taken from the spool; 0: it is at its end, or there is none; negative: it cannot be read now. */
static int take_spool(struct worker *w, struct error *err)
{
        char path[PATH_MAX];
        int r = 0;

        if (!w->spool_read && !w->spool) {
                if (attempt_path(w->daemon, w->job_id, w->attempt, "events", path, sizeof path))
                        r = spool_open(path, &w->spool, err);
                w->spool_read = !w->spool && (r == 0 || r == -ENOENT);
        }
        while (r == 0 && !w->spool_read)
                r = take_spool_line(w, err);
        if (r < 0 || w->spool_read)
                w->spool = spool_close(w->spool); /* after an error it is read again from its beginning */
        if (!w->spool)
                w->spool_known = false;
        return w->n_events ? 1 : w->spool_read ? 0 : r;
}

/* Not its end: what is in it may be the outcome. Only a user who cancels the job gives it up. */
static void spool_failed(struct worker *w, const struct error *err)
{
        if (w->job->stop == STOP_CANCEL) {
                keep_spool(w, err);
                w->spool_read = true;
                lost(w);
                return;
        }
        if (!w->spool_failing)
                log_error("job %lld: its worker ended, but its spool cannot be read, which is tried again: %s%s%s",
                          (long long)w->job_id, err->path, err->path[0] ? ": " : "", err->text);
        w->spool_failing = true;
        retry_later(w);
}

static void after_end(struct worker *w)
{
        struct error err = {0};
        int r;

        if (w->outcome_committed) {
                finish(w);
                return;
        }
        r = take_spool(w, &err);
        if (r < 0)
                spool_failed(w, &err);
        else if (r > 0)
                submit_batch(w);
        else
                lost(w);
}

void worker_pump(struct worker *w)
{
        if (w->committing || w->retry_timer)
                return;
        if (w->outcome_committed)
                clear_events(w);
        if (w->n_events)
                submit_batch(w);
        else if (w->ended)
                after_end(w);
}

/* ---- the beginning */

static void on_stdin(void *user, uint32_t events _unused_)
{
        struct worker *w = user;
        ssize_t n = write(w->stdin_fd, w->assignment + w->assignment_sent, w->assignment_size - w->assignment_sent);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n > 0)
                w->assignment_sent += (size_t)n;
        if (n >= 0 && w->assignment_sent < w->assignment_size)
                return;
        w->stdin_source = loop_remove(w->daemon->loop, w->stdin_source);
        closep(&w->stdin_fd);
        w->stdin_fd = -1;
}

/* Only now may it begin: whatever has its assignment is known to the store, and can be found by the next daemon. A
 * worker whose daemon died before reads the end of its input and ends. */
static void on_pid(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct worker *w = user;
        struct error err;

        w->committing = false;
        if (c->r < 0) {
                kill_group(w);
        } else if (!w->ended) {
                (void)fcntl(w->stdin_fd, F_SETFL, O_NONBLOCK);
                on_stdin(w, 0); /* it fits into the pipe */
                if (w->stdin_fd >= 0 &&
                    loop_add_fd(w->daemon->loop, w->stdin_fd, EPOLLOUT, on_stdin, w, &w->stdin_source, &err) < 0) {
                        log_error("job %lld: %s", (long long)w->job_id, err.text);
                        kill_group(w);
                }
        }
        limit_watch(w);
        worker_pump(w);
}

static int open_log(struct worker *w, struct error *err)
{
        char path[PATH_MAX];
        int fd;

        if (!daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of the log is too long");
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        return fd < 0 ? error_set(err, -errno, path, "cannot be opened: %s", strerror(errno)) : fd;
}

static int spawn(struct worker *w, struct error *err)
{
        const struct device *device = &w->daemon->devices[w->device];
        char *argv[] = {w->daemon->settings.worker, NULL}, folder[PATH_MAX], visible[96];
        struct process_place place = {device->has_cores ? &device->cores : NULL, device->gpu ? visible : NULL};
        _cleanup_(closep) int log = open_log(w, err);
        int in[2], fds[3], r;

        if (log < 0)
                return log;
        (void)daemon_job_path(w->daemon, w->job_id, NULL, folder, sizeof folder); /* shorter than the log's */
        if (pipe2(in, O_CLOEXEC) < 0)
                return error_set(err, -errno, NULL, "no pipe for a worker: %s", strerror(errno));
        fds[0] = in[0];
        fds[1] = fds[2] = log;
        (void)snprintf(visible, sizeof visible, "CUDA_VISIBLE_DEVICES=%s", device->uuid);
        r = process_spawn(w->daemon->settings.worker, argv, folder, fds, &place, &w->pid, &w->pidfd, err);
        (void)close(in[0]);
        if (r < 0) {
                (void)close(in[1]);
                return r;
        }
        w->child = true;
        w->stdin_fd = in[1];
        r = loop_add_fd(w->daemon->loop, w->pidfd, EPOLLIN, on_pidfd, w, &w->pidfd_source, err);
        if (r < 0) {
                kill_group(w);
                (void)waitid(P_PIDFD, (id_t)w->pidfd, &(siginfo_t){0}, WEXITED);
        }
        return r;
}

void worker_start(struct daemon *d, struct job *j, int64_t attempt, size_t device, struct assignment *a)
{
        struct worker *w = worker_new(d, j, j->id, j->identity, attempt, device);
        _cleanup_json_ json_t *document = assignment_to_json(a);
        struct write *write = write_new(WRITE_ATTEMPT_PID);
        struct process_mark mark = {0};
        struct error err = {0};
        int r = 0;

        if (!w) {
                log_error("job %lld: no memory for its worker; it stays as it is until the daemon starts again",
                          (long long)j->id);
                (void)write_free(write);
                return;
        }
        w->assignment = document ? json_to_text(document) : NULL;
        if (!w->assignment || !write)
                r = error_set(&err, -ENOMEM, NULL, "no memory to start a worker");
        else
                r = spawn(w, &err);
        if (r < 0) {
                log_error("job %lld: its worker cannot start: %s: %s", (long long)j->id, err.path, err.text);
                (void)write_free(write);
                process_ended(w);
                return;
        }
        w->assignment_size = strlen(w->assignment);
        if (process_mark_read(w->pid, &mark, &err) <
            0) /* then no later daemon can prove whose it is: it watches the lock */
                log_warning("job %lld: %s: %s", (long long)j->id, err.path, err.text);
        log_info("job %lld: attempt %lld runs as process %d", (long long)j->id, (long long)attempt, (int)w->pid);
        write->attempt = attempt;
        write->attempt_row.pid = w->pid;
        write->attempt_row.start_ticks = mark.start_ticks;
        (void)snprintf(write->attempt_row.boot, sizeof write->attempt_row.boot, "%s", mark.boot);
        w->committing = true;
        commit_submit(d, write, on_pid, w);
}

void worker_abandon(struct daemon *d, struct job *j, int64_t attempt, size_t device)
{
        struct worker *w = worker_new(d, j, j->id, j->identity, attempt, device);

        if (!w)
                return;
        w->stop_requested = true;
        process_ended(w);
}

int worker_adopt(struct daemon *d, struct job *j, const struct attempt_row *a, size_t device, bool alive, int pidfd,
                 struct error *err)
{
        struct worker *w = worker_new(d, j, j->id, j->identity, a->id, device);

        if (!w)
                closep(&pidfd);
        if (!w)
                return error_set(err, -ENOMEM, NULL, "no memory for a worker");
        w->last_seq = w->accepted_seq = a->last_seq;
        w->checkpoints = a->checkpoints;
        d->devices[device].users++;
        d->devices[device].job = a->job;
        if (!alive) {
                process_ended(w);
                return 0;
        }
        log_info("job %lld: its worker (process %lld) is alive and goes on", (long long)j->id, (long long)a->pid);
        watch_process(w, (pid_t)a->pid, pidfd);
        if (j->stop != STOP_NONE)
                worker_stop(w);
        w->last_step = a->last_step;
        limit_watch(w);
        return 0;
}

int worker_adopt_outcome(struct daemon *d, const struct attempt_row *a, const char *identity, size_t device, bool alive,
                         int pidfd, struct error *err)
{
        struct worker *w = worker_new(d, NULL, a->job, identity, a->id, device);

        if (!w) {
                closep(&pidfd);
                return error_set(err, -ENOMEM, NULL, "no memory for a worker");
        }
        w->last_seq = w->accepted_seq = a->last_seq;
        w->outcome_committed = true;
        d->devices[device].users++;
        d->devices[device].job = a->job;
        if (!alive) {
                process_ended(w);
                return 0;
        }
        watch_process(w, (pid_t)a->pid, pidfd);
        arm_kill(w, GRACE_US);
        return 0;
}
