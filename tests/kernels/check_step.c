/* A step's course in its state, and which rows a batch is of: each operation against formulas written another way than
 * the back ends' (products instead of powers, sums from the end, sorting), and whole courses against a loop by hand. */
#include "check.h"

#define LN2 0.693147180559945309417
#define DOUBLE_LIMIT 1e-6 /* units of float's rounding: what is kept in double */

static const char *const run_names[] = {"the reference's", "the back end's"};

static const struct step_state *state_after(const struct tensor *x, int run)
{
        return tensor_result(x, run);
}

static void expect_state_value(struct test *t, int run, const char *what, double got, double want, double limit)
{
        char name[96];

        (void)snprintf(name, sizeof(name), "%s %s", run_names[run], what);
        test_expect_value(t, name, got, want, 0, limit);
}

/* All members of both back ends' states. */
static void expect_state(struct test *t, const struct tensor *x, const struct step_state *want)
{
        for (int run = REFERENCE; run <= TESTED; run++) {
                const struct step_state *got = state_after(x, run);

                expect_state_value(t, run, "seed", got->seed, want->seed, 0);
                expect_state_value(t, run, "failure", got->failure, want->failure, 0);
                expect_state_value(t, run, "step", (double)got->step, (double)want->step, 0);
                expect_state_value(t, run, "position", (double)got->position, (double)want->position, 0);
                expect_state_value(t, run, "learning_rate", got->learning_rate, want->learning_rate, 1);
                expect_state_value(t, run, "m_correction", got->m_correction, want->m_correction, 1);
                expect_state_value(t, run, "v_correction", got->v_correction, want->v_correction, 1);
                expect_state_value(t, run, "tau", got->tau, want->tau, 1);
                expect_state_value(t, run, "clip", got->clip, want->clip, 1);
                expect_state_value(t, run, "n_window", (double)got->n_window, (double)want->n_window, 0);
                if (!isnan(want->squared_norm))
                        expect_state_value(t, run, "squared_norm", got->squared_norm, want->squared_norm, DOUBLE_LIMIT);
                for (int i = 0; i < SUM_N; i++) {
                        if (!isnan(want->step_sums[i]))
                                expect_state_value(t, run, "step_sums", got->step_sums[i], want->step_sums[i],
                                                   DOUBLE_LIMIT);
                        else if (!isnan(got->step_sums[i]))
                                test_fail(t, "%s step_sums[%d] is no NaN", run_names[run], i);
                        expect_state_value(t, run, "window_sums", got->window_sums[i], want->window_sums[i],
                                           DOUBLE_LIMIT);
                }
        }
}

/* A state with something in every member. */
static struct tensor *busy_state(struct test *t, int64_t step, uint32_t failure)
{
        struct tensor *x = test_state_inout(t);
        struct step_state *s = tensor_state(x);

        s->step = step;
        s->failure = failure;
        s->position = 77;
        s->tau = 0.9f;
        s->squared_norm = 12.5;
        s->n_window = 3;
        for (int i = 0; i < SUM_N; i++) {
                s->step_sums[i] = test_normal(t);
                s->window_sums[i] = test_normal(t);
        }
        test_upload(t, x);
        return x;
}

/* ---- step_begin */

static double power(double b, int64_t n)
{
        double p = 1;

        for (int64_t i = 0; i < n; i++)
                p *= b;
        return p;
}

struct rate_case {
        int64_t step, n_warmup, n_steps;
        bool decay;
        double share; /* of the peak rate */
};

