/* Devices on which jobs fail at once. Two different ones that fail in their first minute, by what is the device's or
 * the host's, make a device suspect: nothing starts on it, and a few training steps are made there (mulun-worker
 * --check). Where they come out right it goes back, and is checked no more until a job has worked there; where the
 * device is said to be at fault, or a GPU does not come to an end, it goes out of service. What cannot be checked at
 * all is the host's doing: it rests, as after any failure, and is tried again. Of the loop's thread. */
#pragma once

#include "daemon/failure.h"

struct daemon;

/* An attempt at a job on these devices failed, so long after it had begun. */
void suspect_note(struct daemon *d, int64_t job, uint64_t devices, enum failure f, int64_t lasted_us);
/* Begins the checks of suspect devices whose jobs are gone. */
void suspect_check(struct daemon *d);
/* The daemon ends: so do the checks. */
void suspect_end(struct daemon *d);
