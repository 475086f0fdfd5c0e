/* golden-test [--backend NAME] [--threads N] [--precision P] [--verbose] DIR: runs the golden case in DIR (its
 * case.json says what to do) and compares. 0: everything within 4 times the reference's own float32 error, and what
 * golden_round allows beside it; 1: not; 77: an operation or configuration that this release leaves to a later one,
 * with its reason. */
#include "tests/golden/network.h"

#include "engine/dataset.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- layers: parameters are listed in the case */

static int64_t shape_of(const json_t *shape, int64_t ret[4])
{
        int64_t size = 1;

        for (size_t i = 0; i < 4; i++) {
                ret[i] = i < json_array_size(shape) ? json_integer_value(json_array_get(shape, i)) : 1;
                size *= ret[i];
        }
        return size;
}

static enum param_role role_of(const char *name)
{
        const char *leaf = strrchr(name, '/');

        return !strcmp(leaf, "/scale") ? PARAM_SCALE : !strcmp(leaf, "/bias") ? PARAM_BIAS : PARAM_KERNEL;
}

/* The parameters that the case lists, in its order; the tape's declarations must find each there. */
static struct params *layer_params(struct golden *g)
{
        const json_t *list = json_object_get(g->json, "parameters"), *shape;
        struct params *p = calloc(1, sizeof *p);
        const char *name;

        assert(p);
        json_object_foreach((json_t *)list, name, shape)
        {
                struct param q = {.role = role_of(name), .n_dims = (int)json_array_size(shape)};
                struct error err;
                size_t number;
                int r;

                (void)snprintf(q.name, sizeof q.name, "%s", name);
                (void)shape_of(shape, q.shape);
                r = params_declare(p, &q, &number, &err);
                assert(r == 0);
                (void)r;
        }
        params_lay_out(p);
        return p;
}

struct layer {
        struct golden *g;
        struct pass pass;
        struct tape tape;
        struct tensor *x, *cond, *y;
        float *value_x, *value_cond, *value_y, *dx, *d_cond, *dy; /* device */
};

/* The layer on a tape: parameters are "NAME/LEAF" in a block, "NAME" is the layer itself in the others. */
static void layer_describe(struct layer *l, const char *op, const char *name, const int64_t x[4], int64_t c_out,
                           int64_t n_cond)
{
        struct tape *t = &l->tape;
        bool map = strcmp(op, "dense_swish") != 0;

        l->x = net_input(t, map ? x[1] : 1, map ? x[2] : 1, map ? x[3] : x[1]);
        if (n_cond)
                l->cond = net_input(t, 1, 1, n_cond);
        if (!strcmp(op, "conv3x3"))
                l->y = net_conv(t, name, l->x, c_out);
        else if (!strcmp(op, "group_norm_swish"))
                l->y = net_norm(t, name, l->x, NULL, .swish = true);
        else if (!strcmp(op, "dense_swish"))
                l->y = net_swish(t, net_dense(t, name, l->x, NULL, c_out));
        else
                l->y = !strcmp(op, "attention") ? attention_block(t, name, l->x)
                                                : resnet_block(t, name, l->x, NULL, l->cond, c_out);
}

static void layer_run(struct layer *l)
{
        tape_bind(l->x, l->value_x, NULL, l->dx, false);
        if (l->cond)
                tape_bind(l->cond, l->value_cond, NULL, l->d_cond, false);
        tape_bind(l->y, l->value_y, NULL, l->dy, true);
        tape_forward(&l->pass, &l->tape);
        tape_backward(&l->pass, &l->tape);
}

