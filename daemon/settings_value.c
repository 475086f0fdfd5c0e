#include "daemon/settings_value.h"

#include "base/system.h"
#include "base/units.h"
#include "contract/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int wrong(struct error *err, const char *text)
{
        return error_set(err, -EINVAL, NULL, "%s", text);
}

static int copy_path(const char *value, bool from_file, char *ret, struct error *err)
{
        if (!value[0])
                return wrong(err, "expected a path");
        if (from_file && value[0] != '/')
                return wrong(err, "expected an absolute path");
        if (text_valid_utf8(value, strlen(value)) != strlen(value))
                return wrong(err, "the path is not UTF-8");
        return snprintf(ret, PATH_MAX, "%s", value) < PATH_MAX ? 0 : wrong(err, "the path is too long");
}

static int parse_number(const struct setting *row, const char *value, int64_t *ret, struct error *err)
{
        char least[UNITS_SIZE], most[UNITS_SIZE];
        bool time = row->kind == SETTING_TIME;
        int64_t v;

        if (row->min < 0 && !strcmp(value, "auto")) {
                *ret = -1;
                return 0;
        }
        if (!(time ? units_time(value, &v) : units_bytes(value, &v)))
                return error_set(err, -EINVAL, NULL, "expected %s%s",
                                 time ? "a time: a whole number with ms, s, m, h or d"
                                      : "a size: a whole number with B, KiB, MiB, GiB or TiB",
                                 row->min < 0 ? ", or auto" : "");
        if (v >= MAX(row->min, 0) && v <= row->max) {
                *ret = v;
                return 0;
        }
        return error_set(err, -EINVAL, NULL, "is not in %s..%s",
                         time ? units_time_text(row->min, least) : units_bytes_text(MAX(row->min, 0), least),
                         time ? units_time_text(row->max, most) : units_bytes_text(row->max, most));
}

static int parse_bool(const char *value, bool *ret, struct error *err)
{
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
                return wrong(err, "expected yes or no");
        *ret = value[0] == 'y';
        return 0;
}

static int parse_count(const struct setting *row, const char *value, int64_t *ret, struct error *err)
{
        size_t n = strspn(value, "0123456789");
        int64_t v = n && n < 18 && !value[n] ? strtoll(value, NULL, 10) : -1;

        if (v < row->min || v > row->max)
                return error_set(err, -EINVAL, NULL, "expected a whole number in %lld..%lld", (long long)row->min,
                                 (long long)row->max);
        *ret = v;
        return 0;
}

static int parse_names(const char *value, char *ret, size_t size, struct error *err)
{
        static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_* ";

        if (strspn(value, allowed) != strlen(value))
                return wrong(err, "expected names of letters, digits and '_', separated by blanks; * at an end");
        return snprintf(ret, size, "%s", value) < (int)size ? 0 : wrong(err, "the list is too long");
}

/* As a Host header has it, without the port: a name, or an address, of IPv6 in brackets. */
static bool is_host(const char *s, size_t n)
{
        char address[INET6_ADDRSTRLEN];
        struct in6_addr six;

        if (*s != '[')
                return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") == n;
        if (n < 2 || n - 2 >= sizeof address || s[n - 1] != ']')
                return false;
        (void)snprintf(address, sizeof address, "%.*s", (int)n - 2, s + 1);
        return inet_pton(AF_INET6, address, &six) == 1;
}

static int parse_hosts(const char *value, char *ret, size_t size, struct error *err)
{
        size_t n;

        for (const char *p = value + strspn(value, " "); *p; p += n + strspn(p + n, " ")) {
                n = strcspn(p, " ");
                if (!is_host(p, n))
                        return wrong(err, "expected names of hosts or addresses (of IPv6 in brackets), separated by "
                                          "blanks, without scheme and port: they are served on any");
        }
        return snprintf(ret, size, "%s", value) < (int)size ? 0 : wrong(err, "the list is too long");
}

/* Segments as this server's own paths have them, none of which begins with v1. */
static int parse_prefix(const char *value, char *ret, struct error *err)
{
        static const char expected[] = "expected a path such as /mulund, of letters, digits, '.', '-' and '_'; not /v1";
        char segment[PREFIX_MAX];

        if (strlen(value) >= PREFIX_MAX)
                return wrong(err, "the path is too long");
        for (const char *p = value; *p;) {
                size_t n = *p == '/' ? strcspn(p + 1, "/") : 0;

                (void)snprintf(segment, sizeof segment, "%.*s", (int)n, p + 1);
                if (!n || !text_is_plain_name(segment, sizeof segment) || !strcmp(segment, "v1"))
                        return wrong(err, expected);
                p += n + 1;
        }
        (void)snprintf(ret, PREFIX_MAX, "%s", value);
        return 0;
}

