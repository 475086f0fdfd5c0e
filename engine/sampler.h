/* Ancestral sampling (spec 8). A sample depends on the seed and its index, not on how many are made at once. */
#pragma once

#include "engine/dataset.h"
#include "engine/program.h"

struct sampling {
        int64_t n_images, n_steps;
        uint32_t seed;
        enum weights weights;
        enum sampling_latent latent;
};

struct sampler;
/* m samples at a time; need: as evaluator_new. */
int sampler_new(struct runtime *rt, int64_t m, struct sampler **ret, struct runtime_need *need, struct error *err);
int sampler_bind(struct sampler *s, struct error *err);
struct sampler *sampler_free(struct sampler *s);

/* ret [n_images, 3072] values 0..255. between as evaluator_run's, in sampling steps. */
int sampler_run(struct sampler *s, const struct sampling *what, const struct between *between, uint8_t *ret,
                struct error *err);

DEFINE_CLEANUP(struct sampler *, sampler_free);
