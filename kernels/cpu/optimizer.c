/* AdamW with an average of the weights: five arrays, one pass. Spec 6. */
#include "kernels/cpu/simd.h"
#include "kernels/reference/reference.h"

#include <math.h>

#define N_SLICES 64 /* partial sums in a fixed order, whatever the number of threads */

static double inner_product(const float *restrict x, const float *restrict y, int64_t n)
{
        double sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++)
                sum += (double)x[i] * y[i];
        return sum;
}

/* |x^T dy|^2 = sum over pairs of rows of (x_a . x_b) (dy_a . dy_b): rows (rows + 1) / 2 pairs of inner products instead
 * of k n sums over rows. */
static int factors_norm(const struct squared_norm_args *a)
{
        const struct outer_gradient *o = &a->outer;
        double partial[N_SLICES], sum = 0;
        int64_t pairs = o->rows * o->rows;

#pragma omp parallel for schedule(static)
        for (int64_t p = 0; p < N_SLICES; p++) {
                partial[p] = 0;
                for (int64_t i = pairs * p / N_SLICES; i < pairs * (p + 1) / N_SLICES; i++) {
                        int64_t row = i / o->rows, column = i % o->rows;

                        if (column > row)
                                continue;
                        partial[p] += (column < row ? 2 : 1) *
                                      inner_product(o->x + row * o->k, o->x + column * o->k, o->k) *
                                      inner_product(o->dy + row * o->n, o->dy + column * o->n, o->n);
                }
        }
        for (int p = 0; p < N_SLICES; p++)
                sum += partial[p];
        sum = sum < 0 ? 0 : sum; /* rounding, where it is nothing but that */
        *a->ret = a->accumulate ? *a->ret + sum : sum;
        return 0;
}

int V(squared_norm)(const struct squared_norm_args *a)
{
        double partial[N_SLICES], sum = 0;
        const float *x = a->x;
        int64_t n = a->n;

        if (!x)
                return factors_norm(a);
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
        for (int64_t p = 0; p < N_SLICES; p++) {
                int64_t first = n * p / N_SLICES, end = n * (p + 1) / N_SLICES;
                double slice = 0;

#pragma omp simd reduction(+ : slice)
                for (int64_t i = first; i < end; i++)
                        slice += (double)x[i] * x[i];
                partial[p] = slice;
        }
        for (int p = 0; p < N_SLICES; p++)
                sum += partial[p];
        *a->ret = a->accumulate ? *a->ret + sum : sum;
        return 0;
}

struct update {
        float clip, b1, b2, rest1, rest2, rest_ema, eps, rate, decay, m_correction, v_correction;
};

static struct update update_of(const struct adamw_args *a)
{
        return (struct update){
                .clip = a->state->clip,
                .b1 = (float)a->b1,
                .b2 = (float)a->b2,
                .rest1 = (float)(1 - a->b1),
                .rest2 = (float)(1 - a->b2),
                .rest_ema = (float)(1 - a->ema_rate),
                .eps = a->eps,
                .rate = (float)a->state->learning_rate,
                .decay = (float)a->state->learning_rate * a->weight_decay,
                .m_correction = a->state->m_correction,
                .v_correction = a->state->v_correction,
        };
}

/* All bits where all are finite, else none: x - x is 0 or NaN. */
_inline_ uint32_t finite_mask(float a, float b, float c, float d)
{
        return (a - a) + (b - b) + ((c - c) + (d - d)) == 0 ? ~0u : 0u;
}

/* By bits: of `ok ? x : old` the compiler makes a masked store, which costs ten times as much on some processors. */
_inline_ float choose_float(uint32_t mask, float x, float old)
{
        return float_of_bits((bits_of_float(x) & mask) | (bits_of_float(old) & ~mask));
}

