#include "kernels/cpu/onednn.h"

#include <errno.h>
#include <string.h>

int onednn_try(dnnl_status_t status, const char *what, struct error *err)
{
        int code = status == dnnl_out_of_memory ? -ENOMEM : status == dnnl_unimplemented ? -ENOTSUP : -EIO;

        if (status == dnnl_success)
                return 0;
        return error_set(err, code, what, "oneDNN failed with status %d", (int)status);
}

int onednn_init(struct onednn *o, struct error *err)
{
        int r = onednn_try(dnnl_engine_create(&o->engine, dnnl_cpu, 0), "dnnl_engine_create", err);

        if (r < 0)
                return r;
        return onednn_try(dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags), "dnnl_stream_create",
                          err);
}

void onednn_done(struct onednn *o)
{
        if (o->stream)
                (void)dnnl_stream_destroy(o->stream);
        if (o->engine)
                (void)dnnl_engine_destroy(o->engine);
        *o = (struct onednn){0};
}

/* Memories without data for each operand, laid out as the primitive has them. */
static int add_memories(struct onednn_op *op, const struct onednn *o, const_dnnl_primitive_desc_t pd, const int *args,
                        struct error *err)
{
        const dnnl_memory_desc_t *scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        int r;

        op->scratchpad_bytes = dnnl_memory_desc_get_size(scratchpad);
        for (int i = 0;; i++) {
                bool last = args[i] == 0;
                const dnnl_memory_desc_t *md =
                        last ? scratchpad : dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, args[i]);

                if (!md)
                        return error_set(err, -EIO, "dnnl_primitive_desc_query_md", "no layout for argument %d",
                                         args[i]);
                r = onednn_try(dnnl_memory_create(&op->memories[i], md, o->engine, DNNL_MEMORY_NONE),
                               "dnnl_memory_create", err);
                if (r < 0)
                        return r;
                op->args[i] = last ? DNNL_ARG_SCRATCHPAD : args[i];
                op->n_args++;
                if (last)
                        return 0;
        }
}

static int op_finish(struct onednn_op *op, const struct onednn *o, dnnl_primitive_desc_t pd, const int *args,
                     struct error *err)
{
        int r = onednn_try(dnnl_primitive_create(&op->primitive, pd), "dnnl_primitive_create", err);

        if (r == 0)
                r = add_memories(op, o, pd, args, err);
        (void)dnnl_primitive_desc_destroy(pd);
        return r;
}

/* The workspace is handed in with each run, so that nothing is allocated then. */
static int attributes(bool accumulate, float scale, dnnl_primitive_attr_t *ret, struct error *err)
{
        dnnl_primitive_attr_t attr = NULL;
        dnnl_post_ops_t ops = NULL;
        dnnl_status_t s = dnnl_primitive_attr_create(&attr);

        if (s == dnnl_success)
                s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
        if (s == dnnl_success && scale != 1.0f)
                s = dnnl_primitive_attr_set_output_scales(attr, 1, 0, &scale);
        if (s == dnnl_success && accumulate) {
                s = dnnl_post_ops_create(&ops);
                if (s == dnnl_success)
                        s = dnnl_post_ops_append_sum(ops, 1.0f);
                if (s == dnnl_success)
                        s = dnnl_primitive_attr_set_post_ops(attr, ops);
                if (ops)
                        (void)dnnl_post_ops_destroy(ops);
        }
        if (s == dnnl_success)
                *ret = attr;
        else if (attr)
                (void)dnnl_primitive_attr_destroy(attr);
        return onednn_try(s, "dnnl_primitive_attr", err);
}

int onednn_op_init(struct onednn_op *op, const struct onednn *o, const_dnnl_op_desc_t desc,
                   const_dnnl_primitive_desc_t hint, bool accumulate, float scale, const int *args, struct error *err)
{
        dnnl_primitive_desc_t pd = NULL;
        dnnl_primitive_attr_t attr = NULL;
        int r = attributes(accumulate, scale, &attr, err);

        if (r < 0)
                return r;
        r = onednn_try(dnnl_primitive_desc_create(&pd, desc, attr, o->engine, hint), "dnnl_primitive_desc_create", err);
        (void)dnnl_primitive_attr_destroy(attr);
        return r < 0 ? r : op_finish(op, o, pd, args, err);
}

