#include "daemon/settings.h"

#include "base/buf.h"
#include "base/clock.h"
#include "contract/text.h"
#include "daemon/ini.h"
#include "daemon/settings_value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define USAGE_COLUMN 23
#define USAGE_WIDTH 96

static const struct setting table[] = {
#define SETTING(kind, section, key, option, member, default_value, min, max, environment, when, argument, example,     \
                text)                                                                                                  \
        {SETTING_##kind, section, key, option,      offsetof(struct settings, member),                                 \
         default_value,  min,     max, environment, SETTING_##when,                                                    \
         argument,       example, text},
#include "daemon/settings.def"
#undef SETTING
};

const struct setting *settings_table(size_t *ret_n)
{
        *ret_n = ARRAY_LEN(table);
        return table;
}

bool setting_is_list(const struct setting *row)
{
        return row->kind >= SETTING_FOLDER;
}

bool setting_takes_any_name(const struct setting *row)
{
        return !strcmp(row->key, "*");
}

/* ---- sources: defaults, the file, the environment, the command line; each stands above those before */

struct loading {
        struct settings *settings;
        settings_report *report;
        void *user;
        int first_line[ARRAY_LEN(table)]; /* of the file, where the key stands; 0: nowhere */
        int r;
};

static void failed(struct loading *x, int code, const char *path, const char *text)
{
        struct error err;

        (void)error_set(&err, code, path, "%s", text);
        x->report(x->user, &err);
        if (x->r >= 0 || code == -EINVAL)
                x->r = code;
}

static void load_defaults(struct loading *x)
{
        struct error err;

        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (table[i].default_value &&
                    setting_parse(&table[i], table[i].default_value, false, x->settings, &err) < 0)
                        failed(x, -EINVAL, table[i].key, err.text);
}

/* The row of this key; any name is one in some sections. */
static const struct setting *find_key(const char *section, const char *key)
{
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (!strcmp(table[i].section, section) &&
                    (setting_takes_any_name(&table[i]) || !strcmp(table[i].key, key)))
                        return &table[i];
        return NULL;
}

static bool is_section(const char *name)
{
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (!strcmp(table[i].section, name))
                        return true;
        return false;
}

static void unknown_section(const char *section, char *ret, size_t size)
{
        const char *nearest = NULL;
        size_t best = SIZE_MAX;
        int n = snprintf(ret, size, "there is no such section");

        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (text_is_nearer(table[i].section, section, &best))
                        nearest = table[i].section;
        if (nearest)
                (void)snprintf(ret + n, size - (size_t)n, "; is it [%s] that is meant?", nearest);
}

/* A key that is another section's, or one that is like it, this section's first. */
static void unknown_key(const char *section, const char *key, char *ret, size_t size)
{
        const struct setting *nearest = NULL;
        size_t best = SIZE_MAX;
        int n = snprintf(ret, size, "there is no such key in [%s]", section);

        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (!strcmp(table[i].section, section) && text_is_nearer(table[i].key, key, &best))
                        nearest = &table[i];
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (!setting_takes_any_name(&table[i]) && text_is_nearer(table[i].key, key, &best))
                        nearest = &table[i];
        if (nearest)
                (void)snprintf(ret + n, size - (size_t)n, "; is it %s in [%s] that is meant?", nearest->key,
                               nearest->section);
}

