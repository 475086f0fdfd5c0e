/* Matrix products of double for what stands in for NVIDIA's libraries. The processor's own are not used: they sum in
 * float, and the checks' limits are the device's, above a sum that is exact beside them. */
#pragma once

#include "kernels/kernels.h"

/* Value (i, l) at at[i * row + l * step]. */
struct emu_matrix {
        const double *at;
        int64_t row, step;
};

/* c[i * c_row + j] += sum over l of a(i, l) b(l, j), i < m, j < n, l < k; b's step is 1. Four products of a row are
 * added before they meet their sum. */
void emu_product_add(int64_t m, int64_t n, int64_t k, struct emu_matrix a, struct emu_matrix b, double *c,
                     int64_t c_row);

/* n factors as a plan takes them: tf32, of float alone, rounds to it. */
void emu_factors(enum dtype type, bool tf32, const void *from, int64_t n, double *to);

/* n zeros, by malloc; ends the process where there is no memory. */
double *emu_zeros(int64_t n);
