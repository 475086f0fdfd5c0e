#include "worker/sandbox.h"

#include "base/file.h"
#include "base/system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define ABI_LEAST 2 /* files may be renamed to another folder since then: imports */
#define ABI_TRUNCATE 3
#define ABI_SCOPES 6

/* All that changes something. */
#define CHANGES                                                                                                        \
        (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |              \
         LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                    \
         LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                 \
         LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)
#define TRUNCATE ((uint64_t)1 << 14) /* LANDLOCK_ACCESS_FS_TRUNCATE, not in older headers */
#define READS LANDLOCK_ACCESS_FS_READ_FILE
#define ALL_OF_IT (CHANGES | TRUNCATE | READS)
#define SCOPED_SOCKETS ((uint64_t)1) /* LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET */
#define SCOPED_SIGNALS ((uint64_t)2) /* LANDLOCK_SCOPE_SIGNAL */

/* struct landlock_ruleset_attr of ABI 6; older kernels take its beginning. */
struct ruleset {
        uint64_t handled_fs, handled_net, scoped;
};

struct sandbox {
        int fd;
        uint64_t handled;
};

/* ---- Landlock */

/* By an open file or folder, -1: one that is not there needs no leave. */
static int allow_open(const struct sandbox *s, int fd, const char *path, uint64_t access, struct error *err)
{
        struct landlock_path_beneath_attr rule = {.allowed_access = access & s->handled, .parent_fd = fd};

        if (fd < 0 || !rule.allowed_access ||
            !syscall(SYS_landlock_add_rule, s->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
                return 0;
        return error_set(err, -errno, path, "cannot be opened to a sandbox: %s", strerror(errno));
}

static int allow(const struct sandbox *s, const char *path, uint64_t access, struct error *err)
{
        _cleanup_(closep) int fd = path && *path ? open(path, O_PATH | O_CLOEXEC) : -1;

        return allow_open(s, fd, path, access, err);
}

static int allow_parent(const struct sandbox *s, const char *path, struct error *err)
{
        char folder[PATH_MAX];

        (void)snprintf(folder, sizeof folder, "%s", path ? path : "");
        return folder[0] ? allow(s, dirname(folder), ALL_OF_IT, err) : 0;
}

/* Ranks meet in files: mpirun's in its folder for temporary ones, memory that they share. */
static int allow_ranks(const struct sandbox *s, struct error *err)
{
        const char *temporary = getenv("TMPDIR");
        int r = allow(s, temporary && *temporary ? temporary : "/tmp", ALL_OF_IT, err);

        return r < 0 ? r : allow(s, "/dev/shm", ALL_OF_IT, err);
}

static int allow_assignment(const struct sandbox *s, const struct assignment *a, bool ranks, struct error *err)
{
        int r = allow(s, a->folder, ALL_OF_IT, err);

        if (r >= 0)
                r = allow(s, a->plans, ALL_OF_IT, err);
        if (r >= 0)
                r = allow(s, getenv("CUDA_CACHE_PATH"), ALL_OF_IT, err);
        if (r >= 0)
                r = allow(s, a->dataset_path, READS, err);
        if (r >= 0)
                r = allow(s, a->import.path, READS, err);
        if (r >= 0)
                r = allow(s, a->import.test_path, READS, err);
        if (r >= 0 && a->kind == JOB_IMPORT)
                r = allow_parent(s, a->import.target, err);
        return r >= 0 && ranks ? allow_ranks(s, err) : r;
}

/* ---- what is kept from workers. A rule can only allow, so all beside it is allowed. */

#define HIDDEN_MAX 16

struct hidden {
        size_t n;
        struct {
                char folder[PATH_MAX]; /* links resolved */
                const char *pattern;   /* of names there */
        } items[HIDDEN_MAX];
        char text[]; /* what the patterns are of */
};

/* Of $MULUN_HIDDEN. *ret NULL: nothing. */
static int read_hidden(struct hidden **ret, struct error *err)
{
        const char *text = getenv("MULUN_HIDDEN");
        size_t size = text ? strlen(text) + 1 : 0;
        char *rest, *folder;
        struct hidden *h;

        *ret = NULL;
        if (size < 2)
                return 0;
        h = calloc(1, sizeof *h + size);
        if (!h)
                return error_set(err, -ENOMEM, NULL, "no memory for a sandbox");
        memcpy(h->text, text, size);
        for (rest = h->text; (folder = strsep(&rest, "\n"));) {
                char *name = strrchr(folder, '/');

                if (!name)
                        continue;
                if (h->n == HIDDEN_MAX) {
                        free(h);
                        return error_set(err, -E2BIG, "MULUN_HIDDEN", "expected at most %d lines", HIDDEN_MAX);
                }
                *name = 0;
                if (!*folder || realpath(folder, h->items[h->n].folder)) /* else there is nothing to hide */
                        h->items[h->n++].pattern = name + 1;
        }
        *ret = h;
        return 0;
}

static bool is_hidden(const struct hidden *h, const char *folder, const char *name)
{
        for (size_t i = 0; i < h->n; i++)
                if (!strcmp(h->items[i].folder, folder) &&
                    (!strcmp(h->items[i].pattern, name) || !fnmatch(h->items[i].pattern, name, 0)))
                        return true;
        return false;
}

/* Something in it or below it is hidden. */
static bool leads_to_hidden(const struct hidden *h, const char *folder)
{
        for (size_t i = 0; i < h->n; i++)
                if (file_below(h->items[i].folder, folder))
                        return true;
        return false;
}

static int allow_reading(const struct sandbox *s, const struct hidden *h, const char *folder, struct error *err);

/* Of a folder that may be passed but not listed: what is on the way to something hidden. */
static int allow_on_the_way(const struct sandbox *s, const struct hidden *h, const char *folder, struct error *err)
{
        int r = 0;

        for (size_t i = 0; i < h->n && r >= 0; i++) {
                const char *rest = file_below(h->items[i].folder, folder);
                char path[PATH_MAX];

                if (!rest || !*rest)
                        continue;
                (void)snprintf(path, sizeof path, "%s/%.*s", folder, (int)strcspn(rest, "/"), rest);
                r = allow_reading(s, h, path, err);
        }
        return r;
}

/* All in a folder ("" is the root) but for what is hidden. A link needs no leave: what it leads to has it or not. */
static int allow_reading(const struct sandbox *s, const struct hidden *h, const char *folder, struct error *err)
{
        _cleanup_(closedirp) DIR *d = opendir(*folder ? folder : "/");
        struct dirent *e;
        int r = d ? 0 : allow_on_the_way(s, h, folder, err);

        while (d && r >= 0 && (e = readdir(d))) {
                char path[PATH_MAX];

                if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || is_hidden(h, folder, e->d_name) ||
                    snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path)
                        continue;
                if (leads_to_hidden(h, path)) {
                        r = allow_reading(s, h, path, err);
                } else if (e->d_type != DT_LNK) {
                        _cleanup_(closep) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

                        r = allow_open(s, fd, path, READS, err);
                }
        }
        return r;
}

/* ---- Landlock as a whole */

/* A kernel without it is no error: the daemon says it once. */
static int enter_landlock(const struct assignment *a, bool ranks, struct error *err)
{
        _cleanup_(freep) struct hidden *hidden = NULL;
        int abi = system_landlock(), r = abi < ABI_LEAST ? 0 : read_hidden(&hidden, err);
        struct sandbox s = {.handled = CHANGES | (abi >= ABI_TRUNCATE ? TRUNCATE : 0) | (hidden ? READS : 0)};
        struct ruleset rules = {.handled_fs = s.handled,
                                .scoped = abi >= ABI_SCOPES ? SCOPED_SOCKETS | SCOPED_SIGNALS : 0};

        if (abi < ABI_LEAST || r < 0)
                return r;
        s.fd = (int)syscall(SYS_landlock_create_ruleset, &rules,
                            abi >= ABI_SCOPES ? sizeof rules : sizeof rules.handled_fs, 0);
        if (s.fd < 0)
                return error_set(err, -errno, NULL, "no sandbox by Landlock: %s", strerror(errno));
        /* devices are files that are written to; who may use which is not for this to say */
        r = allow(&s, "/dev", LANDLOCK_ACCESS_FS_WRITE_FILE | TRUNCATE, err);
        if (r >= 0 && hidden)
                r = allow_reading(&s, hidden, "", err);
        if (r >= 0)
                r = allow_assignment(&s, a, ranks, err);
        if (r >= 0 && syscall(SYS_landlock_restrict_self, s.fd, 0) < 0)
                r = error_set(err, -errno, NULL, "no sandbox by Landlock: %s", strerror(errno));
        (void)close(s.fd);
        return r;
}

/* ---- seccomp */

/* What no worker has a use for, and what would let one that was taken over reach other processes or the kernel's less
 * used parts. Those of LeakSanitizer and of ranks aside. */
static const int refused[] = {
        SCMP_SYS(process_vm_writev),
        SCMP_SYS(kcmp),
        SCMP_SYS(mount),
        SCMP_SYS(umount2),
        SCMP_SYS(move_mount),
        SCMP_SYS(open_tree),
        SCMP_SYS(fsopen),
        SCMP_SYS(fsmount),
        SCMP_SYS(fsconfig),
        SCMP_SYS(fspick),
        SCMP_SYS(mount_setattr),
        SCMP_SYS(pivot_root),
        SCMP_SYS(chroot),
        SCMP_SYS(unshare),
        SCMP_SYS(setns),
        SCMP_SYS(bpf),
        SCMP_SYS(perf_event_open),
        SCMP_SYS(userfaultfd),
        SCMP_SYS(io_uring_setup),
        SCMP_SYS(io_uring_enter),
        SCMP_SYS(io_uring_register),
        SCMP_SYS(add_key),
        SCMP_SYS(request_key),
        SCMP_SYS(keyctl),
        SCMP_SYS(init_module),
        SCMP_SYS(finit_module),
        SCMP_SYS(delete_module),
        SCMP_SYS(kexec_load),
        SCMP_SYS(kexec_file_load),
        SCMP_SYS(reboot),
        SCMP_SYS(swapon),
        SCMP_SYS(swapoff),
        SCMP_SYS(acct),
        SCMP_SYS(quotactl),
        SCMP_SYS(settimeofday),
        SCMP_SYS(clock_settime),
        SCMP_SYS(clock_adjtime),
        SCMP_SYS(adjtimex),
        SCMP_SYS(sethostname),
        SCMP_SYS(setdomainname),
        SCMP_SYS(open_by_handle_at),
        SCMP_SYS(name_to_handle_at),
        SCMP_SYS(syslog),
        SCMP_SYS(vhangup),
        SCMP_SYS(fanotify_init),
        SCMP_SYS(personality),
};

/* Of one process: ranks speak with each other and with mpirun. */
static int refuse_alone(scmp_filter_ctx filter)
{
        static const int families[] = {AF_INET, AF_INET6, AF_PACKET, AF_VSOCK, AF_BLUETOOTH, AF_ALG};
        int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(process_vm_readv), 0);

        for (size_t i = 0; i < ARRAY_LEN(families) && !r; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                                     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
        return r;
}

/* New namespaces by way of a new process; clone3 keeps its arguments where a filter cannot look, and libc does without.
 */
static int refuse_namespaces(scmp_filter_ctx filter)
{
        static const unsigned long flags[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,   CLONE_NEWNET,
                                              CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};
        int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

        for (size_t i = 0; i < ARRAY_LEN(flags) && !r; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                     SCMP_A0(SCMP_CMP_MASKED_EQ, flags[i], flags[i]));
        return r;
}

static int enter_seccomp(bool ranks, struct error *err)
{
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int r = filter ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) : -ENOMEM;

        for (size_t i = 0; i < ARRAY_LEN(refused) && !r; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
#ifndef __SANITIZE_ADDRESS__ /* LeakSanitizer traces the process at its end */
        if (!r)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ptrace), 0);
#endif
        if (!r)
                r = refuse_namespaces(filter);
        if (!r && !ranks)
                r = refuse_alone(filter);
        if (!r)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r ? error_set(err, r, NULL, "no sandbox by seccomp: %s", strerror(-r)) : 0;
}

/* ---- both */

int sandbox_enter(const struct assignment *a, bool ranks, struct error *err)
{
        const char *wanted = getenv("MULUN_SANDBOX");
        int r;

        if (wanted && !strcmp(wanted, "no"))
                return 0;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(err, -errno, NULL, "no sandbox: %s", strerror(errno));
        r = enter_landlock(a, ranks, err);
        return r < 0 ? r : enter_seccomp(ranks, err);
}
