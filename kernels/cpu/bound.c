/* Diffusing an image and the bound's three terms with their gradients, in double, a chunk of dimensions at a time. Spec
 * 5; the formulas are reference/bound.c's. A row is one thread's, so that its sums have one order. */
#include "kernels/cpu/vector.h"
#include "kernels/reference/reference.h"

#include <math.h>

#define CHUNK 64

int V(diffuse_forward)(const struct diffuse_forward_args *a)
{
        if (a->gamma_low || a->z_low)
                return reference_diffuse_forward(a);
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++) {
                const float *restrict f = a->f + row * a->d, *restrict eps = a->eps + row * a->d;
                const float *restrict gamma = a->gamma + row * a->g;
                float *restrict z = a->z + row * a->d;
                int64_t step = a->g == 1 ? 0 : 1;

#pragma omp simd
                for (int64_t i = 0; i < a->d; i++) {
                        double e = fast_exp(gamma[i * step]), rest = 1.0 / (1.0 + e);

                        z[i] = (float)(__builtin_sqrt(rest) * f[i] + __builtin_sqrt(e * rest) * eps[i]);
                }
        }
        return 0;
}

int V(diffuse_backward)(const struct diffuse_backward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++) {
                const float *restrict f = a->f + row * a->d, *restrict eps = a->eps + row * a->d;
                const float *restrict gamma = a->gamma + row * a->g, *restrict dz = a->dz + row * a->d;
                float *restrict d_gamma = a->d_gamma + row * a->g;
                double sum = 0;

                for (int64_t i = 0; i < a->d; i += CHUNK) {
                        int64_t n = MIN(a->d - i, (int64_t)CHUNK), step = a->g == 1 ? 0 : 1;
                        double d[CHUNK];

#pragma omp simd
                        for (int64_t j = 0; j < n; j++) {
                                double e = fast_exp(gamma[(i + j) * step]), rest = 1.0 / (1.0 + e), var = e * rest;

                                d[j] = 0.5 * dz[i + j] *
                                       (__builtin_sqrt(var) * rest * eps[i + j] -
                                        __builtin_sqrt(rest) * var * f[i + j]);
                        }
                        for (int64_t j = 0; j < n; j++) {
                                sum += d[j];
                                if (step)
                                        d_gamma[i + j] = (float)(d_gamma[i + j] + d[j]);
                        }
                }
                if (a->g == 1)
                        d_gamma[0] = (float)(d_gamma[0] + sum);
        }
        return 0;
}

/* ---- the bound */

enum { GAMMA_0, GAMMA_1, GAMMA_T, GAMMA_PRIME, N_GAMMAS };

/* A chunk's inputs and results; padded with harmless values to whole CHUNKs. */
struct chunk {
        double x[CHUNK], f[CHUNK], eps_0[CHUNK], eps[CHUNK], z[CHUNK], net[CHUNK], gamma[N_GAMMAS][CHUNK];
        double terms[3][CHUNK], vars[2][CHUNK], d_gamma[N_GAMMAS][CHUNK], d_net[CHUNK], d_z[CHUNK];
};

static void chunk_load(const struct bound_args *a, int64_t row, int64_t first, int64_t n, struct chunk *c)
{
        const float *gammas[N_GAMMAS] = {a->gamma_0, a->gamma_1, a->gamma_t, a->gamma_prime};
        int64_t at = row * a->d + first;

        for (int64_t j = 0; j < CHUNK; j++) {
                int64_t i = at + MIN(j, n - 1);

                c->x[j] = a->x[i];
                c->f[j] = a->f[i];
                c->eps_0[j] = a->eps_0[i];
                c->eps[j] = a->eps[i];
                c->z[j] = a->z[i];
                c->net[j] = a->net[i];
                for (int k = 0; k < N_GAMMAS; k++)
                        c->gamma[k][j] = gammas[k][a->g == 1 ? row : i];
        }
}

