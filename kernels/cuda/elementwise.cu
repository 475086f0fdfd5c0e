/* What is done value by value, and the mean over a row. Sums and functions in double, rounded once; where a step's maps
 * pass through (add, swish, copies) the memory is what takes the time. */
#include "kernels/cuda/cuda.h"

namespace
{

template <class T>
__global__ void __launch_bounds__(BLOCK) swish_forward(int64_t n, const T *x, const float *x_low, T *y, float *y_low)
{
        FOR_EACH(i, n)
        {
                const double v = (double)widen(x[i]) + (x_low ? x_low[i] : 0), u = v * sigmoid(v);

                y[i] = narrow_double<T>(u);
                if (y_low)
                        y_low[i] = (float)(u - (double)widen(y[i]));
        }
}

template <class T> __global__ void __launch_bounds__(BLOCK) swish_backward(int64_t n, const T *x, const T *dy, T *dx)
{
        FOR_EACH(i, n)
        {
                const double v = widen(x[i]), s = sigmoid(v);

                dx[i] = narrow_double<T>(widen(dy[i]) * (s + v * s * (1 - s)));
        }
}

template <class T> __global__ void __launch_bounds__(BLOCK) relu_forward(int64_t n, const T *x, T *y)
{
        FOR_EACH(i, n)
        y[i] = widen(x[i]) > 0 ? x[i] : narrow<T>(0);
}

template <class T> __global__ void __launch_bounds__(BLOCK) relu_backward(int64_t n, const T *x, const T *dy, T *dx)
{
        FOR_EACH(i, n)
        dx[i] = widen(x[i]) > 0 ? dy[i] : narrow<T>(0);
}

__global__ void __launch_bounds__(BLOCK) repeat_forward(struct repeat_forward_args a)
{
        FOR_EACH(i, a.m * a.pixels * a.c)
        {
                const int64_t row = i / a.c, j = i % a.c;

                a.y[row * a.y_stride + j] = a.x[row / a.pixels * a.c + j];
        }
}

/* A value a thread: neighbours read neighbours, pixel by pixel. */
__global__ void __launch_bounds__(BLOCK) repeat_backward(struct repeat_backward_args a)
{
        FOR_EACH(i, a.m * a.c)
        {
                double sum = a.accumulate ? a.dx[i] : 0;

                for (int64_t p = 0; p < a.pixels; p++)
                        sum += (double)a.dy[(i / a.c * a.pixels + p) * a.dy_stride + i % a.c];
                a.dx[i] = (float)sum;
        }
}

template <class T> __global__ void __launch_bounds__(BLOCK) add(int64_t n, const T *x, T *y)
{
        FOR_EACH(i, n)
        y[i] = narrow<T>(widen(y[i]) + widen(x[i]));
}

/* The same, 16 bytes a thread. */
template <class T> __global__ void __launch_bounds__(BLOCK) add_wide(int64_t n, const T *x, T *y)
{
        constexpr int V = 16 / sizeof(T);

        FOR_EACH(i, n / V)
        {
                const vector<T, V> a = load<T, V>(x + i * V);
                vector<T, V> b = load<T, V>(y + i * V);

                for (int e = 0; e < V; e++)
                        b.v[e] = narrow<T>(widen(b.v[e]) + widen(a.v[e]));
                store<T, V>(y + i * V, b);
        }
}

template <class X, class Y> struct copy_2d {
        int64_t rows, columns;
        const X *x;
        int64_t x_stride;
        Y *y;
        int64_t y_stride;
        bool accumulate;
        float scale, shift;
};

/* As the reference: product and sums in double, rounded once. */
template <class X, class Y> __global__ void __launch_bounds__(BLOCK) copy_values(copy_2d<X, Y> a)
{
        FOR_EACH(i, a.rows * a.columns)
        {
                const int64_t row = i / a.columns, column = i % a.columns, at = row * a.y_stride + column;
                const double v = (double)widen(a.x[row * a.x_stride + column]) * a.scale + a.shift;

                a.y[at] = narrow_double<Y>(a.accumulate ? (double)widen(a.y[at]) + v : v);
        }
}

template <class X, class Y> void copy_run(struct stream *s, const struct copy_2d_args *a)
{
        const copy_2d<X, Y> c = {a->rows,     a->columns,    (const X *)a->x, a->x_stride, (Y *)a->y,
                                 a->y_stride, a->accumulate, a->scale,        a->shift};

        RUN(s, "copy_2d", (copy_values<X, Y>), grid_of(a->rows * a->columns), BLOCK, 0, c);
}

__global__ void __launch_bounds__(BLOCK) fill(int64_t n, float value, float *y)
{
        FOR_EACH(i, n)
        y[i] = value;
}

__global__ void __launch_bounds__(BLOCK) abs_forward(int64_t n, const float *x, float *y)
{
        FOR_EACH(i, n)
        y[i] = fabsf(x[i]);
}

__global__ void __launch_bounds__(BLOCK)
        abs_backward(int64_t n, const float *x, const float *dy, float *dx, bool accumulate)
{
        FOR_EACH(i, n)
        {
                const float d = x[i] > 0 ? dy[i] : x[i] < 0 ? -dy[i] : 0;

                dx[i] = accumulate ? dx[i] + d : d;
        }
}

/* A block a row. */
__global__ void __launch_bounds__(BLOCK)
        row_mean_forward(int64_t n, const float *x, const float *x_low, float *y, float *y_low)
{
        const int64_t row = blockIdx.x;
        double sum = 0;

        for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
                sum += pair(x, x_low, row * n + j);
        sum = block_sum(sum);
        if (threadIdx.x == 0)
                set_pair(y, y_low, row, sum / (double)n);
}

__global__ void __launch_bounds__(BLOCK) row_mean_backward(int64_t m, int64_t n, const float *dy, float *dx)
{
        FOR_EACH(i, m * n)
        dx[i] = (float)(dx[i] + (double)dy[i / n] / (double)n);
}

__global__ void __launch_bounds__(BLOCK) encode_image(int64_t n, const uint8_t *x, float *f)
{
        FOR_EACH(i, n)
        f[i] = 2 * ((float)x[i] + 0.5f) / 256 - 1;
}
} // namespace

