/* `check perf [TABLE [OPERATION [THREADS [bf16]]]]`: each operation ("": all) at the network's shapes (32 x 32 pixels,
 * n 64 and 128, batch 8), 2 threads; one thread is timed in its own processor time, which others on the machine disturb
 * less: median and best time, and what that is in GFLOP/s (sums of products) or GB/s (what must be read and written).
 * The convolutions' own rate is the ceiling of a training step. */
#include "check.h"

#include "kernels/bf16.h"

#include <stdlib.h>
#include <time.h>

#define BATCH 8
#define SIDE 32
#define PIXELS (SIDE * SIDE)
#define MAX_RUNS 400

struct perf {
        const struct kernels *k;
        struct device *device;
        struct stream *stream;
        const char *only;
        void *memories[64];
        int n_memories;
        int n_runs;
        int threads;
        enum dtype type;                 /* of what has a type */
        int64_t stamps[MAX_RUNS + 1];    /* ns */
        int n;                           /* channels of the current part */
        double conv_seconds, conv_flops; /* medians, for the mean rate at the end */
};

/* Random values; freed at the end of the part. */
static void *values(struct perf *p, int64_t n)
{
        float *x = p->k->memory_new(p->device, sizeof(float) * (size_t)n);

        if (!x || p->n_memories == (int)ARRAY_LEN(p->memories)) {
                printf("out of memory\n");
                exit(EXIT_FAILURE);
        }
        for (int64_t i = 0; i < n; i++)
                x[i] = (float)((uint32_t)(i * 2654435761u) >> 8) * 0x1p-23f - 1;
        p->memories[p->n_memories++] = x;
        return x;
}

/* The same of the type that is timed. */
static void *typed_values(struct perf *p, int64_t n)
{
        float *x = values(p, n);

        for (int64_t i = 0; p->type == DTYPE_BF16 && i < n; i++)
                ((uint16_t *)x)[i] = bf16_round((float)(i % 997) * 0x1p-9f - 1);
        return x;
}

static void values_free(struct perf *p)
{
        while (p->n_memories > 0)
                p->k->memory_free(p->device, p->memories[--p->n_memories]);
}

