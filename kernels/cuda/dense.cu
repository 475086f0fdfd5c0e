/* y = x w + b and its gradients, by cuBLASLt where it has a plan, else by products of ours: bf16 on tensor cores
 * (product_mma.h), float32 without (product.h). Weights' gradients of float32 are ours, too, but for tf32: their sums
 * run over all rows of a batch, which one accumulator of float adds up too roughly. The wide one, of pairs, has sums in
 * double. Spec 1. */
#include "kernels/cuda/multiplier.h"
#include "kernels/cuda/product_mma.h"

#include <errno.h>

#define MANY_TILES 264 /* two for each multiprocessor */

enum way { FORWARD, FORWARD_BIAS, FORWARD_ADD, FORWARD_ADD_BIAS, DATA, DATA_ADD, WEIGHTS, WEIGHTS_ADD, N_WAYS };

struct dense {
        struct dense_shape shape; /* first: kernels/cost.h */
        struct product_plan *plans[N_WAYS];
};

static struct product_shape product_of(const struct dense_shape *g, enum way way)
{
        struct product_shape s = {g->m, g->n, g->k};

        s.type = s.c_type = g->type;
        s.tf32 = g->tf32;
        s.bias = way == FORWARD_BIAS || way == FORWARD_ADD_BIAS;
        s.accumulate = way == FORWARD_ADD || way == FORWARD_ADD_BIAS || way == DATA_ADD || way == WEIGHTS_ADD;
        if (way >= WEIGHTS) { /* [k, n] = x^T dy */
                s.m = g->k;
                s.k = g->m;
                s.a_turned = true;
                s.c_type = DTYPE_FLOAT32;
        } else if (way >= DATA) { /* [m, k] = dy w^T */
                s.n = g->k;
                s.k = g->n;
                s.b_turned = true;
        }
        return s;
}

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
        for (int i = 0; i < N_WAYS && r == 0; i++) {
                const struct product_shape s = product_of(shape, (enum way)i);

                if (i < WEIGHTS || shape->type == DTYPE_BF16 || shape->tf32)
                        r = product_plan_new(d->multiplier, &s, &x->plans[i], err);
        }
        if (r < 0) {
                (void)cuda_dense_free(x);
                return r;
        }
        *ret = x;
        return 0;
}

struct dense *cuda_dense_free(struct dense *x)
{
        for (int i = 0; x && i < N_WAYS; i++)
                (void)product_plan_free(x->plans[i]);
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

/* A plan's: weights and bias in its type, where that is not float's, and what cuBLASLt asks for, which it wants at a
 * multiple of 256 bytes. */
enum { PLAN_ALIGNMENT = 256 };
struct workspace {
        void *weights, *bias, *plan;
        size_t bytes; /* without the plan's */
};

static struct workspace workspace_of(const struct dense_shape *g, void *base)
{
        const size_t size = g->type == DTYPE_BF16 ? 2 : 0;
        struct workspace w;

