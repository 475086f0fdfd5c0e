/* The reference back end: plain loops that follow the spec, sums in double. What a faster back end is checked against;
 * where its loops cost a training step nothing (the latent, the schedules), "cpu" runs them too. */
#pragma once

#include "kernels/bf16.h"
#include "kernels/host.h"
#include "kernels/formulas.h"

extern const struct kernels kernels_reference;

#define KERNEL(op) int reference_##op(const struct op##_args *a);
#include "kernels/kernels.def"
#undef KERNEL

int reference_conv_new(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err);
struct conv *reference_conv_free(struct conv *c);
size_t reference_conv_workspace(const struct conv *c);
int reference_dense_new(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err);
struct dense *reference_dense_free(struct dense *x);
size_t reference_dense_workspace(const struct dense *x);
int reference_norm_new(struct device *d, const struct norm_shape *shape, struct norm **ret, struct error *err);
struct norm *reference_norm_free(struct norm *n);
size_t reference_norm_workspace(const struct norm *n);
int reference_attention_new(struct device *d, const struct attention_shape *shape, struct attention **ret,
                            struct error *err);
struct attention *reference_attention_free(struct attention *a);
size_t reference_attention_workspace(const struct attention *a);
size_t reference_attention_saved(const struct attention *a);
