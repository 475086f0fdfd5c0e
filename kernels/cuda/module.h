/* What a module of the CUDA back end shows to who loads it (kernels/module.c): its table, by this name. */
#pragma once

#include "kernels/kernels.h"

#define CUDA_TABLE mulun_kernels
#define CUDA_TABLE_NAME "mulun_kernels"

extern const struct kernels CUDA_TABLE;