void check_step_begin(struct test *t)
{
        static const struct rate_case cases[] = {
                {0, 100, 1000, false, 0},      {25, 100, 1000, false, 0.25},    {100, 100, 1000, false, 1},
                {999, 100, 1000, false, 1},    {0, 0, 1000, false, 1},          {50, 100, 1000, true, 0.5},
                {100, 100, 1000, true, 1},     {325, 100, 1000, true, 0.75},    {1000, 100, 1000, true, 0},
                {5000, 100, 1000, true, 0},    {200, 100, 100, true, 1},        {1, 3, 4, true, 1.0 / 3},
                {40000, 0, 100000, true, 0.6}, {90000, 1000, 2000000, false, 1}};

        for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
                const struct rate_case *c = &cases[i / 2];
                struct tensor *state;
                struct step_state want;

                test_case(t, "step %d of %d, failed %d", (int)c->step, (int)c->n_steps, (int)i % 2);
                state = busy_state(t, c->step, i % 2 ? FAILURE_LOSS : FAILURE_NONE);
                want = *tensor_state(state);
                if (i % 2 == 0) {
                        want.learning_rate = (float)(3e-4 * c->share);
                        want.m_correction = (float)(1 / (1 - power(0.9, c->step + 1)));
                        want.v_correction = (float)(1 / (1 - power(0.999, c->step + 1)));
                        /* e^-1e-5 = 0.99999000004999983333...; after 69315 steps it is below a half */
                        want.tau = c->step > 69314 ? 0.5f : (float)power(0.99999000004999983333, c->step);
                        memset(want.step_sums, 0, sizeof(want.step_sums));
                }
                RUN(t, step_begin, .peak_rate = 3e-4, .b1 = 0.9, .b2 = 0.999, .n_warmup = c->n_warmup,
                    .n_steps = c->n_steps, .decay = c->decay, .state = AT(state));
                test_compare(t);
                expect_state(t, state, &want);
                test_end(t);
        }
}

/* ---- step_add */

/* From the last image to the first. */
static void add_means(double *sums, const float *terms, const float *kl, const float *vars, int64_t m, int64_t batch,
                      int64_t d)
{
        for (int64_t i = m - 1; i >= 0; i--) {
                double bits = LN2 * (double)d;

                sums[SUM_RECON] += terms[3 * i] / bits / (double)batch;
                sums[SUM_LATENT] += terms[3 * i + 1] / bits / (double)batch + kl[i] / bits / (double)batch;
                sums[SUM_DIFF] += terms[3 * i + 2] / bits / (double)batch;
                sums[SUM_VAR_0] += vars[2 * i] / (double)batch;
                sums[SUM_VAR_1] += vars[2 * i + 1] / (double)batch;
        }
}

void check_step_add(struct test *t)
{
        static const int64_t cases[][3] = {{8, 8, 3072}, {1, 8, 12}, {3, 1000, 3072}};

        for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
                const int64_t *c = cases[i / 2];
                struct tensor *state, *terms, *kl, *vars;
                struct step_state want;

                test_case(t, "%d of %d images, failed %d", (int)c[0], (int)c[1], (int)i % 2);
                state = busy_state(t, 5, i % 2 ? FAILURE_GRADIENT : FAILURE_NONE);
                terms = test_input(t, "terms", (size_t)(3 * c[0]), 100, 3000);
                kl = test_input(t, "kl", (size_t)c[0], 1, 20);
                vars = test_input(t, "vars", (size_t)(2 * c[0]), 0.1, 0.5);
                want = *tensor_state(state);
                if (i % 2 == 0)
                        add_means(want.step_sums, tensor_values(terms), tensor_values(kl), tensor_values(vars), c[0],
                                  c[1], c[2]);
                RUN(t, step_add, .m = c[0], .batch = c[1], .d = c[2], .terms = AT(terms), .kl = AT(kl),
                    .vars = AT(vars), .state = AT(state));
                test_compare(t);
                expect_state(t, state, &want);
                test_end(t);
        }
}

/* ---- step_check */

struct check_case {
        double squared_norm, clip_norm;
        int bad_sum; /* -1: none */
        double value;
        uint32_t before, failure;
        float clip;
};

