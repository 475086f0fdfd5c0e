/* What the daemon is told: by mulund.conf, the command line and, in tests, the environment, all through one table
 * (settings.def). What stands above wins: command line, environment, file, default; lists grow. */
#pragma once

#include "api/server.h"

#include <limits.h>

struct buf;

#define DATASETS_MAX 64 /* of the settings */
#define IMPORT_ROOTS_MAX 32
#define DEVICE_SETTINGS_MAX 64
#define WEBHOOKS_MAX 16

struct settings {
        char state[PATH_MAX], web[PATH_MAX], configs[PATH_MAX], worker[PATH_MAX];
        size_t n_listeners;
        struct listener_setting listeners[LISTENERS_MAX - 1]; /* one more is the Unix socket's */
        char socket[PATH_MAX];                                /* "none": none */
        char socket_group[33];
        char certificate[PATH_MAX], key[PATH_MAX];
        char allowed_hosts[1024], prefix[PREFIX_MAX];
        size_t n_datasets;
        struct dataset_setting {
                char name[65];
                char path[PATH_MAX];
        } datasets[DATASETS_MAX];
        size_t n_devices; /* 0: what the worker's program finds */
        struct device_setting {
                char name[32];
                bool gpu;
                char which[64]; /* cores ("0-3,8"), or a GPU's index or UUID */
        } devices[DEVICE_SETTINGS_MAX];
        size_t n_import_roots;
        char import_roots[IMPORT_ROOTS_MAX][PATH_MAX]; /* links resolved; STATE/imports is one, too */
        size_t n_webhooks;
        struct webhook_setting {
                char name[33];
                char url[1024];
        } webhooks[WEBHOOKS_MAX];
        char worker_environment[1024];
        int64_t stop_timeout_us, retry_us;
        bool single_user, trust_forwarded, request_log;
        int64_t token_rate; /* requests a second; 0: as many as it likes */
        int64_t keep_checkpoints;
        bool use_occupied;
        int64_t devices_per_owner; /* 0: as many as there are */
        int64_t log_limit_bytes;
        int64_t stalled_after_us;
        bool stalled_stop;
        int64_t watch_every_us, watch_timeout_us;
        int64_t disk_reserve_bytes; /* -1: by the size of the file system */
        char config[PATH_MAX];      /* the file; "" without one */
        bool help, version, check_config, doctor, web_given, configs_given;
};

enum setting_kind {
        SETTING_PATH,
        SETTING_SIZE,
        SETTING_TIME,
        SETTING_NAMES,
        SETTING_HOSTS,
        SETTING_PREFIX,
        SETTING_GROUP,
        SETTING_BOOL,   /* yes or no */
        SETTING_COUNT,  /* a whole number */
        SETTING_FOLDER, /* from here on lists */
        SETTING_DATASET,
        SETTING_DEVICE,
        SETTING_LISTENER,
        SETTING_WEBHOOK,
};

enum setting_when { SETTING_NOW, SETTING_RESTART };

/* A row of settings.def. */
struct setting {
        enum setting_kind kind;
        const char *section, *key, *option;
        size_t offset; /* of its member; of a list that of its count */
        const char *default_value;
        int64_t min, max;
        const char *environment;
        enum setting_when when;
        const char *argument, *example, *text;
};

/* All of them, those of a section together. */
const struct setting *settings_table(size_t *ret_n);
bool setting_is_list(const struct setting *row);
bool setting_takes_any_name(const struct setting *row);

/* An error is handed over as soon as it is found, and reading goes on: err->path is "--option", "FILE:LINE", or the
 * name of what is in the environment; err->text begins with the key where the path does not name it. */
typedef void settings_report(void *user, const struct error *err);

/* -EINVAL: what is written is wrong, somewhere. Others: the environment is at fault. All of it was reported. */
int settings_load(int argc, char **argv, struct settings *ret, settings_report *report, void *user);

/* A reload: takes over into *s what fresh has other than loaded, where a row says that this can be done now; the others
 * are handed to `other`. */
void settings_take(struct settings *s, const struct settings *loaded, const struct settings *fresh,
                   void (*other)(void *user, const struct setting *row), void *user);

/* What --help prints. */
int settings_usage(struct buf *b, struct error *err);

/* What of them, together, lets in more than their reader may think; NULL: nothing. */
const char *settings_risk(const struct settings *s);
