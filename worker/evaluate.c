/* Evaluation in bits per dimension, with a table of every image. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/likelihood.h"
#include "worker/task.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

static json_t *result_json(const struct task *t, const struct evaluation *e, const struct evaluation_result *r,
                           double seconds)
{
        const struct assignment *a = t->assignment;
        json_t *json = json_pack("{s:o, s:o, s:{s:o, s:o, s:o}, s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:f}", "bpd",
                                 json_from_real(r->mean.bpd), "standard_error", json_from_real(r->standard_error),
                                 "parts", "recon", json_from_real(r->mean.recon), "latent",
                                 json_from_real(r->mean.latent), "diff", json_from_real(r->mean.diff), "method",
                                 bound_method_names[e->method], "dataset", a->dataset_name, "dataset_digest", t->data,
                                 "split", split_names[e->split], "images", (json_int_t)r->n_images, "weights",
                                 weights_names[e->weights], "step", (json_int_t)t->step, "seconds", seconds);

        if (json && e->method == BOUND_DENSE)
                (void)json_object_set_new(json, "n_timesteps", json_integer(e->n_timesteps));
        return json;
}

static int write_table(struct task *t, const struct evaluation_result *result, struct error *err)
{
        static const char name[] = "bpd-per-image.csv";
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 31);
        char path[1200], digest[DIGEST_SIZE];
        int r = buf_printf(&b, err, "image,bpd,recon,latent,diff\n");

        for (int64_t i = 0; i < result->n_images && r >= 0; i++) {
                const struct bound_parts *x = &result->images[i];

                r = buf_printf(&b, err, "%lld,%.9g,%.9g,%.9g,%.9g\n", (long long)i, x->bpd, x->recon, x->latent,
                               x->diff);
        }
        task_path(t, name, path, sizeof path);
        if (r >= 0)
                r = file_write_atomic(path, b.data, b.size, digest, err);
        return r < 0 ? r
                     : reporter_artifact(t->reporter, ARTIFACT_TABLE, t->step, name, (int64_t)b.size, digest, NAN, err);
}

int task_evaluate(struct task *t, struct error *err)
{
        const struct config *c = &t->config;
        _cleanup_(evaluator_freep) struct evaluator *v = NULL;
        int64_t all = dataset_count(t->dataset, c->evaluation_split), start = clock_monotonic_us();
        struct evaluation e = {.method = c->evaluation_method,
                               .split = c->evaluation_split,
                               .weights = c->evaluation_weights,
                               .n_images = c->evaluation_n_images ? MIN(c->evaluation_n_images, all) : all,
                               .n_timesteps = c->evaluation_n_timesteps,
                               .seed = (uint32_t)c->evaluation_seed};
        struct evaluation_result result = {0};
        struct runtime_need need = {0};
        int r = evaluator_new(t->rt, c->batch_size_eval, &v, &need, err);

        if (r >= 0)
                r = task_load(t, e.weights, &need, e.n_images, err);
        if (r >= 0)
                r = evaluator_bind(v, err);
        if (r >= 0)
                r = evaluator_run(v, t->dataset, &e,
                                  &(struct between){task_between, &(struct task_progress){t, clock_monotonic_us()}},
                                  &result, err);
        if (r == -ECANCELED)
                return reporter_stopped(t->reporter, t->step, err);
        if (r >= 0 && !isfinite(result.mean.bpd))
                r = error_set(err, -EDOM, NULL, "the bound of the checkpoint at step %lld is not finite",
                              (long long)t->step);
        if (r >= 0)
                r = write_table(t, &result, err);
        if (r >= 0) {
                double seconds = (double)(clock_monotonic_us() - start) / 1e6;
                _cleanup_json_ json_t *json = result_json(t, &e, &result, seconds);

                log_info("%.4f bits per dimension on %lld images (standard error %.4f)", result.mean.bpd,
                         (long long)result.n_images, result.standard_error);
                r = json ? reporter_done(t->reporter, json, err)
                         : error_set(err, -ENOMEM, NULL, "no memory for the result");
        }
        free(result.images);
        return r;
}
