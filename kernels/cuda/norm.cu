/* y = dropout(swish(GroupNorm([a | b] + addend; groups, eps 1e-6) scale + bias)) and its gradients. Spec 1; Wu & He
 * 2018. With xhat = (x - mean) / std, u = xhat scale + bias, N values a group: du = dy mask swish'(u), dscale = sum du
 * xhat, dbias = sum du, dxhat = du scale, dx = (dxhat - sum(dxhat) / N - xhat sum(dxhat xhat) / N) / std, the sums over
 * the group.
 *
 * A block has one image's chunk of whole groups, of about 32 channels; a thread has V neighbouring channels (its lane)
 * of each rows-th pixel. The first pass adds up by channel, the second, whose reads the cache still has, writes. Sums
 * are float over 16 pixels of a thread (all that it has of a map of 32 x 32) and of those, then double; shifted by the
 * channel's first value where they are squared. Dropout's mask is
 * drawn again backward: one draw is V = 8 neighbouring values. */
#include "kernels/cuda/cuda.h"

#include <errno.h>

#define EPS 1e-6

enum { RUN_PIXELS = 16, FORWARD_LOADS = 4, CHUNK = 32, MAX_LANES = 128, MAX_SUMS = 3 };

struct norm {
        struct norm_shape shape; /* first: kernels/cost.h */
        int v, lanes;            /* a chunk is v lanes channels */
};

static int64_t common_multiple(int64_t a, int64_t b)
{
        int64_t x = a, y = b;

        while (y) {
                int64_t t = x % y;

                x = y;
                y = t;
        }
        return a / x * b;
}

int cuda_norm_new(struct device *d, const struct norm_shape *shape, struct norm **ret, struct error *err)
{
        struct norm *n;
        int64_t unit;
        int r = device_may_plan(d, "norm", err);

        if (r == 0)
                r = shape_check_norm(shape, true, err);
        if (r < 0)
                return r;
        n = (struct norm *)calloc(1, sizeof(*n));
        if (!n)
                return error_set(err, -ENOMEM, "", "out of memory");
        n->shape = *shape;
        n->v = shape->c_a % 8 == 0 && shape->c_b % 8 == 0 ? 8 : 1;
        unit = common_multiple((shape->c_a + shape->c_b) / shape->groups, n->v);
        n->lanes = (int)((CHUNK + unit - 1) / unit * unit / n->v);
        if (unit > MAX_LANES * n->v) {
                free(n);
                return error_set(err, -ENOTSUP, "norm", "groups of %lld channels are not computed by this back end",
                                 (long long)((shape->c_a + shape->c_b) / shape->groups));
        }
        *ret = n;
        return 0;
}

struct norm *cuda_norm_free(struct norm *n)
{
        free(n);
        return NULL;
}

/* Each image's share of dscale and dbias. */
size_t cuda_norm_workspace(const struct norm *n)
{
        return (size_t)(n->shape.n_images * (n->shape.c_a + n->shape.c_b)) * 2 * sizeof(double);
}

