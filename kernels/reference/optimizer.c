/* AdamW with an average of the weights. Spec 6; Loshchilov & Hutter 2019. */
#include "kernels/reference/reference.h"

#include <math.h>

int reference_squared_norm(const struct squared_norm_args *a)
{
        double sum = 0;

        for (int64_t i = 0; i < a->n; i++)
                sum += (double)a->x[i] * a->x[i];
        *a->ret = a->accumulate ? *a->ret + sum : sum;
        return 0;
}

int reference_adamw(const struct adamw_args *a)
{
        double norm = a->clip_norm > 0 ? sqrt(*a->squared_norm) : 0;
        double clip = norm > 0 && norm >= a->clip_norm ? a->clip_norm / norm : 1;

        for (int64_t i = 0; i < a->n; i++) {
                double g = a->g[i] * clip;
                double m = a->b1 * a->m[i] + (1 - a->b1) * g, v = a->b2 * a->v[i] + (1 - a->b2) * g * g;
                double u = m * a->state->m_correction / (sqrt(v * a->state->v_correction) + a->eps);
                double w = a->w[i] - a->state->learning_rate * (u + a->weight_decay * a->w[i]);

                a->m[i] = (float)m;
                a->v[i] = (float)v;
                a->ema[i] = (float)(a->ema[i] + (1 - a->ema_rate) * (w - a->ema[i]));
                a->w[i] = (float)w;
        }
        return 0;
}
