/* Attention of bf16 on tensor cores, after Dao 2023: a warp has 16 rows of scores in registers, whose probabilities,
 * rounded to bf16, are what its next product takes. Eight warps a block share tiles of the other side in shared memory:
 * by rows for the product along the width, turned for the product along the tile. Scores are in units of ln 2: what is
 * kept for backward is the row's largest in these, and one over its sum. A gradient a launch, each with its scores made
 * again, so that no sum crosses blocks. */
#include "kernels/cuda/attention.h"

#include "kernels/cuda/mma.h"

#define LOG2_E 1.4426950408889634f

namespace
{

enum { ROWS = 16 * BLOCK / 32, FORWARD_TILE = 64, BACKWARD_TILE = 32 };

/* a of this warp's rows first .. first + 15 of an image, all of the width; zero behind its end. */
template <int C> __device__ inline void rows_load(uint32_t a[C / 16][4], const bf16 *x, int first, int pixels)
{
        const int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;

        for (int k = 0; k < C / 16; k++)
                for (int i = 0; i < 4; i++) {
                        const int row = first + group + i % 2 * 8, column = 16 * k + 2 * pair + i / 2 * 8;

                        a[k][i] = row < pixels ? word_at(x + (int64_t)row * C + column) : 0;
                }
}

/* Rows of an image to a tile [TILE, C + 8], and (or) turned, [C, TILE + 8]; NULL: not that one. */
template <int C, int TILE>
__device__ inline void tile_load(bf16 *plain, bf16 *turned, const bf16 *x, int first, int pixels)
{
        for (int t = threadIdx.x; t < TILE * C / 8; t += BLOCK) {
                const int row = t % TILE, column = t / TILE * 8; /* neighbours turn neighbouring rows */
                vector<bf16, 8> v = {};

                if (first + row < pixels)
                        v = load<bf16, 8>(x + (int64_t)(first + row) * C + column);
                if (plain)
                        store<bf16, 8>(plain + row * (C + 8) + column, v);
                for (int e = 0; e < 8 && turned; e++)
                        turned[(column + e) * (TILE + 8) + row] = v.v[e];
        }
}

/* s[x] = rows . tile, of 16 rows and TILE columns */
template <int C, int TILE>
__device__ inline void scores(float s[TILE / 8][4], const uint32_t a[C / 16][4], const bf16 *tile)
{
        for (int x = 0; x < TILE / 8; x++) {
                for (int e = 0; e < 4; e++)
                        s[x][e] = 0;
                for (int k = 0; k < C / 16; k++) {
                        uint32_t b[2];

                        mma_load_b(b, tile, C + 8, 8 * x, 16 * k);
                        mma_16x8x16(s[x], a[k], b);
                }
        }
}

/* sum += p tile, p of 16 rows and TILE columns, rounded; the tile turned */
template <int C, int TILE>
__device__ inline void gather(float sum[C / 8][4], const float p[TILE / 8][4], const bf16 *turned)
{
        for (int k = 0; k < TILE / 16; k++) {
                const uint32_t a[4] = {two_bf16(p[2 * k][0], p[2 * k][1]), two_bf16(p[2 * k][2], p[2 * k][3]),
                                       two_bf16(p[2 * k + 1][0], p[2 * k + 1][1]),
                                       two_bf16(p[2 * k + 1][2], p[2 * k + 1][3])};

                for (int x = 0; x < C / 8; x++) {
                        uint32_t b[2];

                        mma_load_b(b, turned, TILE + 8, 8 * x, 16 * k);
                        mma_16x8x16(sum[x], a, b);
                }
        }
}

/* Rows group and group + 8 times their factors. */
template <int C>
__device__ inline void rows_store(bf16 *y, int first, int pixels, const float sum[C / 8][4], const float factor[2])
{
        const int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;

        for (int x = 0; x < C / 8; x++)
                for (int i = 0; i < 2; i++) {
                        const int row = first + group + 8 * i;
                        const uint32_t word = two_bf16(sum[x][2 * i] * factor[i], sum[x][2 * i + 1] * factor[i]);

                        if (row < pixels)
                                *reinterpret_cast<uint32_t *>(y + (int64_t)row * C + 8 * x + 2 * pair) = word;
                }
}

__device__ inline float four_max(float x)
{
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
        return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

__device__ inline float four_sum(float x)
{
        x += __shfl_xor_sync(ALL_LANES, x, 1);
        return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* ---- forward */

/* Scores (columns from `first` of `pixels`) become probabilities relative to the rows' largest so far, and what was
 * summed before shrinks. */
template <int C>
__device__ inline void softmax(float s[FORWARD_TILE / 8][4], int first, int pixels, float scale, float largest[2],
                               float total[2], float sum[C / 8][4])
{
        const int pair = threadIdx.x % 4;
        float most[2] = {largest[0], largest[1]}, shrink[2], added[2] = {0, 0};

        for (int x = 0; x < FORWARD_TILE / 8; x++)
                for (int e = 0; e < 4; e++) {
                        s[x][e] = first + 8 * x + 2 * pair + e % 2 < pixels ? s[x][e] * scale : -HUGE_VALF;
                        most[e / 2] = fmaxf(most[e / 2], s[x][e]);
                }
        for (int i = 0; i < 2; i++) {
                most[i] = four_max(most[i]);
                shrink[i] = exp2f(largest[i] - most[i]);
                largest[i] = most[i];
        }
        for (int x = 0; x < FORWARD_TILE / 8; x++)
                for (int e = 0; e < 4; e++) {
                        s[x][e] = exp2f(s[x][e] - most[e / 2]);
                        added[e / 2] += s[x][e];
                }
        for (int i = 0; i < 2; i++)
                total[i] = total[i] * shrink[i] + added[i];
        for (int x = 0; x < C / 8; x++)
                for (int e = 0; e < 4; e++)
                        sum[x][e] *= shrink[e / 2];
}

template <int C>
__global__ void __launch_bounds__(BLOCK)
        mma_forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *saved, int pixels, float scale)
{
        SHARED(bf16, ks, [FORWARD_TILE * (C + 8)]);
        SHARED(bf16, turned, [C * (FORWARD_TILE + 8)]);
        const int first = (int)blockIdx.x * ROWS + (int)threadIdx.x / 32 * 16;
        const int64_t image = (int64_t)blockIdx.y * pixels;
        float sum[C / 8][4] = {}, s[FORWARD_TILE / 8][4], largest[2] = {-HUGE_VALF, -HUGE_VALF}, total[2] = {0, 0};
        float inverse[2];
        uint32_t a[C / 16][4];

        rows_load<C>(a, q + image * C, first, pixels);
        for (int j = 0; j < pixels; j += FORWARD_TILE) {
                tile_load<C, FORWARD_TILE>(ks, NULL, k + image * C, j, pixels);
                tile_load<C, FORWARD_TILE>(NULL, turned, v + image * C, j, pixels);
                __syncthreads();
                scores<C, FORWARD_TILE>(s, a, ks);
                softmax<C>(s, j, pixels, scale, largest, total, sum);
                gather<C, FORWARD_TILE>(sum, s, turned);
                __syncthreads();
        }
        for (int i = 0; i < 2; i++) {
                const int row = first + (int)threadIdx.x % 32 / 4 + 8 * i;

                inverse[i] = 1 / four_sum(total[i]);
                if (saved && threadIdx.x % 4 == 0 && row < pixels) {
                        saved[2 * (image + row)] = largest[i];
                        saved[2 * (image + row) + 1] = inverse[i];
                }
        }
        rows_store<C>(o + image * C, first, pixels, sum, inverse);
}

/* ---- backward */

enum gradient { OF_Q, OF_K, OF_V };

struct mma_values {
        const bf16 *q, *k, *v, *d_o;
        const float *saved, *dots;
        int pixels;
        float scale; /* 1 / sqrt(c) */
};

/* Of a query: largest score, one over the sum, sum(do o); a query behind the end has no probability. */
struct query_stats {
        float largest, inverse, dot;
};

__device__ inline query_stats stats_of(const mma_values &a, int64_t image, int query)
{
        query_stats r = {0, 0, 0};

        if (query < a.pixels)
                r = {a.saved[2 * (image + query)], a.saved[2 * (image + query) + 1], a.dots[image + query]};
        return r;
}

/* A block's rows are queries (OF_Q) or keys; the tile is of the others. s becomes p (OF_V) or ds. Columns behind the
 * end are left out here; rows behind it have their gradients stored nowhere. */
template <enum gradient OF>
__device__ inline void slopes(const mma_values &a, float s[BACKWARD_TILE / 8][4], const float dp[BACKWARD_TILE / 8][4],
                              int first, const query_stats rows[2], const query_stats *columns)
{
        const int pair = threadIdx.x % 4;

        for (int x = 0; x < BACKWARD_TILE / 8; x++)
                for (int e = 0; e < 4; e++) {
                        const int column = 8 * x + 2 * pair + e % 2;
                        const query_stats q = OF == OF_Q ? rows[e / 2] : columns[column];
                        const float p = exp2f(s[x][e] * a.scale * LOG2_E - q.largest) * q.inverse;
                        const float value = OF == OF_V ? p : p * (dp[x][e] - q.dot) * a.scale;

                        s[x][e] = first + column < a.pixels ? value : 0;
                }
}

template <int C, enum gradient OF> __global__ void __launch_bounds__(BLOCK) mma_backward(mma_values a, bf16 *y)
{
        constexpr int TILE = BACKWARD_TILE;
        SHARED(bf16, one, [TILE * (C + 8)]);
        SHARED(bf16, two, [OF == OF_V ? 8 : TILE * (C + 8)]);
        SHARED(bf16, turned, [C * (TILE + 8)]);
        SHARED(query_stats, columns, [TILE]);
        const int group = threadIdx.x % 32 / 4, first = (int)blockIdx.x * ROWS + (int)threadIdx.x / 32 * 16;
        const int64_t image = (int64_t)blockIdx.y * a.pixels, at = image * C;
        const float ones[2] = {1, 1};
        float sum[C / 8][4] = {}, s[TILE / 8][4], dp[TILE / 8][4] = {};
        uint32_t row_one[C / 16][4], row_two[OF == OF_V ? 1 : C / 16][4];
        query_stats rows[2] = {};

        rows_load<C>(row_one, (OF == OF_Q ? a.q : a.k) + at, first, a.pixels);
        if constexpr (OF != OF_V)
                rows_load<C>(row_two, (OF == OF_Q ? a.d_o : a.v) + at, first, a.pixels);
        for (int i = 0; i < 2 && OF == OF_Q; i++)
                rows[i] = stats_of(a, image, first + group + 8 * i);
        for (int j = 0; j < a.pixels; j += TILE) {
                tile_load<C, TILE>(one, OF == OF_V ? NULL : turned, (OF == OF_Q ? a.k : a.q) + at, j, a.pixels);
                tile_load<C, TILE>(OF == OF_V ? NULL : two, OF == OF_V ? turned : NULL, (OF == OF_Q ? a.v : a.d_o) + at,
                                   j, a.pixels);
                if (OF != OF_Q && threadIdx.x < TILE)
                        columns[threadIdx.x] = stats_of(a, image, j + (int)threadIdx.x);
                __syncthreads();
                scores<C, TILE>(s, row_one, one);
                if constexpr (OF != OF_V)
                        scores<C, TILE>(dp, row_two, two);
                slopes<OF>(a, s, dp, j, rows, columns);
                gather<C, TILE>(sum, s, turned);
                __syncthreads();
        }
        rows_store<C>(y + at, first, a.pixels, sum, ones);
}

dim3 grid_of_rows(const struct attention_shape *g)
{
        return dim3((unsigned)((g->pixels + ROWS - 1) / ROWS), (unsigned)g->n_images);
}

template <int C> void forward(struct stream *s, const struct attention_shape *g, const struct attention_forward_args *a)
{
        RUN(s, "attention_forward", mma_forward<C>, grid_of_rows(g), BLOCK, 0, (const bf16 *)a->q, (const bf16 *)a->k,
            (const bf16 *)a->v, (bf16 *)a->o, (float *)a->saved, (int)g->pixels, (float)(1 / sqrt((double)C)) * LOG2_E);
}

template <int C>
void backward(struct stream *s, const struct attention_shape *g, const struct attention_backward_args *a,
              const float *dots)
{
        const mma_values v = {(const bf16 *)a->q,   (const bf16 *)a->k,          (const bf16 *)a->v,
                              (const bf16 *)a->d_o, (const float *)a->saved,     dots,
                              (int)g->pixels,       (float)(1 / sqrt((double)C))};

        RUN(s, "attention_backward", (mma_backward<C, OF_Q>), grid_of_rows(g), BLOCK, 0, v, (bf16 *)a->dq);
        RUN(s, "attention_backward", (mma_backward<C, OF_K>), grid_of_rows(g), BLOCK, 0, v, (bf16 *)a->dk);
        RUN(s, "attention_backward", (mma_backward<C, OF_V>), grid_of_rows(g), BLOCK, 0, v, (bf16 *)a->dv);
}
} // namespace

bool attention_mma_takes(const struct attention_shape *s)
{
        return s->type == DTYPE_BF16 && (s->c == 32 || s->c == 64 || s->c == 128);
}

void attention_mma_forward(struct stream *s, const struct attention_shape *g, const struct attention_forward_args *a)
{
        if (g->c == 32)
                forward<32>(s, g, a);
        else if (g->c == 64)
                forward<64>(s, g, a);
        else
                forward<128>(s, g, a);
}

void attention_mma_backward(struct stream *s, const struct attention_shape *g, const struct attention_backward_args *a,
                            const float *dots)
{
        if (g->c == 32)
                backward<32>(s, g, a, dots);
        else if (g->c == 64)
                backward<64>(s, g, a, dots);
        else
                backward<128>(s, g, a, dots);
}
