/* o = softmax(q k^T / sqrt(c)) v. Spec 1; the backward formulas are reference/attention.c's.
 *
 * A thread takes a tile of queries through all keys, so that a tile's scores stay in the second-level cache between the
 * products. Forward keeps each query's largest score and 1 / sum instead of its probabilities, which backward makes
 * again with the same bits: one product of seven more there, and no [pixels, pixels] in memory.
 *
 * Of bf16, scores, probabilities and what is summed over keys or queries are float32; probabilities and their gradients
 * are rounded where they are operands of the next product.
 *
 * Backward's dk and dv are sums over queries. One thread makes an image's, in order; where there are more threads than
 * images, an image's tiles are cut into pieces with sums of their own, added up in order. */
#include "kernels/cpu/simd.h"

#include <errno.h>
#include <math.h>

#define TILE_ROWS (48 / BLOCK_ROWS * BLOCK_ROWS)

struct attention {
        struct attention_shape shape;
        float scale;
        int64_t n_parts, n_pieces; /* threads; pieces of an image */
        int64_t n_tiles;           /* of an image */
        int64_t padded_pixels, padded_c;
        int64_t score_row; /* floats between a tile's rows: no power of two, else they share a set of the cache */
};

int V(attention_new)(struct device *d, const struct attention_shape *shape, struct attention **ret, struct error *err)
{
        struct attention *a;
        int r;

        r = host_check_attention(d, shape, true, err);
        if (r < 0)
                return r;
        a = calloc(1, sizeof(*a));
        if (!a)
                return error_set(err, -ENOMEM, "", "out of memory");
        a->shape = *shape;
        a->scale = (float)(1 / sqrt((double)shape->c));
        a->n_tiles = (shape->pixels + TILE_ROWS - 1) / TILE_ROWS;
        a->n_parts = d->threads;
        a->n_pieces = MIN((d->threads + shape->n_images - 1) / shape->n_images, a->n_tiles);
        a->padded_pixels = block_align(shape->pixels);
        a->padded_c = block_align(shape->c);
        a->score_row = a->padded_pixels + LANES;
        *ret = a;
        return 0;
}

struct attention *V(attention_free)(struct attention *a)
{
        free(a);
        return NULL;
}

size_t V(attention_saved)(const struct attention *a)
{
        return 2 * sizeof(float) * (size_t)(a->shape.n_images * a->shape.pixels);
}

/* ---- workspace */

/* A thread's. What is packed is an image's, as words of the type; tiles are of TILE_ROWS queries. Forward lacks what
 * begins with d. */
struct scratch {
        word *k_t, *v_t;  /* [panel of keys][word of c][BLOCK_WIDTH] */
        word *k, *v;      /* [panel of channels][word of keys][BLOCK_WIDTH] */
        float *p, *d_s;   /* [TILE_ROWS, score_row] */
        word *rows;       /* [TILE_ROWS, score_row]: p or d_s rounded, or rows of q or d_o */
        word *q, *d_o;    /* [panel of channels][word of the tile's queries][BLOCK_WIDTH] */
        float *out;       /* [TILE_ROWS, padded_c] */
        float *d_k, *d_v; /* [piece or part][pixels, padded_c] */
};

static size_t scratch_layout(const struct attention *a, int64_t part, char *base, struct scratch *ret)
{
        size_t packed = sizeof(float) * (size_t)(a->padded_pixels * a->padded_c), at = 0;
        size_t tile = sizeof(float) * (size_t)(TILE_ROWS * a->score_row);
        size_t rows = sizeof(float) * (size_t)(TILE_ROWS * a->padded_c);
        size_t n_sums = (size_t)MAX(a->n_parts, a->n_pieces > 1 ? a->shape.n_images * a->n_pieces : 0);

        ret->d_k = host_take(base, &at, n_sums * packed);
        ret->d_v = host_take(base, &at, n_sums * packed);
        for (int64_t i = 0; i <= part; i++) {
                word **images[] = {&ret->k_t, &ret->v_t, &ret->k, &ret->v};
                word **scores[] = {&ret->p, &ret->d_s, &ret->rows}, **queries[] = {&ret->q, &ret->d_o, &ret->out};

                for (size_t j = 0; j < ARRAY_LEN(images); j++)
                        *images[j] = host_take(base, &at, packed);
                for (size_t j = 0; j < ARRAY_LEN(scores); j++) {
                        *scores[j] = host_take(base, &at, tile);
                        *queries[j] = host_take(base, &at, rows);
                }
        }
        return at;
}

size_t V(attention_workspace)(const struct attention *a)
{
        struct scratch unused;

        return scratch_layout(a, a->n_parts - 1, NULL, &unused);
}

static struct scratch scratch_of(const struct attention *a, int64_t part, void *workspace)
{
        struct scratch s;

        (void)scratch_layout(a, part, workspace, &s);
        return s;
}

/* ---- forward */

