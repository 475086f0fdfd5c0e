/* Formulas of single values, in double, that the reference and CUDA share. */
#pragma once

#include "kernels/device_fn.h"
#include "kernels/kernels.h"

#include <math.h>

/* The values that are kept as pairs (kernels.h): either low part may be NULL. */
DEVICE_FN double pair(const float *x, const float *x_low, int64_t i)
{
        return x_low ? (double)x[i] + (double)x_low[i] : (double)x[i];
}

DEVICE_FN void set_pair(float *y, float *y_low, int64_t i, double v)
{
        y[i] = (float)v;
        if (y_low)
                y_low[i] = (float)(v - (double)y[i]);
}

/* exp and its kin, the forms that neither overflow nor cancel */
DEVICE_FN double sigmoid(double x)
{
        return 1.0 / (1.0 + exp(-x));
}

DEVICE_FN double softplus(double x)
{
        return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* The schedules that are known (kernels.h, known_gamma): the paper's own time of a gamma, */
DEVICE_FN double known_time(enum known_schedule s, double gamma)
{
        double b = softplus(gamma); /* -ln alpha^2 */

        switch (s) {
        case SCHEDULE_DDPM_LINEAR: /* 9.95 u^2 + 0.1 u = b */
                return 2 * b / (0.1 + sqrt(0.01 + 4 * 9.95 * b));
        case SCHEDULE_COSINE:
                return 2 / M_PI * atan(exp(gamma / 2));
        case SCHEDULE_STRAIGHT:
                break;
        }
        return sigmoid(gamma / 2);
}

/* and gamma and its derivative by that time. */
DEVICE_FN double known_gamma_at(enum known_schedule s, double u, double *ret_slope)
{
        double b = u * (0.1 + 9.95 * u);

        switch (s) {
        case SCHEDULE_DDPM_LINEAR: /* ln(e^b - 1) */
                *ret_slope = (0.1 + 2 * 9.95 * u) / -expm1(-b);
                return b + log(-expm1(-b));
        case SCHEDULE_COSINE:
                *ret_slope = 2 * M_PI / sin(M_PI * u);
                return 2 * log(tan(M_PI * u / 2));
        case SCHEDULE_STRAIGHT:
                break;
        }
        *ret_slope = 2 / (u * (1 - u));
        return 2 * log(u / (1 - u));
}

/* k = coefficient (w_net net + w_x x) */
struct drift_weights {
        double coefficient, net, x;
};

/* Of the probability flow (kernels.h, drift). */
DEVICE_FN struct drift_weights drift_weights_of(enum parameterisation p, double gamma, double gamma_prime)
{
        double sigma = sqrt(sigmoid(gamma)), alpha = sqrt(sigmoid(-gamma));
        struct drift_weights w = {0.5 * sigma * gamma_prime, 1, -sigma};

        if (p == PARAM_VELOCITY || p == PARAM_VELOCITY_FROM_EPSILON) {
                w.coefficient = 0.5 * alpha * sigma * gamma_prime;
                w.net = p == PARAM_VELOCITY ? 1 : sqrt(1 + exp(gamma));
                w.x = p == PARAM_VELOCITY ? 0 : -exp(gamma / 2);
        }
        return w;
}

/* A step size below this is a function that cannot be integrated (or is not finite). */
#define FLOW_H_MIN 1e-9

/* The step size after a step of that error norm (kernels.h, flow_step). */
DEVICE_FN void flow_control(const struct flow_step_args *a, int order, struct trajectory *t, double norm, bool accepted)
{
        double scale = 10;

        if (norm > 0)
                scale = 0.9 * pow(norm, 0.75 * a->beta - 1.0 / order) * (t->norm > 0 ? pow(t->norm, a->beta) : 1);
        scale = isfinite(norm) ? fmin(fmax(scale, 0.2), t->rejected || !accepted ? 1.0 : 10.0) : 0.2;
        t->h *= scale;
        t->rejected = !accepted;
        if (accepted)
                t->norm = norm;
        if (t->h < FLOW_H_MIN)
                t->done = t->failed = 1;
}
