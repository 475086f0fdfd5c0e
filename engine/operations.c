#include "engine/operations.h"

static const float *value_of(const struct pass *p, size_t number)
{
        return number == NO_PARAM ? NULL : pass_value(p, tensor_param(p, number));
}

static float *gradient_of(const struct pass *p, size_t number)
{
        return number == NO_PARAM ? NULL : pass_gradient(p, tensor_param(p, number));
}

/* Whether the gradients of its parameters add to what is there. */
static bool adds_weights(const struct pass *p, const struct tensor *y)
{
        return p->accumulate || y->w_shared;
}

static void copy_tensor(struct pass *p, const struct tensor *x, const struct tensor *y)
{
        RUN(p, copy_2d, .rows = 1, .columns = tensor_size(p, x), .x_type = x->type, .y_type = y->type, .x = x->value,
            .y = (void *)y->value, .scale = 1);
}

/* ---- convolution */

enum { CONV_X, CONV_RESIDUAL };

static const struct plan *conv_plan(struct pass *p, const struct tensor *y)
{
        const struct tensor *x = y->in[CONV_X];

        return plan_conv(p, (struct conv_shape){p->m, x->height, x->width, x->c, y->c, y->kernel, y->kernel, y->stride,
                                                1, x->type, y->type, p->tf32});
}

static double conv_flop(const struct tensor *y)
{
        return 2.0 * (double)(tensor_pixels(y) * y->c * y->in[CONV_X]->c * y->kernel * y->kernel);
}

static void conv_forward(struct pass *p, struct tensor *y)
{
        RUN_PLAN(p, y->plan, conv_forward, .conv = y->plan->op, .x = y->in[CONV_X]->value, .w = value_of(p, y->w),
                 .b = value_of(p, y->b), .residual = y->in[CONV_RESIDUAL] ? y->in[CONV_RESIDUAL]->value : NULL,
                 .y = (void *)y->value);
}

static void conv_weights(struct pass *p, struct tensor *y)
{
        RUN_PLAN(p, y->plan, conv_backward_weights, .conv = y->plan->op, .x = y->in[CONV_X]->value, .dy = y->d,
                 .dw = gradient_of(p, y->w), .db = gradient_of(p, y->b), .accumulate = adds_weights(p, y));
}

static void conv_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                          const bool add[TENSOR_INPUTS])
{
        if (dx[CONV_X])
                RUN_PLAN(p, y->plan, conv_backward_data, .conv = y->plan->op, .dy = y->d, .w = value_of(p, y->w),
                         .dx = dx[CONV_X], .accumulate = add[CONV_X]);
}

const struct operation operation_conv = {.plan = conv_plan,
                                         .reads_weights = 1u << CONV_X,
                                         .adds = 1u << CONV_X,
                                         .residual = CONV_RESIDUAL,
                                         .flop = conv_flop,
                                         .forward = conv_forward,
                                         .weights = conv_weights,
                                         .backward = conv_backward};

/* ---- dense: rows of pixels, or of whole images where it flattens; [x | x_b] as two products, so that the
 * concatenation is never made */

enum { DENSE_X, DENSE_X_B, DENSE_RESIDUAL };

/* Rows [0, c) of the kernel for x, with the bias; the rest for x_b. */
static struct linear dense_part(const struct pass *p, const struct tensor *y, int part)
{
        const struct tensor *x = y->in[part];
        struct linear l = linear_of(p, y->flatten ? p->m : p->m * tensor_pixels(x), tensor_param(p, y->w),
                                    y->b == NO_PARAM || part == DENSE_X_B ? NULL : tensor_param(p, y->b));
        int64_t skip = part == DENSE_X_B ? y->in[DENSE_X]->c * l.out : 0;

        l.in = y->flatten ? tensor_pixels(x) * x->c : x->c;
        l.type = x->type;
        l.tf32 = p->tf32 && l.rows > p->m; /* vectors stay exact, as in bf16 */
        l.w += skip;
        if (l.dw)
                l.dw += skip;
        l.accumulate_weights = adds_weights(p, y);
        return l;
}

