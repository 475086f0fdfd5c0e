/* Who runs next: pure functions of devices, jobs and the time. Of the jobs that may start, in the order of the queue
 * (priority, then submission), each takes a device that is free: one job a device. */
#pragma once

#include "daemon/queue.h"

struct device {
        char name[32];
        int users;             /* jobs that hold it: started, or whose worker has not ended yet */
        int64_t job;           /* the last of them */
        int failures;          /* of attempts in a row that were not their jobs' */
        int64_t not_before_us; /* monotonic; it rests until then */
};

/* The devices on which something may start now: their indices, at most n_devices. */
size_t scheduler_free(const struct device *devices, size_t n_devices, int64_t now_us, size_t *ret);

/* Whether a job that the store has as ready may start. j: as it is in memory, or NULL: nothing is going on with it. */
bool scheduler_eligible(const struct job *j, int64_t now_us);
