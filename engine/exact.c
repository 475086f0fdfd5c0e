#include "engine/exact.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct exact {
        struct program program;
        struct flow_memory flow;
        uint8_t *x;
        float *f, *e, *kl; /* [m]: an image and its latent */

        /* the evaluation that runs */
        const struct exact_evaluation *what;
        struct flow_solve solve;
        struct trajectory *seen; /* host, [m] */
        int64_t n_places;        /* this rank's */
        /* host: [n_pending] places that no earlier attempt has done, of all ranks; results as the device has them */
        int64_t *pending, n_pending;
        struct flow_result *own, *packed;
        /* device */
        uint8_t *images;
        int64_t *places;
        struct flow_result *results;
};

/* Slots that are done are read out and filled again. */
static void slots(struct exact *v)
{
        struct pass *p = &v->program.model->pass;

        RUN(p, flow_slots, .m = p->m, .d = DIMENSIONS, .n = v->n_places, .repeats = v->what->n_samples,
            .places = v->places, .x = v->flow.x, .x_low = v->flow.x_low, .kl = v->kl, .state = v->program.state,
            .rows = v->program.rows, .trajectories = v->flow.trajectories, .results = v->results);
}

/* What fresh slots begin with. Of the others the latent is computed, too, from what it was made of. */
static void begin_once(struct model *model, void *user)
{
        struct exact *v = user;
        struct pass *p = &model->pass;
        struct program *x = &v->program;

        RUN(p, gather, .m = p->m, .bytes = IMAGE_BYTES, .images = v->images, .rows = x->rows, .x = v->x);
        RUN(p, encode_image, .n = p->m * DIMENSIONS, .x = v->x, .f = v->f);
        /* the width that is published, whatever gamma_min is */
        RUN(p, dequantise, .m = p->m, .d = DIMENSIONS, .kind = v->what->dequantisation, .std = exp(-13.3 / 2),
            .f = v->f, .state = x->state, .rows = x->rows, .x = v->flow.x, .x_low = v->flow.x_low,
            .trajectories = v->flow.trajectories);
        if (!v->solve.probe_each)
                RUN(p, flow_probe, .m = p->m, .d = DIMENSIONS, .kind = v->solve.probe, .state = x->state,
                    .rows = x->rows, .trajectories = v->flow.trajectories, .y = v->flow.probe);
        model_latent(model, v->f, v->e, v->kl);
}

static void step_once(struct model *model, void *user)
{
        struct exact *v = user;
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);

        schedule_begin(p, &model->schedule, v->e);
        flow_step(model, &v->flow, v->e, &v->solve);
        arena_release_since(p->arena, mark);
}

static void both_once(struct model *model, void *user)
{
        begin_once(model, user);
        step_once(model, user);
}

