/* One thread, which sleeps until a rank says something, ends, or somebody asks it to stop. A rank that fails says why
 * and waits: its end would have mpirun end the others, before the first could say a reason of its own. Processes are
 * watched by pidfd, since ranks under mpirun are no children of this one; one that is gone without its last word has
 * failed, too. */
#include "worker/launcher.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/system.h"
#include "worker/channel.h"
#include "worker/rank.h"
#include "worker/reporter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* For the first rank to say why it fails, after another has said it. */
#define GRACE_US (2 * US_PER_S)
/* For mpirun to end once its ranks are gone. */
#define ENDING_US (5 * US_PER_S)
#define DRAIN_MS 5000

struct started {
        int pidfd; /* -1: not begun, or gone */
        bool begun, ended;
};

struct launcher {
        struct assignment *a;
        int n;
        struct started ranks[ASSIGNMENT_DEVICES_MAX];
        pid_t children[ASSIGNMENT_DEVICES_MAX]; /* mpirun, or the ranks; 0: reaped */
        int n_children;
        int words, signals;
        sigset_t mask; /* before this one's */
        bool stop;     /* was asked for */
        bool told;     /* the outcome is in the spool */
        bool failed;   /* first is why */
        struct rank_word first;
        int64_t failed_us, killed_us; /* monotonic; 0: not yet */
};

int launcher_ranks(const struct assignment *a, int asked)
{
        if (a->kind != JOB_TRAIN && a->kind != JOB_EVALUATE)
                return 1;
        if (a->n_devices)
                return (int)a->n_devices;
        return asked ? asked
                     : job_devices(a->kind, json_integer_value(
                                                    json_object_get(json_object_get(a->config, "machine"), "devices")));
}

/* ---- devices that nobody has named */

/* Part i of n of the cores that the process may use; all where there are fewer. */
static void part_of_cores(int i, int n, char *ret, size_t size)
{
        cpu_set_t own, part;
        int count, first, last, at = 0;

        CPU_ZERO(&own);
        CPU_ZERO(&part);
        (void)sched_getaffinity(0, sizeof own, &own);
        count = CPU_COUNT(&own);
        first = count < n ? 0 : count * i / n;
        last = count < n ? count : count * (i + 1) / n;
        for (int core = 0; core < CPU_SETSIZE; core++)
                if (CPU_ISSET(core, &own) && at++ < last && at > first)
                        CPU_SET(core, &part);
        system_cores_text(&part, ret, size);
}

/* GPU i of those that the process may see. */
static void one_gpu(int i, char *ret, size_t size)
{
        const char *seen = getenv("CUDA_VISIBLE_DEVICES");

        (void)snprintf(ret, size, "%d", i);
        if (!seen || !*seen)
                return;
        for (; i > 0 && seen; i--) {
                seen = strchr(seen, ',');
                seen = seen ? seen + 1 : NULL;
        }
        (void)snprintf(ret, size, "%.*s", seen ? (int)strcspn(seen, ",") : 4, seen ? seen : "none");
}

static int name_devices(struct assignment *a, bool cuda, int n, struct error *err)
{
        char place[PATH_MAX], name[32];

        a->devices = calloc((size_t)n, sizeof *a->devices);
        for (int i = 0; a->devices && i < n; i++) {
                if (cuda)
                        one_gpu(i, place, sizeof place);
                else
                        part_of_cores(i, n, place, sizeof place);
                (void)snprintf(name, sizeof name, "%s%d", cuda ? "gpu" : "cpu", i);
                a->devices[i] = (struct assignment_device){strdup(name), strdup(place)};
                a->n_devices++;
                if (!a->devices[i].name || !a->devices[i].place)
                        return error_set(err, -ENOMEM, NULL, "out of memory");
        }
        return a->devices ? 0 : error_set(err, -ENOMEM, NULL, "out of memory");
}

/* ---- starting */

/* At the number where the ranks look for it; close-on-exec. */
static int share(int fd, enum rank_fd number, struct error *err)
{
        int r = fd < 0 ? -1 : dup3(fd, number, O_CLOEXEC);

        if (fd >= 0)
                (void)close(fd);
        return r < 0 ? error_set(err, -errno, NULL, "cannot share with the ranks: %s", strerror(errno)) : 0;
}