/* Of a pixel's values, or of all where it flattens. */
static double dense_flop(const struct tensor *y)
{
        double values = 0;

        for (int part = DENSE_X; part <= DENSE_X_B && y->in[part]; part++)
                values += (double)(tensor_pixels(y->in[part]) * y->in[part]->c);
        return 2 * values * (double)y->c;
}

static void dense_forward(struct pass *p, struct tensor *y)
{
        const struct tensor *residual = y->in[DENSE_RESIDUAL];

        if (residual)
                copy_tensor(p, residual, y);
        for (int part = DENSE_X; part <= DENSE_X_B && y->in[part]; part++) {
                struct linear l = dense_part(p, y, part);

                linear_forward(p, &l, y->in[part]->value, (void *)y->value, residual || part == DENSE_X_B);
        }
}

static void dense_weights(struct pass *p, struct tensor *y)
{
        for (int part = DENSE_X; part <= DENSE_X_B && y->in[part]; part++) {
                struct linear l = dense_part(p, y, part);

                linear_backward_weights(p, &l, y->in[part]->value, y->d);
        }
}

static void dense_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                           const bool add[TENSOR_INPUTS])
{
        for (int part = DENSE_X; part <= DENSE_X_B && y->in[part]; part++) {
                struct linear l = dense_part(p, y, part);

                if (dx[part])
                        linear_backward_data(p, &l, y->d, dx[part], add[part]);
        }
}

const struct operation operation_dense = {.reads_weights = 1u << DENSE_X | 1u << DENSE_X_B,
                                          .adds = 1u << DENSE_X | 1u << DENSE_X_B,
                                          .residual = DENSE_RESIDUAL,
                                          .flop = dense_flop,
                                          .forward = dense_forward,
                                          .weights = dense_weights,
                                          .backward = dense_backward};

/* ---- group norm, with addend, swish and dropout; its parameters' gradients come with its inputs' */

enum { NORM_A, NORM_B, NORM_ADDEND };

static const struct plan *norm_plan(struct pass *p, const struct tensor *y)
{
        const struct tensor *a = y->in[NORM_A], *b = y->in[NORM_B];

        return plan_norm(p, (struct norm_shape){p->m, tensor_pixels(a), a->c, b ? b->c : 0, y->groups, a->type});
}

static struct dropout dropout_of(const struct pass *p, const struct tensor *y)
{
        if (y->dropout < 0 || !p->dropout)
                return (struct dropout){0};
        return (struct dropout){.rate = (float)p->config->sm_pdrop,
                                .block = (uint32_t)y->dropout,
                                .state = p->state,
                                .rows = p->rows,
                                .mask = p->dropout_masks ? p->dropout_masks[y->dropout] : NULL};
}

static const void *input_value(const struct tensor *y, int i)
{
        return y->in[i] ? y->in[i]->value : NULL;
}

static size_t norm_kept(struct pass *p, const struct tensor *y)
{
        return (size_t)(p->m * y->groups * 2) * sizeof(float);
}

static void norm_forward(struct pass *p, struct tensor *y)
{
        RUN_PLAN(p, y->plan, norm_forward, .norm = y->plan->op, .a = y->in[NORM_A]->value, .b = input_value(y, NORM_B),
                 .addend = input_value(y, NORM_ADDEND), .scale = value_of(p, y->w), .bias = value_of(p, y->b),
                 .swish = y->swish, .dropout = dropout_of(p, y), .y = (void *)y->value, .stats = y->kept);
}

static void norm_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                          const bool add[TENSOR_INPUTS])
{
        RUN_PLAN(p, y->plan, norm_backward, .norm = y->plan->op, .dy = y->d, .a = y->in[NORM_A]->value,
                 .b = input_value(y, NORM_B), .addend = input_value(y, NORM_ADDEND), .scale = value_of(p, y->w),
                 .bias = value_of(p, y->b), .stats = y->kept, .swish = y->swish, .dropout = dropout_of(p, y),
                 .da = dx[NORM_A], .db = dx[NORM_B], .accumulate_a = add[NORM_A], .accumulate_b = add[NORM_B],
                 .dscale = gradient_of(p, y->w), .dbias = gradient_of(p, y->b),
                 .accumulate_weights = adds_weights(p, y), .daddend = dx[NORM_ADDEND]);
}

