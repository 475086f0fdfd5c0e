/* The noise schedules, in double. Spec 4. */
#include "kernels/cuda/cuda.h"

namespace
{

/* P(t), its derivatives in a, b, c, and the root of its derivative in t */
struct poly {
        double p, da, db, dc, root;
};

__device__ inline poly poly_at(double a, double b, double c, double t)
{
        const double t2 = t * t, t3 = t2 * t, t4 = t3 * t, t5 = t4 * t;

        return {a * a * t5 / 5 + (b * b + 2 * a * c) * t3 / 3 + a * b * t4 / 2 + b * c * t2 + c * c * t,
                2 * a * t5 / 5 + b * t4 / 2 + 2 * c * t3 / 3, a * t4 / 2 + 2 * b * t3 / 3 + c * t2,
                2 * a * t3 / 3 + b * t2 + 2 * c * t, a * t2 + b * t + c};
}

__global__ void __launch_bounds__(BLOCK) poly_forward(struct poly_forward_args a)
{
        const double span = (double)a.gamma_max - a.gamma_min;

        FOR_EACH(i, a.m * a.d)
        {
                const double x = pair(a.a, a.a_low, i), y = pair(a.b, a.b_low, i);
                const double c = 1e-3 + softplus(pair(a.c_raw, a.c_raw_low, i));
                const poly p = poly_at(x, y, c, a.t[i / a.d]), end = poly_at(x, y, c, 1);

                if (a.gamma)
                        set_pair(a.gamma, a.gamma_low, i, a.gamma_min + span * p.p / end.p);
                if (a.gamma_prime)
                        a.gamma_prime[i] = (float)(span * p.root * p.root / end.p);
        }
}

__global__ void __launch_bounds__(BLOCK) poly_backward(struct poly_backward_args a)
{
        const double span = (double)a.gamma_max - a.gamma_min;

        FOR_EACH(i, a.m * a.d)
        {
                const double t = a.t[i / a.d], c = 1e-3 + softplus(a.c_raw[i]);
                const poly p = poly_at(a.a[i], a.b[i], c, t), end = poly_at(a.a[i], a.b[i], c, 1);
                const double g = a.d_gamma ? span * a.d_gamma[i] : 0;
                const double h = a.d_gamma_prime ? span * a.d_gamma_prime[i] : 0;
                /* gradients of P(t), P(1) and the root */
                const double d_p = g / end.p, d_root = 2 * h * p.root / end.p;
                const double d_end = -(g * p.p + h * p.root * p.root) / (end.p * end.p);
                const double da = d_p * p.da + d_end * end.da + d_root * t * t;
                const double db = d_p * p.db + d_end * end.db + d_root * t;
                const double dc = (d_p * p.dc + d_end * end.dc + d_root) * sigmoid(a.c_raw[i]);

                a.da[i] = (float)(a.accumulate ? a.da[i] + da : da);
                a.db[i] = (float)(a.accumulate ? a.db[i] + db : db);
                a.dc_raw[i] = (float)(a.accumulate ? a.dc_raw[i] + dc : dc);
        }
}

__global__ void __launch_bounds__(BLOCK) dual_squash_forward(struct dual_squash_forward_args a)
{
        FOR_EACH(i, a.n)
        {
                const double u = tanh(0.5 * a.p[i]); /* 2 (sigmoid(p) - 1/2), without the cancellation */

                a.u_prime[i] = (float)((1 - u * u) * a.p_prime[i] / 2);
                a.u[i] = (float)u;
        }
}

__global__ void __launch_bounds__(BLOCK) dual_squash_backward(struct dual_squash_backward_args a)
{
        FOR_EACH(i, a.n)
        {
                const double u = a.u[i], slope = (1 - u * u) / 2, du_prime = a.du_prime[i];

                a.dp[i] = (float)((a.du[i] - du_prime * u * a.p_prime[i]) * slope);
                a.dp_prime[i] = (float)(du_prime * slope);
        }
}

__global__ void __launch_bounds__(BLOCK) monotone_out_forward(struct monotone_out_forward_args a)
{
        const double w = fabs((double)a.w[0]), b = a.b[0];

        FOR_EACH(i, a.m * a.d)
        {
                if (a.gamma)
                        a.gamma[i] = (float)(b + w * a.t[i / a.d] + (a.h ? a.h[i] / (double)a.divisor : 0));
                if (a.gamma_prime)
                        a.gamma_prime[i] = (float)(w + (a.h_prime ? a.h_prime[i] / (double)a.divisor : 0));
        }
}

enum { MONOTONE_BLOCK = 1024 };

/* One block: dw and db are sums over all of it. */
__global__ void __launch_bounds__(MONOTONE_BLOCK) monotone_out_backward(struct monotone_out_backward_args a)
{
        const double w = a.w[0];
        double dw = 0, db = 0;

        FOR_EACH(i, a.m * a.d)
        {
                const double g = a.d_gamma ? a.d_gamma[i] : 0, h = a.d_gamma_prime ? a.d_gamma_prime[i] : 0;

                dw += g * a.t[i / a.d] + h;
                db += g;
                if (a.dh)
                        a.dh[i] = (float)(g / a.divisor);
                if (a.dh_prime)
                        a.dh_prime[i] = (float)(h / a.divisor);
        }
        dw = block_sum(dw) * (w > 0 ? 1 : w < 0 ? -1 : 0);
        db = block_sum(db);
        if (threadIdx.x == 0 && a.dw)
                a.dw[0] = (float)(a.accumulate ? a.dw[0] + dw : dw);
        if (threadIdx.x == 0 && a.db)
                a.db[0] = (float)(a.accumulate ? a.db[0] + db : db);
}

__global__ void __launch_bounds__(BLOCK) known_gamma(struct known_gamma_args a)
{
        const double first = known_time(a.schedule, a.gamma_min), span = known_time(a.schedule, a.gamma_max) - first;

        FOR_EACH(i, a.m)
        {
                double slope;

                set_pair(a.gamma, a.gamma_low, i, known_gamma_at(a.schedule, first + span * a.t[i], &slope));
                a.gamma_prime[i] = (float)(slope * span);
        }
}

__global__ void __launch_bounds__(BLOCK) weigh_rows(struct weigh_rows_args a)
{
        FOR_EACH(i, a.m * a.d)
        {
                const int64_t row = i / a.d;
                const double ratio = a.weight == WEIGHT_SIMPLE ? 1 : 1 + exp(0.5 * a.gamma[row]);

                a.x[i] = (float)(a.x[i] * ratio * ratio * (a.gamma_max - a.gamma_min) / a.gamma_prime[row]);
        }
}
} // namespace

