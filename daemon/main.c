/* mulund: the order in which things start and stop. */
#include "daemon/backup.h"
#include "daemon/channel.h"
#include "daemon/daemon.h"
#include "daemon/doctor.h"
#include "daemon/notify.h"
#include "daemon/process.h"
#include "daemon/retention.h"
#include "daemon/state.h"
#include "daemon/suspect.h"
#include "daemon/watch.h"
#include "daemon/webhook.h"
#include "daemon/worker.h"

#include "base/clock.h"
#include "base/system.h"

#include <errno.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define DESCRIPTORS_MAX 65536
#define DESCRIPTORS_RESERVED 256   /* workers, their pipes and sockets, the store, logs */
#define DRAIN_US (500 * US_PER_MS) /* of a SIGTERM's second */

static void on_term(void *user, int signal)
{
        struct daemon *d = user;

        log_info("%s: ends; workers go on", signal == SIGINT ? "SIGINT" : "SIGTERM");
        d->terminated = true;
        loop_quit(d->loop);
}

static void report_setting(void *user _unused_, const struct error *err)
{
        log_error("%s%s%s", err->path, err->path[0] ? ": " : "", err->text);
}

static void on_other(void *user _unused_, const struct setting *row)
{
        log_warning("[%s] %s: the new value holds from the next start", row->section, row->key);
}

/* Without a file there are no settings to read again: a terminal that closes is no reason to end. */
static void on_hangup(void *user, int signal _unused_)
{
        struct daemon *d = user;
        struct settings *fresh = d->settings.config[0] ? malloc(sizeof *fresh) : NULL;
        struct error err;

        notify_send(d->notify, "RELOADING=1");
        if (!d->settings.config[0] && !d->settings.certificate[0])
                log_info("SIGHUP: there is nothing to do on it without a file of settings");
        else if (!d->settings.config[0])
                log_info("SIGHUP: certificate and key are read again");
        else if (!fresh || settings_load(d->argc, d->argv, fresh, report_setting, NULL) < 0)
                log_error("SIGHUP: the settings stay as they were");
        else {
                settings_take(&d->settings, &d->loaded, fresh, on_other, NULL);
                log_info("SIGHUP: %s was read again", d->settings.config);
                if (d->server) /* else it has not begun */
                        daemon_schedule(d);
        }
        free(fresh);
        if (d->server && server_reload(d->server, &err) < 0)
                log_error("SIGHUP: the certificate stays as it was: %s: %s", err.path, err.text);
        notify_send(d->notify, "READY=1");
}

/* A log rotation, a mistaken kill: none of them is a reason to end. */
static void on_ignored(void *user _unused_, int signal)
{
        log_info("%s: there is nothing to do on it", strsignal(signal));
}

