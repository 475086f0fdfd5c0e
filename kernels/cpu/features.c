/* Fourier features of pixels. Spec 1; the layout is reference/features.c's. */
#include "kernels/cpu/vector.h"

#define PIXELS 256 /* that a thread takes at a time */

/* Fraction of 2^k z turns; exact but for the low part, which is far below a turn. */
_inline_ float fraction(float z, float z_low, float power)
{
        float turns = z * power;

        return turns - __builtin_rintf(turns) + z_low * power;
}

_inline_ void forward(enum dtype type, const struct fourier_forward_args *a, int64_t first, int64_t end)
{
        const float *restrict z = a->z, *restrict low = a->z_low;
        void *restrict y = a->y;

#pragma omp simd
        for (int64_t i = first; i < end; i++)
#pragma GCC unroll 3
                for (int c = 0; c < 3; c++) {
                        float low_part = low ? low[3 * i + c] : 0, s6, c6, s7, c7;

                        fast_sincosf(fraction(z[3 * i + c], low_part, 64), &s6, &c6);
                        fast_sincosf(fraction(z[3 * i + c], low_part, 128), &s7, &c7);
                        value_store(type, y, 15 * i + c, z[3 * i + c]);
                        value_store(type, y, 15 * i + 3 + 2 * c, s6);
                        value_store(type, y, 15 * i + 4 + 2 * c, s7);
                        value_store(type, y, 15 * i + 9 + 2 * c, c6);
                        value_store(type, y, 15 * i + 10 + 2 * c, c7);
                }
}

int V(fourier_forward)(const struct fourier_forward_args *a)
{
#pragma omp parallel for schedule(static) if (a->n_pixels > PIXELS)
        for (int64_t i = 0; i < a->n_pixels; i += PIXELS)
                OF_TYPE(a->type, forward, a, i, MIN(a->n_pixels, i + PIXELS));
        return 0;
}

_inline_ void backward(enum dtype type, const struct fourier_backward_args *a, int64_t first, int64_t end)
{
        const float two_pi = 6.2831853071795865f;
        const float *restrict z = a->z, *restrict low = a->z_low;
        const void *restrict dy = a->dy;
        float *restrict dz = a->dz;
        bool accumulate = a->accumulate;

#pragma omp simd
        for (int64_t i = first; i < end; i++)
#pragma GCC unroll 3
                for (int c = 0; c < 3; c++) {
                        float low_part = low ? low[3 * i + c] : 0, s6, c6, s7, c7;
                        float d_s6 = value_load(type, dy, 15 * i + 3 + 2 * c);
                        float d_s7 = value_load(type, dy, 15 * i + 4 + 2 * c);
                        float d_c6 = value_load(type, dy, 15 * i + 9 + 2 * c);
                        float d_c7 = value_load(type, dy, 15 * i + 10 + 2 * c);

                        fast_sincosf(fraction(z[3 * i + c], low_part, 64), &s6, &c6);
                        fast_sincosf(fraction(z[3 * i + c], low_part, 128), &s7, &c7);
                        dz[3 * i + c] = (accumulate ? dz[3 * i + c] : 0) + value_load(type, dy, 15 * i + c) +
                                        64 * two_pi * (d_s6 * c6 - d_c6 * s6) + 128 * two_pi * (d_s7 * c7 - d_c7 * s7);
                }
}

int V(fourier_backward)(const struct fourier_backward_args *a)
{
#pragma omp parallel for schedule(static) if (a->n_pixels > PIXELS)
        for (int64_t i = 0; i < a->n_pixels; i += PIXELS)
                OF_TYPE(a->type, backward, a, i, MIN(a->n_pixels, i + PIXELS));
        return 0;
}
