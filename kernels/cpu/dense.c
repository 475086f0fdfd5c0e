/* y = x w + b and its gradients: of bf16 by products of our own, of float32 by oneDNN's, or by ours where they are
 * measured to be faster (host_plans.h).
 *
 * Forward and backward data are one product: the right-hand side (w, or its transpose) is packed once, then each thread
 * takes its share of the rows in tiles, whose sums are float32, and writes them with bias and what is there. Backward
 * weights sums over rows: a thread its share, in strips, the shares added up in order. */
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/simd.h"
#include "kernels/host_plans.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define TILE_ROWS (48 / BLOCK_ROWS * BLOCK_ROWS) /* whose operands and sums stay in the first two caches */
#define STRIP_ROWS 256                           /* summed over at a time by backward weights; even */

enum { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS };
enum way { OWN, BY_ONEDNN, N_WAYS };
static const char *const way_names[] = {[OWN] = "own", [BY_ONEDNN] = "onednn"};
static_assert(ARRAY_LEN(way_names) == N_WAYS && N_WAYS <= PLANS_WAYS, "a name for each way");

struct dense {
        struct dense_shape shape;
        int64_t n_parts; /* threads */
        int ways[PLANS_DIRECTIONS];
        struct matmul matmul;
};

static int dense_init(struct dense *x, const struct dense_shape *shape, const int ways[PLANS_DIRECTIONS], int threads,
                      struct error *err)
{
        bool by_onednn = false;

        *x = (struct dense){.shape = *shape, .n_parts = threads};
        for (int i = 0; i < PLANS_DIRECTIONS; i++) {
                x->ways[i] = ways[i];
                by_onednn |= ways[i] == BY_ONEDNN;
        }
        return by_onednn ? matmul_init(&x->matmul, shape, err) : 0;
}

static size_t words_bytes(int64_t rows, int64_t columns)
{
        return (size_t)(rows * columns) * sizeof(word);
}

/* ---- workspace */

struct scratch {
        word *right; /* packed: w or its transpose; of backward weights the part's strip of dy */
        word *left;  /* the part's: rows, or words of rows, where x is not what a product reads */
        float *sums; /* the part's: a tile; of backward weights [part][k, n up to whole blocks] */
        double *db;  /* [part][n] */
};

/* Of [m, depth] times [depth, width]. */
static size_t rows_layout(const struct dense *x, int64_t depth, int64_t width, int64_t part, char *base,
                          struct scratch *ret)
{
        int64_t words = n_words(x->shape.type, depth);
        size_t at = 0;

        ret->right = host_take(base, &at, words_bytes(words, block_align(width)));
        for (int64_t i = 0; i <= part; i++) {
                ret->left = host_take(base, &at, words_bytes(TILE_ROWS, words));
                ret->sums = host_take(base, &at, words_bytes(TILE_ROWS, block_align(width)));
        }
        return at;
}

static size_t weights_layout(const struct dense *x, int64_t part, char *base, struct scratch *ret)
{
        int64_t k = x->shape.k, n = x->shape.n, words = n_words(x->shape.type, STRIP_ROWS);
        size_t at = 0;

        ret->sums = host_take(base, &at, (size_t)x->n_parts * words_bytes(k, block_align(n)));
        ret->db = host_take(base, &at, (size_t)(x->n_parts * n) * sizeof(double));
        for (int64_t i = 0; i <= part; i++) {
                ret->left = host_take(base, &at, words_bytes(words, block_align(k)));
                ret->right = host_take(base, &at, words_bytes(words, block_align(n)));
        }
        return at;
}

size_t V(dense_workspace)(const struct dense *x)
{
        int64_t last = x->n_parts - 1, k = x->shape.k, n = x->shape.n;
        struct scratch unused;
        size_t forward = rows_layout(x, k, n, last, NULL, &unused), data = rows_layout(x, n, k, last, NULL, &unused);
        size_t weights = weights_layout(x, last, NULL, &unused);

        return MAX(MAX(x->ways[FORWARD] == OWN ? forward : 0, x->ways[BACKWARD_DATA] == OWN ? data : 0),
                   MAX(weights, matmul_workspace(&x->matmul)));
}

