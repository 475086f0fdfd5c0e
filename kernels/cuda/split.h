/* Convolutions of float32 by plans of tf32, which run on tensor cores: a factor x is high + low, two terms of tf32 with
 * 11 digits each, and x w = high high + high low + low high up to 3 2^-22 of it (what low low and the digits beyond 22
 * are). The three products are one convolution over three times as many channels, or, where the sum is over pixels,
 * images: x as (high, high, low), w as (high, low, high). Private to kernels/cuda/. */
#pragma once

#include "kernels/cuda/convolver.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The plan that computes a shape of float32 from the terms of its factors. */
struct conv_plan_shape split_shape(const struct conv_plan_shape *s);
/* Memory for the terms. */
size_t split_bytes(const struct conv_plan_shape *s);
/* Writes the terms of the shape's factors to `terms` and puts them in the place of these, for operation op. */
void split_operands(struct stream *s, const char *op, const struct conv_plan_shape *shape, void *terms,
                    struct conv_operands *o);

#ifdef __cplusplus
}
#endif