/* Bins further than this from x change no bit of a double: their u^2 / 2 passes eps_0^2 / 2, the bin x's own, by 42. */
static int64_t bins_that_count(const struct chunk *c, const double *delta)
{
        double most = 0;

        for (int64_t j = 0; j < CHUNK; j++) {
                double e = fabs(c->eps_0[j]), reach = (sqrt(84 + e * e) + e) / delta[j];

                most = reach > most ? reach : most;
        }
        return most < 255 ? (int64_t)most + 1 : 255;
}

/* -log softmax at x of -u_k^2 / 2, u_k = eps_0 + k delta, over the bins x - k of 0 .. 255 */
static void reconstruction(struct chunk *c)
{
        double delta[CHUNK], sum[CHUNK] = {0}, slope[CHUNK] = {0};
        int64_t reach;

#pragma omp simd
        for (int64_t j = 0; j < CHUNK; j++)
                delta[j] = fast_exp(-0.5 * c->gamma[GAMMA_0][j]) * 0x1p-7;
        reach = bins_that_count(c, delta);
        for (int64_t k = -reach; k <= reach; k++) {
                double distance = (double)k;

#pragma omp simd
                for (int64_t j = 0; j < CHUNK; j++) {
                        double u = c->eps_0[j] + distance * delta[j], bin = c->x[j] - distance;
                        double p = fast_exp(0.5 * (c->eps_0[j] * c->eps_0[j] - u * u));

                        p = bin < 0 ? 0 : p;
                        p = bin > 255 ? 0 : p;
                        sum[j] += p;
                        slope[j] += p * u * distance;
                }
        }
#pragma omp simd
        for (int64_t j = 0; j < CHUNK; j++) {
                c->terms[0][j] = fast_log(sum[j]);
                c->d_gamma[GAMMA_0][j] = 0.5 * delta[j] * slope[j] / sum[j];
                c->vars[0][j] = fast_sigmoid(c->gamma[GAMMA_0][j]);
        }
}

static void prior(struct chunk *c)
{
#pragma omp simd
        for (int64_t j = 0; j < CHUNK; j++) {
                double e = fast_exp(-c->gamma[GAMMA_1][j]), var = 1.0 / (1.0 + e), rest = e * var,
                       f2 = c->f[j] * c->f[j];

                c->terms[1][j] = 0.5 * (rest * f2 + var + fast_log(1.0 + e) - 1.0);
                c->d_gamma[GAMMA_1][j] = 0.5 * rest * (var * (1.0 - f2) - 1.0);
                c->vars[1][j] = var;
        }
}

_inline_ void diffusion_epsilon(struct chunk *c, bool discrete, double steps)
{
#pragma omp simd
        for (int64_t j = 0; j < CHUNK; j++) {
                double e = c->eps[j] - c->net[j], prime = c->gamma[GAMMA_PRIME][j], slope = 0, weight = prime;

                if (discrete) {
                        slope = steps * fast_exp(c->gamma[GAMMA_T][j] - prime);
                        weight = slope - steps;
                }
                c->terms[2][j] = 0.5 * weight * e * e;
                c->d_net[j] = -weight * e;
                c->d_z[j] = 0;
                c->d_gamma[GAMMA_T][j] = 0.5 * slope * e * e;
                c->d_gamma[GAMMA_PRIME][j] = discrete ? -0.5 * slope * e * e : 0.5 * e * e;
        }
}

