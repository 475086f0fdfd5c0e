/* `check test [TABLE]`, `check perf [TABLE [OPERATION]]`, `check bf16|plans|table|stream|cost [TABLE]`, `check philox`.
 * TABLE: cpu (what this processor gets), or one of its copies v1, v3, v4; cuda, cuda-emu; 77 where it cannot be run. A
 * kernel of kernels.def without a check does not link. */
#include "check.h"

#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#define EPS 0x1p-24
/* The first tensor's; floats, doubles and indices of such bytes are large, so that no sum hides one. */
#define GUARD 0x50
static_assert(GUARD + MAX_TENSORS <= 0x7f, "guards are positive and finite");
#define SKIPPED 77 /* what meson takes for it */

const int64_t lengths[] = {1, 17, 64, 1000, 40001};

/* ---- random values */

double test_uniform(struct test *t)
{
        uint64_t z = t->random += 0x9E3779B97F4A7C15u;

        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

double test_normal(struct test *t)
{
        double r = sqrt(-2 * log(test_uniform(t) + 0x1p-54));

        return r * cos(6.283185307179586 * test_uniform(t));
}

/* ---- messages */

void test_case(struct test *t, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(t->what, sizeof(t->what), fmt, ap);
        va_end(ap);
        t->n_cases++;
}

void test_fail(struct test *t, const char *fmt, ...)
{
        va_list ap;

        printf("FAIL %s (%s): ", t->op, t->what);
        va_start(ap, fmt);
        (void)vprintf(fmt, ap);
        va_end(ap);
        printf("\n");
        t->n_failures++;
}

/* ---- operands */

/* Of a run's values and their guards. */
static size_t guarded_bytes(const struct tensor *x, int run)
{
        return 2 * KERNELS_ALIGN + x->bytes[run];
}

/* x's memory, whose name and sizes are there. */
static struct tensor *tensor_add(struct test *t, struct tensor x)
{
        size_t most = 0;

        if (t->n_tensors == MAX_TENSORS)
                abort();
        x.guard = (unsigned char)(GUARD + t->n_tensors);
        for (int run = 0; run < N_RUNS; run++) {
                x.result[run] = malloc(guarded_bytes(&x, run));
                x.base[run] = t->k[run]->memory_new(t->device[run], guarded_bytes(&x, run));
                if (!x.result[run] || !x.base[run])
                        abort();
                x.at[run] = (char *)x.base[run] + KERNELS_ALIGN;
                most = MAX(most, guarded_bytes(&x, run));
        }
        x.host = malloc(most);
        if (!x.host)
                abort();
        memset(x.host, x.guard, most);
        t->tensors[t->n_tensors] = x;
        return &t->tensors[t->n_tensors++];
}

static struct tensor *tensor_new(struct test *t, const char *name, size_t n, size_t size, bool output, double limit)
{
        return tensor_add(t, (struct tensor){.name = name,
                                             .n = n,
                                             .size = size,
                                             .bytes = {n * size, n * size, n * size},
                                             .output = output,
                                             .limit = limit});
}

void test_upload(struct test *t, struct tensor *x)
{
        for (int run = 0; run < N_RUNS; run++)
                t->k[run]->copy_in(t->stream[run], x->base[run], x->host, guarded_bytes(x, run));
}

struct tensor *test_input(struct test *t, const char *name, size_t n, double scale, double shift)
{
        struct tensor *x = tensor_new(t, name, n, sizeof(float), false, 0);

        for (size_t i = 0; i < n; i++)
                tensor_values(x)[i] = (float)(scale * test_normal(t) + shift);
        test_upload(t, x);
        return x;
}

struct tensor *test_bytes(struct test *t, const char *name, size_t n)
{
        struct tensor *x = tensor_new(t, name, n, 1, false, 0);

        for (size_t i = 0; i < n; i++)
                x->host[KERNELS_ALIGN + i] = (char)(256 * test_uniform(t));
        /* the ends matter */
        x->host[KERNELS_ALIGN] = 0;
        x->host[KERNELS_ALIGN + n - 1] = (char)255;
        test_upload(t, x);
        return x;
}

struct tensor *test_output(struct test *t, const char *name, size_t n, double limit)
{
        struct tensor *x = tensor_new(t, name, n, sizeof(float), true, limit);

        for (size_t i = 0; i < n; i++)
                tensor_values(x)[i] = NAN;
        test_upload(t, x);
        return x;
}

struct tensor *test_output_bytes(struct test *t, const char *name, size_t n)
{
        struct tensor *x = tensor_new(t, name, n, 1, true, 0);

        test_upload(t, x);
        return x;
}

struct tensor *test_output_doubles(struct test *t, const char *name, size_t n, double limit)
{
        struct tensor *x = tensor_new(t, name, n, sizeof(double), true, limit);

        for (size_t i = 0; i < n; i++)
                ((double *)(void *)tensor_values(x))[i] = 1 + test_uniform(t);
        test_upload(t, x);
        return x;
}

struct tensor *test_inout(struct test *t, const char *name, size_t n, double limit)
{
        struct tensor *x = test_input(t, name, n, 1, 0);

        x->output = true;
        x->limit = limit;
        return x;
}

struct tensor *test_sum(struct test *t, const char *name, size_t n, double limit, bool accumulate)
{
        return accumulate ? test_inout(t, name, n, limit) : test_output(t, name, n, limit);
}

static struct tensor *state_new(struct test *t, bool output)
{
        struct tensor *x = tensor_new(t, "state", 1, sizeof(struct step_state), output, output ? -1 : 0);

        *tensor_state(x) = (struct step_state){
                .seed = (uint32_t)(test_uniform(t) * 4294967296.0),
                .step = (int64_t)(test_uniform(t) * 0x1p47),
                .learning_rate = 2e-3f,
                .m_correction = 1.7f,
                .v_correction = 3.1f,
                .clip = 0.8f,
        };
        test_upload(t, x);
        return x;
}

struct tensor *test_state(struct test *t)
{
        return state_new(t, false);
}

struct tensor *test_state_inout(struct test *t)
{
        return state_new(t, true);
}

struct tensor *test_rows(struct test *t, int64_t m)
{
        struct tensor *x = tensor_new(t, "rows", (size_t)m, sizeof(struct row), false, 0);

        for (int64_t i = 0; i < m; i++)
                tensor_rows(x)[i] = (struct row){
                        .index = (int64_t)(test_uniform(t) * 0x1p31),
                        .image = (uint64_t)(test_uniform(t) * 0x1p40),
                        .block = (uint32_t)(test_uniform(t) * 0x1p16),
                        .time_block = (uint32_t)(test_uniform(t) * 0x1p16),
                        .time_image = (uint64_t)(test_uniform(t) * 0x1p40),
                        .time_place = i,
                };
        test_upload(t, x);
        return x;
}

struct tensor *test_output_rows(struct test *t, int64_t m)
{
        struct tensor *x = tensor_new(t, "rows", (size_t)m, sizeof(struct row), true, -1);

        test_upload(t, x);
        return x;
}

/* Workspaces hold NaN at first: an operation may not count on what is there. Each run's has the bytes that its table
 * asked for. */
struct tensor *test_workspace(struct test *t, size_t bytes_reference, size_t bytes_tested)
{
        struct tensor *x = tensor_add(t, (struct tensor){.name = "workspace",
                                                         .n = MAX(bytes_reference, bytes_tested),
                                                         .size = 1,
                                                         .bytes = {bytes_reference, bytes_tested, bytes_tested},
                                                         .output = true,
                                                         .limit = -1});

        for (int run = 0; run < N_RUNS; run++) {
                memset(x->host + KERNELS_ALIGN, 0xFF, x->bytes[run]);
                memset(x->host + KERNELS_ALIGN + x->bytes[run], x->guard, KERNELS_ALIGN);
                t->k[run]->copy_in(t->stream[run], x->base[run], x->host, guarded_bytes(x, run));
                (void)t->k[run]->stream_sync(t->stream[run], NULL);
        }
        return x;
}

/* What the reference left becomes everyone's input. */
void test_share(struct test *t, struct tensor *x)
{
        t->k[REFERENCE]->copy_out(t->stream[REFERENCE], x->host, x->base[REFERENCE], guarded_bytes(x, REFERENCE));
        test_upload(t, x);
}

/* ---- comparing */

static bool same_guards(const struct tensor *x, int run)
{
        const unsigned char *p = (const unsigned char *)x->result[run];

        for (size_t i = 0; i < KERNELS_ALIGN; i++)
                if (p[i] != x->guard || p[KERNELS_ALIGN + x->bytes[run] + i] != x->guard)
                        return false;
        return true;
}

static double value_at(const struct tensor *x, int run, size_t i)
{
        const char *p = x->result[run] + KERNELS_ALIGN;

        if (x->size == 1)
                return ((const unsigned char *)p)[i];
        return x->size == sizeof(double) ? ((const double *)(const void *)p)[i] : ((const float *)(const void *)p)[i];
}

static void compare_values(struct test *t, const struct tensor *x)
{
        double rms = 0, worst = 0;
        size_t at = 0;

        for (size_t i = 0; i < x->n; i++)
                rms += pow(value_at(x, REFERENCE, i), 2);
        rms = fmax(sqrt(rms / (double)x->n), x->scale);
        for (size_t i = 0; i < x->n; i++) {
                double want = value_at(x, REFERENCE, i), got = value_at(x, TESTED, i);
                double error = want == got ? 0 : fabs(want - got) / (EPS * (fabs(want) + rms));

                if (isnan(error) || error > worst) { /* a NaN wins */
                        worst = isnan(error) ? HUGE_VAL : error;
                        at = i;
                }
        }
        if (worst > x->limit)
                test_fail(t, "%s[%zu] is %.9g, the reference has %.9g: %.3g units, at most %.3g", x->name, at,
                          value_at(x, TESTED, at), value_at(x, REFERENCE, at), worst, x->limit);
        t->worst = worst > t->worst ? worst : t->worst;
}

void test_compare(struct test *t)
{
        static const char *const names[N_RUNS] = {"the reference", "the back end", "the second run"};
        struct error err = {0};

        for (int run = 0; run < N_RUNS; run++) {
                for (int i = 0; i < t->n_tensors; i++) {
                        struct tensor *x = &t->tensors[i];

                        t->k[run]->copy_out(t->stream[run], x->result[run], x->base[run], guarded_bytes(x, run));
                }
                if (t->k[run]->stream_sync(t->stream[run], &err) < 0)
                        test_fail(t, "%s fails: %s %s", names[run], err.path, err.text);
                for (int i = 0; i < t->n_tensors; i++) {
                        struct tensor *x = &t->tensors[i];

                        if (!same_guards(x, run))
                                test_fail(t, "%s writes outside of %s", names[run], x->name);
                        if (!x->output &&
                            memcmp(x->host + KERNELS_ALIGN, x->result[run] + KERNELS_ALIGN, x->bytes[run]) != 0)
                                test_fail(t, "%s changes its input %s", names[run], x->name);
                }
        }
        for (int i = 0; i < t->n_tensors; i++) {
                struct tensor *x = &t->tensors[i];

                if (!x->output || x->limit < 0)
                        continue;
                compare_values(t, x);
                if (memcmp(x->result[TESTED], x->result[AGAIN], guarded_bytes(x, TESTED)) != 0)
                        test_fail(t, "%s differs between two runs", x->name);
        }
}

void test_expect_value(struct test *t, const char *what, double got, double want, double scale, double limit)
{
        double error = got == want ? 0 : fabs(got - want) / (EPS * (fabs(want) + scale));

        if (!(error <= limit))
                test_fail(t, "%s is %.9g, should be %.9g: %.3g units, at most %.3g", what, got, want, error, limit);
        t->worst = error > t->worst ? error : t->worst;
}

void test_expect(struct test *t, const struct tensor *x, const double *want, double limit)
{
        static const char *const names[] = {"the reference's", "the back end's"};
        double rms = 0;
        char what[64];

        for (size_t i = 0; i < x->n; i++)
                rms += want[i] * want[i];
        rms = fmax(sqrt(rms / (double)x->n), x->scale);
        for (int run = REFERENCE; run <= TESTED; run++)
                for (size_t i = 0; i < x->n; i++) {
                        (void)snprintf(what, sizeof(what), "%s %s[%zu]", names[run], x->name, i);
                        test_expect_value(t, what, value_at(x, run, i), want[i], rms, limit);
                }
}

void test_end(struct test *t)
{
        for (int run = 0; run < N_RUNS; run++) /* an upload may still read what is about to be freed */
                (void)t->k[run]->stream_sync(t->stream[run], NULL);
        for (int i = 0; i < t->n_tensors; i++) {
                struct tensor *x = &t->tensors[i];

                free(x->host);
                for (int run = 0; run < N_RUNS; run++) {
                        free(x->result[run]);
                        t->k[run]->memory_free(t->device[run], x->base[run]);
                }
        }
        t->n_tensors = 0;
}

/* ---- finite differences */

double test_dot(struct test *t, struct tensor *y, struct tensor *dy)
{
        double sum = 0;

        t->k[REFERENCE]->copy_out(t->stream[REFERENCE], y->result[REFERENCE], y->base[REFERENCE],
                                  guarded_bytes(y, REFERENCE));
        for (size_t i = 0; i < y->n; i++)
                sum += value_at(y, REFERENCE, i) * (dy ? tensor_values(dy)[i] : 1);
        return sum;
}

static double loss_at(struct test *t, struct tensor *x, const float *values, const double *direction, double step,
                      loss_fn loss, void *context, double *ret_moved)
{
        *ret_moved = 0;
        for (size_t i = 0; i < x->n; i++)
                tensor_values(x)[i] = (float)(values[i] + step * direction[i]);
        test_upload(t, x);
        return loss(t, context);
}

/* The direction is half random, half the gradient's own, so that the slope along it is never near zero by chance.
 * Fourth order: (8 (f(h) - f(-h)) - (f(2 h) - f(-2 h))) / 12 h. */
void test_slope(struct test *t, struct tensor *x, struct tensor *grad, double step, loss_fn loss, void *context)
{
        float *values = malloc(x->n * sizeof(float));
        double *direction = malloc(x->n * sizeof(double)), rms = 0, want = 0, f[4], got, moved, error;
        static const double at[4] = {1, -1, 2, -2};

        for (size_t i = 0; i < x->n; i++)
                rms += pow(value_at(grad, TESTED, i), 2);
        rms = sqrt(rms / (double)x->n);
        for (size_t i = 0; i < x->n; i++) {
                values[i] = tensor_values(x)[i];
                direction[i] = test_normal(t) + (rms > 0 ? value_at(grad, TESTED, i) / rms : 0);
                want += direction[i] * value_at(grad, TESTED, i);
        }
        for (int i = 0; i < 4; i++)
                f[i] = loss_at(t, x, values, direction, step * at[i], loss, context, &moved);
        (void)loss_at(t, x, values, direction, 0, loss, context, &moved);
        got = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * step);
        error = fabs(got - want) / (fabs(want) + 1e-12);
        if (!(error <= 1e-2))
                test_fail(t, "gradient %s: slope %.6g, by differences %.6g", grad->name, want, got);
        t->worst_slope = error > t->worst_slope ? error : t->worst_slope;
        free(values);
        free(direction);
}