void check_step_check(struct test *t)
{
        static const struct check_case cases[] = {
                {25, 0, -1, 0, FAILURE_NONE, FAILURE_NONE, 1},
                {25, 5, -1, 0, FAILURE_NONE, FAILURE_NONE, 1},
                {25, 1, -1, 0, FAILURE_NONE, FAILURE_NONE, 0.2f},
                {25, 6, -1, 0, FAILURE_NONE, FAILURE_NONE, 1},
                {0, 1, -1, 0, FAILURE_NONE, FAILURE_NONE, 1},
                {HUGE_VAL, 0, -1, 0, FAILURE_NONE, FAILURE_GRADIENT, 1},
                {NAN, 0, -1, 0, FAILURE_NONE, FAILURE_GRADIENT, 1},
                {25, 0, SUM_RECON, NAN, FAILURE_NONE, FAILURE_LOSS, 1},
                {25, 0, SUM_LATENT, HUGE_VAL, FAILURE_NONE, FAILURE_LOSS, 1},
                {25, 0, SUM_DIFF, -HUGE_VAL, FAILURE_NONE, FAILURE_LOSS, 1},
                {25, 0, SUM_VAR_1, NAN, FAILURE_NONE, FAILURE_LOSS, 1},
                {HUGE_VAL, 0, SUM_DIFF, NAN, FAILURE_NONE, FAILURE_LOSS, 1}, /* the loss came first */
                {HUGE_VAL, 0, SUM_DIFF, NAN, FAILURE_WEIGHT, FAILURE_WEIGHT, 0.8f},
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                const struct check_case *c = &cases[i];
                struct tensor *state;
                struct step_state want;

                test_case(t, "squared norm %g, clip norm %g, sum %d %g", c->squared_norm, c->clip_norm, c->bad_sum,
                          c->value);
                state = busy_state(t, 5, c->before);
                tensor_state(state)->squared_norm = c->squared_norm;
                if (c->bad_sum >= 0)
                        tensor_state(state)->step_sums[c->bad_sum] = c->value;
                test_upload(t, state);
                want = *tensor_state(state);
                want.failure = c->failure;
                RUN(t, step_check, .clip_norm = c->clip_norm, .state = AT(state));
                test_compare(t);
                if (c->failure == FAILURE_NONE)
                        want.clip = c->clip;
                else /* no update uses it */
                        want.clip = state_after(state, TESTED)->clip;
                if (c->before != FAILURE_NONE && want.clip != c->clip)
                        test_fail(t, "a failed state is not left alone");
                expect_state(t, state, &want);
                test_end(t);
        }
}

/* ---- step_end and whole courses */

static void check_end_alone(struct test *t)
{
        for (int failure = FAILURE_NONE; failure < FAILURE_N; failure++) {
                struct tensor *state;
                struct step_state want;

                test_case(t, "failure %d", failure);
                state = busy_state(t, 0x7fffffffff, (uint32_t)failure);
                want = *tensor_state(state);
                for (int i = 0; i < SUM_N && failure == FAILURE_NONE; i++)
                        want.window_sums[i] += want.step_sums[i];
                want.n_window += failure == FAILURE_NONE;
                want.step += failure == FAILURE_NONE;
                RUN(t, step_end, .state = AT(state));
                test_compare(t);
                expect_state(t, state, &want);
                test_end(t);
        }
}

enum { COURSE_N = 40, COURSE_M = 4, COURSE_D = 48, COURSE_STEPS = 5, COURSE_BAD = 3 };

/* What goes wrong in step COURSE_BAD. */
enum bad { BAD_NOTHING, BAD_LOSS, BAD_GRADIENT, BAD_MOMENT, BAD_N };

struct course {
        enum bad bad;
        struct tensor *state, *terms, *kl, *vars, *w, *m, *v, *ema, *g;
        /* by hand */
        struct step_state want;
        double w_want[COURSE_N], m_want[COURSE_N], v_want[COURSE_N], ema_want[COURSE_N];
};

/* New losses and gradients of a step, the same for both back ends, once the last ones have been taken. */
static void course_inputs(struct test *t, struct course *c, int step)
{
        for (int run = 0; run < N_RUNS; run++)
                (void)t->k[run]->stream_sync(t->stream[run], NULL);
        for (int i = 0; i < COURSE_M; i++) {
                for (int j = 0; j < 3; j++)
                        tensor_values(c->terms)[3 * i + j] = (float)(300 + 10 * test_normal(t));
                tensor_values(c->kl)[i] = (float)(20 + test_normal(t));
                for (int j = 0; j < 2; j++)
                        tensor_values(c->vars)[2 * i + j] = (float)test_uniform(t);
        }
        for (int i = 0; i < COURSE_N; i++)
                tensor_values(c->g)[i] = (float)test_normal(t);
        if (step == COURSE_BAD && c->bad == BAD_LOSS)
                tensor_values(c->terms)[4] = NAN;
        if (step == COURSE_BAD && c->bad == BAD_GRADIENT)
                tensor_values(c->g)[17] = INFINITY;
        test_upload(t, c->terms);
        test_upload(t, c->kl);
        test_upload(t, c->vars);
        test_upload(t, c->g);
}

