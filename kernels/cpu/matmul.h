/* Dense layers of float32 by oneDNN's products. Private to the "cpu" back end. */
#pragma once

#include "kernels/cpu/onednn.h"
#include "kernels/kernels.h"

struct matmul {
        struct dense_shape shape;
        struct onednn onednn;
        /* [accumulate][bias], [accumulate], [accumulate] */
        struct onednn_op forward[2][2], data[2], weights[2];
        size_t scratchpad_bytes;
};

/* On failure nothing is left to be done. */
int matmul_init(struct matmul *x, const struct dense_shape *shape, struct error *err);
/* Of zeros, too. */
void matmul_done(struct matmul *x);
size_t matmul_workspace(const struct matmul *x);

/* The operations of kernels.h; args' plan is not looked at. 0 or negative errno. Weights' gradient without db. */
int matmul_forward(const struct matmul *x, const struct dense_forward_args *a);
int matmul_backward_data(const struct matmul *x, const struct dense_backward_data_args *a);
int matmul_backward_weights(const struct matmul *x, const struct dense_backward_weights_args *a);
