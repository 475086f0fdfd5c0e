/* The whole model: networks and bound. The pass reads top to bottom as spec 5, then bottom to top for the gradients. */
#include "engine/model.h"

#include "engine/dataset.h"

#include <assert.h>
#include <errno.h>

static enum parameterisation parameterisation_of(const struct config *c)
{
        if (c->vdm_type == VDM_MULAN_VELOCITY)
                return c->velocity_from_epsilon ? PARAM_VELOCITY_FROM_EPSILON : PARAM_VELOCITY;
        return c->sm_n_timesteps ? PARAM_EPSILON_DISCRETE : PARAM_EPSILON;
}

int model_new(const struct kernels *k, struct device *device, struct stream *stream, struct params *layout,
              const struct config *config, int64_t m, enum precision precision, struct model **ret, struct error *err)
{
        _cleanup_(model_freep) struct model *model = calloc(1, sizeof *model);
        enum dtype type = precision == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_FLOAT32;
        int r;

        if (!model)
                return error_set(err, -ENOMEM, NULL, "no memory for the model");
        model->pass = (struct pass){.k = k,
                                    .device = device,
                                    .stream = stream,
                                    .layout = layout,
                                    .config = config,
                                    .m = m,
                                    .tf32 = precision == PRECISION_TF32};
        model->baseline = config->vdm_type == VDM_VDM;
        model->parameterisation = parameterisation_of(config);
        r = plans_new(&model->pass.plans, err);
        if (r >= 0)
                r = networks_init(&model->networks, config, layout, type, err);
        if (r >= 0)
                r = schedule_init(&model->schedule, config, layout, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(model);
        return 0;
}

struct model *model_free(struct model *model)
{
        if (!model)
                return NULL;
        networks_done(&model->networks);
        model->pass.plans = plans_free(model->pass.plans, model->pass.k);
        free(model);
        return NULL;
}

int model_dry_run(struct model *model, void (*f)(struct model *, void *user), void *user, size_t *ret_bytes,
                  struct error *err)
{
        _cleanup_(arena_freep) struct arena *arena = NULL;
        struct arena *real_arena = model->pass.arena;
        const struct kernels *real = model->pass.k;
        struct kernels dry;
        int r = arena_new(NULL, 0, &arena, err);

        if (r < 0)
                return r;
        kernels_dry(real, &dry);
        model->pass.k = &dry;
        model->pass.arena = arena;
        f(model, user);
        model->pass.k = real;
        model->pass.arena = real_arena;
        if (model->pass.failed < 0) {
                *err = model->pass.error;
                return model->pass.failed;
        }
        assert(arena_used(arena) == 0);
        *ret_bytes = arena_peak(arena);
        return 0;
}

enum latent_noise bound_noise(const struct config *c)
{
        if (c->latent_type == LATENT_GAUSSIAN)
                return NOISE_NORMAL;
        if (c->latent_type == LATENT_GUMBEL)
                return NOISE_GUMBEL;
        return c->topk_noise_type == TOPK_NOISE_GAMMA || c->vdm_type == VDM_MULAN_VELOCITY ? NOISE_SUM_OF_GAMMA
                                                                                           : NOISE_GUMBEL;
}

/* What a pass over the bound holds between forward and backward. */
struct bound_pass {
        float *f;                                      /* the image */
        float *e, *logits, *spread, *soft, *norm, *kl; /* the latent; spread: gaussian's */
        float *zero, *one;                             /* [m]: times 0 and 1 */
        float *label;                                  /* [m], borrowed */
        struct schedule_at at_0, at_1, at_t, at_s;
        float *z, *net;                            /* z with its low part behind it */
        float *d_net, *d_z, *dg, *de, *d_gamma[4]; /* gammas: 0, 1, t, prime (of s when discrete) */
};

/* noise NULL: the largest logits alone, or gaussian's mean */
static void latent_forward(struct model *model, struct bound_pass *b, const float *noise)
{
        struct pass *p = &model->pass;
        const struct config *c = p->config;
        struct encoder_network *encoder = &model->networks.encoder;
        int64_t m = p->m, n = c->latent_size;

        b->soft = pass_alloc(p, m * n);
        b->norm = pass_alloc(p, m);
        tape_bind(encoder->f, b->f, NULL, NULL, false);
        tape_bind(encoder->time, b->zero, NULL, NULL, false);
        tape_bind(encoder->context, b->zero, NULL, NULL, false);
        tape_bind(encoder->logits, b->logits, NULL, NULL, true);
        if (encoder->spread) {
                b->spread = pass_alloc(p, m * n);
                tape_bind(encoder->spread, b->spread, NULL, NULL, true);
        }
        tape_forward(p, &encoder->tape);
        if (c->latent_type == LATENT_GAUSSIAN)
                RUN(p, gaussian_forward, .m = m, .n = n, .mu = b->logits, .raw = b->spread, .noise = noise, .e = b->e,
                    .kl = b->kl);
        else if (c->latent_type == LATENT_GUMBEL && noise)
                RUN(p, gumbel_forward, .m = m, .n = n, .logits = b->logits, .noise = noise, .state = p->state,
                    .e = b->e, .soft = b->soft, .kl = b->kl);
        else
                RUN(p, topk_forward, .m = m, .n = n, .k = c->latent_type == LATENT_GUMBEL ? 1 : c->latent_k,
                    .logits = b->logits, .noise = noise, .sum_of_gamma = bound_noise(c) == NOISE_SUM_OF_GAMMA,
                    .e = b->e, .soft = b->soft, .norm = b->norm, .kl = b->kl);
}

/* Where no encoder is: one of the first two entries is 1, as the label [m] says. */
static void latent_of_label(struct pass *p, const float *label, float *e)
{
        int64_t n = p->config->latent_size;

        RUN(p, fill, .n = p->m * n, .value = 0, .y = e);
        RUN(p, copy_2d, .rows = p->m, .columns = 1, .x = label, .x_stride = 1, .y = e, .y_stride = n, .scale = -1,
            .shift = 1);
        RUN(p, copy_2d, .rows = p->m, .columns = 1, .x = label, .x_stride = 1, .y = e + 1, .y_stride = n, .scale = 1);
}

static void latent_backward(struct model *model, struct bound_pass *b, const struct batch *batch, float *de, float d_kl)
{
        struct pass *p = &model->pass;
        const struct config *c = p->config;
        struct encoder_network *encoder = &model->networks.encoder;
        int64_t m = p->m, n = c->latent_size;
        size_t mark = arena_mark(p->arena);

        encoder->logits->d = pass_alloc(p, m * n);
        if (encoder->spread)
                encoder->spread->d = pass_alloc(p, m * n);
        if (c->latent_type == LATENT_GAUSSIAN)
                RUN(p, gaussian_backward, .m = m, .n = n, .mu = b->logits, .raw = b->spread, .noise = batch->latent,
                    .de = de, .d_kl = d_kl, .d_mu = encoder->logits->d, .d_raw = encoder->spread->d);
        else if (c->latent_type == LATENT_GUMBEL)
                RUN(p, gumbel_backward, .m = m, .n = n, .logits = b->logits, .soft = b->soft, .state = p->state,
                    .de = de, .d_kl = d_kl, .d_logits = encoder->logits->d);
        else
                RUN(p, topk_backward, .m = m, .n = n, .logits = b->logits, .soft = b->soft, .norm = b->norm, .de = de,
                    .d_kl = d_kl, .d_logits = encoder->logits->d);
        tape_backward(p, &encoder->tape);
        arena_release_since(p->arena, mark);
}

/* The score network's time: the schedule's gamma, of each value for ldm, else averaged over the image. [values, then
 * low parts] where it is averaged. */
static void bind_time(struct model *model, const struct schedule_at *at, float *dg)
{
        struct pass *p = &model->pass;
        struct score_network *score = &model->networks.score;
        float *g;

        if (p->config->unet_type == UNET_LDM) {
                tape_bind(score->g, at->gamma, at->gamma_low, dg, false);
                return;
        }
        g = pass_alloc(p, 2 * p->m);
        RUN(p, row_mean_forward, .m = p->m, .n = model->schedule.d, .x = at->gamma, .x_low = at->gamma_low, .y = g,
            .y_low = g + p->m);
        tape_bind(score->g, g, g + p->m, dg, false);
}

static void bound_forward(struct model *model, struct bound_pass *b, const struct batch *batch)
{
        struct pass *p = &model->pass;
        struct schedule *s = &model->schedule;
        struct score_network *score = &model->networks.score;
        bool conditioned = networks_conditioned(p->config);
        int64_t n = p->m * DIMENSIONS, d = s->d;

        b->f = pass_alloc(p, n);
        RUN(p, encode_image, .n = n, .x = batch->x, .f = b->f);
        b->zero = pass_zeros(p, p->m);
        b->one = pass_alloc(p, p->m);
        RUN(p, fill, .n = p->m, .value = 1, .y = b->one);
        RUN(p, fill, .n = p->m, .value = 0, .y = b->kl);
        b->label = batch->label ? batch->label : b->zero;
        if (networks_encoded(p->config))
                latent_forward(model, b, batch->latent);
        else if (!model->baseline)
                latent_of_label(p, b->label, b->e);

        schedule_begin(p, &model->schedule, b->e);
        schedule_evaluate_end(p, &model->schedule, false, b->zero, &b->at_0);
        schedule_evaluate_end(p, &model->schedule, true, b->one, &b->at_1);
        schedule_evaluate(p, &model->schedule, batch->t, &b->at_t);
        if (model->parameterisation == PARAM_EPSILON_DISCRETE)
                schedule_evaluate(p, &model->schedule, batch->s, &b->at_s);

        b->z = pass_alloc(p, 2 * n);
        RUN(p, diffuse_forward, .m = p->m, .d = DIMENSIONS, .g = d, .f = b->f, .eps = batch->eps,
            .gamma = b->at_t.gamma, .gamma_low = b->at_t.gamma_low, .z = b->z, .z_low = b->z + n);
        if (p->keep) {
                b->d_z = pass_alloc(p, n);
                b->dg = pass_alloc(p, p->config->unet_type == UNET_LDM ? n : p->m);
                if (!model->baseline)
                        b->de = pass_alloc(p, p->m * s->k);
        }
        tape_bind(score->z, b->z, b->z + n, b->d_z, true);
        bind_time(model, &b->at_t, b->dg);
        tape_bind(score->e, conditioned ? b->e : b->label, NULL, conditioned ? b->de : NULL, false);
        tape_bind(score->net, b->net, NULL, NULL, true);
        tape_forward(p, &score->tape);
}

static void bound_terms(struct model *model, struct bound_pass *b, const struct batch *batch, float grad_scale,
                        const struct bound_results *ret)
{
        struct pass *p = &model->pass;
        bool discrete = model->parameterisation == PARAM_EPSILON_DISCRETE;

        if (p->keep) {
                b->d_net = pass_alloc(p, p->m * DIMENSIONS);
                for (int i = 0; i < 4; i++)
                        b->d_gamma[i] = pass_alloc(p, p->m * model->schedule.d);
        }
        RUN(p, bound, .m = p->m, .d = DIMENSIONS, .g = model->schedule.d, .parameterisation = model->parameterisation,
            .n_timesteps = p->config->sm_n_timesteps, .x = batch->x, .f = b->f, .eps_0 = batch->eps_0,
            .eps = batch->eps, .z = b->z, .net = b->net, .gamma_0 = b->at_0.gamma, .gamma_1 = b->at_1.gamma,
            .gamma_t = b->at_t.gamma, .gamma_prime = discrete ? b->at_s.gamma : b->at_t.gamma_prime,
            .terms = ret->terms, .vars = ret->vars, .grad_scale = grad_scale, .d_net = b->d_net, .d_z = b->d_z,
            .d_gamma_0 = b->d_gamma[0], .d_gamma_1 = b->d_gamma[1], .d_gamma_t = b->d_gamma[2],
            .d_gamma_prime = b->d_gamma[3]);
        if (p->keep && p->config->loss_weight != LOSS_WEIGHT_LIKELIHOOD)
                RUN(p, weigh_rows, .m = p->m, .d = DIMENSIONS,
                    .weight = p->config->loss_weight == LOSS_WEIGHT_SIMPLE ? WEIGHT_SIMPLE : WEIGHT_FLOW_MATCHING,
                    .gamma_min = p->config->gamma_min, .gamma_max = p->config->gamma_max, .gamma = b->at_t.gamma,
                    .gamma_prime = b->at_t.gamma_prime, .x = b->d_net);
}

static void bound_backward(struct model *model, struct bound_pass *b, const struct batch *batch, float grad_scale)
{
        struct pass *p = &model->pass;
        struct schedule *s = &model->schedule;
        bool discrete = model->parameterisation == PARAM_EPSILON_DISCRETE;

        if (b->de && !networks_conditioned(p->config))
                RUN(p, fill, .n = p->m * s->k, .value = 0, .y = b->de);
        model->networks.score.net->d = b->d_net;
        tape_backward(p, &model->networks.score.tape);
        RUN(p, diffuse_backward, .m = p->m, .d = DIMENSIONS, .g = s->d, .f = b->f, .eps = batch->eps,
            .gamma = b->at_t.gamma, .dz = b->d_z, .d_gamma = b->d_gamma[2]);
        if (p->config->unet_type == UNET_LDM)
                RUN(p, add, .n = p->m * s->d, .x = b->dg, .y = b->d_gamma[2]);
        else
                RUN(p, row_mean_backward, .m = p->m, .n = s->d, .dy = b->dg, .dx = b->d_gamma[2]);

        if (discrete)
                schedule_evaluate_backward(p, s, &b->at_s, b->d_gamma[3], NULL, b->de);
        schedule_evaluate_backward(p, s, &b->at_t, b->d_gamma[2], discrete ? NULL : b->d_gamma[3], b->de);
        schedule_evaluate_backward(p, s, &b->at_1, b->d_gamma[1], NULL, b->de);
        schedule_evaluate_backward(p, s, &b->at_0, b->d_gamma[0], NULL, b->de);
        schedule_begin_backward(p, s, b->de);
        if (networks_encoded(p->config))
                latent_backward(model, b, batch, b->de, grad_scale);
}

/* Where the caller wants it, else in the arena. */
static float *place(struct pass *p, float *wanted, int64_t n)
{
        return wanted ? wanted : pass_alloc(p, n);
}

void model_bound(struct model *model, const struct batch *batch, float grad_scale, const struct bound_results *ret)
{
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);
        int64_t n = p->m * p->config->latent_size;
        struct bound_pass b = {.kl = place(p, ret->kl, p->m), .net = place(p, ret->net, p->m * DIMENSIONS)};

        if (!model->baseline) {
                b.logits = place(p, ret->logits, n);
                b.e = place(p, ret->embedding, n);
        }

        bound_forward(model, &b, batch);
        bound_terms(model, &b, batch, grad_scale, ret);
        if (p->keep)
                bound_backward(model, &b, batch, grad_scale);
        arena_release_since(p->arena, mark);
}