/* The step by hand, in double, a parameter at a time; nothing once it has failed. Spec 6. */
static void course_by_hand(struct course *c, int step)
{
        struct step_state *s = &c->want;
        const float *g = tensor_values(c->g);
        double norm = 0, clip, rate = 1e-2 * fmin(1, step / 4.0);

        if (s->failure != FAILURE_NONE)
                return;
        memset(s->step_sums, 0, sizeof(s->step_sums));
        add_means(s->step_sums, tensor_values(c->terms), tensor_values(c->kl), tensor_values(c->vars), COURSE_M,
                  COURSE_M, COURSE_D);
        for (int i = COURSE_N - 1; i >= 0; i--)
                norm = hypot(norm, g[i]);
        s->squared_norm = norm * norm;
        s->learning_rate = (float)rate;
        s->m_correction = (float)(1 / (1 - power(0.9, step + 1)));
        s->v_correction = (float)(1 / (1 - power(0.99, step + 1)));
        s->tau = (float)power(0.99999000004999983333, step);
        clip = fmin(1, 5 / norm);
        if (step == COURSE_BAD && c->bad == BAD_LOSS)
                s->failure = FAILURE_LOSS;
        if (step == COURSE_BAD && c->bad == BAD_GRADIENT)
                s->failure = FAILURE_GRADIENT;
        if (s->failure != FAILURE_NONE)
                return;
        s->clip = (float)clip;
        for (int i = 0; i < COURSE_N; i++) {
                double gradient = clip * g[i], m, v;

                if (step == COURSE_BAD && c->bad == BAD_MOMENT && i == 9)
                        continue; /* this one keeps what it has, the others do not */
                m = c->m_want[i] += 0.1 * (gradient - c->m_want[i]);
                v = c->v_want[i] += 0.01 * (gradient * gradient - c->v_want[i]);
                c->w_want[i] -=
                        rate * (m / (1 - power(0.9, step + 1)) / (sqrt(v / (1 - power(0.99, step + 1))) + 1e-8) +
                                0.01 * c->w_want[i]);
                c->ema_want[i] = 0.95 * c->ema_want[i] + 0.05 * c->w_want[i];
        }
        if (step == COURSE_BAD && c->bad == BAD_MOMENT) {
                s->failure = FAILURE_WEIGHT;
                return;
        }
        for (int i = 0; i < SUM_N; i++)
                s->window_sums[i] += s->step_sums[i];
        s->n_window++;
        s->step++;
}

static void course_run(struct test *t, struct course *c)
{
        RUN(t, step_begin, .peak_rate = 1e-2, .b1 = 0.9, .b2 = 0.99, .n_warmup = 4, .n_steps = 100,
            .state = AT(c->state));
        for (int half = 0; half < 2; half++) { /* a batch in two parts */
                enum { M = COURSE_M / 2 };

                for (int run = 0; run < N_RUNS; run++) {
                        struct step_add_args a = {.m = M,
                                                  .batch = COURSE_M,
                                                  .d = COURSE_D,
                                                  .terms = (float *)AT(c->terms) + 3 * M * half,
                                                  .kl = (float *)AT(c->kl) + M * half,
                                                  .vars = (float *)AT(c->vars) + 2 * M * half,
                                                  .state = AT(c->state)};

                        t->k[run]->step_add(t->stream[run], &a);
                }
        }
        RUN(t, squared_norm, .n = COURSE_N, .x = AT(c->g), .ret = &((struct step_state *)AT(c->state))->squared_norm);
        RUN(t, step_check, .clip_norm = 5, .state = AT(c->state));
        RUN(t, adamw, .n = COURSE_N, .w = AT(c->w), .m = AT(c->m), .v = AT(c->v), .ema = AT(c->ema), .g = AT(c->g),
            .b1 = 0.9, .b2 = 0.99, .ema_rate = 0.95, .eps = 1e-8f, .weight_decay = 0.01f, .state = AT(c->state));
        RUN(t, step_end, .state = AT(c->state));
}

