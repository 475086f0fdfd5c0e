/* bench-conv CHANNELS BATCH [REPEATS]: the rate of oneDNN's bare 3x3 convolution, which a training step is measured
 * against: 32 x 32 pixels, NHWC, weights already in the layout that oneDNN asks for; forward, backward data and
 * backward weights in turn. Prints one line of JSON: GFLOP/s of the three together, medians. */
#include "base/clock.h"
#include "base/macros.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>

#define REPEATS_MAX 200

static void try(dnnl_status_t r, const char *what)
{
        if (r == dnnl_success)
                return;
        (void)fprintf(stderr, "bench-conv: %s: status %d\n", what, (int)r);
        exit(1);
}

static dnnl_memory_t memory(dnnl_engine_t engine, const dnnl_memory_desc_t *desc)
{
        size_t bytes = dnnl_memory_desc_get_size(desc);
        float *values = aligned_alloc(64, (bytes + 63) / 64 * 64);
        dnnl_memory_t m;

        if (!values)
                exit(1);
        for (size_t i = 0; i < bytes / sizeof *values; i++)
                values[i] = (float)(i % 17) / 17 - 0.5f;
        try(dnnl_memory_create(&m, desc, engine, values), "dnnl_memory_create");
        return m;
}

struct direction {
        dnnl_primitive_t primitive;
        dnnl_exec_arg_t args[3];
};

/* args: what is read, read, written, by oneDNN's numbers; layouts as the primitive wants them. */
static struct direction direction(dnnl_engine_t engine, const dnnl_convolution_desc_t *desc,
                                  const_dnnl_primitive_desc_t hint, const int args[3], dnnl_primitive_desc_t *ret_desc)
{
        struct direction d;

        try(dnnl_primitive_desc_create(ret_desc, desc, NULL, engine, hint), "dnnl_primitive_desc_create");
        try(dnnl_primitive_create(&d.primitive, *ret_desc), "dnnl_primitive_create");
        for (int i = 0; i < 3; i++)
                d.args[i] = (dnnl_exec_arg_t){
                        args[i],
                        memory(engine, dnnl_primitive_desc_query_md(*ret_desc, dnnl_query_exec_arg_md, args[i]))};
        return d;
}

static int compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
        int64_t c = argc > 1 ? atoll(argv[1]) : 64, m = argc > 2 ? atoll(argv[2]) : 8;
        int64_t repeats = argc > 3 ? atoll(argv[3]) : 30, us[REPEATS_MAX];
        dnnl_dims_t x = {m, c, 32, 32}, w = {c, c, 3, 3}, ones = {1, 1};
        dnnl_memory_desc_t x_desc, w_desc;
        dnnl_convolution_desc_t desc[3];
        dnnl_primitive_desc_t primitive_desc[3];
        struct direction directions[3];
        dnnl_engine_t engine;
        dnnl_stream_t stream;
        double gflop = 3 * 2.0 * 9 * (double)(c * c * m) * 1024 / 1e9, seconds;

        if (c < 1 || m < 1 || repeats < 1 || repeats > REPEATS_MAX) {
                (void)fprintf(stderr, "usage: bench-conv CHANNELS BATCH [REPEATS]\n");
                return 2;
        }
        try(dnnl_engine_create(&engine, dnnl_cpu, 0), "dnnl_engine_create");
        try(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "dnnl_stream_create");
        try(dnnl_memory_desc_init_by_tag(&x_desc, 4, x, dnnl_f32, dnnl_nhwc), "activations");
        try(dnnl_memory_desc_init_by_tag(&w_desc, 4, w, dnnl_f32, dnnl_format_tag_any), "weights");
        try(dnnl_convolution_forward_desc_init(&desc[0], dnnl_forward_training, dnnl_convolution_direct, &x_desc,
                                               &w_desc, NULL, &x_desc, ones, ones, ones),
            "forward");
        try(dnnl_convolution_backward_data_desc_init(&desc[1], dnnl_convolution_direct, &x_desc, &w_desc, &x_desc, ones,
                                                     ones, ones),
            "backward data");
        try(dnnl_convolution_backward_weights_desc_init(&desc[2], dnnl_convolution_direct, &x_desc, &w_desc, NULL,
                                                        &x_desc, ones, ones, ones),
            "backward weights");
        directions[0] = direction(engine, &desc[0], NULL, (int[]){DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
                                  &primitive_desc[0]);
        directions[1] = direction(engine, &desc[1], primitive_desc[0],
                                  (int[]){DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC}, &primitive_desc[1]);
        directions[2] = direction(engine, &desc[2], primitive_desc[0],
                                  (int[]){DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS}, &primitive_desc[2]);
        for (int64_t i = -3; i < repeats; i++) {
                int64_t start = clock_monotonic_us();

                for (int d = 0; d < 3; d++)
                        try(dnnl_primitive_execute(directions[d].primitive, stream, 3, directions[d].args), "execute");
                try(dnnl_stream_wait(stream), "wait");
                if (i >= 0)
                        us[i] = clock_monotonic_us() - start;
        }
        qsort(us, (size_t)repeats, sizeof *us, compare);
        seconds = (double)us[repeats / 2] / 1e6;
        (void)printf("{\"channels\": %lld, \"batch\": %lld, \"seconds\": %.6f, \"conv_gflops\": %.2f}\n", (long long)c,
                     (long long)m, seconds, gflop / seconds);
        return 0;
}
