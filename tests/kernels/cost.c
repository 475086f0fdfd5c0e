/* What operations cost, against counts made by hand, one of each family; the table that measures; a group of one. */
#include "check.h"

#include "kernels/cost.h"

#include <errno.h>

static int n_bad;

static void expect(bool ok, const char *what)
{
        if (!ok)
                printf("FAIL %s\n", what);
        n_bad += !ok;
}

static void expect_cost(struct cost got, double flop, double bytes, const char *what)
{
        if (got.flop != flop || got.bytes != bytes)
                printf("FAIL %s costs %.0f and %.0f bytes instead of %.0f and %.0f\n", what, got.flop, got.bytes, flop,
                       bytes);
        n_bad += got.flop != flop || got.bytes != bytes;
}

/* A plan begins with its shape; here it is nothing else. */
static void plans(void)
{
        struct conv_shape conv = {2, 4, 4, 8, 16, 3, 3, 1, 1, DTYPE_FLOAT32, DTYPE_BF16};
        struct conv_shape strided = {1, 5, 4, 8, 16, 3, 3, 2, 2, DTYPE_FLOAT32, DTYPE_FLOAT32};
        struct dense_shape dense = {3, 5, 7, DTYPE_FLOAT32};
        struct norm_shape norm = {2, 10, 32, 32, 32, DTYPE_BF16};
        struct attention_shape attention = {2, 6, 4, 1, DTYPE_FLOAT32};
        float f = 0;

        /* 2 x 16 pixels x 16 outputs x 72 products; x 2 x 16 x 8 x 4, y 2 x 16 x 16 x 2, w 9 x 8 x 16 x 4, b 16 x 4 */
        expect_cost(cost_conv_forward(&(struct conv_forward_args){.conv = (void *)&conv, .b = &f, .residual = &f}),
                    2 * 32 * 16 * 72, 1024 + 4608 + 64 + 2 * 1024, "conv_forward");
        expect_cost(
                cost_conv_backward_data(&(struct conv_backward_data_args){.conv = (void *)&conv, .accumulate = true}),
                73728, 1024 + 4608 + 2 * 1024, "conv_backward_data");
        expect_cost(cost_conv_backward_weights(&(struct conv_backward_weights_args){.conv = (void *)&conv, .db = &f}),
                    73728, 1024 + 1024 + 4608 + 64, "conv_backward_weights");
        /* 3 x 2 outputs of 16 channels from 4 inputs each */
        expect_cost(cost_conv_forward(&(struct conv_forward_args){.conv = (void *)&strided}), 2 * 6 * 16 * 36,
                    20 * 8 * 4 + 9 * 4 * 16 * 4 + 6 * 16 * 4, "conv_forward with stride and groups");
        expect_cost(cost_dense_forward(&(struct dense_forward_args){.dense = (void *)&dense, .accumulate = true}), 210,
                    60 + 140 + 2 * 84, "dense_forward");
        expect_cost(cost_dense_backward_data(&(struct dense_backward_data_args){.dense = (void *)&dense}), 210,
                    84 + 140 + 60, "dense_backward_data");
        expect_cost(cost_dense_backward_weights(&(struct dense_backward_weights_args){
                            .dense = (void *)&dense, .db = &f, .accumulate = true}),
                    210, 60 + 84 + 2 * (140 + 28), "dense_backward_weights");
        /* 2 x 10 x 64 values of 2 bytes, twice; scale and bias 64 each; stats 2 x 32 x 2 */
        expect_cost(cost_norm_forward(&(struct norm_forward_args){.norm = (void *)&norm}), 0, 2 * 2560 + 512 + 512,
                    "norm_forward");
        expect_cost(cost_norm_backward(&(struct norm_backward_args){.norm = (void *)&norm,
                                                                    .dscale = &f,
                                                                    .accumulate_b = true,
                                                                    .accumulate_weights = true,
                                                                    .daddend = &f}),
                    0, 2 * 2560 + 1280 + 2 * 1280 + 512 + 512 + 2 * 512 + 512, "norm_backward");
        expect_cost(cost_attention_forward(&(struct attention_forward_args){.attention = (void *)&attention}),
                    2 * 2 * 2 * 36 * 4, 4 * 192, "attention_forward");
        expect_cost(cost_attention_backward(&(struct attention_backward_args){.attention = (void *)&attention}),
                    4 * 2 * 2 * 36 * 4, 8 * 192, "attention_backward");
}