        w.bytes = 0;
        w.weights = cuda_take(base, &w.bytes, size * (size_t)(g->k * g->n));
        w.bias = cuda_take(base, &w.bytes, size * (size_t)g->n);
        w.bytes += PLAN_ALIGNMENT; /* base is aligned to less */
        w.plan = base ? (void *)(((uintptr_t)base + w.bytes) / PLAN_ALIGNMENT * PLAN_ALIGNMENT) : NULL;
        return w;
}

/* That of the plans, or the partial sums of our products, whichever direction has the most. */
size_t cuda_dense_workspace(const struct dense *x)
{
        const struct dense_shape *g = &x->shape;
        const size_t ours[N_WAYS] = {slices_bytes(g->m, g->n, g->k), 0, 0, 0, slices_bytes(g->m, g->k, g->n), 0,
                                     product_bytes(g->k, g->n, g->m)};
        size_t most = 0;

        for (int i = 0; i < N_WAYS; i++)
                most = MAX(most,
                           x->plans[i] ? workspace_of(g, NULL).bytes + product_plan_workspace(x->plans[i]) : ours[i]);
        return most;
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
        float x[8];

        widen(load<float, 4>(p), x);
        widen(load<float, 4>(p + 4), x + 4);
        *ret = narrow<bf16, 8>(x);
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
}

template <class T> void backward_bias(struct stream *s, const struct dense_backward_weights_args *a)
{
        const struct dense_shape *g = &a->dense->shape;

        columns_sum(s, "dense_backward_weights", (const T *)a->dy, g->m, g->n, a->db, a->accumulate);
}

/* ---- by plans */

/* n weights, and n_b values of the bias behind them. */
__global__ void __launch_bounds__(BLOCK)
        weights_round(const float *w, int64_t n, bf16 *y, const float *b, int64_t n_b, bf16 *y_b)
{
        FOR_EACH(i, n + n_b)
        {
                if (i < n)
                        y[i] = narrow<bf16>(w[i]);
                else
                        y_b[i - n] = narrow<bf16>(b[i - n]);
        }
}

/* Weights and bias (b, else NULL) in the plan's type, for which `to` has room where that is not theirs. */
struct typed {
        const void *w, *b;
};

typed typed_weights(struct stream *s, const char *op, const struct dense_shape *g, const float *w, const float *b,
                    const workspace &to)
{
        const int64_t n = g->k * g->n, n_b = b ? g->n : 0;

        if (g->type == DTYPE_FLOAT32)
                return {w, b};
        RUN(s, op, weights_round, grid_of(n + n_b), BLOCK, 0, w, n, (bf16 *)to.weights, b, n_b, (bf16 *)to.bias);
        return {to.weights, b ? to.bias : NULL};
}

void plan_run(struct stream *s, const char *op, struct product_plan *p, const struct product_operands &o)
{
        if (stream_ready(s))
                stream_launched(s, op, product_plan_run(p, s->handle, &o));
}

enum way forward_way(const struct dense_forward_args *a)
{
        if (a->accumulate)
                return a->b ? FORWARD_ADD_BIAS : FORWARD_ADD;
        return a->b ? FORWARD_BIAS : FORWARD;
}

void forward_planned(struct stream *s, const struct dense_forward_args *a, struct product_plan *p)
{
        const struct dense_shape *g = &a->dense->shape;
        const workspace space = workspace_of(g, a->workspace);
        const typed t = typed_weights(s, "dense_forward", g, a->w, a->b, space);

        plan_run(s, "dense_forward", p, {a->x, t.w, t.b, a->y, space.plan});
}

void backward_data_planned(struct stream *s, const struct dense_backward_data_args *a, struct product_plan *p)
{
        const struct dense_shape *g = &a->dense->shape;
        const workspace space = workspace_of(g, a->workspace);
        const typed t = typed_weights(s, "dense_backward_data", g, a->w, NULL, space);

        plan_run(s, "dense_backward_data", p, {a->dy, t.w, NULL, a->dx, space.plan});
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
        struct product_plan *p = a->dense->plans[forward_way(a)];

        if (p)
                forward_planned(s, a, p);
        else
                BY_TYPE(forward, s, a);
}

void cuda_dense_backward_data(struct stream *s, const struct dense_backward_data_args *a)
{
        struct product_plan *p = a->dense->plans[a->accumulate ? DATA_ADD : DATA];

        if (p)
                backward_data_planned(s, a, p);
        else
                BY_TYPE(backward_data, s, a);
}

void cuda_dense_backward_weights(struct stream *s, const struct dense_backward_weights_args *a)
{
        struct product_plan *p = a->dense->plans[a->accumulate ? WEIGHTS_ADD : WEIGHTS];

        if (p)
                plan_run(s, "dense_backward_weights", p,
                         {a->x, a->dy, NULL, a->dw, workspace_of(&a->dense->shape, a->workspace).plan});
        else
                BY_TYPE(backward_weights, s, a);
        if (a->db)
                BY_TYPE(backward_bias, s, a);
}

/* ---- bytes beyond the operands: the weights in bf16, written and read; the plan's workspace likewise, or our partial
 * sums; dy once more for the bias's gradient. */

static double plan_beyond(const struct dense *x, const struct product_plan *p, size_t ours)
{
        const struct dense_shape *g = &x->shape;

        return 2.0 * (double)(p ? workspace_of(g, NULL).bytes + product_plan_workspace(p) : ours);
}

double cuda_dense_forward_beyond(const struct dense_forward_args *a)
{
        const struct dense_shape *g = &a->dense->shape;

        return plan_beyond(a->dense, a->dense->plans[forward_way(a)],
                           slices_of(g->m, g->n, g->k) > 1 ? slices_bytes(g->m, g->n, g->k) : 0);
}

double cuda_dense_backward_data_beyond(const struct dense_backward_data_args *a)
{
        const struct dense_shape *g = &a->dense->shape;

        return plan_beyond(a->dense, a->dense->plans[a->accumulate ? DATA_ADD : DATA],
                           slices_of(g->m, g->k, g->n) > 1 ? slices_bytes(g->m, g->k, g->n) : 0);
}

double cuda_dense_backward_weights_beyond(const struct dense_backward_weights_args *a)
{
        const struct dense_shape *g = &a->dense->shape;
        const struct product_plan *p = a->dense->plans[a->accumulate ? WEIGHTS_ADD : WEIGHTS];

        return (a->db ? (double)(g->m * g->n) * (double)dtype_bytes(g->type) : 0) +
               2.0 * (double)(p ? product_plan_workspace(p) : product_bytes(g->k, g->n, g->m));
}

void cuda_wide_dense_forward(struct stream *s, const struct wide_dense_forward_args *a)
{
        const wide_rows x = {a->x, a->x_low, a->k};
        const wide_weights w = {a->w, a->n};
        const wide_output y = {a->y, a->y_low, a->b, a->n};

        /* 48: 128 rows of the schedule's 3072 columns are a block each for 128 of 132 multiprocessors */
        product_run<double, 48>(s, "wide_dense_forward", x, w, y, a->m, a->n, a->k, 1);
}
