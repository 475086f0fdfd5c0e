/* Noise schedules (spec 4): gamma(e, t) and its derivative in t, [m, d] with d = 3072, or d = 1 for the VDM baseline.
 * A forward pass begins with the latent, is evaluated at some times, and is undone in the reverse order. */
#pragma once

#include "engine/pass.h"

struct schedule {
        enum gamma_type type;
        int64_t d, k, width; /* values an image; entries of e; hidden width of the monotone net */
        const struct param *dense[5], *dense_bias[5]; /* poly_fixedend: 1, 2, out_a, out_b, out_c */
        const struct param *l1, *l1_bias, *l2, *l2_bias, *l_int, *l_int_bias,
                *l3; /* learnable_nnet; l1, l1_bias also w, b */
        struct schedule_kept {
                const float *e;
                float *h_1, *s_1, *h_2, *s_2, *coefficient[3]; /* poly; [m, d] and behind it the low parts */
                float *d_coefficient[3];
                float *end[2];                      /* linear, fixed: span and gamma_min */
                float *abs_l2, *abs_l_int, *abs_l3; /* learnable_nnet: |W| and gradients of it */
                float *d_abs_l2, *d_abs_l_int, *d_abs_l3;
        } kept;
};

/* One time's evaluation. gamma, gamma_prime: [m, d], released by schedule_release. gamma_low: what float32 rounded away
 * (kernels.h), behind gamma in the same block; NULL where the schedule does not keep it. */
struct schedule_at {
        const float *t; /* [m], borrowed */
        float *gamma, *gamma_low, *gamma_prime;
        bool constant;                         /* the end of poly_fixedend: nothing learned */
        float *in, *p_1, *u_1, *p_2, *u_2, *h; /* learnable_nnet: values, then derivatives, [2 m, ..] */
};

/* Finds its parameters in the layout, or declares them there unless it is laid out. */
int schedule_init(struct schedule *s, const struct config *c, struct params *layout, struct error *err);

/* e [m, k] (NULL for the baseline) is borrowed until schedule_end. */
void schedule_begin(struct pass *p, struct schedule *s, const float *e);
void schedule_evaluate(struct pass *p, struct schedule *s, const float *t, struct schedule_at *ret);
/* t is 0 or 1 for every image: where the ends are fixed, constants. */
void schedule_evaluate_end(struct pass *p, struct schedule *s, bool one, const float *t, struct schedule_at *ret);
/* d_gamma, d_gamma_prime [m, d], either may be NULL; de [m, k] += (NULL for the baseline) */
void schedule_evaluate_backward(struct pass *p, struct schedule *s, const struct schedule_at *at, const float *d_gamma,
                                const float *d_gamma_prime, float *de);
void schedule_release(struct pass *p, struct schedule_at *at);
/* Backward through what schedule_begin computed; de [m, k] +=. */
void schedule_begin_backward(struct pass *p, struct schedule *s, float *de);
/* Releases what schedule_begin took. */
void schedule_end(struct pass *p, struct schedule *s);
