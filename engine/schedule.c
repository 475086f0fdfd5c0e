#include "engine/schedule.h"

#include "engine/dataset.h"

#include <stdio.h>

/* h of the monotone nets is divided by its width (spec 4: 3072, or 1024 for the baseline). */
#define BASELINE_WIDTH 1024

/* Finding the parameters, in the published order; the first failure stays. */
struct declarer {
        struct params *layout;
        struct error *err;
        int r;
};

static const struct param *declare(struct declarer *d, const char *name, enum param_role role, int n_dims, int64_t in,
                                   int64_t out, float start)
{
        struct param q = {
                .role = role, .start = start, .n_dims = n_dims, .shape = {in, out, 1, 1}, .of_schedule = true};
        size_t number = 0;

        (void)snprintf(q.name, sizeof q.name, "gamma/%s", name);
        if (d->r >= 0)
                d->r = params_declare(d->layout, &q, &number, d->err);
        return d->r < 0 ? NULL : &d->layout->items[number]; /* for good once the layout is laid out */
}

static struct schedule_layer declare_layer(struct declarer *d, const char *name, enum param_role role, int64_t in,
                                           int64_t out, bool bias)
{
        struct schedule_layer l;
        char leaf[32];

        (void)snprintf(leaf, sizeof leaf, "%s/kernel", name);
        l.w = declare(d, leaf, role, 2, in, out, 0);
        (void)snprintf(leaf, sizeof leaf, "%s/bias", name);
        l.b = bias ? declare(d, leaf, PARAM_BIAS, 1, out, 1, 0) : NULL;
        return l;
}

static void poly_init(struct schedule *s, struct declarer *d)
{
        static const char *const names[] = {"dense_1", "dense_2", "dense_out_a", "dense_out_b", "dense_out_c"};

        for (int i = 0; i < 5; i++)
                s->layers[i] = declare_layer(d, names[i], i == 2 ? PARAM_ZERO_KERNEL : PARAM_KERNEL, i ? s->d : s->k,
                                             s->d, true);
}

static void scalar_init(struct schedule *s, const struct config *c, struct declarer *d)
{
        float span = (float)(c->gamma_max - c->gamma_min), first = (float)c->gamma_min;
        bool net = s->type == GAMMA_LEARNABLE_NNET;

        s->slope = declare(d, net ? "l1/kernel" : "w", PARAM_CONSTANT, net ? 2 : 1, 1, 1, span);
        s->start = declare(d, net ? "l1/bias" : "b", net ? PARAM_CONSTANT_BIAS : PARAM_CONSTANT, 1, 1, 1, first);
}

static void monotone_init(struct schedule *s, struct declarer *d)
{
        s->layers[s->n_layers++] = declare_layer(d, "l2", PARAM_MONOTONE, s->k + 1, s->width, true);
        if (s->k)
                s->layers[s->n_layers++] = declare_layer(d, "l_int", PARAM_MONOTONE, s->width, s->width, true);
        s->layers[s->n_layers++] = declare_layer(d, "l3", PARAM_MONOTONE, s->width, s->d, false);
}

int schedule_init(struct schedule *s, const struct config *c, struct params *layout, struct error *err)
{
        bool baseline = c->vdm_type == VDM_VDM;
        struct declarer d = {.layout = layout, .err = err};

        *s = (struct schedule){.type = c->gamma_type,
                               .d = baseline ? 1 : IMAGE_BYTES,
                               .k = baseline ? 0 : c->latent_size,
                               .width = baseline ? BASELINE_WIDTH : IMAGE_BYTES};
        if (s->type == GAMMA_POLY_FIXEDEND)
                poly_init(s, &d);
        else if (s->type == GAMMA_LEARNABLE_NNET || (baseline && s->type == GAMMA_LEARNABLE_SCALAR))
                scalar_init(s, c, &d);
        if (s->type == GAMMA_LEARNABLE_NNET)
                monotone_init(s, &d);
        return d.r;
}

/* dx (NULL: not wanted) = or += */
static void layer_backward(struct pass *p, const struct linear *l, const float *x, const float *dy, float *dx,
                           bool accumulate)
{
        linear_backward_weights(p, l, x, dy);
        if (dx)
                linear_backward_data(p, l, dy, dx, accumulate);
}

/* ---- poly_fixedend: forward in pairs (kernels.h), values first, low parts behind them */

