/* The contract between the engine and its back ends (reference, cpu, cuda): what the networks need, as operations on
 * plain pointers to device memory.
 *
 * - Memory is the back end's (memory_new); workspaces are handed in; no operation allocates or asks the host.
 * - An operation runs on a stream, asynchronously. None returns an error: the first failure on a stream is kept with
 *   the operation's name, later operations do nothing, and stream_sync tells. So a step reads as its formulas.
 * - What has a plan (conv, dense, norm, attention) is made once a shape with _new, which knows its workspace, and run
 *   many times. A plan is not shared by two streams at a time, and begins with its shape (kernels/cost.h reads it).
 *   _new may measure, in device memory that it gives back, unless the device only plans; what a shape asks for and a
 *   back end lacks is refused with -ENOTSUP, by name.
 * - A window runs without the host: what changes from step to step lives in device memory (struct step_state, struct
 *   row) and operations alone change it there, so that operations can be recorded once (graph_begin) and launched many
 *   times. An argument by value, and every pointer, is frozen in the recording.
 * - Activations are NHWC, [n_images, pixels, channels], float32 or bf16 as their shape says; kernels HWIO and [in, out]
 *   as published, float32 always: a plan of type bf16 rounds the weights itself, sums in float32 and leaves gradients
 *   of weights in float32. All 64-byte aligned. Pointers `void` have the shape's type, others the one that they say.
 * - Gradients: what backward computes is written (=); where a tensor has two consumers, or a batch is made in parts,
 *   there is `accumulate` (+=). Pointers marked "or NULL" are left out of the work. Outputs never alias inputs unless
 *   the comment says so.
 * - Deterministic: the same device, thread count and arguments give the same bits. */
#pragma once

#include "base/error.h"
#include "kernels/flow.h"
#include "kernels/philox.h"

#define KERNELS_ABI 5
#define KERNELS_ALIGN 64

enum dtype { DTYPE_FLOAT32, DTYPE_BF16, DTYPE_N };

static inline size_t dtype_bytes(enum dtype type)
{
        return type == DTYPE_BF16 ? 2 : 4;
}

struct device;      /* one device of a back end, with its threads */
struct stream;      /* operations in order */
struct event;       /* a place in a stream that another stream can wait for */
struct graph;       /* recorded operations */
struct conv;        /* convolution over a map */
struct dense;       /* x W + b */
struct norm;        /* group norm, swish, dropout */
struct attention;   /* over all pixels */
struct collectives; /* what ranks say to each other: comm.h */

struct device_settings {
        int index;      /* which device; 0 on the CPU */
        int threads;    /* CPU: threads of our loops and of oneDNN's, at least 1 */
        bool plan_only; /* no device is touched: plans know their workspace, operations do not run */
        /* Where plans are chosen by measurement, once a shape, and the choice is kept: a folder that is there, or NULL,
         * then by a fixed rule. Where it cannot be written the rule stays: device_open succeeds, with err saying so. */
        const char *plans_folder;
};

/* What a back end says of its device. */
struct device_info {
        char name[128];
        char uuid[64];        /* "" where there is none */
        int64_t memory_total; /* bytes that a process can have at most: a control group's limit counts */
        int64_t memory_free;  /* of those, now; what the system would give back under pressure counts as free */
        int compute_major, compute_minor; /* CUDA's compute capability, else 0 */
        int threads;                      /* CPU: of the team that it got, which may be fewer than were asked for */
        bool bf16;                        /* computes bf16 in hardware */
        /* FLOP/s of products at its highest clock, by the type of their factors; 0: not known */
        double flops_float32, flops_tf32, flops_bf16;
};

/* What is used of a device at this moment. NAN: not known. */
struct device_use {
        int64_t memory_bytes; /* of a GPU by all processes, of the processor's by this one */
        double busy; /* share of time: of a GPU in which it computed anything; of the processor's threads that this
                      * process had since it was asked last */
        double celsius;
        double watts;
};

enum step_failure { FAILURE_NONE, FAILURE_LOSS, FAILURE_GRADIENT, FAILURE_WEIGHT, FAILURE_N };
enum loss_sum { SUM_RECON, SUM_LATENT, SUM_DIFF, SUM_VAR_0, SUM_VAR_1, SUM_N };

/* What a step depends on and what it leaves, in device memory. The host writes all of it when a run begins (zero but
 * for seed, step, position and, after a resumption, the window) and reads it after stream_sync at a window's end. */
struct step_state {
        uint32_t seed;
        uint32_t failure; /* enum step_failure, the first: no update is applied any more, step stays that step */
        int64_t step;     /* number of updates before this one: the counter's step. Sampling: of the transition to s =
                           * step / n_steps, n_steps for z_1. Evaluation: 0 */
        int64_t position; /* first row of the list that the batch takes (list_rows) */
        double learning_rate;
        float m_correction; /* 1 / (1 - b1^(step + 1)) */
        float v_correction; /* 1 / (1 - b2^(step + 1)) */
        float tau;          /* of the gumbel latent: max(0.5, exp(-1e-5 step)) */
        float clip;         /* factor of the gradients */
        int32_t padding;
        double squared_norm;       /* of the step's gradients */
        double step_sums[SUM_N];   /* of the step's images so far */
        double window_sums[SUM_N]; /* of the open log window's steps */
        int64_t n_window;          /* how many steps those are */
};

