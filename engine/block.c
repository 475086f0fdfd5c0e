#include "engine/block.h"

#include "engine/dataset.h"

#include <stdio.h>
#include <string.h>

static int64_t image_size(const struct pass *p, int64_t c)
{
        return p->m * IMAGE_PIXELS * c;
}

static float *stats_alloc(struct pass *p)
{
        return pass_alloc(p, p->m * 32 * 2);
}

static struct group_norm norm_of(const struct pass *p, const char *name, const char *leaf, int64_t c_a, int64_t c_b,
                                 bool swish, int dropout_block)
{
        char full[2 * PARAM_NAME_MAX];

        (void)snprintf(full, sizeof full, "%s/%s", name, leaf);
        return (struct group_norm){c_a,   c_b,          pass_param(p, full, "scale"), pass_param(p, full, "bias"),
                                   swish, dropout_block};
}

/* The release of what a forward pass keeps: now when no backward pass follows, else in backward. */
static void release_unless_kept(struct pass *p, float **x)
{
        if (p->keep)
                return;
        pass_release(p, x);
}

void resnet_block_init(struct resnet_block *b, const struct pass *p, const char *name, int64_t c_a, int64_t c_b,
                       int64_t c, int dropout_block)
{
        *b = (struct resnet_block){.c = c};
        (void)snprintf(b->name, sizeof b->name, "%s", name);
        b->norm_0 = norm_of(p, name, "GroupNorm_0", c_a, c_b, true, -1);
        b->norm_1 = norm_of(p, name, "GroupNorm_1", c, 0, true, dropout_block);
        b->conv1 = pass_param(p, name, "conv1/kernel");
        b->conv1_bias = pass_param(p, name, "conv1/bias");
        b->conv2 = pass_param(p, name, "conv2/kernel");
        b->conv2_bias = pass_param(p, name, "conv2/bias");
        b->cond_proj = pass_param(p, name, "cond_proj/kernel");
        if (c_a + c_b != c) {
                b->shortcut = pass_param(p, name, "nin_shortcut/kernel");
                b->shortcut_bias = pass_param(p, name, "nin_shortcut/bias");
        }
}

/* nin_shortcut as two products, so that the concatenation is never made: rows [0, c_a) of the kernel for x_a (with the
 * bias), rows [c_a, c_a + c_b) for x_b. */
static struct linear shortcut_part(const struct pass *p, const struct resnet_block *b, int part)
{
        struct linear l = linear_of(p, p->m * IMAGE_PIXELS, b->shortcut, part ? NULL : b->shortcut_bias);
        int64_t skip = part ? b->norm_0.c_a * l.out : 0;

        l.in = part ? b->norm_0.c_b : b->norm_0.c_a;
        l.w += skip;
        if (l.dw)
                l.dw += skip;
        return l;
}

float *resnet_block_forward(struct pass *p, struct resnet_block *b, const float *x_a, const float *x_b,
                            const float *cond)
{
        struct resnet_kept *s = &b->kept;
        int64_t c_in = b->norm_0.c_a + b->norm_0.c_b;
        struct linear cond_proj = linear_of(p, p->m, b->cond_proj, NULL);
        const float *residual = x_a;
        float *y_0 = pass_alloc(p, image_size(p, c_in)), *y_1, *y;

        s->stats_0 = stats_alloc(p);
        group_norm_forward(p, &b->norm_0, x_a, x_b, NULL, y_0, s->stats_0);
        s->h = pass_alloc(p, image_size(p, b->c));
        conv_forward(p, b->conv1, b->conv1_bias, y_0, NULL, s->h);
        pass_release(p, &y_0);
        release_unless_kept(p, &s->stats_0);

        s->addend = pass_alloc(p, p->m * b->c);
        linear_forward(p, &cond_proj, cond, s->addend, false);
        y_1 = pass_alloc(p, image_size(p, b->c));
        s->stats_1 = stats_alloc(p);
        group_norm_forward(p, &b->norm_1, s->h, NULL, s->addend, y_1, s->stats_1);
        release_unless_kept(p, &s->h);
        release_unless_kept(p, &s->addend);
        release_unless_kept(p, &s->stats_1);

        y = pass_alloc(p, image_size(p, b->c));
        if (b->shortcut) {
                struct linear part_a = shortcut_part(p, b, 0), part_b = shortcut_part(p, b, 1);

                linear_forward(p, &part_a, x_a, y, false);
                if (x_b)
                        linear_forward(p, &part_b, x_b, y, true);
                residual = y;
        }
        conv_forward(p, b->conv2, b->conv2_bias, y_1, residual, y);
        pass_release(p, &y_1);
        return y;
}

