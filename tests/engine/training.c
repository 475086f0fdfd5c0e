/* What a run promises: the same seed gives the same bits, also through a checkpoint in the middle of a log window; an
 * evaluation does not depend on the batch, a sample not on its neighbours; what fails says so. */
#include "engine/likelihood.h"
#include "engine/sampler.h"
#include "engine/trainer.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ALL_SECTIONS ((1u << SECTION_N) - 1)

static char folder[] = "/tmp/mulund-training.XXXXXX";
static struct dataset *dataset;

struct run {
        struct config config;
        struct runtime *rt;
        struct trainer *trainer;
        struct evaluator *evaluator;
        struct sampler *sampler;
};

static struct config tiny(enum vdm_type type)
{
        struct config c;

        config_defaults(&c);
        c.vdm_type = type;
        if (type == VDM_VDM)
                c.gamma_type = GAMMA_LEARNABLE_SCALAR;
        else
                c.gamma_type = GAMMA_LINEAR; /* without the 38 million parameters of the polynomials */
        c.sm_n_embd = 32;
        c.sm_n_layer = c.forward_n_layer = 1;
        c.sm_pdrop = 0.1;
        c.batch_size_train = 3;
        c.num_steps_lr_warmup = 2;
        c.learning_rate = 1e-3;
        c.ema_rate = 0.9;
        c.gradient_clip_norm = 1;
        c.threads = 2;
        return c;
}

static void run_open(struct run *x, const struct config *c, int64_t eval_batch)
{
        struct runtime_need need = {0};
        struct error err;

        memset(x, 0, sizeof *x);
        x->config = *c;
        assert_int_equal(runtime_new(&x->config, false, NULL, &x->rt, &err), 0);
        assert_int_equal(evaluator_new(x->rt, eval_batch, &x->evaluator, &need, &err), 0);
        assert_int_equal(sampler_new(x->rt, eval_batch, &x->sampler, &need, &err), 0);
        assert_int_equal(trainer_new(x->rt, ALL_SECTIONS, &x->trainer, &need, &err), 0);
        assert_int_equal(runtime_allocate(x->rt, ALL_SECTIONS, true, &need, &err), 0);
        assert_int_equal(trainer_bind(x->trainer, dataset, &err), 0);
        assert_int_equal(evaluator_bind(x->evaluator, &err), 0);
        assert_int_equal(sampler_bind(x->sampler, &err), 0);
        assert_int_equal(runtime_initialise(x->rt, (uint32_t)c->seed, &err), 0);
}

static void run_close(struct run *x)
{
        x->trainer = trainer_free(x->trainer);
        x->evaluator = evaluator_free(x->evaluator);
        x->sampler = sampler_free(x->sampler);
        x->rt = runtime_free(x->rt);
}

/* In windows of at most `most` steps. */
static void windows(struct run *x, int64_t n, int64_t most)
{
        struct error err;
        int64_t done;

        for (; n > 0; n -= done) {
                assert_int_equal(trainer_window(x->trainer, MIN(n, most), &done, &err), 0);
                assert_in_range(done, 1, MIN(n, most));
        }
}

static void steps(struct run *x, int64_t n)
{
        windows(x, n, n);
}

static void save(struct run *x, const char *name, char digest[DIGEST_SIZE])
{
        _cleanup_json_ json_t *state = trainer_state(x->trainer);
        char *text = json_to_text(state), path[128];
        struct error err;

        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        assert_int_equal(runtime_save(x->rt, path, trainer_step_number(x->trainer), text, digest, NULL, &err), 0);
        free(text);
}

static void load(struct run *x, const char *name, const char *digest)
{
        _cleanup_json_ json_t *json = NULL;
        char *state = NULL, path[128];
        int64_t step;
        struct error err;

        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        assert_int_equal(runtime_load(x->rt, path, digest, &step, &state, &err), 0);
        assert_int_equal(json_parse(state, strlen(state), &json, &err), 0);
        assert_int_equal(trainer_restore(x->trainer, step, json, &err), 0);
        free(state);
}

