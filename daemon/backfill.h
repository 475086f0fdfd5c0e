/* A wide job that is the first in line has what becomes free held for it, and a reservation: when it will have enough,
 * as those that run say. Until then a job behind it may run on what is held, where it is over by then: by what a step
 * took in such a job on this machine (store: reader_seconds_a_step), and no longer than its limit of wall time. What
 * cannot be predicted does not run before its turn. */
#pragma once

#include "daemon/device.h"

struct daemon;
struct job;

/* When the first in line will have its devices, monotonic; INT64_MAX: nobody can say. */
int64_t backfill_reservation(struct daemon *d, const struct job *first, bool gpu, int64_t now_us);

/* The next behind the first that may run until then. False: there is none. */
struct backfill {
        int64_t job, bytes;
        uint64_t devices;
};
bool backfill_next(struct daemon *d, const struct job *first, bool gpu, int64_t reserved_us, int64_t now_us,
                   struct backfill *ret);