static int run_layer(struct golden *g, const char *op)
{
        struct params *params = layer_params(g);
        struct layer l = {.g = g};
        _cleanup_(arena_freep) struct arena *arena = NULL;
        const json_t *inputs = json_object_get(g->json, "inputs"), *tensors = json_object_get(g->json, "tensors");
        _cleanup_(freep) float *host = golden_zeros(params->n_values);
        const char *name = strrchr(json_string_value(json_object_get(g->json, "case")), '/') + 1;
        int64_t x[4], y[4], cond[4] = {0}, n_x, n_y, n_cond = 0;
        float *grads = golden_device(g, params->n_values);
        int masks = 0;
        char s[128];
        struct error err;

        params_hash(params, 1, host);
        n_x = shape_of(json_object_get(inputs, "x"), x);
        n_y = shape_of(json_object_get(json_object_get(tensors, "y"), "shape"), y);
        if (json_object_get(inputs, "cond"))
                n_cond = shape_of(json_object_get(inputs, "cond"), cond);
        (void)snprintf(s, sizeof s, "%s/x", name);
        l.value_x = upload_normal(g, s, n_x);
        (void)snprintf(s, sizeof s, "%s/dy", name);
        l.dy = upload_normal(g, s, n_y);
        l.value_y = golden_device(g, n_y);
        l.dx = golden_device(g, n_x);
        if (n_cond) {
                (void)snprintf(s, sizeof s, "%s/cond", name);
                l.value_cond = upload_normal(g, s, n_cond);
                l.d_cond = golden_device(g, n_cond);
        }
        if (arena_new(g->k->memory_new(g->device, 1 << 28), 1 << 28, &arena, &err) < 0)
                return 1;
        l.pass = (struct pass){.k = g->k,
                               .device = g->device,
                               .stream = g->stream,
                               .arena = arena,
                               .layout = params,
                               .config = &g->config,
                               .params = golden_upload(g, host, (size_t)params->n_values * sizeof *host),
                               .grads = grads,
                               .m = x[0],
                               .keep = true};
        if (plans_new(&l.pass.plans, &err) < 0)
                return 1;
        tape_init(&l.tape, params, DTYPE_FLOAT32, &masks);
        layer_describe(&l, op, name, x, y[json_array_size(json_object_get(json_object_get(tensors, "y"), "shape")) - 1],
                       n_cond ? cond[1] : 0);
        if (l.tape.error.code == 0)
                layer_run(&l);
        if (l.tape.error.code || l.pass.failed < 0) {
                (void)printf("FAILED %s: %s%s\n", g->folder, l.tape.error.text, l.pass.error.text);
                return 1;
        }
        golden_device_tensor(g, "y", l.value_y, n_y);
        golden_device_tensor(g, "d_x", l.dx, n_x);
        if (l.d_cond)
                golden_device_tensor(g, "d_cond", l.d_cond, n_cond);
        for (size_t i = 0; i < params->n; i++) {
                (void)snprintf(s, sizeof s, "d_%s", params->items[i].name + strlen(name) + 1);
                golden_device_tensor(g, s, grads + params->items[i].offset, params->items[i].size);
        }
        tape_done(&l.tape);
        (void)plans_free(l.pass.plans, g->k);
        (void)params_free(params);
        return 0;
}

static int run_embeddings(struct golden *g)
{
        const json_t *list = json_object_get(json_object_get(g->json, "inputs"), "t");
        int64_t m = (int64_t)json_array_size(list), pixels = 64;
        struct pass p = {.k = g->k, .stream = g->stream};
        float *t, *y = golden_device(g, m * 128), *z = upload_normal(g, "fourier/z", pixels * 3);
        float *features = golden_device(g, pixels * 15), host[64 * 15], times[16];

        assert(m <= 16);
        for (int64_t i = 0; i < m; i++)
                times[i] = (float)json_number_value(json_array_get(list, (size_t)i));
        t = golden_upload(g, times, (size_t)m * sizeof *times);
        for (int64_t n = 32; n <= 128; n *= 4) {
                RUN(&p, time_embedding_forward, .m = m, .n = n, .g = t, .offset = 0, .scale = 1, .y = y, .y_stride = n);
                golden_device_tensor(g, n == 32 ? "timestep_32" : "timestep_128", y, m * n);
        }
        RUN(&p, fourier_forward, .n_pixels = pixels, .z = z, .y = features);
        golden_download(g, features, host, sizeof host);
        for (int64_t i = 0; i < pixels; i++) /* without the three channels of z itself */
                memmove(host + 12 * i, host + 15 * i + 3, 12 * sizeof *host);
        golden_tensor(g, "fourier", host, pixels * 12);
        return 0;
}

/* ---- whole networks */

static void network_gradients(struct network *n, const char *what, const float *device)
{
        size_t bytes = (size_t)n->layout->n_values * sizeof(float);
        _cleanup_(freep) float *host = golden_zeros(n->layout->n_values);

        golden_download(n->g, device, host, bytes);
        golden_digests(n->g, what, n->layout, host);
}

