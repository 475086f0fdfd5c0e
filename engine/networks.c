#include "engine/networks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Spec 1. What is made again for backward: norms' outputs, since a norm costs a twentieth of the convolution behind it
 * and its output as much memory as any; and, where memory is dearer than time (tests/bench/gpu), all of a block but its
 * output, and every second output. */
struct tensor *resnet_block(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, struct tensor *cond,
                            int64_t c)
{
        const bool norms = t->recompute >= RECOMPUTE_NORM, block = t->recompute == RECOMPUTE_BLOCK;
        struct tensor *h, *shortcut = x, *projected;

        net_enter(t, "%s", name);
        h = net_norm(t, "GroupNorm_0", x, x_b, .swish = true, .again = norms);
        h = net_conv(t, "conv1", h, c, .again = block);
        projected = net_dense(t, "cond_proj", cond, NULL, c, .zero = true, .no_bias = true);
        if (tensor_pixels(cond) > 1) { /* of each pixel: added to the map; of the image: in the norm */
                h = net_add(t, projected, h);
                h->again = block;
                projected = NULL;
        } else { /* with it conv1's bias: its gradient is a sum over images then, not over all their pixels */
                projected->b = h->b;
                h->b = NO_PARAM;
        }
        h = net_norm(t, "GroupNorm_1", h, NULL, .swish = true, .dropout = true, .again = norms, .addend = projected);
        h = net_conv(t, "conv2", h, c, .zero = true);
        if (x_b || x->c != c)
                shortcut = net_dense(t, "nin_shortcut", x, x_b, c, .again = block);
        h = net_add(t, h, shortcut);
        net_leave(t);
        return h;
}

struct tensor *attention_block(struct tape *t, const char *name, struct tensor *x)
{
        const bool block = t->recompute == RECOMPUTE_BLOCK;
        struct tensor *h, *q, *k, *v;

        net_enter(t, "%s", name);
        h = net_norm(t, "GroupNorm_0", x, NULL, .again = t->recompute >= RECOMPUTE_NORM);
        q = net_dense(t, "q", h, NULL, x->c, .again = block);
        k = net_dense(t, "k", h, NULL, x->c, .again = block);
        v = net_dense(t, "v", h, NULL, x->c, .again = block);
        h = net_dense(t, "proj_out", net_attention(t, q, k, v), NULL, x->c, .zero = true);
        h = net_add(t, h, x);
        net_leave(t);
        return h;
}

struct name {
        char text[32];
};

static struct name numbered(const char *part, int64_t i)
{
        struct name n;

        (void)snprintf(n.text, sizeof n.text, "%s_%lld", part, (long long)i);
        return n;
}

/* The i-th of a row of blocks: of these every second output may be made again. */
static struct tensor *block_of_row(struct tape *t, const char *part, int64_t i, struct tensor *x, struct tensor *x_b,
                                   struct tensor *cond, int64_t c)
{
        struct tensor *h = resnet_block(t, numbered(part, i).text, x, x_b, cond, c);

        h->again = t->recompute == RECOMPUTE_BLOCK && i % 2;
        return h;
}

/* What score network and encoder share: the condition from time and context, conv_in, the blocks down, whose outputs
 * the way up reads, and the middle. */
struct trunk {
        struct tensor *cond, *h;
        struct tensor *skips[257]; /* [n_layer + 1] */
};

static void trunk(struct tape *t, const struct config *c, struct tensor *z, struct tensor *g, struct tensor *e,
                  double offset, double scale, int64_t n_layer, struct trunk *ret)
{
        int64_t n = c->sm_n_embd;
        struct tensor *cond = net_time(t, g, e, n, offset, scale), *h;

        cond = net_swish(t, net_dense(t, "dense0", cond, NULL, 4 * n));
        cond = net_swish(t, net_dense(t, "dense1", cond, NULL, 4 * n));
        h = net_conv(t, "conv_in", c->with_fourier_features ? net_fourier(t, z) : z, n);
        ret->skips[0] = h;
        for (int64_t i = 0; i < n_layer; i++) {
                h = block_of_row(t, "down.block", i, h, NULL, cond, n);
                if (c->with_attention)
                        h = attention_block(t, numbered("down.attn", i).text, h);
                ret->skips[i + 1] = h;
        }
        h = resnet_block(t, "mid.block_1", h, NULL, cond, n);
        h->again = t->recompute == RECOMPUTE_BLOCK;
        h = attention_block(t, "mid.attn_1", h);
        ret->h = resnet_block(t, "mid.block_2", h, NULL, cond, n);
        ret->cond = cond;
}

