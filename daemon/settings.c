#include "daemon/settings.h"

#include "base/clock.h"
#include "base/file.h"
#include "contract/text.h"
#include "daemon/device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const char settings_usage[] =
        "Usage: mulund [OPTION]...\n"
        "Trains diffusion models: takes jobs over HTTP, runs a worker for each, keeps what they report.\n"
        "\n"
        "  --state DIR          database, checkpoints, logs (default: $XDG_STATE_HOME/mulund,\n"
        "                       else ~/.local/state/mulund)\n"
        "  --listen ADDRESS     127.0.0.1:PORT; port 0: any free one (default: 127.0.0.1:8700)\n"
        "  --dataset NAME=DIR   a data set that jobs may name; may be given many times\n"
        "  --import-root DIR    a folder from which may be imported; may be given many times\n"
        "                       (STATE/imports always is one)\n"
        "  --device NAME=WHAT   a device on which jobs run, one at a time: cpu:CORES (cpu:0-3,8), or\n"
        "                       cuda:INDEX or cuda:UUID; may be given many times (default: the\n"
        "                       processor, whole, and all GPUs)\n"
        "  --web DIR            the dashboard's files\n"
        "  --configs DIR        configurations that jobs may name: NAME.json\n"
        "  --worker PATH        the worker's program (default: mulun-worker beside this one)\n"
        "  --help, --version\n";

static int wrong(struct error *err, const char *option, const char *text)
{
        return error_set(err, -EINVAL, option, "%s", text);
}

static int copy_path(const char *value, char *ret, const char *option, struct error *err)
{
        if (!value[0])
                return wrong(err, option, "expected a path");
        if (text_valid_utf8(value, strlen(value)) != strlen(value))
                return wrong(err, option, "the path is not UTF-8");
        return snprintf(ret, PATH_MAX, "%s", value) < PATH_MAX ? 0 : wrong(err, option, "the path is too long");
}

