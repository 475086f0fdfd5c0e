#include "engine/ranks.h"

#include "engine/runtime.h"

#include <assert.h>
#include <errno.h>

#define ROOM_BYTES ((size_t)1 << 20)

int ranks_join(struct runtime *rt, const struct group *g, struct error *err)
{
        struct ranks *x = &rt->ranks;

        if (g->size != x->size)
                return error_set(err, -EINVAL, "/machine/devices", "expected %d ranks, there are %d", x->size, g->size);
        x->rank = g->rank;
        if (g->size == 1)
                return 0;
        x->stream = rt->stream;
        x->room = runtime_memory(rt, ROOM_BYTES, err);
        if (!x->room)
                return -ENOMEM;
        x->k = rt->k->collectives;
        return x->k->open(rt->device, g, &x->comm, err);
}

void ranks_leave(struct ranks *x, const struct kernels *k, struct device *device)
{
        if (x->comm)
                x->comm = x->k->close(x->comm);
        if (x->room)
                k->memory_free(device, x->room);
        x->room = NULL;
}

static int from_root(struct runtime *rt, char *x, size_t bytes, int root, struct error *err)
{
        struct ranks *ranks = &rt->ranks;

        for (size_t at = 0; at < bytes; at += ROOM_BYTES) {
                size_t n = MIN(bytes - at, ROOM_BYTES);
                int r;

                if (ranks->rank == root)
                        rt->k->copy_in(rt->stream, ranks->room, x + at, n);
                ranks->k->broadcast(ranks->comm, rt->stream, ranks->room, n, root);
                if (ranks->rank != root)
                        rt->k->copy_out(rt->stream, x + at, ranks->room, n);
                if ((r = rt->k->stream_sync(rt->stream, err)) < 0)
                        return r;
        }
        return 0;
}

int ranks_agree(struct runtime *rt, void *x, size_t bytes, struct error *err)
{
        return rt->ranks.comm ? from_root(rt, x, bytes, 0, err) : 0;
}

void ranks_sum(struct ranks *x, double *values, int64_t n)
{
        if (x->comm)
                x->k->sum_doubles(x->comm, x->stream, values, n);
}

int ranks_collect(struct runtime *rt, void *x, size_t block, size_t bytes, struct error *err)
{
        int r = 0;

        for (size_t at = 0, b = 0; rt->ranks.comm && at < bytes && r == 0; at += block, b++)
                r = from_root(rt, (char *)x + at, MIN(block, bytes - at), (int)(b % (size_t)rt->ranks.size), err);
        return r;
}
