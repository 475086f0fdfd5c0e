/* A running job is asked to stop, and the store knows why before its worker does: whatever is killed in between, the
 * next daemon goes on with it. */
#pragma once

#include "daemon/commit.h"

struct job;

/* It runs, and nobody has asked it to stop or is moving it. */
bool stop_is_possible(const struct job *j);
/* From now on its end, however it comes, counts as this one. The worker is told when it is committed; when that fails,
 * what held before holds again. -EAGAIN in the commit: the job has moved meanwhile. detail: for the event log, copied,
 * may be NULL; by: who asks, for the audit log, or NULL. done may be NULL. */
void stop_ask(struct daemon *d, struct job *j, enum stop_reason reason, const char *detail, const struct audit_row *by,
              void (*done)(struct daemon *d, const struct commit *c, void *user), void *user);
