#include "engine/pass.h"

#include "engine/dataset.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SIDE 32

enum plan_kind { PLAN_CONV, PLAN_DENSE, PLAN_NORM, PLAN_ATTENTION };

struct plan {
        enum plan_kind kind;
        int64_t key[3];
        void *op;
        size_t workspace;
};

struct plans {
        struct plan *items;
        size_t n, capacity;
};

int plans_new(struct plans **ret, struct error *err)
{
        *ret = calloc(1, sizeof **ret);
        return *ret ? 0 : error_set(err, -ENOMEM, NULL, "no memory for the plans");
}

struct plans *plans_free(struct plans *p, const struct kernels *k)
{
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n; i++) {
                void *op = p->items[i].op;

                switch (p->items[i].kind) {
                case PLAN_CONV:
                        (void)k->conv_free(op);
                        break;
                case PLAN_DENSE:
                        (void)k->dense_free(op);
                        break;
                case PLAN_NORM:
                        (void)k->norm_free(op);
                        break;
                case PLAN_ATTENTION:
                        (void)k->attention_free(op);
                        break;
                }
        }
        free(p->items);
        free(p);
        return NULL;
}

static int plan_make(struct pass *p, struct plan *x)
{
        int64_t m = p->m;
        int r;

        switch (x->kind) {
        case PLAN_CONV: {
                struct conv *op = NULL;

                r = p->k->conv_new(p->device, &(struct conv_shape){m, SIDE, SIDE, x->key[0], x->key[1], DTYPE_FLOAT32},
                                   &op, &p->error);
                x->op = op;
                x->workspace = r < 0 ? 0 : p->k->conv_workspace(op);
                return r;
        }
        case PLAN_DENSE: {
                struct dense *op = NULL;

                r = p->k->dense_new(p->device, &(struct dense_shape){x->key[0], x->key[1], x->key[2], DTYPE_FLOAT32},
                                    &op, &p->error);
                x->op = op;
                x->workspace = r < 0 ? 0 : p->k->dense_workspace(op);
                return r;
        }
        case PLAN_NORM: {
                struct norm *op = NULL;

                r = p->k->norm_new(p->device,
                                   &(struct norm_shape){m, IMAGE_PIXELS, x->key[0], x->key[1], DTYPE_FLOAT32}, &op,
                                   &p->error);
                x->op = op;
                x->workspace = r < 0 ? 0 : p->k->norm_workspace(op);
                return r;
        }
        case PLAN_ATTENTION: {
                struct attention *op = NULL;

                r = p->k->attention_new(p->device, &(struct attention_shape){m, IMAGE_PIXELS, x->key[0], DTYPE_FLOAT32},
                                        &op, &p->error);
                x->op = op;
                x->workspace = r < 0 ? 0 : p->k->attention_workspace(op);
                return r;
        }
        }
        return -EINVAL;
}

/* The plan of a shape, NULL after a failure (which p keeps). */
static const struct plan *plan_get(struct pass *p, enum plan_kind kind, int64_t a, int64_t b, int64_t c)
{
        struct plan x = {.kind = kind, .key = {a, b, c}};

        if (p->failed < 0)
                return NULL;
        for (size_t i = 0; i < p->plans->n; i++)
                if (p->plans->items[i].kind == kind && !memcmp(p->plans->items[i].key, x.key, sizeof x.key))
                        return &p->plans->items[i];
        if (p->plans->n == p->plans->capacity) {
                size_t capacity = p->plans->capacity ? 2 * p->plans->capacity : 32;
                struct plan *items = realloc(p->plans->items, capacity * sizeof *items);

                if (!items) {
                        p->failed = error_set(&p->error, -ENOMEM, NULL, "no memory for the plans");
                        return NULL;
                }
                p->plans->items = items;
                p->plans->capacity = capacity;
        }
        p->failed = plan_make(p, &x);
        if (p->failed < 0)
                return NULL;
        p->plans->items[p->plans->n++] = x;
        return &p->plans->items[p->plans->n - 1];
}

float *pass_alloc(struct pass *p, int64_t n)
{
        return arena_alloc(p->arena, (size_t)n * sizeof(float));
}

