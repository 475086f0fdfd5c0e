/* Every operation of kernels.def, a back end against the reference: random inputs (odd sizes too), each pointer's
 * surroundings and inputs unchanged, results within so many units of float32's rounding, the same bits from a second
 * device, and each backward against finite differences of the reference's forward. */
#pragma once

#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { REFERENCE, TESTED, AGAIN, N_RUNS };
#define MAX_TENSORS 40

/* Of operations that take n values: less than a vector, more than a block, an odd rest. */
extern const int64_t lengths[5];

/* One operand: the same values for each run, in each back end's memory, with guards before and behind. */
struct tensor {
        const char *name;
        size_t n, size;
        bool output;
        double limit;         /* of the error, in units of 2^-24 (|value| + root mean square); -1: not compared */
        double scale;         /* what the root mean square is at least: of sums whose terms cancel */
        unsigned char guard;  /* a byte of its own, so that one's guard in the place of another's is seen */
        size_t bytes[N_RUNS]; /* of the values, by run; n * size but for workspaces */
        char *host;           /* guard, values, guard: what was put in */
        char *result[N_RUNS]; /* what came out, the same shape */
        void *base[N_RUNS];
        void *at[N_RUNS]; /* the values, in the back end's memory */
};

struct test {
        const struct kernels *k[N_RUNS];
        struct device *device[N_RUNS];
        struct stream *stream[N_RUNS];
        struct tensor tensors[MAX_TENSORS];
        int n_tensors;
        uint64_t random;
        const char *op;
        char what[160]; /* the case, for messages */
        int n_cases, n_failures;
        double worst; /* largest error of the operation so far, in units */
        double worst_slope;
};

void test_fail(struct test *t, const char *fmt, ...) _printf_(2, 3);
void test_case(struct test *t, const char *fmt, ...) _printf_(2, 3);

double test_uniform(struct test *t); /* [0, 1) */
double test_normal(struct test *t);

/* Operands of the current case. Inputs are normal times scale plus shift. Outputs hold NaN before the run. */
struct tensor *test_input(struct test *t, const char *name, size_t n, double scale, double shift);
struct tensor *test_bytes(struct test *t, const char *name, size_t n);
struct tensor *test_output(struct test *t, const char *name, size_t n, double limit);
struct tensor *test_output_bytes(struct test *t, const char *name, size_t n);
struct tensor *test_output_doubles(struct test *t, const char *name, size_t n, double limit);
/* in and out: holds normal values before the run */
struct tensor *test_inout(struct test *t, const char *name, size_t n, double limit);
struct tensor *test_sum(struct test *t, const char *name, size_t n, double limit, bool accumulate);
struct tensor *test_state(struct test *t);           /* struct step_state that has not failed, an input */
struct tensor *test_state_inout(struct test *t);     /* the same, compared by the test itself (limit -1) */
struct tensor *test_rows(struct test *t, int64_t m); /* random struct row; index below 2^31, time_place its place */
struct tensor *test_output_rows(struct test *t, int64_t m);
struct tensor *test_workspace(struct test *t, size_t bytes_reference, size_t bytes_tested);

static inline float *tensor_values(struct tensor *x)
{
        return (float *)(x->host + KERNELS_ALIGN);
}

static inline struct step_state *tensor_state(struct tensor *x)
{
        return (struct step_state *)(void *)(x->host + KERNELS_ALIGN);
}

static inline struct row *tensor_rows(struct tensor *x)
{
        return (struct row *)(void *)(x->host + KERNELS_ALIGN);
}

/* What a run left, once test_compare has fetched it. */
static inline const void *tensor_result(const struct tensor *x, int run)
{
        return x->result[run] + KERNELS_ALIGN;
}

/* The values as changed by the test, to all runs' memory. */
void test_upload(struct test *t, struct tensor *x);
void test_share(struct test *t, struct tensor *x);

#define AT(x) ((x) ? (x)->at[run] : NULL)

/* Runs op in each back end; arguments in terms of AT(tensor) and `run`. */
#define RUN(t, name, ...)                                                                                              \
        do {                                                                                                           \
                for (int run = 0; run < N_RUNS; run++) {                                                               \
                        struct name##_args args_ = {__VA_ARGS__};                                                      \
                        (t)->k[run]->name((t)->stream[run], &args_);                                                   \
                }                                                                                                      \
        } while (0)

/* The reference alone, for finite differences. */
#define RUN_REFERENCE(t, name, ...)                                                                                    \
        do {                                                                                                           \
                enum { run = REFERENCE };                                                                              \
                struct name##_args args_ = {__VA_ARGS__};                                                              \
                (t)->k[run]->name((t)->stream[run], &args_);                                                           \
        } while (0)

/* Compares all outputs; then tensors may still be used by slopes, until test_end. */
void test_compare(struct test *t);
/* After that: what the reference and the tested back end left, against values that the test found another way. limit
 * as the tensor's. */
void test_expect(struct test *t, const struct tensor *x, const double *want, double limit);
/* One value so; both relative to `scale`. */
void test_expect_value(struct test *t, const char *what, double got, double want, double scale, double limit);
void test_end(struct test *t);

/* sum of y * dy after a reference run */
double test_dot(struct test *t, struct tensor *y, struct tensor *dy);

/* The gradient that the tested back end left in grad, against differences of loss in a random direction of x. step: of
 * each value, relative to 1. */
typedef double (*loss_fn)(struct test *t, void *context);
void test_slope(struct test *t, struct tensor *x, struct tensor *grad, double step, loss_fn loss, void *context);

#define KERNEL(op) void check_##op(struct test *t);
#include "kernels/kernels.def"
#undef KERNEL

/* Of a table whose operations run in this process's memory: "reference" and "cpu". */
static inline bool on_processor(const struct kernels *k)
{
        return strncmp(k->name, "cuda", 4) != 0;
}

int perf_main(const struct kernels *k, int argc, char **argv);
int philox_main(void);
int table_main(const struct kernels *tested);
int bf16_main(const struct kernels *k);
int plans_main(const struct kernels *k);
int cost_main(const struct kernels *k);
int stream_main(const struct kernels *tested, const char *name);
int limited_main(const struct kernels *k);
