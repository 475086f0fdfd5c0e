/* What ranks on processors say to each other: MPI's calls as operations on a stream, run or recorded as all others. */
#include "kernels/comm.h"

#include "kernels/cuda/module.h"
#include "kernels/host.h"
#include "kernels/module.h"
#include "kernels/mpi/module.h"

#include <errno.h>

struct comm {
        const struct mpi_table *mpi;
        struct mpi_group *group;
};

struct sum_args {
        const struct comm *comm;
        void *x;
        int64_t n;
        enum mpi_type type;
};

static int call_sum(const void *args)
{
        const struct sum_args *a = args;

        return a->comm->mpi->sum(a->comm->group, a->x, a->n, a->type);
}

struct broadcast_args {
        const struct comm *comm;
        void *x;
        size_t bytes;
        int root;
};

static int call_broadcast(const void *args)
{
        const struct broadcast_args *a = args;

        return a->comm->mpi->broadcast(a->comm->group, a->x, a->bytes, a->root);
}

static int host_open(struct device *d, const struct group *g, struct comm **ret, struct error *err)
{
        struct comm *c = calloc(1, sizeof *c);
        void *table;
        int r;

        (void)d;
        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        r = module_symbol("mpi", MPI_TABLE_NAME, &table, err);
        if (r >= 0) {
                c->mpi = table;
                r = c->mpi->abi == KERNELS_ABI ? c->mpi->open(g, &c->group, err)
                                               : error_set(err, -ENODEV, "mpi", "the module is of another version");
        }
        if (r < 0) {
                free(c);
                return r;
        }
        *ret = c;
        return 0;
}

static struct comm *host_close(struct comm *c)
{
        if (c)
                c->mpi->close(c->group);
        free(c);
        return NULL;
}

static void host_sum_floats(struct comm *c, struct stream *s, float *x, int64_t n)
{
        host_run(s, "sum_floats", call_sum, &(struct sum_args){c, x, n, MPI_TYPE_FLOAT}, sizeof(struct sum_args));
}

static void host_sum_doubles(struct comm *c, struct stream *s, double *x, int64_t n)
{
        host_run(s, "sum_doubles", call_sum, &(struct sum_args){c, x, n, MPI_TYPE_DOUBLE}, sizeof(struct sum_args));
}

static void host_broadcast(struct comm *c, struct stream *s, void *x, size_t bytes, int root)
{
        host_run(s, "broadcast", call_broadcast, &(struct broadcast_args){c, x, bytes, root},
                 sizeof(struct broadcast_args));
}

const struct collectives host_collectives = {.name = "mpi",
                                             .open = host_open,
                                             .close = host_close,
                                             .sum_floats = host_sum_floats,
                                             .sum_doubles = host_sum_doubles,
                                             .broadcast = host_broadcast};
