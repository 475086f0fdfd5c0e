/* The device's C++ for a host compiler. __shared__ is refused: a host compiler would take it for a variable on the
 * stack. */
#pragma once

#include <cuda_runtime.h>
#include <cuda_bf16.h>

#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "kernels/cuda/emu/emu.h"
#include "kernels/cuda/emu/mma.h"

/* cuda_runtime_api.h has its own for a host compiler */
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __launch_bounds__
#undef __grid_constant__
#undef __shared__
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ emu_use_SHARED_instead

extern "C" {
extern uint3 emu_thread, emu_block;
extern dim3 emu_block_dim, emu_grid_dim;
}
#define threadIdx emu_thread
#define blockIdx emu_block
#define blockDim emu_block_dim
#define gridDim emu_grid_dim

/* Where the kernel stands, for reports. */
#define EMU_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMU_AT)
{
        emu_syncthreads(file, line);
}

inline void __syncwarp(unsigned mask = ~0u, EMU_AT)
{
        emu_syncwarp(mask, file, line);
}

/* The value of lane `from`, which is in mask. */
template <class T> inline T emu_shuffle(unsigned mask, T v, int from, const char *what, const char *file, int line)
{
        const unsigned char *all = emu_exchange(mask, &v, sizeof v, what, file, line);

        static_assert(sizeof v <= EMU_EXCHANGE_BYTES, "a value of a register or two");
        if (from < 0 || from > 31 || !(mask >> from & 1))
                emu_fault("%s: lane %d is not in mask %08x (%s:%d)", what, from, mask, file, line);
        std::memcpy(&v, all + (size_t)from * EMU_EXCHANGE_BYTES, sizeof v);
        return v;
}

template <class T> inline T __shfl_sync(unsigned mask, T v, int from, EMU_AT)
{
        return emu_shuffle(mask, v, from, "__shfl_sync", file, line);
}

template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int bits, EMU_AT)
{
        return emu_shuffle(mask, v, (int)(threadIdx.x % 32) ^ bits, "__shfl_xor_sync", file, line);
}

inline unsigned __float_as_uint(float f)
{
        unsigned u;

        std::memcpy(&u, &f, 4);
        return u;
}

inline float __uint_as_float(unsigned u)
{
        float f;

        std::memcpy(&f, &u, 4);
        return f;
}

inline float __expf(float x)
{
        return expf(x);
}

inline float __fdividef(float a, float b)
{
        return a / b;
}

inline int min(int a, int b)
{
        return b < a ? b : a;
}

/* One thread's call, from arguments in a row. */
template <class... P> struct emu_pack {
        void (*kernel)(P...);
        std::tuple<P...> args;
        static void call(const void *p)
        {
                const emu_pack *s = static_cast<const emu_pack *>(p);

                std::apply(s->kernel, s->args);
        }
};

template <class... P, class... A>
cudaError_t emu_launch_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                              cudaStream_t s, A... a)
{
        static_assert((std::is_trivially_copyable_v<P> && ...), "arguments are copied byte by byte");
        emu_pack<P...> pack{kernel, std::tuple<P...>(static_cast<P>(a)...)};
        emu_launch l = {emu_pack<P...>::call, reinterpret_cast<const void *>(kernel), name, grid, block, shared};

        return emu_enqueue_launch(&l, &pack, sizeof pack, s);
}
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                                               \
        emu_launch_kernel(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)

#define SHARED(type, name, dims)                                                                                       \
        typedef type name##_type dims;                                                                                 \
        static emu_shared name##_variable;                                                                             \
        name##_type &name = *static_cast<name##_type *>(                                                               \
                emu_shared_get(&name##_variable, sizeof(name##_type), alignof(name##_type), #name))
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emu_dynamic_shared())

/* N values of a thread's own. Of an array of a class, as bf16 is, the compiler's check of bounds lets N pass as an
 * index: the class's assignment takes an address, and that of the value behind the last is one that C++ has. */
template <class T, int N> struct own_array {
        T x[N];
        T &operator[](int i)
        {
                check(i);
                return x[i];
        }
        const T &operator[](int i) const
        {
                check(i);
                return x[i];
        }

      private:
        static void check(int i)
        {
                if (i < 0 || i >= N)
                        emu_fault("index %d is out of bounds of an array of %d", i, N);
        }
};
