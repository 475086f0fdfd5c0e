/* Winograd's F(2x2, 3x3) (Lavin & Gray 2015): y = A^T [(G w G^T) . (B^T x B)] A for each tile of 2x2 outputs, which
 * reads 4x4 inputs. The products over channels are 16 matrix products, one for each element of the transformed tile.
 *
 * Each thread takes a contiguous share of the tiles in strips: transforms a strip's inputs, multiplies, transforms back
 * with bias and residual, all in its part of the workspace, which stays in the second-level cache; the transformed
 * weights (16/9 of the kernel) stream past. Backward data is the same of turned, transposed taps. Backward weights is
 * the transpose: dw = G^T [sum over tiles of (B^T x B)^T (A dy A^T)] G, a sum of its own for each thread, added up in
 * order.
 *
 * Planes of the 16 elements lie a cache line further apart than a power of two, else a transform's 16 stores would
 * share one set of the cache. F(4x4, 3x3) would need 2.25 instead of 4 products an output, but its error is 5 to 8
 * times that of a direct convolution, F(2x2)'s 1.7 times. */
#include "kernels/cpu/winograd.h"
#include "kernels/cpu/simd.h"

#define ELEMENTS 16              /* of a transformed tile, 4 x 4 */
#define STRIP_BYTES (512 * 1024) /* of transformed inputs and outputs: half of a small second-level cache */
#define SUM_STRIPS 2             /* strips together where products are summed over them */
#define PLANE_GAP (KERNELS_ALIGN / (int64_t)sizeof(float))

bool V(winograd_fits)(const struct conv_shape *s)
{
        return s->c_in % BLOCK_WIDTH == 0 && s->c_out % BLOCK_WIDTH == 0 && s->x_type == s->y_type;
}

void V(winograd_init)(struct winograd *g, const struct conv_shape *s, int threads)
{
        int64_t tile_bytes = ELEMENTS * (int64_t)dtype_bytes(s->x_type) * (s->c_in + s->c_out), tiles;

        g->shape = *s;
        g->tiles_y = (s->height + 1) / 2;
        g->tiles_x = (s->width + 1) / 2;
        tiles = s->n_images * g->tiles_y * g->tiles_x;
        g->n_blocks = (tiles + BLOCK_ROWS - 1) / BLOCK_ROWS;
        g->strip_blocks = MAX(STRIP_BYTES / (tile_bytes * BLOCK_ROWS), (int64_t)1);
        g->sum_blocks = SUM_STRIPS * g->strip_blocks;
        g->n_parts = MIN((int64_t)threads, g->n_blocks);
}

/* ---- workspace: the weights' planes, a row of zeros, and each part's planes. Backward weights has weights' planes for
 * each part. */

struct scratch {
        float *weights;  /* of part 0 */
        void *zeros;     /* of the activations' type */
        double *db;      /* [part][c_out] */
        float *db_strip; /* [c_out], the part's, of a strip */
        float *x, *y;    /* the part's transforms, [ELEMENTS] planes of [tiles, channels], or of words of them */
        int64_t weights_plane, x_plane, y_plane;
};

static size_t scratch_layout(const struct winograd *g, int64_t part, char *base, struct scratch *ret)
{
        int64_t tiles = g->sum_blocks * BLOCK_ROWS, c_in = g->shape.c_in, c_out = g->shape.c_out;
        size_t at = 0;

        ret->weights_plane = c_in * c_out + PLANE_GAP;
        ret->x_plane = tiles * c_in + PLANE_GAP;
        ret->y_plane = tiles * c_out + PLANE_GAP;
        ret->weights = host_take(base, &at, (size_t)(g->n_parts * ELEMENTS * ret->weights_plane) * sizeof(float));
        ret->zeros = host_take(base, &at, (size_t)MAX(c_in, c_out) * sizeof(float));
        ret->db = host_take(base, &at, (size_t)(g->n_parts * c_out) * sizeof(double));
        for (int64_t i = 0; i <= part; i++) {
                ret->db_strip = host_take(base, &at, (size_t)c_out * sizeof(float));
                ret->x = host_take(base, &at, (size_t)(ELEMENTS * ret->x_plane) * sizeof(float));
                ret->y = host_take(base, &at, (size_t)(ELEMENTS * ret->y_plane) * sizeof(float));
        }
        return at;
}

size_t V(winograd_workspace)(const struct winograd *g)
{
        struct scratch unused;

        return scratch_layout(g, g->n_parts - 1, NULL, &unused);
}

static struct scratch scratch_of(const struct winograd *g, int64_t part, void *workspace)
{
        struct scratch s;

