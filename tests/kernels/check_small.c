/* Embeddings, elementwise operations, schedules, the latent, the bound, sampling. */
#include "check.h"
#include "twins.h"

static const int64_t lengths[] = {1, 17, 64, 1000, 40001};

/* ---- embeddings */

struct embedding_case {
        int64_t m, n, stride;
        struct tensor *g, *y, *dy;
};

static double time_embedding_loss(struct test *t, void *context)
{
        struct embedding_case *c = context;

        RUN_REFERENCE(t, time_embedding_forward, .m = c->m, .n = c->n, .g = AT(c->g), .offset = -13.3f,
                      .scale = 1 / 18.3f, .y = AT(c->y), .y_stride = c->stride);
        return test_dot(t, c->y, c->dy);
}

static void embedding_case(struct test *t, int64_t m, int64_t n, int64_t stride, bool backward)
{
        struct embedding_case c = {.m = m, .n = n, .stride = stride};

        test_case(t, "%d x %d, stride %d", (int)m, (int)n, (int)stride);
        c.g = test_input(t, "g", (size_t)m, 3, -4);
        c.dy = test_input(t, "dy", (size_t)(m * stride), 1, 0);
        c.y = test_inout(t, "y", (size_t)(m * stride), backward ? -1 : 2); /* what lies between the rows stays */
        if (backward) {
                struct tensor *dg = test_output(t, "dg", (size_t)m, 4);

                for (int64_t i = 0; i < m * stride; i++)
                        if (i % stride >= n) /* the loss below sees all of the row */
                                tensor_values(c.dy)[i] = 0;
                test_upload(t, c.dy);
                RUN(t, time_embedding_backward, .m = m, .n = n, .g = AT(c.g), .offset = -13.3f, .scale = 1 / 18.3f,
                    .dy = AT(c.dy), .dy_stride = stride, .dg = AT(dg));
                test_compare(t);
                test_slope(t, c.g, dg, 1e-3, time_embedding_loss, &c); /* the angles reach 1000 */
        } else {
                double *want = malloc((size_t)(m * stride) * sizeof(*want));

                for (int64_t i = 0; i < m * stride; i++)
                        want[i] = i % stride < n ? twin_sine_of(tensor_values(c.g)[i / stride], -13.3f, 1 / 18.3f,
                                                                i % stride, n)
                                                 : tensor_values(c.y)[i];
                RUN(t, time_embedding_forward, .m = m, .n = n, .g = AT(c.g), .offset = -13.3f, .scale = 1 / 18.3f,
                    .y = AT(c.y), .y_stride = stride);
                test_compare(t);
                test_expect(t, c.y, want, 2);
                free(want);
        }
        test_end(t);
}

void check_time_embedding_forward(struct test *t)
{
        embedding_case(t, 8, 64, 114, false);
        embedding_case(t, 1, 32, 32, false);
        embedding_case(t, 300, 6, 7, false);
}

void check_time_embedding_backward(struct test *t)
{
        embedding_case(t, 8, 64, 114, true);
        embedding_case(t, 1, 32, 32, true);
        embedding_case(t, 300, 6, 7, true);
}

static double fourier_loss(struct test *t, void *context)
{
        struct embedding_case *c = context;

        RUN_REFERENCE(t, fourier_forward, .n_pixels = c->m, .z = AT(c->g), .y = AT(c->y));
        return test_dot(t, c->y, c->dy);
}

static void fourier_case(struct test *t, int64_t n, double scale, int mode)
{
        struct embedding_case c = {.m = n};

        test_case(t, "%d pixels, scale %g, mode %d", (int)n, scale, mode);
        c.g = test_input(t, "z", (size_t)(3 * n), scale, 0);
        c.dy = test_input(t, "dy", (size_t)(15 * n), 1, 0);
        c.y = test_output(t, "y", (size_t)(15 * n), mode == 0 ? 4 : -1);
        if (mode == 0) {
                RUN(t, fourier_forward, .n_pixels = n, .z = AT(c.g), .y = AT(c.y));
                test_compare(t);
        } else {
                struct tensor *dz = test_sum(t, "dz", (size_t)(3 * n), 8, mode == 2);

                RUN(t, fourier_backward, .n_pixels = n, .z = AT(c.g), .dy = AT(c.dy), .dz = AT(dz),
                    .accumulate = mode == 2);
                test_compare(t);
                if (mode == 1)
                        test_slope(t, c.g, dz, 1e-5, fourier_loss, &c);
        }
        test_end(t);
}

