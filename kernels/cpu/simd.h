/* Vectors as wide as the instruction set's, and the block of a matrix product that stays in registers. Only for files
 * that are compiled once for each instruction set. */
#pragma once

#include "kernels/cpu/vector.h"

#if defined __AVX512F__
#define LANES 16
#define BLOCK_ROWS 12
#elif defined __AVX2__
#define LANES 8
#define BLOCK_ROWS 6
#else
#define LANES 4
#define BLOCK_ROWS 4
#endif
/* A block is BLOCK_ROWS x BLOCK_WIDTH: its sums, two vectors of the right-hand side and a broadcast value of the left
 * fill the registers, and loads are half of the multiplications. */
#define BLOCK_VECTORS 2
#define BLOCK_WIDTH (BLOCK_VECTORS * LANES)

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef vec vec_in_memory __attribute__((may_alias));
typedef vec vec_anywhere __attribute__((may_alias, aligned(sizeof(float))));

_inline_ vec vec_load(const float *p) /* aligned to the vector */
{
        return *(const vec_in_memory *)(const void *)p;
}

_inline_ vec vec_load_unaligned(const float *p)
{
        return *(const vec_anywhere *)(const void *)p;
}

_inline_ void vec_store(float *p, vec x)
{
        *(vec_in_memory *)(void *)p = x;
}

/* Where the operands of a product of blocks lie: a(row, k) = a[row * a_row + k * a_k], b(k, j) = b[k * b_k + j], and
 * c(row, j) = c[row * c_row + j]; b and c aligned to vectors. */
struct product {
        int64_t k, a_row, a_k, b_k, c_row;
        bool accumulate; /* c += a b */
};

/* rows <= BLOCK_ROWS rows of c, BLOCK_WIDTH wide; rows a constant. Each sum runs over k in order. */
_inline_ void product_block(const struct product *p, int rows, const float *restrict a, const float *restrict b,
                            float *restrict c)
{
        vec sum[BLOCK_ROWS][BLOCK_VECTORS];
        int64_t n = p->k, a_row = p->a_row, a_k = p->a_k, b_k = p->b_k;

#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int v = 0; v < BLOCK_VECTORS; v++)
                        sum[r][v] = (vec){0};
        for (int64_t k = 0; k < n; k++) {
                vec right[BLOCK_VECTORS];

#pragma GCC unroll 2
                for (int v = 0; v < BLOCK_VECTORS; v++)
                        right[v] = vec_load(b + k * b_k + v * LANES);
#pragma GCC unroll 16
                for (int r = 0; r < rows; r++) {
                        float left = a[r * a_row + k * a_k];

#pragma GCC unroll 2
                        for (int v = 0; v < BLOCK_VECTORS; v++)
                                sum[r][v] += left * right[v];
                }
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int v = 0; v < BLOCK_VECTORS; v++) {
                        float *at = c + r * p->c_row + v * LANES;

                        vec_store(at, p->accumulate ? vec_load(at) + sum[r][v] : sum[r][v]);
                }
}

/* The same for any number of rows. */
_inline_ void product_rows(const struct product *p, int64_t rows, const float *a, const float *b, float *c)
{
        int64_t r = 0;

        for (; r + BLOCK_ROWS <= rows; r += BLOCK_ROWS)
                product_block(p, BLOCK_ROWS, a + r * p->a_row, b, c + r * p->c_row);
        for (; r + 4 <= rows; r += 4)
                product_block(p, 4, a + r * p->a_row, b, c + r * p->c_row);
        for (; r + 2 <= rows; r += 2)
                product_block(p, 2, a + r * p->a_row, b, c + r * p->c_row);
        if (r < rows)
                product_block(p, 1, a + r * p->a_row, b, c + r * p->c_row);
}

/* n up to whole blocks. */
_inline_ int64_t block_align(int64_t n)
{
        return (n + BLOCK_WIDTH - 1) / BLOCK_WIDTH * BLOCK_WIDTH;
}

/* x [rows, columns], rows x_row apart, as a right-hand side: panels of BLOCK_WIDTH columns, [panel][row][BLOCK_WIDTH],
 * what is behind the last column zero. */
_inline_ void pack_panels(const float *x, int64_t x_row, int64_t rows, int64_t columns, float *ret)
{
        for (int64_t first = 0; first < columns; first += BLOCK_WIDTH) {
                int64_t width = MIN(columns - first, (int64_t)BLOCK_WIDTH);

                for (int64_t i = 0; i < rows; i++, ret += BLOCK_WIDTH)
                        for (int64_t j = 0; j < BLOCK_WIDTH; j++)
                                ret[j] = j < width ? x[i * x_row + first + j] : 0;
        }
}

/* The same of x's transpose: [panel of BLOCK_WIDTH rows][column][BLOCK_WIDTH]. */
_inline_ void pack_transposed(const float *x, int64_t x_row, int64_t rows, int64_t columns, float *ret)
{
        for (int64_t first = 0; first < rows; first += BLOCK_WIDTH, ret += columns * BLOCK_WIDTH) {
                int64_t height = MIN(rows - first, (int64_t)BLOCK_WIDTH);

                for (int64_t i = 0; i < BLOCK_WIDTH; i++)
                        for (int64_t j = 0; j < columns; j++)
                                ret[j * BLOCK_WIDTH + i] = i < height ? x[(first + i) * x_row + j] : 0;
        }
}

/* c [rows, columns up to whole blocks] = a b, b in panels of p->k rows; p->b_k is BLOCK_WIDTH. */
_inline_ void product_panels(const struct product *p, int64_t rows, int64_t columns, const float *a, const float *b,
                             float *c)
{
        for (int64_t j = 0; j < columns; j += BLOCK_WIDTH)
                product_rows(p, rows, a, b + j * p->k, c + j);
}
