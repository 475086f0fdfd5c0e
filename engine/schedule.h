/* Noise schedules (spec 4): gamma(e, t) and its derivative in t, [m, d] with d = 3072, or d = 1 for the VDM baseline.
 * A forward pass begins with the latent and is evaluated at some times; backward goes in the reverse order. */
#pragma once

#include "engine/pass.h"

#define SCHEDULE_LAYERS 5

struct schedule_layer {
        const struct param *w, *b; /* b or NULL */
};

struct schedule {
        enum gamma_type type;
        int64_t d, k, width; /* values an image; entries of e; hidden width of the monotone net */
        /* poly_fixedend: dense_1, dense_2, dense_out_a, b and c; learnable_nnet: l2, l_int but for the baseline, l3 */
        struct schedule_layer layers[SCHEDULE_LAYERS];
        int n_layers;                      /* of the monotone net */
        const struct param *slope, *start; /* learnable_nnet, learnable_scalar: gamma = start + |slope| t + .. */
        struct schedule_kept {
                const float *e;
                float *h[2], *s[2], *coefficient[3]; /* poly; [m, d] and behind it the low parts */
                float *d_coefficient[3];
                float *end[2];                                        /* linear, fixed: slope and start */
                float *abs[SCHEDULE_LAYERS], *d_abs[SCHEDULE_LAYERS]; /* monotone: |w| and gradients of it */
        } kept;
};

/* One time's evaluation. gamma, gamma_prime: [m, d], in the arena. gamma_low: what float32 rounded away (kernels.h),
 * behind gamma in the same block; NULL where the schedule does not keep it. */
struct schedule_at {
        const float *t; /* [m], borrowed */
        float *gamma, *gamma_low, *gamma_prime;
        bool constant;                                  /* the end of poly_fixedend: nothing learned */
        float *x[SCHEDULE_LAYERS], *y[SCHEDULE_LAYERS]; /* monotone: each layer's input and output; values, then
                                                         * derivatives, [2 m, ..] */
};

/* Finds its parameters in the layout, or declares them there unless it is laid out. */
int schedule_init(struct schedule *s, const struct config *c, struct params *layout, struct error *err);

/* e [m, k] (NULL for the baseline) is borrowed as long as times are evaluated. What it and its evaluations take from
 * the arena is the caller's to release (arena_release_since). */
void schedule_begin(struct pass *p, struct schedule *s, const float *e);
void schedule_evaluate(struct pass *p, struct schedule *s, const float *t, struct schedule_at *ret);
/* t is 0 or 1 for every image: where the ends are fixed, constants. */
void schedule_evaluate_end(struct pass *p, struct schedule *s, bool one, const float *t, struct schedule_at *ret);
/* d_gamma, d_gamma_prime [m, d], either may be NULL; de [m, k] += (NULL for the baseline) */
void schedule_evaluate_backward(struct pass *p, struct schedule *s, const struct schedule_at *at, const float *d_gamma,
                                const float *d_gamma_prime, float *de);
/* Backward through what schedule_begin computed; de [m, k] +=. */
void schedule_begin_backward(struct pass *p, struct schedule *s, float *de);