static void resume_is_bit_identical(void **state)
{
        static const enum vdm_type types[] = {VDM_VDM, VDM_MULAN_VELOCITY};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
                struct config c = tiny(types[i]);
                char whole[DIGEST_SIZE], half[DIGEST_SIZE], resumed[DIGEST_SIZE];
                struct training_scalars a, b;
                struct run x;

                run_open(&x, &c, 2);
                steps(&x, 7);
                save(&x, "whole", whole);
                a = trainer_take_window(x.trainer);
                run_close(&x);

                run_open(&x, &c, 2);
                steps(&x, 3);
                save(&x, "half", half);
                run_close(&x);

                c.seed = 99; /* the weights come from the file, the order and noise from the seed: put back below */
                run_open(&x, &c, 2);
                x.config.seed = 1;
                load(&x, "half", half);
                assert_int_equal(trainer_step_number(x.trainer), 3);
                steps(&x, 4);
                save(&x, "resumed", resumed);
                b = trainer_take_window(x.trainer);
                run_close(&x);

                assert_string_equal(whole, resumed);
                assert_memory_equal(&a, &b, sizeof a);
                assert_true(isfinite(a.bpd) && a.bpd > 0 && fabs(a.bpd - a.recon - a.latent - a.diff) < 1e-9);
        }
}

static void another_seed_is_another_run(void **state)
{
        struct config c = tiny(VDM_VDM);
        char digests[2][DIGEST_SIZE];
        struct run x;

        (void)state;
        for (int i = 0; i < 2; i++) {
                c.seed = 5 + i;
                run_open(&x, &c, 2);
                steps(&x, 1);
                save(&x, "seed", digests[i]);
                run_close(&x);
        }
        assert_string_not_equal(digests[0], digests[1]);
}

/* The polynomials' gradients reach the optimizer as factors: their weights, biases and moments move, and the padding
 * and everything else of the step is as with written ones (gradient.c compares the values). */
static void the_schedule_learns(void **state)
{
        struct config c = tiny(VDM_MULAN_VELOCITY);
        static const char *const names[] = {"gamma/dense_1/kernel",         "gamma/dense_2/kernel",
                                            "gamma/dense_out_a/kernel",     "gamma/dense_out_c/bias",
                                            "encoder_model/conv_in/kernel", "score_model/conv_out/bias"};
        float before[ARRAY_LEN(names)];
        struct run x;

        (void)state;
        c.gamma_type = GAMMA_POLY_FIXEDEND;
        c.batch_size_train = 2;
        c.num_steps_lr_warmup = 0;
        run_open(&x, &c, 2);
        steps(&x, 1); /* what starts at zero gives no gradient to what stands before it */
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                before[i] = x.rt->section[SECTION_PARAMS][params_find(x.rt->layout, names[i])->offset + 1];
        steps(&x, 2);
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                int64_t at = params_find(x.rt->layout, names[i])->offset + 1;
                float now = x.rt->section[SECTION_PARAMS][at];

                assert_true(isfinite(now) && now != before[i] && fabsf(now - before[i]) < 0.01f);
                assert_true(x.rt->section[SECTION_V][at] > 0);
        }
        run_close(&x);
}

static void training_lowers_the_bound(void **state)
{
        struct config c = tiny(VDM_VDM);
        struct training_scalars first, last;
        struct run x;

        (void)state;
        c.gradient_clip_norm = NAN;
        c.sm_pdrop = 0;
        c.batch_size_train = 8;
        run_open(&x, &c, 2);
        steps(&x, 10);
        first = trainer_take_window(x.trainer);
        steps(&x, 60);
        (void)trainer_take_window(x.trainer);
        steps(&x, 30);
        last = trainer_take_window(x.trainer);
        run_close(&x);
        assert_true(last.bpd < 0.9 * first.bpd);
}

static struct evaluation_result evaluate_after(int64_t n_steps, const struct config *c, int64_t batch,
                                               const struct evaluation *e)
{
        struct evaluation_result r;
        struct error err;
        struct run x;

        run_open(&x, c, batch);
        steps(&x, n_steps);
        assert_int_equal(evaluator_run(x.evaluator, dataset, e, &(struct between){0}, &r, &err), 0);
        run_close(&x);
        return r;
}

