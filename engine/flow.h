/* The probability flow of a model (spec 7): trajectories of a batch, with the integral of the divergence or without,
 * each with a step size of its own or all with one, all of it on the device. */
#pragma once

#include "engine/program.h"

struct flow_solve {
        enum flow_solver solver;
        double rtol, atol, beta; /* beta: kernels.h, flow_step */
        bool shared;             /* one step size and error norm for the batch, as published */
        bool apart;              /* the divergence's integral has no say in the steps */
        bool reverse;            /* from t = 1 to 0 */
        bool divergence;         /* estimated with the probe that is there, */
        bool probe_each;         /* or with a fresh one at every evaluation, as published: */
        enum probe probe;
};

/* Device memory of m trajectories, [m, 3072] but for t [m] and k [FLOW_STAGES, m, 3072]. */
struct flow_memory {
        float *x, *x_low, *y, *y_low, *k, *dx, *probe, *t;
        struct trajectory *trajectories; /* [m] */
};

/* Adds them to the program's buffers. */
void flow_buffers(struct flow_memory *b, int64_t m, struct program *x);

/* After schedule_begin with the latent e: tries a step of every trajectory that is not done; of a fresh one, whose x is
 * there, finds the slope and the first step size. The model's rows say where probes come from. */
void flow_step(struct model *model, const struct flow_memory *b, const float *e, const struct flow_solve *how);
