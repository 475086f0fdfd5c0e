#include "engine/unet.h"

#include "engine/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COLOURS 3
#define FOURIER_CHANNELS 15

static int64_t image_size(const struct pass *p, int64_t c)
{
        return p->m * IMAGE_PIXELS * c;
}

/* ---- condition */

static void conditioning_init(struct conditioning *c, const struct pass *p, const char *name, int64_t context)
{
        *c = (struct conditioning){.n = p->config->sm_n_embd, .context = context};
        c->dense0 = pass_param(p, name, "dense0/kernel");
        c->dense0_bias = pass_param(p, name, "dense0/bias");
        c->dense1 = pass_param(p, name, "dense1/kernel");
        c->dense1_bias = pass_param(p, name, "dense1/bias");
}

static void conditioning_forward(struct pass *p, struct conditioning *c, const struct trunk_input *in)
{
        struct conditioning_kept *s = &c->kept;
        struct linear dense0 = linear_of(p, p->m, c->dense0, c->dense0_bias);
        struct linear dense1 = linear_of(p, p->m, c->dense1, c->dense1_bias);
        int64_t width = c->n + c->context, wide = p->m * 4 * c->n;

        s->in = pass_alloc(p, p->m * width);
        RUN(p, time_embedding_forward, .m = p->m, .n = c->n, .g = in->g, .g_low = in->g_low, .offset = in->offset,
            .scale = in->scale, .y = s->in, .y_stride = width);
        RUN(p, copy_2d, .rows = p->m, .columns = c->context, .x = in->e, .x_stride = c->context, .y = s->in + c->n,
            .y_stride = width, .scale = 1);
        s->pre_0 = pass_alloc(p, wide);
        s->act_0 = pass_alloc(p, wide);
        s->pre_1 = pass_alloc(p, wide);
        s->cond = pass_alloc(p, wide);
        linear_forward(p, &dense0, s->in, s->pre_0, false);
        RUN(p, swish_forward, .n = wide, .x = s->pre_0, .y = s->act_0);
        linear_forward(p, &dense1, s->act_0, s->pre_1, false);
        RUN(p, swish_forward, .n = wide, .x = s->pre_1, .y = s->cond);
}

static void conditioning_release(struct pass *p, struct conditioning *c)
{
        pass_release(p, &c->kept.in);
        pass_release(p, &c->kept.pre_0);
        pass_release(p, &c->kept.act_0);
        pass_release(p, &c->kept.pre_1);
        pass_release(p, &c->kept.cond);
}

/* d_cond is taken over. */
static void conditioning_backward(struct pass *p, struct conditioning *c, const struct trunk_input *in, float *d_cond,
                                  float *dg, float *de)
{
        struct conditioning_kept *s = &c->kept;
        struct linear dense0 = linear_of(p, p->m, c->dense0, c->dense0_bias);
        struct linear dense1 = linear_of(p, p->m, c->dense1, c->dense1_bias);
        int64_t width = c->n + c->context, wide = p->m * 4 * c->n;
        float *d_act = pass_alloc(p, wide), *d_in = dg || de ? pass_alloc(p, p->m * width) : NULL;

        RUN(p, swish_backward, .n = wide, .x = s->pre_1, .dy = d_cond, .dx = d_cond);
        linear_backward(p, &dense1, s->act_0, d_cond, d_act, false);
        pass_release(p, &d_cond);
        RUN(p, swish_backward, .n = wide, .x = s->pre_0, .dy = d_act, .dx = d_act);
        linear_backward(p, &dense0, s->in, d_act, d_in, false);
        pass_release(p, &d_act);
        if (dg)
                RUN(p, time_embedding_backward, .m = p->m, .n = c->n, .g = in->g, .g_low = in->g_low,
                    .offset = in->offset, .scale = in->scale, .dy = d_in, .dy_stride = width, .dg = dg);
        if (de)
                RUN(p, copy_2d, .rows = p->m, .columns = c->context, .x = d_in + c->n, .x_stride = width, .y = de,
                    .y_stride = c->context, .scale = 1);
        pass_release(p, &d_in);
        conditioning_release(p, c);
}

/* ---- trunk */

