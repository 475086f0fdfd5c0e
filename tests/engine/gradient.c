/* The hand-written gradients against finite differences: for one tensor of every kind, along a random direction that
 * leans on the gradient (a purely random one in millions of dimensions changes nothing that float32 could see),
 * central differences at three lengths, the best relative error at most 1e-2. Weights are hashed, so that none is zero.
 *
 * The straight-through estimator of the latent is no derivative; so what stands before it, the encoder, is checked
 * through a linear functional of its logits, and what stands after it through the bound, with the latent as it is. */
#include "engine/dataset.h"
#include "engine/model.h"
#include "tests/golden/hash.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define M 2
#define TOLERANCE 1e-2

struct fixture {
        const struct kernels *k;
        struct device *device;
        struct stream *stream;
        struct config config;
        struct params *layout;
        struct model *model;
        struct arena *arena;
        float *host, *grads_host; /* host copies of the parameters as they are, and of the gradients */
        float *params, *grads;
        struct batch batch;
        struct bound_results ret;
        float *f, *zero, *logits, *d_logits;
        float d_logits_host[M * 64];
        void *memory[32];
        int n_memory;
};

static void *device_memory(struct fixture *x, size_t bytes)
{
        assert_true(x->n_memory < (int)ARRAY_LEN(x->memory));
        return x->memory[x->n_memory++] = x->k->memory_new(x->device, bytes);
}

static float *upload_hash(struct fixture *x, const char *name, int64_t n, double power)
{
        float *device = device_memory(x, (size_t)n * sizeof *device), *host = malloc((size_t)n * sizeof *host);
        double *u = malloc((size_t)n * sizeof *u);

        assert_true(device && host && u);
        hash_uniform(name, n, u);
        for (int64_t i = 0; i < n; i++)
                host[i] = (float)(power > 0 ? pow(u[i] / 2 + 0.5, power) : 1.7 * u[i]);
        x->k->copy_in(x->stream, device, host, (size_t)n * sizeof *host);
        free(host);
        free(u);
        return device;
}

static void bound_pass(struct model *model, void *user)
{
        struct fixture *x = user;

        model_bound(model, &x->batch, (float)(1 / (M * DIMENSIONS * M_LN2)), &x->ret);
}

static void encoder_pass(struct model *model, void *user)
{
        struct fixture *x = user;
        struct encoder_network *n = &model->networks.encoder;

        tape_bind(n->f, x->f, NULL, NULL, false);
        tape_bind(n->time, x->zero, NULL, NULL, false);
        tape_bind(n->context, x->zero, NULL, NULL, false);
        tape_bind(n->logits, x->logits, NULL, x->d_logits, true);
        tape_forward(&model->pass, &n->tape);
        if (model->pass.keep)
                tape_backward(&model->pass, &n->tape);
}

static void make_batch(struct fixture *x)
{
        static uint8_t image[M * DIMENSIONS];
        float t[M] = {0.31f, 0.81f}, s[M] = {0.3f, 0.8f};
        uint8_t *bytes = device_memory(x, sizeof image);
        float *times = device_memory(x, sizeof t), *before = device_memory(x, sizeof s);

        for (size_t i = 0; i < sizeof image; i++)
                image[i] = (uint8_t)(i * 31 + i / 96);
        x->k->copy_in(x->stream, bytes, image, sizeof image);
        x->k->copy_in(x->stream, times, t, sizeof t);
        x->k->copy_in(x->stream, before, s, sizeof s);
        x->batch = (struct batch){.x = bytes,
                                  .t = times,
                                  .s = before,
                                  .eps_0 = upload_hash(x, "eps_0", M * DIMENSIONS, 0),
                                  .eps = upload_hash(x, "eps", M * DIMENSIONS, 0),
                                  .latent = upload_hash(x, "latent", 10 * M * x->config.latent_size, 15)};
        x->ret = (struct bound_results){.terms = device_memory(x, 3 * M * sizeof(float)),
                                        .kl = device_memory(x, M * sizeof(float)),
                                        .vars = device_memory(x, 2 * M * sizeof(float))};
        x->f = upload_hash(x, "f", M * DIMENSIONS, 0);
        x->zero = device_memory(x, M * sizeof(float));
        x->logits = device_memory(x, sizeof x->d_logits_host);
        x->d_logits = device_memory(x, sizeof x->d_logits_host);
        for (int64_t i = 0; i < M * x->config.latent_size; i++)
                x->d_logits_host[i] = (float)sin((double)i);
        x->k->copy_in(x->stream, x->d_logits, x->d_logits_host, sizeof x->d_logits_host);
}