struct score {
        float *z, *g, *e, *dy, *y, *dz, *dg, *de;
};

static void score_pass(struct model *model, void *user)
{
        struct score *s = user;
        struct score_network *n = &model->networks.score;

        tape_bind(n->z, s->z, NULL, s->dz, false);
        tape_bind(n->g, s->g, NULL, s->dg, false);
        tape_bind(n->e, s->e, NULL, s->de, false);
        tape_bind(n->net, s->y, NULL, s->dy, true);
        tape_forward(&model->pass, &n->tape);
        tape_backward(&model->pass, &n->tape);
}

static float *upload_latent(struct golden *g, int64_t rows, int64_t k)
{
        _cleanup_(freep) double *u = golden_uniform("input/e", rows * k);
        _cleanup_(freep) float *e = golden_zeros(rows * k);

        for (int64_t i = 0; i < rows * k; i++)
                e[i] = u[i] < 0.3;
        return golden_upload(g, e, (size_t)(rows * k) * sizeof *e);
}

static int run_score_network(struct golden *g)
{
        int64_t m = g->batch, n = m * DIMENSIONS, k = g->config.latent_size;
        int64_t n_times = g->config.unet_type == UNET_LDM ? n : m;
        _cleanup_(freep) double *u = golden_uniform("input/g", n_times);
        _cleanup_(freep) float *times = golden_zeros(n_times);
        struct score s = {.z = upload_normal(g, "input/z", n),
                          .e = upload_latent(g, m, k),
                          .dy = upload_normal(g, "input/dy", n),
                          .y = golden_device(g, n),
                          .dz = golden_device(g, n),
                          .dg = golden_device(g, n_times),
                          .de = golden_device(g, m * k)};
        struct network net;
        int r;

        for (int64_t i = 0; i < n_times; i++)
                times[i] = (float)(-13.3 + 18.3 * u[i]);
        s.g = golden_upload(g, times, (size_t)n_times * sizeof *times);
        r = network_open(g, m, true, score_pass, &s, &net);
        if (r)
                return r;
        golden_device_tensor(g, "y", s.y, n);
        golden_device_tensor(g, "d_z", s.dz, n);
        golden_device_tensor(g, "d_g", s.dg, n_times);
        golden_device_tensor(g, "d_e", s.de, m * k);
        network_gradients(&net, "gradients", net.grads);
        network_close(&net);
        return 0;
}

struct encoding {
        struct golden *g;
        float *f, *zero, *logits, *d_logits;
        float *spread, *d_var; /* gaussian: var before its softplus; the gradient of var */
};

/* The gradient of what a softplus is taken of. */
static void spread_gradient(const struct encoding *s, float *ret)
{
        int64_t n = s->g->batch * s->g->config.latent_size;
        _cleanup_(freep) float *raw = golden_zeros(n), *d_var = golden_zeros(n);

        golden_download(s->g, s->spread, raw, (size_t)n * sizeof *raw);
        golden_download(s->g, s->d_var, d_var, (size_t)n * sizeof *d_var);
        for (int64_t i = 0; i < n; i++)
                raw[i] = (float)((double)d_var[i] / (1 + exp(-(double)raw[i])));
        golden_write(s->g, ret, raw, (size_t)n * sizeof *raw);
}

static void encoder_pass(struct model *model, void *user)
{
        struct encoding *s = user;
        struct encoder_network *n = &model->networks.encoder;

        tape_bind(n->f, s->f, NULL, NULL, false);
        tape_bind(n->time, s->zero, NULL, NULL, false);
        tape_bind(n->context, s->zero, NULL, NULL, false);
        tape_bind(n->logits, s->logits, NULL, s->d_logits, true);
        if (n->spread)
                tape_bind(n->spread, s->spread, NULL, golden_device(s->g, s->g->batch * s->g->config.latent_size),
                          true);
        tape_forward(&model->pass, &n->tape);
        if (n->spread)
                spread_gradient(s, n->spread->d);
        tape_backward(&model->pass, &n->tape);
}

