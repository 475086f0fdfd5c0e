#include "engine/buckets.h"

#include <errno.h>
#include <string.h>

/* 4 MiB take a link of a GPU some ten microseconds, as long as it takes to begin; and at least so many buckets, since
 * nothing is computed beside the last. */
#define BUCKET_VALUES ((int64_t)1 << 20)
#define BUCKETS_LEAST 8
#define ALIGN_VALUES ((int64_t)(KERNELS_ALIGN / sizeof(float)))

int buckets_new(const struct kernels *k, struct device *device, struct stream *main, const struct ranks *ranks,
                const struct params *layout, struct buckets **ret, struct error *err)
{
        struct buckets *b = calloc(1, sizeof *b);
        int r;

        if (!b || !(b->sent = calloc(layout->n, sizeof *b->sent))) {
                free(b);
                return error_set(err, -ENOMEM, NULL, "no memory for the trainer");
        }
        b->k = k;
        b->ranks = ranks;
        b->layout = layout;
        b->main = main;
        r = k->stream_new(device, &b->side, err);
        if (r >= 0)
                r = k->event_new(device, &b->event, err);
        if (r < 0) {
                (void)buckets_free(b);
                return r;
        }
        *ret = b;
        return 0;
}

struct buckets *buckets_free(struct buckets *b)
{
        if (!b)
                return NULL;
        if (b->event)
                (void)b->k->event_free(b->event);
        if (b->side)
                (void)b->k->stream_free(b->side);
        free(b->sent);
        free(b);
        return NULL;
}

/* One stream goes on behind what the other has been given so far. */
static void follow(struct buckets *b, struct stream *who, struct stream *whom)
{
        b->k->event_record(whom, b->event);
        b->k->stream_wait(who, b->event);
}

static void send(struct buckets *b)
{
        if (b->n_ranges)
                follow(b, b->side, b->main);
        for (int i = 0; i < b->n_ranges; i++)
                b->ranks->k->sum_floats(b->ranks->comm, b->side, b->grads + b->ranges[i].first, b->ranges[i].n);
        b->n_ranges = 0;
        b->values = 0;
}

void buckets_begin(struct buckets *b, float *grads, int64_t n_values)
{
        memset(b->sent, 0, b->layout->n * sizeof *b->sent);
        b->grads = grads;
        b->n_ranges = 0;
        b->values = 0;
        b->enough = MIN(BUCKET_VALUES, n_values / BUCKETS_LEAST);
}

/* A gradient often lies before or behind one that was whole a moment ago. */
static void extend(struct buckets *b, int64_t first, int64_t n)
{
        for (int i = 0; i < b->n_ranges; i++)
                if (first + n == b->ranges[i].first || first == b->ranges[i].first + b->ranges[i].n) {
                        b->ranges[i].first = MIN(first, b->ranges[i].first);
                        b->ranges[i].n += n;
                        return;
                }
        if (b->n_ranges == BUCKET_RANGES)
                send(b);
        b->ranges[b->n_ranges].first = first;
        b->ranges[b->n_ranges++].n = n;
}

void buckets_add(void *buckets, const struct param *q)
{
        struct buckets *b = buckets;
        int64_t n = (q->size + ALIGN_VALUES - 1) / ALIGN_VALUES * ALIGN_VALUES;

        b->sent[q - b->layout->items] = true;
        extend(b, q->offset, n);
        b->values += n;
        if (b->values >= b->enough)
                send(b);
}

void buckets_end(struct buckets *b, float *factors, int64_t n_factors, double *sums, int64_t n_sums)
{
        for (size_t i = 0; i < b->layout->n; i++)
                if (!b->sent[i] && !(n_factors && b->layout->items[i].of_schedule))
                        buckets_add(b, &b->layout->items[i]);
        send(b);
        follow(b, b->side, b->main);
        if (n_factors)
                b->ranks->k->sum_floats(b->ranks->comm, b->side, factors, n_factors);
        b->ranks->k->sum_doubles(b->ranks->comm, b->side, sums, n_sums);
        follow(b, b->main, b->side);
}