const struct operation operation_norm = {.plan = norm_plan,
                                         .reads = 1u << NORM_A | 1u << NORM_B | 1u << NORM_ADDEND,
                                         .adds = 1u << NORM_A | 1u << NORM_B,
                                         .residual = -1,
                                         .kept = norm_kept,
                                         .forward = norm_forward,
                                         .backward = norm_backward};

/* ---- attention */

enum { ATTENTION_Q, ATTENTION_K, ATTENTION_V };

static const struct plan *attention_plan(struct pass *p, const struct tensor *y)
{
        const struct tensor *q = y->in[ATTENTION_Q];

        return plan_attention(p, (struct attention_shape){p->m, tensor_pixels(q), q->c, y->heads, q->type, p->tf32});
}

static size_t attention_kept(struct pass *p, const struct tensor *y)
{
        return p->keep && y->plan ? y->plan->saved : 0;
}

static double attention_flop(const struct tensor *y)
{
        return 4.0 * (double)(tensor_pixels(y) * tensor_pixels(y) * y->c);
}

static void attention_forward(struct pass *p, struct tensor *y)
{
        RUN_PLAN(p, y->plan, attention_forward, .attention = y->plan->op, .q = y->in[ATTENTION_Q]->value,
                 .k = y->in[ATTENTION_K]->value, .v = y->in[ATTENTION_V]->value, .o = (void *)y->value,
                 .saved = y->kept);
}

static void attention_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                               const bool add[TENSOR_INPUTS])
{
        (void)add;
        RUN_PLAN(p, y->plan, attention_backward, .attention = y->plan->op, .d_o = y->d, .q = y->in[ATTENTION_Q]->value,
                 .k = y->in[ATTENTION_K]->value, .v = y->in[ATTENTION_V]->value, .o = y->value, .saved = y->kept,
                 .dq = dx[ATTENTION_Q], .dk = dx[ATTENTION_K], .dv = dx[ATTENTION_V]);
}

const struct operation operation_attention = {.plan = attention_plan,
                                              .reads = 1u << ATTENTION_Q | 1u << ATTENTION_K | 1u << ATTENTION_V,
                                              .reads_output = true,
                                              .residual = -1,
                                              .kept = attention_kept,
                                              .flop = attention_flop,
                                              .forward = attention_forward,
                                              .backward = attention_backward};

/* ---- without parameters */

static void swish_forward(struct pass *p, struct tensor *y)
{
        RUN(p, swish_forward, .n = tensor_size(p, y), .type = y->type, .x = y->in[0]->value, .y = (void *)y->value);
}

static void swish_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                           const bool add[TENSOR_INPUTS])
{
        (void)add;
        RUN(p, swish_backward, .n = tensor_size(p, y), .type = y->type, .x = y->in[0]->value, .dy = y->d, .dx = dx[0]);
}

const struct operation operation_swish = {
        .reads = 1u, .residual = -1, .in_place = true, .forward = swish_forward, .backward = swish_backward};

static void relu_forward(struct pass *p, struct tensor *y)
{
        RUN(p, relu_forward, .n = tensor_size(p, y), .type = y->type, .x = y->in[0]->value, .y = (void *)y->value);
}

static void relu_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                          const bool add[TENSOR_INPUTS])
{
        (void)add;
        RUN(p, relu_backward, .n = tensor_size(p, y), .type = y->type, .x = y->in[0]->value, .dy = y->d, .dx = dx[0]);
}

const struct operation operation_relu = {
        .reads = 1u, .residual = -1, .in_place = true, .forward = relu_forward, .backward = relu_backward};

