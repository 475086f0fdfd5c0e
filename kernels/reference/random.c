/* Random numbers by purpose (philox.h), in double and rounded once. */
#include "kernels/reference/reference.h"

#include <math.h>

/* Counter element `at` of a row's image. */
static struct philox draw(const struct step_state *s, const struct row *row, enum philox_stream stream, int64_t at,
                          uint32_t attempt)
{
        return philox_draw(s->seed, stream, row->block, (uint32_t)at, row->image, (uint64_t)s->step, attempt);
}

int reference_random_normal(const struct random_normal_args *a)
{
        int64_t quads = (a->d + 3) / 4;

#pragma omp parallel for schedule(static)
        for (int64_t q = 0; q < a->m * quads; q++) {
                int64_t image = q / quads, e = q % quads * 4;
                struct philox p = draw(a->state, &a->rows[image], a->stream, e / 4, 0);
                float y[4];

                philox_normal_pair(p.v[0], p.v[1], &y[0], &y[1]);
                philox_normal_pair(p.v[2], p.v[3], &y[2], &y[3]);
                for (int64_t i = e; i < MIN(e + 4, a->d); i++)
                        a->y[image * a->d + i] = y[i - e];
        }
        return 0;
}

int reference_random_uniform(const struct random_uniform_args *a)
{
        for (int64_t image = 0; image < a->m; image++)
                for (int64_t i = 0; i < a->d; i++)
                        a->y[image * a->d + i] =
                                philox_uniform(draw(a->state, &a->rows[image], a->stream, i / 4, 0).v[i % 4]);
        return 0;
}

/* (0, 1), never an end */
static double open_uniform(uint32_t word)
{
        return ((double)word + 0.5) * 0x1p-32;
}

/* Gamma(1/k): Gamma(1 + 1/k) by Marsaglia & Tsang 2000, times U^k. An attempt takes a whole draw: words 0, 1 the
 * normal, word 2 whether it is taken, word 3 the U of the one taken; so the counter counts elements, not quads. */
static double gamma_variate(const struct random_gamma_args *a, int64_t image, int64_t element)
{
        double shape = 1 + 1 / (double)a->k, d = shape - 1.0 / 3, c = 1 / sqrt(9 * d), x, v, u;

        for (uint32_t attempt = 0;; attempt++) {
                struct philox p = draw(a->state, &a->rows[image], STREAM_LATENT, element, attempt);

                x = sqrt(-2 * log(open_uniform(p.v[0]))) * cos(6.283185307179586476925 * ((double)p.v[1] * 0x1p-32));
                v = 1 + c * x;
                v = v * v * v;
                u = open_uniform(p.v[2]);
                /* about 1 in 25 is rejected: 255 in a row are impossible but for a fault, and then any end is as good
                 */
                if (attempt == 255 || (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v)))
                        return d * fmax(v, 0) * pow(open_uniform(p.v[3]), (double)a->k);
        }
}

int reference_random_gamma(const struct random_gamma_args *a)
{
        for (int64_t j = 0; j < 10; j++)
                for (int64_t image = 0; image < a->m; image++)
                        for (int64_t i = 0; i < a->n; i++)
                                a->y[(j * a->m + image) * a->n + i] = (float)gamma_variate(a, image, j * a->n + i);
        return 0;
}

int reference_random_gumbel(const struct random_gumbel_args *a)
{
        for (int64_t image = 0; image < a->m; image++)
                for (int64_t i = 0; i < a->n; i++) {
                        struct philox p = draw(a->state, &a->rows[image], STREAM_LATENT, i / 4, 0);

                        a->y[image * a->n + i] = (float)-log(-log(open_uniform(p.v[i % 4])));
                }
        return 0;
}

/* Antithetic: the same t_0, word 0 of quad 0, for all; independent: word time_place of the same sequence each. */
int reference_random_times(const struct random_times_args *a)
{
        for (int64_t i = 0; i < a->m; i++) {
                const struct row *row = &a->rows[i];
                int64_t at = a->independent ? row->time_place : 0;
                struct philox p = philox_draw(a->state->seed, STREAM_TIME, row->time_block, (uint32_t)(at / 4),
                                              row->time_image, (uint64_t)a->state->step, 0);
                double t = philox_uniform(p.v[at % 4]), steps = (double)a->n_timesteps;

                if (!a->independent)
                        t = fmod(t + (double)row->time_place / (double)a->total, 1);
                if (a->n_timesteps > 0)
                        t = fmax(ceil(t * steps), 1) / steps; /* at least one step, or s would lie before 0 */
                else
                        t = fmin(t, 0x1.fffffep-1); /* where rounding to float would reach 1 */
                a->t[i] = (float)t;
                if (a->s)
                        a->s[i] = (float)(a->n_timesteps > 0 ? t - 1 / steps : t);
        }
        return 0;
}

int reference_sampling_times(const struct sampling_times_args *a)
{
        double step = (double)a->state->step, steps = (double)a->n_steps;

        for (int64_t i = 0; i < a->m; i++) {
                a->t[i] = (float)((step + 1) / steps);
                a->s[i] = (float)(step / steps);
        }
        return 0;
}
