#include "daemon/watch.h"

#include "base/clock.h"
#include "base/json.h"
#include "daemon/daemon.h"
#include "daemon/process.h"
#include "daemon/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LINE_BYTES ((size_t)1 << 20)
#define FRESH_US (100 * US_PER_MS) /* after an answer: long enough to start all that may start then */
#define PARENTS_MAX 32

const char *xid_meaning(int64_t number, bool *ret_out)
{
        static const struct {
                int64_t number;
                bool out;
                const char *text;
        } table[] = {
#define X(number, out, text) {number, out, text},
#include "daemon/xid.def"
#undef X
        };

        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (table[i].number == number) {
                        *ret_out = table[i].out;
                        return table[i].text;
                }
        *ret_out = false;
        return NULL;
}

struct question {
        int64_t number, asked_us;
        void (*done)(void *user); /* NULL: the queue is looked at */
        void *user;
        struct question *next;
};

/* A process that looks. One that was given up stays until the kernel has let it go. */
struct watcher {
        struct watch *watch;
        pid_t pid;
        int pidfd, in, out;
        struct source *pidfd_source, *out_source;
        struct buf output;
        struct watcher *next; /* of those that were given up */
};

struct watch {
        struct daemon *daemon;
        struct watcher *watcher;    /* NULL: it rests */
        struct watcher *left;       /* given up, and not gone yet */
        bool answers;               /* this one has answered */
        bool first;                 /* no other was before it: starts wait for what it says */
        bool useless;               /* it said that there is nothing to look with */
        int failures;               /* in a row */
        struct question *questions; /* in their order; the first has a deadline */
        int64_t last_number;
        struct source *deadline, *restart;
};

static void give_up(struct watch *w, const char *why);

/* ---- who computes on a device */

/* Fields 4 and 5 of /proc/PID/stat: its parent and its process group. False: there is no such process to be seen. */
static bool read_parent(int64_t pid, int64_t *ret_parent, int64_t *ret_group)
{
        char path[64], text[512];
        _cleanup_(closep) int fd = -1;
        const char *at;
        ssize_t n;
        long long parent, group;

        (void)snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (n <= 0)
                return false;
        text[n] = 0;
        at = strrchr(text, ')'); /* the name before it may hold anything */
        if (!at || sscanf(at + 1, " %*c %lld %lld", &parent, &group) != 2)
                return false;
        *ret_parent = parent;
        *ret_group = group;
        return true;
}

/* Whether an attempt on these devices has made it: it is in the process group of its worker, or comes from there. */
static bool is_attempts(const struct daemon *d, uint64_t devices, int64_t pid)
{
        for (int i = 0; i < PARENTS_MAX && pid > 1; i++) {
                int64_t parent, group;

                if (!read_parent(pid, &parent, &group))
                        return false;
                for (const struct worker *w = d->workers; w; w = w->next)
                        if ((w->devices & devices) && w->alive.pid > 0 &&
                            (pid == w->alive.pid || group == w->alive.pid))
                                return true;
                pid = parent;
        }
        return false;
}

/* False: it is not to be seen from here, as from within a container. */
static bool find_user(int64_t pid, char *ret, size_t size)
{
        char path[64], buffer[1024];
        struct passwd entry, *found = NULL;
        struct stat st;

        ret[0] = 0;
        (void)snprintf(path, sizeof path, "/proc/%lld", (long long)pid);
        if (stat(path, &st) < 0)
                return false;
        if (getpwuid_r(st.st_uid, &entry, buffer, sizeof buffer, &found) == 0 && found)
                (void)snprintf(ret, size, "%s", found->pw_name);
        else
                (void)snprintf(ret, size, "%u", (unsigned)st.st_uid);
        return true;
}

/* While a job runs there (or on another slot of the GPU), its own are not told of, and what cannot be seen is taken for
 * its own. */
