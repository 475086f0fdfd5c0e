/* Sampling to a PNG grid, the same as an array, and film strips of the first samples. Progress counts images: of
 * ancestral steps n_steps each. */
#include "base/clock.h"
#include "engine/sampler.h"
#include "worker/task.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FILM_IMAGES 16

static json_t *result_json(const struct task *t, const struct sampling *what)
{
        const struct config *c = &t->config;
        json_t *json = json_pack("{s:I, s:s, s:I, s:s, s:s, s:I}", "images", (json_int_t)what->n_images, "method",
                                 sampling_method_names[c->sampling_method], "seed", (json_int_t)what->seed, "latent",
                                 sampling_latent_names[what->latent], "weights", weights_names[what->weights], "step",
                                 (json_int_t)t->step);

        if (c->sampling_method == SAMPLING_METHOD_ANCESTRAL)
                (void)json_object_set_new(json, "n_steps", json_integer(what->n_steps));
        if (what->latent == SAMPLING_LATENT_IMAGES)
                (void)json_object_update_missing_new(json, json_pack("{s:s, s:s, s:s}", "dataset",
                                                                     t->assignment->dataset_name, "dataset_digest",
                                                                     t->data, "split", split_names[what->split]));
        return json;
}

static int write_picture(struct task *t, const char *what, const uint8_t *images, int64_t n, int64_t columns,
                         struct error *err)
{
        char name[64];

        (void)snprintf(name, sizeof name, "%s-step-%lld.png", what, (long long)t->step);
        return task_write_picture(t, name, images, n, columns, err);
}

/* NumPy's format 1.0: magic, header of a dict padded to 64 bytes, values. uint8 [n, 32, 32, 3]. */
static int write_array(struct task *t, const uint8_t *images, int64_t n, struct error *err)
{
        char header[128] = "\x93NUMPY\x01", name[64], path[PATH_MAX], digest[DIGEST_SIZE];
        int used = snprintf(header + 10, sizeof header - 10,
                            "{'descr': '|u1', 'fortran_order': False, 'shape': (%lld, 32, 32, 3), }", (long long)n);
        _cleanup_(file_writer_freep) struct file_writer *w = NULL;
        int64_t bytes;
        int r;

        memset(header + 10 + used, ' ', sizeof header - 11 - (size_t)used);
        header[sizeof header - 1] = '\n';
        header[8] = (char)(sizeof header - 10);
        header[9] = 0;
        (void)snprintf(name, sizeof name, "samples-step-%lld.npy", (long long)t->step);
        task_path(t, name, path, sizeof path);
        r = file_writer_new(path, &w, err);
        if (r >= 0)
                r = file_writer_append(w, header, sizeof header, err);
        if (r >= 0)
                r = file_writer_append(w, images, (size_t)n * IMAGE_BYTES, err);
        if (r >= 0)
                r = file_writer_commit(w, digest, &bytes, err);
        return r < 0 ? r : reporter_artifact(t->reporter, ARTIFACT_TABLE, t->step, name, bytes, digest, NAN, err);
}

/* A row for each sample, time from left to right. */
static int write_film(struct task *t, const struct film *film, struct error *err)
{
        int64_t n = film->n_images * film->n_frames;
        _cleanup_(freep) uint8_t *rows = malloc((size_t)n * IMAGE_BYTES);

        if (!rows)
                return error_set(err, -ENOMEM, NULL, "no memory for the film");
        for (int64_t i = 0; i < n; i++)
                memcpy(rows + (i % film->n_images * film->n_frames + i / film->n_images) * IMAGE_BYTES,
                       film->frames + i * IMAGE_BYTES, IMAGE_BYTES);
        return write_picture(t, "film", rows, n, film->n_frames, err);
}

/* More images than the split has would have no latent. */
static int check_latents(const struct task *t, const struct sampling *what, struct error *err)
{
        int64_t most = t->dataset ? dataset_count(t->dataset, what->split) : what->n_images;

        if (what->n_images <= most)
                return 0;
        return error_set(err, -EINVAL, "/sampling/n_images", "%lld samples, but the split %s has %lld images",
                         (long long)what->n_images, split_names[what->split], (long long)most);
}

static int sample(struct task *t, const struct sampling *what, struct film *film, uint8_t *ret, struct error *err)
{
        _cleanup_(sampler_freep) struct sampler *s = NULL;
        bool ode = t->config.sampling_method == SAMPLING_METHOD_ODE;
        struct runtime_need need = {0};
        struct task_progress progress;
        int r = sampler_new(t->rt, MIN(what->n_images, t->config.batch_size_eval), &s, &need, err);

        if (r >= 0)
                r = task_load(t, what->weights, &need, (ode ? 1 : what->n_steps) * what->n_images, err);
        if (r >= 0)
                r = sampler_bind(s, err);
        progress = (struct task_progress){t, clock_monotonic_us()};
        return r < 0 ? r : sampler_run(s, what, t->dataset, film, &(struct between){task_between, &progress}, ret, err);
}

int task_sample(struct task *t, struct error *err)
{
        const struct config *c = &t->config;
        struct sampling what = {.n_images = c->sampling_n_images,
                                .n_steps = c->sampling_n_steps,
                                .rtol = c->sampling_rtol,
                                .atol = c->sampling_atol,
                                .seed = (uint32_t)c->sampling_seed,
                                .weights = c->sampling_weights,
                                .latent = c->sampling_latent,
                                .split = c->sampling_split};
        struct film film = {.n_images = MIN(MIN(what.n_images, c->batch_size_eval), FILM_IMAGES),
                            .frames_max = MAX(c->sampling_film_frames, 2)};
        _cleanup_(freep) uint8_t *images = malloc((size_t)what.n_images * IMAGE_BYTES);
        _cleanup_json_ json_t *result = NULL;
        int r = check_latents(t, &what, err);

        film.frames = malloc((size_t)(film.n_images * film.frames_max) * IMAGE_BYTES);
        if (r >= 0 && (!images || !film.frames))
                r = error_set(err, -ENOMEM, NULL, "no memory for %lld samples", (long long)what.n_images);
        if (r >= 0)
                r = sample(t, &what, c->sampling_film_frames ? &film : NULL, images, err);
        if (r >= 0)
                r = write_picture(t, "samples", images, what.n_images, (int64_t)ceil(sqrt((double)what.n_images)), err);
        if (r >= 0)
                r = write_array(t, images, what.n_images, err);
        if (r >= 0 && c->sampling_film_frames)
                r = write_film(t, &film, err);
        free(film.frames);
        if (r < 0)
                return r == -ECANCELED ? reporter_stopped(t->reporter, t->step, err) : r;
        result = result_json(t, &what);
        return result ? reporter_done(t->reporter, result, err) : error_set(err, -ENOMEM, NULL, "no memory");
}