/* The hashed monotone nets hardly change the schedule; these do. */
static void louder(struct fixture *x, const char *name, float factor)
{
        const struct param *q = params_find(x->layout, name);

        for (int64_t i = 0; q && i < q->size; i++)
                x->host[q->offset + i] *= factor;
}

static void set_up(struct fixture *x, const struct config *c)
{
        void (*const passes[])(struct model *, void *) = {bound_pass, encoder_pass};
        size_t bytes = 0, all;
        struct error err;

        memset(x, 0, sizeof *x);
        x->config = *c;
        assert_int_equal(kernels_find("cpu", &x->k, &err), 0);
        assert_int_equal(x->k->device_open(&(struct device_settings){.threads = 2}, &x->device, &err), 0);
        assert_int_equal(x->k->stream_new(x->device, &x->stream, &err), 0);
        assert_int_equal(params_new(&x->config, &x->layout, &err), 0);
        assert_int_equal(
                model_new(x->k, x->device, x->stream, x->layout, &x->config, M, PRECISION_FLOAT32, &x->model, &err), 0);
        all = (size_t)x->layout->n_values * sizeof(float);
        x->host = malloc(all);
        x->grads_host = malloc(all);
        assert_true(x->host && x->grads_host);
        params_hash(x->layout, 0.7f, x->host);
        louder(x, "gamma/l2/kernel", 8);
        louder(x, "gamma/l_int/kernel", 2);
        louder(x, "gamma/l3/kernel", 400);
        x->params = device_memory(x, all);
        x->grads = device_memory(x, all);
        x->k->copy_in(x->stream, x->params, x->host, all);
        make_batch(x);
        x->model->pass.params = x->params;
        x->model->pass.grads = x->grads;
        x->model->pass.keep = true;
        for (int i = 0; i < (x->model->baseline ? 1 : 2); i++) {
                size_t need;

                assert_int_equal(model_dry_run(x->model, passes[i], x, &need, &err), 0);
                bytes = MAX(bytes, need);
        }
        assert_int_equal(arena_new(device_memory(x, bytes), bytes, &x->arena, &err), 0);
        x->model->pass.arena = x->arena;
}

static void tear_down(struct fixture *x)
{
        (void)model_free(x->model);
        (void)params_free(x->layout);
        (void)arena_free(x->arena);
        for (int i = 0; i < x->n_memory; i++)
                x->k->memory_free(x->device, x->memory[i]);
        (void)x->k->stream_free(x->stream);
        (void)x->k->device_close(x->device);
        free(x->host);
        free(x->grads_host);
}

static double bound_value(struct fixture *x)
{
        float terms[3 * M], kl[M];
        double sum = 0;

        bound_pass(x->model, x);
        x->k->copy_out(x->stream, terms, x->ret.terms, sizeof terms);
        x->k->copy_out(x->stream, kl, x->ret.kl, sizeof kl);
        assert_int_equal(x->k->stream_sync(x->stream, NULL), 0);
        for (int i = 0; i < 3 * M; i++)
                sum += (double)terms[i];
        return (sum + (double)kl[0] + (double)kl[1]) / (M * DIMENSIONS * M_LN2);
}

static double encoder_value(struct fixture *x)
{
        float logits[M * 64];
        double sum = 0;

        encoder_pass(x->model, x);
        x->k->copy_out(x->stream, logits, x->logits, sizeof logits);
        assert_int_equal(x->k->stream_sync(x->stream, NULL), 0);
        for (int64_t i = 0; i < M * x->config.latent_size; i++)
                sum += (double)logits[i] * (double)x->d_logits_host[i];
        return sum;
}

