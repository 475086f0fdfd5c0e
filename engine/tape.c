#include "engine/tape.h"

#include "engine/operations.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FOURIER_CHANNELS 15

/* ---- builder */

void tape_init(struct tape *t, struct params *layout, enum dtype type, int *n_dropouts)
{
        *t = (struct tape){.layout = layout, .type = type, .n_dropouts = n_dropouts};
}

void tape_done(struct tape *t)
{
        for (size_t i = 0; i < t->n_nodes; i++)
                free(t->nodes[i]);
        for (size_t i = 0; i < t->n_tensors; i++)
                free(t->tensors[i]);
        free(t->nodes);
        free(t->tensors);
        *t = (struct tape){0};
}

static void *fail(struct tape *t, int code, const char *text)
{
        if (t->error.code == 0)
                (void)error_set(&t->error, code, t->path, "%s", text);
        return NULL;
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

/* Room for one more pointer. */
static bool grow(void ***items, size_t n, size_t *capacity)
{
        size_t wanted = *capacity ? 2 * *capacity : 64;
        void **p;

        if (n < *capacity)
                return true;
        p = realloc(*items, wanted * sizeof *p);
        if (!p)
                return false;
        *items = p;
        *capacity = wanted;
        return true;
}

static struct tensor *add_tensor(struct tape *t, int64_t height, int64_t width, int64_t c, enum dtype type)
{
        struct tensor *x;

        if (t->error.code)
                return NULL;
        if (height < 1 || width < 1 || c < 1)
                return fail(t, -EINVAL, "a tensor needs at least one value");
        x = calloc(1, sizeof *x);
        if (!x || !grow((void ***)&t->tensors, t->n_tensors, &t->capacity_tensors)) {
                free(x);
                return fail(t, -ENOMEM, "no memory for the tape");
        }
        *x = (struct tensor){.height = height, .width = width, .c = c, .type = type};
        return t->tensors[t->n_tensors++] = x;
}

struct tensor *net_input(struct tape *t, int64_t height, int64_t width, int64_t c)
{
        return add_tensor(t, height, width, c, DTYPE_FLOAT32);
}

/* A node that makes `out` (NULL after a failure) from its inputs. */
static struct node *add_node(struct tape *t, const struct operation *op, const char *name, struct tensor *out,
                             struct tensor *a, struct tensor *b, struct tensor *c)
{
        struct node *n;

        if (!out)
                return NULL;
        n = calloc(1, sizeof *n);
        if (!n || !grow((void ***)&t->nodes, t->n_nodes, &t->capacity_nodes)) {
                free(n);
                return fail(t, -ENOMEM, "no memory for the tape");
        }
        *n = (struct node){.op = op, .in = {a, b, c}, .out = out, .w = NO_PARAM, .b = NO_PARAM, .dropout = -1};
        (void)snprintf(n->name, sizeof n->name, "%s", name);
        out->producer = n;
        return t->nodes[t->n_nodes++] = n;
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
        struct tensor *y = x ? add_tensor(t, (x->height + stride - 1) / stride, (x->width + stride - 1) / stride, c,
                                          o.float32 ? DTYPE_FLOAT32 : t->type)
                             : NULL;
        struct node *n = add_node(t, &operation_conv, name, y, x, NULL, NULL);

        if (!n)
                return NULL;
        n->kernel = side;
        n->stride = stride;
        n->w = declare(t, name, "kernel", o.zero ? PARAM_ZERO_KERNEL : PARAM_KERNEL, 4,
                       (int64_t[4]){side, side, x->c, c});
        n->b = declare(t, name, "bias", PARAM_BIAS, 1, (int64_t[4]){c, 1, 1, 1});
        return t->error.code ? NULL : y;
}

struct tensor *net_dense_(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, int64_t c,
                          struct net_options o)
{
        struct tensor *y = !x          ? NULL
                           : o.flatten ? add_tensor(t, 1, 1, c, DTYPE_FLOAT32)
                                       : add_tensor(t, x->height, x->width, c, x->type);
        struct node *n = add_node(t, &operation_dense, name, y, x, x_b, NULL);

        if (!n)
                return NULL;
        if (x_b && (x == x_b || o.flatten || x_b->height != x->height || x_b->width != x->width))
                return fail(t, -EINVAL, "two inputs side by side need the same pixels");
        n->flatten = o.flatten;
        n->w = declare(t, name, "kernel", o.zero ? PARAM_ZERO_KERNEL : PARAM_KERNEL, 2,
                       (int64_t[4]){o.flatten ? tensor_pixels(x) * x->c : x->c + (x_b ? x_b->c : 0), c, 1, 1});
        if (!o.no_bias)
                n->b = declare(t, name, "bias", PARAM_BIAS, 1, (int64_t[4]){c, 1, 1, 1});
        return t->error.code ? NULL : y;
}

struct tensor *net_norm_(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, struct net_options o)
{
        int64_t c = x ? x->c + (x_b ? x_b->c : 0) : 0;
        struct tensor *y = x ? add_tensor(t, x->height, x->width, c, x->type) : NULL;
        struct node *n = add_node(t, &operation_norm, name, y, x, x_b, o.addend);

        if (!n)
                return NULL;
        if (x_b && (x == x_b || x_b->height != x->height || x_b->width != x->width))
                return fail(t, -EINVAL, "two inputs side by side need the same pixels");
        if (o.addend && (o.addend->c != c || tensor_pixels(o.addend) != 1))
                return fail(t, -EINVAL, "a norm's addend is a vector of its channels");
        n->groups = o.groups ? o.groups : 32;
        n->swish = o.swish;
        if (o.dropout)
                n->dropout = (*t->n_dropouts)++;
        n->w = declare(t, name, "scale", PARAM_SCALE, 1, (int64_t[4]){c, 1, 1, 1});
        n->b = declare(t, name, "bias", PARAM_BIAS, 1, (int64_t[4]){c, 1, 1, 1});
        y->again = o.again;
        return t->error.code ? NULL : y;
}

struct tensor *net_add(struct tape *t, struct tensor *y, struct tensor *x)
{
        struct node *n = y && x ? y->producer : NULL;
        size_t i = 0;

        if (!n || t->error.code)
                return NULL;
        if (n->op->residual < 0 || n->in[n->op->residual] || tensor_pixels(x) != tensor_pixels(y) || x->c != y->c ||
            x->type != y->type)
                return fail(t, -EINVAL, "only to what comes out of a convolution or dense layer its like can be added");
        n->in[n->op->residual] = x;
        /* x may have been made after y: the sum is made now. Nothing has read y yet. */
        while (t->nodes[i] != n)
                i++;
        memmove(t->nodes + i, t->nodes + i + 1, (t->n_nodes - i - 1) * sizeof(*t->nodes));
        t->nodes[t->n_nodes - 1] = n;
        return y;
}

struct tensor *net_attention_(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                              struct net_options o)
{
        struct tensor *y = q && k && v ? add_tensor(t, q->height, q->width, q->c, q->type) : NULL;
        struct node *n = add_node(t, &operation_attention, "attention", y, q, k, v);

        if (n)
                n->heads = o.heads ? o.heads : 1;
        return n ? y : NULL;
}

struct tensor *net_swish(struct tape *t, struct tensor *x)
{
        struct tensor *y = x ? add_tensor(t, x->height, x->width, x->c, x->type) : NULL;

        return add_node(t, &operation_swish, "swish", y, x, NULL, NULL) ? y : NULL;
}

struct tensor *net_fourier(struct tape *t, struct tensor *z)
{
        struct tensor *y = z ? add_tensor(t, z->height, z->width, FOURIER_CHANNELS, t->type) : NULL;

        if (z && z->c != 3)
                return fail(t, -ENOTSUP, "Fourier features are computed of 3 channels");
        return add_node(t, &operation_fourier, "fourier", y, z, NULL, NULL) ? y : NULL;
}

struct tensor *net_time(struct tape *t, struct tensor *g, struct tensor *e, int64_t n, double offset, double scale)
{
        struct tensor *y = g && e ? add_tensor(t, 1, 1, n + e->c, DTYPE_FLOAT32) : NULL;
        struct node *node = add_node(t, &operation_time, "time", y, g, e, NULL);

        if (!node)
                return NULL;
        node->offset = (float)offset;
        node->scale = (float)scale;
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

const struct param *node_param(const struct pass *p, size_t number)
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

static bool is_residual(const struct node *n, int i)
{
        return i == n->op->residual;
}

/* The bits of the inputs that the node's backward reads in this pass. */
static unsigned backward_reads(const struct pass *p, const struct node *n)
{
        return n->op->reads | (p->grads ? n->op->reads_weights : 0);
}

/* Who reads what, and whose gradients are wanted. */
static void count_readers(struct pass *p, struct tape *t)
{
        for (size_t i = 0; i < t->n_tensors; i++) {
                struct tensor *x = t->tensors[i];

                x->readers = x->readers_back = 0;
                x->wanted = p->keep && !x->producer && x->d;
        }
        for (size_t i = 0; i < t->n_nodes; i++) {
                struct node *n = t->nodes[i];

                n->out->wanted = p->keep && p->grads && n->w != NO_PARAM;
                n->w_shared = false;
                for (int j = 0; j < NODE_INPUTS; j++)
                        n->out->wanted |= n->in[j] && n->in[j]->wanted;
                for (int j = 0; j < NODE_INPUTS; j++) {
                        if (!n->in[j])
                                continue;
                        n->in[j]->readers++;
                        n->in[j]->readers_back += n->out->wanted && backward_reads(p, n) >> j & 1;
                }
                n->out->readers_back += n->out->wanted && n->op->reads_output;
                for (size_t j = 0; j < i && n->w != NO_PARAM; j++)
                        if (t->nodes[j]->w == n->w)
                                t->nodes[j]->w_shared = true;
        }
}

static void run_forward(struct pass *p, struct node *n)
{
        size_t kept = n->op->kept && !n->kept ? n->op->kept(p, n) : 0;

        if (!n->out->borrowed)
                n->out->value = allocate(p, n->out);
        if (kept)
                n->kept = arena_alloc(p->arena, kept);
        n->op->forward(p, n);
}

static void release_kept(struct pass *p, struct node *n)
{
        arena_release(p->arena, n->kept);
        n->kept = NULL;
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
        for (size_t i = 0; i < t->n_nodes; i++) {
                struct node *n = t->nodes[i];

                run_forward(p, n);
                for (int j = 0; j < NODE_INPUTS; j++)
                        if (n->in[j])
                                n->in[j]->readers--;
                for (int j = 0; j < NODE_INPUTS; j++)
                        read_once(p, n->in[j]);
                read_once(p, n->out);
                if (!n->out->wanted)
                        release_kept(p, n);
        }
}

/* A value that was released after the forward pass, and what it is made of where that was, too. */
static void make_again(struct pass *p, struct tensor *x)
{
        if (x->value)
                return;
        assert(x->again);
        for (int j = 0; j < NODE_INPUTS; j++)
                if (x->producer->in[j])
                        make_again(p, x->producer->in[j]);
        run_forward(p, x->producer);
        for (int j = 0; j < NODE_INPUTS; j++)
                if (x->producer->in[j] && x->producer->in[j]->readers_back == 0)
                        release_value(p, x->producer->in[j]);
}

/* After a backward reader. */
static void read_back(struct pass *p, const struct node *n, unsigned bits)
{
        for (int j = 0; j < NODE_INPUTS; j++)
                if (bits >> j & 1 && n->in[j] && --n->in[j]->readers_back == 0)
                        release_value(p, n->in[j]);
}

static void make_inputs(struct pass *p, const struct node *n, unsigned bits)
{
        for (int j = 0; j < NODE_INPUTS; j++)
                if (bits >> j & 1 && n->in[j])
                        make_again(p, n->in[j]);
}

static void add_gradient(struct pass *p, const struct tensor *x, const void *from)
{
        RUN(p, add, .n = tensor_size(p, x), .type = x->type, .x = from, .y = x->d);
}

/* The residual's gradient is the sum's: handed on where it can be, else added. */
static void residual_backward(struct pass *p, struct node *n)
{
        struct tensor *x = n->op->residual < 0 ? NULL : n->in[n->op->residual], *y = n->out;

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
static void inputs_backward(struct pass *p, struct node *n)
{
        void *dx[NODE_INPUTS] = {0}, *aside[NODE_INPUTS] = {0};
        bool add[NODE_INPUTS] = {0};

        for (int j = 0; j < NODE_INPUTS; j++) {
                struct tensor *x = n->in[j];

                if (!x || !x->wanted || is_residual(n, j))
                        continue;
                if (x->d_written && !(n->op->adds >> j & 1)) {
                        dx[j] = aside[j] = allocate(p, x);
                        continue;
                }
                add[j] = x->d_written;
                if (!x->d && n->op->in_place && !n->out->borrowed) {
                        x->d = n->out->d;
                } else if (!x->d) {
                        x->d = allocate(p, x);
                }
                dx[j] = x->d;
                x->d_written = true;
        }
        n->op->backward(p, n, dx, add);
        for (int j = 0; j < NODE_INPUTS; j++) {
                if (aside[j])
                        add_gradient(p, n->in[j], aside[j]);
                arena_release(p->arena, aside[j]);
                if (n->in[j] && n->in[j]->d == n->out->d)
                        n->out->d = NULL; /* in place: it is the input's now */
        }
}

void tape_backward(struct pass *p, struct tape *t)
{
        for (size_t i = t->n_nodes; i-- > 0;) {
                struct node *n = t->nodes[i];
                struct tensor *y = n->out;

                if (!y->wanted)
                        continue;
                if (p->grads && n->op->weights) {
                        make_inputs(p, n, n->op->reads_weights);
                        n->op->weights(p, n);
                        read_back(p, n, n->op->reads_weights);
                }
                make_inputs(p, n, n->op->reads);
                inputs_backward(p, n);
                residual_backward(p, n);
                read_back(p, n, n->op->reads);
                if (n->op->reads_output && --y->readers_back == 0)
                        release_value(p, y);
                release_kept(p, n);
                if (!y->borrowed) {
                        arena_release(p->arena, y->d);
                        y->d = NULL;
                        y->d_written = false;
                }
        }
}

double tape_multiply_adds(const struct tape *t)
{
        double sum = 0;

        for (size_t i = 0; i < t->n_nodes; i++)
                if (t->nodes[i]->op->multiply_adds)
                        sum += t->nodes[i]->op->multiply_adds(t->nodes[i], t->layout);
        return sum;
}