void model_latent(struct model *model, const float *f, float *e, float *kl)
{
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);
        bool keep = p->keep;
        struct bound_pass b = {.f = (float *)f,
                               .e = e,
                               .logits = pass_alloc(p, p->m * p->config->latent_size),
                               .kl = kl,
                               .zero = pass_zeros(p, p->m)};

        p->keep = false;
        RUN(p, fill, .n = p->m, .value = 0, .y = kl);
        if (networks_encoded(p->config))
                latent_forward(model, &b, NULL);
        else if (!model->baseline)
                latent_of_label(p, b.zero, e);
        p->keep = keep;
        arena_release_since(p->arena, mark);
}

/* The score network at z with the schedule's evaluation; z_low, dz (+=) may be NULL. */
static void score_forward(struct model *model, const float *z, const float *z_low, const float *e,
                          const struct schedule_at *at, float *net, float *dz)
{
        struct pass *p = &model->pass;
        struct score_network *score = &model->networks.score;
        float *context = pass_alloc(p, p->m);

        RUN(p, fill, .n = p->m, .value = model->context, .y = context);
        tape_bind(score->z, z, z_low, dz, true);
        bind_time(model, at, NULL);
        tape_bind(score->e, networks_conditioned(p->config) ? e : context, NULL, NULL, false);
        tape_bind(score->net, net, NULL, NULL, true);
        tape_forward(p, &score->tape);
}

