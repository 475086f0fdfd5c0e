#include "engine/operations.h"

static const float *value_of(const struct pass *p, size_t number)
{
        return number == NO_PARAM ? NULL : pass_value(p, node_param(p, number));
}

static float *gradient_of(const struct pass *p, size_t number)
{
        return number == NO_PARAM ? NULL : pass_gradient(p, node_param(p, number));
}

/* Whether the gradients of its parameters add to what is there. */
static bool adds_weights(const struct pass *p, const struct node *n)
{
        return p->accumulate || n->w_shared;
}

static void copy_tensor(struct pass *p, const struct tensor *x, const struct tensor *y)
{
        RUN(p, copy_2d, .rows = 1, .columns = tensor_size(p, x), .x_type = x->type, .y_type = y->type, .x = x->value,
            .y = (void *)y->value, .scale = 1);
}

/* ---- convolution */

enum { CONV_X, CONV_RESIDUAL };

static const struct plan *conv_plan(struct pass *p, const struct node *n)
{
        const struct tensor *x = n->in[CONV_X], *y = n->out;

        return plan_conv(p, (struct conv_shape){p->m, x->height, x->width, x->c, y->c, n->kernel, n->kernel, n->stride,
                                                1, x->type, y->type});
}

static void conv_forward(struct pass *p, struct node *n)
{
        const struct plan *plan = conv_plan(p, n);

        RUN_PLAN(p, plan, conv_forward, .conv = plan->op, .x = n->in[CONV_X]->value, .w = value_of(p, n->w),
                 .b = value_of(p, n->b), .residual = n->in[CONV_RESIDUAL] ? n->in[CONV_RESIDUAL]->value : NULL,
                 .y = (void *)n->out->value);
}

static void conv_weights(struct pass *p, struct node *n)
{
        const struct plan *plan = conv_plan(p, n);

        RUN_PLAN(p, plan, conv_backward_weights, .conv = plan->op, .x = n->in[CONV_X]->value, .dy = n->out->d,
                 .dw = gradient_of(p, n->w), .db = gradient_of(p, n->b), .accumulate = adds_weights(p, n));
}

static void conv_backward(struct pass *p, struct node *n, void *const dx[NODE_INPUTS], const bool add[NODE_INPUTS])
{
        const struct plan *plan = conv_plan(p, n);

        if (dx[CONV_X])
                RUN_PLAN(p, plan, conv_backward_data, .conv = plan->op, .dy = n->out->d, .w = value_of(p, n->w),
                         .dx = dx[CONV_X], .accumulate = add[CONV_X]);
}

static double conv_multiply_adds(const struct node *n, const struct params *layout)
{
        return (double)tensor_pixels(n->out) * (double)layout->items[n->w].size;
}

const struct operation operation_conv = {.name = "conv",
                                         .reads_weights = 1u << CONV_X,
                                         .adds = 1u << CONV_X,
                                         .residual = CONV_RESIDUAL,
                                         .forward = conv_forward,
                                         .weights = conv_weights,
                                         .backward = conv_backward,
                                         .multiply_adds = conv_multiply_adds};

/* ---- dense: rows of pixels, or of whole images where it flattens; [x | x_b] as two products, so that the
 * concatenation is never made */

enum { DENSE_X, DENSE_X_B, DENSE_RESIDUAL };

/* Rows [0, c) of the kernel for x, with the bias; the rest for x_b. */
static struct linear dense_part(const struct pass *p, const struct node *n, int part)
{
        const struct tensor *x = n->in[part];
        struct linear l = linear_of(p, n->flatten ? p->m : p->m * tensor_pixels(x), node_param(p, n->w),
                                    n->b == NO_PARAM || part == DENSE_X_B ? NULL : node_param(p, n->b));
        int64_t skip = part == DENSE_X_B ? n->in[DENSE_X]->c * l.out : 0;

        l.in = n->flatten ? tensor_pixels(x) * x->c : x->c;
        l.type = x->type;
        l.w += skip;
        if (l.dw)
                l.dw += skip;
        l.accumulate_weights = adds_weights(p, n);
        return l;
}

static void dense_forward(struct pass *p, struct node *n)
{
        const struct tensor *residual = n->in[DENSE_RESIDUAL];

        if (residual)
                copy_tensor(p, residual, n->out);
        for (int part = DENSE_X; part <= DENSE_X_B && n->in[part]; part++) {
                struct linear l = dense_part(p, n, part);

                linear_forward(p, &l, n->in[part]->value, (void *)n->out->value, residual || part == DENSE_X_B);
        }
}

static void dense_weights(struct pass *p, struct node *n)
{
        for (int part = DENSE_X; part <= DENSE_X_B && n->in[part]; part++) {
                struct linear l = dense_part(p, n, part);

                linear_backward_weights(p, &l, n->in[part]->value, n->out->d);
        }
}

