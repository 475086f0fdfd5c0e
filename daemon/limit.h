/* A job's limits, of all its attempts together: how long they may run, to which step, how many may fail. */
#pragma once

#include "store/store.h"

struct daemon;
struct worker;

/* What the attempts of a job have used: wall time, the same times their devices, and how many failed. One that has no
 * end runs until now. */
struct usage {
        int64_t wall_us, device_us, failures;
};
int limit_usage(struct daemon *d, int64_t job, struct usage *ret, struct error *err);

/* Those that change names (bits of enum job_change) become the new ones. */
void limit_change(struct limits_row *l, const struct limits_row *new, unsigned change);

/* Which limit is used up, as a sentence, and where it stands in a request: /limits/NAME. False: none is. */
bool limit_reached(const struct limits_row *l, const struct usage *used, int64_t step, struct error *ret);
/* Whether one of them is of time. */
bool limit_is_timed(const struct limits_row *l);
/* How much longer it may run on so many devices; INT64_MAX: no limit says so. */
int64_t limit_time_left_us(const struct limits_row *l, const struct usage *used, int64_t n_devices);

/* A worker begins, was found again, has gone on, or its job's limits have changed: it is stopped when one is used up,
 * and looked at again when one will be. */
void limit_watch(struct worker *w);
