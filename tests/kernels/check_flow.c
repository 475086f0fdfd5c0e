/* The probability flow's drift, the divergence and the integrator. The integrator twice: each operation against its
 * formula, and all together on equations whose solutions are known. */
#include "tests/kernels/check.h"

#include <math.h>
#include <stdlib.h>

static const int64_t shapes[][3] = {{2, 96, 96}, {3, 65, 1}, {1, 1, 1}}; /* m, d, g */

struct drift_case {
        int64_t m, d, g;
        enum parameterisation parameterisation;
        struct tensor *x, *x_low, *net, *gamma, *gamma_prime, *probe, *k, *d_net, *d_x;
};

static double drift_loss(struct test *t, void *context)
{
        struct drift_case *c = context;

        RUN_REFERENCE(t, drift, .m = c->m, .d = c->d, .g = c->g, .parameterisation = c->parameterisation, .x = AT(c->x),
                      .net = AT(c->net), .gamma = AT(c->gamma), .gamma_prime = AT(c->gamma_prime), .k = AT(c->k));
        return test_dot(t, c->k, c->probe);
}

/* dx/dt of z_t = alpha x + sigma eps at the network's estimates: alpha' x_hat + sigma' eps_hat, in gamma's terms
 * (gamma = ln(sigma^2 / alpha^2)): alpha' = -alpha sigma^2 gamma' / 2, sigma' = sigma alpha^2 gamma' / 2. */
static double twin_drift(enum parameterisation p, double gamma, double gamma_prime, double z, double net)
{
        double var = 1 / (1 + exp(-gamma)), alpha = sqrt(1 - var), sigma = sqrt(var), eps, x;

        if (p == PARAM_EPSILON || p == PARAM_EPSILON_DISCRETE) {
                eps = net;
                x = (z - sigma * eps) / alpha;
        } else {
                double v = p == PARAM_VELOCITY ? net : -exp(gamma / 2) * z + sqrt(1 + exp(gamma)) * net;

                eps = alpha * v + sigma * z;
                x = alpha * z - sigma * v;
        }
        return gamma_prime / 2 * (sigma * alpha * alpha * eps - alpha * var * x);
}

void check_drift(struct test *t)
{
        static const enum parameterisation all[] = {PARAM_VELOCITY, PARAM_VELOCITY_FROM_EPSILON, PARAM_EPSILON};

        for (size_t i = 0; i < 3 * ARRAY_LEN(shapes); i++) {
                const int64_t *s = shapes[i / 3];
                struct drift_case c = {.m = s[0], .d = s[1], .g = s[2], .parameterisation = all[i % 3]};
                size_t n = (size_t)(c.m * c.d), n_g = (size_t)(c.m * c.g);
                double *want = malloc(n * sizeof *want);

                test_case(t, "%d x %d, %d, parameterisation %d", (int)c.m, (int)c.d, (int)c.g, (int)all[i % 3]);
                c.x = test_input(t, "x", n, 1, 0);
                c.x_low = test_input(t, "x_low", n, 1e-8, 0);
                c.net = test_input(t, "net", n, 1, 0);
                c.gamma = test_input(t, "gamma", n_g, 2, -1);
                c.gamma_prime = test_input(t, "gamma_prime", n_g, 3, 15);
                c.probe = test_input(t, "probe", n, 1, 0);
                c.k = test_output(t, "k", n, 4);
                c.d_net = test_output(t, "d_net", n, 4);
                c.d_x = test_output(t, "d_x", n, 4);
                for (size_t j = 0; j < n; j++) {
                        size_t at = c.g == 1 ? j / (size_t)c.d : j;

                        want[j] = twin_drift(
                                c.parameterisation, tensor_values(c.gamma)[at], tensor_values(c.gamma_prime)[at],
                                (double)tensor_values(c.x)[j] + tensor_values(c.x_low)[j], tensor_values(c.net)[j]);
                }
                RUN(t, drift, .m = c.m, .d = c.d, .g = c.g, .parameterisation = c.parameterisation, .x = AT(c.x),
                    .x_low = AT(c.x_low), .net = AT(c.net), .gamma = AT(c.gamma), .gamma_prime = AT(c.gamma_prime),
                    .probe = AT(c.probe), .k = AT(c.k), .d_net = AT(c.d_net), .d_x = AT(c.d_x));
                test_compare(t);
                test_expect(t, c.k, want, 4);
                test_slope(t, c.net, c.d_net, 0.1, drift_loss, &c);
                if (c.parameterisation != PARAM_VELOCITY)
                        test_slope(t, c.x, c.d_x, 0.1, drift_loss, &c);
                free(want);
                test_end(t);
        }
}

