/* mulund: the order in which things start and stop. */
#include "daemon/channel.h"
#include "daemon/daemon.h"
#include "daemon/retention.h"
#include "daemon/worker.h"

#include "base/clock.h"
#include "contract/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define CEPH_SUPER_MAGIC 0x00c36400 /* not in older headers */
#define DESCRIPTORS_MAX 65536
#define DESCRIPTORS_RESERVED 256   /* workers, their pipes and sockets, the store, logs */
#define DRAIN_US (500 * US_PER_MS) /* of a SIGTERM's second */
#define LOCK_TRIES 25
#define LOCK_PAUSE_NS 20000000 /* half a second in all */

static void on_term(void *user, int signal)
{
        struct daemon *d = user;

        log_info("%s: ends; workers go on", signal == SIGINT ? "SIGINT" : "SIGTERM");
        d->terminated = true;
        loop_quit(d->loop);
}

/* A terminal that closes, a log rotation, a mistaken kill: none of them is a reason to end. */
static void on_ignored(void *user _unused_, int signal)
{
        log_info("%s: there is nothing to do on it", strsignal(signal));
}

static int handle_signals(struct daemon *d, struct error *err)
{
        static const struct {
                int signal;
                void (*handler)(void *user, int signal);
        } signals[] = {{SIGTERM, on_term},
                       {SIGINT, on_term},
                       {SIGHUP, on_ignored},
                       {SIGUSR1, on_ignored},
                       {SIGUSR2, on_ignored}};
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ARRAY_LEN(signals); i++)
                r = loop_add_signal(d->loop, signals[i].signal, signals[i].handler, d, err);
        return r;
}

/* As many descriptors as may be had; what clients may take of them (a socket and a file each) is what is left when
 * workers, the store and the log have theirs. */
static int claim_descriptors(size_t *ret_connections, struct error *err)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return error_set(err, -errno, NULL, "the limit of descriptors is unknown: %s", strerror(errno));
        limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)DESCRIPTORS_MAX);
        if (limit.rlim_cur < 2 * DESCRIPTORS_RESERVED)
                return error_set(err, -EMFILE, NULL, "at most %llu descriptors are allowed: %d are needed (ulimit -n)",
                                 (unsigned long long)limit.rlim_cur, 2 * DESCRIPTORS_RESERVED);
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                return error_set(err, -errno, NULL, "descriptors cannot be had: %s", strerror(errno));
        *ret_connections = ((size_t)limit.rlim_cur - DESCRIPTORS_RESERVED) / 2;
        return 0;
}

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
        if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
                log_warning("%s: the pid cannot be written: %s", path, strerror(errno));
        *ret_fd = fd;
        fd = -1;
        return 0;
}

/* SQLite's log needs memory that processes share, and locks that hold. */
static int check_file_system(const char *state, struct error *err)
{
        static const long remote[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,  CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
                                      AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, V9FS_MAGIC,       CEPH_SUPER_MAGIC};
        struct statfs st;

        if (statfs(state, &st) < 0)
                return error_set(err, -errno, state, "its file system is unknown: %s", strerror(errno));
        for (size_t i = 0; i < ARRAY_LEN(remote); i++)
                if ((unsigned long)st.f_type == (unsigned long)remote[i])
                        return error_set(err, -EXDEV, state,
                                         "the state is on a network file system: give --state on a local disk");
        return 0;
}

static int open_state(struct daemon *d, int *ret_lock, struct error *err)
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
        if (access(s->state, R_OK | W_OK | X_OK) < 0)
                return error_set(err, -errno, s->state, "the state folder cannot be used: %s", strerror(errno));
        if (text_valid_utf8(s->state, strlen(s->state)) != strlen(s->state))
                return error_set(err, -EILSEQ, "--state", "the folder's path (its links resolved) is not UTF-8");
        r = check_owner(s->state, err);
        if (r >= 0)
                r = check_file_system(s->state, err);
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

static int check_folder(const char *path, const char *option, bool given, struct error *err)
{
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                return 0;
        if (given)
                return error_set(err, -ENOTDIR, path, "%s: there is no such folder", option);
        log_warning("%s: there is no such folder: give %s DIR", path, option);
        return 0;
}

/* Made absolute: programs begin in another folder. */
static int check_worker(struct settings *s, struct error *err)
{
        char absolute[PATH_MAX];
        struct stat st;

        if (realpath(s->worker, absolute))
                (void)snprintf(s->worker, sizeof s->worker, "%s", absolute);
        if (stat(s->worker, &st) < 0)
                return error_set(err, -errno, s->worker,
                                 "the worker's program cannot be found (%s): give --worker PATH", strerror(errno));
        if (!S_ISREG(st.st_mode) || access(s->worker, X_OK) < 0)
                return error_set(err, -EACCES, s->worker, "the worker's program cannot be run: give --worker PATH");
        return 0;
}

