#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

const char *file_below(const char *path, const char *folder)
{
        size_t n = strcmp(folder, "/") != 0 ? strlen(folder) : 0;

        if (strncmp(path, folder, n) != 0 || (path[n] && path[n] != '/'))
                return NULL;
        return path + n + (path[n] == '/');
}

int file_read_rest(int fd, const char *path, struct buf *buf, struct error *err)
{
        for (;;) {
                struct error inner;
                ssize_t n;
                size_t room = MIN((size_t)1 << 16, buf->ceiling - buf->size + 1);
                char chunk[1 << 16];

                n = read(fd, chunk, room);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
                if (n == 0)
                        return 0;
                int r = buf_append(buf, chunk, (size_t)n, &inner);
                if (r < 0)
                        return error_set(err, r, path, "%s", inner.text);
        }
}

int file_is_line(int fd, const char *path, const char *line, struct error *err)
{
        const size_t n = strlen(line);
        _cleanup_(buf_done) struct buf text = BUF_INIT(n + 1);
        int r = file_read_rest(fd, path, &text, err);

        if (r == -E2BIG)
                return 0;
        return r < 0 ? r : text.size == n + 1 && !memcmp(text.data, line, n) && text.data[n] == '\n';
}

int file_read(const char *path, struct buf *buf, struct error *err)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        return file_read_rest(fd, path, buf, err);
}

int file_open_regular(const char *path, int flags, struct error *err)
{
        _cleanup_(closep) int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
        int code = fd < 0 ? -errno : 0;
        struct stat st;

        if (fd >= 0 && fstat(fd, &st) < 0)
                code = -errno;
        if (code == -ENXIO || code == -EISDIR || (code == 0 && !S_ISREG(st.st_mode)))
                return error_set(err, -ENXIO, path, "is not a regular file");
        if (code < 0)
                return error_set(err, code, path, "cannot be opened: %s", strerror(-code));
        (void)fcntl(fd, F_SETFL, flags & O_APPEND); /* whoever gets it is to wait for the disk as ever */
        return TAKE_FD(fd);
}

