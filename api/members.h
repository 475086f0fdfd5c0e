/* What a person says of a job, in its submission and later: name, tags, notes, priority, limits, whom it waits for.
 * Each reads one member of a body, where it is there; what is wrong is added to errs at its pointer, and *ret is
 * untouched. */
#pragma once

#include "api/control.h"

void members_name(const json_t *body, char **ret, struct errors *errs);
void members_tags(const json_t *body, json_t **ret, struct errors *errs);
void members_notes(const json_t *body, char **ret, struct errors *errs);
void members_priority(const json_t *body, int64_t *ret, struct errors *errs);
/* Which of them are there, as bits of enum job_change; null is no limit. */
unsigned members_limits(const json_t *body, struct limits_row *ret, struct errors *errs);
void members_after(const json_t *body, int64_t ret[AFTER_MAX], size_t *ret_n, struct errors *errs);

/* Text of at most max bytes without control characters, not blank. */
bool members_is_printable(const json_t *v, size_t max);
