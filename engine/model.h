/* A model on a device: its networks, and the bound of spec 5 with its gradients. */
#pragma once

#include "engine/networks.h"
#include "engine/schedule.h"

#define DIMENSIONS 3072

struct model {
        struct pass pass; /* stream, arena, parameters: set before each use */
        struct schedule schedule;
        struct networks networks;
        bool baseline; /* vdm: no latent, one gamma an image */
        enum parameterisation parameterisation;
        float context; /* of a score network that does not see the latent: 0, as it was trained, unless it is changed */
};

/* The device and stream are borrowed, layout and config too. m images a batch, or a part of one; the networks' maps
 * are of that precision. */
int model_new(const struct kernels *k, struct device *device, struct stream *stream, struct params *layout,
              const struct config *config, int64_t m, enum precision precision, struct model **ret, struct error *err);
struct model *model_free(struct model *model);

/* Runs f once with the dry table and an arena without memory: *ret_bytes is what the arena needs. */
int model_dry_run(struct model *model, void (*f)(struct model *, void *user), void *user, size_t *ret_bytes,
                  struct error *err);

/* Everything in device memory. */
struct batch {
        uint8_t *x;         /* [m, 3072] */
        float *t, *s;       /* [m]; s for discrete time, or NULL */
        float *eps_0, *eps; /* [m, 3072] */
        float *label;       /* [m]: 1 for images that the model is told are mirrored, else 0; NULL: zeros */
        float *latent;      /* NOISE_SUM_OF_GAMMA: gamma variates [10, m, latent_size]; else [m, latent_size]; NULL
                               without an encoder */
};
/* What the latent's noise is. */
enum latent_noise { NOISE_SUM_OF_GAMMA, NOISE_GUMBEL, NOISE_NORMAL };
enum latent_noise bound_noise(const struct config *c);

/* Where the results go, device memory of the caller; NULL members are not wanted. */
struct bound_results {
        float *terms;              /* [m, 3]: reconstruction, prior (without the latent's KL), diffusion, in nats */
        float *kl;                 /* [m]; zero without an encoder */
        float *vars;               /* [m, 2] */
        float *logits, *embedding; /* [m, latent_size] */
        float *net;                /* [m, 3072] */
};

/* The bound of a batch. With pass.keep, also the gradient of grad_scale x (the sum of all terms) into pass.grads, all
 * of which is written, or with pass.accumulate added to. Leaves the arena as it found it. */
void model_bound(struct model *model, const struct batch *batch, float grad_scale, const struct bound_results *ret);

/* The score network in sampling: its raw output, net [m, 3072], at z [m, 3072], the latent e [m, latent_size] (NULL for
 * vdm) and the schedule's evaluation at this time. */
void model_denoise(struct model *model, const float *z, const float *e, const struct schedule_at *at, float *net);

/* The latent that images f [m, 3072] of (-1, 1) have by themselves (spec 7, 2), without noise: e [m, latent_size], the
 * hard top k (gumbel: the largest; gaussian: the mean), and its KL [m]. Without an encoder f is not touched (NULL is as
 * good): the label's latent and 0; of vdm e is left alone. */
void model_latent(struct model *model, const float *f, float *e, float *kl);

/* The probability flow (spec 7) at x [m, 3072] (and its low part) and times t [m], after schedule_begin with the latent
 * e: k = dx/dt (reverse: the negative), and where probe is not NULL dx = J^T probe, J the derivative of k by x; all
 * [m, 3072]. */
void model_flow(struct model *model, const float *x, const float *x_low, const float *t, const float *e, bool reverse,
                const float *probe, float *k, float *dx);

DEFINE_CLEANUP(struct model *, model_free);