static struct evaluation_result evaluate(const struct config *c, int64_t batch, const struct evaluation *e)
{
        return evaluate_after(2, c, batch, e);
}

/* Of the same weights: training in bf16 leaves an evaluation exact; one in bf16 is near it. And bf16 trains. */
static void training_and_evaluation_have_a_precision_each(void **state)
{
        const struct evaluation e = {.split = SPLIT_TEST, .weights = WEIGHTS_PARAMS, .n_images = 4, .seed = 4};
        struct config c = tiny(VDM_MULAN_VELOCITY);
        struct evaluation_result exact, trained, rounded, learned;

        (void)state;
        c.sm_pdrop = 0;
        exact = evaluate_after(0, &c, 4, &e);
        c.precision = PRECISION_BF16;
        trained = evaluate_after(0, &c, 4, &e);
        assert_memory_equal(exact.images, trained.images, sizeof *exact.images * 4);
        learned = evaluate_after(12, &c, 4, &e);
        assert_true(learned.mean.bpd < 0.97 * exact.mean.bpd);
        c.evaluation_precision = PRECISION_BF16;
        rounded = evaluate_after(12, &c, 4, &e);
        assert_true(rounded.mean.bpd != learned.mean.bpd);
        assert_true(fabs(rounded.mean.bpd - learned.mean.bpd) < 0.01 * learned.mean.bpd);
        free(exact.images);
        free(trained.images);
        free(rounded.images);
        free(learned.images);
}

static void an_evaluation_does_not_depend_on_the_batch(void **state)
{
        struct evaluation e = {.split = SPLIT_TEST, .weights = WEIGHTS_EMA, .n_images = 7, .n_timesteps = 3, .seed = 4};
        struct config c = tiny(VDM_MULAN_VELOCITY);

        (void)state;
        for (int method = LIKELIHOOD_SPARSE; method <= LIKELIHOOD_DENSE; method++) {
                struct evaluation_result a, b;

                e.method = (enum likelihood)method;
                a = evaluate(&c, 2, &e);
                b = evaluate(&c, 5, &e);
                for (int64_t i = 0; i < e.n_images; i++) {
                        assert_true(fabs(a.images[i].bpd - b.images[i].bpd) < 1e-4 * a.images[i].bpd);
                        assert_true(a.images[i].bpd > 0 && a.images[i].latent > 0);
                }
                assert_true(a.standard_error > 0);
                free(a.images);
                free(b.images);
        }
}

static int stop_at_once(void *user, int64_t done, int64_t all, struct error *err)
{
        int *calls = user;

        (void)done;
        (void)all;
        ++*calls;
        return error_set(err, -ECANCELED, NULL, "stopped by the test");
}

/* More images than are read at a time. */
static void every_image_reaches_the_device(void **state)
{
        struct config c = tiny(VDM_VDM);
        _cleanup_(dataset_freep) struct dataset *photographs = NULL;
        _cleanup_(freep) uint8_t *host = NULL;
        uint8_t *images, expected[IMAGE_BYTES];
        struct error err;
        struct run x;
        int64_t n;

        (void)state;
        assert_int_equal(dataset_open(PHOTOGRAPHS, &photographs, &err), 0);
        n = dataset_count(photographs, SPLIT_TRAIN);
        assert_true(n > 2048);
        host = malloc((size_t)n * IMAGE_BYTES);
        assert_non_null(host);
        run_open(&x, &c, 2);
        assert_int_equal(runtime_images(x.rt, photographs, SPLIT_TRAIN, n, &images, &err), 0);
        x.rt->k->copy_out(x.rt->stream, host, images, (size_t)n * IMAGE_BYTES);
        assert_int_equal(x.rt->k->stream_sync(x.rt->stream, &err), 0);
        for (int64_t i = 0; i < n; i++) {
                dataset_image(photographs, SPLIT_TRAIN, i, expected);
                assert_memory_equal(host + i * IMAGE_BYTES, expected, IMAGE_BYTES);
        }
        x.rt->k->memory_free(x.rt->device, images);
        run_close(&x);
}

