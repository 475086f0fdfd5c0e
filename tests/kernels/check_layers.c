/* Convolution, dense layers, norm, attention. */
#include "check.h"

#define PLANS(t, kind, plan, shape)                                                                                    \
        struct kind *plan[N_RUNS];                                                                                     \
        do {                                                                                                           \
                struct error err_;                                                                                     \
                for (int run = 0; run < N_RUNS; run++)                                                                 \
                        if ((t)->k[run]->kind##_new((t)->device[run], shape, &plan[run], &err_) < 0) {                 \
                                test_fail(t, "no plan: %s", err_.text);                                                \
                                return;                                                                                \
                        }                                                                                              \
        } while (0)
#define PLANS_FREE(t, kind, plan)                                                                                      \
        do {                                                                                                           \
                for (int run = 0; run < N_RUNS; run++)                                                                 \
                        (void)(t)->k[run]->kind##_free(plan[run]);                                                     \
        } while (0)
#define WORKSPACE(t, kind, plan)                                                                                       \
        test_workspace(t, (t)->k[REFERENCE]->kind##_workspace(plan[REFERENCE]),                                        \
                       (t)->k[TESTED]->kind##_workspace(plan[TESTED]))

/* ---- convolution */

#define CONV(n, h, w, c_in, c_out)                                                                                     \
        {                                                                                                              \
                n, h, w, c_in, c_out, 3, 3, 1, 1, DTYPE_FLOAT32, DTYPE_FLOAT32                                         \
        }
static const struct conv_shape conv_shapes[] = {
        CONV(2, 9, 7, 15, 32),
        CONV(1, 8, 8, 64, 3),
        CONV(2, 6, 5, 33, 17),
        CONV(1, 16, 16, 32, 1),
        CONV(3, 4, 4, 128, 64),
        CONV(1, 1, 1, 3, 32),
        CONV(2, 8, 8, 64, 64),
        CONV(1, 16, 16, 15, 64),
        /* whole vectors of channels (Winograd's): odd sizes, less than a tile, one row, and more than a strip */
        CONV(2, 9, 7, 64, 32),
        CONV(1, 1, 1, 32, 96),
        CONV(1, 1, 33, 96, 64),
        CONV(1, 33, 31, 64, 64),
        /* more pixels than CUDA adds up in one slice */
        CONV(3, 28, 25, 3, 2),
};
#define CONV_LIMIT 48
/* A sum of n products, one after the other in float, errs like the root of n; its worst of 10^5 values is 2 sqrt(n). */
static double conv_limit(int64_t n_products)
{
        return fmax(CONV_LIMIT, 2 * sqrt((double)n_products));
}

struct conv_case {
        struct conv_shape s;
        struct conv **plan;
        struct tensor *x, *w, *b, *dy, *y, *workspace;
};

static void conv_inputs(struct test *t, const struct conv_shape *s, struct conv **plan, struct conv_case *c)
{
        size_t pixels = (size_t)(s->n_images * s->height * s->width);

        c->s = *s;
        c->plan = plan;
        c->x = test_input(t, "x", pixels * (size_t)s->c_in, 1, 0);
        c->w = test_input(t, "w", (size_t)(9 * s->c_in * s->c_out), 0.1, 0);
        c->b = test_input(t, "b", (size_t)s->c_out, 1, 0);
        c->dy = test_input(t, "dy", pixels * (size_t)s->c_out, 1, 0);
        c->workspace = WORKSPACE(t, conv, plan);
}

void check_conv_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(conv_shapes); i++)
                for (int variant = 0; variant < 6; variant++) {
                        const struct conv_shape *s = &conv_shapes[i];
                        bool bias = variant % 2, in_place = variant / 2 == 2;
                        struct conv_case c;

                        test_case(t, "%d x %d x %d, %d to %d, bias %d, residual %d", (int)s->n_images, (int)s->height,
                                  (int)s->width, (int)s->c_in, (int)s->c_out, bias, variant / 2);
                        PLANS(t, conv, plan, s);
                        conv_inputs(t, s, plan, &c);
                        c.y = test_sum(t, "y", c.dy->n, conv_limit(9 * s->c_in), in_place);
                        RUN(t, conv_forward, .conv = plan[run], .x = AT(c.x), .w = AT(c.w), .b = bias ? AT(c.b) : NULL,
                            .residual = variant / 2 == 0 ? NULL
                                        : in_place       ? AT(c.y)
                                                         : AT(c.dy),
                            .y = AT(c.y), .workspace = AT(c.workspace));
                        test_compare(t);
                        test_end(t);
                        PLANS_FREE(t, conv, plan);
                }
}

