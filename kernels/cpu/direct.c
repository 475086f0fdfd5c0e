/* 3x3 convolution by oneDNN: plain NHWC activations, weights in the layout it asks for, so they are reordered into the
 * workspace at each run (cheap beside the convolution, and they change each step). oneDNN's own layouts of activations
 * are no faster.
 *
 * The data gradient of a 3x3 convolution with stride 1 and padding 1 is such a convolution itself, of dy with the taps
 * turned by half a turn and input and output channels exchanged. oneDNN's forward direction is 15 % faster than its
 * backward data, and it adds in place (post-op sum), which backward data cannot. */
#include "kernels/cpu/direct.h"

#include "kernels/host.h"

#include <string.h>

struct layouts {
        dnnl_memory_desc_t x, y, bias;
        dnnl_memory_desc_t w, w_any; /* as published, HWIO; as oneDNN likes it */
        dnnl_memory_desc_t dw_any;
        dnnl_memory_desc_t turned, turned_any; /* c_in outputs of c_out inputs, where w is once its taps are turned */
};

static int layouts_init(struct layouts *l, const struct conv_shape *s, bool in_bf16, struct error *err)
{
        dnnl_dims_t x = {s->n_images, s->c_in, s->height, s->width}, y = {s->n_images, s->c_out, s->height, s->width};
        dnnl_dims_t w = {s->c_out, s->c_in, 3, 3}, turned = {s->c_in, s->c_out, 3, 3}, b = {s->c_out};
        dnnl_dims_t strides = {s->c_out, 1, 3 * s->c_in * s->c_out, s->c_in * s->c_out};
        dnnl_data_type_t type = in_bf16 ? dnnl_bf16 : dnnl_f32;
        dnnl_status_t r = dnnl_memory_desc_init_by_tag(&l->x, 4, x, type, dnnl_nhwc);

        if (r == dnnl_success)
                r = dnnl_memory_desc_init_by_tag(&l->y, 4, y, type, dnnl_nhwc);
        if (r == dnnl_success)
                r = dnnl_memory_desc_init_by_tag(&l->bias, 1, b, dnnl_f32, dnnl_x);
        if (r == dnnl_success)
                r = dnnl_memory_desc_init_by_tag(&l->w, 4, w, dnnl_f32, dnnl_hwio);
        if (r == dnnl_success)
                r = dnnl_memory_desc_init_by_tag(&l->w_any, 4, w, type, dnnl_format_tag_any);
        if (r == dnnl_success) /* gradients of weights are float32 always */
                r = dnnl_memory_desc_init_by_tag(&l->dw_any, 4, w, dnnl_f32, dnnl_format_tag_any);
        if (r == dnnl_success)
                r = dnnl_memory_desc_init_by_strides(&l->turned, 4, turned, dnnl_f32, strides);
        if (r == dnnl_success)
                r = dnnl_memory_desc_init_by_tag(&l->turned_any, 4, turned, type, dnnl_format_tag_any);
        return onednn_try(r, "dnnl_memory_desc_init", err);
}

static const dnnl_dims_t ones = {1, 1};

/* to = conv(from; w), with the reorder of w to what the convolution asks for */
static int forward_init(struct direct *c, struct onednn_op *op, struct onednn_op *reorder,
                        const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *w, const dnnl_memory_desc_t *w_any,
                        const dnnl_memory_desc_t *bias, const dnnl_memory_desc_t *to, bool sum, struct error *err)
{
        int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, bias ? DNNL_ARG_BIAS : 0, 0};
        dnnl_convolution_desc_t desc;
        int r = onednn_try(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, dnnl_convolution_direct,
                                                              from, w_any, bias, to, ones, ones, ones),
                           "dnnl_convolution_forward_desc_init", err);

        r = r < 0 ? r : onednn_op_init(op, &c->onednn, &desc, NULL, sum, 1, args, err);
        return r < 0 ? r
                     : onednn_reorder_init(reorder, &c->onednn, w, onednn_op_layout(op, DNNL_ARG_WEIGHTS), false, err);
}

