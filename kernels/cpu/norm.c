/* y = dropout(swish(GroupNorm([a | b] + addend) scale + bias)), forward and backward. Spec 1; Wu & He 2018. The
 * formulas are reference/norm.c's.
 *
 * Work is cut into (image, block of channels): whole groups of one of the two inputs, about 64 channels, so that a
 * block of 1024 pixels stays in the second-level cache between the pass that sums and the pass that writes. Sums are
 * per channel, in float32 over a tile of pixels and in double over the tiles; a thread makes all of a block, and images
 * are added up in order: any number of threads gives the same bits. Dropout's random numbers are made again in the
 * backward direction: a mask in memory would cost more.
 */
#include "kernels/cpu/philox_lanes.h"
#include "kernels/cpu/simd.h"

#include <errno.h>
#include <math.h>

#define EPS 1e-6
#define BLOCK_MAX 64 /* channels, unless one group has more */
#define TILE 8       /* pixels whose random numbers are made at once, and whose sums are float32 */

/* Channels [first, first + n) of one input; from the input's own channel 0 at `at` of the whole. */
struct block {
        int64_t first, n;
        bool of_b;
};

struct norm {
        struct norm_shape shape;
        int64_t c, width; /* channels; a group's */
        int64_t n_blocks, block_max;
        int threads;
        struct block blocks[];
};

static int64_t blocks_fill(const struct norm_shape *s, struct block *ret)
{
        int64_t width = (s->c_a + s->c_b) / s->groups, step = width > BLOCK_MAX ? width : BLOCK_MAX / width * width,
                n = 0;

        for (int side = 0; side < 2; side++) {
                int64_t channels = side ? s->c_b : s->c_a;

                for (int64_t at = 0; at < channels; at += step, n++)
                        if (ret)
                                ret[n] = (struct block){
                                        .first = at + (side ? s->c_a : 0), .n = MIN(step, channels - at), .of_b = side};
        }
        return n;
}

int V(norm_new)(struct device *d, const struct norm_shape *shape, struct norm **ret, struct error *err)
{
        struct norm *n;
        int r;

        r = host_check_norm(d, shape, true, err);
        if (r < 0)
                return r;
        n = calloc(1, sizeof(*n) + sizeof(struct block) * (size_t)blocks_fill(shape, NULL));
        if (!n)
                return error_set(err, -ENOMEM, "", "out of memory");
        n->shape = *shape;
        n->c = shape->c_a + shape->c_b;
        n->width = n->c / shape->groups;
        n->threads = d->threads;
        n->n_blocks = blocks_fill(shape, n->blocks);
        for (int64_t i = 0; i < n->n_blocks; i++)
                n->block_max = MAX(n->block_max, n->blocks[i].n);
        *ret = n;
        return 0;
}

struct norm *V(norm_free)(struct norm *n)
{
        free(n);
        return NULL;
}

/* A thread's part of the workspace, for one block: values per channel, random numbers of a tile, and backward du of all
 * pixels. Behind the threads' parts lies each image's share of dscale and dbias. */
struct scratch {
        float *mean, *scale, *bias, *rstd, *k1, *k2, *k3; /* per channel of the block */
        double *sum, *sum_xhat, *sum_x;
        uint32_t *quads, *words;
        float *multipliers; /* of a tile */
        float *x, *y, *dx;  /* rows of bf16 widened, or to be rounded */
        float *du;
};

