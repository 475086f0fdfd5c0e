#include "engine/encoder.h"

#include "engine/dataset.h"

int encoder_init(struct encoder_net *n, const struct pass *p, int *block_number, struct error *err)
{
        static const char name[] = "encoder_model";
        int r;

        *n = (struct encoder_net){0};
        r = trunk_init(&n->trunk, p, name, p->config->forward_n_layer, 1, block_number, err);
        if (r < 0)
                return r;
        n->norm_out = (struct group_norm){
                n->trunk.n, 0, pass_param(p, name, "GroupNorm_0/scale"), pass_param(p, name, "GroupNorm_0/bias"),
                true,       -1};
        n->conv_out = pass_param(p, name, "conv_out/kernel");
        n->conv_out_bias = pass_param(p, name, "conv_out/bias");
        n->final = pass_param(p, name, "dense_layer_final/kernel");
        n->final_bias = pass_param(p, name, "dense_layer_final/bias");
        return 0;
}

void encoder_done(struct encoder_net *n)
{
        trunk_done(&n->trunk);
}

void encoder_forward(struct pass *p, struct encoder_net *n, const float *f, float *logits)
{
        struct encoder_kept *s = &n->kept;
        struct linear final = linear_of(p, p->m, n->final, n->final_bias);
        int64_t pixels = p->m * IMAGE_PIXELS;

        s->zero = pass_alloc(p, p->m);
        RUN(p, fill, .n = p->m, .value = 0, .y = s->zero);
        s->h = trunk_forward(p, &n->trunk, &(struct trunk_input){.z = f, .g = s->zero, .scale = 1, .e = s->zero});
        s->y = pass_alloc(p, pixels * n->trunk.n);
        s->stats = pass_alloc(p, p->m * 32 * 2);
        group_norm_forward(p, &n->norm_out, s->h, NULL, NULL, s->y, s->stats);
        s->flat = pass_alloc(p, pixels);
        s->act = pass_alloc(p, pixels);
        conv_forward(p, n->conv_out, n->conv_out_bias, s->y, NULL, s->flat);
        RUN(p, swish_forward, .n = pixels, .x = s->flat, .y = s->act);
        linear_forward(p, &final, s->act, logits, false);
        if (!p->keep) {
                pass_release(p, &s->h);
                pass_release(p, &s->y);
                pass_release(p, &s->stats);
                pass_release(p, &s->flat);
                pass_release(p, &s->act);
                trunk_release(p, &n->trunk);
                pass_release(p, &s->zero);
        }
}

void encoder_backward(struct pass *p, struct encoder_net *n, const float *f, const float *d_logits)
{
        struct encoder_kept *s = &n->kept;
        struct linear final = linear_of(p, p->m, n->final, n->final_bias);
        int64_t pixels = p->m * IMAGE_PIXELS, wide = p->m * 4 * n->trunk.n;
        float *d_flat = pass_alloc(p, pixels), *dy, *dh, *d_cond;

        linear_backward(p, &final, s->act, d_logits, d_flat, false);
        RUN(p, swish_backward, .n = pixels, .x = s->flat, .dy = d_flat, .dx = d_flat);
        pass_release(p, &s->act);
        pass_release(p, &s->flat);
        dy = pass_alloc(p, pixels * n->trunk.n);
        conv_backward(p, n->conv_out, n->conv_out_bias, s->y, d_flat, dy);
        pass_release(p, &d_flat);
        pass_release(p, &s->y);
        dh = pass_alloc(p, pixels * n->trunk.n);
        group_norm_backward(p, &n->norm_out, dy, s->h, NULL, NULL, s->stats, dh, false, NULL, false, NULL);
        pass_release(p, &dy);
        pass_release(p, &s->h);
        pass_release(p, &s->stats);
        d_cond = pass_alloc(p, wide);
        RUN(p, fill, .n = wide, .value = 0, .y = d_cond);
        trunk_backward(p, &n->trunk, &(struct trunk_input){.z = f, .g = s->zero, .scale = 1, .e = s->zero}, dh, NULL,
                       d_cond, &(struct trunk_gradients){0});
        pass_release(p, &s->zero);
}
