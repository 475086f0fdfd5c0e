/* Training: steps, and what exact resumption needs beside the checkpoint's sections: the step and the sums of the log
 * window that is open. The caller decides when to log, evaluate, sample and save. */
#pragma once

#include "engine/dataset.h"
#include "engine/runtime.h"

/* Means over the steps of a log window, in bits per dimension; var_0, var_1 of the schedule's ends. */
struct training_scalars {
        double bpd, recon, latent, diff, var_0, var_1;
};

struct trainer;

/* Memory of its passes is added as evaluator_new does; trainer_bind follows runtime_allocate with gradients. */
int trainer_new(struct runtime *rt, struct trainer **ret, size_t *ret_bytes, struct error *err);
int trainer_bind(struct trainer *t, struct error *err);
struct trainer *trainer_free(struct trainer *t);

/* Updates done so far. */
int64_t trainer_step_number(const struct trainer *t);

/* One update on the images that are due. -EDOM when the loss is not finite: err names the step, the weights are spoilt.
 */
int trainer_step(struct trainer *t, const struct dataset *d, struct error *err);

/* The means since the window was opened, and opens the next. */
struct training_scalars trainer_take_window(struct trainer *t);

/* The trainer's part of a checkpoint's state, a JSON object; and taking it up at that step. */
json_t *trainer_state(const struct trainer *t);
int trainer_restore(struct trainer *t, int64_t step, const json_t *state, struct error *err);

DEFINE_CLEANUP(struct trainer *, trainer_free);
