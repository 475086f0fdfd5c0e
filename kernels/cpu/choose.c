/* The copy of the loops for this processor. */
#include "kernels/cpu/cpu.h"

#include <string.h>

#define ISA(name) extern const struct kernels name##_kernels
ISA(v1);
ISA(v3);
ISA(v4);
ISA(v4bf16);

/* Feature by feature: not every compiler knows the levels' names here. */
static bool has_v3(void)
{
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
               __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

static bool has_v4(void)
{
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
}

const struct kernels *cpu_table_of(const char *isa)
{
        __builtin_cpu_init();
        if (strcmp(isa, "v4bf16") == 0)
                return has_v3() && has_v4() && __builtin_cpu_supports("avx512bf16") ? &v4bf16_kernels : NULL;
        if (strcmp(isa, "v4") == 0)
                return has_v3() && has_v4() ? &v4_kernels : NULL;
        if (strcmp(isa, "v3") == 0)
                return has_v3() ? &v3_kernels : NULL;
        return strcmp(isa, "v1") == 0 ? &v1_kernels : NULL;
}

const struct kernels *cpu_table(void)
{
        static const char *const isas[] = {"v4bf16", "v4", "v3", "v1"};
        const struct kernels *k = NULL;

        for (size_t i = 0; !k && i < ARRAY_LEN(isas); i++)
                k = cpu_table_of(isas[i]);
        return k;
}