static int handle_signals(struct daemon *d, struct error *err)
{
        static const struct {
                int signal;
                void (*handler)(void *user, int signal);
        } signals[] = {{SIGTERM, on_term},    {SIGINT, on_term},     {SIGHUP, on_hangup},     {SIGUSR1, on_ignored},
                       {SIGUSR2, on_ignored}, {SIGALRM, on_ignored}, {SIGVTALRM, on_ignored}, {SIGPROF, on_ignored},
                       {SIGIO, on_ignored},   {SIGPWR, on_ignored},  {SIGSTKFLT, on_ignored}};
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
        if (limit.rlim_cur < STATE_DESCRIPTORS_LEAST)
                return error_set(err, -EMFILE, NULL, "at most %llu descriptors are allowed: %d are needed (ulimit -n)",
                                 (unsigned long long)limit.rlim_cur, STATE_DESCRIPTORS_LEAST);
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                return error_set(err, -errno, NULL, "descriptors cannot be had: %s", strerror(errno));
        *ret_connections = ((size_t)limit.rlim_cur - DESCRIPTORS_RESERVED) / 2;
        return 0;
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

/* The service manager's socket counts instead of the one of its kind that the settings name first. */
static int take_inherited(int fd, struct server_settings *s, struct error *err)
{
        struct listener_setting l;
        int r = listener_inherit(fd, &l, err);
        size_t i = 0;

        if (r < 0)
                return r;
        while (i < s->n_listeners &&
               (s->listeners[i].address.any.sa_family == AF_UNIX) != (l.address.any.sa_family == AF_UNIX))
                i++;
        if (i == s->n_listeners)
                s->n_listeners++;
        else
                l.tls = s->listeners[i].tls;
        s->listeners[i] = l;
        return 0;
}

/* The settings' listeners, and the Unix socket, which is the last. */
static int fill_listeners(const struct settings *from, struct server_settings *to, struct error *err)
{
        const struct group *g = from->socket_group[0] ? getgrnam(from->socket_group) : NULL;
        char path[PATH_MAX];

        if (from->socket_group[0] && !g)
                return error_set(err, -ENOENT, "--socket-group", "there is no group %s", from->socket_group);
        memcpy(to->listeners, from->listeners, from->n_listeners * sizeof *to->listeners);
        to->n_listeners = from->n_listeners;
        to->socket_group = g ? g->gr_gid : (gid_t)-1;
        if (from->socket[0])
                (void)snprintf(path, sizeof path, "%s", from->socket);
        else if (snprintf(path, sizeof path, "%s/mulund.sock", from->state) >= (int)sizeof path)
                return error_set(err, -ENAMETOOLONG, from->state, "the path is too long for a socket");
        return listener_unix(path, &to->listeners[to->n_listeners++], err);
}

static void tell_listeners(const struct daemon *d, const struct server_settings *s)
{
        const char *risk = settings_risk(&d->settings);
        char text[128];

        if (risk)
                log_warning("%s", risk);
        for (size_t i = 0; i < s->n_listeners; i++) {
                const struct listener_setting *l = &s->listeners[i];
                bool open = s->single_user && listener_is_local(l);

                listener_text(l, server_port(d->server, i), text, sizeof text);
                if (l->address.any.sa_family == AF_UNIX)
                        log_info("listens on %s", text);
                else
                        log_info("listens on http%s://%s%s/: %s", l->tls ? "s" : "", text, s->prefix,
                                 open ? "whoever comes there may do everything" : "a token is needed there");
        }
}

static int start_server(struct daemon *d, struct error *err)
{
        struct server_settings s = {
                .certificate = d->settings.certificate,
                .key = d->settings.key,
                .prefix = d->settings.prefix,
                .allowed_hosts = d->settings.allowed_hosts,
                .state_folder = d->settings.state,
                .web_folder = d->settings.web,
                .configs_folder = d->settings.configs,
                .store = d->store,
                .control = &d->control,
                .single_user = d->settings.single_user,
                .trust_forwarded = d->settings.trust_forwarded,
                .token_rate = (double)d->settings.token_rate,
                .threads = 2,
                .connections = d->connections,
                .max_body_bytes = (size_t)1 << 20,
        };
        char where[sizeof err->path];
        int r = fill_listeners(&d->settings, &s, err);

        if (r >= 0 && d->inherited > 0)
                r = take_inherited(d->inherited, &s, err);
        if (r >= 0)
                r = server_new(&s, &d->server, err);
        if (r == -EADDRINUSE) {
                (void)snprintf(where, sizeof where, "%s", err->path);
                return error_set(err, r, where,
                                 "the address is in use: stop what listens there, or give another --listen");
        }
        if (r >= 0)
                tell_listeners(d, &s);
        return r;
}

static int start(struct daemon *d, int *ret_lock, struct error *err)
{
        int r = loop_new(&d->loop, err);

        /* blocked before any thread is made */
        if (r >= 0)
                r = handle_signals(d, err);
        if (r >= 0)
                r = notify_new(d->loop, &d->notify, err);
        groups_find(&d->groups);
        if (system_landlock() < 2)
                log_warning(
                        "this kernel has no Landlock (5.19 or later has): workers may write wherever their user may");
        if (r >= 0)
                r = claim_descriptors(&d->connections, err);
        if (r >= 0)
                r = state_open(d, ret_lock, err);
        if (r >= 0)
                r = process_hide(d->settings.state, d->settings.key, err);
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
                backup_recover(d);
        if (r >= 0)
                r = webhooks_new(d, &d->webhooks, err);
        if (r >= 0) {
                watch_begin(d);
                r = recover(d, err);
        }
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
                d->watch = watch_end(d->watch);
                suspect_end(d);
                d->channel = channel_close(d->channel);
                drain(d);
                backup_stop(d);
                control_end(d);
        }
        d->server = server_free(d->server);
        if (d->loop)
                worker_forget_all(d);
        d->webhooks = webhooks_free(d->webhooks);
        d->reader = reader_close(d->reader);
        d->store = store_close(d->store);
        retention_done(d);
        queue_done(&d->queue);
        estimates_done(d);
        d->notify = notify_free(d->notify);
        d->loop = loop_free(d->loop);
}

static int run(struct daemon *d)
{
        _cleanup_(closep) int lock = -1;
        struct error err = {0};
        int r = start(d, &lock, &err);

        if (r >= 0) {
                notify_send(d->notify, "READY=1");
                daemon_schedule(d);
                r = loop_run(d->loop, &err);
        }
        notify_send(d->notify, "STOPPING=1");
        if (r < 0)
                log_error("%s%s%s", err.path, err.path[0] ? ": " : "", err.text);
        stop(d);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void print_wrong(void *user, const struct error *err)
{
        int *n = user;

        ++*n;
        (void)fprintf(stderr, "mulund: %s%s%s\n", err->path, err->path[0] ? ": " : "", err->text);
}

/* --help, --version, --check-config: the exit status. */
static int tell(const struct settings *s)
{
        _cleanup_(buf_done) struct buf usage = BUF_INIT(65536);

        if (s->help && settings_usage(&usage, NULL) >= 0)
                (void)printf("%s", usage.data);
        else if (s->version)
                (void)printf("mulund " MULUND_VERSION "\n");
        else if (s->check_config)
                (void)printf("%s: no errors\n", s->config);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        static struct daemon d;
        int n_wrong = 0, r = settings_load(argc, argv, &d.settings, print_wrong, &n_wrong);

        if (r < 0) {
                if (r == -EINVAL)
                        (void)fprintf(stderr, "mulund: %d error%s; try mulund --help\n", n_wrong,
                                      n_wrong == 1 ? "" : "s");
                return r == -EINVAL ? 2 : EXIT_FAILURE;
        }
        if (d.settings.help || d.settings.version || d.settings.check_config)
                return tell(&d.settings);
        d.loaded = d.settings;
        d.argc = argc;
        d.argv = argv;
        d.inherited = notify_listening_socket();
        process_pass_on(d.settings.worker_environment);
        if (d.settings.doctor)
                return doctor(&d.settings);
        (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN);
        control_init(&d);
        return run(&d);
}