static void wide_linear(struct pass *p, struct schedule_layer layer, const float *x, const float *x_low, float *y)
{
        struct linear l = linear_of(p, p->m, layer.w, layer.b);

        RUN(p, wide_dense_forward, .m = l.rows, .k = l.in, .n = l.out, .x = x, .x_low = x_low, .w = l.w, .b = l.b,
            .y = y, .y_low = y + l.rows * l.out);
}

static void poly_begin(struct pass *p, struct schedule *s, const float *e)
{
        struct schedule_kept *k = &s->kept;
        int64_t n = p->m * s->d;

        for (int i = 0; i < 2; i++) {
                k->h[i] = pass_alloc(p, 2 * n);
                k->s[i] = pass_alloc(p, 2 * n);
                wide_linear(p, s->layers[i], i ? k->s[0] : e, i ? k->s[0] + n : NULL, k->h[i]);
                RUN(p, swish_forward, .n = n, .x = k->h[i], .x_low = k->h[i] + n, .y = k->s[i], .y_low = k->s[i] + n);
        }
        for (int i = 0; i < 3; i++) {
                k->coefficient[i] = pass_alloc(p, 2 * n);
                wide_linear(p, s->layers[2 + i], k->s[1], k->s[1] + n, k->coefficient[i]);
                if (p->keep)
                        k->d_coefficient[i] = pass_zeros(p, n);
        }
}

/* The layers hold most of the model's parameters and see few rows: their gradients may stay factors. */
static void poly_layer_backward(struct pass *p, struct schedule_layer layer, const float *x, const float *dy, float *dx,
                                bool accumulate)
{
        struct linear l = linear_of(p, p->m, layer.w, layer.b);

        l.factored = layer.w;
        l.factored_bias = layer.b;
        layer_backward(p, &l, x, dy, dx, accumulate);
}

static void poly_begin_backward(struct pass *p, struct schedule *s, float *de)
{
        struct schedule_kept *k = &s->kept;
        int64_t n = p->m * s->d;
        float *ds = pass_alloc(p, n), *dh = pass_alloc(p, n);

        for (int i = 0; i < 3; i++)
                poly_layer_backward(p, s->layers[2 + i], k->s[1], k->d_coefficient[i], ds, i > 0);
        RUN(p, swish_backward, .n = n, .x = k->h[1], .dy = ds, .dx = ds);
        poly_layer_backward(p, s->layers[1], k->s[0], ds, dh, false);
        RUN(p, swish_backward, .n = n, .x = k->h[0], .dy = dh, .dx = dh);
        poly_layer_backward(p, s->layers[0], k->e, dh, de, true);
        pass_release(p, &ds);
        pass_release(p, &dh);
}

/* ---- learnable_nnet: layers of |w|, squashed between them. The derivative in t goes through the net beside the value,
 * as rows m .. 2 m - 1 */

static void zero_gradient(struct pass *p, const struct param *q)
{
        if (q && p->grads && !p->accumulate)
                RUN(p, fill, .n = q->size, .value = 0, .y = pass_gradient(p, q));
}

static void monotone_begin(struct pass *p, struct schedule *s)
{
        for (int i = 0; i < s->n_layers; i++) {
                const struct param *w = s->layers[i].w;

                s->kept.abs[i] = pass_alloc(p, w->size);
                RUN(p, abs_forward, .n = w->size, .x = pass_value(p, w), .y = s->kept.abs[i]);
                if (p->keep && p->grads)
                        s->kept.d_abs[i] = pass_zeros(p, w->size);
        }
        for (int i = 0; p->keep && i < s->n_layers; i++)
                zero_gradient(p, s->layers[i].b);
        if (p->keep) {
                zero_gradient(p, s->slope);
                zero_gradient(p, s->start);
        }
}

static void monotone_begin_backward(struct pass *p, struct schedule *s)
{
        for (int i = 0; p->grads && i < s->n_layers; i++) {
                const struct param *w = s->layers[i].w;

                RUN(p, abs_backward, .n = w->size, .x = pass_value(p, w), .dy = s->kept.d_abs[i],
                    .dx = pass_gradient(p, w), .accumulate = p->accumulate);
        }
}

/* The derivative's rows have no bias. */
static struct linear monotone_layer(const struct pass *p, const struct schedule *s, int i, bool derivative)
{
        struct linear l = linear_of(p, p->m, s->layers[i].w, derivative ? NULL : s->layers[i].b);