/* What row i of a batch is, in device memory: its image and where its random numbers come from. */
struct row {
        int64_t index;       /* of the image in its split */
        uint64_t image;      /* the counter's image: the place in the batch when training, else the index */
        uint32_t block;      /* the counter's block: the repeat of a dense evaluation */
        uint32_t time_block; /* the counter's block of t_0 */
        uint64_t time_image; /* the counter's image of t_0 */
        int64_t time_place;  /* t = (t_0 + time_place / total) mod 1 */
};

/* ---- plans */

struct conv_shape {
        int64_t n_images, height, width, c_in, c_out;
        int64_t kernel_height, kernel_width, stride, groups; /* zero padding keeps height and width at stride 1 */
        enum dtype x_type, y_type; /* of x and dx (bf16: the weights are rounded); of y, residual and dy */
        bool tf32;                 /* factors of float32 may be rounded to tf32, 10 bits */
};

struct dense_shape {
        int64_t m, k, n; /* x [m, k], w [k, n], y [m, n] */
        enum dtype type;
        bool tf32; /* as a convolution's */
};

struct norm_shape {
        int64_t n_images, pixels;
        int64_t c_a, c_b; /* channels of two inputs read side by side as one of c = c_a + c_b; c_b 0: one input */
        int64_t groups;   /* c is a multiple of it, and no group straddles the two inputs */
        enum dtype type;
};

struct attention_shape {
        int64_t n_images, pixels, c, heads; /* c of all heads together */
        enum dtype type;
        bool tf32; /* as a convolution's */
};

/* ---- convolution: y = conv(x; w) + b + residual. x [n, h, w, c_in], w [kernel_height, kernel_width, c_in, c_out], y
 * [n, h, w, c_out]. */

struct conv_forward_args {
        struct conv *conv;
        const void *x;
        const float *w, *b;   /* b or NULL */
        const void *residual; /* or NULL; may be y itself: y += conv */
        void *y;
        void *workspace;
};
struct conv_backward_data_args {
        struct conv *conv;
        const void *dy;
        const float *w;
        void *dx;
        bool accumulate;
        void *workspace;
};
struct conv_backward_weights_args {
        struct conv *conv;
        const void *x, *dy;
        float *dw, *db;  /* db or NULL */
        bool accumulate; /* both */
        void *workspace;
};

/* ---- dense: y = x w + b, row by row; accumulate: y += x w + b. */

struct dense_forward_args {
        struct dense *dense;
        const void *x;
        const float *w, *b; /* b or NULL */
        void *y;
        bool accumulate;
        void *workspace;
};
struct dense_backward_data_args {
        struct dense *dense;
        const void *dy;
        const float *w;
        void *dx;
        bool accumulate;
        void *workspace;
};
struct dense_backward_weights_args {
        struct dense *dense;
        const void *x, *dy;
        float *dw, *db;  /* db or NULL */
        bool accumulate; /* both */
        void *workspace;
};

/* ---- The way from the latent to the networks' inputs keeps what float32 rounds away: gamma reaches z_t, whose Fourier
 * features multiply an error by 2^7 2 pi, and the time embedding, which multiplies it by 1000. A value there is a pair,
 * x + x_low with |x_low| at most half a unit in the last place of x; an x_low or y_low that is NULL is zero or dropped.
 */

/* y = x w + b, products and sums in double. x [m, k], w [k, n], b [n] or NULL, y [m, n]. For few rows, where the
 * weights' traffic is the cost. Backward is dense's. */
struct wide_dense_forward_args {
        int64_t m, k, n;
        const float *x, *x_low, *w, *b;
        float *y, *y_low;
};

/* ---- y = dropout(swish(GroupNorm(x; groups, eps 1e-6) scale + bias)), x = [a | b] + addend over pixels.
 * Spec 1; variance as max(0, E[x^2] - E[x]^2) in exact arithmetic (any accurate way will do); Wu & He 2018. */

struct dropout {
        float rate;                     /* 0: off. Kept values are divided by 1 - rate. */
        uint32_t block;                 /* which mask: philox block of STREAM_DROPOUT */
        const struct step_state *state; /* seed and step */
        const struct row *rows;         /* [n_images]: the counter's image */
        const float *mask;              /* tests: multipliers [n_images, pixels, c] instead of random ones, or NULL */
};
/* Element i of an image (pixel * c + channel) is kept where the 16-bit half (i % 8) of philox_draw(.., quad = i / 8)
 * (low half of word 0, high half of word 0, low half of word 1 ...) is at least round(rate * 65536). */

