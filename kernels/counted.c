/* A table that counts: nothing runs, each operation's arguments and cost are handed on. */
#include "kernels/cost.h"

/* One at a time in a process (cost.h): a table's operations know no more than their stream. */
static struct {
        kernels_count *count;
        void *user;
} counted;

#define KERNEL(op)                                                                                                     \
        static void counted_##op(struct stream *s, const struct op##_args *args)                                       \
        {                                                                                                              \
                (void)s;                                                                                               \
                counted.count(counted.user, #op, args, cost_##op(args));                                               \
        }
#include "kernels/kernels.def"
#undef KERNEL

static void *nowhere_new(struct device *d, size_t bytes)
{
        (void)d;
        (void)bytes;
        return (void *)KERNELS_ALIGN;
}

static int nowhere_info(struct device *d, struct device_info *ret, struct error *err)
{
        (void)d;
        (void)err;
        *ret = (struct device_info){.name = "nowhere", .memory_total = INT64_MAX, .memory_free = INT64_MAX};
        return 0;
}

void kernels_counted(const struct kernels *k, kernels_count *count, void *user, struct kernels *ret_counted)
{
        kernels_dry(k, ret_counted);
        counted.count = count;
        counted.user = user;
        ret_counted->device_info = nowhere_info;
        ret_counted->memory_new = nowhere_new;
#define KERNEL(op) ret_counted->op = counted_##op;
#include "kernels/kernels.def"
#undef KERNEL
}