static bool again(struct perf *p)
{
        struct timespec now;

        (void)clock_gettime(p->threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
        p->stamps[p->n_runs] = now.tv_sec * 1000000000 + now.tv_nsec;
        if (p->n_runs == MAX_RUNS || (p->n_runs >= 7 && p->stamps[p->n_runs] - p->stamps[0] > 300000000))
                return false;
        p->n_runs++;
        return true;
}

static int by_value(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return x < y ? -1 : x > y;
}

static void report(struct perf *p, const char *op, const char *what, double flops, double bytes)
{
        int64_t times[MAX_RUNS];
        double median, best;
        int n = p->n_runs - 1; /* the first run warms up */

        for (int i = 0; i < n; i++)
                times[i] = p->stamps[i + 2] - p->stamps[i + 1];
        qsort(times, (size_t)n, sizeof(times[0]), by_value);
        median = (double)MAX(times[n / 2], (int64_t)1) * 1e-9;
        best = (double)MAX(times[0], (int64_t)1) * 1e-9;
        printf("%-24s %-30s n %3d %9.3f ms, best %9.3f", op, what, p->n, median * 1e3, best * 1e3);
        if (flops > 0)
                printf(" %8.1f GFLOP/s, best %6.1f", flops / median * 1e-9, flops / best * 1e-9);
        if (bytes > 0)
                printf(" %8.1f GB/s, best %6.1f", bytes / median * 1e-9, bytes / best * 1e-9);
        printf("\n");
        if (strncmp(op, "conv", 4) == 0) {
                p->conv_seconds += median;
                p->conv_flops += flops;
        }
}

#define TIME(p, op, what, flops, bytes, ...)                                                                           \
        do {                                                                                                           \
                struct op##_args args_ = {__VA_ARGS__};                                                                \
                if ((p)->only && strcmp((p)->only, #op) != 0)                                                          \
                        break;                                                                                         \
                (p)->n_runs = 0;                                                                                       \
                while (again(p))                                                                                       \
                        (p)->k->op((p)->stream, &args_);                                                               \
                report(p, #op, what, flops, bytes);                                                                    \
        } while (0)

#define PLAN(p, kind, plan, shape)                                                                                     \
        struct kind *plan;                                                                                             \
        struct error err_;                                                                                             \
        if ((p)->k->kind##_new((p)->device, shape, &plan, &err_) < 0) {                                                \
                printf("FAIL no plan: %s\n", err_.text);                                                               \
                exit(EXIT_FAILURE);                                                                                    \
        }

static void perf_conv(struct perf *p, int64_t c_in, int64_t c_out)
{
        struct conv_shape s = {BATCH, SIDE, SIDE, c_in, c_out, 3, 3, 1, 1, p->type, p->type};
        double flops = 2.0 * BATCH * PIXELS * 9 * (double)(c_in * c_out);
        char what[64];

        PLAN(p, conv, plan, &s);
        void *workspace = values(p, (int64_t)p->k->conv_workspace(plan) / 4 + 1);
        float *x = typed_values(p, BATCH * PIXELS * c_in), *y = typed_values(p, BATCH * PIXELS * c_out),
              *b = values(p, c_out);
        float *w = values(p, 9 * c_in * c_out), *dw = values(p, 9 * c_in * c_out),
              *other = typed_values(p, BATCH * PIXELS * c_out);
        float *dx = typed_values(p, BATCH * PIXELS * c_in);

        (void)snprintf(what, sizeof(what), "%d to %d", (int)c_in, (int)c_out);
        TIME(p, conv_forward, what, flops, 0, plan, x, w, b, NULL, y, workspace);
        (void)snprintf(what, sizeof(what), "%d to %d, y +=", (int)c_in, (int)c_out);
        TIME(p, conv_forward, what, flops, 0, plan, x, w, b, y, y, workspace);
        (void)snprintf(what, sizeof(what), "%d to %d, + residual", (int)c_in, (int)c_out);
        TIME(p, conv_forward, what, flops, 0, plan, x, w, b, other, y, workspace);
        (void)snprintf(what, sizeof(what), "%d to %d", (int)c_in, (int)c_out);
        TIME(p, conv_backward_data, what, flops, 0, plan, y, w, dx, false, workspace);
        (void)snprintf(what, sizeof(what), "%d to %d, dx +=", (int)c_in, (int)c_out);
        TIME(p, conv_backward_data, what, flops, 0, plan, y, w, dx, true, workspace);
        (void)snprintf(what, sizeof(what), "%d to %d", (int)c_in, (int)c_out);
        TIME(p, conv_backward_weights, what, flops, 0, plan, x, y, dw, b, false, workspace);
        (void)p->k->conv_free(plan);
        values_free(p);
}

static void perf_dense(struct perf *p, int64_t m, int64_t k, int64_t n)
{
        struct dense_shape s = {m, k, n, p->type};
        double flops = 2.0 * (double)(m * k * n), bytes = m < 100 ? 4.0 * (double)(k * n) : 0;
        char what[64];

        PLAN(p, dense, plan, &s);
        void *workspace = values(p, (int64_t)p->k->dense_workspace(plan) / 4 + 1);
        float *x = typed_values(p, m * k), *w = values(p, k * n), *b = values(p, n), *y = typed_values(p, m * n);
        float *dw = values(p, k * n), *dx = typed_values(p, m * k);

        (void)snprintf(what, sizeof(what), "%d x %d x %d", (int)m, (int)k, (int)n);
        TIME(p, dense_forward, what, flops, bytes, plan, x, w, b, y, false, workspace);
        TIME(p, dense_backward_data, what, flops, bytes, plan, y, w, dx, false, workspace);
        TIME(p, dense_backward_weights, what, flops, bytes, plan, x, y, dw, b, false, workspace);
        (void)snprintf(what, sizeof(what), "%d x %d x %d, +=", (int)m, (int)k, (int)n);
        TIME(p, dense_forward, what, flops, bytes, plan, x, w, b, y, true, workspace);
        TIME(p, dense_backward_data, what, flops, bytes, plan, y, w, dx, true, workspace);
        TIME(p, dense_backward_weights, what, flops, 2 * bytes, plan, x, y, dw, b, true, workspace);
        (void)p->k->dense_free(plan);
        values_free(p);
}

static void perf_norm(struct perf *p, int64_t c_a, int64_t c_b)
{
        struct norm_shape s = {BATCH, PIXELS, c_a, c_b, 32, p->type};
        struct step_state state = {.seed = 1, .step = 1};
        struct row *rows = values(p, BATCH * (int64_t)(sizeof(struct row) / sizeof(float)));
        int64_t c = c_a + c_b, n = BATCH * PIXELS * c;
        double bytes = (double)dtype_bytes(p->type);
        char what[64];

        PLAN(p, norm, plan, &s);
        void *workspace = values(p, (int64_t)p->k->norm_workspace(plan) / 4 + 1);
        float *a = typed_values(p, BATCH * PIXELS * c_a), *b = c_b ? typed_values(p, BATCH * PIXELS * c_b) : NULL;
        float *da = typed_values(p, BATCH * PIXELS * c_a), *db = c_b ? typed_values(p, BATCH * PIXELS * c_b) : NULL;
        float *y = typed_values(p, n), *stats = values(p, BATCH * 64), *scale = values(p, c), *bias = values(p, c);
        float *dscale = values(p, c), *dbias = values(p, c), *addend = values(p, BATCH * c),
              *daddend = values(p, BATCH * c);

        for (int drop = 0; drop < 2; drop++) {
                struct dropout d = {.rate = drop ? 0.1f : 0, .state = &state, .rows = rows};

                (void)snprintf(what, sizeof(what), "%d + %d%s", (int)c_a, (int)c_b, drop ? ", dropout" : "");
                TIME(p, norm_forward, what, 0, 2 * bytes * (double)n, plan, a, b, addend, scale, bias, true, d, y,
                     stats, workspace);
                TIME(p, norm_backward, what, 0, 3 * bytes * (double)n, plan, y, a, b, addend, scale, bias, stats, true,
                     d, da, db, false, false, dscale, dbias, false, daddend, workspace);
        }
        (void)snprintf(what, sizeof(what), "%d + %d, da +=, db +=", (int)c_a, (int)c_b);
        TIME(p, norm_backward, what, 0, 4 * bytes * (double)n, plan, y, a, b, addend, scale, bias, stats, true,
             (struct dropout){0}, da, db, true, true, dscale, dbias, false, daddend, workspace);
        (void)p->k->norm_free(plan);
        values_free(p);
}

static void perf_attention(struct perf *p, int64_t c)
{
        struct attention_shape s = {BATCH, PIXELS, c, 1, p->type};
        double flops = 2.0 * BATCH * PIXELS * PIXELS * (double)c;
        int64_t n = BATCH * PIXELS * c;

        PLAN(p, attention, plan, &s);
        void *workspace = values(p, (int64_t)p->k->attention_workspace(plan) / 4 + 1);
        void *saved = values(p, (int64_t)p->k->attention_saved(plan) / 4 + 1);
        float *q = typed_values(p, n), *k = typed_values(p, n), *v = typed_values(p, n), *o = typed_values(p, n);
        float *dq = typed_values(p, n), *dk = typed_values(p, n), *dv = typed_values(p, n);

        TIME(p, attention_forward, "", 2 * flops, 0, plan, q, k, v, o, saved, workspace);
        TIME(p, attention_backward, "", 4 * flops, 0, plan, o, q, k, v, o, saved, dq, dk, dv, workspace);
        (void)p->k->attention_free(plan);
        values_free(p);
}

/* What does not depend on n: 3072 dimensions an image. */
static void perf_dimensions(struct perf *p)
{
        enum { D = 3072, N = BATCH * D };
        struct step_state state = {.seed = 1, .step = 1, .learning_rate = 1e-4f, .m_correction = 1, .v_correction = 1};
        float *f = values(p, N), *eps = values(p, N), *z = values(p, N), *net = values(p, N), *terms = values(p, 100);
        float *gamma[4], *d_gamma[4], *wide = values(p, 5 * N), *wide2 = values(p, 5 * N), *d_net = values(p, N);
        uint8_t *x = values(p, N);
        float *square = values(p, (int64_t)D * D);
        struct row *rows = values(p, BATCH * (int64_t)(sizeof(struct row) / sizeof(float)));

        for (int i = 0; i < 4; i++) {
                gamma[i] = values(p, N);
                d_gamma[i] = values(p, N);
        }
        for (int i = 0; i < N; i++)
                gamma[0][i] = -13.3f;
        TIME(p, time_embedding_forward, "128 wide", 0, 0, BATCH, 128, eps, NULL, -13.3f, 0.05f, wide, 178);
        TIME(p, time_embedding_forward, "a time a value, 128 wide", 0, 0, N / 16, 128, eps, NULL, -13.3f, 0.05f, wide,
             60);
        TIME(p, fourier_forward, "", 0, 72.0 * BATCH * PIXELS, BATCH * PIXELS, p->type, z, NULL, wide);
        TIME(p, fourier_backward, "", 0, 84.0 * BATCH * PIXELS, BATCH * PIXELS, p->type, z, NULL, wide, d_net, false);
        TIME(p, encode_image, "", 0, 5.0 * N, N, x, f);
        TIME(p, wide_dense_forward, "3072 x 3072", 2.0 * BATCH * D * D, 4.0 * D * D, BATCH, D, D, f, NULL, square, NULL,
             z, NULL);
        TIME(p, row_mean_forward, "", 0, 4.0 * N, BATCH, D, z, NULL, terms, NULL);
        TIME(p, row_mean_backward, "", 0, 8.0 * N, BATCH, D, terms, d_net);
        TIME(p, poly_forward, "", 0, 0, BATCH, D, f, eps, z, NULL, NULL, NULL, net, -13.3f, 5, gamma[2], NULL,
             gamma[3]);
        TIME(p, poly_backward, "", 0, 0, BATCH, D, f, eps, z, net, -13.3f, 5, gamma[2], gamma[3], d_gamma[0],
             d_gamma[1], d_gamma[2], false);
        TIME(p, dual_squash_forward, "", 0, 0, N, f, eps, d_gamma[0], d_gamma[1]);
        TIME(p, dual_squash_backward, "", 0, 0, N, f, eps, z, net, d_gamma[0], d_gamma[1]);
        TIME(p, diffuse_forward, "", 0, 16.0 * N, BATCH, D, D, f, eps, gamma[2], NULL, z, NULL);
        TIME(p, diffuse_backward, "", 0, 24.0 * N, BATCH, D, D, f, eps, gamma[2], z, d_gamma[2]);
        TIME(p, bound, "velocity", 0, 0, BATCH, D, D, PARAM_VELOCITY, 0, x, f, eps, eps, z, net, gamma[0], gamma[1],
             gamma[2], gamma[3], terms, terms + 50, 1, d_net, wide, d_gamma[0], d_gamma[1], d_gamma[2], d_gamma[3]);
        TIME(p, ancestral_step, "", 0, 0, BATCH, D, D, PARAM_VELOCITY, gamma[2], gamma[1], net, eps, z);
        TIME(p, decode, "", 0, 0, BATCH, D, D, f, gamma[0], NULL, x);
        TIME(p, random_normal, "", 0, 4.0 * N, &state, rows, STREAM_EPS, BATCH, D, wide);
        TIME(p, random_gamma, "8 x 50", 0, 0, &state, rows, BATCH, 50, 15, wide);
        TIME(p, topk_forward, "8 x 50", 0, 0, BATCH, 50, 15, f, wide2, true, wide, z, terms, terms + 50);
        values_free(p);
}

static void perf_elementwise(struct perf *p, int64_t n)
{
        float *x = typed_values(p, n), *y = typed_values(p, n), *dx = typed_values(p, n);
        double bytes = (double)n * (double)dtype_bytes(p->type);

        TIME(p, swish_forward, "", 0, 2 * bytes, n, p->type, x, NULL, y, NULL);
        TIME(p, swish_backward, "", 0, 3 * bytes, n, p->type, x, y, dx);
        TIME(p, add, "", 0, 3 * bytes, n, p->type, x, y);
        TIME(p, copy_2d, "", 0, 2 * bytes, n / 64, 64, p->type, p->type, x, 64, y, 64, false, 1, 0);
        if (p->type == DTYPE_FLOAT32) {
                TIME(p, fill, "", 0, bytes, n, 0, y);
                TIME(p, abs_forward, "", 0, 2 * bytes, n, x, y);
        }
        values_free(p);
}

static void perf_optimizer(struct perf *p)
{
        int64_t n = 40000000;
        struct step_state state = {.learning_rate = 1e-4f, .m_correction = 1, .v_correction = 1, .clip = 1};
        float *w = values(p, n), *m = values(p, n), *v = values(p, n), *ema = values(p, n), *g = values(p, n);
        struct outer_gradient outer = {BATCH, 3072, 3072, g, g + BATCH * 3072};
        double ret[1];

        for (int64_t i = 0; i < n; i++)
                v[i] *= v[i]; /* a mean of squares: of less than 0 the update is not finite, and nothing more is done */
        TIME(p, adamw, "40 M", 0, 36.0 * (double)n, n, w, m, v, ema, g, {0}, 0.9, 0.99, 0.9999, 1e-8f, 0.01f, &state);
        n = outer.k * outer.n;
        TIME(p, adamw, "3072 x 3072 of 8 rows", 0, 32.0 * (double)n, n, w, m, v, ema, NULL, outer, 0.9, 0.99, 0.9999,
             1e-8f, 0.01f, &state);
        n = 40000000;
        TIME(p, squared_norm, "40 M", 0, 4.0 * (double)n, n, g, {0}, ret, false);
        values_free(p);
}

static const int64_t sizes[] = {64, 128};

static void perf_network(struct perf *p, int64_t n)
{
        p->n = (int)n;
        p->conv_seconds = p->conv_flops = 0;
        perf_conv(p, n, n);
        perf_conv(p, 2 * n, n);
        if (p->conv_seconds > 0)
                printf("%-24s %-30s n %3d %48.1f GFLOP/s\n", "convolutions, mean", "", p->n,
                       p->conv_flops / p->conv_seconds * 1e-9);
        perf_conv(p, 15, n);
        perf_conv(p, n, 3);
        perf_conv(p, n, 1);
        perf_norm(p, n, 0);
        perf_norm(p, n, n);
        perf_attention(p, n);
        perf_dense(p, BATCH * PIXELS, n, n);
        perf_dense(p, BATCH * PIXELS, 2 * n, n);
        perf_dense(p, BATCH, 4 * n, n);
        perf_dense(p, BATCH, 4 * n, 4 * n);
        perf_elementwise(p, BATCH * PIXELS * n);
}

int perf_main(const struct kernels *k, int argc, char **argv)
{
        struct device_settings settings = {.threads = argc > 1 ? MAX(atoi(argv[1]), 1) : 2};
        struct perf p = {.k = k, .only = argc > 0 && *argv[0] ? argv[0] : NULL, .threads = settings.threads};
        struct error err;

        p.type = argc > 2 && strcmp(argv[2], "bf16") == 0 ? DTYPE_BF16 : DTYPE_FLOAT32;
        if (k->device_open(&settings, &p.device, &err) < 0 || k->stream_new(p.device, &p.stream, &err) < 0) {
                printf("%s\n", err.text);
                return EXIT_FAILURE;
        }
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
                perf_network(&p, sizes[i]);
        p.n = 0;
        perf_dense(&p, BATCH, 50, 3072);
        perf_dense(&p, BATCH, 3072, 3072);
        perf_dimensions(&p);
        perf_optimizer(&p);
        (void)k->stream_free(p.stream);
        (void)k->device_close(p.device);
        return EXIT_SUCCESS;
}
