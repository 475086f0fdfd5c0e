/* What nccl.c adds up on the device. Private to kernels/cuda/. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sum_type { SUM_TYPE_FLOAT, SUM_TYPE_DOUBLE };

/* y [n] = ((row 0 + row 1) + row 2) .. of rows [n_rows, n], each addition rounded; for operation op of the stream. */
void sum_rows(struct stream *s, const char *op, enum sum_type type, const void *rows, int n_rows, int64_t n, void *y);

#ifdef __cplusplus
}
#endif
