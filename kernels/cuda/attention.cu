/* o = softmax(q k^T / sqrt(c)) v of one head over all pixels, and its gradients, without the matrix of scores in
 * memory: a block has a tile of queries (or keys) and passes over tiles of the others in shared memory (Dao et al.
 * 2022). Kept for backward: the row's largest score and one over its sum. With p the probabilities: dv = p^T do, dp =
 * do v^T, ds = p (dp - sum(do o)), dq = ds k / sqrt(c), dk = ds^T q / sqrt(c). Scores are made again for dq and for dk,
 * dv, so that no sum crosses blocks. Products in float, without tensor cores: of the widths that attention_mma.cu has
 * no tiles for. Spec 1. */
#include "kernels/cuda/attention.h"

#include <errno.h>

enum { MAX_C = 256, SMALL_C = 128 };

struct attention {
        struct attention_shape shape; /* first: kernels/cost.h */
};

namespace
{

/* A tile is 16 R rows; a thread (16 x 16) has R rows of it, R columns of the scores and COLUMNS of the width. */
template <int R> struct tile {
        static constexpr int ROWS = 16 * R, COLUMNS = R == 4 ? SMALL_C / 16 : MAX_C / 16, SCORES = ROWS + 1;
};

__device__ __host__ inline int row_stride(int c)
{
        return c + 1; /* rows that are read down begin in different banks */
}

/* Rows first .. of an image to shared memory, zero behind its end. */
template <class T, int R> __device__ inline void tile_load(float *to, const T *x, int first, int pixels, int c)
{
        for (int i = threadIdx.x; i < tile<R>::ROWS * c; i += BLOCK) {
                const int row = i / c, column = i % c;

                to[row * row_stride(c) + column] =
                        first + row < pixels ? widen(x[(int64_t)(first + row) * c + column]) : 0;
        }
}

/* sum[y][x] = a[row + y] . b[column + x] over the width */
template <int R>
__device__ inline void tile_scores(const float *a, const float *b, int c, int row, int column, float sum[R][R])
{
        const int stride = row_stride(c);

        for (int y = 0; y < R; y++)
                for (int x = 0; x < R; x++)
                        sum[y][x] = 0;
        for (int e = 0; e < c; e++)
                for (int y = 0; y < R; y++)
                        for (int x = 0; x < R; x++)
                                sum[y][x] += a[(row + y) * stride + e] * b[(column + x) * stride + e];
}

/* sum[y][x] += sum over j of p[row + y, j] v[j, lane + 16 x]; TURNED: p[j, row + y]. */
template <int R, bool TURNED>
__device__ inline void tile_gather(const float *p, const float *v, int c, int row, int lane,
                                   float sum[R][tile<R>::COLUMNS])
{
        for (int j = 0; j < tile<R>::ROWS; j++)
                for (int x = 0; x < tile<R>::COLUMNS; x++) {
                        const int column = lane + 16 * x;

                        if (column < c)
                                for (int y = 0; y < R; y++)
                                        sum[y][x] += (TURNED ? p[j * tile<R>::SCORES + row + y]
                                                             : p[(row + y) * tile<R>::SCORES + j]) *
                                                     v[j * row_stride(c) + column];
                }
}

template <class T, int R>
__device__ inline void tile_store(T *y, int first, int pixels, int c, int row, int lane, const float factor[R],
                                  const float sum[R][tile<R>::COLUMNS])
{
        for (int i = 0; i < R; i++)
                for (int x = 0; x < tile<R>::COLUMNS; x++)
                        if (first + row + i < pixels && lane + 16 * x < c)
                                y[(int64_t)(first + row + i) * c + lane + 16 * x] = narrow<T>(sum[i][x] * factor[i]);
}

/* ---- forward */

/* Four neighbouring threads a row of scores (the first `valid` count): probabilities in place of scores, relative to
 * the largest so far; what was summed before shrinks by `shrink`. */
template <int R>
__device__ inline void row_softmax(float *scores, int valid, float *largest, float *total, float *shrink)
{
        const int part = threadIdx.x % 4;

        for (int row = threadIdx.x / 4; row < tile<R>::ROWS; row += BLOCK / 4) {
                float *s = scores + row * tile<R>::SCORES, most = largest[row], sum = 0;

                for (int j = part; j < valid; j += 4)
                        most = fmaxf(most, s[j]);
                most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
                most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
                for (int j = part; j < tile<R>::ROWS; j += 4) {
                        s[j] = j < valid ? expf(s[j] - most) : 0;
                        sum += s[j];
                }
                sum += __shfl_xor_sync(ALL_LANES, sum, 1);
                sum += __shfl_xor_sync(ALL_LANES, sum, 2);
                __syncwarp(); /* all have read the row's largest: a shuffle orders no memory */
                if (part == 0) {
                        shrink[row] = expf(largest[row] - most);
                        total[row] = total[row] * shrink[row] + sum;
                        largest[row] = most;
                }
        }
}

template <class T, int R>
__global__ void __launch_bounds__(BLOCK)
        attention_forward(const T *q, const T *k, const T *v, T *o, float *saved, int pixels, int c, float scale)
{
        constexpr int ROWS = tile<R>::ROWS;
        DYNAMIC_SHARED(float, shared);
        SHARED(float, largest, [ROWS]);
        SHARED(float, total, [ROWS]);
        SHARED(float, shrink, [ROWS]);
        const int size = ROWS * row_stride(c), first = (int)blockIdx.x * ROWS;
        const int row = threadIdx.x / 16 * R, lane = threadIdx.x % 16;
        float *const qs = shared, *const ks = qs + size, *const vs = ks + size, *const p = vs + size;
        const int64_t image = (int64_t)blockIdx.y * pixels;
        float sum[R][tile<R>::COLUMNS] = {}, s[R][R], factor[R];

        for (int i = threadIdx.x; i < ROWS; i += BLOCK) {
                largest[i] = -HUGE_VALF;
                total[i] = 0;
        }
        tile_load<T, R>(qs, q + image * c, first, pixels, c);
        for (int j = 0; j < pixels; j += ROWS) {
                tile_load<T, R>(ks, k + image * c, j, pixels, c);
                tile_load<T, R>(vs, v + image * c, j, pixels, c);
                __syncthreads();
                tile_scores<R>(qs, ks, c, row, lane * R, s);
                for (int y = 0; y < R; y++)
                        for (int x = 0; x < R; x++)
                                p[(row + y) * tile<R>::SCORES + lane * R + x] = s[y][x] * scale;
                __syncthreads();
                row_softmax<R>(p, min(ROWS, pixels - j), largest, total, shrink);
                __syncthreads();
                for (int y = 0; y < R; y++)
                        for (int x = 0; x < tile<R>::COLUMNS; x++)
                                sum[y][x] *= shrink[row + y];
                tile_gather<R, false>(p, vs, c, row, lane, sum);
                __syncthreads();
        }
        for (int y = 0; y < R; y++)
                factor[y] = 1 / total[row + y];
        tile_store<T, R>(o + image * c, first, pixels, c, row, lane, factor, sum);
        for (int i = threadIdx.x; saved && i < ROWS && first + i < pixels; i += BLOCK) {
                saved[2 * (image + first + i)] = largest[i];
                saved[2 * (image + first + i) + 1] = 1 / total[i];
        }
}

/* ---- backward */

/* sum(do o) of a row, a warp each: what sum(dp p) is but for o's rounding, which is bf16's to make. */
template <class T>
__global__ void __launch_bounds__(BLOCK) attention_dots(const T *d_o, const T *o, int64_t rows, int c, float *dots)
{
        const int64_t row = (int64_t)blockIdx.x * (BLOCK / 32) + threadIdx.x / 32;
        double sum = 0;

        for (int e = threadIdx.x % 32; row < rows && e < c; e += 32)
                sum += (double)widen(d_o[row * c + e]) * (double)widen(o[row * c + e]);
        sum = warp_sum(sum);
        if (row < rows && threadIdx.x % 32 == 0)
                dots[row] = (float)sum;
}

template <class T> struct attention_values {
        const T *q, *k, *v, *d_o;
        const float *saved, *dots;
        int pixels, c;
        float scale;
};

/* p and ds (times scale) of a tile of queries and a tile of keys. */
template <class T, int R>
__device__ inline void tile_slopes(const attention_values<T> &a, int64_t image, const float *qs, const float *dos,
                                   const float *ks, const float *vs, int query, int key, float *p, float *ds)
{
        const int row = threadIdx.x / 16 * R, column = threadIdx.x % 16 * R;
        float s[R][R], dp[R][R];

        tile_scores<R>(qs, ks, a.c, row, column, s);
        tile_scores<R>(dos, vs, a.c, row, column, dp);
        for (int y = 0; y < R; y++) {
                const bool there = query + row + y < a.pixels;
                const int64_t at = image + query + row + y;
                const float largest = there ? a.saved[2 * at] : 0, inverse = there ? a.saved[2 * at + 1] : 0;
                const float dot = there && a.dots ? a.dots[at] : 0;

                for (int x = 0; x < R; x++) {
                        const bool both = there && key + column + x < a.pixels;
                        const float v = both ? expf(s[y][x] * a.scale - largest) * inverse : 0;
                        const int to = (row + y) * tile<R>::SCORES + column + x;

                        p[to] = v;
                        ds[to] = v * (dp[y][x] - dot) * a.scale;
                }
        }
}

/* sum(dp p) / sum(p) of each row, from the very scores that ds is made of, so that a row of ds sums to zero as it
 * should: the gradient of k's bias is all that is left of these sums. */
template <class T, int R>
__global__ void __launch_bounds__(BLOCK) attention_exact_dots(attention_values<T> a, float *dots)
{
        constexpr int ROWS = tile<R>::ROWS;
        DYNAMIC_SHARED(float, shared);
        const int size = ROWS * row_stride(a.c), first = (int)blockIdx.x * ROWS;
        const int row = threadIdx.x / 4, part = threadIdx.x % 4;
        float *const qs = shared, *const dos = qs + size, *const ks = dos + size, *const vs = ks + size;
        float *const p = vs + size, *const pdp = p + ROWS * tile<R>::SCORES;
        const int64_t image = (int64_t)blockIdx.y * a.pixels;
        double sum = 0, of_p = 0;

        tile_load<T, R>(qs, a.q + image * a.c, first, a.pixels, a.c);
        tile_load<T, R>(dos, a.d_o + image * a.c, first, a.pixels, a.c);
        for (int j = 0; j < a.pixels; j += ROWS) {
                tile_load<T, R>(ks, a.k + image * a.c, j, a.pixels, a.c);
                tile_load<T, R>(vs, a.v + image * a.c, j, a.pixels, a.c);
                __syncthreads();
                tile_slopes<T, R>(a, image, qs, dos, ks, vs, first, j, p, pdp);
                __syncthreads();
                for (int x = part; row < ROWS && x < ROWS; x += 4) {
                        of_p += (double)p[row * tile<R>::SCORES + x];
                        sum += (double)pdp[row * tile<R>::SCORES + x];
                } /* the next tile's scores are written behind a barrier of their own */
        }
        for (int i = 1; i < 4; i *= 2) {
                sum += __shfl_xor_sync(ALL_LANES, sum, i);
                of_p += __shfl_xor_sync(ALL_LANES, of_p, i);
        }
        if (part == 0 && row < ROWS && first + row < a.pixels)
                dots[image + first + row] = (float)(sum / (of_p * (double)a.scale));
}

template <class T, int R> __global__ void __launch_bounds__(BLOCK) attention_dq(attention_values<T> a, T *dq)
{
        constexpr int ROWS = tile<R>::ROWS;
        DYNAMIC_SHARED(float, shared);
        const int size = ROWS * row_stride(a.c), first = (int)blockIdx.x * ROWS;
        const int row = threadIdx.x / 16 * R, lane = threadIdx.x % 16;
        float *const qs = shared, *const dos = qs + size, *const ks = dos + size, *const vs = ks + size;
        float *const p = vs + size, *const ds = p + ROWS * tile<R>::SCORES;
        const int64_t image = (int64_t)blockIdx.y * a.pixels;
        float sum[R][tile<R>::COLUMNS] = {}, factor[R];

        tile_load<T, R>(qs, a.q + image * a.c, first, a.pixels, a.c);
        tile_load<T, R>(dos, a.d_o + image * a.c, first, a.pixels, a.c);
        for (int j = 0; j < a.pixels; j += ROWS) {
                tile_load<T, R>(ks, a.k + image * a.c, j, a.pixels, a.c);
                tile_load<T, R>(vs, a.v + image * a.c, j, a.pixels, a.c);
                __syncthreads();
                tile_slopes<T, R>(a, image, qs, dos, ks, vs, first, j, p, ds);
                __syncthreads();
                tile_gather<R, false>(ds, ks, a.c, row, lane, sum);
                __syncthreads();
        }
        for (int y = 0; y < R; y++)
                factor[y] = 1;
        tile_store<T, R>(dq + image * a.c, first, a.pixels, a.c, row, lane, factor, sum);
}

template <class T, int R> __global__ void __launch_bounds__(BLOCK) attention_dk_dv(attention_values<T> a, T *dk, T *dv)
{
        constexpr int ROWS = tile<R>::ROWS;
        DYNAMIC_SHARED(float, shared);
        const int size = ROWS * row_stride(a.c), first = (int)blockIdx.x * ROWS;
        const int row = threadIdx.x / 16 * R, lane = threadIdx.x % 16;
        float *const qs = shared, *const dos = qs + size, *const ks = dos + size, *const vs = ks + size;
        float *const p = vs + size, *const ds = p + ROWS * tile<R>::SCORES;
        const int64_t image = (int64_t)blockIdx.y * a.pixels;
        float sum_k[R][tile<R>::COLUMNS] = {}, sum_v[R][tile<R>::COLUMNS] = {}, factor[R];

        tile_load<T, R>(ks, a.k + image * a.c, first, a.pixels, a.c);
        tile_load<T, R>(vs, a.v + image * a.c, first, a.pixels, a.c);
        for (int i = 0; i < a.pixels; i += ROWS) {
                tile_load<T, R>(qs, a.q + image * a.c, i, a.pixels, a.c);
                tile_load<T, R>(dos, a.d_o + image * a.c, i, a.pixels, a.c);
                __syncthreads();
                tile_slopes<T, R>(a, image, qs, dos, ks, vs, i, first, p, ds);
                __syncthreads();
                tile_gather<R, true>(p, dos, a.c, row, lane, sum_v);
                tile_gather<R, true>(ds, qs, a.c, row, lane, sum_k);
                __syncthreads();
        }
        for (int y = 0; y < R; y++)
                factor[y] = 1;
        tile_store<T, R>(dk + image * a.c, first, a.pixels, a.c, row, lane, factor, sum_k);
        tile_store<T, R>(dv + image * a.c, first, a.pixels, a.c, row, lane, factor, sum_v);
}

/* ---- launches */

/* n_maps tiles of rows and n_scores of scores */
template <int R> size_t shared_of(int c, int n_maps, int n_scores)
{
        return sizeof(float) * (size_t)(tile<R>::ROWS * (n_maps * row_stride(c) + n_scores * tile<R>::SCORES));
}

template <int R> dim3 grid_of_attention(const struct attention_shape *s)
{
        return dim3((unsigned)((s->pixels + tile<R>::ROWS - 1) / tile<R>::ROWS), (unsigned)s->n_images);
}

template <class T, int R> void forward(struct stream *s, const struct attention_forward_args *a)
{
        const struct attention_shape *g = &a->attention->shape;

        RUN(s, "attention_forward", (attention_forward<T, R>), grid_of_attention<R>(g), BLOCK,
            shared_of<R>((int)g->c, 3, 1), (const T *)a->q, (const T *)a->k, (const T *)a->v, (T *)a->o,
            (float *)a->saved, (int)g->pixels, (int)g->c, (float)(1 / sqrt((double)g->c)));
}

template <class T> void dots_rounded(struct stream *s, const struct attention_backward_args *a, float *dots)
{
        const struct attention_shape *g = &a->attention->shape;
        const int64_t rows = g->n_images * g->pixels;

        RUN(s, "attention_backward", attention_dots<T>, (unsigned)((rows + BLOCK / 32 - 1) / (BLOCK / 32)), BLOCK, 0,
            (const T *)a->d_o, (const T *)a->o, rows, (int)g->c, dots);
}

template <class T, int R> void backward(struct stream *s, const struct attention_backward_args *a)
{
        const struct attention_shape *g = &a->attention->shape;
        float *dots = (float *)a->workspace;
        attention_values<T> v = {(const T *)a->q,
                                 (const T *)a->k,
                                 (const T *)a->v,
                                 (const T *)a->d_o,
                                 (const float *)a->saved,
                                 NULL,
                                 (int)g->pixels,
                                 (int)g->c,
                                 (float)(1 / sqrt((double)g->c))};
        const size_t shared = shared_of<R>((int)g->c, 4, 2);

        RUN(s, "attention_backward", (attention_exact_dots<T, R>), grid_of_attention<R>(g), BLOCK, shared, v, dots);
        v.dots = dots;
        RUN(s, "attention_backward", (attention_dq<T, R>), grid_of_attention<R>(g), BLOCK, shared, v, (T *)a->dq);
        RUN(s, "attention_backward", (attention_dk_dv<T, R>), grid_of_attention<R>(g), BLOCK, shared, v, (T *)a->dk,
            (T *)a->dv);
}

/* Tiles take more shared memory than a kernel gets unasked. */
template <class T, int R> cudaError_t shared_allow(int c)
{
        const int backward_bytes = (int)shared_of<R>(c, 4, 2), forward_bytes = (int)shared_of<R>(c, 3, 1);
        const enum cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
        cudaError_t e = cudaFuncSetAttribute((const void *)attention_forward<T, R>, most, forward_bytes);

        if (e == cudaSuccess)
                e = cudaFuncSetAttribute((const void *)attention_dq<T, R>, most, backward_bytes);
        if (e == cudaSuccess)
                e = cudaFuncSetAttribute((const void *)attention_exact_dots<T, R>, most, backward_bytes);
        if (e == cudaSuccess)
                e = cudaFuncSetAttribute((const void *)attention_dk_dv<T, R>, most, backward_bytes);
        return e;
}
} // namespace

