/* The trunk (conv_in, down blocks, middle) that score network and encoder share, and the score network on it (spec 2).
 */
#pragma once

#include "engine/block.h"

/* The condition: swish(dense1(swish(dense0([temb(t), e])))), [m, 4 n_embd]. */
struct conditioning {
        int64_t n, context; /* n_embd; entries of e */
        const struct param *dense0, *dense0_bias, *dense1, *dense1_bias;
        struct conditioning_kept {
                float *in, *pre_0, *act_0, *pre_1, *cond;
        } kept;
};

struct trunk {
        int64_t n, n_layer;
        bool fourier, attention;
        const struct param *conv_in, *conv_in_bias;
        struct resnet_block *down;              /* [n_layer] */
        struct attention_block *down_attention; /* [n_layer] or NULL */
        struct resnet_block mid_1, mid_2;
        struct attention_block mid_attention;
        struct conditioning conditioning;
        struct trunk_kept {
                float *features;  /* conv_in's input; NULL without Fourier features */
                float **hs;       /* [n_layer + 1]: conv_in's and every down block's output */
                float **down_mid; /* [n_layer]: between a down block and its attention; NULL without */
                float *h_1, *h_2; /* the middle: after mid_1, after its attention */
        } kept;
};

/* Resolves the parameters below name ("score_model", "encoder_model"). *block_number counts residual blocks, for their
 * dropout masks. */
int trunk_init(struct trunk *t, const struct pass *p, const char *name, int64_t n_layer, int64_t context,
               int *block_number, struct error *err);
void trunk_done(struct trunk *t);

/* What goes in, and the same again for backward. The low parts are what float32 rounded away (kernels.h), or NULL. */
struct trunk_input {
        const float *z, *z_low; /* [m, 1024, 3] */
        const float *g, *g_low; /* [m]: the time is (g - offset) scale */
        float offset, scale;    /* of the score network: set by unet_forward and unet_backward */
        const float *e;         /* [m, context] */
};

/* Returns the middle's output (the caller's). */
float *trunk_forward(struct pass *p, struct trunk *t, const struct trunk_input *in);
/* Where no backward pass follows: releases the outputs kept for the way up, and the condition. */
void trunk_release(struct pass *p, struct trunk *t);
/* dy is taken over. skip[i], i = 0 .. n_layer, are gradients of hs[i] from the way up, taken over, or NULL. d_cond (+=
 * already from the way up, [m, 4 n]) is taken over. dz [m, 1024, 3] += (NULL: not wanted); dg [m] = (NULL: not wanted);
 * de [m, context] = (NULL). */
struct trunk_gradients {
        float *dz, *dg, *de;
};
void trunk_backward(struct pass *p, struct trunk *t, const struct trunk_input *in, float *dy, float **skip,
                    float *d_cond, const struct trunk_gradients *ret);

struct unet {
        struct trunk trunk;
        struct resnet_block *up; /* [n_layer + 1] */
        struct attention_block *up_attention;
        struct group_norm norm_out;
        const struct param *conv_out, *conv_out_bias;
        struct unet_kept {
                float **up_in;  /* [n_layer + 1]: first input of each up block */
                float **up_mid; /* between an up block and its attention */
                float *h, *y, *stats;
        } kept;
};
int unet_init(struct unet *u, const struct pass *p, int64_t context, int *block_number, struct error *err);
void unet_done(struct unet *u);

/* net [m, 1024, 3], written to ret. in->g is the schedule's gamma, averaged over an image. */
void unet_forward(struct pass *p, struct unet *u, const struct trunk_input *in, float *ret);
/* d_net [m, 1024, 3] stays the caller's. dz +=, dg =, de = (each may be NULL). */
void unet_backward(struct pass *p, struct unet *u, const struct trunk_input *in, const float *d_net,
                   const struct trunk_gradients *ret);