static int parse_listen(const char *value, struct settings *s, struct error *err)
{
        const char *colon = strrchr(value, ':');
        unsigned long port;
        char *end;

        if (!colon || strspn(colon + 1, "0123456789") != strlen(colon + 1) || !colon[1] || strlen(colon + 1) > 5)
                return wrong(err, "--listen", "expected ADDRESS:PORT, such as 127.0.0.1:8700");
        port = strtoul(colon + 1, &end, 10);
        if (port > 65535)
                return wrong(err, "--listen", "the port is not in 0..65535");
        if (colon - value != 9 || strncmp(value, "127.0.0.1", 9) != 0)
                return wrong(err, "--listen",
                             "this release serves a single user without authentication and so listens on 127.0.0.1 "
                             "only; other "
                             "addresses, names (localhost) and IPv6 ([::1]) are refused");
        s->listen = (struct sockaddr_in){
                .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        (void)snprintf(s->listen_text, sizeof s->listen_text, "127.0.0.1:%lu", port);
        return 0;
}

static int parse_dataset(const char *value, struct settings *s, struct error *err)
{
        const char *equals = strchr(value, '=');
        struct dataset_setting *d = &s->datasets[s->n_datasets];
        struct stat st;

        if (s->n_datasets == DATASETS_MAX)
                return wrong(err, "--dataset", "there are too many");
        if (!equals || equals == value || !equals[1])
                return wrong(err, "--dataset", "expected NAME=DIR");
        if ((size_t)(equals - value) >= sizeof d->name)
                return wrong(err, "--dataset", "a name has at most 64 bytes");
        (void)snprintf(d->name, sizeof d->name, "%.*s", (int)(equals - value), value);
        if (!text_is_plain_name(d->name, sizeof d->name - 1))
                return wrong(err, "--dataset", "a name has letters, digits, '.', '-' and '_'");
        for (size_t i = 0; i < s->n_datasets; i++)
                if (!strcmp(s->datasets[i].name, d->name))
                        return wrong(err, "--dataset", "the same name twice");
        if (!realpath(equals + 1, d->path)) {
                if (copy_path(equals + 1, d->path, "--dataset", err) < 0)
                        return -EINVAL;
        } else if (stat(d->path, &st) == 0 && !S_ISDIR(st.st_mode)) {
                return wrong(err, "--dataset", "DIR is not a folder");
        }
        if (text_valid_utf8(d->path, strlen(d->path)) != strlen(d->path))
                return wrong(err, "--dataset", "the folder's path (its links resolved) is not UTF-8");
        s->n_datasets++;
        return 0;
}

static int parse_device(const char *value, struct settings *s, struct error *err)
{
        struct device_setting *x = &s->devices[s->n_devices];
        const char *equals = strchr(value, '='), *what = equals ? equals + 1 : "", *colon = strchr(what, ':');
        cpu_set_t cores;

        if (s->n_devices == DEVICE_SETTINGS_MAX)
                return wrong(err, "--device", "there are too many");
        if (!colon || equals == value || (size_t)(equals - value) >= sizeof x->name || !colon[1] ||
            strlen(colon + 1) >= sizeof x->which)
                return wrong(err, "--device", "expected NAME=cpu:CORES or NAME=cuda:INDEX");
        (void)snprintf(x->name, sizeof x->name, "%.*s", (int)(equals - value), value);
        (void)snprintf(x->which, sizeof x->which, "%s", colon + 1);
        x->gpu = !strncmp(what, "cuda:", 5);
        if (!text_is_plain_name(x->name, sizeof x->name - 1))
                return wrong(err, "--device", "a name has letters, digits, '.', '-' and '_'");
        if (!x->gpu && strncmp(what, "cpu:", 4) != 0)
                return wrong(err, "--device", "expected NAME=cpu:CORES or NAME=cuda:INDEX");
        if (!x->gpu && !device_parse_cores(x->which, &cores))
                return wrong(err, "--device", "expected cores, such as cpu:0-3,8");
        for (size_t i = 0; i < s->n_devices; i++)
                if (!strcmp(s->devices[i].name, x->name))
                        return wrong(err, "--device", "the same name twice");
        s->n_devices++;
        return 0;
}

static int parse_import_root(const char *value, struct settings *s, struct error *err)
{
        char *root = s->import_roots[s->n_import_roots];
        struct stat st;

        if (s->n_import_roots == IMPORT_ROOTS_MAX)
                return wrong(err, "--import-root", "there are too many");
        if (!value[0] || !realpath(value, root) || stat(root, &st) < 0 || !S_ISDIR(st.st_mode))
                return wrong(err, "--import-root", "DIR is not a folder");
        if (text_valid_utf8(root, strlen(root)) != strlen(root))
                return wrong(err, "--import-root", "the folder's path (its links resolved) is not UTF-8");
        s->n_import_roots++;
        return 0;
}

static int parse_option(const char *name, const char *value, struct settings *s, struct error *err)
{
        if (!strcmp(name, "--state"))
                return copy_path(value, s->state, name, err);
        if (!strcmp(name, "--web"))
                return copy_path(value, s->web, name, err);
        if (!strcmp(name, "--configs"))
                return copy_path(value, s->configs, name, err);
        if (!strcmp(name, "--worker"))
                return copy_path(value, s->worker, name, err);
        if (!strcmp(name, "--listen"))
                return parse_listen(value, s, err);
        if (!strcmp(name, "--import-root"))
                return parse_import_root(value, s, err);
        if (!strcmp(name, "--device"))
                return parse_device(value, s, err);
        return parse_dataset(value, s, err);
}

static bool takes_value(const char *name)
{
        static const char *const names[] = {"--state",   "--listen", "--dataset",     "--web",
                                            "--configs", "--worker", "--import-root", "--device"};

        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (!strcmp(names[i], name))
                        return true;
        return false;
}

static int default_state(struct settings *s, struct error *err)
{
        const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        int n;

        if (xdg && xdg[0] == '/')
                n = snprintf(s->state, sizeof s->state, "%s/mulund", xdg);
        else if (home && home[0] == '/')
                n = snprintf(s->state, sizeof s->state, "%s/.local/state/mulund", home);
        else
                return error_set(err, -ENOENT, NULL,
                                 "neither XDG_STATE_HOME nor HOME says where the state is: give --state DIR");
        return n < (int)sizeof s->state ? 0 : error_set(err, -ENAMETOOLONG, NULL, "the path of the state is too long");
}

static void default_worker(struct settings *s)
{
        ssize_t n = readlink("/proc/self/exe", s->worker, sizeof s->worker - 16);
        char *slash;

        s->worker[MAX(n, 0)] = 0;
        slash = strrchr(s->worker, '/');
        (void)snprintf(slash ? slash + 1 : s->worker, 16, "mulun-worker");
        if (access(s->worker, X_OK) < 0 && slash) { /* in a build tree */
                struct stat st;
                char beside[PATH_MAX];

                *slash = 0;
                if (snprintf(beside, sizeof beside, "%s/../worker/mulun-worker", s->worker) < (int)sizeof beside &&
                    stat(beside, &st) == 0 && S_ISREG(st.st_mode))
                        (void)snprintf(s->worker, sizeof s->worker, "%s", beside);
                else
                        *slash = '/';
        }
}

/* What the build compiled in: the installed folder, else the source tree's. */
static void default_folder(const char *installed, const char *source, char *ret)
{
        (void)snprintf(ret, PATH_MAX, "%s",
                       access(installed, R_OK) == 0 || access(source, R_OK) < 0 ? installed : source);
}

static int64_t from_environment(const char *name, int64_t default_ms)
{
        const char *value = getenv(name);
        long ms = value ? strtol(value, NULL, 10) : 0;

        return (ms > 0 ? ms : default_ms) * US_PER_MS;
}

int settings_parse(int argc, char **argv, struct settings *ret, struct error *err)
{
        struct settings *s = ret;
        const char *reserve;
        int r;

        *s = (struct settings){0};
        (void)parse_listen("127.0.0.1:8700", s, err);
        for (int i = 1; i < argc; i++) {
                char name[64];
                const char *equals = strncmp(argv[i], "--", 2) == 0 ? strchr(argv[i], '=') : NULL;
                const char *value;

                (void)snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - argv[i]) : (int)strlen(argv[i]),
                               argv[i]);
                if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "--version")) {
                        s->help = s->help || argv[i][2] == 'h';
                        s->version = s->version || argv[i][2] == 'v';
                        continue;
                }
                if (!takes_value(name))
                        return wrong(err, name, name[0] == '-' ? "there is no such option" : "expected an option");
                value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
                if (!value || (!equals && strncmp(value, "--", 2) == 0))
                        return wrong(err, name, "expected a value");
                r = parse_option(name, value, s, err);
                if (r < 0)
                        return r;
        }
        if (!s->state[0] && !s->help && !s->version) {
                r = default_state(s, err);
                if (r < 0)
                        return r;
        }
        if (!s->worker[0])
                default_worker(s);
        s->web_given = s->web[0];
        s->configs_given = s->configs[0];
        if (!s->web[0])
                default_folder(MULUND_WEB_INSTALLED, MULUND_WEB_SOURCE, s->web);
        if (!s->configs[0])
                default_folder(MULUND_CONFIGS_INSTALLED, MULUND_CONFIGS_SOURCE, s->configs);
        s->stop_timeout_us = from_environment("MULUND_STOP_TIMEOUT_MS", 60000);
        s->retry_us = from_environment("MULUND_RETRY_MS", 3000);
        reserve = getenv("MULUND_DISK_RESERVE_MIB");
        s->disk_reserve_bytes = reserve ? MAX(strtol(reserve, NULL, 10), 0) << 20 : -1;
        return 0;
}