int trunk_init(struct trunk *t, const struct pass *p, const char *name, int64_t n_layer, int64_t context,
               int *block_number, struct error *err)
{
        const struct config *c = p->config;
        char s[2 * PARAM_NAME_MAX];

        *t = (struct trunk){.n = c->sm_n_embd,
                            .n_layer = n_layer,
                            .fourier = c->with_fourier_features,
                            .attention = c->with_attention};
        t->down = calloc((size_t)n_layer, sizeof *t->down);
        t->down_attention = calloc((size_t)n_layer, sizeof *t->down_attention);
        t->kept.hs = calloc((size_t)n_layer + 1, sizeof *t->kept.hs);
        t->kept.down_mid = calloc((size_t)n_layer, sizeof *t->kept.down_mid);
        if (!t->down || !t->down_attention || !t->kept.hs || !t->kept.down_mid)
                return error_set(err, -ENOMEM, NULL, "no memory for the network's blocks");
        t->conv_in = pass_param(p, name, "conv_in/kernel");
        t->conv_in_bias = pass_param(p, name, "conv_in/bias");
        for (int64_t i = 0; i < n_layer; i++) {
                (void)snprintf(s, sizeof s, "%s/down.block_%lld", name, (long long)i);
                resnet_block_init(&t->down[i], p, s, t->n, 0, t->n, (*block_number)++);
                (void)snprintf(s, sizeof s, "%s/down.attn_%lld", name, (long long)i);
                if (t->attention)
                        attention_block_init(&t->down_attention[i], p, s, t->n);
        }
        (void)snprintf(s, sizeof s, "%s/mid.block_1", name);
        resnet_block_init(&t->mid_1, p, s, t->n, 0, t->n, (*block_number)++);
        (void)snprintf(s, sizeof s, "%s/mid.attn_1", name);
        attention_block_init(&t->mid_attention, p, s, t->n);
        (void)snprintf(s, sizeof s, "%s/mid.block_2", name);
        resnet_block_init(&t->mid_2, p, s, t->n, 0, t->n, (*block_number)++);
        conditioning_init(&t->conditioning, p, name, context);
        return 0;
}

void trunk_done(struct trunk *t)
{
        free(t->down);
        free(t->down_attention);
        free(t->kept.hs);
        free(t->kept.down_mid);
        *t = (struct trunk){0};
}

float *trunk_forward(struct pass *p, struct trunk *t, const struct trunk_input *in)
{
        struct trunk_kept *s = &t->kept;
        const float *x = in->z;
        float *h;

        conditioning_forward(p, &t->conditioning, in);
        if (t->fourier) {
                s->features = pass_alloc(p, image_size(p, FOURIER_CHANNELS));
                RUN(p, fourier_forward, .n_pixels = p->m * IMAGE_PIXELS, .z = in->z, .z_low = in->z_low,
                    .y = s->features);
                x = s->features;
        }
        s->hs[0] = pass_alloc(p, image_size(p, t->n));
        conv_forward(p, t->conv_in, t->conv_in_bias, x, NULL, s->hs[0]);
        if (!p->keep)
                pass_release(p, &s->features);
        for (int64_t i = 0; i < t->n_layer; i++) {
                h = resnet_block_forward(p, &t->down[i], s->hs[i], NULL, t->conditioning.kept.cond);
                if (t->attention) {
                        s->down_mid[i] = h;
                        h = attention_block_forward(p, &t->down_attention[i], h);
                        if (!p->keep)
                                pass_release(p, &s->down_mid[i]);
                }
                s->hs[i + 1] = h;
        }
        s->h_1 = resnet_block_forward(p, &t->mid_1, s->hs[t->n_layer], NULL, t->conditioning.kept.cond);
        s->h_2 = attention_block_forward(p, &t->mid_attention, s->h_1);
        if (!p->keep)
                pass_release(p, &s->h_1);
        h = resnet_block_forward(p, &t->mid_2, s->h_2, NULL, t->conditioning.kept.cond);
        if (!p->keep)
                pass_release(p, &s->h_2);
        return h;
}

void trunk_release(struct pass *p, struct trunk *t)
{
        for (int64_t i = 0; i <= t->n_layer; i++)
                pass_release(p, &t->kept.hs[i]);
        conditioning_release(p, &t->conditioning);
}