/* ---- main */

struct check {
        const char *op;
        void (*fn)(struct test *t);
};

static const struct check checks[] = {
#define KERNEL(op) {#op, check_##op},
#include "kernels/kernels.def"
#undef KERNEL
};

/* NULL where the processor cannot run it. */
static const struct kernels *table_of(const char *name)
{
        const struct kernels *k = NULL;
        struct error err;
        int r;

        if (name[0] == 'v')
                return cpu_table_of(name);
        r = kernels_find(name, &k, &err);
        if (r < 0) {
                printf("%s: %s%s\n", name, err.text, r == -ENODEV ? ": skipped" : "");
                exit(r == -ENODEV ? SKIPPED : EXIT_FAILURE);
        }
        return k;
}

static int test_main(const struct kernels *k, const char *only)
{
        struct device_settings settings = {.threads = 2};
        struct test t = {0};
        struct error err = {0};
        int n_bad = 0, n = 0;

        for (int run = 0; run < N_RUNS; run++) {
                t.k[run] = k;
                if (run == REFERENCE && kernels_find("reference", &t.k[run], &err) < 0)
                        return EXIT_FAILURE;
                if (t.k[run]->device_open(&settings, &t.device[run], &err) < 0 ||
                    t.k[run]->stream_new(t.device[run], &t.stream[run], &err) < 0) {
                        printf("%s: %s\n", err.path, err.text);
                        return EXIT_FAILURE;
                }
        }
        for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
                int failures = t.n_failures, cases = t.n_cases;

                if (only && strcmp(only, checks[i].op) != 0)
                        continue;
                t.op = checks[i].op;
                t.worst = t.worst_slope = 0;
                t.random = i + 1;
                checks[i].fn(&t);
                test_end(&t);
                n++;
                n_bad += t.n_failures > failures;
                printf("%-4s %-26s %3d cases, worst error %8.3g units, worst slope %.2g\n",
                       t.n_failures > failures ? "FAIL" : "ok", t.op, t.n_cases - cases, t.worst, t.worst_slope);
                if (t.n_cases == cases) {
                        printf("FAIL %s has no case\n", t.op);
                        n_bad++;
                }
        }
        for (int run = 0; run < N_RUNS; run++) {
                (void)t.k[run]->stream_free(t.stream[run]);
                (void)t.k[run]->device_close(t.device[run]);
        }
        printf("%d operations, %d cases, %d operations failed\n", n, t.n_cases, n_bad);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        const char *mode = argc > 1 ? argv[1] : "test";
        const struct kernels *k = table_of(argc > 2 ? argv[2] : "cpu");

        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        if (!k) {
                printf("this processor cannot run %s: skipped\n", argv[2]);
                return SKIPPED;
        }
        if (strcmp(mode, "perf") == 0)
                return perf_main(k, argc - 3, argv + 3);
        if (strcmp(mode, "philox") == 0)
                return philox_main();
        if (strcmp(mode, "table") == 0)
                return table_main(k);
        if (strcmp(mode, "bf16") == 0)
                return bf16_main(k);
        if (strcmp(mode, "plans") == 0)
                return plans_main(k);
        if (strcmp(mode, "cost") == 0)
                return cost_main(k);
        if (strcmp(mode, "stream") == 0)
                return stream_main(k, argc > 2 ? argv[2] : "cpu");
        if (strcmp(mode, "limited") == 0)
                return limited_main(k);
        if (strcmp(mode, "test") == 0)
                return test_main(k, argc > 3 ? argv[3] : NULL);
        printf("usage: check test|bf16|plans|table|stream|cost|perf|philox [TABLE [OPERATION]]\n");
        return EXIT_FAILURE;
}
