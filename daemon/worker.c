#include "daemon/worker.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/file.h"
#include "daemon/channel.h"
#include "daemon/daemon.h"
#include "daemon/ending.h"
#include "daemon/limit.h"
#include "daemon/memory.h"
#include "daemon/process.h"
#include "daemon/retention.h"
#include "daemon/spool.h"
#include "daemon/suspect.h"
#include "daemon/watch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define BATCH_BYTES ((size_t)4 << 20) /* taken and not yet on the disk: then its connection is read no more */
#define GRACE_US (30 * US_PER_S)      /* for a worker to end after its last word is acknowledged */

static bool is_locked(void *user);
static void process_ended(void *user);

/* ---- its life */

static void nothing(struct worker *w _unused_)
{
}

static void work(struct worker *w);
static void rest(struct worker *w);
static void linger(struct worker *w);
static void conclude(struct worker *w);
static void tidy(struct worker *w);
static void release(struct worker *w);

/* The only door: afterwards w may be another state further, or freed. */
static void move(struct worker *w, enum life_event event)
{
        static void (*const enter[])(struct worker * w) = {
#define S(state, entry) entry,
#define W(state, event, next)
#include "daemon/life.def"
#undef S
#undef W
        };
        int next = life_next(w->life, event);

        static_assert(ARRAY_LEN(enter) == LIFE_N, "an action a state");
        if (next < 0)
                log_error("job %lld: its worker is %s: %s cannot happen", (long long)w->job_id, life_names[w->life],
                          life_event_names[event]);
        assert(next >= 0);
        log_debug("job %lld: its worker: %s -> %s (%s)", (long long)w->job_id, life_names[w->life], life_names[next],
                  life_event_names[event]);
        w->life = (enum life)next;
        enter[next](w);
}

/* ---- making and freeing */

/* j: NULL when the job has moved on. attempt: -1 when it is not written down yet. */
static struct worker *make(struct daemon *d, struct job *j, int64_t job, const char *identity, int64_t attempt,
                           uint64_t devices, int64_t bytes)
{
        struct worker *w = calloc(1, sizeof *w);

        if (!w)
                return NULL;
        *w = (struct worker){.daemon = d,
                             .job = j,
                             .job_id = job,
                             .attempt = attempt,
                             .devices = devices,
                             .life = LIFE_PREPARED,
                             .stdin_fd = -1,
                             .failure = FAILURE_NONE,
                             .oom_kills = memory_oom_kills(""),
                             .energy_began_mj = -1,
                             .energy_j = NAN,
                             .ran_us = -1,
                             .last_step = -1};
        (void)snprintf(w->identity, sizeof w->identity, "%s", identity);
        (void)snprintf(w->owner, sizeof w->owner, "%s", j ? j->owner : "");
        liveness_init(&w->alive, d->loop, is_locked, process_ended, w);
        devices_take(d, devices, job, bytes);
        w->next = d->workers;
        d->workers = w;
        if (j)
                j->worker = w;
        return w;
}

struct worker *worker_new(struct daemon *d, struct job *j, uint64_t devices, int64_t bytes)
{
        struct worker *w = make(d, j, j->id, j->identity, -1, devices, bytes);

        if (w) {
                w->started_us = clock_wall_us();
                w->began_us = clock_monotonic_us();
                w->energy_began_mj = watch_energy_mj(d, devices);
        }
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

        liveness_done(&w->alive);
        w->kill_timer = loop_remove(l, w->kill_timer);
        w->retry_timer = loop_remove(l, w->retry_timer);
        w->limit_timer = loop_remove(l, w->limit_timer);
        stall_end(w);
        joblog_end(w);
        w->stdin_source = loop_remove(l, w->stdin_source);
        closep(&w->stdin_fd);
        w->stdin_fd = -1;
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
        groups_sweep(&w->daemon->groups);
        if (w->job)
                w->job->worker = NULL;
        free(w);
}

