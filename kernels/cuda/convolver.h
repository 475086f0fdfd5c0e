/* The seam below convolutions: cuDNN's plans (cudnn.c), or on the emulated device loops that read the same memory
 * (emu/convolver.c). 3 x 3, stride 1, zero padding 1. x [n, h, w, c_in] and y [n, h, w, c_out] NHWC, w [c_out, 3, 3,
 * c_in], all of one type; sums in float32. Deterministic. Private to kernels/cuda/. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum conv_direction { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHTS, CONV_N_DIRECTIONS };

/* What a forward plan adds to the sums before they are rounded: y = sum + residual + bias. */
enum conv_finish { FINISH_NONE, FINISH_BIAS, FINISH_RESIDUAL_BIAS, CONV_N_FINISHES };

struct convolver; /* of one device */
struct conv_plan;

struct conv_plan_shape {
        enum conv_direction direction;
        int64_t n_images, height, width, c_in, c_out;
        enum dtype type;
        bool accumulate; /* the result is added to: y, dx or dw */
        bool tf32;       /* factors of float may be rounded to tf32 */
        enum conv_finish finish;
};

int convolver_new(struct convolver **ret, struct error *err);
struct convolver *convolver_free(struct convolver *c);
/* What computes, and its version: part of what a choice is good for. */
const char *convolver_name(void);

/* A plan has ways to compute its shape, all deterministic and as exact as the type asks for, the one that is thought to
 * be fastest first. *ret is NULL where there is none: that is no failure. It runs by the first until another is taken.
 */
int conv_plan_new(struct convolver *c, const struct conv_plan_shape *shape, struct conv_plan **ret, struct error *err);
struct conv_plan *conv_plan_free(struct conv_plan *p);
int conv_plan_ways(const struct conv_plan *p);
/* A word, the same in every process; "" where it has none. */
const char *conv_plan_name(const struct conv_plan *p, int way);
/* False, and the plan stays as it was, where that way cannot be had. */
bool conv_plan_take(struct conv_plan *p, int way);
int conv_plan_taken(const struct conv_plan *p);
size_t conv_plan_workspace(const struct conv_plan *p);
/* What the direction reads and writes. residual as y, bias [c_out] of the plan's type: where the plan adds them, else
 * not looked at; residual is not y. */
struct conv_operands {
        void *x, *w, *y;
        const void *residual, *bias;
        void *workspace;
};
/* Asynchronous on stream, recordable. */
cudaError_t conv_plan_run(struct conv_plan *p, cudaStream_t stream, const struct conv_operands *o);

/* choose.c: how a shape is computed: by its plan, or in float32 by one of its factors' terms (split.h). */
struct conv_way {
        struct conv_plan_shape shape;
        struct conv_plan *plan; /* NULL: there is none */
        bool is_split;
        size_t workspace_bytes;
};

/* Takes what is kept for the device and the shape or, where nothing is, what is measured to be fastest, and keeps it.
 * Without a plans folder, on a device that only plans, or where memory is lacking it is the first way of the shape's
 * own plan; a device that only plans then reports the larger workspace. A split way has to agree with the shape's own
 * plan on random values. */
int conv_way_new(struct device *d, const struct conv_plan_shape *shape, struct conv_way *ret, struct error *err);
void conv_way_done(struct conv_way *w);
/* For operation op of the stream; o->workspace: workspace_bytes, aligned to 256. */
void conv_way_run(struct stream *s, const char *op, const struct conv_way *w, struct conv_operands o);

#ifdef __cplusplus
}
#endif