/* ---- y = x w + b, dx = dy w^T */

/* The panel from column j of w [k, n] on, for a product with its rows, or of its transpose. */
_inline_ void pack_weights(enum dtype type, const struct dense *x, const float *w, bool transposed, int64_t j,
                           word *ret)
{
        int64_t k = x->shape.k, n = x->shape.n, width = MIN((transposed ? k : n) - j, (int64_t)BLOCK_WIDTH);

        if (transposed)
                pack_transposed(DTYPE_FLOAT32, type, w + j * n, n, width, n, ret + j * n_words(type, n));
        else
                pack_panels(DTYPE_FLOAT32, type, w + j, n, k, width, ret + j * n_words(type, k));
}

/* y[0 .. n) = sums (+ b) (+ y) */
_inline_ void write_row(enum dtype type, const float *sums, const float *b, bool accumulate, void *y, int64_t n)
{
        int64_t j = 0;

        for (; j + LANES <= n; j += LANES) {
                vec v = vec_load(sums + j);

                v = b ? v + vec_load_unaligned(b + j) : v;
                values_store(type, y, j, accumulate ? v + values_load(type, y, j) : v);
        }
        for (; j < n; j++) {
                float v = sums[j] + (b ? b[j] : 0);

                value_store(type, y, j, accumulate ? v + value_load(type, y, j) : v);
        }
}

/* The part's rows of y [m, width] = x [m, depth] times the packed right-hand side. */
_inline_ void multiply_rows(enum dtype type, const struct dense *d, int64_t part, int64_t depth, int64_t width,
                            const void *x, const float *b, bool accumulate, void *y, void *workspace)
{
        int64_t m = d->shape.m, end = m * (part + 1) / d->n_parts;
        struct product p = {.k = n_words(type, depth), .a_k = 1, .b_k = BLOCK_WIDTH, .c_row = block_align(width)};
        struct scratch s = {0};

        (void)rows_layout(d, depth, width, part, workspace, &s);
        for (int64_t i = m * part / d->n_parts; i < end; i += TILE_ROWS) {
                int64_t rows = MIN(end - i, (int64_t)TILE_ROWS);
                const word *left =
                        left_rows(type, type, value_address(type, x, i * depth), depth, rows, depth, s.left, &p.a_row);

                product_panels(&p, type, rows, width, left, s.right, s.sums);
                for (int64_t r = 0; r < rows; r++)
                        write_row(type, s.sums + r * p.c_row, b, accumulate,
                                  (void *)value_address(type, y, (i + r) * width), width);
        }
}

static void multiply(const struct dense *d, bool transposed, const void *x, const float *w, const float *b,
                     bool accumulate, void *y, void *workspace)
{
        int64_t depth = transposed ? d->shape.n : d->shape.k, width = transposed ? d->shape.k : d->shape.n;
        struct scratch s = {0};

        (void)rows_layout(d, depth, width, 0, workspace, &s);
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < width; j += BLOCK_WIDTH)
                OF_TYPE(d->shape.type, pack_weights, d, w, transposed, j, s.right);
#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < d->n_parts; part++)
                OF_TYPE(d->shape.type, multiply_rows, d, part, depth, width, x, b, accumulate, y, workspace);
}

int V(dense_forward)(const struct dense_forward_args *a)
{
        const struct dense *d = a->dense;

        if (d->ways[FORWARD] == BY_ONEDNN)
                return matmul_forward(&d->matmul, a);
        multiply(d, false, a->x, a->w, a->b, a->accumulate, a->y, a->workspace);
        return 0;
}

