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
                soft[i] = (float)(soft[i] / norm);
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
} // namespace

void cuda_topk_forward(struct stream *s, const struct topk_forward_args *a)
{
        RUN(s, "topk_forward", topk_forward, (unsigned)a->m, ROW_BLOCK, 0, *a);
}

void cuda_topk_backward(struct stream *s, const struct topk_backward_args *a)
{
        RUN(s, "topk_backward", topk_backward, (unsigned)a->m, ROW_BLOCK, 0, *a);
}