static void dense_backward(struct pass *p, struct node *n, void *const dx[NODE_INPUTS], const bool add[NODE_INPUTS])
{
        for (int part = DENSE_X; part <= DENSE_X_B && n->in[part]; part++) {
                struct linear l = dense_part(p, n, part);

                if (dx[part])
                        linear_backward_data(p, &l, n->out->d, dx[part], add[part]);
        }
}

static double dense_multiply_adds(const struct node *n, const struct params *layout)
{
        return (double)(n->flatten ? 1 : tensor_pixels(n->out)) * (double)layout->items[n->w].size;
}

const struct operation operation_dense = {.name = "dense",
                                          .reads_weights = 1u << DENSE_X | 1u << DENSE_X_B,
                                          .adds = 1u << DENSE_X | 1u << DENSE_X_B,
                                          .residual = DENSE_RESIDUAL,
                                          .forward = dense_forward,
                                          .weights = dense_weights,
                                          .backward = dense_backward,
                                          .multiply_adds = dense_multiply_adds};

/* ---- group norm, with addend, swish and dropout; its parameters' gradients come with its inputs' */

enum { NORM_A, NORM_B, NORM_ADDEND };

static const struct plan *norm_plan(struct pass *p, const struct node *n)
{
        const struct tensor *a = n->in[NORM_A], *b = n->in[NORM_B];

        return plan_norm(p, (struct norm_shape){p->m, tensor_pixels(a), a->c, b ? b->c : 0, n->groups, a->type});
}

static struct dropout dropout_of(const struct pass *p, const struct node *n)
{
        if (n->dropout < 0 || !p->dropout)
                return (struct dropout){0};
        return (struct dropout){.rate = (float)p->config->sm_pdrop,
                                .block = (uint32_t)n->dropout,
                                .state = p->state,
                                .rows = p->rows,
                                .mask = p->dropout_masks ? p->dropout_masks[n->dropout] : NULL};
}

static const void *input_value(const struct node *n, int i)
{
        return n->in[i] ? n->in[i]->value : NULL;
}

static size_t norm_kept(struct pass *p, const struct node *n)
{
        return (size_t)(p->m * n->groups * 2) * sizeof(float);
}

static void norm_forward(struct pass *p, struct node *n)
{
        const struct plan *plan = norm_plan(p, n);

        RUN_PLAN(p, plan, norm_forward, .norm = plan->op, .a = n->in[NORM_A]->value, .b = input_value(n, NORM_B),
                 .addend = input_value(n, NORM_ADDEND), .scale = value_of(p, n->w), .bias = value_of(p, n->b),
                 .swish = n->swish, .dropout = dropout_of(p, n), .y = (void *)n->out->value, .stats = n->kept);
}

static void norm_backward(struct pass *p, struct node *n, void *const dx[NODE_INPUTS], const bool add[NODE_INPUTS])
{
        const struct plan *plan = norm_plan(p, n);

        RUN_PLAN(p, plan, norm_backward, .norm = plan->op, .dy = n->out->d, .a = n->in[NORM_A]->value,
                 .b = input_value(n, NORM_B), .addend = input_value(n, NORM_ADDEND), .scale = value_of(p, n->w),
                 .bias = value_of(p, n->b), .stats = n->kept, .swish = n->swish, .dropout = dropout_of(p, n),
                 .da = dx[NORM_A], .db = dx[NORM_B], .accumulate_a = add[NORM_A], .accumulate_b = add[NORM_B],
                 .dscale = gradient_of(p, n->w), .dbias = gradient_of(p, n->b),
                 .accumulate_weights = adds_weights(p, n), .daddend = dx[NORM_ADDEND]);
}

const struct operation operation_norm = {.name = "norm",
                                         .reads = 1u << NORM_A | 1u << NORM_B | 1u << NORM_ADDEND,
                                         .adds = 1u << NORM_A | 1u << NORM_B,
                                         .residual = -1,
                                         .kept = norm_kept,
                                         .forward = norm_forward,
                                         .backward = norm_backward};

/* ---- attention */

enum { ATTENTION_Q, ATTENTION_K, ATTENTION_V };

static const struct plan *attention_plan(struct pass *p, const struct node *n)
{
        const struct tensor *q = n->in[ATTENTION_Q];

        return plan_attention(p, (struct attention_shape){p->m, tensor_pixels(q), q->c, n->heads, q->type});
}

static size_t attention_kept(struct pass *p, const struct node *n)
{
        const struct plan *plan = p->keep ? attention_plan(p, n) : NULL;

        return plan ? plan->saved : 0;
}

static void attention_forward(struct pass *p, struct node *n)
{
        const struct plan *plan = attention_plan(p, n);

        RUN_PLAN(p, plan, attention_forward, .attention = plan->op, .q = n->in[ATTENTION_Q]->value,
                 .k = n->in[ATTENTION_K]->value, .v = n->in[ATTENTION_V]->value, .o = (void *)n->out->value,
                 .saved = n->kept);
}