void model_denoise(struct model *model, const float *z, const float *e, const struct schedule_at *at, float *net)
{
        size_t mark = arena_mark(model->pass.arena);

        score_forward(model, z, NULL, e, at, net, NULL);
        arena_release_since(model->pass.arena, mark);
}

void model_flow(struct model *model, const float *x, const float *x_low, const float *t, const float *e, bool reverse,
                const float *probe, float *k, float *dx)
{
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);
        int64_t n = p->m * DIMENSIONS;
        float *net = pass_alloc(p, n), *d_net = pass_alloc(p, n);
        struct schedule_at at;
        bool keep = p->keep;

        /* nothing but x has a gradient */
        p->keep = false;
        schedule_evaluate(p, &model->schedule, t, &at);
        p->keep = probe;
        score_forward(model, x, x_low, e, &at, net, probe ? dx : NULL);
        RUN(p, drift, .m = p->m, .d = DIMENSIONS, .g = model->schedule.d, .parameterisation = model->parameterisation,
            .reverse = reverse, .x = x, .x_low = x_low, .net = net, .gamma = at.gamma, .gamma_prime = at.gamma_prime,
            .probe = probe, .k = k, .d_net = d_net, .d_x = dx);
        if (probe) {
                model->networks.score.net->d = d_net;
                tape_backward(p, &model->networks.score.tape);
        }
        p->keep = keep;
        arena_release_since(p->arena, mark);
}
