/* Whether the kernel ended processes for want of memory. */
#pragma once

#include <stdint.h>

/* How many it has ended, of this process's control group (both versions) where that is counted, else of the machine;
 * -1: unknown. root: "" but in tests. */
int64_t memory_oom_kills(const char *root);
