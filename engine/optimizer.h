/* AdamW with the moving average of the weights (spec 6): the learning rate of a step, and a step over the buffers. */
#pragma once

#include "engine/pass.h"

/* Device memory, [layout->n_values] each. */
struct optimizer_buffers {
        float *params, *ema, *m, *v, *grads;
        double *squared_norm;     /* [1] */
        struct step_state *state; /* [1] */
};

/* The rate of the update with `step` updates before it: the warm-up's n/w, then constant or falling to 0 at the last.
 */
double optimizer_learning_rate(const struct config *c, int64_t step);

/* What a step of training with that many updates before it needs in device memory. */
struct step_state optimizer_step_state(const struct config *c, uint32_t seed, int64_t step);

/* One update of everything from b->grads and, where the pass kept some as factors, those; b->state must hold the step's
 * state. */
void optimizer_step(struct pass *p, const struct optimizer_buffers *b);
