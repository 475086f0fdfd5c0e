/* Copies from global to shared memory that go on while a thread does other work (cp.async, sm_80 and later): started,
 * closed into groups, waited for; a thread sees its own then, the block behind a barrier. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifndef __CUDACC__
#include "kernels/cuda/emu/copy.h"
#endif

namespace
{

#ifdef __CUDACC__
/* Of 16 bytes at multiples of 16; zeros where not `there`, `from` is an address of the operand all the same. */
__device__ inline void copy_start(void *to, const void *from, bool there)
{
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :
                     : "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(there ? 16 : 0)
                     : "memory");
}

__device__ inline void copies_commit(void)
{
        asm volatile("cp.async.commit_group;" ::: "memory");
}

/* For all groups but the N youngest. */
template <int N> __device__ inline void copies_wait(void)
{
        asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
}
#else
struct alignas(EMU_COPY_BYTES) copy_words {
        uint32_t v[EMU_COPY_BYTES / 4];
};

/* From now on nobody may read what is there: it is NaN until the thread has waited. */
inline void copy_start(void *to, const void *from, bool there)
{
        emu_copy_start(to, from, there);
        *static_cast<copy_words *>(to) = {{~0u, ~0u, ~0u, ~0u}};
}

inline void copies_commit(void)
{
        emu_copies_commit();
}

template <int N> inline void copies_wait(void)
{
        emu_copy c;

        while (emu_copies_due(N, &c))
                *static_cast<copy_words *>(c.to) = c.from ? *static_cast<const copy_words *>(c.from) : copy_words{};
}
#endif
} // namespace
