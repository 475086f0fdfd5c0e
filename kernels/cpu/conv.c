/* 3x3 convolution by oneDNN: plain NHWC activations, weights in the layout it asks for, so they are reordered into the
 * workspace at each run (cheap beside the convolution, and they change each step). oneDNN's own layouts of activations
 * are no faster. Only its forward direction adds in place (post-op sum): a data gradient that is to be added goes to
 * the workspace first. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn.h"

#include <errno.h>
#include <string.h>

struct conv {
        struct conv_shape shape;
        int threads;
        struct onednn onednn;
        struct onednn_op forward, forward_bias, forward_sum, forward_bias_sum, data, weights, weights_bias;
        struct onednn_op reorder_forward, reorder_data, reorder_weights, reorder_weights_bias;
        /* parts of the workspace: scratchpad, weights in oneDNN's layout, data gradient to be added */
        size_t scratchpad_bytes, weights_bytes, dx_bytes;
};

struct layouts {
        dnnl_memory_desc_t x, y, bias, w, w_any; /* w: as published, HWIO */
};

static int layouts_init(struct layouts *l, const struct conv_shape *s, struct error *err)
{
        dnnl_dims_t x = {s->n_images, s->c_in, s->height, s->width}, y = {s->n_images, s->c_out, s->height, s->width};
        dnnl_dims_t w = {s->c_out, s->c_in, 3, 3}, b = {s->c_out};
        int r = onednn_try(dnnl_memory_desc_init_by_tag(&l->x, 4, x, dnnl_f32, dnnl_nhwc), "layout of x", err);

        if (r == 0)
                r = onednn_try(dnnl_memory_desc_init_by_tag(&l->y, 4, y, dnnl_f32, dnnl_nhwc), "layout of y", err);
        if (r == 0)
                r = onednn_try(dnnl_memory_desc_init_by_tag(&l->bias, 1, b, dnnl_f32, dnnl_x), "layout of b", err);
        if (r == 0)
                r = onednn_try(dnnl_memory_desc_init_by_tag(&l->w, 4, w, dnnl_f32, dnnl_hwio), "layout of w", err);
        if (r == 0)
                r = onednn_try(dnnl_memory_desc_init_by_tag(&l->w_any, 4, w, dnnl_f32, dnnl_format_tag_any),
                               "layout of w", err);
        return r;
}

static const dnnl_dims_t ones = {1, 1};

static int forward_init(struct conv *c, struct onednn_op *op, const struct layouts *l, bool bias, bool sum,
                        struct error *err)
{
        int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, bias ? DNNL_ARG_BIAS : 0, 0};
        dnnl_convolution_desc_t desc;
        int r = onednn_try(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, dnnl_convolution_direct,
                                                              &l->x, &l->w_any, bias ? &l->bias : NULL, &l->y, ones,
                                                              ones, ones),
                           "dnnl_convolution_forward_desc_init", err);

        return r < 0 ? r : onednn_op_init(op, &c->onednn, &desc, NULL, sum, 1, args, err);
}

static const_dnnl_primitive_desc_t descriptor_of(const struct onednn_op *op)
{
        const_dnnl_primitive_desc_t pd = NULL;

        (void)dnnl_primitive_get_primitive_desc(op->primitive, &pd);
        return pd;
}

static int data_init(struct conv *c, const struct layouts *l, struct error *err)
{
        dnnl_convolution_desc_t desc;
        int r = onednn_try(dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &l->x, &l->w_any,
                                                                    &l->y, ones, ones, ones),
                           "dnnl_convolution_backward_data_desc_init", err);

        return r < 0 ? r
                     : onednn_op_init(&c->data, &c->onednn, &desc, descriptor_of(&c->forward), false, 1,
                                      (const int[]){DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC, 0}, err);
}