/* What is wrong with an entry of the file, as one line; false: nothing. */
static bool take_entry(struct loading *x, const struct ini_entry *e, int line, char *ret, size_t size)
{
        const struct setting *row;
        char value[PATH_MAX + 80];
        struct error err;

        if (!e->section[0]) {
                (void)snprintf(ret, size, "a key before the first [section]");
                return true;
        }
        if (!is_section(e->section)) {
                if (e->key)
                        return false; /* said where the section begins */
                unknown_section(e->section, ret, size);
                return true;
        }
        if (!e->key)
                return false;
        row = find_key(e->section, e->key);
        if (!row) {
                unknown_key(e->section, e->key, ret, size);
                return true;
        }
        if (!setting_is_list(row) && x->first_line[row - table]) {
                (void)snprintf(ret, size, "%s: it stands in line %d already", row->key, x->first_line[row - table]);
                return true;
        }
        x->first_line[row - table] = line;
        if (snprintf(value, sizeof value, "%s%s%s", setting_takes_any_name(row) ? e->key : "",
                     setting_takes_any_name(row) ? "=" : "", e->value) >= (int)sizeof value) {
                (void)snprintf(ret, size, "%s: the value is too long", row->key);
                return true;
        }
        if (setting_parse(row, value, true, x->settings, &err) >= 0)
                return false;
        (void)snprintf(ret, size, "%s: %s", setting_takes_any_name(row) ? row->section : row->key, err.text);
        return true;
}

static void load_file(struct loading *x)
{
        char where[PATH_MAX + 16], text[480];
        struct ini_entry e;
        struct ini file;
        struct error err;
        int r = ini_open(&file, x->settings->config, &err);

        if (r < 0)
                failed(x, -EINVAL, err.path, err.text);
        while (r >= 0 && (r = ini_next(&file, &e, &err)) != 0) {
                bool bad = r < 0;

                if (bad)
                        (void)snprintf(text, sizeof text, "%s", err.text);
                else
                        bad = take_entry(x, &e, file.line, text, sizeof text);
                (void)snprintf(where, sizeof where, "%s:%d", x->settings->config, file.line);
                if (bad)
                        failed(x, -EINVAL, where, text);
                r = 0;
        }
        ini_done(&file);
}

/* Its times are in milliseconds, its sizes in MiB. */
static void load_environment(struct loading *x)
{
        struct error err;
        char value[1100];

        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                const char *text = table[i].environment ? getenv(table[i].environment) : NULL,
                           *unit = table[i].kind == SETTING_TIME   ? "ms"
                                   : table[i].kind == SETTING_SIZE ? "MiB"
                                                                   : "";

                if (!text)
                        continue;
                (void)snprintf(value, sizeof value, "%s%s", text, unit);
                if (setting_parse(&table[i], value, false, x->settings, &err) < 0)
                        failed(x, -EINVAL, table[i].environment, err.text);
        }
}

static const struct setting *find_option(const char *name, size_t n)
{
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (strlen(table[i].option) == n && !strncmp(table[i].option, name, n))
                        return &table[i];
        return NULL;
}

/* Those that are no settings. */
enum mode { MODE_NONE, MODE_CONFIG, MODE_CHECK, MODE_DOCTOR, MODE_HELP, MODE_VERSION };

static const char *const mode_names[] = {"", "config", "check-config", "doctor", "help", "version"};

static enum mode find_mode(const char *name)
{
        for (size_t i = 1; i < ARRAY_LEN(mode_names); i++)
                if (!strcmp(mode_names[i], name))
                        return (enum mode)i;
        return MODE_NONE;
}

static void unknown_option(struct loading *x, const char *argument, const char *name)
{
        const char *nearest = NULL;
        size_t best = SIZE_MAX;
        char text[200];

        for (size_t i = 0; i < ARRAY_LEN(table) && argument[0] == '-'; i++)
                if (text_is_nearer(table[i].option, name, &best))
                        nearest = table[i].option;
        for (size_t i = 1; i < ARRAY_LEN(mode_names) && argument[0] == '-'; i++)
                if (text_is_nearer(mode_names[i], name, &best))
                        nearest = mode_names[i];
        (void)snprintf(text, sizeof text, "%s%s%s%s",
                       argument[0] == '-' ? "there is no such option" : "expected an option",
                       nearest ? "; is it --" : "", nearest ? nearest : "", nearest ? " that is meant?" : "");
        failed(x, -EINVAL, argument, text);
}

