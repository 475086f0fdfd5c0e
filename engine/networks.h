/* The networks of a model as descriptions on tapes: the score network (spec 2) and the encoder (spec 3). */
#pragma once

#include "engine/tape.h"

#define IMAGE_SIDE 32
#define COLOURS 3

struct score_network {
        struct tape tape;
        struct tensor *z;   /* in: [32, 32, 3] */
        struct tensor *g;   /* in: the schedule's gamma, [32, 32, 3], or but for ldm [1], averaged over an image */
        struct tensor *e;   /* in: [context] */
        struct tensor *net; /* out: [32, 32, 3], float32 */
};

struct encoder_network {
        struct tape tape;
        struct tensor *f, *time, *context; /* in: [32, 32, 3] in (-1, 1); a zero each */
        struct tensor *logits, *spread; /* out: [latent_size]; gaussian: mu, and var before its softplus; else NULL */
};

struct networks {
        struct score_network score;
        struct encoder_network encoder; /* empty where networks_encoded says no */
        int n_dropouts;                 /* masks: the score network's blocks down, middle, up, then the encoder's */
};

/* Builds both against the layout, into which they declare their parameters unless it is laid out. type: of maps. layout
 * is borrowed until networks_done, which also takes what has failed. -ENOTSUP for what this release does not compute.
 */
int networks_init(struct networks *n, const struct config *c, struct params *layout, enum dtype type,
                  struct error *err);
void networks_done(struct networks *n);

/* Whether the latent is learned, by an encoder: not of vdm, which has none, nor where it is a label. */
bool networks_encoded(const struct config *c);

/* Whether the score network sees the latent; else its context is one zero. */
bool networks_conditioned(const struct config *c);

/* The parts, for networks of other shapes, too. x and x_b (or NULL) side by side -> c channels; cond a vector. */
struct tensor *resnet_block(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, struct tensor *cond,
                            int64_t c);
struct tensor *attention_block(struct tape *t, const char *name, struct tensor *x);