void check_fourier_forward(struct test *t)
{
        fourier_case(t, 1, 1, 0);
        fourier_case(t, 333, 1, 0);
        fourier_case(t, 1024, 40, 0);
}

void check_fourier_backward(struct test *t)
{
        for (int accumulate = 0; accumulate < 2; accumulate++) {
                fourier_case(t, 1, 0.05, 1 + accumulate);
                fourier_case(t, 333, 0.05, 1 + accumulate);
                fourier_case(t, 1024, 0.1, 1 + accumulate);
        }
}

/* ---- elementwise */

struct pair_case {
        int64_t n;
        struct tensor *x, *y, *dy;
};

static double swish_loss(struct test *t, void *context)
{
        struct pair_case *c = context;

        RUN_REFERENCE(t, swish_forward, .n = c->n, .x = AT(c->x), .y = AT(c->y));
        return test_dot(t, c->y, c->dy);
}

void check_swish_forward(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(lengths); i++) {
                int64_t n = lengths[i / 2];
                bool in_place = i % 2;
                struct tensor *x, *y;

                test_case(t, "%d, in place %d", (int)n, in_place);
                x = in_place ? test_inout(t, "x", (size_t)n, 8) : test_input(t, "x", (size_t)n, 20, 0);
                y = in_place ? x : test_output(t, "y", (size_t)n, 8);
                RUN(t, swish_forward, .n = n, .x = AT(x), .y = AT(y));
                test_compare(t);
                test_end(t);
        }
}

void check_swish_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
                for (int in_place = 0; in_place < 2; in_place++) {
                        struct pair_case c = {.n = lengths[i]};
                        size_t n = (size_t)c.n;
                        struct tensor *dx;

                        test_case(t, "%zu, in place %d", n, in_place);
                        c.x = test_input(t, "x", n, 3, 0);
                        c.dy = in_place ? test_inout(t, "dy", n, 8) : test_input(t, "dy", n, 1, 0);
                        dx = in_place ? c.dy : test_output(t, "dx", n, 8);
                        c.y = test_output(t, "y", n, -1);
                        RUN(t, swish_backward, .n = c.n, .x = AT(c.x), .dy = AT(c.dy), .dx = AT(dx));
                        test_compare(t);
                        if (!in_place)
                                test_slope(t, c.x, dx, 0.01, swish_loss, &c);
                        test_end(t);
                }
}

static double relu_loss(struct test *t, void *context)
{
        struct pair_case *c = context;

        RUN_REFERENCE(t, relu_forward, .n = c->n, .x = AT(c->x), .y = AT(c->y));
        return test_dot(t, c->y, c->dy);
}

void check_relu_forward(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(lengths); i++) {
                int64_t n = lengths[i / 2];
                double *want = malloc((size_t)n * sizeof *want);
                struct tensor *x, *y;

                test_case(t, "%d, in place %d", (int)n, (int)(i % 2));
                x = i % 2 ? test_inout(t, "x", (size_t)n, 0) : test_input(t, "x", (size_t)n, 20, 0);
                for (int64_t j = 0; j < n; j++)
                        want[j] = fmax(tensor_values(x)[j], 0);
                y = i % 2 ? x : test_output(t, "y", (size_t)n, 0);
                RUN(t, relu_forward, .n = n, .x = AT(x), .y = AT(y));
                test_compare(t);
                test_expect(t, y, want, 0);
                free(want);
                test_end(t);
        }
}

void check_relu_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                struct pair_case c = {.n = lengths[i]};
                struct tensor *dx;

                test_case(t, "%d", (int)c.n);
                c.x = test_input(t, "x", (size_t)c.n, 3, 0);
                for (int64_t j = 0; j < c.n; j++) /* away from the kink, so that differences see a slope */
                        tensor_values(c.x)[j] += tensor_values(c.x)[j] < 0 ? -0.5f : 0.5f;
                test_upload(t, c.x);
                c.dy = test_input(t, "dy", (size_t)c.n, 1, 0);
                dx = test_output(t, "dx", (size_t)c.n, 0);
                c.y = test_output(t, "y", (size_t)c.n, -1);
                RUN(t, relu_backward, .n = c.n, .x = AT(c.x), .dy = AT(c.dy), .dx = AT(dx));
                test_compare(t);
                test_slope(t, c.x, dx, 0.01, relu_loss, &c);
                test_end(t);
        }
}

static const int64_t repeat_shapes[][4] = {{2, 9, 5, 8}, {1, 1, 1, 1}, {3, 64, 50, 50}}; /* m, pixels, c, stride */

