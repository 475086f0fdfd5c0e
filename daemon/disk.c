#include "daemon/disk.h"

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/stop.h"
#include "daemon/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define LOOK_EVERY_US (2 * US_PER_S)
#define RESERVE_MAX ((int64_t)2 << 30)  /* some checkpoints of the largest models */
#define RESERVE_PART 20                 /* of a small file system */
#define HELD_PART 2                     /* of the reserve, at most */
#define LAST_PART 8                     /* of the reserve, that is left beside what is held when trainings stop */
#define STORE_BYTES ((int64_t)16 << 20) /* for what the store writes of them meanwhile */

static bool reserve_path(const char *folder, char *ret, size_t size)
{
        return snprintf(ret, size, "%s/reserve", folder) < (int)size;
}

struct disk disk_read(const char *folder, int64_t reserve_bytes, bool was_low)
{
        struct disk disk = {.reserve_bytes = reserve_bytes};
        char path[PATH_MAX];
        struct statvfs fs;
        struct stat st;

        if (statvfs(folder, &fs) < 0)
                return (struct disk){0};
        if (reserve_path(folder, path, sizeof path) && lstat(path, &st) == 0 && S_ISREG(st.st_mode))
                disk.held_bytes = (int64_t)st.st_blocks * 512;
        disk.free_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize + disk.held_bytes;
        if (reserve_bytes < 0)
                disk.reserve_bytes = MIN(RESERVE_MAX, (int64_t)fs.f_blocks * (int64_t)fs.f_frsize / RESERVE_PART);
        disk.low = disk.free_bytes < disk.reserve_bytes + (was_low ? disk.reserve_bytes / 4 : 0);
        return disk;
}

void disk_describe(const struct disk *disk, char *ret, size_t size)
{
        ret[0] = 0;
        if (!disk->low)
                return;
        (void)snprintf(ret, size,
                       "disk low: %.2f GiB are free where mulund keeps its state, %.2f GiB are kept "
                       "for what runs; it starts when there is room again",
                       (double)disk->free_bytes / 0x1p30, (double)disk->reserve_bytes / 0x1p30);
}

/* ---- what is allocated */

void disk_release(struct daemon *d)
{
        char path[PATH_MAX];

        if (!reserve_path(d->settings.state, path, sizeof path) || unlink(path) < 0)
                return;
        log_info("%s, which kept room for checkpoints, is given back", path);
}

static int allocate(const char *path, int64_t bytes)
{
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

        return fd < 0 || ftruncate(fd, bytes) < 0 || fallocate(fd, 0, 0, bytes) < 0 ? -errno : 0;
}

static void hold(struct daemon *d, const struct disk *now, int64_t bytes)
{
        char path[PATH_MAX];
        int r = 0;

        if (!reserve_path(d->settings.state, path, sizeof path) ||
            d->hold_failed == -EOPNOTSUPP) /* this file system never will: the queue is looked at often */
                return;
        if (bytes <= 0 && now->held_bytes)
                (void)unlink(path);
        else if (bytes > 0 && (bytes > now->held_bytes || bytes < now->held_bytes / 2))
                r = allocate(path, bytes);
        if (r < 0)
                (void)unlink(path);
        if (r < 0 && r != d->hold_failed)
                log_warning("%s: no room can be kept for checkpoints: %s", path, strerror(-r));
        d->hold_failed = r;
}

/* What the trainings that run write when they are stopped; at rest nothing. */
static int64_t needed_bytes(const struct daemon *d, int64_t reserve_bytes)
{
        int64_t bytes = d->workers ? STORE_BYTES : 0;

        for (const struct worker *w = d->workers; w; w = w->next)
                bytes += w->checkpoint_bytes;
        return MIN(bytes, reserve_bytes / HELD_PART);
}

/* ---- what is done about it */

/* Before the last of it is gone. What evaluates or samples writes little, and would begin anew. */
static void stop_writers(struct daemon *d, const struct disk *now)
{
        char text[160];

        for (struct worker *w = d->workers; w; w = w->next) {
                if (!w->job || (w->job->kind != JOB_TRAIN && w->job->kind != JOB_IMPORT) || !stop_is_possible(w->job))
                        continue;
                (void)snprintf(text, sizeof text,
                               "the disk is nearly full (%.2f GiB are free): it goes on when there is room again",
                               (double)now->free_bytes / 0x1p30);
                log_warning("job %lld is stopped: %s", (long long)w->job_id, text);
                disk_release(d);
                stop_ask(d, w->job, STOP_DISK, text, NULL, NULL, NULL);
        }
}

static void on_look(void *user)
{
        struct daemon *d = user;

        d->disk_timer = NULL;
        daemon_schedule(d);
}

static void say(const struct disk *now, bool before)
{
        char text[160];

        disk_describe(now, text, sizeof text);
        if (now->low && !before)
                log_warning("%s", text);
        if (before && !now->low)
                log_info("the disk has room again: %.2f GiB are free", (double)now->free_bytes / 0x1p30);
}

bool disk_check(struct daemon *d)
{
        struct disk now = disk_read(d->settings.state, d->settings.disk_reserve_bytes, d->disk.low);
        bool before = d->disk.low;
        int64_t needed = needed_bytes(d, now.reserve_bytes);

        (void)pthread_mutex_lock(&d->control_lock);
        d->disk = now;
        (void)pthread_mutex_unlock(&d->control_lock);
        if (now.low != before)
                d->control.causes++;
        say(&now, before);
        if (!now.low)
                hold(d, &now, needed);
        else if (now.free_bytes < needed + now.reserve_bytes / LAST_PART)
                stop_writers(d, &now);
        if ((now.low || d->workers) && !d->disk_timer) /* at rest it sleeps */
                (void)loop_add_timer(d->loop, clock_monotonic_us() + LOOK_EVERY_US, on_look, d, &d->disk_timer, NULL);
        return now.low;
}