static void widen(double *to, const struct tensor *from)
{
        for (size_t i = 0; i < from->n; i++)
                to[i] = ((const float *)(const void *)(from->host + KERNELS_ALIGN))[i];
}

static void course_start(struct test *t, struct course *c)
{
        c->state = test_state_inout(t);
        *tensor_state(c->state) = (struct step_state){.seed = 3};
        test_upload(t, c->state);
        c->want = *tensor_state(c->state);
        c->terms = test_input(t, "terms", 3 * COURSE_M, 1, 0);
        c->kl = test_input(t, "kl", COURSE_M, 1, 0);
        c->vars = test_input(t, "vars", 2 * COURSE_M, 1, 0);
        c->g = test_input(t, "g", COURSE_N, 1, 0);
        c->w = test_inout(t, "w", COURSE_N, 16);
        c->ema = test_inout(t, "ema", COURSE_N, 16);
        c->m = test_input(t, "m", COURSE_N, 0, 0);
        c->v = test_input(t, "v", COURSE_N, 0, 0);
        c->m->output = c->v->output = true;
        c->m->limit = c->v->limit = 16;
        widen(c->w_want, c->w);
        widen(c->ema_want, c->ema);
}

/* Sets a moment to NaN in the back ends' memory, or back to what it must have been. */
static void alter_moment(struct test *t, struct course *c, double value)
{
        float x = (float)value;

        for (int run = 0; run < N_RUNS; run++) {
                t->k[run]->copy_in(t->stream[run], (float *)AT(c->v) + 9, &x, sizeof(x));
                (void)t->k[run]->stream_sync(t->stream[run], NULL);
        }
}

static void check_course(struct test *t, enum bad bad)
{
        struct course c = {.bad = bad};

        test_case(t, "a course of %d steps, what goes wrong: %d", COURSE_STEPS, (int)bad);
        course_start(t, &c);
        for (int step = 0; step < COURSE_STEPS; step++) {
                course_inputs(t, &c, step);
                course_by_hand(&c, step);
                if (step == COURSE_BAD && bad == BAD_MOMENT)
                        alter_moment(t, &c, NAN);
                course_run(t, &c);
        }
        if (bad == BAD_MOMENT) /* nobody mended it; what it was is what the sums by hand have */
                alter_moment(t, &c, c.v_want[9]);
        /* behind the failure squared_norm, which is not the state's own operation, is made again */
        c.want.squared_norm = NAN;
        test_compare(t);
        if (bad != BAD_NOTHING)
                c.want.clip = state_after(c.state, REFERENCE)->clip;
        expect_state(t, c.state, &c.want);
        test_expect(t, c.w, c.w_want, 16);
        test_expect(t, c.m, c.m_want, 16);
        test_expect(t, c.v, c.v_want, 16);
        test_expect(t, c.ema, c.ema_want, 16);
        test_end(t);
}

void check_step_end(struct test *t)
{
        check_end_alone(t);
        for (int bad = 0; bad < BAD_N; bad++)
                check_course(t, (enum bad)bad);
}

void check_advance(struct test *t)
{
        static const int64_t cases[][2] = {{0, 32}, {-1, 0}, {3, 5000000000}};

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct tensor *state;
                struct step_state want;

                test_case(t, "step by %d, position by %lld", (int)cases[i][0], (long long)cases[i][1]);
                state = busy_state(t, 10, FAILURE_NONE);
                want = *tensor_state(state);
                want.step += cases[i][0];
                want.position += cases[i][1];
                RUN(t, advance, .step_by = cases[i][0], .position_by = cases[i][1], .state = AT(state));
                test_compare(t);
                expect_state(t, state, &want);
                test_end(t);
        }
}

/* ---- rows */

static void expect_rows(struct test *t, const struct tensor *rows, const struct row *want)
{
        for (int run = REFERENCE; run <= TESTED; run++)
                for (size_t i = 0; i < rows->n; i++) {
                        const struct row *got = (const struct row *)tensor_result(rows, run) + i;

                        if (memcmp(got, &want[i], sizeof(*got)) != 0)
                                test_fail(t, "%s row %zu: index %lld instead of %lld, or what follows it",
                                          run_names[run], i, (long long)got->index, (long long)want[i].index);
                }
}