void check_repeat_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(repeat_shapes); i++) {
                const int64_t *s = repeat_shapes[i];
                size_t n = (size_t)(s[0] * s[1] * s[3]);
                double *want = malloc(n * sizeof *want);
                struct tensor *x, *y;

                test_case(t, "%d x %d x %d, stride %d", (int)s[0], (int)s[1], (int)s[2], (int)s[3]);
                x = test_input(t, "x", (size_t)(s[0] * s[2]), 1, 0);
                y = test_inout(t, "y", n, 0); /* what is between the rows stays */
                for (size_t j = 0; j < n; j++) {
                        size_t column = j % (size_t)s[3], image = j / (size_t)(s[1] * s[3]);

                        want[j] = column < (size_t)s[2] ? tensor_values(x)[image * (size_t)s[2] + column]
                                                        : tensor_values(y)[j];
                }
                RUN(t, repeat_forward, .m = s[0], .pixels = s[1], .c = s[2], .x = AT(x), .y = AT(y), .y_stride = s[3]);
                test_compare(t);
                test_expect(t, y, want, 0);
                free(want);
                test_end(t);
        }
}

void check_repeat_backward(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(repeat_shapes); i++) {
                const int64_t *s = repeat_shapes[i / 2];
                bool accumulate = i % 2;
                size_t n = (size_t)(s[0] * s[2]);
                double *want = malloc(n * sizeof *want);
                struct tensor *dy, *dx;

                test_case(t, "%d x %d x %d, accumulate %d", (int)s[0], (int)s[1], (int)s[2], accumulate);
                dy = test_input(t, "dy", (size_t)(s[0] * s[1] * s[3]), 1, 0);
                dx = test_sum(t, "dx", n, 2, accumulate);
                for (size_t j = 0; j < n; j++) {
                        want[j] = accumulate ? tensor_values(dx)[j] : 0;
                        for (size_t p = (size_t)s[1]; p-- > 0;)
                                want[j] += tensor_values(
                                        dy)[(j / (size_t)s[2] * (size_t)s[1] + p) * (size_t)s[3] + j % (size_t)s[2]];
                }
                RUN(t, repeat_backward, .m = s[0], .pixels = s[1], .c = s[2], .dy = AT(dy), .dy_stride = s[3],
                    .dx = AT(dx), .accumulate = accumulate);
                test_compare(t);
                test_expect(t, dx, want, 2);
                free(want);
                test_end(t);
        }
}

void check_add(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                struct tensor *x, *y;

                test_case(t, "%d", (int)lengths[i]);
                x = test_input(t, "x", (size_t)lengths[i], 1, 0);
                y = test_inout(t, "y", (size_t)lengths[i], 0);
                RUN(t, add, .n = lengths[i], .x = AT(x), .y = AT(y));
                test_compare(t);
                test_end(t);
        }
}

void check_copy_2d(struct test *t)
{
        static const int64_t shapes[][4] = {{5, 7, 9, 8}, {300, 64, 0, 70}, {1, 1, 1, 1}, {8, 3072, 3072, 3072}};

        for (size_t i = 0; i < 2 * ARRAY_LEN(shapes); i++) {
                const int64_t *s = shapes[i / 2];
                struct tensor *x, *y;

                test_case(t, "%d x %d, strides %d and %d, accumulate %d", (int)s[0], (int)s[1], (int)s[2], (int)s[3],
                          (int)i % 2);
                x = test_input(t, "x", (size_t)(s[2] ? s[0] * s[2] : s[1]), 1, 0);
                y = test_inout(t, "y", (size_t)(s[0] * s[3]), 2);
                RUN(t, copy_2d, .rows = s[0], .columns = s[1], .x = AT(x), .x_stride = s[2], .y = AT(y),
                    .y_stride = s[3], .accumulate = i % 2, .scale = 1.7f, .shift = -0.3f);
                test_compare(t);
                test_end(t);
        }
}

void check_fill(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                struct tensor *y;

                test_case(t, "%d", (int)lengths[i]);
                y = test_output(t, "y", (size_t)lengths[i], 0);
                RUN(t, fill, .n = lengths[i], .value = 0.7f, .y = AT(y));
                test_compare(t);
                test_end(t);
        }
}

static double abs_loss(struct test *t, void *context)
{
        struct pair_case *c = context;

        RUN_REFERENCE(t, abs_forward, .n = c->n, .x = AT(c->x), .y = AT(c->y));
        return test_dot(t, c->y, c->dy);
}

