/* 3 x 3 convolutions, stride 1, zero padding 1. Where x and y are of one type and the convolver (cuDNN) has a plan, it
 * computes; weights are turned to its layout and type first, and their gradient back. Else the product of product.h
 * does: with k = (tap, channel) forward is x w, backward data dy against turned weights, backward weights x^T dy.
 * Spec 1.
 */
#include "kernels/cuda/convolver.h"
#include "kernels/cuda/product_mma.h"

#include <errno.h>

enum { TERMS = 3 }; /* of bf16 that make a float: pixels_mma */
enum way { WAY_FORWARD, WAY_BIAS, WAY_RESIDUAL_BIAS, WAY_FORWARD_ADD, WAY_DATA, WAY_DATA_ADD, WAY_WEIGHTS, PLANS };

static const struct {
        enum conv_direction direction;
        bool accumulate;
        enum conv_finish finish;
} ways[PLANS] = {{CONV_FORWARD},
                 {CONV_FORWARD, false, FINISH_BIAS},
                 {CONV_FORWARD, false, FINISH_RESIDUAL_BIAS},
                 {CONV_FORWARD, true},
                 {CONV_BACKWARD_DATA},
                 {CONV_BACKWARD_DATA, true},
                 {CONV_BACKWARD_WEIGHTS}};

struct conv {
        struct conv_shape shape; /* first: kernels/cost.h */
        struct conv_way ways[PLANS];
};

static size_t weights_bytes(const struct conv_shape *s)
{
        return (size_t)(9 * s->c_in * s->c_out) * dtype_bytes(s->x_type);
}

static size_t bias_bytes(const struct conv_shape *s)
{
        return (size_t)s->c_out * dtype_bytes(s->y_type);
}

static int ways_make(struct device *d, struct conv *c, struct error *err)
{
        const struct conv_shape *s = &c->shape;
        int r = 0;

        if (s->x_type != s->y_type)
                return 0;
        for (int i = 0; i < PLANS && r == 0; i++) {
                struct conv_plan_shape shape = {ways[i].direction, s->n_images,   s->height, s->width,
                                                s->c_in,           s->c_out,      s->x_type, ways[i].accumulate,
                                                s->tf32,           ways[i].finish};

                r = conv_way_new(d, &shape, &c->ways[i], err);
        }
        return r;
}

