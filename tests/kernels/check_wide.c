/* What is kept as pairs x + x_low (kernels.h): the product in double, and the low parts of the operations between the
 * latent and the networks' inputs. */
#include "tests/kernels/check.h"

#include "base/macros.h"

/* A low part to go with values of about `scale`: half a unit in the last place at most. */
static struct tensor *low_input(struct test *t, const char *name, size_t n, double scale)
{
        return test_input(t, name, n, scale * 0x1p-26, 0);
}

/* A low part that came out: what the rounding of y left, so as exact as a sum in double, which is far below float's
 * unit of it. */
#define LOW_LIMIT 64

static void check_product(struct test *t, int64_t m, int64_t k, int64_t n, bool low, bool bias)
{
        struct tensor *x, *x_low, *w, *b, *y, *y_low;

        test_case(t, "%d x %d x %d%s%s", (int)m, (int)k, (int)n, low ? ", low parts" : "", bias ? ", bias" : "");
        x = test_input(t, "x", (size_t)(m * k), 1, 0);
        x_low = low ? low_input(t, "x_low", (size_t)(m * k), 1) : NULL;
        w = test_input(t, "w", (size_t)(k * n), 0.2, 0);
        b = bias ? test_input(t, "b", (size_t)n, 1, 0) : NULL;
        y = test_output(t, "y", (size_t)(m * n), 1);
        y_low = low ? test_output(t, "y_low", (size_t)(m * n), LOW_LIMIT) : NULL;
        RUN(t, wide_dense_forward, .m = m, .k = k, .n = n, .x = AT(x), .x_low = AT(x_low), .w = AT(w), .b = AT(b),
            .y = AT(y), .y_low = AT(y_low));
        test_compare(t);
        test_end(t);
}

static void check_elementwise_pairs(struct test *t)
{
        enum { N = 300 };
        struct tensor *x, *x_low, *y, *y_low;

        test_case(t, "swish of pairs");
        x = test_input(t, "x", N, 2, 0);
        x_low = low_input(t, "x_low", N, 2);
        y = test_output(t, "y", N, 1);
        y_low = test_output(t, "y_low", N, LOW_LIMIT);
        RUN(t, swish_forward, .n = N, .x = AT(x), .x_low = AT(x_low), .y = AT(y), .y_low = AT(y_low));
        test_compare(t);
        test_end(t);

        test_case(t, "row mean of pairs");
        x = test_input(t, "x", 3 * N, 1, 5);
        x_low = low_input(t, "x_low", 3 * N, 5);
        y = test_output(t, "y", 3, 1);
        y_low = test_output(t, "y_low", 3, LOW_LIMIT);
        RUN(t, row_mean_forward, .m = 3, .n = N, .x = AT(x), .x_low = AT(x_low), .y = AT(y), .y_low = AT(y_low));
        test_compare(t);
        test_end(t);
}

static void check_schedule_pairs(struct test *t)
{
        enum { M = 3, D = 64 };
        struct tensor *in[6], *time, *gamma, *gamma_low, *gamma_prime, *f, *eps, *z, *z_low;
        static const char *const names[6] = {"a", "b", "c_raw", "a_low", "b_low", "c_raw_low"};

        test_case(t, "poly of pairs");
        for (int i = 0; i < 6; i++)
                in[i] = i < 3 ? test_input(t, names[i], M * D, 1, 0) : low_input(t, names[i], M * D, 1);
        time = test_input(t, "t", M, 0.1, 0.5);
        gamma = test_output(t, "gamma", M * D, 1);
        gamma_low = test_output(t, "gamma_low", M * D, LOW_LIMIT);
        gamma_prime = test_output(t, "gamma_prime", M * D, 1);
        RUN(t, poly_forward, .m = M, .d = D, .a = AT(in[0]), .b = AT(in[1]), .c_raw = AT(in[2]), .a_low = AT(in[3]),
            .b_low = AT(in[4]), .c_raw_low = AT(in[5]), .t = AT(time), .gamma_min = -13.3f, .gamma_max = 5,
            .gamma = AT(gamma), .gamma_low = AT(gamma_low), .gamma_prime = AT(gamma_prime));
        test_compare(t);
        test_end(t);

        for (int64_t g = 1; g <= D; g += D - 1) {
                test_case(t, "diffusion by pairs, %d gammas an image", (int)g);
                f = test_input(t, "f", M * D, 1, 0);
                eps = test_input(t, "eps", M * D, 1, 0);
                gamma = test_input(t, "gamma", (size_t)(M * g), 4, 0);
                gamma_low = low_input(t, "gamma_low", (size_t)(M * g), 4);
                z = test_output(t, "z", M * D, 1);
                z_low = test_output(t, "z_low", M * D, LOW_LIMIT);
                RUN(t, diffuse_forward, .m = M, .d = D, .g = g, .f = AT(f), .eps = AT(eps), .gamma = AT(gamma),
                    .gamma_low = AT(gamma_low), .z = AT(z), .z_low = AT(z_low));
                test_compare(t);
                test_end(t);
        }
}

/* The embeddings see the low part: its effect is 800 and 1000 times as large as it is. */
static void check_embedding_pairs(struct test *t)
{
        enum { PIXELS = 100, M = 5, WIDTH = 64 };
        struct tensor *z, *z_low, *y, *dy, *dz, *g, *g_low, *dg;

        test_case(t, "Fourier features of pairs");
        z = test_input(t, "z", 3 * PIXELS, 1, 0);
        z_low = low_input(t, "z_low", 3 * PIXELS, 1);
        dy = test_input(t, "dy", 15 * PIXELS, 1, 0);
        y = test_output(t, "y", 15 * PIXELS, 8);
        dz = test_output(t, "dz", 3 * PIXELS, 8);
        RUN(t, fourier_forward, .n_pixels = PIXELS, .z = AT(z), .z_low = AT(z_low), .y = AT(y));
        RUN(t, fourier_backward, .n_pixels = PIXELS, .z = AT(z), .z_low = AT(z_low), .dy = AT(dy), .dz = AT(dz));
        test_compare(t);
        test_end(t);

        test_case(t, "time embedding of pairs");
        g = test_input(t, "g", M, 5, -4);
        g_low = low_input(t, "g_low", M, 5);
        dy = test_input(t, "dy", M * WIDTH, 1, 0);
        y = test_output(t, "y", M * WIDTH, 4);
        dg = test_output(t, "dg", M, 8);
        RUN(t, time_embedding_forward, .m = M, .n = WIDTH, .g = AT(g), .g_low = AT(g_low), .offset = -13.3f,
            .scale = 1 / 18.3f, .y = AT(y), .y_stride = WIDTH);
        RUN(t, time_embedding_backward, .m = M, .n = WIDTH, .g = AT(g), .g_low = AT(g_low), .offset = -13.3f,
            .scale = 1 / 18.3f, .dy = AT(dy), .dy_stride = WIDTH, .dg = AT(dg));
        test_compare(t);
        test_end(t);
}

void check_wide_dense_forward(struct test *t)
{
        static const int64_t shapes[][3] = {{8, 50, 301}, {1, 7, 5}, {3, 1, 1}, {2, 513, 256}, {19, 130, 257}};

        for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
                for (int variant = 0; variant < 4; variant++)
                        check_product(t, shapes[i][0], shapes[i][1], shapes[i][2], variant & 1, variant & 2);
        check_elementwise_pairs(t);
        check_schedule_pairs(t);
        check_embedding_pairs(t);
}