static int share_assignment(const struct assignment *a, struct error *err)
{
        _cleanup_json_ json_t *json = assignment_to_json(a);
        _cleanup_(freep) char *text = json ? json_to_text(json) : NULL;
        int fd = text ? memfd_create("assignment", MFD_CLOEXEC) : -1;

        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory for the assignment");
        for (size_t at = 0; fd >= 0 && text[at];) {
                ssize_t n = write(fd, text + at, strlen(text + at));

                if (n < 0) {
                        (void)close(fd);
                        return error_set(err, -errno, NULL, "cannot write the assignment: %s", strerror(errno));
                }
                at += (size_t)n;
        }
        return share(fd, RANK_FD_ASSIGNMENT, err);
}

static int share_all(struct launcher *x, struct error *err)
{
        int words[2] = {-1, -1}, meet[2] = {-1, -1}, r = share_assignment(x->a, err);

        if (r >= 0 && (pipe2(words, O_CLOEXEC) < 0 || pipe2(meet, O_CLOEXEC) < 0))
                return error_set(err, -errno, NULL, "cannot make a pipe: %s", strerror(errno));
        if (r < 0)
                return r;
        x->words = words[0];
        (void)fcntl(x->words, F_SETFL, O_NONBLOCK);
        r = share(words[1], RANK_FD_WORDS, err);
        /* Both ends are opened through this one; the other stays open, so that who reads waits for who writes. */
        return r < 0 ? r : share(meet[0], RANK_FD_MEET, err);
}

static int watch_signals(struct launcher *x, struct error *err)
{
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGCHLD);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        (void)sigprocmask(SIG_BLOCK, &set, &x->mask);
        x->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return x->signals < 0 ? error_set(err, -errno, NULL, "cannot watch signals: %s", strerror(errno)) : 0;
}

/* In a group of its own: what ends this one's group (a terminal's interrupt) is for this one to hand on. */
static int start(struct launcher *x, char *const argv[], const sigset_t *mask, struct error *err)
{
        pid_t own = getpid(), pid = fork();

        if (pid < 0)
                return error_set(err, -errno, argv[0], "cannot be started: %s", strerror(errno));
        if (pid == 0) {
                int null = open("/dev/null", O_RDONLY);

                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != own)
                        _exit(1);
                (void)setpgid(0, 0);
                (void)dup2(null, STDIN_FILENO);
                (void)sigprocmask(SIG_SETMASK, mask, NULL);
                (void)execvp(argv[0], argv);
                log_error("%s: cannot be started: %s", argv[0], strerror(errno));
                _exit(1);
        }
        x->children[x->n_children++] = pid;
        return 0;
}

#define NUMBER_SIZE 12

/* As root, in a container, more ranks than slots or cores; ranks place themselves; no other host is asked for. Memory
 * that two of them share is copied through a third place, since reading another's is often not permitted. */
#define MPIRUN                                                                                                         \
        "mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-q", "--mca", "plm", "isolated",     \
                "--mca", "btl", "self,vader", "--mca", "btl_vader_single_copy_mechanism", "none"

/* What ends a whole group (a service manager, a terminal) also asks mpirun to end, which would kill the ranks a second
 * later, in the middle of a step: it is not to hear that. Ranks are asked by the launcher, write a checkpoint and end,
 * and mpirun with them; it unblocks signals for what it starts. */
static int start_by_mpirun(struct launcher *x, char *self, char *own, struct error *err)
{
        static const char *const before[] = {MPIRUN};
        char numbers[ASSIGNMENT_DEVICES_MAX][NUMBER_SIZE];
        char *argv[ARRAY_LEN(before) + 7 * ASSIGNMENT_DEVICES_MAX + 1];
        sigset_t mask = x->mask;
        size_t k = 0;

        for (; k < ARRAY_LEN(before); k++)
                argv[k] = (char *)before[k];
        for (int i = 0; i < x->n; i++) {
                char *rank[] = {(char *)":", (char *)"-np", (char *)"1", self, (char *)"--rank", own, numbers[i]};

                (void)snprintf(numbers[i], NUMBER_SIZE, "%d", i);
                for (size_t j = i ? 0 : 1; j < ARRAY_LEN(rank); j++)
                        argv[k++] = rank[j];
        }
        argv[k] = NULL;
        (void)sigaddset(&mask, SIGTERM);
        (void)sigaddset(&mask, SIGINT);
        return start(x, argv, &mask, err);
}