struct norm_forward_args {
        struct norm *norm;
        const void *a, *b;         /* [n_images, pixels, c_a], [.., c_b]; b NULL when c_b is 0 */
        const float *addend;       /* [n_images, c] or NULL: added to every pixel before the norm */
        const float *scale, *bias; /* [c] */
        bool swish;
        struct dropout dropout;
        void *y;      /* [n_images, pixels, c] */
        float *stats; /* [n_images, groups, 2]: mean, 1/std; kept for backward */
        void *workspace;
};
struct norm_backward_args {
        struct norm *norm;
        const void *dy; /* [n_images, pixels, c] */
        const void *a, *b;
        const float *addend, *scale, *bias, *stats;
        bool swish;
        struct dropout dropout;
        void *da, *db; /* db NULL when c_b is 0 */
        bool accumulate_a, accumulate_b;
        float *dscale, *dbias;   /* [c] or both NULL (gradient of inputs only) */
        bool accumulate_weights; /* dscale and dbias */
        float *daddend; /* [n_images, c] or NULL: sum over pixels of dx; what conv1's bias and condition need */
        void *workspace;
};

/* ---- o = softmax(q k^T / sqrt(c)) v. All [n_images, pixels, c]. saved: what forward keeps for backward. */

struct attention_forward_args {
        struct attention *attention;
        const void *q, *k, *v;
        void *o;
        void *saved; /* attention_saved bytes; may be NULL where no backward follows */
        void *workspace;
};
struct attention_backward_args {
        struct attention *attention;
        const void *d_o, *q, *k, *v, *o;
        const void *saved;
        void *dq, *dk, *dv;
        void *workspace;
};

/* ---- embeddings. Spec 1. Rows of y have stride y_stride floats (the latent stands behind, in the same rows). */

struct time_embedding_forward_args {
        int64_t m, n;           /* y[i, 0 .. n) from t[i] = (g[i] - offset) scale */
        const float *g, *g_low; /* [m] */
        float offset, scale;
        float *y;
        int64_t y_stride;
};
struct time_embedding_backward_args {
        int64_t m, n;
        const float *g, *g_low;
        float offset, scale;
        const float *dy;
        int64_t dy_stride;
        float *dg; /* [m] */
};
/* y[i] = [z_0 z_1 z_2, sin .., cos ..], 15 channels, of pixel i. The argument 2 pi 2^k z reaches 800: reduce it
 * exactly. */
struct fourier_forward_args {
        int64_t n_pixels;
        enum dtype type;        /* of y */
        const float *z, *z_low; /* [n_pixels, 3] */
        void *y;                /* [n_pixels, 15] */
};
struct fourier_backward_args {
        int64_t n_pixels;
        enum dtype type; /* of dy */
        const float *z, *z_low;
        const void *dy;
        float *dz;
        bool accumulate;
};

/* ---- elementwise and small. swish_*, add, abs_*: dx may be dy. */

struct swish_forward_args {
        int64_t n;
        enum dtype type; /* low parts: of float32 only */
        const void *x;
        const float *x_low;
        void *y; /* may be x */
        float *y_low;
};
struct swish_backward_args {
        int64_t n;
        enum dtype type;
        const void *x, *dy;
        void *dx;
};
struct relu_forward_args {
        int64_t n;
        enum dtype type;
        const void *x;
        void *y; /* max(0, x); may be x */
};
struct relu_backward_args {
        int64_t n;
        enum dtype type;
        const void *x, *dy; /* dx = dy where x > 0, else 0 */
        void *dx;
};
struct add_args {
        int64_t n;
        enum dtype type;
        const void *x;
        void *y; /* y += x */
};
/* An image's vector at every pixel: y[i, p, 0 .. c) = x[i, 0 .. c); backward sums over the pixels, in double. */
struct repeat_forward_args {
        int64_t m, pixels, c;
        const float *x; /* [m, c] */
        float *y;       /* [m, pixels] rows of y_stride values */
        int64_t y_stride;
};
struct repeat_backward_args {
        int64_t m, pixels, c;
        const float *dy;
        int64_t dy_stride;
        float *dx; /* [m, c] */
        bool accumulate;
};
struct copy_2d_args {
        int64_t rows, columns;
        enum dtype x_type, y_type;
        const void *x;
        int64_t x_stride; /* in values; 0 repeats one row */
        void *y;
        int64_t y_stride;
        bool accumulate;
        float scale, shift; /* y = x * scale + shift */
};
struct fill_args {
        int64_t n;
        float value;
        float *y;
};
struct abs_forward_args {
        int64_t n;
        const float *x;
        float *y;
};
struct abs_backward_args {
        int64_t n;
        const float *x, *dy; /* dx = sign(x) dy, sign(0) = 0 */
        float *dx;
        bool accumulate;
};
struct row_mean_forward_args {
        int64_t m, n;
        const float *x, *x_low; /* [m, n] */
        float *y, *y_low;       /* [m], summed in double */
};
struct row_mean_backward_args {
        int64_t m, n;
        const float *dy;
        float *dx; /* dx[i, j] += dy[i] / n */
};
struct encode_image_args {
        int64_t n;
        const uint8_t *x;
        float *f; /* 2 (x + 0.5) / 256 - 1. Spec 5 */
};

/* ---- noise schedules. Spec 4. gamma and gamma_prime [m, d]; either may be NULL. */

