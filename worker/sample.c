/* Sampling to a PNG grid. Progress counts images: n_steps sampling steps each. */
#include "base/clock.h"
#include "engine/grid.h"
#include "engine/sampler.h"
#include "worker/task.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

static json_t *result_json(const struct sampling *what, int64_t step)
{
        return json_pack("{s:I, s:I, s:I, s:s, s:s, s:I}", "images", (json_int_t)what->n_images, "n_steps",
                         (json_int_t)what->n_steps, "seed", (json_int_t)what->seed, "latent",
                         sampling_latent_names[what->latent], "weights", weights_names[what->weights], "step",
                         (json_int_t)step);
}

static int write_grid(struct task *t, const uint8_t *images, int64_t n, struct error *err)
{
        char name[64], path[1200], digest[DIGEST_SIZE];
        int64_t bytes;
        int r;

        (void)snprintf(name, sizeof name, "samples-step-%lld.png", (long long)t->step);
        task_path(t, name, path, sizeof path);
        r = grid_write_png(path, images, n, (int64_t)ceil(sqrt((double)n)), digest, &bytes, err);
        return r < 0 ? r : reporter_artifact(t->reporter, ARTIFACT_IMAGE, t->step, name, bytes, digest, NAN, err);
}

int task_sample(struct task *t, struct error *err)
{
        const struct config *c = &t->config;
        struct sampling what = {.n_images = c->sampling_n_images,
                                .n_steps = c->sampling_n_steps,
                                .seed = (uint32_t)c->sampling_seed,
                                .weights = c->sampling_weights,
                                .latent = c->sampling_latent};
        _cleanup_(sampler_freep) struct sampler *s = NULL;
        _cleanup_(freep) uint8_t *images = malloc((size_t)what.n_images * IMAGE_BYTES);
        _cleanup_json_ json_t *result = NULL;
        struct runtime_need need = {0};
        int r = images ? 0 : error_set(err, -ENOMEM, NULL, "no memory for %lld samples", (long long)what.n_images);

        if (r >= 0)
                r = sampler_new(t->rt, MIN(what.n_images, c->batch_size_eval), &s, &need, err);
        if (r >= 0)
                r = task_load(t, what.weights, &need, what.n_steps * what.n_images, err);
        if (r >= 0)
                r = sampler_bind(s, err);
        if (r >= 0)
                r = sampler_run(s, &what,
                                &(struct between){task_between, &(struct task_progress){t, clock_monotonic_us()}},
                                images, err);
        if (r == -ECANCELED)
                return reporter_stopped(t->reporter, t->step, err);
        if (r >= 0)
                r = write_grid(t, images, what.n_images, err);
        if (r < 0)
                return r;
        result = result_json(&what, t->step);
        return reporter_done(t->reporter, result, err);
}
