/* libarchive does not verify gzip's checksum, so that zlib unpacks a .tar.gz (and passes a plain .tar through), and
 * libarchive gets the tar. The stream is read to its end, which is where the checksum is. */
#include "engine/data/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define BLOCK_BYTES ((size_t)1 << 16)
#define STREAM_MAX ((int64_t)1 << 36) /* bytes of an unpacked tar: what grows beyond is a bomb */

struct archive_in {
        char path[PATH_MAX];
        enum archive_kind kind;
        struct archive *archive;
        struct archive_entry *entry; /* the archive's */
        gzFile stream;               /* of a tar */
        int64_t streamed;
        char block[BLOCK_BYTES];
};

static int bad_stream(const struct archive_in *a, struct error *err)
{
        int code = Z_OK;
        const char *text = gzerror(a->stream, &code);

        if (code == Z_ERRNO)
                return error_set(err, errno ? -errno : -EIO, a->path, "cannot be read: %s", strerror(errno));
        return error_set(err, code == Z_MEM_ERROR ? -ENOMEM : -EBADMSG, a->path, "cannot be unpacked: %s",
                         code == Z_BUF_ERROR ? "the file is cut" : text);
}

/* libarchive's callback: -1 and a text where it fails. */
static la_ssize_t read_stream(struct archive *archive, void *user, const void **ret)
{
        struct archive_in *a = user;
        int n = gzread(a->stream, a->block, BLOCK_BYTES);
        struct error err;
        int code = Z_OK;

        if (n >= 0)
                (void)gzerror(a->stream, &code);
        a->streamed += MAX(n, 0);
        if (n < 0 || code == Z_BUF_ERROR) {
                (void)bad_stream(a, &err);
                archive_set_error(archive, EIO, "%s", err.text);
                return -1;
        }
        if (a->streamed > STREAM_MAX) {
                archive_set_error(archive, E2BIG, "unpacked it has more than %lld bytes", (long long)STREAM_MAX);
                return -1;
        }
        *ret = a->block;
        return n;
}

static int bad(const struct archive_in *a, struct error *err)
{
        const char *text = archive_error_string(a->archive);
        bool memory = archive_errno(a->archive) == ENOMEM;

        return error_set(err, memory ? -ENOMEM : -EBADMSG, a->path, "is no archive, or damaged: %s",
                         text ? text : "no reason is given");
}

static int open_tar(struct archive_in *a, int *fd)
{
        a->stream = gzdopen(*fd, "rb");
        if (!a->stream)
                return ARCHIVE_FATAL;
        (void)TAKE_FD(*fd);
        (void)gzbuffer(a->stream, 1 << 17);
        if (archive_read_support_format_tar(a->archive) != ARCHIVE_OK)
                return ARCHIVE_FATAL;
        return archive_read_open(a->archive, a, NULL, read_stream, NULL);
}

static int open_zip(struct archive_in *a)
{
        if (archive_read_support_format_zip_seekable(a->archive) != ARCHIVE_OK)
                return ARCHIVE_FATAL;
        return archive_read_open_filename(a->archive, a->path, BLOCK_BYTES);
}

int archive_open(const char *path, enum archive_kind kind, struct archive_in **ret, struct error *err)
{
        _cleanup_(archive_closep) struct archive_in *a = calloc(1, sizeof *a);
        _cleanup_(closep) int fd = -1;
        struct stat st;

        if (!a || !(a->archive = archive_read_new()))
                return error_set(err, -ENOMEM, path, "no memory to open it");
        if (strlen(path) >= sizeof a->path)
                return error_set(err, -ENAMETOOLONG, path, "the path is too long");
        memcpy(a->path, path, strlen(path) + 1);
        a->kind = kind;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EINVAL, path, "is no regular file");
        if ((kind == ARCHIVE_TAR ? open_tar(a, &fd) : open_zip(a)) != ARCHIVE_OK)
                return bad(a, err);
        *ret = TAKE_PTR(a);
        return 0;
}