static int weights_init(struct conv *c, struct onednn_op *op, const struct layouts *l, bool bias, struct error *err)
{
        int args[] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, bias ? DNNL_ARG_DIFF_BIAS : 0, 0};
        dnnl_convolution_desc_t desc;
        int r = onednn_try(dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &l->x, &l->w_any,
                                                                       bias ? &l->bias : NULL, &l->y, ones, ones, ones),
                           "dnnl_convolution_backward_weights_desc_init", err);

        return r < 0 ? r : onednn_op_init(op, &c->onednn, &desc, descriptor_of(&c->forward), false, 1, args, err);
}

static int reorders_init(struct conv *c, const struct layouts *l, struct error *err)
{
        const dnnl_memory_desc_t *forward = onednn_op_layout(&c->forward, DNNL_ARG_WEIGHTS);
        const dnnl_memory_desc_t *data = onednn_op_layout(&c->data, DNNL_ARG_WEIGHTS);
        const dnnl_memory_desc_t *dw = onednn_op_layout(&c->weights, DNNL_ARG_DIFF_WEIGHTS);
        const dnnl_memory_desc_t *dw_bias = onednn_op_layout(&c->weights_bias, DNNL_ARG_DIFF_WEIGHTS);
        int r = onednn_reorder_init(&c->reorder_forward, &c->onednn, &l->w, forward, err);

        if (r == 0)
                r = onednn_reorder_init(&c->reorder_data, &c->onednn, &l->w, data, err);
        if (r == 0)
                r = onednn_reorder_init(&c->reorder_weights, &c->onednn, dw, &l->w, err);
        if (r == 0)
                r = onednn_reorder_init(&c->reorder_weights_bias, &c->onednn, dw_bias, &l->w, err);
        if (r < 0)
                return r;
        for (int i = 0; i < 3; i++)
                if (!dnnl_memory_desc_equal(forward,
                                            onednn_op_layout((struct onednn_op *[]){&c->forward_bias, &c->forward_sum,
                                                                                    &c->forward_bias_sum}[i],
                                                             DNNL_ARG_WEIGHTS)))
                        return error_set(err, -EIO, "conv", "oneDNN's layouts of weights differ by post-op");
        c->weights_bytes = host_align(MAX(MAX(dnnl_memory_desc_get_size(forward), dnnl_memory_desc_get_size(data)),
                                          MAX(dnnl_memory_desc_get_size(dw), dnnl_memory_desc_get_size(dw_bias))));
        return 0;
}

static int ops_init(struct conv *c, struct error *err)
{
        const struct onednn_op *ops[] = {
                &c->forward,      &c->forward_bias,    &c->forward_sum,         &c->forward_bias_sum,
                &c->data,         &c->weights,         &c->weights_bias,        &c->reorder_forward,
                &c->reorder_data, &c->reorder_weights, &c->reorder_weights_bias};
        struct layouts l;
        int r = layouts_init(&l, &c->shape, err);

        if (r == 0)
                r = forward_init(c, &c->forward, &l, false, false, err);
        if (r == 0)
                r = forward_init(c, &c->forward_bias, &l, true, false, err);
        if (r == 0)
                r = forward_init(c, &c->forward_sum, &l, false, true, err);
        if (r == 0)
                r = forward_init(c, &c->forward_bias_sum, &l, true, true, err);
        if (r == 0)
                r = data_init(c, &l, err);
        if (r == 0)
                r = weights_init(c, &c->weights, &l, false, err);
        if (r == 0)
                r = weights_init(c, &c->weights_bias, &l, true, err);
        if (r == 0)
                r = reorders_init(c, &l, err);
        for (size_t i = 0; r == 0 && i < ARRAY_LEN(ops); i++)
                c->scratchpad_bytes = MAX(c->scratchpad_bytes, host_align(ops[i]->scratchpad_bytes));
        return r;
}

