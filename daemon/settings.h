/* What the command line says. */
#pragma once

#include "base/error.h"

#include <limits.h>
#include <netinet/in.h>

#define DATASETS_MAX 64 /* of the command line */
#define IMPORT_ROOTS_MAX 32
#define DEVICE_SETTINGS_MAX 64

struct settings {
        char state[PATH_MAX], web[PATH_MAX], configs[PATH_MAX], worker[PATH_MAX];
        struct sockaddr_in listen;
        char listen_text[64];
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
        bool help, version, web_given, configs_given;
        int64_t stop_timeout_us;    /* environment MULUND_STOP_TIMEOUT_MS, for tests */
        int64_t retry_us;           /* environment MULUND_RETRY_MS, for tests */
        int64_t disk_reserve_bytes; /* environment MULUND_DISK_RESERVE_MIB; -1: by the size of the file system */
};

extern const char settings_usage[];

/* -EINVAL: a usage error, err->path names the option. Others: the environment is at fault. */
int settings_parse(int argc, char **argv, struct settings *ret, struct error *err);