        (void)scratch_layout(g, part, workspace, &s);
        return s;
}

static size_t zeros_bytes(const struct winograd *g)
{
        return (size_t)MAX(g->shape.c_in, g->shape.c_out) * sizeof(float);
}

/* ---- transforms, of vectors of channels */

/* u = G w G^T; w[3][3], u[4][4] */
_inline_ void transform_weights(const vec w[9], vec u[ELEMENTS])
{
        vec t[12];

#pragma GCC unroll 4
        for (int j = 0; j < 3; j++) {
                vec ends = 0.5f * (w[j] + w[6 + j]), middle = 0.5f * w[3 + j];

                t[j] = w[j];
                t[3 + j] = ends + middle;
                t[6 + j] = ends - middle;
                t[9 + j] = w[6 + j];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
                vec ends = 0.5f * (t[3 * i] + t[3 * i + 2]), middle = 0.5f * t[3 * i + 1];

                u[4 * i] = t[3 * i];
                u[4 * i + 1] = ends + middle;
                u[4 * i + 2] = ends - middle;
                u[4 * i + 3] = t[3 * i + 2];
        }
}

/* w = G^T u G, the transpose of transform_weights */
_inline_ void transform_weights_back(const vec u[ELEMENTS], vec w[9])
{
        vec t[12];

#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
                vec sum = 0.5f * (u[4 + j] + u[8 + j]);

                t[j] = u[j] + sum;
                t[4 + j] = 0.5f * (u[4 + j] - u[8 + j]);
                t[8 + j] = sum + u[12 + j];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 3; i++) {
                vec sum = 0.5f * (t[4 * i + 1] + t[4 * i + 2]);

                w[3 * i] = t[4 * i] + sum;
                w[3 * i + 1] = 0.5f * (t[4 * i + 1] - t[4 * i + 2]);
                w[3 * i + 2] = sum + t[4 * i + 3];
        }
}

/* v = B^T x B */
_inline_ void transform_input(const vec x[ELEMENTS], vec v[ELEMENTS])
{
        vec t[ELEMENTS];

#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
                t[j] = x[j] - x[8 + j];
                t[4 + j] = x[4 + j] + x[8 + j];
                t[8 + j] = x[8 + j] - x[4 + j];
                t[12 + j] = x[4 + j] - x[12 + j];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
                v[4 * i] = t[4 * i] - t[4 * i + 2];
                v[4 * i + 1] = t[4 * i + 1] + t[4 * i + 2];
                v[4 * i + 2] = t[4 * i + 2] - t[4 * i + 1];
                v[4 * i + 3] = t[4 * i + 1] - t[4 * i + 3];
        }
}

/* y = A^T m A, 2 x 2 */
_inline_ void transform_output(const vec m[ELEMENTS], vec y[4])
{
        vec t[8];

#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
                t[j] = m[j] + m[4 + j] + m[8 + j];
                t[4 + j] = m[4 + j] - m[8 + j] - m[12 + j];
        }
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
                y[2 * i] = t[4 * i] + t[4 * i + 1] + t[4 * i + 2];
                y[2 * i + 1] = t[4 * i + 1] - t[4 * i + 2] - t[4 * i + 3];
        }
}

/* m = A y A^T, the transpose of transform_output */
_inline_ void transform_output_back(const vec y[4], vec m[ELEMENTS])
{
        vec t[8];

#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
                t[j] = y[j];
                t[2 + j] = y[j] + y[2 + j];
                t[4 + j] = y[j] - y[2 + j];
                t[6 + j] = -y[2 + j];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
                m[4 * i] = t[2 * i];
                m[4 * i + 1] = t[2 * i] + t[2 * i + 1];
                m[4 * i + 2] = t[2 * i] - t[2 * i + 1];
                m[4 * i + 3] = -t[2 * i + 1];
        }
}

/* ---- the weights' planes */

/* Taps of LANES left channels from k and LANES right ones from j, taps[tap][left][right]. turned: of the convolution
 * that is backward data, whose left channels are w's outputs. */
_inline_ void load_taps(const struct conv_shape *s, const float *w, bool turned, int64_t k, int64_t j,
                        vec taps[LANES][9])
{
        float(*values)[9][LANES] = (float(*)[9][LANES])(void *)taps;

        for (int tap = 0; tap < 9; tap++) {
                const float *from = w + (turned ? 8 - tap : tap) * s->c_in * s->c_out + (turned ? j : k) * s->c_out +
                                    (turned ? k : j);

                for (int i = 0; i < LANES; i++)
                        for (int l = 0; l < LANES; l++)
                                values[turned ? l : i][tap][turned ? i : l] = from[i * s->c_out + l];
        }
}