static void expect_near(struct test *t, const char *what, double got, double want, double most)
{
        if (!(fabs(got - want) <= most))
                test_fail(t, "%s is %.9g, should be %.9g", what, got, want);
}

/* Trajectories in the middle of a step; compared by the test itself. */
static struct tensor *trajectories(struct test *t, int64_t m)
{
        struct tensor *x = test_inout(t, "trajectories", (size_t)m * sizeof(struct trajectory) / sizeof(float), -1);
        struct trajectory *at = (void *)tensor_values(x);

        for (int64_t i = 0; i < m; i++) {
                at[i] = (struct trajectory){.place = i, .t = 0.3 + 0.1 * (double)i, .h = 0.02, .l = -50};
                for (int j = 0; j < FLOW_STAGES; j++)
                        at[i].slope[j] = 100 * test_normal(t);
        }
        test_upload(t, x);
        return x;
}

static const struct trajectory *after(const struct tensor *x)
{
        return tensor_result(x, TESTED);
}

void check_divergence(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
                int64_t m = shapes[i][0], d = shapes[i][1];
                struct tensor *dx, *probe, *where;

                test_case(t, "%d x %d", (int)m, (int)d);
                dx = test_input(t, "dx", (size_t)(m * d), 1, 0);
                probe = test_input(t, "probe", (size_t)(m * d), 1, 0);
                where = trajectories(t, m);
                RUN(t, divergence, .m = m, .d = d, .stage = 4, .dx = AT(dx), .probe = AT(probe),
                    .trajectories = AT(where));
                test_compare(t);
                for (int64_t row = 0; row < m; row++) {
                        double want = 0, scale = 0;

                        for (int64_t j = (row + 1) * d; j-- > row * d;) {
                                want += (double)tensor_values(dx)[j] * tensor_values(probe)[j];
                                scale += fabs((double)tensor_values(dx)[j] * tensor_values(probe)[j]);
                        }
                        expect_near(t, "slope", after(where)[row].slope[4], want, 1e-12 * scale);
                }
                test_end(t);
        }
}

/* ---- whole integrations */

/* By the table's operations, one step after another, of dx/dt = f(x, t) and dl/dt = df/dx. */
struct equation {
        double (*f)(double x, double t), (*slope)(double x, double t);
};

static double decay(double x, double t)
{
        return -x * (1 + t);
}

static double decay_slope(double x, double t)
{
        (void)x;
        return -(1 + t);
}

static double logistic(double x, double t)
{
        (void)t;
        return 8 * x * (1 - x);
}

static double logistic_slope(double x, double t)
{
        (void)t;
        return 8 * (1 - 2 * x);
}

struct integration {
        float *x, *x_low, *y, *y_low, *k, *t;
        struct trajectory *at;
        int64_t m, d;
};

static void evaluate(struct integration *w, int stage, const struct equation *e)
{
        for (int64_t i = 0; i < w->m * w->d; i++) {
                int64_t row = i / w->d;
                double x = (double)w->y[i] + w->y_low[i];

                if (i % w->d == 0)
                        w->at[row].slope[stage] = 0;
                w->k[(int64_t)stage * w->m * w->d + i] = (float)e->f(x, w->t[row]);
                w->at[row].slope[stage] += e->slope(x, w->t[row]);
        }
}

