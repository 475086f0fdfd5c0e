/* The CUDA back end's table, which is what the module shows. */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/module.h"

static double bytes_beyond(const char *op, const void *args)
{
#define BEYOND(name)                                                                                                   \
        if (strcmp(op, #name) == 0)                                                                                    \
                return cuda_##name##_beyond(args);
        BEYOND(conv_forward)
        BEYOND(conv_backward_data)
        BEYOND(conv_backward_weights)
        BEYOND(dense_forward)
        BEYOND(dense_backward_data)
        BEYOND(dense_backward_weights)
        BEYOND(norm_forward)
        BEYOND(norm_backward)
        BEYOND(attention_backward)
#undef BEYOND
        return 0;
}

const struct kernels CUDA_TABLE = {
        .abi = KERNELS_ABI,
        .name = CUDA_NAME,
        .device_open = cuda_device_open,
        .device_close = cuda_device_close,
        .device_info = cuda_device_info,
        .device_use = cuda_device_use,
        .memory_new = cuda_memory_new,
        .memory_free = cuda_memory_free,
        .stream_new = cuda_stream_new,
        .stream_free = cuda_stream_free,
        .stream_sync = cuda_stream_sync,
        .copy_in = cuda_copy_in,
        .copy_out = cuda_copy_out,
        .event_new = cuda_event_new,
        .event_free = cuda_event_free,
        .event_record = cuda_event_record,
        .stream_wait = cuda_stream_wait,
        .graph_begin = cuda_graph_begin,
        .graph_end = cuda_graph_end,
        .graph_launch = cuda_graph_launch,
        .graph_free = cuda_graph_free,
        .collectives = &cuda_collectives,
        .conv_new = cuda_conv_new,
        .conv_free = cuda_conv_free,
        .conv_workspace = cuda_conv_workspace,
        .dense_new = cuda_dense_new,
        .dense_free = cuda_dense_free,
        .dense_workspace = cuda_dense_workspace,
        .norm_new = cuda_norm_new,
        .norm_free = cuda_norm_free,
        .norm_workspace = cuda_norm_workspace,
        .attention_new = cuda_attention_new,
        .attention_free = cuda_attention_free,
        .attention_workspace = cuda_attention_workspace,
        .attention_saved = cuda_attention_saved,
        .bytes_beyond = bytes_beyond,
        .range_begin = cuda_range_begin,
        .range_end = cuda_range_end,
#define KERNEL(op) .op = cuda_##op,
#include "kernels/kernels.def"
#undef KERNEL
};
