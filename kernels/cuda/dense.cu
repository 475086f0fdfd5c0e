/* y = x w + b and its gradients, by products of ours: bf16 on tensor cores (product_mma.h), float32 without
 * (product.h); the wide one, of pairs, with sums in double. Spec 1. */
#include "kernels/cuda/product_mma.h"

#include <errno.h>

#define MANY_TILES 264 /* two for each multiprocessor */

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

/* Slices of k, so that products of few tiles have work for all of the device. */
static int slices_of(int64_t m, int64_t n, int64_t k)
{
        const int64_t tiles = ((m + 63) / 64) * ((n + 63) / 64), least = 64; /* of k a slice */
        const int64_t wanted = (MANY_TILES + tiles - 1) / tiles, most = (k + least - 1) / least;

        return (int)(wanted < most ? wanted : most);
}

static size_t slices_bytes(int64_t m, int64_t n, int64_t k)
{
        return sizeof(float) * (size_t)(m * n) * (size_t)slices_of(m, n, k);
}

/* Partial sums of the direction that has the most. */
size_t cuda_dense_workspace(const struct dense *x)
{
        const struct dense_shape *g = &x->shape;

        return MAX(product_bytes(g->k, g->n, g->m),
                   MAX(slices_bytes(g->m, g->n, g->k), slices_bytes(g->m, g->k, g->n)));
}

namespace
{

/* Eight values in one access, where they are aligned. */
__device__ inline bool read_eight(const bf16 *p, vector<bf16, 8> *ret)
{
        if ((uintptr_t)p % 16)
                return false;
        *ret = load<bf16, 8>(p);
        return true;
}

__device__ inline bool read_eight(const float *p, vector<bf16, 8> *ret)
{
        if ((uintptr_t)p % 16)
                return false;
        const vector<float, 4> low = load<float, 4>(p), high = load<float, 4>(p + 4);

        for (int e = 0; e < 4; e++) {
                ret->v[e] = narrow<bf16>(low.v[e]);
                ret->v[e + 4] = narrow<bf16>(high.v[e]);
        }
        return true;
}

/* An operand of a product whose value (outer, k) lies at x[outer stride + k] or, with K_FIRST false, x[k stride +
 * outer]; rounded as T, which it need not be of. */
template <class T, class X, bool ALONG_K> struct matrix {
        static constexpr bool K_FIRST = ALONG_K;
        const X *x;
        int64_t stride;
        __device__ const X *place(int i, int k) const
        {
                return ALONG_K ? x + i * stride + k : x + k * stride + i;
        }
        __device__ float outer(int i, int k) const
        {
                return widen(narrow<T>(widen(*place(i, k))));
        }
        __device__ bool eight(int i, int k, vector<bf16, 8> *ret) const
        {
                return read_eight(place(i, k), ret);
        }
};

/* As the left operand, at(i, k), and as the right one, at(k, j). */
template <class T, class X, bool ALONG_K> struct left : matrix<T, X, ALONG_K> {
        __device__ float at(int i, int k) const
        {
                return this->outer(i, k);
        }
};

template <class T, class X, bool ALONG_K> struct right : matrix<T, X, ALONG_K> {
        __device__ float at(int k, int j) const
        {
                return this->outer(j, k);
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
        __device__ void set_two(int i, int j, int slice, float v, float w)
        {
                const int64_t at = i * n + j;
                vector<T, 2> two = {};

                if (n % 2) { /* rows begin anywhere */
                        set(i, j, slice, v);
                        set(i, j + 1, slice, w);
                        return;
                }
                if (accumulate)
                        two = load<T, 2>(y + at);
                two.v[0] = narrow<T>(v + (b ? b[j] : 0) + (accumulate ? widen(two.v[0]) : 0));
                two.v[1] = narrow<T>(w + (b ? b[j + 1] : 0) + (accumulate ? widen(two.v[1]) : 0));
                store<T, 2>(y + at, two);
        }
};

/* Partial sums of slices become outputs. */
template <class C>
__global__ void __launch_bounds__(BLOCK) slices_end(const float *partial, int m, int n, int slices, C c)
{
        FOR_EACH(i, (int64_t)m * n)
        {
                float sum = 0;

                for (int s = 0; s < slices; s++)
                        sum += partial[(int64_t)s * m * n + i];
                c.set((int)(i / n), (int)(i % n), 0, sum);
        }
}

/* Which product computes a type. */
template <class A, class B, class C>
void multiply_type(struct stream *s, const char *op, float, A a, B b, C c, int64_t m, int64_t n, int64_t k, int slices)
{
        product_run<float>(s, op, a, b, c, m, n, k, slices);
}

template <class A, class B, class C>
void multiply_type(struct stream *s, const char *op, bf16, A a, B b, C c, int64_t m, int64_t n, int64_t k, int slices)
{
        product_mma_run(s, op, a, b, c, m, n, k, slices);
}

template <class T, class A, class B, class C>
void multiply(struct stream *s, const char *op, T type, A a, B b, C c, int64_t m, int64_t n, int64_t k, void *workspace)
{
        const int slices = slices_of(m, n, k);
        const product_partial<float> partial = {(float *)workspace, (int)m, (int)n};

        if (slices == 1) {
                multiply_type(s, op, type, a, b, c, m, n, k, 1);
                return;
        }
        multiply_type(s, op, type, a, b, partial, m, n, k, slices);
        RUN(s, op, slices_end<C>, grid_of(m * n), BLOCK, 0, (const float *)workspace, (int)m, (int)n, slices, c);
}

template <class A, class B>
void multiply_sliced(struct stream *s, const char *op, float, A a, B b, int64_t m, int64_t n, int64_t k, float *y,
                     bool accumulate, void *partial)
{
        product_sliced(s, op, a, b, m, n, k, y, accumulate, partial);
}

template <class A, class B>
void multiply_sliced(struct stream *s, const char *op, bf16, A a, B b, int64_t m, int64_t n, int64_t k, float *y,
                     bool accumulate, void *partial)
{
        product_mma_sliced(s, op, a, b, m, n, k, y, accumulate, partial);
}

template <class T> void forward(struct stream *s, const struct dense_forward_args *a)
{
        const struct dense_shape *g = &a->dense->shape;
        const left<T, T, true> x = {{(const T *)a->x, g->k}};
        const right<T, float, false> w = {{a->w, g->n}};
        const sum_output<T> y = {(T *)a->y, a->b, g->n, a->accumulate};

        multiply(s, "dense_forward", T(), x, w, y, g->m, g->n, g->k, a->workspace);
}

template <class T> void backward_data(struct stream *s, const struct dense_backward_data_args *a)
{
        const struct dense_shape *g = &a->dense->shape;
        const left<T, T, true> dy = {{(const T *)a->dy, g->n}};
        const right<T, float, true> w = {{a->w, g->n}};
        const sum_output<T> dx = {(T *)a->dx, NULL, g->k, a->accumulate};

        multiply(s, "dense_backward_data", T(), dy, w, dx, g->m, g->k, g->n, a->workspace);
}

template <class T> void backward_weights(struct stream *s, const struct dense_backward_weights_args *a)
{
        const struct dense_shape *g = &a->dense->shape;
        const left<T, T, false> x = {{(const T *)a->x, g->k}};
        const right<T, T, false> dy = {{(const T *)a->dy, g->n}};

        multiply_sliced(s, "dense_backward_weights", T(), x, dy, g->k, g->n, g->m, a->dw, a->accumulate, a->workspace);
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
