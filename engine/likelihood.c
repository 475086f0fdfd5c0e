#include "engine/likelihood.h"

#include <errno.h>
#include <math.h>

struct evaluator {
        struct program program;
        struct batch_memory memory;

        /* the evaluation that runs */
        const struct evaluation *what;
        int64_t repeats;
        int64_t unit;    /* batches after which one image ends and another begins: several ranks take them in turn */
        uint8_t *images; /* device: what is evaluated; */
        double *sums;    /* and its results: [TIME_BINS, 2] of times, then [n_images, 3], bits per dimension */
};

/* m rows of the list (image, repeat) from the state's position on; then the position behind them. */
static void batch_once(struct model *model, void *user)
{
        struct evaluator *v = user;
        struct program *x = &v->program;
        struct pass *p = &model->pass;
        bool dense = v->repeats > 1;

        RUN(p, list_rows, .state = x->state, .m = p->m, .n_images = v->what->n_images, .repeats = v->repeats,
            .rows = x->rows);
        /* times antithetic over an image's repeats, or over the split */
        batch_make(p, &v->memory, v->images, x->rows, dense ? v->repeats : v->what->n_images,
                   !dense && !p->config->antithetic_time_sampling);
        model_bound(model, &v->memory.batch, 0, &v->memory.ret);
        RUN(p, image_add, .m = p->m, .n_images = v->what->n_images, .repeats = v->repeats,
            .scale = 1 / ((double)v->repeats * DIMENSIONS * M_LN2), .terms = v->memory.ret.terms,
            .kl = v->memory.ret.kl, .state = x->state, .sums = v->sums + 2 * TIME_BINS);
        RUN(p, time_add, .m = p->m, .n_images = v->what->n_images, .repeats = v->repeats, .n_bins = TIME_BINS,
            .scale = 1 / (DIMENSIONS * M_LN2), .t = v->memory.batch.t, .terms = v->memory.ret.terms, .state = x->state,
            .sums = v->sums);
        RUN(p, advance, .position_by = v->unit == 1 ? x->rt->ranks.size * p->m : p->m, .state = x->state);
}

