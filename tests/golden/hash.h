/* Values by hash (spec 9), so that large models are compared without shipping their weights. */
#pragma once

#include "engine/params.h"

/* n values in [-1, 1) of a stream. */
void hash_uniform(const char *name, int64_t n, double *ret);
/* A parameter's values, [q->size]; those of all, [p->n_values]. */
void params_hash_one(const struct param *q, float gain, float *values);
void params_hash(const struct params *p, float gain, float *values);