static int parse_group(const char *value, char *ret, size_t size, struct error *err)
{
        if (*value && !text_is_plain_name(value, size - 1))
                return wrong(err, "expected the name of a group");
        return snprintf(ret, size, "%s", value) < (int)size ? 0 : wrong(err, "the name is too long");
}

static int parse_listener(const char *value, struct settings *s, struct error *err)
{
        int r;

        if (s->n_listeners == ARRAY_LEN(s->listeners))
                return wrong(err, "there are too many");
        r = listener_parse(value, &s->listeners[s->n_listeners], err);
        if (r >= 0)
                s->n_listeners++;
        return r;
}

/* NAME=VALUE: the name to ret of size bytes; the value, or NULL when it is wrong. */
static const char *split(const char *value, char *ret, size_t size, struct error *err)
{
        const char *equals = strchr(value, '=');

        if (!equals || equals == value || !equals[1]) {
                (void)wrong(err, "expected NAME=VALUE");
                return NULL;
        }
        if ((size_t)(equals - value) >= size) {
                (void)error_set(err, -EINVAL, NULL, "a name has at most %zu bytes", size - 1);
                return NULL;
        }
        (void)snprintf(ret, size, "%.*s", (int)(equals - value), value);
        if (text_is_plain_name(ret, size - 1))
                return equals + 1;
        (void)wrong(err, "a name has letters, digits, '.', '-' and '_'");
        return NULL;
}

/* The path with its links resolved, when there is a folder; 0 also when there is nothing, and ret is "" then. */
static int resolve_folder(const char *value, bool from_file, char *ret, struct error *err)
{
        struct stat st;
        int r = copy_path(value, from_file, ret, err);

        if (r < 0)
                return r;
        if (!realpath(value, ret)) {
                ret[0] = 0;
                return 0;
        }
        if (stat(ret, &st) == 0 && !S_ISDIR(st.st_mode))
                return wrong(err, "DIR is not a folder");
        return text_valid_utf8(ret, strlen(ret)) == strlen(ret)
                       ? 0
                       : wrong(err, "the folder's path (its links resolved) is not UTF-8");
}

static int parse_dataset(const char *value, bool from_file, struct settings *s, struct error *err)
{
        struct dataset_setting *d = &s->datasets[s->n_datasets];
        const char *path;
        int r;

        if (s->n_datasets == DATASETS_MAX)
                return wrong(err, "there are too many");
        path = split(value, d->name, sizeof d->name, err);
        if (!path)
                return -EINVAL;
        for (size_t i = 0; i < s->n_datasets; i++)
                if (!strcmp(s->datasets[i].name, d->name))
                        return wrong(err, "the same name twice");
        r = resolve_folder(path, from_file, d->path, err);
        if (r >= 0 && !d->path[0]) /* it may come later: jobs that name it wait */
                r = copy_path(path, from_file, d->path, err);
        if (r >= 0)
                s->n_datasets++;
        return r;
}

static int parse_folder(const char *value, bool from_file, struct settings *s, struct error *err)
{
        char *root = s->import_roots[s->n_import_roots];
        int r;

        if (s->n_import_roots == IMPORT_ROOTS_MAX)
                return wrong(err, "there are too many");
        r = resolve_folder(value, from_file, root, err);
        if (r >= 0 && !root[0])
                r = wrong(err, "DIR is not a folder");
        if (r >= 0)
                s->n_import_roots++;
        return r;
}

static int parse_device(const char *value, struct settings *s, struct error *err)
{
        struct device_setting *x = &s->devices[s->n_devices];
        const char *what, *colon;
        cpu_set_t cores;

        if (s->n_devices == DEVICE_SETTINGS_MAX)
                return wrong(err, "there are too many");
        what = split(value, x->name, sizeof x->name, err);
        if (!what)
                return -EINVAL;
        colon = strchr(what, ':');
        x->gpu = !strncmp(what, "cuda:", 5);
        if (!colon || !colon[1] || strlen(colon + 1) >= sizeof x->which || (!x->gpu && strncmp(what, "cpu:", 4) != 0))
                return wrong(err, "expected cpu:CORES, cuda:INDEX or cuda:UUID");
        (void)snprintf(x->which, sizeof x->which, "%s", colon + 1);
        if (!x->gpu && !system_cores(x->which, &cores))
                return wrong(err, "expected cores, such as cpu:0-3,8");
        for (size_t i = 0; i < s->n_devices; i++)
                if (!strcmp(s->devices[i].name, x->name))
                        return wrong(err, "the same name twice");
        s->n_devices++;
        return 0;
}