int V(dense_backward_data)(const struct dense_backward_data_args *a)
{
        const struct dense *d = a->dense;

        if (d->ways[BACKWARD_DATA] == BY_ONEDNN)
                return matmul_backward_data(&d->matmul, a);
        multiply(d, true, a->dy, a->w, NULL, a->accumulate, a->dx, a->workspace);
        return 0;
}

/* ---- dw = x^T dy, db = the columns' sums of dy */

/* The part's sums of x^T dy. */
_inline_ void correlate(enum dtype type, const struct dense *d, int64_t part, const void *x, const void *dy,
                        void *workspace)
{
        int64_t m = d->shape.m, k = d->shape.k, n = d->shape.n, end = m * (part + 1) / d->n_parts;
        struct product p = {.a_row = 1, .b_k = BLOCK_WIDTH, .c_row = block_align(n)};
        struct scratch s = {0};
        float *sums;

        (void)weights_layout(d, part, workspace, &s);
        sums = s.sums + part * k * p.c_row;
        memset(sums, 0, words_bytes(k, p.c_row));
        p.accumulate = true;
        for (int64_t i = m * part / d->n_parts; i < end; i += STRIP_ROWS) {
                int64_t rows = MIN(end - i, (int64_t)STRIP_ROWS);
                const word *left = left_columns(type, type, value_address(type, x, i * k), k, rows, k, s.left,
                                                block_align(k), &p.a_k);

                pack_panels(type, type, value_address(type, dy, i * n), n, rows, n, s.right);
                p.k = n_words(type, rows);
                product_panels(&p, type, k, n, left, s.right, sums);
        }
}

/* The part's sums of the columns of dy. */
_inline_ void sum_columns(enum dtype type, const struct dense *d, int64_t part, const void *dy, double *restrict sum)
{
        int64_t m = d->shape.m, n = d->shape.n;

        for (int64_t j = 0; j < n; j++)
                sum[j] = 0;
        for (int64_t i = m * part / d->n_parts; i < m * (part + 1) / d->n_parts; i++)
#pragma omp simd
                for (int64_t j = 0; j < n; j++)
                        sum[j] += (double)value_load(type, dy, i * n + j);
}

/* dw from the parts' sums, in order. */
static void add_parts(const struct dense *d, const float *sums, bool accumulate, float *dw)
{
        int64_t k = d->shape.k, n = d->shape.n, padded = block_align(n);

#pragma omp parallel for schedule(static) if (k * n > PARALLEL_MIN)
        for (int64_t i = 0; i < k; i++)
#pragma omp simd
                for (int64_t j = 0; j < n; j++) {
                        float sum = sums[i * padded + j];

                        for (int64_t part = 1; part < d->n_parts; part++)
                                sum += sums[(part * k + i) * padded + j];
                        dw[i * n + j] = accumulate ? dw[i * n + j] + sum : sum;
                }
}

int V(dense_backward_weights)(const struct dense_backward_weights_args *a)
{
        const struct dense *d = a->dense;
        bool own = d->ways[BACKWARD_WEIGHTS] == OWN;
        int64_t n = d->shape.n;
        struct scratch s = {0};

        (void)weights_layout(d, 0, a->workspace, &s);
#pragma omp parallel for schedule(static)
        for (int64_t part = 0; part < d->n_parts; part++) {
                if (own)
                        OF_TYPE(d->shape.type, correlate, d, part, a->x, a->dy, a->workspace);
                if (a->db)
                        OF_TYPE(d->shape.type, sum_columns, d, part, a->dy, s.db + part * n);
        }
        for (int64_t j = 0; a->db && j < n; j++) {
                double sum = 0;

                for (int64_t part = 0; part < d->n_parts; part++)
                        sum += s.db[part * n + j];
                a->db[j] = (float)(a->accumulate ? a->db[j] + sum : sum);
        }
        if (!own)
                return matmul_backward_weights(&d->matmul, a);
        add_parts(d, s.sums, a->accumulate, a->dw);
        return 0;
}

