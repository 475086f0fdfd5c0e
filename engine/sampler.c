#include "engine/sampler.h"

#include <errno.h>

struct sampler {
        struct program program;
        struct sampling what;
        /* device memory of a chunk: e [m, latent_size], uniform and the others [m, 3072] */
        float *z, *net, *eps, *t, *s, *e, *uniform;
        uint8_t *x;
};

static void draw(struct sampler *s, enum philox_stream stream, int64_t d, float *y)
{
        struct pass *p = &s->program.model->pass;

        RUN(p, random_normal, .state = p->state, .rows = p->rows, .stream = stream, .m = p->m, .d = d, .y = y);
}

/* e. Fixed, the published one: the first k entries 1 (gumbel: entry 1, counted from 0; gaussian: zeros). Random, of a
 * normal draw a sample: its hard top k (gumbel: its largest; gaussian: itself). */
static void make_latent(struct sampler *s)
{
        struct pass *p = &s->program.model->pass;
        const struct config *c = p->config;
        bool gumbel = c->latent_type == LATENT_GUMBEL, gaussian = c->latent_type == LATENT_GAUSSIAN;
        int64_t size = c->latent_size, n = p->m * size, k = gumbel ? 1 : gaussian ? 0 : c->latent_k;
        size_t mark = arena_mark(p->arena);
        float *logits = pass_alloc(p, n), *soft = pass_alloc(p, n), *norm = pass_alloc(p, p->m),
              *kl = pass_alloc(p, p->m);

        if (s->what.latent == SAMPLING_LATENT_FIXED) {
                RUN(p, fill, .n = n, .value = 0, .y = s->e);
                RUN(p, fill, .n = p->m, .value = 1, .y = norm);
                RUN(p, copy_2d, .rows = p->m, .columns = k, .x = norm, .x_stride = 0, .y = s->e + (gumbel ? 1 : 0),
                    .y_stride = size, .scale = 0, .shift = 1);
        } else if (gaussian) {
                draw(s, STREAM_SAMPLE_LATENT, size, s->e);
        } else {
                draw(s, STREAM_SAMPLE_LATENT, size, logits);
                RUN(p, topk_forward, .m = p->m, .n = size, .k = k, .logits = logits, .e = s->e, .soft = soft,
                    .norm = norm, .kl = kl);
        }
        arena_release_since(p->arena, mark);
}

/* z_1, the latent and what of the schedule depends on it, which stays in the arena for the chunk. */
static void chunk_begin(struct sampler *s)
{
        struct program *x = &s->program;
        struct pass *p = &x->model->pass;

        RUN(p, list_rows, .state = x->state, .m = p->m, .n_images = s->what.n_images, .repeats = 1, .rows = x->rows);
        draw(s, STREAM_SAMPLE, DIMENSIONS, s->eps);
        RUN(p, copy_2d, .rows = 1, .columns = p->m * DIMENSIONS, .x = s->eps, .y = s->z,
            .scale = (float)p->config->sigma_prior);
        if (!x->model->baseline)
                make_latent(s);
        schedule_begin(p, &x->model->schedule, x->model->baseline ? NULL : s->e);
}

/* From time (step + 1) / n_steps to step / n_steps, where step is one less than the state's. */
static void transition(struct model *model, void *user)
{
        struct sampler *s = user;
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);
        struct schedule_at from, to;

        RUN(p, advance, .step_by = -1, .state = s->program.state);
        RUN(p, sampling_times, .state = p->state, .m = p->m, .n_steps = s->what.n_steps, .t = s->t, .s = s->s);
        draw(s, STREAM_SAMPLE, DIMENSIONS, s->eps);
        schedule_evaluate(p, &model->schedule, s->t, &from);
        schedule_evaluate(p, &model->schedule, s->s, &to);
        model_denoise(model, s->z, s->e, &from, s->net);
        RUN(p, ancestral_step, .m = p->m, .d = DIMENSIONS, .g = model->schedule.d,
            .parameterisation = model->parameterisation, .gamma_t = from.gamma, .gamma_s = to.gamma, .net = s->net,
            .eps = s->eps, .z = s->z);
        arena_release_since(p->arena, mark);
}