/* x = exp((x - max) scale) in place; ret_saved: max, 1 / sum. */
_inline_ void exp_row(float *restrict x, int64_t n, float scale, float *ret_saved)
{
        float max = x[0], sum = 0;

#pragma omp simd reduction(max : max)
        for (int64_t j = 0; j < n; j++)
                max = x[j] > max ? x[j] : max;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) {
                x[j] = fast_expf((x[j] - max) * scale);
                sum += x[j];
        }
        ret_saved[0] = max;
        ret_saved[1] = 1 / sum;
}

/* The rows of a tile: queries [first, first + n) of an image. */
struct tile {
        int64_t first, n;
};

static struct tile tile_at(const struct attention *a, int64_t i)
{
        return (struct tile){i * TILE_ROWS, MIN((int64_t)TILE_ROWS, a->shape.pixels - i * TILE_ROWS)};
}

/* rows = scale[row] * from's rows of padded_c; scale, of stride 2, or NULL for 1. */
_inline_ void unpad_rows(enum dtype type, const struct attention *a, const float *restrict from, int64_t n,
                         const float *scale, void *restrict rows)
{
        int64_t c = a->shape.c;

        for (int64_t i = 0; i < n; i++) {
                float factor = scale ? scale[2 * i] : 1;

#pragma omp simd
                for (int64_t j = 0; j < c; j++)
                        value_store(type, rows, i * c + j, from[i * a->padded_c + j] * factor);
        }
}

/* p = x y^T: n rows of x against all of y, packed as [panel of keys][c]. */
_inline_ void make_scores(enum dtype type, const struct attention *a, const void *x, const word *y_t, int64_t n,
                          const struct scratch *s, float *p)
{
        int64_t c = a->shape.c;
        struct product product = {.k = n_words(type, c), .a_k = 1, .b_k = BLOCK_WIDTH, .c_row = a->score_row};
        const word *left = left_rows(type, type, x, c, n, c, s->rows, &product.a_row);

        product_panels(&product, type, n, a->shape.pixels, left, y_t, p);
}

/* s->out = p y: a tile's rows over all keys against y, packed as [panel of channels][key]. */
_inline_ void mix_rows(enum dtype type, const struct attention *a, const float *p, const word *y, int64_t n,
                       const struct scratch *s)
{
        int64_t pixels = a->shape.pixels;
        struct product product = {.k = n_words(type, pixels), .a_k = 1, .b_k = BLOCK_WIDTH, .c_row = a->padded_c};
        const word *left = left_rows(DTYPE_FLOAT32, type, p, a->score_row, n, pixels, s->rows, &product.a_row);

        product_panels(&product, type, n, a->shape.c, left, y, s->out);
}

_inline_ void forward_tile(enum dtype type, const struct attention_forward_args *args, int64_t image, struct tile t,
                           const struct scratch *s)
{
        const struct attention *a = args->attention;
        int64_t at = image * a->shape.pixels + t.first, c = a->shape.c;
        float saved[2 * TILE_ROWS];

        make_scores(type, a, value_address(type, args->q, at * c), s->k_t, t.n, s, s->p);
        for (int64_t i = 0; i < t.n; i++)
                exp_row(s->p + i * a->score_row, a->shape.pixels, a->scale, saved + 2 * i);
        mix_rows(type, a, s->p, s->v, t.n, s);
        unpad_rows(type, a, s->out, t.n, saved + 1, (void *)value_address(type, args->o, at * c));
        if (args->saved)
                memcpy((float *)args->saved + 2 * at, saved, (size_t)t.n * 2 * sizeof(float));
}

/* The part's share of all images' tiles. */
_inline_ void forward_part(enum dtype type, const struct attention_forward_args *args, int64_t part)
{
        const struct attention *a = args->attention;
        struct scratch s = scratch_of(a, part, args->workspace);
        int64_t n = a->shape.n_images * a->n_tiles, c = a->shape.c, pixels = a->shape.pixels, packed = -1;

        for (int64_t i = n * part / a->n_parts; i < n * (part + 1) / a->n_parts; i++) {
                int64_t image = i / a->n_tiles, at = image * pixels * c;

                if (image != packed) {
                        pack_transposed(type, type, value_address(type, args->k, at), c, pixels, c, s.k_t);
                        pack_panels(type, type, value_address(type, args->v, at), c, pixels, c, s.v);
                        packed = image;
                }
                forward_tile(type, args, image, tile_at(a, i % a->n_tiles), &s);
        }
}

int V(attention_forward)(const struct attention_forward_args *args)
{
#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < args->attention->n_parts; part++)
                OF_TYPE(args->attention->shape.type, forward_part, args, part);
        return 0;
}

/* ---- backward */

/* p from its scores, and from dp = do v^T in place ds = p (dp - sum(dp p)) scale */
_inline_ void backward_row(float *restrict p, float *restrict dp, int64_t n, float scale, const float *saved)
{
        float max = saved[0], factor = saved[1], sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) {
                p[j] = fast_expf((p[j] - max) * scale) * factor;
                sum += dp[j] * p[j];
        }
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
                dp[j] = p[j] * (dp[j] - sum) * scale;
}