void check_abs_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                struct tensor *x, *y;

                test_case(t, "%d", (int)lengths[i]);
                x = test_input(t, "x", (size_t)lengths[i], 1, 0);
                y = test_output(t, "y", (size_t)lengths[i], 0);
                RUN(t, abs_forward, .n = lengths[i], .x = AT(x), .y = AT(y));
                test_compare(t);
                test_end(t);
        }
}

void check_abs_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
                for (int accumulate = 0; accumulate < 3; accumulate++) {
                        struct pair_case c = {.n = lengths[i]};
                        size_t n = (size_t)c.n;
                        struct tensor *dx;

                        test_case(t, "%zu, %s", n, (const char *[]){"=", "+=", "in place"}[accumulate]);
                        c.x = test_input(t, "x", n, 1, 0);
                        for (size_t j = 0; j < n; j++) /* away from the corner, but for some zeros */
                                tensor_values(c.x)[j] += tensor_values(c.x)[j] > 0 ? 1.0f : -1.0f;
                        if (accumulate)
                                tensor_values(c.x)[0] = 0;
                        test_upload(t, c.x);
                        c.dy = accumulate == 2 ? test_inout(t, "dy", n, 0) : test_input(t, "dy", n, 1, 0);
                        dx = accumulate == 2 ? c.dy : test_sum(t, "dx", n, 0, accumulate);
                        c.y = test_output(t, "y", n, -1);
                        RUN(t, abs_backward, .n = c.n, .x = AT(c.x), .dy = AT(c.dy), .dx = AT(dx),
                            .accumulate = accumulate == 1);
                        test_compare(t);
                        if (!accumulate)
                                test_slope(t, c.x, dx, 0.01, abs_loss, &c);
                        test_end(t);
                }
}

void check_row_mean_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                struct tensor *x, *y;

                test_case(t, "3 x %d", (int)lengths[i]);
                x = test_input(t, "x", (size_t)(3 * lengths[i]), 1, 3);
                y = test_output(t, "y", 3, 1);
                RUN(t, row_mean_forward, .m = 3, .n = lengths[i], .x = AT(x), .y = AT(y));
                test_compare(t);
                test_end(t);
        }
}

void check_row_mean_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                struct tensor *dx, *dy;

                test_case(t, "3 x %d", (int)lengths[i]);
                dx = test_inout(t, "dx", (size_t)(3 * lengths[i]), 1);
                dy = test_input(t, "dy", 3, 1, 0);
                RUN(t, row_mean_backward, .m = 3, .n = lengths[i], .dy = AT(dy), .dx = AT(dx));
                test_compare(t);
                test_end(t);
        }
}

void check_encode_image(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                struct tensor *x, *f;

                test_case(t, "%d", (int)lengths[i]);
                x = test_bytes(t, "x", (size_t)lengths[i]);
                f = test_output(t, "f", (size_t)lengths[i], 0);
                RUN(t, encode_image, .n = lengths[i], .x = AT(x), .f = AT(f));
                test_compare(t);
                test_end(t);
        }
}

/* ---- schedules */

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

