/* What every back end's plans ask of their shapes. Private to kernels/. */
#pragma once

#include "kernels/kernels.h"

/* 0, or with a reason -EINVAL (sizes out of range), -ENOTSUP (what no back end computes). bf16: whether this back end
 * computes it. */
int shape_check_conv(const struct conv_shape *s, bool bf16, struct error *err);
int shape_check_dense(const struct dense_shape *s, bool bf16, struct error *err);
int shape_check_norm(const struct norm_shape *s, bool bf16, struct error *err);
int shape_check_attention(const struct attention_shape *s, bool bf16, struct error *err);
