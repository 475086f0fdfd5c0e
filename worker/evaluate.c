/* Evaluation in bits per dimension, with a table of every image. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/inspect.h"
#include "engine/likelihood.h"
#include "worker/task.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

json_t *task_evaluation_json(const struct task *t, double bpd, double standard_error, json_t *parts, int64_t n_images,
                             int64_t start_us)
{
        const struct assignment *a = t->assignment;
        const struct config *c = &t->config;

        return json_pack("{s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:f}", "bpd", json_from_real(bpd),
                         "standard_error", json_from_real(standard_error), "parts", parts, "method",
                         likelihood_names[c->evaluation_method], "dataset", a->dataset_name, "dataset_digest", t->data,
                         "split", split_names[c->evaluation_split], "images", (json_int_t)n_images, "weights",
                         weights_names[c->evaluation_weights], "step", (json_int_t)t->step, "seconds",
                         (double)(clock_monotonic_us() - start_us) / 1e6);
}

int64_t task_evaluation_images(const struct task *t)
{
        int64_t all = dataset_count(t->dataset, t->config.evaluation_split), n = t->config.evaluation_n_images;

        return n ? MIN(n, all) : all;
}

static int write_table(struct task *t, const struct evaluation_result *result, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 31);
        int r = buf_printf(&b, err, "image,bpd,recon,latent,diff\n");

        for (int64_t i = 0; i < result->n_images && r >= 0; i++) {
                const struct bound_parts *x = &result->images[i];

                r = buf_printf(&b, err, "%lld,%.9g,%.9g,%.9g,%.9g\n", (long long)i, x->bpd, x->recon, x->latent,
                               x->diff);
        }
        return r < 0 ? r : task_write_table(t, BPD_TABLE, &b, err);
}

static int report(struct task *t, const struct evaluation *e, const struct evaluation_result *result, int64_t start_us,
                  struct error *err)
{
        const struct bound_parts *mean = &result->mean;
        json_t *parts = json_pack("{s:o, s:o, s:o}", "recon", json_from_real(mean->recon), "latent",
                                  json_from_real(mean->latent), "diff", json_from_real(mean->diff));
        _cleanup_json_ json_t *json =
                task_evaluation_json(t, mean->bpd, result->standard_error, parts, result->n_images, start_us);

        if (!json || (e->method == LIKELIHOOD_DENSE &&
                      json_object_set_new(json, "n_timesteps", json_integer(e->n_timesteps)) < 0))
                return error_set(err, -ENOMEM, NULL, "no memory for the result");
        log_info("%.4f bits per dimension on %lld images (standard error %.4f)", mean->bpd, (long long)result->n_images,
                 result->standard_error);
        return reporter_done(t->reporter, json, err);
}

static int inspect(struct task *t, struct inspector *v, const struct evaluation_result *result, struct error *err)
{
        _cleanup_(freep) double *bpd = calloc((size_t)result->n_images, sizeof *bpd);
        int r = bpd ? task_tell_times(t, result->diff_at, TIME_BINS, err)
                    : error_set(err, -ENOMEM, NULL, "no memory for the inspection");

        for (int64_t i = 0; i < result->n_images && r >= 0; i++)
                bpd[i] = result->images[i].bpd;
        return r < 0 ? r : task_inspect(t, v, bpd, result->n_images, err);
}

static int evaluate_bound(struct task *t, struct error *err)
{
        const struct config *c = &t->config;
        _cleanup_(evaluator_freep) struct evaluator *v = NULL;
        _cleanup_(inspector_freep) struct inspector *inspector = NULL;
        int64_t start = clock_monotonic_us();
        struct evaluation e = {.method = c->evaluation_method,
                               .split = c->evaluation_split,
                               .weights = c->evaluation_weights,
                               .n_images = task_evaluation_images(t),
                               .n_timesteps = c->evaluation_n_timesteps,
                               .seed = (uint32_t)c->evaluation_seed};
        struct evaluation_result result = {0};
        struct runtime_need need = {0};
        int r = evaluator_new(t->rt, c->batch_size_eval, &v, &need, err);

        if (r >= 0 && c->evaluation_inspect)
                r = inspector_new(t->rt, c->batch_size_eval, &inspector, &need, err);
        if (r >= 0)
                r = task_load(t, e.weights, &need, e.n_images, err);
        if (r >= 0)
                r = evaluator_bind(v, err);
        if (r >= 0 && inspector)
                r = inspector_bind(inspector, err);
        if (r >= 0)
                r = evaluator_run(v, t->dataset, &e,
                                  &(struct between){task_between, &(struct task_progress){t, clock_monotonic_us()}},
                                  &result, err);
        if (r >= 0 && !isfinite(result.mean.bpd))
                r = error_set(err, -EDOM, NULL, "the bound of the checkpoint at step %lld is not finite",
                              (long long)t->step);
        if (r >= 0)
                r = write_table(t, &result, err);
        if (r >= 0 && inspector)
                r = inspect(t, inspector, &result, err);
        if (r >= 0)
                r = report(t, &e, &result, start, err);
        free(result.images);
        return r;
}

int task_evaluate(struct task *t, struct error *err)
{
        int r = t->config.evaluation_method == LIKELIHOOD_ODE ? task_evaluate_exact(t, err) : evaluate_bound(t, err);

        return r == -ECANCELED ? reporter_stopped(t->reporter, t->step, err) : r;
}
