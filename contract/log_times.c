#include "contract/log_times.h"

#include "base/file.h"
#include "base/macros.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD 16

static void encode(struct log_time t, unsigned char ret[RECORD])
{
        uint64_t ms = htole64((uint64_t)t.ms), bytes = htole64((uint64_t)t.bytes);

        memcpy(ret, &ms, 8);
        memcpy(ret + 8, &bytes, 8);
}

static struct log_time decode(const unsigned char *record)
{
        uint64_t ms, bytes;

        memcpy(&ms, record, 8);
        memcpy(&bytes, record + 8, 8);
        return (struct log_time){(int64_t)le64toh(ms), (int64_t)le64toh(bytes)};
}

int log_times_add(int fd, struct log_time t, struct error *err)
{
        unsigned char record[RECORD];
        struct stat st;
        ssize_t n;
        int code;

        if (fstat(fd, &st) < 0)
                return error_set(err, -errno, NULL, "cannot be looked at: %s", strerror(errno));
        encode(t, record);
        n = pwrite(fd, record, RECORD, st.st_size / RECORD * RECORD);
        if (n == RECORD)
                return 0;
        code = n < 0 ? errno : ENOSPC;
        (void)!ftruncate(fd, st.st_size / RECORD * RECORD); /* what is torn is left out by whoever reads, too */
        return error_set(err, -code, NULL, "cannot be written: %s", strerror(code));
}

int log_times_thin(const char *path, int64_t max, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)(LOG_TIMES_MAX + 1) * 2 * RECORD);
        struct stat st;
        size_t n, kept = 0;
        int r;

        if (stat(path, &st) < 0 || st.st_size / RECORD <= max)
                return 0;
        r = file_read(path, &b, err);
        if (r < 0)
                return r;
        n = b.size / RECORD;
        for (size_t i = (n + 1) % 2; i < n; i += 2, kept++) /* the last one stays */
                memmove(b.data + kept * RECORD, b.data + i * RECORD, RECORD);
        r = file_write_atomic(path, b.data, kept * RECORD, NULL, err);
        return r < 0 ? r : 1;
}

static int64_t count_records(int fd)
{
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size / RECORD : 0;
}

void log_times_open(struct log_times *t, int fd)
{
        *t = (struct log_times){.fd = fd, .n = count_records(fd)};
}

void log_times_close(struct log_times *t)
{
        if (t->fd >= 0)
                (void)close(t->fd);
        t->fd = -1;
        t->n = 0;
}

static bool read_at(struct log_times *t, int64_t i)
{
        ssize_t n = pread(t->fd, t->window, sizeof t->window, i * RECORD);

        t->first = i;
        t->held = n > 0 ? (size_t)n / RECORD : 0;
        return t->held > 0;
}

/* The i-th record; false: it cannot be read. */
static bool get(struct log_times *t, int64_t i, struct log_time *ret)
{
        if ((i < t->first || i >= t->first + (int64_t)t->held) && !read_at(t, i))
                return false;
        *ret = decode(t->window[i - t->first]);
        return true;
}

int64_t log_times_refresh(struct log_times *t)
{
        struct log_time last;

        t->n = MAX(t->n, count_records(t->fd));
        return t->n && get(t, t->n - 1, &last) ? last.bytes : 0;
}

#define STEPS 8 /* to the next line's record it is not far */

int64_t log_times_of(struct log_times *t, int64_t bytes)
{
        int64_t lo = bytes >= t->asked ? t->at : 0, hi = t->n;
        struct log_time at = {0};

        for (int i = 0; lo < hi; i++) {
                int64_t mid = i < STEPS ? lo : lo + (hi - lo) / 2;

                if (!get(t, mid, &at))
                        return 0;
                if (at.bytes < bytes)
                        lo = mid + 1;
                else if (i < STEPS)
                        break;
                else
                        hi = mid;
        }
        t->asked = bytes;
        t->at = lo;
        return lo < t->n && get(t, lo, &at) ? at.ms : 0;
}
