/* What the kernel says in files, all of them below root ("" but in tests): proc/ and sys/fs/cgroup/; and cores as its
 * files write them. */
#pragma once

#include "base/macros.h"

#include <sched.h>

/* The rest of the first line that begins with key, after what separates it, to ret; false where there is none. */
bool system_line(const char *root, const char *path, const char *key, char *ret, size_t size);
/* A number of a file; where key is "", its first. -1: none, which control groups of version 2 call "max". */
int64_t system_number(const char *root, const char *path, const char *key);
/* Where the process stands in the tree of control groups: after "0::" in version 2's line, else in that of the memory
 * controller; "" where that is not said or not seen from here. */
void system_cgroup(const char *root, bool v2, char *ret, size_t size);
/* "0-3,8": cores; false: it is no such list. */
bool system_cores(const char *s, cpu_set_t *ret);
/* The same the other way; what does not fit is cut. */
void system_cores_text(const cpu_set_t *cores, char *ret, size_t size);
/* The version of Landlock's interface that the kernel has; 0: none. */
int system_landlock(void);
