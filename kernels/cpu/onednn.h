/* oneDNN's C API as the plans here need it: a primitive with the memories of its arguments, made once, run many times
 * with pointers. A plan has one oneDNN engine and stream of its own; primitives run on the caller and OpenMP's pool. */
#pragma once

#include "base/error.h"

#include <oneapi/dnnl/dnnl.h>

struct onednn {
        dnnl_engine_t engine;
        dnnl_stream_t stream;
};

#define ONEDNN_MAX_ARGS 6

struct onednn_op {
        dnnl_primitive_t primitive; /* NULL: not made */
        int n_args;                 /* the last is the scratchpad */
        int args[ONEDNN_MAX_ARGS];
        dnnl_memory_t memories[ONEDNN_MAX_ARGS];
        size_t scratchpad_bytes;
};

/* 0 or negative errno with the call's name. */
int onednn_try(dnnl_status_t status, const char *what, struct error *err);

int onednn_init(struct onednn *o, struct error *err);
void onednn_done(struct onednn *o);

/* desc: an operation's descriptor. args: the DNNL_ARG_ of its operands, 0 behind the last; run takes the pointers in
 * that order. accumulate: += to what is in the output. scale: of the output, 1 for none. */
int onednn_op_init(struct onednn_op *op, const struct onednn *o, const_dnnl_op_desc_t desc,
                   const_dnnl_primitive_desc_t hint, bool accumulate, float scale, const int *args, struct error *err);
/* From one memory layout to another; operands DNNL_ARG_FROM, DNNL_ARG_TO. accumulate: += to what is there. */
int onednn_reorder_init(struct onednn_op *op, const struct onednn *o, const dnnl_memory_desc_t *from,
                        const dnnl_memory_desc_t *to, bool accumulate, struct error *err);
void onednn_op_done(struct onednn_op *op);
int onednn_op_run(const struct onednn_op *op, const struct onednn *o, void *const *pointers, void *scratchpad);

/* Layout that a primitive chose for an operand. */
const dnnl_memory_desc_t *onednn_op_layout(const struct onednn_op *op, int arg);

/* A plain row-major matrix or a batch of them: n_dims 2 or 3, strides of the last two; transposed swaps them. */
int onednn_matrix(dnnl_memory_desc_t *ret, int64_t batch, int64_t rows, int64_t columns, bool transposed,
                  struct error *err);
/* c = scale a b (+ bias, one row, where bias) (+ c where accumulate). Operands a, b, c, then bias. */
int onednn_matmul_init(struct onednn_op *op, const struct onednn *o, const dnnl_memory_desc_t *a,
                       const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *c, bool bias, bool accumulate,
                       float scale, struct error *err);
