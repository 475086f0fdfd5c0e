/* The exact likelihood: against a model whose likelihood is known in closed form, with the same solver, slots and
 * dequantisation; and what it promises of batches, resumptions and faults, on networks. */
#include "engine/exact.h"
#include "kernels/host.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct dataset *dataset;

/* ---- data that are Gaussian, of a variance for each value, and the score that is optimal for them: at time t values
 * have the variance a v + s (a = alpha^2, s = sigma^2), eps_hat = sigma x / (a v + s), and the flow scales each value
 * by the root of how its variance grows. */

static double variance_at(int64_t i)
{
        return 0.05 + 0.4 * (double)(i % 7);
}

static double variance_of(double gamma, double v)
{
        return v / (1 + exp(gamma)) + 1 / (1 + exp(-gamma));
}

static int gaussian_drift(const struct drift_args *a)
{
        for (int64_t i = 0; i < a->m * a->d; i++) {
                double gamma = a->gamma[a->g == 1 ? i / a->d : i],
                       gamma_prime = a->gamma_prime[a->g == 1 ? i / a->d : i];
                double s = 1 / (1 + exp(-gamma)), x = (double)a->x[i] + a->x_low[i];
                /* 0.5 sigma gamma' (eps_hat - sigma x) */
                double k = 0.5 * s * gamma_prime * (1 / variance_of(gamma, variance_at(i % a->d)) - 1);

                a->k[i] = (float)(k * x);
                a->d_net[i] = 0;
                a->d_x[i] = (float)(k * a->probe[i]);
        }
        return 0;
}

static int nothing(const void *args)
{
        (void)args;
        return 0;
}

