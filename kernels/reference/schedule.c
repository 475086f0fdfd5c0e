/* The noise schedules. Spec 4. */
#include "kernels/reference/reference.h"

#include <math.h>

/* P(t), its derivatives in a, b, c, and the root of its derivative in t */
struct poly {
        double p, da, db, dc, root;
};

static struct poly poly_at(double a, double b, double c, double t)
{
        double t2 = t * t, t3 = t2 * t, t4 = t3 * t, t5 = t4 * t;

        return (struct poly){
                .p = a * a * t5 / 5 + (b * b + 2 * a * c) * t3 / 3 + a * b * t4 / 2 + b * c * t2 + c * c * t,
                .da = 2 * a * t5 / 5 + b * t4 / 2 + 2 * c * t3 / 3,
                .db = a * t4 / 2 + 2 * b * t3 / 3 + c * t2,
                .dc = 2 * a * t3 / 3 + b * t2 + 2 * c * t,
                .root = a * t2 + b * t + c,
        };
}

int reference_poly_forward(const struct poly_forward_args *a)
{
        double span = (double)a->gamma_max - a->gamma_min;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->d; i++) {
                double x = pair(a->a, a->a_low, i), y = pair(a->b, a->b_low, i);
                double c = 1e-3 + softplus(pair(a->c_raw, a->c_raw_low, i));
                struct poly p = poly_at(x, y, c, a->t[i / a->d]), end = poly_at(x, y, c, 1);

                if (a->gamma)
                        set_pair(a->gamma, a->gamma_low, i, a->gamma_min + span * p.p / end.p);
                if (a->gamma_prime)
                        a->gamma_prime[i] = (float)(span * p.root * p.root / end.p);
        }
        return 0;
}

int reference_poly_backward(const struct poly_backward_args *a)
{
        double span = (double)a->gamma_max - a->gamma_min;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->d; i++) {
                double t = a->t[i / a->d], c = 1e-3 + softplus(a->c_raw[i]);
                struct poly p = poly_at(a->a[i], a->b[i], c, t), end = poly_at(a->a[i], a->b[i], c, 1);
                double g = a->d_gamma ? span * a->d_gamma[i] : 0, h = a->d_gamma_prime ? span * a->d_gamma_prime[i] : 0;
                /* gradients of P(t), P(1) and the root */
                double d_p = g / end.p, d_root = 2 * h * p.root / end.p;
                double d_end = -(g * p.p + h * p.root * p.root) / (end.p * end.p);
                double da = d_p * p.da + d_end * end.da + d_root * t * t;
                double db = d_p * p.db + d_end * end.db + d_root * t;
                double dc = (d_p * p.dc + d_end * end.dc + d_root) * sigmoid(a->c_raw[i]);

                a->da[i] = (float)(a->accumulate ? a->da[i] + da : da);
                a->db[i] = (float)(a->accumulate ? a->db[i] + db : db);
                a->dc_raw[i] = (float)(a->accumulate ? a->dc_raw[i] + dc : dc);
        }
        return 0;
}

int reference_dual_squash_forward(const struct dual_squash_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->n; i++) {
                double u = tanh(0.5 * a->p[i]); /* 2 (sigmoid(p) - 1/2), without the cancellation */

                a->u_prime[i] = (float)((1 - u * u) * a->p_prime[i] / 2);
                a->u[i] = (float)u;
        }
        return 0;
}

int reference_dual_squash_backward(const struct dual_squash_backward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->n; i++) {
                double u = a->u[i], slope = (1 - u * u) / 2, du_prime = a->du_prime[i];

                a->dp[i] = (float)((a->du[i] - du_prime * u * a->p_prime[i]) * slope);
                a->dp_prime[i] = (float)(du_prime * slope);
        }
        return 0;
}

int reference_monotone_out_forward(const struct monotone_out_forward_args *a)
{
        double w = fabs((double)a->w[0]), b = a->b[0];

        for (int64_t i = 0; i < a->m * a->d; i++) {
                if (a->gamma)
                        a->gamma[i] = (float)(b + w * a->t[i / a->d] + (a->h ? a->h[i] / (double)a->divisor : 0));
                if (a->gamma_prime)
                        a->gamma_prime[i] = (float)(w + (a->h_prime ? a->h_prime[i] / (double)a->divisor : 0));
        }
        return 0;
}

int reference_monotone_out_backward(const struct monotone_out_backward_args *a)
{
        double w = a->w[0], dw = 0, db = 0;

        for (int64_t i = 0; i < a->m * a->d; i++) {
                double g = a->d_gamma ? a->d_gamma[i] : 0, h = a->d_gamma_prime ? a->d_gamma_prime[i] : 0;

                dw += g * a->t[i / a->d] + h;
                db += g;
                if (a->dh)
                        a->dh[i] = (float)(g / a->divisor);
                if (a->dh_prime)
                        a->dh_prime[i] = (float)(h / a->divisor);
        }
        dw *= w > 0 ? 1 : w < 0 ? -1 : 0;
        if (a->dw)
                a->dw[0] = (float)(a->accumulate ? a->dw[0] + dw : dw);
        if (a->db)
                a->db[0] = (float)(a->accumulate ? a->db[0] + db : db);
        return 0;
}

int reference_known_gamma(const struct known_gamma_args *a)
{
        double first = known_time(a->schedule, a->gamma_min), span = known_time(a->schedule, a->gamma_max) - first;

        for (int64_t i = 0; i < a->m; i++) {
                double slope, gamma = known_gamma_at(a->schedule, first + span * a->t[i], &slope);

                set_pair(a->gamma, a->gamma_low, i, gamma);
                a->gamma_prime[i] = (float)(slope * span);
        }
        return 0;
}

int reference_weigh_rows(const struct weigh_rows_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->d; i++) {
                int64_t row = i / a->d;
                double ratio = a->weight == WEIGHT_SIMPLE ? 1 : 1 + exp(0.5 * a->gamma[row]);

                a->x[i] = (float)(a->x[i] * ratio * ratio * (a->gamma_max - a->gamma_min) / a->gamma_prime[row]);
        }
        return 0;
}
