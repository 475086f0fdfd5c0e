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

        r = host_check_attention(d, shape, true, err);
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

/* Of rows i and j, counted over all images, of two maps. */
static double dot(const struct attention_shape *s, const void *x, int64_t i, const void *y, int64_t j)
{
        double sum = 0;

        for (int64_t e = 0; e < s->c; e++)
                sum += value_at(s->type, x, i * s->c + e) * value_at(s->type, y, j * s->c + e);
        return sum;
}

int reference_attention_forward(const struct attention_forward_args *a)
{
        const struct attention_shape *s = &a->attention->shape;
        int64_t pixels = s->pixels, c = s->c;

#pragma omp parallel for schedule(static)
        for (int64_t image = 0; image < s->n_images; image++) {
                int64_t first = image * pixels;
                double *row = (double *)a->workspace + image * pixels;

                for (int64_t i = 0; i < pixels; i++) {
                        double max = -HUGE_VAL, sum = 0;

                        for (int64_t j = 0; j < pixels; j++) {
                                row[j] = dot(s, a->q, first + i, a->k, first + j) / sqrt((double)c);
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
                                        out += row[j] * value_at(s->type, a->v, (first + j) * c + e);
                                value_set(s->type, a->o, (first + i) * c + e, out);
                        }
                }
        }
        return 0;
}

/* ds of row i of an image whose first is `first` */
static void backward_scores(const struct attention_backward_args *a, int64_t first, int64_t i, const float *p,
                            double *ds)
{
        const struct attention_shape *s = &a->attention->shape;
        double sum = 0;

        for (int64_t j = 0; j < s->pixels; j++) {
                ds[j] = dot(s, a->d_o, first + i, a->v, first + j);
                sum += ds[j] * p[j];
        }
        for (int64_t j = 0; j < s->pixels; j++)
                ds[j] = p[j] * (ds[j] - sum) / sqrt((double)s->c);
}

int reference_attention_backward(const struct attention_backward_args *a)
{
        const struct attention_shape *s = &a->attention->shape;
        int64_t pixels = s->pixels, c = s->c;
        double *ds = a->workspace;

        for (int64_t image = 0; image < s->n_images; image++) {
                const float *p = (const float *)a->saved + image * pixels * pixels;

#pragma omp parallel for schedule(static)
                for (int64_t i = 0; i < pixels; i++)
                        backward_scores(a, image * pixels, i, p + i * pixels, ds + i * pixels);
#pragma omp parallel for schedule(static)
                for (int64_t t = 0; t < pixels * c; t++) {
                        int64_t i = t / c, e = t % c, at = image * pixels * c + t;
                        double dq = 0, dk = 0, dv = 0;

                        for (int64_t j = 0; j < pixels; j++) {
                                int64_t other = (image * pixels + j) * c + e;

                                dq += ds[i * pixels + j] * value_at(s->type, a->k, other);
                                dk += ds[j * pixels + i] * value_at(s->type, a->q, other);
                                dv += p[j * pixels + i] * value_at(s->type, a->d_o, other);
                        }
                        value_set(s->type, a->dq, at, dq);
                        value_set(s->type, a->dk, at, dk);
                        value_set(s->type, a->dv, at, dv);
                }
        }
        return 0;
}