int cuda_conv_new(struct device *d, const struct conv_shape *shape, struct conv **ret, struct error *err)
{
        struct conv *c;
        int r = device_may_plan(d, "conv", err);

        if (r == 0)
                r = shape_check_conv(shape, true, err);
        if (r < 0)
                return r;
        c = (struct conv *)calloc(1, sizeof(*c));
        if (!c)
                return error_set(err, -ENOMEM, "", "out of memory");
        c->shape = *shape;
        r = ways_make(d, c, err);
        if (r < 0) {
                (void)cuda_conv_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

struct conv *cuda_conv_free(struct conv *c)
{
        for (int i = 0; c && i < PLANS; i++)
                conv_way_done(&c->ways[i]);
        free(c);
        return NULL;
}

/* The weights or their gradient as the convolver has them, and its own space; or the partial sums of our product. */
size_t cuda_conv_workspace(const struct conv *c)
{
        const struct conv_shape *s = &c->shape;
        size_t most = 0;

        for (int i = 0; i < PLANS; i++)
                if (c->ways[i].plan)
                        most = MAX(most, cuda_align(weights_bytes(s)) + cuda_align(bias_bytes(s)) +
                                                 c->ways[i].workspace_bytes);
        if (!c->ways[WAY_WEIGHTS].plan)
                most = MAX(most,
                           product_partial_bytes(9 * s->c_in, TERMS * s->c_out, s->n_images * s->height * s->width));
        return most;
}

namespace
{

/* ---- weights between our layout, [9, c_in, c_out] of float, and the convolver's, [c_out, 9, c_in] of T */

/* With a bias (b, else NULL), which goes to y_b as it is. */
template <class T>
__global__ void __launch_bounds__(BLOCK)
        weights_turn(const float *w, int64_t rows, int64_t columns, T *y, const float *b, T *y_b)
{
        FOR_EACH(i, rows * columns)
        {
                y[i] = narrow<T>(w[i % rows * columns + i / rows]);
                if (b && i < columns)
                        y_b[i] = narrow<T>(b[i]);
        }
}

template <class T>
__global__ void __launch_bounds__(BLOCK)
        weights_return(const T *x, int64_t rows, int64_t columns, float *dw, bool accumulate)
{
        FOR_EACH(i, rows * columns)
        {
                const float v = widen(x[i % columns * rows + i / columns]);

                dw[i] = accumulate ? dw[i] + v : v;
        }
}

/* y = y + b + residual, where the convolver has left y. */
template <class T>
__global__ void __launch_bounds__(BLOCK) conv_finish(T *y, const float *b, const T *residual, int64_t n, int64_t c)
{
        FOR_EACH(i, n)
        y[i] = narrow<T>(widen(y[i]) + (b ? b[i % c] : 0) + (residual ? widen(residual[i]) : 0));
}

/* The same, eight values a thread; c a multiple of 8. */
template <class T>
__global__ void __launch_bounds__(BLOCK) conv_finish_8(T *y, const float *b, const T *residual, int64_t n, int c)
{
        constexpr int V = 16 / sizeof(T);

        FOR_EACH(i, n / V)
        {
                vector<T, V> v = load<T, V>(y + i * V), r = {};
                const int channel = (int)(i * V % c);

                if (residual)
                        r = load<T, V>(residual + i * V);
                for (int e = 0; e < V; e++)
                        v.v[e] = narrow<T>(widen(v.v[e]) + (b ? b[channel + e] : 0) + (residual ? widen(r.v[e]) : 0));
                store<T, V>(y + i * V, v);
        }
}

/* ---- our product's operands */

struct map {
        int height, width, c;
};

/* Value `channel` of the pixel `tap` away from pixel p of all images, zero outside of its image. */
template <class T> __device__ inline float map_at(const map &g, const T *x, int p, int tap, int channel)
{
        const int dy = tap / 3 - 1, dx = tap % 3 - 1;
        const int row = p / g.width % g.height + dy, column = p % g.width + dx;

        if (row < 0 || row >= g.height || column < 0 || column >= g.width)
                return 0;
        return widen(x[((int64_t)p + dy * g.width + dx) * g.c + channel]);
}

template <class T> struct patches { /* [pixels, (tap, channel)] */
        static constexpr bool K_FIRST = true;
        map g;
        const T *x;
        __device__ float at(int i, int k) const
        {
                return map_at(g, x, i, k / g.c, k % g.c);
        }
};

template <class T> struct patches_turned { /* [(tap, channel), pixels] */
        static constexpr bool K_FIRST = false;
        map g;
        const T *x;
        __device__ float at(int i, int k) const
        {
                return map_at(g, x, k, i / g.c, i % g.c);
        }
};

template <class T> struct pixels { /* [pixels, channel] */
        static constexpr bool K_FIRST = false;
        const T *x;
        int c;
        __device__ float at(int k, int j) const
        {
                return widen(x[(int64_t)k * c + j]);
        }
};

template <class T> struct kernel { /* [(tap, c_in), c_out]; rounded as T */
        static constexpr bool K_FIRST = false;
        const float *w;
        int c_out;
        __device__ float at(int k, int j) const
        {
                return weight<T>(w[(int64_t)k * c_out + j]);
        }
};

template <class T> struct kernel_turned { /* [(tap, c_out), c_in], seen from the other side */
        static constexpr bool K_FIRST = true;
        const float *w;
        int c_in, c_out;
        __device__ float at(int k, int j) const
        {
                return weight<T>(w[((int64_t)(8 - k / c_out) * c_in + j) * c_out + k % c_out]);
        }
};

template <class T> struct output { /* y = sum + b + residual, residual may be y */
        T *y;
        const float *b;
        const T *residual;
        int c;
        __device__ void set(int i, int j, int, float v)
        {
                const int64_t at = (int64_t)i * c + j;

                y[at] = narrow<T>(v + (b ? b[j] : 0) + (residual ? widen(residual[at]) : 0));
        }
        __device__ void set_two(int i, int j, int slice, float v, float w)
        {
                set(i, j, slice, v);
                set(i, j + 1, slice, w);
        }
};

/* ---- the same for tensor cores: x of bf16, whose channels come in eights */

__device__ inline bool map_eight(const map &g, const bf16 *x, int p, int tap, int channel, vector<bf16, 8> *ret)
{
        const int dy = tap / 3 - 1, dx = tap % 3 - 1;
        const int row = p / g.width % g.height + dy, column = p % g.width + dx;

        *ret = {};
        if (row >= 0 && row < g.height && column >= 0 && column < g.width)
                *ret = load<bf16, 8>(x + ((int64_t)p + dy * g.width + dx) * g.c + channel);
        return true;
}

struct patches_mma {
        static constexpr bool K_FIRST = true;
        map g;
        const bf16 *x;
        __device__ float outer(int i, int k) const
        {
                return map_at(g, x, i, k / g.c, k % g.c);
        }
        __device__ bool eight(int i, int k, vector<bf16, 8> *ret) const
        {
                return map_eight(g, x, i, k / g.c, k % g.c, ret);
        }
};

struct patches_turned_mma {
        static constexpr bool K_FIRST = false;
        map g;
        const bf16 *x;
        __device__ float outer(int i, int k) const
        {
                return map_at(g, x, k, i / g.c, i % g.c);
        }
        __device__ bool eight(int i, int k, vector<bf16, 8> *ret) const
        {
                return map_eight(g, x, k, i / g.c, i % g.c, ret);
        }
};

struct kernel_mma {
        static constexpr bool K_FIRST = true;
        const float *w;
        int c_out;
        __device__ float outer(int j, int k) const
        {
                return w[(int64_t)k * c_out + j];
        }
        __device__ bool eight(int, int, vector<bf16, 8> *) const
        {
                return false;
        }
};

/* dy of float as three terms of bf16, whose sum it is but for its last bit: three times as many columns. */
struct pixels_mma {
        static constexpr bool K_FIRST = true;
        const float *x;
        int c;
        __device__ float outer(int j, int k) const
        {
                float rest = x[(int64_t)k * c + j % c];

                for (int term = 0; term < j / c; term++)
                        rest -= weight<bf16>(rest);
                return rest;
        }
        __device__ bool eight(int, int, vector<bf16, 8> *) const
        {
                return false;
        }
};

/* dw [m, c] (+)= the terms' sums over slices, [slices, m, 3 c]. */
__global__ void __launch_bounds__(BLOCK)
        terms_collect(const float *p, int64_t m, int c, int slices, float *dw, bool accumulate)
{
        FOR_EACH(i, m * c)
        {
                const int64_t row = i / c, column = i % c;
                double sum = accumulate ? dw[i] : 0;

                for (int s = 0; s < slices; s++)
                        for (int term = 0; term < TERMS; term++)
                                sum += (double)p[((int64_t)s * m + row) * TERMS * c + term * c + column];
                dw[i] = (float)sum;
        }
}

/* ---- by the convolver */

struct workspace {
        void *weights, *bias, *plan;
};

workspace workspace_of(const struct conv_shape *s, void *base)
{
        size_t at = 0;
        workspace w;

        w.weights = cuda_take(base, &at, weights_bytes(s));
        w.bias = cuda_take(base, &at, bias_bytes(s));
        w.plan = cuda_take(base, &at, 0);
        return w;
}

/* The weights and, where the plan adds it (b, else NULL), the bias, as the plan takes them. */
template <class T>
void turned_weights(struct stream *s, const char *op, const struct conv_shape *g, const float *w, const float *b,
                    const workspace &to)
{
        RUN(s, op, weights_turn<T>, grid_of(9 * g->c_in * g->c_out), BLOCK, 0, w, 9 * g->c_in, g->c_out,
            (T *)to.weights, b, (T *)to.bias);
}

template <class T> void finish(struct stream *s, const struct conv_forward_args *a, const T *residual)
{
        const struct conv_shape *g = &a->conv->shape;
        const int64_t n = g->n_images * g->height * g->width * g->c_out;

        if (!a->b && !residual)
                return;
        if (g->c_out % 8 == 0)
                RUN(s, "conv_forward", conv_finish_8<T>, grid_of(n / 4), BLOCK, 0, (T *)a->y, a->b, residual, n,
                    (int)g->c_out);
        else
                RUN(s, "conv_forward", conv_finish<T>, grid_of(n), BLOCK, 0, (T *)a->y, a->b, residual, n, g->c_out);
}

/* The plan that adds what is to be added, or as much of it as there is a plan for. */
enum way forward_way(const struct conv_forward_args *a)
{
        const struct conv_way *has = a->conv->ways;

        if (a->residual && a->residual == a->y)
                return WAY_FORWARD_ADD;
        if (a->b && a->residual)
                return has[WAY_RESIDUAL_BIAS].plan ? WAY_RESIDUAL_BIAS : WAY_FORWARD;
        return a->b && has[WAY_BIAS].plan ? WAY_BIAS : WAY_FORWARD;
}

template <class T> void forward_planned(struct stream *s, const struct conv_forward_args *a)
{
        const enum way way = forward_way(a);
        const workspace w = workspace_of(&a->conv->shape, a->workspace);
        const bool fused = ways[way].finish != FINISH_NONE;

        turned_weights<T>(s, "conv_forward", &a->conv->shape, a->w, fused ? a->b : NULL, w);
        conv_way_run(s, "conv_forward", &a->conv->ways[way],
                     {(void *)a->x, w.weights, a->y, a->residual, fused ? w.bias : NULL, w.plan});
        if (!fused)
                finish<T>(s, a, way == WAY_FORWARD_ADD ? NULL : (const T *)a->residual);
}

template <class T> void backward_data_planned(struct stream *s, const struct conv_backward_data_args *a)
{
        const workspace w = workspace_of(&a->conv->shape, a->workspace);

        turned_weights<T>(s, "conv_backward_data", &a->conv->shape, a->w, NULL, w);
        conv_way_run(s, "conv_backward_data", &a->conv->ways[a->accumulate ? WAY_DATA_ADD : WAY_DATA],
                     {a->dx, w.weights, (void *)a->dy, NULL, NULL, w.plan});
}

template <class T> void backward_weights_planned(struct stream *s, const struct conv_backward_weights_args *a)
{
        const struct conv_shape *g = &a->conv->shape;
        const workspace w = workspace_of(g, a->workspace);

        conv_way_run(s, "conv_backward_weights", &a->conv->ways[WAY_WEIGHTS],
                     {(void *)a->x, w.weights, (void *)a->dy, NULL, NULL, w.plan});
        RUN(s, "conv_backward_weights", weights_return<T>, grid_of(9 * g->c_in * g->c_out), BLOCK, 0,
            (const T *)w.weights, 9 * g->c_in, g->c_out, a->dw, a->accumulate);
}

/* ---- by our product */

struct map map_of(const struct conv_shape *s, int64_t c)
{
        return {(int)s->height, (int)s->width, (int)c};
}

int64_t pixels_of(const struct conv_shape *s)
{
        return s->n_images * s->height * s->width;
}

template <class X, class Y> void forward_product(struct stream *s, const struct conv_forward_args *a)
{
        const struct conv_shape *g = &a->conv->shape;
        const patches<X> x = {map_of(g, g->c_in), (const X *)a->x};
        const kernel<X> w = {a->w, (int)g->c_out};
        const output<Y> y = {(Y *)a->y, a->b, (const Y *)a->residual, (int)g->c_out};

        product_run<float>(s, "conv_forward", x, w, y, pixels_of(g), g->c_out, 9 * g->c_in, 1);
}

template <class X, class Y> void backward_data_product(struct stream *s, const struct conv_backward_data_args *a)
{
        const struct conv_shape *g = &a->conv->shape;
        const patches<Y> dy = {map_of(g, g->c_out), (const Y *)a->dy};
        const kernel_turned<X> w = {a->w, (int)g->c_in, (int)g->c_out};
        const output<X> dx = {(X *)a->dx, NULL, a->accumulate ? (const X *)a->dx : NULL, (int)g->c_in};

        product_run<float>(s, "conv_backward_data", dy, w, dx, pixels_of(g), g->c_in, 9 * g->c_out, 1);
}

template <class X, class Y> void backward_weights_product(struct stream *s, const struct conv_backward_weights_args *a)
{
        const struct conv_shape *g = &a->conv->shape;
        const patches_turned<X> x = {map_of(g, g->c_in), (const X *)a->x};
        const pixels<Y> dy = {(const Y *)a->dy, (int)g->c_out};

        product_sliced(s, "conv_backward_weights", x, dy, 9 * g->c_in, g->c_out, pixels_of(g), a->dw, a->accumulate,
                       a->workspace);
}

/* Whether x bf16, y float, few of them: the networks' ends, on tensor cores. */
bool is_end(const struct conv_shape *g)
{
        return g->x_type == DTYPE_BF16 && g->y_type == DTYPE_FLOAT32 && g->c_in % 8 == 0;
}

void end_forward(struct stream *s, const struct conv_forward_args *a)
{
        const struct conv_shape *g = &a->conv->shape;
        const patches_mma x = {map_of(g, g->c_in), (const bf16 *)a->x};
        const kernel_mma w = {a->w, (int)g->c_out};
        const output<float> y = {(float *)a->y, a->b, (const float *)a->residual, (int)g->c_out};

        product_mma_run(s, "conv_forward", x, w, y, pixels_of(g), g->c_out, 9 * g->c_in, 1);
}

void end_backward_weights(struct stream *s, const struct conv_backward_weights_args *a)
{
        const struct conv_shape *g = &a->conv->shape;
        const patches_turned_mma x = {map_of(g, g->c_in), (const bf16 *)a->x};
        const pixels_mma dy = {(const float *)a->dy, (int)g->c_out};
        const int64_t m = 9 * g->c_in, n = TERMS * g->c_out;
        const int slices = product_slices(pixels_of(g));
        const product_partial<float> partial = {(float *)a->workspace, (int)m, (int)n};

        product_mma_run(s, "conv_backward_weights", x, dy, partial, m, n, pixels_of(g), slices);
        RUN(s, "conv_backward_weights", terms_collect, grid_of(m * g->c_out), BLOCK, 0, (const float *)a->workspace, m,
            (int)g->c_out, slices, a->dw, a->accumulate);
}
} // namespace

/* fn for the shape's types. */
#define BY_TYPES(fn, s, a)                                                                                             \
        do {                                                                                                           \
                const struct conv_shape *shape_ = &(a)->conv->shape;                                                   \
                if (shape_->x_type == DTYPE_BF16 && shape_->y_type == DTYPE_BF16)                                      \
                        fn<bf16, bf16>(s, a);                                                                          \
                else if (shape_->x_type == DTYPE_BF16)                                                                 \
                        fn<bf16, float>(s, a);                                                                         \
                else if (shape_->y_type == DTYPE_BF16)                                                                 \
                        fn<float, bf16>(s, a);                                                                         \
                else                                                                                                   \
                        fn<float, float>(s, a);                                                                        \
        } while (0)
#define BY_TYPE(fn, s, a)                                                                                              \
        do {                                                                                                           \
                if ((a)->conv->shape.x_type == DTYPE_BF16)                                                             \
                        fn<bf16>(s, a);                                                                                \
                else                                                                                                   \
                        fn<float>(s, a);                                                                               \
        } while (0)

void cuda_conv_forward(struct stream *s, const struct conv_forward_args *a)
{
        if (a->conv->ways[forward_way(a)].plan)
                BY_TYPE(forward_planned, s, a);
        else if (is_end(&a->conv->shape))
                end_forward(s, a);
        else
                BY_TYPES(forward_product, s, a);
}

void cuda_conv_backward_data(struct stream *s, const struct conv_backward_data_args *a)
{
        if (a->conv->ways[a->accumulate ? WAY_DATA_ADD : WAY_DATA].plan)
                BY_TYPE(backward_data_planned, s, a);
        else
                BY_TYPES(backward_data_product, s, a);
}

void cuda_conv_backward_weights(struct stream *s, const struct conv_backward_weights_args *a)
{
        const struct conv_shape *g = &a->conv->shape;

        if (a->conv->ways[WAY_WEIGHTS].plan)
                BY_TYPE(backward_weights_planned, s, a);
        else if (is_end(g))
                end_backward_weights(s, a);
        else
                BY_TYPES(backward_weights_product, s, a);
        if (!a->db)
                return;
        if (g->y_type == DTYPE_BF16)
                columns_sum(s, "conv_backward_weights", (const bf16 *)a->dy, pixels_of(g), g->c_out, a->db,
                            a->accumulate);
        else
                columns_sum(s, "conv_backward_weights", (const float *)a->dy, pixels_of(g), g->c_out, a->db,
                            a->accumulate);
}

/* ---- bytes beyond the operands: weights in the convolver's layout, written and read; its workspace likewise; y once
 * more for what a launch of its own adds, and read for the bias's gradient; partial sums of our products. */

static double copies(const struct conv_shape *g, const struct conv_way *w)
{
        return 2.0 * (double)(weights_bytes(g) + w->workspace_bytes);
}

static double y_bytes(const struct conv_shape *g)
{
        return (double)(pixels_of(g) * g->c_out) * (double)dtype_bytes(g->y_type);
}

double cuda_conv_forward_beyond(const struct conv_forward_args *a)
{
        const enum way way = forward_way(a);
        const bool adds = ways[way].finish == FINISH_NONE && (a->b || (a->residual && a->residual != a->y));

        if (!a->conv->ways[way].plan)
                return 0;
        return copies(&a->conv->shape, &a->conv->ways[way]) + (adds ? 2 * y_bytes(&a->conv->shape) : 0);
}

double cuda_conv_backward_data_beyond(const struct conv_backward_data_args *a)
{
        const struct conv_way *w = &a->conv->ways[a->accumulate ? WAY_DATA_ADD : WAY_DATA];

        return w->plan ? copies(&a->conv->shape, w) : 0;
}

double cuda_conv_backward_weights_beyond(const struct conv_backward_weights_args *a)
{
        const struct conv_shape *g = &a->conv->shape;
        const struct conv_way *w = &a->conv->ways[WAY_WEIGHTS];
        const size_t partial = is_end(g) ? product_partial_bytes(9 * g->c_in, TERMS * g->c_out, pixels_of(g))
                                         : product_bytes(9 * g->c_in, g->c_out, pixels_of(g));

        return (a->db ? y_bytes(g) : 0) + (w->plan ? copies(g, w) : 2.0 * (double)partial);
}
