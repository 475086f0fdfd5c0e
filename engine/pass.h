/* What a forward or backward pass runs on: a back end's stream, the arena, the parameters and where their gradients go.
 * The functions below are the layers: they find the plan of a shape, take its workspace and run it. */
#pragma once

#include "engine/arena.h"
#include "engine/params.h"

struct plans;

/* Gradients that are kept as factors (kernels.h, outer_gradient) instead of being written: those of the layers that say
 * so, the schedule's, whose 38 million values a step would write and read once more. Memory is the caller's, for copies
 * of the factors. */
#define FACTORED_MAX 16
struct factored_gradients {
        size_t n;
        const struct param *param[FACTORED_MAX];
        struct outer_gradient gradient[FACTORED_MAX];
        float *memory; /* device */
        int64_t used;  /* values */
};

struct pass {
        const struct kernels *k; /* or the dry table of the same back end */
        struct device *device;
        struct stream *stream;
        struct plans *plans;
        struct arena *arena;
        const struct params *layout;
        const struct config *config;
        const float *params; /* device, [layout->n_values]: weights or their EMA */
        float *grads;        /* device, the same layout; NULL: gradients of inputs only */
        int64_t m;           /* images in the batch */
        bool keep;           /* a backward pass follows: activations are kept for it */

        struct factored_gradients *factored; /* or NULL: all gradients go to grads */

        /* dropout, off where state is NULL */
        const struct step_state *state;
        int64_t first_image;
        const float *const *dropout_masks; /* tests: by block number, instead of random ones; or NULL */

        int failed;         /* the first failure to make a plan */
        struct error error; /* its text */
};

/* Plans by shape, made on first use (in the dry run) and kept. */
int plans_new(struct plans **ret, struct error *err);
struct plans *plans_free(struct plans *p, const struct kernels *k);

#define RUN(p, name, ...) (p)->k->name((p)->stream, &(struct name##_args){__VA_ARGS__})

float *pass_alloc(struct pass *p, int64_t n); /* n floats of the arena */
void pass_release(struct pass *p, float **x); /* and NULL left behind; NULL does nothing */

/* A parameter's values and gradient; the gradient is NULL when p->grads is. */
const struct param *pass_param(const struct pass *p, const char *name, const char *leaf);
const float *pass_value(const struct pass *p, const struct param *q);
float *pass_gradient(const struct pass *p, const struct param *q);

/* 3x3 convolution over 32 x 32: x [m, 1024, c_in] -> y [m, 1024, c_out] with kernel w and bias b; residual may be NULL
 * or y. backward: dx (NULL: not wanted) and, where the pass has gradients, those of w and b. */
void conv_forward(struct pass *p, const struct param *w, const struct param *b, const float *x, const float *residual,
                  float *y);
void conv_backward(struct pass *p, const struct param *w, const struct param *b, const float *x, const float *dy,
                   float *dx);

/* Rows of a dense layer: x [rows, in] -> y [rows, out]. w: device values [in, out], which may be part of a kernel. */
struct linear {
        int64_t rows, in, out;
        const float *w, *b; /* b or NULL */
        float *dw, *db;     /* or NULL: not wanted */
        bool accumulate_weights;
        const struct param *factored, *factored_bias; /* the layer's gradients may be kept as factors; or NULL */
};
struct linear linear_of(const struct pass *p, int64_t rows, const struct param *w, const struct param *b);
void linear_forward(struct pass *p, const struct linear *l, const float *x, float *y, bool accumulate);
void linear_backward(struct pass *p, const struct linear *l, const float *x, const float *dy, float *dx,
                     bool accumulate); /* dx NULL: not wanted */

/* Group norm over [m, 1024, c_a + c_b]; stats [m, 32, 2] is kept by the caller. */
struct group_norm {
        int64_t c_a, c_b;
        const struct param *scale, *bias;
        bool swish;
        int dropout_block; /* number of the mask, or -1 */
};
void group_norm_forward(struct pass *p, const struct group_norm *g, const float *a, const float *b, const float *addend,
                        float *y, float *stats);
void group_norm_backward(struct pass *p, const struct group_norm *g, const float *dy, const float *a, const float *b,
                         const float *addend, const float *stats, float *da, bool accumulate_a, float *db,
                         bool accumulate_b, float *daddend);

void attention_forward(struct pass *p, int64_t c, const float *q, const float *k, const float *v, float *o,
                       void *saved);
void attention_backward(struct pass *p, int64_t c, const float *d_o, const float *q, const float *k, const float *v,
                        const void *saved, float *dq, float *dk, float *dv);
size_t attention_saved_bytes(struct pass *p, int64_t c);
