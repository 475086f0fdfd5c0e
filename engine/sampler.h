/* Samples (spec 8), by ancestral steps or by the probability flow from t = 1 to 0. A sample depends on the seed and its
 * index, not on how many are made at once. */
#pragma once

#include "engine/dataset.h"
#include "engine/program.h"

struct sampling {
        int64_t n_images;
        int64_t n_steps;   /* ancestral */
        double rtol, atol; /* of the flow's solver */
        uint32_t seed;
        enum weights weights;
        enum sampling_latent latent;
        enum split split; /* SAMPLING_LATENT_IMAGES: sample i has the latent of its image i */
};

/* What samples look like on their way: their arg max pixels at the time that each of them is at, noise included. */
struct film {
        int64_t n_images; /* of the first samples, at most m */
        int64_t n_frames, frames_max;
        uint8_t *frames; /* [frames_max, n_images, 3072], the first n_frames there; the caller's */
};

struct sampler;
/* m samples at a time, by the configuration's sampling.method; need: as evaluator_new. */
int sampler_new(struct runtime *rt, int64_t m, struct sampler **ret, struct runtime_need *need, struct error *err);
int sampler_bind(struct sampler *s, struct error *err);
struct sampler *sampler_free(struct sampler *s);

/* ret [n_images, 3072] values 0..255. d: for SAMPLING_LATENT_IMAGES, else NULL. film: NULL, or with n_images and
 * frames_max set; n_frames is what came, evenly over the steps that were made, the end among them. between as
 * evaluator_run's, in ancestral steps of an image, or in images of the flow. -EDOM where the flow cannot be integrated.
 */
int sampler_run(struct sampler *s, const struct sampling *what, const struct dataset *d, struct film *film,
                const struct between *between, uint8_t *ret, struct error *err);

DEFINE_CLEANUP(struct sampler *, sampler_free);
