#include "engine/sampler.h"

#include <errno.h>
#include <string.h>

struct sampler {
        struct runtime *rt;
        struct model *model;
        int64_t m;
        float *z, *net, *eps, *t, *s, *e, *uniform; /* device; e [m, latent_size], uniform [m, 3072] */
        uint8_t *x;
        struct step_state *state;
        float *host; /* [m, 3072] */

        /* the chunk that runs */
        struct sampling what;
        int64_t first; /* its first sample */
        int (*progress)(void *user, int64_t done, int64_t all);
        void *user;
        int r; /* what progress said */
};

/* The counter's step: n_steps for z_1, else the step that ends at s = step / n_steps. */
static void set_step(struct sampler *s, int64_t step)
{
        struct step_state state = {.seed = s->what.seed, .step = step};

        s->model->pass.k->copy_in(s->rt->stream, s->state, &state, sizeof state);
}

static void draw(struct sampler *s, enum philox_stream stream, int64_t d, float *y)
{
        struct pass *p = &s->model->pass;

        RUN(p, random_normal, .state = s->state, .stream = stream, .first_image = s->first, .m = s->m, .d = d, .y = y);
}

/* e: the published one, its first k entries 1, or the hard top k of a normal draw a sample. */
static void make_latent(struct sampler *s)
{
        struct pass *p = &s->model->pass;
        const struct config *c = p->config;
        int64_t size = c->latent_size, n = s->m * size;
        float *logits = pass_alloc(p, n), *soft = pass_alloc(p, n), *norm = pass_alloc(p, s->m),
              *kl = pass_alloc(p, s->m);

        if (s->what.latent == SAMPLING_LATENT_FIXED) {
                RUN(p, fill, .n = n, .value = 0, .y = s->e);
                RUN(p, fill, .n = s->m, .value = 1, .y = norm);
                RUN(p, copy_2d, .rows = s->m, .columns = c->latent_k, .x = norm, .x_stride = 0, .y = s->e,
                    .y_stride = size, .scale = 0, .shift = 1);
        } else {
                draw(s, STREAM_SAMPLE_LATENT, size, logits);
                RUN(p, topk_forward, .m = s->m, .n = size, .k = c->latent_k, .logits = logits, .e = s->e, .soft = soft,
                    .norm = norm, .kl = kl);
        }
        pass_release(p, &logits);
        pass_release(p, &soft);
        pass_release(p, &norm);
        pass_release(p, &kl);
}

/* Uniforms for a draw of the pixels, made on the host: once a grid. */
static void draw_uniforms(struct sampler *s)
{
        for (int64_t i = 0; i < s->m; i++)
                for (int64_t quad = 0; quad < DIMENSIONS / 4; quad++) {
                        struct philox r = philox_draw(s->what.seed, STREAM_PIXEL, 0, (uint32_t)quad,
                                                      (uint64_t)(s->first + i), 0, 0);

                        for (int j = 0; j < 4; j++)
                                s->host[i * DIMENSIONS + 4 * quad + j] = philox_uniform(r.v[j]);
                }
        s->model->pass.k->copy_in(s->rt->stream, s->uniform, s->host, (size_t)(s->m * DIMENSIONS) * sizeof *s->host);
}

static void denoise_step(struct sampler *s, int64_t step)
{
        struct pass *p = &s->model->pass;
        struct schedule *schedule = &s->model->schedule;
        struct schedule_at from, to;

        RUN(p, fill, .n = s->m, .value = (float)((double)step / (double)s->what.n_steps), .y = s->t);
        RUN(p, fill, .n = s->m, .value = (float)((double)(step - 1) / (double)s->what.n_steps), .y = s->s);
        set_step(s, step - 1);
        draw(s, STREAM_SAMPLE, DIMENSIONS, s->eps);
        schedule_evaluate(p, schedule, s->t, &from);
        schedule_evaluate(p, schedule, s->s, &to);
        model_denoise(s->model, s->z, s->e, &from, s->net);
        RUN(p, ancestral_step, .m = s->m, .d = DIMENSIONS, .g = schedule->d,
            .parameterisation = s->model->parameterisation, .gamma_t = from.gamma, .gamma_s = to.gamma, .net = s->net,
            .eps = s->eps, .z = s->z);
        if (step == 1)
                RUN(p, decode, .m = s->m, .d = DIMENSIONS, .g = schedule->d, .z = s->z, .gamma_0 = to.gamma,
                    .uniform = p->config->sample_softmax ? s->uniform : NULL, .x = s->x);
        schedule_release(p, &from);
        schedule_release(p, &to);
}

