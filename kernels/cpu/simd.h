/* Vectors as wide as the instruction set's, values of either type in them, and the block of a matrix product that stays
 * in registers. Only for files that are compiled once for each instruction set.
 *
 * A product's operands are words of four bytes: a float32, or two bf16 that follow each other along the sum, the first
 * in the low half, as AVX512_BF16 multiplies them. So one micro-kernel serves both types, and k counts words. Where the
 * processor lacks that instruction the halves are widened and multiplied one after the other. Sums are float32 always.
 * `type` is a constant where these are called: the compiler leaves the other type out. */
#pragma once

#include "kernels/cpu/vector.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

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
typedef uint32_t bits_vec __attribute__((vector_size(4 * LANES)));
typedef uint16_t half_vec __attribute__((vector_size(2 * LANES)));
typedef half_vec half_vec_anywhere __attribute__((may_alias, aligned(sizeof(uint16_t))));
typedef float word __attribute__((may_alias)); /* only moved, never computed with, where it is two bf16 */

_inline_ vec vec_load(const word *p) /* aligned to the vector */
{
        return *(const vec_in_memory *)(const void *)p;
}

_inline_ vec vec_load_unaligned(const word *p)
{
        return *(const vec_anywhere *)(const void *)p;
}

_inline_ void vec_store(word *p, vec x)
{
        *(vec_in_memory *)(void *)p = x;
}

/* ---- values of either type */

/* How many values a word holds. */
_inline_ int64_t word_values(enum dtype type)
{
        return type == DTYPE_BF16 ? 2 : 1;
}

/* Words of n values, the last filled up. */
_inline_ int64_t n_words(enum dtype type, int64_t n)
{
        return (n + word_values(type) - 1) / word_values(type);
}

/* To nearest even; a NaN stays one. */
_inline_ half_vec round_halves(vec x)
{
#ifdef __AVX512BF16__
        return (half_vec)_mm512_cvtneps_pbh((__m512)x);
#else
        bits_vec bits = (bits_vec)x, rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
        bits_vec is_nan = (bits_vec)((bits & 0x7fffffffu) > 0x7f800000u);

        return __builtin_convertvector((rounded & ~is_nan) | ((bits >> 16 | 0x40u) & is_nan), half_vec);
#endif
}

/* LANES values from x[i] on. */
_inline_ vec values_load(enum dtype type, const void *x, int64_t i)
{
        const void *at = value_address(type, x, i);

        if (type == DTYPE_FLOAT32)
                return vec_load_unaligned(at);
        return (vec)(__builtin_convertvector(*(const half_vec_anywhere *)at, bits_vec) << 16);
}

_inline_ void values_store(enum dtype type, void *y, int64_t i, vec x)
{
        if (type == DTYPE_FLOAT32)
                *(vec_anywhere *)(void *)((float *)y + i) = x;
        else
                *(half_vec_anywhere *)(void *)((uint16_t *)y + i) = round_halves(x);
}

/* Words along the sum: of one vector of float32, or of two that are rounded. */
_inline_ vec words_of(enum dtype type, vec first, vec second)
{
        if (type == DTYPE_FLOAT32)
                return first;
        return (vec)(__builtin_convertvector(round_halves(first), bits_vec) |
                     __builtin_convertvector(round_halves(second), bits_vec) << 16);
}

/* to[i] = from[i], rounded where `to` is bf16. */
_inline_ void values_copy(enum dtype from_type, const void *from, enum dtype to_type, void *to, int64_t n)
{
        int64_t i = 0;

        for (; i + LANES <= n; i += LANES)
                values_store(to_type, to, i, values_load(from_type, from, i));
        for (; i < n; i++)
                value_store(to_type, to, i, value_load(from_type, from, i));
}

/* The same on all threads, of two types that differ. */
static inline void values_convert(enum dtype from_type, const void *from, void *to, int64_t n)
{
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
        for (int64_t i = 0; i < n; i += PIECE)
                if (from_type == DTYPE_BF16)
                        values_copy(DTYPE_BF16, value_address(DTYPE_BF16, from, i), DTYPE_FLOAT32, (float *)to + i,
                                    MIN(n - i, (int64_t)PIECE));
                else
                        values_copy(DTYPE_FLOAT32, (const float *)from + i, DTYPE_BF16,
                                    (void *)value_address(DTYPE_BF16, to, i), MIN(n - i, (int64_t)PIECE));
}