/* ---- which way */

/* A shape's operands, for timing. */
struct trial {
        struct device *device;
        struct dense_shape shape;
        struct dense dense;
        struct plans_operands operands;
};

static int run_forward(void *user)
{
        const struct trial *t = user;

        return V(dense_forward)(&(struct dense_forward_args){.dense = (struct dense *)&t->dense,
                                                             .x = t->operands.x,
                                                             .w = t->operands.w,
                                                             .y = t->operands.y,
                                                             .workspace = t->operands.workspace});
}

static int run_backward_data(void *user)
{
        const struct trial *t = user;

        return V(dense_backward_data)(&(struct dense_backward_data_args){.dense = (struct dense *)&t->dense,
                                                                         .dy = t->operands.y,
                                                                         .w = t->operands.w,
                                                                         .dx = t->operands.x,
                                                                         .workspace = t->operands.workspace});
}

static int run_backward_weights(void *user)
{
        const struct trial *t = user;

        return V(dense_backward_weights)(&(struct dense_backward_weights_args){.dense = (struct dense *)&t->dense,
                                                                               .x = t->operands.x,
                                                                               .dy = t->operands.y,
                                                                               .dw = t->operands.w,
                                                                               .workspace = t->operands.workspace});
}

static void time_way(void *user, int way, double ret_seconds[PLANS_DIRECTIONS])
{
        static int (*const runs[PLANS_DIRECTIONS])(void *) = {run_forward, run_backward_data, run_backward_weights};
        struct trial *t = user;
        const struct dense_shape *s = &t->shape;
        int ways[PLANS_DIRECTIONS] = {way, way, way};

        if (dense_init(&t->dense, s, ways, t->device->threads, NULL) == 0) {
                const size_t bytes[] = {words_bytes(s->m, s->k), words_bytes(s->m, s->n), words_bytes(s->k, s->n),
                                        V(dense_workspace)(&t->dense)};

                plans_time(t->device, &t->operands, bytes, runs, t, ret_seconds);
        }
        matmul_done(&t->dense.matmul);
}

static void choose(struct device *d, const struct dense_shape *s, int ways[PLANS_DIRECTIONS])
{
        bool float32 = s->type == DTYPE_FLOAT32;
        struct trial t = {.device = d, .shape = *s};
        struct plans_ways all = {.isa = CPU_ISA_NAME,
                                 .names = way_names,
                                 .possible = (const bool[N_WAYS]){[OWN] = true, [BY_ONEDNN] = float32},
                                 .n = N_WAYS,
                                 .time = time_way,
                                 .user = &t};

        for (int i = 0; i < PLANS_DIRECTIONS; i++)
                ways[i] = float32 ? BY_ONEDNN : OWN;
        (void)snprintf(all.shape, sizeof all.shape, "dense %lld x %lld x %lld, %s", (long long)s->m, (long long)s->k,
                       (long long)s->n, plans_type_names[s->type]);
        plans_choose(d, &all, ways);
}

int V(dense_new)(struct device *d, const struct dense_shape *shape, struct dense **ret, struct error *err)
{
        int ways[PLANS_DIRECTIONS];
        struct dense *x;
        int r;

        host_enter(d);
        r = host_check_dense(d, shape, true, err);
        if (r < 0)
                return r;
        x = calloc(1, sizeof(*x));
        if (!x)
                return error_set(err, -ENOMEM, "", "out of memory");
        choose(d, shape, ways);
        r = dense_init(x, shape, ways, d->threads, err);
        if (r < 0) {
                (void)V(dense_free)(x);
                return r;
        }
        *ret = x;
        return 0;
}

struct dense *V(dense_free)(struct dense *x)
{
        if (!x)
                return NULL;
        matmul_done(&x->matmul);
        free(x);
        return NULL;
}