void worker_discard(struct worker *w)
{
        devices_release(w->daemon, w->devices);
        worker_free(w);
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
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* of a FIFO, too, this is an answer */
        return fd < 0 ? errno != ENOENT : flock(fd, LOCK_SH | LOCK_NB) < 0;
}

/* ---- the end of the process */

static bool is_locked(void *user)
{
        const struct worker *w = user;

        return attempt_lock_is_held(w->daemon, w->job_id, w->attempt);
}

int64_t worker_age_us(const struct worker *w)
{
        return w->ran_us >= 0 ? w->ran_us : clock_monotonic_us() - w->began_us;
}

static void clear_away(struct worker *w)
{
        w->ran_us = worker_age_us(w);
        remove_sources(w);
        group_kill(&w->daemon->groups, w->attempt); /* what it left behind */
}

static void process_ended(void *user)
{
        struct worker *w = user;

        clear_away(w);
        if (w->connection)
                connection_drain(w->connection);
        move(w, LIFE_EXIT);
}

static void kill_group(struct worker *w)
{
        if (life_has_process(w->life) && liveness_kill(&w->alive))
                group_kill(&w->daemon->groups, w->attempt);
}

static void on_kill_timer(void *user)
{
        struct worker *w = user;

        w->kill_timer = NULL;
        log_warning("job %lld: its worker did not end in time and is killed", (long long)w->job_id);
        kill_group(w);
        if (!liveness_knows(&w->alive)) /* adopted, and never said which process it is: perhaps it does yet */
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + US_PER_S, on_kill_timer, w, &w->kill_timer,
                                     NULL);
}

static void arm_kill(struct worker *w, int64_t after_us)
{
        w->kill_timer = loop_remove(w->daemon->loop, w->kill_timer);
        if (life_has_process(w->life))
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + after_us, on_kill_timer, w, &w->kill_timer,
                                     NULL);
}

void worker_stop(struct worker *w)
{
        if (w->stop_requested || life_is_closed(w->life))
                return;
        w->stop_requested = true;
        arm_kill(w, w->daemon->settings.stop_timeout_us);
        if (w->connection && !w->hello_waits)
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

int worker_hello(struct worker *w, struct connection *c, const struct event *hello, struct error *err)
{
        if (hello->pid != connection_peer_pid(c))
                log_debug("job %lld: its worker says that it is process %lld, the socket says %lld",
                          (long long)w->job_id, (long long)hello->pid, (long long)connection_peer_pid(c));
        if (w->connection)
                (void)connection_close(w->connection); /* the worker gave it up */
        (void)err;
        w->connection = c;
        if (!liveness_knows(&w->alive))
                liveness_watch(&w->alive, (pid_t)connection_peer_pid(c), pidfd_open((pid_t)connection_peer_pid(c), 0));
        w->hello_waits = w->life != LIFE_WORKING && w->life != LIFE_LINGERING;
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
        return life_has_outcome(w->life) || (w->n_events && is_outcome(w->events[w->n_events - 1].type));
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
        job_note(w->daemon, w->job_id, "spool", "something that its worker said was not applied, and is kept: %s%s%s",
                 why->path, why->path[0] ? ": " : "", why->text);
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
        move(w, LIFE_RESTED);
}

/* The disk said no. The events are dropped here and stay in the worker's spool, unacknowledged: it sends them again
 * after its next hello, which is not answered before the retry; of a worker that ended the spool is read again. */
static void rest(struct worker *w)
{
        clear_events(w);
        w->accepted_seq = w->last_seq;
        w->batch_has_checkpoint = false;
        w->spool = spool_close(w->spool);
        w->spool_read = w->spool_known = false;
        if (w->connection)
                (void)connection_close(w->connection);
        if (!w->retry_timer)
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + w->daemon->settings.retry_us, on_retry, w,
                                     &w->retry_timer, NULL);
}

