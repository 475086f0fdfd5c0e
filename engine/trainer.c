#include "engine/trainer.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct trainer {
        struct runtime *rt;
        struct model *model;
        int64_t batch, parts; /* parts of batch / parts images */
        struct step_state at; /* as the device has it after a window; or to be written there first */
        bool changed;         /* `at` is to be written */
        struct pace pace;
        struct graph *step;
        int64_t count; /* training images */
        uint8_t *images;
        /* device memory: of the step, then of a part */
        struct row *rows; /* [batch] */
        struct batch_memory memory;
        struct optimizer_buffers optimizer;
        struct factored_gradients factored;
};

#define N_BUFFERS (3 + BATCH_BUFFERS)

static void buffers_of(struct trainer *t, struct runtime_buffer ret[N_BUFFERS])
{
        const struct config *c = t->rt->config;
        int64_t factors = runtime_factors(c) ? factored_values(t->rt->layout, t->batch) : 1;

        ret[0] = (struct runtime_buffer){(void **)&t->optimizer.state, sizeof *t->optimizer.state};
        ret[1] = (struct runtime_buffer){(void **)&t->rows, (size_t)t->batch * sizeof *t->rows};
        ret[2] = (struct runtime_buffer){(void **)&t->factored.memory, (size_t)factors * sizeof(float)};
        batch_buffers(&t->memory, t->batch / t->parts, c, ret + 3);
}

/* A part of the batch: its gradients add to those of the parts before it. */
static void part_of_step(struct trainer *t, int64_t part)
{
        struct pass *p = &t->model->pass;
        const struct bound_results *ret = &t->memory.ret;

        p->rows = t->rows + part * p->m;
        p->accumulate = part > 0;
        t->factored.first_row = part * p->m;
        t->factored.n = 0;
        t->factored.used = 0;
        batch_make(p, &t->memory, t->images, p->rows, t->batch, !p->config->antithetic_time_sampling);
        model_bound(t->model, &t->memory.batch, (float)(1 / ((double)t->batch * DIMENSIONS * M_LN2)), ret);
        RUN(p, step_add, .m = p->m, .batch = t->batch, .d = DIMENSIONS, .terms = ret->terms, .kl = ret->kl,
            .vars = ret->vars, .state = t->optimizer.state);
}

static void step(struct model *model, void *user)
{
        struct trainer *t = user;
        struct pass *p = &model->pass;

        t->model = model;
        p->state = t->optimizer.state;
        p->dropout = p->config->sm_pdrop > 0;
        p->factored = runtime_factors(p->config) ? &t->factored : NULL;
        optimizer_begin(p, &t->optimizer);
        RUN(p, training_rows, .state = t->optimizer.state, .batch = t->batch, .count = t->count, .rows = t->rows);
        for (int64_t part = 0; part < t->parts; part++)
                part_of_step(t, part);
        optimizer_step(p, &t->optimizer);
}

/* The model for that many parts, and what it needs. */
static int plan(struct trainer *t, int64_t parts, struct runtime_need *need, struct error *err)
{
        struct runtime_buffer buffers[N_BUFFERS];
        float *nowhere = (float *)KERNELS_ALIGN; /* the dry run reads none of it */

        t->parts = parts;
        t->factored.rows = t->batch;
        t->optimizer = (struct optimizer_buffers){nowhere, nowhere, nowhere, nowhere, nowhere, NULL};
        buffers_of(t, buffers);
        runtime_buffers_count(buffers, N_BUFFERS, need);
        return runtime_model(t->rt, t->batch / parts, true, step, t, &t->model, need, err);
}

/* The fewest equal parts that fit; where none does, one image a part: what is missing is said when it is allocated. */
static int plan_to_fit(struct trainer *t, unsigned sections, struct runtime_need *need, struct error *err)
{
        const struct runtime_need before = *need;

        for (int64_t parts = 1;; parts++) {
                int r;

                if (t->batch % parts)
                        continue;
                *need = before;
                r = plan(t, parts, need, err);
                if (r < 0 || parts == t->batch ||
                    runtime_total_bytes(t->rt, sections, true, need) <= (size_t)t->rt->info.memory_free)
                        return r;
                t->model = runtime_model_free(t->model);
        }
}

int trainer_new(struct runtime *rt, unsigned sections, struct trainer **ret, struct runtime_need *need,
                struct error *err)
{
        _cleanup_(trainer_freep) struct trainer *t = calloc(1, sizeof *t);
        const struct config *c = rt->config;
        int r;

