/* Preloaded into the daemon and its workers: keeps what a power loss would leave of a state.
 *
 * Below FAULT_SHADOW lies what is durable, in the strictest reading of POSIX: of a file what it held when it was synced
 * last, of a folder which names it had when it was synced last, each by the number of its inode (of a file system that
 * does not use numbers again, such as tmpfs):
 *
 *   FAULT_SHADOW/file-INODE    a file's bytes
 *   FAULT_SHADOW/folder-INODE  a folder's names, a line "NAME INODE" each
 *
 * Each is replaced by a rename after the real call, so whoever is killed in between leaves the one or the other. The
 * driver (kills.py) kills all processes and makes the state anew from these. FAULT_STATE: the folder that is watched.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static bool is_watched(int fd)
{
        const char *state = getenv("FAULT_STATE");
        char link[64], path[PATH_MAX];
        ssize_t n;

        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof path - 1);
        if (n <= 0 || !state)
                return false;
        path[n] = 0;
        return !strncmp(path, state, strlen(state));
}

static bool write_names(int fd, int to)
{
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *folder = copy < 0 ? NULL : fdopendir(copy);
        FILE *f = fdopen(dup(to), "w");
        struct dirent *e;

        while (folder && f && (e = readdir(folder)))
                if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
                        (void)fprintf(f, "%s %llu\n", e->d_name, (unsigned long long)e->d_ino);
        if (folder)
                (void)closedir(folder);
        return f && fclose(f) == 0 && folder;
}

/* By its own opening: the descriptor may be for writing only. */
static bool write_bytes(int fd, int to)
{
        char link[64];
        off_t at = 0;
        ssize_t n = -1;
        int from;

        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        from = open(link, O_RDONLY | O_CLOEXEC);
        while (from >= 0 && (n = sendfile(to, from, &at, (size_t)1 << 24)) > 0)
                ;
        if (from >= 0)
                (void)close(from);
        return n == 0;
}

static void keep(int fd)
{
        const char *shadow = getenv("FAULT_SHADOW");
        char path[PATH_MAX], made[PATH_MAX + 32];
        int saved = errno, to;
        struct stat st;
        bool whole;

        if (!shadow || fstat(fd, &st) < 0 || !is_watched(fd))
                return;
        (void)snprintf(path, sizeof path, "%s/%s-%llu", shadow, S_ISDIR(st.st_mode) ? "folder" : "file",
                       (unsigned long long)st.st_ino);
        (void)snprintf(made, sizeof made, "%s.%ld", path, (long)syscall(SYS_gettid));
        to = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        whole = to >= 0 && (S_ISDIR(st.st_mode) ? write_names(fd, to) : write_bytes(fd, to));
        if (to >= 0)
                (void)close(to);
        if (!whole || rename(made, path) < 0)
                abort(); /* a test that keeps too little would find faults that are none */
        errno = saved;
}

EXPORT int fsync(int fd)
{
        int r = (int)syscall(SYS_fsync, fd);

        if (r == 0)
                keep(fd);
        return r;
}

EXPORT int fdatasync(int fd)
{
        int r = (int)syscall(SYS_fdatasync, fd);

        if (r == 0)
                keep(fd);
        return r;
}
