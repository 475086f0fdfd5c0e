/* The exact likelihood of a model (spec 7, "ode"): each image dequantised n_samples times, each of these carried along
 * the probability flow from t = 0 to 1 in a slot of a batch. A slot that is done takes the next of the list, and what
 * an image gets depends on nothing but itself, unless the step size is the batch's. */
#pragma once

#include "engine/flow.h"

struct exact_evaluation {
        enum split split;
        enum weights weights;
        int64_t n_images;  /* the first so many; at most the split's */
        int64_t n_samples; /* importance samples an image, K */
        uint32_t seed;
        enum dequantisation dequantisation;
        struct flow_solve solve; /* reverse, divergence: set by exact_run */
};

struct exact;
/* As evaluator_new, with a model for m trajectories a batch. */
int exact_new(struct runtime *rt, int64_t m, struct exact **ret, struct runtime_need *need, struct error *err);
int exact_bind(struct exact *v, struct error *err); /* after runtime_allocate */
struct exact *exact_free(struct exact *v);

/* results [n_images, n_samples]: where n_evaluations is not 0 (an earlier attempt's) nothing is computed. between is
 * called with results as they are by then and the number of them that are done and all; a negative answer ends the
 * evaluation and is returned. Several ranks take batches in turn; results are everybody's on all. -EDOM names the first
 * image whose flow cannot be integrated. */
int exact_run(struct exact *v, const struct dataset *d, const struct exact_evaluation *e, struct flow_result *results,
              const struct between *between, struct error *err);

/* Spec 7, 5 and 6: an image's results [n_samples] in bits per dimension. The constants are exact, or those published,
 * which are wrong in the fourth decimal. parts: of the exact ones, latent the KL's share, flow the rest. */
struct exact_bpd {
        double exact, published;
        double latent, flow;
};
struct exact_bpd exact_bpd(const struct flow_result *results, int64_t n_samples, enum dequantisation dequantisation);

DEFINE_CLEANUP(struct exact *, exact_free);