/* Value i of the arrays, with its gradient; where one would not be finite they keep theirs and bad is set. */
#define UPDATE_ONE(u, i, gradient, bad)                                                                                \
        do {                                                                                                           \
                float g_ = (gradient) * (u).clip;                                                                      \
                float m_ = (u).b1 * m[i] + (u).rest1 * g_, v_ = (u).b2 * v[i] + (u).rest2 * (g_ * g_);                 \
                float step_ = m_ * (u).m_correction / (__builtin_sqrtf(v_ * (u).v_correction) + (u).eps);              \
                float w_ = w[i] - ((u).rate * step_ + (u).decay * w[i]), ema_ = ema[i] + (u).rest_ema * (w_ - ema[i]); \
                uint32_t ok_ = finite_mask(m_, v_, w_, ema_);                                                          \
                                                                                                                       \
                m[i] = choose_float(ok_, m_, m[i]);                                                                    \
                v[i] = choose_float(ok_, v_, v[i]);                                                                    \
                ema[i] = choose_float(ok_, ema_, ema[i]);                                                              \
                w[i] = choose_float(ok_, w_, w[i]);                                                                    \
                bad |= (int)~ok_;                                                                                      \
        } while (0)

#define STRIP 512         /* columns whose gradient is made at a time, from factors that stay in the first cache */
#define GROUP (4 * LANES) /* of these, as many as are summed in registers at a time */

/* g = columns first .. first + width of row i of x^T dy. */
_inline_ void strip_gradient(const struct outer_gradient *o, int64_t i, int64_t first, int64_t width, float *restrict g)
{
        int64_t j = 0;

        for (; j + GROUP <= width; j += GROUP) {
                vec sum[GROUP / LANES] = {{0}};

                for (int64_t row = 0; row < o->rows; row++) {
                        const float *dy = o->dy + row * o->n + first + j;

#pragma GCC unroll 4
                        for (int q = 0; q < GROUP / LANES; q++)
                                sum[q] += o->x[row * o->k + i] * vec_load_unaligned(dy + q * LANES);
                }
                memcpy(g + j, sum, sizeof(sum));
        }
        for (; j < width; j++) {
                g[j] = 0;
                for (int64_t row = 0; row < o->rows; row++)
                        g[j] += o->x[row * o->k + i] * o->dy[row * o->n + first + j];
        }
}

/* Columns first .. first + width of row i of the kernel; not 0 where one is not updated. */
_inline_ int update_strip(const struct adamw_args *a, const struct update *u, int64_t i, int64_t first, int64_t width)
{
        const struct outer_gradient *o = &a->outer;
        int64_t at = i * o->n + first;
        float *restrict w = a->w + at, *restrict m = a->m + at, *restrict v = a->v + at, *restrict ema = a->ema + at;
        float g[STRIP];
        int bad = 0;

        strip_gradient(o, i, first, width, g);
#pragma omp simd reduction(| : bad)
        for (int64_t j = 0; j < width; j++)
                UPDATE_ONE(*u, j, g[j], bad);
        return bad;
}

int V(adamw)(const struct adamw_args *a)
{
        const struct outer_gradient *o = &a->outer;
        struct update u = update_of(a);
        float *restrict w = a->w, *restrict m = a->m, *restrict v = a->v, *restrict ema = a->ema;
        const float *restrict g = a->g;
        int bad = 0;

        if (a->state->failure != FAILURE_NONE)
                return 0;
        if (g) {
#pragma omp parallel for simd schedule(static) reduction(| : bad) if (a->n > PARALLEL_MIN)
                for (int64_t i = 0; i < a->n; i++)
                        UPDATE_ONE(u, i, g[i], bad);
        } else {
#pragma omp parallel for schedule(static) reduction(| : bad) if (a->n > PARALLEL_MIN)
                for (int64_t i = 0; i < o->k; i++)
                        for (int64_t first = 0; first < o->n; first += STRIP)
                                bad |= update_strip(a, &u, i, first, MIN(o->n - first, (int64_t)STRIP));
        }
        if (bad)
                a->state->failure = FAILURE_WEIGHT;
        return 0;
}
