/* What the module of MPI shows to who loads it (kernels/comm.c): blocking calls on memory of the processor, so that it
 * needs nothing of the rest of kernels/ but a description of the group. All calls by one thread of a process. */
#pragma once

#include "kernels/comm.h"

#define MPI_TABLE mulun_mpi
#define MPI_TABLE_NAME "mulun_mpi"

enum mpi_type { MPI_TYPE_FLOAT, MPI_TYPE_DOUBLE };

struct mpi_group;

struct mpi_table {
        int abi; /* KERNELS_ABI */
        /* MPI begins with a process's first group, and ends at its exit, where it waits for the other ranks to come:
         * a process that is not to wait ends by _exit or a signal. -EINVAL where mpirun says another rank or size. */
        int (*open)(const struct group *g, struct mpi_group **ret, struct error *err);
        void (*close)(struct mpi_group *g);
        /* 0 or -EIO, which MPI says why on the process's error output. The sum is ((x_0 + x_1) + x_2) .. of the ranks'
         * values, each addition rounded: what one rank has that adds up as many parts. */
        int (*sum)(struct mpi_group *g, void *x, int64_t n, enum mpi_type type);
        int (*broadcast)(struct mpi_group *g, void *x, size_t bytes, int root);
};

extern const struct mpi_table MPI_TABLE;