static size_t scratch_layout(const struct norm *n, char *base, struct scratch *ret)
{
        size_t channels = (size_t)n->block_max, n_quads = (channels / 8 + 2) * TILE, at = 0;
        float **floats[] = {&ret->mean, &ret->scale, &ret->bias, &ret->rstd, &ret->k1,
                            &ret->k2,   &ret->k3,    &ret->x,    &ret->y,    &ret->dx};
        double **sums[] = {&ret->sum, &ret->sum_xhat, &ret->sum_x};

        for (size_t i = 0; i < ARRAY_LEN(floats); i++)
                *floats[i] = host_take(base, &at, channels * sizeof(float));
        for (size_t i = 0; i < ARRAY_LEN(sums); i++)
                *sums[i] = host_take(base, &at, channels * sizeof(double));
        ret->quads = host_take(base, &at, n_quads * sizeof(uint32_t));
        ret->words = host_take(base, &at, n_quads * 4 * sizeof(uint32_t));
        ret->multipliers = host_take(base, &at, channels * TILE * sizeof(float));
        ret->du = host_take(base, &at, channels * (size_t)n->shape.pixels * sizeof(float));
        return at;
}

static struct scratch scratch_of(const struct norm *n, int64_t part, void *workspace)
{
        struct scratch s;

        (void)scratch_layout(n, (char *)workspace + scratch_layout(n, NULL, &s) * (size_t)part, &s);
        return s;
}

static size_t shares_offset(const struct norm *n)
{
        struct scratch unused;

        return scratch_layout(n, NULL, &unused) * (size_t)n->threads;
}

size_t V(norm_workspace)(const struct norm *n)
{
        return shares_offset(n) + sizeof(double) * 2 * (size_t)(n->shape.n_images * n->c);
}

/* ---- dropout */

/* Where the multipliers of a block's values come from. */
struct drop {
        enum { DROP_NONE, DROP_MASK, DROP_RANDOM } kind;
        const float *mask; /* of the image */
        struct philox_lanes lanes;
        uint32_t threshold;
        float kept;
};

static struct drop drop_of(const struct dropout *d, int64_t image, int64_t image_size)
{
        struct drop ret = {.kind = DROP_NONE};

        if (d->mask) {
                ret.kind = DROP_MASK;
                ret.mask = d->mask + image * image_size;
        } else if (d->rate > 0) {
                ret.kind = DROP_RANDOM;
                ret.lanes = philox_lanes_of(d->state, STREAM_DROPOUT, d->block, d->rows[image].image);
                ret.threshold = (uint32_t)lrint(d->rate * 65536.0);
                ret.kept = (float)(1.0 / (1.0 - d->rate));
        }
        return ret;
}

typedef uint16_t __attribute__((may_alias)) half;

/* Multipliers of pixels [pixel, pixel + n_pixels), n_pixels <= TILE, into s->multipliers. A block may begin inside a
 * quad of eight elements. */
static void drop_tile(const struct drop *d, const struct scratch *s, const struct block *b, int64_t c, int64_t pixel,
                      int64_t n_pixels)
{
        int64_t n_quads = b->n / 8 + 2;
        uint32_t threshold = d->threshold;
        float kept = d->kept;

        if ((c | b->first | b->n) % 8 == 0)
                n_quads = b->n / 8;
        for (int64_t p = 0; p < n_pixels; p++)
                for (int64_t q = 0; q < n_quads; q++)
                        s->quads[p * n_quads + q] = (uint32_t)(((pixel + p) * c + b->first) / 8 + q);
        philox_lanes_run(&d->lanes, s->quads, n_pixels * n_quads, s->words);
        for (int64_t p = 0; p < n_pixels; p++) {
                const half *halves = (const half *)(s->words + p * n_quads * 4) + ((pixel + p) * c + b->first) % 8;
                float *multipliers = s->multipliers + p * b->n;

#pragma omp simd
                for (int64_t j = 0; j < b->n; j++)
                        multipliers[j] = halves[j] >= threshold ? kept : 0;
        }
}

/* The multipliers of one pixel; NULL for none. Makes those of the tile that begins here. */
static const float *drop_row(const struct drop *d, const struct scratch *s, const struct block *b, int64_t c,
                             int64_t pixel, int64_t pixels)
{
        if (d->kind == DROP_NONE)
                return NULL;
        if (d->kind == DROP_MASK)
                return d->mask + pixel * c + b->first;
        if (pixel % TILE == 0)
                drop_tile(d, s, b, c, pixel, MIN((int64_t)TILE, pixels - pixel));
        return s->multipliers + pixel % TILE * b->n;
}