/* d = gradient x uniform(1/2, 3/2). Returns its product with the gradient. */
static double make_direction(const struct fixture *x, const struct param *q, float *d)
{
        const float *g = x->grads_host + q->offset;
        double *u = malloc((size_t)q->size * sizeof *u), sum = 0;
        char name[128];

        assert_true(u);
        (void)snprintf(name, sizeof name, "direction/%s", q->name);
        hash_uniform(name, q->size, u);
        for (int64_t i = 0; i < q->size; i++) {
                d[i] = (float)((double)g[i] * (1 + u[i] / 2));
                sum += (double)g[i] * (double)d[i];
        }
        free(u);
        return sum;
}

static double difference(struct fixture *x, const struct param *q, const float *d, double h,
                         double (*value)(struct fixture *))
{
        size_t bytes = (size_t)q->size * sizeof(float);
        float *moved = malloc(bytes);
        double both[2];

        assert_true(moved);
        for (int side = 0; side < 2; side++) {
                for (int64_t i = 0; i < q->size; i++)
                        moved[i] = (float)((double)x->host[q->offset + i] + (side ? h : -h) * (double)d[i]);
                x->k->copy_in(x->stream, x->params + q->offset, moved, bytes);
                both[side] = value(x);
        }
        x->k->copy_in(x->stream, x->params + q->offset, x->host + q->offset, bytes);
        free(moved);
        return both[1] - both[0];
}

static void check_tensor(struct fixture *x, const char *name, double (*value)(struct fixture *))
{
        /* of the value's change: small against its curvature, large against float32's rounding */
        static const double lengths[] = {3e-4, 1e-3, 4e-3};
        const struct param *q = params_find(x->layout, name);
        float *d;
        double slope, best = INFINITY;

        assert_non_null(q);
        d = malloc((size_t)q->size * sizeof *d);
        assert_non_null(d);
        slope = make_direction(x, q, d);
        assert_true(slope > 0);
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                double h = lengths[i] / slope, measured = difference(x, q, d, h, value) / (2 * h);

                best = fmin(best, fabs(measured / slope - 1));
        }
        (void)printf("%-45s slope %10.3e, relative error %.1e\n", name, slope, best);
        if (best > TOLERANCE)
                fail_msg("%s: the gradient is %.3g, the relative error %.3g", name, slope, best);
        free(d);
}

static void check_all(struct fixture *x, const char *const *names, void (*pass)(struct model *, void *),
                      double (*value)(struct fixture *))
{
        pass(x->model, x);
        x->k->copy_out(x->stream, x->grads_host, x->grads, (size_t)x->layout->n_values * sizeof(float));
        assert_int_equal(x->k->stream_sync(x->stream, NULL), 0);
        x->model->pass.keep = false;
        for (; *names; names++)
                check_tensor(x, *names, value);
        x->model->pass.keep = true;
}

static struct config small(enum vdm_type type, enum gamma_type gamma)
{
        struct config c;

        config_defaults(&c);
        c.vdm_type = type;
        c.gamma_type = gamma;
        c.sm_n_embd = 64;
        c.sm_n_layer = c.forward_n_layer = 1;
        c.with_fourier_features =
                false; /* they make the bound too crooked for differences; they have their own check */
        return c;
}

