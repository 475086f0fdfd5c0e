#include "daemon/folder.h"

#include "base/file.h"
#include "daemon/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_DIGITS_MAX 15 /* a longer number is no id: those are below 2^53 */

/* 1, 0, or that it cannot be told. */
static int exists(const char *path, struct error *err)
{
        struct stat st;

        if (lstat(path, &st) == 0)
                return 1;
        return errno == ENOENT ? 0 : error_set(err, -errno, path, "cannot be found: %s", strerror(errno));
}

static int set_aside(const struct job *j, const char *path, struct error *err)
{
        char aside[PATH_MAX + 16];
        int r = file_set_aside(path, aside, sizeof aside, err);

        if (r >= 0)
                log_warning("job %lld: %s is not of this run: it is set aside as %s", (long long)j->id, path, aside);
        return r;
}

/* 1, 0, or that it cannot be told now: a marker that cannot be read says nothing. */
static int is_ours(const char *marker, const struct job *j, struct error *err)
{
        _cleanup_(closep) int fd = file_open_regular(marker, O_RDONLY, err);
        bool named = j->identity[0];

        if (fd == -ENOENT)
                return !named; /* a job of before has none */
        if (fd == -ENXIO)      /* what no daemon has made */
                return 0;
        if (fd < 0 || !named)
                return MIN(fd, 0);
        return file_is_line(fd, marker, j->identity, err);
}

int folder_is_ours(const struct daemon *d, const struct job *j, struct error *err)
{
        char path[PATH_MAX], marker[PATH_MAX];
        int r;

        if (!daemon_job_path(d, j->id, NULL, path, sizeof path) ||
            !daemon_job_path(d, j->id, "identity", marker, sizeof marker))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of its folder is too long");
        r = exists(path, err);
        return r > 0 ? is_ours(marker, j, err) : r;
}

/* Where a folder is made before it has its name. */
static void path_in_the_making(const char *path, char ret[PATH_MAX + 16])
{
        (void)snprintf(ret, PATH_MAX + 16, "%s.new", path);
}

int folder_remove(const struct daemon *d, int64_t job, struct error *err)
{
        char path[PATH_MAX], made[PATH_MAX + 16];
        int r;

        if (!daemon_job_path(d, job, NULL, path, sizeof path))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of its folder is too long");
        path_in_the_making(path, made);
        r = file_remove_tree(made, err);
        return r < 0 ? r : file_remove_tree(path, err);
}

int folder_claim(const struct daemon *d, const struct job *j, struct error *err)
{
        char path[PATH_MAX], made[PATH_MAX + 16], marker[PATH_MAX + 32], text[64];
        int r;

        if (!daemon_job_path(d, j->id, NULL, path, sizeof path) ||
            !daemon_job_path(d, j->id, "identity", marker, sizeof marker))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of its folder is too long");
        r = exists(path, err);
        if (r > 0) {
                r = is_ours(marker, j, err);
                if (r != 0)
                        return MIN(r, 0);
                r = set_aside(j, path, err);
        }
        if (r < 0 || !j->identity[0])
                return r < 0 ? r : file_make_folder(path, err);
        /* It is there with its marker or not at all: without one it would be taken for somebody's. */
        path_in_the_making(path, made);
        (void)snprintf(marker, sizeof marker, "%s/identity", made);
        (void)snprintf(text, sizeof text, "%s\n", j->identity);
        r = file_make_folder(made, err);
        if (r >= 0)
                r = file_write_atomic(marker, text, strlen(text), NULL, err);
        return r < 0 ? r : file_move(made, path, err);
}

int folder_clear_attempt(const struct daemon *d, const struct job *j, int64_t attempt, struct error *err)
{
        static const char *const suffixes[] = {"events", "kept"};
        char name[64], path[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ARRAY_LEN(suffixes); i++) {
                (void)snprintf(name, sizeof name, "attempt-%lld.%s", (long long)attempt, suffixes[i]);
                if (!daemon_job_path(d, j->id, name, path, sizeof path))
                        return error_set(err, -ENAMETOOLONG, NULL, "the path of its folder is too long");
                r = exists(path, err);
                if (r > 0)
                        r = set_aside(j, path, err);
        }
        return r;
}

int folder_highest_job(const struct daemon *d, int64_t *ret, struct error *err)
{
        char path[PATH_MAX];
        _cleanup_(closedirp) DIR *folder = NULL;
        struct dirent *e;
        int64_t highest = 0;

        if (snprintf(path, sizeof path, "%s/jobs", d->settings.state) >= (int)sizeof path)
                return error_set(err, -ENAMETOOLONG, d->settings.state, "the path is too long");
        folder = opendir(path);
        if (!folder)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        while ((errno = 0, e = readdir(folder))) {
                size_t n = strspn(e->d_name, "0123456789");

                if (n && n <= ID_DIGITS_MAX && !e->d_name[n])
                        highest = MAX(highest, strtoll(e->d_name, NULL, 10));
        }
        if (errno)
                return error_set(err, -errno, path, "cannot be read: %s", strerror(errno));
        *ret = highest;
        return 0;
}