static double conv_loss(struct test *t, void *context)
{
        struct conv_case *c = context;

        RUN_REFERENCE(t, conv_forward, .conv = c->plan[run], .x = AT(c->x), .w = AT(c->w), .b = AT(c->b), .y = AT(c->y),
                      .workspace = AT(c->workspace));
        return test_dot(t, c->y, c->dy);
}

void check_conv_backward_data(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(conv_shapes); i++)
                for (int accumulate = 0; accumulate < 2; accumulate++) {
                        const struct conv_shape *s = &conv_shapes[i];
                        struct tensor *dx;
                        struct conv_case c;

                        test_case(t, "shape %zu, accumulate %d", i, accumulate);
                        PLANS(t, conv, plan, s);
                        conv_inputs(t, s, plan, &c);
                        dx = test_sum(t, "dx", c.x->n, conv_limit(9 * s->c_out), accumulate);
                        c.y = test_output(t, "y", c.dy->n, -1);
                        RUN(t, conv_backward_data, .conv = plan[run], .dy = AT(c.dy), .w = AT(c.w), .dx = AT(dx),
                            .accumulate = accumulate, .workspace = AT(c.workspace));
                        test_compare(t);
                        if (!accumulate)
                                test_slope(t, c.x, dx, 0.1, conv_loss, &c);
                        test_end(t);
                        PLANS_FREE(t, conv, plan);
                }
}

void check_conv_backward_weights(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(conv_shapes); i++)
                for (int variant = 0; variant < 4; variant++) {
                        const struct conv_shape *s = &conv_shapes[i];
                        bool bias = variant % 2, accumulate = variant / 2;
                        struct tensor *dw, *db;
                        struct conv_case c;

                        test_case(t, "shape %zu, bias %d, accumulate %d", i, bias, accumulate);
                        PLANS(t, conv, plan, s);
                        conv_inputs(t, s, plan, &c);
                        dw = test_sum(t, "dw", c.w->n, CONV_LIMIT, accumulate);
                        db = bias ? test_sum(t, "db", c.b->n, CONV_LIMIT, accumulate) : NULL;
                        c.y = test_output(t, "y", c.dy->n, -1);
                        RUN(t, conv_backward_weights, .conv = plan[run], .x = AT(c.x), .dy = AT(c.dy), .dw = AT(dw),
                            .db = AT(db), .accumulate = accumulate, .workspace = AT(c.workspace));
                        test_compare(t);
                        if (!accumulate)
                                test_slope(t, c.w, dw, 0.1, conv_loss, &c);
                        if (bias && !accumulate)
                                test_slope(t, c.b, db, 0.1, conv_loss, &c);
                        test_end(t);
                        PLANS_FREE(t, conv, plan);
                }
}

/* ---- dense */

static const struct dense_shape dense_shapes[] = {
        {8, 50, 301, DTYPE_FLOAT32},  {1, 7, 5, DTYPE_FLOAT32},      {8, 96, 130, DTYPE_FLOAT32},
        {3, 1, 1, DTYPE_FLOAT32},     {1024, 64, 32, DTYPE_FLOAT32}, {37, 1024, 50, DTYPE_FLOAT32},
        {9, 333, 129, DTYPE_FLOAT32}, {1100, 33, 65, DTYPE_FLOAT32}, {16, 300, 270, DTYPE_FLOAT32},
};
#define DENSE_LIMIT 48

struct dense_case {
        struct dense **plan;
        struct tensor *x, *w, *b, *dy, *y, *workspace;
};

static void dense_inputs(struct test *t, const struct dense_shape *s, struct dense **plan, struct dense_case *c)
{
        c->plan = plan;
        c->x = test_input(t, "x", (size_t)(s->m * s->k), 1, 0);
        c->w = test_input(t, "w", (size_t)(s->k * s->n), 0.2, 0);
        c->b = test_input(t, "b", (size_t)s->n, 1, 0);
        c->dy = test_input(t, "dy", (size_t)(s->m * s->n), 1, 0);
        c->workspace = WORKSPACE(t, dense, plan);
}