        l.w = s->kept.abs[i];
        l.dw = s->kept.d_abs[i];
        l.accumulate_weights = true;
        return l;
}

/* 2 ([e, t] - 1/2) and its derivative in t, [0 .., 2] */
static float *monotone_input(struct pass *p, const struct schedule *s, const float *t)
{
        int64_t in = s->k + 1;
        float *x = pass_alloc(p, 2 * p->m * in), *x_prime = x + p->m * in;

        if (s->k)
                RUN(p, copy_2d, .rows = p->m, .columns = s->k, .x = s->kept.e, .x_stride = s->k, .y = x, .y_stride = in,
                    .scale = 2, .shift = -1);
        RUN(p, copy_2d, .rows = p->m, .columns = 1, .x = t, .x_stride = 1, .y = x + s->k, .y_stride = in, .scale = 2,
            .shift = -1);
        RUN(p, fill, .n = p->m * in, .value = 0, .y = x_prime);
        RUN(p, copy_2d, .rows = p->m, .columns = 1, .x = t, .x_stride = 1, .y = x_prime + s->k, .y_stride = in,
            .scale = 0, .shift = 2);
        return x;
}

static void monotone_evaluate(struct pass *p, struct schedule *s, const float *t, struct schedule_at *at)
{
        at->x[0] = monotone_input(p, s, t);
        for (int i = 0; i < s->n_layers; i++) {
                int64_t n = p->m * s->layers[i].w->shape[1];

                at->y[i] = pass_alloc(p, 2 * n);
                for (int derivative = 0; derivative < 2; derivative++) {
                        struct linear l = monotone_layer(p, s, i, derivative);

                        linear_forward(p, &l, at->x[i] + derivative * p->m * l.in, at->y[i] + derivative * n, false);
                }
                if (i == s->n_layers - 1)
                        break;
                at->x[i + 1] = pass_alloc(p, 2 * n);
                RUN(p, dual_squash_forward, .n = n, .p = at->y[i], .p_prime = at->y[i] + n, .u = at->x[i + 1],
                    .u_prime = at->x[i + 1] + n);
        }
}

/* dy: of the last layer's output. */
static void monotone_evaluate_backward(struct pass *p, struct schedule *s, const struct schedule_at *at, float *dy,
                                       float *de)
{
        for (int i = s->n_layers - 1; i >= 0; i--) {
                int64_t out = p->m * s->layers[i].w->shape[1], in = p->m * s->layers[i].w->shape[0];
                float *dx = i || de ? pass_alloc(p, 2 * in) : NULL;

                for (int derivative = 0; derivative < 2; derivative++) {
                        struct linear l = monotone_layer(p, s, i, derivative);

                        layer_backward(p, &l, at->x[i] + derivative * in, dy + derivative * out,
                                       dx ? dx + derivative * in : NULL, false);
                }
                if (i)
                        RUN(p, dual_squash_backward, .n = in, .u = at->x[i], .p_prime = at->y[i - 1] + in, .du = dx,
                            .du_prime = dx + in, .dp = dx, .dp_prime = dx + in);
                dy = dx;
        }
        if (de)
                RUN(p, copy_2d, .rows = p->m, .columns = s->k, .x = dy, .x_stride = s->k + 1, .y = de, .y_stride = s->k,
                    .accumulate = true, .scale = 2);
}

/* ---- all of them */

void schedule_begin(struct pass *p, struct schedule *s, const float *e)
{
        const struct config *c = p->config;
        const float ends[2] = {(float)(c->gamma_max - c->gamma_min), (float)c->gamma_min};

        s->kept = (struct schedule_kept){.e = e};
        if (s->type == GAMMA_POLY_FIXEDEND)
                poly_begin(p, s, e);
        else if (s->slope)
                monotone_begin(p, s);
        else
                for (int i = 0; i < 2; i++) {
                        s->kept.end[i] = pass_alloc(p, 1);
                        RUN(p, fill, .n = 1, .value = ends[i], .y = s->kept.end[i]);
                }
}