#define NONE(op)                                                                                                       \
        static void no_##op(struct stream *s, const struct op##_args *args)                                            \
        {                                                                                                              \
                host_run(s, #op, nothing, args, sizeof *args);                                                         \
        }
HOST_RUN(drift, gaussian_drift)
NONE(conv_forward)
NONE(conv_backward_data)
NONE(norm_forward)
NONE(norm_backward)
NONE(attention_forward)
NONE(attention_backward)
NONE(fourier_backward)

/* The table without a network. */
static struct kernels gaussian_kernels(const struct kernels *k)
{
        struct kernels table = *k;

        table.drift = run_drift;
        table.conv_forward = no_conv_forward;
        table.conv_backward_data = no_conv_backward_data;
        table.norm_forward = no_norm_forward;
        table.norm_backward = no_norm_backward;
        table.attention_forward = no_attention_forward;
        table.attention_backward = no_attention_backward;
        table.fourier_backward = no_fourier_backward;
        return table;
}

struct run {
        struct config config;
        struct kernels kernels;
        struct runtime *rt;
        struct exact *exact;
};

static struct config tiny(enum vdm_type type)
{
        struct config c;

        config_defaults(&c);
        c.vdm_type = type;
        c.gamma_type = type == VDM_VDM ? GAMMA_FIXED : GAMMA_LINEAR;
        c.sm_n_embd = 32;
        c.sm_n_layer = c.forward_n_layer = 1;
        c.with_fourier_features = false;
        c.threads = 2;
        return c;
}

static void run_open(struct run *x, const struct config *c, int64_t m, bool gaussian)
{
        struct runtime_need need = {0};
        struct error err;

        memset(x, 0, sizeof *x);
        x->config = *c;
        assert_int_equal(runtime_new(&x->config, false, NULL, &x->rt, &err), 0);
        if (gaussian) {
                x->kernels = gaussian_kernels(x->rt->k);
                x->rt->k = &x->kernels;
        }
        assert_int_equal(exact_new(x->rt, m, &x->exact, &need, &err), 0);
        assert_int_equal(runtime_allocate(x->rt, 1u << SECTION_PARAMS | 1u << SECTION_EMA, false, &need, &err), 0);
        assert_int_equal(exact_bind(x->exact, &err), 0);
        assert_int_equal(runtime_initialise(x->rt, 3, &err), 0);
}

static void run_close(struct run *x)
{
        x->exact = exact_free(x->exact);
        x->rt = runtime_free(x->rt);
}

static struct exact_evaluation evaluation(int64_t n_images, int64_t n_samples, double tolerance)
{
        return (struct exact_evaluation){.split = SPLIT_TEST,
                                         .n_images = n_images,
                                         .n_samples = n_samples,
                                         .seed = 5,
                                         .solve = {.rtol = tolerance, .atol = tolerance}};
}

static void evaluate(struct run *x, const struct exact_evaluation *e, struct flow_result *results)
{
        struct error err;

        if (exact_run(x->exact, dataset, e, results, &(struct between){0}, &err) < 0)
                fail_msg("%d: %s", x->config.vdm_type, err.text);
}

/* The values that a trajectory starts from, by the same operation. */
static void dequantised(struct run *x, const struct exact_evaluation *e, int64_t place, double *ret, double *ret_log_q)
{
        const struct kernels *k = x->rt->k;
        size_t f = DIMENSIONS * sizeof(float);
        int64_t image = place / e->n_samples;
        struct row row = {.index = image, .image = (uint64_t)image, .block = (uint32_t)(place % e->n_samples)};
        struct step_state state = {.seed = e->seed};
        struct trajectory t = {.fresh = 1}, *trajectory = k->memory_new(x->rt->device, sizeof t);
        struct step_state *there = k->memory_new(x->rt->device, sizeof state);
        struct row *rows = k->memory_new(x->rt->device, sizeof row);
        float *in = k->memory_new(x->rt->device, f), *high = k->memory_new(x->rt->device, f),
              *low = k->memory_new(x->rt->device, f), out[2][DIMENSIONS];
        uint8_t bytes[IMAGE_BYTES];

        dataset_image(dataset, e->split, image, bytes);
        for (int64_t i = 0; i < DIMENSIONS; i++)
                out[0][i] = (2 * (float)bytes[i] + 1) / 256 - 1; /* spec 1 */
        k->copy_in(x->rt->stream, in, out[0], f);
        k->copy_in(x->rt->stream, rows, &row, sizeof row);
        k->copy_in(x->rt->stream, there, &state, sizeof state);
        k->copy_in(x->rt->stream, trajectory, &t, sizeof t);
        assert_int_equal(k->stream_sync(x->rt->stream, NULL), 0);
        k->dequantise(x->rt->stream, &(struct dequantise_args){1, DIMENSIONS, e->dequantisation, exp(-13.3 / 2), in,
                                                               there, rows, high, low, trajectory});
        k->copy_out(x->rt->stream, out[0], high, f);
        k->copy_out(x->rt->stream, out[1], low, f);
        k->copy_out(x->rt->stream, &t, trajectory, sizeof t);
        assert_int_equal(k->stream_sync(x->rt->stream, NULL), 0);
        for (int64_t i = 0; i < DIMENSIONS; i++)
                ret[i] = (double)out[0][i] + out[1][i];
        *ret_log_q = t.log_q;
        k->memory_free(x->rt->device, trajectory);
        k->memory_free(x->rt->device, there);
        k->memory_free(x->rt->device, rows);
        k->memory_free(x->rt->device, in);
        k->memory_free(x->rt->device, high);
        k->memory_free(x->rt->device, low);
}

static double log_p_of(const struct run *x, const double *values)
{
        double sum = 0;

        for (int64_t i = 0; i < DIMENSIONS; i++) {
                double v = variance_at(i),
                       grows = variance_of(x->config.gamma_max, v) / variance_of(x->config.gamma_min, v);

                sum += 0.5 * (log(grows) - log(2 * M_PI) - values[i] * values[i] * grows);
        }
        return sum;
}

/* Every trajectory to 1e-3 nats, whichever slot it had; the samples' mean; one sample above many, as theory has it. */
static void gaussian_data_are_known(void **state)
{
        enum { IMAGES = 2, K = 20 };
        static double values[DIMENSIONS];
        struct config c = tiny(VDM_VDM);
        (void)state;

        for (int i = 0; i < 4; i++) {
                struct exact_evaluation e = evaluation(IMAGES, K, 1e-7);
                struct flow_result results[IMAGES * K] = {0};
                double one = 0, many = 0;
                struct run x;

                e.dequantisation = i % 2 ? DEQUANTISE_UNIFORM : DEQUANTISE_TRUNCATED;
                e.solve.shared = i / 2;
                run_open(&x, &c, 7, true);
                evaluate(&x, &e, results);
                for (int64_t image = 0; image < IMAGES; image++) {
                        double weight[K], max = -HUGE_VAL, sum = 0, want;

                        for (int64_t k = 0; k < K; k++) {
                                const struct flow_result *r = &results[image * K + k];
                                double log_q, log_p;

                                dequantised(&x, &e, image * K + k, values, &log_q);
                                log_p = log_p_of(&x, values);
                                if (!(fabs(r->log_p - log_p) < 1e-3) || fabs(r->log_q - log_q) > 1e-6)
                                        fail_msg("image %d, sample %d: log p %.6f, should be %.6f", (int)image, (int)k,
                                                 r->log_p, log_p);
                                assert_true(r->n_evaluations > 20 && !r->failed && r->kl == 0);
                                weight[k] = log_p;
                                if (e.dequantisation == DEQUANTISE_TRUNCATED)
                                        weight[k] -= log_q - DIMENSIONS * (0.5 * log(2 * M_PI) + log(erf(3 / sqrt(2))));
                                max = fmax(max, weight[k]);
                        }
                        for (int64_t k = 0; k < K; k++)
                                sum += exp(weight[k] - max);
                        want = -(max + log(sum / K)) / (DIMENSIONS * log(2));
                        if (e.dequantisation == DEQUANTISE_UNIFORM)
                                want += 7; /* a pixel is 2 / 256 wide */
                        else
                                want -= 0.5 * (-13.3 - log1p(exp(-13.3))) / log(2);
                        assert_true(fabs(exact_bpd(results + image * K, K, e.dequantisation).exact - want) < 1e-6);
                        many += want / IMAGES;
                        for (int64_t k = 0; k < K; k++)
                                one += exact_bpd(results + image * K + k, 1, e.dequantisation).exact / IMAGES / K;
                }
                if (!(one > many && one < many + 0.05))
                        fail_msg("a sample has %.5f, %d together %.5f", one, K, many);
                run_close(&x);
        }
}

/* Trajectories, their neighbours and the size of the batch: on networks, of each kind. */
static void an_image_does_not_know_its_batch(void **state)
{
        enum { IMAGES = 5 };
        static const enum vdm_type types[] = {VDM_VDM, VDM_MULAN_VELOCITY, VDM_MULAN_EPSILON};
        (void)state;

        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
                struct config c = tiny(types[i]);
                struct exact_evaluation e = evaluation(IMAGES, 1, 1e-3);
                struct flow_result of_two[IMAGES] = {0}, of_five[IMAGES] = {0}, rest[IMAGES] = {0};
                struct run x;

                e.solve.probe_each = i == 1;
                e.solve.probe = i == 2 ? PROBE_GAUSSIAN : PROBE_RADEMACHER;
                run_open(&x, &c, 2, false);
                evaluate(&x, &e, of_two);
                run_close(&x);
                run_open(&x, &c, 5, false);
                evaluate(&x, &e, of_five);
                rest[1] = of_five[1];
                rest[3] = of_five[3];
                rest[3].log_p = -1; /* what is there is not computed again */
                evaluate(&x, &e, rest);
                run_close(&x);
                for (int j = 0; j < IMAGES; j++) {
                        double two = exact_bpd(&of_two[j], 1, e.dequantisation).exact,
                               five = exact_bpd(&of_five[j], 1, e.dequantisation).exact;

                        if (!(fabs(two - five) < 1e-5))
                                fail_msg("type %d, image %d: %.7f and %.7f", (int)i, j, two, five);
                        assert_true(of_two[j].n_evaluations > 6 && of_two[j].n_evaluations == of_five[j].n_evaluations);
                        assert_true(rest[j].log_p == (j == 3 ? -1 : rest[j].log_p));
                        if (j != 3)
                                assert_true(fabs(rest[j].log_p - of_five[j].log_p) < 1e-2);
                        assert_true(types[i] != VDM_VDM || of_two[j].kl == 0);
                }
        }
}

