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

static int64_t context_size(const struct model *model)
{
        const struct config *c = model->pass.config;

        return model->baseline || !c->z_conditioning ? 1 : c->latent_size;
}

int model_new(const struct kernels *k, struct device *device, struct stream *stream, const struct params *layout,
              const struct config *config, int64_t m, struct model **ret, struct error *err)
{
        _cleanup_(model_freep) struct model *model = calloc(1, sizeof *model);
        int r;

        if (!model)
                return error_set(err, -ENOMEM, NULL, "no memory for the model");
        model->pass =
                (struct pass){.k = k, .device = device, .stream = stream, .layout = layout, .config = config, .m = m};
        model->baseline = config->vdm_type == VDM_VDM;
        model->parameterisation = parameterisation_of(config);
        r = plans_new(&model->pass.plans, err);
        if (r < 0)
                return r;
        schedule_init(&model->schedule, &model->pass);
        r = unet_init(&model->unet, &model->pass, context_size(model), &model->n_blocks, err);
        if (r >= 0 && !model->baseline)
                r = encoder_init(&model->encoder, &model->pass, &model->n_blocks, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(model);
        return 0;
}

struct model *model_free(struct model *model)
{
        if (!model)
                return NULL;
        encoder_done(&model->encoder);
        unet_done(&model->unet);
        model->pass.plans = plans_free(model->pass.plans, model->pass.k);
        free(model);
        return NULL;
}

static const struct resnet_block *trunk_block(const struct trunk *t, int *i)
{
        int64_t n = t->n_layer;

        if (*i < n)
                return &t->down[*i];
        if (*i < n + 2)
                return *i == n ? &t->mid_1 : &t->mid_2;
        *i -= (int)n + 2;
        return NULL;
}

const char *model_block_name(const struct model *model, int i)
{
        const struct resnet_block *b = trunk_block(&model->unet.trunk, &i);

        if (!b && i <= model->unet.trunk.n_layer)
                b = &model->unet.up[i];
        if (!b) {
                i -= (int)model->unet.trunk.n_layer + 1;
                b = trunk_block(&model->encoder.trunk, &i);
        }
        assert(b);
        return b->name;
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
        float *z, *g, *no_context, *net; /* z and g with their low parts behind them */
        struct trunk_input in;
        float *d_net, *d_z, *d_gamma[4]; /* 0, 1, t, prime (of s when discrete) */
};

static void latent_forward(struct model *model, struct bound_pass *b, const struct batch *batch)
{
        struct pass *p = &model->pass;
        const struct config *c = p->config;
        int64_t n = p->m * c->latent_size;

        b->logits = pass_alloc(p, n);
        b->e = pass_alloc(p, n);
        b->soft = pass_alloc(p, n);
        b->norm = pass_alloc(p, p->m);
        encoder_forward(p, &model->encoder, b->f, b->logits);
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
        encoder_backward(p, &model->encoder, b->f, d_logits);
        pass_release(p, &d_logits);
}

static void bound_forward(struct model *model, struct bound_pass *b, const struct batch *batch)
{
        struct pass *p = &model->pass;
        int64_t n = p->m * DIMENSIONS, d = model->schedule.d;

        b->f = pass_alloc(p, n);
        RUN(p, encode_image, .n = n, .x = batch->x, .f = b->f);
        b->kl = pass_alloc(p, p->m);
        b->zero = pass_alloc(p, p->m);
        b->one = pass_alloc(p, p->m);
        RUN(p, fill, .n = p->m, .value = 0, .y = b->kl);
        RUN(p, fill, .n = p->m, .value = 0, .y = b->zero);
        RUN(p, fill, .n = p->m, .value = 1, .y = b->one);
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
        b->in = (struct trunk_input){.z = b->z, .z_low = b->z + n, .g = b->g, .g_low = b->g + p->m, .e = b->e};
        if (context_size(model) == 1) {
                b->no_context = pass_alloc(p, p->m);
                RUN(p, fill, .n = p->m, .value = 0, .y = b->no_context);
                b->in.e = b->no_context;
        }
        b->net = pass_alloc(p, n);
        unet_forward(p, &model->unet, &b->in, b->net);
}

static void bound_terms(struct model *model, struct bound_pass *b, const struct batch *batch, float grad_scale,
                        const struct bound_results *ret)
{
        struct pass *p = &model->pass;
        bool discrete = model->parameterisation == PARAM_EPSILON_DISCRETE;

        if (p->keep) {
                b->d_net = pass_alloc(p, p->m * DIMENSIONS);
                b->d_z = pass_alloc(p, p->m * DIMENSIONS);
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
        float *dg = pass_alloc(p, p->m), *de = NULL;
        struct trunk_gradients gradients = {.dz = b->d_z, .dg = dg};

        if (!model->baseline) {
                de = pass_alloc(p, p->m * s->k);
                if (context_size(model) == s->k)
                        gradients.de = de;
                else
                        RUN(p, fill, .n = p->m * s->k, .value = 0, .y = de);
        }
        unet_backward(p, &model->unet, &b->in, b->d_net, &gradients);
        RUN(p, diffuse_backward, .m = p->m, .d = DIMENSIONS, .g = s->d, .f = b->f, .eps = batch->eps,
            .gamma = b->at_t.gamma, .dz = b->d_z, .d_gamma = b->d_gamma[2]);
        RUN(p, row_mean_backward, .m = p->m, .n = s->d, .dy = dg, .dx = b->d_gamma[2]);
        pass_release(p, &dg);

        if (discrete)
                schedule_evaluate_backward(p, s, &b->at_s, b->d_gamma[3], NULL, de);
        schedule_evaluate_backward(p, s, &b->at_t, b->d_gamma[2], discrete ? NULL : b->d_gamma[3], de);
        schedule_evaluate_backward(p, s, &b->at_1, b->d_gamma[1], NULL, de);
        schedule_evaluate_backward(p, s, &b->at_0, b->d_gamma[0], NULL, de);
        schedule_begin_backward(p, s, de);
        if (!model->baseline)
                latent_backward(model, b, de, grad_scale);
        pass_release(p, &de);
}

static void copy_result(struct pass *p, const float *x, int64_t n, float *y)
{
        if (x && y)
                RUN(p, copy_2d, .rows = 1, .columns = n, .x = x, .x_stride = n, .y = y, .y_stride = n, .scale = 1);
}

void model_bound(struct model *model, const struct batch *batch, float grad_scale, const struct bound_results *ret)
{
        struct pass *p = &model->pass;
        struct bound_pass b = {0};
        float **const all[] = {&b.f,     &b.e,   &b.logits,     &b.soft,       &b.norm,       &b.kl,
                               &b.zero,  &b.one, &b.z,          &b.g,          &b.no_context, &b.net,
                               &b.d_net, &b.d_z, &b.d_gamma[0], &b.d_gamma[1], &b.d_gamma[2], &b.d_gamma[3]};
        struct schedule_at *const times[] = {&b.at_0, &b.at_1, &b.at_t, &b.at_s};

        bound_forward(model, &b, batch);
        bound_terms(model, &b, batch, grad_scale, ret);
        copy_result(p, b.kl, p->m, ret->kl);
        copy_result(p, b.net, p->m * DIMENSIONS, ret->net);
        copy_result(p, b.logits, p->m * p->config->latent_size, ret->logits);
        copy_result(p, b.e, p->m * p->config->latent_size, ret->embedding);
        if (p->keep)
                bound_backward(model, &b, batch, grad_scale);
        schedule_end(p, &model->schedule);
        for (size_t i = 0; i < ARRAY_LEN(times); i++)
                schedule_release(p, times[i]);
        for (size_t i = 0; i < ARRAY_LEN(all); i++)
                pass_release(p, all[i]);
}

void model_denoise(struct model *model, const float *z, const float *e, const struct schedule_at *at, float *net)
{
        struct pass *p = &model->pass;
        float *g = pass_alloc(p, 2 * p->m), *no_context = NULL;

        RUN(p, row_mean_forward, .m = p->m, .n = model->schedule.d, .x = at->gamma, .x_low = at->gamma_low, .y = g,
            .y_low = g + p->m);
        if (context_size(model) == 1) {
                no_context = pass_alloc(p, p->m);
                RUN(p, fill, .n = p->m, .value = 0, .y = no_context);
        }
        unet_forward(p, &model->unet,
                     &(struct trunk_input){.z = z, .g = g, .g_low = g + p->m, .e = no_context ? no_context : e}, net);
        pass_release(p, &no_context);
        pass_release(p, &g);
}