static void sample_chunk(struct model *model, void *user)
{
        struct sampler *s = user;
        struct pass *p = &model->pass;

        s->model = model;
        set_step(s, s->what.n_steps);
        draw(s, STREAM_SAMPLE, DIMENSIONS, s->eps);
        RUN(p, copy_2d, .rows = 1, .columns = s->m * DIMENSIONS, .x = s->eps, .y = s->z,
            .scale = (float)p->config->sigma_prior);
        if (!model->baseline)
                make_latent(s);
        schedule_begin(p, &model->schedule, model->baseline ? NULL : s->e);
        for (int64_t step = s->what.n_steps; step > 0 && s->r >= 0; step--) {
                denoise_step(s, step);
                if (s->progress)
                        s->r = s->progress(s->user, s->first * s->what.n_steps + (s->what.n_steps - step + 1) * s->m,
                                           s->what.n_images * s->what.n_steps);
        }
        schedule_end(p, &model->schedule);
}

int sampler_new(struct runtime *rt, int64_t m, struct sampler **ret, size_t *ret_bytes, struct error *err)
{
        _cleanup_(sampler_freep) struct sampler *s = calloc(1, sizeof *s);
        struct model *model = NULL;
        int r;

        if (!s)
                return error_set(err, -ENOMEM, NULL, "no memory for the sampler");
        s->rt = rt;
        s->m = m;
        s->what.n_steps = 1; /* the dry run */
        r = runtime_model(rt, m, false, sample_chunk, s, &model, ret_bytes, err);
        s->model = model;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int sampler_bind(struct sampler *s, struct error *err)
{
        struct runtime *rt = s->rt;
        size_t m = (size_t)s->m, f = sizeof(float), n = m * DIMENSIONS;
        int r = runtime_bind(rt, s->model, err);

        if (r < 0)
                return r;
        s->host = malloc(n * f);
        if (!s->host)
                return error_set(err, -ENOMEM, NULL, "no memory for %zu samples", m);
        if (!(s->z = runtime_memory(rt, n * f, err)) || !(s->net = runtime_memory(rt, n * f, err)) ||
            !(s->eps = runtime_memory(rt, n * f, err)) || !(s->uniform = runtime_memory(rt, n * f, err)) ||
            !(s->t = runtime_memory(rt, m * f, err)) || !(s->s = runtime_memory(rt, m * f, err)) ||
            !(s->e = runtime_memory(rt, m * (size_t)rt->config->latent_size * f, err)) ||
            !(s->x = runtime_memory(rt, n, err)) || !(s->state = runtime_memory(rt, sizeof *s->state, err)))
                return -ENOMEM;
        return 0;
}

struct sampler *sampler_free(struct sampler *s)
{
        if (!s)
                return NULL;
        void *const device[] = {s->z, s->net, s->eps, s->uniform, s->t, s->s, s->e, s->x, s->state};
        for (size_t i = 0; i < ARRAY_LEN(device); i++)
                s->rt->k->memory_free(s->rt->device, device[i]);
        (void)runtime_model_free(s->model);
        free(s->host);
        free(s);
        return NULL;
}

int sampler_run(struct sampler *s, const struct sampling *what, int (*progress)(void *user, int64_t done, int64_t all),
                void *user, uint8_t *ret, struct error *err)
{
        struct runtime *rt = s->rt;
        int r;

        s->what = *what;
        s->progress = progress;
        s->user = user;
        s->r = 0;
        s->model->pass.params = rt->section[what->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        for (s->first = 0; s->first < what->n_images; s->first += s->m) {
                size_t n = (size_t)MIN(s->m, what->n_images - s->first);

                if (rt->config->sample_softmax)
                        draw_uniforms(s);
                sample_chunk(s->model, s);
                rt->k->copy_out(rt->stream, ret + s->first * DIMENSIONS, s->x, n * DIMENSIONS);
                r = rt->k->stream_sync(rt->stream, err);
                if (r < 0)
                        return r;
                if (s->r < 0)
                        return s->r;
        }
        return 0;
}
