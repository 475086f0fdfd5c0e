/* Ranks on processors, over MPI. MPI_Allreduce leaves the order of a sum to the library, which chooses by size and
 * topology; here each rank gets its slice of everybody's values, adds them in order of ranks, and gives the sums to
 * all: as many bytes on the wire as the best of those ways, and one order. */
#include "kernels/mpi/module.h"

#include <errno.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

/* Values at a time: what MPI counts in int, and what fits into the room. */
#define CHUNK (1 << 18)

struct mpi_group {
        MPI_Comm comm;
        int rank, size;
        double room[CHUNK + RANKS_MAX]; /* everybody's slices */
};

static void finalise(void)
{
        (void)MPI_Finalize();
}

static int begin(struct error *err)
{
        int begun = 0, level;

        if (MPI_Initialized(&begun) == MPI_SUCCESS && begun)
                return 0;
        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS || level < MPI_THREAD_FUNNELED)
                return error_set(err, -ENODEV, "mpi", "MPI does not begin");
        if (atexit(finalise) != 0)
                return error_set(err, -ENOMEM, "mpi", "out of memory");
        return 0;
}

static int group_open(const struct group *g, struct mpi_group **ret, struct error *err)
{
        struct mpi_group *x;
        int rank = -1, size = -1, r = begin(err);

        if (r < 0)
                return r;
        (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        (void)MPI_Comm_size(MPI_COMM_WORLD, &size);
        if (rank != g->rank || size != g->size || size > RANKS_MAX)
                return error_set(err, -EINVAL, "mpi", "expected rank %d of %d, mpirun started rank %d of %d", g->rank,
                                 g->size, rank, size);
        x = calloc(1, sizeof *x);
        if (!x)
                return error_set(err, -ENOMEM, "mpi", "out of memory");
        if (MPI_Comm_dup(MPI_COMM_WORLD, &x->comm) != MPI_SUCCESS ||
            MPI_Comm_set_errhandler(x->comm, MPI_ERRORS_RETURN) != MPI_SUCCESS) {
                free(x);
                return error_set(err, -EIO, "mpi", "the ranks do not come together");
        }
        x->rank = rank;
        x->size = size;
        *ret = x;
        return 0;
}

static void group_close(struct mpi_group *g)
{
        (void)MPI_Comm_free(&g->comm);
        free(g);
}

/* sum [n] = rows [n_rows, n] added in order, into row 0. */
#define DEFINE_ADD(type)                                                                                               \
        static void add_##type(type *rows, int n_rows, int n)                                                          \
        {                                                                                                              \
                for (int j = 1; j < n_rows; j++)                                                                       \
                        for (int i = 0; i < n; i++)                                                                    \
                                rows[i] += rows[(int64_t)j * n + i];                                                   \
        }
DEFINE_ADD(float)
DEFINE_ADD(double)

static int slice_begin(int n, int rank, int size)
{
        return (int)((int64_t)n * rank / size);
}

static int sum_chunk(struct mpi_group *g, void *x, int n, enum mpi_type type)
{
        MPI_Datatype of = type == MPI_TYPE_FLOAT ? MPI_FLOAT : MPI_DOUBLE;
        size_t bytes = type == MPI_TYPE_FLOAT ? sizeof(float) : sizeof(double);
        int counts[RANKS_MAX] = {0}, from[RANKS_MAX] = {0}, own[RANKS_MAX], at[RANKS_MAX], mine;

        for (int j = 0; j < g->size; j++) {
                from[j] = slice_begin(n, j, g->size);
                counts[j] = slice_begin(n, j + 1, g->size) - from[j];
        }
        mine = counts[g->rank];
        for (int j = 0; j < g->size; j++) {
                own[j] = mine;
                at[j] = j * mine;
        }
        if (MPI_Alltoallv(x, counts, from, of, g->room, own, at, of, g->comm) != MPI_SUCCESS)
                return -EIO;
        if (type == MPI_TYPE_FLOAT)
                add_float((float *)g->room, g->size, mine);
        else
                add_double(g->room, g->size, mine);
        memcpy((char *)x + (size_t)from[g->rank] * bytes, g->room, (size_t)mine * bytes);
        return MPI_Allgatherv(MPI_IN_PLACE, 0, of, x, counts, from, of, g->comm) == MPI_SUCCESS ? 0 : -EIO;
}

static int sum(struct mpi_group *g, void *x, int64_t n, enum mpi_type type)
{
        size_t bytes = type == MPI_TYPE_FLOAT ? sizeof(float) : sizeof(double);
        int r = 0;

        for (int64_t at = 0; at < n && r == 0; at += CHUNK)
                r = sum_chunk(g, (char *)x + (size_t)at * bytes, (int)MIN(n - at, (int64_t)CHUNK), type);
        return r;
}

static int broadcast(struct mpi_group *g, void *x, size_t bytes, int root)
{
        int r = 0;

        for (size_t at = 0; at < bytes && r == 0; at += CHUNK)
                if (MPI_Bcast((char *)x + at, (int)MIN(bytes - at, (size_t)CHUNK), MPI_BYTE, root, g->comm) !=
                    MPI_SUCCESS)
                        r = -EIO;
        return r;
}

const struct mpi_table MPI_TABLE = {
        .abi = KERNELS_ABI, .open = group_open, .close = group_close, .sum = sum, .broadcast = broadcast};
