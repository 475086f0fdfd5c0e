#include "daemon/spool.h"

#include "base/file.h"
#include "contract/event.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct spool {
        int fd;
        struct buf in;
        size_t used, scanned;
        bool skipping; /* the rest of a line that is too long */
};

int spool_open(const char *path, struct spool **ret, struct error *err)
{
        struct spool *s;
        int fd = file_open_regular(path, O_RDONLY, err);

        if (fd < 0)
                return fd;
        s = calloc(1, sizeof *s);
        if (!s) {
                (void)close(fd);
                return error_set(err, -ENOMEM, path, "no memory to read it");
        }
        *s = (struct spool){.fd = fd, .in = BUF_INIT(EVENT_LINE_MAX + (1 << 17))};
        *ret = s;
        return 0;
}

struct spool *spool_close(struct spool *s)
{
        if (!s)
                return NULL;
        closep(&s->fd);
        buf_done(&s->in);
        free(s);
        return NULL;
}

int spool_next(struct spool *s, const char **ret, size_t *ret_size, struct error *err)
{
        for (;;) {
                char *begin = s->in.data + s->used;
                char *end =
                        s->in.size > s->scanned ? memchr(s->in.data + s->scanned, '\n', s->in.size - s->scanned) : NULL;
                ssize_t n;
                int r;

                if (end) {
                        s->scanned = s->used = (size_t)(end - s->in.data) + 1;
                        if (s->skipping) {
                                s->skipping = false;
                                return error_set(err, -EMSGSIZE, NULL, "a line of more than %zu bytes", EVENT_LINE_MAX);
                        }
                        *ret = begin;
                        *ret_size = (size_t)(end - begin);
                        return 1;
                }
                buf_consume(&s->in, s->used);
                s->used = 0;
                if (s->in.size > EVENT_LINE_MAX) {
                        buf_clear(&s->in);
                        s->skipping = true;
                }
                s->scanned = s->in.size;
                r = buf_reserve(&s->in, 1 << 16, err);
                if (r < 0)
                        return r;
                n = read(s->fd, s->in.data + s->in.size, 1 << 16);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, NULL, "%s", strerror(errno));
                if (n == 0)
                        return 0;
                s->in.size += (size_t)n;
        }
}

int spool_keep(const char *path, const char *kept, struct error *err)
{
        char folder[PATH_MAX];
        _cleanup_(closep) int fd = -1;

        if (link(path, kept) < 0 && errno != EEXIST)
                return error_set(err, -errno, kept, "a second name of the spool cannot be made: %s", strerror(errno));
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(kept, '/') - kept), kept);
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return error_set(err, -errno, folder, "cannot be synced: %s", strerror(errno));
        return 0;
}
