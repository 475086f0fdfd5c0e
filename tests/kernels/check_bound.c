/* The bound, sampling. */
#include "check.h"
#include "twins.h"

/* ---- the bound */

struct diffuse_case {
        int64_t m, d, g;
        struct tensor *f, *eps, *gamma, *z, *dz;
};

static const int64_t bound_shapes[][3] = {{2, 96, 96}, {3, 65, 1}, {1, 3072, 3072}, {1, 1, 1}};

static void diffuse_inputs(struct test *t, const int64_t *s, struct diffuse_case *c)
{
        size_t n = (size_t)(s[0] * s[1]);

        *c = (struct diffuse_case){.m = s[0], .d = s[1], .g = s[2]};
        test_case(t, "%d x %d, %d", (int)s[0], (int)s[1], (int)s[2]);
        c->f = test_input(t, "f", n, 0.5, 0);
        c->eps = test_input(t, "eps", n, 1, 0);
        c->gamma = test_input(t, "gamma", (size_t)(s[0] * s[2]), 4, -3);
        c->dz = test_input(t, "dz", n, 1, 0.5);
}

static double diffuse_loss(struct test *t, void *context)
{
        struct diffuse_case *c = context;

        RUN_REFERENCE(t, diffuse_forward, .m = c->m, .d = c->d, .g = c->g, .f = AT(c->f), .eps = AT(c->eps),
                      .gamma = AT(c->gamma), .z = AT(c->z));
        return test_dot(t, c->z, c->dz);
}

void check_diffuse_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(bound_shapes); i++) {
                struct diffuse_case c;

                diffuse_inputs(t, bound_shapes[i], &c);
                c.z = test_output(t, "z", c.f->n, 2);
                RUN(t, diffuse_forward, .m = c.m, .d = c.d, .g = c.g, .f = AT(c.f), .eps = AT(c.eps),
                    .gamma = AT(c.gamma), .z = AT(c.z));
                test_compare(t);
                test_end(t);
        }
}

void check_diffuse_backward(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(bound_shapes); i++) {
                struct diffuse_case c;
                struct tensor *d_gamma;

                diffuse_inputs(t, bound_shapes[i / 2], &c);
                c.z = test_output(t, "z", c.f->n, -1);
                d_gamma = test_inout(t, "d_gamma", c.gamma->n, 4);
                if (i % 2 == 0) /* += to nothing: comparable with differences */
                        memset(tensor_values(d_gamma), 0, d_gamma->n * sizeof(float));
                test_upload(t, d_gamma);
                RUN(t, diffuse_backward, .m = c.m, .d = c.d, .g = c.g, .f = AT(c.f), .eps = AT(c.eps),
                    .gamma = AT(c.gamma), .dz = AT(c.dz), .d_gamma = AT(d_gamma));
                test_compare(t);
                if (i % 2 == 0)
                        test_slope(t, c.gamma, d_gamma, 0.01, diffuse_loss, &c);
                test_end(t);
        }
}

struct bound_case {
        int64_t m, d, g;
        enum parameterisation p;
        struct tensor *x, *f, *eps_0, *eps, *z, *net, *gamma[4], *terms, *vars, *d_net, *d_z, *d_gamma[4];
};

#define BOUND_ARGS(c)                                                                                                  \
        .m = (c)->m, .d = (c)->d, .g = (c)->g, .parameterisation = (c)->p, .n_timesteps = 50, .x = AT((c)->x),         \
        .f = AT((c)->f), .eps_0 = AT((c)->eps_0), .eps = AT((c)->eps), .z = AT((c)->z), .net = AT((c)->net),           \
        .gamma_0 = AT((c)->gamma[0]), .gamma_1 = AT((c)->gamma[1]), .gamma_t = AT((c)->gamma[2]),                      \
        .gamma_prime = AT((c)->gamma[3]), .terms = AT((c)->terms), .vars = AT((c)->vars), .grad_scale = 0.37f