struct poly_forward_args {
        int64_t m, d;
        const float *a, *b, *c_raw; /* [m, d]; c = 1e-3 + softplus(c_raw) */
        const float *a_low, *b_low, *c_raw_low;
        const float *t; /* [m] */
        float gamma_min, gamma_max;
        float *gamma, *gamma_low, *gamma_prime;
};
struct poly_backward_args {
        int64_t m, d;
        const float *a, *b, *c_raw, *t;
        float gamma_min, gamma_max;
        const float *d_gamma, *d_gamma_prime; /* either may be NULL */
        float *da, *db, *dc_raw;
        bool accumulate;
};
/* Value and derivative in t together: u = 2 (sigmoid(p) - 1/2) and u' = (1 - u^2) p' / 2, the squashing of the monotone
 * nets. backward: gradients of p and p' from those of u and u'. */
struct dual_squash_forward_args {
        int64_t n;
        const float *p, *p_prime;
        float *u, *u_prime; /* may be p, p_prime */
};
struct dual_squash_backward_args {
        int64_t n;
        const float *u, *p_prime;
        const float *du, *du_prime;
        float *dp, *dp_prime; /* may be du, du_prime */
};
/* gamma = b + |w| t + h / divisor, gamma' = |w| + h' / divisor; w, b scalars in device memory; h, h' [m, d] or NULL. */
struct monotone_out_forward_args {
        int64_t m, d;
        const float *w, *b, *t, *h, *h_prime;
        float divisor;
        float *gamma, *gamma_prime;
};
struct monotone_out_backward_args {
        int64_t m, d;
        const float *w, *t;
        const float *d_gamma, *d_gamma_prime; /* either may be NULL */
        float divisor;
        float *dh, *dh_prime; /* or NULL */
        float *dw, *db;       /* [1] each, or NULL; summed in double */
        bool accumulate;      /* dw, db */
};

/* ---- the latent. Spec 3. e = (hard - soft) + soft, straight through: hard forward, soft backward. topk: y = logits +
 * noise, centred; soft = y / |y|; hard = y >= its k-th largest (ties count). KL of softmax(logits) to the uniform.
 * noise: raw gamma variates [10, m, n] (sum_of_gamma), else additive noise [m, n]; NULL: none. */

struct topk_forward_args {
        int64_t m, n;
        int64_t k;
        const float *logits, *noise;
        bool sum_of_gamma;
        float *e;    /* [m, n] */
        float *soft; /* [m, n], kept */
        float *norm; /* [m], kept: |y| */
        float *kl;   /* [m] */
};
struct topk_backward_args {
        int64_t m, n;
        const float *logits, *soft, *norm;
        const float *de; /* [m, n] */
        float d_kl;      /* gradient of each image's KL */
        float *d_logits; /* [m, n] */
};

/* gumbel: y = (logits + noise) / tau of the state, soft = softmax(y), hard is 1 at the first of y's largest. KL as
 * topk's. */
struct gumbel_forward_args {
        int64_t m, n;
        const float *logits, *noise;    /* [m, n] */
        const struct step_state *state; /* tau */
        float *e;                       /* [m, n] */
        float *soft;                    /* [m, n], kept */
        float *kl;                      /* [m] */
};
struct gumbel_backward_args {
        int64_t m, n;
        const float *logits, *soft;
        const struct step_state *state;
        const float *de; /* [m, n] */
        float d_kl;
        float *d_logits; /* [m, n] */
};

/* gaussian: e = mu + sqrt(var) noise, var = softplus(raw); KL to the standard normal. noise NULL: the mean. */
struct gaussian_forward_args {
        int64_t m, n;
        const float *mu, *raw, *noise; /* [m, n] */
        float *e;                      /* [m, n] */
        float *kl;                     /* [m] */
};
struct gaussian_backward_args {
        int64_t m, n;
        const float *mu, *raw, *noise;
        const float *de; /* [m, n] */
        float d_kl;
        float *d_mu, *d_raw; /* [m, n] */
};

/* ---- the bound. Spec 5. d = 3072; gamma arguments are [m, g] with g = d, or g = 1 (VDM: one value an image). */

enum parameterisation {
        PARAM_VELOCITY,              /* net is v_hat; continuous time */
        PARAM_VELOCITY_FROM_EPSILON, /* v_hat from net as eps_hat */
        PARAM_EPSILON,               /* continuous time */
        PARAM_EPSILON_DISCRETE,      /* n_timesteps > 0: gamma_s instead of gamma_prime */
};
/* z = sqrt(1 - var) f + sqrt(var) eps, var = sigmoid(gamma) */
struct diffuse_forward_args {
        int64_t m, d, g;
        const float *f, *eps, *gamma, *gamma_low;
        float *z, *z_low;
};
struct diffuse_backward_args {
        int64_t m, d, g;
        const float *f, *eps, *gamma, *dz;
        float *d_gamma; /* [m, g] += */
};
/* The three terms an image in nats, and, where d_net is given, their gradients times grad_scale. */
struct bound_args {
        int64_t m, d, g;
        enum parameterisation parameterisation;
        int64_t n_timesteps;                    /* T of PARAM_EPSILON_DISCRETE */
        const uint8_t *x;                       /* [m, d] */
        const float *f, *eps_0, *eps, *z, *net; /* [m, d] */
        const float *gamma_0, *gamma_1, *gamma_t;
        const float *gamma_prime; /* discrete: gamma at s = t - 1/T */
        float *terms;             /* [m, 3]: reconstruction, prior, diffusion; summed in double */
        float *vars;              /* [m, 2]: mean of var_0, of var_1 */
        float grad_scale;
        float *d_net; /* [m, d] or NULL: no gradients at all */
        float *d_z;   /* [m, d]: direct dependence on z_t alone (zero but for PARAM_VELOCITY_FROM_EPSILON) */
        float *d_gamma_0, *d_gamma_1, *d_gamma_t, *d_gamma_prime; /* [m, g]; d_gamma_prime: of gamma_s when discrete */
};

