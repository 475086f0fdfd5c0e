/* The probability flow and its integrator, in double. Spec 7. A trajectory is a block's wherever its values are summed.
 */
#include "kernels/cuda/cuda.h"

namespace
{

enum { ONE = 32 }; /* threads of a block of which the first works */

/* ---- the slope */

__global__ void __launch_bounds__(BLOCK) drift(struct drift_args a)
{
        FOR_EACH(i, a.m * a.d)
        {
                const int64_t at = a.g == 1 ? i / a.d : i;
                struct drift_weights w = drift_weights_of(a.parameterisation, a.gamma[at], a.gamma_prime[at]);

                w.coefficient *= a.reverse ? -1 : 1;
                a.k[i] = (float)(w.coefficient * (w.net * a.net[i] + w.x * pair(a.x, a.x_low, i)));
                if (!a.probe)
                        continue;
                a.d_net[i] = (float)(w.coefficient * w.net * a.probe[i]);
                a.d_x[i] = (float)(w.coefficient * w.x * a.probe[i]);
        }
}

__global__ void __launch_bounds__(BLOCK) divergence(struct divergence_args a)
{
        const int64_t row = blockIdx.x;
        double sum = 0;

        for (int64_t i = row * a.d + threadIdx.x; i < (row + 1) * a.d; i += blockDim.x)
                sum += (double)a.dx[i] * a.probe[i];
        sum = block_sum(sum);
        if (threadIdx.x == 0)
                a.trajectories[row].slope[a.stage] = sum;
}

__global__ void __launch_bounds__(BLOCK) flow_probe(struct flow_probe_args a)
{
        const int64_t quads = (a.d + 3) / 4;

        FOR_EACH(q, a.m * quads)
        {
                const int64_t image = q / quads, e = q % quads * 4;
                const struct trajectory *t = &a.trajectories[image];
                const int64_t number = t->n_evaluations + a.stage - (t->fresh ? 0 : 1);
                const struct philox p = philox_draw(a.state->seed, STREAM_PROBE, a.rows[image].block, (uint32_t)(e / 4),
                                                    a.rows[image].image, a.each ? (uint64_t)number : 0, 0);
                float y[4];

                for (int i = 0; i < 4; i++)
                        y[i] = p.v[i] >> 31 ? 1.0f : -1.0f;
                if (a.kind == PROBE_GAUSSIAN) {
                        philox_normal_pair(p.v[0], p.v[1], &y[0], &y[1]);
                        philox_normal_pair(p.v[2], p.v[3], &y[2], &y[3]);
                }
                for (int i = 0; i < 4 && e + i < a.d; i++)
                        a.y[image * a.d + e + i] = y[i];
        }
}

/* ---- a step's stages */

/* The solver's row of a stage: where it lies, and what it adds up. */
struct stage_row {
        double c, a[FLOW_STAGES - 1];
};

__global__ void __launch_bounds__(BLOCK) flow_stage(struct flow_stage_args a, stage_row s)
{
        const int64_t n = a.m * a.d;

        FOR_EACH(i, n)
        {
                const struct trajectory *t = &a.trajectories[i / a.d];
                double sum = 0;

                if (t->fresh) /* the slope at x, then an Euler step of h, then nothing of use */
                        sum = a.stage == 2 ? a.k[i] : 0;
                for (int j = 0; j < a.stage && !t->fresh; j++)
                        sum += s.a[j] * a.k[j * n + i];
                set_pair(a.y, a.y_low, i, pair(a.x, a.x_low, i) + t->h * sum);
        }
        FOR_EACH(row, a.m)
        {
                const struct trajectory *t = &a.trajectories[row];
                const double c = t->fresh ? a.stage == 2 : s.c, at = t->s + c * t->h;

                a.t[row] = (float)(a.reverse ? 1 - at : at);
        }
}

/* ---- the first step size */

enum scaled { SCALED_X, SCALED_SLOPE, SCALED_CHANGE };

__global__ void __launch_bounds__(BLOCK) take_slope(struct flow_start_args a)
{
        struct trajectory *t = &a.trajectories[blockIdx.x];

        if (!t->fresh)
                return;
        for (int64_t i = threadIdx.x; i < a.d; i += blockDim.x)
                a.k[blockIdx.x * a.d + i] = a.k[(a.m + blockIdx.x) * a.d + i];
        if (threadIdx.x == 0)
                t->slope[0] = t->slope[1];
}

/* Root mean square over rows (and their l, but apart) of x, of the slope there, or of how it changes ahead, over the
 * tolerance. */
__device__ inline double scaled_norm(const struct flow_start_args &a, int64_t first, int64_t n, enum scaled what)
{
        double sum = 0;

        for (int64_t row = first + threadIdx.x; !a.apart && row < first + n; row += blockDim.x) {
                const struct trajectory *t = &a.trajectories[row];
                const double l = what == SCALED_X       ? t->l
                                 : what == SCALED_SLOPE ? t->slope[0]
                                                        : t->slope[2] - t->slope[0];
                const double ratio = l / (a.atol + a.rtol * fabs(t->l));

                sum += ratio * ratio;
        }
        for (int64_t i = first * a.d + threadIdx.x; i < (first + n) * a.d; i += blockDim.x) {
                const double k = a.k[i];
                const double value = what == SCALED_X       ? (double)a.x[i]
                                     : what == SCALED_SLOPE ? k
                                                            : a.k[2 * a.m * a.d + i] - k;
                const double ratio = value / (a.atol + a.rtol * fabs((double)a.x[i]));

                sum += ratio * ratio;
        }
        return sqrt(block_sum(sum) / (double)(n * (a.d + !a.apart)));
}

__global__ void __launch_bounds__(BLOCK) flow_start(struct flow_start_args a, int order)
{
        const int64_t row = blockIdx.x, first = a.shared ? 0 : row, n = a.shared ? a.m : 1;
        struct trajectory *t = &a.trajectories[row];

        if (!t->fresh)
                return;
        const double d_0 = scaled_norm(a, first, n, SCALED_X), d_1 = scaled_norm(a, first, n, SCALED_SLOPE);
        const double ahead = d_0 < 1e-5 || d_1 < 1e-5 ? 1e-6 : 0.01 * d_0 / d_1;

        if (a.stage == 1) {
                if (threadIdx.x == 0)
                        t->h = ahead;
                return;
        }
        const double d_2 = fmax(d_1, scaled_norm(a, first, n, SCALED_CHANGE) / ahead);
        const double h = d_2 <= 1e-15 ? fmax(1e-6, ahead * 1e-3) : pow(0.01 / d_2, 1.0 / order);

        if (threadIdx.x > 0)
                return;
        t->h = fmin(fmin(100 * ahead, h), 1.0);
        t->n_evaluations = 2;
}

/* ---- a step's end */

/* What flow_step takes of the solver: the step's weights, and those of its error. */
struct step_weights {
        int stages, order;
        double step[FLOW_STAGES - 1], error[FLOW_STAGES];
};

__device__ inline double l_after(const struct trajectory *t, const step_weights &s)
{
        double sum = 0;

        for (int j = 0; j < s.stages - 1; j++)
                sum += s.step[j] * t->slope[j];
        return t->l + t->h * sum;
}

__device__ inline double squared_ratio(double error, double before, double after, const struct flow_step_args &a)
{
        const double ratio = error / (a.atol + a.rtol * fmax(fabs(before), fabs(after)));

        return ratio * ratio;
}

/* The sum of squares of the row's errors over their tolerances. */
__global__ void __launch_bounds__(BLOCK) flow_error(struct flow_step_args a, step_weights s)
{
        const int64_t row = blockIdx.x;
        struct trajectory *t = &a.trajectories[row];
        double sum = 0, error;

        for (int64_t i = row * a.d + threadIdx.x; i < (row + 1) * a.d; i += blockDim.x) {
                error = 0;
                for (int j = 0; j < s.stages; j++)
                        error += s.error[j] * a.k[j * a.m * a.d + i];
                sum += squared_ratio(t->h * error, a.x[i], a.y[i], a);
        }
        sum = block_sum(sum);
        if (threadIdx.x > 0)
                return;
        if (a.apart) {
                t->error = sum;
                return;
        }
        error = 0;
        for (int j = 0; j < s.stages; j++)
                error += s.error[j] * t->slope[j];
        t->error = sum + squared_ratio(t->h * error, t->l, l_after(t, s), a);
}

/* The mean of those that run. */
__global__ void __launch_bounds__(ONE) flow_shared_error(const struct trajectory *t, int64_t m, double *ret)
{
        double all = 0;
        int64_t running = 0;

        if (threadIdx.x > 0)
                return;
        for (int64_t row = 0; row < m; row++)
                if (!t[row].done) {
                        all += t[row].error;
                        running++;
                }
        *ret = all / (double)running;
}

/* What one thread does to its trajectory. */
__device__ inline void step(const struct flow_step_args &a, const step_weights &s, struct trajectory *t, double norm)
{
        const double h = t->h;
        const bool accepted = norm < 1;

        t->n_evaluations += s.stages - 1;
        if (accepted) {
                t->l = l_after(t, s);
                t->slope[0] = t->slope[s.stages - 1];
                t->s = t->s + h >= 1 ? 1 : t->s + h;
                t->done = t->s >= 1;
        } else {
                t->n_rejected++;
        }
        if (t->done)
                return;
        flow_control(&a, s.order, t, norm, accepted);
        t->h = fmin(t->h, 1 - t->s);
}

__global__ void __launch_bounds__(BLOCK) flow_step(struct flow_step_args a, step_weights s, const double *shared_error)
{
        const int64_t row = blockIdx.x, n = a.m * a.d;
        struct trajectory *t = &a.trajectories[row];
        const double norm = sqrt((a.shared ? *shared_error : t->error) / (double)(a.d + !a.apart));
        const bool steps = !t->done && !t->fresh;

        __syncthreads(); /* all have seen what the first thread changes */
        if (threadIdx.x == 0) {
                if (steps)
                        step(a, s, t, norm);
                t->fresh = 0;
        }
        for (int64_t i = row * a.d + threadIdx.x; steps && norm < 1 && i < (row + 1) * a.d; i += blockDim.x) {
                a.x[i] = a.y[i];
                a.x_low[i] = a.y_low[i];
                a.k[i] = a.k[(s.stages - 1) * n + i];
        }
}

/* ---- slots */

__global__ void __launch_bounds__(BLOCK) flow_finish(struct flow_slots_args a)
{
        const int64_t row = blockIdx.x;
        const struct trajectory *t = &a.trajectories[row];
        double squares = 0;

        if (!t->done || t->place < 0)
                return;
        for (int64_t i = row * a.d + threadIdx.x; i < (row + 1) * a.d; i += blockDim.x) {
                const double x = pair(a.x, a.x_low, i);

                squares += x * x;
        }
        squares = block_sum(squares);
        if (threadIdx.x > 0)
                return;
        struct flow_result *r = &a.results[t->place];

        r->log_p = -0.5 * ((double)a.d * 1.8378770664093454836 + squares) + t->l;
        r->log_q = t->log_q;
        r->kl = a.kl[row];
        r->n_evaluations = t->n_evaluations;
        r->n_rejected = t->n_rejected;
        r->failed = t->failed;
}

/* In order of slots, by one thread: the list is handed out. */
__global__ void __launch_bounds__(ONE) flow_refill(struct flow_slots_args a)
{
        if (threadIdx.x > 0)
                return;
        for (int64_t i = 0; i < a.m; i++) {
                struct trajectory *t = &a.trajectories[i];
                struct row row = {};
                int64_t at = a.state->position;

                if (!t->done)
                        continue;
                *t = {};
                t->place = -1;
                t->done = 1;
                if (at == a.n)
                        continue;
                a.state->position++;
                at = a.places[at];
                t->place = at;
                t->done = 0;
                t->fresh = 1;
                row.index = at / a.repeats;
                row.image = (uint64_t)(at / a.repeats);
                row.block = (uint32_t)(at % a.repeats);
                a.rows[i] = row;
        }
}

/* ---- dequantising */

/* A standard normal cut to [-3, 3]. */
__device__ double truncated_normal(uint32_t seed, const struct row *row, int64_t element)
{
        for (uint32_t attempt = 0;; attempt++) {
                const struct philox p =
                        philox_draw(seed, STREAM_DEQUANTISE, row->block, (uint32_t)element, row->image, 0, attempt);
                float u, unused;

                philox_normal_pair(p.v[0], p.v[1], &u, &unused);
                /* 1 in 370 is rejected: 255 in a row are impossible but for a fault, and then any end is as good */
                if (fabsf(u) <= 3 || attempt == 255)
                        return fmin(fmax((double)u, -3.0), 3.0);
        }
}

__device__ inline double uniform_noise(uint32_t seed, const struct row *row, int64_t element)
{
        const struct philox p =
                philox_draw(seed, STREAM_DEQUANTISE, row->block, (uint32_t)(element / 4), row->image, 0, 0);

        return ((double)p.v[element % 4] + 0.5) * 0x1p-32;
}

__global__ void __launch_bounds__(BLOCK) dequantise(struct dequantise_args a)
{
        const int64_t row = blockIdx.x;
        const uint32_t seed = a.state->seed;
        double squares = 0;

        if (!a.trajectories[row].fresh)
                return;
        for (int64_t i = threadIdx.x; i < a.d; i += blockDim.x) {
                const int64_t at = row * a.d + i;

                if (a.kind == DEQUANTISE_UNIFORM) {
                        set_pair(a.x, a.x_low, at, a.f[at] + (2 * uniform_noise(seed, &a.rows[row], i) - 1) / 256);
                } else {
                        const double u = truncated_normal(seed, &a.rows[row], i);

                        set_pair(a.x, a.x_low, at, a.f[at] + a.std * u);
                        squares += u * u;
                }
        }
        squares = block_sum(squares);
        if (threadIdx.x == 0)
                a.trajectories[row].log_q = -0.5 * squares;
}
} // namespace

