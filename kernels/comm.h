/* Ranks that work together, one process a device: what they say to each other, as a table that a library fills (NCCL in
 * the module of CUDA, MPI in a module of its own for the processor), so that nothing above links one. A back end has
 * one: kernels.h, collectives. Sums are made in an order that depends on the number of ranks alone, so the same ranks
 * give the same bits; every rank gets the same.
 *
 * A group has no way to end for all: what a rank that fails leaves the others waiting for never comes. Who starts the
 * ranks ends them together (worker/launcher.h). */
#pragma once

#include "kernels/kernels.h"

#define RANKS_MAX 64

struct comm; /* this rank's end of a group */

/* What the ranks of a group are told when they are started. */
struct group {
        int rank, size;
        int meet; /* where the ranks meet, for a library that has no way of its own: a pipe's end, which stays the
                     caller's: to write to at rank 0, to read from at others. -1 for MPI, whose mpirun knows */
};

struct collectives {
        const char *name;
        /* Returns when every rank has come. device is borrowed, and must outlive the group. -ENODEV where the library
         * is not there. */
        int (*open)(struct device *d, const struct group *g, struct comm **ret, struct error *err);
        struct comm *(*close)(struct comm *c);
        /* In place, on every rank: the sum over ranks of n values of device memory, or the root's bytes. On the stream,
         * as an operation: it is recorded where the stream records, and a failure stays on it. */
        void (*sum_floats)(struct comm *c, struct stream *s, float *x, int64_t n);
        void (*sum_doubles)(struct comm *c, struct stream *s, double *x, int64_t n);
        void (*broadcast)(struct comm *c, struct stream *s, void *x, size_t bytes, int root);
};