static void an_evaluation_stops_when_asked(void **state)
{
        struct evaluation e = {.split = SPLIT_TEST, .n_images = 8, .seed = 4};
        struct config c = tiny(VDM_VDM);
        struct evaluation_result r;
        struct error err;
        struct run x;
        int calls = 0;

        (void)state;
        run_open(&x, &c, 2);
        assert_int_equal(evaluator_run(x.evaluator, dataset, &e, &(struct between){stop_at_once, &calls}, &r, &err),
                         -ECANCELED);
        assert_string_equal(err.text, "stopped by the test");
        assert_int_equal(calls, 1);
        run_close(&x);
}

/* By steps and by the flow, of random latents and of images'; and the film ends with the samples. */
static void samples_do_not_depend_on_how_many_are_made(void **state)
{
        static const struct {
                enum vdm_type type;
                enum sampling_method method;
                enum sampling_latent latent;
        } cases[] = {{VDM_VDM, SAMPLING_METHOD_ANCESTRAL, SAMPLING_LATENT_RANDOM},
                     {VDM_MULAN_EPSILON, SAMPLING_METHOD_ANCESTRAL, SAMPLING_LATENT_RANDOM},
                     {VDM_MULAN_EPSILON, SAMPLING_METHOD_ANCESTRAL, SAMPLING_LATENT_IMAGES},
                     {VDM_VDM, SAMPLING_METHOD_ODE, SAMPLING_LATENT_FIXED},
                     {VDM_MULAN_VELOCITY, SAMPLING_METHOD_ODE, SAMPLING_LATENT_IMAGES}};
        enum { FRAMES = 5 };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct sampling what = {.n_images = 5,
                                        .n_steps = 4,
                                        .rtol = 1e-2,
                                        .atol = 1e-2,
                                        .seed = 3,
                                        .latent = cases[i].latent,
                                        .split = SPLIT_TEST};
                static uint8_t images[2][5 * IMAGE_BYTES], frames[FRAMES * 2 * IMAGE_BYTES];
                struct film film = {.n_images = 2, .frames_max = FRAMES, .frames = frames};
                struct config c = tiny(cases[i].type);
                int64_t different = 0;
                struct error err;

                c.sampling_method = cases[i].method;
                for (int j = 0; j < 2; j++) {
                        struct run x;

                        run_open(&x, &c, j ? 5 : 2);
                        steps(&x, 2);
                        assert_int_equal(sampler_run(x.sampler, &what, dataset, j ? NULL : &film, &(struct between){0},
                                                     images[j], &err),
                                         0);
                        run_close(&x);
                }
                for (size_t k = 0; k < sizeof images[0]; k++)
                        different += abs(images[0][k] - images[1][k]) > 1;
                assert_true(different < 50); /* the networks round differently for another batch */
                assert_memory_not_equal(images[0], images[0] + IMAGE_BYTES, IMAGE_BYTES);
                assert_true(film.n_frames >= 2 && film.n_frames <= FRAMES);
                assert_memory_equal(frames + (film.n_frames - 1) * 2 * IMAGE_BYTES, images[0], 2 * IMAGE_BYTES);
                assert_memory_not_equal(frames, images[0], 2 * IMAGE_BYTES);
        }
}

static bool all_finite(const struct run *x)
{
        for (int64_t i = 0; i < x->rt->layout->n_values; i++)
                if (!isfinite(x->rt->section[SECTION_PARAMS][i]) || !isfinite(x->rt->section[SECTION_EMA][i]))
                        return false;
        return true;
}

/* A weight, a moment or the average is altered after two steps: the window ends with the step's number, and but for
 * what was altered all is as before that step. */