/* dx += skip, which is taken over */
static void add_skip(struct pass *p, float *dx, float **skip, int64_t n)
{
        if (!skip || !*skip)
                return;
        RUN(p, add, .n = n, .x = *skip, .y = dx);
        pass_release(p, skip);
}

void trunk_backward(struct pass *p, struct trunk *t, const struct trunk_input *in, float *dy, float **skip,
                    float *d_cond, const struct trunk_gradients *ret)
{
        struct trunk_kept *s = &t->kept;
        const float *cond = t->conditioning.kept.cond;
        int64_t size = image_size(p, t->n);
        float *d_features = NULL;

        resnet_block_backward(p, &t->mid_2, s->h_2, NULL, cond, dy, &dy, NULL, d_cond);
        pass_release(p, &s->h_2);
        attention_block_backward(p, &t->mid_attention, s->h_1, dy);
        pass_release(p, &s->h_1);
        resnet_block_backward(p, &t->mid_1, s->hs[t->n_layer], NULL, cond, dy, &dy, NULL, d_cond);
        for (int64_t i = t->n_layer - 1; i >= 0; i--) {
                add_skip(p, dy, skip ? &skip[i + 1] : NULL, size);
                pass_release(p, &s->hs[i + 1]);
                if (t->attention) {
                        attention_block_backward(p, &t->down_attention[i], s->down_mid[i], dy);
                        pass_release(p, &s->down_mid[i]);
                }
                resnet_block_backward(p, &t->down[i], s->hs[i], NULL, cond, dy, &dy, NULL, d_cond);
        }
        add_skip(p, dy, skip ? &skip[0] : NULL, size);
        pass_release(p, &s->hs[0]);

        if (ret->dz)
                d_features = pass_alloc(p, image_size(p, t->fourier ? FOURIER_CHANNELS : COLOURS));
        conv_backward(p, t->conv_in, t->conv_in_bias, t->fourier ? s->features : in->z, dy, d_features);
        pass_release(p, &dy);
        pass_release(p, &s->features);
        if (ret->dz && t->fourier)
                RUN(p, fourier_backward, .n_pixels = p->m * IMAGE_PIXELS, .z = in->z, .z_low = in->z_low,
                    .dy = d_features, .dz = ret->dz, .accumulate = true);
        else if (ret->dz)
                RUN(p, add, .n = image_size(p, COLOURS), .x = d_features, .y = ret->dz);
        pass_release(p, &d_features);
        conditioning_backward(p, &t->conditioning, in, d_cond, ret->dg, ret->de);
}

/* ---- score network */

/* The score network's time is the schedule's gamma on [0, 1]. */
static struct trunk_input with_time(const struct pass *p, const struct trunk_input *in)
{
        struct trunk_input x = *in;

        x.offset = (float)p->config->gamma_min;
        x.scale = (float)(1.0 / (p->config->gamma_max - p->config->gamma_min));
        return x;
}

int unet_init(struct unet *u, const struct pass *p, int64_t context, int *block_number, struct error *err)
{
        static const char name[] = "score_model";
        int64_t n = p->config->sm_n_embd, n_up = p->config->sm_n_layer + 1;
        char s[2 * PARAM_NAME_MAX];
        int r;

        *u = (struct unet){0};
        r = trunk_init(&u->trunk, p, name, p->config->sm_n_layer, context, block_number, err);
        if (r < 0)
                return r;
        u->up = calloc((size_t)n_up, sizeof *u->up);
        u->up_attention = calloc((size_t)n_up, sizeof *u->up_attention);
        u->kept.up_in = calloc((size_t)n_up, sizeof *u->kept.up_in);
        u->kept.up_mid = calloc((size_t)n_up, sizeof *u->kept.up_mid);
        if (!u->up || !u->up_attention || !u->kept.up_in || !u->kept.up_mid)
                return error_set(err, -ENOMEM, NULL, "no memory for the network's blocks");
        for (int64_t i = 0; i < n_up; i++) {
                (void)snprintf(s, sizeof s, "%s/up.block_%lld", name, (long long)i);
                resnet_block_init(&u->up[i], p, s, n, n, n, (*block_number)++);
                (void)snprintf(s, sizeof s, "%s/up.attn_%lld", name, (long long)i);
                if (u->trunk.attention)
                        attention_block_init(&u->up_attention[i], p, s, n);
        }
        u->norm_out = (struct group_norm){
                n, 0, pass_param(p, name, "GroupNorm_0/scale"), pass_param(p, name, "GroupNorm_0/bias"), true, -1};
        u->conv_out = pass_param(p, name, "conv_out/kernel");
        u->conv_out_bias = pass_param(p, name, "conv_out/bias");
        return 0;
}

