#include "engine/likelihood.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct evaluator {
        struct runtime *rt;
        struct model *model;
        int64_t m;
        struct pace pace;
        struct step_state at; /* what the device has; or to be written there */
        /* device memory of a batch */
        struct step_state *state;
        struct row *rows;
        struct batch_memory memory;

        /* the evaluation that runs */
        const struct evaluation *what;
        int64_t repeats;
        uint8_t *images; /* device: what is evaluated; */
        double *sums;    /* and its results, [n_images, 3] bits per dimension */
};

#define N_BUFFERS (2 + BATCH_BUFFERS)

static void buffers_of(struct evaluator *v, struct runtime_buffer ret[N_BUFFERS])
{
        ret[0] = (struct runtime_buffer){(void **)&v->state, sizeof *v->state};
        ret[1] = (struct runtime_buffer){(void **)&v->rows, (size_t)v->m * sizeof *v->rows};
        batch_buffers(&v->memory, v->m, v->rt->config, ret + 2);
}

/* m rows of the list (image, repeat) from the state's position on; then the position behind them. */
static void batch_once(struct model *model, void *user)
{
        struct evaluator *v = user;
        struct pass *p = &model->pass;
        bool dense = v->repeats > 1;

        v->model = model;
        p->state = v->state;
        p->rows = v->rows;
        RUN(p, list_rows, .state = v->state, .m = v->m, .n_images = v->what->n_images, .repeats = v->repeats,
            .rows = v->rows);
        /* times antithetic over an image's repeats, or over the split */
        batch_make(p, &v->memory, v->images, v->rows, dense ? v->repeats : v->what->n_images,
                   !dense && !p->config->antithetic_time_sampling);
        model_bound(model, &v->memory.batch, 0, &v->memory.ret);
        RUN(p, image_add, .m = v->m, .n_images = v->what->n_images, .repeats = v->repeats,
            .scale = 1 / ((double)v->repeats * DIMENSIONS * M_LN2), .terms = v->memory.ret.terms,
            .kl = v->memory.ret.kl, .state = v->state, .sums = v->sums);
        RUN(p, advance, .position_by = v->m, .state = v->state);
}

int evaluator_new(struct runtime *rt, int64_t m, struct evaluator **ret, struct runtime_need *need, struct error *err)
{
        static const struct evaluation any = {.n_images = 1}; /* of the dry run */
        _cleanup_(evaluator_freep) struct evaluator *v = calloc(1, sizeof *v);
        struct runtime_buffer buffers[N_BUFFERS];
        int r;

        if (!v)
                return error_set(err, -ENOMEM, NULL, "no memory for the evaluation");
        v->rt = rt;
        v->m = m;
        v->what = &any;
        v->repeats = 1;
        buffers_of(v, buffers);
        runtime_buffers_count(buffers, N_BUFFERS, need);
        r = runtime_model(rt, m, false, batch_once, v, &v->model, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        return 0;
}

int evaluator_bind(struct evaluator *v, struct error *err)
{
        struct runtime_buffer buffers[N_BUFFERS];
        int r = runtime_bind(v->rt, v->model, err);

        buffers_of(v, buffers);
        return r < 0 ? r : runtime_buffers_new(v->rt, buffers, N_BUFFERS, err);
}

struct evaluator *evaluator_free(struct evaluator *v)
{
        struct runtime_buffer buffers[N_BUFFERS];

        if (!v)
                return NULL;
        buffers_of(v, buffers);
        runtime_buffers_free(v->rt, buffers, N_BUFFERS);
        (void)runtime_model_free(v->model);
        free(v);
        return NULL;
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

/* The caller's progress counts images, windows count batches. */
struct images_done {
        const struct evaluator *v;
        struct between caller;
};

static int between_batches(void *user, int64_t done, int64_t all, struct error *err)
{
        const struct images_done *x = user;
        int64_t images = x->v->what->n_images;

        (void)all;
        return x->caller.f(x->caller.user, MIN(done * x->v->m / x->v->repeats, images), images, err);
}

/* Records a batch of the evaluation, runs it over all rows, reads the sums. */
static int run(struct evaluator *v, const struct dataset *d, const struct between *progress, double *ret_sums,
               struct error *err)
{
        struct runtime *rt = v->rt;
        const struct kernels *k = rt->k;
        struct graph *batch = NULL;
        size_t bytes = (size_t)v->what->n_images * 3 * sizeof(double);
        int r = runtime_images(rt, d, v->what->split, v->what->n_images, &v->images, err);

        if (r >= 0 && !(v->sums = runtime_memory(rt, bytes, err)))
                r = -ENOMEM;
        if (r >= 0) {
                k->copy_in(rt->stream, v->state, &v->at, sizeof v->at);
                r = k->graph_begin(rt->stream, err);
        }
        if (r >= 0) {
                batch_once(v->model, v);
                r = k->graph_end(rt->stream, &batch, err);
        }
        if (r >= 0)
                r = runtime_windows(
                        rt, &v->pace, batch, (v->what->n_images * v->repeats + v->m - 1) / v->m,
                        &(struct between){progress->f ? between_batches : NULL, &(struct images_done){v, *progress}},
                        err);
        if (r >= 0) {
                k->copy_out(rt->stream, ret_sums, v->sums, bytes);
                r = k->stream_sync(rt->stream, err);
        }
        (void)k->graph_free(batch);
        k->memory_free(rt->device, v->sums);
        k->memory_free(rt->device, v->images);
        v->sums = NULL;
        v->images = NULL;
        return r;
}

int evaluator_run(struct evaluator *v, const struct dataset *d, const struct evaluation *e,
                  const struct between *progress, struct evaluation_result *ret, struct error *err)
{
        struct evaluation_result result = {.n_images = e->n_images};
        _cleanup_(freep) struct bound_parts *images = calloc((size_t)e->n_images, sizeof *images);
        _cleanup_(freep) double *sums = calloc((size_t)e->n_images, 3 * sizeof *sums);
        int r;

        if (!images || !sums)
                return error_set(err, -ENOMEM, NULL, "no memory for %lld results", (long long)e->n_images);
        v->what = e;
        v->repeats = e->method == BOUND_DENSE ? e->n_timesteps : 1;
        v->at = (struct step_state){.seed = e->seed};
        v->model->pass.params = v->rt->section[e->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        r = run(v, d, progress, sums, err);
        if (r < 0)
                return r;
        for (int64_t i = 0; i < e->n_images; i++)
                images[i] =
                        (struct bound_parts){.recon = sums[3 * i], .latent = sums[3 * i + 1], .diff = sums[3 * i + 2]};
        result.images = TAKE_PTR(images);
        summarise(&result);
        *ret = result;
        return 0;
}
