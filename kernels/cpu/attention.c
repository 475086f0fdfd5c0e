/* o = softmax(q k^T / sqrt(c)) v: products by oneDNN, an image at a time, so that its scores stay in the cache between
 * product and softmax. The probabilities are kept for backward (4 MiB an image of 1024 pixels). Spec 1; the backward
 * formulas are reference/attention.c's. */
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/vector.h"

#include <errno.h>
#include <math.h>

struct attention {
        struct attention_shape shape;
        struct onednn onednn;
        struct onednn_op scores, out;          /* q k^T / sqrt(c), p v */
        struct onednn_op d_scores, dq, dk, dv; /* do v^T, ds k, ds^T q, p^T do */
        size_t scratchpad_bytes;
};

static int ops_init(struct attention *a, struct error *err)
{
        int64_t pixels = a->shape.pixels, c = a->shape.c;
        const struct onednn *o = &a->onednn;
        float scale = (float)(1 / sqrt((double)c));
        dnnl_memory_desc_t x, x_t, p, p_t; /* [pixels, c], [pixels, pixels] and their transposes */
        struct onednn_op *ops[] = {&a->scores, &a->out, &a->d_scores, &a->dq, &a->dk, &a->dv};
        int r = onednn_matrix(&x, 0, pixels, c, false, err);

        r = r < 0 ? r : onednn_matrix(&x_t, 0, c, pixels, true, err);
        r = r < 0 ? r : onednn_matrix(&p, 0, pixels, pixels, false, err);
        r = r < 0 ? r : onednn_matrix(&p_t, 0, pixels, pixels, true, err);
        r = r < 0 ? r : onednn_matmul_init(&a->scores, o, &x, &x_t, &p, false, false, scale, err);
        r = r < 0 ? r : onednn_matmul_init(&a->out, o, &p, &x, &x, false, false, 1, err);
        r = r < 0 ? r : onednn_matmul_init(&a->d_scores, o, &x, &x_t, &p, false, false, 1, err);
        r = r < 0 ? r : onednn_matmul_init(&a->dq, o, &p, &x, &x, false, false, scale, err);
        r = r < 0 ? r : onednn_matmul_init(&a->dk, o, &p_t, &x, &x, false, false, scale, err);
        r = r < 0 ? r : onednn_matmul_init(&a->dv, o, &p_t, &x, &x, false, false, 1, err);
        for (size_t i = 0; r == 0 && i < ARRAY_LEN(ops); i++)
                a->scratchpad_bytes = MAX(a->scratchpad_bytes, host_align(ops[i]->scratchpad_bytes));
        return r;
}

int V(attention_new)(struct device *d, const struct attention_shape *shape, struct attention **ret, struct error *err)
{
        struct attention *a;
        int r;

        host_enter(d);
        r = host_check_attention(d, shape, false, err);
        if (r < 0)
                return r;
        a = calloc(1, sizeof(*a));
        if (!a)
                return error_set(err, -ENOMEM, "", "out of memory");
        a->shape = *shape;
        r = onednn_init(&a->onednn, err);
        if (r == 0)
                r = ops_init(a, err);
        if (r < 0) {
                (void)V(attention_free)(a);
                return r;
        }
        *ret = a;
        return 0;
}

struct attention *V(attention_free)(struct attention *a)
{
        if (!a)
                return NULL;
        onednn_op_done(&a->scores);
        onednn_op_done(&a->out);
        onednn_op_done(&a->d_scores);
        onednn_op_done(&a->dq);
        onednn_op_done(&a->dk);
        onednn_op_done(&a->dv);
        onednn_done(&a->onednn);
        free(a);
        return NULL;
}

/* The scratchpad and one image's scores. */
size_t V(attention_workspace)(const struct attention *a)
{
        return a->scratchpad_bytes + sizeof(float) * (size_t)(a->shape.pixels * a->shape.pixels);
}

size_t V(attention_saved)(const struct attention *a)
{
        return sizeof(float) * (size_t)(a->shape.n_images * a->shape.pixels * a->shape.pixels);
}

/* In place. */
static void softmax_row(float *x, int64_t n)
{
        float max = x[0], sum = 0;

#pragma omp simd reduction(max : max)
        for (int64_t j = 0; j < n; j++)
                max = x[j] > max ? x[j] : max;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) {
                x[j] = fast_expf(x[j] - max);
                sum += x[j];
        }
        sum = 1 / sum;
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
                x[j] *= sum;
}

int V(attention_forward)(const struct attention_forward_args *args)
{
        struct attention *a = args->attention;
        int64_t pixels = a->shape.pixels, c = a->shape.c;
        int r = 0;

        for (int64_t image = 0; r == 0 && image < a->shape.n_images; image++) {
                const float *q = (const float *)args->q + image * pixels * c;
                const float *k = (const float *)args->k + image * pixels * c;
                const float *v = (const float *)args->v + image * pixels * c;
                float *o = (float *)args->o + image * pixels * c;
                float *p = args->saved ? (float *)args->saved + image * pixels * pixels
                                       : (float *)((char *)args->workspace + a->scratchpad_bytes);

                r = onednn_op_run(&a->scores, &a->onednn, (void *[]){(void *)q, (void *)k, p}, args->workspace);
#pragma omp parallel for schedule(static)
                for (int64_t i = 0; i < pixels; i++)
                        softmax_row(p + i * pixels, pixels);
                if (r == 0)
                        r = onednn_op_run(&a->out, &a->onednn, (void *[]){p, (void *)v, o}, args->workspace);
        }
        return r;
}

/* ds = p (dp - sum(dp p)), in place of dp */
static void softmax_row_backward(const float *restrict p, float *restrict dp, int64_t n)
{
        float sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++)
                sum += dp[j] * p[j];
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
                dp[j] = p[j] * (dp[j] - sum);
}

int V(attention_backward)(const struct attention_backward_args *args)
{
        struct attention *a = args->attention;
        const struct onednn *o = &a->onednn;
        int64_t pixels = a->shape.pixels, size = pixels * a->shape.c;
        float *ds = (float *)((char *)args->workspace + a->scratchpad_bytes);
        void *w = args->workspace;
        int r = 0;

        for (int64_t image = 0; r == 0 && image < a->shape.n_images; image++) {
                float *q = (float *)args->q + image * size, *k = (float *)args->k + image * size;
                float *v = (float *)args->v + image * size, *d_o = (float *)args->d_o + image * size;
                float *dq = (float *)args->dq + image * size, *dk = (float *)args->dk + image * size;
                float *dv = (float *)args->dv + image * size, *p = (float *)args->saved + image * pixels * pixels;

                r = onednn_op_run(&a->d_scores, o, (void *[]){d_o, v, ds}, w);
#pragma omp parallel for schedule(static)
                for (int64_t i = 0; i < pixels; i++)
                        softmax_row_backward(p + i * pixels, ds + i * pixels, pixels);
                r = r < 0 ? r : onednn_op_run(&a->dv, o, (void *[]){p, d_o, dv}, w);
                r = r < 0 ? r : onednn_op_run(&a->dq, o, (void *[]){ds, k, dq}, w);
                r = r < 0 ? r : onednn_op_run(&a->dk, o, (void *[]){ds, q, dk}, w);
        }
        return r;
}
