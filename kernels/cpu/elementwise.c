/* What is done value by value, bound by memory, and the mean over a row. */
#include "kernels/cpu/simd.h"
#include "kernels/reference/reference.h"

_inline_ void swish_values(enum dtype type, const struct swish_forward_args *a)
{
#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                value_store(type, a->y, i, fast_swishf(value_load(type, a->x, i)));
}

int V(swish_forward)(const struct swish_forward_args *a)
{
        if (a->x_low || a->y_low)
                return reference_swish_forward(a);
        if (a->type == DTYPE_BF16)
                swish_values(DTYPE_BF16, a);
        else
                swish_values(DTYPE_FLOAT32, a);
        return 0;
}

_inline_ void swish_slopes(enum dtype type, const struct swish_backward_args *a)
{
#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++)
                value_store(type, a->dx, i, value_load(type, a->dy, i) * fast_swish_slopef(value_load(type, a->x, i)));
}

int V(swish_backward)(const struct swish_backward_args *a)
{
        if (a->type == DTYPE_BF16)
                swish_slopes(DTYPE_BF16, a);
        else
                swish_slopes(DTYPE_FLOAT32, a);
        return 0;
}

_inline_ void add_piece(enum dtype type, const void *x, void *y, int64_t n)
{
        int64_t i = 0;

        for (; i + LANES <= n; i += LANES)
                values_store(type, y, i, values_load(type, y, i) + values_load(type, x, i));
        for (; i < n; i++)
                value_store(type, y, i, value_load(type, y, i) + value_load(type, x, i));
}

_inline_ void add_values(enum dtype type, const struct add_args *a)
{
#pragma omp parallel for schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i += PIECE)
                add_piece(type, value_address(type, a->x, i), (void *)value_address(type, a->y, i),
                          MIN(a->n - i, (int64_t)PIECE));
}

int V(add)(const struct add_args *a)
{
        if (a->type == DTYPE_BF16)
                add_values(DTYPE_BF16, a);
        else
                add_values(DTYPE_FLOAT32, a);
        return 0;
}

_inline_ void copy_row(enum dtype x_type, enum dtype y_type, const void *restrict x, void *restrict y, int64_t n,
                       float scale, float shift, bool accumulate)
{
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
                float v = value_load(x_type, x, j) * scale + shift;

                value_store(y_type, y, j, accumulate ? value_load(y_type, y, j) + v : v);
        }
}

_inline_ void copy_rows(enum dtype x_type, enum dtype y_type, const struct copy_2d_args *a)
{
#pragma omp parallel for schedule(static) if (a->rows * a->columns > PARALLEL_MIN)
        for (int64_t i = 0; i < a->rows; i++) {
                const void *x = value_address(x_type, a->x, i * a->x_stride);
                void *y = (void *)value_address(y_type, a->y, i * a->y_stride);

                if (a->accumulate)
                        copy_row(x_type, y_type, x, y, a->columns, a->scale, a->shift, true);
                else
                        copy_row(x_type, y_type, x, y, a->columns, a->scale, a->shift, false);
        }
}

int V(copy_2d)(const struct copy_2d_args *a)
{
        if (a->x_type == DTYPE_BF16 && a->y_type == DTYPE_BF16)
                copy_rows(DTYPE_BF16, DTYPE_BF16, a);
        else if (a->x_type == DTYPE_BF16)
                copy_rows(DTYPE_BF16, DTYPE_FLOAT32, a);
        else if (a->y_type == DTYPE_BF16)
                copy_rows(DTYPE_FLOAT32, DTYPE_BF16, a);
        else
                copy_rows(DTYPE_FLOAT32, DTYPE_FLOAT32, a);
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
