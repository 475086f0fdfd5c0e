/* The back end's table, once for each instruction set. */
#include "kernels/cpu/cpu.h"

#include "kernels/reference/reference.h"

#define OP(owner, op) HOST_RUN(op, owner(op))
#define REFERENCE(op) reference_##op
#include "kernels/cpu/cpu.def"
#undef OP

const struct kernels V(kernels) = {
        HOST_MEMBERS,
        .name = "cpu",
        .conv_new = V(conv_new),
        .conv_free = V(conv_free),
        .conv_workspace = V(conv_workspace),
        .dense_new = V(dense_new),
        .dense_free = V(dense_free),
        .dense_workspace = V(dense_workspace),
        .norm_new = V(norm_new),
        .norm_free = V(norm_free),
        .norm_workspace = V(norm_workspace),
        .attention_new = V(attention_new),
        .attention_free = V(attention_free),
        .attention_workspace = V(attention_workspace),
        .attention_saved = V(attention_saved),
#define OP(owner, op) .op = run_##op,
#include "kernels/cpu/cpu.def"
#undef OP
};