static void encoder_outputs(struct golden *g, const struct encoding *s, int64_t n)
{
        _cleanup_(freep) float *var = golden_zeros(n);

        if (g->config.latent_type != LATENT_GAUSSIAN) {
                golden_device_tensor(g, "logits", s->logits, n);
                return;
        }
        golden_device_tensor(g, "mu", s->logits, n);
        golden_download(g, s->spread, var, (size_t)n * sizeof *var);
        for (int64_t i = 0; i < n; i++)
                var[i] = (float)log1p(exp((double)var[i]));
        golden_tensor(g, "var", var, n);
}

static int run_encoder(struct golden *g)
{
        int64_t m = g->batch, n = m * DIMENSIONS, k = g->config.latent_size;
        bool gaussian = g->config.latent_type == LATENT_GAUSSIAN;
        struct encoding s = {.g = g,
                             .f = golden_device(g, n),
                             .zero = golden_device(g, m),
                             .logits = golden_device(g, m * k),
                             .spread = golden_device(g, m * k),
                             .d_logits = upload_normal(g, gaussian ? "input/d_mu" : "input/d_logits", m * k),
                             .d_var = upload_normal(g, "input/d_var", m * k)};
        struct pass p = {.k = g->k, .stream = g->stream};
        struct network net;
        int r;

        RUN(&p, encode_image, .n = n, .x = upload_images(g, m), .f = s.f);
        r = network_open(g, m, true, encoder_pass, &s, &net);
        if (r)
                return r;
        encoder_outputs(g, &s, m * k);
        network_gradients(&net, "gradients", net.grads);
        network_close(&net);
        return 0;
}

/* ---- schedules */

struct schedule_case {
        float *e, *t, *d_gamma, *d_gamma_prime, *gamma, *gamma_prime, *de;
        int64_t n;
};

static void schedule_pass(struct model *model, void *user)
{
        struct schedule_case *c = user;
        struct pass *p = &model->pass;
        struct schedule_at at;
        size_t mark = arena_mark(p->arena);

        schedule_begin(p, &model->schedule, c->e);
        schedule_evaluate(p, &model->schedule, c->t, &at);
        RUN(p, copy_2d, .rows = 1, .columns = c->n, .x = at.gamma, .y = c->gamma, .scale = 1);
        RUN(p, copy_2d, .rows = 1, .columns = c->n, .x = at.gamma_prime, .y = c->gamma_prime, .scale = 1);
        schedule_evaluate_backward(p, &model->schedule, &at, c->d_gamma, c->d_gamma_prime, c->de);
        schedule_begin_backward(p, &model->schedule, c->de);
        arena_release_since(p->arena, mark);
}

static int run_schedule(struct golden *g)
{
        const json_t *list = json_object_get(g->json, "t");
        bool baseline = g->config.vdm_type == VDM_VDM;
        int64_t m = g->batch, n = m * (baseline ? 1 : DIMENSIONS), k = g->config.latent_size;
        struct schedule_case c = {.n = n,
                                  .d_gamma = upload_normal(g, "input/d_gamma", n),
                                  .d_gamma_prime = upload_normal(g, "input/d_gamma_prime", n),
                                  .gamma = golden_device(g, n),
                                  .gamma_prime = golden_device(g, n)};
        _cleanup_(freep) float *times = golden_zeros(m);
        struct network net;
        int r;

        for (int64_t i = 0; i < m; i++)
                times[i] = (float)json_number_value(json_array_get(list, (size_t)i));
        c.t = golden_upload(g, times, (size_t)m * sizeof *times);
        if (!baseline) {
                c.e = upload_latent(g, m, k);
                c.de = golden_device(g, m * k);
        }
        r = network_open(g, m, true, schedule_pass, &c, &net);
        if (r)
                return r;
        golden_device_tensor(g, "gamma", c.gamma, n);
        golden_device_tensor(g, "gamma_prime", c.gamma_prime, n);
        if (golden_wants(g, "tensors", "d_e")) {
                /* the dry run and the run both end in +=, but only the run computes */
                golden_device_tensor(g, "d_e", c.de, m * k);
        }
        network_gradients(&net, "gradients", net.grads);
        network_close(&net);
        return 0;
}

/* ---- losses */

struct loss {
        struct batch batch;
        struct bound_results ret;
        float grad_scale;
        struct step_state *state; /* gumbel: with its temperature */
};

static struct step_state *gumbel_state(struct golden *g)
{
        double step = json_number_value(json_object_get(g->json, "step"));
        struct step_state state = {.tau = (float)fmax(0.5, exp(-1e-5 * step))};

