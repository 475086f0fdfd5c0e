/* 3x3 convolution by oneDNN's direct algorithm, for any shape. Private to the "cpu" back end. */
#pragma once

#include "kernels/cpu/onednn.h"
#include "kernels/kernels.h"

struct direct {
        struct conv_shape shape;
        bool in_bf16; /* computed by oneDNN in bf16, else all operands are float32 */
        struct onednn onednn;
        struct onednn_op forward[2][2]; /* [sum][bias] */
        struct onednn_op data[2];       /* [sum] */
        struct onednn_op weights[2];    /* [bias] */
        /* w to each direction's layout, and dw from them */
        struct onednn_op reorder_forward[2][2], reorder_data[2], reorder_weights[2][2]; /* weights: [bias][sum] */
        /* parts of the workspace: scratchpad, weights in oneDNN's layout, weights turned, db before it is added */
        size_t scratchpad_bytes, weights_bytes, turned_bytes, bias_bytes;
};

/* Primitives for the directions asked for. in_bf16: x, y, dx and dy are bf16, and oneDNN multiplies so, which is
 * -ENOTSUP on some processors; else all are float32, whatever the shape's types. On failure nothing is left to be done.
 */
int direct_init(struct direct *c, const struct conv_shape *shape, bool in_bf16, bool forward, bool data, bool weights,
                struct error *err);
/* Of zeros, too. */
void direct_done(struct direct *c);
size_t direct_workspace(const struct direct *c);

/* The operations of kernels.h; args' plan is not looked at. 0 or negative errno. */
int direct_forward(const struct direct *c, const struct conv_forward_args *a);
int direct_backward_data(const struct direct *c, const struct conv_backward_data_args *a);
int direct_backward_weights(const struct direct *c, const struct conv_backward_weights_args *a);
