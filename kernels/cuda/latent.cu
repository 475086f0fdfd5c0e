/* The latents and their KL divergences, in double: a block a row. Spec 3. */
#include "kernels/cuda/cuda.h"

namespace
{

enum { ROW_BLOCK = 64 };

#define FOR_ROW(i, n) for (int64_t i = threadIdx.x; i < (n); i += blockDim.x)

__device__ inline double noise_at(const struct topk_forward_args &a, int64_t at)
{
        double sum = 0;

        if (!a.noise)
                return 0;
        if (!a.sum_of_gamma)
                return a.noise[at];
        for (int j = 0; j < 10; j++)
                sum += (double)a.noise[j * a.m * a.n + at] * (j + 1) / (double)a.k;
        return 10 * (sum - log(10.0)) / (double)a.k;
}

/* log of the sum of exp of a row */
__device__ inline double log_sum_exp(const float *x, int64_t n)
{
        float most = -HUGE_VALF; /* each thread finds it: a row is short */
        double sum = 0;

        for (int64_t i = 0; i < n; i++)
                most = fmaxf(most, x[i]);
        FOR_ROW(i, n)
        sum += exp((double)x[i] - (double)most);
        return (double)most + log(block_sum(sum));
}

__device__ inline double kl_to_uniform(const float *logits, int64_t n, double total)
{
        double kl = 0;

        FOR_ROW(i, n)
        kl += exp(logits[i] - total) * (logits[i] - total + log((double)n));
        return block_sum(kl);
}

/* d_kl (d KL / d logits) of a value, q the softmax of the logits: q (log q + ln n - KL). */
__device__ inline double kl_gradient(double logit, int64_t n, double total, double kl)
{
        const double log_q = logit - total;

        return exp(log_q) * (log_q + log((double)n) - kl);
}

/* A value is among the k largest, ties counted, where fewer than k are larger. soft holds the centred y meanwhile. */
__device__ inline float hard_at(const float *soft, int64_t n, int64_t k, int64_t i)
{
        int64_t larger = 0;

        for (int64_t j = 0; j < n; j++)
                larger += soft[j] > soft[i];
        return larger < k ? 1 : 0;
}

__global__ void __launch_bounds__(ROW_BLOCK) topk_forward(struct topk_forward_args a)
{
        const int64_t row = blockIdx.x;
        const float *logits = a.logits + row * a.n;
        float *soft = a.soft + row * a.n, *e = a.e + row * a.n;
        const double total = log_sum_exp(logits, a.n), kl = kl_to_uniform(logits, a.n, total);
        double mean = 0, norm = 0;

        FOR_ROW(i, a.n)
        mean += logits[i] + noise_at(a, row * a.n + i);
        mean = block_sum(mean) / (double)a.n;
        FOR_ROW(i, a.n)
        {
                const double y = logits[i] + noise_at(a, row * a.n + i) - mean;

                soft[i] = (float)y;
                norm += y * y;
        }
        norm = sqrt(block_sum(norm)); /* its barriers: all of soft is there */
        FOR_ROW(i, a.n)
        e[i] = hard_at(soft, a.n, a.k, i);
        __syncthreads();
        FOR_ROW(i, a.n)
        {
                soft[i] = norm > 0 ? (float)(soft[i] / norm) : 0; /* logits that are equal, without noise */
                e[i] = (e[i] - soft[i]) + soft[i];
        }
        if (threadIdx.x == 0) {
                a.norm[row] = (float)norm;
                a.kl[row] = (float)kl;
        }
}

/* soft = yc / |yc|, yc = y - mean(y): d_yc = (de - soft (soft . de)) / |yc|, d_y = d_yc - mean(d_yc). */
__global__ void __launch_bounds__(ROW_BLOCK) topk_backward(struct topk_backward_args a)
{
        const int64_t row = blockIdx.x;
        const float *logits = a.logits + row * a.n, *soft = a.soft + row * a.n, *de = a.de + row * a.n;
        const double total = log_sum_exp(logits, a.n), kl = kl_to_uniform(logits, a.n, total), norm = a.norm[row];
        double dot = 0, mean = 0;

        FOR_ROW(i, a.n)
        dot += (double)soft[i] * de[i];
        dot = block_sum(dot);
        FOR_ROW(i, a.n)
        mean += (de[i] - soft[i] * dot) / norm / (double)a.n;
        mean = block_sum(mean);
        FOR_ROW(i, a.n)
        a.d_logits[row * a.n + i] =
                (float)((de[i] - soft[i] * dot) / norm - mean + a.d_kl * kl_gradient(logits[i], a.n, total, kl));
}

/* Where y is largest, the first of several; every thread finds it: a row is short. */
__device__ inline int64_t first_largest(const float *logits, const float *noise, double tau, int64_t n, double *ret_y)
{
        int64_t largest = 0;

        *ret_y = -HUGE_VAL;
        for (int64_t i = 0; i < n; i++) {
                const double y = ((double)logits[i] + noise[i]) / tau;

                if (y > *ret_y) {
                        *ret_y = y;
                        largest = i;
                }
        }
        return largest;
}

__global__ void __launch_bounds__(ROW_BLOCK) gumbel_forward(struct gumbel_forward_args a)
{
        const int64_t row = blockIdx.x;
        const float *logits = a.logits + row * a.n, *noise = a.noise + row * a.n;
        float *soft = a.soft + row * a.n, *e = a.e + row * a.n;
        const double total = log_sum_exp(logits, a.n), kl = kl_to_uniform(logits, a.n, total), tau = a.state->tau;
        double most, sum = 0;
        const int64_t largest = first_largest(logits, noise, tau, a.n, &most);

        FOR_ROW(i, a.n)
        sum += exp(((double)logits[i] + noise[i]) / tau - most);
        sum = block_sum(sum);
        FOR_ROW(i, a.n)
        {
                soft[i] = (float)(exp(((double)logits[i] + noise[i]) / tau - most) / sum);
                e[i] = ((i == largest ? 1 : 0) - soft[i]) + soft[i];
        }
        if (threadIdx.x == 0)
                a.kl[row] = (float)kl;
}

/* d_y = soft (de - soft . de), d_logits = d_y / tau */
__global__ void __launch_bounds__(ROW_BLOCK) gumbel_backward(struct gumbel_backward_args a)
{
        const int64_t row = blockIdx.x;
        const float *logits = a.logits + row * a.n, *soft = a.soft + row * a.n, *de = a.de + row * a.n;
        const double total = log_sum_exp(logits, a.n), kl = kl_to_uniform(logits, a.n, total), tau = a.state->tau;
        double dot = 0;

        FOR_ROW(i, a.n)
        dot += (double)soft[i] * de[i];
        dot = block_sum(dot);
        FOR_ROW(i, a.n)
        a.d_logits[row * a.n + i] =
                (float)(soft[i] * (de[i] - dot) / tau + a.d_kl * kl_gradient(logits[i], a.n, total, kl));
}

__global__ void __launch_bounds__(ROW_BLOCK) gaussian_forward(struct gaussian_forward_args a)
{
        const int64_t first = (int64_t)blockIdx.x * a.n;
        double kl = 0;

        FOR_ROW(j, a.n)
        {
                const int64_t i = first + j;
                const double mu = a.mu[i], var = softplus(a.raw[i]);

                a.e[i] = (float)(mu + sqrt(var) * (a.noise ? a.noise[i] : 0));
                kl += 0.5 * (mu * mu + var - log(var) - 1);
        }
        kl = block_sum(kl);
        if (threadIdx.x == 0)
                a.kl[blockIdx.x] = (float)kl;
}

__global__ void __launch_bounds__(BLOCK) gaussian_backward(struct gaussian_backward_args a)
{
        FOR_EACH(i, a.m * a.n)
        {
                const double var = softplus(a.raw[i]), noise = a.noise ? a.noise[i] : 0;
                const double d_var = a.de[i] * noise / (2 * sqrt(var)) + a.d_kl * 0.5 * (1 - 1 / var);

                a.d_mu[i] = (float)(a.de[i] + (double)a.d_kl * a.mu[i]);
                a.d_raw[i] = (float)(d_var * sigmoid(a.raw[i]));
        }
}
} // namespace

