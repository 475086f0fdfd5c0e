/* y = dropout(swish(GroupNorm([a | b] + addend; groups, eps 1e-6) scale + bias)) and its gradients. Spec 1; Wu & He
 * 2018. With xhat = (x - mean) / std, u = xhat scale + bias, N values a group: du = dy mask swish'(u), dscale = sum du
 * xhat, dbias = sum du, dxhat = du scale, dx = (dxhat - sum(dxhat) / N - xhat sum(dxhat xhat) / N) / std, the sums over
 * the group.
 *
 * A block has one image's chunk of whole groups; a thread has V neighbouring channels (its lane) of each rows-th pixel.
 * It keeps them in shared memory (each thread its own, so nobody waits) from the sums to the results: each value is
 * read once and written once. Of a map larger than 32 x 32 the first pixels are kept and the others read again. Sums
 * are float over a thread's pixels and a warp's rows, then double; shifted by the channel's first value where they are
 * squared. Dropout's mask is drawn again backward, once: one draw is V = 8 neighbouring values. The instructions are
 * what takes time here: see tests/bench/gpu/README.md before one is added to a pixel's loop. */
#include "kernels/cuda/approximate.h"
#include "kernels/cuda/cuda.h"

#include <errno.h>

#define EPS 1e-6

/* Bytes of a pixel in a chunk, at least, and of what a block keeps: three blocks a multiprocessor, with their sums. */
enum { FORWARD_CHUNK = 64, BACKWARD_CHUNK = 32, KEPT_BYTES = 64 << 10, MAX_LANES = 128 };

struct norm {
        struct norm_shape shape;           /* first: kernels/cost.h */
        int v;                             /* channels of a thread */
        int forward_lanes, backward_lanes; /* a chunk is v lanes channels: forward, backward */
};

