/* 3x3 convolution, each direction in one of several ways: by Winograd's algorithm, where whole vectors of channels go
 * in and out; by oneDNN's direct one in float32, where bf16 tensors are widened into the workspace and what comes out
 * is rounded once (networks' first and last layers); by oneDNN's in bf16. A fixed rule chooses, or measurement
 * (host_plans.h). */
#include "kernels/cpu/direct.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/winograd.h"
#include "kernels/host_plans.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

enum { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS };
enum way { BY_WINOGRAD, DIRECT, DIRECT_BF16, N_WAYS };
static const char *const way_names[] = {[BY_WINOGRAD] = "winograd", [DIRECT] = "direct", [DIRECT_BF16] = "direct_bf16"};
static_assert(ARRAY_LEN(way_names) == N_WAYS && N_WAYS <= PLANS_WAYS, "a name for each way");

struct conv {
        struct conv_shape shape;
        int ways[PLANS_DIRECTIONS];
        bool used[N_WAYS];
        struct winograd winograd;
        struct direct direct, direct_bf16;
};

/* Makes what the ways need. */
static int conv_init(struct conv *c, const struct conv_shape *shape, const int ways[PLANS_DIRECTIONS], int threads,
                     struct error *err)
{
        bool by[N_WAYS][PLANS_DIRECTIONS] = {{0}};
        int r = 0;

        *c = (struct conv){.shape = *shape};
        for (int i = 0; i < PLANS_DIRECTIONS; i++) {
                c->ways[i] = ways[i];
                c->used[ways[i]] = by[ways[i]][i] = true;
        }
        if (c->used[BY_WINOGRAD])
                V(winograd_init)(&c->winograd, shape, threads);
        if (c->used[DIRECT])
                r = direct_init(&c->direct, shape, false, by[DIRECT][FORWARD], by[DIRECT][BACKWARD_DATA],
                                by[DIRECT][BACKWARD_WEIGHTS], err);
        if (r == 0 && c->used[DIRECT_BF16])
                r = direct_init(&c->direct_bf16, shape, true, by[DIRECT_BF16][FORWARD], by[DIRECT_BF16][BACKWARD_DATA],
                                by[DIRECT_BF16][BACKWARD_WEIGHTS], err);
        return r;
}

static void conv_done(struct conv *c)
{
        direct_done(&c->direct);
        direct_done(&c->direct_bf16);
}

/* ---- float32 copies for oneDNN, behind its part of the workspace */

struct widened {
        float *x, *y, *w; /* NULL where the tensor is float32 itself; w is rounded where x is bf16 */
        int64_t x_size, y_size, w_size;
};

static size_t widened_layout(const struct conv *c, char *base, struct widened *ret)
{
        const struct conv_shape *s = &c->shape;
        int64_t pixels = s->n_images * s->height * s->width;
        size_t at = host_align(direct_workspace(&c->direct));

        *ret = (struct widened){
                .x_size = pixels * s->c_in, .y_size = pixels * s->c_out, .w_size = 9 * s->c_in * s->c_out};
        if (s->x_type == DTYPE_BF16) {
                ret->x = host_take(base, &at, (size_t)ret->x_size * sizeof(float));
                ret->w = host_take(base, &at, (size_t)ret->w_size * sizeof(float));
        }
        if (s->y_type == DTYPE_BF16)
                ret->y = host_take(base, &at, (size_t)ret->y_size * sizeof(float));
        return at;
}

/* bf16 values as float32 in room; what is float32 already (room NULL) stays where it is. */
static const void *widen(const void *values, float *room, int64_t n)
{
        if (room)
                values_convert(DTYPE_BF16, values, room, n);
        return room ? room : values;
}

static void narrow(const float *room, void *ret, int64_t n)
{
        if (room)
                values_convert(DTYPE_FLOAT32, room, ret, n);
}

static const float *round_weights(const float *w, float *room, int64_t n)
{
        if (!room)
                return w;
#pragma omp parallel for simd schedule(static) if (n > PARALLEL_MIN)
        for (int64_t i = 0; i < n; i++)
                room[i] = bf16_widen(bf16_round(w[i]));
        return room;
}