static double dense_loss(struct test *t, void *context)
{
        struct dense_case *c = context;

        RUN_REFERENCE(t, dense_forward, .dense = c->plan[run], .x = AT(c->x), .w = AT(c->w), .b = AT(c->b),
                      .y = AT(c->y), .workspace = AT(c->workspace));
        return test_dot(t, c->y, c->dy);
}

void check_dense_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(dense_shapes); i++)
                for (int variant = 0; variant < 4; variant++) {
                        const struct dense_shape *s = &dense_shapes[i];
                        struct dense_case c;

                        test_case(t, "%d x %d x %d, bias %d, accumulate %d", (int)s->m, (int)s->k, (int)s->n,
                                  variant % 2, variant / 2);
                        PLANS(t, dense, plan, s);
                        dense_inputs(t, s, plan, &c);
                        c.y = test_sum(t, "y", c.dy->n, DENSE_LIMIT, variant / 2);
                        RUN(t, dense_forward, .dense = plan[run], .x = AT(c.x), .w = AT(c.w),
                            .b = variant % 2 ? AT(c.b) : NULL, .y = AT(c.y), .accumulate = variant / 2,
                            .workspace = AT(c.workspace));
                        test_compare(t);
                        test_end(t);
                        PLANS_FREE(t, dense, plan);
                }
}

void check_dense_backward_data(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(dense_shapes); i++)
                for (int accumulate = 0; accumulate < 2; accumulate++) {
                        const struct dense_shape *s = &dense_shapes[i];
                        struct tensor *dx;
                        struct dense_case c;

                        test_case(t, "%d x %d x %d, accumulate %d", (int)s->m, (int)s->k, (int)s->n, accumulate);
                        PLANS(t, dense, plan, s);
                        dense_inputs(t, s, plan, &c);
                        dx = test_sum(t, "dx", c.x->n, DENSE_LIMIT, accumulate);
                        c.y = test_output(t, "y", c.dy->n, -1);
                        RUN(t, dense_backward_data, .dense = plan[run], .dy = AT(c.dy), .w = AT(c.w), .dx = AT(dx),
                            .accumulate = accumulate, .workspace = AT(c.workspace));
                        test_compare(t);
                        if (!accumulate)
                                test_slope(t, c.x, dx, 0.1, dense_loss, &c);
                        test_end(t);
                        PLANS_FREE(t, dense, plan);
                }
}

void check_dense_backward_weights(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(dense_shapes); i++)
                for (int variant = 0; variant < 4; variant++) {
                        const struct dense_shape *s = &dense_shapes[i];
                        struct tensor *dw, *db;
                        struct dense_case c;

                        test_case(t, "%d x %d x %d, bias %d, accumulate %d", (int)s->m, (int)s->k, (int)s->n,
                                  variant % 2, variant / 2);
                        PLANS(t, dense, plan, s);
                        dense_inputs(t, s, plan, &c);
                        dw = test_sum(t, "dw", c.w->n, DENSE_LIMIT, variant / 2);
                        db = variant % 2 ? test_sum(t, "db", c.b->n, DENSE_LIMIT, variant / 2) : NULL;
                        c.y = test_output(t, "y", c.dy->n, -1);
                        RUN(t, dense_backward_weights, .dense = plan[run], .x = AT(c.x), .dy = AT(c.dy), .dw = AT(dw),
                            .db = AT(db), .accumulate = variant / 2, .workspace = AT(c.workspace));
                        test_compare(t);
                        if (variant < 2)
                                test_slope(t, c.w, dw, 0.1, dense_loss, &c);
                        if (variant == 1)
                                test_slope(t, c.b, db, 0.1, dense_loss, &c);
                        test_end(t);
                        PLANS_FREE(t, dense, plan);
                }
}

/* ---- norm */

static const struct norm_shape norm_shapes[] = {
        {2, 35, 16, 0, 16, DTYPE_FLOAT32},
        {3, 64, 32, 0, 16, DTYPE_FLOAT32},
        {2, 17, 16, 16, 8, DTYPE_FLOAT32},
        {1, 50, 96, 0, 32, DTYPE_FLOAT32},
        {2, 9, 9, 15, 8, DTYPE_FLOAT32},
        {1, 30, 64, 64, 16, DTYPE_FLOAT32},
        {1, 12, 520, 0, 8, DTYPE_FLOAT32},
        {2, 21, 8, 24, 8, DTYPE_FLOAT32},
        {3, 10, 5, 0, 1, DTYPE_FLOAT32},
        /* just as many pixels as CUDA's blocks keep, and more */
        {1, 1024, 16, 0, 8, DTYPE_FLOAT32},
        {1, 1030, 8, 0, 4, DTYPE_FLOAT32},
};
#define NORM_LIMIT 24

