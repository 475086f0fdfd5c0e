/* The matrix instruction that this back end uses: d = a b + d of one warp, a 16 x 16 by rows, b 16 x 8 by columns, of
 * bf16, d of float. With group = lane / 4 and pair = lane % 4 a lane has
 *   a[0], a[1]: columns 2 pair, 2 pair + 1 of rows group and group + 8; a[2], a[3]: the same of columns + 8
 *   b[0], b[1]: rows 2 pair, 2 pair + 1 (+ 8) of column group
 *   d[0], d[1]: columns 2 pair, 2 pair + 1 of row group; d[2], d[3]: of row group + 8
 * two bf16 a word, the first one low. So a d, rounded, is what the next product has as its a. */
#pragma once

#include "kernels/cuda/cuda.h"

namespace
{

#ifdef __CUDACC__
__device__ inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                     "{%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
/* The same by what every lane gives. */
struct mma_operands {
        uint32_t a[4], b[2];
};

inline float mma_half(uint32_t word, int k)
{
        return __uint_as_float(k % 2 ? word & 0xffff0000u : word << 16);
}

inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_AT)
{
        const mma_operands mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
        const unsigned char *all = emu_exchange(~0u, &mine, sizeof mine, "mma", file, line);
        const int group = (int)threadIdx.x % 32 / 4, pair = (int)threadIdx.x % 4;

        for (int i = 0; i < 4; i++) {
                const int row = group + i / 2 * 8, column = 2 * pair + i % 2;

                for (int k = 0; k < 16; k++) {
                        mma_operands of_a, of_b;

                        std::memcpy(&of_a, all + (row % 8 * 4 + k % 8 / 2) * EMU_EXCHANGE_BYTES, sizeof of_a);
                        std::memcpy(&of_b, all + (column * 4 + k % 8 / 2) * EMU_EXCHANGE_BYTES, sizeof of_b);
                        d[i] += mma_half(of_a.a[k / 8 * 2 + row / 8], k) * mma_half(of_b.b[k / 8], k);
                }
        }
}
#endif

__device__ inline uint32_t two_bf16(float low, float high)
{
        const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
        uint32_t word;

        memcpy(&word, &v, sizeof word);
        return word;
}

/* Two neighbouring values of shared memory, the first at an even place. */
__device__ inline uint32_t word_at(const bf16 *p)
{
        return *reinterpret_cast<const uint32_t *>(p);
}

/* a of rows row .. row + 15, columns k .. k + 15 of a tile whose rows are `stride` apart. */
__device__ inline void mma_load_a(uint32_t a[4], const bf16 *tile, int stride, int row, int k)
{
        const int group = (int)threadIdx.x % 32 / 4, pair = (int)threadIdx.x % 4;
        const bf16 *const p = tile + (row + group) * stride + k + 2 * pair;

        a[0] = word_at(p);
        a[1] = word_at(p + 8 * stride);
        a[2] = word_at(p + 8);
        a[3] = word_at(p + 8 * stride + 8);
}

/* b of columns column .. column + 7, rows k .. k + 15, of a tile that is kept by columns: [column, k]. */
__device__ inline void mma_load_b(uint32_t b[2], const bf16 *tile, int stride, int column, int k)
{
        const int group = (int)threadIdx.x % 32 / 4, pair = (int)threadIdx.x % 4;
        const bf16 *const p = tile + (column + group) * stride + k + 2 * pair;

        b[0] = word_at(p);
        b[1] = word_at(p + 8);
}
} // namespace
