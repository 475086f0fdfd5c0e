/* What cases of whole networks share: a model with hashed parameters, and their usual inputs on the device. */
#pragma once

#include "tests/golden/case.h"

#include "engine/model.h"

#define SKIPPED 77 /* the exit status of a case that this build does not compute */

struct network {
        struct golden *g;
        struct params *layout;
        struct model *model;
        struct arena *arena;
        float *params, *grads; /* device */
};

/* The model with hashed parameters and memory for f, which has run once. 0, 1, or SKIPPED with the reason printed. */
int network_open(struct golden *g, int64_t m, bool keep, void (*f)(struct model *, void *), void *user,
                 struct network *ret);
void network_close(struct network *n);

/* Device memory, the case's: the stream of that name; images [batch, 3072] of the stream "input/x". */
float *upload_normal(struct golden *g, const char *name, int64_t n);
void *upload_images(struct golden *g, int64_t batch);

/* flow_cases.c: the drift of the probability flow, samples, the exact likelihood. 0, 1 or SKIPPED. */
int run_flow(struct golden *g);
int run_sampling(struct golden *g);
int run_exact(struct golden *g);