static int take_processes(struct daemon *d, uint64_t slots, struct device *x, const json_t *list, struct error *err)
{
        bool used = false, checked = false;
        const json_t *o;
        size_t i;

        FOR_EACH_DEVICE(k, slots)
        {
                used |= d->devices[k].users > 0;
                checked |= d->devices[k].check != NULL;
        }
        x->n_others = 0;
        json_array_foreach(list, i, o)
        {
                struct control_occupant p = {.bytes = -1};
                bool seen;

                if (json_get_int(o, "/processes", "pid", 1, INT_MAX, &p.pid, err) <= 0)
                        return error_set(err, -EPROTO, NULL, "a process without its pid");
                if (json_get_int(o, "/processes", "bytes", 0, INT64_MAX, &p.bytes, err) < 0)
                        return -EPROTO;
                seen = find_user(p.pid, p.user, sizeof p.user);
                if (x->n_others < ARRAY_LEN(x->others) && !checked && !d->settings.use_occupied &&
                    !(used && (!seen || is_attempts(d, slots, p.pid))))
                        x->others[x->n_others++] = p;
        }
        return 0;
}

/* ---- what it says */

/* The slots of the GPU; 0: there is none. */
static uint64_t find_slots(const struct daemon *d, const char *uuid)
{
        for (size_t i = 0; i < d->n_devices; i++)
                if (d->devices[i].gpu && !strcmp(d->devices[i].uuid, uuid))
                        return device_slots(d->devices, d->n_devices, i);
        return 0;
}

/* Errors that were there before the watching are no news: whoever put the device back knew of them, and so does the
 * store of one that is out. */
static void take_first_errors(struct device *x, int64_t ecc)
{
        x->ecc_errors = ecc;
        if (ecc > 0 && !x->out)
                log_warning("device %s: %lld uncorrectable memory errors (ECC) since its last reset, from before this "
                            "daemon: it is used, and goes out of service with the next",
                            x->name, (long long)ecc);
}

/* ecc: -1: not known. Of errors that were there before a person said that it is to be used nothing is said again. */
static void take_health(struct daemon *d, struct device *x, const char *lost, int64_t ecc)
{
        char text[sizeof x->out_why];

        if (ecc >= 0 && x->ecc_errors < 0)
                take_first_errors(x, ecc);
        if (ecc >= 0 && (x->out || ecc < x->ecc_errors))
                x->ecc_errors = ecc;
        if (lost)
                (void)snprintf(text, sizeof text, "the device is lost: %s", lost);
        else if (ecc > x->ecc_errors)
                (void)snprintf(text, sizeof text, "%lld uncorrectable memory errors (ECC) since its last reset",
                               (long long)ecc);
        else
                return;
        x->ecc_errors = MAX(x->ecc_errors, ecc);
        device_out(d, x, text);
}

static int take_device(struct daemon *d, const json_t *o, struct error *err)
{
        const char *uuid, *lost = NULL;
        json_t *processes = NULL;
        uint64_t slots;
        int64_t ecc = -1, energy_mj = -1;
        int r = json_get_string(o, "/devices", "uuid", 64, &uuid, err);

        slots = r > 0 ? find_slots(d, uuid) : 0;
        if (!slots)
                return r < 0 ? r : error_set(err, -EPROTO, NULL, "a device without a UUID that was asked for");
        if (json_get_string(o, "/devices", "lost", 512, &lost, err) < 0 ||
            json_get_int(o, "/devices", "ecc", 0, INT64_MAX, &ecc, err) < 0 ||
            json_get_int(o, "/devices", "energy_mj", 0, INT64_MAX, &energy_mj, err) < 0 ||
            json_get_container(o, "/devices", "processes", JSON_ARRAY, &processes, err) < 0)
                return -EPROTO;
        FOR_EACH_DEVICE(i, slots)
        {
                struct device *x = &d->devices[i];

                x->watched = true;
                x->energy_mj = energy_mj;
                take_health(d, x, lost, ecc);
                if (take_processes(d, slots, x, processes, err) < 0)
                        return -EPROTO;
        }
        return 0;
}

static struct question *take_question(struct watch *w, int64_t number)
{
        struct question *q = w->questions;

        if (!q || q->number != number)
                return NULL;
        w->questions = q->next;
        return q;
}

static void on_deadline(void *user)
{
        struct watch *w = user;

        w->deadline = NULL;
        give_up(w, "it does not answer");
}

static void arm_deadline(struct watch *w)
{
        w->deadline = loop_remove(w->daemon->loop, w->deadline);
        if (w->questions)
                (void)loop_add_timer(w->daemon->loop, w->questions->asked_us + w->daemon->settings.watch_timeout_us,
                                     on_deadline, w, &w->deadline, NULL);
}

