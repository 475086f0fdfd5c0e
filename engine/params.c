#include "engine/params.h"

#include "base/array.h"

#include "engine/networks.h"
#include "engine/schedule.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define ALIGN_VALUES ((int64_t)(KERNELS_ALIGN / sizeof(float)))
/* The standard deviation of a standard normal cut to [-2, 2] */
#define TRUNCATED_STD 0.87962566103423978

int params_declare(struct params *p, const struct param *q, size_t *ret_number, struct error *err)
{
        for (size_t i = 0; i < p->n; i++)
                if (!strcmp(p->items[i].name, q->name)) {
                        *ret_number = i;
                        return memcmp(p->items[i].shape, q->shape, sizeof q->shape) == 0
                                       ? 0
                                       : error_set(err, -EINVAL, q->name, "declared before with another shape");
                }
        if (p->laid_out)
                return error_set(err, -EINVAL, q->name, "no parameter of this configuration");
        if (!array_grow(&p->items, p->n, &p->capacity, sizeof *p->items))
                return error_set(err, -ENOMEM, NULL, "no memory for the list of parameters");
        p->items[p->n] = *q;
        p->items[p->n].decayed = q->role != PARAM_BIAS && q->role != PARAM_CONSTANT_BIAS;
        p->items[p->n].size = q->shape[0] * q->shape[1] * q->shape[2] * q->shape[3];
        *ret_number = p->n++;
        return 0;
}

void params_lay_out(struct params *p)
{
        int64_t offset = 0;

        for (int i = 0; i < PARAMS_PARTS; i++) {
                struct params_part *part = &p->parts[i];

                *part = (struct params_part){.first = offset, .decayed = i % 2 == 0, .of_schedule = i >= 2};
                for (size_t j = 0; j < p->n; j++) {
                        struct param *q = &p->items[j];

                        if (q->decayed != part->decayed || q->of_schedule != part->of_schedule)
                                continue;
                        q->offset = offset;
                        offset += (q->size + ALIGN_VALUES - 1) / ALIGN_VALUES * ALIGN_VALUES;
                        p->n_parameters += q->size;
                }
                part->n = offset - part->first;
        }
        p->n_networks = p->parts[2].first;
        p->n_values = offset;
        p->laid_out = true;
}

int params_new(const struct config *c, struct params **ret, struct error *err)
{
        _cleanup_(params_freep) struct params *p = calloc(1, sizeof *p);
        struct networks networks = {0};
        struct schedule schedule;
        int r;

        if (!p)
                return error_set(err, -ENOMEM, NULL, "no memory for the list of parameters");
        r = networks_init(&networks, c, p, DTYPE_FLOAT32, err);
        networks_done(&networks);
        r = r < 0 ? r : schedule_init(&schedule, c, p, err);
        if (r < 0)
                return r;
        params_lay_out(p);
        *ret = TAKE_PTR(p);
        return 0;
}

struct params *params_free(struct params *p)
{
        if (!p)
                return NULL;
        free(p->items);
        free(p);
        return NULL;
}

const struct param *params_find(const struct params *p, const char *name)
{
        for (size_t i = 0; i < p->n; i++)
                if (!strcmp(p->items[i].name, name))
                        return &p->items[i];
        return NULL;
}

/* A standard normal cut to [-limit, limit] (as flax's truncated initialisers), by rejection. */
static double truncated_normal(uint32_t seed, uint64_t image, uint32_t quad, float limit)
{
        for (uint32_t attempt = 0;; attempt++) {
                struct philox r = philox_draw(seed, STREAM_INIT, 0, quad, image, 0, attempt);
                float a, b;

                philox_normal_pair(r.v[0], r.v[1], &a, &b);
                if (fabsf(a) <= limit)
                        return a;
                if (fabsf(b) <= limit)
                        return b;
        }
}

static int64_t fan_in(const struct param *q)
{
        return q->size / q->shape[q->n_dims - 1];
}

void params_init(const struct params *p, size_t number, uint32_t seed, float *values)
{
        const struct param *q = &p->items[number];
        double std = q->role == PARAM_MONOTONE ? 0.01 : sqrt(1.0 / (double)fan_in(q)) / TRUNCATED_STD;
        float constant = q->role == PARAM_SCALE ? 1 : q->start;

#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < q->size; j++)
                if (q->role == PARAM_KERNEL)
                        values[j] = (float)(std * truncated_normal(seed, number, (uint32_t)j, 2));
                else if (q->role == PARAM_MONOTONE)
                        values[j] = (float)(std * truncated_normal(seed, number, (uint32_t)j, INFINITY));
                else
                        values[j] = constant;
}
