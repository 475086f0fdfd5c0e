/* The reference back end's table. */
#include "kernels/reference/reference.h"

#define KERNEL(op)                                                                                                     \
        static void run_##op(struct stream *s, const struct op##_args *args)                                           \
        {                                                                                                              \
                STREAM_RUN(s, #op, reference_##op(args));                                                              \
        }
#include "kernels/kernels.def"
#undef KERNEL

const struct kernels kernels_reference = {
        .abi = KERNELS_ABI,
        .name = "reference",
        .device_open = host_device_open,
        .device_close = host_device_close,
        .memory_new = host_memory_new,
        .memory_free = host_memory_free,
        .stream_new = host_stream_new,
        .stream_free = host_stream_free,
        .stream_sync = host_stream_sync,
        .copy_in = host_copy,
        .copy_out = host_copy,
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