/* From x at t = 0 to 1. Returns false where it did not end. */
static bool integrate(struct test *t, struct integration *w, const struct equation *e, double tolerance, bool shared)
{
        const struct kernels *k = t->k[TESTED];
        struct stream *s = t->stream[TESTED];

        for (int64_t i = 0; i < w->m; i++)
                w->at[i] = (struct trajectory){.place = i, .fresh = 1};
        for (int stage = 0; stage < 2; stage++) {
                k->flow_stage(s, &(struct flow_stage_args){w->m, w->d, stage, w->x, w->x_low, w->k, w->at, w->y,
                                                           w->y_low, w->t});
                (void)k->stream_sync(s, NULL);
                evaluate(w, stage, e);
                k->flow_start(s, &(struct flow_start_args){w->m, w->d, stage, tolerance, tolerance, shared, w->x, w->k,
                                                           w->at});
                (void)k->stream_sync(s, NULL);
        }
        for (int step = 0; step < 2000; step++) {
                bool done = true;

                for (int stage = 1; stage < FLOW_STAGES; stage++) {
                        k->flow_stage(s, &(struct flow_stage_args){w->m, w->d, stage, w->x, w->x_low, w->k, w->at, w->y,
                                                                   w->y_low, w->t});
                        (void)k->stream_sync(s, NULL);
                        evaluate(w, stage, e);
                }
                k->flow_step(s, &(struct flow_step_args){w->m, w->d, tolerance, tolerance, shared, w->x, w->x_low, w->y,
                                                         w->y_low, w->k, w->at});
                (void)k->stream_sync(s, NULL);
                for (int64_t i = 0; i < w->m; i++)
                        done &= w->at[i].done;
                if (done)
                        return true;
        }
        return false;
}

static void integration_new(struct integration *w, int64_t m, int64_t d)
{
        size_t n = (size_t)(m * d);

        *w = (struct integration){.x = calloc(n, sizeof(float)),
                                  .x_low = calloc(n, sizeof(float)),
                                  .y = calloc(n, sizeof(float)),
                                  .y_low = calloc(n, sizeof(float)),
                                  .k = calloc(FLOW_STAGES * n, sizeof(float)),
                                  .t = calloc((size_t)m, sizeof(float)),
                                  .at = calloc((size_t)m, sizeof(struct trajectory)),
                                  .m = m,
                                  .d = d};
}

static void integration_free(struct integration *w)
{
        void *const all[] = {w->x, w->x_low, w->y, w->y_low, w->k, w->t, w->at};

        for (size_t i = 0; i < ARRAY_LEN(all); i++)
                free(all[i]);
}

static void start(struct integration *w)
{
        for (int64_t i = 0; i < w->m * w->d; i++) {
                w->x[i] = 0.02f + 0.01f * (float)i;
                w->x_low[i] = 0;
        }
}

/* Solutions known in closed form, to the tolerance asked for; the error falls with it; a trajectory alone is the same
 * bit for bit as beside others, unless the step is shared. */