/* Pixels from z_0. */
static void decode(struct sampler *s)
{
        struct model *model = s->program.model;
        struct pass *p = &model->pass;
        struct schedule_at at;

        if (p->config->sample_softmax)
                RUN(p, random_uniform, .state = p->state, .rows = p->rows, .stream = STREAM_PIXEL, .m = p->m,
                    .d = DIMENSIONS, .y = s->uniform);
        RUN(p, fill, .n = p->m, .value = 0, .y = s->t);
        schedule_evaluate(p, &model->schedule, s->t, &at);
        RUN(p, decode, .m = p->m, .d = DIMENSIONS, .g = model->schedule.d, .z = s->z, .gamma_0 = at.gamma,
            .uniform = p->config->sample_softmax ? s->uniform : NULL, .x = s->x);
}

static void one_step_chunk(struct model *model, void *user)
{
        struct sampler *s = user;
        size_t mark = arena_mark(model->pass.arena);

        chunk_begin(s);
        transition(model, s);
        decode(s);
        arena_release_since(model->pass.arena, mark);
}

int sampler_new(struct runtime *rt, int64_t m, struct sampler **ret, struct runtime_need *need, struct error *err)
{
        _cleanup_(sampler_freep) struct sampler *s = calloc(1, sizeof *s);
        size_t f = (size_t)m * sizeof(float), n = f * DIMENSIONS;
        int r;

        if (!s)
                return error_set(err, -ENOMEM, NULL, "no memory for the sampler");
        s->what = (struct sampling){.n_images = 1, .n_steps = 1, .latent = SAMPLING_LATENT_RANDOM}; /* the dry run */
        program_init(&s->program, rt, m);
        program_buffer(&s->program, &s->z, n);
        program_buffer(&s->program, &s->net, n);
        program_buffer(&s->program, &s->eps, n);
        program_buffer(&s->program, &s->uniform, n);
        program_buffer(&s->program, &s->e, f * (size_t)rt->config->latent_size);
        program_buffer(&s->program, &s->t, f);
        program_buffer(&s->program, &s->s, f);
        program_buffer(&s->program, &s->x, (size_t)m * DIMENSIONS);
        r = program_plan(&s->program, m, rt->config->precision, false, one_step_chunk, s, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int sampler_bind(struct sampler *s, struct error *err)
{
        return program_bind(&s->program, err);
}

struct sampler *sampler_free(struct sampler *s)
{
        if (!s)
                return NULL;
        program_done(&s->program);
        free(s);
        return NULL;
}

static int run_chunk(struct sampler *s, int64_t first, const struct between *between, uint8_t *ret, struct error *err)
{
        struct program *x = &s->program;
        const struct kernels *k = x->rt->k;
        struct stream *stream = x->rt->stream;
        struct arena *arena = x->model->pass.arena;
        size_t mark = arena_mark(arena);
        int64_t n_steps = s->what.n_steps, n_images = s->what.n_images, m = MIN(x->model->pass.m, n_images - first);
        struct graph *step = NULL;
        int r;

        x->at = (struct step_state){.seed = s->what.seed, .step = n_steps, .position = first};
        k->copy_in(stream, x->state, &x->at, sizeof x->at);
        chunk_begin(s);
        r = program_record(x, transition, s, &step, err);
        if (r >= 0)
                r = program_windows(x, step, n_steps, (struct progress){first * n_steps, m, 1, n_images * n_steps},
                                    between, err);
        if (r >= 0) {
                decode(s);
                k->copy_out(stream, ret + first * DIMENSIONS, s->x, (size_t)m * DIMENSIONS);
                r = k->stream_sync(stream, err);
        }
        arena_release_since(arena, mark);
        (void)k->graph_free(step);
        return r;
}

int sampler_run(struct sampler *s, const struct sampling *what, const struct between *between, uint8_t *ret,
                struct error *err)
{
        struct pass *p = &s->program.model->pass;
        int r = 0;

        s->what = *what;
        p->params = s->program.rt->section[what->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        for (int64_t first = 0; first < what->n_images && r >= 0; first += p->m)
                r = run_chunk(s, first, between, ret, err);
        return r;
}
