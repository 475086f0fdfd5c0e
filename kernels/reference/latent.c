/* The latents and their KL divergences. Spec 3. */
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
                        soft[i] = norm > 0 ? (float)(soft[i] / norm) : 0; /* logits that are equal, without noise */
                        e[i] = (e[i] - soft[i]) + soft[i];
                }
                a->norm[row] = (float)norm;
                a->kl[row] = (float)kl_to_uniform(logits, a->n);
        }
        return 0;
}

/* d_kl (d KL / d logits) of value i, q the softmax of the logits: q (log q + ln n - KL). */
static double kl_gradient(const float *logits, int64_t n, int64_t i, double total, double kl)
{
        double log_q = logits[i] - total;

        return exp(log_q) * (log_q + log((double)n) - kl);
}

/* soft = yc / |yc|, yc = y - mean(y): d_yc = (de - soft (soft . de)) / |yc|, d_y = d_yc - mean(d_yc). */
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
                for (int64_t i = 0; i < a->n; i++)
                        a->d_logits[row * a->n + i] = (float)((de[i] - soft[i] * dot) / norm - mean +
                                                              a->d_kl * kl_gradient(logits, a->n, i, total, kl));
        }
        return 0;
}

int reference_gumbel_forward(const struct gumbel_forward_args *a)
{
        double tau = a->state->tau;

        for (int64_t row = 0; row < a->m; row++) {
                const float *logits = a->logits + row * a->n, *noise = a->noise + row * a->n;
                float *soft = a->soft + row * a->n, *e = a->e + row * a->n;
                double max = -HUGE_VAL, sum = 0;
                int64_t largest = 0;

                for (int64_t i = 0; i < a->n; i++) {
                        double y = ((double)logits[i] + noise[i]) / tau;

                        if (y > max) {
                                max = y;
                                largest = i;
                        }
                }
                for (int64_t i = 0; i < a->n; i++)
                        sum += exp(((double)logits[i] + noise[i]) / tau - max);
                for (int64_t i = 0; i < a->n; i++) {
                        soft[i] = (float)(exp(((double)logits[i] + noise[i]) / tau - max) / sum);
                        e[i] = ((i == largest ? 1 : 0) - soft[i]) + soft[i];
                }
                a->kl[row] = (float)kl_to_uniform(logits, a->n);
        }
        return 0;
}

/* d_y = soft (de - soft . de), d_logits = d_y / tau */
int reference_gumbel_backward(const struct gumbel_backward_args *a)
{
        double tau = a->state->tau;

        for (int64_t row = 0; row < a->m; row++) {
                const float *logits = a->logits + row * a->n, *soft = a->soft + row * a->n, *de = a->de + row * a->n;
                double total = log_sum_exp(logits, a->n), kl = kl_to_uniform(logits, a->n), dot = 0;

                for (int64_t i = 0; i < a->n; i++)
                        dot += (double)soft[i] * de[i];
                for (int64_t i = 0; i < a->n; i++)
                        a->d_logits[row * a->n + i] = (float)(soft[i] * (de[i] - dot) / tau +
                                                              a->d_kl * kl_gradient(logits, a->n, i, total, kl));
        }
        return 0;
}

int reference_gaussian_forward(const struct gaussian_forward_args *a)
{
        for (int64_t row = 0; row < a->m; row++) {
                double kl = 0;

                for (int64_t i = row * a->n; i < (row + 1) * a->n; i++) {
                        double mu = a->mu[i], var = softplus(a->raw[i]);

                        a->e[i] = (float)(mu + sqrt(var) * (a->noise ? a->noise[i] : 0));
                        kl += 0.5 * (mu * mu + var - log(var) - 1);
                }
                a->kl[row] = (float)kl;
        }
        return 0;
}

int reference_gaussian_backward(const struct gaussian_backward_args *a)
{
        for (int64_t i = 0; i < a->m * a->n; i++) {
                double var = softplus(a->raw[i]), noise = a->noise ? a->noise[i] : 0;
                double d_var = a->de[i] * noise / (2 * sqrt(var)) + a->d_kl * 0.5 * (1 - 1 / var);

                a->d_mu[i] = (float)(a->de[i] + (double)a->d_kl * a->mu[i]);
                a->d_raw[i] = (float)(d_var * sigmoid(a->raw[i]));
        }
        return 0;
}
