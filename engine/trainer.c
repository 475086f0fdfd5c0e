#include "engine/trainer.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct trainer {
        struct program program;
        int64_t batch, parts; /* parts of batch / parts images */
        bool changed;         /* the program's state is to be written to the device */
        struct graph *step;
        int64_t count; /* training images */
        uint8_t *images;
        struct batch_memory memory; /* of a part */
        struct optimizer_buffers optimizer;
        struct factored_gradients factored;
};

/* A part of the batch: its gradients add to those of the parts before it. */
static void part_of_step(struct trainer *t, int64_t part)
{
        struct pass *p = &t->program.model->pass;
        const struct bound_results *ret = &t->memory.ret;

        p->rows = t->program.rows + part * p->m;
        p->accumulate = part > 0;
        t->factored.first_row = part * p->m;
        t->factored.n = 0;
        t->factored.used = 0;
        batch_make(p, &t->memory, t->images, p->rows, t->batch, !p->config->antithetic_time_sampling);
        model_bound(t->program.model, &t->memory.batch, (float)(1 / ((double)t->batch * DIMENSIONS * M_LN2)), ret);
        RUN(p, step_add, .m = p->m, .batch = t->batch, .d = DIMENSIONS, .terms = ret->terms, .kl = ret->kl,
            .vars = ret->vars, .state = t->optimizer.state);
}

static void step(struct model *model, void *user)
{
        struct trainer *t = user;
        struct pass *p = &model->pass;

        t->optimizer.state = t->program.state;
        p->dropout = p->config->sm_pdrop > 0;
        p->factored = runtime_factors(p->config) ? &t->factored : NULL;
        optimizer_begin(p, &t->optimizer);
        RUN(p, training_rows, .state = t->program.state, .batch = t->batch, .count = t->count, .rows = t->program.rows);
        for (int64_t part = 0; part < t->parts; part++)
                part_of_step(t, part);
        optimizer_step(p, &t->optimizer);
}

/* The program for that many parts, and what it needs. */
static int plan(struct trainer *t, struct runtime *rt, int64_t parts, struct runtime_need *need, struct error *err)
{
        int64_t factors = runtime_factors(rt->config) ? factored_values(rt->layout, t->batch) : 1;
        float *nowhere = (float *)KERNELS_ALIGN; /* the dry run reads none of it */

        t->parts = parts;
        t->factored.rows = t->batch;
        t->optimizer = (struct optimizer_buffers){nowhere, nowhere, nowhere, nowhere, nowhere, NULL};
        program_init(&t->program, rt, t->batch);
        program_buffer(&t->program, &t->factored.memory, (size_t)factors * sizeof(float));
        batch_buffers(&t->memory, t->batch / parts, &t->program);
        t->memory.flip = rt->config->flip;
        return program_plan(&t->program, t->batch / parts, rt->config->precision, true, step, t, need, err);
}

/* The fewest equal parts that fit; where none does, one image a part: what is missing is said when it is allocated. */
static int plan_to_fit(struct trainer *t, struct runtime *rt, unsigned sections, struct runtime_need *need,
                       struct error *err)
{
        const struct runtime_need before = *need;