static int start_server(struct daemon *d, struct error *err)
{
        struct server_settings s = {
                .address = d->settings.listen,
                .state_folder = d->settings.state,
                .web_folder = d->settings.web,
                .configs_folder = d->settings.configs,
                .store = d->store,
                .control = &d->control,
                .threads = 2,
                .connections = d->connections,
                .max_body_bytes = (size_t)1 << 20,
        };
        int r = server_new(&s, &d->server, err);

        if (r == -EADDRINUSE)
                return error_set(err, r, d->settings.listen_text,
                                 "the address is in use: stop what listens there, or give another --listen");
        if (r >= 0)
                log_info("listens on http://127.0.0.1:%d/: serves a single user there, without authentication",
                         server_port(d->server));
        return r;
}

static int start(struct daemon *d, int *ret_lock, struct error *err)
{
        int r = loop_new(&d->loop, err);

        /* blocked before any thread is made */
        if (r >= 0)
                r = handle_signals(d, err);
        if (r >= 0)
                r = claim_descriptors(&d->connections, err);
        if (r >= 0)
                r = open_state(d, ret_lock, err);
        if (r >= 0)
                r = check_worker(&d->settings, err);
        if (r >= 0)
                r = check_folder(d->settings.web, "--web", d->settings.web_given, err);
        if (r >= 0)
                r = check_folder(d->settings.configs, "--configs", d->settings.configs_given, err);
        if (r >= 0)
                r = store_open(d->settings.state, &d->store, err);
        if (r >= 0)
                r = reader_open(d->store, &d->reader, err);
        if (r >= 0)
                r = devices_find(d, err);
        if (r >= 0 && !d->terminated)
                r = datasets_describe(d, err);
        if (r >= 0 && d->terminated)
                r = error_set(err, -ECANCELED, NULL, "told to end before it served");
        if (r >= 0)
                r = channel_open(d, d->socket, &d->channel, err);
        if (r >= 0)
                r = recover(d, err);
        return r < 0 ? r : start_server(d, err);
}

static void on_drained(void *user)
{
        loop_quit(((struct daemon *)user)->loop);
}

/* Writes that are on their way get half a second to be answered. */
static void drain(struct daemon *d)
{
        struct source *timer = NULL;
        struct error err;

        d->stopping = true; /* nothing new begins */
        d->quit_timer = loop_remove(d->loop, d->quit_timer);
        d->stop_timer = loop_remove(d->loop, d->stop_timer);
        d->schedule_timer = loop_remove(d->loop, d->schedule_timer);
        d->disk_timer = loop_remove(d->loop, d->disk_timer);
        if (!d->commits || loop_add_timer(d->loop, clock_monotonic_us() + DRAIN_US, on_drained, d, &timer, &err) < 0)
                return;
        d->draining = true;
        (void)loop_run(d->loop, &err);
        (void)loop_remove(d->loop, timer);
}

/* Connections close first, so that workers spool; no process is touched. */
static void stop(struct daemon *d)
{
        if (d->loop) {
                control_close(d);
                d->channel = channel_close(d->channel);
                drain(d);
                control_end(d);
        }
        d->server = server_free(d->server);
        if (d->loop)
                worker_forget_all(d);
        d->reader = reader_close(d->reader);
        d->store = store_close(d->store);
        retention_done(d);
        queue_done(&d->queue);
        estimates_done(d);
        d->loop = loop_free(d->loop);
}

static int run(struct daemon *d)
{
        _cleanup_(closep) int lock = -1;
        struct error err = {0};
        int r = start(d, &lock, &err);

        if (r >= 0) {
                daemon_schedule(d);
                r = loop_run(d->loop, &err);
        }
        if (r < 0)
                log_error("%s%s%s", err.path, err.path[0] ? ": " : "", err.text);
        stop(d);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        static struct daemon d;
        struct error err = {0};

        if (settings_parse(argc, argv, &d.settings, &err) < 0) {
                (void)fprintf(stderr, "mulund: %s%s%s\n", err.path, err.path[0] ? ": " : "", err.text);
                if (err.code == -EINVAL)
                        (void)fprintf(stderr, "Try mulund --help.\n");
                return err.code == -EINVAL ? 2 : EXIT_FAILURE;
        }
        if (d.settings.help || d.settings.version) {
                (void)printf("%s", d.settings.help ? settings_usage : "mulund " MULUND_VERSION "\n");
                return EXIT_SUCCESS;
        }
        (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN);
        control_init(&d);
        return run(&d);
}
