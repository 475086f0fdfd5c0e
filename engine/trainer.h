/* Training: windows of steps, and what exact resumption needs beside the checkpoint's sections: the step and the sums
 * of the log window that is open. The caller decides when to log, evaluate, sample and save.
 *
 * A step is recorded once and launched; a window of launches runs without the host. From the first value that is not
 * finite (loss, gradient norm, updated weight) no update is applied, so what can be saved is always good. */
#pragma once

#include "engine/batch.h"

/* Means over the steps of a log window, in bits per dimension; var_0, var_1 of the schedule's ends. */
struct training_scalars {
        double bpd, recon, latent, diff, var_0, var_1;
};

struct trainer;

/* What it needs is added as evaluator_new does; with training.n_micro_batches 0 it takes the fewest parts that fit
 * into what the device has free, `sections` of state counted. trainer_bind follows runtime_allocate with gradients. Of
 * several ranks (ranks.h) each computes its rows of a batch and makes the same update of the same weights. */
int trainer_new(struct runtime *rt, unsigned sections, struct trainer **ret, struct runtime_need *need,
                struct error *err);
int trainer_bind(struct trainer *t, const struct dataset *d, struct error *err);
struct trainer *trainer_free(struct trainer *t);

/* What would fit into `room` bytes where the configuration's training does not: the largest batch, the fewest parts,
 * more that is made again; as words that end in "would fit", or "no batch fits". before: what is needed beside the
 * trainer.
 */
void trainer_advise(const struct runtime *rt, unsigned sections, const struct runtime_need *before, size_t room,
                    char *ret, size_t size);

/* Floating-point operations of a step in the networks, on all ranks: what the model asks for, so that what is computed
 * a second time does not count. */
double trainer_flop(const struct trainer *t);
/* Parts in which a batch, or a rank's part of it, is computed. */
int64_t trainer_parts(const struct trainer *t);
/* Updates done so far. */
int64_t trainer_step_number(const struct trainer *t);
/* The learning rate of the last update; NAN before one. */
double trainer_learning_rate(const struct trainer *t);

/* A window: at most `most` updates, as many as take about half a second. *ret_n: how many were made. -EDOM when a value
 * is not finite: err names it and the step; the weights are those before it. */
int trainer_window(struct trainer *t, int64_t most, int64_t *ret_n, struct error *err);

/* The means since the log window was opened, and opens the next. NAN where no step was made. */
struct training_scalars trainer_take_window(struct trainer *t);

/* The trainer's part of a checkpoint's state, a JSON object; and taking it up at that step. An empty object: no log
 * window is open (weights that another program trained). */
json_t *trainer_state(const struct trainer *t);
int trainer_restore(struct trainer *t, int64_t step, const json_t *state, struct error *err);

DEFINE_CLEANUP(struct trainer *, trainer_free);
