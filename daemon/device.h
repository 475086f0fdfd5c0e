/* The devices on which jobs run: the processor's cores, whole or in parts, and GPUs. Which there are comes from the
 * settings (--device), else from what the worker's program finds. Owned by the loop's thread. */
#pragma once

#include "base/error.h"

#include <sched.h>

struct daemon;

struct device {
        char name[32];
        bool gpu;        /* else cores of the processor */
        bool has_cores;  /* these alone; else all that the daemon has */
        cpu_set_t cores; /* of a part of the processor */
        char uuid[64];   /* of a GPU */
        char model[96];  /* what the maker calls it, "" where it is not known */
        int64_t memory_bytes;
        bool out;              /* of service: nothing new starts */
        int users;             /* jobs that hold it: started, or whose worker has not ended yet */
        int64_t job;           /* the last of them */
        int64_t job_bytes;     /* memory that it needs, as far as that is known */
        int failures;          /* of attempts in a row that were not their jobs' */
        int64_t not_before_us; /* monotonic; it rests until then */
};

/* "0-3,8": cores; false: it is no such list. */
bool device_parse_cores(const char *s, cpu_set_t *ret);

/* Asks the worker's program, and fills d->devices; runs the loop until it has answered. -ENODEV: a device of the
 * settings is not there. Without an answer there is the processor, whole. */
int devices_find(struct daemon *d, struct error *err);