        return golden_upload(g, &state, sizeof state);
}

static void loss_pass(struct model *model, void *user)
{
        struct loss *l = user;

        if (l->state)
                model->pass.state = l->state;
        model_bound(model, &l->batch, l->grad_scale, &l->ret);
}

/* Noise of a batch of m images from the streams PREFIX/..; x is set by the caller. */
static void upload_noise(struct golden *g, const char *prefix, double t0, int64_t m, struct batch *ret)
{
        const struct config *c = &g->config;
        int64_t T = c->sm_n_timesteps, n = m * c->latent_size;
        _cleanup_(freep) float *t = golden_zeros(m), *s = golden_zeros(m);
        char name[160];

        for (int64_t i = 0; i < m; i++) {
                t[i] = (float)fmod(t0 + (double)i / (double)m, 1);
                if (T) {
                        double whole = ceil((double)t[i] * (double)T);

                        t[i] = (float)(whole / (double)T);
                        s[i] = (float)((whole - 1) / (double)T);
                }
        }
        ret->t = golden_upload(g, t, (size_t)m * sizeof *t);
        ret->s = golden_upload(g, s, (size_t)m * sizeof *s);
        (void)snprintf(name, sizeof name, "%s/eps_0", prefix);
        ret->eps_0 = upload_normal(g, name, m * DIMENSIONS);
        (void)snprintf(name, sizeof name, "%s/eps", prefix);
        ret->eps = upload_normal(g, name, m * DIMENSIONS);
        (void)snprintf(name, sizeof name, "%s/latent", prefix);
        if (bound_noise(c) == NOISE_SUM_OF_GAMMA) {
                _cleanup_(freep) double *u = golden_uniform(name, 10 * n);
                _cleanup_(freep) float *raw = golden_zeros(10 * n);

                for (int64_t i = 0; i < 10 * n; i++)
                        raw[i] = (float)pow(u[i] + 0x1p-25, (double)c->latent_k);
                ret->latent = golden_upload(g, raw, (size_t)(10 * n) * sizeof *raw);
        } else {
                ret->latent = upload_normal(g, name, n);
        }
}

static const char *numbered(char *buf, size_t size, const char *pattern, int64_t i)
{
        const char *at = strstr(pattern, "{i}");

        if (at)
                (void)snprintf(buf, size, "%.*s%lld%s", (int)(at - pattern), pattern, (long long)i, at + 3);
        else
                (void)snprintf(buf, size, "%s", pattern);
        return buf;
}

static double noise_of(struct golden *g, int64_t i, char *ret_prefix, size_t size)
{
        const json_t *noise = json_object_get(g->json, "noise");

        (void)numbered(ret_prefix, size, json_string_value(json_object_get(noise, "prefix")), i);
        return json_number_value(json_object_get(noise, "t0")) +
               (double)i * json_number_value(json_object_get(noise, "t0_step"));
}

static void loss_results(struct golden *g, int64_t m, struct bound_results *ret)
{
        int64_t k = g->config.latent_size;

        *ret = (struct bound_results){.terms = golden_device(g, 3 * m),
                                      .kl = golden_device(g, m),
                                      .vars = golden_device(g, 2 * m),
                                      .logits = golden_device(g, m * k),
                                      .embedding = golden_device(g, m * k),
                                      .net = golden_device(g, m * DIMENSIONS)};
}

/* Per image: reconstruction, latent (prior and KL), diffusion in nats. Returns the mean BPD. */
static double loss_terms(struct golden *g, int64_t m, const struct bound_results *r, float *ret_terms)
{
        _cleanup_(freep) float *kl = golden_zeros(m);
        double sum = 0;

        golden_download(g, r->terms, ret_terms, (size_t)(3 * m) * sizeof *ret_terms);
        golden_download(g, r->kl, kl, (size_t)m * sizeof *kl);
        for (int64_t i = 0; i < m; i++) {
                ret_terms[3 * i + 1] += kl[i];
                sum += (double)ret_terms[3 * i] + (double)ret_terms[3 * i + 1] + (double)ret_terms[3 * i + 2];
        }
        return sum / (double)m / (DIMENSIONS * M_LN2);
}