/* ---- forward */

/* Rows of the block's input: row p begins p * stride values behind the address. */
_inline_ const void *input_rows(enum dtype type, const struct norm *n, const struct block *b, const void *in_a,
                                const void *in_b, int64_t image, int64_t *ret_stride)
{
        int64_t stride = b->of_b ? n->shape.c_b : n->shape.c_a;

        *ret_stride = stride;
        return value_address(type, b->of_b ? in_b : in_a,
                             image * n->shape.pixels * stride + b->first - (b->of_b ? n->shape.c_a : 0));
}

/* A row as float32: itself, or widened into room. Loops over rows of floats are what the compiler vectorises well. */
_inline_ const float *row_of(enum dtype type, const void *x, int64_t n, float *room)
{
        if (type == DTYPE_FLOAT32)
                return x;
        values_copy(type, x, DTYPE_FLOAT32, room, n);
        return room;
}

/* Where a row of results goes: to itself, or by way of room with row_end. */
_inline_ float *row_begin(enum dtype type, void *y, float *room)
{
        return type == DTYPE_FLOAT32 ? y : room;
}

_inline_ void row_end(enum dtype type, const float *room, void *y, int64_t n)
{
        if (type != DTYPE_FLOAT32)
                values_copy(DTYPE_FLOAT32, room, type, y, n);
}

typedef double wide_vec __attribute__((vector_size(8 * LANES)));
typedef wide_vec wide_vec_anywhere __attribute__((may_alias, aligned(sizeof(double))));

_inline_ void add_wide(double *sum, vec x)
{
        *(wide_vec_anywhere *)(void *)sum += __builtin_convertvector(x, wide_vec);
}

/* s->sum_x, s->sum += the sums of n_pixels <= TILE rows and of their squares. */
_inline_ void sum_tile(enum dtype type, const struct scratch *s, const void *x, int64_t stride, int64_t n_pixels,
                       int64_t n)
{
        int64_t j = 0;

        for (; j + LANES <= n; j += LANES) {
                vec sum = {0}, squares = {0};

                for (int64_t p = 0; p < n_pixels; p++) {
                        vec v = values_load(type, x, p * stride + j);

                        sum += v;
                        squares += v * v;
                }
                add_wide(s->sum_x + j, sum);
                add_wide(s->sum + j, squares);
        }
        for (; j < n; j++) {
                float sum = 0, squares = 0;

                for (int64_t p = 0; p < n_pixels; p++) {
                        float v = value_load(type, x, p * stride + j);

                        sum += v;
                        squares += v * v;
                }
                s->sum_x[j] += (double)sum;
                s->sum[j] += (double)squares;
        }
}

_inline_ void sum_rows(enum dtype type, const struct scratch *s, const void *x, int64_t stride, int64_t pixels,
                       int64_t n)
{
        for (int64_t j = 0; j < n; j++)
                s->sum_x[j] = s->sum[j] = 0;
        for (int64_t p = 0; p < pixels; p += TILE)
                sum_tile(type, s, value_address(type, x, p * stride), stride, MIN((int64_t)TILE, pixels - p), n);
}

/* From the channels' sums, per group: mean and 1/std to stats, and what a value is to be shifted and scaled by. */
static void forward_groups(const struct norm_forward_args *a, const struct block *b, int64_t image,
                           const struct scratch *s)
{
        const struct norm *n = a->norm;
        double pixels = (double)n->shape.pixels, count = pixels * (double)n->width;

        for (int64_t g = 0; g < b->n / n->width; g++) {
                float *stats = a->stats + 2 * (image * n->shape.groups + b->first / n->width + g);
                const float *addend = a->addend ? a->addend + image * n->c + b->first : NULL;
                double sum = 0, squares = 0, mean, rstd;

                for (int64_t j = g * n->width; j < (g + 1) * n->width; j++) {
                        double add = addend ? addend[j] : 0;

                        sum += s->sum_x[j] + pixels * add;
                        squares += s->sum[j] + 2 * add * s->sum_x[j] + pixels * add * add;
                }
                mean = sum / count;
                rstd = 1 / sqrt(fmax(0, squares / count - mean * mean) + EPS);
                stats[0] = (float)mean;
                stats[1] = (float)rstd;
                for (int64_t j = g * n->width; j < (g + 1) * n->width; j++) {
                        s->mean[j] = (float)(mean - (addend ? addend[j] : 0));
                        s->scale[j] = (float)(rstd * a->scale[b->first + j]);
                        s->bias[j] = a->bias[b->first + j];
                }
        }
}

