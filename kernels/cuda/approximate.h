/* A multiprocessor's special functions, one instruction each, for what is rounded to bf16. What is too small for a
 * normal float is 0 (PTX ISA 8: ex2.approx.ftz, rcp.approx.ftz: relative errors below 2^-22). */
#pragma once

#include "kernels/cuda/cuda.h"

namespace
{

#ifdef __CUDACC__
__device__ inline float approximate_exp2(float x)
{
        float y;

        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        return y;
}

__device__ inline float approximate_reciprocal(float x)
{
        float y;

        asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        return y;
}
#else
inline float approximate_exp2(float x)
{
        return exp2f(x);
}

inline float approximate_reciprocal(float x)
{
        return 1 / x;
}
#endif

} // namespace
