/* A job's log is its worker's standard error, written by the worker alone, also while no daemon runs. While one runs it
 * is kept near the setting log-limit: its head and its tail stay, and what lies between is a hole in the file, without
 * blocks on the disk, behind which a line says so. Places in the file do not change, so that whoever follows it by its
 * offsets misses nothing else (api/log.c leaves the hole out). Of the loop's thread. */
#pragma once

#include "base/error.h"

struct source;
struct worker;

/* A worker's part of it. */
struct joblog {
        bool watched;
        bool failed;           /* it cannot be kept small: said so in the log */
        struct source *timer;  /* the next look at its size */
        int inotify, times;    /* tells of writes; log.times; -1: neither */
        int64_t bytes;         /* that the last record of log.times has */
        struct source *source; /* of inotify, while it is listened to */
        struct source *pause;  /* and while it is not */
        bool times_failed;     /* said so in the log */
};

/* Looks at the log now and then while the process runs; where its file system knows no holes that is said once. When
 * its lines came is kept beside it (contract/log_times.h). */
void joblog_watch(struct worker *w);
/* A last look. */
void joblog_end(struct worker *w);

/* Makes the hole where the file has a quarter more than limit_bytes on the disk; 1: it did, 0: there was nothing to do.
 */
int joblog_cap(const char *path, int64_t limit_bytes, struct error *err);