/* The words of LANES left channels from k and LANES right ones from j. Of bf16, transformed first and rounded then:
 * rounding the taps too would double the error. */
_inline_ void make_block(enum dtype type, const struct winograd *g, const float *w, bool turned, int64_t k, int64_t j,
                         const struct scratch *s)
{
        int64_t step = word_values(type), depth = (turned ? g->shape.c_out : g->shape.c_in) / step;
        float *to = s->weights + j / BLOCK_WIDTH * depth * BLOCK_WIDTH + j % BLOCK_WIDTH;
        vec taps[LANES][9];

        load_taps(&g->shape, w, turned, k, j, taps);
        for (int64_t i = 0; i < LANES; i += step) {
                vec u[2][ELEMENTS];

                transform_weights(taps[i], u[0]);
                if (step == 2)
                        transform_weights(taps[i + 1], u[1]);
#pragma GCC unroll 16
                for (int e = 0; e < ELEMENTS; e++)
                        vec_store(to + e * s->weights_plane + (k + i) / step * BLOCK_WIDTH,
                                  words_of(type, u[0][e], u[step - 1][e]));
        }
}

/* Planes of [panel of BLOCK_WIDTH right channels][word of left channels][BLOCK_WIDTH], as product_block reads them. */
static void make_weights(const struct winograd *g, const float *w, bool turned, const struct scratch *s)
{
        int64_t left = turned ? g->shape.c_out : g->shape.c_in, right = turned ? g->shape.c_in : g->shape.c_out;

#pragma omp parallel for schedule(static) collapse(2)
        for (int64_t k = 0; k < left; k += LANES)
                for (int64_t j = 0; j < right; j += LANES)
                        OF_TYPE(g->shape.x_type, make_block, g, w, turned, k, j, s);
}

/* ---- tiles */

/* Addresses of the n x n pixels of a tile from (y, x) of its image on; of zeros where they are outside. */
_inline_ void tile_pixels(const struct winograd *g, enum dtype type, const void *image, int64_t channels, int64_t y,
                          int64_t x, int n, const void *zeros, const void *ret[])
{
        for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) {
                        bool inside = y + i >= 0 && y + i < g->shape.height && x + j >= 0 && x + j < g->shape.width;
                        int64_t at = ((y + i) * g->shape.width + x + j) * channels;

                        ret[n * i + j] = inside ? value_address(type, image, at) : zeros;
                }
}

struct tile {
        int64_t image, y, x; /* its first output */
};

static struct tile tile_at(const struct winograd *g, int64_t i)
{
        int64_t in_image = i % (g->tiles_y * g->tiles_x);

        return (struct tile){i / (g->tiles_y * g->tiles_x), in_image / g->tiles_x * 2, in_image % g->tiles_x * 2};
}

/* The pixels that tile i reads of x (n 4) or gives to y (n 2). */
_inline_ void pixels_of(const struct winograd *g, enum dtype type, const void *x, int64_t channels, int64_t i, int n,
                        const void *zeros, const void *ret[])
{
        struct tile t = tile_at(g, i);
        int64_t image = t.image * g->shape.height * g->shape.width * channels;

        tile_pixels(g, type, value_address(type, x, image), channels, t.y - (n == 4), t.x - (n == 4), n, zeros, ret);
}

_inline_ void transform_pixels(enum dtype type, const void *const pixels[ELEMENTS], int64_t c, vec ret[ELEMENTS])
{
        vec in[ELEMENTS];

#pragma GCC unroll 16
        for (int e = 0; e < ELEMENTS; e++)
                in[e] = values_load(type, pixels[e], c);
        transform_input(in, ret);
}

_inline_ void transform_gradients(enum dtype type, const void *const pixels[4], int64_t c, vec ret[ELEMENTS])
{
        vec in[4];

#pragma GCC unroll 4
        for (int e = 0; e < 4; e++)
                in[e] = values_load(type, pixels[e], c);
        transform_output_back(in, ret);
}

/* Tiles [first, first + n) of x [n_images, height, width, channels] into planes of [tile, word of channels]. */
_inline_ void gather_inputs(enum dtype type, const struct winograd *g, const void *x, int64_t channels, int64_t first,
                            int64_t n, const struct scratch *s, word *planes, int64_t plane)
{
        for (int64_t i = 0; i < n; i++) {
                const void *pixels[ELEMENTS];

                pixels_of(g, type, x, channels, first + i, 4, s->zeros, pixels);
                for (int64_t c = 0; c < channels; c += LANES) {
                        vec v[ELEMENTS];

                        transform_pixels(type, pixels, c, v);
#pragma GCC unroll 16
                        for (int e = 0; e < ELEMENTS; e++)
                                values_store(type, planes + e * plane, i * channels + c, v[e]);
                }
        }
}

