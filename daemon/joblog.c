#include "daemon/joblog.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/units.h"
#include "contract/log_times.h"
#include "daemon/daemon.h"
#include "daemon/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define TIMES_EVERY_US (US_PER_S / 4) /* a record at most */
#define LOOK_EVERY_US (5 * US_PER_S)
#define BLOCK 4096 /* a multiple of what file systems make holes of */

int joblog_cap(const char *path, int64_t limit_bytes, struct error *err)
{
        _cleanup_(closep) int fd = file_open_regular(path, O_WRONLY, err);
        int64_t head, tail;
        char text[160], size[UNITS_SIZE];
        struct stat st;
        int n;

        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        if (fstat(fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be looked at: %s", strerror(errno));
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

/* ---- when it had how many bytes */

static void on_pause(void *user);

static void note_failed(struct worker *w, const struct error *err)
{
        if (!w->log.times_failed)
                log_warning("job %lld: when its log's lines came is not kept: %s%s%s", (long long)w->job_id, err->path,
                            err->path[0] ? ": " : "", err->text);
        w->log.times_failed = true;
}

/* Of a log that has grown. A daemon that finds it grown while none ran knows only when that was over. */
static void note_time(struct worker *w, bool now)
{
        char path[PATH_MAX];
        struct error err = {0};
        struct stat st;
        int r = 0;

        if (!daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path) || stat(path, &st) < 0 ||
            st.st_size == w->log.bytes)
                return;
        if (w->log.times < 0 && daemon_job_path(w->daemon, w->job_id, LOG_TIMES_NAME, path, sizeof path)) {
                (void)log_times_thin(path, LOG_TIMES_MAX, NULL);
                r = w->log.times = file_open_regular(path, O_RDWR | O_CREAT, &err);
        }
        if (r >= 0)
                r = log_times_add(w->log.times,
                                  (struct log_time){now ? clock_wall_us() / US_PER_MS
                                                        : st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
                                                    st.st_size},
                                  &err);
        if (r < 0)
                note_failed(w, &err);
        w->log.bytes = st.st_size;
}

/* Whatever came is told of once: until the pause is over nobody listens. */
static void on_write(void *user, uint32_t events _unused_)
{
        struct worker *w = user;
        char told[4096];

        while (read(w->log.inotify, told, sizeof told) > 0)
                ;
        note_time(w, true);
        if (w->daemon->server)
                server_changed(w->daemon->server); /* somebody may follow it */
        w->log.source = loop_remove(w->daemon->loop, w->log.source);
        if (!w->log.pause)
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + TIMES_EVERY_US, on_pause, w, &w->log.pause,
                                     NULL);
}

static void listen_on(struct worker *w)
{
        if (w->log.inotify >= 0 && !w->log.source)
                (void)loop_add_fd(w->daemon->loop, w->log.inotify, EPOLLIN, on_write, w, &w->log.source, NULL);
}

static void on_pause(void *user)
{
        struct worker *w = user;

        w->log.pause = NULL;
        listen_on(w);
}

/* Without it the times are those of every look. */
static void begin_times(struct worker *w)
{
        char path[PATH_MAX];

        w->log = (struct joblog){.inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), .times = -1, .watched = true};
        if (!daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path) ||
            (w->log.inotify >= 0 && inotify_add_watch(w->log.inotify, path, IN_MODIFY | IN_DONT_FOLLOW) < 0))
                closep(&w->log.inotify);
        note_time(w, false);
        listen_on(w);
}

static void end_times(struct worker *w)
{
        note_time(w, true);
        w->log.source = loop_remove(w->daemon->loop, w->log.source);
        w->log.pause = loop_remove(w->daemon->loop, w->log.pause);
        closep(&w->log.inotify);
        closep(&w->log.times);
        w->log.inotify = w->log.times = -1;
}

/* ---- its size */

static void look(struct worker *w)
{
        char path[PATH_MAX];
        struct error err;

        note_time(w, true);
        if (w->log.failed || !daemon_job_path(w->daemon, w->job_id, "log", path, sizeof path))
                return;
        if (joblog_cap(path, w->daemon->settings.log_limit_bytes, &err) < 0) {
                w->log.failed = true;
                log_warning("job %lld: its log may grow without a limit: %s: %s", (long long)w->job_id, err.path,
                            err.text);
        }
}

static void watch_size(struct worker *w);

static void on_timer(void *user)
{
        struct worker *w = user;

        w->log.timer = NULL;
        look(w);
        watch_size(w);
}

static void watch_size(struct worker *w)
{
        if (!w->log.timer)
                (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + LOOK_EVERY_US, on_timer, w, &w->log.timer,
                                     NULL);
}

void joblog_watch(struct worker *w)
{
        begin_times(w);
        watch_size(w);
}

void joblog_end(struct worker *w)
{
        if (!w->log.watched)
                return;
        look(w);
        w->log.timer = loop_remove(w->daemon->loop, w->log.timer);
        end_times(w);
        w->log.watched = false;
}
