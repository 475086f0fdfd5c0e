/* The operations that "cpu" takes from the reference, computed a second time: in double, from the specification's text,
 * by another way than the reference's (integrals by sums, derivatives by differences, sorting, brute force). Each check
 * of those calls its twin with what the two back ends made. */
#include "twins.h"

#include <math.h>
#include <stdlib.h>

double twin_sine_of(double g, double offset, double scale, int64_t i, int64_t n)
{
        /* sine, and cosine as the sine a quarter of a turn on; f_i = 10000^(-i / (n/2 - 1)) */
        int64_t half = n / 2, j = i % half;
        double angle = 1000 * (g - offset) * scale * pow(10000, -(double)j / (double)(half - 1));

        return sin(angle + (i < half ? 0 : M_PI_2));
}

/* The integral of (a u^2 + b u + c)^2 from 0 to t by Gauss's rule of three points, exact for its degree of four. */
static double integral(double a, double b, double c, double t)
{
        static const double at[3] = {-0.77459666924148337704, 0, 0.77459666924148337704}, weight[3] = {5, 8, 5};
        double sum = 0;

        for (int i = 0; i < 3; i++) {
                double u = 0.5 * t * (1 + at[i]), root = (a * u + b) * u + c;

                sum += weight[i] / 18 * t * root * root;
        }
        return sum;
}

double twin_poly(double a, double b, double c_raw, double t, double gamma_min, double gamma_max)
{
        double c = 1e-3 + log(1 + exp(c_raw));

        return gamma_min + (gamma_max - gamma_min) * integral(a, b, c, t) / integral(a, b, c, 1);
}

double twin_poly_prime(double a, double b, double c_raw, double t, double gamma_min, double gamma_max)
{
        double c = 1e-3 + log(1 + exp(c_raw)), root = (a * t + b) * t + c;

        return (gamma_max - gamma_min) * root * root / integral(a, b, c, 1);
}

/* 2 (sigmoid(p) - 1/2), as written */
double twin_squash(double p)
{
        return 2 * (1 / (1 + exp(-p)) - 0.5);
}

static int largest_first(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? 1 : x > y ? -1 : 0;
}

/* Sorted, so that the k-th largest is simply there. */
void twin_topk(const float *logits, const double *noise, int64_t n, int64_t k, double *ret_e, double *ret_norm,
               double *ret_kl)
{
        double *y = malloc(2 * (size_t)n * sizeof(*y)), *sorted = y + n, mean = 0, norm = 0, total = 0, kl = 0;

        for (int64_t i = 0; i < n; i++) {
                y[i] = logits[i] + (noise ? noise[i] : 0);
                mean += y[i] / (double)n;
                total += exp((double)logits[i]);
        }
        for (int64_t i = 0; i < n; i++) {
                double q = exp((double)logits[i]) / total;

                y[i] = (float)(y[i] - mean); /* ties are those of float32 */
                sorted[i] = y[i];
                norm = hypot(norm, y[i]);
                kl += q * (log(q) + log((double)n));
        }
        qsort(sorted, (size_t)n, sizeof(*sorted), largest_first);
        for (int64_t i = 0; i < n; i++)
                ret_e[i] = y[i] >= sorted[k - 1]; /* e = soft + (hard - soft) */
        *ret_norm = norm;
        *ret_kl = kl;
        free(y);
}

/* As written: alpha, sigma from their squares. p: 0 velocity, 1 velocity from epsilon, else epsilon. */
double twin_ancestral(int p, double gamma_t, double gamma_s, double z, double net, double eps)
{
        double a = 1 / (1 + exp(gamma_s)), b = 1 / (1 + exp(gamma_t)), c = 1 - exp(gamma_s - gamma_t);
        double sigma_t = sqrt(1 - b), eps_hat = net;

        if (p == 0)
                eps_hat = sqrt(b) * net + sigma_t * z;
        if (p == 1)
                eps_hat = sqrt(b) * (sqrt(1 + exp(gamma_t)) * net - exp(gamma_t / 2) * z) + sigma_t * z;
        return sqrt(a / b) * (z - sigma_t * c * eps_hat) + sqrt((1 - a) * c) * eps;
}

/* All 256 bins: the first of the largest logits, or where the summed probability passes u. */
int twin_decode(double z, double gamma, const float *u)
{
        double x = z * sqrt(1 + exp(gamma)), logit[256], max = -HUGE_VAL, total = 0, sum = 0;
        int best = 0;

        for (int j = 0; j < 256; j++) {
                double e = x - (2 * (j + 0.5) / 256 - 1);

                logit[j] = -e * e / (2 * exp(gamma));
                if (logit[j] > max) {
                        max = logit[j];
                        best = j;
                }
        }
        for (int j = 0; j < 256; j++)
                total += exp(logit[j] - max);
        for (int j = 0; u && j < 256; j++) {
                sum += exp(logit[j] - max) / total;
                if (sum > *u)
                        return j;
        }
        return u ? 255 : best;
}