/* For backward weights, whose sums run over tiles: planes of [word of tiles, channel]. of_x: of x, else of dy, whose
 * sums go to s->db_strip: element (1, 1) of A dy A^T is the sum of a tile's. */
_inline_ void gather_words(enum dtype type, bool of_x, const struct winograd *g, const void *from, int64_t first,
                           int64_t n, const struct scratch *s)
{
        int64_t channels = of_x ? g->shape.c_in : g->shape.c_out, step = word_values(type);
        int64_t plane = of_x ? s->x_plane : s->y_plane;
        word *planes = of_x ? s->x : s->y;

        for (int64_t i = 0; i < n; i += step, planes += channels) {
                const void *pixels[2][ELEMENTS];

                for (int64_t k = 0; k < step; k++)
                        if (i + k < n)
                                pixels_of(g, type, from, channels, first + i + k, of_x ? 4 : 2, s->zeros, pixels[k]);
                        else /* behind the last tile */
                                for (int e = 0; e < ELEMENTS; e++)
                                        pixels[k][e] = s->zeros;
                for (int64_t c = 0; c < channels; c += LANES) {
                        vec v[2][ELEMENTS];

#pragma GCC unroll 2
                        for (int k = 0; k < step; k++) {
                                if (of_x) {
                                        transform_pixels(type, pixels[k], c, v[k]);
                                } else {
                                        transform_gradients(type, pixels[k], c, v[k]);
                                        vec_store(s->db_strip + c, vec_load(s->db_strip + c) + v[k][5]);
                                }
                        }
#pragma GCC unroll 16
                        for (int e = 0; e < ELEMENTS; e++)
                                vec_store(planes + e * plane + c, words_of(type, v[0][e], v[step - 1][e]));
                }
        }
}

/* Planes of products back to outputs, with bias and residual. */
_inline_ void scatter_outputs(enum dtype type, const struct winograd *g, const float *planes, int64_t plane,
                              int64_t channels, int64_t first, int64_t n, const float *b, const void *residual, void *y)
{
        for (int64_t i = 0; i < n; i++) {
                struct tile t = tile_at(g, first + i);
                int64_t rows = MIN((int64_t)2, g->shape.height - t.y), columns = MIN((int64_t)2, g->shape.width - t.x);
                int64_t at = ((t.image * g->shape.height + t.y) * g->shape.width + t.x) * channels;

                for (int64_t c = 0; c < channels; c += LANES) {
                        vec in[ELEMENTS], out[4], bias = b ? vec_load(b + c) : (vec){0};

#pragma GCC unroll 16
                        for (int e = 0; e < ELEMENTS; e++)
                                in[e] = vec_load(planes + e * plane + i * channels + c);
                        transform_output(in, out);
                        for (int64_t p = 0; p < rows; p++)
                                for (int64_t q = 0; q < columns; q++) {
                                        int64_t to = at + (p * g->shape.width + q) * channels + c;
                                        vec value = out[2 * p + q] + bias;

                                        values_store(type, y, to,
                                                     residual ? value + values_load(type, residual, to) : value);
                                }
                }
        }
}

/* ---- the operations */

/* Runs body for each strip of so many blocks of the part: tiles [first, first + n). */
#define FOR_STRIPS(g, blocks, part, first, n)                                                                          \
        for (int64_t block_ = (g)->n_blocks * (part) / (g)->n_parts,                                                   \
                     end_ = (g)->n_blocks * ((part) + 1) / (g)->n_parts, first, n;                                     \
             block_ < end_ &&                                                                                          \
             (first = block_ * BLOCK_ROWS, n = MIN(MIN((blocks), end_ - block_) * BLOCK_ROWS, n_tiles(g) - first));    \
             block_ += (blocks))

static int64_t n_tiles(const struct winograd *g)
{
        return g->shape.n_images * g->tiles_y * g->tiles_x;
}

