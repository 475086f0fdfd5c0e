/* The ranks of a job, one process a device, each of which runs the same program on its part of the images. What the
 * host decides rank 0 decides, and all hear of it; so every rank makes the same calls in the same order. Where there is
 * one rank, none of these does anything. */
#pragma once

#include "kernels/comm.h"

struct runtime;

struct ranks {
        int rank, size;              /* size: what the configuration says, also before they are joined */
        const struct collectives *k; /* NULL: not joined */
        struct comm *comm;           /* or NULL */
        struct stream *stream;       /* borrowed */
        unsigned char *room;         /* device: what goes from host to host passes through it */
};

/* Joins a fresh runtime to its group, whose size must be the configuration's machine.devices; waits for the others. */
int ranks_join(struct runtime *rt, const struct group *g, struct error *err);
/* Waits for the others; nothing where it has not joined. */
void ranks_leave(struct ranks *x, const struct kernels *k, struct device *device);

/* Rank 0's x [bytes], of the host, on all. */
int ranks_agree(struct runtime *rt, void *x, size_t bytes, struct error *err);
/* Device doubles x [n] on the stream: their sum over ranks, on all. */
void ranks_sum(struct ranks *x, double *values, int64_t n);
/* x [bytes], of the host, consists of blocks (the last may be shorter): block b is rank b mod size's, and on all
 * afterwards, bit for bit. */
int ranks_collect(struct runtime *rt, void *x, size_t block, size_t bytes, struct error *err);
