/* Preloaded into a program under test: one call of it fails once, as a sick host would make it fail.
 *
 * Which call is said by its place and not by its number, since threads make numbers differ from run to run. A place is
 * the call's name with the return addresses above it that lie in the program itself (relative to where it was loaded)
 * and the library that calls: so all that SQLite allocates for one statement of ours is one place, and a place is the
 * same in every run of one build. A call without the program on its stack (a thread of libmicrohttpd) goes by the
 * addresses nearest to it.
 *
 *   FAULT_PROGRAM   the program's file name: all others that inherit this library are left alone
 *   FAULT_RECORD    a file: each place's first call adds a line "NAME PLACE ADDRESS.." (of the program, for addr2line)
 *   FAULT_PLACE     in hexadecimal: this one fails
 *   FAULT_SKIP      so many calls of that place succeed before
 *   FAULT_WITH      the errno, or "short": half of the bytes are read or written
 *   FAULT_PAGE      a file that is shared by all processes of a scenario, struct page: once means once in all of them
 *
 * Calls are made by syscall(2), so nothing here depends on what it replaces; memory comes from glibc's own names. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 32
#define OWN_FRAMES 2 /* decide() and the call's replacement */
#define NEAR 6       /* addresses that make a place where the program is not on the stack */
#define MODULES_MAX 64
#define SEEN_MAX 65536 /* a power of two */
#define SHORT (-1)
#define EXPORT __attribute__((visibility("default")))

enum call {
#define C(name) CALL_##name,
#include "calls.def"
#undef C
        CALL_N
};
static const char *const names[CALL_N] = {
#define C(name) #name,
#include "calls.def"
#undef C
};

struct module {
        uintptr_t begin, end;
};

struct page {
        _Atomic uint64_t calls; /* of the place */
        _Atomic uint64_t fired;
        char what[240];
};

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static struct module modules[MODULES_MAX]; /* the first is the program */
static size_t n_modules;
static bool active;
static int record = -1, with;
static uint64_t place, skip;
static struct page *page;
static _Atomic uint64_t seen[SEEN_MAX];
static __thread bool inside;
static int (*real_spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                         char *const[], char *const[]);

static int add_module(struct dl_phdr_info *info, size_t size, void *user)
{
        uintptr_t end = 0;

        (void)size;
        (void)user;
        for (int i = 0; i < info->dlpi_phnum; i++)
                if (info->dlpi_phdr[i].p_type == PT_LOAD)
                        end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        if (n_modules < MODULES_MAX)
                modules[n_modules++] = (struct module){info->dlpi_addr, end};
        return 0;
}

static size_t module_of(uintptr_t address)
{
        size_t i = 0;

        while (i < n_modules && (address < modules[i].begin || address >= modules[i].end))
                i++;
        return i;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
        hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
        return hash * 0xff51afd7ed558ccdu;
}

/* ret: the program's addresses, *ret_n of them. */
static uint64_t find_place(enum call c, uintptr_t ret[DEPTH], size_t *ret_n)
{
        void *stack[DEPTH];
        int n = backtrace(stack, DEPTH);
        uint64_t hash = mix(17, c);
        size_t own = 0;

        if (n > OWN_FRAMES)
                hash = mix(hash, module_of((uintptr_t)stack[OWN_FRAMES]));
        for (int i = OWN_FRAMES; i < n; i++)
                if (module_of((uintptr_t)stack[i]) == 0)
                        ret[own++] = (uintptr_t)stack[i] - modules[0].begin;
        for (size_t i = 0; i < own; i++)
                hash = mix(hash, ret[i]);
        for (int i = OWN_FRAMES; !own && i < n && i < OWN_FRAMES + NEAR; i++) {
                size_t m = module_of((uintptr_t)stack[i]);

                hash = mix(hash, m < n_modules ? (uintptr_t)stack[i] - modules[m].begin : 0);
        }
        *ret_n = own;
        return hash;
}

static bool is_new(uint64_t hash)
{
        for (uint64_t i = hash;; i++) {
                uint64_t nobody = 0;

                if (atomic_compare_exchange_strong(&seen[i % SEEN_MAX], &nobody, hash))
                        return true;
                if (nobody == hash)
                        return false;
        }
}

static void write_down(enum call c, uint64_t hash, const uintptr_t *own, size_t n)
{
        char line[DEPTH * 20 + 64];
        int size = snprintf(line, sizeof line, "%s %016llx", names[c], (unsigned long long)hash);

        for (size_t i = 0; i < n; i++)
                size += snprintf(line + size, sizeof line - (size_t)size, " %llx", (unsigned long long)own[i]);
        line[size++] = '\n';
        (void)syscall(SYS_write, record, line, size);
}

