#include "engine/data/files.h"

#include "base/array.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 16
#define FILES_MAX ((size_t)1 << 24)

bool files_has_suffix(const char *name, const char *suffix)
{
        size_t n = strlen(name), k = strlen(suffix);

        return n > k && !strcasecmp(name + n - k, suffix);
}

void files_done(struct files *f)
{
        for (size_t i = 0; i < f->n; i++)
                free(f->paths[i]);
        free(f->paths);
        *f = (struct files){0};
}

static int add(struct files *f, const char *path, struct error *err)
{
        if (f->n == FILES_MAX)
                return error_set(err, -E2BIG, path, "is one of more than %zu files", FILES_MAX);
        if (!array_grow(&f->paths, f->n, &f->room, sizeof *f->paths) || !(f->paths[f->n] = strdup(path)))
                return error_set(err, -ENOMEM, path, "no memory to list it");
        f->n++;
        return 0;
}

struct listing {
        const char *folder;
        bool deep;
        bool (*wanted)(const char *name);
        struct files *files;
};

static int list(const struct listing *l, const char *below, int depth, struct error *err);

static int look_at(const struct listing *l, int folder_fd, const char *name, const char *below, int depth,
                   struct error *err)
{
        char path[PATH_MAX], full[2 * PATH_MAX];
        struct stat st;

        if (snprintf(path, sizeof path, "%s%s%s", below, below[0] ? "/" : "", name) >= (int)sizeof path)
                return error_set(err, -ENAMETOOLONG, name, "the path is too long");
        (void)snprintf(full, sizeof full, "%s/%s", l->folder, path);
        if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return error_set(err, -errno, full, "cannot be looked at: %s", strerror(errno));
        if (S_ISLNK(st.st_mode) && (l->deep || l->wanted(name)))
                return error_set(err, -EINVAL, full, "is a link; expected files and folders themselves");
        if (S_ISDIR(st.st_mode) && l->deep)
                return list(l, path, depth + 1, err);
        return S_ISREG(st.st_mode) && l->wanted(name) ? add(l->files, path, err) : 0;
}

static int list(const struct listing *l, const char *below, int depth, struct error *err)
{
        char path[2 * PATH_MAX];
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *e;

        (void)snprintf(path, sizeof path, "%s%s%s", l->folder, below[0] ? "/" : "", below);
        if (depth > DEPTH_MAX)
                return error_set(err, -E2BIG, path, "lies deeper than %d folders", DEPTH_MAX);
        d = opendir(path);
        if (!d)
                return error_set(err, -errno, path, "the folder cannot be opened: %s", strerror(errno));
        while ((errno = 0, e = readdir(d))) {
                int r = e->d_name[0] == '.' ? 0 : look_at(l, dirfd(d), e->d_name, below, depth, err);

                if (r < 0)
                        return r;
        }
        return errno ? error_set(err, -errno, path, "the folder cannot be read: %s", strerror(errno)) : 0;
}

static int by_name(const void *a, const void *b)
{
        const char *const *x = a, *const *y = b;

        return strverscmp(*x, *y);
}

int files_list(const char *folder, bool deep, bool (*wanted)(const char *name), struct files *ret, struct error *err)
{
        _cleanup_(files_done) struct files f = {0};
        int r = list(&(struct listing){folder, deep, wanted, &f}, "", 0, err);

        if (r < 0)
                return r;
        if (f.n)
                qsort(f.paths, f.n, sizeof *f.paths, by_name);
        *ret = f;
        f = (struct files){0};
        return 0;
}

int files_any(const char *folder, bool (*wanted)(const char *name), struct error *err)
{
        _cleanup_(closedirp) DIR *d = opendir(folder);
        struct dirent *e;

        if (!d)
                return errno == ENOTDIR ? 0 : error_set(err, -errno, folder, "cannot be opened: %s", strerror(errno));
        while ((errno = 0, e = readdir(d)))
                if (wanted(e->d_name))
                        return 1;
        return errno ? error_set(err, -errno, folder, "the folder cannot be read: %s", strerror(errno)) : 0;
}