void pass_release(struct pass *p, float **x)
{
        arena_release(p->arena, *x);
        *x = NULL;
}

const struct param *pass_param(const struct pass *p, const char *name, const char *leaf)
{
        char full[2 * PARAM_NAME_MAX];
        const struct param *q;

        (void)snprintf(full, sizeof full, "%s/%s", name, leaf);
        q = params_find(p->layout, full);
        assert(q);
        return q;
}

const float *pass_value(const struct pass *p, const struct param *q)
{
        return p->params + q->offset;
}

float *pass_gradient(const struct pass *p, const struct param *q)
{
        return p->grads ? p->grads + q->offset : NULL;
}

void conv_forward(struct pass *p, const struct param *w, const struct param *b, const float *x, const float *residual,
                  float *y)
{
        const struct plan *plan = plan_get(p, PLAN_CONV, w->shape[2], w->shape[3], 0);
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        RUN(p, conv_forward, .conv = plan->op, .x = x, .w = pass_value(p, w), .b = pass_value(p, b),
            .residual = residual, .y = y, .workspace = workspace);
        arena_release(p->arena, workspace);
}

void conv_backward(struct pass *p, const struct param *w, const struct param *b, const float *x, const float *dy,
                   float *dx)
{
        const struct plan *plan = plan_get(p, PLAN_CONV, w->shape[2], w->shape[3], 0);
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        if (p->grads)
                RUN(p, conv_backward_weights, .conv = plan->op, .x = x, .dy = dy, .dw = pass_gradient(p, w),
                    .db = pass_gradient(p, b), .workspace = workspace);
        if (dx)
                RUN(p, conv_backward_data, .conv = plan->op, .dy = dy, .w = pass_value(p, w), .dx = dx,
                    .workspace = workspace);
        arena_release(p->arena, workspace);
}

struct linear linear_of(const struct pass *p, int64_t rows, const struct param *w, const struct param *b)
{
        return (struct linear){.rows = rows,
                               .in = w->shape[0],
                               .out = w->shape[1],
                               .w = pass_value(p, w),
                               .b = b ? pass_value(p, b) : NULL,
                               .dw = pass_gradient(p, w),
                               .db = b ? pass_gradient(p, b) : NULL};
}

void linear_forward(struct pass *p, const struct linear *l, const float *x, float *y, bool accumulate)
{
        const struct plan *plan = plan_get(p, PLAN_DENSE, l->rows, l->in, l->out);
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        RUN(p, dense_forward, .dense = plan->op, .x = x, .w = l->w, .b = l->b, .y = y, .accumulate = accumulate,
            .workspace = workspace);
        arena_release(p->arena, workspace);
}

static const float *keep_factor(struct pass *p, const float *x, int64_t n)
{
        float *y = p->factored->memory + p->factored->used;

        RUN(p, copy_2d, .rows = 1, .columns = n, .x = x, .y = y, .scale = 1);
        p->factored->used += (n + 15) / 16 * 16;
        return y;
}

static void add_factored(struct pass *p, const struct param *q, int64_t rows, int64_t k, int64_t n, const float *x,
                         const float *dy)
{
        struct factored_gradients *f = p->factored;

        assert(f->n < FACTORED_MAX);
        f->param[f->n] = q;
        f->gradient[f->n++] = (struct outer_gradient){rows, k, n, x, dy};
}

/* The gradient of a bias is the product with a column of ones. */
static void keep_factors(struct pass *p, const struct linear *l, const float *x, const float *dy)
{
        struct factored_gradients *f = p->factored;
        const float *kept_dy = keep_factor(p, dy, l->rows * l->out);
        float *ones;

        add_factored(p, l->factored, l->rows, l->in, l->out, keep_factor(p, x, l->rows * l->in), kept_dy);
        ones = f->memory + f->used;
        f->used += (l->rows + 15) / 16 * 16;
        RUN(p, fill, .n = l->rows, .value = 1, .y = ones);
        add_factored(p, l->factored_bias, l->rows, 1, l->out, ones, kept_dy);
}