static int weights_init(struct direct *c, const struct layouts *l, bool bias, struct error *err)
{
        int args[] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, bias ? DNNL_ARG_DIFF_BIAS : 0, 0};
        struct onednn_op *op = &c->weights[bias];
        const_dnnl_primitive_desc_t hint = NULL;
        dnnl_convolution_desc_t desc;
        int r = onednn_try(dnnl_primitive_get_primitive_desc(c->forward[0][0].primitive, &hint),
                           "dnnl_primitive_get_primitive_desc", err);

        if (r == 0)
                r = onednn_try(dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &l->x,
                                                                           &l->dw_any, bias ? &l->bias : NULL, &l->y,
                                                                           ones, ones, ones),
                               "dnnl_convolution_backward_weights_desc_init", err);
        r = r < 0 ? r : onednn_op_init(op, &c->onednn, &desc, hint, false, 1, args, err);
        for (int sum = 0; sum < 2; sum++)
                r = r < 0 ? r
                          : onednn_reorder_init(&c->reorder_weights[bias][sum], &c->onednn,
                                                onednn_op_layout(op, DNNL_ARG_DIFF_WEIGHTS), &l->w, sum, err);
        return r;
}

/* The workspace holds what the largest of them needs. */
static void count(struct direct *c, const struct onednn_op *op, int weights_arg, const struct onednn_op *reorder)
{
        c->scratchpad_bytes = MAX(c->scratchpad_bytes, host_align(op->scratchpad_bytes));
        c->scratchpad_bytes = MAX(c->scratchpad_bytes, host_align(reorder->scratchpad_bytes));
        c->weights_bytes =
                MAX(c->weights_bytes, host_align(dnnl_memory_desc_get_size(onednn_op_layout(op, weights_arg))));
}

static int forward_ops_init(struct direct *c, const struct layouts *l, struct error *err)
{
        int r = 0;

        for (int sum = 0; r == 0 && sum < 2; sum++)
                for (int bias = 0; r == 0 && bias < 2; bias++) {
                        r = forward_init(c, &c->forward[sum][bias], &c->reorder_forward[sum][bias], &l->x, &l->w,
                                         &l->w_any, bias ? &l->bias : NULL, &l->y, sum, err);
                        if (r == 0)
                                count(c, &c->forward[sum][bias], DNNL_ARG_WEIGHTS, &c->reorder_forward[sum][bias]);
                }
        return r;
}

static int data_ops_init(struct direct *c, const struct layouts *l, struct error *err)
{
        int r = 0;

        for (int sum = 0; r == 0 && sum < 2; sum++) {
                r = forward_init(c, &c->data[sum], &c->reorder_data[sum], &l->y, &l->turned, &l->turned_any, NULL,
                                 &l->x, sum, err);
                if (r == 0)
                        count(c, &c->data[sum], DNNL_ARG_WEIGHTS, &c->reorder_data[sum]);
        }
        return r;
}

static int weights_ops_init(struct direct *c, const struct layouts *l, struct error *err)
{
        int r = 0;

        for (int bias = 0; r == 0 && bias < 2; bias++) {
                r = weights_init(c, l, bias, err);
                for (int sum = 0; r == 0 && sum < 2; sum++)
                        count(c, &c->weights[bias], DNNL_ARG_DIFF_WEIGHTS, &c->reorder_weights[bias][sum]);
        }
        return r;
}

int direct_init(struct direct *c, const struct conv_shape *shape, bool in_bf16, bool forward, bool data, bool weights,
                struct error *err)
{
        struct layouts l;
        int r;

