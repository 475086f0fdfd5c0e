#include "engine/likelihood.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct evaluator {
        struct runtime *rt;
        struct model *model;
        int64_t m;
        /* device memory of a batch */
        uint8_t *x;
        float *t, *s, *eps_0, *eps, *latent, *latent_row;
        struct step_state *state;
        struct bound_results ret;
        /* host */
        uint8_t *images;
        float *terms, *kl;
};

static struct batch batch_of(const struct evaluator *v)
{
        return (struct batch){.x = v->x, .t = v->t, .s = v->s, .eps_0 = v->eps_0, .eps = v->eps, .latent = v->latent};
}

static void bound_once(struct model *model, void *user)
{
        struct evaluator *v = user;
        struct batch batch = batch_of(v);

        model_bound(model, &batch, 0, &v->ret);
}

static int allocate_batch(struct evaluator *v, struct error *err)
{
        struct runtime *rt = v->rt;
        size_t m = (size_t)v->m, f = sizeof(float), latent = 10 * (size_t)rt->config->latent_size;

        v->images = malloc(m * IMAGE_BYTES);
        v->terms = malloc(3 * m * f);
        v->kl = malloc(m * f);
        if (!v->images || !v->terms || !v->kl)
                return error_set(err, -ENOMEM, NULL, "no memory for a batch of %zu images", m);
        if (!(v->x = runtime_memory(rt, m * IMAGE_BYTES, err)) || !(v->t = runtime_memory(rt, m * f, err)) ||
            !(v->s = runtime_memory(rt, m * f, err)) || !(v->eps_0 = runtime_memory(rt, m * DIMENSIONS * f, err)) ||
            !(v->eps = runtime_memory(rt, m * DIMENSIONS * f, err)) ||
            !(v->latent = runtime_memory(rt, m * latent * f, err)) ||
            !(v->latent_row = runtime_memory(rt, latent * f, err)) ||
            !(v->state = runtime_memory(rt, sizeof *v->state, err)) ||
            !(v->ret.terms = runtime_memory(rt, 3 * m * f, err)) || !(v->ret.kl = runtime_memory(rt, m * f, err)) ||
            !(v->ret.vars = runtime_memory(rt, 2 * m * f, err)))
                return -ENOMEM;
        return 0;
}