_inline_ void forward_row(const struct scratch *s, const float *restrict x, const float *restrict multipliers,
                          float *restrict y, int64_t n, bool swish)
{
        const float *restrict mean = s->mean, *restrict scale = s->scale, *restrict bias = s->bias;

#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
                float u = (x[j] - mean[j]) * scale[j] + bias[j];

                if (swish)
                        u = fast_swishf(u);
                y[j] = multipliers ? u * multipliers[j] : u;
        }
}

_inline_ void forward_block(enum dtype type, const struct norm_forward_args *a, const struct block *b, int64_t image,
                            const struct scratch *s, int64_t n)
{
        int64_t c = a->norm->c, pixels = a->norm->shape.pixels, stride;
        const void *in = input_rows(type, a->norm, b, a->a, a->b, image, &stride);
        struct drop d = drop_of(&a->dropout, image, pixels * c);

        sum_rows(type, s, in, stride, pixels, n);
        forward_groups(a, b, image, s);
        for (int64_t p = 0; p < pixels; p++) {
                const float *multipliers = drop_row(&d, s, b, c, p, pixels);
                const float *x = row_of(type, value_address(type, in, p * stride), n, s->x);
                void *out = (void *)value_address(type, a->y, (image * pixels + p) * c + b->first);
                float *y = row_begin(type, out, s->y);

                if (!a->swish)
                        forward_row(s, x, multipliers, y, n, false);
                else if (multipliers)
                        forward_row(s, x, multipliers, y, n, true);
                else
                        forward_row(s, x, NULL, y, n, true);
                row_end(type, y, out, n);
        }
}

_inline_ void forward_part(enum dtype type, const struct norm_forward_args *a, int64_t part)
{
        const struct norm *n = a->norm;
        int64_t tasks = n->shape.n_images * n->n_blocks;
        struct scratch s = scratch_of(n, part, a->workspace);

        for (int64_t t = tasks * part / n->threads; t < tasks * (part + 1) / n->threads; t++) {
                const struct block *b = &n->blocks[t % n->n_blocks];

                if (b->n == BLOCK_MAX) /* the width that matters, as a constant */
                        forward_block(type, a, b, t / n->n_blocks, &s, BLOCK_MAX);
                else
                        forward_block(type, a, b, t / n->n_blocks, &s, b->n);
        }
}

int V(norm_forward)(const struct norm_forward_args *a)
{
#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < a->norm->threads; part++)
                OF_TYPE(a->norm->shape.type, forward_part, a, part);
        return 0;
}

/* ---- backward */

/* du of a row */
_inline_ void backward_row_du(const struct scratch *s, const float *restrict x, const float *restrict dy,
                              const float *restrict multipliers, float *restrict du, int64_t n, bool swish)
{
        const float *restrict mean = s->mean, *restrict scale = s->scale, *restrict bias = s->bias;
        const float *restrict rstd = s->rstd;

#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
                float d = dy[j];

                if (multipliers)
                        d *= multipliers[j];
                if (swish)
                        d *= fast_swish_slopef((x[j] - mean[j]) * rstd[j] * scale[j] + bias[j]);
                du[j] = d;
        }
}

