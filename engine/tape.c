#include "engine/tape.h"

#include "base/array.h"

#include "engine/operations.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FOURIER_CHANNELS 15
/* Operations: of a block, whose readers of one value lie no further apart; of its end, where what was made on the way
 * is worth its memory: an activation behind a convolution, not one behind a norm. */
#define WITHIN_BLOCK 8
#define AT_ONCE 3

/* ---- builder */

void tape_init(struct tape *t, struct params *layout, enum dtype type, int *n_dropouts)
{
        *t = (struct tape){.layout = layout, .type = type, .n_dropouts = n_dropouts, .recompute = RECOMPUTE_NORM};
}

void tape_done(struct tape *t)
{
        for (size_t i = 0; i < t->n; i++)
                free(t->tensors[i]);
        free(t->tensors);
        *t = (struct tape){0};
}

/* The first failure stays; what the builder returns from then on may be handed on, and means nothing. */
static struct tensor *fail(struct tape *t, int code, const char *text)
{
        if (t->error.code == 0)
                (void)error_set(&t->error, code, t->path, "%s", text);
        t->nothing = (struct tensor){.height = 1, .width = 1, .c = 1};
        return &t->nothing;
}

void net_enter(struct tape *t, const char *format, ...)
{
        size_t n = strlen(t->path), room = sizeof t->path - n;
        va_list args;
        int r;

        if (n && room > 1) {
                t->path[n++] = '/';
                room--;
        }
        va_start(args, format);
        r = vsnprintf(t->path + n, room, format, args);
        va_end(args);
        if (r < 0 || (size_t)r >= room)
                (void)fail(t, -ENAMETOOLONG, "the path of a layer is too long");
}

void net_leave(struct tape *t)
{
        char *slash = strrchr(t->path, '/');

        *(slash ? slash : t->path) = '\0';
}

/* Made by `op` (NULL: an input) from a, b and c. */
static struct tensor *add_tensor(struct tape *t, const struct operation *op, int64_t height, int64_t width,
                                 int64_t channels, enum dtype type, struct tensor *a, struct tensor *b,
                                 struct tensor *c)
{
        struct tensor *y;

        if (t->error.code)
                return &t->nothing;
        if (height < 1 || width < 1 || channels < 1)
                return fail(t, -EINVAL, "a tensor needs at least one value");
        y = calloc(1, sizeof *y);
        if (!y || !array_grow(&t->tensors, t->n, &t->capacity, sizeof(struct tensor *))) {
                free(y);
                return fail(t, -ENOMEM, "no memory for the tape");
        }
        *y = (struct tensor){.height = height,
                             .width = width,
                             .c = channels,
                             .type = type,
                             .op = op,
                             .in = {a, b, c},
                             .w = NO_PARAM,
                             .b = NO_PARAM,
                             .dropout = -1};
        return t->tensors[t->n++] = y;
}

struct tensor *net_input(struct tape *t, int64_t height, int64_t width, int64_t c)
{
        return add_tensor(t, NULL, height, width, c, DTYPE_FLOAT32, NULL, NULL, NULL);
}

static size_t declare(struct tape *t, const char *name, const char *leaf, enum param_role role, int n_dims,
                      const int64_t shape[4])
{
        struct param q = {.role = role, .n_dims = n_dims};
        size_t number = NO_PARAM;

        if (t->error.code)
                return NO_PARAM;
        if (snprintf(q.name, sizeof q.name, "%s%s%s/%s", t->path, t->path[0] ? "/" : "", name, leaf) >=
            (int)sizeof q.name)
                (void)fail(t, -ENAMETOOLONG, "the name of a parameter is too long");
        memcpy(q.shape, shape, sizeof q.shape);
        if (t->error.code == 0 && params_declare(t->layout, &q, &number, &t->error) < 0)
                return NO_PARAM;
        return number;
}

struct tensor *net_conv_(struct tape *t, const char *name, struct tensor *x, int64_t c, struct net_options o)
{
        int64_t side = o.kernel ? o.kernel : 3, stride = o.stride ? o.stride : 1;
        struct tensor *y =
                add_tensor(t, &operation_conv, (x->height + stride - 1) / stride, (x->width + stride - 1) / stride, c,
                           o.float32 ? DTYPE_FLOAT32 : t->type, x, NULL, NULL);

        y->again = o.again;
        y->kernel = side;
        y->stride = stride;
        y->w = declare(t, name, "kernel", o.zero ? PARAM_ZERO_KERNEL : PARAM_KERNEL, 4,
                       (int64_t[4]){side, side, x->c, c});
        y->b = declare(t, name, "bias", PARAM_BIAS, 1, (int64_t[4]){c, 1, 1, 1});
        return y;
}