int evaluator_new(struct runtime *rt, int64_t m, struct evaluator **ret, size_t *ret_bytes, struct error *err)
{
        _cleanup_(evaluator_freep) struct evaluator *v = calloc(1, sizeof *v);
        int r;

        if (!v)
                return error_set(err, -ENOMEM, NULL, "no memory for the evaluation");
        v->rt = rt;
        v->m = m;
        r = runtime_model(rt, m, false, bound_once, v, &v->model, ret_bytes, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        return 0;
}

int evaluator_bind(struct evaluator *v, struct error *err)
{
        int r = runtime_bind(v->rt, v->model, err);

        return r < 0 ? r : allocate_batch(v, err);
}

struct evaluator *evaluator_free(struct evaluator *v)
{
        if (!v)
                return NULL;
        void *const device[] = {v->x,          v->t,     v->s,         v->eps_0,  v->eps,     v->latent,
                                v->latent_row, v->state, v->ret.terms, v->ret.kl, v->ret.vars};
        for (size_t i = 0; i < ARRAY_LEN(device); i++)
                v->rt->k->memory_free(v->rt->device, device[i]);
        (void)runtime_model_free(v->model);
        free(v->images);
        free(v->terms);
        free(v->kl);
        free(v);
        return NULL;
}

/* The latent's noise of n images from image first on, repeat block; rows row .. row + n - 1 of the batch. */
static void draw_latent(struct evaluator *v, int64_t row, int64_t n, int64_t first, uint32_t block)
{
        struct pass *p = &v->model->pass;
        const struct config *c = p->config;
        int64_t size = c->latent_size;

        if (!bound_noise_is_sum(c)) {
                RUN(p, random_gumbel, .state = v->state, .block = block, .first_image = first, .m = n, .n = size,
                    .y = v->latent + row * size);
        } else if (n == v->m) {
                RUN(p, random_gamma, .state = v->state, .block = block, .first_image = first, .m = n, .n = size,
                    .k = c->latent_k, .y = v->latent);
        } else { /* a row of [10, m, size] */
                RUN(p, random_gamma, .state = v->state, .block = block, .first_image = first, .m = 1, .n = size,
                    .k = c->latent_k, .y = v->latent_row);
                RUN(p, copy_2d, .rows = 10, .columns = size, .x = v->latent_row, .x_stride = size,
                    .y = v->latent + row * size, .y_stride = v->m * size, .scale = 1);
        }
}

static void draw_normals(struct evaluator *v, int64_t row, int64_t n, int64_t first, uint32_t block)
{
        struct pass *p = &v->model->pass;

        RUN(p, random_normal, .state = v->state, .stream = STREAM_EPS_0, .block = block, .first_image = first, .m = n,
            .d = DIMENSIONS, .y = v->eps_0 + row * DIMENSIONS);
        RUN(p, random_normal, .state = v->state, .stream = STREAM_EPS, .block = block, .first_image = first, .m = n,
            .d = DIMENSIONS, .y = v->eps + row * DIMENSIONS);
}

/* Rows of the flattened list (image, repeat) from `first` on; the list is as long as images x repeats, and rows past
 * its end repeat the last one. */
static void draw_batch(struct evaluator *v, const struct evaluation *e, int64_t first, int64_t repeats)
{
        struct pass *p = &v->model->pass;
        int64_t T = p->config->sm_n_timesteps, last = e->n_images * repeats - 1;

        if (repeats == 1) { /* one time an image, antithetic over the split */
                RUN(p, random_times, .state = v->state, .first = first, .m = v->m, .total = e->n_images,
                    .independent = !p->config->antithetic_time_sampling, .n_timesteps = T, .t = v->t, .s = v->s);
                draw_normals(v, 0, v->m, first, 0);
                draw_latent(v, 0, v->m, first, 0);
                return;
        }
        for (int64_t row = 0; row < v->m; row++) {
                int64_t at = MIN(first + row, last), image = at / repeats, repeat = at % repeats;

                RUN(p, random_times, .state = v->state, .block = 1, .first = repeat, .m = 1, .total = repeats,
                    .image = (uint64_t)image, .n_timesteps = T, .t = v->t + row, .s = v->s + row);
                draw_normals(v, row, 1, image, (uint32_t)repeat);
                draw_latent(v, row, 1, image, (uint32_t)repeat);
        }
}

static void add_row(struct bound_parts *to, const float *terms, float kl, double weight)
{
        double scale = weight / (DIMENSIONS * M_LN2);

        to->recon += scale * (double)terms[0];
        to->latent += scale * ((double)terms[1] + (double)kl);
        to->diff += scale * (double)terms[2];
}

static void summarise(struct evaluation_result *r)
{
        double squares = 0;

        r->mean = (struct bound_parts){0};
        for (int64_t i = 0; i < r->n_images; i++) {
                struct bound_parts *x = &r->images[i];

                x->bpd = x->recon + x->latent + x->diff;
                r->mean.recon += x->recon / (double)r->n_images;
                r->mean.latent += x->latent / (double)r->n_images;
                r->mean.diff += x->diff / (double)r->n_images;
        }
        r->mean.bpd = r->mean.recon + r->mean.latent + r->mean.diff;
        for (int64_t i = 0; i < r->n_images; i++)
                squares += (r->images[i].bpd - r->mean.bpd) * (r->images[i].bpd - r->mean.bpd);
        r->standard_error = r->n_images > 1 ? sqrt(squares / (double)(r->n_images - 1) / (double)r->n_images) : NAN;
}

int evaluator_run(struct evaluator *v, const struct dataset *d, const struct evaluation *e,
                  int (*progress)(void *user, int64_t done, int64_t all), void *user, struct evaluation_result *ret,
                  struct error *err)
{
        struct runtime *rt = v->rt;
        struct pass *p = &v->model->pass;
        int64_t repeats = e->method == BOUND_DENSE ? e->n_timesteps : 1, rows = e->n_images * repeats;
        struct evaluation_result result = {.n_images = e->n_images};
        _cleanup_(freep) struct bound_parts *images = calloc((size_t)e->n_images, sizeof *images);
        struct step_state state = {.seed = e->seed};
        int r;

        if (!images)
                return error_set(err, -ENOMEM, NULL, "no memory for %lld results", (long long)e->n_images);
        p->params = rt->section[e->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        rt->k->copy_in(rt->stream, v->state, &state, sizeof state);
        for (int64_t first = 0; first < rows; first += v->m) {
                int64_t n = MIN(v->m, rows - first);

                for (int64_t i = 0; i < v->m; i++)
                        dataset_image(d, e->split, MIN(first + i, rows - 1) / repeats, v->images + i * IMAGE_BYTES);
                rt->k->copy_in(rt->stream, v->x, v->images, (size_t)v->m * IMAGE_BYTES);
                draw_batch(v, e, first, repeats);
                bound_once(v->model, v);
                rt->k->copy_out(rt->stream, v->terms, v->ret.terms, 3 * (size_t)v->m * sizeof(float));
                rt->k->copy_out(rt->stream, v->kl, v->ret.kl, (size_t)v->m * sizeof(float));
                r = rt->k->stream_sync(rt->stream, err);
                if (r < 0)
                        return r;
                for (int64_t i = 0; i < n; i++)
                        add_row(&images[(first + i) / repeats], v->terms + 3 * i, v->kl[i], 1 / (double)repeats);
                r = progress ? progress(user, (first + n) / repeats, e->n_images) : 0;
                if (r < 0)
                        return r;
        }
        result.images = TAKE_PTR(images);
        summarise(&result);
        *ret = result;
        return 0;
}