static void take_mode(struct loading *x, enum mode mode, const char *value)
{
        struct settings *s = x->settings;

        s->help = s->help || mode == MODE_HELP;
        s->version = s->version || mode == MODE_VERSION;
        s->doctor = s->doctor || mode == MODE_DOCTOR;
        s->check_config = s->check_config || mode == MODE_CHECK;
        if (value && snprintf(s->config, sizeof s->config, "%s", value) >= (int)sizeof s->config)
                failed(x, -EINVAL, "--config", "the path is too long");
}

/* One option from argv[i] on; how many arguments it took. modes: those that are no settings; else the settings. */
static int take_option(struct loading *x, char **argv, int i, int argc, bool modes)
{
        const char *option = argv[i], *equals = !strncmp(option, "--", 2) ? strchr(option, '=') : NULL, *value = NULL;
        const struct setting *row = NULL;
        char name[64] = "", path[72];
        enum mode mode;
        struct error err;
        int n = 1;

        if (!strncmp(option, "--", 2))
                (void)snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - option) - 2 : (int)sizeof name - 1,
                               option + 2);
        (void)snprintf(path, sizeof path, "--%s", name);
        mode = find_mode(name);
        row = find_option(name, strlen(name));
        if (row || mode == MODE_CONFIG || mode == MODE_CHECK) {
                value = equals ? equals + 1 : i + 1 < argc ? argv[i + 1] : NULL;
                n = equals ? 1 : 2;
                if (!value || (!equals && !strncmp(value, "--", 2))) {
                        if (!modes)
                                failed(x, -EINVAL, path, "expected a value");
                        return 1;
                }
        }
        if (modes && mode && !(equals && !value))
                take_mode(x, mode, value);
        else if (!modes && row && setting_parse(row, value, false, x->settings, &err) < 0)
                failed(x, -EINVAL, path, err.text);
        else if (!modes && ((!row && !mode) || (equals && !value)))
                unknown_option(x, name[0] ? path : option, name);
        return n;
}

static void load_arguments(struct loading *x, int argc, char **argv, bool modes)
{
        for (int i = 1; i < argc;)
                i += take_option(x, argv, i, argc, modes);
}

int settings_load(int argc, char **argv, struct settings *ret, settings_report *report, void *user)
{
        struct loading x = {.settings = ret, .report = report, .user = user};
        struct error err;
        int r;

        *ret = (struct settings){0};
        load_defaults(&x);
        load_arguments(&x, argc, argv, true);
        if (ret->config[0] && !ret->help && !ret->version)
                load_file(&x);
        if (!ret->check_config)
                load_environment(&x);
        load_arguments(&x, argc, argv, false);
        if (ret->help || ret->version || ret->check_config)
                return x.r;
        r = settings_complete(ret, &err);
        if (r < 0)
                failed(&x, r, err.path, err.text);
        return x.r;
}

/* ---- a reload */

static const struct {
        size_t offset, size;
} members[] = {
        /* what of struct settings is a kind's; a list's count is compared with its items */
        [SETTING_PATH] = {0, PATH_MAX},
        [SETTING_SIZE] = {0, sizeof(int64_t)},
        [SETTING_TIME] = {0, sizeof(int64_t)},
        [SETTING_NAMES] = {0, sizeof((struct settings *)0)->worker_environment},
        [SETTING_HOSTS] = {0, sizeof((struct settings *)0)->allowed_hosts},
        [SETTING_PREFIX] = {0, sizeof((struct settings *)0)->prefix},
        [SETTING_GROUP] = {0, sizeof((struct settings *)0)->socket_group},
        [SETTING_BOOL] = {0, sizeof(bool)},
        [SETTING_COUNT] = {0, sizeof(int64_t)},
        [SETTING_FOLDER] = {offsetof(struct settings, import_roots), sizeof((struct settings *)0)->import_roots},
        [SETTING_DATASET] = {offsetof(struct settings, datasets), sizeof((struct settings *)0)->datasets},
        [SETTING_WEBHOOK] = {offsetof(struct settings, webhooks), sizeof((struct settings *)0)->webhooks},
        [SETTING_DEVICE] = {offsetof(struct settings, devices), sizeof((struct settings *)0)->devices},
        [SETTING_LISTENER] = {offsetof(struct settings, listeners), sizeof((struct settings *)0)->listeners},
};

