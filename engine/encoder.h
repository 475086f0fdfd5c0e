/* The encoder (spec 3): the trunk on the image, a convolution to one channel, swish, dense_layer_final to the logits.
 */
#pragma once

#include "engine/unet.h"

struct encoder_net {
        struct trunk trunk;
        struct group_norm norm_out;
        const struct param *conv_out, *conv_out_bias, *final, *final_bias;
        struct encoder_kept {
                float *zero; /* [m]: its time and its context */
                float *h, *y, *stats, *flat, *act;
        } kept;
};

int encoder_init(struct encoder_net *n, const struct pass *p, int *block_number, struct error *err);
void encoder_done(struct encoder_net *n);

/* f [m, 1024, 3], values in (-1, 1) -> logits [m, latent_size] */
void encoder_forward(struct pass *p, struct encoder_net *n, const float *f, float *logits);
/* Gradients of the weights alone: the image is no parameter. */
void encoder_backward(struct pass *p, struct encoder_net *n, const float *f, const float *d_logits);
