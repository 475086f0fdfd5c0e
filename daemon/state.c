#include "daemon/state.h"

#include "base/file.h"
#include "contract/text.h"
#include "daemon/daemon.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define LOCK_TRIES 25
#define LOCK_PAUSE_NS 20000000 /* half a second in all */

/* Whoever can write here decides what this user runs and reads. */
static int check_owner(const char *path, struct error *err)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return error_set(err, -errno, path, "cannot be found: %s", strerror(errno));
        if (st.st_uid != geteuid())
                return error_set(err, -EPERM, path,
                                 "belongs to user %u, this is user %u: give --state a folder of your own",
                                 (unsigned)st.st_uid, (unsigned)geteuid());
        if (st.st_mode & (S_IWGRP | S_IWOTH))
                return error_set(err, -EPERM, path, "others may write there (mode %04o): chmod go-w %s",
                                 (unsigned)st.st_mode & 07777, path);
        return 0;
}

/* A worker that the daemon before was just making when it was killed has a copy of the lock until its program begins,
 * which is soon. */
static int lock_soon(int fd)
{
        int r = -EWOULDBLOCK;

        for (int i = 0; i < LOCK_TRIES && r == -EWOULDBLOCK; i++) {
                if (i)
                        (void)nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
                r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
        }
        return r;
}

/* The lock's holder is its process, so it ends with it however that ends. Its pid is for people. */
static int lock_state(const char *state, int *ret_fd, struct error *err)
{
        char path[PATH_MAX], text[32] = "";
        _cleanup_(closep) int fd = -1;
        ssize_t n;

        if (snprintf(path, sizeof path, "%s/lock", state) >= (int)sizeof path)
                return error_set(err, -ENAMETOOLONG, state, "the path is too long");
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (lock_soon(fd) < 0) {
                n = pread(fd, text, sizeof text - 1, 0);
                text[MAX(n, 0)] = 0;
                text[strcspn(text, "\n")] = 0;
                return error_set(err, -EBUSY, state, "another mulund (pid %s) uses this state",
                                 text[0] ? text : "unknown");
        }
        n = snprintf(text, sizeof text, "%d\n", (int)getpid());
        errno = ENOSPC; /* of a part of it only, which no call says the reason of */
        if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
                log_warning("%s: the pid cannot be written: %s", path, strerror(errno));
        *ret_fd = fd;
        fd = -1;
        return 0;
}

/* By the numbers of statfs(2): those of linux/magic.h, and of file systems that come with drivers of their own (as
 * GNU stat lists them). */
static bool is_remote(unsigned long magic)
{
        static const unsigned long remote[] = {
                NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,   CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
                AFS_SUPER_MAGIC, AFS_FS_MAGIC,      CODA_SUPER_MAGIC, NCP_SUPER_MAGIC,
                V9FS_MAGIC,      OCFS2_SUPER_MAGIC, CEPH_SUPER_MAGIC, 0x0bd00bd0, /* Lustre */
                0x47504653,                                                       /* GPFS */
                0x19830326,                                                       /* BeeGFS */
                0x20030528,                                                       /* OrangeFS */
                0x01161970,                                                       /* GFS2 */
                0xaad7aaea,                                                       /* PanFS */
                0x61636673,                                                       /* ACFS */
                0xbeefdead,                                                       /* SNFS */
                0x7c7c6673,                                                       /* Parallels' folders */
                0x786f4256,                                                       /* VirtualBox's */
                0xbacbacbc,                                                       /* VMware's */
        };

        for (size_t i = 0; i < ARRAY_LEN(remote); i++)
                if (magic == remote[i])
                        return true;
        return false;
}

bool state_file_system_is_local(unsigned long magic, const char *type)
{
        static const char *const on_this_machine[] = {"fuseblk", "fuse.fuse-overlayfs"};

        if (magic != FUSE_SUPER_MAGIC)
                return !is_remote(magic);
        for (size_t i = 0; i < ARRAY_LEN(on_this_machine); i++)
                if (!strcmp(type, on_this_machine[i]))
                        return true;
        return false;
}