int evaluator_new(struct runtime *rt, int64_t m, struct evaluator **ret, struct runtime_need *need, struct error *err)
{
        static const struct evaluation any = {.n_images = 1}; /* of the dry run */
        _cleanup_(evaluator_freep) struct evaluator *v = calloc(1, sizeof *v);
        int r;

        if (!v)
                return error_set(err, -ENOMEM, NULL, "no memory for the evaluation");
        v->what = &any;
        v->repeats = v->unit = 1;
        program_init(&v->program, rt, m);
        v->program.together = true;
        batch_buffers(&v->memory, m, &v->program);
        r = program_plan(&v->program, m, rt->config->evaluation_precision, false, batch_once, v, need, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        return 0;
}

int evaluator_bind(struct evaluator *v, struct error *err)
{
        return program_bind(&v->program, err);
}

struct evaluator *evaluator_free(struct evaluator *v)
{
        if (!v)
                return NULL;
        program_done(&v->program);
        free(v);
        return NULL;
}

/* sums: of times, then what images add up to by part. */
static void summarise(struct evaluation_result *r, const double *sums)
{
        double squares = 0, n = (double)r->n_images;

        for (int i = 0; i < TIME_BINS; i++, sums += 2)
                r->diff_at[i] = sums[1] > 0 ? sums[0] / sums[1] : NAN;
        for (int64_t i = 0; i < r->n_images; i++, sums += 3) {
                r->images[i] = (struct bound_parts){sums[0] + sums[1] + sums[2], sums[0], sums[1], sums[2]};
                r->mean.recon += sums[0] / n;
                r->mean.latent += sums[1] / n;
                r->mean.diff += sums[2] / n;
        }
        r->mean.bpd = r->mean.recon + r->mean.latent + r->mean.diff;
        for (int64_t i = 0; i < r->n_images; i++)
                squares += (r->images[i].bpd - r->mean.bpd) * (r->images[i].bpd - r->mean.bpd);
        r->standard_error = r->n_images > 1 ? sqrt(squares / (n - 1) / n) : NAN;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
        return b ? common_divisor(b, a % b) : a;
}

/* Each rank its units, as many launches on all: what lies behind the end of the list adds nothing. A batch has the rows
 * that it has on one rank, and all rows of an image are one rank's, so that its sum is the same, too. */
static int run_units(struct evaluator *v, const struct graph *batch, const struct between *between, struct error *err)
{
        struct program *x = &v->program;
        int64_t m = x->model->pass.m, n = v->what->n_images, ranks = x->rt->ranks.size;
        int64_t units = (n * v->repeats + v->unit * m - 1) / (v->unit * m), own = (units + ranks - 1) / ranks;
        int64_t runs = v->unit == 1 ? 1 : own, launches = v->unit == 1 ? own : v->unit;
        int r = 0;

        for (int64_t i = 0; i < runs && r >= 0; i++) {
                struct progress progress = {i * ranks * v->unit * m / v->repeats, ranks * m, v->repeats, n};

                r = program_windows(x, batch, launches, progress, between, err);
                if (v->unit > 1)
                        RUN(&x->model->pass, advance, .position_by = (ranks - 1) * v->unit * m, .state = x->state);
        }
        return r;
}

/* Host sums [.. n_images, 3] of all ranks: an image's are one rank's. Those of times are added up: the one result that
 * depends on the number of ranks, in the last digits of a double. */
static int bring_together(struct evaluator *v, double *sums, struct error *err)
{
        struct runtime *rt = v->program.rt;
        size_t image = 3 * sizeof(double);
        int64_t rows = v->unit * v->program.model->pass.m;

        return ranks_collect(rt, sums + (ptrdiff_t)(2 * TIME_BINS), (size_t)(rows / v->repeats) * image,
                             (size_t)v->what->n_images * image, err);
}

/* Records a batch of the evaluation, runs it over all rows, reads the sums. */
static int run(struct evaluator *v, const struct dataset *d, const struct between *between, double *ret_sums,
               struct error *err)
{
        struct program *x = &v->program;
        struct runtime *rt = x->rt;
        const struct kernels *k = rt->k;
        struct graph *batch = NULL;
        int64_t n = v->what->n_images, m = x->model->pass.m;
        size_t bytes = (size_t)(2 * TIME_BINS + n * 3) * sizeof(double);
        int r = runtime_images(rt, d, v->what->split, n, &v->images, err);

        v->unit = rt->ranks.size > 1 ? v->repeats / common_divisor(v->repeats, m) : 1;
        x->at.position = rt->ranks.rank * v->unit * m;
        if (r >= 0 && !(v->sums = runtime_memory(rt, bytes, err)))
                r = err->code;
        if (r >= 0) {
                k->copy_in(rt->stream, x->state, &x->at, sizeof x->at);
                r = program_record(x, batch_once, v, &batch, err);
        }
        if (r >= 0)
                r = run_units(v, batch, between, err);
        if (r >= 0) {
                ranks_sum(&rt->ranks, v->sums, 2 * TIME_BINS);
                k->copy_out(rt->stream, ret_sums, v->sums, bytes);
                r = k->stream_sync(rt->stream, err);
        }
        if (r >= 0)
                r = bring_together(v, ret_sums, err);
        (void)k->graph_free(batch);
        k->memory_free(rt->device, v->sums);
        k->memory_free(rt->device, v->images);
        v->sums = NULL;
        v->images = NULL;
        return r;
}

int evaluator_run(struct evaluator *v, const struct dataset *d, const struct evaluation *e,
                  const struct between *between, struct evaluation_result *ret, struct error *err)
{
        struct evaluation_result result = {.n_images = e->n_images};
        _cleanup_(freep) struct bound_parts *images = calloc((size_t)e->n_images, sizeof *images);
        _cleanup_(freep) double *sums = calloc((size_t)(2 * TIME_BINS + e->n_images * 3), sizeof *sums);
        int r;

        if (!images || !sums)
                return error_set(err, -ENOMEM, NULL, "no memory for %lld results", (long long)e->n_images);
        v->what = e;
        v->repeats = e->method == LIKELIHOOD_DENSE ? e->n_timesteps : 1;
        v->program.at = (struct step_state){.seed = e->seed, .tau = 1};
        v->program.model->pass.params =
                v->program.rt->section[e->weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS];
        r = run(v, d, between, sums, err);
        if (r < 0)
                return r;
        result.images = TAKE_PTR(images);
        summarise(&result, sums);
        *ret = result;
        return 0;
}
