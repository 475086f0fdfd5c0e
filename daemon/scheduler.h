/* Who runs next: a pure function of the queue, the devices and the time. This release: order of submission, one job a
 * device. */
#pragma once

#include "daemon/queue.h"

struct device {
        char name[32];
        int users;             /* jobs that hold it: started, or whose worker has not ended yet */
        int failures;          /* of attempts in a row that were not their jobs' */
        int64_t not_before_us; /* monotonic: it rests until then */
};

struct decision {
        struct job *job;
        size_t device;
};

/* Decisions, at most max, in the order in which to start them. A job is passed over while it is pending, before its
 * not_before_us, or when startable (which may be NULL: all are) says no. */
size_t scheduler_decide(const struct queue *q, const struct device *devices, size_t n_devices, int64_t now_us,
                        bool (*startable)(const struct job *j, void *user), void *user, struct decision *ret,
                        size_t max);
