#include "kernels/cpu/matmul.h"

#include "kernels/host.h"

static int ops_init(struct matmul *x, struct error *err)
{
        int64_t m = x->shape.m, k = x->shape.k, n = x->shape.n;
        const struct onednn *o = &x->onednn;
        dnnl_memory_desc_t mk, kn, mn, nk_w, km_x;
        int r = onednn_matrix(&mk, 0, m, k, false, err);

        r = r < 0 ? r : onednn_matrix(&kn, 0, k, n, false, err);
        r = r < 0 ? r : onednn_matrix(&mn, 0, m, n, false, err);
        r = r < 0 ? r : onednn_matrix(&nk_w, 0, n, k, true, err);
        r = r < 0 ? r : onednn_matrix(&km_x, 0, k, m, true, err);
        for (int sum = 0; sum < 2; sum++) {
                for (int bias = 0; bias < 2; bias++)
                        r = r < 0 ? r : onednn_matmul_init(&x->forward[sum][bias], o, &mk, &kn, &mn, bias, sum, 1, err);
                r = r < 0 ? r : onednn_matmul_init(&x->data[sum], o, &mn, &nk_w, &mk, false, sum, 1, err);
                r = r < 0 ? r : onednn_matmul_init(&x->weights[sum], o, &km_x, &mn, &kn, false, sum, 1, err);
        }
        for (int sum = 0; r == 0 && sum < 2; sum++) {
                for (int bias = 0; bias < 2; bias++)
                        x->scratchpad_bytes = MAX(x->scratchpad_bytes, x->forward[sum][bias].scratchpad_bytes);
                x->scratchpad_bytes = MAX(x->scratchpad_bytes, x->data[sum].scratchpad_bytes);
                x->scratchpad_bytes = MAX(x->scratchpad_bytes, x->weights[sum].scratchpad_bytes);
        }
        return r;
}

int matmul_init(struct matmul *x, const struct dense_shape *shape, struct error *err)
{
        int r;

        *x = (struct matmul){.shape = *shape};
        r = onednn_init(&x->onednn, err);
        r = r < 0 ? r : ops_init(x, err);
        if (r < 0)
                matmul_done(x);
        return r;
}

void matmul_done(struct matmul *x)
{
        for (int sum = 0; sum < 2; sum++) {
                onednn_op_done(&x->forward[sum][0]);
                onednn_op_done(&x->forward[sum][1]);
                onednn_op_done(&x->data[sum]);
                onednn_op_done(&x->weights[sum]);
        }
        onednn_done(&x->onednn);
}

size_t matmul_workspace(const struct matmul *x)
{
        return host_align(x->scratchpad_bytes);
}

int matmul_forward(const struct matmul *x, const struct dense_forward_args *a)
{
        return onednn_op_run(&x->forward[a->accumulate][a->b != NULL], &x->onednn,
                             (void *[]){(void *)a->x, (void *)a->w, a->y, (void *)a->b}, a->workspace);
}

int matmul_backward_data(const struct matmul *x, const struct dense_backward_data_args *a)
{
        return onednn_op_run(&x->data[a->accumulate], &x->onednn, (void *[]){(void *)a->dy, (void *)a->w, a->dx},
                             a->workspace);
}

int matmul_backward_weights(const struct matmul *x, const struct dense_backward_weights_args *a)
{
        return onednn_op_run(&x->weights[a->accumulate], &x->onednn, (void *[]){(void *)a->x, (void *)a->dy, a->dw},
                             a->workspace);
}
