/* The two blocks of which the networks are made (spec 1), forward and backward. A block holds what its forward pass
 * keeps for its backward pass, so it is in one pass at a time. */
#pragma once

#include "engine/pass.h"

/* x [m, 1024, c_a] (side by side with [m, 1024, c_b] in the up blocks), cond [m, 4 n_embd] -> [m, 1024, c]:
 * GroupNorm_0, swish, conv1, + cond_proj(cond), GroupNorm_1, swish, dropout, conv2, + x or nin_shortcut(x). */
struct resnet_block {
        char name[PARAM_NAME_MAX];
        int64_t c;
        struct group_norm norm_0, norm_1;
        const struct param *conv1, *conv1_bias, *conv2, *conv2_bias, *cond_proj;
        const struct param *shortcut, *shortcut_bias; /* NULL where c_a + c_b is c */
        struct resnet_kept {
                float *stats_0;    /* the convolutions' inputs are made again from the statistics: */
                float *h, *addend; /* conv1's output and the condition on it */
                float *stats_1;    /* a norm costs a twentieth of a convolution, its output as much memory as any */
        } kept;
};
void resnet_block_init(struct resnet_block *b, const struct pass *p, const char *name, int64_t c_a, int64_t c_b,
                       int64_t c, int dropout_block);

/* Returns the output, which the caller releases. x_b is NULL where c_b is 0. */
float *resnet_block_forward(struct pass *p, struct resnet_block *b, const float *x_a, const float *x_b,
                            const float *cond);

/* Takes dy [m, 1024, c] over and gives the gradients of the inputs: *ret_dx_a (the caller's, may be dy's memory) and,
 * where c_b is not 0, dx_b [m, 1024, c_b] (=). d_cond [m, 4 n_embd] +=. */
void resnet_block_backward(struct pass *p, struct resnet_block *b, const float *x_a, const float *x_b,
                           const float *cond, float *dy, float **ret_dx_a, float *dx_b, float *d_cond);

/* x + proj_out(attention(q, k, v of GroupNorm_0(x))), one head over all pixels. */
struct attention_block {
        int64_t c;
        struct group_norm norm;
        const struct param *q, *q_bias, *k, *k_bias, *v, *v_bias, *proj_out, *proj_out_bias;
        struct attention_kept {
                float *y, *stats; /* the norm's output */
                float *q, *k, *v, *o;
                void *saved;
        } kept;
};
void attention_block_init(struct attention_block *b, const struct pass *p, const char *name, int64_t c);
float *attention_block_forward(struct pass *p, struct attention_block *b, const float *x);
/* dy becomes the gradient of x in place. */
void attention_block_backward(struct pass *p, struct attention_block *b, const float *x, float *dy);