/* Each epoch's positions meet every image once, and epochs and seeds differ. */
static void check_epochs(struct test *t, int64_t count, int64_t batch)
{
        enum { EPOCHS = 3, MOST = 64 };
        int64_t order[EPOCHS][MOST], position = 0;
        struct tensor *state, *rows;

        test_case(t, "%d images in batches of %d", (int)count, (int)batch);
        for (int64_t step = 0; position < EPOCHS * count; step++) {
                struct row want[MOST];

                state = test_state(t);
                tensor_state(state)->seed = 12345;
                tensor_state(state)->step = step;
                test_upload(t, state);
                rows = test_output_rows(t, batch);
                RUN(t, training_rows, .state = AT(state), .batch = batch, .count = count, .rows = AT(rows));
                test_compare(t);
                for (int64_t i = 0; i < batch; i++, position++) {
                        want[i] = (struct row){.image = (uint64_t)i, .time_place = i};
                        want[i].index = ((const struct row *)tensor_result(rows, TESTED))[i].index;
                        if (position < EPOCHS * count)
                                order[position / count][position % count] = want[i].index;
                }
                expect_rows(t, rows, want);
                test_end(t);
        }
        for (int e = 0; e < EPOCHS; e++) {
                int seen[MOST] = {0}, same = 0;

                for (int64_t i = 0; i < count; i++) {
                        if (order[e][i] < 0 || order[e][i] >= count || seen[order[e][i]]++)
                                test_fail(t, "epoch %d has image %lld twice or never had it", e,
                                          (long long)order[e][i]);
                        same += order[e][i] == order[(e + 1) % EPOCHS][i];
                }
                if (count > 10 && same > count / 2)
                        test_fail(t, "epoch %d and the next are alike", e);
        }
}

/* What the order of CIFAR-10's training was when it was first computed: it never changes. */
static void check_known_order(struct test *t)
{
        static const int64_t want[] = {49895, 41169, 6092, 3775, 31361, 28035, 9952, 46259};
        struct tensor *state, *rows;

        test_case(t, "the known order");
        state = test_state(t);
        tensor_state(state)->seed = 1;
        tensor_state(state)->step = 10000;
        test_upload(t, state);
        rows = test_output_rows(t, ARRAY_LEN(want));
        RUN(t, training_rows, .state = AT(state), .batch = ARRAY_LEN(want), .count = 50000, .rows = AT(rows));
        test_compare(t);
        for (size_t i = 0; i < ARRAY_LEN(want); i++) {
                const struct row *got = (const struct row *)tensor_result(rows, TESTED) + i;

                test_expect_value(t, "index", (double)got->index, (double)want[i], 0, 0);
        }
        test_end(t);
}

void check_training_rows(struct test *t)
{
        check_epochs(t, 64, 8);
        check_epochs(t, 37, 5);
        check_epochs(t, 5, 8);
        check_epochs(t, 1, 3);
        check_known_order(t);
}

void check_list_rows(struct test *t)
{
        /* m, n_images, repeats, position */
        static const int64_t cases[][4] = {{8, 20, 1, 0}, {8, 20, 1, 16}, {5, 3, 4, 0},
                                           {5, 3, 4, 5},  {5, 3, 4, 10},  {2, 1, 1, 0}};

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                const int64_t *c = cases[i];
                struct row list[32] = {0}, want[8];
                struct tensor *state, *rows;
                int64_t n = 0;

                test_case(t, "%d rows of %d images, %d times each, from %d", (int)c[0], (int)c[1], (int)c[2],
                          (int)c[3]);
                for (int64_t image = 0; image < c[1]; image++)
                        for (int64_t repeat = 0; repeat < c[2]; repeat++, n++) {
                                list[n] = (struct row){.index = image, .image = (uint64_t)image, .time_place = image};
                                if (c[2] > 1) {
                                        list[n].block = (uint32_t)repeat;
                                        list[n].time_block = 1;
                                        list[n].time_image = (uint64_t)image;
                                        list[n].time_place = repeat;
                                }
                        }
                for (int64_t j = 0; j < c[0]; j++)
                        want[j] = list[c[3] + j < n ? c[3] + j : n - 1];
                state = test_state(t);
                tensor_state(state)->position = c[3];
                test_upload(t, state);
                rows = test_output_rows(t, c[0]);
                RUN(t, list_rows, .state = AT(state), .m = c[0], .n_images = c[1], .repeats = c[2], .rows = AT(rows));
                test_compare(t);
                expect_rows(t, rows, want);
                test_end(t);
        }
}

