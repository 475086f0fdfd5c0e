/* y = x w + b and its gradients by the product of product.h; the wide one, of pairs, with sums in double. Spec 1. */
#include "kernels/cuda/product.h"

#include <errno.h>

struct dense {
        struct dense_shape shape; /* first: kernels/cost.h */
};

int cuda_dense_new(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err)
{
        struct dense *x;
        int r = device_may_plan(d, "dense", err);

        if (r == 0)
                r = shape_check_dense(shape, true, err);
        if (r < 0)
                return r;
        x = (struct dense *)calloc(1, sizeof(*x));
        if (!x)
                return error_set(err, -ENOMEM, "", "out of memory");
        x->shape = *shape;
        *ret = x;
        return 0;
}

struct dense *cuda_dense_free(struct dense *x)
{
        free(x);
        return NULL;
}

/* Partial sums of the weights' gradient. */
size_t cuda_dense_workspace(const struct dense *x)
{
        return product_bytes(x->shape.k, x->shape.n, x->shape.m);
}

namespace
{

template <class T> struct rows { /* [i, k] */
        static constexpr bool K_FIRST = true;
        const T *x;
        int64_t stride;
        __device__ float at(int i, int k) const
        {
                return widen(x[i * stride + k]);
        }
};

template <class T> struct rows_turned { /* [k, i] read as (i, k) */
        static constexpr bool K_FIRST = false;
        const T *x;
        int64_t stride;
        __device__ float at(int i, int k) const
        {
                return widen(x[k * stride + i]);
        }
};

template <class T> struct columns { /* values [k, j] */
        static constexpr bool K_FIRST = false;
        const T *x;
        int64_t stride;
        __device__ float at(int k, int j) const
        {
                return widen(x[k * stride + j]);
        }
};

template <class T> struct weights { /* [k, j], rounded as T */
        static constexpr bool K_FIRST = false;
        const float *w;
        int64_t n;
        __device__ float at(int k, int j) const
        {
                return weight<T>(w[k * n + j]);
        }
};

template <class T> struct weights_turned { /* [j, k] read as (k, j) */
        static constexpr bool K_FIRST = true;
        const float *w;
        int64_t n;
        __device__ float at(int k, int j) const
        {
                return weight<T>(w[j * n + k]);
        }
};

template <class T> struct sum_output {
        T *y;
        const float *b;
        int64_t n;
        bool accumulate;
        __device__ void set(int i, int j, int, float v)
        {
                const int64_t at = i * n + j;

                y[at] = narrow<T>(v + (b ? b[j] : 0) + (accumulate ? widen(y[at]) : 0));
        }
};

template <class T> void forward(struct stream *s, const struct dense_forward_args *a)
{
        const struct dense_shape *g = &a->dense->shape;
        const rows<T> x = {(const T *)a->x, g->k};
        const weights<T> w = {a->w, g->n};
        const sum_output<T> y = {(T *)a->y, a->b, g->n, a->accumulate};

        product_run<float>(s, "dense_forward", x, w, y, g->m, g->n, g->k, 1);
}

template <class T> void backward_data(struct stream *s, const struct dense_backward_data_args *a)
{
        const struct dense_shape *g = &a->dense->shape;
        const rows<T> dy = {(const T *)a->dy, g->n};
        const weights_turned<T> w = {a->w, g->n};
        const sum_output<T> dx = {(T *)a->dx, NULL, g->k, a->accumulate};

        product_run<float>(s, "dense_backward_data", dy, w, dx, g->m, g->k, g->n, 1);
}

template <class T> void backward_weights(struct stream *s, const struct dense_backward_weights_args *a)
{
        const struct dense_shape *g = &a->dense->shape;
        const rows_turned<T> x = {(const T *)a->x, g->k};
        const columns<T> dy = {(const T *)a->dy, g->n};

        product_sliced(s, "dense_backward_weights", x, dy, g->k, g->n, g->m, a->dw, a->accumulate, a->workspace);
        if (a->db)
                columns_sum(s, "dense_backward_weights", (const T *)a->dy, g->m, g->n, a->db, a->accumulate);
}

/* ---- pairs */

struct wide_rows {
        static constexpr bool K_FIRST = true;
        const float *x, *x_low;
        int64_t k;
        __device__ double at(int i, int l) const
        {
                return pair(x, x_low, i * k + l);
        }
};

struct wide_weights {
        static constexpr bool K_FIRST = false;
        const float *w;
        int64_t n;
        __device__ double at(int l, int j) const
        {
                return w[l * n + j];
        }
};

struct wide_output {
        float *y, *y_low;
        const float *b;
        int64_t n;
        __device__ void set(int i, int j, int, double v)
        {
                set_pair(y, y_low, i * n + j, v + (b ? b[j] : 0));
        }
};
} // namespace

#define BY_TYPE(fn, s, a)                                                                                              \
        do {                                                                                                           \
                if ((a)->dense->shape.type == DTYPE_BF16)                                                              \
                        fn<bf16>(s, a);                                                                                \
                else                                                                                                   \
                        fn<float>(s, a);                                                                               \
        } while (0)

void cuda_dense_forward(struct stream *s, const struct dense_forward_args *a)
{
        BY_TYPE(forward, s, a);
}

void cuda_dense_backward_data(struct stream *s, const struct dense_backward_data_args *a)
{
        BY_TYPE(backward_data, s, a);
}

void cuda_dense_backward_weights(struct stream *s, const struct dense_backward_weights_args *a)
{
        BY_TYPE(backward_weights, s, a);
}

void cuda_wide_dense_forward(struct stream *s, const struct wide_dense_forward_args *a)
{
        const wide_rows x = {a->x, a->x_low, a->k};
        const wide_weights w = {a->w, a->n};
        const wide_output y = {a->y, a->y_low, a->b, a->n};

        product_run<double>(s, "wide_dense_forward", x, w, y, a->m, a->n, a->k, 1);
}