        *c = (struct direct){.shape = *shape, .in_bf16 = in_bf16};
        c->bias_bytes = host_align(sizeof(float) * (size_t)shape->c_out);
        c->turned_bytes = data ? host_align(sizeof(float) * (size_t)(9 * shape->c_in * shape->c_out)) : 0;
        r = onednn_init(&c->onednn, err);
        r = r < 0 ? r : layouts_init(&l, shape, in_bf16, err);
        if (r == 0 && (forward || weights)) /* backward weights asks for its forward */
                r = forward_ops_init(c, &l, err);
        if (r == 0 && data)
                r = data_ops_init(c, &l, err);
        if (r == 0 && weights)
                r = weights_ops_init(c, &l, err);
        if (r < 0)
                direct_done(c);
        return r;
}

void direct_done(struct direct *c)
{
        for (int i = 0; i < 2; i++) {
                for (int j = 0; j < 2; j++) {
                        onednn_op_done(&c->forward[i][j]);
                        onednn_op_done(&c->reorder_forward[i][j]);
                        onednn_op_done(&c->reorder_weights[i][j]);
                }
                onednn_op_done(&c->data[i]);
                onednn_op_done(&c->weights[i]);
                onednn_op_done(&c->reorder_data[i]);
        }
        onednn_done(&c->onednn);
}

size_t direct_workspace(const struct direct *c)
{
        return c->scratchpad_bytes + c->weights_bytes + c->turned_bytes + c->bias_bytes;
}

static void copy(const struct direct *c, void *y, const void *x)
{
        const struct conv_shape *s = &c->shape;
        size_t row = (size_t)(s->width * s->c_out) * (c->in_bf16 ? sizeof(uint16_t) : sizeof(float));

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < s->n_images * s->height; i++)
                memcpy((char *)y + (size_t)i * row, (const char *)x + (size_t)i * row, row);
}

int direct_forward(const struct direct *c, const struct conv_forward_args *a)
{
        char *weights = (char *)a->workspace + c->scratchpad_bytes;
        bool sum = a->residual, bias = a->b;
        int r = onednn_op_run(&c->reorder_forward[sum][bias], &c->onednn, (void *[]){(void *)a->w, weights},
                              a->workspace);

        if (r == 0 && a->residual && a->residual != a->y)
                copy(c, a->y, a->residual);
        if (r == 0)
                r = onednn_op_run(&c->forward[sum][bias], &c->onednn,
                                  (void *[]){(void *)a->x, weights, a->y, (void *)a->b}, a->workspace);
        return r;
}

int direct_backward_data(const struct direct *c, const struct conv_backward_data_args *a)
{
        char *weights = (char *)a->workspace + c->scratchpad_bytes;
        float *turned = (float *)(weights + c->weights_bytes);
        size_t tap = (size_t)(c->shape.c_in * c->shape.c_out);
        int r;

#pragma omp parallel for schedule(static)
        for (int k = 0; k < 9; k++)
                memcpy(turned + (size_t)(8 - k) * tap, a->w + (size_t)k * tap, tap * sizeof(float));
        r = onednn_op_run(&c->reorder_data[a->accumulate], &c->onednn, (void *[]){turned, weights}, a->workspace);
        if (r == 0)
                r = onednn_op_run(&c->data[a->accumulate], &c->onednn, (void *[]){(void *)a->dy, weights, a->dx},
                                  a->workspace);
        return r;
}

int direct_backward_weights(const struct direct *c, const struct conv_backward_weights_args *a)
{
        char *dw = (char *)a->workspace + c->scratchpad_bytes;
        float *part = (float *)(dw + c->weights_bytes + c->turned_bytes), *db = a->accumulate ? part : a->db;
        bool bias = a->db;
        int r = onednn_op_run(&c->weights[bias], &c->onednn, (void *[]){(void *)a->x, (void *)a->dy, dw, db},
                              a->workspace);

        for (int64_t i = 0; r == 0 && bias && a->accumulate && i < c->shape.c_out; i++)
                a->db[i] += db[i];
        if (r == 0)
                r = onednn_op_run(&c->reorder_weights[bias][a->accumulate], &c->onednn, (void *[]){dw, a->dw},
                                  a->workspace);
        return r;
}
