#include "engine/sampler.h"

#include <errno.h>
#include <string.h>

struct sampler {
        struct runtime *rt;
        struct model *model;
        int64_t m;
        struct pace pace;
        struct sampling what;
        struct step_state at; /* to be written to the device where a chunk begins */
        /* device memory of a chunk: e [m, latent_size], uniform and the others [m, 3072] */
        struct step_state *state;
        struct row *rows;
        float *z, *net, *eps, *t, *s, *e, *uniform;
        uint8_t *x;
};

#define N_BUFFERS 10

static void buffers_of(struct sampler *s, struct runtime_buffer ret[N_BUFFERS])
{
        size_t m = (size_t)s->m, f = sizeof(float), n = m * DIMENSIONS;
        const struct runtime_buffer list[N_BUFFERS] = {{(void **)&s->state, sizeof *s->state},
                                                       {(void **)&s->rows, m * sizeof *s->rows},
                                                       {(void **)&s->z, n * f},
                                                       {(void **)&s->net, n * f},
                                                       {(void **)&s->eps, n * f},
                                                       {(void **)&s->t, m * f},
                                                       {(void **)&s->s, m * f},
                                                       {(void **)&s->e, m * (size_t)s->rt->config->latent_size * f},
                                                       {(void **)&s->uniform, n * f},
                                                       {(void **)&s->x, n}};

        memcpy(ret, list, sizeof list);
}

