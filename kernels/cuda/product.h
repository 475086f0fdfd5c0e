/* Matrix products of any shape: C(i, j) = sum over k of A(i, k) B(k, j), with A, B and C given by objects, so that
 * convolutions and dense layers of every direction are one kernel. Tiles of 64 x N, DEPTH deep, in shared memory, the
 * next ones on their way in registers meanwhile; a thread adds up 4 rows of one to four columns. Sums are of type Sum,
 * of FOLD_K products in order and then of those, within a slice of k (blockIdx.z); product_collect adds slices up in
 * double. No tensor cores: cuDNN has those, this is for what it lacks.
 *
 * A: `float at(int i, int k)`; K_FIRST: neighbours in memory are neighbours in k. B likewise, at(k, j).
 * C: `void set(int i, int j, int slice, Sum)`. */
#pragma once

#include "kernels/cuda/cuda.h"

namespace
{

enum { TILE_M = 64, FOLD_K = 128, SLICE_K = 2048 };

/* Doubles, four times as long under way as floats, have to be asked for earlier. */
template <class Sum> constexpr int DEPTH = sizeof(Sum) == sizeof(double) ? 32 : 16;
/* Rows padded so that the columns of a tile begin in different banks and stay at multiples of 16 bytes. */
template <class Sum> constexpr int PAD = 16 / sizeof(Sum);

/* What a thread brings of a tile of ROWS x DEPTH of A (LEFT) or B: neighbours in memory by neighbouring threads. */
template <class Sum, class Operand, bool LEFT, int ROWS> struct tile_part {
        static constexpr int VALUES = ROWS * DEPTH<Sum> / BLOCK;
        Sum v[VALUES];

        static __device__ int row(int e)
        {
                const int at = (int)threadIdx.x + e * BLOCK;

                return Operand::K_FIRST ? at / DEPTH<Sum> : at % ROWS;
        }
        static __device__ int depth(int e)
        {
                const int at = (int)threadIdx.x + e * BLOCK;

                return Operand::K_FIRST ? at % DEPTH<Sum> : at / ROWS;
        }
        /* Rows row0 .. below n, k0 .. below end; zeros beyond. */
        __device__ void fetch(const Operand &x, int row0, int n, int k0, int end)
        {
#pragma unroll
                for (int e = 0; e < VALUES; e++) {
                        const int i = row0 + row(e), l = k0 + depth(e);

                        v[e] = 0;
                        if (i < n && l < end)
                                v[e] = LEFT ? x.at(i, l) : x.at(l, i);
                }
        }
        __device__ void store(Sum (&to)[DEPTH<Sum>][ROWS + PAD<Sum>]) const
        {
#pragma unroll
                for (int e = 0; e < VALUES; e++)
                        to[depth(e)][row(e)] = v[e];
        }
};

template <class Sum, int N, class A, class B, class C>
__global__ void __launch_bounds__(BLOCK) product_tile(A a, B b, C c, int m, int n, int k, int slice_k)
{
        constexpr int COLUMNS = N / 16; /* a thread's */
        SHARED(Sum, as, [DEPTH<Sum>][TILE_M + PAD<Sum>]);
        SHARED(Sum, bs, [DEPTH<Sum>][N + PAD<Sum>]);
        const int t = threadIdx.x, i0 = (int)blockIdx.x * TILE_M, j0 = (int)blockIdx.y * N;
        const int row = t / 16 * 4, column = t % 16 * COLUMNS;
        const int begin = (int)blockIdx.z * slice_k, end = min(k, begin + slice_k);
        Sum sum[4][COLUMNS] = {}, part[4][COLUMNS] = {};
        tile_part<Sum, A, true, TILE_M> next_a;
        tile_part<Sum, B, false, N> next_b;

        next_a.fetch(a, i0, m, begin, end);
        next_b.fetch(b, j0, n, begin, end);
        for (int k0 = begin; k0 < end; k0 += DEPTH<Sum>) {
                next_a.store(as);
                next_b.store(bs);
                __syncthreads();
                next_a.fetch(a, i0, m, k0 + DEPTH<Sum>, end);
                next_b.fetch(b, j0, n, k0 + DEPTH<Sum>, end);
#pragma unroll
                for (int l = 0; l < DEPTH<Sum>; l++)
                        for (int y = 0; y < 4; y++)
                                for (int x = 0; x < COLUMNS; x++)
                                        part[y][x] += as[l][row + y] * bs[l][column + x];
                for (int y = 0; y < 4 && (k0 - begin + DEPTH<Sum>) % FOLD_K == 0; y++)
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

/* y (+)= the sum of the only slice. */
struct product_sum {
        float *y;
        int64_t n;
        bool accumulate;
        __device__ void set(int i, int j, int, float v)
        {
                float *const at = y + i * n + j;

                *at = accumulate ? *at + v : v;
        }
        __device__ void set_two(int i, int j, int slice, float v, float w)
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
inline size_t product_partial_bytes(int64_t m, int64_t n, int64_t k)
{
        return sizeof(float) * (size_t)(m * n) * (size_t)product_slices(k);
}

/* Of those, what the sliced products below keep: none where there is one slice. */
inline size_t product_bytes(int64_t m, int64_t n, int64_t k)
{
        return product_slices(k) == 1 ? 0 : product_partial_bytes(m, n, k);
}

/* WIDE: columns of a tile, but where those would leave most multiprocessors idle. */
template <class Sum, int WIDE = 64, class A, class B, class C>
void product_run(struct stream *s, const char *op, A a, B b, C c, int64_t m, int64_t n, int64_t k, int slices)
{
        const int64_t wide = ((m + TILE_M - 1) / TILE_M) * ((n + WIDE - 1) / WIDE) * slices;
        const int width = n <= 16 || wide < 132 / 2 ? 16 : WIDE;
        const int slice_k = (int)((k + slices - 1) / slices);
        const dim3 grid((unsigned)((m + TILE_M - 1) / TILE_M), (unsigned)((n + width - 1) / width), (unsigned)slices);

        if (width == 16)
                RUN(s, op, (product_tile<Sum, 16, A, B, C>), grid, BLOCK, 0, a, b, c, (int)m, (int)n, (int)k, slice_k);
        else
                RUN(s, op, (product_tile<Sum, WIDE, A, B, C>), grid, BLOCK, 0, a, b, c, (int)m, (int)n, (int)k,
                    slice_k);
}

/* y [m, n] (+)= A B, by slices of k in `partial` (product_bytes). */
template <class A, class B>
void product_sliced(struct stream *s, const char *op, A a, B b, int64_t m, int64_t n, int64_t k, float *y,
                    bool accumulate, void *partial)
{
        const int slices = product_slices(k);
        const product_partial<float> c = {(float *)partial, (int)m, (int)n};

        if (slices == 1) {
                product_run<float>(s, op, a, b, product_sum{y, n, accumulate}, m, n, k, 1);
                return;
        }
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