struct norm_case {
        const struct norm_shape *s;
        struct norm **plan;
        struct tensor *a, *b, *addend, *scale, *bias, *dy, *y, *stats, *mask, *state, *rows, *workspace;
        bool swish;
        struct dropout dropout[N_RUNS];
};

/* variant bits: 1 swish, 2 addend, 4 random dropout, 8 a given mask instead */
static void norm_inputs(struct test *t, const struct norm_shape *s, struct norm **plan, int variant,
                        struct norm_case *c)
{
        size_t n = (size_t)(s->n_images * s->pixels), channels = (size_t)(s->c_a + s->c_b);

        *c = (struct norm_case){.s = s, .plan = plan, .swish = variant & 1};
        test_case(t, "%d x %d, %d + %d channels, swish %d, addend %d, dropout %d", (int)s->n_images, (int)s->pixels,
                  (int)s->c_a, (int)s->c_b, variant & 1, variant >> 1 & 1, variant >> 2);
        c->a = test_input(t, "a", n * (size_t)s->c_a, 1.5, 2);
        c->b = s->c_b ? test_input(t, "b", n * (size_t)s->c_b, 0.7, -1) : NULL;
        c->addend = variant & 2 ? test_input(t, "addend", (size_t)s->n_images * channels, 1, 0) : NULL;
        c->scale = test_input(t, "scale", channels, 0.3, 1);
        c->bias = test_input(t, "bias", channels, 0.3, 0);
        c->dy = test_input(t, "dy", n * channels, 1, 0);
        c->state = test_state(t);
        c->rows = test_rows(t, s->n_images);
        c->mask = variant & 8 ? test_input(t, "mask", n * channels, 0.5, 1) : NULL;
        c->workspace = WORKSPACE(t, norm, plan);
        for (int run = 0; run < N_RUNS; run++)
                c->dropout[run] = (struct dropout){.rate = variant & 12 ? 0.1f : 0,
                                                   .block = 7,
                                                   .state = AT(c->state),
                                                   .rows = AT(c->rows),
                                                   .mask = AT(c->mask)};
}

static double norm_loss(struct test *t, void *context)
{
        struct norm_case *c = context;

        RUN_REFERENCE(t, norm_forward, .norm = c->plan[run], .a = AT(c->a), .b = AT(c->b), .addend = AT(c->addend),
                      .scale = AT(c->scale), .bias = AT(c->bias), .swish = c->swish, .dropout = c->dropout[run],
                      .y = AT(c->y), .stats = AT(c->stats), .workspace = AT(c->workspace));
        return test_dot(t, c->y, c->dy);
}

static void norm_forward_case(struct test *t, const struct norm_shape *s, int variant)
{
        struct norm_case c;

        PLANS(t, norm, plan, s);
        norm_inputs(t, s, plan, variant, &c);
        c.y = test_output(t, "y", c.dy->n, NORM_LIMIT);
        c.stats = test_output(t, "stats", (size_t)(s->n_images * s->groups * 2), NORM_LIMIT);
        RUN(t, norm_forward, .norm = plan[run], .a = AT(c.a), .b = AT(c.b), .addend = AT(c.addend),
            .scale = AT(c.scale), .bias = AT(c.bias), .swish = c.swish, .dropout = c.dropout[run], .y = AT(c.y),
            .stats = AT(c.stats), .workspace = AT(c.workspace));
        test_compare(t);
        test_end(t);
        PLANS_FREE(t, norm, plan);
}

static const int norm_variants[] = {0, 1, 2, 3, 4, 5, 7, 9, 10};
#define N_ACCUMULATING 3 /* of the first so many shapes every way of adding to gradients is tried */

void check_norm_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(norm_shapes); i++)
                for (size_t v = 0; v < ARRAY_LEN(norm_variants); v++)
                        norm_forward_case(t, &norm_shapes[i], norm_variants[v]);
}