void check_flow_step(struct test *t)
{
        static const struct equation equations[] = {{decay, decay_slope}, {logistic, logistic_slope}};

        for (size_t i = 0; i < 4 * ARRAY_LEN(equations); i++) {
                const struct equation *e = &equations[i / 4];
                double tolerance = i % 2 ? 1e-6 : 1e-4, worst = 0;
                bool shared = i / 2 % 2;
                struct integration w, alone;

                test_case(t, "equation %d, tolerance %g, shared %d", (int)(i / 4), tolerance, shared);
                integration_new(&w, 3, 4);
                integration_new(&alone, 1, 4);
                start(&w);
                if (!integrate(t, &w, e, tolerance, shared))
                        test_fail(t, "no end");
                for (int64_t row = 0; row < w.m; row++) {
                        double l = 0;

                        for (int64_t j = 0; j < w.d; j++) {
                                double x_0 = 0.02f + 0.01f * (float)(row * w.d + j), want;

                                if (e->f == decay) {
                                        want = x_0 * exp(-1.5);
                                        l -= 1.5;
                                } else { /* d x(1) / d x(0) = x(1) (1 - x(1)) / (x(0) (1 - x(0))), its log is l */
                                        want = 1 / (1 + (1 / x_0 - 1) * exp(-8));
                                        l += log(want * (1 - want) / (x_0 * (1 - x_0)));
                                }
                                worst = fmax(worst, fabs((double)w.x[row * w.d + j] + w.x_low[row * w.d + j] - want));
                        }
                        worst = fmax(worst, fabs(w.at[row].l - l) / (double)w.d);
                        for (int64_t j = 0; j < w.d; j++) {
                                alone.x[j] = 0.02f + 0.01f * (float)(row * w.d + j);
                                alone.x_low[j] = 0;
                        }
                        if (!integrate(t, &alone, e, tolerance, shared))
                                test_fail(t, "no end alone");
                        if (!shared && memcmp(alone.x, w.x + row * w.d, (size_t)w.d * sizeof(float)))
                                test_fail(t, "row %d depends on its neighbours", (int)row);
                        if (shared && w.at[row].n_evaluations != w.at[0].n_evaluations)
                                test_fail(t, "row %d has steps of its own", (int)row);
                }
                if (!(worst < 20 * tolerance) || worst == 0)
                        test_fail(t, "error %g at tolerance %g", worst, tolerance);
                integration_free(&w);
                integration_free(&alone);
                test_end(t);
        }
}

/* Fixed steps: halved, the error is 32 times smaller (order 5), and stage 6 is the step itself. */
void check_flow_stage(struct test *t)
{
        double error[2];

        for (int half = 0; half < 2; half++) {
                const struct equation e = {logistic, logistic_slope};
                const struct kernels *k = t->k[TESTED];
                int n = half ? 16 : 8;
                struct integration w;

                test_case(t, "%d steps", n);
                integration_new(&w, 1, 1);
                w.x[0] = 0.02f;
                w.at[0].h = 1.0 / n;
                for (int i = 0; i < n; i++) {
                        for (int stage = 0; stage < FLOW_STAGES; stage++) {
                                k->flow_stage(t->stream[TESTED],
                                              &(struct flow_stage_args){1, 1, stage, w.x, w.x_low, w.k, w.at, w.y,
                                                                        w.y_low, w.t});
                                (void)k->stream_sync(t->stream[TESTED], NULL);
                                evaluate(&w, stage, &e);
                        }
                        w.x[0] = w.y[0];
                        w.x_low[0] = w.y_low[0];
                        w.at[0].t += w.at[0].h;
                        if (fabs(w.t[0] - w.at[0].t) > 1e-6)
                                test_fail(t, "the last stage is at %g", w.t[0]);
                }
                error[half] = fabs((double)w.x[0] + w.x_low[0] - 1 / (1 + (1 / (double)0.02f - 1) * exp(-8)));
                integration_free(&w);
                test_end(t);
        }
        if (!(error[0] > 20 * error[1]) || error[0] > 1e-3)
                test_fail(t, "errors %g and %g: not of order 5", error[0], error[1]);
}

/* scipy 1.10's select_initial_step on the same values: RK45 on dx/dt = f with f's values put in, of each row alone and
 * of all together. In its words: d0, d1, h0, d2, h1. */
