/* Embeddings of time and of pixels, in double. Spec 1. */
#include "kernels/cuda/cuda.h"

#define TWO_PI 6.283185307179586476925

namespace
{

/* f_i of the time embedding: from 1 down to 1 / 10000 */
__device__ inline double frequency(int64_t i, int64_t half)
{
        return half > 1 ? exp(-(double)i * (log(10000.0) / (double)(half - 1))) : 1;
}

__global__ void __launch_bounds__(BLOCK) time_embedding_forward(struct time_embedding_forward_args a)
{
        const int64_t half = a.n / 2;

        FOR_EACH(i, a.m * half)
        {
                const int64_t row = i / half, j = i % half;
                const double angle = 1000 * (pair(a.g, a.g_low, row) - a.offset) * a.scale * frequency(j, half);

                a.y[row * a.y_stride + j] = (float)sin(angle);
                a.y[row * a.y_stride + half + j] = (float)cos(angle);
        }
}

/* A block a row. */
__global__ void __launch_bounds__(BLOCK) time_embedding_backward(struct time_embedding_backward_args a)
{
        const int64_t half = a.n / 2, row = blockIdx.x;
        const float *dy = a.dy + row * a.dy_stride;
        const double t = (pair(a.g, a.g_low, row) - a.offset) * a.scale;
        double sum = 0;

        for (int64_t j = threadIdx.x; j < half; j += blockDim.x) {
                const double f = 1000 * frequency(j, half);

                sum += f * (dy[j] * cos(t * f) - dy[half + j] * sin(t * f));
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0)
                a.dg[row] = (float)(sum * a.scale);
}

/* 2 pi frac(2^k z), k = 6 and 7. The product and the fraction are exact in float. */
__device__ inline double angle_of(float z, float z_low, int k)
{
        const float turns = z * (float)(1 << k);

        return TWO_PI * ((double)(turns - rintf(turns)) + (double)z_low * (1 << k));
}

template <class T>
__global__ void __launch_bounds__(BLOCK) fourier_forward(int64_t n_pixels, const float *z, const float *z_low, T *y)
{
        FOR_EACH(i, 3 * n_pixels)
        {
                const int64_t pixel = i / 3;
                const int c = (int)(i % 3);
                T *const to = y + 15 * pixel;

                to[c] = narrow<T>(z[i]);
                for (int k = 0; k < 2; k++) {
                        const double angle = angle_of(z[i], z_low ? z_low[i] : 0, 6 + k);

                        to[3 + 2 * c + k] = narrow_double<T>(sin(angle));
                        to[9 + 2 * c + k] = narrow_double<T>(cos(angle));
                }
        }
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
        fourier_backward(int64_t n_pixels, const float *z, const float *z_low, const T *dy, float *dz, bool accumulate)
{
        FOR_EACH(i, 3 * n_pixels)
        {
                const int c = (int)(i % 3);
                const T *const from = dy + 15 * (i / 3);
                double sum = widen(from[c]);

                for (int k = 0; k < 2; k++) {
                        const double angle = angle_of(z[i], z_low ? z_low[i] : 0, 6 + k);

                        sum += TWO_PI * (64 << k) *
                               (widen(from[3 + 2 * c + k]) * cos(angle) - widen(from[9 + 2 * c + k]) * sin(angle));
                }
                dz[i] = (float)(accumulate ? dz[i] + sum : sum);
        }
}
} // namespace

void cuda_time_embedding_forward(struct stream *s, const struct time_embedding_forward_args *a)
{
        RUN(s, "time_embedding_forward", time_embedding_forward, grid_of(a->m * (a->n / 2)), BLOCK, 0, *a);
}

void cuda_time_embedding_backward(struct stream *s, const struct time_embedding_backward_args *a)
{
        RUN(s, "time_embedding_backward", time_embedding_backward, (unsigned)a->m, BLOCK, 0, *a);
}

void cuda_fourier_forward(struct stream *s, const struct fourier_forward_args *a)
{
        if (a->type == DTYPE_BF16)
                RUN(s, "fourier_forward", fourier_forward<bf16>, grid_of(3 * a->n_pixels), BLOCK, 0, a->n_pixels, a->z,
                    a->z_low, (bf16 *)a->y);
        else
                RUN(s, "fourier_forward", fourier_forward<float>, grid_of(3 * a->n_pixels), BLOCK, 0, a->n_pixels, a->z,
                    a->z_low, (float *)a->y);
}

void cuda_fourier_backward(struct stream *s, const struct fourier_backward_args *a)
{
        if (a->type == DTYPE_BF16)
                RUN(s, "fourier_backward", fourier_backward<bf16>, grid_of(3 * a->n_pixels), BLOCK, 0, a->n_pixels,
                    a->z, a->z_low, (const bf16 *)a->dy, a->dz, a->accumulate);
        else
                RUN(s, "fourier_backward", fourier_backward<float>, grid_of(3 * a->n_pixels), BLOCK, 0, a->n_pixels,
                    a->z, a->z_low, (const float *)a->dy, a->dz, a->accumulate);
}
