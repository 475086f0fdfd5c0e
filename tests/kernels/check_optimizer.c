/* The optimizer and random numbers. */
#include "check.h"

/* ---- the optimizer */

void check_squared_norm(struct test *t)
{
        for (size_t i = 0; i < 2 * ARRAY_LEN(lengths); i++) {
                struct tensor *x, *ret;

                test_case(t, "%d, accumulate %d", (int)lengths[i / 2], (int)i % 2);
                x = test_input(t, "x", (size_t)lengths[i / 2], 1, 0);
                ret = test_output_doubles(t, "ret", 1, 1e-6);
                RUN(t, squared_norm, .n = lengths[i / 2], .x = AT(x), .ret = AT(ret), .accumulate = i % 2);
                test_compare(t);
                test_end(t);
        }
}

/* A gradient by its factors. */
static void check_adamw_outer(struct test *t, int64_t rows, int64_t k, int64_t n)
{
        size_t size = (size_t)(k * n);
        struct tensor *w, *m, *v, *ema, *x, *dy, *norm, *state;

        test_case(t, "outer product, %d rows, %d x %d", (int)rows, (int)k, (int)n);
        state = test_state(t);
        w = test_inout(t, "w", size, 16);
        m = test_inout(t, "m", size, 16);
        v = test_inout(t, "v", size, 16);
        for (size_t j = 0; j < size; j++)
                tensor_values(v)[j] = 1 + tensor_values(v)[j] * tensor_values(v)[j];
        test_upload(t, v);
        ema = test_inout(t, "ema", size, 16);
        x = test_input(t, "x", (size_t)(rows * k), 1, 0);
        dy = test_input(t, "dy", (size_t)(rows * n), 1, 0);
        norm = test_output_doubles(t, "norm", 1, 1e-6);
        RUN(t, squared_norm, .n = k * n, .outer = {rows, k, n, AT(x), AT(dy)}, .ret = AT(norm));
        RUN(t, adamw, .n = k * n, .w = AT(w), .m = AT(m), .v = AT(v), .ema = AT(ema),
            .outer = {rows, k, n, AT(x), AT(dy)}, .b1 = 0.9, .b2 = 0.99, .eps = 1e-8f, .weight_decay = 0.01f,
            .ema_rate = 0.999, .state = AT(state));
        test_compare(t);
        test_end(t);
}

void check_adamw(struct test *t)
{
        check_adamw_outer(t, 8, 50, 700);
        check_adamw_outer(t, 3, 1, 513);
        check_adamw_outer(t, 17, 33, 1);
        for (size_t i = 0; i < 2 * ARRAY_LEN(lengths); i++) {
                size_t n = (size_t)lengths[i / 2];
                float clip = i % 2 ? 0.3f : 1;
                struct tensor *w, *m, *v, *ema, *g, *state;

                test_case(t, "%zu, clip %g", n, clip);
                state = test_state(t);
                tensor_state(state)->clip = clip;
                test_upload(t, state);
                w = test_inout(t, "w", n, 16);
                m = test_inout(t, "m", n, 16);
                v = test_inout(t, "v", n, 16);
                for (size_t j = 0; j < n; j++)
                        tensor_values(v)[j] *= tensor_values(v)[j];
                test_upload(t, v);
                ema = test_inout(t, "ema", n, 16);
                g = test_input(t, "g", n, 1, 0);
                if (n == 1) { /* its root mean square is itself: a sum that cancels would be held to what is left */
                        tensor_values(m)[0] = fabsf(tensor_values(m)[0]);
                        tensor_values(g)[0] = fabsf(tensor_values(g)[0]);
                        test_upload(t, m);
                        test_upload(t, g);
                }
                RUN(t, adamw, .n = lengths[i / 2], .w = AT(w), .m = AT(m), .v = AT(v), .ema = AT(ema), .g = AT(g),
                    .b1 = 0.9, .b2 = 0.99, .eps = 1e-8f, .weight_decay = 0.01f, .ema_rate = 0.999, .state = AT(state));
                test_compare(t);
                test_end(t);
        }
}

/* ---- random numbers */

static const int64_t random_shapes[][2] = {{3, 3072}, {1, 1}, {2, 50}, {5, 1023}};

static void check_moments(struct test *t, const struct tensor *y, double mean, double variance)
{
        const float *v = (const float *)(const void *)(y->result[TESTED] + KERNELS_ALIGN);
        double sum = 0, squares = 0, n = (double)y->n;

        for (size_t i = 0; i < y->n; i++)
                sum += v[i];
        sum /= n;
        for (size_t i = 0; i < y->n; i++)
                squares += (v[i] - sum) * (v[i] - sum);
        squares /= n;
        if (fabs(sum - mean) > 5 * sqrt(variance / n) || fabs(squares - variance) > 0.2 * variance)
                test_fail(t, "mean %g and variance %g instead of %g and %g", sum, squares, mean, variance);
}