void state_file_system_type(const char *path, char ret[STATE_TYPE_SIZE])
{
        _cleanup_(freep) char *line = NULL;
        size_t size = 0;
        struct statx st = {0};
        FILE *mounts = fopen("/proc/self/mountinfo", "re");
        unsigned long long id;

        static_assert(STATE_TYPE_SIZE == 64, "as below");
        ret[0] = 0;
        if (mounts && statx(AT_FDCWD, path, 0, STATX_MNT_ID, &st) == 0 && st.stx_mask & STATX_MNT_ID)
                while (!ret[0] && getline(&line, &size, mounts) > 0) {
                        const char *type = strstr(line, " - ");

                        if (type && sscanf(line, "%llu", &id) == 1 && id == st.stx_mnt_id)
                                (void)sscanf(type, " - %63s", ret);
                }
        if (mounts)
                (void)fclose(mounts);
}

/* SQLite's log needs memory that processes share, and locks that hold. */
static int check_file_system(const char *state, struct error *err)
{
        char type[STATE_TYPE_SIZE];
        struct statfs st;

        if (statfs(state, &st) < 0)
                return error_set(err, -errno, state, "its file system is unknown: %s", strerror(errno));
        state_file_system_type(state, type);
        if (state_file_system_is_local((unsigned long)st.f_type, type))
                return 0;
        return error_set(err, -EXDEV, state, "the state is on a network file system (%s): give --state on a local disk",
                         type[0] ? type : "of an unknown type");
}

int state_check(const char *state, struct error *err)
{
        int r;

        if (access(state, R_OK | W_OK | X_OK) < 0)
                return error_set(err, -errno, state, "the state folder cannot be used: %s", strerror(errno));
        r = check_owner(state, err);
        return r < 0 ? r : check_file_system(state, err);
}

bool state_is_locked(const char *state)
{
        char path[PATH_MAX];
        _cleanup_(closep) int fd = -1;

        if (snprintf(path, sizeof path, "%s/lock", state) >= (int)sizeof path)
                return false;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int state_open(struct daemon *d, int *ret_lock, struct error *err)
{
        struct settings *s = &d->settings;
        static const char *const more[] = {"datasets", "imports"};
        char absolute[PATH_MAX], jobs[PATH_MAX];
        int r = file_make_folder(s->state, err);

        if (r < 0)
                return r;
        if (!realpath(s->state, absolute))
                return error_set(err, -errno, s->state, "cannot be found: %s", strerror(errno));
        (void)snprintf(s->state, sizeof s->state, "%s", absolute);
        if (snprintf(d->socket, sizeof d->socket, "%s/worker.sock", s->state) >= (int)sizeof d->socket)
                return error_set(err, -ENAMETOOLONG, s->state,
                                 "the path is too long for the workers' socket: %zu bytes, at most %zu",
                                 strlen(s->state), sizeof d->socket - strlen("/worker.sock") - 1);
        if (text_valid_utf8(s->state, strlen(s->state)) != strlen(s->state))
                return error_set(err, -EILSEQ, "--state", "the folder's path (its links resolved) is not UTF-8");
        r = state_check(s->state, err);
        if (r >= 0)
                r = lock_state(s->state, ret_lock, err);
        if (r < 0)
                return r;
        (void)snprintf(jobs, sizeof jobs, "%.*s/plans", (int)sizeof jobs - 8, s->state);
        r = file_make_folder(jobs, err);
        if (r < 0)
                return r;
        (void)snprintf(jobs, sizeof jobs, "%.*s/jobs", (int)sizeof jobs - 8, s->state);
        r = file_make_folder(jobs, err);
        if (r >= 0)
                r = check_owner(jobs, err);
        for (size_t i = 0; i < ARRAY_LEN(more) && r >= 0; i++) {
                (void)snprintf(jobs, sizeof jobs, "%.*s/%s", (int)sizeof jobs - 16, s->state, more[i]);
                r = file_make_folder(jobs, err);
        }
        return r;
}