int cpu_conv_new(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err)
{
        int64_t sizes[] = {9, shape->n_images, shape->height, shape->width, shape->c_in, shape->c_out};
        struct conv *c;
        int r;

        r = host_check_shape("conv", shape->type, sizes, ARRAY_LEN(sizes), err);
        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        c->shape = *shape;
        c->threads = d->threads;
        c->dx_bytes =
                host_align(sizeof(float) * (size_t)(shape->n_images * shape->height * shape->width * shape->c_in));
        r = onednn_init(&c->onednn, err);
        if (r == 0)
                r = ops_init(c, err);
        if (r < 0) {
                (void)cpu_conv_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

struct conv *cpu_conv_free(struct conv *c)
{
        if (!c)
                return NULL;
        onednn_op_done(&c->forward);
        onednn_op_done(&c->forward_bias);
        onednn_op_done(&c->forward_sum);
        onednn_op_done(&c->forward_bias_sum);
        onednn_op_done(&c->data);
        onednn_op_done(&c->weights);
        onednn_op_done(&c->weights_bias);
        onednn_op_done(&c->reorder_forward);
        onednn_op_done(&c->reorder_data);
        onednn_op_done(&c->reorder_weights);
        onednn_op_done(&c->reorder_weights_bias);
        onednn_done(&c->onednn);
        free(c);
        return NULL;
}

size_t cpu_conv_workspace(const struct conv *c)
{
        return c->scratchpad_bytes + c->weights_bytes + c->dx_bytes;
}

/* y += x, in equal parts */
static void add_to(float *y, const float *x, int64_t n)
{
#pragma omp parallel for simd schedule(static)
        for (int64_t i = 0; i < n; i++)
                y[i] += x[i];
}

static void copy(float *y, const float *x, int64_t n)
{
#pragma omp parallel for simd schedule(static)
        for (int64_t i = 0; i < n; i++)
                y[i] = x[i];
}

int cpu_conv_forward(const struct conv_forward_args *a)
{
        const struct conv *c = a->conv;
        const struct conv_shape *s = &c->shape;
        char *weights = (char *)a->workspace + c->scratchpad_bytes;
        const struct onednn_op *op = a->residual ? a->b ? &c->forward_bias_sum : &c->forward_sum
                                     : a->b      ? &c->forward_bias
                                                 : &c->forward;
        int r = onednn_op_run(&c->reorder_forward, &c->onednn, (void *[]){(void *)a->w, weights}, a->workspace);

        if (r == 0 && a->residual && a->residual != a->y)
                copy(a->y, a->residual, s->n_images * s->height * s->width * s->c_out);
        if (r == 0)
                r = onednn_op_run(op, &c->onednn, (void *[]){(void *)a->x, weights, a->y, (void *)a->b}, a->workspace);
        return r;
}

int cpu_conv_backward_data(const struct conv_backward_data_args *a)
{
        const struct conv *c = a->conv;
        const struct conv_shape *s = &c->shape;
        char *weights = (char *)a->workspace + c->scratchpad_bytes;
        void *dx = a->accumulate ? weights + c->weights_bytes : a->dx;
        int r = onednn_op_run(&c->reorder_data, &c->onednn, (void *[]){(void *)a->w, weights}, a->workspace);

        if (r == 0)
                r = onednn_op_run(&c->data, &c->onednn, (void *[]){(void *)a->dy, weights, dx}, a->workspace);
        if (r == 0 && a->accumulate)
                add_to(a->dx, dx, s->n_images * s->height * s->width * s->c_in);
        return r;
}

int cpu_conv_backward_weights(const struct conv_backward_weights_args *a)
{
        const struct conv *c = a->conv;
        char *dw = (char *)a->workspace + c->scratchpad_bytes;
        int r = onednn_op_run(a->db ? &c->weights_bias : &c->weights, &c->onednn,
                              (void *[]){(void *)a->x, (void *)a->dy, dw, a->db}, a->workspace);

        if (r == 0)
                r = onednn_op_run(a->db ? &c->reorder_weights_bias : &c->reorder_weights, &c->onednn,
                                  (void *[]){dw, a->dw}, a->workspace);
        return r;
}
