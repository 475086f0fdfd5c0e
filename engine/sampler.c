#include "engine/sampler.h"

#include "engine/flow.h"

#include <errno.h>
#include <string.h>

struct sampler {
        struct program program;
        bool ode;
        struct flow_memory flow; /* ode */
        struct trajectory *seen; /* host, [m]; ode */
        struct sampling what;
        struct flow_solve solve;
        uint8_t *images; /* device: those whose latents are taken, or NULL */
        /* device memory of a chunk: e [m, latent_size], uniform and the others [m, 3072] */
        float *z; /* ode: the flow's x */
        float *net, *eps, *t, *s, *e, *kl, *uniform;
        uint8_t *x;
};

static void draw(struct sampler *s, enum philox_stream stream, int64_t d, float *y)
{
        struct pass *p = &s->program.model->pass;

        RUN(p, random_normal, .state = p->state, .rows = p->rows, .stream = stream, .m = p->m, .d = d, .y = y);
}

/* e of given images; x and eps are room for them. */
static void latent_of_images(struct sampler *s)
{
        struct pass *p = &s->program.model->pass;

        RUN(p, gather, .m = p->m, .bytes = IMAGE_BYTES, .images = s->images, .rows = p->rows, .x = s->x);
        RUN(p, encode_image, .n = p->m * DIMENSIONS, .x = s->x, .f = s->eps);
        model_latent(s->program.model, s->eps, s->e, s->kl);
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
        if (s->ode)
                RUN(p, fill, .n = p->m * DIMENSIONS, .value = 0, .y = s->flow.x_low);
        if (!networks_encoded(p->config))
                model_latent(x->model, NULL, s->e, s->kl);
        else if (s->what.latent == SAMPLING_LATENT_IMAGES)
                latent_of_images(s);
        else
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

static void flow_once(struct model *model, void *user)
{
        struct sampler *s = user;

        flow_step(model, &s->flow, s->e, &s->solve);
}

/* Pixels from z at the times t. */
static void decode(struct sampler *s)
{
        struct model *model = s->program.model;
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);
        struct schedule_at at;

        if (p->config->sample_softmax)
                RUN(p, random_uniform, .state = p->state, .rows = p->rows, .stream = STREAM_PIXEL, .m = p->m,
                    .d = DIMENSIONS, .y = s->uniform);
        schedule_evaluate(p, &model->schedule, s->t, &at);
        RUN(p, decode, .m = p->m, .d = DIMENSIONS, .g = model->schedule.d, .z = s->z, .gamma_0 = at.gamma,
            .uniform = p->config->sample_softmax ? s->uniform : NULL, .x = s->x);
        arena_release_since(p->arena, mark);
}

static void one_step_chunk(struct model *model, void *user)
{
        struct sampler *s = user;
        size_t mark = arena_mark(model->pass.arena);

        chunk_begin(s);
        if (s->ode)
                flow_once(model, s);
        else
                transition(model, s);
        decode(s);
        arena_release_since(model->pass.arena, mark);
}

int sampler_new(struct runtime *rt, int64_t m, struct sampler **ret, struct runtime_need *need, struct error *err)
{
        _cleanup_(sampler_freep) struct sampler *s = calloc(1, sizeof *s);
        size_t f = (size_t)m * sizeof(float), n = f * DIMENSIONS;
        int r;

        if (!s || !(s->seen = calloc((size_t)m, sizeof *s->seen)))
                return error_set(err, -ENOMEM, NULL, "no memory for the sampler");
        s->ode = rt->config->sampling_method == SAMPLING_METHOD_ODE;
        s->solve.reverse = true;
        /* of the dry run: what takes most memory */
        s->what = (struct sampling){.n_images = 1, .n_steps = 1, .latent = SAMPLING_LATENT_IMAGES};
        program_init(&s->program, rt, m);
        if (s->ode)
                flow_buffers(&s->flow, m, &s->program);
        else
                program_buffer(&s->program, &s->z, n);
        program_buffer(&s->program, &s->net, n);
        program_buffer(&s->program, &s->eps, n);
        program_buffer(&s->program, &s->uniform, n);
        program_buffer(&s->program, &s->e, f * (size_t)rt->config->latent_size);
        program_buffer(&s->program, &s->kl, f);
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
        int r = program_bind(&s->program, err);

        if (s->ode)
                s->z = s->flow.x;
        return r;
}

struct sampler *sampler_free(struct sampler *s)
{
        if (!s)
                return NULL;
        program_done(&s->program);
        free(s->seen);
        free(s);
        return NULL;
}

/* Pixels of z at the times that are in s->t, the first n of them to ret. */
static int show(struct sampler *s, int64_t n, uint8_t *ret, struct error *err)
{
        const struct runtime *rt = s->program.rt;

        decode(s);
        rt->k->copy_out(rt->stream, ret, s->x, (size_t)n * IMAGE_BYTES);
        return rt->k->stream_sync(rt->stream, err);
}

/* The times of all, given by the host. */
static int set_times(struct sampler *s, const float *t, struct error *err)
{
        const struct runtime *rt = s->program.rt;

        rt->k->copy_in(rt->stream, s->t, t, (size_t)s->program.model->pass.m * sizeof *t);
        return rt->k->stream_sync(rt->stream, err);
}

static int add_frame(struct sampler *s, const float *t, struct film *film, struct error *err)
{
        int r = set_times(s, t, err);

        if (r >= 0)
                r = show(s, film->n_images, film->frames + film->n_frames * film->n_images * IMAGE_BYTES, err);
        film->n_frames += r >= 0;
        return r;
}

