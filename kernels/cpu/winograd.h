/* 3x3 convolution by Winograd's F(2x2, 3x3): four outputs of a channel pair from 16 products instead of 36. One plan
 * serves the three directions. Only for files that are compiled once for each instruction set. */
#pragma once

#include "kernels/cpu/cpu.h"

struct winograd {
        struct conv_shape shape;
        int64_t tiles_y, tiles_x; /* of an image, 2x2 outputs each */
        int64_t n_blocks;         /* of all tiles, as many a block as the micro-kernel has rows */
        int64_t strip_blocks;     /* worked on at a time, so that their transforms stay in the second-level cache */
        int64_t sum_blocks;       /* the same of backward weights, where each strip also reads and writes all sums */
        int64_t n_parts;          /* contiguous shares of the blocks, one a thread */
};

#ifdef CPU_ISA
/* Whether the shape's channels fill whole vectors and its types are one; any height and width will do. */
bool V(winograd_fits)(const struct conv_shape *s);
void V(winograd_init)(struct winograd *g, const struct conv_shape *s, int threads);
/* Bytes, enough for each direction. */
size_t V(winograd_workspace)(const struct winograd *g);

/* The three operations as kernels.h has them; operands and workspace 64-byte aligned. forward: residual NULL or y
 * itself or another tensor. */
void V(winograd_forward)(const struct winograd *g, const void *x, const float *w, const float *b, const void *residual,
                         void *y, void *workspace);
void V(winograd_backward_data)(const struct winograd *g, const void *dy, const float *w, bool accumulate, void *dx,
                               void *workspace);
void V(winograd_backward_weights)(const struct winograd *g, const void *x, const void *dy, bool accumulate, float *dw,
                                  float *db, void *workspace);
#endif
