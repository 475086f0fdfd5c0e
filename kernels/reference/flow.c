/* The probability flow and its integrator. Spec 7. */
#include "kernels/reference/reference.h"

#include <math.h>

/* k = coefficient (w_net net + w_x x) */
struct drift_weights {
        double coefficient, net, x;
};

static struct drift_weights weights_of(enum parameterisation p, double gamma, double gamma_prime)
{
        double sigma = sqrt(sigmoid(gamma)), alpha = sqrt(sigmoid(-gamma));

        switch (p) {
        case PARAM_VELOCITY:
                return (struct drift_weights){0.5 * alpha * sigma * gamma_prime, 1, 0};
        case PARAM_VELOCITY_FROM_EPSILON:
                return (struct drift_weights){0.5 * alpha * sigma * gamma_prime, sqrt(1 + exp(gamma)), -exp(gamma / 2)};
        case PARAM_EPSILON:
        case PARAM_EPSILON_DISCRETE:
                break;
        }
        return (struct drift_weights){0.5 * sigma * gamma_prime, 1, -sigma};
}

int reference_drift(const struct drift_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->d; i++) {
                int64_t at = a->g == 1 ? i / a->d : i;
                struct drift_weights w = weights_of(a->parameterisation, a->gamma[at], a->gamma_prime[at]);

                a->k[i] = (float)(w.coefficient * (w.net * a->net[i] + w.x * pair(a->x, a->x_low, i)));
                if (!a->probe)
                        continue;
                a->d_net[i] = (float)(w.coefficient * w.net * a->probe[i]);
                a->d_x[i] = (float)(w.coefficient * w.x * a->probe[i]);
        }
        return 0;
}

int reference_divergence(const struct divergence_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++) {
                double sum = 0;

                for (int64_t i = row * a->d; i < (row + 1) * a->d; i++)
                        sum += (double)a->dx[i] * a->probe[i];
                a->trajectories[row].slope[a->stage] = sum;
        }
        return 0;
}

static const double nodes[FLOW_STAGES] = {0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1};
static const double steps[FLOW_STAGES][FLOW_STAGES - 1] = {
        {0},
        {1.0 / 5},
        {3.0 / 40, 9.0 / 40},
        {44.0 / 45, -56.0 / 15, 32.0 / 9},
        {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
        {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
        {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}};
/* The fifth order's weights (stage 6's) less the fourth's. */
static const double errors[FLOW_STAGES] = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                           -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

int reference_flow_stage(const struct flow_stage_args *a)
{
        int64_t n = a->m * a->d;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) {
                double sum = 0;

                for (int j = 0; j < a->stage; j++)
                        sum += steps[a->stage][j] * a->k[j * n + i];
                set_pair(a->y, a->y_low, i, pair(a->x, a->x_low, i) + a->trajectories[i / a->d].h * sum);
        }
        for (int64_t row = 0; row < a->m; row++)
                a->t[row] = (float)(a->trajectories[row].t + nodes[a->stage] * a->trajectories[row].h);
        return 0;
}

static double squared_ratio(double error, double before, double after, const struct flow_step_args *a)
{
        double ratio = error / (a->atol + a->rtol * fmax(fabs(before), fabs(after)));

        return ratio * ratio;
}

/* The sum of squares of the row's errors over their tolerances, l's included. */
static double row_error(const struct flow_step_args *a, int64_t row, double l_after)
{
        const struct trajectory *t = &a->trajectories[row];
        double sum = 0, error = 0;

        for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                error = 0;
                for (int j = 0; j < FLOW_STAGES; j++)
                        error += errors[j] * a->k[j * a->m * a->d + i];
                sum += squared_ratio(t->h * error, a->x[i], a->y[i], a);
        }
        error = 0;
        for (int j = 0; j < FLOW_STAGES; j++)
                error += errors[j] * t->slope[j];
        return sum + squared_ratio(t->h * error, t->l, l_after, a);
}

static double l_after(const struct trajectory *t)
{
        double sum = 0;

        for (int j = 0; j < FLOW_STAGES - 1; j++)
                sum += steps[FLOW_STAGES - 1][j] * t->slope[j];
        return t->l + t->h * sum;
}

/* Root mean square over the row (and l) of a and, from phase 1 on, differences, over the tolerance at x. */
static double scaled_norm(const struct flow_start_args *a, int64_t first, int64_t n, int what)
{
        double sum = 0;

        for (int64_t row = first; row < first + n; row++) {
                const struct trajectory *t = &a->trajectories[row];
                const double l[3] = {t->l, t->slope[0], t->slope[1] - t->slope[0]};
                double ratio = l[what] / (a->atol + a->rtol * fabs(t->l));

                sum += ratio * ratio;
                for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                        double k_0 = a->k[i], value = what == 0 ? (double)a->x[i] : k_0;

                        if (what == 2)
                                value = a->k[a->m * a->d + i] - k_0;
                        ratio = value / (a->atol + a->rtol * fabs((double)a->x[i]));
                        sum += ratio * ratio;
                }
        }
        return sqrt(sum / (double)(n * (a->d + 1)));
}

int reference_flow_start(const struct flow_start_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++) {
                struct trajectory *t = &a->trajectories[row];
                int64_t first = a->shared ? 0 : row, n = a->shared ? a->m : 1;
                double d_0, d_1, ahead, h;

                if (!t->fresh)
                        continue;
                d_0 = scaled_norm(a, first, n, 0);
                d_1 = scaled_norm(a, first, n, 1);
                ahead = d_0 < 1e-5 || d_1 < 1e-5 ? 1e-6 : 0.01 * d_0 / d_1;
                if (a->phase == 0) {
                        t->h = ahead / nodes[1];
                        continue;
                }
                h = fmax(d_1, scaled_norm(a, first, n, 2) / ahead);
                h = h <= 1e-15 ? fmax(1e-6, ahead * 1e-3) : pow(0.01 / h, 0.2);
                t->h = fmin(fmin(100 * ahead, h), 1);
                t->n_evaluations = 2;
        }
        /* all of them read by their neighbours before: */
        for (int64_t row = 0; a->phase == 1 && row < a->m; row++)
                a->trajectories[row].fresh = 0;
        return 0;
}

