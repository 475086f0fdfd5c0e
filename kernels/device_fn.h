/* Functions that host and CUDA kernels compile from one text. */
#pragma once

#ifdef __CUDACC__
#define DEVICE_FN static __host__ __device__ inline
#else
#define DEVICE_FN static inline
#endif