/* Weights that are not finite: the first image is named, nothing is computed for ever. */
static void a_flow_that_cannot_be_integrated_is_said(void **state)
{
        struct config c = tiny(VDM_VDM);
        struct exact_evaluation e = evaluation(3, 1, 1e-3);
        struct flow_result results[3] = {0};
        float nan = NAN;
        struct error err;
        struct run x;
        (void)state;

        run_open(&x, &c, 2, false);
        for (int64_t i = 0; i < x.rt->layout->n_parameters; i++)
                x.rt->k->copy_in(x.rt->stream, x.rt->section[SECTION_EMA] + i, &nan, sizeof nan);
        assert_int_equal(x.rt->k->stream_sync(x.rt->stream, &err), 0);
        assert_int_equal(exact_run(x.exact, dataset, &e, results, &(struct between){0}, &err), -EDOM);
        assert_non_null(strstr(err.text, "image 0"));
        run_close(&x);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(gaussian_data_are_known),
                                           cmocka_unit_test(an_image_does_not_know_its_batch),
                                           cmocka_unit_test(a_flow_that_cannot_be_integrated_is_said)};
        struct error err;
        int r;

        if (dataset_open(PHOTOGRAPHS, &dataset, &err) < 0)
                return 1;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        dataset = dataset_free(dataset);
        return r;
}