/* sums [pixels, padded_c] (+)= p^T x: a tile's rows against x, packed as [panel of channels][query]. p is lost. */
_inline_ void add_keys(enum dtype type, const struct attention *a, float *p, const word *x, int64_t n, bool first,
                       float *sums)
{
        struct product product = {
                .k = n_words(type, n), .a_row = 1, .b_k = BLOCK_WIDTH, .c_row = a->padded_c, .accumulate = !first};
        const word *left = left_columns(DTYPE_FLOAT32, type, p, a->score_row, n, a->shape.pixels, p, 2 * a->score_row,
                                        &product.a_k);

        product_panels(&product, type, a->shape.pixels, a->shape.c, left, x, sums);
}

_inline_ void backward_tile(enum dtype type, const struct attention_backward_args *args, int64_t image, struct tile t,
                            bool first, const struct scratch *s)
{
        const struct attention *a = args->attention;
        int64_t c = a->shape.c, at = image * a->shape.pixels + t.first;
        const void *q = value_address(type, args->q, at * c), *d_o = value_address(type, args->d_o, at * c);
        const float *saved = (const float *)args->saved + 2 * at;

        pack_panels(type, type, q, c, t.n, c, s->q);
        pack_panels(type, type, d_o, c, t.n, c, s->d_o);
        make_scores(type, a, q, s->k_t, t.n, s, s->p);
        make_scores(type, a, d_o, s->v_t, t.n, s, s->d_s);
        for (int64_t i = 0; i < t.n; i++)
                backward_row(s->p + i * a->score_row, s->d_s + i * a->score_row, a->shape.pixels, a->scale,
                             saved + 2 * i);
        mix_rows(type, a, s->d_s, s->k, t.n, s);
        unpad_rows(type, a, s->out, t.n, NULL, (void *)value_address(type, args->dq, at * c));
        add_keys(type, a, s->p, s->d_o, t.n, first, s->d_v);
        add_keys(type, a, s->d_s, s->q, t.n, first, s->d_k);
}

/* An image's piece: dq, and its sums for dk and dv. */
_inline_ void backward_piece(enum dtype type, const struct attention_backward_args *args, int64_t image, int64_t piece,
                             const struct scratch *s)
{
        const struct attention *a = args->attention;
        int64_t c = a->shape.c, pixels = a->shape.pixels, first = a->n_tiles * piece / a->n_pieces;
        const void *k = value_address(type, args->k, image * pixels * c);

        pack_transposed(type, type, k, c, pixels, c, s->k_t);
        pack_transposed(type, type, value_address(type, args->v, image * pixels * c), c, pixels, c, s->v_t);
        pack_panels(type, type, k, c, pixels, c, s->k);
        for (int64_t i = first; i < a->n_tiles * (piece + 1) / a->n_pieces; i++)
                backward_tile(type, args, image, tile_at(a, i), i == first, s);
}

/* The part's share of all images' pieces. Sums of whole images go where they belong at once. */
_inline_ void backward_part(enum dtype type, const struct attention_backward_args *args, int64_t part)
{
        const struct attention *a = args->attention;
        int64_t n = a->shape.n_images * a->n_pieces, size = a->padded_pixels * a->padded_c;
        int64_t pixels = a->shape.pixels;

        for (int64_t i = n * part / a->n_parts; i < n * (part + 1) / a->n_parts; i++) {
                struct scratch s = scratch_of(a, part, args->workspace);
                int64_t sums = a->n_pieces > 1 ? i : part, at = i * pixels * a->shape.c;

                s.d_k += sums * size;
                s.d_v += sums * size;
                backward_piece(type, args, i / a->n_pieces, i % a->n_pieces, &s);
                if (a->n_pieces == 1) {
                        unpad_rows(type, a, s.d_k, pixels, NULL, (void *)value_address(type, args->dk, at));
                        unpad_rows(type, a, s.d_v, pixels, NULL, (void *)value_address(type, args->dv, at));
                }
        }
}

/* y = the sum of an image's pieces, in order. */
static void add_pieces(const struct attention *a, int64_t image, const float *pieces, void *y)
{
        int64_t c = a->shape.c, size = a->padded_pixels * a->padded_c;

        for (int64_t i = 0; i < a->shape.pixels; i++)
                for (int64_t j = 0; j < c; j++) {
                        const float *x = pieces + image * a->n_pieces * size + i * a->padded_c + j;
                        float sum = 0;

                        for (int64_t piece = 0; piece < a->n_pieces; piece++)
                                sum += x[piece * size];
                        value_store(a->shape.type, y, (image * a->shape.pixels + i) * c + j, sum);
                }
}

int V(attention_backward)(const struct attention_backward_args *args)
{
        const struct attention *a = args->attention;
        struct scratch s = scratch_of(a, 0, args->workspace);

#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < a->n_parts; part++)
                OF_TYPE(a->shape.type, backward_part, args, part);
        if (a->n_pieces > 1) {
#pragma omp parallel for schedule(static) collapse(2)
                for (int64_t image = 0; image < a->shape.n_images; image++)
                        for (int i = 0; i < 2; i++)
                                add_pieces(a, image, i ? s.d_v : s.d_k, i ? args->dv : args->dk);
        }
        return 0;
}
