/* Schedules that are known, and weights of the loss: against their papers' own words. */
#include "tests/kernels/check.h"

#include <math.h>

/* ln(sigma^2 / alpha^2) at the paper's own time. */
static double twin_gamma(enum known_schedule s, double u)
{
        double log_alpha_2;

        if (s == SCHEDULE_STRAIGHT) /* x_u = (1 - u) x + u eps */
                return 2 * (log(u) - log1p(-u));
        /* the integral of beta(u) = 0.1 + 19.9 u, Song et al. 2021, C */
        log_alpha_2 = s == SCHEDULE_DDPM_LINEAR ? -(0.1 * u + 19.9 * u * u / 2) : 2 * log(cos(M_PI / 2 * u));
        return log(-expm1(log_alpha_2)) - log_alpha_2;
}

/* By halving: gamma rises. */
static double twin_time(enum known_schedule s, double gamma)
{
        double low = 1e-12, high = 1 - 1e-12;

        for (int i = 0; i < 200; i++) {
                double middle = (low + high) / 2;

                *(twin_gamma(s, middle) < gamma ? &low : &high) = middle;
        }
        return low;
}

void check_known_gamma(struct test *t)
{
        enum { M = 33 };

        for (int i = 0; i < 6; i++) {
                enum known_schedule s = (enum known_schedule)(i % 3);
                double gamma_min = i / 3 ? -6 : -13.3, gamma_max = i / 3 ? 3 : 5, want[M], want_prime[M];
                double first = twin_time(s, gamma_min), span = twin_time(s, gamma_max) - first;
                struct tensor *times, *gamma, *low, *prime;

                test_case(t, "schedule %d from %g to %g", (int)s, gamma_min, gamma_max);
                times = test_input(t, "t", M, 1, 0);
                for (int j = 0; j < M; j++) {
                        double u, h = 1e-5 * span;

                        tensor_values(times)[j] = (float)j / (M - 1);
                        u = first + span * tensor_values(times)[j];
                        want[j] = twin_gamma(s, u);
                        h = fmin(h, 1e-3 * fmin(u, 1 - u));
                        want_prime[j] = span * (twin_gamma(s, u + h) - twin_gamma(s, u - h)) / (2 * h);
                }
                test_upload(t, times);
                gamma = test_output(t, "gamma", M, 1);
                low = test_output(t, "gamma_low", M, -1);
                prime = test_output(t, "gamma_prime", M, 4);
                RUN(t, known_gamma, .m = M, .schedule = s, .gamma_min = gamma_min, .gamma_max = gamma_max,
                    .t = AT(times), .gamma = AT(gamma), .gamma_low = AT(low), .gamma_prime = AT(prime));
                test_compare(t);
                test_expect(t, gamma, want, 4);
                test_expect(t, prime, want_prime, 200); /* a difference */
                for (int j = 0; j < M; j++) {
                        double pair = (double)((const float *)tensor_result(gamma, TESTED))[j] +
                                      ((const float *)tensor_result(low, TESTED))[j];

                        if (fabs(pair - want[j]) > 1e-8 * (1 + fabs(want[j])))
                                test_fail(t, "gamma %d is %.12g, should be %.12g", j, pair, want[j]);
                }
                if (fabs(want[0] - gamma_min) > 1e-6 || fabs(want[M - 1] - gamma_max) > 1e-6)
                        test_fail(t, "the ends are %g and %g", want[0], want[M - 1]);
                test_end(t);
        }
}

void check_weigh_rows(struct test *t)
{
        enum { M = 3, D = 70 };

        for (int i = 0; i < 2; i++) {
                struct tensor *gamma, *prime, *x;
                double want[M * D];

                test_case(t, "weight %d", i);
                gamma = test_input(t, "gamma", M, 3, 0);
                prime = test_input(t, "gamma_prime", M, 1, 20);
                x = test_inout(t, "x", M * D, 4);
                for (int j = 0; j < M * D; j++) {
                        double sigma_2 = 1 / (1 + exp(-(double)tensor_values(gamma)[j / D]));
                        double u = sqrt(sigma_2) / (sqrt(sigma_2) + sqrt(1 - sigma_2)); /* of the straight path */
                        double of_eps = i ? 1 / ((1 - u) * (1 - u)) : 1;

                        /* the likelihood weighs |eps - eps_hat|^2 by gamma' / 2 */
                        want[j] = tensor_values(x)[j] * of_eps * (18.3 / 2) / (tensor_values(prime)[j / D] / 2.0);
                }
                RUN(t, weigh_rows, .m = M, .d = D, .weight = (enum row_weight)i, .gamma_min = -13.3, .gamma_max = 5,
                    .gamma = AT(gamma), .gamma_prime = AT(prime), .x = AT(x));
                test_compare(t);
                test_expect(t, x, want, 8);
                test_end(t);
        }
}