static void bound_inputs(struct test *t, const int64_t *s, enum parameterisation p, double gamma_0,
                         struct bound_case *c)
{
        size_t n = (size_t)(s[0] * s[1]), n_gamma = (size_t)(s[0] * s[2]);

        *c = (struct bound_case){.m = s[0], .d = s[1], .g = s[2], .p = p};
        test_case(t, "%d x %d, %d, parameterisation %d, gamma_0 %g", (int)s[0], (int)s[1], (int)s[2], (int)p, gamma_0);
        c->x = test_bytes(t, "x", n);
        c->f = test_input(t, "f", n, 0, 0);
        for (size_t i = 0; i < n; i++)
                tensor_values(c->f)[i] = 2 * ((float)(unsigned char)c->x->host[KERNELS_ALIGN + i] + 0.5f) / 256 - 1;
        test_upload(t, c->f);
        c->eps_0 = test_input(t, "eps_0", n, 1, 0);
        c->eps = test_input(t, "eps", n, 1, 0);
        c->z = test_input(t, "z", n, 1, 0);
        c->net = test_input(t, "net", n, 1, 0);
        c->gamma[0] = test_input(t, "gamma_0", n_gamma, 0.5, gamma_0);
        c->gamma[1] = test_input(t, "gamma_1", n_gamma, 0.5, 5);
        c->gamma[2] = test_input(t, "gamma_t", n_gamma, 2, -2);
        c->gamma[3] = test_input(t, "gamma_prime", n_gamma, 2, 10);
        for (size_t i = 0; p == PARAM_EPSILON_DISCRETE && i < n_gamma; i++)
                tensor_values(c->gamma[3])[i] = tensor_values(c->gamma[2])[i] - 0.5f - 0.3f * (float)test_uniform(t);
        test_upload(t, c->gamma[3]);
}

static double bound_loss(struct test *t, void *context)
{
        struct bound_case *c = context;

        RUN_REFERENCE(t, bound, BOUND_ARGS(c));
        return 0.37f * test_dot(t, c->terms, NULL);
}

static void bound_case(struct test *t, const int64_t *s, enum parameterisation p, double gamma_0, bool gradients)
{
        static const char *const names[] = {"d_gamma_0", "d_gamma_1", "d_gamma_t", "d_gamma_prime"};
        struct bound_case c;

        bound_inputs(t, s, p, gamma_0, &c);
        c.terms = test_output(t, "terms", (size_t)(3 * c.m), 4);
        c.vars = test_output(t, "vars", (size_t)(2 * c.m), 4);
        c.d_net = gradients ? test_output(t, "d_net", c.x->n, 4) : NULL;
        c.d_z = gradients ? test_output(t, "d_z", c.x->n, 4) : NULL;
        for (int i = 0; i < 4; i++)
                c.d_gamma[i] = gradients ? test_output(t, names[i], c.gamma[i]->n, 4) : NULL;
        RUN(t, bound, BOUND_ARGS(&c), .d_net = AT(c.d_net), .d_z = AT(c.d_z), .d_gamma_0 = AT(c.d_gamma[0]),
            .d_gamma_1 = AT(c.d_gamma[1]), .d_gamma_t = AT(c.d_gamma[2]), .d_gamma_prime = AT(c.d_gamma[3]));
        test_compare(t);
        if (gradients && c.m * c.d > 1 && c.m * c.d < 1000) { /* of large sums float keeps too few digits */
                test_slope(t, c.net, c.d_net, 0.05, bound_loss, &c);
                if (p == PARAM_VELOCITY_FROM_EPSILON)
                        test_slope(t, c.z, c.d_z, 0.05, bound_loss, &c);
                for (int i = 0; i < 4; i++)
                        if (i != 2 || p != PARAM_EPSILON) /* does not depend on gamma_t */
                                test_slope(t, c.gamma[i], c.d_gamma[i], i == 0 ? 0.005 : 0.05, bound_loss, &c);
        }
        test_end(t);
}

