/* The copy of the loops for this processor. */
#include "kernels/cpu/cpu.h"

#define ISA(name) extern const struct kernels name##_kernels
ISA(v1);
ISA(v3);
ISA(v4);

const struct kernels *cpu_table(void)
{
        __builtin_cpu_init();
        if (__builtin_cpu_supports("x86-64-v4"))
                return &v4_kernels;
        if (__builtin_cpu_supports("x86-64-v3"))
                return &v3_kernels;
        return &v1_kernels;
}
