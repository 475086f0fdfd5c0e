/* What the back ends on the processor share: memory, streams that run at once, and the names of their operations.
 * Private to kernels/. An operation here is `int X_OP(const struct OP_args *)`, 0 or negative errno; the table's
 * wrapper (STREAM_RUN) does the rest of the contract: nothing after a failure, and the first one kept with its name. */
#pragma once

#include "kernels/kernels.h"

struct device {
        int threads;
};

struct stream {
        struct device *device;
        struct error error; /* the first failure; code 0 while there is none */
};

#define STREAM_RUN(s, op, call)                                                                                        \
        do {                                                                                                           \
                int _r;                                                                                                \
                host_enter((s)->device);                                                                               \
                if ((s)->error.code == 0 && (_r = (call)) < 0)                                                         \
                        (void)error_set(&(s)->error, _r, op, "operation failed on the processor");                     \
        } while (0)

/* Gives the calling thread's OpenMP pool, which oneDNN shares, the device's number of threads: oneDNN's primitives must
 * be made and run with the same. Denormals are flushed in all of it: a step's small moments would cost ten times. */
void host_enter(const struct device *d);

int host_device_open(const struct device_settings *settings, struct device **ret, struct error *err);
struct device *host_device_close(struct device *d);
void *host_memory_new(struct device *d, size_t bytes);
void host_memory_free(struct device *d, void *p);
int host_stream_new(struct device *d, struct stream **ret, struct error *err);
struct stream *host_stream_free(struct stream *s);
int host_stream_sync(struct stream *s, struct error *err);
void host_copy(struct stream *s, void *dst, const void *src, size_t bytes);

/* 0, or -EINVAL / -ENOTSUP with a reason: what every plan asks of its shape. sizes: all at least 1, their product and
 * its bytes within size_t. */
int host_check_shape(const char *what, enum dtype type, const int64_t *sizes, size_t n_sizes, struct error *err);
/* The same for a norm, with its 32 groups. */
int host_check_norm(const struct norm_shape *shape, struct error *err);

/* Bytes rounded up to the alignment of workspaces' parts. */
static inline size_t host_align(size_t bytes)
{
        return (bytes + KERNELS_ALIGN - 1) & ~(size_t)(KERNELS_ALIGN - 1);
}

/* The next bytes of a workspace, aligned; base may be NULL: then only *at counts. */
static inline void *host_take(char *base, size_t *at, size_t bytes)
{
        void *p = base ? base + *at : NULL;

        *at += host_align(bytes);
        return p;
}
