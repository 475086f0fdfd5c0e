/* 3x3 convolution: by Winograd's algorithm where whole vectors of channels go in and out, else by oneDNN's direct one
 * (networks' first and last layers), which computes in float32: bf16 tensors are widened into the workspace, and what
 * comes out is rounded once. */
#include "kernels/cpu/direct.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/winograd.h"

#include <errno.h>

struct conv {
        struct conv_shape shape;
        bool by_winograd;
        struct winograd winograd;
        struct direct direct;
};

int V(conv_new)(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err)
{
        struct conv *c;
        int r;

        host_enter(d);
        r = host_check_conv(d, shape, true, err);
        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        c->shape = *shape;
        c->by_winograd = V(winograd_fits)(shape);
        if (c->by_winograd)
                V(winograd_init)(&c->winograd, shape, d->threads);
        else
                r = direct_init(&c->direct, shape, true, true, true, err);
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
        direct_done(&c->direct);
        free(c);
        return NULL;
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
                values_convert(DTYPE_BF16, values, DTYPE_FLOAT32, room, n);
        return room ? room : values;
}

static void narrow(const float *room, void *ret, int64_t n)
{
        if (room)
                values_convert(DTYPE_FLOAT32, room, DTYPE_BF16, ret, n);
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

        return c->by_winograd ? V(winograd_workspace)(&c->winograd) : widened_layout(c, NULL, &unused);
}

int V(conv_forward)(const struct conv_forward_args *a)
{
        const struct conv *c = a->conv;

        if (!c->by_winograd)
                return forward_directly(a);
        V(winograd_forward)(&c->winograd, a->x, a->w, a->b, a->residual, a->y, a->workspace);
        return 0;
}

int V(conv_backward_data)(const struct conv_backward_data_args *a)
{
        const struct conv *c = a->conv;

        if (!c->by_winograd)
                return backward_data_directly(a);
        V(winograd_backward_data)(&c->winograd, a->dy, a->w, a->accumulate, a->dx, a->workspace);
        return 0;
}

int V(conv_backward_weights)(const struct conv_backward_weights_args *a)
{
        const struct conv *c = a->conv;

        if (!c->by_winograd)
                return backward_weights_directly(a);
        V(winograd_backward_weights)(&c->winograd, a->x, a->dy, a->accumulate, a->dw, a->db, a->workspace);
        return 0;
}
