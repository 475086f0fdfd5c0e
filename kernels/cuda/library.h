/* The seam below collectives: NCCL, loaded when a group is opened (library.c), or on the emulated device what stands in
 * for it (emu/nccl.c). Private to kernels/cuda/. */
#pragma once

#include "base/error.h"

#include <nccl.h>

/* What is called of it, by NCCL's own names and with its meaning. */
#define NCCL_CALLS(X)                                                                                                  \
        X(ncclGetUniqueId)                                                                                             \
        X(ncclCommInitRank)                                                                                            \
        X(ncclCommDestroy)                                                                                             \
        X(ncclSend)                                                                                                    \
        X(ncclRecv)                                                                                                    \
        X(ncclBroadcast)                                                                                               \
        X(ncclGroupStart)                                                                                              \
        X(ncclGroupEnd)                                                                                                \
        X(ncclGetErrorString)

struct library {
#define X(name) __typeof__(name) *name;
        NCCL_CALLS(X)
#undef X
};

/* -ENODEV where there is none, with what the loader says. It stays loaded. */
int library_load(const struct library **ret, struct error *err);
