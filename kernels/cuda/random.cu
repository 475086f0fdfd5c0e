/* Random numbers by purpose (philox.h), in double and rounded once. */
#include "kernels/cuda/cuda.h"

namespace
{

/* Counter element `at` of a row's image. */
__device__ inline struct philox draw(const struct step_state *s, const struct row *row, enum philox_stream stream,
                                     int64_t at, uint32_t attempt)
{
        return philox_draw(s->seed, stream, row->block, (uint32_t)at, row->image, (uint64_t)s->step, attempt);
}

__global__ void __launch_bounds__(BLOCK) random_normal(struct random_normal_args a)
{
        const int64_t quads = (a.d + 3) / 4;

        FOR_EACH(q, a.m * quads)
        {
                const int64_t image = q / quads, e = q % quads * 4;
                const struct philox p = draw(a.state, &a.rows[image], a.stream, e / 4, 0);
                float y[4];

                philox_normal_pair(p.v[0], p.v[1], &y[0], &y[1]);
                philox_normal_pair(p.v[2], p.v[3], &y[2], &y[3]);
                for (int i = 0; i < 4 && e + i < a.d; i++)
                        a.y[image * a.d + e + i] = y[i];
        }
}

__global__ void __launch_bounds__(BLOCK) random_uniform(struct random_uniform_args a)
{
        const int64_t quads = (a.d + 3) / 4;

        FOR_EACH(q, a.m * quads)
        {
                const int64_t image = q / quads, e = q % quads * 4;
                const struct philox p = draw(a.state, &a.rows[image], a.stream, e / 4, 0);

                for (int i = 0; i < 4 && e + i < a.d; i++)
                        a.y[image * a.d + e + i] = philox_uniform(p.v[i]);
        }
}

/* (0, 1), never an end */
__device__ inline double open_uniform(uint32_t word)
{
        return ((double)word + 0.5) * 0x1p-32;
}

/* Gamma(1/k): Gamma(1 + 1/k) by Marsaglia & Tsang 2000, times U^k; kernels.h says which words. */
__device__ double gamma_variate(const struct random_gamma_args &a, int64_t image, int64_t element)
{
        const double shape = 1 + 1 / (double)a.k, d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);

        for (uint32_t attempt = 0;; attempt++) {
                const struct philox p = draw(a.state, &a.rows[image], STREAM_LATENT, element, attempt);
                const double x = sqrt(-2 * log(open_uniform(p.v[0]))) *
                                 cos(6.283185307179586476925 * ((double)p.v[1] * 0x1p-32));
                const double root = 1 + c * x, v = root * root * root, u = open_uniform(p.v[2]);

                /* about 1 in 25 is rejected: 255 in a row are impossible but for a fault, and then any end is as good
                 */
                if (attempt == 255 || (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v)))
                        return d * fmax(v, 0.0) * pow(open_uniform(p.v[3]), (double)a.k);
        }
}

__global__ void __launch_bounds__(BLOCK) random_gamma(struct random_gamma_args a)
{
        FOR_EACH(i, 10 * a.m * a.n)
        {
                const int64_t j = i / (a.m * a.n), image = i / a.n % a.m;

                a.y[i] = (float)gamma_variate(a, image, j * a.n + i % a.n);
        }
}

__global__ void __launch_bounds__(BLOCK) random_gumbel(struct random_gumbel_args a)
{
        FOR_EACH(i, a.m * a.n)
        {
                const int64_t at = i % a.n;
                const struct philox p = draw(a.state, &a.rows[i / a.n], STREAM_LATENT, at / 4, 0);

                a.y[i] = (float)-log(-log(open_uniform(p.v[at % 4])));
        }
}

/* Antithetic: the same t_0, word 0 of quad 0, for all; independent: word time_place of the same sequence each. */
__global__ void __launch_bounds__(BLOCK) random_times(struct random_times_args a)
{
        FOR_EACH(i, a.m)
        {
                const struct row *row = &a.rows[i];
                const int64_t at = a.independent ? row->time_place : 0;
                const struct philox p = philox_draw(a.state->seed, STREAM_TIME, row->time_block, (uint32_t)(at / 4),
                                                    row->time_image, (uint64_t)a.state->step, 0);
                const double steps = (double)a.n_timesteps;
                double t = philox_uniform(p.v[at % 4]);

                if (!a.independent)
                        t = fmod(t + (double)row->time_place / (double)a.total, 1.0);
                if (a.n_timesteps > 0)
                        t = fmax(ceil(t * steps), 1.0) / steps; /* at least one step, or s would lie before 0 */
                else
                        t = fmin(t, 0x1.fffffep-1); /* where rounding to float would reach 1 */
                a.t[i] = (float)t;
                if (a.s)
                        a.s[i] = (float)(a.n_timesteps > 0 ? t - 1 / steps : t);
        }
}

__global__ void __launch_bounds__(BLOCK) sampling_times(struct sampling_times_args a)
{
        const double step = (double)a.state->step, steps = (double)a.n_steps;

        FOR_EACH(i, a.m)
        {
                a.t[i] = (float)((step + 1) / steps);
                a.s[i] = (float)(step / steps);
        }
}
} // namespace

void cuda_random_normal(struct stream *s, const struct random_normal_args *a)
{
        RUN(s, "random_normal", random_normal, grid_of(a->m * ((a->d + 3) / 4)), BLOCK, 0, *a);
}

void cuda_random_uniform(struct stream *s, const struct random_uniform_args *a)
{
        RUN(s, "random_uniform", random_uniform, grid_of(a->m * ((a->d + 3) / 4)), BLOCK, 0, *a);
}

void cuda_random_gamma(struct stream *s, const struct random_gamma_args *a)
{
        RUN(s, "random_gamma", random_gamma, grid_of(10 * a->m * a->n), BLOCK, 0, *a);
}

void cuda_random_gumbel(struct stream *s, const struct random_gumbel_args *a)
{
        RUN(s, "random_gumbel", random_gumbel, grid_of(a->m * a->n), BLOCK, 0, *a);
}

void cuda_random_times(struct stream *s, const struct random_times_args *a)
{
        RUN(s, "random_times", random_times, grid_of(a->m), BLOCK, 0, *a);
}

void cuda_sampling_times(struct stream *s, const struct sampling_times_args *a)
{
        RUN(s, "sampling_times", sampling_times, grid_of(a->m), BLOCK, 0, *a);
}