void cuda_drift(struct stream *s, const struct drift_args *a)
{
        RUN(s, "drift", drift, grid_of(a->m * a->d), BLOCK, 0, *a);
}

void cuda_divergence(struct stream *s, const struct divergence_args *a)
{
        RUN(s, "divergence", divergence, (unsigned)a->m, BLOCK, 0, *a);
}

void cuda_flow_probe(struct stream *s, const struct flow_probe_args *a)
{
        RUN(s, "flow_probe", flow_probe, grid_of(a->m * ((a->d + 3) / 4)), BLOCK, 0, *a);
}

void cuda_flow_stage(struct stream *s, const struct flow_stage_args *a)
{
        const struct flow_tableau *t = &flow_tableaus[a->solver];
        stage_row row;

        row.c = t->c[a->stage];
        for (int j = 0; j < FLOW_STAGES - 1; j++)
                row.a[j] = t->a[a->stage][j];
        RUN(s, "flow_stage", flow_stage, grid_of(a->m * a->d), BLOCK, 0, *a, row);
}

void cuda_flow_start(struct stream *s, const struct flow_start_args *a)
{
        if (a->stage == 1)
                RUN(s, "flow_start", take_slope, (unsigned)a->m, BLOCK, 0, *a);
        RUN(s, "flow_start", flow_start, (unsigned)a->m, BLOCK, 0, *a, flow_tableaus[a->solver].order);
}