bool networks_encoded(const struct config *c)
{
        return c->vdm_type != VDM_VDM && c->reparam_type == REPARAM_TRUE;
}

bool networks_conditioned(const struct config *c)
{
        return c->vdm_type != VDM_VDM && c->z_conditioning;
}

static void score_network(struct score_network *s, const struct config *c)
{
        struct tape *t = &s->tape;
        struct trunk k;
        struct tensor *h;

        s->z = net_input(t, IMAGE_SIDE, IMAGE_SIDE, COLOURS);
        s->g = c->unet_type == UNET_LDM ? net_input(t, IMAGE_SIDE, IMAGE_SIDE, COLOURS) : net_input(t, 1, 1, 1);
        s->e = net_input(t, 1, 1, networks_conditioned(c) ? c->latent_size : 1);
        net_enter(t, "score_model");
        trunk(t, c, s->z, s->g, s->e, c->gamma_min, 1.0 / (c->gamma_max - c->gamma_min), c->sm_n_layer, &k);
        h = k.h;
        for (int64_t i = 0; i <= c->sm_n_layer; i++) {
                h = block_of_row(t, "up.block", i, h, k.skips[c->sm_n_layer - i], k.cond, c->sm_n_embd);
                if (c->with_attention)
                        h = attention_block(t, numbered("up.attn", i).text, h);
        }
        h = net_norm(t, "GroupNorm_0", h, NULL, .swish = true);
        s->net = net_add(t, net_conv(t, "conv_out", h, COLOURS, .zero = true, .float32 = true), s->z);
        net_leave(t);
}

static void encoder_network(struct encoder_network *n, const struct config *c)
{
        struct tape *t = &n->tape;
        struct trunk k;
        struct tensor *h;

        n->f = net_input(t, IMAGE_SIDE, IMAGE_SIDE, COLOURS);
        n->time = net_input(t, 1, 1, 1);
        n->context = net_input(t, 1, 1, 1);
        net_enter(t, "encoder_model");
        if (c->encoder == ENCODER_CNN && c->latent_type != LATENT_GAUSSIAN) {
                h = net_relu(t, net_conv(t, "CONV1", n->f, 32));
                h = net_relu(t, net_conv(t, "CONV2", h, 16, .float32 = true));
                n->logits = net_dense(t, "DENSE", h, NULL, c->latent_size, .flatten = true);
                net_leave(t);
                return;
        }
        trunk(t, c, n->f, n->time, n->context, 0, 1, c->forward_n_layer, &k);
        h = net_norm(t, "GroupNorm_0", k.h, NULL, .swish = true);
        h = net_swish(t, net_conv(t, "conv_out", h, 1, .zero = true, .float32 = true));
        if (c->latent_type == LATENT_GAUSSIAN) {
                n->logits = net_dense(t, "dense_layer_final_mu", h, NULL, c->latent_size, .flatten = true);
                n->spread = net_dense(t, "dense_layer_final_sigma", h, NULL, c->latent_size, .flatten = true);
        } else {
                n->logits = net_dense(t, "dense_layer_final", h, NULL, c->latent_size, .flatten = true);
        }
        net_leave(t);
}

int networks_init(struct networks *n, const struct config *c, struct params *layout, enum dtype type, struct error *err)
{
        *n = (struct networks){0};
        if (c->unet_type == UNET_LDM && type != DTYPE_FLOAT32)
                return error_set(err, -ENOTSUP, "/machine/precision", "\"ldm\" is computed in float32 only");
        tape_init(&n->score.tape, layout, type, &n->n_dropouts);
        n->score.tape.recompute = c->recompute;
        score_network(&n->score, c);
        if (n->score.tape.error.code == 0 && networks_encoded(c)) {
                tape_init(&n->encoder.tape, layout, type, &n->n_dropouts);
                n->encoder.tape.recompute = c->recompute;
                encoder_network(&n->encoder, c);
        }
        for (int i = 0; i < 2; i++) {
                const struct error *e = i ? &n->encoder.tape.error : &n->score.tape.error;

                if (e->code)
                        return error_set(err, e->code, e->path, "%s", e->text);
        }
        return 0;
}

void networks_done(struct networks *n)
{
        tape_done(&n->score.tape);
        tape_done(&n->encoder.tape);
}
