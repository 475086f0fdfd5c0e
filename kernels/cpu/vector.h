/* Functions for loops that the compiler vectorises: no branches, no calls, no tables. Only for files that are compiled
 * once for each instruction set. Accuracy is measured by tests/kernels. */
#pragma once

#include "kernels/bf16.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

/* Loops shorter than this are not worth a second thread: waking the pool costs some microseconds. */
#define PARALLEL_MIN 16384

#define _inline_ static inline __attribute__((always_inline))

_inline_ float float_of_bits(uint32_t bits)
{
        float x;

        memcpy(&x, &bits, sizeof(x));
        return x;
}

_inline_ uint32_t bits_of_float(float x)
{
        uint32_t bits;

        memcpy(&bits, &x, sizeof(bits));
        return bits;
}

_inline_ double double_of_bits(uint64_t bits)
{
        double x;

        memcpy(&x, &bits, sizeof(x));
        return x;
}

_inline_ uint64_t bits_of_double(double x)
{
        uint64_t bits;

        memcpy(&bits, &x, sizeof(bits));
        return bits;
}

/* ---- values of either type; `type` is a constant where these are called: the compiler leaves the other type out */

/* A call of fn, inline, with its first argument, the type, as a constant. It stands inside of a parallel loop: what is
 * around the loop becomes a function of its own before anything is inlined, and constants do not reach into it. */
#define OF_TYPE(type, fn, ...) ((type) == DTYPE_BF16 ? fn(DTYPE_BF16, __VA_ARGS__) : fn(DTYPE_FLOAT32, __VA_ARGS__))

#define PIECE 4096 /* values that a thread takes at a time */

/* Where value i of a tensor lies. */
_inline_ const void *value_address(enum dtype type, const void *x, int64_t i)
{
        return (const char *)x + (size_t)i * dtype_bytes(type);
}

