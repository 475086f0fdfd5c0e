/* 3x3 convolution: by Winograd's algorithm where whole vectors of channels go in and out, else by oneDNN's direct one
 * (networks' first and last layers). */
#include "kernels/cpu/direct.h"
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
        r = host_check_conv(d, shape, false, err);
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

size_t V(conv_workspace)(const struct conv *c)
{
        return c->by_winograd ? V(winograd_workspace)(&c->winograd) : direct_workspace(&c->direct);
}

int V(conv_forward)(const struct conv_forward_args *a)
{
        const struct conv *c = a->conv;

        if (!c->by_winograd)
                return direct_forward(&c->direct, a);
        V(winograd_forward)(&c->winograd, a->x, a->w, a->b, a->residual, a->y, a->workspace);
        return 0;
}

int V(conv_backward_data)(const struct conv_backward_data_args *a)
{
        const struct conv *c = a->conv;

        if (!c->by_winograd)
                return direct_backward_data(&c->direct, a);
        V(winograd_backward_data)(&c->winograd, a->dy, a->w, a->accumulate, a->dx, a->workspace);
        return 0;
}

int V(conv_backward_weights)(const struct conv_backward_weights_args *a)
{
        const struct conv *c = a->conv;

        if (!c->by_winograd)
                return direct_backward_weights(&c->direct, a);
        V(winograd_backward_weights)(&c->winograd, a->x, a->dy, a->accumulate, a->dw, a->db, a->workspace);
        return 0;
}