void check_monotone_out_backward(struct test *t)
{
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

/* ---- the latent */

struct topk_case {
        int64_t m, n, k;
        float d_kl;
        struct tensor *logits, *noise, *e, *soft, *norm, *kl, *de;
        bool sum_of_gamma;
};

static const int64_t topk_shapes[][3] = {{8, 50, 15}, {1, 2, 1}, {3, 130, 64}, {2, 16, 16}};

/* noise: 0 none, 1 added, 2 raw gamma variates */
static void topk_inputs(struct test *t, const int64_t *s, int noise, struct topk_case *c)
{
        size_t n = (size_t)(s[0] * s[1]);

        *c = (struct topk_case){.m = s[0], .n = s[1], .k = s[2], .d_kl = 0.3f, .sum_of_gamma = noise == 2};
        test_case(t, "%d x %d, k %d, noise %d", (int)s[0], (int)s[1], (int)s[2], noise);
        c->logits = test_input(t, "logits", n, 2, 0);
        if (noise == 0 && s[1] > 2) { /* a tie; of two values a tie has no norm */
                tensor_values(c->logits)[0] = tensor_values(c->logits)[1];
                test_upload(t, c->logits);
        }
        c->noise = noise ? test_input(t, "noise", noise == 2 ? 10 * n : n, 1, 0) : NULL;
        for (size_t i = 0; noise == 2 && i < 10 * n; i++)
                tensor_values(c->noise)[i] = fabsf(tensor_values(c->noise)[i]);
        if (noise)
                test_upload(t, c->noise);
        c->de = test_input(t, "de", n, 1, 0);
}

static double topk_loss(struct test *t, void *context)
{
        struct topk_case *c = context;

        RUN_REFERENCE(t, topk_forward, .m = c->m, .n = c->n, .k = c->k, .logits = AT(c->logits), .noise = AT(c->noise),
                      .sum_of_gamma = c->sum_of_gamma, .e = AT(c->e), .soft = AT(c->soft), .norm = AT(c->norm),
                      .kl = AT(c->kl));
        return test_dot(t, c->soft, c->de) + c->d_kl * test_dot(t, c->kl, NULL); /* straight through: e moves as soft */
}

static void topk_outputs(struct test *t, struct topk_case *c, double limit)
{
        c->e = test_output(t, "e", c->logits->n, limit);
        c->soft = test_output(t, "soft", c->logits->n, limit);
        c->norm = test_output(t, "norm", (size_t)c->m, limit);
        c->kl = test_output(t, "kl", (size_t)c->m, limit);
}

static void expect_topk(struct test *t, const struct topk_case *c)
{
        size_t n = (size_t)c->n, m = (size_t)c->m;
        double *noise = malloc(n * sizeof(double)), *e = malloc(m * n * sizeof(double)),
               *norm = malloc(2 * m * sizeof(double));

        for (size_t row = 0; row < m; row++) {
                for (size_t i = 0; c->noise && i < n; i++) {
                        noise[i] =
                                c->sum_of_gamma ? -10 * log(10) / (double)c->k : tensor_values(c->noise)[row * n + i];
                        for (size_t j = 1; c->sum_of_gamma && j <= 10; j++) /* 10 (sum G_j j / k - ln 10) / k */
                                noise[i] += 10.0 / (double)(c->k * c->k) * (double)j *
                                            tensor_values(c->noise)[((j - 1) * m + row) * n + i];
                }
                twin_topk(tensor_values(c->logits) + row * n, c->noise ? noise : NULL, c->n, c->k, e + row * n,
                          &norm[row], &norm[m + row]);
        }
        test_expect(t, c->e, e, 4);
        test_expect(t, c->norm, norm, 4);
        test_expect(t, c->kl, norm + m, 4);
        free(noise);
        free(e);
        free(norm);
}

void check_topk_forward(struct test *t)
{
        for (size_t i = 0; i < 3 * ARRAY_LEN(topk_shapes); i++) {
                struct topk_case c;

                topk_inputs(t, topk_shapes[i / 3], (int)(i % 3), &c);
                topk_outputs(t, &c, 4);
                RUN(t, topk_forward, .m = c.m, .n = c.n, .k = c.k, .logits = AT(c.logits), .noise = AT(c.noise),
                    .sum_of_gamma = c.sum_of_gamma, .e = AT(c.e), .soft = AT(c.soft), .norm = AT(c.norm),
                    .kl = AT(c.kl));
                test_compare(t);
                expect_topk(t, &c);
                for (int64_t row = 0; row < c.m; row++) { /* without ties k are hot, and the hot ones are the largest */
                        const float *e = (const float *)(const void *)(c.e->result[TESTED] + KERNELS_ALIGN) + row * c.n;
                        int64_t hot = 0;

                        for (int64_t j = 0; j < c.n; j++)
                                hot += e[j] > 0.5f;
                        if (hot < c.k || (i % 3 && hot != c.k))
                                test_fail(t, "%d of row %d are hot", (int)hot, (int)row);
                }
                test_end(t);
        }
}

void check_topk_backward(struct test *t)
{
        for (size_t i = 0; i < 3 * ARRAY_LEN(topk_shapes); i++) {
                struct tensor *d_logits;
                struct topk_case c;

                topk_inputs(t, topk_shapes[i / 3], (int)(i % 3), &c);
                topk_outputs(t, &c, -1);
                (void)topk_loss(t, &c);
                test_share(t, c.soft);
                test_share(t, c.norm);
                d_logits = test_output(t, "d_logits", c.logits->n, 8);
                RUN(t, topk_backward, .m = c.m, .n = c.n, .logits = AT(c.logits), .soft = AT(c.soft),
                    .norm = AT(c.norm), .de = AT(c.de), .d_kl = c.d_kl, .d_logits = AT(d_logits));
                test_compare(t);
                /* two values, centred and scaled to length 1, are +-sqrt(1/2) whatever they were */
                test_slope(t, c.logits, d_logits, 0.01, topk_loss, &c);
                test_end(t);
        }
}

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
