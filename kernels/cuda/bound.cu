/* Diffusing an image and the bound's three terms with their gradients, in double. Spec 5. */
#include "kernels/cuda/cuda.h"

namespace
{

__global__ void __launch_bounds__(BLOCK) diffuse_forward(struct diffuse_forward_args a)
{
        FOR_EACH(i, a.m * a.d)
        {
                const double gamma = pair(a.gamma, a.gamma_low, a.g == 1 ? i / a.d : i);

                set_pair(a.z, a.z_low, i, sqrt(sigmoid(-gamma)) * a.f[i] + sqrt(sigmoid(gamma)) * a.eps[i]);
        }
}

/* A block a row. With var = sigmoid(gamma): d sqrt(var) = sqrt(var) (1 - var) / 2, d sqrt(1 - var) = -sqrt(1 - var) var
 * / 2. */
__global__ void __launch_bounds__(BLOCK) diffuse_backward(struct diffuse_backward_args a)
{
        const int64_t row = blockIdx.x;
        double sum = 0;

        for (int64_t i = row * a.d + threadIdx.x; i < (row + 1) * a.d; i += blockDim.x) {
                const double gamma = a.gamma[a.g == 1 ? row : i], var = sigmoid(gamma), rest = sigmoid(-gamma);
                const double d = 0.5 * a.dz[i] * (sqrt(var) * rest * a.eps[i] - sqrt(rest) * var * a.f[i]);

                sum += d;
                if (a.g != 1)
                        a.d_gamma[i] = (float)(a.d_gamma[i] + d);
        }
        sum = block_sum(sum);
        if (a.g == 1 && threadIdx.x == 0)
                a.d_gamma[row] = (float)(a.d_gamma[row] + sum);
}

/* One dimension's share, and its derivatives. */
struct share {
        double reconstruction, prior, diffusion, d_gamma[4], d_net, d_z; /* d_gamma of 0, 1, t, prime */
};

enum { OF_0, OF_1, OF_T, OF_PRIME };

/* -log softmax at x of -u_j^2 / 2 over the bins j, u_j = eps_0 + (x - j) delta, delta the bins' distance over std. Bins
 * of which nothing is left beside the largest (exp(-40) of it, 256 of them) are passed over. */
__device__ inline void reconstruction(int x, double eps_0, double gamma_0, share *ret)
{
        const double delta = exp(-gamma_0 / 2) / 128;
        /* u_j is monotone in j: the bin nearest to zero has the largest logit */
        const double nearest = fmin(fmax(rint(x + eps_0 / delta), 0.0), 255.0), u_0 = eps_0 + (x - nearest) * delta;
        const double reach = (sqrt(u_0 * u_0 + 80) + fabs(u_0)) / delta + 1;
        const int first = (int)fmax(nearest - reach, 0.0), last = (int)fmin(nearest + reach, 255.0);
        const double max = -0.5 * u_0 * u_0;
        double sum = 0, slope = 0;

        for (int j = first; j <= last; j++) {
                const double u = eps_0 + (x - j) * delta, p = exp(-0.5 * u * u - max);

                sum += p;
                slope += p * u * (x - j);
        }
        ret->reconstruction = 0.5 * eps_0 * eps_0 + max + log(sum);
        ret->d_gamma[OF_0] = 0.5 * delta * slope / sum; /* d delta / d gamma_0 = -delta / 2 */
}

__device__ inline void prior(double f, double gamma_1, share *ret)
{
        const double var = sigmoid(gamma_1), rest = sigmoid(-gamma_1);

        ret->prior = 0.5 * (rest * f * f + var + softplus(-gamma_1) - 1);
        ret->d_gamma[OF_1] = 0.5 * rest * (var * (1 - f * f) - 1);
}

/* 0.5 weight (target - net)^2, continuous time or T steps */
__device__ inline void diffusion_epsilon(const struct bound_args &a, double eps, double net, double gamma, double prime,
                                         share *ret)
{
        const bool discrete = a.parameterisation == PARAM_EPSILON_DISCRETE;
        const double steps = (double)a.n_timesteps, e = eps - net;
        const double weight = discrete ? steps * expm1(gamma - prime) : prime;

        ret->diffusion = 0.5 * weight * e * e;
        ret->d_net = -weight * e;
        ret->d_gamma[OF_T] = discrete ? 0.5 * steps * exp(gamma - prime) * e * e : 0;
        ret->d_gamma[OF_PRIME] = discrete ? -ret->d_gamma[OF_T] : 0.5 * e * e;
        ret->d_z = 0;
}

__device__ inline void diffusion_velocity(const struct bound_args &a, double f, double eps, double z, double net,
                                          double gamma, double prime, share *ret)
{
        const double var = sigmoid(gamma), rest = sigmoid(-gamma), alpha = sqrt(rest), sigma = sqrt(var);
        const double weight = rest * prime;
        double from_z = 0, from_net = 1, d_v_hat = 0;

        if (a.parameterisation == PARAM_VELOCITY_FROM_EPSILON) {
                from_z = -exp(gamma / 2);
                from_net = sqrt(1 + exp(gamma));
                d_v_hat = 0.5 * from_z * z + 0.5 * exp(gamma) / from_net * net;
        }
        const double d_v = -0.5 * alpha * var * eps - 0.5 * sigma * rest * f;
        const double e = alpha * eps - sigma * f - (from_z * z + from_net * net);

        ret->diffusion = 0.5 * weight * e * e;
        ret->d_net = -weight * e * from_net;
        ret->d_z = -weight * e * from_z;
        ret->d_gamma[OF_T] = -0.5 * weight * var * e * e + weight * e * (d_v - d_v_hat);
        ret->d_gamma[OF_PRIME] = 0.5 * rest * e * e;
}

__device__ inline share share_at(const struct bound_args &a, int64_t row, int64_t i)
{
        const int64_t at = a.g == 1 ? row : i;
        share ret;

        reconstruction(a.x[i], a.eps_0[i], a.gamma_0[at], &ret);
        prior(a.f[i], a.gamma_1[at], &ret);
        if (a.parameterisation == PARAM_VELOCITY || a.parameterisation == PARAM_VELOCITY_FROM_EPSILON)
                diffusion_velocity(a, a.f[i], a.eps[i], a.z[i], a.net[i], a.gamma_t[at], a.gamma_prime[at], &ret);
        else
                diffusion_epsilon(a, a.eps[i], a.net[i], a.gamma_t[at], a.gamma_prime[at], &ret);
        return ret;
}

/* A block a row: the sums of terms (0 .. 2), variances (3, 4) and, where gamma is one a row, its gradients. */
__global__ void __launch_bounds__(BLOCK) bound(struct bound_args a)
{
        const int64_t row = blockIdx.x;
        float *const d_gamma[4] = {a.d_gamma_0, a.d_gamma_1, a.d_gamma_t, a.d_gamma_prime};
        double sums[9] = {};

        for (int64_t i = row * a.d + threadIdx.x; i < (row + 1) * a.d; i += blockDim.x) {
                const share s = share_at(a, row, i);
                const int64_t at = a.g == 1 ? row : i;

                sums[0] += s.reconstruction;
                sums[1] += s.prior;
                sums[2] += s.diffusion;
                sums[3] += sigmoid(a.gamma_0[at]);
                sums[4] += sigmoid(a.gamma_1[at]);
                if (!a.d_net)
                        continue;
                a.d_net[i] = (float)(s.d_net * a.grad_scale);
                a.d_z[i] = (float)(s.d_z * a.grad_scale);
                for (int j = 0; j < 4; j++) {
                        sums[5 + j] += s.d_gamma[j] * a.grad_scale;
                        if (a.g != 1)
                                d_gamma[j][i] = (float)(s.d_gamma[j] * a.grad_scale);
                }
        }
        for (int j = 0; j < 9; j++)
                sums[j] = block_sum(sums[j]);
        if (threadIdx.x != 0)
                return;
        for (int j = 0; j < 3; j++)
                a.terms[3 * row + j] = (float)sums[j];
        for (int j = 0; j < 2; j++)
                a.vars[2 * row + j] = (float)(sums[3 + j] / (double)a.d);
        for (int j = 0; j < 4 && a.d_net && a.g == 1; j++)
                d_gamma[j][row] = (float)sums[5 + j];
}
} // namespace

void cuda_diffuse_forward(struct stream *s, const struct diffuse_forward_args *a)
{
        RUN(s, "diffuse_forward", diffuse_forward, grid_of(a->m * a->d), BLOCK, 0, *a);
}

void cuda_diffuse_backward(struct stream *s, const struct diffuse_backward_args *a)
{
        RUN(s, "diffuse_backward", diffuse_backward, (unsigned)a->m, BLOCK, 0, *a);
}

void cuda_bound(struct stream *s, const struct bound_args *a)
{
        RUN(s, "bound", bound, (unsigned)a->m, BLOCK, 0, *a);
}
