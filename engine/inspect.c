#include "engine/inspect.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct inspector {
        struct program program;
        uint8_t *x;
        float *f, *e, *kl, *t;
        float *gamma; /* device: the schedule's, as it was last evaluated */
        float *seen;  /* host: of m images */
};

static void begin(struct inspector *v)
{
        struct model *model = v->program.model;
        struct pass *p = &model->pass;

        RUN(p, encode_image, .n = p->m * DIMENSIONS, .x = v->x, .f = v->f);
        model_latent(model, v->f, v->e, v->kl);
        schedule_begin(p, &model->schedule, model->baseline ? NULL : v->e);
}

static void evaluate(struct inspector *v)
{
        struct model *model = v->program.model;
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);
        struct schedule_at at;

        schedule_evaluate(p, &model->schedule, v->t, &at);
        RUN(p, copy_2d, .rows = 1, .columns = p->m * model->schedule.d, .x = at.gamma, .y = v->gamma, .scale = 1);
        arena_release_since(p->arena, mark);
}

static void once(struct model *model, void *user)
{
        size_t mark = arena_mark(model->pass.arena);

        begin(user);
        evaluate(user);
        arena_release_since(model->pass.arena, mark);
}

int inspector_new(struct runtime *rt, int64_t m, struct inspector **ret, struct runtime_need *need, struct error *err)
{
        _cleanup_(inspector_freep) struct inspector *v = calloc(1, sizeof *v);
        size_t f = (size_t)m * sizeof(float);
        int r;

        if (!v || !(v->seen = malloc(f * DIMENSIONS)))
                return error_set(err, -ENOMEM, NULL, "no memory for the inspection");
        program_init(&v->program, rt, m);
        program_buffer(&v->program, &v->x, (size_t)m * IMAGE_BYTES);
        program_buffer(&v->program, &v->f, f * DIMENSIONS);
        program_buffer(&v->program, &v->e, f * (size_t)rt->config->latent_size);
        program_buffer(&v->program, &v->kl, f);
        program_buffer(&v->program, &v->t, f);
        program_buffer(&v->program, &v->gamma, f * DIMENSIONS);
        r = program_plan(&v->program, m, rt->config->evaluation_precision, false, once, v, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        return 0;
}

int inspector_bind(struct inspector *v, struct error *err)
{
        return program_bind(&v->program, err);
}

struct inspector *inspector_free(struct inspector *v)
{
        if (!v)
                return NULL;
        program_done(&v->program);
        free(v->seen);
        free(v);
        return NULL;
}

static struct gamma_moments moments_of(const float *gamma, int64_t d)
{
        struct gamma_moments r = {.least = HUGE_VAL, .most = -HUGE_VAL};
        double squares = 0;

        for (int64_t i = 0; i < d; i++) {
                r.mean += gamma[i] / (double)d;
                r.least = fmin(r.least, gamma[i]);
                r.most = fmax(r.most, gamma[i]);
        }
        for (int64_t i = 0; i < d; i++)
                squares += (gamma[i] - r.mean) * (gamma[i] - r.mean);
        r.spread = sqrt(squares / (double)d);
        return r;
}

/* Gamma of m images from first on at one time. */
static int look(struct inspector *v, const struct inspection *what, int64_t first, int64_t m, int64_t time,
                struct error *err)
{
        struct program *x = &v->program;
        const struct kernels *k = x->rt->k;
        int64_t d = x->model->schedule.d;
        int r;

        k->fill(x->rt->stream,
                &(struct fill_args){.n = x->model->pass.m, .value = (float)what->times[time], .y = v->t});
        evaluate(v);
        k->copy_out(x->rt->stream, v->seen, v->gamma, (size_t)(m * d) * sizeof *v->seen);
        if ((r = k->stream_sync(x->rt->stream, err)) < 0)
                return r;
        for (int64_t i = 0; i < m; i++) {
                const float *gamma = v->seen + i * d;

                what->moments[(first + i) * what->n_times + time] = moments_of(gamma, d);
                for (int64_t j = 0; first + i < what->n_maps && j < DIMENSIONS; j++)
                        what->maps[((first + i) * what->n_times + time) * DIMENSIONS + j] = gamma[d == 1 ? 0 : j];
        }
        return 0;
}

static int run_batch(struct inspector *v, const struct dataset *d, const struct inspection *what, int64_t first,
                     uint8_t *room, struct error *err)
{
        struct program *x = &v->program;
        struct runtime *rt = x->rt;
        int64_t m = MIN(x->model->pass.m, what->n_images - first), n = rt->config->latent_size;
        size_t mark = arena_mark(x->model->pass.arena);
        int r;

        for (int64_t i = 0; i < m; i++)
                dataset_image(d, what->split, first + i, room + i * IMAGE_BYTES);
        rt->k->copy_in(rt->stream, v->x, room, (size_t)m * IMAGE_BYTES);
        begin(v);
        rt->k->copy_out(rt->stream, what->kl + first, v->kl, (size_t)m * sizeof *what->kl);
        if (!x->model->baseline)
                rt->k->copy_out(rt->stream, what->latents + first * n, v->e, (size_t)(m * n) * sizeof *what->latents);
        r = rt->k->stream_sync(rt->stream, err);
        for (int64_t time = 0; time < what->n_times && r >= 0; time++)
                r = look(v, what, first, m, time, err);
        arena_release_since(x->model->pass.arena, mark);
        return r;
}

/* What the ranks have seen, on all: batches of m images were theirs in turn. */
static int bring_together(struct runtime *rt, int64_t m, const struct inspection *what, struct error *err)
{
        const struct {
                void *values;
                size_t image; /* bytes */
                int64_t n_images;
        } arrays[] = {
                {what->kl, sizeof *what->kl, what->n_images},
                {what->latents, (size_t)rt->config->latent_size * sizeof *what->latents, what->n_images},
                {what->moments, (size_t)what->n_times * sizeof *what->moments, what->n_images},
                {what->maps, (size_t)(what->n_times * DIMENSIONS) * sizeof *what->maps, what->n_maps},
        };
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(arrays) && r >= 0; i++)
                if (arrays[i].values)
                        r = ranks_collect(rt, arrays[i].values, (size_t)m * arrays[i].image,
                                          (size_t)arrays[i].n_images * arrays[i].image, err);
        return r;
}

int inspector_run(struct inspector *v, const struct dataset *d, const struct inspection *what, struct error *err)
{
        struct pass *p = &v->program.model->pass;
        struct runtime *rt = v->program.rt;
        _cleanup_(freep) uint8_t *room = malloc((size_t)p->m * IMAGE_BYTES);
        int r = room ? 0 : error_set(err, -ENOMEM, NULL, "no memory for the inspection");

        p->params = rt->section[what->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        for (int64_t first = rt->ranks.rank * p->m; first < what->n_images && r >= 0; first += rt->ranks.size * p->m)
                r = run_batch(v, d, what, first, room, err);
        return r < 0 ? r : bring_together(rt, p->m, what, err);
}