static void norm_slopes(struct test *t, struct norm_case *c, struct tensor *da, struct tensor *db,
                        struct tensor *dscale, struct tensor *dbias, struct tensor *daddend)
{
        test_slope(t, c->a, da, 0.01, norm_loss, c);
        if (db)
                test_slope(t, c->b, db, 0.01, norm_loss, c);
        if (dscale) {
                test_slope(t, c->scale, dscale, 0.01, norm_loss, c);
                test_slope(t, c->bias, dbias, 0.01, norm_loss, c);
        }
        /* with a group a channel an addend changes nothing */
        if (daddend && c->addend && c->s->c_a + c->s->c_b > c->s->groups)
                test_slope(t, c->addend, daddend, 0.01, norm_loss, c);
}

/* accumulate bits: 1 a, 2 b, 4 the parameters' gradients; with 1 alone those are left out */
static void norm_backward_case(struct test *t, const struct norm_shape *s, int variant, int accumulate)
{
        size_t channels = (size_t)(s->c_a + s->c_b);
        struct tensor *da, *db, *dscale, *dbias, *daddend;
        struct norm_case c;

        PLANS(t, norm, plan, s);
        norm_inputs(t, s, plan, variant, &c);
        c.y = test_output(t, "y", c.dy->n, -1);
        c.stats = test_output(t, "stats", (size_t)(s->n_images * s->groups * 2), -1);
        (void)norm_loss(t, &c);
        test_share(t, c.stats);
        da = test_sum(t, "da", c.a->n, NORM_LIMIT, accumulate & 1);
        db = s->c_b ? test_sum(t, "db", c.b->n, NORM_LIMIT, accumulate & 2) : NULL;
        dscale = accumulate == 1 ? NULL : test_sum(t, "dscale", channels, NORM_LIMIT, accumulate & 4);
        dbias = accumulate == 1 ? NULL : test_sum(t, "dbias", channels, NORM_LIMIT, accumulate & 4);
        daddend = variant & 2 ? test_output(t, "daddend", channels * (size_t)s->n_images, NORM_LIMIT) : NULL;
        if (daddend) /* terms of about one that cancel: with a group a channel the sum is zero in truth */
                daddend->scale = sqrt((double)s->pixels);
        RUN(t, norm_backward, .norm = plan[run], .dy = AT(c.dy), .a = AT(c.a), .b = AT(c.b), .addend = AT(c.addend),
            .scale = AT(c.scale), .bias = AT(c.bias), .stats = AT(c.stats), .swish = c.swish, .dropout = c.dropout[run],
            .da = AT(da), .db = AT(db), .accumulate_a = accumulate & 1, .accumulate_b = accumulate >> 1 & 1,
            .dscale = AT(dscale), .dbias = AT(dbias), .accumulate_weights = accumulate & 4, .daddend = AT(daddend),
            .workspace = AT(c.workspace));
        test_compare(t);
        if (accumulate == 0)
                norm_slopes(t, &c, da, db, dscale, dbias, daddend);
        test_end(t);
        PLANS_FREE(t, norm, plan);
}

void check_norm_backward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(norm_shapes); i++)
                for (size_t v = 0; v < ARRAY_LEN(norm_variants); v++)
                        for (int accumulate = 0; accumulate < 8; accumulate += v == 1 && i < N_ACCUMULATING ? 1 : 7)
                                norm_backward_case(t, &norm_shapes[i], norm_variants[v], accumulate);
}

/* ---- attention */

/* The last three: CUDA's smaller tile; tf32, which a table may leave unused; a tile exactly. */
static const struct attention_shape attention_shapes[] = {
        {2, 49, 32, 1, DTYPE_FLOAT32},  {1, 1, 5, 1, DTYPE_FLOAT32},    {3, 64, 64, 1, DTYPE_FLOAT32},
        {1, 130, 17, 1, DTYPE_FLOAT32}, {1, 33, 130, 1, DTYPE_FLOAT32}, {1, 70, 32, 1, DTYPE_FLOAT32, true},
        {1, 32, 32, 1, DTYPE_FLOAT32}};
#define ATTENTION_LIMIT 96       /* scores pass through exp */
#define TF32_LIMIT (10 * 0x1p13) /* as in bf16.c */
#define LOW_SCORE_LIMIT 0x1p16

struct attention_case {
        struct attention **plan;
        struct tensor *q, *k, *v, *d_o, *o, *saved, *workspace;
};

