/* The matrix instructions that this back end uses: d = a b + d of one warp, d of float. With group = lane / 4 and pair
 * = lane % 4 a lane has
 * - d[0], d[1]: columns 2 pair, 2 pair + 1 of row group; d[2], d[3]: of row group + 8
 *
 * Of bf16, a 16 x 16 by rows and b 16 x 8 by columns, two values a word, the first one low:
 * - a[0], a[1]: columns 2 pair, 2 pair + 1 of rows group and group + 8; a[2], a[3]: the same of columns + 8
 * - b[0], b[1]: rows 2 pair, 2 pair + 1 (+ 8) of column group
 *
 * So a d, rounded, is what the next product has as its a. Of tf32, a 16 x 8 and b 8 x 8, a value a word:
 * - a[0], a[1]: column pair of rows group and group + 8; a[2], a[3]: of column pair + 4
 * - b[0], b[1]: rows pair and pair + 4 of column group
 *
 * A d is an a there, too, whose columns stand as 0, 2, 4, 6, 1, 3, 5, 7: so must the rows of b. */
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

__device__ inline void mma_16x8x8(float d[4], const uint32_t a[4], const uint32_t b[2])
{
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                     "{%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* d += (high + low) (b_high + b_low) but for low b_low, the small ones first. */
__device__ inline void mma_split_16x8x8(float d[4], const uint32_t high[4], const uint32_t low[4],
                                        const uint32_t b_high[2], const uint32_t b_low[2])
{
        mma_16x8x8(d, low, b_high);
        mma_16x8x8(d, high, b_low);
        mma_16x8x8(d, high, b_high);
}

/* Four matrices of 8 x 8 of bf16 in shared memory: lane l says where row l % 8 of matrix l / 8 begins, at a multiple of
 * 16 bytes; one has of the first two, two of the others, columns 2 pair, 2 pair + 1 of row group; TURNED: rows 2 pair,
 * 2 pair + 1 of column group. */
template <bool TURNED> __device__ inline void load_matrices(uint32_t one[2], uint32_t two[2], const bf16 *row)
{
        const unsigned at = (unsigned)__cvta_generic_to_shared(row);

        if (TURNED)
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(one[0]), "=r"(one[1]), "=r"(two[0]), "=r"(two[1])
                             : "r"(at));
        else
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(one[0]), "=r"(one[1]), "=r"(two[0]), "=r"(two[1])
                             : "r"(at));
}

/* To the nearest tf32, ties away from zero. */
__device__ inline uint32_t tf32_of(float x)
{
        uint32_t word;

        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
        return word;
}
#else
inline void mma_16x8x16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_AT)
{
        emu_mma(EMU_MMA_BF16, d, a, nullptr, b, nullptr, file, line);
}

inline void mma_16x8x8(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_AT)
{
        emu_mma(EMU_MMA_TF32, d, a, nullptr, b, nullptr, file, line);
}

inline void mma_split_16x8x8(float d[4], const uint32_t high[4], const uint32_t low[4], const uint32_t b_high[2],
                             const uint32_t b_low[2], EMU_AT)
{
        emu_mma(EMU_MMA_SPLIT, d, high, low, b_high, b_low, file, line);
}

template <bool TURNED> inline void load_matrices(uint32_t one[2], uint32_t two[2], const bf16 *row, EMU_AT)
{
        const unsigned char *const all = emu_exchange(~0u, &row, sizeof row, "ldmatrix", file, line);
        const unsigned group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;

        if (reinterpret_cast<uintptr_t>(row) % 16 || !emu_shared_has(row, 16))
                emu_fault("ldmatrix of %p, which is not 16 bytes of shared memory (%s:%d)", row, file, line);
        for (unsigned j = 0; j < 4; j++) {
                const bf16 *rows[2]; /* of matrix j */
                uint32_t *const to = j < 2 ? &one[j] : &two[j - 2];

                for (unsigned i = 0; i < 2; i++)
                        std::memcpy(&rows[i], all + (8 * j + (TURNED ? 2 * pair + i : group)) * EMU_EXCHANGE_BYTES,
                                    sizeof rows[i]);
                if (TURNED) {
                        const vector<bf16, 2> v = {{rows[0][group], rows[1][group]}};

                        std::memcpy(to, &v, sizeof v);
                } else {
                        *to = *reinterpret_cast<const uint32_t *>(rows[0] + 2 * pair);
                }
        }
}

inline uint32_t tf32_of(float x)
{
        const uint32_t word = __float_as_uint(x);

        return std::isfinite(x) ? (word + 0x1000u) & ~0x1fffu : word;
}
#endif

/* What tf32_of leaves of a value, as a tf32 of its own. */
__device__ inline uint32_t tf32_rest(float x)
{
        return tf32_of(x - __uint_as_float(tf32_of(x)));
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