static void check_copies(struct test *t)
{
        enum { COUNT = 11, M = 6 };
        static const int64_t sizes[] = {1, 48, 3072, 77};

        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                struct tensor *images, *rows, *x;

                test_case(t, "%d bytes an image", (int)sizes[i]);
                images = test_bytes(t, "images", (size_t)(COUNT * sizes[i]));
                rows = test_rows(t, M);
                for (int j = 0; j < M; j++)
                        tensor_rows(rows)[j].index = j == 0 ? COUNT - 1 : (int64_t)(COUNT * test_uniform(t));
                test_upload(t, rows);
                x = test_output_bytes(t, "x", (size_t)(M * sizes[i]));
                RUN(t, gather, .m = M, .bytes = sizes[i], .images = AT(images), .rows = AT(rows), .x = AT(x));
                test_compare(t);
                for (int64_t j = 0; j < M * sizes[i]; j++) {
                        int64_t at = tensor_rows(rows)[j / sizes[i]].index * sizes[i] + j % sizes[i];

                        if (((const char *)tensor_result(x, TESTED))[j] != images->host[KERNELS_ALIGN + at])
                                test_fail(t, "byte %lld is another", (long long)j);
                }
                test_end(t);
        }
}

/* The same lists as image_add's, and times at the bins' edges. */
void check_time_add(struct test *t)
{
        static const int64_t cases[][4] = {{8, 20, 1, 0}, {8, 20, 1, 16}, {5, 3, 4, 10}, {4, 3, 4, 12}};
        enum { BINS = 4 };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                const int64_t *c = cases[i];
                struct tensor *state, *terms, *times, *sums;
                double want[2 * BINS];

                test_case(t, "%d rows of %d images, %d times each, from %d", (int)c[0], (int)c[1], (int)c[2],
                          (int)c[3]);
                state = test_state(t);
                tensor_state(state)->position = c[3];
                test_upload(t, state);
                times = test_input(t, "t", (size_t)c[0], 1, 0);
                for (int64_t j = 0; j < c[0]; j++)
                        tensor_values(times)[j] = j == 2 ? 0x1.fffffep-1f : 0.25f * (float)(j % 4);
                test_upload(t, times);
                terms = test_input(t, "terms", (size_t)(3 * c[0]), 10, 300);
                sums = test_output_doubles(t, "sums", 2 * BINS, DOUBLE_LIMIT);
                for (int j = 0; j < 2 * BINS; j++) {
                        want[j] = ((const double *)(const void *)tensor_values(sums))[j];
                        for (int64_t row = 0; row < MIN(c[0], c[1] * c[2] - c[3]); row++)
                                if ((row == 2 ? 3 : row % 4) == j / 2)
                                        want[j] += j % 2 ? 1 : 0.3 * tensor_values(terms)[3 * row + 2];
                }
                RUN(t, time_add, .m = c[0], .n_images = c[1], .repeats = c[2], .n_bins = BINS, .scale = 0.3,
                    .t = AT(times), .terms = AT(terms), .state = AT(state), .sums = AT(sums));
                test_compare(t);
                test_expect(t, sums, want, DOUBLE_LIMIT);
                test_end(t);
        }
}

/* Whether the row's image is mirrored, by the table in philox.h. */
static bool is_mirrored(struct tensor *state, const struct row *r)
{
        return philox_draw(tensor_state(state)->seed, STREAM_FLIP, r->block, 0, r->image,
                           (uint64_t)tensor_state(state)->step, 0)
                       .v[0] &
               1;
}