void check_flow_start(struct test *t)
{
        for (int shared = 0; shared < 2; shared++) {
                int64_t m = 2, d = 5;
                struct tensor *x, *k, *at;
                double h_0[2];

                test_case(t, "shared %d", shared);
                x = test_input(t, "x", (size_t)(m * d), 1, 0);
                k = test_input(t, "k", (size_t)(FLOW_STAGES * m * d), 3, 0);
                at = trajectories(t, m);
                for (int64_t row = 0; row < m; row++)
                        ((struct trajectory *)(void *)tensor_values(at))[row].fresh = 1;
                test_upload(t, at);
                for (int phase = 0; phase < 2; phase++) {
                        RUN(t, flow_start, .m = m, .d = d, .phase = phase, .rtol = 1e-3, .atol = 1e-5, .shared = shared,
                            .x = AT(x), .k = AT(k), .trajectories = AT(at));
                        test_compare(t);
                        for (int64_t row = 0; row < m; row++) {
                                const struct trajectory *was = (void *)tensor_values(at);
                                double d0 = 0, d1 = 0, d2 = 0, n = (double)((shared ? m : 1) * (d + 1)), h;

                                for (int64_t r = shared ? 0 : row; r < (shared ? m : row + 1); r++) {
                                        double scale = 1e-5 + 1e-3 * fabs(was[r].l);

                                        d0 += pow(was[r].l / scale, 2);
                                        d1 += pow(was[r].slope[0] / scale, 2);
                                        d2 += pow((was[r].slope[1] - was[r].slope[0]) / scale, 2);
                                        for (int64_t i = r * d; i < (r + 1) * d; i++) {
                                                const float *v = tensor_values(x), *f = tensor_values(k);

                                                scale = 1e-5 + 1e-3 * fabs((double)v[i]);
                                                d0 += pow(v[i] / scale, 2);
                                                d1 += pow(f[i] / scale, 2);
                                                d2 += pow(((double)f[m * d + i] - f[i]) / scale, 2);
                                        }
                                }
                                if (phase == 0)
                                        h_0[row] = 0.01 * sqrt(d0 / n) / sqrt(d1 / n);
                                h = pow(0.01 / fmax(sqrt(d1 / n), sqrt(d2 / n) / h_0[row]), 0.2);
                                h = phase ? fmin(fmin(100 * h_0[row], h), 1) : 5 * h_0[row];
                                expect_near(t, "h", after(at)[row].h, h, 1e-12 * h);
                        }
                }
                test_end(t);
        }
}

/* Two slots, three images of two samples each: who takes what, what is left, and that an end is an end. */
void check_flow_slots(struct test *t)
{
        const struct kernels *k = t->k[TESTED];
        float x[2][3] = {{1, 2, 3}, {-1, 0.5f, 0}}, x_low[2][3] = {{0}}, kl[2] = {4, 5};
        struct trajectory at[2] = {{.place = -1, .done = 1}, {.place = -1, .done = 1}};
        struct step_state state = {.seed = 1};
        struct flow_result results[6] = {0};
        struct row rows[2] = {0};
        int order[8][2] = {{0, 1}, {2, 1}, {2, 3}, {4, 5}, {-1, 5}, {-1, -1}};

        test_case(t, "two slots");
        for (int i = 0; i < 6; i++) {
                k->flow_slots(t->stream[TESTED],
                              &(struct flow_slots_args){2, 3, 3, 2, x[0], x_low[0], kl, &state, rows, at, results});
                (void)k->stream_sync(t->stream[TESTED], NULL);
                for (int j = 0; j < 2; j++) {
                        if (at[j].place != order[i][j])
                                test_fail(t, "time %d: slot %d has place %d", i, j, (int)at[j].place);
                        if (at[j].place >= 0 &&
                            (rows[j].index != at[j].place / 2 || rows[j].image != (uint64_t)at[j].place / 2 ||
                             rows[j].block != (uint32_t)at[j].place % 2))
                                test_fail(t, "slot %d has another row", j);
                        if (at[j].fresh) {
                                at[j].fresh = 0;
                                at[j].l = -2.5 * (double)(at[j].place + 1);
                                at[j].n_evaluations = at[j].place;
                        }
                        at[j].done = order[i][j] < 0 || (i < 5 && order[i + 1][j] != order[i][j]);
                }
        }
        for (int i = 0; i < 6; i++) {
                int slot = i == 1 || i == 3 || i == 5;
                double want = -1.5 * log(2 * M_PI) - (slot ? 0.625 : 7) - 2.5 * (i + 1);

                expect_near(t, "log p", results[i].log_p, want, 1e-12);
                if (results[i].kl != 4 + slot || results[i].n_evaluations != i || results[i].failed)
                        test_fail(t, "result %d", i);
        }
        test_end(t);
}

