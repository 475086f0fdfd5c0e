/* Bits per dimension of a split (spec 7): the sparse and the dense bound. Noise is drawn by image index, so that the
 * result does not depend on the batch. Several ranks take batches in turn, all get all results: bit for bit those of
 * one but for diff_at, which is rounded otherwise. */
#pragma once

#include "engine/batch.h"

struct evaluation {
        enum likelihood method; /* sparse or dense */
        enum split split;
        enum weights weights;
        int64_t n_images;    /* the first so many; at most the split's */
        int64_t n_timesteps; /* of the dense bound */
        uint32_t seed;
};

/* Means over images, in bits per dimension. latent: the prior term and the latent's KL together. */
struct bound_parts {
        double bpd, recon, latent, diff;
};

#define TIME_BINS 20

struct evaluation_result {
        struct bound_parts mean;
        double diff_at[TIME_BINS]; /* mean of diff over times in [i, i + 1) / TIME_BINS, NAN where there was none */
        double standard_error;     /* of bpd, over images; NAN for one image */
        int64_t n_images;
        struct bound_parts *images; /* [n_images], the caller's to free */
};

/* An evaluator has a model for m images a batch; its memory is the runtime's. */
struct evaluator;
/* need: raised to what its passes need, its buffers added. */
int evaluator_new(struct runtime *rt, int64_t m, struct evaluator **ret, struct runtime_need *need, struct error *err);
int evaluator_bind(struct evaluator *v, struct error *err); /* after runtime_allocate */
struct evaluator *evaluator_free(struct evaluator *v);

/* between is called between windows of batches with images done and all; a negative answer ends the evaluation and is
 * returned. A bound that is not finite is a result, not an error. */
int evaluator_run(struct evaluator *v, const struct dataset *d, const struct evaluation *e,
                  const struct between *between, struct evaluation_result *ret, struct error *err);

DEFINE_CLEANUP(struct evaluator *, evaluator_free);
