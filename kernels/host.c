/* Devices, memory and streams on the processor: an operation has run when its call returns. */
#include "kernels/host.h"

#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

#define MXCSR_FLUSH_AND_ZERO 0x8040u

void host_enter(const struct device *d)
{
        static _Thread_local int pool_threads; /* of the calling thread's pool, 0 before its first time here */

        if (pool_threads == d->threads)
                return;
        pool_threads = d->threads;
        omp_set_dynamic(0);
        omp_set_num_threads(d->threads);
#pragma omp parallel
        _mm_setcsr(_mm_getcsr() | MXCSR_FLUSH_AND_ZERO);
}

int host_device_open(const struct device_settings *settings, struct device **ret, struct error *err)
{
        struct device *d;

        if (settings->index != 0)
                return error_set(err, -ENODEV, "device", "the processor is device 0, there is no device %d",
                                 settings->index);
        if (settings->threads < 1)
                return error_set(err, -EINVAL, "device", "expected at least 1 thread, got %d", settings->threads);
        d = calloc(1, sizeof(*d));
        if (!d)
                return error_set(err, -ENOMEM, "", "out of memory");
        d->threads = settings->threads;
        host_enter(d);
        *ret = d;
        return 0;
}

struct device *host_device_close(struct device *d)
{
        free(d);
        return NULL;
}

void *host_memory_new(struct device *d, size_t bytes)
{
        size_t rounded = host_align(MAX(bytes, (size_t)1)), whole;
        char *start, *p;

        (void)d;
        /* calloc leaves large blocks to the kernel, which gives zeroed pages when they are first touched: what a task
         * never touches is never taken. The block's start stands before what is handed out. */
        if (rounded < bytes || !size_mul_add(1, rounded, 2 * KERNELS_ALIGN, &whole))
                return NULL;
        start = calloc(1, whole);
        if (!start)
                return NULL;
        p = (char *)host_align((size_t)start + sizeof start);
        memcpy(p - sizeof start, &start, sizeof start);
        return p;
}

void host_memory_free(struct device *d, void *p)
{
        char *start;

        (void)d;
        if (!p)
                return;
        memcpy(&start, (char *)p - sizeof start, sizeof start);
        free(start);
}

int host_stream_new(struct device *d, struct stream **ret, struct error *err)
{
        struct stream *s = calloc(1, sizeof(*s));

        if (!s)
                return error_set(err, -ENOMEM, "", "out of memory");
        s->device = d;
        *ret = s;
        return 0;
}

struct stream *host_stream_free(struct stream *s)
{
        free(s);
        return NULL;
}

int host_stream_sync(struct stream *s, struct error *err)
{
        if (s->error.code < 0 && err)
                *err = s->error;
        return s->error.code;
}

void host_copy(struct stream *s, void *dst, const void *src, size_t bytes)
{
        if (s->error.code == 0 && bytes > 0)
                memcpy(dst, src, bytes);
}

int host_check_shape(const char *what, enum dtype type, const int64_t *sizes, size_t n_sizes, struct error *err)
{
        size_t product = sizeof(double);

        if (type != DTYPE_FLOAT32)
                return error_set(err, -ENOTSUP, what, "the processor's back ends compute in float32 only");
        for (size_t i = 0; i < n_sizes; i++)
                if (sizes[i] < 1 || __builtin_mul_overflow(product, (size_t)sizes[i], &product))
                        return error_set(err, -EINVAL, what, "size %zu of the shape is out of range: %lld", i,
                                         (long long)sizes[i]);
        return 0;
}

int host_check_norm(const struct norm_shape *shape, struct error *err)
{
        int64_t sizes[] = {shape->n_images, shape->pixels, shape->c_a, MAX(shape->c_b, (int64_t)1)}, c;
        int r;

        r = host_check_shape("norm", shape->type, sizes, ARRAY_LEN(sizes), err);
        if (r < 0)
                return r;
        c = shape->c_a + shape->c_b;
        if (shape->c_b < 0 || c % 32 != 0 || shape->c_a % (c / 32) != 0)
                return error_set(err, -EINVAL, "norm", "%lld + %lld channels do not make 32 groups, none of both",
                                 (long long)shape->c_a, (long long)shape->c_b);
        return 0;
}