/* The residual block whose dropout mask has that number, "score_model/down.block_0": the norm's scale is
 * "BLOCK/GroupNorm_1/scale". */
static void block_name(const struct networks *n, int number, char ret[PARAM_NAME_MAX])
{
        const struct tape *const tapes[] = {&n->score.tape, &n->encoder.tape};

        for (size_t i = 0; i < ARRAY_LEN(tapes); i++)
                for (size_t j = 0; j < tapes[i]->n; j++)
                        if (tapes[i]->tensors[j]->dropout == number) {
                                (void)snprintf(ret, PARAM_NAME_MAX, "%s",
                                               tapes[i]->layout->items[tapes[i]->tensors[j]->w].name);
                                *strrchr(ret, '/') = '\0';
                                *strrchr(ret, '/') = '\0';
                        }
}

/* Masks of all residual blocks, as dropout multiplies them. The array is static: one case a process. */
static const float *const *dropout_masks(struct golden *g, const struct model *model, int64_t m)
{
        static const float *masks[1024];
        float keep = (float)(1 - g->config.sm_pdrop);

        assert(model->networks.n_dropouts <= 1024);
        for (int i = 0; i < model->networks.n_dropouts; i++) {
                int64_t n = m * IMAGE_PIXELS * g->config.sm_n_embd;
                _cleanup_(freep) float *x = golden_zeros(n);
                _cleanup_(freep) double *u = NULL;
                char block[PARAM_NAME_MAX], name[160];

                block_name(&model->networks, i, block);
                (void)snprintf(name, sizeof name, "dropout/%s", block);
                u = golden_uniform(name, n);
                for (int64_t j = 0; j < n; j++)
                        x[j] = (u[j] < 1 - g->config.sm_pdrop) / keep;
                masks[i] = golden_upload(g, x, (size_t)n * sizeof *x);
        }
        return masks;
}

static void no_pass(struct model *model, void *user)
{
        (void)model;
        (void)user;
}

static int run_loss(struct golden *g)
{
        int64_t m = g->batch;
        _cleanup_(freep) float *terms = golden_zeros(3 * m), *vars = golden_zeros(2 * m), *column = golden_zeros(m);
        static const char *const names[] = {"loss_recon", "loss_klz", "loss_diff"};
        struct loss l = {.grad_scale = (float)(1 / ((double)m * DIMENSIONS * M_LN2))};
        struct network net, masked;
        char prefix[128];
        double bpd, sums[2] = {0};
        int r;

        if (g->config.latent_type == LATENT_GUMBEL)
                l.state = gumbel_state(g);
        r = network_open(g, m, true, no_pass, NULL, &masked);
        if (r)
                return r;
        l.batch.x = upload_images(g, m);
        upload_noise(g, prefix, noise_of(g, 0, prefix, sizeof prefix), m, &l.batch);
        loss_results(g, m, &l.ret);
        if (json_is_true(json_object_get(g->json, "dropout"))) {
                struct step_state *state = golden_upload(g, NULL, sizeof *state);
                size_t bytes;
                struct error err;

                masked.model->pass.state = state;
                masked.model->pass.rows = golden_upload(g, NULL, (size_t)m * sizeof(struct row));
                masked.model->pass.dropout = true;
                masked.model->pass.dropout_masks = dropout_masks(g, masked.model, m);
                if (model_dry_run(masked.model, loss_pass, &l, &bytes, &err) < 0 ||
                    arena_new(golden_upload(g, NULL, bytes), bytes, &masked.model->pass.arena, &err) < 0)
                        return 1;
                loss_pass(masked.model, &l);
                net = masked;
        } else {
                network_close(&masked);
                r = network_open(g, m, true, loss_pass, &l, &net);
                if (r)
                        return r;
        }
        bpd = loss_terms(g, m, &l.ret, terms);
        golden_scalar(g, "bpd", bpd);
        for (int j = 0; j < 3; j++) {
                for (int64_t i = 0; i < m; i++)
                        column[i] = terms[3 * i + j];
                golden_tensor(g, names[j], column, m);
        }
        golden_download(g, l.ret.vars, vars, (size_t)(2 * m) * sizeof *vars);
        for (int64_t i = 0; i < 2 * m; i++)
                sums[i % 2] += (double)vars[i] / (double)m;
        golden_scalar(g, "var_0", sums[0]);
        golden_scalar(g, "var_1", sums[1]);
        golden_device_tensor(g, "kl_z", l.ret.kl, m);
        golden_device_tensor(g, "logits", l.ret.logits, m * g->config.latent_size);
        golden_device_tensor(g, "embedding", l.ret.embedding, m * g->config.latent_size);
        golden_device_tensor(g, "net", l.ret.net, m * DIMENSIONS);
        network_gradients(&net, "gradients", net.grads);
        network_close(&net);
        return 0;
}