static void from_the_first_value_that_is_not_finite_no_update_is_applied(void **state)
{
        static const struct {
                enum section section;
                float value;
                const char *what;
        } cases[] = {{SECTION_PARAMS, NAN, "the loss"},      {SECTION_PARAMS, INFINITY, "the loss"},
                     {SECTION_M, NAN, "an updated weight"},  {SECTION_M, INFINITY, "an updated weight"},
                     {SECTION_V, -1, "an updated weight"},   {SECTION_V, NAN, "an updated weight"},
                     {SECTION_EMA, NAN, "an updated weight"}};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct config c = tiny(VDM_VDM);
                struct error err = {0};
                struct run x;
                int64_t at, n = -1;

                run_open(&x, &c, 2);
                steps(&x, 2);
                at = params_find(x.rt->layout, "score_model/mid.block_1/conv1/kernel")->offset + 7;
                x.rt->section[cases[i].section][at] = cases[i].value;
                assert_int_equal(trainer_window(x.trainer, 3, &n, &err), -EDOM);
                assert_int_equal(n, 0);
                assert_int_equal(trainer_step_number(x.trainer), 2);
                assert_non_null(strstr(err.text, "step 2"));
                assert_non_null(strstr(err.text, cases[i].what));
                if (cases[i].section == SECTION_M || cases[i].section == SECTION_V)
                        assert_true(all_finite(&x));
                /* and it stays so */
                assert_int_equal(trainer_window(x.trainer, 3, &n, &err), -EDOM);
                assert_int_equal(trainer_step_number(x.trainer), 2);
                run_close(&x);
        }
}

static void results_do_not_depend_on_how_a_window_is_split(void **state)
{
        struct config c = tiny(VDM_MULAN_VELOCITY);
        char digests[3][DIGEST_SIZE];
        struct training_scalars s[3];

        (void)state;
        for (int i = 0; i < 3; i++) {
                struct run x;

                run_open(&x, &c, 2);
                windows(&x, 6, 1 + 2 * i);
                save(&x, "split", digests[i]);
                s[i] = trainer_take_window(x.trainer);
                run_close(&x);
                assert_string_equal(digests[0], digests[i]);
                assert_memory_equal(&s[0], &s[i], sizeof s[0]);
        }
}

/* Between two windows the host enqueues: operations and launches, no copy out, no waiting. */
static struct {
        const struct kernels *real;
        int copies_in, copies_out, syncs, launches, operations;
} calls;

static void count_copy_in(struct stream *s, void *dst, const void *src, size_t bytes)
{
        calls.copies_in++;
        calls.real->copy_in(s, dst, src, bytes);
}

static void count_copy_out(struct stream *s, void *dst, const void *src, size_t bytes)
{
        calls.copies_out++;
        calls.real->copy_out(s, dst, src, bytes);
}

static int count_sync(struct stream *s, struct error *err)
{
        calls.syncs++;
        return calls.real->stream_sync(s, err);
}

static void count_launch(struct stream *s, const struct graph *g)
{
        calls.launches++;
        calls.real->graph_launch(s, g);
}

#define KERNEL(op)                                                                                                     \
        static void count_##op(struct stream *s, const struct op##_args *args)                                         \
        {                                                                                                              \
                calls.operations++;                                                                                    \
                calls.real->op(s, args);                                                                               \
        }
#include "kernels/kernels.def"
#undef KERNEL

static void a_window_runs_without_the_host(void **state)
{
        struct config c = tiny(VDM_VDM);
        struct kernels counting;
        struct error err;
        struct run x;
        int64_t n = 0;

        (void)state;
        run_open(&x, &c, 2);
        calls.real = x.rt->k;
        counting = *x.rt->k;
        counting.copy_in = count_copy_in;
        counting.copy_out = count_copy_out;
        counting.stream_sync = count_sync;
        counting.graph_launch = count_launch;
#define KERNEL(op) counting.op = count_##op;
#include "kernels/kernels.def"
#undef KERNEL
        x.rt->k = &counting;
        steps(&x, 3);                                       /* recorded, and its speed known */
        for (int i = 0; i < 50 && (i < 5 || n == 1); i++) { /* on a busy machine a step may fill a window */
                memset(&calls.copies_in, 0, sizeof calls - offsetof(typeof(calls), copies_in));
                assert_int_equal(trainer_window(x.trainer, 4, &n, &err), 0);
                assert_int_equal(calls.launches, n);
                assert_int_equal(calls.operations, 0);
                assert_int_equal(calls.copies_in, 0);
                assert_int_equal(calls.copies_out, 1); /* the state, at the end */
                assert_int_equal(calls.syncs, 1);
        }
        assert_true(n > 1);
        x.rt->k = calls.real;
        run_close(&x);
}

