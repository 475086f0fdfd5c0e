/* The probability flow's drift, the divergence and the integrator. The integrator twice: each operation against its
 * formula, and all together on equations whose solutions are known. */
#include "tests/kernels/check.h"

#include <math.h>
#include <stdlib.h>

static const int64_t shapes[][3] = {{2, 96, 96}, {3, 65, 1}, {1, 1, 1}}; /* m, d, g */

struct drift_case {
        int64_t m, d, g;
        enum parameterisation parameterisation;
        bool reverse;
        struct tensor *x, *x_low, *net, *gamma, *gamma_prime, *probe, *k, *d_net, *d_x;
};

static double drift_loss(struct test *t, void *context)
{
        struct drift_case *c = context;

        RUN_REFERENCE(t, drift, .m = c->m, .d = c->d, .g = c->g, .parameterisation = c->parameterisation,
                      .reverse = c->reverse, .x = AT(c->x), .net = AT(c->net), .gamma = AT(c->gamma),
                      .gamma_prime = AT(c->gamma_prime), .k = AT(c->k));
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

        for (size_t i = 0; i < 6 * ARRAY_LEN(shapes); i++) {
                const int64_t *s = shapes[i / 6];
                struct drift_case c = {
                        .m = s[0], .d = s[1], .g = s[2], .parameterisation = all[i % 3], .reverse = i / 3 % 2};
                size_t n = (size_t)(c.m * c.d), n_g = (size_t)(c.m * c.g);
                double *want = malloc(n * sizeof *want);

                test_case(t, "%d x %d, %d, parameterisation %d, reverse %d", (int)c.m, (int)c.d, (int)c.g,
                          (int)all[i % 3], c.reverse);
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

                        want[j] = (c.reverse ? -1 : 1) *
                                  twin_drift(c.parameterisation, tensor_values(c.gamma)[at],
                                             tensor_values(c.gamma_prime)[at],
                                             (double)tensor_values(c.x)[j] + tensor_values(c.x_low)[j],
                                             tensor_values(c.net)[j]);
                }
                RUN(t, drift, .m = c.m, .d = c.d, .g = c.g, .parameterisation = c.parameterisation,
                    .reverse = c.reverse, .x = AT(c.x), .x_low = AT(c.x_low), .net = AT(c.net), .gamma = AT(c.gamma),
                    .gamma_prime = AT(c.gamma_prime), .probe = AT(c.probe), .k = AT(c.k), .d_net = AT(c.d_net),
                    .d_x = AT(c.d_x));
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
                at[i] = (struct trajectory){
                        .place = i, .s = 0.3 + 0.1 * (double)i, .h = 0.02, .l = -50, .n_evaluations = 8};
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

/* Of the time itself, so that it is seen when it runs the wrong way. */
static double follow(double x, double t)
{
        return t - x;
}

static double follow_slope(double x, double t)
{
        (void)x;
        (void)t;
        return -1;
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

/* m trajectories of d values: in the back end's memory, and as the test last saw or left them. */
struct integration {
        struct test *t;
        enum flow_solver solver;
        int64_t m, d;
        double tolerance, beta;
        bool shared, reverse, apart;
        double rough; /* added to and taken from the slopes of l in turns, as noisy estimates are */
        float *x, *x_low, *y, *y_low, *k, *times; /* the back end's */
        struct trajectory *trajectories;
        float *x_seen, *y_seen, *k_seen, *times_seen; /* y_seen: y, then y_low; x_seen likewise */
        struct trajectory *at;
};

static void put(struct integration *w, void *there, const void *here, size_t bytes)
{
        w->t->k[TESTED]->copy_in(w->t->stream[TESTED], there, here, bytes);
        (void)w->t->k[TESTED]->stream_sync(w->t->stream[TESTED], NULL);
}

static void get(struct integration *w, void *here, const void *there, size_t bytes)
{
        w->t->k[TESTED]->copy_out(w->t->stream[TESTED], here, there, bytes);
}

static void get_x(struct integration *w)
{
        size_t n = (size_t)(w->m * w->d) * sizeof(float);

        get(w, w->x_seen, w->x, n);
        get(w, w->x_seen + w->m * w->d, w->x_low, n);
        (void)w->t->k[TESTED]->stream_sync(w->t->stream[TESTED], NULL);
}

/* What a stage has left, and the trajectories. */
static void get_stage(struct integration *w)
{
        size_t n = (size_t)(w->m * w->d) * sizeof(float);

        get(w, w->y_seen, w->y, n);
        get(w, w->y_seen + w->m * w->d, w->y_low, n);
        get(w, w->times_seen, w->times, (size_t)w->m * sizeof(float));
        get(w, w->at, w->trajectories, (size_t)w->m * sizeof *w->at);
        (void)w->t->k[TESTED]->stream_sync(w->t->stream[TESTED], NULL);
}

/* The slopes of a stage; those of later ones are NaN, as nothing may look at them before they are there. */
static void evaluate(struct integration *w, int stage, const struct equation *e)
{
        int64_t n = w->m * w->d, n_left = (FLOW_STAGES - stage) * n;
        double sign = w->reverse ? -1 : 1;

        get_stage(w);
        for (int64_t i = n; i < n_left; i++)
                w->k_seen[i] = NAN;
        for (int64_t i = 0; i < w->m; i++)
                for (int j = stage + 1; j < FLOW_STAGES; j++)
                        w->at[i].slope[j] = NAN;
        for (int64_t i = 0; i < n; i++) {
                int64_t row = i / w->d;
                double x = (double)w->y_seen[i] + w->y_seen[n + i];

                if (i % w->d == 0)
                        w->at[row].slope[stage] = 0;
                w->k_seen[i] = (float)(sign * e->f(x, w->times_seen[row]));
                w->at[row].slope[stage] += sign * e->slope(x, w->times_seen[row]) + (stage % 2 ? w->rough : -w->rough);
        }
        put(w, w->k + stage * n, w->k_seen, (size_t)n_left * sizeof(float));
        put(w, w->trajectories, w->at, (size_t)w->m * sizeof *w->at);
}

static void stage(struct integration *w, int i, const struct equation *e)
{
        w->t->k[TESTED]->flow_stage(w->t->stream[TESTED],
                                    &(struct flow_stage_args){w->m, w->d, w->solver, i, w->reverse, w->x, w->x_low,
                                                              w->k, w->trajectories, w->y, w->y_low, w->times});
        evaluate(w, i, e);
}

/* From x at s = 0 to 1. Returns false where it did not end there. */
static bool integrate(struct integration *w, const struct equation *e)
{
        const struct kernels *k = w->t->k[TESTED];
        struct stream *s = w->t->stream[TESTED];

        for (int64_t i = 0; i < w->m; i++)
                w->at[i] = (struct trajectory){.place = i, .fresh = 1};
        put(w, w->trajectories, w->at, (size_t)w->m * sizeof *w->at);
        for (int step = 0; step < 2000; step++) {
                bool done = true;

                for (int i = 1; i < flow_tableaus[w->solver].stages; i++) {
                        stage(w, i, e);
                        if (i <= 2)
                                k->flow_start(s, &(struct flow_start_args){w->m, w->d, w->solver, i, w->tolerance,
                                                                           w->tolerance, w->shared, w->apart, w->x,
                                                                           w->k, w->trajectories});
                }
                k->flow_step(s, &(struct flow_step_args){w->m, w->d, w->solver, w->tolerance, w->tolerance, w->beta,
                                                         w->shared, w->apart, w->x, w->x_low, w->y, w->y_low, w->k,
                                                         w->trajectories});
                get_stage(w);
                for (int64_t i = 0; i < w->m; i++) {
                        done &= w->at[i].done;
                        if (w->at[i].failed || (w->at[i].done && w->at[i].s != 1))
                                return false;
                }
                if (done) {
                        get_x(w);
                        return true;
                }
        }
        return false;
}

static void integration_new(struct integration *w)
{
        const struct kernels *k = w->t->k[TESTED];
        struct device *device = w->t->device[TESTED];
        size_t n = (size_t)(w->m * w->d), f = n * sizeof(float), m = (size_t)w->m;

        w->x = k->memory_new(device, f);
        w->x_low = k->memory_new(device, f);
        w->y = k->memory_new(device, f);
        w->y_low = k->memory_new(device, f);
        w->k = k->memory_new(device, FLOW_STAGES * f);
        w->times = k->memory_new(device, m * sizeof(float));
        w->trajectories = k->memory_new(device, m * sizeof *w->trajectories);
        w->x_seen = calloc(2 * n, sizeof(float));
        w->y_seen = calloc(2 * n, sizeof(float));
        w->k_seen = calloc(FLOW_STAGES * n, sizeof(float));
        w->times_seen = calloc(m, sizeof(float));
        w->at = calloc(m, sizeof *w->at);
}

static void integration_free(struct integration *w)
{
        void *const theirs[] = {w->x, w->x_low, w->y, w->y_low, w->k, w->times, w->trajectories};
        void *const ours[] = {w->x_seen, w->y_seen, w->k_seen, w->times_seen, w->at};

        for (size_t i = 0; i < ARRAY_LEN(theirs); i++)
                w->t->k[TESTED]->memory_free(w->t->device[TESTED], theirs[i]);
        for (size_t i = 0; i < ARRAY_LEN(ours); i++)
                free(ours[i]);
}

/* Row first of the values 0.02, 0.03, .., d a row. */
static float start_value(int64_t i)
{
        return 0.02f + 0.01f * (float)i;
}

static void start_at(struct integration *w, int64_t first)
{
        for (int64_t i = 0; i < w->m * w->d; i++) {
                w->x_seen[i] = start_value(first * w->d + i);
                w->x_seen[w->m * w->d + i] = 0;
        }
        put(w, w->x, w->x_seen, (size_t)(w->m * w->d) * sizeof(float));
        put(w, w->x_low, w->x_seen + w->m * w->d, (size_t)(w->m * w->d) * sizeof(float));
}

static double value_of(const struct integration *w, int64_t i)
{
        return (double)w->x_seen[i] + w->x_seen[w->m * w->d + i];
}

/* x where time has gone from 0 to 1 (or back), and the log of its derivative by the x before. */
static double solution(const struct equation *e, double x, bool reverse, double *ret_l)
{
        double sign = reverse ? -1 : 1, y;

        if (e->f == follow) { /* x = t - 1 + C e^-t */
                *ret_l = -sign;
                return reverse ? x * exp(1) - 1 : (x + 1) * exp(-1);
        }
        y = 1 / (1 + (1 / x - 1) * exp(-8 * sign)); /* dy/dx = y (1 - y) / (x (1 - x)) */
        *ret_l = log(y * (1 - y) / (x * (1 - x)));
        return y;
}

/* A rough integral takes more steps, or, apart, none: x is then the same bit for bit. */
static void check_rough_integral(struct test *t)
{
        static const struct equation e = {logistic, logistic_slope};
        float x[4][12];
        int64_t n[4];

        test_case(t, "a rough integral");
        for (int i = 0; i < 4; i++) {
                struct integration w = {
                        .t = t, .m = 3, .d = 4, .tolerance = 1e-5, .apart = i / 2, .rough = i % 2 ? 0.1 : 0};

                integration_new(&w);
                start_at(&w, 0);
                if (!integrate(&w, &e))
                        test_fail(t, "no end");
                memcpy(x[i], w.x_seen, sizeof x[i]);
                n[i] = w.at[0].n_evaluations;
                if (i == 2 && w.at[0].l != 0) {
                        double want = 0, of_value;

                        for (int64_t j = 0; j < w.d; j++) {
                                (void)solution(&e, start_value(j), false, &of_value);
                                want += of_value;
                        }
                        expect_near(t, "l", w.at[0].l, want, 50 * w.tolerance * (double)w.d);
                }
                integration_free(&w);
        }
        if (n[1] <= n[0])
                test_fail(t, "%d evaluations for a rough integral, %d for a smooth one", (int)n[1], (int)n[0]);
        if (n[3] != n[2] || memcmp(x[2], x[3], sizeof x[2]) != 0)
                test_fail(t, "the integral has a say in the steps");
        test_end(t);
}

/* Solutions known in closed form, to the tolerance asked for, forward and back, with every solver and both rules of the
 * step size; a trajectory alone is the same bit for bit as beside others, unless the step is shared. */
void check_flow_step(struct test *t)
{
        static const struct equation equations[] = {{follow, follow_slope}, {logistic, logistic_slope}};
        enum { TOLERANCES = 2, SHARED = 2, REVERSE = 2, BETA = 2, SOLVERS = 3, EQUATIONS = 2 };

        for (int i = 0; i < TOLERANCES * SHARED * REVERSE * BETA * SOLVERS * EQUATIONS; i++) {
                const struct equation *e = &equations[i / 48];
                struct integration w = {.t = t,
                                        .solver = (enum flow_solver)(i / 16 % SOLVERS),
                                        .m = 3,
                                        .d = 4,
                                        .tolerance = i % 2 ? 1e-6 : 1e-4,
                                        .shared = i / 2 % 2,
                                        .reverse = i / 4 % 2,
                                        .beta = i / 8 % 2 ? 0.04 : 0},
                                   alone = w;
                double worst = 0;

                test_case(t, "equation %d, solver %d, tolerance %g, shared %d, reverse %d, beta %g", i / 48, w.solver,
                          w.tolerance, w.shared, w.reverse, w.beta);
                alone.m = 1;
                integration_new(&w);
                integration_new(&alone);
                start_at(&w, 0);
                if (!integrate(&w, e))
                        test_fail(t, "no end");
                for (int64_t row = 0; row < w.m; row++) {
                        double l = 0, of_value;

                        for (int64_t j = row * w.d; j < (row + 1) * w.d; j++) {
                                double want = solution(e, start_value(j), w.reverse, &of_value);

                                l += of_value;
                                worst = fmax(worst, fabs(value_of(&w, j) - want));
                        }
                        worst = fmax(worst, fabs(w.at[row].l - l) / (double)w.d);
                        start_at(&alone, row);
                        if (!integrate(&alone, e))
                                test_fail(t, "no end alone");
                        if (!w.shared && memcmp(alone.x_seen, w.x_seen + row * w.d, (size_t)w.d * sizeof(float)) != 0)
                                test_fail(t, "row %d depends on its neighbours", (int)row);
                        if (w.shared && w.at[row].n_evaluations != w.at[0].n_evaluations)
                                test_fail(t, "row %d has steps of its own", (int)row);
                }
                if (!(worst < (w.solver == FLOW_BOGACKI_SHAMPINE ? 100 : 50) * w.tolerance) || worst == 0)
                        test_fail(t, "error %g at tolerance %g", worst, w.tolerance);
                integration_free(&w);
                integration_free(&alone);
                test_end(t);
        }
        check_rough_integral(t);
}

/* A fresh trajectory looks where flow_start asks: at x, then an Euler step ahead. */
static void check_fresh_stages(struct test *t)
{
        enum { D = 4 };

        for (int number = 1; number <= 3; number++) {
                struct tensor *x, *x_low, *k, *at, *y, *y_low, *times;

                test_case(t, "fresh, stage %d", number);
                x = test_input(t, "x", D, 1, 0);
                x_low = test_input(t, "x_low", D, 1e-8, 0);
                k = test_input(t, "k", FLOW_STAGES * D, 1, 0);
                at = trajectories(t, 1);
                ((struct trajectory *)(void *)tensor_values(at))->fresh = 1;
                test_upload(t, at);
                y = test_output(t, "y", D, 2);
                y_low = test_output(t, "y_low", D, -1);
                times = test_output(t, "t", 1, 2);
                RUN(t, flow_stage, .m = 1, .d = D, .solver = FLOW_DORMAND_PRINCE, .stage = number, .x = AT(x),
                    .x_low = AT(x_low), .k = AT(k), .trajectories = AT(at), .y = AT(y), .y_low = AT(y_low),
                    .t = AT(times));
                test_compare(t);
                for (int i = 0; i < D; i++)
                        expect_near(t, "y", ((const float *)tensor_result(y, TESTED))[i],
                                    tensor_values(x)[i] + (number == 2 ? 0.02 * tensor_values(k)[i] : 0), 1e-6);
                expect_near(t, "t", *(const float *)tensor_result(times, TESTED), number == 2 ? 0.32 : 0.3, 1e-6);
                test_end(t);
        }
}

/* Fixed steps: twice as many, and the error is 2^order times smaller; the last stage is the step itself. */
void check_flow_stage(struct test *t)
{
        static const struct equation e = {logistic, logistic_slope};

        for (enum flow_solver solver = FLOW_DORMAND_PRINCE; solver <= FLOW_BOGACKI_SHAMPINE; solver++) {
                double error[2], order = flow_tableaus[solver].order, unused;

                for (int half = 0; half < 2; half++) {
                        struct integration w = {.t = t, .solver = solver, .m = 1, .d = 1};
                        int n = half ? 16 : 8;

                        test_case(t, "solver %d, %d steps", solver, n);
                        integration_new(&w);
                        start_at(&w, 0);
                        for (int i = 0; i < n; i++) {
                                w.at[0] = (struct trajectory){.h = 1.0 / n, .s = (double)i / n};
                                put(&w, w.trajectories, w.at, sizeof *w.at);
                                for (int j = 0; j < flow_tableaus[solver].stages; j++)
                                        stage(&w, j, &e);
                                put(&w, w.x, w.y_seen, sizeof(float));
                                put(&w, w.x_low, w.y_seen + 1, sizeof(float));
                                if (fabs(w.times_seen[0] - (i + 1.0) / n) > 1e-6)
                                        test_fail(t, "the last stage is at %g", w.times_seen[0]);
                        }
                        error[half] =
                                fabs((double)w.y_seen[0] + w.y_seen[1] - solution(&e, start_value(0), false, &unused));
                        integration_free(&w);
                        test_end(t);
                }
                if (!(error[0] > 0.6 * pow(2, order) * error[1]) || error[0] > 1e-2)
                        test_fail(t, "errors %g and %g: not of order %g", error[0], error[1], order);
        }
        check_fresh_stages(t);
}

/* A value and a slope of exactly the norm below which no step is taken from them. */
static void check_smallest_start(struct test *t)
{
        struct tensor *x, *k, *at;

        test_case(t, "norms of 1e-5");
        x = test_input(t, "x", 1, 0, 1);
        k = test_inout(t, "k", FLOW_STAGES, 0);
        at = trajectories(t, 1);
        ((struct trajectory *)(void *)tensor_values(at))->fresh = 1;
        tensor_values(k)[1] = 1;
        test_upload(t, k);
        test_upload(t, at);
        RUN(t, flow_start, .m = 1, .d = 1, .solver = FLOW_DORMAND_PRINCE, .stage = 1, .rtol = 0, .atol = 1e5,
            .apart = true, .x = AT(x), .k = AT(k), .trajectories = AT(at));
        test_compare(t);
        expect_near(t, "h", after(at)->h, 0.01, 1e-12);
        test_end(t);
}

/* scipy 1.10's select_initial_step on the same values: RK45 on dx/dt = f with f's values put in, of each row alone and
 * of all together. In its words: d0, d1, h0, d2, h1. A row that is not fresh stays as it is. */
void check_flow_start(struct test *t)
{
        enum { M = 3, D = 5 };

        for (int i = 0; i < 4; i++) {
                bool shared = i % 2, apart = i / 2;
                struct tensor *x, *k, *at;
                int64_t rows = shared ? M : M - 1;
                double h_0[M];

                test_case(t, "shared %d, apart %d", shared, apart);
                x = test_input(t, "x", M * D, 1, 0);
                k = test_inout(t, "k", FLOW_STAGES * M * D, 0);
                for (int j = 0; j < FLOW_STAGES * M * D; j++)
                        tensor_values(k)[j] *= 3;
                test_upload(t, k);
                at = trajectories(t, M);
                for (int64_t row = 0; row < rows; row++)
                        ((struct trajectory *)(void *)tensor_values(at))[row].fresh = 1;
                test_upload(t, at);
                for (int stage = 1; stage <= 2; stage++) {
                        const struct trajectory *was = (void *)tensor_values(at);
                        const float *v = tensor_values(x), *f = tensor_values(k);

                        RUN(t, flow_start, .m = M, .d = D, .solver = FLOW_DORMAND_PRINCE, .stage = stage, .rtol = 1e-3,
                            .atol = 1e-5, .shared = shared, .apart = apart, .x = AT(x), .k = AT(k),
                            .trajectories = AT(at));
                        test_compare(t);
                        if (!shared && (after(at)[M - 1].h != was[M - 1].h ||
                                        ((const float *)tensor_result(k, TESTED))[M * D - 1] != f[M * D - 1]))
                                test_fail(t, "a row that is not fresh changed");
                        for (int64_t row = 0; row < rows; row++) {
                                double d0 = 0, d1 = 0, d2 = 0, n = (double)((shared ? M : 1) * (D + !apart)), h;

                                for (int64_t r = shared ? 0 : row; r < (shared ? M : row + 1); r++) {
                                        double scale = 1e-5 + 1e-3 * fabs(was[r].l);

                                        if (!apart) {
                                                d0 += pow(was[r].l / scale, 2);
                                                d1 += pow(was[r].slope[1] / scale, 2);
                                                d2 += pow((was[r].slope[2] - was[r].slope[1]) / scale, 2);
                                        }
                                        for (int64_t j = r * D; j < (r + 1) * D; j++) {
                                                scale = 1e-5 + 1e-3 * fabs((double)v[j]);
                                                d0 += pow(v[j] / scale, 2);
                                                d1 += pow(f[M * D + j] / scale, 2);
                                                d2 += pow(((double)f[2 * M * D + j] - f[M * D + j]) / scale, 2);
                                        }
                                }
                                if (stage == 1)
                                        h_0[row] = 0.01 * sqrt(d0 / n) / sqrt(d1 / n);
                                h = pow(0.01 / fmax(sqrt(d1 / n), sqrt(d2 / n) / h_0[row]), 0.2);
                                h = stage == 1 ? h_0[row] : fmin(fmin(100 * h_0[row], h), 1);
                                expect_near(t, "h", after(at)[row].h, h, 1e-12 * h);
                        }
                }
                test_end(t);
        }
        check_smallest_start(t);
}

/* Two slots, five places of three images with two samples each: who takes what, what is left, and that an end is an
 * end. */
void check_flow_slots(struct test *t)
{
        static const int64_t places[5] = {0, 1, 2, 5, 4};
        static const int order[6][2] = {{0, 1}, {2, 1}, {2, 5}, {4, 5}, {-1, 5}, {-1, -1}}; /* by slot */
        enum { D = 3, RESULTS = 6 };
        struct tensor *x, *x_low, *kl, *list, *state, *rows, *at, *results;
        struct trajectory *now;
        const struct flow_result *result;

        test_case(t, "two slots");
        x = test_input(t, "x", 2 * D, 1, 0);
        x_low = test_input(t, "x_low", 2 * D, 1e-8, 0);
        kl = test_input(t, "kl", 2, 1, 4);
        list = test_input(t, "places", 2 * ARRAY_LEN(places), 1, 0);
        memcpy(tensor_values(list), places, sizeof places);
        test_upload(t, list);
        state = test_state_inout(t);
        tensor_state(state)->position = 0;
        test_upload(t, state);
        rows = test_output_rows(t, 2);
        at = trajectories(t, 2);
        now = (void *)tensor_values(at);
        results = test_inout(t, "results", RESULTS * sizeof *result / sizeof(float), -1);
        for (int j = 0; j < 2; j++)
                now[j] = (struct trajectory){.place = -1, .done = 1};
        for (int i = 0; i < 6; i++) {
                test_upload(t, at);
                RUN(t, flow_slots, .m = 2, .d = D, .n = ARRAY_LEN(places), .repeats = 2, .places = AT(list), .x = AT(x),
                    .x_low = AT(x_low), .kl = AT(kl), .state = AT(state), .rows = AT(rows), .trajectories = AT(at),
                    .results = AT(results));
                test_compare(t);
                memcpy(now, tensor_result(at, TESTED), 2 * sizeof *now);
                for (int j = 0; j < 2; j++) {
                        const struct row *row = (const struct row *)tensor_result(rows, TESTED) + j;

                        if (now[j].place != order[i][j])
                                test_fail(t, "time %d: slot %d has place %d", i, j, (int)now[j].place);
                        if (now[j].place >= 0 &&
                            (row->index != now[j].place / 2 || row->image != (uint64_t)now[j].place / 2 ||
                             row->block != (uint32_t)now[j].place % 2))
                                test_fail(t, "slot %d has another row", j);
                        if (now[j].fresh) {
                                now[j].fresh = 0;
                                now[j].l = -2.5 * (double)(now[j].place + 1);
                                now[j].n_evaluations = now[j].place;
                        }
                        now[j].done = order[i][j] < 0 || (i < 5 && order[i + 1][j] != order[i][j]);
                }
        }
        result = tensor_result(results, TESTED);
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                int place = (int)places[i], slot = place == 1 || place == 5;
                double squares = 0;

                for (int j = slot * D; j < (slot + 1) * D; j++)
                        squares += pow((double)tensor_values(x)[j] + tensor_values(x_low)[j], 2);
                expect_near(t, "log p", result[place].log_p, -0.5 * (D * log(2 * M_PI) + squares) - 2.5 * (place + 1),
                            1e-12);
                if (result[place].kl != tensor_values(kl)[slot] || result[place].n_evaluations != place ||
                    result[place].failed)
                        test_fail(t, "result %d", place);
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
                        if (largest > 3 - 1e-5 || largest < 2.8)
                                test_fail(t, "largest %g: rejected, or cut?", largest);
                } else { /* u is in units of std: the bin is 1 / 128 wide */
                        expect_near(t, "variance", squares / D, pow(1.0 / 128 / std, 2) / 12, 2e-5);
                        if (largest > 1.0 / 256 / std + 1e-6 || after(at)[0].log_q != 0)
                                test_fail(t, "largest %g", largest);
                }
                expect_near(t, "mean", sum / D, 0, 0.06);
                test_end(t);
        }
}

