/* AdamW with an average of the weights: five arrays, one pass. Spec 6. */
#include "kernels/cpu/vector.h"

#include <math.h>

#define N_SLICES 64 /* partial sums in a fixed order, whatever the number of threads */

int V(squared_norm)(const struct squared_norm_args *a)
{
        double partial[N_SLICES], sum = 0;
        const float *x = a->x;
        int64_t n = a->n;

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

int V(adamw)(const struct adamw_args *a)
{
        double norm = a->clip_norm > 0 ? sqrt(*a->squared_norm) : 0;
        float clip = norm > 0 && norm >= a->clip_norm ? (float)(a->clip_norm / norm) : 1;
        float b1 = (float)a->b1, b2 = (float)a->b2, eps = a->eps, rate = a->state->learning_rate;
        float rest1 = (float)(1 - a->b1), rest2 = (float)(1 - a->b2), rest_ema = (float)(1 - a->ema_rate);
        float m_correction = a->state->m_correction, v_correction = a->state->v_correction;
        float decay = rate * a->weight_decay;
        float *restrict w = a->w, *restrict m = a->m, *restrict v = a->v, *restrict ema = a->ema;
        const float *restrict g = a->g;

#pragma omp parallel for simd schedule(static) if (a->n > PARALLEL_MIN)
        for (int64_t i = 0; i < a->n; i++) {
                float gi = g[i] * clip, mi = b1 * m[i] + rest1 * gi, vi = b2 * v[i] + rest2 * (gi * gi);
                float u = mi * m_correction / (__builtin_sqrtf(vi * v_correction) + eps);
                float wi = w[i] - (rate * u + decay * w[i]);

                m[i] = mi;
                v[i] = vi;
                ema[i] += rest_ema * (wi - ema[i]);
                w[i] = wi;
        }
        return 0;
}