/* ---- training */

static void training_digests(struct network *net, int64_t step, const struct optimizer_buffers *b, const float *initial)
{
        static const char *const names[] = {"params", "ema", "m", "v"};
        const float *device[] = {b->params, b->ema, b->m, b->v};
        int64_t n = net->layout->n_values;
        _cleanup_(freep) float *host = golden_zeros(n);

        for (int i = 0; i < 4; i++) {
                char what[64];

                golden_download(net->g, device[i], host, (size_t)n * sizeof *host);
                for (int64_t j = 0; i < 2 && j < n; j++)
                        host[j] -= initial[j];
                (void)snprintf(what, sizeof what, "step_%lld_%s%s", (long long)step, names[i],
                               i < 2 ? "_minus_initial" : "");
                golden_digests(net->g, what, net->layout, host);
        }
}

static int run_training(struct golden *g)
{
        int64_t m = g->batch, steps = json_integer_value(json_object_get(g->json, "steps"));
        _cleanup_(freep) float *terms = golden_zeros(3 * m), *initial = NULL;
        struct loss l = {.grad_scale = (float)(1 / ((double)m * DIMENSIONS * M_LN2))};
        struct optimizer_buffers b;
        struct network net;
        char prefix[128];
        int r;

        g->config.learning_rate = json_number_value(json_object_get(g->json, "lr_peak"));
        g->config.num_steps_lr_warmup = json_integer_value(json_object_get(g->json, "warmup"));
        g->config.ema_rate = json_number_value(json_object_get(g->json, "ema_rate"));
        l.batch.x = upload_images(g, m);
        upload_noise(g, prefix, noise_of(g, 0, prefix, sizeof prefix), m, &l.batch);
        loss_results(g, m, &l.ret);
        r = network_open(g, m, true, loss_pass, &l, &net);
        if (r)
                return r;
        initial = golden_zeros(net.layout->n_values);
        params_hash(net.layout, (float)g->gain, initial);
        b = (struct optimizer_buffers){.params = net.params,
                                       .ema = golden_upload(g, initial, (size_t)net.layout->n_values * sizeof *initial),
                                       .m = golden_device(g, net.layout->n_values),
                                       .v = golden_device(g, net.layout->n_values),
                                       .grads = net.grads,
                                       .state = golden_upload(g, NULL, sizeof(struct step_state))};
        for (int64_t i = 0; i < steps; i++) {
                char name[32];

                optimizer_begin(&net.model->pass, &b);
                upload_noise(g, prefix, noise_of(g, i, prefix, sizeof prefix), m, &l.batch);
                loss_pass(net.model, &l);
                (void)snprintf(name, sizeof name, "bpd_%lld", (long long)i);
                golden_scalar(g, name, loss_terms(g, m, &l.ret, terms));
                optimizer_step(&net.model->pass, &b);
                training_digests(&net, i, &b, initial);
        }
        network_close(&net);
        return 0;
}

/* ---- dense bound */

