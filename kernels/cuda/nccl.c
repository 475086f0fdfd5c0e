/* Ranks on GPUs, over NCCL. Which algorithm ncclAllReduce takes, and with it the order of a sum, depends on size,
 * topology and version; so here, as over MPI (kernels/mpi/mpi.c), each rank gets its slice of everybody's values, adds
 * them in order of ranks, and gives the sums to all: as many bytes as a ring's, and one order. The ranks meet by NCCL's
 * identity, which the first makes and hands to each of the others through the pipe. */
#include "kernels/comm.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/sum.h"

#include <errno.h>
#include <unistd.h>

/* Bytes of values at a time; everybody's slices of them are the room. */
#define CHUNK_BYTES ((int64_t)16 << 20)

struct comm {
        const struct library *nccl;
        ncclComm_t handle;
        int rank, size;
        char *room; /* device */
};

/* A value's type, for NCCL and for the sum. */
struct kind {
        ncclDataType_t type;
        enum sum_type sum;
        int64_t bytes;
};
static const struct kind floats = {ncclFloat32, SUM_TYPE_FLOAT, 4}, doubles = {ncclFloat64, SUM_TYPE_DOUBLE, 8};

static int failed(const struct comm *c, const char *what, ncclResult_t r, struct error *err)
{
        return error_set(err, -EIO, what, "NCCL: %s", c->nccl->ncclGetErrorString(r));
}

/* ---- meeting */

static int hand_on(const struct group *g, const ncclUniqueId *id, struct error *err)
{
        for (int i = 1; i < g->size; i++)
                if (write(g->meet, id, sizeof *id) != (ssize_t)sizeof *id)
                        return error_set(err, -EIO, "nccl", "the other ranks cannot be told where to meet");
        return 0;
}

static int meet(const struct comm *c, const struct group *g, ncclUniqueId *ret, struct error *err)
{
        size_t got = 0;

        if (g->rank == 0) {
                ncclResult_t r = c->nccl->ncclGetUniqueId(ret);

                return r == ncclSuccess ? hand_on(g, ret, err) : failed(c, "nccl", r, err);
        }
        /* an identity is written, and read, at once: pipes keep what is below PIPE_BUF together */
        while (got < sizeof *ret) {
                ssize_t n = read(g->meet, (char *)ret + got, sizeof *ret - got);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return error_set(err, -EIO, "nccl", "the first rank did not say where to meet");
                got += (size_t)n;
        }
        return 0;
}

static struct comm *nccl_close(struct comm *c)
{
        if (c && c->handle)
                (void)c->nccl->ncclCommDestroy(c->handle);
        if (c)
                (void)cudaFree(c->room);
        free(c);
        return NULL;
}

static int nccl_open(struct device *d, const struct group *g, struct comm **ret, struct error *err)
{
        struct comm *c = calloc(1, sizeof *c);
        ncclUniqueId id;
        ncclResult_t e;
        int r = c ? library_load(&c->nccl, err) : error_set(err, -ENOMEM, "", "out of memory");

        (void)d; /* the process's current one */
        if (r >= 0 && g->size > RANKS_MAX)
                r = error_set(err, -EINVAL, "nccl", "expected at most %d ranks", RANKS_MAX);
        if (r >= 0 && cudaMalloc((void **)&c->room, (size_t)CHUNK_BYTES + (size_t)g->size * 8) != cudaSuccess)
                r = error_set(err, -ENOMEM, "nccl", "the device has no memory for what ranks exchange");
        if (r >= 0)
                r = meet(c, g, &id, err);
        if (r >= 0 && (e = c->nccl->ncclCommInitRank(&c->handle, g->size, id, g->rank)) != ncclSuccess)
                r = failed(c, "nccl", e, err);
        if (r < 0) {
                (void)nccl_close(c);
                return r;
        }
        c->rank = g->rank;
        c->size = g->size;
        *ret = c;
        return 0;
}

/* ---- operations */

static void launched(struct stream *s, const struct comm *c, const char *op, ncclResult_t r)
{
        if (r != ncclSuccess && stream_error(s)->code == 0)
                (void)failed(c, op, r, stream_error(s));
}

static int64_t slice_begin(int64_t n, int rank, int size)
{
        return n * rank / size;
}

/* Every rank's slice j to rank j; at rank r they lie behind each other in the room. */
static ncclResult_t exchange(struct comm *c, const char *x, int64_t n, const struct kind *kind, cudaStream_t s)
{
        int64_t first = slice_begin(n, c->rank, c->size), mine = slice_begin(n, c->rank + 1, c->size) - first;
        ncclResult_t r = c->nccl->ncclGroupStart();

        for (int j = 0; j < c->size && r == ncclSuccess; j++) {
                int64_t theirs = slice_begin(n, j, c->size), count = slice_begin(n, j + 1, c->size) - theirs;

                r = c->nccl->ncclSend(x + theirs * kind->bytes, (size_t)count, kind->type, j, c->handle, s);
                if (r == ncclSuccess)
                        r = c->nccl->ncclRecv(c->room + j * mine * kind->bytes, (size_t)mine, kind->type, j, c->handle,
                                              s);
        }
        return r == ncclSuccess ? c->nccl->ncclGroupEnd() : r;
}

/* Rank j's slice j to every rank. */
static ncclResult_t gather(struct comm *c, char *x, int64_t n, const struct kind *kind, cudaStream_t s)
{
        ncclResult_t r = c->nccl->ncclGroupStart();

        for (int j = 0; j < c->size && r == ncclSuccess; j++) {
                int64_t first = slice_begin(n, j, c->size), count = slice_begin(n, j + 1, c->size) - first;
                char *at = x + first * kind->bytes;

                r = c->nccl->ncclBroadcast(at, at, (size_t)count, kind->type, j, c->handle, s);
        }
        return r == ncclSuccess ? c->nccl->ncclGroupEnd() : r;
}

static void sum(struct comm *c, struct stream *s, const char *op, char *x, int64_t n, const struct kind *kind)
{
        int64_t most = CHUNK_BYTES / kind->bytes;

        for (int64_t at = 0; at < n && stream_ready(s); at += most) {
                int64_t count = MIN(n - at, most), first = slice_begin(count, c->rank, c->size);
                int64_t mine = slice_begin(count, c->rank + 1, c->size) - first;
                char *chunk = x + at * kind->bytes;

                launched(s, c, op, exchange(c, chunk, count, kind, s->handle));
                sum_rows(s, op, kind->sum, c->room, c->size, mine, chunk + first * kind->bytes);
                if (stream_ready(s))
                        launched(s, c, op, gather(c, chunk, count, kind, s->handle));
        }
}

static void nccl_sum_floats(struct comm *c, struct stream *s, float *x, int64_t n)
{
        sum(c, s, "sum_floats", (char *)x, n, &floats);
}

static void nccl_sum_doubles(struct comm *c, struct stream *s, double *x, int64_t n)
{
        sum(c, s, "sum_doubles", (char *)x, n, &doubles);
}

static void nccl_broadcast(struct comm *c, struct stream *s, void *x, size_t bytes, int root)
{
        if (stream_ready(s))
                launched(s, c, "broadcast", c->nccl->ncclBroadcast(x, x, bytes, ncclInt8, root, c->handle, s->handle));
}

const struct collectives cuda_collectives = {.name = "nccl",
                                             .open = nccl_open,
                                             .close = nccl_close,
                                             .sum_floats = nccl_sum_floats,
                                             .sum_doubles = nccl_sum_doubles,
                                             .broadcast = nccl_broadcast};
