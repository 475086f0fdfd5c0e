/* Which checkpoints of a job stay: the last two, the best by its metric, and those that an evaluation or a sampling
 * that is not over reads. The others go: mark, file, row; a missing file is success; a crash between goes on at the
 * next start. */
#pragma once

#include "store/store.h"

struct daemon;

void retention_run(struct daemon *d, int64_t job);
/* At start: what a crash left half removed, jobs too. */
void retention_recover(struct daemon *d);
/* This checkpoint's file is going. */
bool retention_is_removing(const struct daemon *d, int64_t job, int64_t step);
void retention_done(struct daemon *d);
