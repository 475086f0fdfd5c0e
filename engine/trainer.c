#include "engine/trainer.h"

#include "engine/buckets.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct trainer {
        struct program program;
        int64_t batch, own, parts; /* images of all ranks, of this one, its parts of own / parts images */
        bool changed;              /* the program's state is to be written to the device */
        struct graph *step;
        int64_t count; /* training images */
        uint8_t *images;
        struct batch_memory memory; /* of a part */
        struct optimizer_buffers optimizer;
        struct factored_gradients factored;
        int64_t n_factors;       /* values of their memory; 0: all gradients are written */
        struct buckets *buckets; /* by which they go to the other ranks; NULL: there are none, and in the dry run */
};

/* A part of the batch: its gradients add to those of the parts before it. */
static void part_of_step(struct trainer *t, int64_t part)
{
        struct pass *p = &t->program.model->pass;
        const struct bound_results *ret = &t->memory.ret;
        int64_t first = t->program.rt->ranks.rank * t->own + part * p->m;

        p->rows = t->program.rows + first;
        p->accumulate = part > 0;
        t->factored.first_row = first;
        t->factored.n = 0;
        t->factored.used = 0;
        batch_make(p, &t->memory, t->images, p->rows, t->batch, !p->config->antithetic_time_sampling);
        model_bound(t->program.model, &t->memory.batch, (float)(1 / ((double)t->batch * DIMENSIONS * M_LN2)), ret);
        RUN(p, step_add, .m = p->m, .batch = t->batch, .d = DIMENSIONS, .terms = ret->terms, .kl = ret->kl,
            .vars = ret->vars, .state = t->optimizer.state);
}

/* The last part's backward pass makes the gradients whole, one by one. */
static void share_gradients(struct trainer *t, struct pass *p)
{
        buckets_begin(t->buckets, t->optimizer.grads, runtime_gradients(t->program.rt));
        p->written = buckets_add;
        p->written_user = t->buckets;
}

static void step(struct model *model, void *user)
{
        struct trainer *t = user;
        struct pass *p = &model->pass;

        t->optimizer.state = t->program.state;
        p->dropout = p->config->sm_pdrop > 0;
        p->factored = t->n_factors ? &t->factored : NULL;
        optimizer_begin(p, &t->optimizer);
        RUN(p, training_rows, .state = t->program.state, .batch = t->batch, .count = t->count, .rows = t->program.rows);
        if (t->buckets && t->n_factors) /* zero but for a rank's own rows: the sum is all rows */
                RUN(p, fill, .n = t->n_factors, .value = 0, .y = t->factored.memory);
        for (int64_t part = 0; part < t->parts; part++) {
                if (t->buckets && part == t->parts - 1)
                        share_gradients(t, p);
                part_of_step(t, part);
        }
        if (t->buckets)
                buckets_end(t->buckets, t->factored.memory, t->n_factors, t->optimizer.state->step_sums, SUM_N);
        p->written = NULL;
        optimizer_step(p, &t->optimizer);
}

/* The program for that many parts, and what it needs. */
static int plan(struct trainer *t, struct runtime *rt, int64_t parts, struct runtime_need *need, struct error *err)
{
        float *nowhere = (float *)KERNELS_ALIGN; /* the dry run reads none of it */

        t->parts = parts;
        t->n_factors = runtime_factors(rt->config) ? factored_values(rt->layout, t->batch) : 0;
        t->factored.rows = t->batch;
        t->optimizer = (struct optimizer_buffers){nowhere, nowhere, nowhere, nowhere, nowhere, NULL};
        program_init(&t->program, rt, t->batch);
        program_buffer(&t->program, &t->factored.memory, (size_t)t->n_factors * sizeof(float));
        batch_buffers(&t->memory, t->own / parts, &t->program);
        t->memory.flip = rt->config->flip;
        return program_plan(&t->program, t->own / parts, rt->config->precision, true, step, t, need, err);
}

/* The fewest equal parts that fit; where none does, one image a part: what is missing is said when it is allocated. */
static int plan_to_fit(struct trainer *t, struct runtime *rt, unsigned sections, struct runtime_need *need,
                       struct error *err)
{
        const struct runtime_need before = *need;

        for (int64_t parts = 1;; parts++) {
                int r;

                if (t->own % parts)
                        continue;
                *need = before;
                r = plan(t, rt, parts, need, err);
                if (r < 0 || parts == t->own ||
                    runtime_total_bytes(rt, sections, true, need) <= runtime_memory_share(rt))
                        return r;
                program_done(&t->program);
        }
}