/* One probe a trajectory, or one an evaluation; from the row alone. */
void check_flow_probe(struct test *t)
{
        enum { D = 1026, M = 3 };

        for (int i = 0; i < 8; i++) {
                bool each = i % 2, gaussian = i / 2 % 2;
                int stage = i / 4 ? 5 : 1;
                struct tensor *state, *rows, *y, *at;
                double want[M * D];

                test_case(t, "each %d, gaussian %d, stage %d", each, gaussian, stage);
                state = test_state(t);
                rows = test_rows(t, M);
                at = trajectories(t, M);
                for (int row = 0; row < M; row++) {
                        struct trajectory *x = (struct trajectory *)(void *)tensor_values(at) + row;

                        x->n_evaluations = row ? 2 + 6 * row : 0;
                        x->fresh = !row;
                }
                test_upload(t, at);
                y = test_output(t, "y", M * D, gaussian ? 4 : 0);
                for (int j = 0; j < M * D; j++) {
                        const struct row *row = &tensor_rows(rows)[j / D];
                        uint64_t number = each ? (uint64_t)(j / D ? 2 + 6 * (j / D) + stage - 1 : stage) : 0;
                        struct philox p = philox_draw(tensor_state(state)->seed, STREAM_PROBE, row->block,
                                                      (uint32_t)(j % D / 4), row->image, number, 0);
                        float pair[2];

                        philox_normal_pair(p.v[j % D % 4 / 2 * 2], p.v[j % D % 4 / 2 * 2 + 1], &pair[0], &pair[1]);
                        want[j] = gaussian ? pair[j % D % 2] : p.v[j % D % 4] & 0x80000000u ? 1 : -1;
                }
                RUN(t, flow_probe, .m = M, .d = D, .kind = gaussian ? PROBE_GAUSSIAN : PROBE_RADEMACHER, .each = each,
                    .stage = stage, .state = AT(state), .rows = AT(rows), .trajectories = AT(at), .y = AT(y));
                test_compare(t);
                test_expect(t, y, want, gaussian ? 4 : 0);
                test_end(t);
        }
}
