/* A job's log is its worker's standard error, written by the worker alone, also while no daemon runs. While one runs it
 * is kept near the setting log-limit: its head and its tail stay, and what lies between is a hole in the file, without
 * blocks on the disk, behind which a line says so. Places in the file do not change, so that whoever follows it by its
 * offsets misses nothing else (api/log.c leaves the hole out). Of the loop's thread. */
#pragma once

#include "base/error.h"

struct worker;

/* Looks at the log now and then while the process runs; where its file system knows no holes that is said once. */
void joblog_watch(struct worker *w);
/* A last look. */
void joblog_end(struct worker *w);

/* Makes the hole where the file has a quarter more than limit_bytes on the disk; 1: it did, 0: there was nothing to do.
 */
int joblog_cap(const char *path, int64_t limit_bytes, struct error *err);
