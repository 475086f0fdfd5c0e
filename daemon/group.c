#include "daemon/group.h"

#include "base/file.h"
#include "base/log.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define PREFIX "attempt-"

void groups_find(struct groups *g)
{
        static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
        char own[PATH_MAX], path[PATH_MAX], mark = 0;

        g->folder[0] = 0;
        system_cgroup("", true, own, sizeof own);
        for (size_t i = 0; own[0] && i < ARRAY_LEN(mounts) && !g->folder[0]; i++)
                if (snprintf(path, sizeof path, "%s%s", mounts[i], own) < (int)sizeof path &&
                    getxattr(path, "user.delegate", &mark, 1) == 1 && mark == '1' && access(path, W_OK) == 0)
                        (void)snprintf(g->folder, sizeof g->folder, "%s", path);
}

/* FOLDER/attempt-N[/file]; false: there are none, or it does not fit. */
static bool group_path(const struct groups *g, int64_t attempt, const char *file, char *ret)
{
        int n;

        if (!g->folder[0])
                return false;
        n = snprintf(ret, PATH_MAX, "%.*s/" PREFIX "%lld%s%s", PATH_MAX - 64, g->folder, (long long)attempt,
                     *file ? "/" : "", file);
        return n < PATH_MAX;
}

static int write_file(const char *path, const char *text, struct error *err)
{
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                return error_set(err, -errno, path, "cannot be written: %s", strerror(errno));
        return 0;
}

int group_put(const struct groups *g, int64_t attempt, pid_t pid, struct error *err)
{
        char path[PATH_MAX], text[16];

        if (!group_path(g, attempt, "", path))
                return 0;
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return error_set(err, -errno, path, "no control group: %s", strerror(errno));
        (void)group_path(g, attempt, "cgroup.procs", path);
        (void)snprintf(text, sizeof text, "%d", (int)pid);
        return write_file(path, text, err);
}

void group_kill(const struct groups *g, int64_t attempt)
{
        char path[PATH_MAX];
        struct error err;

        if (group_path(g, attempt, "cgroup.kill", path) && write_file(path, "1", &err) < 0 && err.code != -ENOENT)
                log_warning("%s: %s", err.path, err.text); /* what the attempt left behind goes on */
}

void groups_sweep(const struct groups *g)
{
        _cleanup_(closedirp) DIR *dir = g->folder[0] ? opendir(g->folder) : NULL;
        struct dirent *e;

        while (dir && (e = readdir(dir)))
                if (!strncmp(e->d_name, PREFIX, strlen(PREFIX)))
                        (void)unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR); /* EBUSY where something is left */
}