/* Takes q. */
static void question_over(struct watch *w, struct question *q)
{
        arm_deadline(w);
        if (q->done)
                q->done(q->user);
        free(q);
}

static int take_devices(struct watch *w, const json_t *line, const json_t *devices, struct error *err)
{
        struct daemon *d = w->daemon;
        struct question *q = NULL;
        int64_t number = 0, now_us = clock_monotonic_us();
        const json_t *o;
        size_t i;
        int r = json_get_int(line, "", "answers", 1, INT64_MAX, &number, err);

        if (r > 0 && !(q = take_question(w, number)))
                return error_set(err, -EPROTO, "/answers", "%lld is not the question that was asked",
                                 (long long)number);
        json_array_foreach(devices, i, o)
        {
                if (r >= 0)
                        r = take_device(d, o, err);
        }
        for (i = 0; r >= 0 && q && i < d->n_devices; i++) {
                d->devices[i].looked_us = q->asked_us;
                d->devices[i].answered_us = now_us;
        }
        if (r >= 0 && q) {
                if (!w->answers)
                        log_info("GPUs are watched by process %d", (int)w->watcher->pid);
                w->answers = true;
                w->failures = 0;
        }
        if (q)
                question_over(w, q);
        if (r >= 0)
                daemon_schedule(d);
        return MIN(r, 0);
}

/* Kept with what ran there; it may end the device's service. */
static int take_xid(struct daemon *d, const json_t *line, struct error *err)
{
        const char *uuid, *meaning;
        uint64_t slots = 0;
        int64_t number;
        char text[sizeof d->devices->out_why];
        bool out;

        if (json_get_string(line, "", "uuid", 64, &uuid, err) <= 0 ||
            json_get_int(line, "", "xid", 0, INT_MAX, &number, err) <= 0 || !(slots = find_slots(d, uuid)))
                return error_set(err, -EPROTO, NULL, "an XID without a number and a device that is watched");
        meaning = xid_meaning(number, &out);
        (void)snprintf(text, sizeof text, "XID %lld: %s", (long long)number, meaning ? meaning : "no meaning is known");
        FOR_EACH_DEVICE(i, slots)
        {
                log_warning("device %s: %s", d->devices[i].name, text);
                if (d->devices[i].users)
                        job_note(d, d->devices[i].job, "xid", "%s: %s", d->devices[i].name, text);
                if (out)
                        device_out(d, &d->devices[i], text);
        }
        if (out)
                daemon_schedule(d);
        return 0;
}

static int take_line(struct watch *w, const char *line, size_t size, struct error *err)
{
        _cleanup_json_ json_t *json = NULL;
        json_t *devices = NULL;
        const char *none = NULL;
        int r = json_parse(line, size, &json, err);

        if (r >= 0 && !json_is_object(json))
                r = error_set(err, -EPROTO, NULL, "not an object");
        if (r >= 0)
                r = json_get_string(json, "", "none", 512, &none, err);
        if (r > 0) {
                log_info("GPUs are not watched: %s", none);
                w->useless = true;
                return 0;
        }
        if (r >= 0)
                r = json_get_container(json, "", "devices", JSON_ARRAY, &devices, err);
        if (r < 0)
                return r;
        return r > 0 ? take_devices(w, json, devices, err) : take_xid(w->daemon, json, err);
}

/* ---- the process */

static void close_pipes(struct watcher *p)
{
        p->out_source = loop_remove(p->watch->daemon->loop, p->out_source);
        closep(&p->in);
        closep(&p->out);
        p->in = p->out = -1;
        buf_done(&p->output);
}

static void watcher_free(struct watcher *p)
{
        close_pipes(p);
        (void)loop_remove(p->watch->daemon->loop, p->pidfd_source);
        closep(&p->pidfd);
        free(p);
}

static void reap(struct watcher *p)
{
        siginfo_t info = {0};
        struct watcher **at = &p->watch->left;

        (void)waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED);
        while (*at && *at != p)
                at = &(*at)->next;
        if (*at)
                *at = p->next;
        watcher_free(p);
}

static int start(struct watch *w, struct error *err);

static void rest(struct watch *w);

static void on_restart(void *user)
{
        struct watch *w = user;
        struct error err;

        w->restart = NULL;
        if (start(w, &err) < 0) {
                log_warning("GPUs are not watched: %s: %s", err.path, err.text);
                rest(w);
        }
}