void check_bound(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(bound_shapes); i++)
                for (int p = PARAM_VELOCITY; p <= PARAM_EPSILON_DISCRETE; p++)
                        for (int gradients = 0; gradients < 2; gradients++) {
                                bound_case(t, bound_shapes[i], (enum parameterisation)p, -9, gradients);
                                /* few bins matter; all do */
                                bound_case(t, bound_shapes[i], (enum parameterisation)p, -13.3, gradients);
                                bound_case(t, bound_shapes[i], (enum parameterisation)p, -2, gradients);
                        }
}

/* ---- sampling */

void check_ancestral_step(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(bound_shapes); i++)
                for (int p = PARAM_VELOCITY; p <= PARAM_EPSILON_DISCRETE; p++) {
                        const int64_t *s = bound_shapes[i];
                        size_t n = (size_t)(s[0] * s[1]), n_gamma = (size_t)(s[0] * s[2]);
                        struct tensor *gamma_t, *gamma_s, *net, *eps, *z;

                        test_case(t, "%d x %d, %d, parameterisation %d", (int)s[0], (int)s[1], (int)s[2], p);
                        gamma_t = test_input(t, "gamma_t", n_gamma, 4, -3);
                        gamma_s = test_input(t, "gamma_s", n_gamma, 0, 0);
                        for (size_t j = 0; j < n_gamma; j++)
                                tensor_values(gamma_s)[j] = tensor_values(gamma_t)[j] - 0.02f;
                        test_upload(t, gamma_s);
                        net = test_input(t, "net", n, 1, 0);
                        eps = test_input(t, "eps", n, 1, 0);
                        z = test_inout(t, "z", n, 4);
                        double *want = malloc(n * sizeof(*want));
                        for (size_t j = 0; j < n; j++) {
                                size_t at = s[2] == 1 ? j / (size_t)s[1] : j;

                                want[j] = twin_ancestral(p, tensor_values(gamma_t)[at], tensor_values(gamma_s)[at],
                                                         tensor_values(z)[j], tensor_values(net)[j],
                                                         tensor_values(eps)[j]);
                        }
                        RUN(t, ancestral_step, .m = s[0], .d = s[1], .g = s[2],
                            .parameterisation = (enum parameterisation)p, .gamma_t = AT(gamma_t),
                            .gamma_s = AT(gamma_s), .net = AT(net), .eps = AT(eps), .z = AT(z));
                        test_compare(t);
                        test_expect(t, z, want, 4);
                        free(want);
                        test_end(t);
                }
}

void check_decode(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(bound_shapes); i++) {
                const int64_t *s = bound_shapes[i / 2];
                size_t n = (size_t)(s[0] * s[1]);
                struct tensor *z, *gamma_0, *uniform, *x;

                test_case(t, "%d x %d, %d, draw %d", (int)s[0], (int)s[1], (int)s[2], (int)i % 2);
                z = test_input(t, "z", n, 0.6, 0);
                gamma_0 = test_input(t, "gamma_0", (size_t)(s[0] * s[2]), 1, -9);
                uniform = test_input(t, "uniform", n, 0, 0);
                for (size_t j = 0; j < n; j++)
                        tensor_values(uniform)[j] = (float)test_uniform(t);
                test_upload(t, uniform);
                x = test_output_bytes(t, "x", n);
                RUN(t, decode, .m = s[0], .d = s[1], .g = s[2], .z = AT(z), .gamma_0 = AT(gamma_0),
                    .uniform = i % 2 ? AT(uniform) : NULL, .x = AT(x));
                test_compare(t);
                for (size_t j = 0; j < n; j++) {
                        int want = twin_decode(tensor_values(z)[j],
                                               tensor_values(gamma_0)[s[2] == 1 ? j / (size_t)s[1] : j],
                                               i % 2 ? &tensor_values(uniform)[j] : NULL);

                        test_expect_value(t, "x", ((const unsigned char *)tensor_result(x, TESTED))[j], want, 1, 0);
                }
                test_end(t);
        }
}