static void bound_of_velocity(void **state)
{
        static const char *const score[] = {"score_model/conv_in/kernel",
                                            "score_model/conv_in/bias",
                                            "score_model/dense0/kernel",
                                            "score_model/dense0/bias",
                                            "score_model/dense1/kernel",
                                            "score_model/down.block_0/GroupNorm_0/scale",
                                            "score_model/down.block_0/GroupNorm_1/bias",
                                            "score_model/down.block_0/conv1/kernel",
                                            "score_model/down.block_0/conv1/bias",
                                            "score_model/down.block_0/cond_proj/kernel",
                                            "score_model/mid.attn_1/GroupNorm_0/scale",
                                            "score_model/mid.attn_1/q/kernel",
                                            "score_model/mid.attn_1/q/bias",
                                            "score_model/mid.attn_1/k/kernel",
                                            "score_model/mid.attn_1/v/kernel",
                                            "score_model/mid.attn_1/v/bias",
                                            "score_model/mid.attn_1/proj_out/kernel",
                                            "score_model/up.block_1/conv1/kernel",
                                            "score_model/up.block_1/conv2/kernel",
                                            "score_model/up.block_0/nin_shortcut/kernel",
                                            "score_model/up.block_0/nin_shortcut/bias",
                                            "score_model/GroupNorm_0/bias",
                                            "score_model/conv_out/kernel",
                                            "score_model/conv_out/bias",
                                            "gamma/dense_1/kernel",
                                            "gamma/dense_1/bias",
                                            "gamma/dense_2/kernel",
                                            "gamma/dense_out_a/kernel",
                                            "gamma/dense_out_b/kernel",
                                            "gamma/dense_out_c/kernel",
                                            "gamma/dense_out_c/bias",
                                            NULL};
        static const char *const encoder[] = {"encoder_model/conv_in/kernel",
                                              "encoder_model/dense0/bias",
                                              "encoder_model/dense1/kernel",
                                              "encoder_model/down.block_0/conv2/kernel",
                                              "encoder_model/down.block_0/GroupNorm_1/scale",
                                              "encoder_model/mid.attn_1/k/kernel",
                                              "encoder_model/conv_out/kernel",
                                              "encoder_model/dense_layer_final/kernel",
                                              "encoder_model/dense_layer_final/bias",
                                              NULL};
        struct config c = small(VDM_MULAN_VELOCITY, GAMMA_POLY_FIXEDEND);
        struct fixture x;

        (void)state;
        set_up(&x, &c);
        check_all(&x, score, bound_pass, bound_value);
        check_all(&x, encoder, encoder_pass, encoder_value);
        tear_down(&x);
}

/* The schedule's gradients kept as factors are the gradients. */
static void factors_multiply_to_the_gradient(void **state)
{
        struct config c = small(VDM_MULAN_VELOCITY, GAMMA_POLY_FIXEDEND);
        struct factored_gradients f = {0};
        struct fixture x;

        (void)state;
        set_up(&x, &c);
        bound_pass(x.model, &x);
        x.k->copy_out(x.stream, x.grads_host, x.grads, (size_t)x.layout->n_values * sizeof(float));
        f.rows = M;
        f.memory = device_memory(&x, (size_t)factored_values(x.layout, M) * sizeof(float));
        x.model->pass.factored = &f;
        bound_pass(x.model, &x);
        assert_int_equal(x.k->stream_sync(x.stream, NULL), 0);
        assert_int_equal(f.n, 10); /* five layers, each with its bias */
        for (size_t i = 0; i < f.n; i++) {
                const struct outer_gradient *o = &f.gradient[i];
                double error = 0, norm = 0;

                assert_int_equal(o->k * o->n, f.param[i]->size);
                for (int64_t j = 0; j < f.param[i]->size; j += 7) {
                        double g = 0, truth = (double)x.grads_host[f.param[i]->offset + j];

                        for (int64_t row = 0; row < o->rows; row++)
                                g += (double)o->x[row * o->k + j / o->n] * (double)o->dy[row * o->n + j % o->n];
                        error += (g - truth) * (g - truth);
                        norm += truth * truth;
                }
                assert_true(norm > 0 && error <= 1e-10 * norm);
        }
        tear_down(&x);
}

static void bound_of_epsilon_with_a_monotone_schedule(void **state)
{
        static const char *const names[] = {"gamma/l1/kernel",
                                            "gamma/l1/bias",
                                            "gamma/l2/kernel",
                                            "gamma/l2/bias",
                                            "gamma/l_int/kernel",
                                            "gamma/l_int/bias",
                                            "gamma/l3/kernel",
                                            "score_model/conv_in/kernel",
                                            NULL};
        struct config c = small(VDM_MULAN_EPSILON, GAMMA_LEARNABLE_NNET);
        struct fixture x;

        (void)state;
        set_up(&x, &c);
        check_all(&x, names, bound_pass, bound_value);
        tear_down(&x);
}

