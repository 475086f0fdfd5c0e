/* Values of float32 or bf16 (the upper half of a float32) read as double and rounded once, to nearest even, on writing.
 */
#pragma once

#include "kernels/kernels.h"

#include <string.h>

static inline float bf16_widen(uint16_t x)
{
        uint32_t bits = (uint32_t)x << 16;
        float f;

        memcpy(&f, &bits, sizeof(f));
        return f;
}

/* To nearest even; a NaN stays one. */
static inline uint16_t bf16_round(float x)
{
        uint32_t bits, rounded, nan;

        memcpy(&bits, &x, sizeof(bits));
        rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
        nan = bits >> 16 | 0x40u;
        return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

/* By way of float, whose last bit is made odd where the value lies between two: so the second rounding sees that it is
 * no tie, and the value is rounded once. */
static inline uint16_t bf16_round_double(double x)
{
        float f = (float)x;
        uint32_t bits;

        memcpy(&bits, &f, sizeof(bits));
        if ((double)f != x && (bits & 0x7f800000u) != 0x7f800000u) {
                if (__builtin_fabs((double)f) > __builtin_fabs(x))
                        bits--;
                bits |= 1;
                memcpy(&f, &bits, sizeof(f));
        }
        return bf16_round(f);
}

static inline double value_at(enum dtype type, const void *x, int64_t i)
{
        return type == DTYPE_BF16 ? (double)bf16_widen(((const uint16_t *)x)[i]) : (double)((const float *)x)[i];
}

static inline void value_set(enum dtype type, void *y, int64_t i, double v)
{
        if (type == DTYPE_BF16)
                ((uint16_t *)y)[i] = bf16_round_double(v);
        else
                ((float *)y)[i] = (float)v;
}

/* A weight as a plan of that type takes it. */
static inline double weight_at(enum dtype type, const float *w, int64_t i)
{
        return type == DTYPE_BF16 ? (double)bf16_widen(bf16_round(w[i])) : (double)w[i];
}