static void attention_backward(struct pass *p, struct node *n, void *const dx[NODE_INPUTS], const bool add[NODE_INPUTS])
{
        const struct plan *plan = attention_plan(p, n);

        (void)add;
        RUN_PLAN(p, plan, attention_backward, .attention = plan->op, .d_o = n->out->d, .q = n->in[ATTENTION_Q]->value,
                 .k = n->in[ATTENTION_K]->value, .v = n->in[ATTENTION_V]->value, .o = n->out->value, .saved = n->kept,
                 .dq = dx[ATTENTION_Q], .dk = dx[ATTENTION_K], .dv = dx[ATTENTION_V]);
}

static double attention_multiply_adds(const struct node *n, const struct params *layout)
{
        double pixels = (double)tensor_pixels(n->out);

        (void)layout;
        return 2 * pixels * pixels * (double)n->out->c;
}

const struct operation operation_attention = {.name = "attention",
                                              .reads = 1u << ATTENTION_Q | 1u << ATTENTION_K | 1u << ATTENTION_V,
                                              .reads_output = true,
                                              .residual = -1,
                                              .kept = attention_kept,
                                              .forward = attention_forward,
                                              .backward = attention_backward,
                                              .multiply_adds = attention_multiply_adds};

/* ---- without parameters */

static void swish_forward(struct pass *p, struct node *n)
{
        RUN(p, swish_forward, .n = tensor_size(p, n->out), .type = n->out->type, .x = n->in[0]->value,
            .y = (void *)n->out->value);
}

static void swish_backward(struct pass *p, struct node *n, void *const dx[NODE_INPUTS], const bool add[NODE_INPUTS])
{
        (void)add;
        RUN(p, swish_backward, .n = tensor_size(p, n->out), .type = n->out->type, .x = n->in[0]->value, .dy = n->out->d,
            .dx = dx[0]);
}

const struct operation operation_swish = {.name = "swish",
                                          .reads = 1u,
                                          .residual = -1,
                                          .in_place = true,
                                          .forward = swish_forward,
                                          .backward = swish_backward};

static void fourier_forward(struct pass *p, struct node *n)
{
        RUN(p, fourier_forward, .n_pixels = p->m * tensor_pixels(n->out), .type = n->out->type, .z = n->in[0]->value,
            .z_low = n->in[0]->low, .y = (void *)n->out->value);
}

static void fourier_backward(struct pass *p, struct node *n, void *const dx[NODE_INPUTS], const bool add[NODE_INPUTS])
{
        RUN(p, fourier_backward, .n_pixels = p->m * tensor_pixels(n->out), .type = n->out->type, .z = n->in[0]->value,
            .z_low = n->in[0]->low, .dy = n->out->d, .dz = dx[0], .accumulate = add[0]);
}

const struct operation operation_fourier = {.name = "fourier",
                                            .reads = 1u,
                                            .adds = 1u,
                                            .residual = -1,
                                            .forward = fourier_forward,
                                            .backward = fourier_backward};

enum { TIME_G, TIME_E };

static void time_forward(struct pass *p, struct node *n)
{
        const struct tensor *g = n->in[TIME_G], *e = n->in[TIME_E];
        int64_t width = n->out->c, embedded = width - e->c;
        float *y = (float *)n->out->value;

        RUN(p, time_embedding_forward, .m = p->m, .n = embedded, .g = g->value, .g_low = g->low, .offset = n->offset,
            .scale = n->scale, .y = y, .y_stride = width);
        RUN(p, copy_2d, .rows = p->m, .columns = e->c, .x = e->value, .x_stride = e->c, .y = y + embedded,
            .y_stride = width, .scale = 1);
}

static void time_backward(struct pass *p, struct node *n, void *const dx[NODE_INPUTS], const bool add[NODE_INPUTS])
{
        const struct tensor *g = n->in[TIME_G], *e = n->in[TIME_E];
        int64_t width = n->out->c, embedded = width - e->c;
        const float *dy = n->out->d;

        if (dx[TIME_G])
                RUN(p, time_embedding_backward, .m = p->m, .n = embedded, .g = g->value, .g_low = g->low,
                    .offset = n->offset, .scale = n->scale, .dy = dy, .dy_stride = width, .dg = dx[TIME_G]);
        if (dx[TIME_E])
                RUN(p, copy_2d, .rows = p->m, .columns = e->c, .x = dy + embedded, .x_stride = width, .y = dx[TIME_E],
                    .y_stride = e->c, .accumulate = add[TIME_E], .scale = 1);
}

const struct operation operation_time = {.name = "time",
                                         .reads = 1u << TIME_G,
                                         .adds = 1u << TIME_E,
                                         .residual = -1,
                                         .forward = time_forward,
                                         .backward = time_backward};
