/* The twins of the matrix instructions (kernels/cuda/mma.h has which lane holds what). One lane computes for its warp:
 * a fiber for each value would cost ten times as much, and attention on tensor cores is most of a training step here.
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum emu_mma {
        EMU_MMA_BF16, /* 16 x 8 x 16 */
        EMU_MMA_TF32, /* 16 x 8 x 8; digits beyond tf32's are not looked at */
        EMU_MMA_SPLIT /* the same of low b_high, high b_low, high b_high, in this order */
};

/* d += a b; a_low [4] and b_low [2] are looked at for EMU_MMA_SPLIT alone. Sums in float, k by k. */
void emu_mma(enum emu_mma kind, float d[4], const uint32_t a[4], const uint32_t a_low[4], const uint32_t b[2],
             const uint32_t b_low[2], const char *file, int line);

#ifdef __cplusplus
}
#endif