static void rest(struct watch *w)
{
        int64_t wait_us = failure_wait_us(w->daemon->settings.retry_us, ++w->failures);

        (void)loop_add_timer(w->daemon->loop, clock_monotonic_us() + wait_us, on_restart, w, &w->restart, NULL);
}

/* Nobody waits for it any longer, and nothing of what it said counts. Where SIGKILL does not end it, it hangs in the
 * driver, and is left behind. */
static void give_up(struct watch *w, const char *why)
{
        struct daemon *d = w->daemon;
        struct watcher *p = TAKE_PTR(w->watcher);
        struct question *q = TAKE_PTR(w->questions), *next;

        if (!w->useless)
                log_warning("GPUs are not watched: the process that does (%d) is ended: %s", (int)p->pid, why);
        (void)kill(-p->pid, SIGKILL);
        close_pipes(p);
        p->next = w->left;
        w->left = p;
        w->answers = w->first = false;
        for (size_t i = 0; i < d->n_devices; i++) {
                d->devices[i].watched = false;
                d->devices[i].energy_mj = -1;
                d->devices[i].n_others = 0;
        }
        if (!w->useless)
                rest(w);
        for (; q; q = next) {
                next = q->next;
                question_over(w, q);
        }
        daemon_schedule(d);
}

/* False: there is no more for now, or it was given up. */
static bool read_some(struct watch *w)
{
        struct watcher *p = w->watcher;
        struct error err = {0};
        char *end;
        ssize_t n;
        int r = buf_reserve(&p->output, 4096, &err);

        if (r < 0) {
                give_up(w, "its line is too long");
                return false;
        }
        n = read(p->out, p->output.data + p->output.size, 4096);
        if (n < 0 && errno == EINTR)
                return true;
        if (n <= 0) {
                if (n == 0 || errno != EAGAIN)
                        p->out_source = loop_remove(w->daemon->loop, p->out_source); /* it ends: its pidfd says so */
                return false;
        }
        p->output.size += (size_t)n;
        while ((end = memchr(p->output.data, '\n', p->output.size))) {
                r = take_line(w, p->output.data, (size_t)(end - p->output.data), &err);
                if (r < 0) {
                        log_error("the process that watches GPUs said what is not understood: %s%s%s", err.path,
                                  err.path[0] ? ": " : "", err.text);
                        give_up(w, "what it says is not understood");
                        return false;
                }
                buf_consume(&p->output, (size_t)(end - p->output.data) + 1);
        }
        return true;
}

static void on_output(void *user, uint32_t events _unused_)
{
        (void)read_some(((struct watcher *)user)->watch);
}

static void on_exit_of(void *user, uint32_t events _unused_)
{
        struct watcher *p = user;
        struct watch *w = p->watch;

        while (w->watcher == p && p->out_source && read_some(w))
                ;
        if (w->watcher == p)
                give_up(w, "it has ended by itself");
        reap(p);
}

static int spawn(struct watcher *p, struct error *err)
{
        struct daemon *d = p->watch->daemon;
        char every[24], *argv[3 + DEVICES_MAX + 1] = {d->settings.worker, (char[]){"--watch"}, every};
        int in[2] = {-1, -1}, out[2] = {-1, -1}, fds[3], n = 3, r;

        (void)snprintf(every, sizeof every, "%lld", (long long)MAX(d->settings.watch_every_us / US_PER_MS, (int64_t)1));
        for (size_t i = 0; i < d->n_devices; i++)
                if (d->devices[i].gpu && __builtin_ctzll(device_slots(d->devices, d->n_devices, i)) == (int)i)
                        argv[n++] = d->devices[i].uuid;
        if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
                r = error_set(err, -errno, d->settings.worker, "no pipe: %s", strerror(errno));
        else {
                fds[0] = in[0];
                fds[1] = out[1];
                fds[2] = STDERR_FILENO;
                r = process_spawn(d->settings.worker, argv, "/", fds, NULL, &p->pid, &p->pidfd, err);
        }
        p->in = in[1];
        p->out = out[0];
        closep(&in[0]);
        closep(&out[1]);
        if (r < 0)
                return r;
        (void)fcntl(p->in, F_SETFL, O_NONBLOCK);
        (void)fcntl(p->out, F_SETFL, O_NONBLOCK);
        r = loop_add_fd(d->loop, p->pidfd, EPOLLIN, on_exit_of, p, &p->pidfd_source, err);
        return r < 0 ? r : loop_add_fd(d->loop, p->out, EPOLLIN, on_output, p, &p->out_source, err);
}

