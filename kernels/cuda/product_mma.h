/* Products of bf16 on tensor cores, sums in float: C(i, j) = sum over k of A(i, k) B(k, j), operands as in product.h.
 * A block has 128 x 64 values of C, its eight warps 32 x 32 each, MMA_K deep in shared memory; operands are rounded to
 * bf16 on the way there, the next tiles' wait in registers meanwhile. By slices of k (blockIdx.z) where they are asked
 * for.
 *
 * C also has `set_two`, of j and j + 1. Operands also have `bool eight(int i, int k, vector<bf16, 8> *)`: eight
 * neighbours in memory in one access, false where they do not lie so. */
#pragma once

#include "kernels/cuda/mma.h"
#include "kernels/cuda/product.h"

namespace
{

enum { MMA_M = 128, MMA_N = 64, MMA_K = 32, MMA_STRIDE = MMA_K + 8 }; /* rows begin in different banks */

/* Eight neighbours of an operand: at (i + e, k) or, where neighbours are along k, (i, k + e); zero outside of n x end.
 */
template <class Operand> __device__ inline vector<bf16, 8> eight_of(const Operand &x, int i, int k, int n, int end)
{
        constexpr bool ALONG_K = Operand::K_FIRST;
        vector<bf16, 8> v;

        if (i + (ALONG_K ? 0 : 7) < n && k + (ALONG_K ? 7 : 0) < end && x.eight(i, k, &v))
                return v;
        for (int e = 0; e < 8; e++) {
                const int row = i + (ALONG_K ? 0 : e), l = k + (ALONG_K ? e : 0);

                v.v[e] = narrow<bf16>(row < n && l < end ? x.outer(row, l) : 0);
        }
        return v;
}

/* What a thread brings of ROWS rows of an operand, MMA_K deep. */
template <int ROWS, class Operand> struct mma_part {
        static constexpr int EIGHTS = ROWS * MMA_K / 8 / BLOCK;
        vector<bf16, 8> v[EIGHTS];

        /* turned: a warp's stores go along k, each to a bank of its own */
        static __device__ int row(int e)
        {
                const int t = (int)threadIdx.x + e * BLOCK;

                return Operand::K_FIRST ? t / (MMA_K / 8) : t / MMA_K * 8;
        }
        static __device__ int depth(int e)
        {
                const int t = (int)threadIdx.x + e * BLOCK;

                return Operand::K_FIRST ? t % (MMA_K / 8) * 8 : t % MMA_K;
        }
        __device__ void fetch(const Operand &x, int i0, int k0, int n, int end)
        {
#pragma unroll
                for (int e = 0; e < EIGHTS; e++)
                        v[e] = eight_of(x, i0 + row(e), k0 + depth(e), n, end);
        }
        /* To shared memory, [row, k]. */
        __device__ void store(bf16 *to) const
        {
#pragma unroll
                for (int e = 0; e < EIGHTS; e++)
                        if (Operand::K_FIRST)
                                ::store<bf16, 8>(to + row(e) * MMA_STRIDE + depth(e), v[e]);
                        else
#pragma unroll
                                for (int i = 0; i < 8; i++)
                                        to[(row(e) + i) * MMA_STRIDE + depth(e)] = v[e].v[i];
        }
};

template <class A, class B, class C>
__global__ void __launch_bounds__(BLOCK) product_mma(A a, B b, C c, int m, int n, int k, int slice_k)
{
        SHARED(bf16, as, [MMA_M * MMA_STRIDE]);
        SHARED(bf16, bs, [MMA_N * MMA_STRIDE]);
        const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
        const int i0 = (int)blockIdx.x * MMA_M, j0 = (int)blockIdx.y * MMA_N;
        const int row = warp / 2 * 32, column = warp % 2 * 32;
        const int begin = (int)blockIdx.z * slice_k, end = min(k, begin + slice_k);
        float sum[2][4][4] = {};
        mma_part<MMA_M, A> next_a;
        mma_part<MMA_N, B> next_b;

        next_a.fetch(a, i0, begin, m, end);
        next_b.fetch(b, j0, begin, n, end);
        for (int k0 = begin; k0 < end; k0 += MMA_K) {
                next_a.store(as);
                next_b.store(bs);
                __syncthreads();
                next_a.fetch(a, i0, k0 + MMA_K, m, end);
                next_b.fetch(b, j0, k0 + MMA_K, n, end);
#pragma unroll
                for (int l = 0; l < MMA_K; l += 16) {
                        uint32_t fa[2][4], fb[4][2];

#pragma unroll
                        for (int y = 0; y < 2; y++)
                                mma_load_a(fa[y], as, MMA_STRIDE, row + 16 * y, l);
#pragma unroll
                        for (int x = 0; x < 4; x++)
                                mma_load_b(fb[x], bs, MMA_STRIDE, column + 8 * x, l);
#pragma unroll
                        for (int y = 0; y < 2; y++)
#pragma unroll
                                for (int x = 0; x < 4; x++)
                                        mma_16x8x16(sum[y][x], fa[y], fb[x]);
                }
                __syncthreads();
        }
#pragma unroll
        for (int y = 0; y < 2; y++)
#pragma unroll
                for (int x = 0; x < 4; x++)
#pragma unroll
                        for (int e = 0; e < 4; e += 2) {
                                const int i = i0 + row + 16 * y + group + e / 2 * 8, j = j0 + column + 8 * x + 2 * pair;

                                if (i < m && j + 1 < n)
                                        c.set_two(i, j, (int)blockIdx.z, sum[y][x][e], sum[y][x][e + 1]);
                                else if (i < m && j < n)
                                        c.set(i, j, (int)blockIdx.z, sum[y][x][e]);
                        }
}

template <class A, class B, class C>
void product_mma_run(struct stream *s, const char *op, A a, B b, C c, int64_t m, int64_t n, int64_t k, int slices)
{
        const int slice_k = (int)((k + slices - 1) / slices + MMA_K - 1) / MMA_K * MMA_K;
        const dim3 grid((unsigned)((m + MMA_M - 1) / MMA_M), (unsigned)((n + MMA_N - 1) / MMA_N), (unsigned)slices);

        RUN(s, op, (product_mma<A, B, C>), grid, BLOCK, 0, a, b, c, (int)m, (int)n, (int)k, slice_k);
}

/* y [m, n] (+)= A B, by slices of k in `partial` (product_bytes). */
template <class A, class B>
void product_mma_sliced(struct stream *s, const char *op, A a, B b, int64_t m, int64_t n, int64_t k, float *y,
                        bool accumulate, void *partial)
{
        const int slices = product_slices(k);
        const product_partial<float> c = {(float *)partial, (int)m, (int)n};

        if (slices == 1) {
                product_mma_run(s, op, a, b, product_sum{y, n, accumulate}, m, n, k, 1);
                return;
        }
        product_mma_run(s, op, a, b, c, m, n, k, slices);
        RUN(s, op, product_collect, grid_of(m * n), BLOCK, 0, (const float *)partial, m * n, slices, y, accumulate);
}
}
