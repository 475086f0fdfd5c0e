#include "engine/pass.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define PLAN_KINDS(X) X(conv) X(dense) X(norm) X(attention)

enum plan_kind {
#define X(kind) PLAN_##kind,
        PLAN_KINDS(X)
#undef X
};

struct plan_entry {
        enum plan_kind kind;
        union {
#define X(kind) struct kind##_shape kind;
                PLAN_KINDS(X)
#undef X
        } shape;
        struct plan plan;
};

struct plans {
        struct plan_entry *items[256]; /* a network has some ten shapes; the pointers must not move */
        size_t n;
};

int plans_new(struct plans **ret, struct error *err)
{
        *ret = calloc(1, sizeof **ret);
        return *ret ? 0 : error_set(err, -ENOMEM, NULL, "no memory for the plans");
}

struct plans *plans_free(struct plans *p, const struct kernels *k)
{
        for (size_t i = 0; p && i < p->n; i++) {
                switch (p->items[i]->kind) {
#define X(kind)                                                                                                        \
        case PLAN_##kind:                                                                                              \
                (void)k->kind##_free(p->items[i]->plan.op);                                                            \
                break;
                        PLAN_KINDS(X)
#undef X
                }
                free(p->items[i]);
        }
        free(p);
        return NULL;
}

static int plan_make(struct pass *p, struct plan_entry *x)
{
        int r = -EINVAL;

        switch (x->kind) {
#define X(kind)                                                                                                        \
        case PLAN_##kind:                                                                                              \
                r = p->k->kind##_new(p->device, &x->shape.kind, (struct kind **)&x->plan.op, &p->error);               \
                x->plan.workspace = r < 0 ? 0 : p->k->kind##_workspace(x->plan.op);                                    \
                break;
                PLAN_KINDS(X)
#undef X
        }
        if (r >= 0 && x->kind == PLAN_attention)
                x->plan.saved = p->k->attention_saved(x->plan.op);
        return r;
}

/* size: of the shape without the padding behind its last member. */
static const struct plan *plan_get(struct pass *p, enum plan_kind kind, const void *shape, size_t size)
{
        struct plans *plans = p->plans;
        struct plan_entry *x;

        for (size_t i = 0; i < plans->n; i++)
                if (plans->items[i]->kind == kind && !memcmp(&plans->items[i]->shape, shape, size))
                        return &plans->items[i]->plan;
        if (p->failed < 0)
                return NULL;
        assert(plans->n < ARRAY_LEN(plans->items));
        x = calloc(1, sizeof *x);
        if (!x) {
                p->failed = error_set(&p->error, -ENOMEM, NULL, "no memory for the plans");
                return NULL;
        }
        x->kind = kind;
        memcpy(&x->shape, shape, size);
        p->failed = plan_make(p, x);
        if (p->failed < 0) {
                free(x);
                return NULL;
        }
        plans->items[plans->n++] = x;
        return &x->plan;
}

