/* The dialect of .cu files: launches, shared memory, values of either type, sums over a block. */
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>

template <class... P, class... A>
static cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream, A... args)
{
        kernel<<<grid, block, shared, stream>>>(static_cast<P>(args)...);
        return cudaGetLastError();
}
#define LAUNCH(kernel, grid, block, shared, stream, ...) launch(kernel, grid, block, shared, stream, __VA_ARGS__)
#define SHARED(type, name, dims) __shared__ type name dims
template <class T, int N> using own_array = T[N]; /* of a thread's own */
#define DYNAMIC_SHARED(type, name)                                                                                     \
        extern __shared__ __align__(16) unsigned char name##_bytes[];                                                  \
        type *name = reinterpret_cast<type *>(name##_bytes)
#else
#include "kernels/cuda/emu/dialect.h"
#endif

#include "kernels/formulas.h"

/* Launches for operation `op` of stream s, or not where the stream has failed. The guards of the arguments come first.
 */
#define RUN(s, op, kernel, grid, block, shared, ...)                                                                   \
        do {                                                                                                           \
                if (stream_ready(s))                                                                                   \
                        stream_launched(s, op, LAUNCH(kernel, grid, block, shared, (s)->handle, __VA_ARGS__));         \
        } while (0)

namespace
{

typedef __nv_bfloat16 bf16;

enum { BLOCK = 256 };

/* Blocks for n values, a thread each at the most; kernels loop over the rest. */
inline unsigned grid_of(int64_t n)
{
        const int64_t blocks = (n + BLOCK - 1) / BLOCK, most = 132 * 32;

        return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

/* i over [0, n), shared out to all threads of the launch. */
#define FOR_EACH(i, n)                                                                                                 \
        for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

__device__ inline float widen(float x)
{
        return x;
}

__device__ inline float widen(bf16 x)
{
        return __bfloat162float(x);
}

template <class T> __device__ inline T narrow(float x);
template <> __device__ inline float narrow<float>(float x)
{
        return x;
}
template <> __device__ inline bf16 narrow<bf16>(float x)
{
        return __float2bfloat16(x);
}

/* A double is rounded once: by way of float, whose last bit is made odd where the value lies between two. */
template <class T> __device__ inline T narrow_double(double x);
template <> __device__ inline float narrow_double<float>(double x)
{
        return (float)x;
}
template <> __device__ inline bf16 narrow_double<bf16>(double x)
{
        float f = (float)x;
        unsigned bits = __float_as_uint(f);

        if ((double)f != x && (bits & 0x7f800000u) != 0x7f800000u) {
                if (fabs((double)f) > fabs(x))
                        bits--;
                f = __uint_as_float(bits | 1);
        }
        return __float2bfloat16(f);
}

/* A weight as a plan whose inputs are T takes it. */
template <class T> __device__ inline float weight(float w)
{
        return widen(narrow<T>(w));
}

#define ALL_LANES 0xffffffffu

__device__ inline double warp_sum(double x)
{
        for (int i = 16; i > 0; i /= 2)
                x += __shfl_xor_sync(ALL_LANES, x, i);
        return x;
}

/* Every thread gets the sum, of a fixed order; blockDim.x a multiple of 32, at most 1024. */
__device__ inline double block_sum(double x)
{
        SHARED(double, part, [32]);
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

        x = warp_sum(x);
        if (lane == 0)
                part[warp] = x;
        __syncthreads();
        x = warp_sum(lane < (int)blockDim.x / 32 ? part[lane] : 0);
        __syncthreads(); /* part is written again by the next call */
        return x;
}

/* Behind it memory is read again: in a loop, what would not fit into registers for all of it. */
__device__ inline void compiler_fence(void)
{
        asm volatile("" ::: "memory");
}

/* n values as one access of 4 n or 2 n bytes, at most 16: pointers are aligned to that. */
template <class T, int N> struct alignas(sizeof(T) * N) vector {
        own_array<T, N> v;
};

template <class T, int N> __device__ inline vector<T, N> load(const T *p)
{
        return *reinterpret_cast<const vector<T, N> *>(p);
}

template <class T, int N> __device__ inline void store(T *p, const vector<T, N> &x)
{
        *reinterpret_cast<vector<T, N> *>(p) = x;
}

__device__ inline uint32_t two_bf16(float low, float high)
{
        const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
        uint32_t word;

        memcpy(&word, &v, sizeof word);
        return word;
}

/* All of a vector; of bf16 two by two, an instruction each. */
template <int N> __device__ inline void widen(const vector<float, N> &x, float ret[N])
{
        for (int i = 0; i < N; i++)
                ret[i] = x.v[i];
}

template <int N> __device__ inline void widen(const vector<bf16, N> &x, float ret[N])
{
        for (int i = 0; i + 1 < N; i += 2) {
                uint32_t word;

                memcpy(&word, &x.v[i], sizeof word);
                ret[i] = __uint_as_float(word << 16);
                ret[i + 1] = __uint_as_float(word & 0xffff0000u);
        }
        if (N % 2)
                ret[N - 1] = widen(x.v[N - 1]);
}

template <class T, int N> __device__ inline vector<T, N> narrow(const float x[N])
{
        vector<T, N> ret;

        for (int i = 0; i < N; i++)
                ret.v[i] = narrow<T>(x[i]);
        return ret;
}

template <> __device__ inline vector<bf16, 8> narrow<bf16, 8>(const float x[8])
{
        vector<bf16, 8> ret;
        uint32_t words[4];

        for (int i = 0; i < 4; i++)
                words[i] = two_bf16(x[2 * i], x[2 * i + 1]);
        memcpy(static_cast<void *>(&ret), words, sizeof words);
        return ret;
}
} // namespace