int file_read_at(int fd, const char *path, int64_t offset, void *ret, size_t size, struct error *err)
{
        char *to = ret;

        while (size) {
                ssize_t n = pread(fd, to, size, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
                if (n == 0)
                        return error_set(err, -EBADMSG, path, "ends at byte %lld, before what it should hold",
                                         (long long)offset);
                to += n;
                size -= (size_t)n;
                offset += n;
        }
        return 0;
}

struct file_writer {
        int fd;
        int64_t bytes;
        XXH3_state_t *state;
        char path[PATH_MAX];
        char temporary[PATH_MAX + 16];
};

int file_writer_new(const char *path, struct file_writer **ret, struct error *err)
{
        _cleanup_(file_writer_freep) struct file_writer *w = calloc(1, sizeof *w);

        if (!w)
                return error_set(err, -ENOMEM, path, "no memory to write it");
        w->fd = -1;
        if (strlen(path) >= sizeof w->path)
                return error_set(err, -ENAMETOOLONG, path, "the path is too long");
        (void)snprintf(w->path, sizeof w->path, "%s", path);
        (void)snprintf(w->temporary, sizeof w->temporary, "%s.XXXXXX", path);
        w->state = XXH3_createState();
        if (!w->state)
                return error_set(err, -ENOMEM, path, "no memory to write it");
        (void)XXH3_128bits_reset(w->state);
        w->fd = mkostemp(w->temporary, O_CLOEXEC);
        if (w->fd < 0)
                return error_set(err, -errno, path, "cannot be created: %s", strerror(errno));
        *ret = TAKE_PTR(w);
        return 0;
}

int file_writer_append(struct file_writer *w, const void *data, size_t size, struct error *err)
{
        const char *p = data;

        (void)XXH3_128bits_update(w->state, data, size);
        w->bytes += (int64_t)size;
        while (size) {
                ssize_t n = write(w->fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, w->path, "cannot be written: %s", strerror(errno));
                p += n;
                size -= (size_t)n;
        }
        return 0;
}

int file_writer_overwrite(struct file_writer *w, int64_t offset, const void *data, size_t size, struct error *err)
{
        const char *p = data;

        assert(offset >= 0 && offset + (int64_t)size <= w->bytes);
        while (size) {
                ssize_t n = pwrite(w->fd, p, size, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, w->path, "cannot be written: %s", strerror(errno));
                p += n;
                offset += n;
                size -= (size_t)n;
        }
        return 0;
}

int file_writer_fd(const struct file_writer *w)
{
        return w->fd;
}

static void hash_text(XXH128_hash_t h, char ret[DIGEST_SIZE])
{
        (void)snprintf(ret, DIGEST_SIZE, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

static void digest_text(const XXH3_state_t *state, char ret[DIGEST_SIZE])
{
        hash_text(XXH3_128bits_digest(state), ret);
}

void memory_digest(const void *data, size_t size, char ret[DIGEST_SIZE])
{
        hash_text(XXH3_128bits(size ? data : "", size), ret);
}

static int sync_folder_of(const char *path, struct error *err)
{
        char copy[PATH_MAX];
        _cleanup_(closep) int fd = -1;

        (void)snprintf(copy, sizeof copy, "%s", path);
        fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return error_set(err, -errno, path, "its folder cannot be synced: %s", strerror(errno));
        return 0;
}

int file_writer_commit(struct file_writer *w, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err)
{
        if (fchmod(w->fd, 0640) < 0 || fsync(w->fd) < 0)
                return error_set(err, -errno, w->path, "cannot be synced: %s", strerror(errno));
        if (rename(w->temporary, w->path) < 0)
                return error_set(err, -errno, w->path, "cannot be renamed into place: %s", strerror(errno));
        w->temporary[0] = 0;
        if (ret_digest)
                digest_text(w->state, ret_digest);
        if (ret_bytes)
                *ret_bytes = w->bytes;
        return sync_folder_of(w->path, err);
}

struct file_writer *file_writer_free(struct file_writer *w)
{
        if (!w)
                return NULL;
        if (w->fd >= 0) {
                (void)close(w->fd);
                if (w->temporary[0])
                        (void)unlink(w->temporary);
        }
        (void)XXH3_freeState(w->state);
        free(w);
        return NULL;
}

int file_write_atomic(const char *path, const void *data, size_t size, char ret_digest[DIGEST_SIZE], struct error *err)
{
        _cleanup_(file_writer_freep) struct file_writer *w = NULL;
        int r = file_writer_new(path, &w, err);

        if (r < 0)
                return r;
        r = file_writer_append(w, data, size, err);
        if (r < 0)
                return r;
        return file_writer_commit(w, ret_digest, NULL, err);
}

int file_digest(const char *path, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        return file_digest_fd(fd, path, ret_digest, ret_bytes, err);
}

int file_digest_fd(int fd, const char *path, char ret_digest[DIGEST_SIZE], int64_t *ret_bytes, struct error *err)
{
        _cleanup_(freep) char *chunk = NULL;
        const size_t chunk_bytes = 1 << 20;
        XXH3_state_t *state;
        int64_t bytes = 0;
        ssize_t n;

        chunk = malloc(chunk_bytes);
        state = XXH3_createState();
        if (!chunk || !state) {
                (void)XXH3_freeState(state);
                return error_set(err, -ENOMEM, path, "no memory to read it");
        }
        (void)XXH3_128bits_reset(state);
        while ((n = read(fd, chunk, chunk_bytes)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        break;
                (void)XXH3_128bits_update(state, chunk, (size_t)n);
                bytes += n;
        }
        if (n == 0) {
                digest_text(state, ret_digest);
                if (ret_bytes)
                        *ret_bytes = bytes;
        }
        (void)XXH3_freeState(state);
        return n == 0 ? 0 : error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
}

int file_set_aside(const char *path, char *ret, size_t size, struct error *err)
{
        char suffix[16] = "";

        for (int n = 2;; n++) {
                if (snprintf(ret, size, "%s.aside%s", path, suffix) >= (int)size)
                        return error_set(err, -ENAMETOOLONG, path, "the path is too long");
                if (renameat2(AT_FDCWD, path, AT_FDCWD, ret, RENAME_NOREPLACE) == 0)
                        return 0;
                if (errno != EEXIST || n > 1000)
                        return error_set(err, -errno, path, "cannot be set aside: %s", strerror(errno));
                (void)snprintf(suffix, sizeof suffix, "-%d", n);
        }
}

int file_make_folder(const char *path, struct error *err)
{
        char copy[PATH_MAX];
        int r;

        if (strlen(path) >= sizeof copy || !path[0])
                return error_set(err, -ENAMETOOLONG, path, "the path is empty or too long");
        (void)snprintf(copy, sizeof copy, "%s", path);
        for (char *p = copy + 1;; p++) {
                char c = *p;

                if (c && c != '/')
                        continue;
                *p = 0;
                r = mkdir(copy, 0750) < 0 ? -errno : sync_folder_of(copy, err);
                if (r < 0 && r != -EEXIST && r != -EACCES) /* a folder that others own may not be read */
                        return error_set(err, r, path, "the folder cannot be made: %s", strerror(-r));
                if (r == -EACCES && access(copy, F_OK) < 0)
                        return error_set(err, r, path, "the folder cannot be made: %s", strerror(-r));
                *p = c;
                if (!c)
                        return 0;
        }
}

int file_move(const char *from, const char *to, struct error *err)
{
        if (rename(from, to) < 0)
                return error_set(err, -errno, to, "cannot be renamed into place: %s", strerror(errno));
        return sync_folder_of(to, err);
}

static int remove_one(const char *path, const struct stat *st _unused_, int flag _unused_, struct FTW *ftw _unused_)
{
        return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

int file_remove_tree(const char *path, struct error *err)
{
        if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
                return error_set(err, -errno, path, "cannot be removed: %s", strerror(errno));
        return 0;
}

int file_sweep(const char *folder, const char *const *extensions, struct error *err)
{
        DIR *d = opendir(folder);
        const struct dirent *e;

        if (!d)
                return error_set(err, -errno, folder, "cannot be listed: %s", strerror(errno));
        while ((e = readdir(d)))
                for (size_t i = 0; extensions[i]; i++) {
                        char pattern[128];

                        (void)snprintf(pattern, sizeof pattern,
                                       "*.%s.[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]",
                                       extensions[i]);
                        if (fnmatch(pattern, e->d_name, 0) == 0)
                                (void)unlinkat(dirfd(d), e->d_name, 0);
                }
        (void)closedir(d);
        return 0;
}
