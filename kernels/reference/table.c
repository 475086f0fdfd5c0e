/* The reference back end's table. */
#include "kernels/reference/reference.h"

#define KERNEL(op) HOST_RUN(op, reference_##op)
#include "kernels/kernels.def"
#undef KERNEL

const struct kernels kernels_reference = {
        HOST_MEMBERS,
        .name = "reference",
        .conv_new = reference_conv_new,
        .conv_free = reference_conv_free,
        .conv_workspace = reference_conv_workspace,
        .dense_new = reference_dense_new,
        .dense_free = reference_dense_free,
        .dense_workspace = reference_dense_workspace,
        .norm_new = reference_norm_new,
        .norm_free = reference_norm_free,
        .norm_workspace = reference_norm_workspace,
        .attention_new = reference_attention_new,
        .attention_free = reference_attention_free,
        .attention_workspace = reference_attention_workspace,
        .attention_saved = reference_attention_saved,
#define KERNEL(op) .op = run_##op,
#include "kernels/kernels.def"
#undef KERNEL
};