static int start_ranks(struct launcher *x, bool cuda, struct error *err)
{
        char self[PATH_MAX], own[NUMBER_SIZE], number[NUMBER_SIZE];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        int r = 0;

        if (n < 0)
                return error_set(err, -errno, "/proc/self/exe", "%s", strerror(errno));
        self[n] = 0;
        (void)snprintf(own, sizeof own, "%d", (int)getpid());
        if (!cuda)
                return start_by_mpirun(x, self, own, err);
        for (int i = 0; i < x->n && r >= 0; i++) {
                char *argv[] = {self, (char *)"--rank", own, number, NULL};

                (void)snprintf(number, sizeof number, "%d", i);
                r = start(x, argv, &x->mask, err);
        }
        return r;
}

/* ---- waiting */

static void fail(struct launcher *x, const struct rank_word *w)
{
        if (w->told)
                x->told = true;
        if (!x->failed || (w->rank == 0 && w->said == RANK_FAILED)) {
                x->first = *w;
                x->failed = true;
        }
        if (!x->failed_us)
                x->failed_us = clock_monotonic_us();
        if (w->rank == 0)
                x->failed_us = 1; /* nobody is waited for */
}

static const char not_begun[] = "its process did not begin; the log may say why",
                  without_word[] = "its process ended without a word; the log may say why";

static void fail_silently(struct launcher *x, int rank, const char *detail)
{
        struct rank_word w = {.rank = rank, .said = RANK_ENDED, .error_class = ERROR_HOST};

        (void)snprintf(w.detail, sizeof w.detail, "%s", detail);
        fail(x, &w);
}

static void send_stop(struct launcher *x)
{
        if (x->stop && x->ranks[0].pidfd >= 0)
                (void)pidfd_send_signal(x->ranks[0].pidfd, SIGTERM, NULL, 0);
}

static void read_words(struct launcher *x)
{
        struct rank_word w;

        while (read(x->words, &w, sizeof w) == sizeof w) {
                struct started *s = &x->ranks[w.rank];

                if (w.said == RANK_BEGAN) {
                        s->pidfd = pidfd_open((pid_t)w.pid, 0);
                        s->begun = true;
                        if (w.rank == 0)
                                send_stop(x);
                } else if (w.said == RANK_ENDED) {
                        s->ended = true;
                        x->told |= w.rank == 0;
                } else {
                        fail(x, &w);
                }
        }
}

/* A child that is a rank and gone before it began has no pidfd to tell so. */
static void reap(struct launcher *x)
{
        for (int i = 0; i < x->n_children; i++) {
                if (x->children[i] <= 0 || waitpid(x->children[i], NULL, WNOHANG) != x->children[i])
                        continue;
                x->children[i] = 0;
                if (x->n_children == x->n && !x->ranks[i].begun)
                        fail_silently(x, i, not_begun);
        }
}

static bool children_left(const struct launcher *x)
{
        for (int i = 0; i < x->n_children; i++)
                if (x->children[i] > 0)
                        return true;
        return false;
}

static bool ranks_left(const struct launcher *x)
{
        for (int i = 0; i < x->n; i++)
                if (x->ranks[i].pidfd >= 0)
                        return true;
        return false;
}

/* Those that have begun, then who started them: mpirun ends by itself, and tidies up, unless it takes too long. */
static void end_all(struct launcher *x)
{
        bool late = x->killed_us && clock_monotonic_us() - x->killed_us > ENDING_US;

        for (int i = 0; i < x->n; i++)
                if (x->ranks[i].pidfd >= 0)
                        (void)pidfd_send_signal(x->ranks[i].pidfd, SIGKILL, NULL, 0);
        for (int i = 0; i < x->n_children; i++)
                if (x->children[i] > 0 && (late || !x->ranks[0].begun))
                        (void)kill(x->children[i], SIGKILL);
        if (!x->killed_us)
                x->killed_us = clock_monotonic_us();
}