/* ---- products */

/* Where the operands of a product of blocks lie, in words: a(row, k) = a[row * a_row + k * a_k], b(k, j) = b[k * b_k +
 * j], and c(row, j) = c[row * c_row + j]; b and c aligned to vectors. */
struct product {
        int64_t k, a_row, a_k, b_k, c_row;
        bool accumulate; /* c += a b */
};

#ifdef __AVX512BF16__
#define N_PASSES(type) 1

_inline_ vec multiply_add(enum dtype type, int pass, vec sum, word left, vec right)
{
        (void)pass;
        if (type == DTYPE_FLOAT32)
                return sum + left * right;
        return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(left), (__m512bh)right);
}
#else
#define N_PASSES(type) ((type) == DTYPE_BF16 ? 2 : 1) /* first halves, second halves */

_inline_ vec multiply_add(enum dtype type, int pass, vec sum, word left, vec right)
{
        if (type == DTYPE_BF16) {
                uint32_t bits = bits_of_float(left);

                left = float_of_bits(pass ? bits & 0xffff0000u : bits << 16);
                right = (vec)(pass ? (bits_vec)right & 0xffff0000u : (bits_vec)right << 16);
        }
        return sum + left * right;
}
#endif

/* sum += left right, for one k: left's words are a_row apart. */
_inline_ void add_products(enum dtype type, int pass, int rows, const word *restrict a, int64_t a_row,
                           const vec right[BLOCK_VECTORS], vec sum[BLOCK_ROWS][BLOCK_VECTORS])
{
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
                word left = a[r * a_row];

#pragma GCC unroll 2
                for (int v = 0; v < BLOCK_VECTORS; v++)
                        sum[r][v] = multiply_add(type, pass, sum[r][v], left, right[v]);
        }
}

/* rows <= BLOCK_ROWS rows of c, BLOCK_WIDTH wide; rows a constant. Each sum runs over k in order. */
_inline_ void product_block(const struct product *p, enum dtype type, int rows, const word *restrict a,
                            const word *restrict b, float *restrict c)
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
                add_products(type, 0, rows, a + k * a_k, a_row, right, sum);
                if (N_PASSES(type) == 2)
                        add_products(type, 1, rows, a + k * a_k, a_row, right, sum);
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
_inline_ void product_rows(const struct product *p, enum dtype type, int64_t rows, const word *a, const word *b,
                           float *c)
{
        int64_t r = 0;

        for (; r + BLOCK_ROWS <= rows; r += BLOCK_ROWS)
                product_block(p, type, BLOCK_ROWS, a + r * p->a_row, b, c + r * p->c_row);
        for (; r + 4 <= rows; r += 4)
                product_block(p, type, 4, a + r * p->a_row, b, c + r * p->c_row);
        for (; r + 2 <= rows; r += 2)
                product_block(p, type, 2, a + r * p->a_row, b, c + r * p->c_row);
        if (r < rows)
                product_block(p, type, 1, a + r * p->a_row, b, c + r * p->c_row);
}

/* c [rows, columns up to whole blocks] = a b, b in panels of p->k words; p->b_k is BLOCK_WIDTH. */
_inline_ void product_panels(const struct product *p, enum dtype type, int64_t rows, int64_t columns, const word *a,
                             const word *b, float *c)
{
        for (int64_t j = 0; j < columns; j += BLOCK_WIDTH)
                product_rows(p, type, rows, a, b + j * p->k, c + j);
}

/* n up to whole blocks. */
_inline_ int64_t block_align(int64_t n)
{
        return (n + BLOCK_WIDTH - 1) / BLOCK_WIDTH * BLOCK_WIDTH;
}

/* ---- operands: x [rows, columns] of type `from`, rows x_row values apart, as words of type `type` */

_inline_ uint32_t half_at(enum dtype from, const void *x, int64_t i)
{
        return from == DTYPE_BF16 ? ((const uint16_t *)x)[i] : bf16_round(((const float *)x)[i]);
}

/* A word of the values at i and, where there is a second, at j. */
_inline_ word word_at(enum dtype from, enum dtype type, const void *x, int64_t i, bool second, int64_t j)
{
        if (type == DTYPE_FLOAT32)
                return value_load(from, x, i);
        return float_of_bits(half_at(from, x, i) | (second ? half_at(from, x, j) : 0) << 16);
}