/* Schedules that are known, from gamma_min at t = 0 to gamma_max at t = 1: the paper's own time u goes linearly between
 * those of the two ends.
 *  DDPM_LINEAR  alpha^2 = exp(-(0.1 u + 9.95 u^2))  Ho et al. 2020's linear beta in continuous time, Song et al. 2021
 *  COSINE       alpha^2 = cos^2(pi u / 2)           Nichol & Dhariwal 2021, without their offset s
 *  STRAIGHT     sigma / alpha = u / (1 - u)         flow matching's straight path, Lipman et al. 2023, scaled to keep
 *                                                   the variance
 * gamma = ln(sigma^2 / alpha^2), gamma_low what float32 rounds away, gamma_prime its derivative by t. */
enum known_schedule { SCHEDULE_DDPM_LINEAR, SCHEDULE_COSINE, SCHEDULE_STRAIGHT };
struct known_gamma_args {
        int64_t m;
        enum known_schedule schedule;
        double gamma_min, gamma_max;
        const float *t;                         /* [m] */
        float *gamma, *gamma_low, *gamma_prime; /* [m] */
};
/* Gradients of the diffusion term by the network's output, x [m, d], from the likelihood's weight to another one of
 * |eps - eps_hat|^2, in units of the schedule's mean slope (gamma_max - gamma_min) / 2:
 *  SIMPLE         1                       Ho et al. 2020
 *  FLOW_MATCHING  (1 + sigma / alpha)^2   |v - v_hat|^2 on the straight path, Lipman et al. 2023 */
enum row_weight { WEIGHT_SIMPLE, WEIGHT_FLOW_MATCHING };
struct weigh_rows_args {
        int64_t m, d;
        enum row_weight weight;
        double gamma_min, gamma_max;
        const float *gamma, *gamma_prime; /* [m] */
        float *x;
};

/* ---- sampling. Spec 8. */

/* z_s = sqrt(a/b) (z_t - sigma_t c eps_hat) + sqrt((1 - a) c) eps; eps_hat from net by the parameterisation. */
struct ancestral_step_args {
        int64_t m, d, g;
        enum parameterisation parameterisation;
        const float *gamma_t, *gamma_s, *net, *eps;
        float *z; /* z_t in, z_s out */
};
/* x = arg max (or with uniforms [m, d]: a draw) of the decoder's softmax at z_0 / sqrt(1 - var_0) */
struct decode_args {
        int64_t m, d, g;
        const float *z, *gamma_0;
        const float *uniform; /* or NULL */
        uint8_t *x;
};

/* ---- the probability flow. Spec 7. A trajectory is a slot of a batch: a state of d values as pairs (x, x_low), the
 * integral l of the divergence, time s from 0 to 1 and a step size of its own. It goes with the model's time, t = s, or
 * against it (reverse: t = 1 - s, dx/ds = -dx/dt). A step of a solver (kernels/flow.h) evaluates its stages 1 .. n - 1
 * of all trajectories together; a fresh one spends its first step on finding its slope (stage 1) and step size (stage
 * 2), and does not move. */

struct trajectory {
        int64_t place;             /* of the list: what it integrates; -1: nothing */
        double s, h;               /* where it is; the step that is tried next */
        double l;                  /* integral of the divergence so far */
        double slope[FLOW_STAGES]; /* of l, by stage */
        double error;              /* of the step that was tried: sum of squares of error over tolerance */
        double norm;               /* the error norm of the last step that was taken; 0: none was */
        double log_q;              /* of the dequantising noise, without what is the same for all */
        int64_t n_evaluations, n_rejected;
        uint32_t fresh;    /* begins: has no step size yet */
        uint32_t rejected; /* the last try was */
        uint32_t done;     /* s = 1, or the step size has collapsed: */
        uint32_t failed;
};

/* What a trajectory has left, by its place in the list. */
struct flow_result {
        double log_p; /* -(d ln 2 pi + |x(1)|^2) / 2 + l(1) */
        double log_q, kl;
        int64_t n_evaluations, n_rejected;
        int64_t failed; /* not 0: the step size collapsed, log_p means nothing */
};

/* Slots that are done leave their results and take the next of places [n], from state->position on, which moves: a
 * place is image x repeats + importance sample. They are fresh, at s = 0; where the list has ended place becomes -1 and
 * the slot stays done. */
struct flow_slots_args {
        int64_t m, d, n, repeats;
        const int64_t *places;
        const float *x, *x_low, *kl; /* [m, d], [m]: of those that are done */
        struct step_state *state;
        struct row *rows;                /* [m] */
        struct trajectory *trajectories; /* [m]; before the first time: place -1, done */
        struct flow_result *results;     /* by place */
};

