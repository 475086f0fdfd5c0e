/* A job's limits, of all its attempts together: how long they may run, and to which step. */
#pragma once

#include "store/store.h"

struct daemon;
struct worker;

/* How long the attempts of a job have run, microseconds of wall time; one that has no end runs until now. */
int limit_used_us(struct daemon *d, int64_t job, int64_t *ret, struct error *err);

/* Those that change names (bits of enum job_change) become the new ones. */
void limit_change(struct limits_row *l, const struct limits_row *new, unsigned change);

/* Which limit is used up, as a sentence, and where it stands in a request: /limits/wall or /limits/steps. False: none
 * is. */
bool limit_reached(const struct limits_row *l, int64_t used_us, int64_t step, struct error *ret);

/* A worker begins, was found again, has gone on, or its job's limits have changed: it is stopped when one is used up,
 * and looked at again when one will be. */
void limit_watch(struct worker *w);
