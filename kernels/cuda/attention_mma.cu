/* Attention on tensor cores, after Dao 2023: a warp has 16 rows of scores in registers, whose probabilities are what
 * its next product takes. Eight warps a block share tiles of the other side in shared memory, the next of which are on
 * their way meanwhile. Scores are in units of ln 2: what is kept for backward is the row's largest in these, and one
 * over its sum. Gradients of queries and of keys and values are a launch each, which makes the scores again, so that no
 * sum crosses blocks.
 *
 * Of bf16 probabilities are rounded for the next product. Of float factors are tf32, or split into two terms of it
 * (split.h) where they may not be rounded. */
#include "kernels/cuda/attention.h"

#include "kernels/cuda/approximate.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/mma.h"

#define LOG2_E 1.4426950408889634f

namespace
{

enum { ROWS = 16 * BLOCK / 32 };

__device__ inline int group_of_lane()
{
        return (int)threadIdx.x % 32 / 4;
}

__device__ inline int pair_of_lane()
{
        return (int)threadIdx.x % 4;
}

/* Rows first .. first + 15 of an image to a warp's part of `to`, [ROWS, STRIDE], which is returned; zero behind its
 * end.
 */
template <class T, int C, int STRIDE>
__device__ inline const T *rows_to_shared(T *to, const T *x, int first, int pixels)
{
        constexpr int V = 16 / sizeof(T);
        T *const at = to + threadIdx.x / 32 * 16 * STRIDE;

        for (int t = threadIdx.x % 32; t < 16 * C / V; t += 32) {
                const int row = t / (C / V), column = t % (C / V) * V;
                vector<T, V> v = {};

                if (first + row < pixels)
                        v = load<T, V>(x + (int64_t)(first + row) * C + column);
                store<T, V>(at + row * STRIDE + column, v);
        }
        return at;
}

/* ---- products of a type: the left side is 16 rows of a warp, the right one 16 columns in two, STEP of the sum at once
 */

/* IN_SHARED: whether rows are kept in shared memory (1), else in registers. */
template <int C> struct bf16_products {
        typedef bf16 value;
        static constexpr int STEP = 16, FORWARD_TILE = 64, BACKWARD_TILE = 32, STRIDE = C + 8, IN_SHARED = 0;
        struct left {
                uint32_t a[4];
        };
        struct right {
                uint32_t b[2];
        };

        /* Rows first .. first + 15 of an image, all of the width; zero behind its end. */
        struct rows {
                left part[C / STEP];
                __device__ void read(value *, const value *x, int first, int pixels)
                {
#pragma unroll
                        for (int k = 0; k < C / STEP; k++)
                                for (int i = 0; i < 4; i++) {
                                        const int row = first + group_of_lane() + i % 2 * 8;
                                        const int column = STEP * k + 2 * pair_of_lane() + i / 2 * 8;

                                        part[k].a[i] = row < pixels ? word_at(x + (int64_t)row * C + column) : 0;
                                }
                }
                __device__ left at(int k) const
                {
                        return part[k];
                }
        };

        /* The same, kept in shared memory, `to`, of which a warp writes and reads its own part. */
        struct shared_rows {
                const value *mine;
                __device__ void read(value *to, const value *x, int first, int pixels)
                {
                        mine = rows_to_shared<value, C, STRIDE>(to, x, first, pixels);
                }
                __device__ left at(int k) const
                {
                        const int lane = (int)threadIdx.x % 32, matrix = lane / 8;
                        left l;

                        load_matrices<false>(l.a, l.a + 2,
                                             mine + (matrix % 2 * 8 + lane % 8) * STRIDE + STEP * k + matrix / 2 * 8);
                        return l;
                }
        };

        /* Columns STEP k .. of p, 16 rows of sums in registers. */
        static __device__ left of_sums(const float (*p)[4], int k)
        {
                return {{two_bf16(p[2 * k][0], p[2 * k][1]), two_bf16(p[2 * k][2], p[2 * k][3]),
                         two_bf16(p[2 * k + 1][0], p[2 * k + 1][1]), two_bf16(p[2 * k + 1][2], p[2 * k + 1][3])}};
        }
        /* Rows 8 x .. of a tile (and those of x + 1), columns STEP k .. */
        static __device__ void along_width(right two[2], const value *tile, int x, int k)
        {
                const int lane = (int)threadIdx.x % 32, matrix = lane / 8;

                load_matrices<false>(two[0].b, two[1].b,
                                     tile + (8 * (x + matrix / 2) + lane % 8) * STRIDE + STEP * k + matrix % 2 * 8);
        }
        /* Columns 8 x .. of a tile (and those of x + 1), rows STEP k .. */
        static __device__ void along_tile(right two[2], const value *tile, int x, int k)
        {
                const int lane = (int)threadIdx.x % 32, matrix = lane / 8;

                load_matrices<true>(two[0].b, two[1].b,
                                    tile + (STEP * k + matrix % 2 * 8 + lane % 8) * STRIDE + 8 * (x + matrix / 2));
        }
        static __device__ void add(float d[4], const left &l, const right &r)
        {
                mma_16x8x16(d, l.a, r.b);
        }
        static __device__ float exp2(float x)
        {
                return approximate_exp2(x);
        }
};

/* SPLIT: three products of two terms; else factors are rounded to tf32. Rows are in shared memory. */
template <int C, bool SPLIT> struct float_products {
        typedef float value;
        static constexpr int STEP = 8, FORWARD_TILE = 32, BACKWARD_TILE = 32, STRIDE = C + 4, IN_SHARED = 1;
        struct left {
                uint32_t high[4], low[SPLIT ? 4 : 1];
        };
        struct right {
                uint32_t high[2], low[SPLIT ? 2 : 1];
        };

        static __device__ left left_of(const float x[4])
        {
                left l;

                for (int i = 0; i < 4; i++)
                        l.high[i] = tf32_of(x[i]);
                for (int i = 0; i < 4 && SPLIT; i++)
                        l.low[i] = tf32_rest(x[i]);
                return l;
        }
        static __device__ right right_of(float first, float second)
        {
                right r = {{tf32_of(first), tf32_of(second)}, {}};

                if constexpr (SPLIT) {
                        r.low[0] = tf32_rest(first);
                        r.low[1] = tf32_rest(second);
                }
                return r;
        }

        struct rows {
                const float *mine;
                __device__ void read(value *to, const value *x, int first, int pixels)
                {
                        mine = rows_to_shared<value, C, STRIDE>(to, x, first, pixels);
                }
                __device__ left at(int k) const
                {
                        const float *const p = mine + group_of_lane() * STRIDE + STEP * k + pair_of_lane();
                        const float x[4] = {p[0], p[8 * STRIDE], p[4], p[8 * STRIDE + 4]};

                        return left_of(x);
                }
        };
        typedef rows shared_rows;

        static __device__ left of_sums(const float (*p)[4], int k)
        {
                const float x[4] = {p[k][0], p[k][2], p[k][1], p[k][3]}; /* columns in mma.h's other order */

                return left_of(x);
        }
        static __device__ void along_width(right two[2], const value *tile, int x, int k)
        {
                const float *const p = tile + (8 * x + group_of_lane()) * STRIDE + STEP * k + pair_of_lane();

                two[0] = right_of(p[0], p[4]);
                two[1] = right_of(p[8 * STRIDE], p[8 * STRIDE + 4]);
        }
        static __device__ void along_tile(right two[2], const value *tile, int x, int k)
        {
                const float *const p = tile + (STEP * k + 2 * pair_of_lane()) * STRIDE + 8 * x + group_of_lane();

                two[0] = right_of(p[0], p[STRIDE]);
                two[1] = right_of(p[8], p[STRIDE + 8]);
        }
        static __device__ void add(float d[4], const left &l, const right &r)
        {
                if constexpr (SPLIT)
                        mma_split_16x8x8(d, l.high, l.low, r.high, r.low);
                else
                        mma_16x8x8(d, l.high, r.high);
        }
        static __device__ float exp2(float x)
        {
                return exp2f(x);
        }
};

/* ---- a block's shared memory: N_ROWS operands' rows, then tiles of two operands, each twice: one that is read and one
 * that is on its way */

template <class P, int N_ROWS, int TILE> struct shared_maps {
        typedef typename P::value value;
        static constexpr int TILES = N_ROWS * ROWS * P::STRIDE, SIZE = TILE * P::STRIDE,
                             BYTES = (int)sizeof(value) * (TILES + 4 * SIZE);

        value *all;
        __device__ value *rows(int n) const
        {
                return all + n * ROWS * P::STRIDE;
        }
        /* Of operand n, which the pass reads that is counted. */
        __device__ value *tile(int n, int pass) const
        {
                return all + TILES + (2 * (pass % 2) + n) * SIZE;
        }
};

/* By kernel: rows of a second operand are kept there, too, where sums of two gradients leave no registers for them. */
template <class P> using forward_maps = shared_maps<P, P::IN_SHARED, P::FORWARD_TILE>;
template <class P> using query_maps = shared_maps<P, 2 * P::IN_SHARED, P::BACKWARD_TILE>;
template <class P> using key_maps = shared_maps<P, P::IN_SHARED + 1, P::BACKWARD_TILE>;

/* Rows of two operands of an image to the tiles of a pass, zero behind its end, are started: a group, also where there
 * is nothing left to start. */
template <class P, int C, int TILE, class S>
__device__ inline void tiles_start(const S &shared, int pass, const typename P::value *one,
                                   const typename P::value *two, int pixels)
{
        constexpr int V = 16 / sizeof(typename P::value), ROWS_AT_ONCE = BLOCK / (C / V);
        const int row = (int)threadIdx.x / (C / V), column = (int)threadIdx.x % (C / V) * V, first = pass * TILE;

        if (first < pixels && (ROWS_AT_ONCE <= TILE || row < TILE)) {
#pragma unroll
                for (int r = 0; r < TILE; r += ROWS_AT_ONCE) {
                        const bool there = first + row + r < pixels;
                        const int from = there ? (first + row + r) * C + column : 0,
                                  to = (row + r) * P::STRIDE + column;

                        copy_start(shared.tile(0, pass) + to, one + from, there);
                        copy_start(shared.tile(1, pass) + to, two + from, there);
                }
        }
        copies_commit();
}

/* use(pass) for each tile of the others, which the block has then; the next ones are on their way meanwhile. The first
 * have been started. */
template <class P, int C, int TILE, class S, class Use>
__device__ inline void passes(const S &shared, const typename P::value *one, const typename P::value *two, int pixels,
                              Use use)
{
        for (int pass = 0; pass * TILE < pixels; pass++) {
                tiles_start<P, C, TILE>(shared, pass + 1, one, two, pixels);
                copies_wait<1>();
                __syncthreads();
                use(pass);
                __syncthreads();
        }
}

/* s[x] = rows . tile, of 16 rows and TILE columns */
template <class P, int C, int TILE, class Rows>
__device__ inline void scores(float s[TILE / 8][4], const Rows &rows, const typename P::value *tile)
{
        for (int x = 0; x < TILE / 8; x++)
                for (int e = 0; e < 4; e++)
                        s[x][e] = 0;
        for (int k = 0; k < C / P::STEP; k++) {
                const typename P::left l = rows.at(k);

                for (int x = 0; x < TILE / 8; x += 2) {
                        typename P::right two[2];

                        P::along_width(two, tile, x, k);
                        P::add(s[x], l, two[0]);
                        P::add(s[x + 1], l, two[1]);
                }
        }
}

/* sum += p tile, p of 16 rows and TILE columns */
template <class P, int C, int TILE>
__device__ inline void gather(float sum[C / 8][4], const float p[TILE / 8][4], const typename P::value *tile)
{
        for (int k = 0; k < TILE / P::STEP; k++) {
                const typename P::left l = P::of_sums(p, k);

                for (int x = 0; x < C / 8; x += 2) {
                        typename P::right two[2];

                        P::along_tile(two, tile, x, k);
                        P::add(sum[x], l, two[0]);
                        P::add(sum[x + 1], l, two[1]);
                }
        }
}

/* Rows group and group + 8 times their factors. */
template <class T, int C>
__device__ inline void rows_store(T *y, int first, int pixels, const float sum[C / 8][4], const float factor[2])
{
        for (int x = 0; x < C / 8; x++)
                for (int i = 0; i < 2; i++) {
                        const int row = first + group_of_lane() + 8 * i;
                        const vector<T, 2> v = {
                                {narrow<T>(sum[x][2 * i] * factor[i]), narrow<T>(sum[x][2 * i + 1] * factor[i])}};

                        if (row < pixels)
                                store<T, 2>(y + (int64_t)row * C + 8 * x + 2 * pair_of_lane(), v);
                }
}

__device__ inline float four_max(float x)
{
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
        return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

template <class T> __device__ inline T four_sum(T x)
{
        x += __shfl_xor_sync(ALL_LANES, x, 1);
        return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* ---- forward */

/* Scores (columns from `first` of `pixels`) become probabilities relative to the rows' largest so far, and what was
 * summed before shrinks; an array by reference, so that the race checker knows its size. */
template <class P, int C, int TILE>
__device__ inline void softmax(float s[TILE / 8][4], int first, int pixels, float scale, float largest[2],
                               float total[2], float (&sum)[C / 8][4])
{
        float most[2] = {largest[0], largest[1]}, shrink[2], added[2] = {0, 0};

        for (int x = 0; x < TILE / 8; x++)
                for (int e = 0; e < 4; e++) {
                        s[x][e] = first + 8 * x + 2 * pair_of_lane() + e % 2 < pixels ? s[x][e] * scale : -HUGE_VALF;
                        most[e / 2] = fmaxf(most[e / 2], s[x][e]);
                }
        for (int i = 0; i < 2; i++) {
                most[i] = four_max(most[i]);
                shrink[i] = P::exp2(largest[i] - most[i]);
                largest[i] = most[i];
        }
        for (int x = 0; x < TILE / 8; x++)
                for (int e = 0; e < 4; e++) {
                        s[x][e] = P::exp2(s[x][e] - most[e / 2]);
                        added[e / 2] += s[x][e];
                }
        for (int i = 0; i < 2; i++)
                total[i] = total[i] * shrink[i] + added[i];
        for (int x = 0; x < C / 8; x++)
                for (int e = 0; e < 4; e++)
                        sum[x][e] *= shrink[e / 2];
}

/* scale: 1 / sqrt(c) in units of ln 2 */
template <class P, int C>
__global__ void __launch_bounds__(BLOCK)
        mma_forward(const typename P::value *q, const typename P::value *k, const typename P::value *v,
                    typename P::value *o, float *saved, int pixels, float scale)
{
        typedef typename P::value T;
        constexpr int TILE = P::FORWARD_TILE;
        DYNAMIC_SHARED(T, all);
        const forward_maps<P> shared = {all};
        const int first = (int)blockIdx.x * ROWS + (int)threadIdx.x / 32 * 16;
        const int64_t image = (int64_t)blockIdx.y * pixels;
        float sum[C / 8][4] = {}, s[TILE / 8][4], largest[2] = {-HUGE_VALF, -HUGE_VALF}, total[2] = {0, 0};
        float inverse[2];
        typename P::rows rows;

        tiles_start<P, C, TILE>(shared, 0, k + image * C, v + image * C, pixels);
        rows.read(shared.rows(0), q + image * C, first, pixels);
        passes<P, C, TILE>(shared, k + image * C, v + image * C, pixels, [&](int pass) {
                scores<P, C, TILE>(s, rows, shared.tile(0, pass));
                softmax<P, C, TILE>(s, pass * TILE, pixels, scale, largest, total, sum);
                gather<P, C, TILE>(sum, s, shared.tile(1, pass));
        });
        for (int i = 0; i < 2; i++) {
                const int row = first + group_of_lane() + 8 * i;

                inverse[i] = 1 / four_sum(total[i]);
                if (saved && pair_of_lane() == 0 && row < pixels) {
                        saved[2 * (image + row)] = largest[i];
                        saved[2 * (image + row) + 1] = inverse[i];
                }
        }
        rows_store<T, C>(o + image * C, first, pixels, sum, inverse);
}

/* ---- backward */

template <class T> struct mma_values {
        const T *q, *k, *v, *d_o;
        const float *saved, *dots;
        int pixels;
        float scale, scale_2; /* 1 / sqrt(c), and that in units of ln 2 */
};

/* Of a query: largest score, one over the sum, sum(do o); a query behind the end has no probability. */
struct query_stats {
        float largest, inverse, dot;
};

template <class T> __device__ inline query_stats stats_of(const mma_values<T> &a, int64_t image, int query)
{
        query_stats r = {0, 0, 0};

        if (query < a.pixels)
                r = {a.saved[2 * (image + query)], a.saved[2 * (image + query) + 1],
                     a.dots ? a.dots[image + query] : 0};
        return r;
}

template <class P>
__device__ inline float probability(const mma_values<typename P::value> &a, float score, const query_stats &q)
{
        return P::exp2(score * a.scale_2 - q.largest) * q.inverse;
}

__device__ inline float slope(float p, float dp, float dot, float scale)
{
        return p * (dp - dot) * scale;
}

/* The queries of a warp, whose scores and dp are made of tiles of keys and values. */
template <class P, int C> struct queries {
        static constexpr int TILE = P::BACKWARD_TILE;
        query_stats stats[2]; /* of rows group and group + 8 */
        typename P::rows q, d_o;
        float s[TILE / 8][4], dp[TILE / 8][4];

        /* use(pass) for each tile of keys: s and dp are of it. */
        template <class Use>
        __device__ void each(const mma_values<typename P::value> &a, const query_maps<P> &shared, int first, Use use)
        {
                const int64_t image = (int64_t)blockIdx.y * a.pixels, at = image * C;

                tiles_start<P, C, TILE>(shared, 0, a.k + at, a.v + at, a.pixels);
                q.read(shared.rows(0), a.q + at, first, a.pixels);
                d_o.read(shared.rows(1), a.d_o + at, first, a.pixels);
                for (int i = 0; i < 2; i++)
                        stats[i] = stats_of(a, image, first + group_of_lane() + 8 * i);
                passes<P, C, TILE>(shared, a.k + at, a.v + at, a.pixels, [&](int pass) {
                        scores<P, C, TILE>(s, q, shared.tile(0, pass));
                        scores<P, C, TILE>(dp, d_o, shared.tile(1, pass));
                        use(pass);
                });
        }
        /* Whether a column of the pass is one of the image's. */
        static __device__ bool there(const mma_values<typename P::value> &a, int pass, int x, int e)
        {
                return pass * TILE + 8 * x + 2 * pair_of_lane() + e % 2 < a.pixels;
        }
};

/* dq: a block's rows are queries, its tiles are of keys and values. */
template <class P, int C>
__global__ void __launch_bounds__(BLOCK) mma_backward_q(mma_values<typename P::value> a, typename P::value *dq)
{
        typedef typename P::value T;
        constexpr int TILE = P::BACKWARD_TILE;
        DYNAMIC_SHARED(T, all);
        const query_maps<P> shared = {all};
        const int first = (int)blockIdx.x * ROWS + (int)threadIdx.x / 32 * 16;
        const float ones[2] = {1, 1};
        float sum[C / 8][4] = {};
        queries<P, C> own;

        own.each(a, shared, first, [&](int pass) {
                for (int x = 0; x < TILE / 8; x++)
                        for (int e = 0; e < 4; e++) {
                                const query_stats &q = own.stats[e / 2];
                                const float p = probability<P>(a, own.s[x][e], q);

                                own.s[x][e] = own.there(a, pass, x, e) ? slope(p, own.dp[x][e], q.dot, a.scale) : 0;
                        }
                gather<P, C, TILE>(sum, own.s, shared.tile(0, pass));
        });
        rows_store<T, C>(dq + (int64_t)blockIdx.y * a.pixels * C, first, a.pixels, sum, ones);
}

/* dk, dv: a block's rows are keys and values, its tiles are of queries and do. */
template <class P, int C>
__global__ void __launch_bounds__(BLOCK)
        mma_backward_kv(mma_values<typename P::value> a, typename P::value *dk, typename P::value *dv)
{
        typedef typename P::value T;
        constexpr int TILE = P::BACKWARD_TILE;
        DYNAMIC_SHARED(T, all);
        SHARED(query_stats, columns, [2][TILE]);
        const key_maps<P> shared = {all};
        const int first = (int)blockIdx.x * ROWS + (int)threadIdx.x / 32 * 16;
        const int64_t image = (int64_t)blockIdx.y * a.pixels, at = image * C;
        const float ones[2] = {1, 1};
        float sum_k[C / 8][4] = {}, sum_v[C / 8][4] = {}, s[TILE / 8][4], dp[TILE / 8][4];
        typename P::rows ks;
        typename P::shared_rows vs;

        tiles_start<P, C, TILE>(shared, 0, a.q + at, a.d_o + at, a.pixels);
        ks.read(shared.rows(0), a.k + at, first, a.pixels);
        vs.read(shared.rows(P::IN_SHARED), a.v + at, first, a.pixels);
        const auto columns_read = [&](int pass) {
                if (threadIdx.x < TILE) {
                        /* in two statements: the race checker does not see a call's result on its way to memory */
                        const query_stats q = stats_of(a, image, pass * TILE + (int)threadIdx.x);

                        columns[pass % 2][threadIdx.x] = q;
                }
        };

        columns_read(0);
        passes<P, C, TILE>(shared, a.q + at, a.d_o + at, a.pixels, [&](int pass) {
                columns_read(pass + 1);
                scores<P, C, TILE>(s, ks, shared.tile(0, pass));
                scores<P, C, TILE>(dp, vs, shared.tile(1, pass));
                for (int x = 0; x < TILE / 8; x++)
                        for (int e = 0; e < 4; e++) {
                                const query_stats &q = columns[pass % 2][8 * x + 2 * pair_of_lane() + e % 2];

                                s[x][e] = probability<P>(a, s[x][e], q);
                                dp[x][e] = slope(s[x][e], dp[x][e], q.dot, a.scale);
                        }
                gather<P, C, TILE>(sum_v, s, shared.tile(1, pass));
                gather<P, C, TILE>(sum_k, dp, shared.tile(0, pass));
        });
        rows_store<T, C>(dk + at, first, a.pixels, sum_k, ones);
        rows_store<T, C>(dv + at, first, a.pixels, sum_v, ones);
}

/* sum(dp p) / sum(p) of each query, from the very scores that ds is made of, so that a row of ds sums to zero as it
 * should: the gradient of k's bias is all that is left of these sums. */
template <class P, int C>
__global__ void __launch_bounds__(BLOCK) mma_dots(mma_values<typename P::value> a, float *dots)
{
        constexpr int TILE = P::BACKWARD_TILE;
        DYNAMIC_SHARED(typename P::value, all);
        const query_maps<P> shared = {all};
        const int first = (int)blockIdx.x * ROWS + (int)threadIdx.x / 32 * 16;
        double sum[2] = {0, 0}, of_p[2] = {0, 0};
        queries<P, C> own;

        own.each(a, shared, first, [&](int pass) {
                for (int x = 0; x < TILE / 8; x++)
                        for (int e = 0; e < 4; e++)
                                if (own.there(a, pass, x, e)) {
                                        const float p = probability<P>(a, own.s[x][e], own.stats[e / 2]);

                                        of_p[e / 2] += (double)p;
                                        sum[e / 2] += (double)p * (double)own.dp[x][e];
                                }
        });
        for (int i = 0; i < 2; i++) {
                const int row = first + group_of_lane() + 8 * i;

                sum[i] = four_sum(sum[i]);
                of_p[i] = four_sum(of_p[i]);
                if (pair_of_lane() == 0 && row < a.pixels)
                        dots[(int64_t)blockIdx.y * a.pixels + row] = (float)(sum[i] / of_p[i]);
        }
}

/* ---- launches */

dim3 grid_of_rows(const struct attention_shape *g)
{
        return dim3((unsigned)((g->pixels + ROWS - 1) / ROWS), (unsigned)g->n_images);
}

float scale_of(int c)
{
        return (float)(1 / sqrt((double)c));
}

template <class P, int C>
void forward(struct stream *s, const struct attention_shape *g, const struct attention_forward_args *a)
{
        typedef typename P::value T;

        RUN(s, "attention_forward", (mma_forward<P, C>), grid_of_rows(g), BLOCK, forward_maps<P>::BYTES,
            (const T *)a->q, (const T *)a->k, (const T *)a->v, (T *)a->o, (float *)a->saved, (int)g->pixels,
            scale_of(C) * LOG2_E);
}

template <class P, int C>
void backward(struct stream *s, const struct attention_shape *g, const struct attention_backward_args *a, float *dots)
{
        typedef typename P::value T;
        mma_values<T> v = {
                (const T *)a->q, (const T *)a->k, (const T *)a->v,     (const T *)a->d_o, (const float *)a->saved, NULL,
                (int)g->pixels,  scale_of(C),     scale_of(C) * LOG2_E};

        if constexpr (sizeof(T) == sizeof(float))
                RUN(s, "attention_backward", (mma_dots<P, C>), grid_of_rows(g), BLOCK, query_maps<P>::BYTES, v, dots);
        v.dots = dots;
        RUN(s, "attention_backward", (mma_backward_q<P, C>), grid_of_rows(g), BLOCK, query_maps<P>::BYTES, v,
            (T *)a->dq);
        RUN(s, "attention_backward", (mma_backward_kv<P, C>), grid_of_rows(g), BLOCK, key_maps<P>::BYTES, v, (T *)a->dk,
            (T *)a->dv);
}

cudaError_t allow(cudaError_t before, const void *kernel, int bytes)
{
        return before == cudaSuccess ? cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)
                                     : before;
}

/* Rows and tiles take more shared memory than a kernel gets unasked. */
template <class P, int C> cudaError_t shared_allow()
{
        cudaError_t e = allow(cudaSuccess, (const void *)mma_forward<P, C>, forward_maps<P>::BYTES);

        if constexpr (sizeof(typename P::value) == sizeof(float))
                e = allow(e, (const void *)mma_dots<P, C>, query_maps<P>::BYTES);
        e = allow(e, (const void *)mma_backward_q<P, C>, query_maps<P>::BYTES);
        return allow(e, (const void *)mma_backward_kv<P, C>, key_maps<P>::BYTES);
}
} // namespace

bool attention_mma_takes(const struct attention_shape *s)
{
        return s->c == 32 || s->c == 64 || s->c == 128;
}

/* fn<products, width> for the shape */
#define BY_WIDTH(fn, g, products, ...)                                                                                 \
        ((g)->c == 32   ? fn<products(32), 32>(__VA_ARGS__)                                                            \
         : (g)->c == 64 ? fn<products(64), 64>(__VA_ARGS__)                                                            \
                        : fn<products(128), 128>(__VA_ARGS__))
#define OF_BF16(c) bf16_products<c>
#define OF_TF32(c) float_products<c, false>
#define OF_FLOAT(c) float_products<c, true>
#define BY_SHAPE(fn, g, ...)                                                                                           \
        ((g)->type == DTYPE_BF16 ? BY_WIDTH(fn, g, OF_BF16, __VA_ARGS__)                                               \
         : (g)->tf32             ? BY_WIDTH(fn, g, OF_TF32, __VA_ARGS__)                                               \
                                 : BY_WIDTH(fn, g, OF_FLOAT, __VA_ARGS__))

cudaError_t attention_mma_prepare(const struct attention_shape *g)
{
        return BY_SHAPE(shared_allow, g);
}

void attention_mma_forward(struct stream *s, const struct attention_shape *g, const struct attention_forward_args *a)
{
        BY_SHAPE(forward, g, s, g, a);
}

void attention_mma_backward(struct stream *s, const struct attention_shape *g, const struct attention_backward_args *a,
                            float *dots)
{
        BY_SHAPE(backward, g, s, g, a, dots);
}
