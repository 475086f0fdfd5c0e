#include "tests/golden/case.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_UPLOADS 512

static struct {
        void *p[MAX_UPLOADS];
        size_t n;
} uploads;

/* "config" of a case has the reference's flat keys; ours has them below "model", but for vdm_type. */
static int read_config(const json_t *flat, struct config *ret, struct error *err)
{
        _cleanup_json_ json_t *document = json_object();
        struct errors errs = {0};
        const char *key;
        json_t *value;

        json_object_foreach((json_t *)flat, key, value)
        {
                char path[128];

                (void)snprintf(path, sizeof path, "%s%s", strcmp(key, "vdm_type") ? "model." : "", key);
                if (config_override(document, path, value, &errs) < 0) {
                        *err = errs.items[0];
                        return err->code;
                }
        }
        config_defaults(ret);
        if (config_from_json(document, ret, &errs) < 0) {
                *err = errs.items[0];
                return err->code;
        }
        return 0; /* -ENOTSUP: what this release leaves to a later one */
}

int golden_open(const char *folder, const char *backend, int threads, struct golden *ret, struct error *err)
{
        char path[1024];
        json_t *config;
        int r;

        *ret = (struct golden){.folder = folder, .batch = 1, .gain = 1};
        (void)snprintf(path, sizeof path, "%s/case.json", folder);
        r = json_parse_file(path, 1 << 22, &ret->json, err);
        if (r < 0)
                return r;
        (void)json_get_int(ret->json, "", "batch", 1, 1024, &ret->batch, err);
        (void)json_get_real(ret->json, "", "gain", false, &ret->gain, err);
        config = json_object_get(ret->json, "config");
        config_defaults(&ret->config);
        if (config) {
                r = read_config(config, &ret->config, err);
                if (r < 0)
                        return r;
        }
        r = kernels_find(backend, &ret->k, err);
        if (r >= 0)
                r = ret->k->device_open(&(struct device_settings){.threads = threads}, &ret->device, err);
        if (r >= 0)
                r = ret->k->stream_new(ret->device, &ret->stream, err);
        return r;
}

void golden_round(struct golden *g, enum precision precision)
{
        const struct config *c = &g->config;
        const double unit = precision == PRECISION_BF16 ? 0x1p-8 : precision == PRECISION_TF32 ? 0x1p-11 : 0;
        const int64_t blocks = 2 * c->sm_n_layer + 3 + 2 * c->forward_n_layer + 3; /* down, two in the middle, up */

        g->config.precision = precision;
        g->rounding = 2 * 0.42 * unit * sqrt(14 * (double)blocks);
}

void golden_close(struct golden *g)
{
        for (size_t i = 0; i < uploads.n; i++)
                g->k->memory_free(g->device, uploads.p[i]);
        uploads.n = 0;
        (void)g->k->stream_free(g->stream);
        (void)g->k->device_close(g->device);
        json_decref(g->json);
}

double *golden_uniform(const char *name, int64_t n)
{
        double *u = malloc((size_t)n * sizeof *u);

        assert(u);
        hash_uniform(name, n, u);
        for (int64_t i = 0; i < n; i++)
                u[i] = (u[i] + 1) / 2;
        return u;
}

float *golden_normal(const char *name, int64_t n)
{
        char s[256];
        double *r, *a;
        float *x = malloc((size_t)n * sizeof *x);

        assert(x);
        (void)snprintf(s, sizeof s, "%s/r", name);
        r = golden_uniform(s, n);
        (void)snprintf(s, sizeof s, "%s/a", name);
        a = golden_uniform(s, n);
        for (int64_t i = 0; i < n; i++)
                x[i] = (float)(sqrt(-2 * log(r[i] + 0x1p-25)) * cos(2 * M_PI * a[i]));
        free(r);
        free(a);
        return x;
}

float *golden_zeros(int64_t n)
{
        float *x = calloc((size_t)n, sizeof *x);

        assert(x);
        return x;
}

static void wait_or_exit(struct golden *g)
{
        struct error err;

        if (g->k->stream_sync(g->stream, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", g->folder, err.text);
                exit(1);
        }
}

void golden_write(struct golden *g, void *device, const void *host, size_t bytes)
{
        g->k->copy_in(g->stream, device, host, bytes);
        wait_or_exit(g);
}

void *golden_upload(struct golden *g, const void *host, size_t bytes)
{
        void *p = g->k->memory_new(g->device, bytes);

        assert(p && uploads.n < MAX_UPLOADS);
        uploads.p[uploads.n++] = p;
        if (host)
                golden_write(g, p, host, bytes);
        return p;
}

float *golden_device(struct golden *g, int64_t n)
{
        return golden_upload(g, NULL, (size_t)n * sizeof(float));
}

void golden_download(struct golden *g, const void *device, void *host, size_t bytes)
{
        g->k->copy_out(g->stream, host, device, bytes);
        wait_or_exit(g);
}

bool golden_wants(const struct golden *g, const char *group, const char *name)
{
        return json_object_get(json_object_get(g->json, group), name) != NULL;
}

/* NumPy's format, version 1.0, float32, C order: the values, which are the caller's. */
static float *read_npy(const char *folder, const char *file, int64_t n)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 30);
        char path[1024];
        struct error err;
        uint16_t header;
        float *x;

        (void)snprintf(path, sizeof path, "%s/%s", folder, file);
        if (file_read(path, &b, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                exit(1);
        }
        assert(b.size > 10 && !memcmp(b.data, "\x93NUMPY\x01", 7));
        memcpy(&header, b.data + 8, sizeof header);
        assert(strstr(b.data + 10, "'<f4'") && b.size == 10 + (size_t)header + (size_t)n * sizeof *x);
        x = malloc((size_t)n * sizeof *x);
        assert(x);
        memcpy(x, b.data + 10 + header, (size_t)n * sizeof *x);
        return x;
}