static int start(struct watch *w, struct error *err)
{
        struct watcher *p = calloc(1, sizeof *p);
        int r;

        if (!p)
                return error_set(err, -ENOMEM, w->daemon->settings.worker, "no memory to start it");
        *p = (struct watcher){.watch = w, .pidfd = -1, .in = -1, .out = -1, .output = BUF_INIT(LINE_BYTES)};
        r = spawn(p, err);
        if (r < 0) {
                if (p->pid > 0) {
                        (void)kill(-p->pid, SIGKILL);
                        (void)waitpid(p->pid, NULL, 0);
                }
                watcher_free(p);
                return r;
        }
        w->watcher = p;
        w->useless = false;
        (void)watch_ask(w, NULL, NULL);
        return 0;
}

/* ---- from outside */

void watch_begin(struct daemon *d)
{
        struct watch *w;
        struct error err;
        bool any = false;

        for (size_t i = 0; i < d->n_devices; i++)
                any |= d->devices[i].gpu && d->devices[i].uuid[0];
        w = any ? calloc(1, sizeof *w) : NULL;
        if (!w)
                return;
        *w = (struct watch){.daemon = d, .first = true};
        d->watch = w;
        if (start(w, &err) < 0) {
                log_warning("GPUs are not watched: %s: %s", err.path, err.text);
                w->first = false;
                rest(w);
        }
}

struct watch *watch_end(struct watch *w)
{
        if (!w)
                return NULL;
        (void)loop_remove(w->daemon->loop, w->deadline);
        (void)loop_remove(w->daemon->loop, w->restart);
        if (w->watcher) {
                (void)kill(-w->watcher->pid, SIGKILL);
                w->watcher->next = w->left;
                w->left = w->watcher;
        }
        for (struct watcher *p = w->left, *next; p; p = next) { /* whom it does not end, init has then */
                next = p->next;
                watcher_free(p);
        }
        for (struct question *q = w->questions, *next; q; q = next) {
                next = q->next;
                free(q);
        }
        free(w);
        return NULL;
}

/* The pipe takes what is asked at a time; one that is full is one whose reader hangs, as its deadline will say. */
bool watch_ask(struct watch *w, void (*done)(void *user), void *user)
{
        struct question **at, *q;
        char text[24];

        if (!w || !w->watcher || w->useless || !(q = calloc(1, sizeof *q)))
                return false;
        *q = (struct question){++w->last_number, clock_monotonic_us(), done, user, NULL};
        for (at = &w->questions; *at; at = &(*at)->next)
                ;
        *at = q;
        (void)!write(w->watcher->in, text, (size_t)snprintf(text, sizeof text, "%lld\n", (long long)q->number));
        if (!w->deadline)
                arm_deadline(w);
        return true;
}

static bool asks_for_the_queue(const struct watch *w)
{
        for (const struct question *q = w->questions; q; q = q->next)
                if (!q->done)
                        return true;
        return false;
}

bool watch_is_fresh(struct daemon *d, uint64_t devices)
{
        struct watch *w = d->watch;
        int64_t now_us = clock_monotonic_us();
        bool fresh = true;

        if (!w || !w->watcher || w->useless || !(w->answers || w->first))
                return true; /* nobody can say */
        FOR_EACH_DEVICE(i, devices)
        {
                const struct device *x = &d->devices[i];

                fresh &= !x->gpu || !x->uuid[0] ||
                         (x->looked_us >= x->released_us && now_us - x->answered_us < FRESH_US);
        }
        return fresh || (!asks_for_the_queue(w) && !watch_ask(w, NULL, NULL));
}

void watch_anew(struct device *x)
{
        x->answered_us = 0;
        (void)watch_ask(x->daemon->watch, NULL, NULL);
}

int64_t watch_energy_mj(const struct daemon *d, uint64_t devices)
{
        int64_t sum = 0;

        FOR_EACH_DEVICE(i, devices)
        {
                if (!d->devices[i].watched || d->devices[i].energy_mj < 0)
                        return -1;
                sum += d->devices[i].energy_mj;
        }
        return sum;
}
