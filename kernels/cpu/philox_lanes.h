/* Philox side by side: philox.h's generator for many counters at once, in loops that the compiler vectorises. */
#pragma once

#include "kernels/cpu/vector.h"

/* What is the same for all lanes: everything but counter[0]. */
struct philox_lanes {
        uint32_t c1, c2, c3, k0, k1;
};

_inline_ struct philox_lanes philox_lanes_of(const struct step_state *state, enum philox_stream stream, uint32_t block,
                                             int64_t image)
{
        uint64_t i = (uint64_t)image, step = (uint64_t)state->step;

        return (struct philox_lanes){
                .c1 = (uint32_t)i,
                .c2 = (uint32_t)step,
                .c3 = (uint32_t)(i >> 32 & 0xFFu) << 16 | (uint32_t)(step >> 32 & 0xFFFFu),
                .k0 = state->seed,
                .k1 = (uint32_t)stream << 16 | (block & 0xFFFFu),
        };
}

/* ret[4 i ..] = the four words for counter[0] = quads[i] */
_inline_ void philox_lanes_run(const struct philox_lanes *l, const uint32_t *restrict quads, int64_t n,
                               uint32_t *restrict ret)
{
        uint32_t c1_0 = l->c1, c2_0 = l->c2, c3_0 = l->c3, k0_0 = l->k0, k1_0 = l->k1;

#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
                uint32_t c0 = quads[i], c1 = c1_0, c2 = c2_0, c3 = c3_0, k0 = k0_0, k1 = k1_0;

#pragma GCC unroll 10
                for (int round = 0; round < 10; round++) {
                        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;

                        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
                        c1 = (uint32_t)p1;
                        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
                        c3 = (uint32_t)p0;
                        k0 += 0x9E3779B9u;
                        k1 += 0xBB67AE85u;
                }
                ret[4 * i] = c0;
                ret[4 * i + 1] = c1;
                ret[4 * i + 2] = c2;
                ret[4 * i + 3] = c3;
        }
}