void unet_done(struct unet *u)
{
        trunk_done(&u->trunk);
        free(u->up);
        free(u->up_attention);
        free(u->kept.up_in);
        free(u->kept.up_mid);
        *u = (struct unet){0};
}

void unet_forward(struct pass *p, struct unet *u, const struct trunk_input *in, float *ret)
{
        struct trunk *t = &u->trunk;
        struct unet_kept *s = &u->kept;
        struct trunk_input x = with_time(p, in);
        float *h = trunk_forward(p, t, &x), *next;

        for (int64_t i = 0; i <= t->n_layer; i++) {
                s->up_in[i] = h;
                next = resnet_block_forward(p, &u->up[i], h, t->kept.hs[t->n_layer - i], t->conditioning.kept.cond);
                if (!p->keep) {
                        pass_release(p, &s->up_in[i]);
                        pass_release(p, &t->kept.hs[t->n_layer - i]);
                }
                h = next;
                if (t->attention) {
                        s->up_mid[i] = h;
                        h = attention_block_forward(p, &u->up_attention[i], h);
                        if (!p->keep)
                                pass_release(p, &s->up_mid[i]);
                }
        }
        s->h = h;
        s->y = pass_alloc(p, image_size(p, t->n));
        s->stats = pass_alloc(p, p->m * 32 * 2);
        group_norm_forward(p, &u->norm_out, s->h, NULL, NULL, s->y, s->stats);
        conv_forward(p, u->conv_out, u->conv_out_bias, s->y, in->z, ret);
        if (!p->keep) {
                pass_release(p, &s->h);
                pass_release(p, &s->y);
                pass_release(p, &s->stats);
                trunk_release(p, t);
        }
}

void unet_backward(struct pass *p, struct unet *u, const struct trunk_input *in, const float *d_net,
                   const struct trunk_gradients *ret)
{
        struct trunk *t = &u->trunk;
        struct unet_kept *s = &u->kept;
        int64_t size = image_size(p, t->n), wide = p->m * 4 * t->n;
        float *dy = pass_alloc(p, size), *dh = pass_alloc(p, size), *d_cond = pass_alloc(p, wide);
        float *skips[257] = {NULL}; /* sm_n_layer is at most 256 */
        struct trunk_input x = with_time(p, in);

        RUN(p, fill, .n = wide, .value = 0, .y = d_cond);
        conv_backward(p, u->conv_out, u->conv_out_bias, s->y, d_net, dy);
        pass_release(p, &s->y);
        group_norm_backward(p, &u->norm_out, dy, s->h, NULL, NULL, s->stats, dh, false, NULL, false, NULL);
        pass_release(p, &dy);
        pass_release(p, &s->h);
        pass_release(p, &s->stats);
        for (int64_t i = t->n_layer; i >= 0; i--) {
                int64_t k = t->n_layer - i;

                if (t->attention) {
                        attention_block_backward(p, &u->up_attention[i], s->up_mid[i], dh);
                        pass_release(p, &s->up_mid[i]);
                }
                skips[k] = pass_alloc(p, size);
                resnet_block_backward(p, &u->up[i], s->up_in[i], t->kept.hs[k], t->conditioning.kept.cond, dh, &dh,
                                      skips[k], d_cond);
                pass_release(p, &s->up_in[i]);
        }
        if (ret->dz)
                RUN(p, add, .n = image_size(p, COLOURS), .x = d_net, .y = ret->dz); /* net = .. + z */
        trunk_backward(p, t, &x, dh, skips, d_cond, ret);
}
