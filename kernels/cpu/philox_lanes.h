/* Philox side by side: philox.h's generator for many counters at once, in loops that the compiler vectorises. */
#pragma once

#include "kernels/cpu/vector.h"

#include <immintrin.h>

/* What is the same for all lanes: everything but counter[0]. */
struct philox_lanes {
        uint32_t c1, c2, c3, k0, k1;
};

_inline_ struct philox_lanes philox_lanes_of(const struct step_state *state, enum philox_stream stream, uint32_t block,
                                             uint64_t image)
{
        uint64_t step = (uint64_t)state->step;

        return (struct philox_lanes){
                .c1 = (uint32_t)image,
                .c2 = (uint32_t)step,
                .c3 = (uint32_t)(image >> 32 & 0xFFu) << 16 | (uint32_t)(step >> 32 & 0xFFFFu),
                .k0 = state->seed,
                .k1 = (uint32_t)stream << 16 | (block & 0xFFFFu),
        };
}

/* 64-bit lanes of 32-bit words: what is above the low half is ignored, so that a round is one 32 x 32 -> 64
 * multiplication, a shift and two exclusive ors for each pair of words, without moving anything between lanes. */
#if defined(__AVX512F__)
#define PHILOX_LANES 8
#define PHILOX_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define PHILOX_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define PHILOX_MULTIPLY(a, b) ((lanes)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#elif defined(__AVX2__)
#define PHILOX_LANES 4
#define PHILOX_LOW 0, 4, 1, 5
#define PHILOX_HIGH 2, 6, 3, 7
#define PHILOX_MULTIPLY(a, b) ((lanes)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#else
#define PHILOX_LANES 2
#define PHILOX_LOW 0, 2
#define PHILOX_HIGH 1, 3
#define PHILOX_MULTIPLY(a, b) ((lanes)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#endif

typedef uint64_t lanes __attribute__((vector_size(8 * PHILOX_LANES)));
typedef uint32_t half_lanes __attribute__((vector_size(4 * PHILOX_LANES)));

/* The four words for counter[0] = quads[0 .. PHILOX_LANES) to ret. */
_inline_ void philox_lanes_once(const struct philox_lanes *l, const uint32_t *quads, uint32_t *ret)
{
        lanes zero = {0}, c0, c1 = zero + l->c1, c2 = zero + l->c2, c3 = zero + l->c3, words[2];
        lanes m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
        uint32_t k0 = l->k0, k1 = l->k1;
        half_lanes counters;

        memcpy(&counters, quads, sizeof(counters));
        c0 = __builtin_convertvector(counters, lanes);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
                lanes p0 = PHILOX_MULTIPLY(m0, c0), p1 = PHILOX_MULTIPLY(m1, c2);

                c0 = (p1 >> 32) ^ c1 ^ (zero + k0);
                c1 = p1;
                c2 = (p0 >> 32) ^ c3 ^ (zero + k1);
                c3 = p0;
                k0 += 0x9E3779B9u;
                k1 += 0xBB67AE85u;
        }
        c0 = (c0 & 0xFFFFFFFFu) | c1 << 32;
        c2 = (c2 & 0xFFFFFFFFu) | c3 << 32;
        words[0] = __builtin_shufflevector(c0, c2, PHILOX_LOW);
        words[1] = __builtin_shufflevector(c0, c2, PHILOX_HIGH);
        memcpy(ret, words, sizeof(words));
}

/* The same for n counters. quads and ret are read and written to a multiple of 8 of them. */
_inline_ void philox_lanes_run(const struct philox_lanes *l, const uint32_t *quads, int64_t n, uint32_t *ret)
{
        for (int64_t i = 0; i < n; i += PHILOX_LANES)
                philox_lanes_once(l, quads + i, ret + 4 * i);
}
