/* Diffusing an image and the bound's three terms with their gradients. Spec 5. */
#include "kernels/reference/reference.h"

#include <math.h>

int reference_diffuse_forward(const struct diffuse_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->d; i++) {
                double gamma = pair(a->gamma, a->gamma_low, a->g == 1 ? i / a->d : i);

                set_pair(a->z, a->z_low, i, sqrt(sigmoid(-gamma)) * a->f[i] + sqrt(sigmoid(gamma)) * a->eps[i]);
        }
        return 0;
}

/* With var = sigmoid(gamma): d sqrt(var) = sqrt(var) (1 - var) / 2, d sqrt(1 - var) = -sqrt(1 - var) var / 2. */
int reference_diffuse_backward(const struct diffuse_backward_args *a)
{
        for (int64_t row = 0; row < a->m; row++) {
                double sum = 0;

                for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                        double gamma = a->gamma[a->g == 1 ? row : i], var = sigmoid(gamma), rest = sigmoid(-gamma);
                        double d = 0.5 * a->dz[i] * (sqrt(var) * rest * a->eps[i] - sqrt(rest) * var * a->f[i]);

                        sum += d;
                        if (a->g != 1)
                                a->d_gamma[i] = (float)(a->d_gamma[i] + d);
                }
                if (a->g == 1)
                        a->d_gamma[row] = (float)(a->d_gamma[row] + sum);
        }
        return 0;
}

/* One dimension's share, and its derivatives. */
struct share {
        double reconstruction, prior, diffusion, d_gamma_0, d_gamma_1, d_gamma_t, d_gamma_prime, d_net, d_z;
};

/* -log softmax at x of -u_j^2 / 2 over the bins j, u_j = eps_0 + (x - j) delta, delta the bins' distance over std. */
static void reconstruction(int x, double eps_0, double gamma_0, struct share *ret)
{
        double delta = exp(-gamma_0 / 2) / 128, sum = 0, slope = 0, max = -HUGE_VAL;

        for (int j = 0; j < 256; j++) {
                double u = eps_0 + (x - j) * delta;

                max = fmax(max, -0.5 * u * u);
        }
        for (int j = 0; j < 256; j++) {
                double u = eps_0 + (x - j) * delta, p = exp(-0.5 * u * u - max);

                sum += p;
                slope += p * u * (x - j);
        }
        ret->reconstruction = 0.5 * eps_0 * eps_0 + max + log(sum);
        ret->d_gamma_0 = 0.5 * delta * slope / sum; /* d delta / d gamma_0 = -delta / 2 */
}

static void prior(double f, double gamma_1, struct share *ret)
{
        double var = sigmoid(gamma_1), rest = sigmoid(-gamma_1);

        ret->prior = 0.5 * (rest * f * f + var + softplus(-gamma_1) - 1);
        ret->d_gamma_1 = 0.5 * rest * (var * (1 - f * f) - 1);
}

/* 0.5 weight (target - net)^2, continuous time or T steps */
static void diffusion_epsilon(const struct bound_args *a, double eps, double net, double gamma, double prime,
                              struct share *ret)
{
        bool discrete = a->parameterisation == PARAM_EPSILON_DISCRETE;
        double steps = (double)a->n_timesteps, e = eps - net;
        double weight = discrete ? steps * expm1(gamma - prime) : prime;

        ret->diffusion = 0.5 * weight * e * e;
        ret->d_net = -weight * e;
        ret->d_gamma_t = discrete ? 0.5 * steps * exp(gamma - prime) * e * e : 0;
        ret->d_gamma_prime = discrete ? -ret->d_gamma_t : 0.5 * e * e;
        ret->d_z = 0;
}

static void diffusion_velocity(const struct bound_args *a, double f, double eps, double z, double net, double gamma,
                               double prime, struct share *ret)
{
        double var = sigmoid(gamma), rest = sigmoid(-gamma), alpha = sqrt(rest), sigma = sqrt(var);
        double from_z = 0, from_net = 1, v_hat, d_v_hat = 0, e, d_v, weight = rest * prime;

        if (a->parameterisation == PARAM_VELOCITY_FROM_EPSILON) {
                from_z = -exp(gamma / 2);
                from_net = sqrt(1 + exp(gamma));
                d_v_hat = 0.5 * from_z * z + 0.5 * exp(gamma) / from_net * net;
        }
        v_hat = from_z * z + from_net * net;
        d_v = -0.5 * alpha * var * eps - 0.5 * sigma * rest * f;
        e = alpha * eps - sigma * f - v_hat;
        ret->diffusion = 0.5 * weight * e * e;
        ret->d_net = -weight * e * from_net;
        ret->d_z = -weight * e * from_z;
        ret->d_gamma_t = -0.5 * weight * var * e * e + weight * e * (d_v - d_v_hat);
        ret->d_gamma_prime = 0.5 * rest * e * e;
}

static struct share share_at(const struct bound_args *a, int64_t row, int64_t i)
{
        int64_t at = a->g == 1 ? row : i;
        struct share ret;

        reconstruction(a->x[i], a->eps_0[i], a->gamma_0[at], &ret);
        prior(a->f[i], a->gamma_1[at], &ret);
        if (a->parameterisation == PARAM_VELOCITY || a->parameterisation == PARAM_VELOCITY_FROM_EPSILON)
                diffusion_velocity(a, a->f[i], a->eps[i], a->z[i], a->net[i], a->gamma_t[at], a->gamma_prime[at], &ret);
        else
                diffusion_epsilon(a, a->eps[i], a->net[i], a->gamma_t[at], a->gamma_prime[at], &ret);
        return ret;
}

int reference_bound(const struct bound_args *a)
{
        float *d_gamma[4] = {a->d_gamma_0, a->d_gamma_1, a->d_gamma_t, a->d_gamma_prime};

        for (int64_t row = 0; row < a->m; row++) {
                double terms[3] = {0}, vars[2] = {0}, sums[4] = {0};

                for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                        struct share s = share_at(a, row, i);
                        double d[4] = {s.d_gamma_0, s.d_gamma_1, s.d_gamma_t, s.d_gamma_prime};

                        terms[0] += s.reconstruction;
                        terms[1] += s.prior;
                        terms[2] += s.diffusion;
                        vars[0] += sigmoid(a->gamma_0[a->g == 1 ? row : i]);
                        vars[1] += sigmoid(a->gamma_1[a->g == 1 ? row : i]);
                        if (!a->d_net)
                                continue;
                        a->d_net[i] = (float)(s.d_net * a->grad_scale);
                        a->d_z[i] = (float)(s.d_z * a->grad_scale);
                        for (int j = 0; j < 4; j++) {
                                sums[j] += d[j] * a->grad_scale;
                                if (a->g != 1)
                                        d_gamma[j][i] = (float)(d[j] * a->grad_scale);
                        }
                }
                for (int j = 0; j < 3; j++)
                        a->terms[3 * row + j] = (float)terms[j];
                for (int j = 0; j < 2; j++)
                        a->vars[2 * row + j] = (float)(vars[j] / (double)a->d);
                for (int j = 0; j < 4 && a->d_net && a->g == 1; j++)
                        d_gamma[j][row] = (float)sums[j];
        }
        return 0;
}
