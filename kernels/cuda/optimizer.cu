/* AdamW with an average of the weights, in double. Spec 6; Loshchilov & Hutter 2019. */
#include "kernels/cuda/cuda.h"

namespace
{

enum { COLLECT_BLOCK = 1024 };

__device__ inline double outer_value(const struct outer_gradient &o, int64_t i)
{
        const int64_t k = i / o.n, n = i % o.n;
        double sum = 0;

        for (int64_t row = 0; row < o.rows; row++)
                sum += (double)o.x[row * o.k + k] * o.dy[row * o.n + n];
        return sum;
}

__device__ inline double block_dot(const float *a, const float *b, int64_t n)
{
        double sum = 0;

        for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
                sum += (double)a[i] * b[i];
        return block_sum(sum);
}

/* By V neighbours. */
template <int V> __global__ void __launch_bounds__(BLOCK) squares(int64_t n, const float *x, double *partial)
{
        double sum = 0;

        FOR_EACH(i, n / V)
        {
                const vector<float, V> all = load<float, V>(x + V * i);

                for (int e = 0; e < V; e++)
                        sum += (double)all.v[e] * all.v[e];
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0)
                partial[blockIdx.x] = sum;
}

/* |x^T dy|^2 = sum over pairs of rows of (x_a . x_b) (dy_a . dy_b): a pair a block. The matrix is symmetric: twice what
 * lies above its diagonal. */
__global__ void __launch_bounds__(BLOCK) outer_squares(struct outer_gradient o, double *partial)
{
        const int64_t a = blockIdx.x / o.rows, b = blockIdx.x % o.rows;
        double sum = 0;

        if (a <= b)
                sum = block_dot(o.x + a * o.k, o.x + b * o.k, o.k) * block_dot(o.dy + a * o.n, o.dy + b * o.n, o.n);
        if (threadIdx.x == 0)
                partial[blockIdx.x] = a == b ? sum : 2 * sum;
}

__global__ void __launch_bounds__(COLLECT_BLOCK) collect(int64_t n, const double *partial, double *ret, bool accumulate)
{
        double sum = 0;

        for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
                sum += partial[i];
        sum = block_sum(sum);
        if (threadIdx.x == 0)
                *ret = accumulate ? *ret + sum : sum;
}

/* Values are updated or, where one would not be finite, keep theirs, and the state fails: all blocks that see it write
 * the same. So the state's failure is looked at by another launch, not by a neighbour of this one. */
template <int V> __global__ void __launch_bounds__(BLOCK) adamw(struct adamw_args a, uint32_t *failed)
{
        const float clip = a.state->clip, m_correction = a.state->m_correction, v_correction = a.state->v_correction;
        const float rate = (float)a.state->learning_rate;

        if (*failed)
                return;
        FOR_EACH(i, a.n / V)
        {
                vector<float, V> gs = {}, ms = load<float, V>(a.m + V * i), vs = load<float, V>(a.v + V * i);
                vector<float, V> ws = load<float, V>(a.w + V * i), emas = load<float, V>(a.ema + V * i);

                if (a.g)
                        gs = load<float, V>(a.g + V * i);
                for (int e = 0; e < V; e++) {
                        const double g = (a.g ? (double)gs.v[e] : outer_value(a.outer, V * i + e)) * clip;
                        const double m = a.b1 * ms.v[e] + (1 - a.b1) * g, v = a.b2 * vs.v[e] + (1 - a.b2) * g * g;
                        const double u = m * m_correction / (sqrt(v * v_correction) + a.eps);
                        const double w = ws.v[e] - rate * (u + a.weight_decay * ws.v[e]);
                        const double ema = emas.v[e] + (1 - a.ema_rate) * (w - emas.v[e]);

                        if (!isfinite((float)m) || !isfinite((float)v) || !isfinite((float)w) ||
                            !isfinite((float)ema)) {
                                a.state->failure = FAILURE_WEIGHT;
                                continue;
                        }
                        ms.v[e] = (float)m;
                        vs.v[e] = (float)v;
                        emas.v[e] = (float)ema;
                        ws.v[e] = (float)w;
                }
                store<float, V>(a.m + V * i, ms);
                store<float, V>(a.v + V * i, vs);
                store<float, V>(a.ema + V * i, emas);
                store<float, V>(a.w + V * i, ws);
        }
}

/* Whether n values from each pointer on can be read by fours. */
bool in_fours(int64_t n, const void *a, const void *b = NULL, const void *c = NULL, const void *d = NULL,
              const void *e = NULL)
{
        return n % 4 == 0 && ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d | (uintptr_t)e) % 16 == 0;
}

__global__ void __launch_bounds__(32) note_failure(const struct step_state *state, uint32_t *failed)
{
        if (threadIdx.x == 0)
                *failed = state->failure;
}
} // namespace

void cuda_squared_norm(struct stream *s, const struct squared_norm_args *a)
{
        double *partial = (double *)stream_scratch(s);
        int64_t n = grid_of(a->n);

        if (a->x) {
                if (in_fours(a->n, a->x))
                        RUN(s, "squared_norm", squares<4>, (unsigned)n, BLOCK, 0, a->n, a->x, partial);
                else
                        RUN(s, "squared_norm", squares<1>, (unsigned)n, BLOCK, 0, a->n, a->x, partial);
        } else {
                n = a->outer.rows * a->outer.rows;
                if (n * (int64_t)sizeof(double) > (int64_t)SCRATCH_BYTES) {
                        stream_launched(s, "squared_norm", cudaErrorInvalidValue);
                        return;
                }
                RUN(s, "squared_norm", outer_squares, (unsigned)n, BLOCK, 0, a->outer, partial);
        }
        RUN(s, "squared_norm", collect, 1, COLLECT_BLOCK, 0, n, (const double *)partial, a->ret, a->accumulate);
}

void cuda_adamw(struct stream *s, const struct adamw_args *a)
{
        uint32_t *failed = (uint32_t *)stream_scratch(s);

        RUN(s, "adamw", note_failure, 1, 32, 0, (const struct step_state *)a->state, failed);
        if (in_fours(a->n, a->w, a->m, a->v, a->ema, a->g))
                RUN(s, "adamw", adamw<4>, grid_of(a->n / 4), BLOCK, 0, *a, failed);
        else
                RUN(s, "adamw", adamw<1>, grid_of(a->n), BLOCK, 0, *a, failed);
}