enum dequantisation { DEQUANTISE_TRUNCATED, DEQUANTISE_UNIFORM };
/* x of fresh slots. Truncated: f + std u, u a standard normal cut to [-3, 3] by rejection (the pair of words 0, 1 of
 * element i; attempt counts), log_q = -|u|^2 / 2. Uniform: f + (2 u - 1) / 256, u of words 0 .. 3 of quad i / 4 in
 * (0, 1), log_q = 0. */
struct dequantise_args {
        int64_t m, d;
        enum dequantisation kind;
        double std;
        const float *f;
        const struct step_state *state;
        const struct row *rows;
        float *x, *x_low;
        struct trajectory *trajectories;
};
/* Probes of the divergence. Rademacher: -1 where bit 31 of word i mod 4 of quad i / 4 is 0, else 1. Gaussian: as
 * random_normal's. The counter's step is 0, or, with `each`, the number of the trajectory's evaluation that stage is:
 * one probe for all of a trajectory, or one an evaluation. */
enum probe { PROBE_RADEMACHER, PROBE_GAUSSIAN };
struct flow_probe_args {
        int64_t m, d;
        enum probe kind;
        bool each;
        int stage;
        const struct step_state *state;
        const struct row *rows;
        const struct trajectory *trajectories;
        float *y;
};

/* k = dx/ds of the flow; spec 7: 0.5 sigma gamma' (net - sigma x) for the noise parameterisations, 0.5 alpha sigma
 * gamma' v_hat for the velocity's; reverse: the negative. With a probe also the gradient of probe . k by net and,
 * directly, by x. */
struct drift_args {
        int64_t m, d, g;
        enum parameterisation parameterisation;
        bool reverse;
        const float *x, *x_low, *net, *gamma, *gamma_prime;
        const float *probe; /* or NULL */
        float *k;           /* [m, d] */
        float *d_net, *d_x; /* [m, d]; with a probe */
};
/* slope[stage] of each trajectory = sum of dx probe over its d values, in double: with dx = J^T probe, Hutchinson's
 * estimate of the divergence. */
struct divergence_args {
        int64_t m, d;
        int stage;
        const float *dx, *probe;
        struct trajectory *trajectories; /* [m] */
};
/* Where stage 1 .. is evaluated: y = x + h sum over j < stage of a[stage][j] k[j], t of s + c[stage] h. Fresh ones: x
 * itself, but at stage 2 an Euler step of the h that flow_start looks ahead by. */
struct flow_stage_args {
        int64_t m, d;
        enum flow_solver solver;
        int stage;
        bool reverse;
        const float *x, *x_low;
        const float *k; /* [FLOW_STAGES, m, d] */
        const struct trajectory *trajectories;
        float *y, *y_low; /* [m, d] */
        float *t;         /* [m] */
};
/* Of fresh slots: after stage 1 its slope becomes stage 0's and h a size to look ahead by; after stage 2 h is the first
 * step size (Hairer, Norsett & Wanner, II.4, as scipy has it). */
struct flow_start_args {
        int64_t m, d;
        enum flow_solver solver;
        int stage;
        double rtol, atol;
        bool shared, apart; /* apart: as in flow_step */
        const float *x;
        float *k;
        struct trajectory *trajectories;
};
/* Ends a step: error norm (root of the mean of (h e / (atol + rtol max(|y|, |y_new|)))^2 over the d values and l;
 * shared: over all trajectories'; apart: over the d
 * values alone, so that l, which nothing depends on, has no say in the steps), then x, l, s move on where it is below 1
 * and the step size is scaled by 0.9 norm^(0.75 beta - 1/q) last^beta, q the order of the error, last the norm of the
 * step before (beta 0: scipy's rule), within 0.2 and 10, at most 1 after a rejection; k[0] = k of the last stage where
 * it moved. Fresh slots are so no more. Slots that are done stay as they are. y is the last stage's, the new x. */
struct flow_step_args {
        int64_t m, d;
        enum flow_solver solver;
        double rtol, atol, beta;
        bool shared, apart;
        float *x, *x_low;
        const float *y, *y_low;
        float *k; /* [FLOW_STAGES, m, d] */
        struct trajectory *trajectories;
};

/* ---- optimizer. Spec 6: AdamW and EMA in one pass. Called once for what is decayed and once for what is not. */

/* The gradient x^T dy [k, n] of a dense kernel by its factors, x [rows, k] and dy [rows, n]: with a few rows it is
 * cheaper to multiply them where the gradient is used than to write it and read it again. */
struct outer_gradient {
        int64_t rows, k, n;
        const float *x, *dy;
};

struct squared_norm_args {
        int64_t n;
        const float *x; /* or NULL: outer's, n = outer.k outer.n */
        struct outer_gradient outer;
        double *ret; /* [1], device memory: sum of squares, += when accumulate */
        bool accumulate;
};
struct adamw_args {
        int64_t n;
        float *w, *m, *v, *ema;
        const float *g; /* or NULL: outer's, n = outer.k outer.n */
        struct outer_gradient outer;
        double b1, b2, ema_rate; /* double: 1 - rate must keep its digits */
        float eps, weight_decay;
        /* Rate, corrections and clip in; does nothing where it has failed. Values whose update is not finite stay as
         * they are, and the state fails with FAILURE_WEIGHT. */
        struct step_state *state;
};

