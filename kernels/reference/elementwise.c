/* What is done value by value, and the mean over a row. */
#include "kernels/reference/reference.h"

#include <math.h>

int reference_swish_forward(const struct swish_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->n; i++) {
                double x = value_at(a->type, a->x, i) + (a->x_low ? a->x_low[i] : 0), y = x * sigmoid(x);

                value_set(a->type, a->y, i, y);
                if (a->y_low)
                        a->y_low[i] = (float)(y - (double)((const float *)a->y)[i]);
        }
        return 0;
}

int reference_swish_backward(const struct swish_backward_args *a)
{
        for (int64_t i = 0; i < a->n; i++) {
                double x = value_at(a->type, a->x, i), s = sigmoid(x);

                value_set(a->type, a->dx, i, value_at(a->type, a->dy, i) * (s + x * s * (1 - s)));
        }
        return 0;
}

int reference_relu_forward(const struct relu_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->n; i++) {
                double x = value_at(a->type, a->x, i);

                value_set(a->type, a->y, i, x > 0 ? x : 0);
        }
        return 0;
}

int reference_relu_backward(const struct relu_backward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->n; i++)
                value_set(a->type, a->dx, i, value_at(a->type, a->x, i) > 0 ? value_at(a->type, a->dy, i) : 0);
        return 0;
}

int reference_repeat_forward(const struct repeat_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->pixels; i++)
                for (int64_t j = 0; j < a->c; j++)
                        a->y[i * a->y_stride + j] = a->x[i / a->pixels * a->c + j];
        return 0;
}

int reference_repeat_backward(const struct repeat_backward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->c; i++) {
                double sum = a->accumulate ? a->dx[i] : 0;

                for (int64_t p = 0; p < a->pixels; p++)
                        sum += a->dy[(i / a->c * a->pixels + p) * a->dy_stride + i % a->c];
                a->dx[i] = (float)sum;
        }
        return 0;
}

int reference_add(const struct add_args *a)
{
        for (int64_t i = 0; i < a->n; i++)
                value_set(a->type, a->y, i, value_at(a->type, a->y, i) + value_at(a->type, a->x, i));
        return 0;
}

int reference_copy_2d(const struct copy_2d_args *a)
{
        for (int64_t i = 0; i < a->rows; i++)
                for (int64_t j = 0; j < a->columns; j++) {
                        double v = value_at(a->x_type, a->x, i * a->x_stride + j) * a->scale + a->shift;
                        int64_t at = i * a->y_stride + j;

                        value_set(a->y_type, a->y, at, a->accumulate ? value_at(a->y_type, a->y, at) + v : v);
                }
        return 0;
}

int reference_fill(const struct fill_args *a)
{
        for (int64_t i = 0; i < a->n; i++)
                a->y[i] = a->value;
        return 0;
}

int reference_abs_forward(const struct abs_forward_args *a)
{
        for (int64_t i = 0; i < a->n; i++)
                a->y[i] = fabsf(a->x[i]);
        return 0;
}

int reference_abs_backward(const struct abs_backward_args *a)
{
        for (int64_t i = 0; i < a->n; i++) {
                float d = a->x[i] > 0 ? a->dy[i] : a->x[i] < 0 ? -a->dy[i] : 0;

                a->dx[i] = a->accumulate ? a->dx[i] + d : d;
        }
        return 0;
}

int reference_row_mean_forward(const struct row_mean_forward_args *a)
{
        for (int64_t i = 0; i < a->m; i++) {
                double sum = 0;

                for (int64_t j = 0; j < a->n; j++)
                        sum += pair(a->x, a->x_low, i * a->n + j);
                set_pair(a->y, a->y_low, i, sum / (double)a->n);
        }
        return 0;
}

int reference_row_mean_backward(const struct row_mean_backward_args *a)
{
        for (int64_t i = 0; i < a->m; i++)
                for (int64_t j = 0; j < a->n; j++)
                        a->dx[i * a->n + j] = (float)(a->dx[i * a->n + j] + (double)a->dy[i] / (double)a->n);
        return 0;
}

int reference_encode_image(const struct encode_image_args *a)
{
        for (int64_t i = 0; i < a->n; i++)
                a->f[i] = 2 * ((float)a->x[i] + 0.5f) / 256 - 1;
        return 0;
}
