/* The one parameter buffer: names, shapes and offsets of every parameter of a configuration, so that optimizer, EMA,
 * checkpoint and all-reduce are one pass each. What declares a parameter is the network that uses it (tape.h, the
 * schedule); the order of declaration is the published order of listing, and a parameter's number in it keys its
 * initial values.
 *
 * The buffer: first the networks' parameters, then the schedule's, whose gradients may stay factors (pass.h); in each,
 * what weight decay acts on (kernels, scales, the scalar schedule's w and b) before the biases. Each of the four parts
 * and each parameter is padded to KERNELS_ALIGN bytes. */
#pragma once

#include "contract/config.h"
#include "kernels/kernels.h"

#define PARAM_NAME_MAX 96

/* What it is in its layer: what decays, and how it starts (spec 6, 9). */
enum param_role {
        PARAM_KERNEL,        /* LeCun normal: truncated at two standard deviations, variance 1 / fan_in */
        PARAM_ZERO_KERNEL,   /* starts at 0 */
        PARAM_MONOTONE,      /* kernel of a monotone schedule, whose absolute value is used: Normal(0.01) */
        PARAM_SCALE,         /* 1 */
        PARAM_BIAS,          /* 0; not decayed */
        PARAM_CONSTANT,      /* starts at `start`, also when values come by hash */
        PARAM_CONSTANT_BIAS, /* the same, not decayed */
};

struct param {
        char name[PARAM_NAME_MAX]; /* as published: "score_model/down.block_0/conv1/kernel" */
        enum param_role role;
        float start; /* of the constants */
        int n_dims;
        int64_t shape[4]; /* HWIO, [in, out] or [c]; 1 where there is no such dimension */
        int64_t size;     /* values */
        int64_t offset;   /* values, from the start of the buffer */
        bool decayed;
        bool of_schedule;
};

/* Values [first, first + n) of the buffer. */
struct params_part {
        int64_t first, n;
        bool decayed, of_schedule;
};
#define PARAMS_PARTS 4

struct params {
        size_t n, capacity;
        struct param *items; /* in the published order of listing */
        struct params_part parts[PARAMS_PARTS];
        int64_t n_values;     /* of the buffer, padding included */
        int64_t n_networks;   /* values of the networks' parts, which come first */
        int64_t n_parameters; /* without padding */
        bool laid_out;
};

/* Of a whole configuration. -ENOTSUP for what this release does not compute. */
int params_new(const struct config *c, struct params **ret, struct error *err);
struct params *params_free(struct params *p);

/* The number of "PATH/LEAF": declared now, with n_dims sizes from `shape`, or found where it has been, by a network
 * that uses it again or is built once more against the finished buffer; -EINVAL where it was declared otherwise. */
int params_declare(struct params *p, const struct param *q, size_t *ret_number, struct error *err);
/* Gives each parameter its place; none is declared afterwards. */
void params_lay_out(struct params *p);
const struct param *params_find(const struct params *p, const char *name);

/* Host values of parameter `number` of a fresh model, [items[number].size], by Philox STREAM_INIT: image is the number,
 * quad the value's index; a kernel's value is the first of |x| <= 2 of the normal pair of words 0 and 1 over attempts
 * 0, 1 .., a monotone kernel's the pair's first. */
void params_init(const struct params *p, size_t number, uint32_t seed, float *values);

DEFINE_CLEANUP(struct params *, params_free);
