/* Gradients on their way to the other ranks while the backward pass goes on: it tells which are whole, and as soon as
 * some megabytes of them lie together they are summed on a stream of their own, beside what follows. Every rank does
 * the same in the same order. Recorded with the step: the stream joins its recording (kernels.h, graph_begin). */
#pragma once

#include "engine/params.h"
#include "engine/ranks.h"

#define BUCKET_RANGES 4

struct buckets {
        const struct kernels *k;
        const struct ranks *ranks;
        const struct params *layout;
        struct stream *main; /* of the pass, borrowed */
        struct stream *side;
        struct event *event;
        bool *sent; /* [layout->n] */
        /* the step that runs */
        float *grads; /* device, by the layout's offsets */
        struct {
                int64_t first, n; /* values */
        } ranges[BUCKET_RANGES];
        int n_ranges;
        int64_t values, enough; /* in the ranges; that are sent */
};

/* ranks are joined. What is borrowed must outlive it. */
int buckets_new(const struct kernels *k, struct device *device, struct stream *main, const struct ranks *ranks,
                const struct params *layout, struct buckets **ret, struct error *err);
struct buckets *buckets_free(struct buckets *b);

/* Before the last part of a batch: gradients of that many values, those of the schedule among them or not. */
void buckets_begin(struct buckets *b, float *grads, int64_t n_values);
/* A parameter's gradient is whole: struct pass, written. */
void buckets_add(void *b, const struct param *q);
/* All others are, too. Then values that lie elsewhere, [n] floats and [n_sums] doubles, and the pass's stream goes on
 * when all has come back. */
void buckets_end(struct buckets *b, float *factors, int64_t n_factors, double *sums, int64_t n_sums);
