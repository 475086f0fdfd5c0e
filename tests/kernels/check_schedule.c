/* Schedules. */
#include "check.h"
#include "twins.h"

struct schedule_case {
        int64_t m, d;
        struct tensor *a, *b, *c_raw, *t, *gamma, *gamma_prime, *d_gamma, *d_gamma_prime;
};

static const int64_t schedule_shapes[][2] = {{3, 37}, {1, 3072}, {4, 1}};

static void schedule_inputs(struct test *t, const int64_t *shape, struct schedule_case *c)
{
        size_t n = (size_t)(shape[0] * shape[1]);

        *c = (struct schedule_case){.m = shape[0], .d = shape[1]};
        c->a = test_input(t, "a", n, 1, 0);
        c->b = test_input(t, "b", n, 1, 0);
        c->c_raw = test_input(t, "c_raw", n, 2, 0);
        c->t = test_input(t, "t", (size_t)shape[0], 0, 0);
        for (int64_t i = 0; i < shape[0]; i++)
                tensor_values(c->t)[i] = i == 1 ? 0 : i == 2 ? 1 : (float)test_uniform(t);
        test_upload(t, c->t);
        c->d_gamma = test_input(t, "d_gamma", n, 1, 0);
        c->d_gamma_prime = test_input(t, "d_gamma_prime", n, 1, 0);
}

static void expect_poly(struct test *t, const struct schedule_case *c, const struct tensor *y,
                        double (*twin)(double, double, double, double, double, double))
{
        double *want = malloc(c->a->n * sizeof(*want));

        for (size_t i = 0; i < c->a->n; i++)
                want[i] = twin(tensor_values(c->a)[i], tensor_values(c->b)[i], tensor_values(c->c_raw)[i],
                               tensor_values(c->t)[(int64_t)i / c->d], -13.3f, 5);
        if (y)
                test_expect(t, y, want, 2);
        free(want);
}

void check_poly_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(schedule_shapes); i++)
                for (int which = 1; which < 4; which++) {
                        struct schedule_case c;

                        test_case(t, "shape %zu, outputs %d", i, which);
                        schedule_inputs(t, schedule_shapes[i], &c);
                        c.gamma = which & 1 ? test_output(t, "gamma", c.a->n, 2) : NULL;
                        c.gamma_prime = which & 2 ? test_output(t, "gamma_prime", c.a->n, 2) : NULL;
                        RUN(t, poly_forward, .m = c.m, .d = c.d, .a = AT(c.a), .b = AT(c.b), .c_raw = AT(c.c_raw),
                            .t = AT(c.t), .gamma_min = -13.3f, .gamma_max = 5, .gamma = AT(c.gamma),
                            .gamma_prime = AT(c.gamma_prime));
                        test_compare(t);
                        expect_poly(t, &c, c.gamma, twin_poly);
                        expect_poly(t, &c, c.gamma_prime, twin_poly_prime);
                        test_end(t);
                }
}

static double poly_loss(struct test *t, void *context)
{
        struct schedule_case *c = context;

        RUN_REFERENCE(t, poly_forward, .m = c->m, .d = c->d, .a = AT(c->a), .b = AT(c->b), .c_raw = AT(c->c_raw),
                      .t = AT(c->t), .gamma_min = -13.3f, .gamma_max = 5, .gamma = AT(c->gamma),
                      .gamma_prime = AT(c->gamma_prime));
        return (c->d_gamma ? test_dot(t, c->gamma, c->d_gamma) : 0) +
               (c->d_gamma_prime ? test_dot(t, c->gamma_prime, c->d_gamma_prime) : 0);
}