static int forward_directly(const struct conv_forward_args *a)
{
        struct conv_forward_args wide = *a;
        struct widened f;
        int r;

        (void)widened_layout(a->conv, a->workspace, &f);
        wide.x = widen(a->x, f.x, f.x_size);
        wide.w = round_weights(a->w, f.w, f.w_size);
        wide.residual = a->residual ? widen(a->residual, f.y, f.y_size) : NULL;
        wide.y = f.y ? f.y : a->y;
        r = direct_forward(&a->conv->direct, &wide);
        if (r == 0)
                narrow(f.y, a->y, f.y_size);
        return r;
}

static int backward_data_directly(const struct conv_backward_data_args *a)
{
        struct conv_backward_data_args wide = *a;
        struct widened f;
        int r;

        (void)widened_layout(a->conv, a->workspace, &f);
        wide.dy = widen(a->dy, f.y, f.y_size);
        wide.w = round_weights(a->w, f.w, f.w_size);
        if (a->accumulate)
                (void)widen(a->dx, f.x, f.x_size);
        wide.dx = f.x ? f.x : a->dx;
        r = direct_backward_data(&a->conv->direct, &wide);
        if (r == 0)
                narrow(f.x, a->dx, f.x_size);
        return r;
}

static int backward_weights_directly(const struct conv_backward_weights_args *a)
{
        struct conv_backward_weights_args wide = *a;
        struct widened f;

        (void)widened_layout(a->conv, a->workspace, &f);
        wide.x = widen(a->x, f.x, f.x_size);
        wide.dy = widen(a->dy, f.y, f.y_size);
        return direct_backward_weights(&a->conv->direct, &wide);
}

/* ---- the operations */

size_t V(conv_workspace)(const struct conv *c)
{
        struct widened unused;
        size_t winograd = c->used[BY_WINOGRAD] ? V(winograd_workspace)(&c->winograd) : 0;
        size_t direct = c->used[DIRECT] ? widened_layout(c, NULL, &unused) : 0;

        return MAX(MAX(winograd, direct), c->used[DIRECT_BF16] ? direct_workspace(&c->direct_bf16) : 0);
}

int V(conv_forward)(const struct conv_forward_args *a)
{
        const struct conv *c = a->conv;

        switch (c->ways[FORWARD]) {
        case BY_WINOGRAD:
                V(winograd_forward)(&c->winograd, a->x, a->w, a->b, a->residual, a->y, a->workspace);
                return 0;
        case DIRECT:
                return forward_directly(a);
        default:
                return direct_forward(&c->direct_bf16, a);
        }
}

int V(conv_backward_data)(const struct conv_backward_data_args *a)
{
        const struct conv *c = a->conv;

        switch (c->ways[BACKWARD_DATA]) {
        case BY_WINOGRAD:
                V(winograd_backward_data)(&c->winograd, a->dy, a->w, a->accumulate, a->dx, a->workspace);
                return 0;
        case DIRECT:
                return backward_data_directly(a);
        default:
                return direct_backward_data(&c->direct_bf16, a);
        }
}

int V(conv_backward_weights)(const struct conv_backward_weights_args *a)
{
        const struct conv *c = a->conv;

        switch (c->ways[BACKWARD_WEIGHTS]) {
        case BY_WINOGRAD:
                V(winograd_backward_weights)(&c->winograd, a->x, a->dy, a->accumulate, a->dw, a->db, a->workspace);
                return 0;
        case DIRECT:
                return backward_weights_directly(a);
        default:
                return direct_backward_weights(&c->direct_bf16, a);
        }
}

/* ---- which way */

/* A shape's operands, for timing. */
struct trial {
        struct device *device;
        struct conv_shape shape;
        struct conv conv;
        struct plans_operands operands;
};

static int run_forward(void *user)
{
        const struct trial *t = user;

        return V(conv_forward)(&(struct conv_forward_args){.conv = (struct conv *)&t->conv,
                                                           .x = t->operands.x,
                                                           .w = t->operands.w,
                                                           .y = t->operands.y,
                                                           .workspace = t->operands.workspace});
}