/* A batch in parts is the batch: the same images and noise, gradients that differ by rounding. */
static void parts_of_a_batch_make_the_same_step(void **state)
{
        static const enum gamma_type schedules[] = {GAMMA_POLY_FIXEDEND, GAMMA_LEARNABLE_NNET};

        (void)state;
        for (size_t j = 0; j < ARRAY_LEN(schedules); j++) {
                struct config c = tiny(VDM_MULAN_EPSILON);
                struct training_scalars s[2];
                double norm[2] = {0}, difference = 0;
                float *m = NULL;

                c.gamma_type = schedules[j];
                c.batch_size_train = 6;
                c.gradient_clip_norm = NAN;
                for (int i = 0; i < 2; i++) {
                        struct run x;
                        int64_t n_values;

                        c.n_micro_batches = i ? 3 : 1;
                        run_open(&x, &c, 2);
                        assert_int_equal(trainer_parts(x.trainer), c.n_micro_batches);
                        steps(&x, 2);
                        s[i] = trainer_take_window(x.trainer);
                        n_values = x.rt->layout->n_values;
                        if (!m)
                                m = calloc((size_t)n_values, sizeof *m);
                        assert_non_null(m);
                        for (int64_t k = 0; k < n_values; k++) {
                                float now = x.rt->section[SECTION_M][k];

                                norm[i] += (double)now * (double)now;
                                difference += i ? ((double)now - (double)m[k]) * ((double)now - (double)m[k]) : 0;
                                m[k] = now;
                        }
                        run_close(&x);
                }
                free(m);
                assert_true(norm[0] > 0 && difference < 1e-8 * norm[0]);
                assert_true(fabs(s[0].bpd - s[1].bpd) < 1e-5 * s[0].bpd);
                assert_true(fabs(s[0].var_1 - s[1].var_1) < 1e-6 * s[0].var_1);
        }
}

/* What is made again is what was kept: the same bits; and less memory the more of it. */
static void recomputation_changes_no_bit(void **state)
{
        double weights[RECOMPUTE_BLOCK + 1] = {0};
        size_t bytes[RECOMPUTE_BLOCK + 1];

        (void)state;
        for (int i = 0; i <= RECOMPUTE_BLOCK; i++) {
                struct config c = tiny(VDM_MULAN_VELOCITY);
                struct runtime_need need = {0};
                struct trainer *t;
                struct error err;
                struct run x;

                c.sm_n_layer = 3;
                c.batch_size_train = 4;
                c.recompute = (enum recompute)i;
                run_open(&x, &c, 1);
                assert_int_equal(trainer_new(x.rt, ALL_SECTIONS, &t, &need, &err), 0);
                bytes[i] = need.pass_bytes;
                t = trainer_free(t);
                steps(&x, 3);
                for (int64_t k = 0; k < x.rt->layout->n_values; k++)
                        weights[i] += (double)x.rt->section[SECTION_PARAMS][k] * sin((double)k);
                run_close(&x);
        }
        assert_true(bytes[RECOMPUTE_NORM] < bytes[RECOMPUTE_NONE]);
        assert_true((double)bytes[RECOMPUTE_BLOCK] < 0.8 * (double)bytes[RECOMPUTE_NORM]);
        assert_true(weights[RECOMPUTE_NONE] == weights[RECOMPUTE_NORM]);
        assert_true(weights[RECOMPUTE_BLOCK] == weights[RECOMPUTE_NORM]);
}