_inline_ float value_load(enum dtype type, const void *x, int64_t i)
{
        return type == DTYPE_BF16 ? bf16_widen(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

_inline_ void value_store(enum dtype type, void *y, int64_t i, float v)
{
        if (type == DTYPE_BF16)
                ((uint16_t *)y)[i] = bf16_round(v);
        else
                ((float *)y)[i] = v;
}

/* ---- functions */

/* e^x within 1.5 units in the last place; saturates at e^-87 and e^88. x = n ln 2 + r, |r| <= ln(2) / 2; n by adding
 * 1.5 2^23, which leaves the integer in the low bits; ln 2 in two parts, the first with few enough bits that n times
 * it is exact. Polynomial: Cephes expf (Moshier). */
_inline_ float fast_expf(float x)
{
        float shifted, n, r, p;

        x = x < -87.0f ? -87.0f : x;
        x = x > 88.0f ? 88.0f : x;
        shifted = x * 1.44269504f + 12582912.0f;
        n = shifted - 12582912.0f;
        r = x - n * 0.693359375f;
        r = r + n * 2.12194440e-4f;
        p = 1.9875691500e-4f;
        p = p * r + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * (r * r) + r + 1.0f;
        return p * float_of_bits((bits_of_float(shifted) + 127u) << 23);
}

_inline_ float fast_swishf(float x)
{
        return x / (1.0f + fast_expf(-x));
}

/* d swish(x) / dx */
_inline_ float fast_swish_slopef(float x)
{
        float e = fast_expf(-x), s = 1.0f / (1.0f + e);

        return s * (1.0f + x * (e * s)); /* 1 - s would lose digits */
}

/* sin and cos of 2 pi turns, |turns| <= 1/2, within 2 units in the last place. Reduced to an eighth of a turn about the
 * nearest quarter; polynomials: Cephes sinf, cosf (Moshier). */
_inline_ void fast_sincosf(float turns, float *ret_sin, float *ret_cos)
{
        float shifted = turns * 4.0f + 12582912.0f, quarters = shifted - 12582912.0f;
        float r = (turns * 4.0f - quarters) * 1.57079632679f, r2 = r * r;
        uint32_t q = bits_of_float(shifted);
        float s = ((-1.9515295891e-4f * r2 + 8.3321608736e-3f) * r2 - 1.6666654611e-1f) * r2 * r + r;
        float c = ((2.443315711809948e-5f * r2 - 1.388731625493765e-3f) * r2 + 4.166664568298827e-2f) * (r2 * r2) -
                  0.5f * r2 + 1.0f;
        float sin = q & 1 ? c : s, cos = q & 1 ? s : c;

        *ret_sin = q & 2 ? -sin : sin;
        *ret_cos = (q + 1) & 2 ? -cos : cos;
}

/* e^x in double, about 1 unit in the last place; saturates at e^-700 and e^700. Taylor's series to r^13. */
_inline_ double fast_exp(double x)
{
        double shifted, n, r, p;

        x = x < -700.0 ? -700.0 : x;
        x = x > 700.0 ? 700.0 : x;
        shifted = x * 1.4426950408889634 + 0x1.8p52;
        n = shifted - 0x1.8p52;
        r = x - n * 6.93147180369123816490e-01; /* 32 bits: exact */
        r = r - n * 1.90821492927058770002e-10;
        p = 1.0 / 6227020800.0;
        p = p * r + 1.0 / 479001600.0;
        p = p * r + 1.0 / 39916800.0;
        p = p * r + 1.0 / 3628800.0;
        p = p * r + 1.0 / 362880.0;
        p = p * r + 1.0 / 40320.0;
        p = p * r + 1.0 / 5040.0;
        p = p * r + 1.0 / 720.0;
        p = p * r + 1.0 / 120.0;
        p = p * r + 1.0 / 24.0;
        p = p * r + 1.0 / 6.0;
        p = p * r + 0.5;
        p = p * (r * r) + r + 1.0;
        return p * double_of_bits((bits_of_double(shifted) + 1023u) << 52);
}

_inline_ double fast_sigmoid(double x)
{
        return 1.0 / (1.0 + fast_exp(-x));
}

/* ln x of a normal positive x, about 1 unit in the last place. The method and polynomial of FreeBSD's msun, e_log.c. */
_inline_ double fast_log(double x)
{
        uint64_t bits = bits_of_double(x) + (0x3ff0000000000000u - 0x3fe6a09e00000000u);
        double k = double_of_bits(0x4330000000000000u | bits >> 52) - (0x1p52 + 1023.0);
        double f = double_of_bits((bits & 0x000fffffffffffffu) + 0x3fe6a09e00000000u) - 1.0;
        double s = f / (2.0 + f), z = s * s, half = 0.5 * f * f, r = 1.479819860511658591e-01;

        r = r * z + 1.531383769920937332e-01;
        r = r * z + 1.818357216161805012e-01;
        r = r * z + 2.222219843214978396e-01;
        r = r * z + 2.857142874366239149e-01;
        r = r * z + 3.999999999940941908e-01;
        r = (r * z + 6.666666666666735130e-01) * z;
        return k * 6.93147180369123816490e-01 - ((half - (s * (half + r) + k * 1.90821492927058770002e-10)) - f);
}

/* sin and cos of 2 pi word / 2^32 in double, about 1 unit in the last place. The word's nearest quarter of a turn is
 * taken off in integers; polynomials: msun, k_sin.c and k_cos.c. */
_inline_ void fast_sincos_word(uint32_t word, double *ret_sin, double *ret_cos)
{
        uint32_t q = (word + 0x20000000u) >> 30;
        double r = (double)(int32_t)(word - (q << 30)) * (1.57079632679489661923 * 0x1p-30), z = r * r;
        double s = 1.58969099521155010221e-10, c = -1.13596475577881948265e-11, sin, cos;

        s = s * z - 2.50507602534068634195e-08;
        s = s * z + 2.75573137070700676789e-06;
        s = s * z - 1.98412698298579493134e-04;
        s = s * z + 8.33333333332248946124e-03;
        s = s * z - 1.66666666666666324348e-01;
        s = s * z * r + r;
        c = c * z + 2.08757232129817482790e-09;
        c = c * z - 2.75573143513906633035e-07;
        c = c * z + 2.48015872894767294178e-05;
        c = c * z - 1.38888888888741095749e-03;
        c = c * z + 4.16666666666666019037e-02;
        c = c * z * z - 0.5 * z + 1.0;
        sin = q & 1 ? c : s;
        cos = q & 1 ? s : c;
        *ret_sin = q & 2 ? -sin : sin;
        *ret_cos = (q + 1) & 2 ? -cos : cos;
}