void cuda_swish_forward(struct stream *s, const struct swish_forward_args *a)
{
        if (a->type == DTYPE_BF16)
                RUN(s, "swish_forward", swish_forward<bf16>, grid_of(a->n), BLOCK, 0, a->n, (const bf16 *)a->x,
                    a->x_low, (bf16 *)a->y, a->y_low);
        else
                RUN(s, "swish_forward", swish_forward<float>, grid_of(a->n), BLOCK, 0, a->n, (const float *)a->x,
                    a->x_low, (float *)a->y, a->y_low);
}

void cuda_swish_backward(struct stream *s, const struct swish_backward_args *a)
{
        if (a->type == DTYPE_BF16)
                RUN(s, "swish_backward", swish_backward<bf16>, grid_of(a->n), BLOCK, 0, a->n, (const bf16 *)a->x,
                    (const bf16 *)a->dy, (bf16 *)a->dx);
        else
                RUN(s, "swish_backward", swish_backward<float>, grid_of(a->n), BLOCK, 0, a->n, (const float *)a->x,
                    (const float *)a->dy, (float *)a->dx);
}

namespace
{

template <class T> void add_run(struct stream *s, const struct add_args *a)
{
        if (a->n * (int64_t)sizeof(T) % 16 == 0)
                RUN(s, "add", add_wide<T>, grid_of(a->n * (int64_t)sizeof(T) / 16), BLOCK, 0, a->n, (const T *)a->x,
                    (T *)a->y);
        else
                RUN(s, "add", add<T>, grid_of(a->n), BLOCK, 0, a->n, (const T *)a->x, (T *)a->y);
}
} // namespace

void cuda_add(struct stream *s, const struct add_args *a)
{
        if (a->type == DTYPE_BF16)
                add_run<bf16>(s, a);
        else
                add_run<float>(s, a);
}

void cuda_relu_forward(struct stream *s, const struct relu_forward_args *a)
{
        if (a->type == DTYPE_BF16)
                RUN(s, "relu_forward", relu_forward<bf16>, grid_of(a->n), BLOCK, 0, a->n, (const bf16 *)a->x,
                    (bf16 *)a->y);
        else
                RUN(s, "relu_forward", relu_forward<float>, grid_of(a->n), BLOCK, 0, a->n, (const float *)a->x,
                    (float *)a->y);
}

void cuda_relu_backward(struct stream *s, const struct relu_backward_args *a)
{
        if (a->type == DTYPE_BF16)
                RUN(s, "relu_backward", relu_backward<bf16>, grid_of(a->n), BLOCK, 0, a->n, (const bf16 *)a->x,
                    (const bf16 *)a->dy, (bf16 *)a->dx);
        else
                RUN(s, "relu_backward", relu_backward<float>, grid_of(a->n), BLOCK, 0, a->n, (const float *)a->x,
                    (const float *)a->dy, (float *)a->dx);
}

void cuda_repeat_forward(struct stream *s, const struct repeat_forward_args *a)
{
        RUN(s, "repeat_forward", repeat_forward, grid_of(a->m * a->pixels * a->c), BLOCK, 0, *a);
}

void cuda_repeat_backward(struct stream *s, const struct repeat_backward_args *a)
{
        RUN(s, "repeat_backward", repeat_backward, grid_of(a->m * a->c), BLOCK, 0, *a);
}

void cuda_copy_2d(struct stream *s, const struct copy_2d_args *a)
{
        const bool from = a->x_type == DTYPE_BF16, to = a->y_type == DTYPE_BF16;

        if (from && to)
                copy_run<bf16, bf16>(s, a);
        else if (from)
                copy_run<bf16, float>(s, a);
        else if (to)
                copy_run<float, bf16>(s, a);
        else
                copy_run<float, float>(s, a);
}

void cuda_fill(struct stream *s, const struct fill_args *a)
{
        RUN(s, "fill", fill, grid_of(a->n), BLOCK, 0, a->n, a->value, a->y);
}

void cuda_abs_forward(struct stream *s, const struct abs_forward_args *a)
{
        RUN(s, "abs_forward", abs_forward, grid_of(a->n), BLOCK, 0, a->n, a->x, a->y);
}

void cuda_abs_backward(struct stream *s, const struct abs_backward_args *a)
{
        RUN(s, "abs_backward", abs_backward, grid_of(a->n), BLOCK, 0, a->n, a->x, a->dy, a->dx, a->accumulate);
}

void cuda_row_mean_forward(struct stream *s, const struct row_mean_forward_args *a)
{
        RUN(s, "row_mean_forward", row_mean_forward, (unsigned)a->m, BLOCK, 0, a->n, a->x, a->x_low, a->y, a->y_low);
}

void cuda_row_mean_backward(struct stream *s, const struct row_mean_backward_args *a)
{
        RUN(s, "row_mean_backward", row_mean_backward, grid_of(a->m * a->n), BLOCK, 0, a->m, a->n, a->dy, a->dx);
}

void cuda_encode_image(struct stream *s, const struct encode_image_args *a)
{
        RUN(s, "encode_image", encode_image, grid_of(a->n), BLOCK, 0, a->n, a->x, a->f);
}