        for (int64_t parts = 1;; parts++) {
                int r;

                if (t->batch % parts)
                        continue;
                *need = before;
                r = plan(t, rt, parts, need, err);
                if (r < 0 || parts == t->batch ||
                    runtime_total_bytes(rt, sections, true, need) <= (size_t)rt->info.memory_free)
                        return r;
                program_done(&t->program);
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
        t->batch = c->batch_size_train;
        t->program.at.seed = (uint32_t)c->seed;
        t->changed = true;
        if (c->n_micro_batches && t->batch % c->n_micro_batches)
                return error_set(err, -EINVAL, "/training/n_micro_batches",
                                 "expected a divisor of training.batch_size_train, which is %lld", (long long)t->batch);
        r = c->n_micro_batches ? plan(t, rt, c->n_micro_batches, need, err) : plan_to_fit(t, rt, sections, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

int trainer_bind(struct trainer *t, const struct dataset *d, struct error *err)
{
        struct runtime *rt = t->program.rt;
        int r = program_bind(&t->program, err);

        t->count = dataset_count(d, SPLIT_TRAIN);
        if (r >= 0)
                r = runtime_images(rt, d, SPLIT_TRAIN, t->count, &t->images, err);
        t->optimizer = (struct optimizer_buffers){rt->section[SECTION_PARAMS],
                                                  rt->section[SECTION_EMA],
                                                  rt->section[SECTION_M],
                                                  rt->section[SECTION_V],
                                                  rt->grads,
                                                  t->program.state};
        t->program.model->pass.params = t->optimizer.params;
        return r;
}

struct trainer *trainer_free(struct trainer *t)
{
        if (!t)
                return NULL;
        if (t->program.rt) {
                (void)t->program.rt->k->graph_free(t->step);
                t->program.rt->k->memory_free(t->program.rt->device, t->images);
        }
        program_done(&t->program);
        free(t);
        return NULL;
}

int64_t trainer_parts(const struct trainer *t)
{
        return t->parts;
}

int64_t trainer_step_number(const struct trainer *t)
{
        return t->program.at.step;
}

double trainer_learning_rate(const struct trainer *t)
{
        return t->program.at.step ? t->program.at.learning_rate : NAN;
}

static int failure(const struct trainer *t, struct error *err)
{
        static const char *const what[FAILURE_N] = {"", "the loss", "the norm of the gradient", "an updated weight"};

        return error_set(err, -EDOM, NULL,
                         "%s is not finite at step %lld; a lower optimizer.learning_rate, a longer "
                         "training.num_steps_lr_warmup or optimizer.gradient_clip_norm may help",
                         what[t->program.at.failure], (long long)t->program.at.step);
}

int trainer_window(struct trainer *t, int64_t most, int64_t *ret_n, struct error *err)
{
        struct program *x = &t->program;
        int64_t before = x->at.step, launched;
        int r = t->step ? 0 : program_record(x, step, t, &t->step, err);

        if (r >= 0 && t->changed)
                x->rt->k->copy_in(x->rt->stream, x->state, &x->at, sizeof x->at);
        if (r >= 0)
                r = program_window(x, t->step, most, &launched, err);
        if (r < 0)
                return r;
        t->changed = false;
        *ret_n = x->at.step - before;
        return x->at.failure ? failure(t, err) : 0;
}

struct training_scalars trainer_take_window(struct trainer *t)
{
        const double *sums = t->program.at.window_sums;
        double n = (double)t->program.at.n_window;
        struct training_scalars s = {.recon = sums[SUM_RECON] / n,
                                     .latent = sums[SUM_LATENT] / n,
                                     .diff = sums[SUM_DIFF] / n,
                                     .var_0 = sums[SUM_VAR_0] / n,
                                     .var_1 = sums[SUM_VAR_1] / n};

        s.bpd = s.recon + s.latent + s.diff;
        memset(t->program.at.window_sums, 0, sizeof t->program.at.window_sums);
        t->program.at.n_window = 0;
        t->changed = true;
        return s;
}

json_t *trainer_state(const struct trainer *t)
{
        const double *sums = t->program.at.window_sums;

        return json_pack("{s:I, s:[f, f, f, f, f]}", "window_steps", (json_int_t)t->program.at.n_window, "window_sums",
                         sums[0], sums[1], sums[2], sums[3], sums[4]);
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
        if (json_array_size(sums) != (sums || n ? SUM_N : 0))
                return error_set(err, -EBADMSG, "/trainer/window_sums", "expected %d numbers", SUM_N);
        for (size_t i = 0; i < SUM_N; i++)
                if (!sums)
                        t->program.at.window_sums[i] = 0;
                else if (!json_to_real(json_array_get(sums, i), &t->program.at.window_sums[i]))
                        return error_set(err, -EBADMSG, "/trainer/window_sums", "expected %d numbers", SUM_N);
        t->program.at.seed = (uint32_t)t->program.rt->config->seed;
        t->program.at.step = step;
        t->program.at.n_window = n;
        t->changed = true;
        return 0;
}