namespace
{

template <class T> struct norm_input {
        const T *a, *b;
        const float *addend, *scale, *bias;
        int pixels, c_a, c_b, width;
        int lanes, lane_slots; /* of a chunk; the same, as a power of two: threads a row */
        int kept;              /* pixels that a thread keeps */
        bool swish;
        struct dropout dropout;
};

/* Pixels of a thread, at the most: a block's threads share out a map's. */
template <class T> __host__ __device__ inline int own_pixels(const norm_input<T> &n)
{
        return (n.pixels * n.lane_slots + BLOCK - 1) / BLOCK;
}

/* Where a thread works: V channels of each rows-th pixel from `row` on, at from[pixel * stride]. */
template <class T> struct place {
        int image, lane, row, rows, channel; /* channel: the first of its V */
        bool works, of_a;                    /* of_a: its channels are a's, else b's */
        const T *from;
        int stride;
};

template <class T, int V> __device__ inline place<T> place_of(const norm_input<T> &n)
{
        place<T> p;

        p.image = blockIdx.y;
        p.lane = threadIdx.x % n.lane_slots;
        p.row = threadIdx.x / n.lane_slots;
        p.rows = BLOCK / n.lane_slots;
        p.channel = ((int)blockIdx.x * n.lanes + p.lane) * V;
        p.works = p.lane < n.lanes && p.channel < n.c_a + n.c_b;
        p.of_a = p.channel < n.c_a || n.c_b == 0;
        p.stride = p.of_a ? n.c_a : n.c_b;
        p.from = (p.of_a ? n.a : n.b - n.c_a) + (int64_t)p.image * n.pixels * p.stride + p.channel;
        return p;
}

/* What a norm's output goes through, where a kernel is compiled for it alone; ANY: what the arguments say. */
enum kind { PLAIN, SWISH, SWISH_DRAWN, ANY };

template <enum kind K, class T> __device__ inline bool has_swish(const norm_input<T> &n)
{
        return K == ANY ? n.swish : K != PLAIN;
}

template <class T> __device__ inline float sigmoid(float x)
{
        constexpr float LOG2_E = 1.44269504f;

        return approximate_reciprocal(1.0f + approximate_exp2(-LOG2_E * x));
}

template <> __device__ inline float sigmoid<float>(float x)
{
        return 1.0f / (1.0f + expf(-x));
}

/* The thread's pixels i .. i + N of a map, all asked for before the first is used; 0 behind the end. */
template <int N, class T, int V>
__device__ inline void pixels_at(const place<T> &p, const T *from, int stride, int i, int pixels, vector<T, V> ret[N])
{
#pragma unroll
        for (int j = 0; j < N; j++) {
                const int pixel = p.row + (i + j) * p.rows;

                ret[j] = {};
                if (p.works && pixel < pixels)
                        ret[j] = load<T, V>(from + pixel * stride);
        }
}

/* The thread's pixel i of a map once more: as it was kept, or from there. */
template <class T, int V>
__device__ inline void pixel_again(const norm_input<T> &n, const place<T> &p, const T *from, int stride, int i,
                                   const vector<T, V> *kept, float ret[V])
{
        if (i < n.kept)
                widen(kept[i * BLOCK + threadIdx.x], ret);
        else
                widen(load<T, V>(from + (p.row + i * p.rows) * stride), ret);
}

/* ---- the norm of a channel: u = d slope + bias. d is x - centre, so that nothing cancels; of bf16 it is x itself,
 * which has fewer digits than what cancels takes: the bias has the rest, and centre says what d lacks of x - mean. */

enum channel_values { SLOPE, BIAS, CENTRE, N_VALUES };
enum gradient_values { SLOPE_OUT, MEAN, TILT };

template <int V> struct channel_norm {
        float slope[V], bias[V], centre[V];
};

template <class T> __device__ constexpr bool centred(void)
{
        return sizeof(T) == sizeof(float);
}

template <class T> __device__ inline float from_centre(float x, float centre)
{
        return centred<T>() ? x - centre : x;
}

/* What d lacks. */
template <class T> __device__ inline float not_taken_off(float centre)
{
        return centred<T>() ? 0 : centre;
}

/* [N_VALUES, channels] of the chunk from channel c0 on. moments: mean and 1 / std of groups, from first_group on. A
 * thread a channel; then a barrier. */
template <class T>
__device__ inline void channels_prepare(const norm_input<T> &n, int image, int c0, int channels, const float *moments,
                                        int first_group, float *values)
{
        const int c = n.c_a + n.c_b;

        for (int i = threadIdx.x; i < channels && c0 + i < c; i += BLOCK) {
                const float *m = moments + 2 * ((c0 + i) / n.width - first_group);
                const float centre = m[0] - (n.addend ? n.addend[image * c + c0 + i] : 0);
                const float slope = n.scale[c0 + i] * m[1];

                values[SLOPE * channels + i] = slope;
                values[CENTRE * channels + i] = centre;
                values[BIAS * channels + i] =
                        (float)(n.bias[c0 + i] - (double)not_taken_off<T>(centre) * (double)slope);
        }
        __syncthreads();
}

/* Row `row` of such values, those of the thread's channels. */
template <class T, int V>
__device__ inline void channels_read(const place<T> &p, int channels, const float *values, int row, float ret[V])
{
        constexpr int N = V % 4 ? 1 : 4;

        for (int e = 0; e < V; e += N) {
                const vector<float, N> x = load<float, N>(values + row * channels + p.lane * V + e);

                for (int i = 0; i < N; i++)
                        ret[e + i] = x.v[i];
        }
}

template <class T, int V>
__device__ inline channel_norm<V> channels_norm(const place<T> &p, int channels, const float *values)
{
        channel_norm<V> k;

        channels_read<T, V>(p, channels, values, SLOPE, k.slope);
        channels_read<T, V>(p, channels, values, BIAS, k.bias);
        channels_read<T, V>(p, channels, values, CENTRE, k.centre);
        return k;
}

/* ---- dropout */

struct mask_source {
        uint32_t seed, least; /* kept where the half is at least that */
        uint64_t image, step;
        float kept; /* the multiplier of what is kept */
        bool drawn;
        const float *given; /* the image's multipliers, or NULL */
};

/* Of the block's image, to shared memory, by one thread; a barrier follows. */
template <enum kind K, class T> __device__ inline void mask_prepare(const norm_input<T> &n, int image, mask_source *ret)
{
        mask_source m = {};

        if (threadIdx.x != 0)
                return;
        m.kept = 1;
        if (K == ANY && n.dropout.mask)
                m.given = n.dropout.mask + (int64_t)image * n.pixels * (n.c_a + n.c_b);
        else if (K == SWISH_DRAWN || (K == ANY && n.dropout.rate > 0)) {
                m.drawn = true;
                m.seed = n.dropout.state->seed;
                m.step = (uint64_t)n.dropout.state->step;
                m.image = n.dropout.rows[image].image;
                m.least = (uint32_t)lrint(n.dropout.rate * 65536.0);
                m.kept = (float)(1.0 / (1.0 - n.dropout.rate));
        }
        *ret = m;
}

/* Half `at` of a draw's eight. */
__device__ inline uint32_t half_of(const struct philox &d, int at)
{
        const uint32_t word = at < 4 ? at < 2 ? d.v[0] : d.v[1] : at < 6 ? d.v[2] : d.v[3];

        return at % 2 ? word >> 16 : word & 0xFFFFu;
}

/* V values from element `at` of the image on: times a given mask, or 0 where they are dropped; m.kept is left to the
 * caller. */
template <enum kind K, class T, int V>
__device__ inline void mask_apply(const norm_input<T> &n, const mask_source &m, int at, float x[V])
{
        if (K == ANY && m.given) {
                for (int e = 0; e < V; e++)
                        x[e] *= m.given[at + e];
        } else if (K == SWISH_DRAWN || (K == ANY && m.drawn)) {
                const struct philox d =
                        philox_draw(m.seed, STREAM_DROPOUT, n.dropout.block, (uint32_t)(at / 8), m.image, m.step, 0);

#pragma unroll
                for (int e = 0; e < V; e++)
                        x[e] = half_of(d, V == 8 ? e : at % 8) >= m.least ? x[e] : 0;
        }
}

/* ---- sums over a chunk's pixels, by channel */

/* Which of its channels' sums a thread has in the end: x[0 .. count), of those from `first` on; `spare`: another lane
 * has the same. */
struct sum_share {
        int first, count;
        bool spare;
};

/* x of the rows of a warp is added up. A lane gives half of what it has and takes the other's half, while there is more
 * than one. */
template <int V> __device__ inline sum_share warp_rows_sum(int lane_slots, float x[V])
{
        sum_share share = {0, V, false};

#pragma unroll
        for (int bit = 16, half = V / 2; bit > 0; bit /= 2, half /= 2) {
                const bool upper = threadIdx.x & bit;

                if (bit < lane_slots)
                        break;
                for (int e = 0; e < half; e++) {
                        const float theirs = __shfl_xor_sync(ALL_LANES, upper ? x[e] : x[e + half], bit);

                        x[e] = (upper ? x[e + half] : x[e]) + theirs;
                }
                if (half > 0) {
                        share.first += upper ? half : 0;
                        share.count = half;
                } else {
                        x[0] += __shfl_xor_sync(ALL_LANES, x[0], bit);
                        share.spare = share.spare || upper;
                }
        }
        return share;
}

/* Lines of sums that a block's warps leave, each of a chunk's channels. */
__host__ __device__ inline int sum_lines(int lane_slots)
{
        return BLOCK / (lane_slots > 32 ? lane_slots : 32);
}

/* total [S, channels]: the sums over all rows of x, in double over the warps; part has S sum_lines of channels.
 * Barriers before the totals are written and behind. All threads. */
template <int S, class T, int V>
__device__ inline void rows_sum(const norm_input<T> &n, const place<T> &p, float x[S][V], float *part, double *total)
{
        const int lines = sum_lines(n.lane_slots), channels = n.lanes * V, line = threadIdx.x / (BLOCK / lines);

#pragma unroll
        for (int s = 0; s < S; s++) {
                const sum_share share = warp_rows_sum<V>(n.lane_slots, x[s]);

                for (int e = 0; e < V && !share.spare; e++) /* unrolled: e is a constant, count is not */
                        if (e < share.count && p.lane < n.lanes)
                                part[(s * lines + line) * channels + p.lane * V + share.first + e] = x[s][e];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < S * channels; i += BLOCK) {
                const float *of_sum = part + i / channels * lines * channels + i % channels;
                double sum = 0;

                for (int l = 0; l < lines; l++)
                        sum += (double)of_sum[l * channels];
                total[i] = sum;
        }
        __syncthreads();
}

/* ---- forward */

/* Pixels that a thread asks for together, and blocks of a multiprocessor: what registers allow. */
enum { FORWARD_LOADS = 4, FORWARD_SUMS = 2 };

template <class T> constexpr int blocks_of(void)
{
        return sizeof(T) == sizeof(bf16) ? 3 : 2;
}

/* mean and 1 / std of the chunk's groups, to stats and to `moments`. x = pivot + d by channel, addend and all: the sum
 * of squares about the mean is that of d, moved. */
__device__ inline void group_moments(int width, int pixels, int n_groups, int first_group, int groups,
                                     const double *d_1, const double *d_2, const double *pivot, float *stats,
                                     float *moments)
{
        for (int g = threadIdx.x; g < n_groups && first_group + g < groups; g += BLOCK) {
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
                stats[2 * (first_group + g)] = moments[2 * g];
                stats[2 * (first_group + g) + 1] = moments[2 * g + 1];
        }
        __syncthreads();
}

/* Sums over the thread's pixels of x - pivot and of its square, by channel. */
template <class T, int V>
__device__ inline void moment_sums(const norm_input<T> &n, const place<T> &p, const float pivot[V], vector<T, V> *kept,
                                   float sums[FORWARD_SUMS][V])
{
        constexpr int N = FORWARD_LOADS;
        const int own = own_pixels(n);
        vector<T, V> x[N];

        for (int i = 0; i < own; i += N) {
                pixels_at<N, T, V>(p, p.from, p.stride, i, n.pixels, x);
#pragma unroll
                for (int j = 0; j < N; j++) {
                        float d[V];

                        if (!p.works || p.row + (i + j) * p.rows >= n.pixels)
                                break;
                        if (i + j < n.kept)
                                kept[(i + j) * BLOCK + threadIdx.x] = x[j];
                        widen(x[j], d);
                        for (int e = 0; e < V; e++) {
                                d[e] -= pivot[e];
                                sums[0][e] += d[e];
                                sums[1][e] += d[e] * d[e];
                        }
                }
        }
}

/* y of V channels of a pixel, the element `at` of the image and those behind it, from x in u. */
template <enum kind K, class T, int V>
__device__ inline void output_at(const norm_input<T> &n, const mask_source &mask, int at, const channel_norm<V> &k,
                                 float u[V], T *y)
{
        for (int e = 0; e < V; e++) {
                u[e] = from_centre<T>(u[e], k.centre[e]) * k.slope[e] + k.bias[e];
                if (has_swish<K>(n))
                        u[e] *= sigmoid<T>(u[e]);
        }
        mask_apply<K, T, V>(n, mask, at, u);
        for (int e = 0; e < V && (K == SWISH_DRAWN || K == ANY); e++)
                u[e] *= mask.kept;
        store<T, V>(y + at, narrow<T, V>(u));
}

template <enum kind K, class T, int V>
__global__ void __launch_bounds__(BLOCK, blocks_of<T>()) norm_forward(norm_input<T> n, T *y, float *stats)
{
        DYNAMIC_SHARED(double, shared);
        SHARED(mask_source, mask, [1]);
        const place<T> p = place_of<T, V>(n);
        const int channels = n.lanes * V, c = n.c_a + n.c_b, c0 = (int)blockIdx.x * channels;
        const int groups = c / n.width, lines = sum_lines(n.lane_slots);
        vector<T, V> *const kept = reinterpret_cast<vector<T, V> *>(shared);
        double *const pivots = reinterpret_cast<double *>(kept + n.kept * BLOCK), *const total = pivots + channels;
        float *const part = (float *)(total + FORWARD_SUMS * channels);
        float *const values = part + FORWARD_SUMS * lines * channels, *const moments = values + N_VALUES * channels;
        float sums[FORWARD_SUMS][V] = {}, pivot[V] = {};

        if (p.works)
                widen(load<T, V>(p.from), pivot);
        for (int e = 0; e < V && p.works && p.row == 0; e++)
                pivots[p.lane * V + e] = (double)pivot[e] + (n.addend ? n.addend[p.image * c + p.channel + e] : 0);
        mask_prepare<K>(n, p.image, mask);
        moment_sums<T, V>(n, p, pivot, kept, sums);
        rows_sum<FORWARD_SUMS, T, V>(n, p, sums, part, total);
        group_moments(n.width, n.pixels, channels / n.width, c0 / n.width, groups, total, total + channels, pivots,
                      stats + (int64_t)p.image * groups * 2, moments);
        channels_prepare(n, p.image, c0, channels, moments, c0 / n.width, values);
        if (!p.works)
                return;
        const channel_norm<V> k = channels_norm<T, V>(p, channels, values);

        y += (int64_t)p.image * n.pixels * c;
#pragma unroll 2
        for (int i = 0; p.row + i * p.rows < n.pixels; i++) {
                float x[V];

                pixel_again<T, V>(n, p, p.from, p.stride, i, kept, x);
                output_at<K, T, V>(n, mask[0], (p.row + i * p.rows) * c + p.channel, k, x, y);
        }
}

/* ---- backward */

/* Pixels of x, and as many of dy, that a thread asks for together. */
template <class T> __device__ constexpr int backward_loads(void)
{
        return 4 / sizeof(T);
}

/* du d, du and d: with du but for the mask's multiplier */
enum gradient_sums { OF_DU_D, OF_DU, OF_D, N_SUMS };

template <class T> struct norm_gradients {
        const T *dy;
        const float *stats;
        T *da, *db;
        bool accumulate_a, accumulate_b;
        float *daddend;
        double *shares; /* [n_images, c, 2]: of dscale and dbias */
};

/* d of V channels from x, and du from dy behind its mask. */
template <enum kind K, class T, int V>
__device__ inline void slopes_at(const norm_input<T> &n, const channel_norm<V> &k, float x[V], float dy[V])
{
        for (int e = 0; e < V; e++) {
                x[e] = from_centre<T>(x[e], k.centre[e]);
                if (has_swish<K>(n)) {
                        const float u = x[e] * k.slope[e] + k.bias[e], s = sigmoid<T>(u);

                        dy[e] *= s * (1 + u * (1 - s));
                }
        }
}

/* What a channel's sums over pixels say, of du with the multiplier `kept`; xhat std = x - mean. */
struct channel_sums {
        double du, du_centred, centred;
};

template <class T>
__device__ inline channel_sums sums_of(const double *total, int channels, int i, int pixels, double kept, float centre)
{
        const double rest = not_taken_off<T>(centre), du = kept * total[OF_DU * channels + i];

        return {du, kept * total[OF_DU_D * channels + i] - rest * du, total[OF_D * channels + i] - rest * pixels};
}

/* The chunk's share of dscale and dbias, daddend, and in `ret` [3, channels] what makes dx of du and d: dx = du
 * SLOPE_OUT
 * - MEAN - d TILT. means: two floats a group. All threads. */
template <class T>
__device__ inline void chunk_gradients(const norm_input<T> &n, const norm_gradients<T> &g, int image, int c0,
                                       int channels, double kept, const float *stats, const double *total,
                                       const float *values, float *means, float *ret)
{
        const int c = n.c_a + n.c_b;
        const float *centre = values + CENTRE * channels;

        for (int i = threadIdx.x; i < channels / n.width && c0 + i * n.width < c; i += BLOCK) {
                const double r = stats[2 * (c0 / n.width + i) + 1], count = (double)n.pixels * n.width;
                double sum = 0, sum_xhat = 0; /* of dxhat, of dxhat xhat */

                for (int j = i * n.width; j < (i + 1) * n.width; j++) {
                        const channel_sums s = sums_of<T>(total, channels, j, n.pixels, kept, centre[j]);

                        sum += n.scale[c0 + j] * s.du;
                        sum_xhat += n.scale[c0 + j] * s.du_centred * r;
                }
                means[2 * i] = (float)(sum / count);
                means[2 * i + 1] = (float)(sum_xhat / count);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < channels && c0 + i < c; i += BLOCK) {
                const channel_sums s = sums_of<T>(total, channels, i, n.pixels, kept, centre[i]);
                const int64_t at = (int64_t)image * c + c0 + i;
                const float *mean = means + 2 * (i / n.width);
                const double r = stats[2 * ((c0 + i) / n.width) + 1];

                g.shares[2 * at] = s.du_centred * r;
                g.shares[2 * at + 1] = s.du;
                if (g.daddend) /* the sum over pixels of dx */
                        g.daddend[at] = (float)(r * (n.scale[c0 + i] * s.du - (double)n.pixels * mean[0] -
                                                     s.centred * r * mean[1]));
                ret[SLOPE_OUT * channels + i] = (float)(kept * values[SLOPE * channels + i]);
                ret[TILT * channels + i] = (float)(mean[1] * r * r);
                ret[MEAN * channels + i] = (float)(r * (mean[0] - not_taken_off<T>(centre[i]) * r * mean[1]));
        }
        __syncthreads();
}

/* What a thread keeps from the sums to the gradients: x, and dy, behind the mask where it is drawn. */
template <class T, int V> struct kept_pixels {
        vector<T, V> *x, *dy;
};

/* The sums over the thread's pixels. dy_from: as place.from, of dy. */
template <enum kind K, class T, int V>
__device__ inline void slope_sums(const norm_input<T> &n, const place<T> &p, const mask_source &mask,
                                  const float *values, const T *dy_from, const kept_pixels<T, V> &kept,
                                  float sums[N_SUMS][V])
{
        constexpr int N = backward_loads<T>();
        const int c = n.c_a + n.c_b, own = own_pixels(n);
        vector<T, V> x[N], dy[N];

        for (int i = 0; i < own; i += N) {
                pixels_at<N, T, V>(p, p.from, p.stride, i, n.pixels, x);
                pixels_at<N, T, V>(p, dy_from, c, i, n.pixels, dy);
#pragma unroll
                for (int j = 0; j < N; j++) {
                        const int pixel = p.row + (i + j) * p.rows, room = (i + j) * BLOCK + (int)threadIdx.x;
                        float d[V], du[V];

                        if (!p.works || pixel >= n.pixels)
                                break;
                        compiler_fence();
                        widen(x[j], d);
                        widen(dy[j], du);
                        mask_apply<K, T, V>(n, mask, pixel * c + p.channel, du);
                        if (i + j < n.kept) {
                                kept.x[room] = x[j];
                                kept.dy[room] = K == SWISH_DRAWN ? narrow<T, V>(du) : dy[j];
                        }
                        slopes_at<K, T, V>(n, channels_norm<T, V>(p, n.lanes * V, values), d, du);
                        for (int e = 0; e < V; e++) {
                                sums[OF_DU_D][e] += du[e] * d[e];
                                sums[OF_DU][e] += du[e];
                                sums[OF_D][e] += d[e];
                        }
                }
        }
}

/* dx of the thread's pixels, to `to` as place.from, or added to what is there. values: chunk_gradients'. */
template <enum kind K, class T, int V>
__device__ inline void gradients_write(const norm_input<T> &n, const place<T> &p, const mask_source &mask,
                                       const float *values, const float *out_values, const T *dy_from,
                                       const kept_pixels<T, V> &kept, T *to, bool accumulate)
{
        const int c = n.c_a + n.c_b, channels = n.lanes * V;

#pragma unroll 1
        for (int i = 0; p.works && p.row + i * p.rows < n.pixels; i++) {
                const int pixel = p.row + i * p.rows;
                float d[V], du[V], old[V] = {}, slope[V], mean[V], tilt[V];

                if (accumulate)
                        widen(load<T, V>(to + pixel * p.stride), old);
                pixel_again<T, V>(n, p, p.from, p.stride, i, kept.x, d);
                pixel_again<T, V>(n, p, dy_from, c, i, kept.dy, du);
                if (K == ANY || (K == SWISH_DRAWN && i >= n.kept))
                        mask_apply<K, T, V>(n, mask, pixel * c + p.channel, du);
                compiler_fence();
                slopes_at<K, T, V>(n, channels_norm<T, V>(p, channels, values), d, du);
                channels_read<T, V>(p, channels, out_values, SLOPE_OUT, slope);
                channels_read<T, V>(p, channels, out_values, MEAN, mean);
                channels_read<T, V>(p, channels, out_values, TILT, tilt);
                for (int e = 0; e < V; e++)
                        d[e] = du[e] * slope[e] - mean[e] - d[e] * tilt[e] + old[e];
                store<T, V>(to + pixel * p.stride, narrow<T, V>(d));
        }
}

template <enum kind K, class T, int V>
__global__ void __launch_bounds__(BLOCK, blocks_of<T>()) norm_backward(norm_input<T> n, norm_gradients<T> g)
{
        DYNAMIC_SHARED(double, shared);
        SHARED(mask_source, mask, [1]);
        const place<T> p = place_of<T, V>(n);
        const int channels = n.lanes * V, c = n.c_a + n.c_b, c0 = (int)blockIdx.x * channels;
        const int lines = sum_lines(n.lane_slots);
        vector<T, V> *const room = reinterpret_cast<vector<T, V> *>(shared);
        const kept_pixels<T, V> kept = {room, room + n.kept * BLOCK};
        double *const total = reinterpret_cast<double *>(room + 2 * n.kept * BLOCK);
        float *const part = (float *)(total + N_SUMS * channels);
        float *const values = part + N_SUMS * lines * channels, *const out_values = values + N_VALUES * channels;
        float *const means = out_values + N_VALUES * channels;
        const float *const stats = g.stats + 2 * (int64_t)p.image * (c / n.width);
        const T *const dy_from = g.dy + (int64_t)p.image * n.pixels * c + p.channel;
        float sums[N_SUMS][V] = {};

        mask_prepare<K>(n, p.image, mask);
        channels_prepare(n, p.image, c0, channels, stats, 0, values);
        slope_sums<K, T, V>(n, p, mask[0], values, dy_from, kept, sums);
        rows_sum<N_SUMS, T, V>(n, p, sums, part, total);
        chunk_gradients(n, g, p.image, c0, channels, (double)mask->kept, stats, total, values, means, out_values);
        gradients_write<K, T, V>(n, p, mask[0], values, out_values, dy_from, kept,
                                 (p.of_a ? g.da : g.db - n.c_a) + (int64_t)p.image * n.pixels * p.stride + p.channel,
                                 p.of_a ? g.accumulate_a : g.accumulate_b);
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

template <class T, class A> norm_input<T> input_of(const struct norm *n, const A *a, int lanes, int n_kept)
{
        const struct norm_shape *s = &n->shape;
        norm_input<T> in = {(const T *)a->a, (const T *)a->b, a->addend, a->scale, a->bias};
        int own, room = KEPT_BYTES / (n_kept * BLOCK * n->v * (int)sizeof(T));

        in.pixels = (int)s->pixels;
        in.c_a = (int)s->c_a;
        in.c_b = (int)s->c_b;
        in.width = (int)((s->c_a + s->c_b) / s->groups);
        in.lanes = lanes;
        for (in.lane_slots = 1; in.lane_slots < lanes;)
                in.lane_slots *= 2;
        own = own_pixels(in);
        in.kept = own < room ? own : room;
        in.swish = a->swish;
        in.dropout = a->dropout;
        return in;
}

template <class T> norm_input<T> forward_input(const struct norm_forward_args *a)
{
        return input_of<T>(a->norm, a, a->norm->forward_lanes, 1);
}

template <class T> norm_input<T> backward_input(const struct norm_backward_args *a)
{
        return input_of<T>(a->norm, a, a->norm->backward_lanes, 2);
}

template <class T> dim3 grid_of_norm(const norm_input<T> &n, const struct norm_shape *s, int v)
{
        const int channels = n.lanes * v;

        return dim3((unsigned)((n.c_a + n.c_b + channels - 1) / channels), (unsigned)s->n_images);
}

/* By channel: three doubles (a pivot and two sums, or three sums), a float for each line of a sum and each value. */
constexpr size_t channel_bytes(int sums, int lines)
{
        return 3 * sizeof(double) + (size_t)(sums * lines + 2 * N_VALUES) * sizeof(float);
}

/* What is kept, of the chunk's channels, and two floats a group. */
template <class T> size_t shared_of(const norm_input<T> &n, int v, int n_kept, int sums)
{
        const size_t channels = (size_t)(n.lanes * v);

        return (size_t)(n_kept * n.kept * BLOCK * v) * sizeof(T) +
               channel_bytes(sums, sum_lines(n.lane_slots)) * channels +
               2 * sizeof(float) * (channels / (size_t)n.width);
}

template <class T> enum kind kind_of(const norm_input<T> &n)
{
        if (n.dropout.mask || (n.dropout.rate > 0 && !n.swish))
                return ANY;
        return !n.swish ? PLAIN : n.dropout.rate > 0 ? SWISH_DRAWN : SWISH;
}

template <enum kind K, class T, int V>
void forward_kind(struct stream *s, const struct norm_forward_args *a, const norm_input<T> &in)
{
        RUN(s, "norm_forward", (norm_forward<K, T, V>), grid_of_norm(in, &a->norm->shape, V), BLOCK,
            shared_of(in, V, 1, FORWARD_SUMS), in, (T *)a->y, a->stats);
}

template <enum kind K, class T, int V>
void backward_kind(struct stream *s, const struct norm *n, const norm_input<T> &in, const norm_gradients<T> &g)
{
        RUN(s, "norm_backward", (norm_backward<K, T, V>), grid_of_norm(in, &n->shape, V), BLOCK,
            shared_of(in, V, 2, N_SUMS), in, g);
}

/* fn<kind, T, V>; with a channel a thread, which no network has, ANY */
#define BY_KIND(in, fn, T, V, ...)                                                                                     \
        do {                                                                                                           \
                const enum kind kind_ = V == 1 ? ANY : kind_of(in);                                                    \
                if (kind_ == ANY)                                                                                      \
                        fn<ANY, T, V>(__VA_ARGS__);                                                                    \
                else if (kind_ == PLAIN)                                                                               \
                        fn<V == 1 ? ANY : PLAIN, T, V>(__VA_ARGS__);                                                   \
                else if (kind_ == SWISH)                                                                               \
                        fn<V == 1 ? ANY : SWISH, T, V>(__VA_ARGS__);                                                   \
                else                                                                                                   \
                        fn<V == 1 ? ANY : SWISH_DRAWN, T, V>(__VA_ARGS__);                                             \
        } while (0)

template <class T, int V> void forward(struct stream *s, const struct norm_forward_args *a)
{
        const norm_input<T> in = forward_input<T>(a);

        BY_KIND(in, forward_kind, T, V, s, a, in);
}

template <class T, int V> void backward(struct stream *s, const struct norm_backward_args *a)
{
        const struct norm *n = a->norm;
        const norm_input<T> in = backward_input<T>(a);
        const int64_t c = n->shape.c_a + n->shape.c_b;
        double *shares = (double *)a->workspace;
        const norm_gradients<T> g = {(const T *)a->dy, a->stats,        (T *)a->da, (T *)a->db,
                                     a->accumulate_a,  a->accumulate_b, a->daddend, shares};

        BY_KIND(in, backward_kind, T, V, s, n, in, g);
        if (a->dscale)
                RUN(s, "norm_backward", norm_weights, (unsigned)c, BLOCK, 0, (const double *)shares,
                    (int)n->shape.n_images, (int)c, a->dscale, a->dbias, a->accumulate_weights);
}

/* Blocks take more shared memory than a kernel gets unasked. */
template <enum kind K, class T, int V> cudaError_t shared_allow_kind(void)
{
        const enum cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
        const size_t bytes = KEPT_BYTES + MAX_LANES * V * (channel_bytes(0, 0) + 2 * sizeof(float)) +
                             (size_t)(N_SUMS * BLOCK * V) * sizeof(float);
        cudaError_t e = cudaFuncSetAttribute((const void *)norm_forward<K, T, V>, most, (int)bytes);

        return e == cudaSuccess ? cudaFuncSetAttribute((const void *)norm_backward<K, T, V>, most, (int)bytes) : e;
}

template <class T, int V> cudaError_t shared_allow(void)
{
        cudaError_t e = shared_allow_kind<ANY, T, V>();

        if constexpr (V > 1) {
                e = e == cudaSuccess ? shared_allow_kind<PLAIN, T, V>() : e;
                e = e == cudaSuccess ? shared_allow_kind<SWISH, T, V>() : e;
                e = e == cudaSuccess ? shared_allow_kind<SWISH_DRAWN, T, V>() : e;
        }
        return e;
}
} // namespace

/* fn<type, vector> for the plan */
#define BY_PLAN(n, fn, ...)                                                                                            \
        ((n)->shape.type == DTYPE_BF16 ? (n)->v == 8 ? fn<bf16, 8>(__VA_ARGS__) : fn<bf16, 1>(__VA_ARGS__)             \
         : (n)->v == 8 ? fn<float, 8>(__VA_ARGS__)                                                                     \
                                       : fn<float, 1>(__VA_ARGS__))

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

/* Lanes of a chunk of whole units of channels. */
static int lanes_of(int64_t bytes, int64_t unit, const struct norm *n)
{
        const int64_t channels = bytes / (int64_t)dtype_bytes(n->shape.type);

        return (int)((channels + unit - 1) / unit * unit / n->v);
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
        n->forward_lanes = lanes_of(FORWARD_CHUNK, unit, n);
        n->backward_lanes = lanes_of(BACKWARD_CHUNK, unit, n);
        if (unit > MAX_LANES * n->v)
                r = error_set(err, -ENOTSUP, "norm", "groups of %lld channels are not computed by this back end",
                              (long long)((shape->c_a + shape->c_b) / shape->groups));
        else if (BY_PLAN(n, shared_allow) != cudaSuccess)
                r = error_set(err, -ENOTSUP, "norm", "a block gets no %d KiB of shared memory", KEPT_BYTES >> 10);
        if (r < 0) {
                free(n);
                return r;
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

void cuda_norm_forward(struct stream *s, const struct norm_forward_args *a)
{
        BY_PLAN(a->norm, forward, s, a);
}

void cuda_norm_backward(struct stream *s, const struct norm_backward_args *a)
{
        BY_PLAN(a->norm, backward, s, a);
}

/* ---- bytes beyond the operands: pixels that no thread keeps, read twice; the images' shares of dscale and dbias,
 * written and read. */

/* Of a map's values. */
template <class T> double share_read_twice(const norm_input<T> &n)
{
        const int own = own_pixels(n);

        return n.kept < own ? 1 - (double)n.kept / own : 0;
}

static double map_bytes(const struct norm_shape *s)
{
        return (double)(s->n_images * s->pixels * (s->c_a + s->c_b)) * (double)dtype_bytes(s->type);
}

double cuda_norm_forward_beyond(const struct norm_forward_args *a)
{
        const struct norm *n = a->norm;
        const double share = n->shape.type == DTYPE_BF16 ? share_read_twice(forward_input<bf16>(a))
                                                         : share_read_twice(forward_input<float>(a));

        return share * map_bytes(&n->shape);
}

double cuda_norm_backward_beyond(const struct norm_backward_args *a)
{
        const struct norm *n = a->norm;
        const double share = n->shape.type == DTYPE_BF16 ? share_read_twice(backward_input<bf16>(a))
                                                         : share_read_twice(backward_input<float>(a));

        return 2 * share * map_bytes(&n->shape) + (a->dscale ? 2.0 * (double)cuda_norm_workspace(n) : 0);
}
