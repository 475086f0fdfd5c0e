#include "daemon/folder.h"

#include "daemon/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ID_DIGITS_MAX 15 /* a longer number is no id: those are below 2^53 */

static bool exists(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0;
}

static int set_aside(const struct job *j, const char *path, struct error *err)
{
        char aside[PATH_MAX + 16];
        int r = file_set_aside(path, aside, sizeof aside, err);

        if (r >= 0)
                log_warning("job %lld: %s is not of this run: it is set aside as %s", (long long)j->id, path, aside);
        return r;
}

static bool is_ours(const char *marker, const struct job *j)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(256);
        size_t n = strlen(j->identity);

        if (!n)
                return !exists(marker); /* a job of before has none */
        return file_read(marker, &b, NULL) >= 0 && b.size == n + 1 && !memcmp(b.data, j->identity, n);
}

bool folder_is_ours(const struct daemon *d, const struct job *j)
{
        char path[PATH_MAX], marker[PATH_MAX];

        return daemon_job_path(d, j->id, NULL, path, sizeof path) &&
               daemon_job_path(d, j->id, "identity", marker, sizeof marker) && exists(path) && is_ours(marker, j);
}

int folder_claim(const struct daemon *d, const struct job *j, struct error *err)
{
        char path[PATH_MAX], marker[PATH_MAX], text[64];
        int r;

        if (!daemon_job_path(d, j->id, NULL, path, sizeof path) ||
            !daemon_job_path(d, j->id, "identity", marker, sizeof marker))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of its folder is too long");
        if (exists(path)) {
                if (is_ours(marker, j))
                        return 0;
                r = set_aside(j, path, err);
                if (r < 0)
                        return r;
        }
        r = file_make_folder(path, err);
        if (r < 0 || !j->identity[0])
                return r;
        (void)snprintf(text, sizeof text, "%s\n", j->identity);
        return file_write_atomic(marker, text, strlen(text), NULL, err);
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
                if (exists(path))
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