void cuda_topk_forward(struct stream *s, const struct topk_forward_args *a)
{
        RUN(s, "topk_forward", topk_forward, (unsigned)a->m, ROW_BLOCK, 0, *a);
}

void cuda_topk_backward(struct stream *s, const struct topk_backward_args *a)
{
        RUN(s, "topk_backward", topk_backward, (unsigned)a->m, ROW_BLOCK, 0, *a);
}

void cuda_gumbel_forward(struct stream *s, const struct gumbel_forward_args *a)
{
        RUN(s, "gumbel_forward", gumbel_forward, (unsigned)a->m, ROW_BLOCK, 0, *a);
}

void cuda_gumbel_backward(struct stream *s, const struct gumbel_backward_args *a)
{
        RUN(s, "gumbel_backward", gumbel_backward, (unsigned)a->m, ROW_BLOCK, 0, *a);
}

void cuda_gaussian_forward(struct stream *s, const struct gaussian_forward_args *a)
{
        RUN(s, "gaussian_forward", gaussian_forward, (unsigned)a->m, ROW_BLOCK, 0, *a);
}

void cuda_gaussian_backward(struct stream *s, const struct gaussian_backward_args *a)
{
        RUN(s, "gaussian_backward", gaussian_backward, grid_of(a->m * a->n), BLOCK, 0, *a);
}