/* The channels' sums of du, du (x - mean) and x - mean, += those of n_pixels <= TILE rows. */
_inline_ void backward_sum_tile(enum dtype type, const struct scratch *s, const void *x, int64_t stride,
                                const float *du, int64_t n_pixels, int64_t n)
{
        int64_t j = 0;

        for (; j + LANES <= n; j += LANES) {
                vec sum = {0}, sum_product = {0}, sum_x = {0}, mean = vec_load(s->mean + j);

                for (int64_t p = 0; p < n_pixels; p++) {
                        vec v = values_load(type, x, p * stride + j) - mean, d = vec_load_unaligned(du + p * n + j);

                        sum += d;
                        sum_product += d * v;
                        sum_x += v;
                }
                add_wide(s->sum + j, sum);
                add_wide(s->sum_xhat + j, sum_product);
                add_wide(s->sum_x + j, sum_x);
        }
        for (; j < n; j++) {
                float sum = 0, sum_product = 0, sum_x = 0;

                for (int64_t p = 0; p < n_pixels; p++) {
                        float v = value_load(type, x, p * stride + j) - s->mean[j], d = du[p * n + j];

                        sum += d;
                        sum_product += d * v;
                        sum_x += v;
                }
                s->sum[j] += (double)sum;
                s->sum_xhat[j] += (double)sum_product;
                s->sum_x[j] += (double)sum_x;
        }
}

/* dx = du k1 + (x - mean) k3 + k2, from the groups' sums; the image's share of dscale, dbias; daddend. */
static void backward_groups(const struct norm_backward_args *a, const struct block *b, int64_t image,
                            const struct scratch *s, double *shares)
{
        const struct norm *n = a->norm;
        double pixels = (double)n->shape.pixels, count = pixels * (double)n->width;

        for (int64_t g = 0; g < b->n / n->width; g++) {
                double rstd = a->stats[2 * (image * n->shape.groups + b->first / n->width + g) + 1], sum = 0,
                       sum_xhat = 0;

                for (int64_t j = g * n->width; j < (g + 1) * n->width; j++) {
                        sum += a->scale[b->first + j] * s->sum[j];
                        sum_xhat += a->scale[b->first + j] * s->sum_xhat[j];
                }
                for (int64_t j = g * n->width; j < (g + 1) * n->width; j++) {
                        double k1 = rstd * a->scale[b->first + j], k2 = -rstd * sum / count;
                        double k3 = -rstd * sum_xhat / count; /* of xhat */

                        s->k1[j] = (float)k1;
                        s->k2[j] = (float)k2;
                        s->k3[j] = (float)(k3 * rstd);
                        shares[2 * (b->first + j)] = s->sum_xhat[j];
                        shares[2 * (b->first + j) + 1] = s->sum[j];
                        if (a->daddend)
                                a->daddend[image * n->c + b->first + j] =
                                        (float)(k1 * s->sum[j] + k2 * pixels + k3 * s->sum_x[j]);
                }
        }
}

_inline_ void backward_row(const struct scratch *s, const float *restrict x, const float *restrict du,
                           float *restrict dx, int64_t n, bool accumulate)
{
        const float *restrict mean = s->mean, *restrict k1 = s->k1, *restrict k2 = s->k2, *restrict k3 = s->k3;

#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
                float d = du[j] * k1[j] + ((x[j] - mean[j]) * k3[j] + k2[j]);

                dx[j] = accumulate ? dx[j] + d : d;
        }
}

static void backward_prepare(const struct norm_backward_args *a, const struct block *b, int64_t image,
                             const struct scratch *s)
{
        for (int64_t j = 0; j < b->n; j++) {
                int64_t channel = b->first + j;
                const float *stats = a->stats + 2 * (image * a->norm->shape.groups + channel / a->norm->width);

                s->mean[j] = stats[0] - (a->addend ? a->addend[image * a->norm->c + channel] : 0);
                s->rstd[j] = stats[1];
                s->scale[j] = a->scale[channel];
                s->bias[j] = a->bias[channel];
                s->sum[j] = s->sum_xhat[j] = s->sum_x[j] = 0;
        }
}

