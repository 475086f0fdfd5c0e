/* o = softmax(q k^T / sqrt(c)) v, one head over all pixels, in double but for the probabilities kept. Spec 1.
 * With p the probabilities: dv = p^T do, dp = do v^T, ds = p (dp - sum(dp p)), dq = ds k / sqrt(c), dk = ds^T q /
 * sqrt(c). */
#include "kernels/reference/reference.h"

#include <errno.h>
#include <math.h>

struct attention {
        struct attention_shape shape;
};

int reference_attention_new(struct device *d, const struct attention_shape *shape, struct attention **ret,
                            struct error *err)
{
        struct attention *x;
        int r;

        r = host_check_attention(d, shape, false, err);
        if (r < 0)
                return r;
        x = calloc(1, sizeof(*x));
        if (!x)
                return error_set(err, -ENOMEM, "", "out of memory");
        x->shape = *shape;
        *ret = x;
        return 0;
}

struct attention *reference_attention_free(struct attention *a)
{
        free(a);
        return NULL;
}

/* A row of scores an image forward; ds [pixels, pixels] of one image backward. */
size_t reference_attention_workspace(const struct attention *a)
{
        return sizeof(double) * (size_t)MAX(a->shape.pixels * a->shape.pixels, a->shape.pixels * a->shape.n_images);
}

size_t reference_attention_saved(const struct attention *a)
{
        return sizeof(float) * (size_t)(a->shape.n_images * a->shape.pixels * a->shape.pixels);
}

static double dot(const float *x, const float *y, int64_t n)
{
        double sum = 0;

        for (int64_t i = 0; i < n; i++)
                sum += (double)x[i] * y[i];
        return sum;
}

int reference_attention_forward(const struct attention_forward_args *a)
{
        int64_t pixels = a->attention->shape.pixels, c = a->attention->shape.c;

#pragma omp parallel for schedule(static)
        for (int64_t image = 0; image < a->attention->shape.n_images; image++) {
                const float *q = (const float *)a->q + image * pixels * c,
                            *k = (const float *)a->k + image * pixels * c;
                const float *v = (const float *)a->v + image * pixels * c;
                float *o = (float *)a->o + image * pixels * c;
                double *row = (double *)a->workspace + image * pixels;

                for (int64_t i = 0; i < pixels; i++) {
                        double max = -HUGE_VAL, sum = 0;

                        for (int64_t j = 0; j < pixels; j++) {
                                row[j] = dot(q + i * c, k + j * c, c) / sqrt((double)c);
                                max = fmax(max, row[j]);
                        }
                        for (int64_t j = 0; j < pixels; j++)
                                sum += row[j] = exp(row[j] - max);
                        for (int64_t j = 0; j < pixels; j++) {
                                row[j] /= sum;
                                if (a->saved)
                                        ((float *)a->saved)[(image * pixels + i) * pixels + j] = (float)row[j];
                        }
                        for (int64_t e = 0; e < c; e++) {
                                double out = 0;

                                for (int64_t j = 0; j < pixels; j++)
                                        out += row[j] * v[j * c + e];
                                o[i * c + e] = (float)out;
                        }
                }
        }
        return 0;
}

/* ds of row i */
static void backward_scores(int64_t pixels, int64_t c, const float *d_o, const float *v, const float *p, double *ds)
{
        double sum = 0;

        for (int64_t j = 0; j < pixels; j++) {
                ds[j] = dot(d_o, v + j * c, c);
                sum += ds[j] * p[j];
        }
        for (int64_t j = 0; j < pixels; j++)
                ds[j] = p[j] * (ds[j] - sum) / sqrt((double)c);
}

int reference_attention_backward(const struct attention_backward_args *a)
{
        int64_t pixels = a->attention->shape.pixels, c = a->attention->shape.c;
        double *ds = a->workspace;

        for (int64_t image = 0; image < a->attention->shape.n_images; image++) {
                const float *q = (const float *)a->q + image * pixels * c,
                            *k = (const float *)a->k + image * pixels * c;
                const float *v = (const float *)a->v + image * pixels * c;
                const float *d_o = (const float *)a->d_o + image * pixels * c;
                const float *p = (const float *)a->saved + image * pixels * pixels;

#pragma omp parallel for schedule(static)
                for (int64_t i = 0; i < pixels; i++)
                        backward_scores(pixels, c, d_o + i * c, v, p + i * pixels, ds + i * pixels);
#pragma omp parallel for schedule(static)
                for (int64_t t = 0; t < pixels * c; t++) {
                        int64_t i = t / c, e = t % c, at = image * pixels * c + t;
                        double dq = 0, dk = 0, dv = 0;

                        for (int64_t j = 0; j < pixels; j++) {
                                dq += ds[i * pixels + j] * k[j * c + e];
                                dk += ds[j * pixels + i] * q[j * c + e];
                                dv += (double)p[j * pixels + i] * d_o[j * c + e];
                        }
                        ((float *)a->dq)[at] = (float)dq;
                        ((float *)a->dk)[at] = (float)dk;
                        ((float *)a->dv)[at] = (float)dv;
                }
        }
        return 0;
}
