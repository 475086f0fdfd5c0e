/* What the files of the CUDA back end share: the device and its streams for C, and for .cu files the dialect in which
 * kernels are written. The same text is compiled by nvcc and, for machines without a GPU, by a host compiler against
 * emu/dialect.h; so kernels are launched by LAUNCH, declare shared memory by SHARED or DYNAMIC_SHARED, use no
 * cooperative groups and no default stream, and no thread leaves before a barrier. Private to kernels/cuda/. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/kernels.h"
#include "kernels/shape.h"

#include <cuda_runtime_api.h>

struct convolver;  /* cuDNN, or what stands in for it: convolver.h */
struct multiplier; /* cuBLASLt: multiplier.h */
struct plans_file;
struct watch;

struct device {
        int index;
        bool plan_only;
        struct graph *recording; /* of one of its streams, or NULL */
        int64_t n_recordings;    /* begun so far */
        struct convolver *convolver;
        struct multiplier *multiplier;
        struct plans_file *plans; /* choices by measurement, or NULL: a fixed rule makes them */
        char name[128];           /* printable */
        char uuid[64];
        struct watch *watch; /* NVML, or NULL: its library is not there */
};

/* Sums that cross blocks meet here; its owner is the stream, or the graph that was recorded on it. */
#define SCRATCH_BYTES ((size_t)1 << 20)

struct stream {
        struct device *device;
        cudaStream_t handle;
        struct error error;      /* the first failure; code 0 while there is none */
        struct graph *recording; /* or NULL: operations run */
        void *scratch;
};

/* Whether an operation is to be launched: not after a failure, not where the device only plans. */
bool stream_ready(const struct stream *s);
/* Where the failure of an operation that was to be launched is kept: the stream's, or its recording's. */
struct error *stream_error(struct stream *s);
/* Keeps the first failure, with the operation's name. */
void stream_launched(struct stream *s, const char *op, cudaError_t e);
void *stream_scratch(const struct stream *s);
/* Whether a stream of the device records; then its recording fails, since `what` may not happen meanwhile. */
bool device_refused(struct device *d, const char *what);
/* 0, or -EINVAL where it does. */
int device_may_plan(struct device *d, const char *what, struct error *err);

#define KERNEL(op) void cuda_##op(struct stream *s, const struct op##_args *a);
#include "kernels/kernels.def"
#undef KERNEL

/* watch.c: NVML about the GPU of that UUID; NULL where its library is not there or does not know it. */
struct watch *watch_open(const char *uuid);
struct watch *watch_close(struct watch *w);
/* Its part of *ret: busy, celsius and watts. */
void watch_use(const struct watch *w, struct device_use *ret);

int cuda_device_open(const struct device_settings *settings, struct device **ret, struct error *err);
struct device *cuda_device_close(struct device *d);
int cuda_device_info(struct device *d, struct device_info *ret, struct error *err);
int cuda_device_use(struct device *d, struct device_use *ret, struct error *err);
void cuda_range_begin(const char *name);
void cuda_range_end(void);
void *cuda_memory_new(struct device *d, size_t bytes);
void cuda_memory_free(struct device *d, void *p);
int cuda_stream_new(struct device *d, struct stream **ret, struct error *err);
struct stream *cuda_stream_free(struct stream *s);
int cuda_stream_sync(struct stream *s, struct error *err);
void cuda_copy_in(struct stream *s, void *dst, const void *src, size_t bytes);
void cuda_copy_out(struct stream *s, void *dst, const void *src, size_t bytes);
int cuda_event_new(struct device *d, struct event **ret, struct error *err);
struct event *cuda_event_free(struct event *e);
void cuda_event_record(struct stream *s, struct event *e);
void cuda_stream_wait(struct stream *s, struct event *e);
int cuda_graph_begin(struct stream *s, struct error *err);
int cuda_graph_end(struct stream *s, struct graph **ret, struct error *err);
void cuda_graph_launch(struct stream *s, const struct graph *g);
struct graph *cuda_graph_free(struct graph *g);
extern const struct collectives cuda_collectives; /* nccl.c */

int cuda_conv_new(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err);
struct conv *cuda_conv_free(struct conv *c);
size_t cuda_conv_workspace(const struct conv *c);
int cuda_dense_new(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err);
struct dense *cuda_dense_free(struct dense *x);
size_t cuda_dense_workspace(const struct dense *x);
int cuda_norm_new(struct device *d, const struct norm_shape *shape, struct norm **ret, struct error *err);
struct norm *cuda_norm_free(struct norm *n);
size_t cuda_norm_workspace(const struct norm *n);
int cuda_attention_new(struct device *d, const struct attention_shape *shape, struct attention **ret,
                       struct error *err);
struct attention *cuda_attention_free(struct attention *a);
size_t cuda_attention_workspace(const struct attention *a);
size_t cuda_attention_saved(const struct attention *a);

/* kernels.h, bytes_beyond: of the operations that have some. */
double cuda_conv_forward_beyond(const struct conv_forward_args *a);
double cuda_conv_backward_data_beyond(const struct conv_backward_data_args *a);
double cuda_conv_backward_weights_beyond(const struct conv_backward_weights_args *a);
double cuda_dense_forward_beyond(const struct dense_forward_args *a);
double cuda_dense_backward_data_beyond(const struct dense_backward_data_args *a);
double cuda_dense_backward_weights_beyond(const struct dense_backward_weights_args *a);
double cuda_norm_forward_beyond(const struct norm_forward_args *a);
double cuda_norm_backward_beyond(const struct norm_backward_args *a);
double cuda_attention_backward_beyond(const struct attention_backward_args *a);

static inline size_t cuda_align(size_t bytes)
{
        return (bytes + 255) & ~(size_t)255;
}

/* The next bytes of a workspace, aligned; base may be NULL: then only *at counts. */
static inline void *cuda_take(void *base, size_t *at, size_t bytes)
{
        void *p = base ? (char *)base + *at : NULL;

        *at += cuda_align(bytes);
        return p;
}

#ifdef __cplusplus
}

#include "kernels/cuda/dialect.h"
#endif