_inline_ void diffusion_velocity(struct chunk *c, bool from_epsilon)
{
#pragma omp simd
        for (int64_t j = 0; j < CHUNK; j++) {
                double exp_gamma = fast_exp(c->gamma[GAMMA_T][j]), rest = 1.0 / (1.0 + exp_gamma),
                       var = exp_gamma * rest;
                double alpha = __builtin_sqrt(rest), sigma = __builtin_sqrt(var), from_z = 0, from_net = 1, d_v_hat = 0;
                double weight = rest * c->gamma[GAMMA_PRIME][j], e, d_v;

                if (from_epsilon) {
                        from_z = -__builtin_sqrt(exp_gamma);
                        from_net = __builtin_sqrt(1.0 + exp_gamma);
                        d_v_hat = 0.5 * (from_z * c->z[j] + exp_gamma / from_net * c->net[j]);
                }
                e = alpha * c->eps[j] - sigma * c->f[j] - (from_z * c->z[j] + from_net * c->net[j]);
                d_v = -0.5 * (alpha * var * c->eps[j] + sigma * rest * c->f[j]);
                c->terms[2][j] = 0.5 * weight * e * e;
                c->d_net[j] = -weight * e * from_net;
                c->d_z[j] = -weight * e * from_z;
                c->d_gamma[GAMMA_T][j] = -0.5 * weight * var * e * e + weight * e * (d_v - d_v_hat);
                c->d_gamma[GAMMA_PRIME][j] = 0.5 * rest * e * e;
        }
}

/* A row's sums so far. */
struct sums {
        double terms[3], vars[2], d_gamma[N_GAMMAS];
};

static void chunk_store(const struct bound_args *a, int64_t row, int64_t first, int64_t n, const struct chunk *c,
                        struct sums *sums)
{
        float *d_gamma[N_GAMMAS] = {a->d_gamma_0, a->d_gamma_1, a->d_gamma_t, a->d_gamma_prime};
        int64_t at = row * a->d + first;

        for (int64_t j = 0; j < n; j++) {
                for (int k = 0; k < 3; k++)
                        sums->terms[k] += c->terms[k][j];
                for (int k = 0; k < 2; k++)
                        sums->vars[k] += c->vars[k][j];
                for (int k = 0; k < N_GAMMAS; k++)
                        sums->d_gamma[k] += c->d_gamma[k][j];
        }
        for (int64_t j = 0; j < n && a->d_net; j++) {
                a->d_net[at + j] = (float)(c->d_net[j] * a->grad_scale);
                a->d_z[at + j] = (float)(c->d_z[j] * a->grad_scale);
                for (int k = 0; k < N_GAMMAS && a->g != 1; k++)
                        d_gamma[k][at + j] = (float)(c->d_gamma[k][j] * a->grad_scale);
        }
}

static void bound_row(const struct bound_args *a, int64_t row)
{
        float *d_gamma[N_GAMMAS] = {a->d_gamma_0, a->d_gamma_1, a->d_gamma_t, a->d_gamma_prime};
        struct sums sums = {0};
        struct chunk c;

        for (int64_t i = 0; i < a->d; i += CHUNK) {
                int64_t n = MIN(a->d - i, (int64_t)CHUNK);

                chunk_load(a, row, i, n, &c);
                reconstruction(&c);
                prior(&c);
                if (a->parameterisation == PARAM_VELOCITY)
                        diffusion_velocity(&c, false);
                else if (a->parameterisation == PARAM_VELOCITY_FROM_EPSILON)
                        diffusion_velocity(&c, true);
                else if (a->parameterisation == PARAM_EPSILON)
                        diffusion_epsilon(&c, false, 0);
                else
                        diffusion_epsilon(&c, true, (double)a->n_timesteps);
                chunk_store(a, row, i, n, &c, &sums);
        }
        for (int k = 0; k < 3; k++)
                a->terms[3 * row + k] = (float)sums.terms[k];
        for (int k = 0; k < 2; k++)
                a->vars[2 * row + k] = (float)(sums.vars[k] / (double)a->d);
        for (int k = 0; k < N_GAMMAS && a->d_net && a->g == 1; k++)
                d_gamma[k][row] = (float)(sums.d_gamma[k] * a->grad_scale);
}

int V(bound)(const struct bound_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++)
                bound_row(a, row);
        return 0;
}
