/* Matrix products of any shape: C(i, j) = sum over k of A(i, k) B(k, j), with A, B and C given by objects, so that
 * convolutions and dense layers of every direction are one kernel. Tiles of 64 x N, TILE_K deep, in shared memory; a
 * thread adds up 4 rows of one to four columns. Sums are of type Sum, of FOLD_K products in order and then of those,
 * within a slice of k (blockIdx.z); product_collect adds slices up in double. No tensor cores: cuDNN has those, this is
 * for what it lacks.
 *
 * A: `float at(int i, int k)`; K_FIRST: neighbours in memory are neighbours in k. B likewise, at(k, j).
 * C: `void set(int i, int j, int slice, Sum)`. */
#pragma once

#include "kernels/cuda/cuda.h"

namespace
{

enum { TILE_M = 64, TILE_K = 16, FOLD_K = 128, SLICE_K = 2048 };

template <class Sum, int N, class A, class B, class C>
__global__ void __launch_bounds__(BLOCK) product_tile(A a, B b, C c, int m, int n, int k, int slice_k)
{
        constexpr int COLUMNS = N / 16; /* a thread's */
        SHARED(Sum, as, [TILE_K][TILE_M + 4]);
        SHARED(Sum, bs, [TILE_K][N + 4]);
        const int t = threadIdx.x, i0 = (int)blockIdx.x * TILE_M, j0 = (int)blockIdx.y * N;
        const int row = t / 16 * 4, column = t % 16 * COLUMNS;
        const int begin = (int)blockIdx.z * slice_k, end = min(k, begin + slice_k);
        Sum sum[4][COLUMNS] = {}, part[4][COLUMNS] = {};

        for (int k0 = begin; k0 < end; k0 += TILE_K) {
                for (int e = t; e < TILE_K * TILE_M; e += BLOCK) {
                        const int l = A::K_FIRST ? e % TILE_K : e / TILE_M, i = A::K_FIRST ? e / TILE_K : e % TILE_M;

                        as[l][i] = i0 + i < m && k0 + l < end ? a.at(i0 + i, k0 + l) : 0;
                }
                for (int e = t; e < TILE_K * N; e += BLOCK) {
                        const int l = B::K_FIRST ? e % TILE_K : e / N, j = B::K_FIRST ? e / TILE_K : e % N;

                        bs[l][j] = j0 + j < n && k0 + l < end ? b.at(k0 + l, j0 + j) : 0;
                }
                __syncthreads();
#pragma unroll
                for (int l = 0; l < TILE_K; l++)
                        for (int y = 0; y < 4; y++)
                                for (int x = 0; x < COLUMNS; x++)
                                        part[y][x] += as[l][row + y] * bs[l][column + x];
                for (int y = 0; y < 4 && (k0 - begin + TILE_K) % FOLD_K == 0; y++)
                        for (int x = 0; x < COLUMNS; x++) {
                                sum[y][x] += part[y][x];
                                part[y][x] = 0;
                        }
                __syncthreads();
        }
        for (int y = 0; y < 4; y++)
                for (int x = 0; x < COLUMNS; x++)
                        if (i0 + row + y < m && j0 + column + x < n)
                                c.set(i0 + row + y, j0 + column + x, (int)blockIdx.z, sum[y][x] + part[y][x]);
}

/* Partial sums of slices, [slices, m, n]. */
template <class Sum> struct product_partial {
        Sum *p;
        int m, n;
        __device__ void set(int i, int j, int slice, Sum v)
        {
                p[((int64_t)slice * m + i) * n + j] = v;
        }
        __device__ void set_two(int i, int j, int slice, Sum v, Sum w)
        {
                set(i, j, slice, v);
                set(i, j + 1, slice, w);
        }
};

/* y (+)= sum over slices, in order. */
__global__ void __launch_bounds__(BLOCK)
        product_collect(const float *p, int64_t n, int slices, float *y, bool accumulate)
{
        FOR_EACH(i, n)
        {
                double sum = accumulate ? y[i] : 0;

                for (int s = 0; s < slices; s++)
                        sum += (double)p[(int64_t)s * n + i];
                y[i] = (float)sum;
        }
}

inline int product_slices(int64_t k)
{
        return (int)((k + SLICE_K - 1) / SLICE_K);
}

/* Bytes of the partial sums of an [m, n] product over k, float. */
inline size_t product_bytes(int64_t m, int64_t n, int64_t k)
{
        return sizeof(float) * (size_t)(m * n) * (size_t)product_slices(k);
}

template <class Sum, class A, class B, class C>
void product_run(struct stream *s, const char *op, A a, B b, C c, int64_t m, int64_t n, int64_t k, int slices)
{
        /* narrow tiles also where wide ones would leave multiprocessors idle */
        const int64_t wide = ((m + TILE_M - 1) / TILE_M) * ((n + 63) / 64) * slices;
        const int width = n <= 16 || wide < 132 ? 16 : 64;
        const int slice_k = (int)((k + slices - 1) / slices);
        const dim3 grid((unsigned)((m + TILE_M - 1) / TILE_M), (unsigned)((n + width - 1) / width), (unsigned)slices);

        if (width == 16)
                RUN(s, op, (product_tile<Sum, 16, A, B, C>), grid, BLOCK, 0, a, b, c, (int)m, (int)n, (int)k, slice_k);
        else
                RUN(s, op, (product_tile<Sum, 64, A, B, C>), grid, BLOCK, 0, a, b, c, (int)m, (int)n, (int)k, slice_k);
}

/* y [m, n] (+)= A B, by slices of k in `partial` (product_bytes). */
template <class A, class B>
void product_sliced(struct stream *s, const char *op, A a, B b, int64_t m, int64_t n, int64_t k, float *y,
                    bool accumulate, void *partial)
{
        const int slices = product_slices(k);
        const product_partial<float> c = {(float *)partial, (int)m, (int)n};

        product_run<float>(s, op, a, b, c, m, n, k, slices);
        RUN(s, op, product_collect, grid_of(m * n), BLOCK, 0, (const float *)partial, m * n, slices, y, accumulate);
}

/* ---- sums of columns, which are the gradients of biases: y [columns] (+)= sum over rows of x, in double */

enum { SUM_LANES = 16, SUM_ROWS = BLOCK / SUM_LANES, SUM_RUN = 8, SLICE_ROWS = 256 };
constexpr int64_t MAX_SUM_SLICES = 512; /* four blocks a multiprocessor */

/* A thread has V neighbouring columns of each line-th row; SUM_RUN rows are asked for together and added up in float,
 * those sums in double. */
template <class T, int V>
__global__ void __launch_bounds__(BLOCK) columns_partial(const T *x, int64_t rows, int64_t columns, double *partial)
{
        SHARED(double, sums, [SUM_ROWS][SUM_LANES * V]);
        const int lane = threadIdx.x % SUM_LANES, line = threadIdx.x / SUM_LANES;
        const int64_t column = ((int64_t)blockIdx.x * SUM_LANES + lane) * V, step = (int64_t)gridDim.y * SUM_ROWS;
        double sum[V] = {};

        for (int64_t i = (int64_t)blockIdx.y * SUM_ROWS + line; i < rows; i += SUM_RUN * step) {
                vector<T, V> x_of[SUM_RUN];
                float run[V] = {};

#pragma unroll
                for (int r = 0; r < SUM_RUN; r++) {
                        x_of[r] = {};
                        if (column < columns && i + r * step < rows)
                                x_of[r] = load<T, V>(x + (i + r * step) * columns + column);
                }
#pragma unroll
                for (int r = 0; r < SUM_RUN; r++) {
                        float wide[V];

                        widen(x_of[r], wide);
                        for (int e = 0; e < V; e++)
                                run[e] += wide[e];
                }
                for (int e = 0; e < V; e++)
                        sum[e] += (double)run[e];
        }
        for (int e = 0; e < V; e++)
                sums[line][lane * V + e] = sum[e];
        __syncthreads();
        for (int e = line; e < V && column < columns; e += SUM_ROWS) {
                double total = 0;

                for (int i = 0; i < SUM_ROWS; i++)
                        total += sums[i][lane * V + e];
                partial[(int64_t)blockIdx.y * columns + column + e] = total;
        }
}

/* y (+)= sum over slices of partial [slices, columns]: a lane a column, its lines share out the slices. */
__global__ void __launch_bounds__(BLOCK)
        columns_collect(const double *partial, int slices, int64_t columns, float *y, bool accumulate)
{
        SHARED(double, sums, [SUM_ROWS][SUM_LANES]);
        const int lane = threadIdx.x % SUM_LANES, line = threadIdx.x / SUM_LANES;
        const int64_t column = (int64_t)blockIdx.x * SUM_LANES + lane;
        double sum = 0;

#pragma unroll 8
        for (int i = line; i < slices; i += SUM_ROWS)
                sum += column < columns ? partial[i * columns + column] : 0;
        sums[line][lane] = sum;
        __syncthreads();
        if (line > 0 || column >= columns)
                return;
        sum = accumulate ? y[column] : 0;
        for (int i = 0; i < SUM_ROWS; i++)
                sum += sums[i][lane];
        y[column] = (float)sum;
}

template <class T>
void columns_sum(struct stream *s, const char *op, const T *x, int64_t rows, int64_t columns, float *y, bool accumulate)
{
        constexpr int V = 16 / sizeof(T);
        const int64_t fit = (int64_t)(SCRATCH_BYTES / sizeof(double)) / columns;
        const int64_t wanted = (rows + SLICE_ROWS - 1) / SLICE_ROWS, most = fit < MAX_SUM_SLICES ? fit : MAX_SUM_SLICES;
        const int slices = (int)(wanted < most ? wanted : most), width = SUM_LANES * (columns % V ? 1 : V);
        const dim3 grid((unsigned)((columns + width - 1) / width), (unsigned)slices);
        double *partial = (double *)stream_scratch(s);

        if (slices < 1) {
                stream_launched(s, op, cudaErrorInvalidValue); /* more than 131072 columns */
                return;
        }
        if (columns % V)
                RUN(s, op, (columns_partial<T, 1>), grid, BLOCK, 0, x, rows, columns, partial);
        else
                RUN(s, op, (columns_partial<T, V>), grid, BLOCK, 0, x, rows, columns, partial);
        RUN(s, op, columns_collect, (unsigned)((columns + SUM_LANES - 1) / SUM_LANES), BLOCK, 0,
            (const double *)partial, slices, columns, y, accumulate);
}
} // namespace
