#include "tests/golden/hash.h"

#include <math.h>
#include <string.h>

static uint64_t fnv1a64(const char *s)
{
        uint64_t h = 14695981039346656037ULL;

        for (; *s; s++)
                h = (h ^ (unsigned char)*s) * 1099511628211ULL;
        return h;
}

/* Spec 9: value i of the stream, in [-1, 1). */
static double hash_value(uint64_t h, int64_t i)
{
        uint64_t z = h + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15ULL;

        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
        z ^= z >> 31;
        return (double)(z >> 40) * 0x1p-23 - 1.0;
}

void hash_uniform(const char *name, int64_t n, double *ret)
{
        uint64_t h = fnv1a64(name);

        for (int64_t i = 0; i < n; i++)
                ret[i] = hash_value(h, i);
}

void params_hash_one(const struct param *q, float gain, float *values)
{
        uint64_t h = fnv1a64(q->name);
        float scale = 0.1f, base = q->role == PARAM_SCALE;

        if (q->role == PARAM_CONSTANT || q->role == PARAM_CONSTANT_BIAS) {
                for (int64_t j = 0; j < q->size; j++)
                        values[j] = q->start;
                return;
        }
        if (q->role == PARAM_MONOTONE) /* sums of absolute values would saturate the squashing */
                scale = (float)(0.05 * sqrt(3.0 / (double)(q->size / q->shape[q->n_dims - 1])));
        else if (q->role == PARAM_KERNEL || q->role == PARAM_ZERO_KERNEL)
                scale = (float)((double)gain * sqrt(3.0 / (double)(q->size / q->shape[q->n_dims - 1])));
        for (int64_t j = 0; j < q->size; j++) {
                volatile float product = (float)hash_value(h, j) * scale; /* two float32 roundings, as the reference */

                values[j] = base + product;
        }
}

void params_hash(const struct params *p, float gain, float *values)
{
        memset(values, 0, (size_t)p->n_values * sizeof *values);
        for (size_t i = 0; i < p->n; i++)
                params_hash_one(&p->items[i], gain, values + p->items[i].offset);
}