void check_poly_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(schedule_shapes); i++)
                for (int which = 1; which < 8; which++) {
                        bool accumulate = which & 4;
                        struct tensor *da, *db, *dc_raw;
                        struct schedule_case c;

                        if ((which & 3) == 0)
                                continue;
                        test_case(t, "shape %zu, gradients %d, accumulate %d", i, which & 3, accumulate);
                        schedule_inputs(t, schedule_shapes[i], &c);
                        for (int64_t j = 0; j < c.m; j++) /* at 0 and 1 gamma does not depend on the coefficients */
                                tensor_values(c.t)[j] = (float)(0.2 + 0.6 * test_uniform(t));
                        test_upload(t, c.t);
                        /* where P(1) is near zero no step is small enough */
                        for (size_t j = 0; j < c.a->n; j++)
                                tensor_values(c.c_raw)[j] = fabsf(tensor_values(c.c_raw)[j]) + 3;
                        test_upload(t, c.c_raw);
                        c.gamma = test_output(t, "gamma", c.a->n, -1);
                        c.gamma_prime = test_output(t, "gamma_prime", c.a->n, -1);
                        if (!(which & 1))
                                c.d_gamma = NULL;
                        if (!(which & 2))
                                c.d_gamma_prime = NULL;
                        da = test_sum(t, "da", c.a->n, 2, accumulate);
                        db = test_sum(t, "db", c.a->n, 2, accumulate);
                        dc_raw = test_sum(t, "dc_raw", c.a->n, 2, accumulate);
                        RUN(t, poly_backward, .m = c.m, .d = c.d, .a = AT(c.a), .b = AT(c.b), .c_raw = AT(c.c_raw),
                            .t = AT(c.t), .gamma_min = -13.3f, .gamma_max = 5, .d_gamma = AT(c.d_gamma),
                            .d_gamma_prime = AT(c.d_gamma_prime), .da = AT(da), .db = AT(db), .dc_raw = AT(dc_raw),
                            .accumulate = accumulate);
                        test_compare(t);
                        if (!accumulate) {
                                test_slope(t, c.a, da, 0.02, poly_loss, &c);
                                test_slope(t, c.b, db, 0.02, poly_loss, &c);
                                test_slope(t, c.c_raw, dc_raw, 0.02, poly_loss, &c);
                        }
                        test_end(t);
                }
}

struct squash_case {
        int64_t n;
        struct tensor *p, *p_prime, *u, *u_prime, *du, *du_prime;
};

void check_dual_squash_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
                for (int in_place = 0; in_place < 2; in_place++) {
                        size_t n = (size_t)lengths[i];
                        struct tensor *p, *p_prime;

                        test_case(t, "%zu, in place %d", n, in_place);
                        p = in_place ? test_inout(t, "p", n, 2) : test_input(t, "p", n, 3, 0);
                        p_prime = in_place ? test_inout(t, "p_prime", n, 2) : test_input(t, "p_prime", n, 1, 0);
                        struct tensor *u = in_place ? p : test_output(t, "u", n, 2);
                        struct tensor *u_prime = in_place ? p_prime : test_output(t, "u_prime", n, 2);
                        double *want = malloc(2 * n * sizeof(*want)), h = 1e-4;

                        for (size_t j = 0; j < n; j++) { /* u' by differences in t: p moves by p' */
                                double at = tensor_values(p)[j], by = tensor_values(p_prime)[j];

                                want[j] = twin_squash(at);
                                want[n + j] = (8 * (twin_squash(at + h * by) - twin_squash(at - h * by)) -
                                               (twin_squash(at + 2 * h * by) - twin_squash(at - 2 * h * by))) /
                                              (12 * h);
                        }
                        RUN(t, dual_squash_forward, .n = lengths[i], .p = AT(p), .p_prime = AT(p_prime), .u = AT(u),
                            .u_prime = AT(u_prime));
                        test_compare(t);
                        test_expect(t, u, want, 2);
                        test_expect(t, u_prime, want + n, 4);
                        free(want);
                        test_end(t);
                }
}

static double squash_loss(struct test *t, void *context)
{
        struct squash_case *c = context;

        RUN_REFERENCE(t, dual_squash_forward, .n = c->n, .p = AT(c->p), .p_prime = AT(c->p_prime), .u = AT(c->u),
                      .u_prime = AT(c->u_prime));
        return test_dot(t, c->u, c->du) + test_dot(t, c->u_prime, c->du_prime);
}

