/* y = x w + b by oneDNN's products. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn.h"

#include <errno.h>

struct dense {
        struct dense_shape shape;
        int threads;
        struct onednn onednn;
        /* [accumulate][bias], [accumulate], [accumulate] */
        struct onednn_op forward[2][2], data[2], weights[2];
        size_t scratchpad_bytes;
};

static int ops_init(struct dense *x, struct error *err)
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

int cpu_dense_new(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err)
{
        struct dense *x;
        int r;

        host_enter(d);
        r = host_check_dense(d, shape, false, err);
        if (r < 0)
                return r;
        x = calloc(1, sizeof(*x));
        if (!x)
                return error_set(err, -ENOMEM, "", "out of memory");
        x->shape = *shape;
        x->threads = d->threads;
        r = onednn_init(&x->onednn, err);
        if (r == 0)
                r = ops_init(x, err);
        if (r < 0) {
                (void)cpu_dense_free(x);
                return r;
        }
        *ret = x;
        return 0;
}

struct dense *cpu_dense_free(struct dense *x)
{
        if (!x)
                return NULL;
        for (int sum = 0; sum < 2; sum++) {
                onednn_op_done(&x->forward[sum][0]);
                onednn_op_done(&x->forward[sum][1]);
                onednn_op_done(&x->data[sum]);
                onednn_op_done(&x->weights[sum]);
        }
        onednn_done(&x->onednn);
        free(x);
        return NULL;
}

/* The scratchpad; partial sums of db, one row a thread. */
size_t cpu_dense_workspace(const struct dense *x)
{
        return host_align(x->scratchpad_bytes) + sizeof(double) * (size_t)(x->shape.n * x->threads);
}

int cpu_dense_forward(const struct dense_forward_args *a)
{
        return onednn_op_run(&a->dense->forward[a->accumulate][a->b != NULL], &a->dense->onednn,
                             (void *[]){(void *)a->x, (void *)a->w, a->y, (void *)a->b}, a->workspace);
}

int cpu_dense_backward_data(const struct dense_backward_data_args *a)
{
        return onednn_op_run(&a->dense->data[a->accumulate], &a->dense->onednn,
                             (void *[]){(void *)a->dy, (void *)a->w, a->dx}, a->workspace);
}

/* db: sums of the columns of dy, a block of rows a thread, then over the threads in order */
static void bias_gradient(const struct dense_backward_weights_args *a)
{
        int64_t m = a->dense->shape.m, n = a->dense->shape.n, parts = a->dense->threads;
        double *partial = (double *)((char *)a->workspace + host_align(a->dense->scratchpad_bytes));

#pragma omp parallel for schedule(static)
        for (int64_t p = 0; p < parts; p++) {
                double *sum = partial + p * n;

                for (int64_t j = 0; j < n; j++)
                        sum[j] = 0;
                for (int64_t i = m * p / parts; i < m * (p + 1) / parts; i++)
                        for (int64_t j = 0; j < n; j++)
                                sum[j] += ((const float *)a->dy)[i * n + j];
        }
        for (int64_t j = 0; j < n; j++) {
                double sum = 0;

                for (int64_t p = 0; p < parts; p++)
                        sum += partial[p * n + j];
                a->db[j] = (float)(a->accumulate ? a->db[j] + sum : sum);
        }
}

int cpu_dense_backward_weights(const struct dense_backward_weights_args *a)
{
        if (a->db)
                bias_gradient(a);
        return onednn_op_run(&a->dense->weights[a->accumulate], &a->dense->onednn,
                             (void *[]){(void *)a->x, (void *)a->dy, a->dw}, a->workspace);
}