        if (!t)
                return error_set(err, -ENOMEM, NULL, "no memory for the trainer");
        t->rt = rt;
        t->batch = c->batch_size_train;
        t->at = (struct step_state){.seed = (uint32_t)c->seed};
        t->changed = true;
        if (c->n_micro_batches && t->batch % c->n_micro_batches)
                return error_set(err, -EINVAL, "/training/n_micro_batches",
                                 "expected a divisor of training.batch_size_train, which is %lld", (long long)t->batch);
        r = c->n_micro_batches ? plan(t, c->n_micro_batches, need, err) : plan_to_fit(t, sections, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

int trainer_bind(struct trainer *t, const struct dataset *d, struct error *err)
{
        struct runtime *rt = t->rt;
        struct runtime_buffer buffers[N_BUFFERS];
        int r = runtime_bind(rt, t->model, err);

        buffers_of(t, buffers);
        if (r >= 0)
                r = runtime_buffers_new(rt, buffers, N_BUFFERS, err);
        t->count = dataset_count(d, SPLIT_TRAIN);
        if (r >= 0)
                r = runtime_images(rt, d, SPLIT_TRAIN, t->count, &t->images, err);
        t->optimizer.params = rt->section[SECTION_PARAMS];
        t->optimizer.ema = rt->section[SECTION_EMA];
        t->optimizer.m = rt->section[SECTION_M];
        t->optimizer.v = rt->section[SECTION_V];
        t->optimizer.grads = rt->grads;
        t->model->pass.params = t->optimizer.params;
        return r;
}

struct trainer *trainer_free(struct trainer *t)
{
        struct runtime_buffer buffers[N_BUFFERS];

        if (!t)
                return NULL;
        (void)t->rt->k->graph_free(t->step);
        if (t->parts) {
                buffers_of(t, buffers);
                runtime_buffers_free(t->rt, buffers, N_BUFFERS);
        }
        t->rt->k->memory_free(t->rt->device, t->images);
        (void)runtime_model_free(t->model);
        free(t);
        return NULL;
}

int64_t trainer_parts(const struct trainer *t)
{
        return t->parts;
}

int64_t trainer_step_number(const struct trainer *t)
{
        return t->at.step;
}

double trainer_learning_rate(const struct trainer *t)
{
        return t->at.step ? t->at.learning_rate : NAN;
}

static int failure(const struct trainer *t, struct error *err)
{
        static const char *const what[FAILURE_N] = {"", "the loss", "the norm of the gradient", "an updated weight"};

        return error_set(err, -EDOM, NULL,
                         "%s is not finite at step %lld; a lower optimizer.learning_rate, a longer "
                         "training.num_steps_lr_warmup or optimizer.gradient_clip_norm may help",
                         what[t->at.failure], (long long)t->at.step);
}

int trainer_window(struct trainer *t, int64_t most, int64_t *ret_n, struct error *err)
{
        struct runtime *rt = t->rt;
        int64_t n, before = t->at.step;
        int r;

        if (t->changed)
                rt->k->copy_in(rt->stream, t->optimizer.state, &t->at, sizeof t->at);
        if (!t->step) {
                r = rt->k->graph_begin(rt->stream, err);
                if (r < 0)
                        return r;
                step(t->model, t);
                r = rt->k->graph_end(rt->stream, &t->step, err);
                if (r < 0)
                        return r;
        }
        n = runtime_window(rt, &t->pace, t->step, most, err);
        if (n < 0)
                return (int)n;
        rt->k->copy_out(rt->stream, &t->at, t->optimizer.state, sizeof t->at);
        r = rt->k->stream_sync(rt->stream, err);
        if (r < 0)
                return r;
        t->changed = false;
        *ret_n = t->at.step - before;
        return t->at.failure ? failure(t, err) : 0;
}

struct training_scalars trainer_take_window(struct trainer *t)
{
        const double *sums = t->at.window_sums;
        double n = (double)t->at.n_window;
        struct training_scalars s = {.recon = sums[SUM_RECON] / n,
                                     .latent = sums[SUM_LATENT] / n,
                                     .diff = sums[SUM_DIFF] / n,
                                     .var_0 = sums[SUM_VAR_0] / n,
                                     .var_1 = sums[SUM_VAR_1] / n};

        s.bpd = s.recon + s.latent + s.diff;
        memset(t->at.window_sums, 0, sizeof t->at.window_sums);
        t->at.n_window = 0;
        t->changed = true;
        return s;
}

json_t *trainer_state(const struct trainer *t)
{
        const double *sums = t->at.window_sums;

        return json_pack("{s:I, s:[f, f, f, f, f]}", "window_steps", (json_int_t)t->at.n_window, "window_sums", sums[0],
                         sums[1], sums[2], sums[3], sums[4]);
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
        if (json_array_size(sums) != SUM_N)
                return error_set(err, -EBADMSG, "/trainer/window_sums", "expected %d numbers", SUM_N);
        for (size_t i = 0; i < SUM_N; i++)
                if (!json_to_real(json_array_get(sums, i), &t->at.window_sums[i]))
                        return error_set(err, -EBADMSG, "/trainer/window_sums", "expected %d numbers", SUM_N);
        t->at.seed = (uint32_t)t->rt->config->seed;
        t->at.step = step;
        t->at.n_window = n;
        t->changed = true;
        return 0;
}
