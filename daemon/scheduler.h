/* Who runs next: pure functions of devices, jobs and the time. Of the jobs that may start, in the order of the queue
 * (priority, then submission), each takes devices that are free: one job a device. */
#pragma once

#include "daemon/device.h"
#include "daemon/queue.h"

/* The devices of a kind on which something may start now: their indices, at most n_devices. */
size_t scheduler_free(const struct device *devices, size_t n_devices, bool gpu, int64_t now_us, size_t *ret);

/* n devices of a kind on which a job may start now, GPUs of one model; 0: not so many are free. As a set (device.h). */
uint64_t scheduler_pick(const struct device *devices, size_t n_devices, bool gpu, int n, int64_t now_us);
/* When n of a kind, GPUs of one model, are free; free_us: when each is, INT64_MAX: nobody knows, which is the answer,
 * too, where it depends on those. */
int64_t scheduler_when(const struct device *devices, size_t n_devices, bool gpu, int n, const int64_t *free_us);
/* How many of a kind, GPUs of one model, are in service. */
int scheduler_most(const struct device *devices, size_t n_devices, bool gpu);

/* Whether a job that needs so many bytes fits beside those that run on the processor, of so many bytes in all; what is
 * not known, or runs alone, fits. */
bool scheduler_fits(const struct device *devices, size_t n_devices, int64_t bytes, int64_t total_bytes);

/* Whether a job that the store has as ready may start. j: as it is in memory, or NULL: nothing is going on with it. */
bool scheduler_eligible(const struct job *j, int64_t now_us);