void settings_take(struct settings *s, const struct settings *loaded, const struct settings *fresh,
                   void (*other)(void *user, const struct setting *row), void *user)
{
        for (const struct setting *row = table; row < table + ARRAY_LEN(table); row++) {
                size_t at = setting_is_list(row) ? members[row->kind].offset : row->offset,
                       size = members[row->kind].size;

                if (row->when == SETTING_NOW)
                        memcpy((char *)s + at, (const char *)fresh + at, size);
                else if (memcmp((const char *)loaded + at, (const char *)fresh + at, size) != 0)
                        other(user, row);
        }
}

/* ---- --help */

static const struct {
        const char *option, *argument, *text;
} mode_options[] = {
        {"config", "FILE", "settings from this file, mulund.conf(5); an option stands above it"},
        {"check-config", "FILE", "say what is wrong in this file, and end"},
        {"doctor", "", "say what a start would meet here: libraries, limits, state, disk, devices; and end"},
        {"help", "", "this text"},
        {"version", "", "the version"},
};

/* The option, and its text in lines beside it. */
static int print_option(struct buf *b, const char *option, const char *name, const char *argument, const char *text,
                        struct error *err)
{
        char left[80];
        int r, n = snprintf(left, sizeof left, "  --%s%s%s%s", option, *argument ? " " : "", name, argument);

        r = buf_printf(b, err, "%-*s", USAGE_COLUMN, left);
        if (r >= 0 && n >= USAGE_COLUMN)
                r = buf_printf(b, err, "\n%*s", USAGE_COLUMN, "");
        while (r >= 0 && *text) {
                size_t left_over = strlen(text), line = MIN(left_over, (size_t)(USAGE_WIDTH - USAGE_COLUMN));

                while (line < left_over && line && text[line] != ' ')
                        line--;
                r = buf_printf(b, err, "%.*s\n", (int)line, text);
                text += line;
                if (*text && r >= 0)
                        r = buf_printf(b, err, "%*s", USAGE_COLUMN - 1, "");
        }
        return r;
}

int settings_usage(struct buf *b, struct error *err)
{
        char text[400];
        int r = buf_printf(b, err,
                           "Usage: mulund [OPTION]...\n"
                           "Trains diffusion models: takes jobs over HTTP, runs a worker for each, keeps what they "
                           "report.\n\n");

        for (size_t i = 0; i < ARRAY_LEN(table) && r >= 0; i++) {
                const struct setting *row = &table[i];
                bool tell = row->default_value && row->default_value[0];

                (void)snprintf(text, sizeof text, "%s%s%s%s%s", row->text,
                               setting_is_list(row) ? "; may be given many times" : "", tell ? " (default: " : "",
                               tell ? row->default_value : "", tell ? ")" : "");
                r = print_option(b, row->option, setting_takes_any_name(row) ? "NAME=" : "", row->argument, text, err);
        }
        for (size_t i = 0; i < ARRAY_LEN(mode_options) && r >= 0; i++)
                r = print_option(b, mode_options[i].option, "", mode_options[i].argument, mode_options[i].text, err);
        return r;
}

const char *settings_risk(const struct settings *s)
{
        if (s->single_user && s->trust_forwarded)
                return "single-user and trust-forwarded: whoever reaches a proxy on this machine may do everything";
        if (s->single_user && (s->prefix[0] || s->allowed_hosts[0]))
                return "single-user behind a proxy (prefix, allowed-hosts): whoever comes through it may do "
                       "everything, "
                       "unless it says that it forwards (nginx: proxy_set_header X-Forwarded-For $remote_addr)";
        return s->trust_forwarded ? "trust-forwarded: whoever reaches a proxy that may open the Unix socket is one of "
                                    "this machine's users"
                                  : NULL;
}