int exact_new(struct runtime *rt, int64_t m, struct exact **ret, struct runtime_need *need, struct error *err)
{
        static const struct exact_evaluation any = {.n_samples = 1}; /* of the dry run */
        _cleanup_(exact_freep) struct exact *v = calloc(1, sizeof *v);
        size_t f = (size_t)m * sizeof(float);
        int r;

        if (!v || !(v->seen = calloc((size_t)m, sizeof *v->seen)))
                return error_set(err, -ENOMEM, NULL, "no memory for the evaluation");
        v->what = &any;
        v->solve.divergence = true;
        program_init(&v->program, rt, m);
        flow_buffers(&v->flow, m, &v->program);
        program_buffer(&v->program, &v->x, (size_t)m * IMAGE_BYTES);
        program_buffer(&v->program, &v->f, f * DIMENSIONS);
        program_buffer(&v->program, &v->e, f * (size_t)rt->config->latent_size);
        program_buffer(&v->program, &v->kl, f);
        r = program_plan(&v->program, m, rt->config->evaluation_precision, false, both_once, v, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        return 0;
}

int exact_bind(struct exact *v, struct error *err)
{
        return program_bind(&v->program, err);
}

struct exact *exact_free(struct exact *v)
{
        if (!v)
                return NULL;
        program_done(&v->program);
        free(v->seen);
        free(v);
        return NULL;
}

static int64_t count_running(const struct exact *v)
{
        int64_t n = 0;

        for (int64_t i = 0; i < v->program.model->pass.m; i++)
                n += !v->seen[i].done;
        return n;
}

/* A window of steps; how many trajectories are on their way after it. */
static int advance(struct exact *v, const struct graph *step, int64_t *ret_running, struct error *err)
{
        struct program *x = &v->program;
        const struct kernels *k = x->rt->k;
        int64_t window, m = x->model->pass.m;
        int r = program_window(x, step, 4, &window, err);

        if (r < 0)
                return r;
        k->copy_out(x->rt->stream, v->seen, v->flow.trajectories, (size_t)m * sizeof *v->seen);
        if ((r = k->stream_sync(x->rt->stream, err)) < 0)
                return r;
        *ret_running = count_running(v);
        return 0;
}

/* What is done by now, of this rank; how much of its own is left. */
static int fetch(struct exact *v, int64_t *ret_left, struct error *err)
{
        struct runtime *rt = v->program.rt;
        int64_t k = v->what->n_samples, n = v->what->n_images * k, ended = 0;
        int r;

        rt->k->copy_out(rt->stream, v->own, v->results, (size_t)n * sizeof *v->own);
        if ((r = rt->k->stream_sync(rt->stream, err)) < 0)
                return r;
        for (int64_t i = 0; i < n; i++) {
                const struct flow_result *x = &v->own[i];

                if (x->failed || (x->n_evaluations && !isfinite(x->log_p)))
                        return error_set(err, -EDOM, NULL,
                                         "the flow of image %lld cannot be integrated (after %lld evaluations)",
                                         (long long)(i / k), (long long)x->n_evaluations);
                ended += x->n_evaluations != 0;
        }
        *ret_left = v->n_places - (ended - (n - v->n_pending));
        return 0;
}

/* Every rank's results on all, where any has new ones; how many there are. */
static int share(struct exact *v, bool news, struct flow_result *results, int64_t *ret_ended, struct error *err)
{
        struct runtime *rt = v->program.rt;
        size_t size = sizeof *v->packed;
        bool any[RANKS_MAX] = {0};
        int r;

        any[rt->ranks.rank] = news;
        r = ranks_collect(rt, any, sizeof *any, (size_t)rt->ranks.size * sizeof *any, err);
        for (int i = 0; i < rt->ranks.size; i++)
                news |= any[i];
        if (r < 0 || !news)
                return r;
        for (int64_t i = 0; i < v->n_pending; i++)
                v->packed[i] = v->own[v->pending[i]];
        r = ranks_collect(rt, v->packed, (size_t)v->program.model->pass.m * size, (size_t)v->n_pending * size, err);
        *ret_ended = v->what->n_images * v->what->n_samples - v->n_pending;
        for (int64_t i = 0; i < v->n_pending && r >= 0; i++) {
                results[v->pending[i]] = v->packed[i];
                *ret_ended += v->packed[i].n_evaluations != 0;
        }
        return r;
}

static void fill(struct exact *v, const struct graph *g)
{
        slots(v);
        v->program.rt->k->graph_launch(v->program.rt->stream, g);
}

/* Slots are filled when too many of them are idle: filling costs an encoder's pass over all slots, an idle slot a score
 * network's twelve a step. */
static int integrate(struct exact *v, const struct graph *begin, const struct graph *step, struct flow_result *results,
                     const struct between *between, struct error *err)
{
        struct program *x = &v->program;
        int64_t all = v->what->n_images * v->what->n_samples, m = x->model->pass.m, enough = m - m / 16;
        int64_t running, ended = all - v->n_pending, left = v->n_places;
        int r = 0;

        if (left)
                fill(v, begin);
        while (r >= 0 && ended < all) {
                bool news = false;

                if (left)
                        r = advance(v, step, &running, err);
                if (r >= 0 && left && (!running || (running < enough && x->at.position < v->n_places))) {
                        fill(v, begin);
                        r = fetch(v, &left, err);
                        news = true;
                }
                if (r >= 0)
                        r = share(v, news, results, &ended, err);
                if (r >= 0 && between->f)
                        r = between->f(between->user, ended, all, err);
        }
        return r < 0 ? r : 0;
}

/* The ranks take batches of what no earlier attempt has done in turn. */
static void list_places(struct exact *v, const struct flow_result *results, int64_t *places)
{
        const struct ranks *ranks = &v->program.rt->ranks;
        int64_t m = v->program.model->pass.m;

        v->n_places = v->n_pending = 0;
        for (int64_t i = 0; i < v->what->n_images * v->what->n_samples; i++) {
                if (results[i].n_evaluations)
                        continue;
                if (v->n_pending / m % ranks->size == ranks->rank)
                        places[v->n_places++] = i;
                v->pending[v->n_pending++] = i;
        }
}

/* Device memory, and the list of what is to be done. */
static int prepare(struct exact *v, const struct dataset *d, const struct flow_result *results, struct error *err)
{
        struct program *x = &v->program;
        struct runtime *rt = x->rt;
        const struct kernels *k = rt->k;
        size_t all = (size_t)(v->what->n_images * v->what->n_samples), m = (size_t)x->model->pass.m;
        _cleanup_(freep) int64_t *places = calloc(all, sizeof *places);
        int r = runtime_images(rt, d, v->what->split, v->what->n_images, &v->images, err);

        if (r < 0)
                return r;
        v->pending = calloc(all, sizeof *v->pending);
        v->own = calloc(all, sizeof *v->own);
        v->packed = calloc(all, sizeof *v->packed);
        if (!places || !v->pending || !v->own || !v->packed)
                return error_set(err, -ENOMEM, NULL, "no memory for the evaluation");
        if (!(v->places = runtime_memory(rt, all * sizeof *places, err)) ||
            !(v->results = runtime_memory(rt, all * sizeof *results, err)))
                return err->code;
        list_places(v, results, places);
        for (size_t i = 0; i < m; i++)
                v->seen[i] = (struct trajectory){.place = -1, .done = 1};
        k->copy_in(rt->stream, v->places, places, all * sizeof *places);
        k->copy_in(rt->stream, v->results, results, all * sizeof *results);
        k->copy_in(rt->stream, v->flow.trajectories, v->seen, m * sizeof *v->seen);
        k->copy_in(rt->stream, x->state, &x->at, sizeof x->at);
        return k->stream_sync(rt->stream, err);
}

int exact_run(struct exact *v, const struct dataset *d, const struct exact_evaluation *e, struct flow_result *results,
              const struct between *between, struct error *err)
{
        struct program *x = &v->program;
        struct runtime *rt = x->rt;
        struct graph *begin = NULL, *step = NULL;
        int r;

        v->what = e;
        v->solve = e->solve;
        v->solve.reverse = false;
        v->solve.divergence = true;
        x->at = (struct step_state){.seed = e->seed, .tau = 1};
        x->model->context = x->model->baseline && rt->config->ode_published_vdm_context ? 1 : 0;
        x->model->pass.params = rt->section[e->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        r = prepare(v, d, results, err);
        if (r >= 0)
                r = program_record(x, begin_once, v, &begin, err);
        if (r >= 0)
                r = program_record(x, step_once, v, &step, err);
        if (r >= 0)
                r = integrate(v, begin, step, results, between, err);
        (void)rt->k->graph_free(begin);
        (void)rt->k->graph_free(step);
        rt->k->memory_free(rt->device, v->images);
        rt->k->memory_free(rt->device, v->places);
        rt->k->memory_free(rt->device, v->results);
        v->images = NULL;
        v->places = NULL;
        v->results = NULL;
        free(v->pending);
        free(v->own);
        free(v->packed);
        v->pending = NULL;
        v->own = v->packed = NULL;
        return r;
}

/* log of the mean of exp(log_p - log_q), or log_p itself where the noise is uniform or there is one sample. */
static double log_weight(const struct flow_result *x, int64_t n, bool weighted, double log_q_all)
{
        double max = -HUGE_VAL, sum = 0;

        for (int64_t i = 0; i < n; i++)
                max = fmax(max, x[i].log_p - (weighted ? x[i].log_q + log_q_all : 0));
        for (int64_t i = 0; i < n; i++)
                sum += exp(x[i].log_p - (weighted ? x[i].log_q + log_q_all : 0) - max);
        return max + log(sum / (double)n);
}

/* mass: of a normal in [-3, 3]; correction: of one sample. */
static double truncated_bpd(const struct flow_result *x, int64_t n, double mass, double correction)
{
        double log_sigma = 0.5 * (-13.3 - log1p(exp(-13.3)));
        double log_q_all = -DIMENSIONS * (0.5 * log(2 * M_PI) + log(mass));
        double extra = n > 1 ? 0 : 0.5 * (1 + log(2 * M_PI)) - correction;

        return (x->kl - log_weight(x, n, n > 1, log_q_all)) / (DIMENSIONS * M_LN2) - (extra + log_sigma) / M_LN2;
}

struct exact_bpd exact_bpd(const struct flow_result *results, int64_t n_samples, enum dequantisation dequantisation)
{
        struct exact_bpd b;

        if (dequantisation == DEQUANTISE_UNIFORM) {
                b.exact = (results->kl - log_weight(results, n_samples, false, 0)) / (DIMENSIONS * M_LN2) + 7;
                b.published = b.exact;
        } else {
                b.exact = truncated_bpd(results, n_samples, 0.99730020393673979, 0.016034984754205173);
                b.published = truncated_bpd(results, n_samples, 0.9974613, 0.01522);
        }
        b.latent = results->kl / (DIMENSIONS * M_LN2);
        b.flow = b.exact - b.latent;
        return b;
}