static void batch_committed(struct worker *w, const struct commit *c)
{
        struct connection *connection = w->connection;

        w->last_seq = c->ret_number;
        w->accepted_seq = MAX(w->accepted_seq, w->last_seq);
        if (w->batch_has_checkpoint) {
                w->batch_has_checkpoint = false;
                w->checkpoints++;
                daemon_device_works(w->daemon, w->job, w->devices);
                retention_run(w->daemon, w->job_id);
        }
        limit_watch(w);
        if (connection && !w->hello_waits)
                connection_send_ack(connection, w->last_seq);
        if (w->connection)
                connection_resume(w->connection);
}

static void on_batch(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct worker *w = user;

        if (c->r < 0 && c->r != -ENOSPC && c->r != -EIO)
                log_error("job %lld: its events cannot be stored: %s", (long long)w->job_id, c->err.text);
        if (c->r >= 0)
                batch_committed(w, c);
        move(w, c->r < 0 ? LIFE_REFUSED : LIFE_WRITTEN);
}

static void fail_devices(struct worker *w, struct job *j)
{
        suspect_note(w->daemon, j->id, w->devices, w->failure, worker_age_us(w));
        daemon_back_off(w->daemon, j, w->devices, w->failure);
}

/* After the transition of an end: whether the device rests; the job is another's. False: it did not happen. */
static bool settle(struct worker *w, struct job *j, const struct commit *c)
{
        if (c->r < 0 && c->r != -EAGAIN)
                return false;
        if (c->r >= 0 && w->failure != FAILURE_NONE && (j->state == JOB_QUEUED || j->state == JOB_FAILED))
                fail_devices(w, j);
        else if (c->r >= 0 && job_state_is_final(j->state))
                daemon_device_works(w->daemon, j, w->devices);
        w->job = NULL;
        j->worker = NULL;
        return true;
}

static void on_outcome(struct daemon *d _unused_, struct job *j, const struct commit *c, void *user)
{
        struct worker *w = user;
        bool settled = settle(w, j, c);

        if (c->r >= 0)
                batch_committed(w, c);
        move(w, settled ? LIFE_WRITTEN : LIFE_REFUSED);
}

static void answer_waiting(struct worker *w)
{
        if (w->connection && w->hello_waits)
                answer_hello(w);
}

/* Its last word is acknowledged, and it ends now by itself. */
static void linger(struct worker *w)
{
        clear_events(w);
        arm_kill(w, GRACE_US);
        answer_waiting(w);
}

/* An error of the job ends it; any other sends it back to the queue, with the reason in its event log. */
static enum job_trigger error_trigger(struct worker *w, const struct event *e, struct write *write)
{
        enum failure f = failure_of_error(e->error_class);
        enum stop_reason asked = w->job->stop;
        char said[1200];