void check_dual_squash_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
                for (int in_place = 0; in_place < 2; in_place++) {
                        struct squash_case c = {.n = lengths[i]};
                        size_t n = (size_t)c.n;
                        struct tensor *dp, *dp_prime;

                        test_case(t, "%zu, in place %d", n, in_place);
                        c.p = test_input(t, "p", n, 1, 0);
                        c.p_prime = test_input(t, "p_prime", n, 1, 0);
                        c.u = test_output(t, "u", n, -1);
                        c.u_prime = test_output(t, "u_prime", n, -1);
                        c.du = in_place ? test_inout(t, "du", n, 2) : test_input(t, "du", n, 1, 0);
                        c.du_prime = in_place ? test_inout(t, "du_prime", n, 2) : test_input(t, "du_prime", n, 1, 0);
                        (void)squash_loss(t, &c);
                        test_share(t, c.u);
                        dp = in_place ? c.du : test_output(t, "dp", n, 2);
                        dp_prime = in_place ? c.du_prime : test_output(t, "dp_prime", n, 2);
                        RUN(t, dual_squash_backward, .n = c.n, .u = AT(c.u), .p_prime = AT(c.p_prime), .du = AT(c.du),
                            .du_prime = AT(c.du_prime), .dp = AT(dp), .dp_prime = AT(dp_prime));
                        test_compare(t);
                        if (!in_place) {
                                test_slope(t, c.p, dp, 0.01, squash_loss, &c);
                                test_slope(t, c.p_prime, dp_prime, 0.01, squash_loss, &c);
                        }
                        test_end(t);
                }
}

struct monotone_case {
        int64_t m, d;
        struct tensor *w, *b, *t, *h, *h_prime, *gamma, *gamma_prime, *d_gamma, *d_gamma_prime;
};

static void monotone_inputs(struct test *t, const int64_t *shape, bool with_h, struct monotone_case *c)
{
        size_t n = (size_t)(shape[0] * shape[1]);

        *c = (struct monotone_case){.m = shape[0], .d = shape[1]};
        c->w = test_input(t, "w", 1, 1, with_h ? -18 : 18);
        c->b = test_input(t, "b", 1, 1, -13);
        c->t = test_input(t, "t", (size_t)c->m, 0.2, 0.5);
        c->h = with_h ? test_input(t, "h", n, 30, 0) : NULL;
        c->h_prime = with_h ? test_input(t, "h_prime", n, 30, 0) : NULL;
        c->d_gamma = test_input(t, "d_gamma", n, 1, 0.5);
        c->d_gamma_prime = test_input(t, "d_gamma_prime", n, 1, 0.5);
}

/* Spec 4: l1(t) + l3(u2) / divisor, l1 with the absolute value of its kernel. */
static void expect_monotone(struct test *t, const struct monotone_case *c)
{
        size_t n = c->d_gamma->n;
        double *want = malloc(2 * n * sizeof(*want)), kernel = fmax(tensor_values(c->w)[0], -tensor_values(c->w)[0]);

        for (size_t i = 0; i < n; i++) {
                want[i] = kernel * tensor_values(c->t)[(int64_t)i / c->d] + tensor_values(c->b)[0];
                want[n + i] = kernel;
                if (c->h)
                        want[i] += tensor_values(c->h)[i] / 30.7f;
                if (c->h_prime)
                        want[n + i] += tensor_values(c->h_prime)[i] / 30.7f;
        }
        if (c->gamma)
                test_expect(t, c->gamma, want, 2);
        if (c->gamma_prime)
                test_expect(t, c->gamma_prime, want + n, 2);
        free(want);
}

void check_monotone_out_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(schedule_shapes); i++)
                for (int which = 1; which < 8; which++) {
                        struct monotone_case c;

                        if ((which & 3) == 0)
                                continue;
                        test_case(t, "shape %zu, outputs %d, h %d", i, which & 3, which >> 2);
                        monotone_inputs(t, schedule_shapes[i], which & 4, &c);
                        c.gamma = which & 1 ? test_output(t, "gamma", c.d_gamma->n, 2) : NULL;
                        c.gamma_prime = which & 2 ? test_output(t, "gamma_prime", c.d_gamma->n, 2) : NULL;
                        RUN(t, monotone_out_forward, .m = c.m, .d = c.d, .w = AT(c.w), .b = AT(c.b), .t = AT(c.t),
                            .h = AT(c.h), .h_prime = AT(c.h_prime), .divisor = 30.7f, .gamma = AT(c.gamma),
                            .gamma_prime = AT(c.gamma_prime));
                        test_compare(t);
                        expect_monotone(t, &c);
                        test_end(t);
                }
}