static bool side_by_side(const struct tensor *x, const struct tensor *x_b)
{
        return !x_b || (x != x_b && x_b->height == x->height && x_b->width == x->width);
}

struct tensor *net_dense_(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, int64_t c,
                          struct net_options o)
{
        int64_t in = o.flatten ? tensor_pixels(x) * x->c : x->c + (x_b ? x_b->c : 0);
        struct tensor *y = add_tensor(t, &operation_dense, o.flatten ? 1 : x->height, o.flatten ? 1 : x->width, c,
                                      o.flatten ? DTYPE_FLOAT32 : x->type, x, x_b, NULL);

        if (!side_by_side(x, x_b) || (x_b && o.flatten))
                return fail(t, -EINVAL, "two inputs side by side need the same pixels");
        y->again = o.again;
        y->flatten = o.flatten;
        y->w = declare(t, name, "kernel", o.zero ? PARAM_ZERO_KERNEL : PARAM_KERNEL, 2, (int64_t[4]){in, c, 1, 1});
        if (!o.no_bias)
                y->b = declare(t, name, "bias", PARAM_BIAS, 1, (int64_t[4]){c, 1, 1, 1});
        return y;
}

struct tensor *net_norm_(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, struct net_options o)
{
        int64_t c = x->c + (x_b ? x_b->c : 0);
        struct tensor *y = add_tensor(t, &operation_norm, x->height, x->width, c, x->type, x, x_b, o.addend);

        if (!side_by_side(x, x_b))
                return fail(t, -EINVAL, "two inputs side by side need the same pixels");
        if (o.addend && (o.addend->c != c || tensor_pixels(o.addend) != 1))
                return fail(t, -EINVAL, "a norm's addend is a vector of its channels");
        y->groups = o.groups ? o.groups : 32;
        y->swish = o.swish;
        if (o.dropout)
                y->dropout = (*t->n_dropouts)++;
        y->w = declare(t, name, "scale", PARAM_SCALE, 1, (int64_t[4]){c, 1, 1, 1});
        y->b = declare(t, name, "bias", PARAM_BIAS, 1, (int64_t[4]){c, 1, 1, 1});
        y->again = o.again;
        return y;
}

struct tensor *net_add(struct tape *t, struct tensor *y, struct tensor *x)
{
        size_t i = 0;

        if (t->error.code)
                return &t->nothing;
        if (!y->op || y->op->residual < 0 || y->in[y->op->residual] || tensor_pixels(x) != tensor_pixels(y) ||
            x->c != y->c || x->type != y->type)
                return fail(t, -EINVAL, "only to what comes out of a convolution or dense layer its like can be added");
        y->in[y->op->residual] = x;
        /* x may have been made after y: the sum is made now. Nothing has read y yet. */
        while (t->tensors[i] != y)
                i++;
        memmove(t->tensors + i, t->tensors + i + 1, (t->n - i - 1) * sizeof(*t->tensors));
        t->tensors[t->n - 1] = y;
        return y;
}

struct tensor *net_attention_(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                              struct net_options o)
{
        struct tensor *y = add_tensor(t, &operation_attention, q->height, q->width, q->c, q->type, q, k, v);

        y->heads = o.heads ? o.heads : 1;
        return y;
}

struct tensor *net_swish(struct tape *t, struct tensor *x)
{
        return add_tensor(t, &operation_swish, x->height, x->width, x->c, x->type, x, NULL, NULL);
}

struct tensor *net_relu(struct tape *t, struct tensor *x)
{
        return add_tensor(t, &operation_relu, x->height, x->width, x->c, x->type, x, NULL, NULL);
}

struct tensor *net_fourier(struct tape *t, struct tensor *z)
{
        if (z->c != 3)
                return fail(t, -ENOTSUP, "Fourier features are computed of 3 channels");
        return add_tensor(t, &operation_fourier, z->height, z->width, FOURIER_CHANNELS, t->type, z, NULL, NULL);
}

struct tensor *net_time(struct tape *t, struct tensor *g, struct tensor *e, int64_t n, double offset, double scale)
{
        struct tensor *y =
                add_tensor(t, &operation_time, g->height, g->width, g->c * n + e->c, DTYPE_FLOAT32, g, e, NULL);

        y->offset = (float)offset;
        y->scale = (float)scale;
        return y;
}

/* ---- passes */

int64_t tensor_pixels(const struct tensor *x)
{
        return x->height * x->width;
}

int64_t tensor_size(const struct pass *p, const struct tensor *x)
{
        return p->m * tensor_pixels(x) * x->c;
}

const struct param *tensor_param(const struct pass *p, size_t number)
{
        return &p->layout->items[number];
}

void tape_bind(struct tensor *x, const void *value, const float *low, void *d, bool accumulate)
{
        x->borrowed = true;
        x->value = value;
        x->low = low;
        x->d = d;
        x->d_written = accumulate;
}

