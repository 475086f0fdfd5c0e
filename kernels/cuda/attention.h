/* Attention on tensor cores (attention_mma.cu), beside the plain one of other widths (attention.cu), which has the
 * plan. Private to kernels/cuda/. */
#pragma once

#include "kernels/cuda/cuda.h"

/* Whether a shape is computed there: a width that its tiles have. */
bool attention_mma_takes(const struct attention_shape *s);
/* Before the first launch of a shape. */
cudaError_t attention_mma_prepare(const struct attention_shape *g);
void attention_mma_forward(struct stream *s, const struct attention_shape *g, const struct attention_forward_args *a);
/* dots [n_images, pixels]: sum(do o) of each row, given in bf16, written here in float. */
void attention_mma_backward(struct stream *s, const struct attention_shape *g, const struct attention_backward_args *a,
                            float *dots);
