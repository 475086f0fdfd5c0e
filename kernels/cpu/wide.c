/* x w + b in double for a few rows: the weights are read once, a strip of columns a thread at a time, and widened four
 * rows of the kernel at a time, so that the sums, which stay in the first cache, are touched once for four products. */
#include "kernels/cpu/vector.h"
#include "kernels/reference/reference.h"

#define STRIP 256
#define ROWS 8 /* of x together */
#define DEPTH 4

struct strip {
        double sum[ROWS][STRIP];
        double w[DEPTH][STRIP];
};

/* sum += x[.., l .. l + depth) w[l .. l + depth, o .. o + width) */
_inline_ void add_products(const struct wide_dense_forward_args *a, struct strip *s, int64_t first, int64_t rows,
                           int64_t l, int64_t depth, int64_t o, int64_t width)
{
        for (int64_t d = 0; d < DEPTH; d++) {
                const float *w = a->w + (l + MIN(d, depth - 1)) * a->n + o;

#pragma omp simd
                for (int64_t j = 0; j < width; j++)
                        s->w[d][j] = w[j];
        }
        for (int64_t i = 0; i < rows; i++) {
                double x[DEPTH] = {0};
                double *restrict sum = s->sum[i];

                for (int64_t d = 0; d < depth; d++)
                        x[d] = pair(a->x, a->x_low, (first + i) * a->k + l + d);
#pragma omp simd
                for (int64_t j = 0; j < width; j++)
                        sum[j] += x[0] * s->w[0][j] + x[1] * s->w[1][j] + x[2] * s->w[2][j] + x[3] * s->w[3][j];
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
                        for (int64_t l = 0; l < a->k; l += DEPTH)
                                add_products(a, &s, first, rows, l, MIN(a->k - l, (int64_t)DEPTH), o, width);
                        for (int64_t i = 0; i < rows; i++)
                                for (int64_t j = 0; j < width; j++)
                                        set_pair(a->y, a->y_low, (first + i) * a->n + o + j, s.sum[i][j]);
                }
        }
        return 0;
}
