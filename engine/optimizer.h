/* AdamW with the moving average of the weights (spec 6): a step's course over the buffers, all of it on the device. */
#pragma once

#include "engine/pass.h"

/* Device memory, [layout->n_values] each; grads [layout->n_networks] where the pass keeps the schedule's as factors. */
struct optimizer_buffers {
        float *params, *ema, *m, *v, *grads;
        struct step_state *state; /* [1] */
};

/* Rate, corrections and temperature of the step that state->step says. */
void optimizer_begin(struct pass *p, const struct optimizer_buffers *b);

/* One update of everything from the step's gradients, once they and the loss are known to be finite; then the next
 * step. Nothing where the step has failed (kernels.h, step_failure). */
void optimizer_step(struct pass *p, const struct optimizer_buffers *b);
