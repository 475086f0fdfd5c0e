#include "base/backup.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define DEPTH_MAX 8
#define PIECE ((size_t)8 << 20)

int backup_partial(const char *folder, char ret[PATH_MAX], struct error *err)
{
        return snprintf(ret, PATH_MAX, "%s" BACKUP_PARTIAL, folder) < PATH_MAX
                       ? 0
                       : error_set(err, -ENAMETOOLONG, folder, "the path is too long");
}

/* One folder of the two trees. */
struct level {
        const char *path; /* of what is copied, for errors */
        int from, to;
        int depth;
        const atomic_bool *cancelled;
};

/* What is large and never written where it is. All else (logs, spools, the database, whatever comes to be there) is
 * copied: of what goes on growing the backup would grow, too. */
static bool is_linked(const char *name)
{
        static const char *const patterns[] = {"*.safetensors", "*.images", "*.npy", "*.png"};

        for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
                if (fnmatch(patterns[i], name, 0) == 0)
                        return true;
        return false;
}

static int failed(const struct level *l, const char *name, struct error *err)
{
        int code = -errno;
        char path[PATH_MAX];

        (void)snprintf(path, sizeof path, "%.*s/%s", PATH_MAX - 300, l->path, name);
        return error_set(err, code, path, "cannot be copied: %s", strerror(-code));
}

/* Where one file system cannot take over from another (they are of two kinds), the kernel still copies. */
static ssize_t copy_piece(int from, int to)
{
        ssize_t n = copy_file_range(from, NULL, to, NULL, PIECE, 0);

        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
                n = sendfile(to, from, NULL, PIECE);
        return n;
}

static int copy_bytes(const struct level *l, int from, int to)
{
        ssize_t n;

        while ((n = copy_piece(from, to)) != 0) {
                if (n < 0 && errno != EINTR)
                        return -1;
                if (l->cancelled && atomic_load(l->cancelled)) {
                        errno = ECANCELED;
                        return -1;
                }
        }
        return fsync(to);
}

/* Of what a person moved to another disk and left a link to; below, where jobs write, none is followed. */
static bool follows_links(const struct level *l)
{
        return l->depth == 0;
}

static int open_entry(const struct level *l, const char *name, int flags)
{
        return openat(l->from, name, O_RDONLY | O_CLOEXEC | flags | (follows_links(l) ? 0 : O_NOFOLLOW));
}

static int copy_file(const struct level *l, const char *name, const struct stat *st, struct error *err)
{
        _cleanup_(closep) int from = open_entry(l, name, O_NONBLOCK); /* waits for nobody, whatever it is by now */
        _cleanup_(closep) int to = -1;

        if (from < 0)
                return errno == ENOENT ? 0 : failed(l, name, err);
        to = openat(l->to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0777);
        if (to < 0 || copy_bytes(l, from, to) < 0)
                return failed(l, name, err);
        (void)!fchown(to, st->st_uid, st->st_gid); /* root alone may */
        return 0;
}

static int copy_regular(const struct level *l, const char *name, const struct stat *st, struct error *err)
{
        if (is_linked(name)) {
                if (linkat(l->from, name, l->to, name, follows_links(l) ? AT_SYMLINK_FOLLOW : 0) == 0 ||
                    errno == ENOENT)
                        return 0;
                if (errno != EXDEV && errno != EMLINK && errno != EPERM)
                        return failed(l, name, err);
        }
        return copy_file(l, name, st, err);
}

static int copy_folder(const struct level *l, struct error *err);

static int copy_below(const struct level *l, const char *name, const struct stat *st, struct error *err)
{
        _cleanup_(closep) int from = open_entry(l, name, O_DIRECTORY);
        _cleanup_(closep) int to = -1;
        char path[PATH_MAX];

        if (from < 0)
                return errno == ENOENT ? 0 : failed(l, name, err);
        if (mkdirat(l->to, name, st->st_mode & 0777) == 0)
                to = openat(l->to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (to < 0)
                return failed(l, name, err);
        (void)!fchown(to, st->st_uid, st->st_gid);
        (void)snprintf(path, sizeof path, "%.*s/%s", PATH_MAX - 300, l->path, name);
        return copy_folder(&(struct level){path, from, to, l->depth + 1, l->cancelled}, err);
}

static int copy_entry(const struct level *l, const char *name, struct error *err)
{
        struct stat st;

        if (fstatat(l->from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : failed(l, name, err);
        if (S_ISLNK(st.st_mode) && follows_links(l) && fstatat(l->from, name, &st, 0) < 0)
                return failed(l, name, err); /* its disk is not there: a backup without it would not be whole */
        if (S_ISREG(st.st_mode))
                return copy_regular(l, name, &st, err);
        return S_ISDIR(st.st_mode) ? copy_below(l, name, &st, err) : 0;
}

static int copy_folder(const struct level *l, struct error *err)
{
        int listed = dup(l->from), r = 0;
        _cleanup_(closedirp) DIR *dir = listed < 0 ? NULL : fdopendir(listed);
        struct dirent *e;

        if (!dir)
                return failed(l, ".", err);
        if (l->depth > DEPTH_MAX)
                return error_set(err, -ELOOP, l->path, "there are too many folders in one another");
        while (r >= 0 && (errno = 0, e = readdir(dir)))
                if (l->cancelled && atomic_load(l->cancelled))
                        r = error_set(err, -ECANCELED, l->path, "the copy was given up");
                else if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        r = copy_entry(l, e->d_name, err);
        if (r >= 0 && (errno || fsync(l->to) < 0))
                r = failed(l, ".", err);
        return r;
}

int backup_copy(const char *from, const char *to, const atomic_bool *cancelled, struct error *err)
{
        _cleanup_(closep) int source = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(closep) int target = -1;
        struct stat st;

        if (source < 0 && errno == ENOENT)
                return 0;
        if (source < 0 || fstat(source, &st) < 0)
                return error_set(err, -errno, from, "cannot be opened: %s", strerror(errno));
        if (mkdir(to, st.st_mode & 0777) == 0)
                target = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (target < 0)
                return error_set(err, -errno, to, "cannot be made: %s", strerror(errno));
        (void)!fchown(target, st.st_uid, st.st_gid);
        return copy_folder(&(struct level){from, source, target, 0, cancelled}, err);
}
