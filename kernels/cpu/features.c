/* Fourier features of pixels. Spec 1; the layout is reference/features.c's. */
#include "kernels/cpu/vector.h"
#include "kernels/reference/reference.h"

/* Fraction of 2^k z turns; exact but for the low part, which is far below a turn. */
_inline_ float fraction(float z, float z_low, float power)
{
        float turns = z * power;

        return turns - __builtin_rintf(turns) + z_low * power;
}

int V(fourier_forward)(const struct fourier_forward_args *a)
{
        const float *restrict z = a->z, *restrict low = a->z_low;
        float *restrict y = a->y;

        if (a->type == DTYPE_BF16) /* fifteen channels, once a step */
                return reference_fourier_forward(a);
#pragma omp parallel for simd schedule(static) if (a->n_pixels > 256)
        for (int64_t i = 0; i < a->n_pixels; i++)
#pragma GCC unroll 3
                for (int c = 0; c < 3; c++) {
                        y[15 * i + c] = z[3 * i + c];
                        fast_sincosf(fraction(z[3 * i + c], low ? low[3 * i + c] : 0, 64), &y[15 * i + 3 + 2 * c],
                                     &y[15 * i + 9 + 2 * c]);
                        fast_sincosf(fraction(z[3 * i + c], low ? low[3 * i + c] : 0, 128), &y[15 * i + 4 + 2 * c],
                                     &y[15 * i + 10 + 2 * c]);
                }
        return 0;
}

int V(fourier_backward)(const struct fourier_backward_args *a)
{
        const float two_pi = 6.2831853071795865f;
        const float *restrict z = a->z, *restrict low = a->z_low, *restrict dy = a->dy;
        float *restrict dz = a->dz;
        bool accumulate = a->accumulate;

        if (a->type == DTYPE_BF16)
                return reference_fourier_backward(a);
#pragma omp parallel for simd schedule(static) if (a->n_pixels > 256)
        for (int64_t i = 0; i < a->n_pixels; i++)
#pragma GCC unroll 3
                for (int c = 0; c < 3; c++) {
                        const float *d = dy + 15 * i;
                        float s6, c6, s7, c7;

                        fast_sincosf(fraction(z[3 * i + c], low ? low[3 * i + c] : 0, 64), &s6, &c6);
                        fast_sincosf(fraction(z[3 * i + c], low ? low[3 * i + c] : 0, 128), &s7, &c7);
                        dz[3 * i + c] = (accumulate ? dz[3 * i + c] : 0) + d[c] +
                                        64 * two_pi * (d[3 + 2 * c] * c6 - d[9 + 2 * c] * s6) +
                                        128 * two_pi * (d[4 + 2 * c] * c7 - d[10 + 2 * c] * s7);
                }
        return 0;
}