/* As the configuration says, or as the first rank finds that they fit, so that all have the same. */
static int choose_parts(struct trainer *t, struct runtime *rt, unsigned sections, struct runtime_need *need,
                        struct error *err)
{
        int64_t parts = rt->config->n_micro_batches;
        int r;

        if (parts || rt->ranks.rank > 0) {
                r = parts ? 0 : ranks_agree(rt, &parts, sizeof parts, err);
                return r < 0 ? r : plan(t, rt, parts, need, err);
        }
        r = plan_to_fit(t, rt, sections, need, err);
        return r < 0 ? r : ranks_agree(rt, &t->parts, sizeof t->parts, err);
}

/* ---- advice where it does not fit */

/* What the configuration would need in all; SIZE_MAX where it cannot be planned. */
static size_t bytes_of(const struct runtime *rt, unsigned sections, const struct runtime_need *before,
                       const struct config *c)
{
        struct trainer t = {.batch = c->batch_size_train,
                            .own = c->batch_size_train / rt->ranks.size,
                            .program = {.at = {.seed = (uint32_t)c->seed}}};
        struct runtime other = *rt;
        struct runtime_need need = *before;
        size_t bytes = SIZE_MAX;

        other.config = c;
        if (plan(&t, &other, MAX(c->n_micro_batches, 1), &need, NULL) >= 0)
                bytes = runtime_total_bytes(&other, sections, true, &need);
        program_done(&t.program);
        return bytes;
}

void trainer_advise(const struct runtime *rt, unsigned sections, const struct runtime_need *before, size_t room,
                    char *ret, size_t size)
{
        struct config c = *rt->config;
        int64_t ranks = rt->ranks.size, own = c.batch_size_train / ranks; /* what fits is of one rank */
        int64_t least = 0, most = own, parts = MAX(c.n_micro_batches, 1);
        char way[3][64];
        int n = 0;

        while (most - least > 1) { /* `least` fits, `most` does not */
                int64_t half = least + (most - least) / 2;

                c.batch_size_train = half * ranks;
                c.n_micro_batches = 1;
                *(bytes_of(rt, sections, before, &c) <= room ? &least : &most) = half;
        }
        if (least)
                (void)snprintf(way[n++], sizeof way[0], "training.batch_size_train %lld", (long long)(least * ranks));
        for (c = *rt->config, parts++; least && parts <= own; parts++) {
                c.n_micro_batches = parts;
                if (own % parts == 0 && bytes_of(rt, sections, before, &c) <= room) {
                        (void)snprintf(way[n++], sizeof way[0], "training.n_micro_batches %lld", (long long)parts);
                        break;
                }
        }
        c = *rt->config;
        c.recompute = RECOMPUTE_BLOCK;
        if (rt->config->recompute != RECOMPUTE_BLOCK && bytes_of(rt, sections, before, &c) <= room)
                (void)snprintf(way[n++], sizeof way[0], "machine.recompute \"block\"");
        (void)snprintf(ret, size, n ? "" : "no batch fits");
        for (int i = 0; i < n; i++) {
                size_t at = strlen(ret);

                (void)snprintf(ret + at, size - at, "%s%s%s",
                               i == 0      ? ""
                               : i < n - 1 ? ", "
                                           : " or ",
                               way[i], i < n - 1 ? "" : " would fit");
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
        t->own = t->batch / rt->ranks.size;
        t->program.at.seed = (uint32_t)c->seed;
        t->program.together = true;
        t->changed = true;
        if (t->batch % rt->ranks.size)
                return error_set(err, -EINVAL, "/training/batch_size_train", "expected a multiple of the %d devices",
                                 rt->ranks.size);
        if (c->n_micro_batches && t->own % c->n_micro_batches)
                return error_set(err, -EINVAL, "/training/n_micro_batches",
                                 "expected a divisor of the images of a step on a device, which are %lld",
                                 (long long)t->own);
        r = choose_parts(t, rt, sections, need, err);
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
        assert(rt->ranks.size == 1 || rt->ranks.comm);
        if (r >= 0 && rt->ranks.comm)
                r = buckets_new(rt->k, rt->device, rt->stream, &rt->ranks, rt->layout, &t->buckets, err);
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
        t->buckets = buckets_free(t->buckets);
        program_done(&t->program);
        free(t);
        return NULL;
}

double trainer_flop(const struct trainer *t)
{
        const struct networks *n = &t->program.model->networks;

        return 3 * (double)t->batch * (tape_flop(&n->score.tape) + tape_flop(&n->encoder.tape));
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