/* ---- a step's course, on the device. A state that has failed stays as it is (but for squared_norm's result). */

/* Rate (spec 6: step / warmup of the peak, then constant or, with decay, falling to 0 at n_steps), corrections and tau
 * of state->step; step_sums 0. */
struct step_begin_args {
        double peak_rate, b1, b2;
        int64_t n_warmup, n_steps;
        bool decay;
        struct step_state *state;
};
/* step_sums += what a part of the batch, m of its `batch` images, adds to the batch's means: terms and kl over
 * batch d ln 2 (bits per dimension), vars over batch. In order of rows, in double. */
struct step_add_args {
        int64_t m, batch, d;
        const float *terms, *kl, *vars; /* [m, 3], [m], [m, 2] */
        struct step_state *state;
};
/* Fails with FAILURE_LOSS or FAILURE_GRADIENT where step_sums or squared_norm are not finite. clip = clip_norm / norm
 * where clip_norm > 0 and norm >= clip_norm, else 1. */
struct step_check_args {
        double clip_norm; /* 0: off */
        struct step_state *state;
};
/* window_sums += step_sums, n_window += 1, step += 1; nothing where it has failed. */
struct step_end_args {
        struct step_state *state;
};
/* step += step_by, position += position_by: the course of an evaluation or of sampling. */
struct advance_args {
        int64_t step_by, position_by;
        struct step_state *state;
};

/* ---- which images. Rows are made on the device, then images gathered from bytes that lie there. */

/* Row i of a training batch: image P((step batch + i) mod count) of the epoch (step batch + i) / count, P the keyed
 * permutation of philox.h; image and time_place are i, all else 0. */
struct training_rows_args {
        const struct step_state *state; /* seed, step */
        int64_t batch, count;
        struct row *rows; /* [batch] */
};
/* Row i of the list (image, repeat) of n_images images from state->position on; rows past its end repeat the last one:
 * at = min(position + i, n_images repeats - 1), index and image = at / repeats, block = at mod repeats. Its time: with
 * one repeat, place image of time_block 0 and time_image 0; with several, place block of time_block 1 (what it was from
 * the start) and time_image = image: antithetic over the split, over an image's repeats. */
struct list_rows_args {
        const struct step_state *state;
        int64_t m, n_images, repeats;
        struct row *rows; /* [m] */
};
/* x[i] = images[rows[i].index], mirrored left to right where the row's draw of STREAM_FLIP says so: pixel (h, w) is
 * then the image's (h, width - 1 - w). */
struct gather_args {
        int64_t m, bytes; /* of an image */
        const uint8_t *images;
        const struct row *rows;
        const struct step_state *flip; /* seed and step of the draws; NULL: no image is mirrored */
        int64_t width, channels;       /* with flip: an image is [bytes / (width channels), width, channels] */
        uint8_t *x;                    /* [m, bytes] */
        float *mirrored;               /* [m]: 1 for those that are mirrored, else 0; NULL: not wanted */
};
/* sums[image][0 .. 2] += scale (terms[0], terms[1] + kl, terms[2]) for those of the m rows from position on
 * that are in the list (list_rows), in order of rows. */
struct image_add_args {
        int64_t m, n_images, repeats;
        double scale;
        const float *terms, *kl; /* [m, 3], [m] */
        const struct step_state *state;
        double *sums; /* [n_images, 3] */
};

/* The diffusion term by time: sums[floor(t n_bins)] += {scale terms[2], 1}, t below 1, for the same rows in the same
 * order as image_add. */
struct time_add_args {
        int64_t m, n_images, repeats, n_bins;
        double scale;
        const float *t, *terms; /* [m], [m, 3] */
        const struct step_state *state;
        double *sums; /* [n_bins, 2] */
};

/* ---- random numbers by purpose (philox.h): seed and step of the state, image and block of the row. */

struct random_normal_args {
        const struct step_state *state;
        const struct row *rows; /* [m] */
        enum philox_stream stream;
        int64_t m, d;
        float *y; /* [m, d]: words 0,1 of a quad give elements 0,1; words 2,3 elements 2,3 */
};
/* [0, 1): words 0 .. 3 of a quad give elements 0 .. 3 (philox_uniform). */
struct random_uniform_args {
        const struct step_state *state;
        const struct row *rows; /* [m] */
        enum philox_stream stream;
        int64_t m, d;
        float *y; /* [m, d] */
};
/* Gamma(shape 1/k, scale 1), [10, m, n]: the image's element is j n + i for y[j, image, i].
 * Marsaglia & Tsang 2000 for shape 1 + 1/k, times U^k; in double; attempt counts the rejections. An attempt takes all
 * four words, so counter[0] is the element itself: words 0, 1 the normal, 2 its acceptance, 3 U; (word + 1/2) / 2^32.
 */