static double monotone_loss(struct test *t, void *context)
{
        struct monotone_case *c = context;

        RUN_REFERENCE(t, monotone_out_forward, .m = c->m, .d = c->d, .w = AT(c->w), .b = AT(c->b), .t = AT(c->t),
                      .h = AT(c->h), .h_prime = AT(c->h_prime), .divisor = 30.7f, .gamma = AT(c->gamma),
                      .gamma_prime = AT(c->gamma_prime));
        return (c->d_gamma ? test_dot(t, c->gamma, c->d_gamma) : 0) +
               (c->d_gamma_prime ? test_dot(t, c->gamma_prime, c->d_gamma_prime) : 0);
}

/* |w| has no slope where w is zero: the middle of -1 and 1. */
static void check_flat_weight(struct test *t)
{
        static const double zero = 0;
        struct monotone_case c;
        struct tensor *dw, *db;

        test_case(t, "w = 0");
        monotone_inputs(t, schedule_shapes[0], false, &c);
        tensor_values(c.w)[0] = 0;
        test_upload(t, c.w);
        dw = test_output(t, "dw", 1, 0);
        db = test_output(t, "db", 1, 4);
        RUN(t, monotone_out_backward, .m = c.m, .d = c.d, .w = AT(c.w), .t = AT(c.t), .d_gamma = AT(c.d_gamma),
            .d_gamma_prime = AT(c.d_gamma_prime), .divisor = 30.7f, .dw = AT(dw), .db = AT(db));
        test_compare(t);
        test_expect(t, dw, &zero, 0);
        test_end(t);
}

void check_monotone_out_backward(struct test *t)
{
        check_flat_weight(t);
        for (size_t i = 0; i < ARRAY_LEN(schedule_shapes); i++)
                for (int which = 1; which < 16; which++) {
                        bool accumulate = which & 8;
                        struct tensor *dw, *db, *dh, *dh_prime;
                        struct monotone_case c;

                        if ((which & 3) == 0)
                                continue;
                        test_case(t, "shape %zu, gradients %d, h %d, accumulate %d", i, which & 3, which >> 2 & 1,
                                  accumulate);
                        monotone_inputs(t, schedule_shapes[i], which & 4, &c);
                        c.gamma = test_output(t, "gamma", c.d_gamma->n, -1);
                        c.gamma_prime = test_output(t, "gamma_prime", c.d_gamma->n, -1);
                        if (!(which & 1))
                                c.d_gamma = NULL;
                        if (!(which & 2))
                                c.d_gamma_prime = NULL;
                        dw = test_sum(t, "dw", 1, 4, accumulate);
                        db = test_sum(t, "db", 1, 4, accumulate);
                        dh = which & 4 ? test_output(t, "dh", c.h->n, 2) : NULL;
                        dh_prime = which & 4 ? test_output(t, "dh_prime", c.h->n, 2) : NULL;
                        RUN(t, monotone_out_backward, .m = c.m, .d = c.d, .w = AT(c.w), .t = AT(c.t),
                            .d_gamma = AT(c.d_gamma), .d_gamma_prime = AT(c.d_gamma_prime), .divisor = 30.7f,
                            .dh = AT(dh), .dh_prime = AT(dh_prime), .dw = AT(dw), .db = AT(db),
                            .accumulate = accumulate);
                        test_compare(t);
                        if (!accumulate) {
                                test_slope(t, c.w, dw, 0.1, monotone_loss, &c);
                                if (c.d_gamma)
                                        test_slope(t, c.b, db, 0.1, monotone_loss, &c);
                                if (dh && c.d_gamma)
                                        test_slope(t, c.h, dh, 1, monotone_loss, &c);
                                if (dh && c.d_gamma_prime)
                                        test_slope(t, c.h_prime, dh_prime, 1, monotone_loss, &c);
                        }
                        test_end(t);
                }
}