/* A rank is gone; its last words have been read. */
static void on_gone(struct launcher *x, int rank)
{
        closep(&x->ranks[rank].pidfd);
        x->ranks[rank].pidfd = -1;
        if (!x->ranks[rank].ended && !x->killed_us)
                fail_silently(x, rank, without_word);
}

static void on_signals(struct launcher *x)
{
        struct signalfd_siginfo s;

        while (read(x->signals, &s, sizeof s) == sizeof s)
                if (s.ssi_signo != SIGCHLD) {
                        x->stop = true;
                        send_stop(x);
                }
        reap(x);
}

/* Milliseconds until something is due; -1: nothing is. */
static int timeout_ms(const struct launcher *x)
{
        int64_t due = x->killed_us ? x->killed_us + ENDING_US : x->failed_us + GRACE_US;

        return x->failed_us ? (int)(MAX(due - clock_monotonic_us(), (int64_t)0) / US_PER_MS) + 1 : -1;
}

static void wait_for_all(struct launcher *x)
{
        while (children_left(x) || ranks_left(x)) {
                struct pollfd p[2 + ASSIGNMENT_DEVICES_MAX] = {{x->words, POLLIN, 0}, {x->signals, POLLIN, 0}};

                for (int i = 0; i < x->n; i++)
                        p[2 + i] = (struct pollfd){x->ranks[i].pidfd, POLLIN, 0};
                (void)poll(p, 2 + (nfds_t)x->n, timeout_ms(x));
                read_words(x);
                for (int i = 0; i < x->n; i++)
                        if (p[2 + i].revents)
                                on_gone(x, i);
                on_signals(x);
                if (x->failed_us && clock_monotonic_us() - x->failed_us >= GRACE_US)
                        end_all(x);
        }
}

/* ---- the outcome */

static void report(struct launcher *x, const struct error *why)
{
        struct reporter *r = NULL;
        struct error err;
        char detail[1200];

        if (why)
                (void)snprintf(detail, sizeof detail, "%s%s%s", why->path, why->path[0] ? ": " : "", why->text);
        else
                (void)snprintf(detail, sizeof detail, "rank %d of %d (%s): %s", x->first.rank, x->n,
                               x->a->devices[x->first.rank].name, x->first.detail);
        log_error("%s", detail);
        if (reporter_new(x->a, CHANNEL_LAUNCHER, &r, &err) < 0 ||
            reporter_error(r, why ? ERROR_HOST : (enum error_class)x->first.error_class, detail, x->first.step, &err) <
                    0)
                log_error("%s: %s", err.path, err.text);
        if (r)
                reporter_drain(r, DRAIN_MS);
        (void)reporter_free(r);
}

int launcher_run(struct assignment *a, const struct config *c, int n)
{
        struct launcher x = {.a = a, .n = n, .words = -1, .signals = -1};
        _cleanup_(closep) int lock = -1;
        struct error err;
        bool cuda = c->backend == BACKEND_CUDA;
        int r = n > ASSIGNMENT_DEVICES_MAX
                        ? error_set(&err, -EINVAL, "--ranks", "expected at most %d", ASSIGNMENT_DEVICES_MAX)
                        : channel_lock(a, &lock, &err);

        if (r < 0) {
                log_error("%s: %s", err.path, err.text);
                return 1;
        }
        for (int i = 0; i < n; i++)
                x.ranks[i].pidfd = -1;
        r = a->n_devices ? 0 : name_devices(a, cuda, n, &err);
        if (r >= 0)
                r = share_all(&x, &err);
        if (r >= 0)
                r = watch_signals(&x, &err);
        if (r >= 0)
                r = start_ranks(&x, cuda, &err);
        if (r < 0)
                end_all(&x);
        wait_for_all(&x);
        for (int i = 0; i < n && !x.failed; i++)
                if (!x.ranks[i].ended)
                        fail_silently(&x, i, x.ranks[i].begun ? without_word : not_begun);
        if (!x.told)
                report(&x, r < 0 ? &err : NULL);
        return x.failed || r < 0;
}
