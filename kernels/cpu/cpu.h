/* The "cpu" back end: vectorised OpenMP loops, and oneDNN where its products are faster. What depends on the
 * instruction set is compiled four times (CPU_ISA: v1, v3, v4, the levels of x86-64, and v4bf16) and chosen when it
 * runs; V(name) is the name of one's own copy. */
#pragma once

#include "kernels/host.h"

#define CPU_PASTE_(isa, name) isa##_##name
#define CPU_PASTE(isa, name) CPU_PASTE_(isa, name)
#ifdef CPU_ISA
#define V(name) CPU_PASTE(CPU_ISA, name)
#define CPU_STRING_(isa) #isa
#define CPU_STRING(isa) CPU_STRING_(isa)
#define CPU_ISA_NAME CPU_STRING(CPU_ISA)
extern const struct kernels V(kernels);
#define KERNEL(op) int V(op)(const struct op##_args *a);
#include "kernels/kernels.def"
#undef KERNEL

int V(conv_new)(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err);
struct conv *V(conv_free)(struct conv *c);
size_t V(conv_workspace)(const struct conv *c);
int V(dense_new)(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err);
struct dense *V(dense_free)(struct dense *x);
size_t V(dense_workspace)(const struct dense *x);
int V(norm_new)(struct device *d, const struct norm_shape *shape, struct norm **ret, struct error *err);
struct norm *V(norm_free)(struct norm *n);
size_t V(norm_workspace)(const struct norm *n);
int V(attention_new)(struct device *d, const struct attention_shape *shape, struct attention **ret, struct error *err);
struct attention *V(attention_free)(struct attention *a);
size_t V(attention_workspace)(const struct attention *a);
size_t V(attention_saved)(const struct attention *a);
#endif

/* The table for this processor; one by name, NULL where the processor cannot run it (for tests). */
const struct kernels *cpu_table(void);
const struct kernels *cpu_table_of(const char *isa);