static void *allocate(struct pass *p, const struct tensor *x)
{
        return arena_alloc(p->arena, (size_t)tensor_size(p, x) * dtype_bytes(x->type));
}

static void release_value(struct pass *p, struct tensor *x)
{
        if (x->borrowed)
                return;
        arena_release(p->arena, (void *)x->value);
        x->value = NULL;
}

/* Who reads what, and whose gradients are wanted. */
static void count_readers(struct pass *p, struct tape *t)
{
        for (size_t i = 0; i < t->n; i++) {
                struct tensor *y = t->tensors[i];
                unsigned reads_back = y->op ? y->op->reads | (p->grads ? y->op->reads_weights : 0) : 0;

                y->readers = y->readers_back = 0;
                y->w_shared = false;
                y->wanted = p->keep && (y->op ? p->grads && y->w != NO_PARAM : y->d != NULL);
                for (int j = 0; j < TENSOR_INPUTS; j++)
                        y->wanted |= y->in[j] && y->in[j]->wanted;
                for (int j = 0; j < TENSOR_INPUTS; j++) {
                        if (!y->in[j])
                                continue;
                        y->in[j]->readers++;
                        y->in[j]->readers_back += y->wanted && reads_back >> j & 1;
                }
                y->readers_back += y->wanted && y->op && y->op->reads_output;
                for (size_t j = 0; j < i && y->w != NO_PARAM; j++)
                        t->tensors[j]->w_shared |= t->tensors[j]->w == y->w;
        }
}

static void run_forward(struct pass *p, struct tensor *y)
{
        size_t kept;

        y->plan = y->op->plan ? y->op->plan(p, y) : NULL;
        kept = y->op->kept && !y->kept ? y->op->kept(p, y) : 0;
        if (!y->borrowed)
                y->value = allocate(p, y);
        if (kept)
                y->kept = arena_alloc(p->arena, kept);
        y->op->forward(p, y);
}

static void release_kept(struct pass *p, struct tensor *y)
{
        arena_release(p->arena, y->kept);
        y->kept = NULL;
}

/* After a forward reader: the value goes unless backward reads it as it is. */
static void read_once(struct pass *p, struct tensor *x)
{
        if (x && x->readers == 0 && (x->again || x->readers_back == 0))
                release_value(p, x);
}

void tape_forward(struct pass *p, struct tape *t)
{
        count_readers(p, t);
        for (size_t i = 0; i < t->n; i++) {
                struct tensor *y = t->tensors[i];

                if (!y->op)
                        continue;
                run_forward(p, y);
                for (int j = 0; j < TENSOR_INPUTS; j++)
                        if (y->in[j])
                                y->in[j]->readers--;
                for (int j = 0; j < TENSOR_INPUTS; j++)
                        read_once(p, y->in[j]);
                read_once(p, y);
                if (!y->wanted)
                        release_kept(p, y);
        }
}

/* Whether one of the n operations that backward comes to next reads x. */
static bool read_soon(const struct pass *p, const struct tape *t, size_t at, const struct tensor *x, size_t n)
{
        for (size_t i = at; i-- > 0 && at - i <= n;) {
                const struct tensor *y = t->tensors[i];
                const unsigned reads = y->op && y->wanted ? y->op->reads | (p->grads ? y->op->reads_weights : 0) : 0;

                for (int j = 0; j < TENSOR_INPUTS; j++)
                        if (reads >> j & 1 && y->in[j] == x)
                                return true;
        }
        return false;
}

/* A value that was released after the forward pass, for the operation at that place. What it is made of is made for it
 * where that was released, too, and released again unless backward reads it soon. */
static void make_again(struct pass *p, const struct tape *t, size_t at, struct tensor *x)
{
        bool made[TENSOR_INPUTS] = {0};

        if (x->value)
                return;
        assert(x->again);
        for (int j = 0; j < TENSOR_INPUTS; j++)
                if (x->in[j] && !x->in[j]->value) {
                        make_again(p, t, at, x->in[j]);
                        made[j] = true;
                }
        run_forward(p, x);
        for (int j = 0; j < TENSOR_INPUTS; j++)
                if (made[j] && !read_soon(p, t, at, x->in[j], AT_ONCE))
                        release_value(p, x->in[j]);
}

/* After a backward reader. */
static void read_back(struct pass *p, const struct tensor *y, unsigned bits)
{
        for (int j = 0; j < TENSOR_INPUTS; j++)
                if (bits >> j & 1 && y->in[j] && --y->in[j]->readers_back == 0)
                        release_value(p, y->in[j]);
}

