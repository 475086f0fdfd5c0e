/* Attention of bf16 on tensor cores (attention_mma.cu), beside the plain one (attention.cu), which has the plan.
 * Private to kernels/cuda/. */
#pragma once

#include "kernels/cuda/cuda.h"

/* Whether a shape is computed there: bf16, and a width that its tiles have. */
bool attention_mma_takes(const struct attention_shape *s);
void attention_mma_forward(struct stream *s, const struct attention_shape *g, const struct attention_forward_args *a);
/* dots [n_images, pixels]: sum(do o) of each row. */
void attention_mma_backward(struct stream *s, const struct attention_shape *g, const struct attention_backward_args *a,
                            const float *dots);