_inline_ void backward_block(enum dtype type, const struct norm_backward_args *a, const struct block *b, int64_t image,
                             const struct scratch *s, double *shares, int64_t n)
{
        int64_t c = a->norm->c, pixels = a->norm->shape.pixels, stride;
        const void *in = input_rows(type, a->norm, b, a->a, a->b, image, &stride);
        void *out = (void *)input_rows(type, a->norm, b, a->da, a->db, image, &stride);
        struct drop d = drop_of(&a->dropout, image, pixels * c);
        bool accumulate = b->of_b ? a->accumulate_b : a->accumulate_a;

        backward_prepare(a, b, image, s);
        for (int64_t p = 0; p < pixels; p++) {
                const float *multipliers = drop_row(&d, s, b, c, p, pixels);
                const float *x = row_of(type, value_address(type, in, p * stride), n, s->x);
                const float *dy =
                        row_of(type, value_address(type, a->dy, (image * pixels + p) * c + b->first), n, s->y);

                if (!a->swish)
                        backward_row_du(s, x, dy, multipliers, s->du + p * n, n, false);
                else if (multipliers)
                        backward_row_du(s, x, dy, multipliers, s->du + p * n, n, true);
                else
                        backward_row_du(s, x, dy, NULL, s->du + p * n, n, true);
        }
        for (int64_t p = 0; p < pixels; p += TILE)
                backward_sum_tile(type, s, value_address(type, in, p * stride), stride, s->du + p * n,
                                  MIN((int64_t)TILE, pixels - p), n);
        for (int64_t j = 0; j < n; j++) { /* of x - mean to xhat */
                s->sum_xhat[j] *= (double)s->rstd[j];
                s->sum_x[j] *= (double)s->rstd[j];
        }
        backward_groups(a, b, image, s, shares);
        for (int64_t p = 0; p < pixels; p++) {
                const float *x = row_of(type, value_address(type, in, p * stride), n, s->x);
                void *to = (void *)value_address(type, out, p * stride);
                float *dx = row_begin(type, to, s->dx);

                if (accumulate) {
                        (void)row_of(type, to, n, dx);
                        backward_row(s, x, s->du + p * n, dx, n, true);
                } else {
                        backward_row(s, x, s->du + p * n, dx, n, false);
                }
                row_end(type, dx, to, n);
        }
}

_inline_ void backward_part(enum dtype type, const struct norm_backward_args *a, int64_t part, double *shares)
{
        const struct norm *n = a->norm;
        int64_t tasks = n->shape.n_images * n->n_blocks;
        struct scratch s = scratch_of(n, part, a->workspace);

        for (int64_t t = tasks * part / n->threads; t < tasks * (part + 1) / n->threads; t++) {
                const struct block *b = &n->blocks[t % n->n_blocks];
                int64_t image = t / n->n_blocks;

                if (b->n == BLOCK_MAX)
                        backward_block(type, a, b, image, &s, shares + 2 * image * n->c, BLOCK_MAX);
                else
                        backward_block(type, a, b, image, &s, shares + 2 * image * n->c, b->n);
        }
}

int V(norm_backward)(const struct norm_backward_args *a)
{
        const struct norm *n = a->norm;
        double *shares = (double *)((char *)a->workspace + shares_offset(n));

#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < n->threads; part++)
                OF_TYPE(n->shape.type, backward_part, a, part, shares);
        for (int64_t j = 0; j < n->c && a->dscale; j++) {
                double sum[2] = {0};

                for (int64_t image = 0; image < n->shape.n_images; image++)
                        for (int k = 0; k < 2; k++)
                                sum[k] += shares[2 * (image * n->c + j) + k];
                a->dscale[j] = (float)(a->accumulate_weights ? a->dscale[j] + sum[0] : sum[0]);
                a->dbias[j] = (float)(a->accumulate_weights ? a->dbias[j] + sum[1] : sum[1]);
        }
        return 0;
}
