/* What a pass runs on: a back end's stream, the arena, the parameters and where their gradients go, the plans. And the
 * dense layer over rows, which the schedule and the tape's operations share. */
#pragma once

#include "engine/arena.h"
#include "engine/params.h"

struct plans;

/* Gradients that are kept as factors (kernels.h, outer_gradient) instead of being written: those of the schedule, whose
 * 38 million values a step would write and read once more. Each part of a batch fills its rows. The factors of several
 * ranks are those of one that has all rows: zero but for a rank's own, summed over ranks. Above FACTORED_ROWS the
 * product is cheaper (tests/bench/RESULTS.md), and the gradients are written like all others. */
#define FACTORED_MAX 16
#define FACTORED_ROWS 64
struct factored_gradients {
        size_t n;
        const struct param *param[FACTORED_MAX];
        struct outer_gradient gradient[FACTORED_MAX];
        int64_t rows, first_row; /* of the whole batch; of the part that runs */
        float *memory;           /* device, factored_values(): the caller's */
        int64_t used;            /* values */
};
/* Values that the factors of a batch need. */
int64_t factored_values(const struct params *layout, int64_t rows);

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
        bool accumulate;     /* gradients of weights add to what earlier parts of the batch left */
        bool dropout;        /* on: training */
        bool tf32;           /* products over maps may round their factors to tf32 */

        void (*written)(void *user, const struct param *q); /* or NULL; the networks' gradient of q is whole */
        void *written_user;
        struct factored_gradients *factored; /* or NULL: all gradients go to grads */

        const struct step_state *state;    /* of the noise: seed and step */
        const struct row *rows;            /* [m]: and images */
        const float *const *dropout_masks; /* tests: by number instead of random ones, or NULL */

        int failed;         /* the first failure to make a plan */
        struct error error; /* its text */
};

#define RUN(p, name, ...) (p)->k->name((p)->stream, &(struct name##_args){__VA_ARGS__})

/* ---- plans by shape, made on first use (in the dry run) and kept. */
int plans_new(struct plans **ret, struct error *err);
struct plans *plans_free(struct plans *p, const struct kernels *k);

struct plan {
        void *op;
        size_t workspace, saved; /* bytes; saved: attention's */
};
/* NULL after a failure, which p keeps. */
const struct plan *plan_conv(struct pass *p, struct conv_shape shape);
const struct plan *plan_dense(struct pass *p, struct dense_shape shape);
const struct plan *plan_norm(struct pass *p, struct norm_shape shape);
const struct plan *plan_attention(struct pass *p, struct attention_shape shape);

/* RUN with the plan's workspace, taken from the arena for so long; nothing where there is no plan. */
#define RUN_PLAN(p, plan, name, ...)                                                                                   \
        do {                                                                                                           \
                void *workspace_ = (plan) ? arena_alloc((p)->arena, (plan)->workspace) : NULL;                         \
                                                                                                                       \
                if (plan)                                                                                              \
                        RUN(p, name, __VA_ARGS__, .workspace = workspace_);                                            \
                arena_release((p)->arena, workspace_);                                                                 \
        } while (0)

/* ---- memory */
float *pass_alloc(struct pass *p, int64_t n); /* n floats of the arena */
float *pass_zeros(struct pass *p, int64_t n);
void pass_release(struct pass *p, float **x); /* and NULL left behind; NULL does nothing */

/* A parameter's values and gradient; the gradient is NULL when p->grads is. */
const float *pass_value(const struct pass *p, const struct param *q);
float *pass_gradient(const struct pass *p, const struct param *q);

/* Rows of a dense layer: x [rows, in] -> y [rows, out]. w: device values [in, out], which may be part of a kernel. */
struct linear {
        int64_t rows, in, out;
        enum dtype type;    /* of x and y */
        bool tf32;          /* kernels.h, dense_shape */
        const float *w, *b; /* b or NULL */
        float *dw, *db;     /* or NULL: not wanted */
        bool accumulate_weights;
        const struct param *factored, *factored_bias; /* the layer's gradients may be kept as factors; or NULL */
};
/* w and b (or NULL) whole, float32; gradients as the pass has them. */
struct linear linear_of(const struct pass *p, int64_t rows, const struct param *w, const struct param *b);
void linear_forward(struct pass *p, const struct linear *l, const void *x, void *y, bool accumulate);
void linear_backward_weights(struct pass *p, const struct linear *l, const void *x, const void *dy);
void linear_backward_data(struct pass *p, const struct linear *l, const void *dy, void *dx, bool accumulate);
