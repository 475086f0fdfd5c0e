/* A group of one: nothing to say to nobody. It keeps the one state that a group has, that it has been ended. */
#include "kernels/comm.h"

#include <errno.h>

struct comm {
        struct error aborted; /* code 0 while the group goes on */
};

int comm_alone_new(struct comm **ret, struct error *err)
{
        struct comm *c = calloc(1, sizeof *c);

        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        *ret = c;
        return 0;
}

static int alone_rank(const struct comm *c)
{
        (void)c;
        return 0;
}

static int alone_size(const struct comm *c)
{
        (void)c;
        return 1;
}

/* The sum over one rank is what it has. */
static void alone_all_reduce(struct comm *c, struct stream *s, float *x, int64_t n)
{
        (void)c;
        (void)s;
        (void)x;
        (void)n;
}

static void alone_broadcast(struct comm *c, struct stream *s, void *x, size_t bytes, int root)
{
        (void)c;
        (void)s;
        (void)x;
        (void)bytes;
        (void)root;
}

static int alone_barrier(struct comm *c, struct error *err)
{
        if (c->aborted.code < 0 && err)
                *err = c->aborted;
        return c->aborted.code;
}

static void alone_abort(struct comm *c, const char *reason)
{
        if (c->aborted.code == 0)
                (void)error_set(&c->aborted, -EPIPE, "comm", "%s", reason);
}

static struct comm *alone_free(struct comm *c)
{
        free(c);
        return NULL;
}

const struct collectives collectives_alone = {
        .name = "alone",
        .rank = alone_rank,
        .size = alone_size,
        .all_reduce = alone_all_reduce,
        .broadcast = alone_broadcast,
        .barrier = alone_barrier,
        .abort = alone_abort,
        .free = alone_free,
};
