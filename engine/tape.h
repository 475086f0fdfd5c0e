/* A network said once. A description (networks.c) calls the builder below, a line a layer, and from the tape that it
 * leaves come: the parameters' names, shapes and initial values; the numbers of dropout masks; the order of a forward
 * pass and, in reverse, of a backward pass; when a value or a gradient is allocated, added to and released; what is
 * made again instead of being kept.
 *
 * A value is released after the last operation that reads it, in the forward pass or, where a backward pass follows, in
 * that one. What is marked `again` is released after the forward pass and made again when backward asks for it, from
 * inputs that are kept or made again themselves. A tensor's gradient is written by the first consumer that backward
 * meets and added to by the others; a residual's is its sum's, handed on without a copy.
 *
 * A tape is in one pass at a time. The arena's addresses are the same in every pass of the same kind, so that a pass
 * can be recorded. */
#pragma once

#include "engine/pass.h"

#define TENSOR_INPUTS 3

struct operation; /* a row of the table in operations.c */

/* Values of an image, [height, width, c]; a vector is [1, 1, c]. And what makes them: an operation on other tensors. */
struct tensor {
        int64_t height, width, c;
        enum dtype type;
        const struct operation *op; /* NULL: an input of the tape */
        struct tensor *in[TENSOR_INPUTS];
        size_t w, b;   /* numbers of its parameters; NO_PARAM */
        bool w_shared; /* a later tensor has the same parameters: their gradient is there already when backward comes */
        int64_t kernel, groups, heads, stride;
        bool swish, flatten;
        int dropout;         /* number of its mask, or -1 */
        float offset, scale; /* of the time: (g - offset) scale */
        bool again;          /* made again for backward instead of being kept */

        /* of the pass that runs; for inputs and the output set by the caller, who owns them (tape_bind) */
        bool borrowed;
        const void *value;
        const float *low;          /* inputs: what float32 rounded away (kernels.h), or NULL */
        void *d;                   /* gradient; NULL: not there yet, or of an input: not wanted */
        bool d_written;            /* d holds something: the next one adds */
        bool wanted;               /* this pass needs its gradient */
        int readers, readers_back; /* tensors that have not read the value yet, forward and backward */
        const struct plan *plan;   /* the operation's */
        void *kept;                /* what forward leaves for backward beside values: statistics, attention's rows */
};
#define NO_PARAM SIZE_MAX

struct tape {
        struct params *layout;
        enum dtype type; /* of maps; vectors are float32 */
        int *n_dropouts; /* counts the masks of all networks of a model */
        enum recompute recompute;
        char path[PARAM_NAME_MAX];
        struct tensor **tensors; /* in the order in which they are made */
        size_t n, capacity;
        struct error error;    /* the builder's first failure; later calls do nothing and return */
        struct tensor nothing; /* this */
};

/* ---- builder. Names are the published leaves below the path; a name that was used before shares its parameters. What
 * a back end does not compute is refused when a pass is planned, by name; a shape that makes no sense here. */

/* layout and n_dropouts are borrowed; the layout until tape_done. */
void tape_init(struct tape *t, struct params *layout, enum dtype type, int *n_dropouts);
void tape_done(struct tape *t);

/* A part's name goes in front of what follows, until it is left: "down.block_3". */
void net_enter(struct tape *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void net_leave(struct tape *t);

struct tensor *net_input(struct tape *t, int64_t height, int64_t width, int64_t c);

struct net_options {
        bool zero; /* the kernel starts at 0 */
        bool no_bias;
        bool flatten;          /* dense: an image is one row of height x width x c values */
        bool float32;          /* convolution: the output is float32 whatever the tape's type */
        int64_t kernel;        /* convolution: side, 3 where it is 0 */
        int64_t stride;        /* convolution: 1 where it is 0 */
        int64_t groups;        /* norm: 32 where it is 0 */
        int64_t heads;         /* attention: 1 where it is 0 */
        bool swish;            /* norm: swish follows */
        bool dropout;          /* norm: and dropout */
        bool again;            /* convolution, dense, norm: made again for backward instead of being kept */
        struct tensor *addend; /* norm: a vector, added to every pixel before it */
};

/* Convolution with kernel and bias. */
#define net_conv(t, name, x, c, ...) net_conv_(t, name, x, c, (struct net_options){__VA_ARGS__})
struct tensor *net_conv_(struct tape *t, const char *name, struct tensor *x, int64_t c, struct net_options o);
/* Dense layer on every pixel; on [x | x_b] side by side where x_b is not NULL. */
#define net_dense(t, name, x, x_b, c, ...) net_dense_(t, name, x, x_b, c, (struct net_options){__VA_ARGS__})
struct tensor *net_dense_(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, int64_t c,
                          struct net_options o);
/* Group norm of [x | x_b] + addend. */
#define net_norm(t, name, x, x_b, ...) net_norm_(t, name, x, x_b, (struct net_options){__VA_ARGS__})
struct tensor *net_norm_(struct tape *t, const char *name, struct tensor *x, struct tensor *x_b, struct net_options o);
/* y + x, where y has just come out of a convolution or dense layer, which adds x itself. */
struct tensor *net_add(struct tape *t, struct tensor *y, struct tensor *x);
#define net_attention(t, q, k, v, ...) net_attention_(t, q, k, v, (struct net_options){__VA_ARGS__})
struct tensor *net_attention_(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                              struct net_options o);
struct tensor *net_swish(struct tape *t, struct tensor *x);
struct tensor *net_relu(struct tape *t, struct tensor *x);
/* [z, Fourier(z)]: 15 channels from 3. */
struct tensor *net_fourier(struct tape *t, struct tensor *z);
/* At every pixel of g, [temb((g - offset) scale) of each channel, n values each, side by side, e]; e a vector. */
struct tensor *net_time(struct tape *t, struct tensor *g, struct tensor *e, int64_t n, double offset, double scale);

/* ---- passes */

/* What goes in and out, before each pass. An input's gradient is wanted where d is not NULL, and added to where
 * `accumulate`. The output's gradient d is read by backward. Never released here. */
void tape_bind(struct tensor *x, const void *value, const float *low, void *d, bool accumulate);

/* Runs the nodes in order; where p->keep, keeps what tape_backward needs: gradients of the weights (p->grads) and of
 * what is wanted. Plans are made at the first pass (the dry run). */
void tape_forward(struct pass *p, struct tape *t);
void tape_backward(struct pass *p, struct tape *t);

/* Floating-point operations of an image forward, as papers count: products alone, a multiply-add as two. Backward has
 * twice as many. */
double tape_flop(const struct tape *t);

/* ---- for operations.c */

int64_t tensor_pixels(const struct tensor *x);                     /* of an image */
int64_t tensor_size(const struct pass *p, const struct tensor *x); /* values of a batch */
const struct param *tensor_param(const struct pass *p, size_t number);