/* Moments and ends of the noise; that it depends on image and sample alone; that other slots stay. */
void check_dequantise(struct test *t)
{
        enum { D = 3072, M = 3 };

        for (int kind = 0; kind < 2; kind++) {
                struct tensor *f, *state, *rows, *x, *x_low, *at;
                double sum = 0, squares = 0, largest = 0, std = 0.25;
                const float *y;

                test_case(t, "kind %d", kind);
                f = test_input(t, "f", M * D, 1, 0);
                state = test_state(t);
                rows = test_rows(t, M);
                tensor_rows(rows)[1] = tensor_rows(rows)[0];
                test_upload(t, rows);
                x = test_inout(t, "x", M * D, 2);
                x_low = test_inout(t, "x_low", M * D, -1);
                at = trajectories(t, M);
                for (int i = 0; i < 2; i++)
                        ((struct trajectory *)(void *)tensor_values(at))[i].fresh = 1;
                test_upload(t, at);
                RUN(t, dequantise, .m = M, .d = D, .kind = (enum dequantisation)kind, .std = std, .f = AT(f),
                    .state = AT(state), .rows = AT(rows), .x = AT(x), .x_low = AT(x_low), .trajectories = AT(at));
                test_compare(t);
                y = tensor_result(x, TESTED);
                for (size_t i = 0; i < D; i++) {
                        double u = ((double)y[i] - tensor_values(f)[i]) / std;
                        double other = ((double)y[D + i] - tensor_values(f)[D + i]) / std;

                        sum += u;
                        squares += u * u;
                        largest = fmax(largest, fabs(u));
                        if (fabs(u - other) > 1e-4)
                                test_fail(t, "value %d depends on more than the row", (int)i);
                        if (y[2 * D + i] != tensor_values(x)[2 * D + i])
                                test_fail(t, "a slot that is not fresh changed");
                }
                if (kind == DEQUANTISE_TRUNCATED) {
                        expect_near(t, "variance", squares / D, 0.9733, 0.08);
                        expect_near(t, "log q", after(at)[0].log_q, -squares / 2, 1e-3 * squares);
                        if (largest > 3 + 1e-4 || largest < 2.8)
                                test_fail(t, "largest %g", largest);
                } else { /* u is in units of std: the bin is 1 / 128 wide */
                        expect_near(t, "variance", squares / D, pow(1.0 / 128 / std, 2) / 12, 2e-5);
                        if (largest > 1.0 / 256 / std + 1e-6 || after(at)[0].log_q != 0)
                                test_fail(t, "largest %g", largest);
                }
                expect_near(t, "mean", sum / D, 0, 0.06);
                test_end(t);
        }
}

void check_random_sign(struct test *t)
{
        enum { D = 1026, M = 2 };
        struct tensor *state, *rows, *y;
        double want[M * D];

        test_case(t, "%d x %d", M, D);
        state = test_state(t);
        rows = test_rows(t, M);
        y = test_output(t, "y", M * D, 0);
        for (int i = 0; i < M * D; i++) {
                const struct row *row = &tensor_rows(rows)[i / D];
                struct philox p =
                        philox_draw(tensor_state(state)->seed, STREAM_PROBE, row->block, (uint32_t)(i % D / 4),
                                    row->image, (uint64_t)tensor_state(state)->step, 0);

                want[i] = p.v[i % D % 4] & 0x80000000u ? 1 : -1;
        }
        RUN(t, random_sign, .state = AT(state), .rows = AT(rows), .stream = STREAM_PROBE, .m = M, .d = D, .y = AT(y));
        test_compare(t);
        test_expect(t, y, want, 0);
        test_end(t);
}
