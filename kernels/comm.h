/* Ranks that train together, one process a device: what they say to each other, as a table that a back end's library
 * fills (NCCL, MPI), so that nothing above links one. Sums are made in an order that depends on the number of ranks
 * alone, so the same ranks give the same bits. */
#pragma once

#include "kernels/kernels.h"

struct comm; /* this rank's end of a group */

struct collectives {
        const char *name;
        int (*rank)(const struct comm *c); /* 0 .. size - 1 */
        int (*size)(const struct comm *c);
        /* In place, on every rank: the sum over ranks of n floats of device memory, or the root's bytes. On the stream,
         * as an operation: a failure stays on it. */
        void (*all_reduce)(struct comm *c, struct stream *s, float *x, int64_t n);
        void (*broadcast)(struct comm *c, struct stream *s, void *x, size_t bytes, int root);
        /* Returns when every rank has come. -EPIPE, with the reason, where one has aborted. */
        int (*barrier)(struct comm *c, struct error *err);
        /* Ends the group for all: what waits or comes later on any rank fails with this reason. */
        void (*abort)(struct comm *c, const char *reason);
        struct comm *(*free)(struct comm *c);
};

/* A group of one: what a single device trains with. */
extern const struct collectives collectives_alone;
int comm_alone_new(struct comm **ret, struct error *err);