static void bound_of_the_baseline(void **state)
{
        static const char *const scalar[] = {"gamma/w", "gamma/b", "score_model/mid.block_1/conv1/kernel", NULL};
        static const char *const net[] = {"gamma/l1/kernel", "gamma/l1/bias",   "gamma/l2/kernel",
                                          "gamma/l2/bias",   "gamma/l3/kernel", NULL};
        static const char *const discrete[] = {"gamma/l1/bias", "score_model/conv_out/kernel", NULL};
        struct config c = small(VDM_VDM, GAMMA_LEARNABLE_SCALAR);
        struct fixture x;

        (void)state;
        set_up(&x, &c);
        check_all(&x, scalar, bound_pass, bound_value);
        tear_down(&x);
        c.gamma_type = GAMMA_LEARNABLE_NNET;
        set_up(&x, &c);
        check_all(&x, net, bound_pass, bound_value);
        tear_down(&x);
        c.sm_n_timesteps = 10;
        set_up(&x, &c);
        check_all(&x, discrete, bound_pass, bound_value);
        tear_down(&x);
}

/* All of a network's gradient at one time, in the weight asked for and in the likelihood's. */
static void another_weight_scales_the_gradient(void **state)
{
        static const enum loss_weight weights[] = {LOSS_WEIGHT_SIMPLE, LOSS_WEIGHT_FLOW_MATCHING};
        /* the straight path's own time at t = 0.4, and gamma' there */
        double first = 1 / (1 + exp(13.3 / 2)), span = 1 / (1 + exp(-5.0 / 2)) - first, u = first + 0.4 * span;
        double slope = span * 2 / (u * (1 - u));
        const float times[M] = {0.4f, 0.4f};
        (void)state;

        for (size_t i = 0; i < ARRAY_LEN(weights); i++) {
                double want = 18.3 / slope * (weights[i] == LOSS_WEIGHT_SIMPLE ? 1 : pow(1 - u, -2)), dot = 0, norm = 0;
                float *likelihood = NULL;

                for (int j = 0; j < 2; j++) {
                        struct fixture x;
                        struct config c;
                        size_t bytes;

                        config_defaults(&c);
                        c.vdm_type = VDM_VDM;
                        c.gamma_type = GAMMA_STRAIGHT;
                        c.sm_n_embd = 32;
                        c.sm_n_layer = 1;
                        c.loss_weight = j ? weights[i] : LOSS_WEIGHT_LIKELIHOOD;
                        set_up(&x, &c);
                        bytes = (size_t)x.layout->n_values * sizeof(float);
                        x.k->copy_in(x.stream, (void *)x.batch.t, times, sizeof times);
                        bound_pass(x.model, &x);
                        x.k->copy_out(x.stream, x.grads_host, x.grads, bytes);
                        assert_int_equal(x.k->stream_sync(x.stream, NULL), 0);
                        if (!j) {
                                likelihood = malloc(bytes);
                                assert_non_null(likelihood);
                                memcpy(likelihood, x.grads_host, bytes);
                        }
                        for (int64_t k = 0; j && k < x.layout->n_values; k++) {
                                dot += (double)likelihood[k] * x.grads_host[k];
                                norm += (double)likelihood[k] * likelihood[k];
                        }
                        tear_down(&x);
                }
                free(likelihood);
                if (!(fabs(dot / norm / want - 1) < 1e-4))
                        fail_msg("the gradient is %g times the likelihood's, should be %g", dot / norm, want);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bound_of_velocity),
                cmocka_unit_test(factors_multiply_to_the_gradient),
                cmocka_unit_test(bound_of_epsilon_with_a_monotone_schedule),
                cmocka_unit_test(bound_of_the_baseline),
                cmocka_unit_test(another_weight_scales_the_gradient),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