/* 0: the call is made; else what it fails with. about: a path, or NULL. */
static __attribute__((noinline)) int decide(enum call c, const char *about)
{
        uintptr_t own[DEPTH];
        int result = 0, saved = errno;
        uint64_t hash;
        size_t n;

        if (!active || inside)
                return 0;
        inside = true;
        hash = find_place(c, own, &n);
        if (record >= 0 && is_new(hash))
                write_down(c, hash, own, n);
        if (page && hash == place && atomic_fetch_add(&page->calls, 1) == skip) {
                (void)snprintf(page->what, sizeof page->what, "%s of process %d: %s", names[c], (int)getpid(),
                               about ? about : "");
                atomic_store(&page->fired, 1);
                result = with;
        }
        inside = false;
        errno = saved;
        return result;
}

static const char *variable(const char *name)
{
        const char *value = getenv(name);

        return value && *value ? value : NULL;
}

static __attribute__((constructor)) void begin(void)
{
        const char *program = variable("FAULT_PROGRAM"), *path = variable("FAULT_RECORD");
        void *warm[1];
        int fd;

        if (!program || strcmp(program, program_invocation_short_name) != 0)
                return;
        (void)backtrace(warm, 1); /* it loads a library the first time */
        (void)dl_iterate_phdr(add_module, NULL);
        real_spawn = (__typeof__(real_spawn))dlsym(RTLD_NEXT, "posix_spawn");
        if (path)
                record = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        path = variable("FAULT_PAGE");
        fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
        if (fd >= 0) {
                void *p = (void *)syscall(SYS_mmap, NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

                page = p == MAP_FAILED ? NULL : p;
                (void)syscall(SYS_close, fd);
                place = strtoull(variable("FAULT_PLACE") ?: "0", NULL, 16);
                skip = strtoull(variable("FAULT_SKIP") ?: "0", NULL, 10);
                with = !strcmp(variable("FAULT_WITH") ?: "", "short") ? SHORT : atoi(variable("FAULT_WITH") ?: "5");
        }
        active = true;
}

/* The error, or the call with half of its size where that is possible. */
#define FAIL(c, about)                                                                                                 \
        do {                                                                                                           \
                int e_ = decide(CALL_##c, about);                                                                      \
                if (e_ > 0) {                                                                                          \
                        errno = e_;                                                                                    \
                        return -1;                                                                                     \
                }                                                                                                      \
        } while (0)
#define FAIL_OR_HALVE(c, size)                                                                                         \
        do {                                                                                                           \
                int e_ = decide(CALL_##c, NULL);                                                                       \
                if (e_ > 0) {                                                                                          \
                        errno = e_;                                                                                    \
                        return -1;                                                                                     \
                }                                                                                                      \
                if (e_ == SHORT && (size) > 1)                                                                         \
                        (size) /= 2;                                                                                   \
        } while (0)
#define MODE(flags, last)                                                                                              \
        __extension__({                                                                                                \
                mode_t mode_ = 0;                                                                                      \
                va_list ap_;                                                                                           \
                va_start(ap_, last);                                                                                   \
                if ((flags) & (O_CREAT | O_TMPFILE))                                                                   \
                        mode_ = va_arg(ap_, mode_t);                                                                   \
                va_end(ap_);                                                                                           \
                mode_;                                                                                                 \
        })

EXPORT int open(const char *path, int flags, ...)
{
        mode_t mode = MODE(flags, flags);

        FAIL(open, path);
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
        mode_t mode = MODE(flags, flags);

        FAIL(open, path);
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

EXPORT int openat(int folder, const char *path, int flags, ...)
{
        mode_t mode = MODE(flags, flags);

        FAIL(openat, path);
        return (int)syscall(SYS_openat, folder, path, flags, mode);
}

/* An eventfd or a signalfd: they have no disk, no memory and no signal to fail by. */
static bool is_anonymous(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

EXPORT ssize_t read(int fd, void *data, size_t size)
{
        if (!is_anonymous(fd))
                FAIL_OR_HALVE(read, size);
        return syscall(SYS_read, fd, data, size);
}

EXPORT ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
        FAIL_OR_HALVE(pread, size);
        return syscall(SYS_pread64, fd, data, size, offset);
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off_t offset)
{
        FAIL_OR_HALVE(pread, size);
        return syscall(SYS_pread64, fd, data, size, offset);
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
        if (!is_anonymous(fd))
                FAIL_OR_HALVE(write, size);
        return syscall(SYS_write, fd, data, size);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
        FAIL_OR_HALVE(pwrite, size);
        return syscall(SYS_pwrite64, fd, data, size, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
        FAIL_OR_HALVE(pwrite, size);
        return syscall(SYS_pwrite64, fd, data, size, offset);
}

EXPORT int fsync(int fd)
{
        FAIL(fsync, NULL);
        return (int)syscall(SYS_fsync, fd);
}

EXPORT int fdatasync(int fd)
{
        FAIL(fdatasync, NULL);
        return (int)syscall(SYS_fdatasync, fd);
}

EXPORT int ftruncate(int fd, off_t size)
{
        FAIL(ftruncate, NULL);
        return (int)syscall(SYS_ftruncate, fd, size);
}

EXPORT int ftruncate64(int fd, off_t size)
{
        FAIL(ftruncate, NULL);
        return (int)syscall(SYS_ftruncate, fd, size);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size)
{
        FAIL(fallocate, NULL);
        return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

EXPORT int fallocate64(int fd, int mode, off_t offset, off_t size)
{
        FAIL(fallocate, NULL);
        return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

EXPORT int rename(const char *from, const char *to)
{
        FAIL(rename, to);
        return (int)syscall(SYS_rename, from, to);
}

EXPORT int unlink(const char *path)
{
        FAIL(unlink, path);
        return (int)syscall(SYS_unlink, path);
}

EXPORT int unlinkat(int folder, const char *path, int flags)
{
        FAIL(unlink, path);
        return (int)syscall(SYS_unlinkat, folder, path, flags);
}

EXPORT int link(const char *from, const char *to)
{
        FAIL(link, to);
        return (int)syscall(SYS_link, from, to);
}

EXPORT int mkdir(const char *path, mode_t mode)
{
        FAIL(mkdir, path);
        return (int)syscall(SYS_mkdir, path, mode);
}

EXPORT int pipe2(int fds[2], int flags)
{
        FAIL(pipe2, NULL);
        return (int)syscall(SYS_pipe2, fds, flags);
}

EXPORT int socket(int domain, int type, int protocol)
{
        FAIL(socket, NULL);
        return (int)syscall(SYS_socket, domain, type, protocol);
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t size)
{
        FAIL(connect, NULL);
        return (int)syscall(SYS_connect, fd, address, size);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
        FAIL(accept4, NULL);
        return (int)syscall(SYS_accept4, fd, address, size, flags);
}

EXPORT ssize_t send(int fd, const void *data, size_t size, int flags)
{
        FAIL_OR_HALVE(send, size);
        return syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
}

EXPORT ssize_t recv(int fd, void *data, size_t size, int flags)
{
        FAIL_OR_HALVE(recv, size);
        return syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL);
}

EXPORT int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
        if (what != EPOLL_CTL_DEL) /* which cannot fail for the host's sake */
                FAIL(epoll_ctl, NULL);
        return (int)syscall(SYS_epoll_ctl, epoll, what, fd, event);
}

EXPORT int pidfd_open(pid_t pid, unsigned flags)
{
        FAIL(pidfd_open, NULL);
        return (int)syscall(SYS_pidfd_open, pid, flags);
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
        int e = decide(CALL_posix_spawn, path);

        if (e > 0)
                return e;
        if (!real_spawn)
                real_spawn = (__typeof__(real_spawn))dlsym(RTLD_NEXT, "posix_spawn");
        return real_spawn(pid, path, actions, attributes, argv, envp);
}

EXPORT void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
        int e = decide(CALL_mmap, NULL);

        if (e > 0) {
                errno = e;
                return MAP_FAILED;
        }
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

EXPORT void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
        int e = decide(CALL_mmap, NULL);

        if (e > 0) {
                errno = e;
                return MAP_FAILED;
        }
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

static bool no_memory(int e)
{
        if (e > 0)
                errno = ENOMEM;
        return e > 0;
}

EXPORT void *malloc(size_t size)
{
        return no_memory(decide(CALL_malloc, NULL)) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
        return no_memory(decide(CALL_calloc, NULL)) ? NULL : __libc_calloc(n, size);
}

EXPORT void *realloc(void *p, size_t size)
{
        return no_memory(decide(CALL_realloc, NULL)) ? NULL : __libc_realloc(p, size);
}

EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
        size_t bytes;

        if (__builtin_mul_overflow(n, size, &bytes) || no_memory(decide(CALL_realloc, NULL))) {
                errno = ENOMEM;
                return NULL;
        }
        return __libc_realloc(p, bytes);
}
