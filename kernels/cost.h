/* What an operation costs at the least, counted from its arguments: floating-point operations (2 a multiply-add;
 * products, convolutions and attention only, as papers count) and bytes of its operands, each read or written once.
 * And a table that measures: by operation, its time beside its cost. */
#pragma once

#include "kernels/kernels.h"

struct cost {
        double flop, bytes; /* of one call */
};

#define KERNEL(name) struct cost cost_##name(const struct name##_args *a);
#include "kernels/kernels.def"
#undef KERNEL

struct timing_row {
        const char *name; /* of the operation */
        int64_t calls;
        double seconds, flop, bytes;
};

/* The table of k, every operation of which waits for its end and is timed. One at a time in a process, on one thread;
 * `real` is borrowed until kernels_timed_end, which gives the rows of what ran, dearest first: *ret_rows is the
 * caller's to free. */
void kernels_timed_begin(const struct kernels *real, struct kernels *ret_timed);
int kernels_timed_end(struct timing_row **ret_rows, size_t *ret_n, struct error *err);

/* The dry table once more, whose operations are handed to `count` and whose memory has no end and is nowhere, yet not
 * NULL: for a device that only plans. One at a time in a process. */
typedef void kernels_count(void *user, const char *op, const void *args, struct cost cost);
void kernels_counted(const struct kernels *k, kernels_count *count, void *user, struct kernels *ret_counted);