void cuda_poly_forward(struct stream *s, const struct poly_forward_args *a)
{
        RUN(s, "poly_forward", poly_forward, grid_of(a->m * a->d), BLOCK, 0, *a);
}

void cuda_poly_backward(struct stream *s, const struct poly_backward_args *a)
{
        RUN(s, "poly_backward", poly_backward, grid_of(a->m * a->d), BLOCK, 0, *a);
}

void cuda_dual_squash_forward(struct stream *s, const struct dual_squash_forward_args *a)
{
        RUN(s, "dual_squash_forward", dual_squash_forward, grid_of(a->n), BLOCK, 0, *a);
}

void cuda_dual_squash_backward(struct stream *s, const struct dual_squash_backward_args *a)
{
        RUN(s, "dual_squash_backward", dual_squash_backward, grid_of(a->n), BLOCK, 0, *a);
}

void cuda_monotone_out_forward(struct stream *s, const struct monotone_out_forward_args *a)
{
        RUN(s, "monotone_out_forward", monotone_out_forward, grid_of(a->m * a->d), BLOCK, 0, *a);
}

void cuda_monotone_out_backward(struct stream *s, const struct monotone_out_backward_args *a)
{
        RUN(s, "monotone_out_backward", monotone_out_backward, 1, MONOTONE_BLOCK, 0, *a);
}

void cuda_known_gamma(struct stream *s, const struct known_gamma_args *a)
{
        RUN(s, "known_gamma", known_gamma, grid_of(a->m), BLOCK, 0, *a);
}

void cuda_weigh_rows(struct stream *s, const struct weigh_rows_args *a)
{
        RUN(s, "weigh_rows", weigh_rows, grid_of(a->m * a->d), BLOCK, 0, *a);
}