void resnet_block_backward(struct pass *p, struct resnet_block *b, const float *x_a, const float *x_b,
                           const float *cond, float *dy, float **ret_dx_a, float *dx_b, float *d_cond)
{
        struct resnet_kept *s = &b->kept;
        int64_t c_in = b->norm_0.c_a + b->norm_0.c_b;
        struct linear cond_proj = linear_of(p, p->m, b->cond_proj, NULL);
        float *y_1 = pass_alloc(p, image_size(p, b->c)), *dy_1 = pass_alloc(p, image_size(p, b->c));
        float *y_0, *dh, *daddend, *dy_0, *dx_a = dy;

        group_norm_forward(p, &b->norm_1, s->h, NULL, s->addend, y_1, s->stats_1);
        conv_backward(p, b->conv2, b->conv2_bias, y_1, dy, dy_1);
        pass_release(p, &y_1);

        dh = pass_alloc(p, image_size(p, b->c));
        daddend = pass_alloc(p, p->m * b->c);
        group_norm_backward(p, &b->norm_1, dy_1, s->h, NULL, s->addend, s->stats_1, dh, false, NULL, false, daddend);
        pass_release(p, &dy_1);
        pass_release(p, &s->h);
        pass_release(p, &s->addend);
        pass_release(p, &s->stats_1);
        linear_backward(p, &cond_proj, cond, daddend, d_cond, true);
        pass_release(p, &daddend);

        y_0 = pass_alloc(p, image_size(p, c_in));
        group_norm_forward(p, &b->norm_0, x_a, x_b, NULL, y_0, s->stats_0);
        dy_0 = pass_alloc(p, image_size(p, c_in));
        conv_backward(p, b->conv1, b->conv1_bias, y_0, dh, dy_0);
        pass_release(p, &dh);
        pass_release(p, &y_0);

        if (b->shortcut) {
                struct linear part_a = shortcut_part(p, b, 0), part_b = shortcut_part(p, b, 1);

                dx_a = pass_alloc(p, image_size(p, b->norm_0.c_a));
                linear_backward(p, &part_a, x_a, dy, dx_a, false);
                if (x_b)
                        linear_backward(p, &part_b, x_b, dy, dx_b, false);
                pass_release(p, &dy);
        }
        group_norm_backward(p, &b->norm_0, dy_0, x_a, x_b, NULL, s->stats_0, dx_a, true, dx_b, true, NULL);
        pass_release(p, &dy_0);
        pass_release(p, &s->stats_0);
        *ret_dx_a = dx_a;
}

void attention_block_init(struct attention_block *b, const struct pass *p, const char *name, int64_t c)
{
        *b = (struct attention_block){.c = c, .norm = norm_of(p, name, "GroupNorm_0", c, 0, false, -1)};
        b->q = pass_param(p, name, "q/kernel");
        b->q_bias = pass_param(p, name, "q/bias");
        b->k = pass_param(p, name, "k/kernel");
        b->k_bias = pass_param(p, name, "k/bias");
        b->v = pass_param(p, name, "v/kernel");
        b->v_bias = pass_param(p, name, "v/bias");
        b->proj_out = pass_param(p, name, "proj_out/kernel");
        b->proj_out_bias = pass_param(p, name, "proj_out/bias");
}

float *attention_block_forward(struct pass *p, struct attention_block *b, const float *x)
{
        struct attention_kept *s = &b->kept;
        int64_t rows = p->m * IMAGE_PIXELS, size = rows * b->c;
        struct linear q = linear_of(p, rows, b->q, b->q_bias), k = linear_of(p, rows, b->k, b->k_bias);
        struct linear v = linear_of(p, rows, b->v, b->v_bias), out = linear_of(p, rows, b->proj_out, b->proj_out_bias);
        float *y;

        s->y = pass_alloc(p, size);
        s->stats = stats_alloc(p);
        group_norm_forward(p, &b->norm, x, NULL, NULL, s->y, s->stats);
        s->q = pass_alloc(p, size);
        s->k = pass_alloc(p, size);
        s->v = pass_alloc(p, size);
        linear_forward(p, &q, s->y, s->q, false);
        linear_forward(p, &k, s->y, s->k, false);
        linear_forward(p, &v, s->y, s->v, false);
        release_unless_kept(p, &s->y);
        release_unless_kept(p, &s->stats);
        s->o = pass_alloc(p, size);
        s->saved = p->keep ? arena_alloc(p->arena, attention_saved_bytes(p, b->c)) : NULL;
        attention_forward(p, b->c, s->q, s->k, s->v, s->o, s->saved);
        release_unless_kept(p, &s->q);
        release_unless_kept(p, &s->k);
        release_unless_kept(p, &s->v);
        y = pass_alloc(p, size);
        RUN(p, copy_2d, .rows = 1, .columns = size, .x = x, .x_stride = size, .y = y, .y_stride = size, .scale = 1);
        linear_forward(p, &out, s->o, y, true);
        release_unless_kept(p, &s->o);
        return y;
}

void attention_block_backward(struct pass *p, struct attention_block *b, const float *x, float *dy)
{
        struct attention_kept *s = &b->kept;
        int64_t rows = p->m * IMAGE_PIXELS, size = rows * b->c;
        struct linear q = linear_of(p, rows, b->q, b->q_bias), k = linear_of(p, rows, b->k, b->k_bias);
        struct linear v = linear_of(p, rows, b->v, b->v_bias), out = linear_of(p, rows, b->proj_out, b->proj_out_bias);
        float *d_o = pass_alloc(p, size), *dq, *dk, *dv, *dn;

        linear_backward(p, &out, s->o, dy, d_o, false);
        pass_release(p, &s->o);
        dq = pass_alloc(p, size);
        dk = pass_alloc(p, size);
        dv = pass_alloc(p, size);
        attention_backward(p, b->c, d_o, s->q, s->k, s->v, s->saved, dq, dk, dv);
        pass_release(p, &d_o);
        pass_release(p, &s->q);
        pass_release(p, &s->k);
        pass_release(p, &s->v);
        arena_release(p->arena, s->saved);
        s->saved = NULL;
        dn = pass_alloc(p, size);
        linear_backward(p, &q, s->y, dq, dn, false);
        linear_backward(p, &k, s->y, dk, dn, true);
        linear_backward(p, &v, s->y, dv, dn, true);
        pass_release(p, &dq);
        pass_release(p, &dk);
        pass_release(p, &dv);
        pass_release(p, &s->y);
        group_norm_backward(p, &b->norm, dn, x, NULL, NULL, s->stats, dy, true, NULL, false, NULL);
        pass_release(p, &dn);
        pass_release(p, &s->stats);
}