void schedule_evaluate(struct pass *p, struct schedule *s, const float *t, struct schedule_at *ret)
{
        struct schedule_kept *k = &s->kept;
        const struct config *c = p->config;
        int64_t n = p->m * s->d;
        const float *h;

        *ret = (struct schedule_at){.t = t};
        if (s->n_layers)
                monotone_evaluate(p, s, t, ret);
        ret->gamma = pass_alloc(p, 2 * n);
        ret->gamma_prime = pass_alloc(p, n);
        if (s->type == GAMMA_POLY_FIXEDEND) {
                ret->gamma_low = ret->gamma + n;
                RUN(p, poly_forward, .m = p->m, .d = s->d, .a = k->coefficient[0], .b = k->coefficient[1],
                    .c_raw = k->coefficient[2], .a_low = k->coefficient[0] + n, .b_low = k->coefficient[1] + n,
                    .c_raw_low = k->coefficient[2] + n, .t = t, .gamma_min = (float)c->gamma_min,
                    .gamma_max = (float)c->gamma_max, .gamma = ret->gamma, .gamma_low = ret->gamma_low,
                    .gamma_prime = ret->gamma_prime);
                return;
        }
        if (s->type >= GAMMA_DDPM_LINEAR) {
                static const enum known_schedule known[] = {[GAMMA_DDPM_LINEAR] = SCHEDULE_DDPM_LINEAR,
                                                            [GAMMA_COSINE] = SCHEDULE_COSINE,
                                                            [GAMMA_STRAIGHT] = SCHEDULE_STRAIGHT};

                ret->gamma_low = ret->gamma + n;
                RUN(p, known_gamma, .m = p->m, .schedule = known[s->type], .gamma_min = c->gamma_min,
                    .gamma_max = c->gamma_max, .t = t, .gamma = ret->gamma, .gamma_low = ret->gamma_low,
                    .gamma_prime = ret->gamma_prime);
                return;
        }
        h = s->n_layers ? ret->y[s->n_layers - 1] : NULL;
        RUN(p, monotone_out_forward, .m = p->m, .d = s->d, .w = s->slope ? pass_value(p, s->slope) : k->end[0],
            .b = s->slope ? pass_value(p, s->start) : k->end[1], .t = t, .h = h, .h_prime = h ? h + n : NULL,
            .divisor = (float)s->width, .gamma = ret->gamma, .gamma_prime = ret->gamma_prime);
}

void schedule_evaluate_end(struct pass *p, struct schedule *s, bool one, const float *t, struct schedule_at *ret)
{
        if (s->type != GAMMA_POLY_FIXEDEND) {
                schedule_evaluate(p, s, t, ret);
                return;
        }
        *ret = (struct schedule_at){.t = t, .constant = true, .gamma = pass_alloc(p, p->m * s->d)};
        RUN(p, fill, .n = p->m * s->d, .value = (float)(one ? p->config->gamma_max : p->config->gamma_min),
            .y = ret->gamma);
}

void schedule_evaluate_backward(struct pass *p, struct schedule *s, const struct schedule_at *at, const float *d_gamma,
                                const float *d_gamma_prime, float *de)
{
        struct schedule_kept *k = &s->kept;
        const struct config *c = p->config;
        int64_t n = p->m * s->d;
        size_t mark = arena_mark(p->arena);

        if (s->type == GAMMA_POLY_FIXEDEND && !at->constant) {
                RUN(p, poly_backward, .m = p->m, .d = s->d, .a = k->coefficient[0], .b = k->coefficient[1],
                    .c_raw = k->coefficient[2], .t = at->t, .gamma_min = (float)c->gamma_min,
                    .gamma_max = (float)c->gamma_max, .d_gamma = d_gamma, .d_gamma_prime = d_gamma_prime,
                    .da = k->d_coefficient[0], .db = k->d_coefficient[1], .dc_raw = k->d_coefficient[2],
                    .accumulate = true);
        } else if (s->slope) {
                float *dh = s->n_layers ? pass_alloc(p, 2 * n) : NULL;

                RUN(p, monotone_out_backward, .m = p->m, .d = s->d, .w = pass_value(p, s->slope), .t = at->t,
                    .d_gamma = d_gamma, .d_gamma_prime = d_gamma_prime, .divisor = (float)s->width, .dh = dh,
                    .dh_prime = dh ? dh + n : NULL, .dw = pass_gradient(p, s->slope), .db = pass_gradient(p, s->start),
                    .accumulate = true);
                if (dh)
                        monotone_evaluate_backward(p, s, at, dh, de);
        }
        arena_release_since(p->arena, mark);
}

void schedule_begin_backward(struct pass *p, struct schedule *s, float *de)
{
        if (s->type == GAMMA_POLY_FIXEDEND)
                poly_begin_backward(p, s, de);
        else
                monotone_begin_backward(p, s);
}
