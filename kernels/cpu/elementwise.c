/* What is done value by value, bound by memory, and the mean over a row. */
#include "kernels/cpu/simd.h"
#include "kernels/reference/reference.h"

_inline_ void swish_piece(enum dtype type, const struct swish_forward_args *a, int64_t first, int64_t end)
{
        const void *x = a->x;
        void *y = a->y;

#pragma omp simd
        for (int64_t i = first; i < end; i++)
                value_store(type, y, i, fast_swishf(value_load(type, x, i)));
}

int V(swish_forward)(const struct swish_forward_args *a)
{
        if (a->x_low || a->y_low)
                return reference_swish_forward(a);
#pragma omp parallel for schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i += PIECE)
                OF_TYPE(a->type, swish_piece, a, i, MIN(a->n, i + PIECE));
        return 0;
}

_inline_ void swish_slope_piece(enum dtype type, const struct swish_backward_args *a, int64_t first, int64_t end)
{
        const void *x = a->x, *dy = a->dy;
        void *dx = a->dx;

#pragma omp simd
        for (int64_t i = first; i < end; i++)
                value_store(type, dx, i, value_load(type, dy, i) * fast_swish_slopef(value_load(type, x, i)));
}

int V(swish_backward)(const struct swish_backward_args *a)
{
#pragma omp parallel for schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i += PIECE)
                OF_TYPE(a->type, swish_slope_piece, a, i, MIN(a->n, i + PIECE));
        return 0;
}

_inline_ void add_piece(enum dtype type, const struct add_args *a, int64_t first, int64_t end)
{
        int64_t i = first;

        for (; i + LANES <= end; i += LANES)
                values_store(type, a->y, i, values_load(type, a->y, i) + values_load(type, a->x, i));
        for (; i < end; i++)
                value_store(type, a->y, i, value_load(type, a->y, i) + value_load(type, a->x, i));
}

int V(add)(const struct add_args *a)
{
#pragma omp parallel for schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i += PIECE)
                OF_TYPE(a->type, add_piece, a, i, MIN(a->n, i + PIECE));
        return 0;
}

_inline_ void copy_values(enum dtype x_type, enum dtype y_type, const void *restrict x, void *restrict y, int64_t n,
                          float scale, float shift, bool accumulate)
{
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
                float v = value_load(x_type, x, j) * scale + shift;

                value_store(y_type, y, j, accumulate ? value_load(y_type, y, j) + v : v);
        }
}

_inline_ void copy_row(enum dtype x_type, enum dtype y_type, const struct copy_2d_args *a, int64_t i, int64_t first,
                       int64_t n)
{
        const void *x = value_address(x_type, a->x, i * a->x_stride + first);
        void *y = (void *)value_address(y_type, a->y, i * a->y_stride + first);

        if (a->accumulate)
                copy_values(x_type, y_type, x, y, n, a->scale, a->shift, true);
        else
                copy_values(x_type, y_type, x, y, n, a->scale, a->shift, false);
}

#define COPY_FROM_BF16(y_type, ...) copy_row(DTYPE_BF16, y_type, __VA_ARGS__)
#define COPY_FROM_FLOAT32(y_type, ...) copy_row(DTYPE_FLOAT32, y_type, __VA_ARGS__)

int V(copy_2d)(const struct copy_2d_args *a)
{
#pragma omp parallel for schedule(static) collapse(2) if (a->rows * a->columns > PARALLEL_MIN)
        for (int64_t i = 0; i < a->rows; i++)
                for (int64_t j = 0; j < a->columns; j += PIECE)
                        if (a->x_type == DTYPE_BF16)
                                OF_TYPE(a->y_type, COPY_FROM_BF16, a, i, j, MIN(a->columns - j, (int64_t)PIECE));
                        else
                                OF_TYPE(a->y_type, COPY_FROM_FLOAT32, a, i, j, MIN(a->columns - j, (int64_t)PIECE));
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