static int run_backward_data(void *user)
{
        const struct trial *t = user;

        return V(conv_backward_data)(&(struct conv_backward_data_args){.conv = (struct conv *)&t->conv,
                                                                       .dy = t->operands.y,
                                                                       .w = t->operands.w,
                                                                       .dx = t->operands.x,
                                                                       .workspace = t->operands.workspace});
}

static int run_backward_weights(void *user)
{
        const struct trial *t = user;

        return V(conv_backward_weights)(&(struct conv_backward_weights_args){.conv = (struct conv *)&t->conv,
                                                                             .x = t->operands.x,
                                                                             .dy = t->operands.y,
                                                                             .dw = t->operands.w,
                                                                             .workspace = t->operands.workspace});
}

static void time_way(void *user, int way, double ret_seconds[PLANS_DIRECTIONS])
{
        static int (*const runs[PLANS_DIRECTIONS])(void *) = {run_forward, run_backward_data, run_backward_weights};
        struct trial *t = user;
        const struct conv_shape *s = &t->shape;
        size_t pixels = (size_t)(s->n_images * s->height * s->width) * sizeof(float);
        int ways[PLANS_DIRECTIONS] = {way, way, way};

        if (conv_init(&t->conv, s, ways, t->device->threads, NULL) == 0) {
                const size_t bytes[] = {pixels * (size_t)s->c_in, pixels * (size_t)s->c_out,
                                        (size_t)(9 * s->c_in * s->c_out) * sizeof(float), V(conv_workspace)(&t->conv)};

                plans_time(t->device, &t->operands, bytes, runs, t, ret_seconds);
        }
        conv_done(&t->conv);
}

static void choose(struct device *d, const struct conv_shape *s, const int rule[PLANS_DIRECTIONS],
                   int ways[PLANS_DIRECTIONS])
{
        bool bf16 = s->x_type == DTYPE_BF16 && s->y_type == DTYPE_BF16;
        bool possible[N_WAYS] = {[BY_WINOGRAD] = V(winograd_fits)(s), [DIRECT] = true, [DIRECT_BF16] = bf16};
        struct trial t = {.device = d, .shape = *s};
        struct plans_ways all = {.isa = CPU_ISA_NAME,
                                 .names = way_names,
                                 .possible = possible,
                                 .n = N_WAYS,
                                 .time = time_way,
                                 .user = &t};

        /* more take longer in proportion; of fewer what is done to the weights, once a run, would weigh too much */
        t.shape.n_images = MIN(s->n_images, 4 * (int64_t)d->threads);
        (void)snprintf(all.shape, sizeof all.shape, "conv %lld x %lld x %lld, %lld to %lld, %s to %s",
                       (long long)s->n_images, (long long)s->height, (long long)s->width, (long long)s->c_in,
                       (long long)s->c_out, plans_type_names[s->x_type], plans_type_names[s->y_type]);
        memcpy(ways, rule, PLANS_DIRECTIONS * sizeof(int));
        plans_choose(d, &all, ways);
}

int V(conv_new)(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err)
{
        int rule[PLANS_DIRECTIONS], ways[PLANS_DIRECTIONS];
        struct conv *c;
        int r;

        host_enter(d);
        r = host_check_conv(d, shape, true, err);
        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        for (int i = 0; i < PLANS_DIRECTIONS; i++)
                rule[i] = V(winograd_fits)(shape) ? BY_WINOGRAD : DIRECT;
        choose(d, shape, rule, ways);
        r = conv_init(c, shape, ways, d->threads, err);
        if (r < 0) { /* a choice that was kept is never why a run fails */
                conv_done(c);
                r = conv_init(c, shape, rule, d->threads, err);
        }
        if (r < 0) {
                (void)V(conv_free)(c);
                return r;
        }
        *ret = c;
        return 0;
}

struct conv *V(conv_free)(struct conv *c)
{
        if (!c)
                return NULL;
        conv_done(c);
        free(c);
        return NULL;
}