/* A step size below this is a function that cannot be integrated (or is not finite). */
#define H_MIN 1e-9

static void control(struct trajectory *t, double norm, bool accepted)
{
        double scale = norm > 0 ? 0.9 * pow(norm, -0.2) : 10;

        scale = isfinite(norm) ? fmin(fmax(scale, 0.2), t->rejected || !accepted ? 1 : 10) : 0.2;
        t->h *= scale;
        t->rejected = !accepted;
        if (t->h < H_MIN)
                t->done = t->failed = 1;
}

static void move(const struct flow_step_args *a, int64_t row)
{
        struct trajectory *t = &a->trajectories[row];
        int64_t n = a->m * a->d;

        t->l = l_after(t);
        t->slope[0] = t->slope[FLOW_STAGES - 1];
        for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                a->x[i] = a->y[i];
                a->x_low[i] = a->y_low[i];
                a->k[i] = a->k[(FLOW_STAGES - 1) * n + i];
        }
}

int reference_flow_step(const struct flow_step_args *a)
{
        double all = 0;
        int64_t running = 0;

#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++)
                a->trajectories[row].error = row_error(a, row, l_after(&a->trajectories[row]));
        for (int64_t row = 0; row < a->m; row++)
                if (!a->trajectories[row].done) {
                        all += a->trajectories[row].error;
                        running++;
                }
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++) {
                struct trajectory *t = &a->trajectories[row];
                double squares = a->shared ? all / (double)running : t->error,
                       norm = sqrt(squares / (double)(a->d + 1));
                double h = t->h;
                bool accepted = norm < 1;

                if (t->done)
                        continue;
                t->n_evaluations += FLOW_STAGES - 1;
                if (accepted) {
                        move(a, row);
                        t->t = t->t + h >= 1 ? 1 : t->t + h;
                        t->done = t->t >= 1;
                } else {
                        t->n_rejected++;
                }
                if (t->done)
                        continue;
                control(t, norm, accepted);
                t->h = fmin(t->h, 1 - t->t);
        }
        return 0;
}

static void finish(const struct flow_slots_args *a, int64_t row)
{
        const struct trajectory *t = &a->trajectories[row];
        double squares = 0;

        for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                double x = pair(a->x, a->x_low, i);

                squares += x * x;
        }
        a->results[t->place] =
                (struct flow_result){.log_p = -0.5 * ((double)a->d * 1.8378770664093454836 + squares) + t->l,
                                     .log_q = t->log_q,
                                     .kl = a->kl[row],
                                     .n_evaluations = t->n_evaluations,
                                     .n_rejected = t->n_rejected,
                                     .failed = t->failed};
}

int reference_flow_slots(const struct flow_slots_args *a)
{
        for (int64_t row = 0; row < a->m; row++) {
                struct trajectory *t = &a->trajectories[row];
                int64_t at = a->state->position;

                if (!t->done)
                        continue;
                if (t->place >= 0)
                        finish(a, row);
                *t = (struct trajectory){.place = -1, .done = 1};
                if (at == a->n_images * a->repeats)
                        continue;
                a->state->position++;
                *t = (struct trajectory){.place = at, .fresh = 1};
                a->rows[row] = (struct row){.index = at / a->repeats,
                                            .image = (uint64_t)(at / a->repeats),
                                            .block = (uint32_t)(at % a->repeats)};
        }
        return 0;
}

/* A standard normal cut to [-3, 3]. */
static double truncated_normal(const struct dequantise_args *a, const struct row *row, int64_t element)
{
        for (uint32_t attempt = 0;; attempt++) {
                struct philox p = philox_draw(a->state->seed, STREAM_DEQUANTISE, row->block, (uint32_t)element,
                                              row->image, 0, attempt);
                float u, unused;

                philox_normal_pair(p.v[0], p.v[1], &u, &unused);
                /* 1 in 370 is rejected: 255 in a row are impossible but for a fault, and then any end is as good */
                if (fabsf(u) <= 3 || attempt == 255)
                        return fmin(fmax(u, -3), 3);
        }
}

static double uniform_noise(const struct dequantise_args *a, const struct row *row, int64_t element)
{
        struct philox p =
                philox_draw(a->state->seed, STREAM_DEQUANTISE, row->block, (uint32_t)(element / 4), row->image, 0, 0);

        return ((double)p.v[element % 4] + 0.5) * 0x1p-32;
}

int reference_dequantise(const struct dequantise_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++) {
                double squares = 0;

                if (!a->trajectories[row].fresh)
                        continue;
                for (int64_t i = 0; i < a->d; i++) {
                        int64_t at = row * a->d + i;
                        double u;

                        if (a->kind == DEQUANTISE_UNIFORM) {
                                u = uniform_noise(a, &a->rows[row], i);
                                set_pair(a->x, a->x_low, at, a->f[at] + (2 * u - 1) / 256);
                                continue;
                        }
                        u = truncated_normal(a, &a->rows[row], i);
                        set_pair(a->x, a->x_low, at, a->f[at] + a->std * u);
                        squares += u * u;
                }
                a->trajectories[row].log_q = -0.5 * squares;
        }
        return 0;
}
