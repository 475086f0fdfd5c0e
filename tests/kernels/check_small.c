/* Embeddings, elementwise operations, the latent by topk. */
#include "check.h"
#include "twins.h"

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

static const int64_t repeat_shapes[][4] = {{2, 9, 5, 8}, {1, 1, 1, 1}, {3, 16, 50, 50}}; /* m, pixels, c, stride */

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
