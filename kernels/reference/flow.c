/* The probability flow and its integrator. Spec 7. */
#include "kernels/reference/reference.h"

#include <math.h>
#include <string.h>

int reference_drift(const struct drift_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < a->m * a->d; i++) {
                int64_t at = a->g == 1 ? i / a->d : i;
                struct drift_weights w = drift_weights_of(a->parameterisation, a->gamma[at], a->gamma_prime[at]);

                w.coefficient *= a->reverse ? -1 : 1;
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

int reference_flow_probe(const struct flow_probe_args *a)
{
        int64_t quads = (a->d + 3) / 4;

#pragma omp parallel for schedule(static)
        for (int64_t q = 0; q < a->m * quads; q++) {
                int64_t image = q / quads, e = q % quads * 4;
                const struct trajectory *t = &a->trajectories[image];
                const struct row *row = &a->rows[image];
                int64_t number = t->n_evaluations + a->stage - (t->fresh ? 0 : 1);
                struct philox p = philox_draw(a->state->seed, STREAM_PROBE, row->block, (uint32_t)(e / 4), row->image,
                                              a->each ? (uint64_t)number : 0, 0);
                float y[4];

                for (int i = 0; i < 4; i++)
                        y[i] = p.v[i] >> 31 ? 1 : -1;
                if (a->kind == PROBE_GAUSSIAN) {
                        philox_normal_pair(p.v[0], p.v[1], &y[0], &y[1]);
                        philox_normal_pair(p.v[2], p.v[3], &y[2], &y[3]);
                }
                for (int64_t i = e; i < MIN(e + 4, a->d); i++)
                        a->y[image * a->d + i] = y[i - e];
        }
        return 0;
}

/* Of a fresh trajectory: the slope at x, then an Euler step of h, then nothing of use. */
static double fresh_step(const struct flow_stage_args *a, int64_t i, double h)
{
        return a->stage == 2 ? h * a->k[i] : 0;
}

int reference_flow_stage(const struct flow_stage_args *a)
{
        const struct flow_tableau *s = &flow_tableaus[a->solver];
        int64_t n = a->m * a->d;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) {
                const struct trajectory *t = &a->trajectories[i / a->d];
                double sum = 0;

                for (int j = 0; j < a->stage && !t->fresh; j++)
                        sum += s->a[a->stage][j] * a->k[j * n + i];
                set_pair(a->y, a->y_low, i, pair(a->x, a->x_low, i) + (t->fresh ? fresh_step(a, i, t->h) : t->h * sum));
        }
        for (int64_t row = 0; row < a->m; row++) {
                const struct trajectory *t = &a->trajectories[row];
                double c = t->fresh ? a->stage == 2 : s->c[a->stage], at = t->s + c * t->h;

                a->t[row] = (float)(a->reverse ? 1 - at : at);
        }
        return 0;
}

static double squared_ratio(double error, double before, double after, const struct flow_step_args *a)
{
        double ratio = error / (a->atol + a->rtol * fmax(fabs(before), fabs(after)));

        return ratio * ratio;
}

static double l_after(const struct trajectory *t, const struct flow_tableau *s)
{
        double sum = 0;

        for (int j = 0; j < s->stages - 1; j++)
                sum += s->a[s->stages - 1][j] * t->slope[j];
        return t->l + t->h * sum;
}

/* The sum of squares of the row's errors over their tolerances. */
static double row_error(const struct flow_step_args *a, int64_t row)
{
        const struct flow_tableau *s = &flow_tableaus[a->solver];
        const struct trajectory *t = &a->trajectories[row];
        double sum = 0, error = 0;

        for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                error = 0;
                for (int j = 0; j < s->stages; j++)
                        error += s->error[j] * a->k[j * a->m * a->d + i];
                sum += squared_ratio(t->h * error, a->x[i], a->y[i], a);
        }
        if (a->apart)
                return sum;
        error = 0;
        for (int j = 0; j < s->stages; j++)
                error += s->error[j] * t->slope[j];
        return sum + squared_ratio(t->h * error, t->l, l_after(t, s), a);
}

enum scaled { SCALED_X, SCALED_SLOPE, SCALED_CHANGE };

/* Root mean square over rows (and their l, but apart) of x, of the slope there, or of how it changes ahead, over the
 * tolerance. */