static void fourier_forward(struct pass *p, struct tensor *y)
{
        RUN(p, fourier_forward, .n_pixels = p->m * tensor_pixels(y), .type = y->type, .z = y->in[0]->value,
            .z_low = y->in[0]->low, .y = (void *)y->value);
}

static void fourier_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                             const bool add[TENSOR_INPUTS])
{
        RUN(p, fourier_backward, .n_pixels = p->m * tensor_pixels(y), .type = y->type, .z = y->in[0]->value,
            .z_low = y->in[0]->low, .dy = y->d, .dz = dx[0], .accumulate = add[0]);
}

const struct operation operation_fourier = {
        .reads = 1u, .adds = 1u, .residual = -1, .forward = fourier_forward, .backward = fourier_backward};

/* ---- the embedding of times, one an image or one for each of its values, with the context beside it */

enum { TIME_G, TIME_E };

/* Column j of x [n, columns], or x itself where there is one column. */
static const float *column_of(struct pass *p, const float *x, int64_t n, int64_t columns, int64_t j, float *room)
{
        if (columns == 1 || !x)
                return x;
        RUN(p, copy_2d, .rows = n, .columns = 1, .x = x + j, .x_stride = columns, .y = room, .y_stride = 1, .scale = 1);
        return room;
}

static void time_forward(struct pass *p, struct tensor *y)
{
        const struct tensor *g = y->in[TIME_G], *e = y->in[TIME_E];
        int64_t n = p->m * tensor_pixels(g), width = y->c, embedded = (width - e->c) / g->c;
        size_t mark = arena_mark(p->arena);
        float *to = (float *)y->value, *room = pass_alloc(p, n), *room_low = pass_alloc(p, n);

        for (int64_t j = 0; j < g->c; j++)
                RUN(p, time_embedding_forward, .m = n, .n = embedded, .g = column_of(p, g->value, n, g->c, j, room),
                    .g_low = column_of(p, g->low, n, g->c, j, room_low), .offset = y->offset, .scale = y->scale,
                    .y = to + j * embedded, .y_stride = width);
        RUN(p, repeat_forward, .m = p->m, .pixels = tensor_pixels(g), .c = e->c, .x = e->value,
            .y = to + g->c * embedded, .y_stride = width);
        arena_release_since(p->arena, mark);
}

static void time_backward(struct pass *p, struct tensor *y, void *const dx[TENSOR_INPUTS],
                          const bool add[TENSOR_INPUTS])
{
        const struct tensor *g = y->in[TIME_G], *e = y->in[TIME_E];
        int64_t n = p->m * tensor_pixels(g), width = y->c, embedded = (width - e->c) / g->c;
        size_t mark = arena_mark(p->arena);
        float *room = pass_alloc(p, n), *room_low = pass_alloc(p, n), *dg = pass_alloc(p, n);
        const float *dy = y->d;

        for (int64_t j = 0; dx[TIME_G] && j < g->c; j++) {
                RUN(p, time_embedding_backward, .m = n, .n = embedded, .g = column_of(p, g->value, n, g->c, j, room),
                    .g_low = column_of(p, g->low, n, g->c, j, room_low), .offset = y->offset, .scale = y->scale,
                    .dy = dy + j * embedded, .dy_stride = width, .dg = dg);
                RUN(p, copy_2d, .rows = n, .columns = 1, .x = dg, .x_stride = 1, .y = (float *)dx[TIME_G] + j,
                    .y_stride = g->c, .accumulate = add[TIME_G], .scale = 1);
        }
        if (dx[TIME_E])
                RUN(p, repeat_backward, .m = p->m, .pixels = tensor_pixels(g), .c = e->c, .dy = dy + g->c * embedded,
                    .dy_stride = width, .dx = dx[TIME_E], .accumulate = add[TIME_E]);
        arena_release_since(p->arena, mark);
}

const struct operation operation_time = {.reads = 1u << TIME_G,
                                         .adds = 1u << TIME_G | 1u << TIME_E,
                                         .residual = -1,
                                         .forward = time_forward,
                                         .backward = time_backward};
