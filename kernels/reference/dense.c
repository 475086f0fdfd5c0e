/* y = x w + b and its gradients, sums in double. Spec 1. */
#include "kernels/reference/reference.h"

#include <errno.h>

#define BLOCK 64 /* columns summed side by side */

struct dense {
        struct dense_shape shape;
};

int reference_dense_new(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err)
{
        struct dense *x;
        int r;

        r = host_check_dense(d, shape, true, err);
        if (r < 0)
                return r;
        x = calloc(1, sizeof(*x));
        if (!x)
                return error_set(err, -ENOMEM, "", "out of memory");
        x->shape = *shape;
        *ret = x;
        return 0;
}

struct dense *reference_dense_free(struct dense *x)
{
        free(x);
        return NULL;
}

size_t reference_dense_workspace(const struct dense *x)
{
        (void)x;
        return 0;
}

int reference_dense_forward(const struct dense_forward_args *a)
{
        int64_t m = a->dense->shape.m, k = a->dense->shape.k, n = a->dense->shape.n;
        enum dtype type = a->dense->shape.type;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < m; i++)
                for (int64_t o = 0; o < n; o += BLOCK) {
                        int64_t width = MIN(n - o, (int64_t)BLOCK);
                        double sum[BLOCK] = {0};

                        for (int64_t l = 0; l < k; l++)
                                for (int64_t j = 0; j < width; j++)
                                        sum[j] +=
                                                value_at(type, a->x, i * k + l) * weight_at(type, a->w, l * n + o + j);
                        for (int64_t j = 0; j < width; j++) {
                                int64_t at = i * n + o + j;

                                value_set(type, a->y, at,
                                          sum[j] + (a->b ? a->b[o + j] : 0) +
                                                  (a->accumulate ? value_at(type, a->y, at) : 0));
                        }
                }
        return 0;
}

int reference_dense_backward_data(const struct dense_backward_data_args *a)
{
        int64_t m = a->dense->shape.m, k = a->dense->shape.k, n = a->dense->shape.n;
        enum dtype type = a->dense->shape.type;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < m * k; i++) {
                double sum = a->accumulate ? value_at(type, a->dx, i) : 0;

                for (int64_t j = 0; j < n; j++)
                        sum += value_at(type, a->dy, i / k * n + j) * weight_at(type, a->w, i % k * n + j);
                value_set(type, a->dx, i, sum);
        }
        return 0;
}

int reference_dense_backward_weights(const struct dense_backward_weights_args *a)
{
        int64_t m = a->dense->shape.m, k = a->dense->shape.k, n = a->dense->shape.n;
        enum dtype type = a->dense->shape.type;

        /* row k of the loop is the bias: its "x" is one everywhere */
#pragma omp parallel for schedule(static)
        for (int64_t l = 0; l < k + (a->db ? 1 : 0); l++) {
                float *row = l < k ? a->dw + l * n : a->db;

                for (int64_t o = 0; o < n; o += BLOCK) {
                        int64_t width = MIN(n - o, (int64_t)BLOCK);
                        double sum[BLOCK] = {0};

                        for (int64_t i = 0; i < m; i++)
                                for (int64_t j = 0; j < width; j++)
                                        sum[j] += (l < k ? value_at(type, a->x, i * k + l) : 1.0) *
                                                  value_at(type, a->dy, i * n + o + j);
                        for (int64_t j = 0; j < width; j++)
                                row[o + j] = (float)(sum[j] + (a->accumulate ? row[o + j] : 0));
                }
        }
        return 0;
}

int reference_wide_dense_forward(const struct wide_dense_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t o = 0; o < a->n; o += BLOCK) {
                int64_t width = MIN(a->n - o, (int64_t)BLOCK);

                for (int64_t i = 0; i < a->m; i++) {
                        double sum[BLOCK] = {0};

                        for (int64_t l = 0; l < a->k; l++)
                                for (int64_t j = 0; j < width; j++)
                                        sum[j] += pair(a->x, a->x_low, i * a->k + l) * a->w[l * a->n + o + j];
                        for (int64_t j = 0; j < width; j++)
                                set_pair(a->y, a->y_low, i * a->n + o + j, sum[j] + (a->b ? a->b[o + j] : 0));
                }
        }
        return 0;
}
