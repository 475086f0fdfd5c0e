/* AdamW with an average of the weights. Spec 6; Loshchilov & Hutter 2019. */
#include "kernels/reference/reference.h"

#include <math.h>

static double outer_value(const struct outer_gradient *o, int64_t i)
{
        double sum = 0;

        for (int64_t row = 0; row < o->rows; row++)
                sum += (double)o->x[row * o->k + i / o->n] * o->dy[row * o->n + i % o->n];
        return sum;
}

static double dot(const float *a, const float *b, int64_t n)
{
        double sum = 0;

        for (int64_t i = 0; i < n; i++)
                sum += (double)a[i] * b[i];
        return sum;
}

/* |x^T dy|^2 = sum over pairs of rows of (x_a . x_b) (dy_a . dy_b) */
static double outer_squared_norm(const struct outer_gradient *o)
{
        double sum = 0;

        for (int64_t a = 0; a < o->rows; a++)
                for (int64_t b = 0; b < o->rows; b++)
                        sum += dot(o->x + a * o->k, o->x + b * o->k, o->k) *
                               dot(o->dy + a * o->n, o->dy + b * o->n, o->n);
        return sum;
}

int reference_squared_norm(const struct squared_norm_args *a)
{
        double sum = a->x ? dot(a->x, a->x, a->n) : outer_squared_norm(&a->outer);

        *a->ret = a->accumulate ? *a->ret + sum : sum;
        return 0;
}

/* Value i of the arrays; false, and they keep theirs, where one would not be finite. */
static bool update(const struct adamw_args *a, int64_t i, double gradient)
{
        double g = gradient * a->state->clip;
        double m = a->b1 * a->m[i] + (1 - a->b1) * g, v = a->b2 * a->v[i] + (1 - a->b2) * g * g;
        double u = m * a->state->m_correction / (sqrt(v * a->state->v_correction) + a->eps);
        double w = a->w[i] - (float)a->state->learning_rate * (u + a->weight_decay * a->w[i]);
        double ema = a->ema[i] + (1 - a->ema_rate) * (w - a->ema[i]);

        if (!isfinite((float)m) || !isfinite((float)v) || !isfinite((float)w) || !isfinite((float)ema))
                return false;
        a->m[i] = (float)m;
        a->v[i] = (float)v;
        a->ema[i] = (float)ema;
        a->w[i] = (float)w;
        return true;
}

int reference_adamw(const struct adamw_args *a)
{
        bool finite = true;

        if (a->state->failure != FAILURE_NONE)
                return 0;
        for (int64_t i = 0; i < a->n; i++)
                finite &= update(a, i, a->g ? a->g[i] : outer_value(&a->outer, i));
        if (!finite)
                a->state->failure = FAILURE_WEIGHT;
        return 0;
}