int onednn_reorder_init(struct onednn_op *op, const struct onednn *o, const dnnl_memory_desc_t *from,
                        const dnnl_memory_desc_t *to, bool accumulate, struct error *err)
{
        dnnl_primitive_desc_t pd = NULL;
        dnnl_primitive_attr_t attr = NULL;
        int r = attributes(accumulate, 1, &attr, err);

        if (r < 0)
                return r;
        r = onednn_try(dnnl_reorder_primitive_desc_create(&pd, from, o->engine, to, o->engine, attr),
                       "dnnl_reorder_primitive_desc_create", err);
        (void)dnnl_primitive_attr_destroy(attr);
        return r < 0 ? r : op_finish(op, o, pd, (const int[]){DNNL_ARG_FROM, DNNL_ARG_TO, 0}, err);
}

void onednn_op_done(struct onednn_op *op)
{
        for (int i = 0; i < ONEDNN_MAX_ARGS; i++)
                if (op->memories[i])
                        (void)dnnl_memory_destroy(op->memories[i]);
        if (op->primitive)
                (void)dnnl_primitive_destroy(op->primitive);
        *op = (struct onednn_op){0};
}

int onednn_op_run(const struct onednn_op *op, const struct onednn *o, void *const *pointers, void *scratchpad)
{
        dnnl_exec_arg_t args[ONEDNN_MAX_ARGS];
        int r = 0;

        for (int i = 0; r == 0 && i < op->n_args; i++) {
                void *p = i < op->n_args - 1 ? pointers[i] : scratchpad;

                r = onednn_try(dnnl_memory_set_data_handle(op->memories[i], p), "dnnl_memory_set_data_handle", NULL);
                args[i] = (dnnl_exec_arg_t){op->args[i], op->memories[i]};
        }
        if (r == 0)
                r = onednn_try(dnnl_primitive_execute(op->primitive, o->stream, op->n_args, args), "dnnl_execute",
                               NULL);
        return r;
}

const dnnl_memory_desc_t *onednn_op_layout(const struct onednn_op *op, int arg)
{
        const_dnnl_primitive_desc_t pd;

        if (dnnl_primitive_get_primitive_desc(op->primitive, &pd) != dnnl_success)
                return NULL;
        return dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arg);
}

int onednn_matrix(dnnl_memory_desc_t *ret, int64_t batch, int64_t rows, int64_t columns, bool transposed,
                  struct error *err)
{
        dnnl_dims_t dims = {batch, rows, columns}, strides = {rows * columns, columns, 1};
        int skip = batch == 0;

        if (transposed) {
                strides[1] = 1;
                strides[2] = rows;
        }
        return onednn_try(dnnl_memory_desc_init_by_strides(ret, 3 - skip, dims + skip, dnnl_f32, strides + skip),
                          "dnnl_memory_desc_init_by_strides", err);
}

int onednn_matmul_init(struct onednn_op *op, const struct onednn *o, const dnnl_memory_desc_t *a,
                       const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *c, bool bias, bool accumulate,
                       float scale, struct error *err)
{
        int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, bias ? DNNL_ARG_BIAS : 0, 0};
        dnnl_memory_desc_t bias_layout;
        dnnl_matmul_desc_t desc;
        int r = onednn_matrix(&bias_layout, 0, 1, c->dims[c->ndims - 1], false, err);

        if (r == 0)
                r = onednn_try(dnnl_matmul_desc_init(&desc, a, b, bias ? &bias_layout : NULL, c),
                               "dnnl_matmul_desc_init", err);
        return r < 0 ? r : onednn_op_init(op, o, &desc, NULL, accumulate, scale, args, err);
}