static double scaled_norm(const struct flow_start_args *a, int64_t first, int64_t n, enum scaled what)
{
        double sum = 0;

        for (int64_t row = first; row < first + n; row++) {
                const struct trajectory *t = &a->trajectories[row];
                const double l[] = {t->l, t->slope[0], t->slope[2] - t->slope[0]};
                double ratio = l[what] / (a->atol + a->rtol * fabs(t->l));

                sum += a->apart ? 0 : ratio * ratio;
                for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                        double k = a->k[i], value = what == SCALED_X ? (double)a->x[i] : k;

                        if (what == SCALED_CHANGE)
                                value = a->k[2 * a->m * a->d + i] - k;
                        ratio = value / (a->atol + a->rtol * fabs((double)a->x[i]));
                        sum += ratio * ratio;
                }
        }
        return sqrt(sum / (double)(n * (a->d + !a->apart)));
}

static void take_slope(const struct flow_start_args *a, int64_t row)
{
        struct trajectory *t = &a->trajectories[row];

        t->slope[0] = t->slope[1];
        memcpy(a->k + row * a->d, a->k + (a->m + row) * a->d, (size_t)a->d * sizeof *a->k);
}

static void start(const struct flow_start_args *a, int64_t row)
{
        struct trajectory *t = &a->trajectories[row];
        int64_t first = a->shared ? 0 : row, n = a->shared ? a->m : 1;
        double d_0 = scaled_norm(a, first, n, SCALED_X), d_1 = scaled_norm(a, first, n, SCALED_SLOPE);
        double ahead = d_0 < 1e-5 || d_1 < 1e-5 ? 1e-6 : 0.01 * d_0 / d_1, d_2;

        if (a->stage == 1) {
                t->h = ahead;
                return;
        }
        d_2 = fmax(d_1, scaled_norm(a, first, n, SCALED_CHANGE) / ahead);
        t->h = d_2 <= 1e-15 ? fmax(1e-6, ahead * 1e-3) : pow(0.01 / d_2, 1.0 / flow_tableaus[a->solver].order);
        t->h = fmin(fmin(100 * ahead, t->h), 1);
        t->n_evaluations = 2;
}

int reference_flow_start(const struct flow_start_args *a)
{
        for (int64_t row = 0; row < a->m && a->stage == 1; row++)
                if (a->trajectories[row].fresh)
                        take_slope(a, row);
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++)
                if (a->trajectories[row].fresh)
                        start(a, row);
        return 0;
}

static void move(const struct flow_step_args *a, int64_t row)
{
        const struct flow_tableau *s = &flow_tableaus[a->solver];
        struct trajectory *t = &a->trajectories[row];
        int64_t n = a->m * a->d;

        t->l = l_after(t, s);
        t->slope[0] = t->slope[s->stages - 1];
        for (int64_t i = row * a->d; i < (row + 1) * a->d; i++) {
                a->x[i] = a->y[i];
                a->x_low[i] = a->y_low[i];
                a->k[i] = a->k[(s->stages - 1) * n + i];
        }
}

static void step(const struct flow_step_args *a, int64_t row, double squares)
{
        struct trajectory *t = &a->trajectories[row];
        double h = t->h, norm = sqrt(squares / (double)(a->d + !a->apart));
        bool accepted = norm < 1;

        t->n_evaluations += flow_tableaus[a->solver].stages - 1;
        if (accepted) {
                move(a, row);
                t->s = t->s + h >= 1 ? 1 : t->s + h;
                t->done = t->s >= 1;
        } else {
                t->n_rejected++;
        }
        if (t->done)
                return;
        flow_control(a, flow_tableaus[a->solver].order, t, norm, accepted);
        t->h = fmin(t->h, 1 - t->s);
}

int reference_flow_step(const struct flow_step_args *a)
{
        double all = 0;
        int64_t running = 0;

#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++)
                a->trajectories[row].error = row_error(a, row);
        for (int64_t row = 0; row < a->m; row++)
                if (!a->trajectories[row].done) {
                        all += a->trajectories[row].error;
                        running++;
                }
#pragma omp parallel for schedule(static)
        for (int64_t row = 0; row < a->m; row++) {
                struct trajectory *t = &a->trajectories[row];

                if (!t->done && !t->fresh)
                        step(a, row, a->shared ? all / (double)running : t->error);
                t->fresh = 0;
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
                if (at == a->n)
                        continue;
                a->state->position++;
                at = a->places[at];
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