/* One word of rows, from row i on, of columns [first, first + n). */
_inline_ void pack_row(enum dtype from, enum dtype type, const void *x, int64_t x_row, int64_t i, int64_t rows,
                       int64_t first, int64_t n, word *ret)
{
        int64_t at = i * x_row + first, j = 0;
        bool second = i + 1 < rows;

        for (; j + LANES <= n; j += LANES)
                vec_store(ret + j,
                          words_of(type, values_load(from, x, at + j),
                                   type == DTYPE_BF16 && second ? values_load(from, x, at + x_row + j) : (vec){0}));
        for (; j < n; j++)
                ret[j] = word_at(from, type, x, at + j, second, at + x_row + j);
}

/* A right-hand side whose sum runs over x's rows: panels of BLOCK_WIDTH columns, [panel][word of rows][BLOCK_WIDTH],
 * what is behind the last row and column zero. */
_inline_ void pack_panels(enum dtype from, enum dtype type, const void *x, int64_t x_row, int64_t rows, int64_t columns,
                          word *ret)
{
        for (int64_t first = 0; first < columns; first += BLOCK_WIDTH) {
                int64_t width = MIN(columns - first, (int64_t)BLOCK_WIDTH);

                for (int64_t i = 0; i < rows; i += word_values(type), ret += BLOCK_WIDTH) {
                        pack_row(from, type, x, x_row, i, rows, first, width, ret);
                        for (int64_t j = width; j < BLOCK_WIDTH; j++)
                                ret[j] = 0;
                }
        }
}

/* The same whose sum runs over x's columns: [panel of BLOCK_WIDTH rows][word of columns][BLOCK_WIDTH]. */
_inline_ void pack_transposed(enum dtype from, enum dtype type, const void *x, int64_t x_row, int64_t rows,
                              int64_t columns, word *ret)
{
        int64_t step = word_values(type), depth = n_words(type, columns);
        bool in_words = from == type && (columns | x_row) % step == 0;

        for (int64_t first = 0; first < rows; first += BLOCK_WIDTH, ret += depth * BLOCK_WIDTH)
                for (int64_t i = 0; i < BLOCK_WIDTH; i++) {
                        int64_t at = (first + i) * x_row;

                        if (first + i >= rows)
                                for (int64_t j = 0; j < depth; j++)
                                        ret[j * BLOCK_WIDTH + i] = 0;
                        else if (in_words)
                                for (int64_t j = 0; j < depth; j++)
                                        ret[j * BLOCK_WIDTH + i] = ((const word *)x)[at / step + j];
                        else
                                for (int64_t j = 0; j < depth; j++)
                                        ret[j * BLOCK_WIDTH + i] = word_at(from, type, x, at + j * step,
                                                                           j * step + 1 < columns, at + j * step + 1);
                }
}

/* A left-hand side whose sum runs over x's columns, [row][word of columns]: x itself where it lies so, else made in
 * `room`. ret_row: words from row to row. */
_inline_ const word *left_rows(enum dtype from, enum dtype type, const void *x, int64_t x_row, int64_t rows,
                               int64_t columns, word *room, int64_t *ret_row)
{
        int64_t step = word_values(type), depth = n_words(type, columns);

        *ret_row = x_row / step;
        if (from == type && (columns | x_row) % step == 0)
                return x;
        *ret_row = depth;
        for (int64_t i = 0; i < rows; i++) {
                word *to = room + i * depth;
                int64_t j = 0;

                for (; j + LANES <= columns; j += LANES)
                        values_store(type, to, j, values_load(from, x, i * x_row + j));
                for (; j < columns; j += step)
                        to[j / step] = word_at(from, type, x, i * x_row + j, j + 1 < columns, i * x_row + j + 1);
        }
        return room;
}

/* A left-hand side whose sum runs over x's rows, [word of rows][column]: of float32 x itself, else made in `room`,
 * whose rows are room_row apart, whole vectors. The room may be x, of float32, with room_row 2 x_row. */
_inline_ const word *left_columns(enum dtype from, enum dtype type, const void *x, int64_t x_row, int64_t rows,
                                  int64_t columns, word *room, int64_t room_row, int64_t *ret_row)
{
        bool itself = from == type && type == DTYPE_FLOAT32;

        *ret_row = itself ? x_row : room_row;
        for (int64_t i = 0; !itself && i < rows; i += word_values(type))
                pack_row(from, type, x, x_row, i, rows, 0, columns, room + i / word_values(type) * room_row);
        return itself ? x : room;
}