#define PLAN(kind, last)                                                                                               \
        const struct plan *plan_##kind(struct pass *p, struct kind##_shape shape)                                      \
        {                                                                                                              \
                return plan_get(p, PLAN_##kind, &shape, offsetof(struct kind##_shape, last) + sizeof(shape.last));     \
        }
PLAN(conv, tf32)
PLAN(dense, tf32)
PLAN(norm, type)
PLAN(attention, tf32)

float *pass_alloc(struct pass *p, int64_t n)
{
        return arena_alloc(p->arena, (size_t)n * sizeof(float));
}

float *pass_zeros(struct pass *p, int64_t n)
{
        float *x = pass_alloc(p, n);

        RUN(p, fill, .n = n, .value = 0, .y = x);
        return x;
}

void pass_release(struct pass *p, float **x)
{
        arena_release(p->arena, *x);
        *x = NULL;
}

const float *pass_value(const struct pass *p, const struct param *q)
{
        return p->params + q->offset;
}

float *pass_gradient(const struct pass *p, const struct param *q)
{
        return p->grads ? p->grads + q->offset : NULL;
}

struct linear linear_of(const struct pass *p, int64_t rows, const struct param *w, const struct param *b)
{
        return (struct linear){.rows = rows,
                               .in = w->shape[0],
                               .out = w->shape[1],
                               .type = DTYPE_FLOAT32,
                               .w = pass_value(p, w),
                               .b = b ? pass_value(p, b) : NULL,
                               .dw = pass_gradient(p, w),
                               .db = b ? pass_gradient(p, b) : NULL,
                               .accumulate_weights = p->accumulate};
}

static const struct plan *linear_plan(struct pass *p, const struct linear *l)
{
        return plan_dense(p, (struct dense_shape){l->rows, l->in, l->out, l->type, l->tf32});
}

void linear_forward(struct pass *p, const struct linear *l, const void *x, void *y, bool accumulate)
{
        const struct plan *plan = linear_plan(p, l);

        RUN_PLAN(p, plan, dense_forward, .dense = plan->op, .x = x, .w = l->w, .b = l->b, .y = y,
                 .accumulate = accumulate);
}

/* ---- factors */

static int64_t aligned(int64_t n)
{
        return (n + 15) / 16 * 16;
}

int64_t factored_values(const struct params *layout, int64_t rows)
{
        int64_t sum = 0;

        for (size_t i = 0; i < layout->n; i++) /* of a kernel x and dy, of a bias a column of ones */
                if (layout->items[i].of_schedule && layout->items[i].n_dims == 2)
                        sum += aligned(rows * layout->items[i].shape[0]) + aligned(rows * layout->items[i].shape[1]);
                else if (layout->items[i].of_schedule)
                        sum += aligned(rows);
        return sum;
}

/* x [m, n] becomes its rows of a factor of the whole batch. */
static const float *keep_factor(struct pass *p, const float *x, int64_t n)
{
        struct factored_gradients *f = p->factored;
        float *y = f->memory + f->used, *rows = y + f->first_row * n;

        if (x)
                RUN(p, copy_2d, .rows = 1, .columns = p->m * n, .x = x, .y = rows, .scale = 1);
        else
                RUN(p, fill, .n = p->m * n, .value = 1, .y = rows);
        f->used += aligned(f->rows * n);
        return y;
}

static void add_factored(struct factored_gradients *f, const struct param *q, int64_t k, int64_t n, const float *x,
                         const float *dy)
{
        assert(f->n < FACTORED_MAX);
        f->param[f->n] = q;
        f->gradient[f->n++] = (struct outer_gradient){f->rows, k, n, x, dy};
}

/* The gradient of a bias is the product with a column of ones. */
static void keep_factors(struct pass *p, const struct linear *l, const float *x, const float *dy)
{
        const float *kept_dy = keep_factor(p, dy, l->out);

        add_factored(p->factored, l->factored, l->in, l->out, keep_factor(p, x, l->in), kept_dy);
        add_factored(p->factored, l->factored_bias, 1, l->out, keep_factor(p, NULL, 1), kept_dy);
}

void linear_backward_weights(struct pass *p, const struct linear *l, const void *x, const void *dy)
{
        const struct plan *plan = linear_plan(p, l);

        if (l->factored && p->factored)
                keep_factors(p, l, x, dy);
        else if (l->dw)
                RUN_PLAN(p, plan, dense_backward_weights, .dense = plan->op, .x = x, .dy = dy, .dw = l->dw, .db = l->db,
                         .accumulate = l->accumulate_weights);
}

void linear_backward_data(struct pass *p, const struct linear *l, const void *dy, void *dx, bool accumulate)
{
        const struct plan *plan = linear_plan(p, l);

        RUN_PLAN(p, plan, dense_backward_data, .dense = plan->op, .dy = dy, .w = l->w, .dx = dx,
                 .accumulate = accumulate);
}