struct random_gamma_args {
        const struct step_state *state;
        const struct row *rows; /* [m] */
        int64_t m, n, k;
        float *y;
};
/* Word i mod 4 of quad i / 4 gives element i: u = (word + 1/2) / 2^32. */
struct random_gumbel_args {
        const struct step_state *state;
        const struct row *rows; /* [m] */
        int64_t m, n;
        float *y; /* [m, n]: -ln(-ln u) */
};
/* t_i = (t_0 + time_place / total) mod 1, t_0 the uniform of word 0 of quad 0 for the row's time_image and time_block;
 * independent: the uniform of word time_place mod 4 of quad time_place / 4 instead. n_timesteps > 0: rounded up to
 * whole steps, t = max(1, ceil(t T)) / T, and s = t - 1/T. */
struct random_times_args {
        const struct step_state *state;
        const struct row *rows; /* [m] */
        int64_t m, total;
        bool independent;
        int64_t n_timesteps;
        float *t;
        float *s; /* or NULL */
};
/* Sampling's: t = (step + 1) / n_steps, s = step / n_steps, in every row; rounded once from double. */
struct sampling_times_args {
        const struct step_state *state;
        int64_t m, n_steps;
        float *t, *s;
};

/* ---- the table */

struct kernels {
        unsigned abi; /* KERNELS_ABI */
        const char *name;

        /* -ENODEV with a reason: "no device" is an answer, not a fault. */
        int (*device_open)(const struct device_settings *settings, struct device **ret, struct error *err);
        struct device *(*device_close)(struct device *d);
        int (*device_info)(struct device *d, struct device_info *ret, struct error *err);
        int (*device_use)(struct device *d, struct device_use *ret, struct error *err);
        /* 64-byte aligned, zeroed; NULL without memory, or where the device has failed: a stream's sync tells which. */
        void *(*memory_new)(struct device *d, size_t bytes);
        void (*memory_free)(struct device *d, void *p);
        int (*stream_new)(struct device *d, struct stream **ret, struct error *err);
        struct stream *(*stream_free)(struct stream *s);
        /* Waits for all operations; the first failure of the stream, if any, which stays. -ENODEV: the device itself
         * has failed, nothing on it works any more. */
        int (*stream_sync)(struct stream *s, struct error *err);
        /* src stays as it is until the next stream_sync. */
        void (*copy_in)(struct stream *s, void *device_dst, const void *src, size_t bytes);
        void (*copy_out)(struct stream *s, void *dst, const void *device_src, size_t bytes); /* sync before reading */

        /* An event marks what the stream was given before event_record; stream_wait lets another stream go on only
         * after that. */
        int (*event_new)(struct device *d, struct event **ret, struct error *err);
        struct event *(*event_free)(struct event *e);
        void (*event_record)(struct stream *s, struct event *e);
        void (*stream_wait)(struct stream *s, struct event *e);

        /* From graph_begin to graph_end operations are recorded instead of run (copies, syncs, launches and plans are
         * not made there, -EINVAL at the end; one stream of a device at a time); graph_launch runs them, as often as it
         * is called. One other stream joins the recording when it waits for an event that was recorded in it: what it
         * is given then, which may be collectives alone (the rest would share the scratch of a recording), is recorded,
         * too, beside what follows on the first. That must wait for an event behind it before the end, -EINVAL. Other
         * events are not waited for there. */
        int (*graph_begin)(struct stream *s, struct error *err);
        int (*graph_end)(struct stream *s, struct graph **ret, struct error *err);
        void (*graph_launch)(struct stream *s, const struct graph *g);
        struct graph *(*graph_free)(struct graph *g);

        const struct collectives *collectives;

        int (*conv_new)(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err);
        struct conv *(*conv_free)(struct conv *c);
        size_t (*conv_workspace)(const struct conv *c); /* enough for each direction */
        int (*dense_new)(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err);
        struct dense *(*dense_free)(struct dense *x);
        size_t (*dense_workspace)(const struct dense *x);
        int (*norm_new)(struct device *d, const struct norm_shape *shape, struct norm **ret, struct error *err);
        struct norm *(*norm_free)(struct norm *n);
        size_t (*norm_workspace)(const struct norm *n);
        int (*attention_new)(struct device *d, const struct attention_shape *shape, struct attention **ret,
                             struct error *err);
        struct attention *(*attention_free)(struct attention *a);
        size_t (*attention_workspace)(const struct attention *a);
        size_t (*attention_saved)(const struct attention *a);

        /* Bytes that the launches of an operation move beyond its operands, each once (kernels/cost.h): copies in
         * another layout, what is read twice, partial sums. NULL: none are counted. */
        double (*bytes_beyond)(const char *op, const void *args);

        /* Names what is done until the range ends, nested, for who looks on with a profiler. NULL: nobody can. */
        void (*range_begin)(const char *name);
        void (*range_end)(void);

#define KERNEL(name) void (*name)(struct stream * s, const struct name##_args *args);
#include "kernels/kernels.def"
#undef KERNEL
};

/* A back end by name: "reference", "cpu", "cuda" (and for tests "cuda-emu", "cuda-asan", "cuda-race"). -EINVAL names
 * the known ones, -ENODEV says why a module cannot be loaded. The table is static, complete and checked. */
int kernels_find(const char *name, const struct kernels **ret, struct error *err);

/* The same table with every operation replaced by nothing: a dry run of a step tells its memory before any is taken. */
void kernels_dry(const struct kernels *k, struct kernels *ret_dry);
