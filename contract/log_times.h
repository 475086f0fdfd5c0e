/* When a job's log had how many bytes: FOLDER/log.times, written by the daemon beside FOLDER/log, which its worker and
 * whatever libraries that uses write as they like. Records of two little-endian integers of 8 bytes, milliseconds since
 * 1970 and bytes, of which neither falls. A line came when the first record came that has all of it: a quarter of a
 * second late at most, and as late as the log's last change where no daemon ran meanwhile. Nothing of it is trusted:
 * any bytes are read as some time or as none. */
#pragma once

#include "base/error.h"

#include <stddef.h>

#define LOG_TIMES_NAME "log.times"
#define LOG_TIMES_MAX ((int64_t)1 << 16) /* records; then every second one goes */

struct log_time {
        int64_t ms, bytes;
};

/* Appends one to an open file, whole or not at all. */
int log_times_add(int fd, struct log_time t, struct error *err);
/* Leaves out every second record of a file that has more than max; 1: it did. Whole or not at all. */
int log_times_thin(const char *path, int64_t max, struct error *err);

/* Reading, with a window on the records, so that lines that follow each other cost no search. */
#define LOG_TIMES_WINDOW 256
struct log_times {
        int fd;
        int64_t n;         /* records */
        int64_t first;     /* of those in the window */
        size_t held;       /* how many are there */
        int64_t asked, at; /* the last question, and the record that answered it */
        unsigned char window[LOG_TIMES_WINDOW][16];
};
/* Takes fd; -1: there are none. */
void log_times_open(struct log_times *t, int fd);
void log_times_close(struct log_times *t);
/* Records that came since it was opened count, too. How many bytes the last of all tells of. */
int64_t log_times_refresh(struct log_times *t);
/* Milliseconds since 1970 by which the log had so many bytes; 0: no record says. */
int64_t log_times_of(struct log_times *t, int64_t bytes);
