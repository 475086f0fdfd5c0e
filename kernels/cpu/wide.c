/* x w + b in double for a few rows: the weights are read once, a strip of columns a thread at a time. DEPTH rows of the
 * kernel are widened into registers and multiplied with all rows of x, so that the sums, which stay in the first cache,
 * are touched once for so many products. */
#include "kernels/cpu/simd.h"
#include "kernels/reference/reference.h"

#define STRIP 256
#define ROWS 8 /* of x together */
#define WIDE_LANES (LANES / 2)
#define LINE (KERNELS_ALIGN / (int64_t)sizeof(float)) /* floats of a line of the cache */
#if LANES == 16
#define DEPTH 16
#else
#define DEPTH 4
#endif

typedef double wide_vec __attribute__((vector_size(8 * WIDE_LANES)));
typedef wide_vec wide_vec_in_memory __attribute__((may_alias));
typedef float narrow_vec __attribute__((vector_size(4 * WIDE_LANES)));
typedef narrow_vec narrow_vec_anywhere __attribute__((may_alias, aligned(sizeof(float))));

struct strip {
        _Alignas(KERNELS_ALIGN) double sum[ROWS][STRIP];
        double x[ROWS][DEPTH];    /* zero behind the last row of the kernel */
        const float *next[DEPTH]; /* those behind them: rows lie too far apart to be fetched by foresight */
        const float *w[DEPTH];    /* rows of the kernel from the strip's first column on; the last again */
};

/* sum += x w, for the DEPTH rows of the kernel at hand */
_inline_ void add_strip(struct strip *s, int64_t rows, int64_t width)
{
        int64_t j = 0;

        for (; j + WIDE_LANES <= width; j += WIDE_LANES) {
                wide_vec w[DEPTH];

#pragma GCC unroll 16
                for (int d = 0; d < DEPTH; d++)
                        w[d] = __builtin_convertvector(*(const narrow_vec_anywhere *)(const void *)(s->w[d] + j),
                                                       wide_vec);
                if (j % LINE == 0)
                        for (int d = 0; d < DEPTH; d++)
                                __builtin_prefetch(s->next[d] + j);
                for (int64_t i = 0; i < rows; i++) {
                        wide_vec_in_memory *sum = (wide_vec_in_memory *)(void *)(s->sum[i] + j);
                        wide_vec v = *sum;

#pragma GCC unroll 16
                        for (int d = 0; d < DEPTH; d++)
                                v += s->x[i][d] * w[d];
                        *sum = v;
                }
        }
        for (; j < width; j++)
                for (int64_t i = 0; i < rows; i++)
                        for (int d = 0; d < DEPTH; d++)
                                s->sum[i][j] += s->x[i][d] * (double)s->w[d][j];
}

/* What add_strip multiplies: x's columns and the kernel's rows from l on. */
static void take_depth(const struct wide_dense_forward_args *a, struct strip *s, int64_t first, int64_t rows, int64_t l,
                       int64_t o)
{
        for (int d = 0; d < DEPTH; d++) {
                s->w[d] = a->w + MIN(l + d, a->k - 1) * a->n + o;
                s->next[d] = a->w + MIN(l + DEPTH + d, a->k - 1) * a->n + o;
                for (int64_t i = 0; i < rows; i++)
                        s->x[i][d] = l + d < a->k ? pair(a->x, a->x_low, (first + i) * a->k + l + d) : 0;
        }
}

int V(wide_dense_forward)(const struct wide_dense_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t o = 0; o < a->n; o += STRIP) {
                int64_t width = MIN(a->n - o, (int64_t)STRIP);
                struct strip s;

                for (int64_t first = 0; first < a->m; first += ROWS) {
                        int64_t rows = MIN(a->m - first, (int64_t)ROWS);

                        for (int64_t i = 0; i < rows; i++)
                                for (int64_t j = 0; j < width; j++)
                                        s.sum[i][j] = a->b ? a->b[o + j] : 0;
                        for (int64_t l = 0; l < a->k; l += DEPTH) {
                                take_depth(a, &s, first, rows, l, o);
                                add_strip(&s, rows, width);
                        }
                        for (int64_t i = 0; i < rows; i++)
                                for (int64_t j = 0; j < width; j++)
                                        set_pair(a->y, a->y_low, (first + i) * a->n + o + j, s.sum[i][j]);
                }
        }
        return 0;
}