static double real(const json_t *o, const char *key)
{
        return json_number_value(json_object_get(o, key));
}

static void verdict(struct golden *g, const char *name, double error, double allowed)
{
        g->n_compared++;
        if (g->verbose)
                (void)printf("%.3f of what is allowed: %s\n", error / allowed, name);
        if (error <= allowed)
                return;
        g->n_failed++;
        (void)printf("FAILED %s %s: error %.3g, allowed %.3g (%.2f times)\n", g->folder, name, error, allowed,
                     error / allowed);
}

/* A row of one of the case's groups, which is marked: one that nobody asks for is a failure (golden_unasked). */
static const json_t *ask(struct golden *g, const char *group, const char *name)
{
        json_t *row = json_object_get(json_object_get(g->json, group), name);

        if (row)
                (void)json_object_set_new(row, "asked", json_true());
        return row;
}

int golden_unasked(const struct golden *g)
{
        static const char *const groups[] = {"tensors", "scalars", "digests"};
        int n = 0;

        for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
                const char *name;
                json_t *row;

                json_object_foreach(json_object_get(g->json, groups[i]), name, row)
                {
                        if (json_object_get(row, "asked"))
                                continue;
                        (void)printf("FAILED %s %s: nobody asked for this row of %s\n", g->folder, name, groups[i]);
                        n++;
                }
        }
        return n;
}

void golden_tensor(struct golden *g, const char *name, const float *host, int64_t n)
{
        const json_t *row = ask(g, "tensors", name), *shape;
        double l2, sum = 0, largest = 0;
        int64_t size = 1;
        float *truth;
        size_t i;
        json_t *d;

        if (!row)
                return;
        shape = json_object_get(row, "shape");
        json_array_foreach((json_t *)shape, i, d) size *= json_integer_value(d);
        assert(size == n);
        truth = read_npy(g->folder, json_string_value(json_object_get(row, "file")), n);
        for (int64_t j = 0; j < n; j++) {
                double e = (double)host[j] - (double)truth[j];

                sum += e * e;
                largest = fmax(largest, fabs(e));
                if (isnan(e))
                        largest = INFINITY;
        }
        free(truth);
        l2 = real(row, "l2");
        if (l2 < 1e-9)
                verdict(g, name, largest, 1e-4);
        else
                verdict(g, name, isinf(largest) ? INFINITY : sqrt(sum) / l2,
                        fmax(4 * real(row, "f32_error"), 1e-6) + g->rounding);
}

void golden_device_tensor(struct golden *g, const char *name, const float *device, int64_t n)
{
        float *host = golden_zeros(n);

        golden_download(g, device, host, (size_t)n * sizeof *host);
        golden_tensor(g, name, host, n);
        free(host);
}

void golden_scalar(struct golden *g, const char *name, double value)
{
        const json_t *row = ask(g, "scalars", name);
        double truth = real(row, "value");

        if (row)
                verdict(g, name, isfinite(value) ? fabs(value - truth) : INFINITY,
                        fmax(4 * real(row, "f32_error"), 1e-6 * fabs(truth)) + g->rounding * fabs(truth));
}

/* What a tensor's rounding error is measured by. A bias's gradient may be far less than the values that it is the sum
 * of (an attention's keys: none at all); it has the error of a row of the kernel's beside it. */
static double size_of(const json_t *rows, const struct params *layout, const struct param *q, double l2)
{
        const char *leaf = strrchr(q->name, '/');
        const struct param *kernel = NULL;
        char name[sizeof q->name];

        if (leaf && !strcmp(leaf, "/bias")) {
                (void)snprintf(name, sizeof name, "%.*s/kernel", (int)(leaf - q->name), q->name);
                kernel = params_find(layout, name);
        }
        return kernel ? fmax(l2, real(json_object_get(rows, name), "l2") * sqrt((double)q->size / (double)kernel->size))
                      : l2;
}

void golden_digests(struct golden *g, const char *what, const struct params *layout, const float *host)
{
        const json_t *rows = ask(g, "digests", what), *row;
        const char *name;
        double all = 0;

        if (!rows)
                return;
        json_object_foreach((json_t *)rows, name, row)
        {
                if (json_is_object(row)) /* the mark of ask */
                        all += real(row, "l2") * real(row, "l2");
        }
        all = sqrt(all);
        json_object_foreach((json_t *)rows, name, row)
        {
                const struct param *q = params_find(layout, name);
                char stream[128], label[160];
                double *h, l2 = 0, dot = 0, allowed;

                if (!json_is_object(row))
                        continue;
                (void)snprintf(stream, sizeof stream, "digest/%s", name);
                (void)snprintf(label, sizeof label, "%s %s", what, name);
                if (!q) {
                        verdict(g, label, INFINITY, 0);
                        continue;
                }
                h = malloc((size_t)q->size * sizeof *h);
                assert(h);
                hash_uniform(stream, q->size, h);
                for (int64_t i = 0; i < q->size; i++) {
                        double v = host[q->offset + i];

                        l2 += v * v;
                        dot += v * h[i];
                }
                free(h);
                allowed = 4 * real(row, "f32_error") + 1e-6 * real(row, "l2") + 1e-9 * all +
                          g->rounding * size_of(rows, layout, q, real(row, "l2"));
                l2 = fabs(sqrt(l2) - real(row, "l2"));
                dot = fabs(dot - real(row, "dot"));
                verdict(g, label, isfinite(l2 + dot) ? fmax(l2, dot) : INFINITY, allowed);
        }
}