/* Every second frame goes where there is no room for more, so that they stay evenly spaced; their distance. */
static int64_t thin(struct film *film, int64_t distance)
{
        size_t bytes = (size_t)film->n_images * IMAGE_BYTES;

        if (film->n_frames < film->frames_max - 1)
                return distance;
        for (int64_t i = 0; 2 * i < film->n_frames; i++)
                memmove(film->frames + (size_t)i * bytes, film->frames + (size_t)(2 * i) * bytes, bytes);
        film->n_frames = (film->n_frames + 1) / 2;
        return 2 * distance;
}

static int ancestral_chunk(struct sampler *s, int64_t first, float *t, struct film *film, const struct between *between,
                           struct error *err)
{
        struct program *x = &s->program;
        int64_t n_steps = s->what.n_steps, m = MIN(x->model->pass.m, s->what.n_images - first);
        int64_t frames = film ? MIN(film->frames_max - 1, n_steps) : 1, done = 0;
        struct graph *step = NULL;
        int r = program_record(x, transition, s, &step, err);

        for (int64_t i = 0; i < frames && r >= 0; i++) {
                int64_t until = (i + 1) * n_steps / frames;
                struct progress progress = {first * n_steps + done * m, m, 1, s->what.n_images * n_steps};

                for (int64_t j = 0; film && j < x->model->pass.m; j++)
                        t[j] = (float)(1 - (double)done / (double)n_steps);
                if (film)
                        r = add_frame(s, t, film, err);
                if (r >= 0)
                        r = program_windows(x, step, until - done, progress, between, err);
                done = until;
        }
        (void)x->rt->k->graph_free(step);
        return r;
}

/* Reads where the trajectories are: 1 when all are done. */
static int look(struct sampler *s, float *ret_t, double *ret_s, struct error *err)
{
        struct program *x = &s->program;
        int64_t m = x->model->pass.m, done = 0;
        int r;

        x->rt->k->copy_out(x->rt->stream, s->seen, s->flow.trajectories, (size_t)m * sizeof *s->seen);
        if ((r = x->rt->k->stream_sync(x->rt->stream, err)) < 0)
                return r;
        *ret_s = 0;
        for (int64_t i = 0; i < m; i++) {
                if (s->seen[i].failed)
                        return error_set(err, -EDOM, NULL, "the flow of sample %lld of its batch cannot be integrated",
                                         (long long)i);
                ret_t[i] = (float)(1 - s->seen[i].s);
                *ret_s += s->seen[i].s;
                done += s->seen[i].done;
        }
        return done == m;
}

static int flow_chunk(struct sampler *s, int64_t first, float *t, struct film *film, const struct between *between,
                      struct error *err)
{
        struct program *x = &s->program;
        int64_t m = x->model->pass.m, n = s->what.n_images, window, distance = 1;
        struct graph *step = NULL;
        double at = 0;
        int r, done = 0;

        for (int64_t i = 0; i < m; i++) {
                s->seen[i] = (struct trajectory){.place = i, .fresh = 1};
                t[i] = 1;
        }
        x->rt->k->copy_in(x->rt->stream, s->flow.trajectories, s->seen, (size_t)m * sizeof *s->seen);
        r = program_record(x, flow_once, s, &step, err);
        for (int64_t i = 0; r >= 0 && done == 0; i++) {
                if (film && i % (distance = thin(film, distance)) == 0)
                        r = add_frame(s, t, film, err);
                if (r >= 0)
                        r = program_window(x, step, 1, &window, err);
                if (r >= 0)
                        r = done = look(s, t, &at, err);
                if (r >= 0 && between->f)
                        r = between->f(between->user, MIN(first + (int64_t)at, n), n, err);
        }
        (void)x->rt->k->graph_free(step);
        return r;
}

static int run_chunk(struct sampler *s, int64_t first, struct film *film, const struct between *between, uint8_t *ret,
                     struct error *err)
{
        struct program *x = &s->program;
        struct arena *arena = x->model->pass.arena;
        size_t mark = arena_mark(arena);
        _cleanup_(freep) float *t = calloc((size_t)x->model->pass.m, sizeof *t);
        int r;

        if (!t)
                return error_set(err, -ENOMEM, NULL, "no memory for the sampler");
        x->at = (struct step_state){
                .seed = s->what.seed, .step = s->ode ? 0 : s->what.n_steps, .position = first, .tau = 1};
        x->rt->k->copy_in(x->rt->stream, x->state, &x->at, sizeof x->at);
        chunk_begin(s);
        r = s->ode ? flow_chunk(s, first, t, film, between, err) : ancestral_chunk(s, first, t, film, between, err);
        memset(t, 0, (size_t)x->model->pass.m * sizeof *t);
        if (r >= 0 && film)
                r = add_frame(s, t, film, err);
        if (r >= 0)
                r = set_times(s, t, err);
        if (r >= 0)
                r = show(s, MIN(x->model->pass.m, s->what.n_images - first), ret + first * IMAGE_BYTES, err);
        arena_release_since(arena, mark);
        return r;
}

int sampler_run(struct sampler *s, const struct sampling *what, const struct dataset *d, struct film *film,
                const struct between *between, uint8_t *ret, struct error *err)
{
        struct runtime *rt = s->program.rt;
        struct pass *p = &s->program.model->pass;
        int r = 0;

        s->what = *what;
        s->solve = (struct flow_solve){.rtol = what->rtol, .atol = what->atol, .reverse = true};
        p->params = rt->section[what->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        if (what->latent == SAMPLING_LATENT_IMAGES)
                r = runtime_images(rt, d, what->split, what->n_images, &s->images, err);
        for (int64_t first = 0; first < what->n_images && r >= 0; first += p->m)
                r = run_chunk(s, first, first ? NULL : film, between, ret, err);
        rt->k->memory_free(rt->device, s->images);
        s->images = NULL;
        return r < 0 ? r : 0;
}
