/* What the kernel says of memory: how much there is, and whether it ended processes for want of it. Of this process's
 * control group (both versions) where that says it, else of the machine. root: "" but in tests. */
#pragma once

#include <stdint.h>

/* How many processes it has ended; -1: unknown. */
int64_t memory_oom_kills(const char *root);
/* Bytes that a worker may have at most, when nothing else runs; INT64_MAX: unknown. */
int64_t memory_total(const char *root);