/* Word i of an element's draw, by philox.h's table of bits and not by philox_draw. */
static uint32_t word_of(struct tensor *state, uint64_t image, uint32_t block, enum philox_stream stream,
                        int64_t element, uint32_t attempt, int64_t i)
{
        uint64_t step = (uint64_t)tensor_state(state)->step;

        return philox_4x32_10((uint32_t)element, (uint32_t)(image & 0xFFFFFFFF), (uint32_t)(step & 0xFFFFFFFF),
                              attempt * 0x1000000 + (uint32_t)(image / 0x100000000) * 0x10000 +
                                      (uint32_t)(step / 0x100000000),
                              tensor_state(state)->seed, (uint32_t)stream * 0x10000 + block)
                .v[i];
}

static uint32_t row_word(struct tensor *state, struct tensor *rows, int64_t row, enum philox_stream stream,
                         int64_t element, uint32_t attempt, int64_t i)
{
        const struct row *r = &tensor_rows(rows)[row];

        return word_of(state, r->image, r->block, stream, element, attempt, i);
}

static double middle(uint32_t word)
{
        return ((double)word + 0.5) / 4294967296.0;
}

/* Marsaglia & Tsang 2000 as they write it: v = (1 + c x)^3, accepted where ln u < x^2 / 2 + d (1 - v + ln v). */
static double gamma_of(struct tensor *state, struct tensor *rows, int64_t row, int64_t element, double k)
{
        double d = 1 + 1 / k - 1.0 / 3, c = 1 / sqrt(9 * d);

        for (uint32_t attempt = 0;; attempt++) {
                double u[4], x, v;

                for (int i = 0; i < 4; i++)
                        u[i] = middle(row_word(state, rows, row, STREAM_LATENT, element, attempt, i));
                x = sqrt(-2 * log(u[0])) * cos(2 * M_PI * (u[1] - 0x1p-33));
                v = pow(1 + c * x, 3);
                if (1 + c * x > 0 && log(u[2]) < x * x / 2 + d * (1 - v + log(v)))
                        return d * v * exp(k * log(u[3]));
        }
}

void check_random_normal(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(random_shapes); i++) {
                const int64_t *s = random_shapes[i];
                struct tensor *state, *rows, *y;

                test_case(t, "%d x %d", (int)s[0], (int)s[1]);
                state = test_state(t);
                rows = test_rows(t, s[0]);
                y = test_output(t, "y", (size_t)(s[0] * s[1]), 2);
                RUN(t, random_normal, .state = AT(state), .rows = AT(rows), .stream = STREAM_EPS_0, .m = s[0],
                    .d = s[1], .y = AT(y));
                test_compare(t);
                if (s[1] > 1000)
                        check_moments(t, y, 0, 1);
                test_end(t);
        }
}

void check_random_uniform(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(random_shapes); i++) {
                const int64_t *s = random_shapes[i];
                struct tensor *state, *rows, *y;

                test_case(t, "%d x %d", (int)s[0], (int)s[1]);
                state = test_state(t);
                rows = test_rows(t, s[0]);
                y = test_output(t, "y", (size_t)(s[0] * s[1]), 0);
                RUN(t, random_uniform, .state = AT(state), .rows = AT(rows), .stream = STREAM_PIXEL, .m = s[0],
                    .d = s[1], .y = AT(y));
                test_compare(t);
                for (int64_t j = 0; j < s[0] * s[1]; j++) {
                        int64_t e = j % s[1];
                        uint32_t word = row_word(state, rows, j / s[1], STREAM_PIXEL, e / 4, 0, e % 4);

                        test_expect_value(t, "y", ((const float *)tensor_result(y, TESTED))[j],
                                          floor(word / 256.0) / 16777216, 0, 0);
                }
                if (s[1] > 1000)
                        check_moments(t, y, 0.5, 1.0 / 12);
                test_end(t);
        }
}

void check_random_gamma(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(random_shapes); i++) {
                const int64_t *s = random_shapes[i];
                int64_t k = 15;
                struct tensor *state, *rows, *y;

                test_case(t, "%d x %d", (int)s[0], (int)s[1]);
                state = test_state(t);
                rows = test_rows(t, s[0]);
                y = test_output(t, "y", (size_t)(10 * s[0] * s[1]), 2);
                RUN(t, random_gamma, .state = AT(state), .rows = AT(rows), .m = s[0], .n = s[1], .k = k, .y = AT(y));
                test_compare(t);
                for (int64_t j = 0; j < 10 * s[0] * s[1]; j++)
                        test_expect_value(
                                t, "y", ((const float *)tensor_result(y, TESTED))[j],
                                gamma_of(state, rows, j / s[1] % s[0], j / (s[0] * s[1]) * s[1] + j % s[1], (double)k),
                                1e-30, 2);
                if (s[1] > 1000)
                        check_moments(t, y, 1.0 / (double)k, 1.0 / (double)k);
                test_end(t);
        }
}