/* fn<type, R> for the shape */
#define BY_SHAPE(fn, s, ...)                                                                                           \
        ((s)->type == DTYPE_BF16 ? (s)->c <= SMALL_C ? fn<bf16, 4>(__VA_ARGS__) : fn<bf16, 2>(__VA_ARGS__)             \
         : (s)->c <= SMALL_C ? fn<float, 4>(__VA_ARGS__)                                                               \
                                 : fn<float, 2>(__VA_ARGS__))

int cuda_attention_new(struct device *d, const struct attention_shape *shape, struct attention **ret, struct error *err)
{
        struct attention *x;
        int r = device_may_plan(d, "attention", err);

        if (r == 0)
                r = shape_check_attention(shape, true, err);
        if (r < 0)
                return r;
        if (shape->c > MAX_C)
                return error_set(err, -ENOTSUP, "attention", "attention: c %lld is not computed by this back end",
                                 (long long)shape->c);
        /* for the widest of the kind, so that a later plan does not lower it */
        if ((attention_mma_takes(shape)
                     ? attention_mma_prepare(shape)
                     : BY_SHAPE(shared_allow, shape, shape->c <= SMALL_C ? SMALL_C : MAX_C)) != cudaSuccess)
                return error_set(err, -EIO, "attention", "the device has too little shared memory");
        x = (struct attention *)calloc(1, sizeof(*x));
        if (!x)
                return error_set(err, -ENOMEM, "", "out of memory");
        x->shape = *shape;
        *ret = x;
        return 0;
}