        failure_note(f, e->detail, &write->attempt_row);
        if (asked == STOP_CANCEL || (asked != STOP_NONE && failure_rules[f].retried))
                return job_stop_trigger(asked);
        if (!failure_rules[f].retried) {
                write->row.error = job_error(failure_rules[f].name, e->detail, e->step);
                return TRIGGER_ERROR;
        }
        w->failure = f;
        (void)snprintf(said, sizeof said, "%s: %s", failure_rules[f].name, e->detail);
        return ending_failed(w, f, said, write);
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

#define CHECKPOINT_BYTES_A_PARAMETER 16 /* its value, its average and two of the optimizer's, in float32 */

static void note_checkpoint(struct worker *w, const struct event *e)
{
        if (e->type == EVENT_START && w->job->kind == JOB_TRAIN)
                w->checkpoint_bytes = MIN(e->parameters, INT64_MAX / CHECKPOINT_BYTES_A_PARAMETER / DEVICES_MAX) *
                                      CHECKPOINT_BYTES_A_PARAMETER;
        if (e->type != EVENT_ARTIFACT || e->kind != ARTIFACT_CHECKPOINT)
                return;
        w->batch_has_checkpoint = true;
        w->checkpoint_bytes = MIN(e->bytes, INT64_MAX / DEVICES_MAX / 2);
}

static void submit_batch(struct worker *w)
{
        struct write *write = write_new(WRITE_EVENTS);
        struct event *last = &w->events[w->n_events - 1];
        enum job_trigger trigger;
        struct error err;

        if (!write) {
                move(w, LIFE_REFUSED);
                return;
        }
        for (size_t i = 0; i < w->n_events; i++) {
                stall_note(w, &w->events[i]);
                note_checkpoint(w, &w->events[i]);
        }
        write->attempt = w->attempt;
        write->job = w->job_id;
        write->time_us = clock_wall_us();
        trigger = is_outcome(last->type) ? outcome_trigger(w, last, write) : TRIGGER_N;
        write->events = TAKE_PTR(w->events);
        write->n_events = w->n_events;
        w->n_events = w->room = w->events_bytes = 0;
        move(w, trigger == TRIGGER_N ? LIFE_WRITE : LIFE_WRITE_OUTCOME);
        if (trigger == TRIGGER_N) {
                commit_submit(w->daemon, write, on_batch, w);
        } else if (job_transition(w->daemon, w->job, trigger, write, on_outcome, w, &err) < 0) {
                log_error("job %lld: %s", (long long)w->job_id, err.text);
                move(w, LIFE_REFUSED);
        }
}

void worker_pump(struct worker *w)
{
        if (w->life == LIFE_WORKING && w->n_events)
                submit_batch(w);
}

static void work(struct worker *w)
{
        answer_waiting(w);
        worker_pump(w);
}

/* ---- after the process */

/* What stays is in the way of nobody: it goes with the job's folder. */
static void remove_file(const struct worker *w, const char *path)
{
        if (unlink(path) < 0 && errno != ENOENT)
                log_warning("job %lld: %s cannot be removed: %s", (long long)w->job_id, path, strerror(errno));
}

static void on_end_written(struct daemon *d _unused_, const struct commit *c, void *user)
{
        move(user, c->r < 0 ? LIFE_REFUSED : LIFE_WRITTEN);
}

static void write_end(struct worker *w)
{
        struct write *write = write_new(WRITE_ATTEMPT_END);

        if (write) {
                write->attempt = w->attempt;
                write->attempt_row.ended_us = w->started_us + worker_age_us(w);
                write->attempt_row.energy_j = w->energy_j;
        }
        commit_submit(w->daemon, write, on_end_written, w);
}

static void on_looked(void *user)
{
        struct worker *w = user;
        int64_t now_mj = watch_energy_mj(w->daemon, w->devices);

        if (now_mj >= w->energy_began_mj) /* else not known, or counted from anew */
                w->energy_j = (double)(now_mj - w->energy_began_mj) / 1e3;
        w->energy_began_mj = -1;
        write_end(w);
}

/* Its files, and only then its end in the store: whoever is killed in between leaves an attempt without an end, which
 * the next daemon tidies. */
static void tidy(struct worker *w)
{
        char path[PATH_MAX];

        clear_events(w);
        if (!w->spool_stays && attempt_path(w->daemon, w->job_id, w->attempt, "events", path, sizeof path))
                remove_file(w, path);
        if (attempt_path(w->daemon, w->job_id, w->attempt, "lock", path, sizeof path))
                remove_file(w, path);
        move(w, LIFE_WRITE);
        if (w->energy_began_mj < 0 || !watch_ask(w->daemon->watch, on_looked, w))
                write_end(w);
}

static void release(struct worker *w)
{
        struct daemon *d = w->daemon;

        devices_release(d, w->devices);
        worker_free(w);
        daemon_schedule(d);
        daemon_check_stopped(d);
}

static void on_lost(struct daemon *d _unused_, struct job *j, const struct commit *c, void *user)
{
        struct worker *w = user;

        move(w, settle(w, j, c) ? LIFE_WRITTEN : LIFE_REFUSED);
}

/* It ended without a word. */
static void lost(struct worker *w)
{
        struct write *write = write_new(WRITE_JOB_TRANSITION);
        enum job_trigger trigger;
        struct error err;

        if (!write) {
                move(w, LIFE_REFUSED);
                return;
        }
        write->attempt = w->attempt;
        trigger = ending_of(w, write);
        move(w, LIFE_WRITE_OUTCOME);
        if (job_transition(w->daemon, w->job, trigger, write, on_lost, w, &err) < 0) {
                log_error("job %lld: %s", (long long)w->job_id, err.text);
                move(w, LIFE_REFUSED);
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

/* A spool that is not there, though the folder of all jobs is: where that is gone (a link that leads nowhere, a file
 * system that is not mounted), nothing is known of it. */
static bool has_no_spool(const struct worker *w, int r)
{
        char folder[PATH_MAX + 8];
        struct stat st;

        if (r != -ENOENT)
                return r == 0;
        (void)snprintf(folder, sizeof folder, "%s/jobs", w->daemon->settings.state);
        return stat(folder, &st) == 0;
}

/* 1: a batch was taken from the spool; 0: it is at its end, or there is none; negative: it cannot be read now. */
static int take_spool(struct worker *w, struct error *err)
{
        char path[PATH_MAX];
        int r = 0;

        w->spool_read |= w->spool_none;
        if (!w->spool_read && !w->spool) {
                if (attempt_path(w->daemon, w->job_id, w->attempt, "events", path, sizeof path))
                        r = spool_open(path, &w->spool, err);
                w->spool_read = !w->spool && has_no_spool(w, r);
        }
        while (r == 0 && !w->spool_read)
                r = take_spool_line(w, err);
        if (r < 0 || w->spool_read)
                w->spool = spool_close(w->spool); /* after an error it is read again from its beginning */
        if (!w->spool)
                w->spool_known = false;
        return w->n_events ? 1 : w->spool_read ? 0 : r;
}

/* What holds the job up, for whoever reads its events. */
static void note_spool(struct worker *w, const struct error *why)
{
        log_error("job %lld: its worker ended, but its spool cannot be read, which is tried again: %s%s%s",
                  (long long)w->job_id, why->path, why->path[0] ? ": " : "", why->text);
        job_note(w->daemon, w->job_id, "spool",
                 "its worker ended; what it said last cannot be read, which is tried again: %s", why->text);
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
                note_spool(w, err);
        w->spool_failing = true;
        move(w, LIFE_REFUSED);
}

static void conclude(struct worker *w)
{
        struct error err = {0};
        int r = w->n_events ? 1 : take_spool(w, &err);

        if (r < 0)
                spool_failed(w, &err);
        else if (r > 0)
                submit_batch(w);
        else
                lost(w);
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

        if (c->r < 0) {
                log_warning("job %lld: its worker cannot be written down, and is ended: %s", (long long)w->job_id,
                            c->err.text);
                kill_group(w);
        } else if (w->life == LIFE_STARTING) {
                (void)fcntl(w->stdin_fd, F_SETFL, O_NONBLOCK);
                on_stdin(w, 0); /* it fits into the pipe */
                if (w->stdin_fd >= 0 &&
                    loop_add_fd(w->daemon->loop, w->stdin_fd, EPOLLOUT, on_stdin, w, &w->stdin_source, &err) < 0) {
                        log_error("job %lld: %s", (long long)w->job_id, err.text);
                        kill_group(w);
                }
        }
        limit_watch(w);
        move(w, c->r < 0 ? LIFE_REFUSED : LIFE_WRITTEN);
}

static int open_log(struct worker *w, struct error *err)
{
        char path[PATH_MAX];

        if (!daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of the log is too long");
        return file_open_regular(path, O_WRONLY | O_APPEND | O_CREAT, err);
}

/* Where its process may run: the cores of all its devices together, or the GPUs that it sees, in an entry of its
 * environment. A launcher keeps each of its ranks to one. */
static void find_place(const struct worker *w, cpu_set_t *cores, char *visible, size_t size, struct process_place *ret)
{
        size_t n = (size_t)snprintf(visible, size, "CUDA_VISIBLE_DEVICES=");
        const char *comma = "";

        CPU_ZERO(cores);
        *ret = (struct process_place){cores, NULL};
        FOR_EACH_DEVICE(i, w->devices)
        {
                const struct device *x = &w->daemon->devices[i];

                CPU_OR(cores, cores, &x->cores);
                if (!x->has_cores)
                        ret->cores = NULL;
                if (x->gpu)
                        ret->entry = visible;
                n += (size_t)snprintf(visible + n, size - n, "%s%s", comma, x->uuid);
                comma = ",";
        }
}

static int spawn(struct worker *w, struct error *err)
{
        char *argv[] = {w->daemon->settings.worker, NULL}, folder[PATH_MAX], visible[64 + DEVICES_MAX * 64];
        struct process_place place;
        cpu_set_t cores;
        _cleanup_(closep) int log = open_log(w, err);
        int in[2], fds[3], pidfd, r;
        pid_t pid;

        if (log < 0)
                return log;
        (void)daemon_job_path(w->daemon, w->job_id, NULL, folder, sizeof folder); /* shorter than the log's */
        if (pipe2(in, O_CLOEXEC) < 0)
                return error_set(err, -errno, NULL, "no pipe for a worker: %s", strerror(errno));
        fds[0] = in[0];
        fds[1] = fds[2] = log;
        find_place(w, &cores, visible, sizeof visible, &place);
        r = process_spawn(w->daemon->settings.worker, argv, folder, fds, &place, &pid, &pidfd, err);
        (void)close(in[0]);
        if (r < 0) {
                (void)close(in[1]);
                return r;
        }
        /* it reads its assignment first, so it has started nothing yet */
        if (group_put(&w->daemon->groups, w->attempt, pid, err) < 0)
                log_warning("job %lld: its worker runs in the daemon's control group: %s: %s", (long long)w->job_id,
                            err->path, err->text);
        w->stdin_fd = in[1];
        return liveness_watch_child(&w->alive, pid, pidfd, err);
}

void worker_start(struct worker *w, int64_t attempt, const struct assignment *a)
{
        _cleanup_json_ json_t *document = assignment_to_json(a);
        struct write *write = write_new(WRITE_ATTEMPT_PID);
        struct process_mark mark = {0};
        struct error err = {0};
        int r = 0;

        w->attempt = attempt;
        w->assignment = document ? json_to_text(document) : NULL;
        if (!w->assignment || !write)
                r = error_set(&err, -ENOMEM, NULL, "no memory to start a worker");
        else
                r = spawn(w, &err);
        if (r < 0) {
                (void)write_free(write);
                worker_fail(w, attempt, &err);
                return;
        }
        w->assignment_size = strlen(w->assignment);
        stall_begin(w);
        joblog_watch(w);
        if (process_mark_read(w->alive.pid, &mark, &err) <
            0) /* then no later daemon can prove whose it is: it watches the lock */
                log_warning("job %lld: %s: %s", (long long)w->job_id, err.path, err.text);
        log_info("job %lld: attempt %lld runs as process %d", (long long)w->job_id, (long long)attempt,
                 (int)w->alive.pid);
        write->attempt = attempt;
        write->attempt_row.pid = w->alive.pid;
        write->attempt_row.start_ticks = mark.start_ticks;
        (void)snprintf(write->attempt_row.boot, sizeof write->attempt_row.boot, "%s", mark.boot);
        move(w, LIFE_PROCESS);
        commit_submit(w->daemon, write, on_pid, w);
}

static void no_process(struct worker *w)
{
        clear_away(w);
        move(w, LIFE_NO_PROCESS);
}

void worker_fail(struct worker *w, int64_t attempt, const struct error *why)
{
        log_error("job %lld: its worker cannot start: %s%s%s", (long long)w->job_id, why->path,
                  why->path[0] ? ": " : "", why->text);
        (void)snprintf(w->no_start, sizeof w->no_start, "%s%s%s", why->path, why->path[0] ? ": " : "", why->text);
        w->attempt = attempt;
        w->spool_none = true;
        no_process(w);
}

void worker_abandon(struct worker *w, int64_t attempt)
{
        w->attempt = attempt;
        w->stop_requested = true;
        w->spool_none = true;
        no_process(w);
}

/* When a file was last written; 0: it is not there. */
static int64_t written_us(const char *path)
{
        struct stat st;

        return stat(path, &st) < 0 ? 0 : st.st_mtim.tv_sec * US_PER_S + st.st_mtim.tv_nsec / 1000;
}

/* Of one that ended while no daemon ran: the last time that it wrote something. From then on the machine was off
 * perhaps, for days, and nobody computed. */
static int64_t last_sign_us(const struct worker *w)
{
        char path[PATH_MAX];
        int64_t last_us = 0;

        if (attempt_path(w->daemon, w->job_id, w->attempt, "events", path, sizeof path))
                last_us = written_us(path);
        if (daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path))
                last_us = MAX(last_us, written_us(path));
        return MAX(MIN(last_us, clock_wall_us()), w->started_us);
}

/* When it began, and, of one that is not alive, how long it ran. */
static void find_times(struct worker *w, const struct attempt_row *a, bool alive)
{
        struct process_mark mark = {.start_ticks = a->start_ticks};
        int64_t age_us;

        (void)snprintf(mark.boot, sizeof mark.boot, "%s", a->boot);
        w->started_us = a->started_us;
        age_us = alive ? process_mark_age_us(&mark) : last_sign_us(w) - a->started_us;
        if (age_us < 0) /* it is not written down which process it is */
                age_us = MAX(clock_wall_us() - a->started_us, 0);
        w->began_us = clock_monotonic_us() - age_us;
        w->ran_us = alive ? -1 : age_us;
}

int worker_adopt(struct daemon *d, struct job *j, const struct attempt_row *a, uint64_t devices, bool alive, int pidfd,
                 struct error *err)
{
        struct worker *w = make(d, j, j->id, j->identity, a->id, devices, 0);

        if (!w)
                closep(&pidfd);
        if (!w)
                return error_set(err, -ENOMEM, NULL, "no memory for a worker");
        w->found = true;
        w->last_seq = w->accepted_seq = a->last_seq;
        w->checkpoints = a->checkpoints;
        find_times(w, a, alive);
        if (!alive) {
                no_process(w);
                return 0;
        }
        move(w, LIFE_FOUND);
        log_info("job %lld: its worker (process %lld) is alive and goes on", (long long)j->id, (long long)a->pid);
        liveness_watch(&w->alive, (pid_t)a->pid, pidfd);
        if (j->stop != STOP_NONE)
                worker_stop(w);
        w->last_step = a->last_step;
        stall_begin(w);
        joblog_watch(w);
        limit_watch(w);
        return 0;
}

int worker_adopt_outcome(struct daemon *d, const struct attempt_row *a, const char *identity, uint64_t devices,
                         bool alive, int pidfd, struct error *err)
{
        struct worker *w = make(d, NULL, a->job, identity, a->id, devices, 0);

        if (!w) {
                closep(&pidfd);
                return error_set(err, -ENOMEM, NULL, "no memory for a worker");
        }
        w->found = true;
        w->last_seq = w->accepted_seq = a->last_seq;
        find_times(w, a, alive);
        move(w, LIFE_FOUND_CLOSED);
        if (alive)
                liveness_watch(&w->alive, (pid_t)a->pid, pidfd);
        else
                process_ended(w);
        return 0;
}
