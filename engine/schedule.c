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

static void poly_init(struct schedule *s, struct declarer *d)
{
        static const char *const names[5][2] = {{"dense_1/kernel", "dense_1/bias"},
                                                {"dense_2/kernel", "dense_2/bias"},
                                                {"dense_out_a/kernel", "dense_out_a/bias"},
                                                {"dense_out_b/kernel", "dense_out_b/bias"},
                                                {"dense_out_c/kernel", "dense_out_c/bias"}};

        for (int i = 0; i < 5; i++) {
                s->dense[i] =
                        declare(d, names[i][0], i == 2 ? PARAM_ZERO_KERNEL : PARAM_KERNEL, 2, i ? s->d : s->k, s->d, 0);
                s->dense_bias[i] = declare(d, names[i][1], PARAM_BIAS, 1, s->d, 1, 0);
        }
}

static void monotone_init(struct schedule *s, const struct config *c, struct declarer *d)
{
        float span = (float)(c->gamma_max - c->gamma_min), first = (float)c->gamma_min;

        if (s->type == GAMMA_LEARNABLE_SCALAR) {
                s->l1 = declare(d, "w", PARAM_CONSTANT, 1, 1, 1, span);
                s->l1_bias = declare(d, "b", PARAM_CONSTANT, 1, 1, 1, first);
                return;
        }
        s->l1 = declare(d, "l1/kernel", PARAM_CONSTANT, 2, 1, 1, span);
        s->l1_bias = declare(d, "l1/bias", PARAM_CONSTANT_BIAS, 1, 1, 1, first);
        s->l2 = declare(d, "l2/kernel", PARAM_MONOTONE, 2, s->k + 1, s->width, 0);
        s->l2_bias = declare(d, "l2/bias", PARAM_BIAS, 1, s->width, 1, 0);
        if (s->k) {
                s->l_int = declare(d, "l_int/kernel", PARAM_MONOTONE, 2, s->width, s->width, 0);
                s->l_int_bias = declare(d, "l_int/bias", PARAM_BIAS, 1, s->width, 1, 0);
        }
        s->l3 = declare(d, "l3/kernel", PARAM_MONOTONE, 2, s->width, s->d, 0);
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
                monotone_init(s, c, &d);
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

static void wide_linear(struct pass *p, const struct linear *l, const float *x, const float *x_low, float *y)
{
        RUN(p, wide_dense_forward, .m = l->rows, .k = l->in, .n = l->out, .x = x, .x_low = x_low, .w = l->w, .b = l->b,
            .y = y, .y_low = y + l->rows * l->out);
}

static void wide_swish(struct pass *p, int64_t n, const float *x, float *y)
{
        RUN(p, swish_forward, .n = n, .x = x, .x_low = x + n, .y = y, .y_low = y + n);
}

static void poly_begin(struct pass *p, struct schedule *s, const float *e)
{
        struct schedule_kept *k = &s->kept;
        int64_t n = p->m * s->d;
        struct linear l[5];

        for (int i = 0; i < 5; i++)
                l[i] = linear_of(p, p->m, s->dense[i], s->dense_bias[i]);
        k->h_1 = pass_alloc(p, 2 * n);
        k->s_1 = pass_alloc(p, 2 * n);
        k->h_2 = pass_alloc(p, 2 * n);
        k->s_2 = pass_alloc(p, 2 * n);
        wide_linear(p, &l[0], e, NULL, k->h_1);
        wide_swish(p, n, k->h_1, k->s_1);
        wide_linear(p, &l[1], k->s_1, k->s_1 + n, k->h_2);
        wide_swish(p, n, k->h_2, k->s_2);
        for (int i = 0; i < 3; i++) {
                k->coefficient[i] = pass_alloc(p, 2 * n);
                wide_linear(p, &l[2 + i], k->s_2, k->s_2 + n, k->coefficient[i]);
                if (p->keep) {
                        k->d_coefficient[i] = pass_alloc(p, n);
                        RUN(p, fill, .n = n, .value = 0, .y = k->d_coefficient[i]);
                }
        }
}

/* These layers hold most of the model's parameters and see few rows. */
static struct linear factored_layer(const struct pass *p, const struct schedule *s, int i)
{
        struct linear l = linear_of(p, p->m, s->dense[i], s->dense_bias[i]);

        l.factored = s->dense[i];
        l.factored_bias = s->dense_bias[i];
        return l;
}

static void poly_begin_backward(struct pass *p, struct schedule *s, float *de)
{
        struct schedule_kept *k = &s->kept;
        int64_t n = p->m * s->d;
        float *ds = pass_alloc(p, n), *dh = pass_alloc(p, n);
        struct linear l[5];

        for (int i = 0; i < 5; i++)
                l[i] = factored_layer(p, s, i);
        for (int i = 0; i < 3; i++)
                layer_backward(p, &l[2 + i], k->s_2, k->d_coefficient[i], ds, i > 0);
        RUN(p, swish_backward, .n = n, .x = k->h_2, .dy = ds, .dx = ds);
        layer_backward(p, &l[1], k->s_1, ds, dh, false);
        RUN(p, swish_backward, .n = n, .x = k->h_1, .dy = dh, .dx = dh);
        layer_backward(p, &l[0], k->e, dh, de, true);
        pass_release(p, &ds);
        pass_release(p, &dh);
}

/* ---- learnable_nnet: the derivative in t goes through the net beside the value, as rows m .. 2 m - 1 */

static void zero_gradient(struct pass *p, const struct param *q)
{
        if (q && p->grads && !p->accumulate)
                RUN(p, fill, .n = q->size, .value = 0, .y = pass_gradient(p, q));
}

static void abs_begin(struct pass *p, const struct param *q, float **ret_abs, float **ret_d_abs)
{
        if (!q)
                return;
        *ret_abs = pass_alloc(p, q->size);
        RUN(p, abs_forward, .n = q->size, .x = pass_value(p, q), .y = *ret_abs);
        if (!p->keep || !p->grads)
                return;
        *ret_d_abs = pass_alloc(p, q->size);
        RUN(p, fill, .n = q->size, .value = 0, .y = *ret_d_abs);
}

static void abs_begin_backward(struct pass *p, const struct param *q, const float *d_abs)
{
        if (q && p->grads)
                RUN(p, abs_backward, .n = q->size, .x = pass_value(p, q), .dy = d_abs, .dx = pass_gradient(p, q),
                    .accumulate = p->accumulate);
}

static void monotone_begin(struct pass *p, struct schedule *s)
{
        struct schedule_kept *k = &s->kept;

        if (p->keep) {
                zero_gradient(p, s->l1);
                zero_gradient(p, s->l1_bias);
                zero_gradient(p, s->l2_bias);
                zero_gradient(p, s->l_int_bias);
        }
        abs_begin(p, s->l2, &k->abs_l2, &k->d_abs_l2);
        abs_begin(p, s->l_int, &k->abs_l_int, &k->d_abs_l_int);
        abs_begin(p, s->l3, &k->abs_l3, &k->d_abs_l3);
}

/* Layer of |w|; the derivative's rows have no bias. */
static struct linear monotone_layer(const struct pass *p, const struct param *w, const struct param *b,
                                    const float *abs_w, float *d_abs, bool derivative)
{
        struct linear l = linear_of(p, p->m, w, derivative ? NULL : b);

        l.w = abs_w;
        l.dw = d_abs;
        l.accumulate_weights = true;
        return l;
}

static void monotone_layer_forward(struct pass *p, const struct param *w, const struct param *b, const float *abs_w,
                                   const float *x, float *y)
{
        for (int derivative = 0; derivative < 2; derivative++) {
                struct linear l = monotone_layer(p, w, b, abs_w, NULL, derivative);

                linear_forward(p, &l, x + derivative * p->m * l.in, y + derivative * p->m * l.out, false);
        }
}

static void monotone_layer_backward(struct pass *p, const struct param *w, const struct param *b, const float *abs_w,
                                    float *d_abs, const float *x, const float *dy, float *dx)
{
        for (int derivative = 0; derivative < 2; derivative++) {
                struct linear l = monotone_layer(p, w, b, abs_w, d_abs, derivative);

                layer_backward(p, &l, x + derivative * p->m * l.in, dy + derivative * p->m * l.out,
                               dx ? dx + derivative * p->m * l.in : NULL, false);
        }
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

static void squash(struct pass *p, int64_t n, float *x, float *u)
{
        RUN(p, dual_squash_forward, .n = n, .p = x, .p_prime = x + n, .u = u, .u_prime = u + n);
}

/* du becomes the gradient of the squashing's input in place. */
static void squash_backward(struct pass *p, int64_t n, const float *x, const float *u, float *du)
{
        RUN(p, dual_squash_backward, .n = n, .u = u, .p_prime = x + n, .du = du, .du_prime = du + n, .dp = du,
            .dp_prime = du + n);
}

static void monotone_evaluate(struct pass *p, struct schedule *s, const float *t, struct schedule_at *at)
{
        struct schedule_kept *k = &s->kept;
        int64_t n = p->m * s->width;
        float *top;

        at->in = monotone_input(p, s, t);
        at->p_1 = pass_alloc(p, 2 * n);
        at->u_1 = pass_alloc(p, 2 * n);
        monotone_layer_forward(p, s->l2, s->l2_bias, k->abs_l2, at->in, at->p_1);
        squash(p, n, at->p_1, at->u_1);
        top = at->u_1;
        if (s->l_int) {
                at->p_2 = pass_alloc(p, 2 * n);
                at->u_2 = pass_alloc(p, 2 * n);
                monotone_layer_forward(p, s->l_int, s->l_int_bias, k->abs_l_int, at->u_1, at->p_2);
                squash(p, n, at->p_2, at->u_2);
                top = at->u_2;
        }
        at->h = pass_alloc(p, 2 * p->m * s->d);
        monotone_layer_forward(p, s->l3, NULL, k->abs_l3, top, at->h);
}

static void monotone_evaluate_backward(struct pass *p, struct schedule *s, const struct schedule_at *at, float *dh,
                                       float *de)
{
        struct schedule_kept *k = &s->kept;
        int64_t n = p->m * s->width, in = s->k + 1;
        float *du = pass_alloc(p, 2 * n), *d_in = de ? pass_alloc(p, 2 * p->m * in) : NULL;

        monotone_layer_backward(p, s->l3, NULL, k->abs_l3, k->d_abs_l3, s->l_int ? at->u_2 : at->u_1, dh, du);
        if (s->l_int) {
                float *du_1 = pass_alloc(p, 2 * n);

                squash_backward(p, n, at->p_2, at->u_2, du);
                monotone_layer_backward(p, s->l_int, s->l_int_bias, k->abs_l_int, k->d_abs_l_int, at->u_1, du, du_1);
                pass_release(p, &du);
                du = du_1;
        }
        squash_backward(p, n, at->p_1, at->u_1, du);
        monotone_layer_backward(p, s->l2, s->l2_bias, k->abs_l2, k->d_abs_l2, at->in, du, d_in);
        if (de)
                RUN(p, copy_2d, .rows = p->m, .columns = s->k, .x = d_in, .x_stride = in, .y = de, .y_stride = s->k,
                    .accumulate = true, .scale = 2);
        pass_release(p, &du);
        pass_release(p, &d_in);
}

/* ---- all of them */

void schedule_begin(struct pass *p, struct schedule *s, const float *e)
{
        const struct config *c = p->config;

        s->kept = (struct schedule_kept){.e = e};
        if (s->type == GAMMA_POLY_FIXEDEND) {
                poly_begin(p, s, e);
        } else if (s->type == GAMMA_LEARNABLE_NNET || s->type == GAMMA_LEARNABLE_SCALAR) {
                monotone_begin(p, s);
        } else {
                const float ends[2] = {(float)(c->gamma_max - c->gamma_min), (float)c->gamma_min};

                for (int i = 0; i < 2; i++) {
                        s->kept.end[i] = pass_alloc(p, 1);
                        RUN(p, fill, .n = 1, .value = ends[i], .y = s->kept.end[i]);
                }
        }
}

void schedule_evaluate(struct pass *p, struct schedule *s, const float *t, struct schedule_at *ret)
{
        struct schedule_kept *k = &s->kept;
        const struct config *c = p->config;
        int64_t n = p->m * s->d;

        *ret = (struct schedule_at){.t = t};
        if (s->type == GAMMA_LEARNABLE_NNET)
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
        } else
                RUN(p, monotone_out_forward, .m = p->m, .d = s->d, .w = s->l1 ? pass_value(p, s->l1) : k->end[0],
                    .b = s->l1 ? pass_value(p, s->l1_bias) : k->end[1], .t = t, .h = ret->h,
                    .h_prime = ret->h ? ret->h + p->m * s->d : NULL, .divisor = (float)s->width, .gamma = ret->gamma,
                    .gamma_prime = ret->gamma_prime);
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

        if (at->constant)
                return;
        if (s->type == GAMMA_POLY_FIXEDEND) {
                RUN(p, poly_backward, .m = p->m, .d = s->d, .a = k->coefficient[0], .b = k->coefficient[1],
                    .c_raw = k->coefficient[2], .t = at->t, .gamma_min = (float)c->gamma_min,
                    .gamma_max = (float)c->gamma_max, .d_gamma = d_gamma, .d_gamma_prime = d_gamma_prime,
                    .da = k->d_coefficient[0], .db = k->d_coefficient[1], .dc_raw = k->d_coefficient[2],
                    .accumulate = true);
        } else if (s->l1) {
                float *dh = at->h ? pass_alloc(p, 2 * p->m * s->d) : NULL;

                RUN(p, monotone_out_backward, .m = p->m, .d = s->d, .w = pass_value(p, s->l1), .t = at->t,
                    .d_gamma = d_gamma, .d_gamma_prime = d_gamma_prime, .divisor = (float)s->width, .dh = dh,
                    .dh_prime = dh ? dh + p->m * s->d : NULL, .dw = pass_gradient(p, s->l1),
                    .db = pass_gradient(p, s->l1_bias), .accumulate = true);
                if (dh)
                        monotone_evaluate_backward(p, s, at, dh, de);
                pass_release(p, &dh);
        }
}

void schedule_release(struct pass *p, struct schedule_at *at)
{
        float **const all[] = {&at->gamma, &at->gamma_prime, &at->in, &at->p_1, &at->u_1, &at->p_2, &at->u_2, &at->h};

        for (size_t i = 0; i < ARRAY_LEN(all); i++)
                pass_release(p, all[i]);
}

void schedule_begin_backward(struct pass *p, struct schedule *s, float *de)
{
        if (s->type == GAMMA_POLY_FIXEDEND)
                poly_begin_backward(p, s, de);
        abs_begin_backward(p, s->l2, s->kept.d_abs_l2);
        abs_begin_backward(p, s->l_int, s->kept.d_abs_l_int);
        abs_begin_backward(p, s->l3, s->kept.d_abs_l3);
}

void schedule_end(struct pass *p, struct schedule *s)
{
        struct schedule_kept *k = &s->kept;
        float **const all[] = {&k->h_1,
                               &k->s_1,
                               &k->h_2,
                               &k->s_2,
                               &k->coefficient[0],
                               &k->coefficient[1],
                               &k->coefficient[2],
                               &k->d_coefficient[0],
                               &k->d_coefficient[1],
                               &k->d_coefficient[2],
                               &k->end[0],
                               &k->end[1],
                               &k->abs_l2,
                               &k->abs_l_int,
                               &k->abs_l3,
                               &k->d_abs_l2,
                               &k->d_abs_l_int,
                               &k->d_abs_l3};

        for (size_t i = 0; i < ARRAY_LEN(all); i++)
                pass_release(p, all[i]);
        k->e = NULL;
}