struct archive_in *archive_close(struct archive_in *a)
{
        if (!a)
                return NULL;
        if (a->archive)
                (void)archive_read_free(a->archive);
        if (a->stream)
                (void)gzclose(a->stream);
        free(a);
        return NULL;
}

static bool leaves_its_folder(const char *name)
{
        if (name[0] == '/' || name[0] == '\\')
                return true;
        for (const char *p = name; p; p = strchr(p, '/')) {
                p += *p == '/';
                if (p[0] == '.' && p[1] == '.' && (!p[2] || p[2] == '/'))
                        return true;
        }
        return false;
}

static const char *kind_of(struct archive_entry *e)
{
        if (archive_entry_hardlink(e) || archive_entry_symlink(e))
                return "a link";
        switch (archive_entry_filetype(e)) {
        case AE_IFREG:
        case AE_IFDIR:
                return NULL;
        case AE_IFCHR:
        case AE_IFBLK:
                return "a device";
        case AE_IFIFO:
                return "a FIFO";
        default:
                return "no file";
        }
}

/* The rest of the stream, where gzip's checksum is. */
static int finish(struct archive_in *a, struct error *err)
{
        const void *block;
        la_ssize_t n;

        if (a->kind != ARCHIVE_TAR)
                return 0;
        while ((n = read_stream(a->archive, a, &block)) > 0)
                ;
        return n < 0 ? bad(a, err) : 0;
}

int archive_next(struct archive_in *a, const char **ret_name, int64_t *ret_bytes, struct error *err)
{
        for (;;) {
                int r = archive_read_next_header(a->archive, &a->entry);
                const char *name, *kind;

                if (r == ARCHIVE_EOF)
                        return finish(a, err);
                if (r != ARCHIVE_OK)
                        return bad(a, err);
                name = archive_entry_pathname(a->entry);
                if (!name || !name[0])
                        return error_set(err, -EBADMSG, a->path, "has a member without a name");
                if (leaves_its_folder(name))
                        return error_set(err, -EBADMSG, a->path, "member %s: its name leaves the archive's folder",
                                         name);
                kind = kind_of(a->entry);
                if (kind)
                        return error_set(err, -EBADMSG, a->path, "member %s is %s; expected files and folders", name,
                                         kind);
                if (archive_entry_filetype(a->entry) == AE_IFDIR)
                        continue;
                *ret_name = name;
                *ret_bytes = archive_entry_size_is_set(a->entry) ? archive_entry_size(a->entry) : -1;
                return 1;
        }
}

static int write_block(int fd, const char *path, const void *data, size_t size, int64_t offset, struct error *err)
{
        const char *p = data;

        while (size) {
                ssize_t n = pwrite(fd, p, size, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, path, "cannot be written: %s", strerror(errno));
                p += n;
                offset += n;
                size -= (size_t)n;
        }
        return 0;
}

int archive_unpack(struct archive_in *a, const char *path, int64_t max_bytes, struct error *err)
{
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        const char *name = archive_entry_pathname(a->entry);

        if (fd < 0 && errno == EEXIST)
                return error_set(err, -EBADMSG, a->path, "member %s is there twice", name);
        if (fd < 0)
                return error_set(err, -errno, path, "cannot be created: %s", strerror(errno));
        for (;;) {
                const void *block;
                la_int64_t offset;
                size_t size;
                int r = archive_read_data_block(a->archive, &block, &size, &offset);

                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK)
                        return bad(a, err);
                if (offset < 0 || offset > max_bytes || (int64_t)size > max_bytes - offset)
                        return error_set(err, -E2BIG, a->path, "member %s has more than %lld bytes", name,
                                         (long long)max_bytes);
                r = write_block(fd, path, block, size, offset, err);
                if (r < 0)
                        return r;
        }
}