static void parts_are_as_few_as_fit(void **state)
{
        struct config c = tiny(VDM_VDM);
        struct runtime_need whole = {0}, few = {0}, bad = {0};
        struct trainer *t;
        struct runtime *rt;
        struct error err;

        (void)state;
        c.batch_size_train = 8;
        assert_int_equal(runtime_new(&c, false, NULL, &rt, &err), 0);
        assert_int_equal(trainer_new(rt, ALL_SECTIONS, &t, &whole, &err), 0);
        t = trainer_free(t);
        c.n_micro_batches = 0;
        rt->info.memory_free = (int64_t)runtime_total_bytes(rt, ALL_SECTIONS, true, &whole) * 2 / 3;
        assert_int_equal(trainer_new(rt, ALL_SECTIONS, &t, &few, &err), 0);
        assert_in_range(trainer_parts(t), 2, 8);
        assert_true(runtime_total_bytes(rt, ALL_SECTIONS, true, &few) <= (size_t)rt->info.memory_free);
        t = trainer_free(t);
        c.n_micro_batches = 3;
        assert_int_equal(trainer_new(rt, ALL_SECTIONS, &t, &bad, &err), -EINVAL);
        assert_string_equal(err.path, "/training/n_micro_batches");
        rt = runtime_free(rt);
}

static void every_number_of_threads_works(void **state)
{
        static const int64_t threads[] = {1, 2, 3, 5};
        double bpd[ARRAY_LEN(threads)];

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
                struct config c = tiny(VDM_MULAN_VELOCITY);
                struct run x;

                c.threads = threads[i];
                run_open(&x, &c, 2);
                steps(&x, 3);
                bpd[i] = trainer_take_window(x.trainer).bpd;
                run_close(&x);
                assert_true(fabs(bpd[i] - bpd[0]) < 1e-5 * bpd[0]);
        }
}

static void too_little_memory_is_refused_with_the_figures(void **state)
{
        struct config c = tiny(VDM_VDM);
        struct runtime_need need = {.pass_bytes = (size_t)1 << 50};
        struct runtime *rt;
        struct error err;

        (void)state;
        assert_int_equal(runtime_new(&c, false, NULL, &rt, &err), 0);
        assert_int_equal(runtime_allocate(rt, ALL_SECTIONS, true, &need, &err), -ENOMEM);
        assert_non_null(strstr(err.text, "1073741"));
        assert_non_null(strstr(err.text, "are free"));
        rt = runtime_free(rt);
}

static int make_images(void **state)
{
        static uint8_t file[32 * (IMAGE_BYTES + 1)];
        static const char *const names[] = {"data_batch_1.bin", "test_batch.bin"};
        struct error err;
        char path[128];

        (void)state;
        if (!mkdtemp(folder))
                return -1;
        for (size_t i = 0; i < sizeof file; i++)
                file[i] = i % (IMAGE_BYTES + 1) ? (uint8_t)(128 + 60 * sin((double)i / 40) + (double)(i % 7)) : 7;
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
                if (file_write_atomic(path, file, sizeof file, NULL, &err) < 0)
                        return -1;
        }
        return dataset_open(folder, &dataset, &err);
}

static int remove_images(void **state)
{
        (void)state;
        dataset = dataset_free(dataset);
        return file_remove_tree(folder, NULL);
}

/* With an argument: the tests whose names it fits, which may have * and ? in it. */
int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(resume_is_bit_identical),
                cmocka_unit_test(another_seed_is_another_run),
                cmocka_unit_test(the_schedule_learns),
                cmocka_unit_test(training_lowers_the_bound),
                cmocka_unit_test(training_and_evaluation_have_a_precision_each),
                cmocka_unit_test(an_evaluation_does_not_depend_on_the_batch),
                cmocka_unit_test(every_image_reaches_the_device),
                cmocka_unit_test(an_evaluation_stops_when_asked),
                cmocka_unit_test(samples_do_not_depend_on_how_many_are_made),
                cmocka_unit_test(from_the_first_value_that_is_not_finite_no_update_is_applied),
                cmocka_unit_test(results_do_not_depend_on_how_a_window_is_split),
                cmocka_unit_test(a_window_runs_without_the_host),
                cmocka_unit_test(parts_of_a_batch_make_the_same_step),
                cmocka_unit_test(recomputation_changes_no_bit),
                cmocka_unit_test(parts_are_as_few_as_fit),
                cmocka_unit_test(every_number_of_threads_works),
                cmocka_unit_test(too_little_memory_is_refused_with_the_figures),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
