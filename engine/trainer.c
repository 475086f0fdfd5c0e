#include "engine/trainer.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define N_SUMS 5 /* recon, latent, diff, var_0, var_1 */

struct trainer {
        struct runtime *rt;
        struct model *model;
        int64_t m, step;
        double sums[N_SUMS]; /* of the window's steps */
        int64_t n_window;
        /* device memory of a batch */
        uint8_t *x;
        float *t, *s, *eps_0, *eps, *latent;
        struct bound_results ret;
        struct optimizer_buffers optimizer;
        struct factored_gradients factored;
        /* host */
        uint8_t *images;
        float *terms, *kl, *vars;
};

static float grad_scale(const struct trainer *t)
{
        return (float)(1 / ((double)t->m * DIMENSIONS * M_LN2));
}

static void bound_once(struct model *model, void *user)
{
        struct trainer *t = user;
        struct batch batch = {.x = t->x, .t = t->t, .s = t->s, .eps_0 = t->eps_0, .eps = t->eps, .latent = t->latent};

        t->factored.n = 0;
        t->factored.used = 0;
        model_bound(model, &batch, grad_scale(t), &t->ret);
}

int trainer_new(struct runtime *rt, struct trainer **ret, size_t *ret_bytes, struct error *err)
{
        _cleanup_(trainer_freep) struct trainer *t = calloc(1, sizeof *t);
        int r;

        if (!t)
                return error_set(err, -ENOMEM, NULL, "no memory for the trainer");
        t->rt = rt;
        t->m = rt->config->batch_size_train;
        r = runtime_model(rt, t->m, true, bound_once, t, &t->model, ret_bytes, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

int trainer_bind(struct trainer *t, struct error *err)
{
        struct runtime *rt = t->rt;
        size_t m = (size_t)t->m, f = sizeof(float);
        int r = runtime_bind(rt, t->model, err);

        if (r < 0)
                return r;
        t->images = malloc(m * IMAGE_BYTES);
        t->terms = malloc(3 * m * f);
        t->kl = malloc(m * f);
        t->vars = malloc(2 * m * f);
        if (!t->images || !t->terms || !t->kl || !t->vars)
                return error_set(err, -ENOMEM, NULL, "no memory for a batch of %zu images", m);
        if (!(t->x = runtime_memory(rt, m * IMAGE_BYTES, err)) || !(t->t = runtime_memory(rt, m * f, err)) ||
            !(t->s = runtime_memory(rt, m * f, err)) || !(t->eps_0 = runtime_memory(rt, m * DIMENSIONS * f, err)) ||
            !(t->eps = runtime_memory(rt, m * DIMENSIONS * f, err)) ||
            !(t->latent = runtime_memory(rt, 10 * m * (size_t)rt->config->latent_size * f, err)) ||
            !(t->ret.terms = runtime_memory(rt, 3 * m * f, err)) || !(t->ret.kl = runtime_memory(rt, m * f, err)) ||
            !(t->ret.vars = runtime_memory(rt, 2 * m * f, err)) ||
            !(t->optimizer.state = runtime_memory(rt, sizeof *t->optimizer.state, err)) ||
            !(t->optimizer.squared_norm = runtime_memory(rt, sizeof(double), err)) ||
            !(t->factored.memory = runtime_memory(rt, FACTORED_MAX * m * (DIMENSIONS + 16) * f, err)))
                return -ENOMEM;
        t->optimizer.params = rt->section[SECTION_PARAMS];
        t->optimizer.ema = rt->section[SECTION_EMA];
        t->optimizer.m = rt->section[SECTION_M];
        t->optimizer.v = rt->section[SECTION_V];
        t->optimizer.grads = rt->grads;
        t->model->pass.params = t->optimizer.params;
        t->model->pass.state = t->optimizer.state;
        t->model->pass.factored = &t->factored;
        return 0;
}

struct trainer *trainer_free(struct trainer *t)
{
        if (!t)
                return NULL;
        void *const device[] = {t->x,
                                t->t,
                                t->s,
                                t->eps_0,
                                t->eps,
                                t->latent,
                                t->ret.terms,
                                t->ret.kl,
                                t->ret.vars,
                                t->optimizer.state,
                                t->optimizer.squared_norm, t->factored.memory};
        for (size_t i = 0; i < ARRAY_LEN(device); i++)
                t->rt->k->memory_free(t->rt->device, device[i]);
        (void)runtime_model_free(t->model);
        free(t->images);
        free(t->terms);
        free(t->kl);
        free(t->vars);
        free(t);
        return NULL;
}

int64_t trainer_step_number(const struct trainer *t)
{
        return t->step;
}

static void draw_noise(struct trainer *t)
{
        struct pass *p = &t->model->pass;
        const struct config *c = p->config;

        RUN(p, random_times, .state = p->state, .m = t->m, .total = t->m, .independent = !c->antithetic_time_sampling,
            .n_timesteps = c->sm_n_timesteps, .t = t->t, .s = t->s);
        RUN(p, random_normal, .state = p->state, .stream = STREAM_EPS_0, .m = t->m, .d = DIMENSIONS, .y = t->eps_0);
        RUN(p, random_normal, .state = p->state, .stream = STREAM_EPS, .m = t->m, .d = DIMENSIONS, .y = t->eps);
        if (t->model->baseline)
                return;
        if (bound_noise_is_sum(c))
                RUN(p, random_gamma, .state = p->state, .m = t->m, .n = c->latent_size, .k = c->latent_k,
                    .y = t->latent);
        else
                RUN(p, random_gumbel, .state = p->state, .m = t->m, .n = c->latent_size, .y = t->latent);
}

/* Adds the step's means to the window; false when the loss is not finite. */
static bool add_to_window(struct trainer *t)
{
        double scale = 1 / ((double)t->m * DIMENSIONS * M_LN2), sums[N_SUMS] = {0}, loss;

        for (int64_t i = 0; i < t->m; i++) {
                sums[0] += scale * (double)t->terms[3 * i];
                sums[1] += scale * ((double)t->terms[3 * i + 1] + (double)t->kl[i]);
                sums[2] += scale * (double)t->terms[3 * i + 2];
                sums[3] += (double)t->vars[2 * i] / (double)t->m;
                sums[4] += (double)t->vars[2 * i + 1] / (double)t->m;
        }
        loss = sums[0] + sums[1] + sums[2];
        for (int i = 0; i < N_SUMS; i++)
                t->sums[i] += sums[i];
        t->n_window++;
        return isfinite(loss);
}

int trainer_step(struct trainer *t, const struct dataset *d, struct error *err)
{
        struct runtime *rt = t->rt;
        const struct config *c = rt->config;
        struct step_state state = optimizer_step_state(c, (uint32_t)c->seed, t->step);
        int64_t count = dataset_count(d, SPLIT_TRAIN);
        size_t m = (size_t)t->m;
        int r;

        for (int64_t i = 0; i < t->m; i++)
                dataset_image(d, SPLIT_TRAIN, dataset_training_index(count, (uint32_t)c->seed, t->step * t->m + i),
                              t->images + i * IMAGE_BYTES);
        rt->k->copy_in(rt->stream, t->x, t->images, m * IMAGE_BYTES);
        rt->k->copy_in(rt->stream, t->optimizer.state, &state, sizeof state);
        draw_noise(t);
        bound_once(t->model, t);
        optimizer_step(&t->model->pass, &t->optimizer);
        rt->k->copy_out(rt->stream, t->terms, t->ret.terms, 3 * m * sizeof(float));
        rt->k->copy_out(rt->stream, t->kl, t->ret.kl, m * sizeof(float));
        rt->k->copy_out(rt->stream, t->vars, t->ret.vars, 2 * m * sizeof(float));
        r = rt->k->stream_sync(rt->stream, err);
        if (r < 0)
                return r;
        if (!add_to_window(t))
                return error_set(err, -EDOM, NULL,
                                 "the loss is not finite at step %lld; a lower optimizer.learning_rate, a longer "
                                 "training.num_steps_lr_warmup or optimizer.gradient_clip_norm may help",
                                 (long long)t->step);
        t->step++;
        return 0;
}

struct training_scalars trainer_take_window(struct trainer *t)
{
        double n = (double)t->n_window;
        struct training_scalars s = {.recon = t->sums[0] / n,
                                     .latent = t->sums[1] / n,
                                     .diff = t->sums[2] / n,
                                     .var_0 = t->sums[3] / n,
                                     .var_1 = t->sums[4] / n};

        s.bpd = s.recon + s.latent + s.diff;
        memset(t->sums, 0, sizeof t->sums);
        t->n_window = 0;
        return s;
}

json_t *trainer_state(const struct trainer *t)
{
        return json_pack("{s:I, s:[f, f, f, f, f]}", "window_steps", (json_int_t)t->n_window, "window_sums", t->sums[0],
                         t->sums[1], t->sums[2], t->sums[3], t->sums[4]);
}

int trainer_restore(struct trainer *t, int64_t step, const json_t *state, struct error *err)
{
        json_t *sums = NULL;
        int64_t n = 0;
        int r = json_get_int(state, "/trainer", "window_steps", 0, INT64_MAX, &n, err);

        if (r >= 0)
                r = json_get_container(state, "/trainer", "window_sums", JSON_ARRAY, &sums, err);
        if (r < 0)
                return r;
        if (json_array_size(sums) != N_SUMS)
                return error_set(err, -EBADMSG, "/trainer/window_sums", "expected %d numbers", N_SUMS);
        for (size_t i = 0; i < N_SUMS; i++)
                if (!json_to_real(json_array_get(sums, i), &t->sums[i]))
                        return error_set(err, -EBADMSG, "/trainer/window_sums", "expected %d numbers", N_SUMS);
        t->step = step;
        t->n_window = n;
        return 0;
}