namespace
{

template <class T> struct norm_input {
        const T *a, *b;
        const float *addend, *scale, *bias;
        int pixels, c_a, c_b, width, lanes;
        bool swish;
        struct dropout dropout;
};

/* Where a thread works. */
struct place {
        int image, lane, row, rows, channel; /* channel: the first of its V */
        bool works;
};

template <class T, int V> __device__ inline place place_of(const norm_input<T> &n)
{
        place p;

        p.image = blockIdx.y;
        p.lane = threadIdx.x % n.lanes;
        p.row = threadIdx.x / n.lanes;
        p.rows = blockDim.x / n.lanes;
        p.channel = ((int)blockIdx.x * n.lanes + p.lane) * V;
        p.works = p.row < p.rows && p.channel < n.c_a + n.c_b;
        return p;
}

template <class T> __device__ inline float fast_exp(float x)
{
        return expf(x);
}

template <> __device__ inline float fast_exp<bf16>(float x)
{
        return __expf(x);
}

template <class T> __device__ inline float fast_sigmoid(float x)
{
        return __fdividef(1.0f, 1.0f + fast_exp<T>(-x));
}

template <> __device__ inline float fast_sigmoid<float>(float x)
{
        return 1.0f / (1.0f + expf(-x));
}

template <class T, int V> struct values {
        float v[V];
};

template <class T, int V> __device__ inline values<T, V> widened(const vector<T, V> &raw)
{
        values<T, V> r;

        for (int e = 0; e < V; e++)
                r.v[e] = widen(raw.v[e]);
        return r;
}

/* V channels of a pixel, without the addend. */
template <class T, int V> __device__ inline vector<T, V> input_at(const norm_input<T> &n, const place &p, int pixel)
{
        const int64_t at = (int64_t)p.image * n.pixels + pixel;

        return p.channel < n.c_a ? load<T, V>(n.a + at * n.c_a + p.channel)
                                 : load<T, V>(n.b + at * n.c_b + (p.channel - n.c_a));
}

/* Those of the thread's next N pixels, all asked for before the first is used; 0 behind the end. */
template <int N, class T, int V>
__device__ inline void inputs_at(const norm_input<T> &n, const place &p, int pixel, vector<T, V> ret[N])
{
#pragma unroll
        for (int i = 0; i < N; i++) {
                ret[i] = {};
                if (pixel + i * p.rows < n.pixels)
                        ret[i] = input_at<T, V>(n, p, pixel + i * p.rows);
        }
}

/* What changes a thread's channels: the addend (0 where there is none), scale, bias. */
template <class T, int V>
__device__ inline void channel_values(const norm_input<T> &n, const place &p, float add[V], float scale[V],
                                      float bias[V])
{
        for (int e = 0; e < V; e++) {
                add[e] = p.works && n.addend ? n.addend[p.image * (n.c_a + n.c_b) + p.channel + e] : 0;
                scale[e] = p.works ? n.scale[p.channel + e] : 0;
                bias[e] = p.works ? n.bias[p.channel + e] : 0;
        }
}

/* Dropout's multipliers of V channels of a pixel. */
struct mask_source {
        uint32_t seed, least; /* kept where the half is at least that */
        uint64_t image, step;
        float kept;
};

template <class T> __device__ inline mask_source mask_of(const norm_input<T> &n, int image)
{
        mask_source m = {};

        if (n.dropout.rate > 0 && !n.dropout.mask) {
                m.seed = n.dropout.state->seed;
                m.step = (uint64_t)n.dropout.state->step;
                m.image = n.dropout.rows[image].image;
                m.least = (uint32_t)lrint(n.dropout.rate * 65536.0);
                m.kept = (float)(1.0 / (1.0 - n.dropout.rate));
        }
        return m;
}

template <class T, int V>
__device__ inline void mask_at(const norm_input<T> &n, const mask_source &m, const place &p, int pixel, float ret[V])
{
        const int c = n.c_a + n.c_b;
        const int64_t at = (int64_t)pixel * c + p.channel;

        if (n.dropout.mask) {
                for (int e = 0; e < V; e++)
                        ret[e] = n.dropout.mask[(int64_t)p.image * n.pixels * c + at + e];
        } else if (n.dropout.rate > 0) {
                const struct philox d =
                        philox_draw(m.seed, STREAM_DROPOUT, n.dropout.block, (uint32_t)(at / 8), m.image, m.step, 0);

#pragma unroll
                for (int e = 0; e < V; e++) {
                        const int half = V == 8 ? e : (int)(at % 8);
                        const uint32_t pairs = half / 2 == 0   ? d.v[0]
                                               : half / 2 == 1 ? d.v[1]
                                               : half / 2 == 2 ? d.v[2]
                                                               : d.v[3];

                        ret[e] = (pairs >> (half % 2 * 16) & 0xFFFFu) >= m.least ? m.kept : 0;
                }
        } else {
                for (int e = 0; e < V; e++)
                        ret[e] = 1;
        }
}

/* Sums of a thread's channels in shared memory: run by run. */
template <int V> __device__ inline void part_add(float *part, const float run[V], bool first)
{
        for (int e = 0; e < V; e++)
                part[(int)threadIdx.x * V + e] = first ? run[e] : part[(int)threadIdx.x * V + e] + run[e];
}

/* total[lane V + e] = the sum over rows of part, in order, in double. */
template <int V> __device__ inline void rows_sum(const place &p, int lanes, const float *part, double *total)
{
        for (int i = threadIdx.x; i < lanes * V; i += blockDim.x) {
                double sum = 0;

                for (int row = 0; row < p.rows; row++)
                        sum += (double)part[row * lanes * V + i];
                total[i] = sum;
        }
}

/* ---- forward */

/* mean and 1 / std of the chunk's groups, to stats and to `moments`. x = pivot + d by channel, addend and all: the sum
 * of squares about the mean is that of d, moved. */
__device__ inline void group_moments(int width, int pixels, int n_groups, int first_group, int groups,
                                     const double *d_1, const double *d_2, const double *pivot, float *stats,
                                     float *moments)
{
        for (int g = threadIdx.x; g < n_groups; g += blockDim.x) {
                const double n = (double)pixels * width;
                double mean = 0, squares = 0;

                for (int i = g * width; i < (g + 1) * width; i++)
                        mean += pivot[i] * pixels + d_1[i];
                mean /= n;
                for (int i = g * width; i < (g + 1) * width; i++) {
                        const double e = mean - pivot[i];

                        squares += d_2[i] - 2 * e * d_1[i] + pixels * e * e;
                }
                moments[2 * g] = (float)mean;
                moments[2 * g + 1] = (float)(1 / sqrt(fmax(squares, 0.0) / n + EPS));
                if (first_group + g < groups) {
                        stats[2 * (first_group + g)] = moments[2 * g];
                        stats[2 * (first_group + g) + 1] = moments[2 * g + 1];
                }
        }
        __syncthreads();
}

template <class T, int V>
__device__ inline void shifted_sums(const norm_input<T> &n, const place &p, const values<T, V> &pivot, float *part_1,
                                    float *part_2)
{
        for (int pixel = p.row, first = 1; first || (p.works && pixel < n.pixels); first = 0) {
                float s_1[V] = {}, s_2[V] = {};

                for (int i = 0; i < RUN_PIXELS && p.works; i += FORWARD_LOADS, pixel += FORWARD_LOADS * p.rows) {
                        vector<T, V> raw[FORWARD_LOADS];

                        inputs_at<FORWARD_LOADS, T, V>(n, p, pixel, raw);
#pragma unroll
                        for (int j = 0; j < FORWARD_LOADS; j++)
                                for (int e = 0; e < V && pixel + j * p.rows < n.pixels; e++) {
                                        const float d = widen(raw[j].v[e]) - pivot.v[e];

                                        s_1[e] += d;
                                        s_2[e] += d * d;
                                }
                }
                part_add<V>(part_1, s_1, first);
                part_add<V>(part_2, s_2, first);
        }
}

/* y of V channels of a pixel: of u = (x - centre) slope + bias. */
template <class T, int V>
__device__ inline void output_at(const norm_input<T> &n, const mask_source &mask, const place &p, int pixel,
                                 const vector<T, V> &raw, const float centre[V], const float slope[V],
                                 const float bias[V], T *y)
{
        vector<T, V> out;
        float keep[V];

        mask_at<T, V>(n, mask, p, pixel, keep);
        for (int e = 0; e < V; e++) {
                const float u = (widen(raw.v[e]) - centre[e]) * slope[e] + bias[e];

                out.v[e] = narrow<T>((n.swish ? u * fast_sigmoid<T>(u) : u) * keep[e]);
        }
        store<T, V>(y + ((int64_t)p.image * n.pixels + pixel) * (n.c_a + n.c_b) + p.channel, out);
}

template <class T, int V> __global__ void __launch_bounds__(BLOCK, 2) norm_forward(norm_input<T> n, T *y, float *stats)
{
        DYNAMIC_SHARED(double, shared);
        const place p = place_of<T, V>(n);
        const int channels = n.lanes * V, c = n.c_a + n.c_b, groups = c / n.width;
        double *const total_1 = shared, *const total_2 = total_1 + channels, *const pivots = total_2 + channels;
        float *const moments = (float *)(pivots + channels), *const part_1 = moments + 2 * channels;
        float *const part_2 = part_1 + BLOCK * V;
        const mask_source mask = mask_of(n, p.image);
        float add[V], scale[V], bias[V];
        values<T, V> pivot = {};

        channel_values<T, V>(n, p, add, scale, bias);
        if (p.works)
                pivot = widened<T, V>(input_at<T, V>(n, p, 0));
        shifted_sums<T, V>(n, p, pivot, part_1, part_2);
        for (int e = 0; e < V && p.row == 0; e++)
                pivots[p.lane * V + e] = (double)pivot.v[e] + (double)add[e];
        __syncthreads();
        rows_sum<V>(p, n.lanes, part_1, total_1);
        rows_sum<V>(p, n.lanes, part_2, total_2);
        __syncthreads();
        group_moments(n.width, n.pixels, channels / n.width, (int)blockIdx.x * channels / n.width, groups, total_1,
                      total_2, pivots, stats + (int64_t)p.image * groups * 2, moments);
        for (int e = 0; e < V; e++) { /* from here on u = (x - add) scale + bias */
                const float *m = moments + 2 * ((p.lane * V + e) / n.width);

                add[e] = m[0] - add[e];
                scale[e] *= m[1];
        }
        for (int pixel = p.row; p.works && pixel < n.pixels; pixel += FORWARD_LOADS * p.rows) {
                vector<T, V> raw[FORWARD_LOADS];

                inputs_at<FORWARD_LOADS, T, V>(n, p, pixel, raw);
#pragma unroll
                for (int i = 0; i < FORWARD_LOADS; i++)
                        if (pixel + i * p.rows < n.pixels)
                                output_at<T, V>(n, mask, p, pixel + i * p.rows, raw[i], add, scale, bias, y);
        }
}

/* ---- backward */

/* Pixels that are asked for together: what registers allow. */
template <class T> __device__ constexpr int backward_loads(void)
{
        return 4 / sizeof(T);
}

template <class T> struct norm_gradients {
        const T *dy;
        const float *stats;
        T *da, *db;
        bool accumulate_a, accumulate_b;
        float *daddend;
        double *shares; /* [n_images, c, 2]: of dscale and dbias */
};

/* A thread's channels: with d = x - centre, u = d slope + bias. */
template <int V> struct channel_norm {
        float centre[V], slope[V], bias[V];
};

template <class T, int V>
__device__ inline channel_norm<V> channel_norm_of(const norm_input<T> &n, const place &p, const float *stats)
{
        channel_norm<V> k = {};
        float add[V];

        channel_values<T, V>(n, p, add, k.slope, k.bias);
        for (int e = 0; e < V && p.works; e++) {
                const float *m = stats + 2 * ((p.channel + e) / n.width);

                k.centre[e] = m[0] - add[e];
                k.slope[e] *= m[1];
        }
        return k;
}

/* dy of the thread's next pixels, as inputs_at. */
template <class T, int V>
__device__ inline void gradients_at(const norm_input<T> &n, const norm_gradients<T> &g, const place &p, int pixel,
                                    vector<T, V> ret[backward_loads<T>()])
{
        const T *const dy = g.dy + (int64_t)p.image * n.pixels * (n.c_a + n.c_b) + p.channel;

#pragma unroll
        for (int i = 0; i < backward_loads<T>(); i++) {
                ret[i] = {};
                if (pixel + i * p.rows < n.pixels)
                        ret[i] = load<T, V>(dy + (int64_t)(pixel + i * p.rows) * (n.c_a + n.c_b));
        }
}

/* du and d of V channels of a pixel. */
template <class T, int V>
__device__ inline void slopes_at(const norm_input<T> &n, const mask_source &mask, const place &p, int pixel,
                                 const channel_norm<V> &k, const vector<T, V> &x, const vector<T, V> &dy, float du[V],
                                 float d[V])
{
        float keep[V];

        mask_at<T, V>(n, mask, p, pixel, keep);
        for (int e = 0; e < V; e++) {
                d[e] = widen(x.v[e]) - k.centre[e];
                du[e] = widen(dy.v[e]) * keep[e];
                if (n.swish) {
                        const float u = d[e] * k.slope[e] + k.bias[e], s = fast_sigmoid<T>(u);

                        du[e] *= s + u * s * (1 - s);
                }
        }
}

template <class T, int V>
__device__ inline void store_gradient(const norm_input<T> &n, const norm_gradients<T> &g, const place &p, int pixel,
                                      const float dx[V])
{
        const bool of_a = p.channel < n.c_a, accumulate = of_a ? g.accumulate_a : g.accumulate_b;
        const int64_t at = (int64_t)p.image * n.pixels + pixel;
        T *const to = of_a ? g.da + at * n.c_a + p.channel : g.db + at * n.c_b + (p.channel - n.c_a);
        vector<T, V> out;
        values<T, V> before = {};

        if (accumulate)
                before = widened<T, V>(load<T, V>(to));
        for (int e = 0; e < V; e++)
                out.v[e] = narrow<T>(dx[e] + before.v[e]);
        store<T, V>(to, out);
}

/* Sums over a thread's pixels of du d, du and d. */
template <class T, int V>
__device__ inline void slope_sums(const norm_input<T> &n, const norm_gradients<T> &g, const mask_source &mask,
                                  const place &p, const channel_norm<V> &k, float *part)
{
        for (int pixel = p.row, first = 1; first || (p.works && pixel < n.pixels); first = 0) {
                float run[MAX_SUMS][V] = {}, du[V], d[V];

                for (int i = 0; i < RUN_PIXELS && p.works;
                     i += backward_loads<T>(), pixel += backward_loads<T>() * p.rows) {
                        vector<T, V> x[backward_loads<T>()], dy[backward_loads<T>()];

                        inputs_at<backward_loads<T>(), T, V>(n, p, pixel, x);
                        gradients_at<T, V>(n, g, p, pixel, dy);
#pragma unroll
                        for (int j = 0; j < backward_loads<T>(); j++) {
                                if (pixel + j * p.rows >= n.pixels)
                                        break;
                                slopes_at<T, V>(n, mask, p, pixel + j * p.rows, k, x[j], dy[j], du, d);
                                for (int e = 0; e < V; e++) {
                                        run[0][e] += du[e] * d[e];
                                        run[1][e] += du[e];
                                        run[2][e] += d[e];
                                }
                        }
                }
                for (int i = 0; i < MAX_SUMS; i++)
                        part_add<V>(part + i * BLOCK * V, run[i], first);
        }
}

template <class T, int V>
__global__ void __launch_bounds__(BLOCK, 2) norm_backward(norm_input<T> n, norm_gradients<T> g)
{
        DYNAMIC_SHARED(double, shared);
        const place p = place_of<T, V>(n);
        const int channels = n.lanes * V, c = n.c_a + n.c_b, groups = c / n.width, c0 = (int)blockIdx.x * channels;
        double *const total = shared, *const total_a = total, *const total_b = total_a + channels;
        double *const total_d = total_b + channels;
        float *const group_means =
                (float *)(total_d + channels); /* [groups of the chunk, 2]: of dxhat, of dxhat xhat */
        float *const part = group_means + 2 * channels;
        const float *const stats = g.stats + 2 * (int64_t)p.image * groups;
        const mask_source mask = mask_of(n, p.image);
        const channel_norm<V> k = channel_norm_of<T, V>(n, p, stats);
        float du[V], d[V], mean[V], tilt[V];

        slope_sums<T, V>(n, g, mask, p, k, part);
        __syncthreads();
        for (int i = 0; i < MAX_SUMS; i++)
                rows_sum<V>(p, n.lanes, part + i * BLOCK * V, total + i * channels);
        __syncthreads();
        for (int i = threadIdx.x; i < channels / n.width; i += blockDim.x) {
                const double values = (double)n.pixels * n.width;
                double sum = 0, sum_xhat = 0;

                for (int j = i * n.width; j < (i + 1) * n.width && c0 + j < c; j++) {
                        const double w = n.scale[c0 + j];

                        sum += w * total_b[j];
                        sum_xhat += w * total_a[j] * stats[2 * ((c0 + j) / n.width) + 1];
                }
                group_means[2 * i] = (float)(sum / values);
                group_means[2 * i + 1] = (float)(sum_xhat / values);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < channels && c0 + i < c; i += blockDim.x) {
                const int64_t at = (int64_t)p.image * c + c0 + i;
                const float *of_group = group_means + 2 * (i / n.width);
                const double r = stats[2 * ((c0 + i) / n.width) + 1];

                g.shares[2 * at] = total_a[i] * r;
                g.shares[2 * at + 1] = total_b[i];
                if (g.daddend) /* the sum over pixels of dx */
                        g.daddend[at] = (float)(r * (n.scale[c0 + i] * total_b[i] - (double)n.pixels * of_group[0] -
                                                     total_d[i] * r * of_group[1]));
        }
        for (int e = 0; e < V; e++) { /* dx = du slope - mean - d tilt */
                const float *of_group = group_means + 2 * ((p.lane * V + e) / n.width);
                const float r = p.works ? stats[2 * ((p.channel + e) / n.width) + 1] : 0;

                mean[e] = of_group[0] * r;
                tilt[e] = of_group[1] * r * r;
        }
        for (int pixel = p.row; p.works && pixel < n.pixels; pixel += backward_loads<T>() * p.rows) {
                vector<T, V> x[backward_loads<T>()], dy[backward_loads<T>()];

                inputs_at<backward_loads<T>(), T, V>(n, p, pixel, x);
                gradients_at<T, V>(n, g, p, pixel, dy);
#pragma unroll
                for (int i = 0; i < backward_loads<T>(); i++) {
                        if (pixel + i * p.rows >= n.pixels)
                                break;
                        slopes_at<T, V>(n, mask, p, pixel + i * p.rows, k, x[i], dy[i], du, d);
                        for (int e = 0; e < V; e++)
                                du[e] = du[e] * k.slope[e] - mean[e] - d[e] * tilt[e];
                        store_gradient<T, V>(n, g, p, pixel + i * p.rows, du);
                }
        }
}

/* dscale and dbias of a channel a block: over the images. */
__global__ void __launch_bounds__(BLOCK)
        norm_weights(const double *shares, int n_images, int c, float *dscale, float *dbias, bool accumulate)
{
        const int channel = blockIdx.x;
        double a = 0, b = 0;

        for (int i = threadIdx.x; i < n_images; i += blockDim.x) {
                a += shares[2 * ((int64_t)i * c + channel)];
                b += shares[2 * ((int64_t)i * c + channel) + 1];
        }
        a = block_sum(a);
        b = block_sum(b);
        if (threadIdx.x == 0) {
                dscale[channel] = (float)(accumulate ? dscale[channel] + a : a);
                dbias[channel] = (float)(accumulate ? dbias[channel] + b : b);
        }
}

/* ---- launches */

template <class T, class A> norm_input<T> input_of(const struct norm *n, const A *a)
{
        const struct norm_shape *s = &n->shape;

        return {(const T *)a->a, (const T *)a->b, a->addend,
                a->scale,        a->bias,         (int)s->pixels,
                (int)s->c_a,     (int)s->c_b,     (int)((s->c_a + s->c_b) / s->groups),
                n->lanes,        a->swish,        a->dropout};
}

dim3 grid_of_norm(const struct norm *n)
{
        const int64_t channels = (int64_t)n->lanes * n->v;

        return dim3((unsigned)((n->shape.c_a + n->shape.c_b + channels - 1) / channels), (unsigned)n->shape.n_images);
}

/* MAX_SUMS doubles and two floats by channel; as many floats by thread and channel. */
size_t shared_of(const struct norm *n, int sums)
{
        const size_t channels = (size_t)(n->lanes * n->v);

        return (MAX_SUMS * sizeof(double) + 2 * sizeof(float)) * channels +
               sizeof(float) * (size_t)(sums * BLOCK * n->v);
}

template <class T> void forward(struct stream *s, const struct norm_forward_args *a)
{
        const struct norm *n = a->norm;

        if (n->v == 8)
                RUN(s, "norm_forward", (norm_forward<T, 8>), grid_of_norm(n), BLOCK, shared_of(n, 2), input_of<T>(n, a),
                    (T *)a->y, a->stats);
        else
                RUN(s, "norm_forward", (norm_forward<T, 1>), grid_of_norm(n), BLOCK, shared_of(n, 2), input_of<T>(n, a),
                    (T *)a->y, a->stats);
}

template <class T> void backward(struct stream *s, const struct norm_backward_args *a)
{
        const struct norm *n = a->norm;
        const int64_t c = n->shape.c_a + n->shape.c_b;
        double *shares = (double *)a->workspace;
        const norm_gradients<T> g = {(const T *)a->dy, a->stats,        (T *)a->da, (T *)a->db,
                                     a->accumulate_a,  a->accumulate_b, a->daddend, shares};

        if (n->v == 8)
                RUN(s, "norm_backward", (norm_backward<T, 8>), grid_of_norm(n), BLOCK, shared_of(n, MAX_SUMS),
                    input_of<T>(n, a), g);
        else
                RUN(s, "norm_backward", (norm_backward<T, 1>), grid_of_norm(n), BLOCK, shared_of(n, MAX_SUMS),
                    input_of<T>(n, a), g);
        if (a->dscale)
                RUN(s, "norm_backward", norm_weights, (unsigned)c, BLOCK, 0, (const double *)shares,
                    (int)n->shape.n_images, (int)c, a->dscale, a->dbias, a->accumulate_weights);
}
} // namespace

void cuda_norm_forward(struct stream *s, const struct norm_forward_args *a)
{
        if (a->norm->shape.type == DTYPE_BF16)
                forward<bf16>(s, a);
        else
                forward<float>(s, a);
}

void cuda_norm_backward(struct stream *s, const struct norm_backward_args *a)
{
        if (a->norm->shape.type == DTYPE_BF16)
                backward<bf16>(s, a);
        else
                backward<float>(s, a);
}