struct attention *cuda_attention_free(struct attention *a)
{
        free(a);
        return NULL;
}

size_t cuda_attention_workspace(const struct attention *a)
{
        return sizeof(float) * (size_t)(a->shape.n_images * a->shape.pixels);
}

size_t cuda_attention_saved(const struct attention *a)
{
        return 2 * sizeof(float) * (size_t)(a->shape.n_images * a->shape.pixels);
}

void cuda_attention_forward(struct stream *s, const struct attention_forward_args *a)
{
        const struct attention_shape *g = &a->attention->shape;

        if (attention_mma_takes(g))
                attention_mma_forward(s, g, a);
        else
                BY_SHAPE(forward, g, s, a);
}

void cuda_attention_backward(struct stream *s, const struct attention_backward_args *a)
{
        const struct attention_shape *g = &a->attention->shape;

        if (attention_mma_takes(g)) {
                if (g->type == DTYPE_BF16)
                        dots_rounded<bf16>(s, a, (float *)a->workspace);
                attention_mma_backward(s, g, a, (float *)a->workspace);
        } else {
                BY_SHAPE(backward, g, s, a);
        }
}

/* Bytes beyond the operands: what the launches (dots, dq, dk and dv) read of q, k, v and d_o more than once, less o
 * where the dots are made of scores; the dots. Of an image, k and v stay in the cache from block to block. */
double cuda_attention_backward_beyond(const struct attention_backward_args *a)
{
        const struct attention_shape *g = &a->attention->shape;
        const int maps = attention_mma_takes(g) && g->type == DTYPE_BF16 ? 5 : 7;

        return maps * (double)(g->n_images * g->pixels * g->c) * (double)dtype_bytes(g->type) +
               3.0 * (double)cuda_attention_workspace(a->attention);
}