static void draw(struct sampler *s, enum philox_stream stream, int64_t d, float *y)
{
        struct pass *p = &s->model->pass;

        RUN(p, random_normal, .state = s->state, .rows = s->rows, .stream = stream, .m = s->m, .d = d, .y = y);
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

/* z_1, the latent and what of the schedule depends on it; taken back by chunk_end. */
static void chunk_begin(struct sampler *s)
{
        struct pass *p = &s->model->pass;

        RUN(p, list_rows, .state = s->state, .m = s->m, .n_images = s->what.n_images, .repeats = 1, .rows = s->rows);
        draw(s, STREAM_SAMPLE, DIMENSIONS, s->eps);
        RUN(p, copy_2d, .rows = 1, .columns = s->m * DIMENSIONS, .x = s->eps, .y = s->z,
            .scale = (float)p->config->sigma_prior);
        if (!s->model->baseline)
                make_latent(s);
        schedule_begin(p, &s->model->schedule, s->model->baseline ? NULL : s->e);
}

/* From time (step + 1) / n_steps to step / n_steps, where step is one less than the state's. */
static void transition(struct sampler *s)
{
        struct pass *p = &s->model->pass;
        struct schedule *schedule = &s->model->schedule;
        struct schedule_at from, to;

        RUN(p, advance, .step_by = -1, .state = s->state);
        RUN(p, sampling_times, .state = s->state, .m = s->m, .n_steps = s->what.n_steps, .t = s->t, .s = s->s);
        draw(s, STREAM_SAMPLE, DIMENSIONS, s->eps);
        schedule_evaluate(p, schedule, s->t, &from);
        schedule_evaluate(p, schedule, s->s, &to);
        model_denoise(s->model, s->z, s->e, &from, s->net);
        RUN(p, ancestral_step, .m = s->m, .d = DIMENSIONS, .g = schedule->d,
            .parameterisation = s->model->parameterisation, .gamma_t = from.gamma, .gamma_s = to.gamma, .net = s->net,
            .eps = s->eps, .z = s->z);
        schedule_release(p, &from);
        schedule_release(p, &to);
}

/* Pixels from z_0. */
static void chunk_end(struct sampler *s)
{
        struct pass *p = &s->model->pass;
        struct schedule *schedule = &s->model->schedule;
        struct schedule_at at;

        if (p->config->sample_softmax)
                RUN(p, random_uniform, .state = s->state, .rows = s->rows, .stream = STREAM_PIXEL, .m = s->m,
                    .d = DIMENSIONS, .y = s->uniform);
        RUN(p, fill, .n = s->m, .value = 0, .y = s->t);
        schedule_evaluate(p, schedule, s->t, &at);
        RUN(p, decode, .m = s->m, .d = DIMENSIONS, .g = schedule->d, .z = s->z, .gamma_0 = at.gamma,
            .uniform = p->config->sample_softmax ? s->uniform : NULL, .x = s->x);
        schedule_release(p, &at);
        schedule_end(p, schedule);
}

static void one_step_chunk(struct model *model, void *user)
{
        struct sampler *s = user;

        s->model = model;
        chunk_begin(s);
        transition(s);
        chunk_end(s);
}

int sampler_new(struct runtime *rt, int64_t m, struct sampler **ret, struct runtime_need *need, struct error *err)
{
        _cleanup_(sampler_freep) struct sampler *s = calloc(1, sizeof *s);
        struct runtime_buffer buffers[N_BUFFERS];
        int r;

        if (!s)
                return error_set(err, -ENOMEM, NULL, "no memory for the sampler");
        s->rt = rt;
        s->m = m;
        s->what = (struct sampling){.n_images = 1, .n_steps = 1, .latent = SAMPLING_LATENT_RANDOM}; /* the dry run */
        buffers_of(s, buffers);
        runtime_buffers_count(buffers, N_BUFFERS, need);
        r = runtime_model(rt, m, false, one_step_chunk, s, &s->model, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int sampler_bind(struct sampler *s, struct error *err)
{
        struct runtime_buffer buffers[N_BUFFERS];
        int r = runtime_bind(s->rt, s->model, err);

        buffers_of(s, buffers);
        return r < 0 ? r : runtime_buffers_new(s->rt, buffers, N_BUFFERS, err);
}

struct sampler *sampler_free(struct sampler *s)
{
        struct runtime_buffer buffers[N_BUFFERS];

        if (!s)
                return NULL;
        buffers_of(s, buffers);
        runtime_buffers_free(s->rt, buffers, N_BUFFERS);
        (void)runtime_model_free(s->model);
        free(s);
        return NULL;
}

/* The caller's progress counts transitions of all samples, windows those of the chunk from `first` on. */
struct steps_done {
        const struct sampler *s;
        int64_t first;
        struct between caller;
};

static int between_steps(void *user, int64_t done, int64_t all, struct error *err)
{
        const struct steps_done *x = user;
        const struct sampling *what = &x->s->what;
        int64_t m = MIN(x->s->m, what->n_images - x->first);

        return x->caller.f(x->caller.user, x->first * all + done * m, what->n_images * all, err);
}

static int run_chunk(struct sampler *s, int64_t first, const struct between *progress, uint8_t *ret, struct error *err)
{
        struct runtime *rt = s->rt;
        const struct kernels *k = rt->k;
        struct graph *step = NULL;
        int r;

        s->at = (struct step_state){.seed = s->what.seed, .step = s->what.n_steps, .position = first};
        k->copy_in(rt->stream, s->state, &s->at, sizeof s->at);
        chunk_begin(s);
        r = k->graph_begin(rt->stream, err);
        if (r >= 0) {
                transition(s);
                r = k->graph_end(rt->stream, &step, err);
        }
        if (r >= 0)
                r = runtime_windows(rt, &s->pace, step, s->what.n_steps,
                                    &(struct between){progress->f ? between_steps : NULL,
                                                      &(struct steps_done){s, first, *progress}},
                                    err);
        chunk_end(s); /* in any case: it gives the schedule's memory back */
        (void)k->graph_free(step);
        if (r < 0)
                return r;
        k->copy_out(rt->stream, ret + first * DIMENSIONS, s->x,
                    (size_t)MIN(s->m, s->what.n_images - first) * DIMENSIONS);
        return k->stream_sync(rt->stream, err);
}

int sampler_run(struct sampler *s, const struct sampling *what, const struct between *progress, uint8_t *ret,
                struct error *err)
{
        int r = 0;

        s->what = *what;
        s->model->pass.params = s->rt->section[what->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        for (int64_t first = 0; first < what->n_images && r >= 0; first += s->m)
                r = run_chunk(s, first, progress, ret, err);
        return r;
}
