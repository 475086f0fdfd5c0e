/* What the server counts, for GET /metrics. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define METRICS_BUCKETS 10

struct metrics {
        atomic_ullong answers[6]; /* by the first digit of their status; 0: cut before there was one */
        atomic_ullong bytes;      /* of bodies that were sent */
        atomic_ullong times[METRICS_BUCKETS + 1], time_us;
        atomic_llong streams; /* of events, now */
};

/* An answer is ready, so long after its request's first line. */
void metrics_answered(struct metrics *m, int64_t took_us);
