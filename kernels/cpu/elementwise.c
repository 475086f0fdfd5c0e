/* What is done value by value, bound by memory, and the mean over a row. */
#include "kernels/cpu/vector.h"
#include "kernels/reference/reference.h"

static int swish_forward_bf16(const struct swish_forward_args *a)
{
        const uint16_t *x = a->x;
        uint16_t *y = a->y;

#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                y[i] = bf16_round(fast_swishf(bf16_widen(x[i])));
        return 0;
}

int V(swish_forward)(const struct swish_forward_args *a)
{
        const float *x = a->x;
        float *y = a->y;

        if (a->x_low || a->y_low)
                return reference_swish_forward(a);
        if (a->type == DTYPE_BF16)
                return swish_forward_bf16(a);
#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                y[i] = fast_swishf(x[i]);
        return 0;
}

static int swish_backward_bf16(const struct swish_backward_args *a)
{
        const uint16_t *x = a->x, *dy = a->dy;
        uint16_t *dx = a->dx;

#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                dx[i] = bf16_round(bf16_widen(dy[i]) * fast_swish_slopef(bf16_widen(x[i])));
        return 0;
}

int V(swish_backward)(const struct swish_backward_args *a)
{
        const float *x = a->x, *dy = a->dy;
        float *dx = a->dx;

        if (a->type == DTYPE_BF16)
                return swish_backward_bf16(a);
#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                dx[i] = dy[i] * fast_swish_slopef(x[i]);
        return 0;
}

static int add_bf16(const struct add_args *a)
{
        const uint16_t *x = a->x;
        uint16_t *y = a->y;

#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                y[i] = bf16_round(bf16_widen(y[i]) + bf16_widen(x[i]));
        return 0;
}

int V(add)(const struct add_args *a)
{
        const float *x = a->x;
        float *y = a->y;

        if (a->type == DTYPE_BF16)
                return add_bf16(a);
#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                y[i] += x[i];
        return 0;
}

_inline_ float load(enum dtype type, const void *x, int64_t i)
{
        return type == DTYPE_BF16 ? bf16_widen(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

_inline_ void store(enum dtype type, void *y, int64_t i, float v)
{
        if (type == DTYPE_BF16)
                ((uint16_t *)y)[i] = bf16_round(v);
        else
                ((float *)y)[i] = v;
}

/* Rows of types that are known when it is compiled. */
_inline_ int copy_rows(const struct copy_2d_args *a, enum dtype x_type, enum dtype y_type)
{
        float scale = a->scale, shift = a->shift;
        bool accumulate = a->accumulate;

#pragma omp parallel for schedule(static) if (a->rows * a->columns > PARALLEL_MIN)
        for (int64_t i = 0; i < a->rows; i++)
                for (int64_t j = 0; j < a->columns; j++) {
                        int64_t at = i * a->y_stride + j;
                        float v = load(x_type, a->x, i * a->x_stride + j) * scale + shift;

                        store(y_type, a->y, at, accumulate ? load(y_type, a->y, at) + v : v);
                }
        return 0;
}

int V(copy_2d)(const struct copy_2d_args *a)
{
        float scale = a->scale, shift = a->shift;

        if (a->x_type == DTYPE_BF16)
                return a->y_type == DTYPE_BF16 ? copy_rows(a, DTYPE_BF16, DTYPE_BF16)
                                               : copy_rows(a, DTYPE_BF16, DTYPE_FLOAT32);
        if (a->y_type == DTYPE_BF16)
                return copy_rows(a, DTYPE_FLOAT32, DTYPE_BF16);
#pragma omp parallel for schedule(static) if (a->rows * a->columns > PARALLEL_MIN)
        for (int64_t i = 0; i < a->rows; i++) {
                const float *x = (const float *)a->x + i * a->x_stride;
                float *y = (float *)a->y + i * a->y_stride;

                if (a->accumulate)
#pragma omp simd
                        for (int64_t j = 0; j < a->columns; j++)
                                y[j] += x[j] * scale + shift;
                else
#pragma omp simd
                        for (int64_t j = 0; j < a->columns; j++)
                                y[j] = x[j] * scale + shift;
        }
        return 0;
}

int V(fill)(const struct fill_args *a)
{
        float *y = a->y, value = a->value;

#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                y[i] = value;
        return 0;
}

int V(abs_forward)(const struct abs_forward_args *a)
{
        const float *x = a->x;
        float *y = a->y;

#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                y[i] = __builtin_fabsf(x[i]);
        return 0;
}

int V(abs_backward)(const struct abs_backward_args *a)
{
        const float *x = a->x, *dy = a->dy;
        float *dx = a->dx;

        if (!a->accumulate) {
#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
                for (int64_t i = 0; i < a->n; i++)
                        dx[i] = x[i] > 0 ? dy[i] : x[i] < 0 ? -dy[i] : 0;
                return 0;
        }
#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                dx[i] += x[i] > 0 ? dy[i] : x[i] < 0 ? -dy[i] : 0;
        return 0;
}

int V(row_mean_forward)(const struct row_mean_forward_args *a)
{
        if (a->x_low || a->y_low)
                return reference_row_mean_forward(a);
#pragma omp parallel for schedule(static) if (a->m * a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->m; i++) {
                const float *x = a->x + i * a->n;
                double sum = 0;

#pragma omp simd reduction(+ : sum)
                for (int64_t j = 0; j < a->n; j++)
                        sum += x[j];
                a->y[i] = (float)(sum / (double)a->n);
        }
        return 0;
}

int V(row_mean_backward)(const struct row_mean_backward_args *a)
{
#pragma omp parallel for schedule(static) if (a->m * a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->m; i++) {
                float *dx = a->dx + i * a->n, d = (float)((double)a->dy[i] / (double)a->n);

#pragma omp simd
                for (int64_t j = 0; j < a->n; j++)
                        dx[j] += d;
        }
        return 0;
}

int V(encode_image)(const struct encode_image_args *a)
{
        const uint8_t *x = a->x;
        float *f = a->f;

#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                f[i] = ((float)x[i] + 0.5f) * 0.0078125f - 1.0f; /* exact */
        return 0;
}
