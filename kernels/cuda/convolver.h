/* The seam below convolutions: cuDNN's plans (cudnn.c), or on the emulated device loops that read the same memory
 * (emu/convolver.c). 3 x 3, stride 1, zero padding 1. x [n, h, w, c_in] and y [n, h, w, c_out] NHWC, w [c_out, 3, 3,
 * c_in], all of one type; sums in float32. Deterministic. Private to kernels/cuda/. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum conv_direction { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHTS, CONV_N_DIRECTIONS };

struct convolver; /* of one device */
struct conv_plan;

struct conv_plan_shape {
        enum conv_direction direction;
        int64_t n_images, height, width, c_in, c_out;
        enum dtype type;
        bool accumulate; /* the result is added to: y, dx or dw */
};

int convolver_new(struct convolver **ret, struct error *err);
struct convolver *convolver_free(struct convolver *c);

/* *ret is NULL where there is no deterministic plan for it: that is no failure. */
int conv_plan_new(struct convolver *c, const struct conv_plan_shape *shape, struct conv_plan **ret, struct error *err);
struct conv_plan *conv_plan_free(struct conv_plan *p);
size_t conv_plan_workspace(const struct conv_plan *p);
/* Asynchronous on stream, recordable. x, w and y are what the direction reads and writes. */
cudaError_t conv_plan_run(struct conv_plan *p, cudaStream_t stream, void *x, void *w, void *y, void *workspace);

#ifdef __cplusplus
}
#endif