/* What was made again for the operation at that place, and is read much later, is not kept till then. */
static void release_until_later(struct pass *p, const struct tape *t, size_t at)
{
        for (int j = 0; j < TENSOR_INPUTS; j++) {
                struct tensor *x = t->tensors[at]->in[j];

                if (x && x->again && x->value && x->readers_back > 0 && !read_soon(p, t, at, x, WITHIN_BLOCK))
                        release_value(p, x);
        }
}

static void make_inputs(struct pass *p, const struct tape *t, size_t at, unsigned bits)
{
        const struct tensor *y = t->tensors[at];

        for (int j = 0; j < TENSOR_INPUTS; j++)
                if (bits >> j & 1 && y->in[j])
                        make_again(p, t, at, y->in[j]);
}

static void add_gradient(struct pass *p, const struct tensor *x, const void *from)
{
        RUN(p, add, .n = tensor_size(p, x), .type = x->type, .x = from, .y = x->d);
}

/* The residual's gradient is the sum's: handed on where it can be, else added. */
static void residual_backward(struct pass *p, struct tensor *y)
{
        struct tensor *x = y->op->residual < 0 ? NULL : y->in[y->op->residual];

        if (!x || !x->wanted)
                return;
        if (!x->d_written && !x->borrowed && !y->borrowed) {
                x->d = y->d;
                y->d = NULL;
        } else if (x->d_written) {
                add_gradient(p, x, y->d);
        } else {
                if (!x->d)
                        x->d = allocate(p, x);
                RUN(p, copy_2d, .rows = 1, .columns = tensor_size(p, x), .x_type = x->type, .y_type = x->type,
                    .x = y->d, .y = x->d, .scale = 1);
        }
        x->d_written = true;
}

/* Where the gradients of the inputs go: the tensor's own memory or, where the operation cannot add to what is there, a
 * place beside it. */
static void inputs_backward(struct pass *p, struct tensor *y)
{
        void *dx[TENSOR_INPUTS] = {0}, *aside[TENSOR_INPUTS] = {0};
        bool add[TENSOR_INPUTS] = {0};

        for (int j = 0; j < TENSOR_INPUTS; j++) {
                struct tensor *x = y->in[j];

                if (!x || !x->wanted || j == y->op->residual)
                        continue;
                if (x->d_written && !(y->op->adds >> j & 1)) {
                        dx[j] = aside[j] = allocate(p, x);
                        continue;
                }
                add[j] = x->d_written;
                if (!x->d)
                        x->d = y->op->in_place && !y->borrowed ? y->d : allocate(p, x);
                dx[j] = x->d;
                x->d_written = true;
        }
        y->op->backward(p, y, dx, add);
        for (int j = 0; j < TENSOR_INPUTS; j++) {
                if (aside[j])
                        add_gradient(p, y->in[j], aside[j]);
                arena_release(p->arena, aside[j]);
                if (y->in[j] && y->in[j]->d == y->d)
                        y->d = NULL; /* in place: it is the input's now */
        }
}

/* Of tensor i: whole, unless an earlier tensor, which is still to come, adds to them. */
static void tell_written(struct pass *p, const struct tape *t, size_t i)
{
        const struct tensor *y = t->tensors[i];
        const size_t numbers[] = {y->w, y->b};

        if (!p->written)
                return;
        for (size_t j = 0; j < i; j++)
                if (t->tensors[j]->op && t->tensors[j]->w == y->w)
                        return;
        for (size_t k = 0; k < ARRAY_LEN(numbers); k++)
                if (numbers[k] != NO_PARAM)
                        p->written(p->written_user, &p->layout->items[numbers[k]]);
}

void tape_backward(struct pass *p, struct tape *t)
{
        for (size_t i = t->n; i-- > 0;) {
                struct tensor *y = t->tensors[i];

                if (!y->op || !y->wanted)
                        continue;
                if (p->grads && y->op->weights) {
                        make_inputs(p, t, i, y->op->reads_weights);
                        y->op->weights(p, y);
                        read_back(p, y, y->op->reads_weights);
                        tell_written(p, t, i);
                }
                make_inputs(p, t, i, y->op->reads);
                inputs_backward(p, y);
                residual_backward(p, y);
                read_back(p, y, y->op->reads);
                if (y->op->reads_output && --y->readers_back == 0)
                        release_value(p, y);
                release_until_later(p, t, i);
                release_kept(p, y);
                if (!y->borrowed) {
                        arena_release(p->arena, y->d);
                        y->d = NULL;
                        y->d_written = false;
                }
        }
}

double tape_flop(const struct tape *t)
{
        double sum = 0;

        for (size_t i = 0; i < t->n; i++)
                if (t->tensors[i]->op && t->tensors[i]->op->flop)
                        sum += t->tensors[i]->op->flop(t->tensors[i]);
        return sum;
}
