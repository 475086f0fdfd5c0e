#include "daemon/disk.h"

#include "base/clock.h"
#include "daemon/daemon.h"

#include <stdio.h>
#include <sys/statvfs.h>

#define LOOK_EVERY_US (2 * US_PER_S)
#define RESERVE_MAX ((int64_t)2 << 30) /* some checkpoints of the largest models */
#define RESERVE_PART 20                /* of a small file system */

struct disk disk_read(const char *folder, int64_t reserve_bytes, bool was_low)
{
        struct disk disk = {.reserve_bytes = reserve_bytes};
        struct statvfs st;

        if (statvfs(folder, &st) < 0)
                return (struct disk){0};
        disk.free_bytes = (int64_t)st.f_bavail * (int64_t)st.f_frsize;
        if (reserve_bytes < 0)
                disk.reserve_bytes = MIN(RESERVE_MAX, (int64_t)st.f_blocks * (int64_t)st.f_frsize / RESERVE_PART);
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

static void on_look(void *user)
{
        struct daemon *d = user;

        d->disk_timer = NULL;
        daemon_schedule(d);
}

bool disk_check(struct daemon *d)
{
        struct disk now = disk_read(d->settings.state, d->settings.disk_reserve_bytes, d->disk.low);
        bool before = d->disk.low;
        char text[160];

        (void)pthread_mutex_lock(&d->control_lock);
        d->disk = now;
        (void)pthread_mutex_unlock(&d->control_lock);
        if (now.low != before)
                d->control.causes++;
        disk_describe(&now, text, sizeof text);
        if (now.low && !before)
                log_warning("%s", text);
        if (before && !now.low)
                log_info("the disk has room again: %.2f GiB are free", (double)now.free_bytes / 0x1p30);
        if ((now.low || d->workers) && !d->disk_timer) /* at rest it sleeps */
                (void)loop_add_timer(d->loop, clock_monotonic_us() + LOOK_EVERY_US, on_look, d, &d->disk_timer, NULL);
        return now.low;
}
