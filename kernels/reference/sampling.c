/* The ancestral sampler's step and the decoder. Spec 8. */
#include "kernels/reference/reference.h"

#include <math.h>

/* The network's estimate of the noise. Spec 5 and 8: eps_hat = net, or alpha v_hat + sigma z. */
static double eps_hat_of(enum parameterisation p, double gamma, double z, double net)
{
        double v_hat = net;

        if (p == PARAM_EPSILON || p == PARAM_EPSILON_DISCRETE)
                return net;
        if (p == PARAM_VELOCITY_FROM_EPSILON)
                v_hat = -exp(gamma / 2) * z + sqrt(1 + exp(gamma)) * net;
        return sqrt(sigmoid(-gamma)) * v_hat + sqrt(sigmoid(gamma)) * z;
}

int reference_ancestral_step(const struct ancestral_step_args *args)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < args->m * args->d; i++) {
                int64_t at = args->g == 1 ? i / args->d : i;
                double gamma_t = args->gamma_t[at], gamma_s = args->gamma_s[at], z = args->z[i];
                double a = sigmoid(-gamma_s), b = sigmoid(-gamma_t), c = -expm1(gamma_s - gamma_t);
                double eps_hat = eps_hat_of(args->parameterisation, gamma_t, z, args->net[i]);

                args->z[i] = (float)(sqrt(a / b) * (z - sqrt(sigmoid(gamma_t)) * c * eps_hat) +
                                     sqrt(sigmoid(gamma_s) * c) * args->eps[i]);
        }
        return 0;
}

/* The nearest bin: of two equally near the lower, as an arg max finds it. */
static uint8_t decode_nearest(double z)
{
        double j = ceil((z + 1) * 128 - 1);

        return (uint8_t)(j < 0 ? 0 : j > 255 ? 255 : j);
}

/* The first bin at which the summed probability passes u of the whole. */
static uint8_t decode_draw(double z, double gamma, double u)
{
        double nearest = 2 * (decode_nearest(z) + 0.5) / 256 - 1, precision = exp(-gamma), total = 0, sum = 0;
        /* relative to the nearest bin's, so that not all vanish */
        double offset = 0.5 * (z - nearest) * (z - nearest) * precision;

        for (int pass = 0; pass < 2; pass++)
                for (int j = 0; j < 256; j++) {
                        double e = z - (2 * (j + 0.5) / 256 - 1), p = exp(offset - 0.5 * e * e * precision);

                        if (pass == 0)
                                total += p;
                        else if ((sum += p) > u * total)
                                return (uint8_t)j;
                }
        return 255;
}

int reference_decode(const struct decode_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->d; i++) {
                double gamma = a->gamma_0[a->g == 1 ? i / a->d : i], z = a->z[i] / sqrt(sigmoid(-gamma));

                a->x[i] = a->uniform ? decode_draw(z, gamma, a->uniform[i]) : decode_nearest(z);
        }
        return 0;
}
