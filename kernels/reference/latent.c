/* The top-k latent and its KL divergence. Spec 3. */
#include "kernels/reference/reference.h"

#include <math.h>

static double noise_at(const struct topk_forward_args *a, int64_t row, int64_t i)
{
        int64_t at = row * a->n + i;
        double sum = 0;

        if (!a->noise)
                return 0;
        if (!a->sum_of_gamma)
                return a->noise[at];
        for (int j = 0; j < 10; j++)
                sum += (double)a->noise[j * a->m * a->n + at] * (j + 1) / (double)a->k;
        return 10 * (sum - log(10.0)) / (double)a->k;
}

/* log of the sum of exp of a row */
static double log_sum_exp(const float *x, int64_t n)
{
        double max = -HUGE_VAL, sum = 0;

        for (int64_t i = 0; i < n; i++)
                max = fmax(max, x[i]);
        for (int64_t i = 0; i < n; i++)
                sum += exp(x[i] - max);
        return max + log(sum);
}

static double kl_to_uniform(const float *logits, int64_t n)
{
        double total = log_sum_exp(logits, n), kl = 0;

        for (int64_t i = 0; i < n; i++)
                kl += exp(logits[i] - total) * (logits[i] - total + log((double)n));
        return kl;
}

/* A value is among the k largest, ties counted, where fewer than k are larger. soft holds the centred y here. */
static float hard_at(const float *soft, int64_t n, int64_t k, int64_t i)
{
        int64_t larger = 0;

        for (int64_t j = 0; j < n; j++)
                larger += soft[j] > soft[i];
        return larger < k ? 1 : 0;
}

int reference_topk_forward(const struct topk_forward_args *a)
{
        for (int64_t row = 0; row < a->m; row++) {
                const float *logits = a->logits + row * a->n;
                float *soft = a->soft + row * a->n, *e = a->e + row * a->n;
                double mean = 0, norm = 0;

                for (int64_t i = 0; i < a->n; i++)
                        mean += logits[i] + noise_at(a, row, i);
                mean /= (double)a->n;
                for (int64_t i = 0; i < a->n; i++) {
                        double y = logits[i] + noise_at(a, row, i) - mean;

                        soft[i] = (float)y;
                        norm += y * y;
                }
                norm = sqrt(norm);
                for (int64_t i = 0; i < a->n; i++)
                        e[i] = hard_at(soft, a->n, a->k, i);
                for (int64_t i = 0; i < a->n; i++) {
                        soft[i] = (float)(soft[i] / norm);
                        e[i] = (e[i] - soft[i]) + soft[i];
                }
                a->norm[row] = (float)norm;
                a->kl[row] = (float)kl_to_uniform(logits, a->n);
        }
        return 0;
}

/* soft = yc / |yc|, yc = y - mean(y): d_yc = (de - soft (soft . de)) / |yc|, d_y = d_yc - mean(d_yc), and with q the
 * softmax of the logits d KL / d logits = q (log q + ln n - KL). */
int reference_topk_backward(const struct topk_backward_args *a)
{
        for (int64_t row = 0; row < a->m; row++) {
                const float *logits = a->logits + row * a->n, *soft = a->soft + row * a->n, *de = a->de + row * a->n;
                double total = log_sum_exp(logits, a->n), kl = kl_to_uniform(logits, a->n);
                double norm = a->norm[row], dot = 0, mean = 0;

                for (int64_t i = 0; i < a->n; i++)
                        dot += (double)soft[i] * de[i];
                for (int64_t i = 0; i < a->n; i++)
                        mean += (de[i] - soft[i] * dot) / norm / (double)a->n;
                for (int64_t i = 0; i < a->n; i++) {
                        double log_q = logits[i] - total;

                        a->d_logits[row * a->n + i] = (float)((de[i] - soft[i] * dot) / norm - mean +
                                                              a->d_kl * exp(log_q) * (log_q + log((double)a->n) - kl));
                }
        }
        return 0;
}