void cuda_flow_step(struct stream *s, const struct flow_step_args *a)
{
        const struct flow_tableau *t = &flow_tableaus[a->solver];
        double *shared_error = (double *)stream_scratch(s);
        step_weights w;

        w.stages = t->stages;
        w.order = t->order;
        for (int j = 0; j < FLOW_STAGES; j++) {
                w.error[j] = t->error[j];
                if (j < FLOW_STAGES - 1)
                        w.step[j] = t->a[t->stages - 1][j];
        }
        RUN(s, "flow_step", flow_error, (unsigned)a->m, BLOCK, 0, *a, w);
        if (a->shared)
                RUN(s, "flow_step", flow_shared_error, 1, ONE, 0, (const struct trajectory *)a->trajectories, a->m,
                    shared_error);
        RUN(s, "flow_step", flow_step, (unsigned)a->m, BLOCK, 0, *a, w, (const double *)shared_error);
}

void cuda_flow_slots(struct stream *s, const struct flow_slots_args *a)
{
        RUN(s, "flow_slots", flow_finish, (unsigned)a->m, BLOCK, 0, *a);
        RUN(s, "flow_slots", flow_refill, 1, ONE, 0, *a);
}

void cuda_dequantise(struct stream *s, const struct dequantise_args *a)
{
        RUN(s, "dequantise", dequantise, (unsigned)a->m, BLOCK, 0, *a);
}
