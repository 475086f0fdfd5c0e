/* The ancestral sampler's step and the decoder, in double. Spec 8. */
#include "kernels/cuda/cuda.h"

namespace
{

/* The network's estimate of the noise. Spec 5 and 8: eps_hat = net, or alpha v_hat + sigma z. */
__device__ inline double eps_hat_of(enum parameterisation p, double gamma, double z, double net)
{
        double v_hat = net;

        if (p == PARAM_EPSILON || p == PARAM_EPSILON_DISCRETE)
                return net;
        if (p == PARAM_VELOCITY_FROM_EPSILON)
                v_hat = -exp(gamma / 2) * z + sqrt(1 + exp(gamma)) * net;
        return sqrt(sigmoid(-gamma)) * v_hat + sqrt(sigmoid(gamma)) * z;
}

__global__ void __launch_bounds__(BLOCK) ancestral_step(struct ancestral_step_args a)
{
        FOR_EACH(i, a.m * a.d)
        {
                const int64_t at = a.g == 1 ? i / a.d : i;
                const double gamma_t = a.gamma_t[at], gamma_s = a.gamma_s[at], z = a.z[i];
                const double c = -expm1(gamma_s - gamma_t);
                const double eps_hat = eps_hat_of(a.parameterisation, gamma_t, z, a.net[i]);

                a.z[i] = (float)(sqrt(sigmoid(-gamma_s) / sigmoid(-gamma_t)) *
                                         (z - sqrt(sigmoid(gamma_t)) * c * eps_hat) +
                                 sqrt(sigmoid(gamma_s) * c) * a.eps[i]);
        }
}

/* The nearest bin: of two equally near the lower, as an arg max finds it. */
__device__ inline int decode_nearest(double z)
{
        const double j = ceil((z + 1) * 128 - 1);

        return (int)(j < 0 ? 0 : j > 255 ? 255 : j);
}

/* The first bin at which the summed probability passes u of the whole. */
__device__ inline int decode_draw(double z, double gamma, double u)
{
        const double nearest = 2 * (decode_nearest(z) + 0.5) / 256 - 1, precision = exp(-gamma);
        /* relative to the nearest bin's, so that not all vanish */
        const double offset = 0.5 * (z - nearest) * (z - nearest) * precision;
        double total = 0, sum = 0;

        for (int pass = 0; pass < 2; pass++)
                for (int j = 0; j < 256; j++) {
                        const double e = z - (2 * (j + 0.5) / 256 - 1), p = exp(offset - 0.5 * e * e * precision);

                        if (pass == 0)
                                total += p;
                        else if ((sum += p) > u * total)
                                return j;
                }
        return 255;
}

__global__ void __launch_bounds__(BLOCK) decode(struct decode_args a)
{
        FOR_EACH(i, a.m * a.d)
        {
                const double gamma = a.gamma_0[a.g == 1 ? i / a.d : i], z = a.z[i] / sqrt(sigmoid(-gamma));

                a.x[i] = (uint8_t)(a.uniform ? decode_draw(z, gamma, a.uniform[i]) : decode_nearest(z));
        }
}
} // namespace

void cuda_ancestral_step(struct stream *s, const struct ancestral_step_args *a)
{
        RUN(s, "ancestral_step", ancestral_step, grid_of(a->m * a->d), BLOCK, 0, *a);
}

void cuda_decode(struct stream *s, const struct decode_args *a)
{
        RUN(s, "decode", decode, grid_of(a->m * a->d), BLOCK, 0, *a);
}
