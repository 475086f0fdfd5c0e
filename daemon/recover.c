/* At start: the queue from the store, and the workers of the daemon before. A job that is running there has an attempt
 * (they are committed together). Its worker holds the attempt's lock: it is adopted; else its spool tells how it ended.
 */
#include "base/array.h"
#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/folder.h"
#include "daemon/process.h"
#include "daemon/retention.h"
#include "daemon/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

struct recovering {
        struct daemon *daemon;
        struct error *err;
        size_t n;
        struct attempt_row last; /* owned */
};

static int on_job(const struct job_row *row, void *user)
{
        struct recovering *x = user;
        struct job *j = job_new(row, x->err);
        int r;

        if (!j)
                return -ENOMEM;
        r = queue_add(&x->daemon->queue, j, x->err);
        if (r < 0)
                (void)job_free(j);
        return r;
}

/* Those that run, as many as there were devices: all others stay in the store. */
static int load_running(struct daemon *d, struct error *err)
{
        struct recovering x = {.daemon = d, .err = err};
        struct job_filter f = {.states = 1U << JOB_RUNNING, .kinds = JOB_ANY, .limit = LIST_MAX};

        return reader_jobs(d->reader, &f, on_job, &x, err);
}

static void copy_attempt(const struct attempt_row *a, struct attempt_row *ret)
{
        *ret = *a;
        ret->devices = json_incref(a->devices);
        ret->data = json_incref(a->data);
        ret->detail = NULL;
}

/* The last one stays. */
static int on_attempt(const struct attempt_row *a, void *user)
{
        struct recovering *x = user;

        x->n++;
        attempt_row_done(&x->last);
        copy_attempt(a, &x->last);
        return 0;
}

/* A process is touched only when it is provably this attempt's: a copy of this state has the same numbers in its
 * database, and after a reboot anybody may have them. */
static int attempt_process(const struct daemon *d, const struct attempt_row *a)
{
        struct process_mark mark = {.start_ticks = a->start_ticks};
        char log[PATH_MAX];

        (void)snprintf(mark.boot, sizeof mark.boot, "%s", a->boot);
        return daemon_job_path(d, a->job, "log", log, sizeof log) ? process_find(a->pid, &mark, log) : -1;
}

/* It has its assignment but not its lock yet (the daemon died in between): too early to be found, so it ends here. */
static void end_orphan(int pidfd, int64_t pid)
{
        log_warning("process %lld is a worker without its lock: it is ended", (long long)pid);
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        (void)poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, 2000);
}

static int recover_attempt(struct daemon *d, struct job *j, const struct attempt_row *a, struct error *err)
{
        _cleanup_(closep) int pidfd = -1;
        uint64_t devices = devices_of(d, a->devices);
        bool alive;

        int ours = folder_is_ours(d, j, err);

        if (ours < 0) /* its spool and its connection say themselves whose they are */
                log_warning("job %lld: whether its folder is its own is not known: %s: %s", (long long)j->id, err->path,
                            err->text);
        if (ours == 0) { /* nothing in a folder of another run is this attempt's */
                if (folder_claim(d, j, err) < 0)
                        log_error("job %lld: %s: %s", (long long)j->id, err->path, err->text);
                return worker_adopt(d, j, a, devices, false, -1, err);
        }
        pidfd = attempt_process(d, a);
        alive = attempt_lock_is_held(d, j->id, a->id);
        if (!alive && pidfd >= 0)
                end_orphan(pidfd, a->pid);
        return worker_adopt(d, j, a, devices, alive, alive ? TAKE_FD(pidfd) : -1, err);
}

static int recover_running(struct daemon *d, struct job *j, struct error *err)
{
        struct recovering x = {.daemon = d, .err = err};
        int r = reader_attempts(d->reader, j->id, on_attempt, &x, err);

        if (r >= 0 && !x.n)
                r = error_set(err, -EIO, NULL, "job %lld is running without an attempt: the store is damaged",
                              (long long)j->id);
        if (r >= 0)
                r = recover_attempt(d, j, &x.last, err);
        attempt_row_done(&x.last);
        return r;
}

struct attempts {
        struct attempt_row *items;
        size_t n, room;
};

static int keep_attempt(const struct attempt_row *a, void *user)
{
        struct attempts *l = user;

        if (!array_grow(&l->items, l->n, &l->room, sizeof *l->items))
                return -ENOMEM;
        copy_attempt(a, &l->items[l->n++]);
        return 0;
}

/* The daemon before was killed between an outcome's commit and what follows from it. */
static int recover_outcome(struct daemon *d, const struct attempt_row *a, struct error *err)
{
        struct job_row row = {0};
        struct job j = {.id = a->job};
        struct write *w;
        bool alive;
        int r = reader_job(d->reader, a->job, &row, err);

        if (r >= 0) {
                (void)snprintf(j.identity, sizeof j.identity, "%s", row.identity);
                job_row_done(&row);
                r = folder_is_ours(d, &j, err);
        }
        if (r < 0 && r != -ENOENT) { /* its row is open: the next start tidies */
                log_warning("job %lld: its attempt %lld is not tidied: %s: %s", (long long)a->job, (long long)a->id,
                            err->path, err->text);
                return 0;
        }
        if (r > 0) {
                alive = attempt_lock_is_held(d, a->job, a->id);
                return worker_adopt_outcome(d, a, j.identity, devices_of(d, a->devices), alive,
                                            alive ? attempt_process(d, a) : -1, err);
        }
        w = write_new(WRITE_ATTEMPT_END); /* there is nothing of it to tidy */
        if (w) {
                w->attempt = a->id;
                w->attempt_row.ended_us = clock_wall_us();
                (void)store_write(d->store, w, NULL, NULL);
        }
        return 0;
}

static int recover_outcomes(struct daemon *d, struct error *err)
{
        struct attempts l = {0};
        int r = reader_attempts_open(d->reader, keep_attempt, &l, err);

        if (r == -ENOMEM)
                (void)error_set(err, r, NULL, "no memory for the attempts of the daemon before");
        for (size_t i = 0; r >= 0 && i < l.n; i++)
                if (!worker_find(d, l.items[i].id))
                        r = recover_outcome(d, &l.items[i], err);
        for (size_t i = 0; i < l.n; i++)
                attempt_row_done(&l.items[i]);
        free(l.items);
        return r;
}

/* The database may be another than the one that made what is in the folders of jobs. When this fails (a full disk), a
 * folder that is in the way is still set aside when its number is used. */
static void reserve_ids(struct daemon *d)
{
        struct write *w;
        int64_t highest = 0;
        struct error err;
        int r = folder_highest_job(d, &highest, &err);

        if (r >= 0 && highest) {
                w = write_new(WRITE_JOB_IDS_ABOVE);
                if (w)
                        w->job = highest;
                r = w ? store_write(d->store, w, NULL, &err) : error_set(&err, -ENOMEM, NULL, "no memory");
        }
        if (r < 0)
                log_error("the numbers of jobs that have a folder cannot be reserved: %s: %s", err.path, err.text);
}

int recover(struct daemon *d, struct error *err)
{
        int r;

        retention_recover(d);
        reserve_ids(d);
        r = load_running(d, err);
        for (size_t i = 0; r >= 0 && i < d->queue.n; i++)
                r = recover_running(d, d->queue.jobs[i], err);
        return r < 0 ? r : recover_outcomes(d, err);
}