void linear_backward(struct pass *p, const struct linear *l, const float *x, const float *dy, float *dx,
                     bool accumulate)
{
        const struct plan *plan = plan_get(p, PLAN_DENSE, l->rows, l->in, l->out);
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        if (l->factored && p->factored)
                keep_factors(p, l, x, dy);
        else if (l->dw)
                RUN(p, dense_backward_weights, .dense = plan->op, .x = x, .dy = dy, .dw = l->dw, .db = l->db,
                    .accumulate = l->accumulate_weights, .workspace = workspace);
        if (dx)
                RUN(p, dense_backward_data, .dense = plan->op, .dy = dy, .w = l->w, .dx = dx, .accumulate = accumulate,
                    .workspace = workspace);
        arena_release(p->arena, workspace);
}

static const struct dropout *dropout_of(const struct pass *p, const struct group_norm *g, struct dropout *storage)
{
        if (g->dropout_block < 0 || !p->state || p->config->sm_pdrop <= 0)
                return NULL;
        *storage = (struct dropout){.rate = (float)p->config->sm_pdrop,
                                    .block = (uint32_t)g->dropout_block,
                                    .first_image = p->first_image,
                                    .state = p->state,
                                    .mask = p->dropout_masks ? p->dropout_masks[g->dropout_block] : NULL};
        return storage;
}

void group_norm_forward(struct pass *p, const struct group_norm *g, const float *a, const float *b, const float *addend,
                        float *y, float *stats)
{
        const struct plan *plan = plan_get(p, PLAN_NORM, g->c_a, g->c_b, 0);
        struct dropout dropout;
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        RUN(p, norm_forward, .norm = plan->op, .a = a, .b = b, .addend = addend, .scale = pass_value(p, g->scale),
            .bias = pass_value(p, g->bias), .swish = g->swish, .dropout = dropout_of(p, g, &dropout), .y = y,
            .stats = stats, .workspace = workspace);
        arena_release(p->arena, workspace);
}

void group_norm_backward(struct pass *p, const struct group_norm *g, const float *dy, const float *a, const float *b,
                         const float *addend, const float *stats, float *da, bool accumulate_a, float *db,
                         bool accumulate_b, float *daddend)
{
        const struct plan *plan = plan_get(p, PLAN_NORM, g->c_a, g->c_b, 0);
        struct dropout dropout;
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        RUN(p, norm_backward, .norm = plan->op, .dy = dy, .a = a, .b = b, .addend = addend,
            .scale = pass_value(p, g->scale), .bias = pass_value(p, g->bias), .stats = stats, .swish = g->swish,
            .dropout = dropout_of(p, g, &dropout), .da = da, .db = db, .accumulate_a = accumulate_a,
            .accumulate_b = accumulate_b, .dscale = pass_gradient(p, g->scale), .dbias = pass_gradient(p, g->bias),
            .daddend = daddend, .workspace = workspace);
        arena_release(p->arena, workspace);
}

void attention_forward(struct pass *p, int64_t c, const float *q, const float *k, const float *v, float *o, void *saved)
{
        const struct plan *plan = plan_get(p, PLAN_ATTENTION, c, 0, 0);
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        RUN(p, attention_forward, .attention = plan->op, .q = q, .k = k, .v = v, .o = o, .saved = saved,
            .workspace = workspace);
        arena_release(p->arena, workspace);
}

void attention_backward(struct pass *p, int64_t c, const float *d_o, const float *q, const float *k, const float *v,
                        const void *saved, float *dq, float *dk, float *dv)
{
        const struct plan *plan = plan_get(p, PLAN_ATTENTION, c, 0, 0);
        void *workspace;

        if (!plan)
                return;
        workspace = arena_alloc(p->arena, plan->workspace);
        RUN(p, attention_backward, .attention = plan->op, .d_o = d_o, .q = q, .k = k, .v = v, .saved = saved, .dq = dq,
            .dk = dk, .dv = dv, .workspace = workspace);
        arena_release(p->arena, workspace);
}

size_t attention_saved_bytes(struct pass *p, int64_t c)
{
        const struct plan *plan = plan_get(p, PLAN_ATTENTION, c, 0, 0);

        return plan ? p->k->attention_saved(plan->op) : 0;
}
