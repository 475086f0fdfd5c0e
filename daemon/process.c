#include "daemon/process.h"

#include "base/clock.h"
#include "base/file.h"
#include "daemon/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

/* What a worker may need; a password or a token of the daemon's is not among it. */
static const char passed_on[] =
        "PATH HOME USER LOGNAME LANG LC_* TZ TMPDIR LD_LIBRARY_PATH OMP_* GOMP_* MULUN_* CUDA_* NVIDIA_* "
        "ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS LSAN_OPTIONS";

static const char *passed_on_too = ""; /* by the settings */

void process_pass_on(const char *names)
{
        passed_on_too = names;
}

int process_hide(const char *state, const char *key, struct error *err)
{
        _cleanup_(buf_done) struct buf list = BUF_INIT(8 * PATH_MAX);
        char resolved[PATH_MAX];
        int r = buf_printf(&list, err, "%s/mulund.db*\n%s/backups\n%s/webhooks", state, state, state);

        if (r >= 0 && *key)
                r = buf_printf(&list, err, "\n%s", realpath(key, resolved) ? resolved : key);
        if (r >= 0 && setenv("MULUN_HIDDEN", list.data, 1) < 0)
                r = error_set(err, -ENOMEM, NULL, "no memory for the environment of workers");
        return r;
}

/* Whether a list of names holds that of an entry NAME=value. */
static bool is_listed(const char *list, const char *entry)
{
        size_t n = strcspn(entry, "=");

        for (const char *p = list + strspn(list, " "); *p; p += strspn(p, " ")) {
                size_t m = strcspn(p, " ");
                bool any = p[m - 1] == '*';

                if (any ? n >= m - 1 && !memcmp(p, entry, m - 1) : n == m && !memcmp(p, entry, m))
                        return true;
                p += m;
        }
        return false;
}

static bool same_name(const char *a, const char *b)
{
        size_t n = strcspn(a, "=");

        return !strncmp(a, b, n) && b[n] == '=';
}

/* The entries are environ's own, and the one more. NULL without memory. */
static char **allowed_environment(char *entry)
{
        size_t n = 0, kept = 0;
        char **list;

        while (environ[n])
                n++;
        list = calloc(n + 2, sizeof *list);
        for (size_t i = 0; list && i < n; i++)
                if ((is_listed(passed_on, environ[i]) || is_listed(passed_on_too, environ[i])) &&
                    !(entry && same_name(entry, environ[i])))
                        list[kept++] = environ[i];
        if (list && entry)
                list[kept] = entry;
        return list;
}

static int spawn_with(const char *path, char *const argv[], const char *folder, const int fds[3],
                      posix_spawnattr_t *attr, posix_spawn_file_actions_t *actions, char *entry, pid_t *ret_pid)
{
        _cleanup_(freep) char **environment = allowed_environment(entry);
        sigset_t none, all;
        int r;

        (void)sigemptyset(&none);
        (void)sigfillset(&all);
        (void)posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        (void)posix_spawnattr_setpgroup(attr, 0);
        (void)posix_spawnattr_setsigmask(attr, &none);
        (void)posix_spawnattr_setsigdefault(attr, &all);
        for (int i = 0; i < 3; i++) {
                r = posix_spawn_file_actions_adddup2(actions, fds[i], i);
                if (r)
                        return r;
        }
        r = environment ? posix_spawn_file_actions_addchdir_np(actions, folder) : ENOMEM;
        return r ? r : posix_spawn(ret_pid, path, actions, attr, argv, environment);
}

/* When memory is short the daemon goes last: what the service manager has given it below 0 is not its programs'. */
static void spare_less(pid_t pid)
{
        char path[64], text[16];
        _cleanup_(closep) int fd = -1;

        (void)snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && read(fd, text, sizeof text) > 0 && text[0] == '-')
                (void)!pwrite(fd, "0", 1, 0); /* what it may not raise stays as it is */
}