/* y = conv(x; the weights' planes) + b + residual. turned: from c_out channels to c_in. */
_inline_ void convolve(enum dtype type, const struct winograd *g, int64_t part, bool turned, const void *x,
                       const float *b, const void *residual, void *y, void *workspace)
{
        struct scratch s = scratch_of(g, part, workspace);
        int64_t left = turned ? g->shape.c_out : g->shape.c_in, right = turned ? g->shape.c_in : g->shape.c_out;
        int64_t depth = left / word_values(type);
        float *in = turned ? s.y : s.x, *out = turned ? s.x : s.y;
        int64_t in_plane = turned ? s.y_plane : s.x_plane, out_plane = turned ? s.x_plane : s.y_plane;
        struct product p = {.k = depth, .a_row = depth, .a_k = 1, .b_k = BLOCK_WIDTH, .c_row = right};

        FOR_STRIPS(g, g->strip_blocks, part, first, n)
        {
                gather_inputs(type, g, x, left, first, n, &s, in, in_plane);
                for (int e = 0; e < ELEMENTS; e++)
                        product_panels(&p, type, n, right, in + e * in_plane, s.weights + e * s.weights_plane,
                                       out + e * out_plane);
                scatter_outputs(type, g, out, out_plane, right, first, n, b, residual, y);
        }
}

static void run(const struct winograd *g, bool turned, const void *x, const float *w, const float *b,
                const void *residual, void *y, void *workspace)
{
        struct scratch s = scratch_of(g, 0, workspace);

        memset(s.zeros, 0, zeros_bytes(g));
        make_weights(g, w, turned, &s);
#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < g->n_parts; part++)
                OF_TYPE(g->shape.x_type, convolve, g, part, turned, x, b, residual, y, workspace);
}

void V(winograd_forward)(const struct winograd *g, const void *x, const float *w, const float *b, const void *residual,
                         void *y, void *workspace)
{
        run(g, false, x, w, b, residual, y, workspace);
}

void V(winograd_backward_data)(const struct winograd *g, const void *dy, const float *w, bool accumulate, void *dx,
                               void *workspace)
{
        run(g, true, dy, w, NULL, accumulate ? dx : NULL, dx, workspace);
}

/* The part's sums of products, and of dy. */
_inline_ void correlate(enum dtype type, const struct winograd *g, int64_t part, const void *x, const void *dy,
                        void *workspace)
{
        struct scratch s = scratch_of(g, part, workspace);
        int64_t c_in = g->shape.c_in, c_out = g->shape.c_out;
        float *sums = s.weights + part * ELEMENTS * s.weights_plane;
        double *db = s.db + part * c_out;
        struct product p = {.a_row = 1, .a_k = c_in, .b_k = c_out, .c_row = c_out};

        memset(db, 0, (size_t)c_out * sizeof(double));
        FOR_STRIPS(g, g->sum_blocks, part, first, n)
        {
                memset(s.db_strip, 0, (size_t)c_out * sizeof(float));
                gather_words(type, true, g, x, first, n, &s);
                gather_words(type, false, g, dy, first, n, &s);
                for (int64_t j = 0; j < c_out; j++)
                        db[j] += (double)s.db_strip[j];
                p.k = n_words(type, n);
                for (int e = 0; e < ELEMENTS; e++)
                        for (int64_t j = 0; j < c_out; j += BLOCK_WIDTH)
                                product_rows(&p, type, c_in, s.x + e * s.x_plane, s.y + e * s.y_plane + j,
                                             sums + e * s.weights_plane + j);
                p.accumulate = true;
        }
}

/* dw and db from the parts' sums, in the order of the parts. */
static void add_parts(const struct winograd *g, const struct scratch *s, bool accumulate, float *dw, float *db)
{
        int64_t c_in = g->shape.c_in, c_out = g->shape.c_out, size = c_in * c_out;

#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < size; i += LANES) {
                vec u[ELEMENTS], w[9];

                for (int e = 0; e < ELEMENTS; e++) {
                        u[e] = vec_load(s->weights + e * s->weights_plane + i);
                        for (int64_t part = 1; part < g->n_parts; part++)
                                u[e] += vec_load(s->weights + (part * ELEMENTS + e) * s->weights_plane + i);
                }
                transform_weights_back(u, w);
                for (int tap = 0; tap < 9; tap++)
                        vec_store(dw + tap * size + i, accumulate ? vec_load(dw + tap * size + i) + w[tap] : w[tap]);
        }
        for (int64_t j = 0; db && j < c_out; j++) {
                double sum = 0;

                for (int64_t part = 0; part < g->n_parts; part++)
                        sum += s->db[part * c_out + j];
                db[j] = (float)(accumulate ? db[j] + sum : sum);
        }
}

void V(winograd_backward_weights)(const struct winograd *g, const void *x, const void *dy, bool accumulate, float *dw,
                                  float *db, void *workspace)
{
        struct scratch s = scratch_of(g, 0, workspace);

        memset(s.zeros, 0, zeros_bytes(g));
#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < g->n_parts; part++)
                OF_TYPE(g->shape.x_type, correlate, g, part, x, dy, workspace);
        add_parts(g, &s, accumulate, dw, db);
}
