/* What ranks promise, run by mpirun as several processes: sums have one order, N ranks are N parts of a batch on one,
 * their weights are the same bits, an evaluation is that of one rank. Each rank computes what one alone would make of
 * it, too, and compares. */
#include "engine/exact.h"
#include "engine/inspect.h"
#include "engine/likelihood.h"
#include "engine/trainer.h"
#include "tests/ranks/group.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ALL_SECTIONS ((1u << SECTION_N) - 1)

static struct dataset *dataset;
static struct group group;

/* ---- what they say to each other */

/* Some value of rank r at place i. */
static float value(int rank, int64_t i)
{
        uint32_t x = (uint32_t)i * 2654435761u + (uint32_t)rank * 40503u + 1;

        x ^= x >> 15;
        x *= 2246822519u;
        x ^= x >> 13;
        return ldexpf((float)(int32_t)x, -(int)(x % 29) - 10);
}

struct talk {
        const struct kernels *k;
        struct device *device;
        struct stream *stream;
        const struct collectives *c;
        struct comm *comm;
};

static void talk_open(struct talk *x)
{
        struct error err = {0};
        struct device_settings settings = {.threads = 1};

        assert_int_equal(kernels_find(group_backend(), &x->k, &err), 0);
        assert_int_equal(x->k->device_open(&settings, &x->device, &err), 0);
        assert_int_equal(x->k->stream_new(x->device, &x->stream, &err), 0);
        x->c = x->k->collectives;
        if (x->c->open(x->device, &group, &x->comm, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
}

static void talk_close(struct talk *x)
{
        assert_null(x->c->close(x->comm));
        (void)x->k->stream_free(x->stream);
        (void)x->k->device_close(x->device);
}

static void sync_stream(struct talk *x)
{
        struct error err = {0};

        if (x->k->stream_sync(x->stream, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
}

/* Recorded, and launched twice: the second sum is of what the first left, which is the same everywhere. */
static void a_sum_has_the_order_of_the_ranks(void **state)
{
        static const int64_t sizes[] = {1, 3, 17, 262144, 600011};
        struct talk x;

        (void)state;
        talk_open(&x);
        for (size_t j = 0; j < ARRAY_LEN(sizes); j++) {
                int64_t n = sizes[j];
                float *host = calloc((size_t)n, sizeof *host), *device = x.k->memory_new(x.device, (size_t)n * 4);
                struct graph *g = NULL;
                struct error err = {0};

                assert_true(host && device);
                for (int64_t i = 0; i < n; i++)
                        host[i] = value(group.rank, i);
                x.k->copy_in(x.stream, device, host, (size_t)n * sizeof *host);
                assert_int_equal(x.k->graph_begin(x.stream, &err), 0);
                x.c->sum_floats(x.comm, x.stream, device, n);
                assert_int_equal(x.k->graph_end(x.stream, &g, &err), 0);
                x.k->graph_launch(x.stream, g);
                x.k->graph_launch(x.stream, g);
                x.k->copy_out(x.stream, host, device, (size_t)n * sizeof *host);
                sync_stream(&x);
                for (int64_t i = 0; i < n; i++) {
                        float sum = value(0, i), twice;

                        for (int r = 1; r < group.size; r++)
                                sum += value(r, i);
                        twice = sum;
                        for (int r = 1; r < group.size; r++)
                                twice += sum;
                        assert_memory_equal(&host[i], &twice, sizeof twice);
                }
                (void)x.k->graph_free(g);
                x.k->memory_free(x.device, device);
                free(host);
        }
        talk_close(&x);
}

static void doubles_are_summed_and_bytes_are_the_roots(void **state)
{
        struct talk x;
        double *device, host[5];

        (void)state;
        talk_open(&x);
        device = x.k->memory_new(x.device, sizeof host);
        for (int root = 0; root < group.size; root++) {
                for (int i = 0; i < 5; i++)
                        host[i] = 1 + (double)value(group.rank, i) / 3;
                x.k->copy_in(x.stream, device, host, sizeof host);
                x.c->sum_doubles(x.comm, x.stream, device, 3);
                x.c->broadcast(x.comm, x.stream, device + 3, sizeof host - 3 * sizeof *host, root);
                x.k->copy_out(x.stream, host, device, sizeof host);
                sync_stream(&x);
                for (int i = 0; i < 5; i++) {
                        double expected = 1 + (double)value(i < 3 ? 0 : root, i) / 3;

                        for (int r = 1; r < group.size && i < 3; r++)
                                expected += 1 + (double)value(r, i) / 3;
                        assert_true(host[i] == expected);
                }
        }
        x.k->memory_free(x.device, device);
        talk_close(&x);
}

/* ---- training */

static struct config tiny(enum vdm_type type, enum gamma_type gamma)
{
        struct config c;

        config_defaults(&c);
        group_configure(&c);
        c.vdm_type = type;
        c.gamma_type = gamma;
        c.sm_n_embd = 32;
        c.sm_n_layer = c.forward_n_layer = 1;
        c.sm_pdrop = 0.1;
        c.batch_size_train = 2 * group.size;
        c.num_steps_lr_warmup = 0;
        c.learning_rate = 1e-3;
        c.ema_rate = 0.9;
        c.gradient_clip_norm = NAN;
        c.flip = true;
        c.threads = 1;
        return c;
}

/* The moments and the weights after some steps, and the log window's means. */
struct outcome {
        int64_t n;
        float *m, *params;
        struct training_scalars scalars;
};

static void outcome_free(struct outcome *o)
{
        free(o->m);
        free(o->params);
}

static void *fetch(struct runtime *rt, enum section s)
{
        size_t bytes = (size_t)rt->layout->n_values * sizeof(float);
        void *host = malloc(bytes);
        struct error err;

        assert_non_null(host);
        rt->k->copy_out(rt->stream, host, rt->section[s], bytes);
        assert_int_equal(rt->k->stream_sync(rt->stream, &err), 0);
        return host;
}

static struct runtime *open_runtime(const struct config *c)
{
        struct runtime *rt;
        struct error err = {0};
        struct group alone = {.size = 1, .meet = -1};

        if (runtime_new(c, false, NULL, &rt, &err) < 0 || ranks_join(rt, c->devices > 1 ? &group : &alone, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
        return rt;
}

static struct outcome train(const struct config *c, int64_t n_steps)
{
        struct runtime *rt = open_runtime(c);
        struct runtime_need need = {0};
        struct trainer *t;
        struct outcome o;
        struct error err = {0};

        if (trainer_new(rt, ALL_SECTIONS, &t, &need, &err) < 0 ||
            runtime_allocate(rt, ALL_SECTIONS, true, &need, &err) < 0 || trainer_bind(t, dataset, &err) < 0 ||
            runtime_initialise(rt, (uint32_t)c->seed, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
        for (int64_t n; n_steps > 0; n_steps -= n)
                if (trainer_window(t, n_steps, &n, &err) < 0)
                        fail_msg("%s: %s", err.path, err.text);
        o.n = rt->layout->n_values;
        o.scalars = trainer_take_window(t);
        o.m = fetch(rt, SECTION_M);
        o.params = fetch(rt, SECTION_PARAMS);
        (void)trainer_free(t);
        (void)runtime_free(rt);
        return o;
}

/* Every rank's weights are the first one's. */
static void assert_alike(const struct config *c, const struct outcome *o)
{
        struct runtime *rt = open_runtime(c);
        size_t bytes = (size_t)o->n * sizeof *o->params;
        float *first = malloc(bytes);
        struct error err;

        assert_non_null(first);
        memcpy(first, o->params, bytes);
        assert_int_equal(ranks_agree(rt, first, bytes, &err), 0);
        assert_memory_equal(first, o->params, bytes);
        free(first);
        (void)runtime_free(rt);
}

static double norm(const float *a, const float *b, int64_t n)
{
        double squares = 0;

        for (int64_t i = 0; i < n; i++)
                squares += pow((double)a[i] - (b ? (double)b[i] : 0), 2);
        return sqrt(squares);
}

/* The moments after the second step differ by the order of sums alone: a kernel's gradient of a part is one rounded
 * addition to those of the parts before it, as the sum over ranks is (exact); a bias, a scale, a dense layer of few
 * rows and what is evaluated several times a step are added up before they are rounded, so N roundings of 2^-24, of
 * sums that may be some times as large as what they come to. What the norm behind it takes away (conv_in's bias) is
 * rounding alone: of the size of the rest's. */
static void compare_moments(const struct params *layout, const struct outcome *one, const struct outcome *many,
                            int64_t n_sums, bool exact)
{
        double all = norm(one->m, NULL, one->n);

        for (size_t i = 0; i < layout->n; i++) {
                const struct param *q = &layout->items[i];
                bool kernel = q->n_dims == 4 && !strncmp(q->name, "score_model/", strlen("score_model/"));
                const float *m = one->m + q->offset;
                double d = norm(m, many->m + q->offset, q->size);
                double bound = 8 * norm(m, NULL, q->size) + all / 8;

                if (d > (exact && kernel ? 0 : ldexp(bound * (double)n_sums, -24)))
                        fail_msg("%s: %g of %g", q->name, d, norm(m, NULL, q->size));
        }
}

static void compare(enum vdm_type type, enum gamma_type gamma, int64_t parts)
{
        struct config c = tiny(type, gamma);
        struct runtime *rt;
        struct outcome one, many;

        c.batch_size_train *= parts;
        c.n_micro_batches = group.size * parts;
        one = train(&c, 2);
        c.n_micro_batches = parts;
        c.devices = group.size;
        many = train(&c, 2);
        assert_alike(&c, &many);
        rt = open_runtime(&c);
        compare_moments(rt->layout, &one, &many, group.size * parts, parts == 1);
        (void)runtime_free(rt);
        assert_true(fabs(one.scalars.bpd - many.scalars.bpd) < 1e-6 * one.scalars.bpd);
        assert_true(fabs(one.scalars.var_1 - many.scalars.var_1) < 1e-6 * one.scalars.var_1);
        outcome_free(&one);
        outcome_free(&many);
}

static void ranks_are_parts(void **state)
{
        (void)state;
        compare(VDM_MULAN_EPSILON, GAMMA_LINEAR, 1);
        if (group_slow())
                return;
        compare(VDM_MULAN_VELOCITY, GAMMA_POLY_FIXEDEND, 1);
        compare(VDM_VDM, GAMMA_LEARNABLE_NNET, 1);
}

/* Added up in another order: ((a b) (c d)) for (((a b) c) d). */
static void ranks_have_parts(void **state)
{
        (void)state;
        if (group_slow())
                skip();
        compare(VDM_VDM, GAMMA_FIXED, 2);
}

/* ---- evaluations: each runs on one rank and on all, on fresh weights */

struct evaluated {
        struct runtime *rt;
        struct evaluator *evaluator;
        struct exact *exact;
        struct inspector *inspector;
};

static void evaluated_open(struct evaluated *x, const struct config *c, int64_t batch)
{
        struct runtime_need need = {0};
        struct error err = {0};

        *x = (struct evaluated){.rt = open_runtime(c)};
        if (evaluator_new(x->rt, batch, &x->evaluator, &need, &err) < 0 ||
            exact_new(x->rt, batch, &x->exact, &need, &err) < 0 ||
            inspector_new(x->rt, batch, &x->inspector, &need, &err) < 0 ||
            runtime_allocate(x->rt, 1u << SECTION_PARAMS | 1u << SECTION_EMA, false, &need, &err) < 0 ||
            evaluator_bind(x->evaluator, &err) < 0 || exact_bind(x->exact, &err) < 0 ||
            inspector_bind(x->inspector, &err) < 0 || runtime_initialise(x->rt, 3, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
}

static void evaluated_close(struct evaluated *x)
{
        (void)evaluator_free(x->evaluator);
        (void)exact_free(x->exact);
        (void)inspector_free(x->inspector);
        (void)runtime_free(x->rt);
}

/* How often each rank was asked whether to go on: all must be, as often. */
static int count_calls(void *user, int64_t done, int64_t all, struct error *err)
{
        (void)err;
        assert_in_range(done, 0, all);
        ++*(int64_t *)user;
        return 0;
}

/* Batches of 4; the last one is not full, and images of the dense bound reach from one batch into the next. */
static void bounds_are_those_of_one_rank(void **state)
{
        struct evaluation e = {.split = SPLIT_TEST, .n_images = 15, .seed = 4};
        static const int64_t repeats[] = {1, 3, 6, 8};

        (void)state;
        for (size_t i = 0; i < (group_slow() ? 1 : ARRAY_LEN(repeats)); i++) {
                struct config c = tiny(VDM_MULAN_VELOCITY, GAMMA_LINEAR);
                struct evaluation_result r[2];
                int64_t calls = 0, first;
                struct evaluated x;
                struct error err;

                e.method = i ? LIKELIHOOD_DENSE : LIKELIHOOD_SPARSE;
                e.n_timesteps = repeats[i];
                for (int many = 0; many < 2; many++) {
                        c.devices = many ? group.size : 1;
                        evaluated_open(&x, &c, 4);
                        calls = 0;
                        assert_int_equal(evaluator_run(x.evaluator, dataset, &e, &(struct between){count_calls, &calls},
                                                       &r[many], &err),
                                         0);
                        first = calls;
                        assert_int_equal(ranks_agree(x.rt, &first, sizeof first, &err), 0);
                        assert_int_equal(first, calls);
                        evaluated_close(&x);
                }
                assert_memory_equal(r[0].images, r[1].images, 15 * sizeof *r[0].images);
                assert_memory_equal(&r[0].mean, &r[1].mean, sizeof r[0].mean);
                for (int j = 0; j < TIME_BINS; j++)
                        assert_true((isnan(r[0].diff_at[j]) && isnan(r[1].diff_at[j])) ||
                                    fabs(r[0].diff_at[j] - r[1].diff_at[j]) <= 1e-13 * r[0].diff_at[j]);
                free(r[0].images);
                free(r[1].images);
        }
}

static void exact_likelihoods_are_those_of_one_rank(void **state)
{
        static const struct {
                bool shared, probe_each;
                enum probe probe;
                enum dequantisation dequantisation;
        } kinds[] = {{false, false, PROBE_RADEMACHER, DEQUANTISE_TRUNCATED},
                     {true, false, PROBE_GAUSSIAN, DEQUANTISE_UNIFORM},
                     {false, true, PROBE_GAUSSIAN, DEQUANTISE_UNIFORM}};

        (void)state;
        if (group_slow())
                skip();
        for (size_t i = 0; i < (group.size > 2 ? 1 : ARRAY_LEN(kinds)); i++) {
                struct config c = tiny(VDM_VDM, GAMMA_FIXED);
                struct exact_evaluation e = {.split = SPLIT_TEST,
                                             .n_images = 5,
                                             .n_samples = 2,
                                             .seed = 4,
                                             .dequantisation = kinds[i].dequantisation,
                                             .solve = {.rtol = 0.1,
                                                       .atol = 0.1,
                                                       .shared = kinds[i].shared,
                                                       .probe = kinds[i].probe,
                                                       .probe_each = kinds[i].probe_each}};
                struct flow_result r[2][10] = {{{0}}};
                int64_t calls = 0;
                struct evaluated x;
                struct error err;

                for (int many = 0; many < 2; many++) {
                        c.devices = many ? group.size : 1;
                        evaluated_open(&x, &c, 3);
                        r[many][4] = (struct flow_result){.log_p = 1, .n_evaluations = 7}; /* of an earlier attempt */
                        if (exact_run(x.exact, dataset, &e, r[many], &(struct between){count_calls, &calls}, &err) < 0)
                                fail_msg("%s", err.text);
                        evaluated_close(&x);
                }
                assert_memory_equal(r[0], r[1], sizeof r[0]);
        }
}

static void what_is_seen_is_what_one_rank_sees(void **state)
{
        enum { IMAGES = 7, MAPS = 5, TIMES = 2 };
        static float latents[2][IMAGES * 50], kl[2][IMAGES], maps[2][MAPS * TIMES * DIMENSIONS];
        static struct gamma_moments moments[2][IMAGES * TIMES];
        static const double times[TIMES] = {0.25, 1};
        struct config c = tiny(VDM_MULAN_VELOCITY, GAMMA_POLY_FIXEDEND);
        struct evaluated x;
        struct error err;

        (void)state;
        if (group_slow())
                skip();
        assert_int_equal(c.latent_size, 50);
        for (int many = 0; many < 2; many++) {
                struct inspection what = {.split = SPLIT_TEST,
                                          .n_images = IMAGES,
                                          .n_maps = MAPS,
                                          .n_times = TIMES,
                                          .times = times,
                                          .latents = latents[many],
                                          .kl = kl[many],
                                          .moments = moments[many],
                                          .maps = maps[many]};

                c.devices = many ? group.size : 1;
                evaluated_open(&x, &c, 2);
                assert_int_equal(inspector_run(x.inspector, dataset, &what, &err), 0);
                evaluated_close(&x);
        }
        assert_memory_equal(latents[0], latents[1], sizeof latents[0]);
        assert_memory_equal(kl[0], kl[1], sizeof kl[0]);
        assert_memory_equal(maps[0], maps[1], sizeof maps[0]);
        assert_memory_equal(moments[0], moments[1], sizeof moments[0]);
}

static int make_images(void **state)
{
        struct error err;

        (void)state;
        return dataset_open(PHOTOGRAPHS, &dataset, &err);
}

static int free_images(void **state)
{
        (void)state;
        dataset = dataset_free(dataset);
        return 0;
}

/* With a second argument: the tests whose names it fits. */
int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_sum_has_the_order_of_the_ranks),
                cmocka_unit_test(doubles_are_summed_and_bytes_are_the_roots),
                cmocka_unit_test(ranks_are_parts),
                cmocka_unit_test(ranks_have_parts),
                cmocka_unit_test(bounds_are_those_of_one_rank),
                cmocka_unit_test(exact_likelihoods_are_those_of_one_rank),
                cmocka_unit_test(what_is_seen_is_what_one_rank_sees),
        };
        int failed;

        group = group_of(argc > 1 ? argv[1] : "");
        if (argc > 2)
                cmocka_set_test_filter(argv[2]);
        failed = cmocka_run_group_tests(tests, make_images, free_images);
        if (failed)
                _exit(1); /* the others wait for what does not come, and MPI's end would wait for them */
        return 0;
}
