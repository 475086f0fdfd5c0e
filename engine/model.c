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
        model->pass =
                (struct pass){.k = k, .device = device, .stream = stream, .layout = layout, .config = config, .m = m};
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

bool bound_noise_is_sum(const struct config *c)
{
        return c->topk_noise_type == TOPK_NOISE_GAMMA || c->vdm_type == VDM_MULAN_VELOCITY;
}

/* What a pass over the bound holds between forward and backward. */
struct bound_pass {
        float *f, *e, *logits, *soft, *norm, *kl; /* the image; the latent */
        float *zero, *one;                        /* [m]: times 0 and 1 */
        struct schedule_at at_0, at_1, at_t, at_s;
        float *z, *g, *net;                        /* z and g with their low parts behind them */
        float *d_net, *d_z, *dg, *de, *d_gamma[4]; /* gammas: 0, 1, t, prime (of s when discrete) */
};

static void latent_forward(struct model *model, struct bound_pass *b, const struct batch *batch)
{
        struct pass *p = &model->pass;
        const struct config *c = p->config;
        struct encoder_network *encoder = &model->networks.encoder;
        int64_t n = p->m * c->latent_size;

        b->soft = pass_alloc(p, n);
        b->norm = pass_alloc(p, p->m);
        tape_bind(encoder->f, b->f, NULL, NULL, false);
        tape_bind(encoder->time, b->zero, NULL, NULL, false);
        tape_bind(encoder->context, b->zero, NULL, NULL, false);
        tape_bind(encoder->logits, b->logits, NULL, NULL, true);
        tape_forward(p, &encoder->tape);
        RUN(p, topk_forward, .m = p->m, .n = c->latent_size, .k = c->latent_k, .logits = b->logits,
            .noise = batch->latent, .sum_of_gamma = bound_noise_is_sum(c), .e = b->e, .soft = b->soft, .norm = b->norm,
            .kl = b->kl);
}

static void latent_backward(struct model *model, struct bound_pass *b, float *de, float d_kl)
{
        struct pass *p = &model->pass;
        const struct config *c = p->config;
        float *d_logits = pass_alloc(p, p->m * c->latent_size);

        RUN(p, topk_backward, .m = p->m, .n = c->latent_size, .logits = b->logits, .soft = b->soft, .norm = b->norm,
            .de = de, .d_kl = d_kl, .d_logits = d_logits);
        model->networks.encoder.logits->d = d_logits;
        tape_backward(p, &model->networks.encoder.tape);
        pass_release(p, &d_logits);
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
        if (!model->baseline)
                latent_forward(model, b, batch);

        schedule_begin(p, &model->schedule, b->e);
        schedule_evaluate_end(p, &model->schedule, false, b->zero, &b->at_0);
        schedule_evaluate_end(p, &model->schedule, true, b->one, &b->at_1);
        schedule_evaluate(p, &model->schedule, batch->t, &b->at_t);
        if (model->parameterisation == PARAM_EPSILON_DISCRETE)
                schedule_evaluate(p, &model->schedule, batch->s, &b->at_s);

        b->z = pass_alloc(p, 2 * n);
        RUN(p, diffuse_forward, .m = p->m, .d = DIMENSIONS, .g = d, .f = b->f, .eps = batch->eps,
            .gamma = b->at_t.gamma, .gamma_low = b->at_t.gamma_low, .z = b->z, .z_low = b->z + n);
        b->g = pass_alloc(p, 2 * p->m);
        RUN(p, row_mean_forward, .m = p->m, .n = d, .x = b->at_t.gamma, .x_low = b->at_t.gamma_low, .y = b->g,
            .y_low = b->g + p->m);
        if (p->keep) {
                b->d_z = pass_alloc(p, n);
                b->dg = pass_alloc(p, p->m);
                if (!model->baseline)
                        b->de = pass_alloc(p, p->m * s->k);
        }
        tape_bind(score->z, b->z, b->z + n, b->d_z, true);
        tape_bind(score->g, b->g, b->g + p->m, b->dg, false);
        tape_bind(score->e, conditioned ? b->e : b->zero, NULL, conditioned ? b->de : NULL, false);
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
        RUN(p, row_mean_backward, .m = p->m, .n = s->d, .dy = b->dg, .dx = b->d_gamma[2]);

        if (discrete)
                schedule_evaluate_backward(p, s, &b->at_s, b->d_gamma[3], NULL, b->de);
        schedule_evaluate_backward(p, s, &b->at_t, b->d_gamma[2], discrete ? NULL : b->d_gamma[3], b->de);
        schedule_evaluate_backward(p, s, &b->at_1, b->d_gamma[1], NULL, b->de);
        schedule_evaluate_backward(p, s, &b->at_0, b->d_gamma[0], NULL, b->de);
        schedule_begin_backward(p, s, b->de);
        if (!model->baseline)
                latent_backward(model, b, b->de, grad_scale);
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

void model_denoise(struct model *model, const float *z, const float *e, const struct schedule_at *at, float *net)
{
        struct pass *p = &model->pass;
        struct score_network *score = &model->networks.score;
        bool conditioned = networks_conditioned(p->config);
        float *g = pass_alloc(p, 2 * p->m), *zero = pass_zeros(p, p->m);

        RUN(p, row_mean_forward, .m = p->m, .n = model->schedule.d, .x = at->gamma, .x_low = at->gamma_low, .y = g,
            .y_low = g + p->m);
        tape_bind(score->z, z, NULL, NULL, false);
        tape_bind(score->g, g, g + p->m, NULL, false);
        tape_bind(score->e, conditioned ? e : zero, NULL, NULL, false);
        tape_bind(score->net, net, NULL, NULL, false);
        tape_forward(p, &score->tape);
        pass_release(p, &zero);
        pass_release(p, &g);
}