void check_random_gumbel(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(random_shapes); i++) {
                const int64_t *s = random_shapes[i];
                struct tensor *state, *rows, *y;

                test_case(t, "%d x %d", (int)s[0], (int)s[1]);
                state = test_state(t);
                rows = test_rows(t, s[0]);
                y = test_output(t, "y", (size_t)(s[0] * s[1]), 2);
                RUN(t, random_gumbel, .state = AT(state), .rows = AT(rows), .m = s[0], .n = s[1], .y = AT(y));
                test_compare(t);
                for (int64_t j = 0; j < s[0] * s[1]; j++) {
                        int64_t e = j % s[1];
                        double u = middle(row_word(state, rows, j / s[1], STREAM_LATENT, e / 4, 0, e % 4));

                        test_expect_value(t, "y", ((const float *)tensor_result(y, TESTED))[j], -log(-log(u)), 1, 2);
                }
                if (s[1] > 1000)
                        check_moments(t, y, 0.5772156649, 1.6449340668);
                test_end(t);
        }
}

void check_random_times(struct test *t)
{
        for (int i = 0; i < 8; i++) {
                bool independent = i & 1, discrete = i & 2, with_s = i & 4;
                struct tensor *state, *rows, *times, *s;

                test_case(t, "independent %d, discrete %d", independent, discrete);
                state = test_state(t);
                rows = test_rows(t, 16);
                for (int j = 0; j < 16; j++) { /* one t_0 for all, of one batch among others */
                        tensor_rows(rows)[j].time_image = tensor_rows(rows)[0].time_image;
                        tensor_rows(rows)[j].time_block = tensor_rows(rows)[0].time_block;
                        tensor_rows(rows)[j].time_place = 16 + j;
                }
                test_upload(t, rows);
                times = test_output(t, "t", 16, 0);
                s = with_s ? test_output(t, "s", 16, 0) : NULL;
                RUN(t, random_times, .state = AT(state), .rows = AT(rows), .m = 16, .total = 64,
                    .independent = independent, .n_timesteps = discrete ? 1000 : 0, .t = AT(times), .s = AT(s));
                test_compare(t);
                for (int j = 0; j < 16; j++) {
                        const float *v = (const float *)(const void *)(times->result[TESTED] + KERNELS_ALIGN);
                        double gap = fmod(v[(j + 1) % 16] - v[j] + 1, 1), steps = v[j] * 1000.0;
                        const struct row *r = &tensor_rows(rows)[0];
                        int64_t place = independent ? 16 + j : 0;
                        double want = floor(word_of(state, r->time_image, r->time_block, STREAM_TIME, place / 4, 0,
                                                    place % 4) /
                                            256.0) /
                                      16777216;

                        if (!independent)
                                want += (16 + j) / 64.0 - (want + (16 + j) / 64.0 >= 1);
                        if (discrete)
                                want = fmax(1, ceil(want * 1000)) / 1000;
                        test_expect_value(t, "t", v[j], want, 0, 1);
                        if (with_s && discrete)
                                test_expect_value(t, "s", ((const float *)tensor_result(s, TESTED))[j], want - 0.001, 1,
                                                  1);

                        if (v[j] < 0 || v[j] > 1 || (!discrete && v[j] == 1))
                                test_fail(t, "t[%d] is %g", j, v[j]);
                        if (!independent && !discrete && j < 15 && fabs(gap - 1.0 / 64) > 1e-6)
                                test_fail(t, "t[%d] and the next are %g apart", j, gap);
                        if (discrete && fabs(steps - rint(steps)) > 1e-3)
                                test_fail(t, "t[%d] is %g, not a whole step", j, v[j]);
                }
                test_end(t);
        }
}

void check_sampling_times(struct test *t)
{
        static const int64_t cases[][2] = {{0, 1}, {0, 1000}, {999, 1000}, {332, 1000}, {12345, 1000000}};

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct tensor *state, *times, *s;
                double want[2][3];

                test_case(t, "step %d of %d", (int)cases[i][0], (int)cases[i][1]);
                state = test_state(t);
                tensor_state(state)->step = cases[i][0];
                test_upload(t, state);
                times = test_output(t, "t", 3, 0);
                s = test_output(t, "s", 3, 0);
                RUN(t, sampling_times, .state = AT(state), .m = 3, .n_steps = cases[i][1], .t = AT(times), .s = AT(s));
                test_compare(t);
                for (int j = 0; j < 3; j++) { /* in whole steps, the nearest floats to them */
                        want[0][j] = (float)((double)(cases[i][0] + 1) / (double)cases[i][1]);
                        want[1][j] = (float)((double)cases[i][0] / (double)cases[i][1]);
                }
                test_expect(t, times, want[0], 0);
                test_expect(t, s, want[1], 0);
                test_end(t);
        }
}
