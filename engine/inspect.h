/* What a model makes of given images beside their likelihood: latents, and the noise schedule of each image and pixel.
 */
#pragma once

#include "engine/dataset.h"
#include "engine/program.h"

/* Of an image at a time, over its values. */
struct gamma_moments {
        double mean, spread, least, most; /* spread: the standard deviation */
};

struct inspection {
        enum split split;
        enum weights weights;
        int64_t n_images; /* the first so many; at most the split's */
        int64_t n_maps;   /* of those, the first so many with all their values */
        int64_t n_times;
        const double *times;
        /* the caller's: */
        float *latents;                /* [n_images, latent_size]: e as model_latent has it; not touched for vdm */
        float *kl;                     /* [n_images], nats */
        struct gamma_moments *moments; /* [n_images, n_times] */
        float *maps;                   /* [n_maps, n_times, 3072]: gamma */
};

struct inspector;
/* As evaluator_new. */
int inspector_new(struct runtime *rt, int64_t m, struct inspector **ret, struct runtime_need *need, struct error *err);
int inspector_bind(struct inspector *v, struct error *err); /* after runtime_allocate */
struct inspector *inspector_free(struct inspector *v);
int inspector_run(struct inspector *v, const struct dataset *d, const struct inspection *what, struct error *err);

DEFINE_CLEANUP(struct inspector *, inspector_free);