static void attention_inputs(struct test *t, const struct attention_shape *s, struct attention **plan, double apart,
                             struct attention_case *c)
{
        size_t n = (size_t)(s->n_images * s->pixels * s->c);

        test_case(t, "%d x %d x %d, tf32 %d, apart %g", (int)s->n_images, (int)s->pixels, (int)s->c, s->tf32, apart);
        c->plan = plan;
        c->q = test_input(t, "q", n, apart > 0 ? 0.25 : 1, apart);
        c->k = test_input(t, "k", n, apart > 0 ? 0.25 : 1, -apart);
        c->v = test_input(t, "v", n, 1, 0);
        c->d_o = test_input(t, "d_o", n, 1, 0);
        c->workspace = WORKSPACE(t, attention, plan);
        c->saved = test_workspace(t, t->k[REFERENCE]->attention_saved(plan[REFERENCE]),
                                  t->k[TESTED]->attention_saved(plan[TESTED]));
}

static double attention_loss(struct test *t, void *context)
{
        struct attention_case *c = context;

        RUN_REFERENCE(t, attention_forward, .attention = c->plan[run], .q = AT(c->q), .k = AT(c->k), .v = AT(c->v),
                      .o = AT(c->o), .saved = NULL, .workspace = AT(c->workspace));
        return test_dot(t, c->o, c->d_o);
}

void check_attention_forward(struct test *t)
{
        for (size_t i = 0; i < ARRAY_LEN(attention_shapes); i++)
                for (int keep = 0; keep < 2; keep++) {
                        struct attention_case c;

                        PLANS(t, attention, plan, &attention_shapes[i]);
                        attention_inputs(t, &attention_shapes[i], plan, 0, &c);
                        c.o = test_output(t, "o", c.q->n, attention_shapes[i].tf32 ? TF32_LIMIT : ATTENTION_LIMIT);
                        RUN(t, attention_forward, .attention = plan[run], .q = AT(c.q), .k = AT(c.k), .v = AT(c.v),
                            .o = AT(c.o), .saved = keep ? AT(c.saved) : NULL, .workspace = AT(c.workspace));
                        test_compare(t);
                        test_end(t);
                        PLANS_FREE(t, attention, plan);
                }
}

/* apart: q and k are so far from zero on either side, and each score is far below that. */
static void attention_backward_case(struct test *t, const struct attention_shape *s, double apart, double limit)
{
        struct attention_case c;
        struct tensor *dq, *dk, *dv;

        PLANS(t, attention, plan, s);
        attention_inputs(t, s, plan, apart, &c);
        c.o = test_output(t, "o", c.q->n, -1);
        dq = test_output(t, "dq", c.q->n, limit);
        dk = test_output(t, "dk", c.q->n, limit);
        dv = test_output(t, "dv", c.q->n, limit);
        RUN(t, attention_forward, .attention = plan[run], .q = AT(c.q), .k = AT(c.k), .v = AT(c.v), .o = AT(c.o),
            .saved = AT(c.saved), .workspace = AT(c.workspace));
        RUN(t, attention_backward, .attention = plan[run], .d_o = AT(c.d_o), .q = AT(c.q), .k = AT(c.k), .v = AT(c.v),
            .o = AT(c.o), .saved = AT(c.saved), .dq = AT(dq), .dk = AT(dk), .dv = AT(dv), .workspace = AT(c.workspace));
        test_compare(t);
        if (s->pixels > 1 && apart == 0) { /* of one pixel the softmax is constant */
                test_slope(t, c.q, dq, 0.01, attention_loss, &c);
                test_slope(t, c.k, dk, 0.01, attention_loss, &c);
        }
        test_slope(t, c.v, dv, 0.01, attention_loss, &c);
        test_end(t);
        PLANS_FREE(t, attention, plan);
}

void check_attention_backward(struct test *t)
{
        static const struct attention_shape low = {1, 20, 32, 1, DTYPE_FLOAT32};

        for (size_t i = 0; i < ARRAY_LEN(attention_shapes); i++)
                attention_backward_case(t, &attention_shapes[i], 0,
                                        attention_shapes[i].tf32 ? TF32_LIMIT : ATTENTION_LIMIT);
        /* scores of -200, of which a key behind the end, whose score is zero, would be the largest by far */
        attention_backward_case(t, &low, 6, LOW_SCORE_LIMIT);
}
