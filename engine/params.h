/* The one parameter buffer: names, shapes and offsets of every parameter of a configuration (spec 1-4), so that
 * optimizer, EMA, checkpoint and all-reduce are one pass each. What weight decay acts on comes first (kernels, scales,
 * the scalar schedule's w and b), biases last; each part is padded to KERNELS_ALIGN bytes, each parameter too. */
#pragma once

#include "contract/config.h"
#include "kernels/kernels.h"

#define PARAM_NAME_MAX 96

struct param {
        char name[PARAM_NAME_MAX]; /* as published: "score_model/down.block_0/conv1/kernel" */
        int n_dims;
        int64_t shape[4]; /* HWIO, [in, out] or [c] */
        int64_t size;     /* values */
        int64_t offset;   /* values, from the start of the buffer */
        bool decayed;
};

struct params {
        size_t n;
        struct param *items;  /* in the published order of listing */
        int64_t n_values;     /* of the buffer, padding included */
        int64_t n_decayed;    /* values [0, n_decayed) are decayed, [n_decayed, n_values) are not */
        int64_t n_parameters; /* without padding */
};

/* -ENOTSUP for what this release does not compute. */
int params_new(const struct config *c, struct params **ret, struct error *err);
struct params *params_free(struct params *p);
const struct param *params_find(const struct params *p, const char *name);

/* Host values of one parameter of a fresh model, [items[index].size]: LeCun normal kernels and so on (spec 6), by
 * Philox STREAM_INIT from the seed and the parameter's number. */
void params_init(const struct params *p, size_t index, const struct config *c, uint32_t seed, float *values);

/* Host values by hash (spec 9), for golden cases: n values in [-1, 1) of a stream; one parameter's (c may be NULL where
 * it is no schedule's); all parameters'. */
void hash_uniform(const char *name, int64_t n, double *ret);
void params_hash_one(const struct param *q, const struct config *c, float gain, float *values);
void params_hash(const struct params *p, const struct config *c, float gain, float *values);

DEFINE_CLEANUP(struct params *, params_free);
