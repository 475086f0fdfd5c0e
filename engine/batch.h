/* The images and the noise of a batch, made on the device: what a step of training and a batch of an evaluation share.
 */
#pragma once

#include "engine/program.h"

/* Device memory of m images: inputs of the bound, and its results. */
struct batch_memory {
        struct batch batch;
        struct bound_results ret; /* terms, kl, vars */
        bool flip;                /* images are mirrored at random, as data.flip asks of a training */
};

/* Adds its buffers to the program's. */
void batch_buffers(struct batch_memory *b, int64_t m, struct program *x);

/* Gathers the images that rows [m] name (mirrored where b->flip and the draws say so) and draws their times (place of
 * `total`; independent: each its own), eps_0, eps and the latent's noise; all keyed by p->state and the rows. */
void batch_make(struct pass *p, const struct batch_memory *b, const uint8_t *images, const struct row *rows,
                int64_t total, bool independent);