static int parse_webhook(const char *value, struct settings *s, struct error *err)
{
        struct webhook_setting *h = &s->webhooks[s->n_webhooks];
        const char *url;

        if (s->n_webhooks == WEBHOOKS_MAX)
                return wrong(err, "there are too many");
        url = split(value, h->name, sizeof h->name, err);
        if (!url)
                return -EINVAL;
        for (size_t i = 0; i < s->n_webhooks; i++)
                if (!strcmp(s->webhooks[i].name, h->name))
                        return wrong(err, "the same name twice");
        if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
            !text_is_printable(url, sizeof h->url - 1) || strchr(url, ' '))
                return wrong(err, "expected a URL that begins with https:// or http://");
        (void)snprintf(h->url, sizeof h->url, "%s", url);
        s->n_webhooks++;
        return 0;
}

int setting_parse(const struct setting *row, const char *value, bool from_file, struct settings *s, struct error *err)
{
        void *member = (char *)s + row->offset;

        switch (row->kind) {
        case SETTING_PATH:
                return copy_path(value, from_file, member, err);
        case SETTING_SIZE:
        case SETTING_TIME:
                return parse_number(row, value, member, err);
        case SETTING_HOSTS:
                return parse_hosts(value, member, sizeof s->allowed_hosts, err);
        case SETTING_PREFIX:
                return parse_prefix(value, member, err);
        case SETTING_GROUP:
                return parse_group(value, member, sizeof s->socket_group, err);
        case SETTING_BOOL:
                return parse_bool(value, member, err);
        case SETTING_COUNT:
                return parse_count(row, value, member, err);
        case SETTING_NAMES:
                return parse_names(value, member, sizeof s->worker_environment, err);
        case SETTING_FOLDER:
                return parse_folder(value, from_file, s, err);
        case SETTING_DATASET:
                return parse_dataset(value, from_file, s, err);
        case SETTING_DEVICE:
                return parse_device(value, s, err);
        case SETTING_LISTENER:
                return parse_listener(value, s, err);
        case SETTING_WEBHOOK:
                return parse_webhook(value, s, err);
        }
        return wrong(err, "the setting is of no kind");
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

/* A path as seen from this program's folder; false: nothing is there. */
static bool find_from_here(const char *relative, char *ret)
{
        char own[PATH_MAX], path[2 * PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
        char found[PATH_MAX];

        own[MAX(n, 0)] = 0;
        if (!strrchr(own, '/'))
                return false;
        *strrchr(own, '/') = 0;
        (void)snprintf(path, sizeof path, "%s/%s", own, relative);
        if (!realpath(path, found))
                return false;
        (void)snprintf(ret, PATH_MAX, "%s", found);
        return true;
}

/* As it was installed with this program, beside it, or in a build tree. */
static void default_worker(struct settings *s)
{
        static const char *const places[] = {MULUND_WORKER_FROM_HERE, "mulun-worker", "../worker/mulun-worker"};

        for (size_t i = 0; i < ARRAY_LEN(places); i++)
                if (find_from_here(places[i], s->worker))
                        return;
        (void)snprintf(s->worker, sizeof s->worker, "mulun-worker");
}

/* As it was installed with this program; in a build tree what the build compiled in. */
static void default_folder(const char *relative, const char *source, char *ret)
{
        if (!find_from_here(relative, ret))
                (void)snprintf(ret, PATH_MAX, "%s", source);
}

int settings_complete(struct settings *s, struct error *err)
{
        s->web_given = s->web[0];
        s->configs_given = s->configs[0];
        if (!s->worker[0])
                default_worker(s);
        if (!s->web[0])
                default_folder(MULUND_WEB_FROM_HERE, MULUND_WEB_SOURCE, s->web);
        if (!s->configs[0])
                default_folder(MULUND_CONFIGS_FROM_HERE, MULUND_CONFIGS_SOURCE, s->configs);
        if (!s->n_listeners)
                (void)listener_parse("127.0.0.1:8700", &s->listeners[s->n_listeners++], err);
        return s->state[0] ? 0 : default_state(s, err);
}