static int run_dense_bound(struct golden *g)
{
        int64_t images = json_integer_value(json_object_get(g->json, "images"));
        int64_t m = json_integer_value(json_object_get(g->json, "n_timesteps"));
        _cleanup_(freep) float *terms = golden_zeros(3 * m), *rows = golden_zeros(3 * images),
                               *bpds = golden_zeros(images);
        uint8_t *all = upload_images(g, images);
        struct loss l = {0};
        struct network net = {0};
        double mean = 0;

        loss_results(g, m, &l.ret);
        for (int64_t i = 0; i < images; i++) {
                uint8_t *repeated = golden_upload(g, NULL, (size_t)(m * DIMENSIONS));
                _cleanup_(freep) uint8_t *one = malloc(DIMENSIONS);
                char prefix[128];
                double bpd;
                int r;

                assert(one);
                golden_download(g, all + i * DIMENSIONS, one, DIMENSIONS);
                for (int64_t j = 0; j < m; j++)
                        g->k->copy_in(g->stream, repeated + j * DIMENSIONS, one, DIMENSIONS);
                l.batch.x = repeated;
                upload_noise(g, prefix, noise_of(g, i, prefix, sizeof prefix), m, &l.batch);
                r = network_open(g, m, false, loss_pass, &l, &net);
                if (r)
                        return r;
                bpd = loss_terms(g, m, &l.ret, terms);
                network_close(&net);
                bpds[i] = (float)bpd;
                mean += bpd / (double)images;
                for (int64_t j = 0; j < 3; j++) {
                        double sum = 0;

                        for (int64_t x = 0; x < m; x++)
                                sum += terms[3 * x + j];
                        rows[3 * i + j] = (float)(sum / (double)m);
                }
        }
        golden_tensor(g, "terms_per_image", rows, 3 * images);
        golden_tensor(g, "bpd_per_image", bpds, images);
        golden_scalar(g, "bpd", mean);
        return 0;
}

static int run(struct golden *g)
{
        static const struct {
                const char *op;
                int (*run)(struct golden *g);
        } table[] = {{"embeddings", run_embeddings},
                     {"score_network", run_score_network},
                     {"encoder", run_encoder},
                     {"schedule", run_schedule},
                     {"loss", run_loss},
                     {"training", run_training},
                     {"dense_bound", run_dense_bound},
                     {"ode", run_flow},
                     {"likelihood", run_exact},
                     {"sampling", run_sampling}};
        static const char *const layers[] = {"conv3x3", "group_norm_swish", "dense_swish", "attention", "resnet_block"};
        const char *op = json_string_value(json_object_get(g->json, "op"));

        for (size_t i = 0; op && i < ARRAY_LEN(table); i++)
                if (!strcmp(op, table[i].op))
                        return table[i].run(g);
        for (size_t i = 0; op && i < ARRAY_LEN(layers); i++)
                if (!strcmp(op, layers[i]))
                        return run_layer(g, op);
        (void)printf("SKIPPED %s: this release does not compute \"%s\"\n", g->folder, op ? op : "");
        return SKIPPED;
}

static bool precision_of(const char *name, enum precision *ret)
{
        for (int i = 0; precision_names[i]; i++)
                if (!strcmp(name, precision_names[i])) {
                        *ret = (enum precision)i;
                        return true;
                }
        return false;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {{"backend", required_argument, NULL, 'b'},
                                                {"threads", required_argument, NULL, 't'},
                                                {"precision", required_argument, NULL, 'p'},
                                                {"verbose", no_argument, NULL, 'v'},
                                                {0}};
        const char *backend = "cpu";
        int threads = 2, c, r;
        enum precision precision = PRECISION_FLOAT32;
        bool verbose = false;
        struct golden g;
        struct error err;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (c == 'b')
                        backend = optarg;
                else if (c == 't')
                        threads = atoi(optarg);
                else if (c == 'p' && precision_of(optarg, &precision))
                        continue;
                else if (c == 'v')
                        verbose = true;
                else
                        argc = 0;
        }
        if (argc != optind + 1 || threads < 1) {
                (void)fprintf(stderr,
                              "usage: golden-test [--backend NAME] [--threads N] [--precision P] [--verbose] DIR\n");
                return 2;
        }
        r = golden_open(argv[optind], backend, threads, &g, &err);
        if (r == -ENOTSUP || r == -ENODEV) {
                (void)printf("SKIPPED %s: %s: %s\n", argv[optind], err.path, err.text);
                return SKIPPED;
        }
        if (r < 0) {
                (void)printf("FAILED %s: %s: %s\n", argv[optind], err.path, err.text);
                return 1;
        }
        g.verbose = verbose;
        golden_round(&g, precision);
        r = run(&g);
        if (r)
                return r;
        g.n_failed += golden_unasked(&g);
        (void)printf("%s %s: %d of %d comparisons failed\n", g.n_failed || !g.n_compared ? "FAILED" : "passed",
                     g.folder, g.n_failed, g.n_compared);
        r = g.n_failed || !g.n_compared;
        golden_close(&g);
        return r;
}
