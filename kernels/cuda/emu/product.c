/* Rows of b are read in panels that stay in the first cache while all rows of a meet them. */
#include "kernels/cuda/emu/product.h"

#include "kernels/bf16.h"
#include "kernels/cuda/emu/emu.h"

#include <stdlib.h>

enum { PANEL = 16 };

static void row_add(int64_t n, int64_t k, const double *a, int64_t step, const double *b, int64_t b_row,
                    double *restrict c)
{
        int64_t l = 0;

        for (; l + 4 <= k; l += 4) {
                const double a0 = a[l * step], a1 = a[(l + 1) * step], a2 = a[(l + 2) * step], a3 = a[(l + 3) * step];
                const double *const b0 = b + l * b_row, *const b1 = b0 + b_row, *const b2 = b1 + b_row,
                                    *const b3 = b2 + b_row;

                for (int64_t j = 0; j < n; j++)
                        c[j] += a0 * b0[j] + a1 * b1[j] + (a2 * b2[j] + a3 * b3[j]);
        }
        for (; l < k; l++)
                for (int64_t j = 0; j < n; j++)
                        c[j] += a[l * step] * b[l * b_row + j];
}

void emu_product_add(int64_t m, int64_t n, int64_t k, struct emu_matrix a, struct emu_matrix b, double *c,
                     int64_t c_row)
{
        for (int64_t l = 0; l < k; l += PANEL)
                for (int64_t i = 0; i < m; i++)
                        row_add(n, k - l < PANEL ? k - l : PANEL, a.at + i * a.row + l * a.step, a.step,
                                b.at + l * b.row, b.row, c + i * c_row);
}

void emu_factors(enum dtype type, bool tf32, const void *from, int64_t n, double *to)
{
        const float *const floats = from;
        const uint16_t *const halves = from;

        if (type == DTYPE_BF16)
                for (int64_t i = 0; i < n; i++)
                        to[i] = bf16_widen(halves[i]);
        else if (tf32)
                for (int64_t i = 0; i < n; i++)
                        to[i] = emu_tf32(floats[i]);
        else
                for (int64_t i = 0; i < n; i++)
                        to[i] = floats[i];
}

double *emu_zeros(int64_t n)
{
        double *const p = calloc((size_t)n, sizeof(*p));

        if (!p)
                emu_fault("no memory for %lld values of a product", (long long)n);
        return p;
}
