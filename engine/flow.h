/* The probability flow of a model (spec 7): trajectories of a batch from t = 0 to 1 with the integral of the
 * divergence, each with a step size of its own or all with one, all of it on the device. */
#pragma once

#include "engine/program.h"

struct flow_solver {
        double rtol, atol;
        bool shared; /* one step size and error norm for the batch, as published */
};

/* Device memory of m trajectories, [m, 3072] but for t [m] and k [FLOW_STAGES, m, 3072]. */
struct flow_memory {
        float *x, *x_low, *y, *y_low, *k, *dx, *probe, *t;
        struct trajectory *trajectories; /* [m] */
};

/* Adds them to the program's buffers. */
void flow_buffers(struct flow_memory *b, int64_t m, struct program *x);

/* After schedule_begin with the latent e: the first slope and step size of fresh trajectories, whose x and probe are
 * there. */
void flow_start(struct model *model, const struct flow_memory *b, const float *e, const struct flow_solver *solver);
/* Tries a step of every trajectory that is not done. */
void flow_step(struct model *model, const struct flow_memory *b, const float *e, const struct flow_solver *solver);