static void check_flips(struct test *t)
{
        enum { COUNT = 5, M = 16 };
        static const int64_t shapes[][3] = {{32, 32, 3}, {1, 1, 3}, {4, 7, 1}, {3, 2, 5}};

        for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
                const int64_t *s = shapes[i], bytes = s[0] * s[1] * s[2];
                struct tensor *state, *images, *rows, *x, *told;
                int mirrored = 0;

                test_case(t, "%d x %d x %d", (int)s[0], (int)s[1], (int)s[2]);
                state = test_state(t);
                images = test_bytes(t, "images", (size_t)(COUNT * bytes));
                rows = test_rows(t, M);
                for (int j = 0; j < M; j++)
                        tensor_rows(rows)[j].index = (int64_t)(COUNT * test_uniform(t));
                test_upload(t, rows);
                x = test_output_bytes(t, "x", (size_t)(M * bytes));
                told = test_output(t, "mirrored", M, 0);
                RUN(t, gather, .m = M, .bytes = bytes, .images = AT(images), .rows = AT(rows), .x = AT(x),
                    .flip = AT(state), .width = s[1], .channels = s[2], .mirrored = AT(told));
                test_compare(t);
                for (int64_t j = 0; j < M * bytes; j++) {
                        const struct row *r = &tensor_rows(rows)[j / bytes];
                        int64_t at = j % bytes, h = at / (s[1] * s[2]), w = at / s[2] % s[1], c = at % s[2];

                        if (is_mirrored(state, r))
                                w = s[1] - 1 - w;
                        mirrored += at == 0 && is_mirrored(state, r);
                        if (at == 0 &&
                            ((const float *)tensor_result(told, TESTED))[j / bytes] != (float)is_mirrored(state, r))
                                test_fail(t, "row %lld is told otherwise", (long long)(j / bytes));
                        if (((const char *)tensor_result(x, TESTED))[j] !=
                            images->host[KERNELS_ALIGN + r->index * bytes + (h * s[1] + w) * s[2] + c])
                                test_fail(t, "byte %lld is another", (long long)j);
                }
                if (mirrored == 0 || mirrored == M) /* of 16: odds of 2^-15 */
                        test_fail(t, "%d of %d are mirrored", mirrored, (int)M);
                test_end(t);
        }
}

void check_gather(struct test *t)
{
        check_copies(t);
        check_flips(t);
}

void check_image_add(struct test *t)
{
        /* m, n_images, repeats, position */
        static const int64_t cases[][4] = {{8, 20, 1, 0}, {8, 20, 1, 16}, {5, 3, 4, 0},
                                           {5, 3, 4, 5},  {5, 3, 4, 10},  {4, 3, 4, 12}};

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                const int64_t *c = cases[i];
                struct tensor *state, *terms, *kl, *sums;
                double want[64];

                test_case(t, "%d rows of %d images, %d times each, from %d", (int)c[0], (int)c[1], (int)c[2],
                          (int)c[3]);
                state = test_state(t);
                tensor_state(state)->position = c[3];
                test_upload(t, state);
                terms = test_input(t, "terms", (size_t)(3 * c[0]), 10, 300);
                kl = test_input(t, "kl", (size_t)c[0], 1, 20);
                sums = test_output_doubles(t, "sums", (size_t)(3 * c[1]), DOUBLE_LIMIT);
                /* an image's rows are looked for, not counted off */
                for (int64_t j = 0; j < 3 * c[1]; j++) {
                        want[j] = ((const double *)(const void *)tensor_values(sums))[j];
                        for (int64_t row = c[0] - 1; row >= 0; row--)
                                if (c[3] + row >= j / 3 * c[2] && c[3] + row < (j / 3 + 1) * c[2])
                                        want[j] += 0.3 * tensor_values(terms)[3 * row + j % 3] +
                                                   (j % 3 == 1 ? 0.3 * tensor_values(kl)[row] : 0);
                }
                RUN(t, image_add, .m = c[0], .n_images = c[1], .repeats = c[2], .scale = 0.3, .terms = AT(terms),
                    .kl = AT(kl), .state = AT(state), .sums = AT(sums));
                test_compare(t);
                test_expect(t, sums, want, DOUBLE_LIMIT);
                test_end(t);
        }
}