static void others(void)
{
        float f = 0;

        expect_cost(cost_wide_dense_forward(&(struct wide_dense_forward_args){.m = 2, .k = 3, .n = 5, .x_low = &f}), 60,
                    2 * 24 + 60 + 40, "wide_dense_forward");
        expect_cost(cost_time_embedding_forward(&(struct time_embedding_forward_args){.m = 2, .n = 10}), 0, 8 + 80,
                    "time_embedding_forward");
        expect_cost(cost_fourier_backward(
                            &(struct fourier_backward_args){.n_pixels = 10, .type = DTYPE_BF16, .accumulate = true}),
                    0, 120 + 300 + 240, "fourier_backward");
        expect_cost(cost_swish_backward(&(struct swish_backward_args){.n = 10, .type = DTYPE_BF16}), 0, 60,
                    "swish_backward");
        expect_cost(cost_copy_2d(&(struct copy_2d_args){
                            .rows = 3, .columns = 5, .x_stride = 0, .y_type = DTYPE_BF16, .accumulate = true}),
                    0, 20 + 60, "copy_2d");
        expect_cost(cost_poly_forward(&(struct poly_forward_args){.m = 2, .d = 3, .gamma = &f}), 0, 3 * 24 + 8 + 24,
                    "poly_forward");
        expect_cost(cost_topk_forward(&(struct topk_forward_args){.m = 2, .n = 3, .noise = &f, .sum_of_gamma = true}),
                    0, 24 + 240 + 48 + 16, "topk_forward");
        expect_cost(cost_bound(&(struct bound_args){.m = 1, .d = 4, .g = 4, .d_net = &f}), 0,
                    4 + 5 * 16 + 4 * 16 + 20 + 2 * 16 + 4 * 16, "bound");
        expect_cost(cost_decode(&(struct decode_args){.m = 1, .d = 4, .g = 1}), 0, 16 + 4 + 4, "decode");
        expect_cost(cost_squared_norm(&(struct squared_norm_args){.n = 10, .x = &f}), 0, 40 + 8, "squared_norm");
        expect_cost(cost_adamw(&(struct adamw_args){.n = 10, .g = &f}), 0, 9 * 40, "adamw");
        expect_cost(cost_adamw(&(struct adamw_args){.n = 15, .outer = {2, 3, 5}}), 60, 2 * 8 * 4 + 8 * 60,
                    "adamw of factors");
        expect_cost(cost_gather(&(struct gather_args){.m = 2, .bytes = 100}), 0, 2 * sizeof(struct row) + 400,
                    "gather");
        expect_cost(cost_image_add(&(struct image_add_args){.m = 2}), 0, 2 * (16 + 48), "image_add");
        expect_cost(cost_step_end(&(struct step_end_args){0}), 0, 0, "step_end");
        expect_cost(cost_random_normal(&(struct random_normal_args){.m = 2, .d = 8}), 0, 2 * sizeof(struct row) + 64,
                    "random_normal");
}

static const struct timing_row *find(const struct timing_row *rows, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(rows[i].name, name) == 0)
                        return &rows[i];
        return NULL;
}

static void timed_table(const struct kernels *k, struct device *d, struct stream *s)
{
        enum { N = 1000 };
        struct kernels timed;
        struct timing_row *rows = NULL;
        const struct timing_row *fill, *add, *launch;
        struct graph *g = NULL;
        float *x = k->memory_new(d, N * sizeof(float)), *y = k->memory_new(d, N * sizeof(float)), back[N];
        bool sorted = true;
        size_t n = 0;

        kernels_timed_begin(k, &timed);
        for (int i = 0; i < 3; i++)
                timed.fill(s, &(struct fill_args){.n = N, .value = 2, .y = x});
        timed.add(s, &(struct add_args){.n = N, .x = x, .y = y});
        expect(timed.graph_begin(s, NULL) == 0, "a timed table records");
        timed.add(s, &(struct add_args){.n = N, .x = x, .y = y});
        expect(timed.graph_end(s, &g, NULL) == 0, "a timed table ends a recording");
        timed.graph_launch(s, g);
        timed.graph_launch(s, g);
        timed.copy_out(s, back, y, sizeof(back));
        expect(timed.stream_sync(s, NULL) == 0 && back[0] == 6 && back[N - 1] == 6, "a timed table computes the same");
        expect(kernels_timed_end(&rows, &n, NULL) == 0 && n == 3, "a row for each operation that ran");
        fill = find(rows, n, "fill");
        add = find(rows, n, "add");
        launch = find(rows, n, "graph_launch");
        expect(fill && fill->calls == 3 && fill->bytes == 3 * 4 * N && fill->seconds > 0,
               "calls and bytes are added up");
        expect(add && add->calls == 1 && add->bytes == 12 * N, "what is recorded is not timed as if it ran");
        expect(launch && launch->calls == 2 && launch->seconds > 0, "a launch is timed");
        for (size_t i = 1; i < n; i++)
                sorted = sorted && rows[i - 1].seconds >= rows[i].seconds;
        expect(sorted, "the dearest comes first");
        free(rows);
        (void)k->graph_free(g);
        k->memory_free(d, x);
        k->memory_free(d, y);
}

int cost_main(const struct kernels *k)
{
        struct device *d;
        struct stream *s;

        if (k->device_open(&(struct device_settings){.threads = 1}, &d, NULL) < 0 || k->stream_new(d, &s, NULL) < 0)
                return EXIT_FAILURE;
        plans();
        others();
        timed_table(k, d, s);
        (void)k->stream_free(s);
        (void)k->device_close(d);
        printf("cost: %d failed\n", n_bad);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
