/* At start: the queue from the store, and the workers of the daemon before. A job that is running there has an attempt
 * (they are committed together). Its worker holds the attempt's lock: it is adopted; else its spool tells how it ended.
 */
#include "daemon/daemon.h"
#include "daemon/retention.h"
#include "daemon/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

struct recovering {
        struct daemon *daemon;
        struct error *err;
        int64_t lowest;
        size_t n;
        struct attempt_row last;
};

static int on_job(const struct job_row *row, void *user)
{
        struct recovering *x = user;
        struct job *j = job_new(row, x->err);
        int r;

        if (!j)
                return -ENOMEM;
        r = queue_add(&x->daemon->queue, j, x->err);
        if (r < 0) {
                (void)job_free(j);
                return r;
        }
        x->lowest = row->id;
        x->n++;
        return 0;
}

static int load_jobs(struct daemon *d, enum job_state state, struct error *err)
{
        struct recovering x = {.daemon = d, .err = err};

        do {
                struct job_filter f = {.state = (int)state, .kind = -1, .before_id = x.lowest, .limit = 1000};
                int r;

                x.n = 0;
                r = reader_jobs(d->reader, &f, on_job, &x, err);
                if (r < 0)
                        return r;
        } while (x.n == 1000);
        return 0;
}

/* The last one stays. */
static int on_attempt(const struct attempt_row *a, void *user)
{
        struct recovering *x = user;

        x->n++;
        x->last = *a;
        return 0;
}

static bool is_worker(const struct daemon *d, int64_t pid)
{
        char path[64], line[4096];
        const char *base = strrchr(d->settings.worker, '/');
        _cleanup_(closep) int fd = -1;
        ssize_t n;

        (void)snprintf(path, sizeof path, "/proc/%lld/cmdline", (long long)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
        if (n <= 0)
                return false;
        for (ssize_t i = 0; i < n; i++)
                if (!line[i])
                        line[i] = ' ';
        line[n] = 0;
        base = base ? base + 1 : d->settings.worker;
        return strstr(line, base) != NULL && getpgid((pid_t)pid) == (pid_t)pid;
}

/* It has its assignment but not its lock yet (the daemon died in between): too early to be found, so it ends here. */
static void end_orphan(const struct daemon *d, int64_t pid)
{
        _cleanup_(closep) int fd = pid > 0 ? pidfd_open((pid_t)pid, 0) : -1;

        if (fd < 0 || !is_worker(d, pid))
                return;
        log_warning("process %lld is a worker without its lock: it is ended", (long long)pid);
        (void)pidfd_send_signal(fd, SIGKILL, NULL, 0);
        (void)poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 2000);
}

static int recover_running(struct daemon *d, struct job *j, struct error *err)
{
        struct recovering x = {.daemon = d, .err = err};
        bool alive;
        int r = reader_attempts(d->reader, j->id, on_attempt, &x, err);

        if (r < 0)
                return r;
        if (!x.n)
                return error_set(err, -EIO, NULL, "job %lld is running without an attempt: the store is damaged",
                                 (long long)j->id);
        alive = attempt_lock_is_held(d, j->id, x.last.id);
        if (!alive)
                end_orphan(d, x.last.pid);
        return worker_adopt(d, j, &x.last, 0, alive, err);
}

int recover(struct daemon *d, struct error *err)
{
        int r;

        retention_recover(d);
        r = load_jobs(d, JOB_QUEUED, err);
        if (r >= 0)
                r = load_jobs(d, JOB_RUNNING, err);
        for (size_t i = 0; r >= 0 && i < d->queue.n; i++)
                if (d->queue.jobs[i]->state == JOB_RUNNING)
                        r = recover_running(d, d->queue.jobs[i], err);
        return r;
}
