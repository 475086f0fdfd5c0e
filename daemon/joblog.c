#include "daemon/joblog.h"

#include "base/clock.h"
#include "base/units.h"
#include "daemon/daemon.h"
#include "daemon/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOOK_EVERY_US (5 * US_PER_S)
#define BLOCK 4096 /* a multiple of what file systems make holes of */

int joblog_cap(const char *path, int64_t limit_bytes, struct error *err)
{
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        int64_t head, tail;
        char text[160], size[UNITS_SIZE];
        struct stat st;
        int n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return errno == ENOENT ? 0 : error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        head = limit_bytes / 2 / BLOCK * BLOCK;
        tail = (st.st_size - limit_bytes / 2) / BLOCK * BLOCK;
        if (st.st_blocks * 512 <= limit_bytes + limit_bytes / 4 || tail - head < BLOCK)
                return 0;
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, head, tail - head) < 0)
                return error_set(err, -errno, path, "its middle cannot be left out: %s", strerror(errno));
        n = snprintf(text, sizeof text, "\n[mulund: the log had more than %s; its middle was left out here]\n",
                     units_bytes_text(limit_bytes, size));
        if (pwrite(fd, text, (size_t)n, tail - n) != n)
                return error_set(err, -EIO, path, "cannot be written");
        return 1;
}

static void look(struct worker *w)
{
        char path[PATH_MAX];
        struct error err;

        if (w->log_failed || !daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path))
                return;
        if (joblog_cap(path, w->daemon->settings.log_limit_bytes, &err) < 0) {
                w->log_failed = true;
                log_warning("job %lld: its log may grow without a limit: %s: %s", (long long)w->job_id, err.path,
                            err.text);
        }
}

static void on_timer(void *user)
{
        struct worker *w = user;

        w->log_timer = NULL;
        look(w);
        joblog_watch(w);
}

void joblog_watch(struct worker *w)
{
        if (!w->log_timer)
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + LOOK_EVERY_US, on_timer, w, &w->log_timer,
                                     NULL);
}

void joblog_end(struct worker *w)
{
        if (w->log_timer)
                look(w);
        w->log_timer = loop_remove(w->daemon->loop, w->log_timer);
}