int process_spawn(const char *path, char *const argv[], const char *folder, const int fds[3],
                  const struct process_place *place, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
        bool moved = false;
        cpu_set_t own;
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        pid_t pid;
        int r;

        if (posix_spawnattr_init(&attr) != 0)
                return error_set(err, -ENOMEM, path, "no memory to start it");
        if (posix_spawn_file_actions_init(&actions) != 0) {
                (void)posix_spawnattr_destroy(&attr);
                return error_set(err, -ENOMEM, path, "no memory to start it");
        }
        /* a process begins on the cores of the thread that makes it */
        if (place && place->cores && sched_getaffinity(0, sizeof own, &own) == 0)
                moved = sched_setaffinity(0, sizeof own, place->cores) == 0;
        r = spawn_with(path, argv, folder, fds, &attr, &actions, place ? place->entry : NULL, &pid);
        if (moved)
                (void)sched_setaffinity(0, sizeof own, &own);
        (void)posix_spawn_file_actions_destroy(&actions);
        (void)posix_spawnattr_destroy(&attr);
        if (r)
                return error_set(err, -r, path, "cannot be started: %s", strerror(r));
        spare_less(pid);
        *ret_pidfd = pidfd_open(pid, 0); /* close-on-exec; not reaped yet, so it is this process */
        if (*ret_pidfd < 0) {
                r = error_set(err, -errno, path, "cannot be watched: %s", strerror(errno));
                (void)kill(-pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
                return r;
        }
        *ret_pid = pid;
        return 0;
}

static int read_boot(char ret[sizeof((struct process_mark *)0)->boot], struct error *err)
{
        _cleanup_(buf_done) struct buf boot = BUF_INIT(4096);
        int r = file_read("/proc/sys/kernel/random/boot_id", &boot, err);

        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        if (!boot.data)
                return error_set(err, -EIO, NULL, "the kernel does not say which boot this is");
        (void)snprintf(ret, sizeof((struct process_mark *)0)->boot, "%.*s", (int)strcspn(boot.data, "\n"), boot.data);
        return 0;
}

int process_mark_read(int64_t pid, struct process_mark *ret, struct error *err)
{
        _cleanup_(buf_done) struct buf stat = BUF_INIT(4096);
        struct process_mark m = {0};
        char path[64];
        const char *at;
        int r = read_boot(m.boot, err);

        if (r < 0)
                return r;
        (void)snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
        r = file_read(path, &stat, err);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        at = stat.data ? strrchr(stat.data, ')') : NULL; /* the name before it may hold anything */
        for (int field = 2; at && field < 22; field++) {
                at = strchr(at, ' ');
                at = at ? at + 1 : NULL;
        }
        if (!at)
                return error_set(err, -EIO, path, "does not say when it started");
        m.start_ticks = strtoll(at, NULL, 10);
        *ret = m;
        return 0;
}

int64_t process_mark_age_us(const struct process_mark *mark)
{
        char boot[sizeof mark->boot];
        struct timespec now;

        if (mark->start_ticks <= 0 || read_boot(boot, NULL) < 0 || strcmp(boot, mark->boot) != 0 ||
            clock_gettime(CLOCK_BOOTTIME, &now) < 0)
                return -1;
        return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000 -
               mark->start_ticks * (US_PER_S / (int64_t)sysconf(_SC_CLK_TCK));
}

static bool has_open(int64_t pid, int fd, const char *path)
{
        char link[64], to[PATH_MAX];
        struct stat theirs, ours;
        ssize_t n;

        (void)snprintf(link, sizeof link, "/proc/%lld/fd/%d", (long long)pid, fd);
        n = readlink(link, to, sizeof to - 1);
        if (n <= 0)
                return false;
        to[n] = 0;
        return !strcmp(to, path) && stat(link, &theirs) == 0 && stat(path, &ours) == 0 &&
               theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

int process_find(int64_t pid, const struct process_mark *mark, const char *log)
{
        struct process_mark now;
        struct error err;
        int fd = pid > 0 && pid <= INT_MAX ? pidfd_open((pid_t)pid, 0) : -1;

        if (fd < 0)
                return -1;
        /* what is read is of the process of the pidfd as long as that has not ended afterwards */
        if (mark->start_ticks > 0 && process_mark_read(pid, &now, &err) >= 0 && now.start_ticks == mark->start_ticks &&
            !strcmp(now.boot, mark->boot) && (has_open(pid, STDERR_FILENO, log) || has_open(pid, STDOUT_FILENO, log)) &&
            poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 0)
                return fd;
        (void)close(fd);
        return -1;
}

struct helper {
        struct loop *loop;
        pid_t pid;
        int pidfd, in, out;
        struct source *pidfd_source, *in_source, *out_source, *timer;
        char *input;
        size_t input_size, input_sent;
        struct buf output;
        int refused; /* its output could not be read or kept: -E2BIG, -ENOMEM, .. */
        bool too_long;
        helper_done *done;
        void *user;
};

static void helper_free(struct helper *h)
{
        (void)loop_remove(h->loop, h->pidfd_source);
        (void)loop_remove(h->loop, h->in_source);
        (void)loop_remove(h->loop, h->out_source);
        (void)loop_remove(h->loop, h->timer);
        if (h->pid > 0) {
                (void)kill(-h->pid, SIGKILL);
                (void)waitpid(h->pid, NULL, 0);
        }
        closep(&h->pidfd);
        closep(&h->in);
        closep(&h->out);
        buf_done(&h->output);
        free(h->input);
        free(h);
}

struct helper *helper_cancel(struct helper *h)
{
        if (h)
                helper_free(h);
        return NULL;
}

static void drop(struct helper *h, struct source **s, int *fd)
{
        *s = loop_remove(h->loop, *s);
        closep(fd);
        *fd = -1;
}

static void on_in(void *user, uint32_t events _unused_)
{
        struct helper *h = user;
        ssize_t n = write(h->in, h->input + h->input_sent, h->input_size - h->input_sent);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n > 0)
                h->input_sent += (size_t)n;
        if (n < 0 || h->input_sent == h->input_size)
                drop(h, &h->in_source, &h->in); /* a program that does not want its input is no failure */
}

/* False when there is no more for now. */
static bool read_some(struct helper *h)
{
        char chunk[4096];
        ssize_t n = read(h->out, chunk, sizeof chunk);

        if (n < 0 && errno == EINTR)
                return true;
        if (n < 0 && errno == EAGAIN)
                return false;
        if (n <= 0) {
                h->refused = n < 0 ? -errno : 0;
                drop(h, &h->out_source, &h->out);
                return false;
        }
        h->refused = buf_append(&h->output, chunk, (size_t)n, NULL);
        if (h->refused < 0) {
                (void)kill(-h->pid, SIGKILL);
                drop(h, &h->out_source, &h->out);
                return false;
        }
        return true;
}

static void on_out(void *user, uint32_t events _unused_)
{
        (void)read_some(user);
}

static void on_timeout(void *user)
{
        struct helper *h = user;

        h->timer = NULL;
        h->too_long = true;
        (void)kill(-h->pid, SIGKILL);
}

static void on_end(void *user, uint32_t events _unused_)
{
        struct helper *h = user;
        siginfo_t info = {0};
        struct error err = {0};
        int status, r = 0;

        if (h->out >= 0)
                while (read_some(h))
                        ;
        (void)kill(-h->pid, SIGKILL); /* what it left behind; it still holds its own id until it is reaped */
        (void)waitid(P_PIDFD, (id_t)h->pidfd, &info, WEXITED);
        h->pid = 0;
        status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        if (h->too_long)
                r = error_set(&err, -ETIMEDOUT, NULL, "it took too long");
        else if (h->refused == -E2BIG)
                r = error_set(&err, -E2BIG, NULL, "it wrote more than %zu bytes", h->output.ceiling);
        else if (h->refused < 0)
                r = error_set(&err, h->refused, NULL, "what it wrote cannot be kept: %s", strerror(-h->refused));
        h->done(h->user, r, status, &h->output, &err);
        helper_free(h);
}

static int watch(struct helper *h, int64_t timeout_us, struct error *err)
{
        int r = loop_add_fd(h->loop, h->pidfd, EPOLLIN, on_end, h, &h->pidfd_source, err);

        if (r >= 0 && h->input_size)
                r = loop_add_fd(h->loop, h->in, EPOLLOUT, on_in, h, &h->in_source, err);
        else
                drop(h, &h->in_source, &h->in);
        if (r >= 0)
                r = loop_add_fd(h->loop, h->out, EPOLLIN, on_out, h, &h->out_source, err);
        if (r >= 0)
                r = loop_add_timer(h->loop, clock_monotonic_us() + timeout_us, on_timeout, h, &h->timer, err);
        return r;
}

int helper_run(struct loop *l, const char *path, char *const argv[], const char *input,
               const struct process_place *place, int64_t timeout_us, size_t max_output, helper_done *done, void *user,
               struct helper **ret, struct error *err)
{
        int in[2] = {-1, -1}, out[2] = {-1, -1}, fds[3], r = 0;
        struct helper *h = calloc(1, sizeof *h);

        if (!h)
                return error_set(err, -ENOMEM, path, "no memory to start it");
        *h = (struct helper){.loop = l,
                             .pidfd = -1,
                             .in = -1,
                             .out = -1,
                             .output = BUF_INIT(max_output),
                             .done = done,
                             .user = user};
        h->input = strdup(input ? input : "");
        if (!h->input)
                r = error_set(err, -ENOMEM, path, "no memory to start it");
        else if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
                r = error_set(err, -errno, path, "no pipe: %s", strerror(errno));
        if (r >= 0) {
                h->input_size = strlen(h->input);
                fds[0] = in[0];
                fds[1] = out[1];
                fds[2] = STDERR_FILENO;
                r = process_spawn(path, argv, "/", fds, place, &h->pid, &h->pidfd, err);
        }
        h->in = in[1];
        h->out = out[0];
        closep(&in[0]);
        closep(&out[1]);
        if (r >= 0) {
                (void)fcntl(h->in, F_SETFL, O_NONBLOCK);
                (void)fcntl(h->out, F_SETFL, O_NONBLOCK);
                r = watch(h, timeout_us, err);
        }
        if (r < 0) {
                helper_free(h);
                return r;
        }
        if (ret)
                *ret = h;
        return 0;
}
