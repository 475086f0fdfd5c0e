/* Operations of type bf16: every input is widened, so they must agree with the reference's float32 operations on the
 * same values (and on the weights rounded), but for one rounding of what comes out. In units of bf16's rounding, 2^-8
 * of the value plus the root mean square.
 *
 * What a back end rounds on the way adds to that. A rounding's error is about r = 0.42 units of the value (uniform in
 * half a unit in the last place, which is 2^-8 to 2^-9 of it). Attention rounds its probabilities, or their gradients:
 * terms whose errors are independent, so r of the sum, 2.1 at five standard deviations, by the root mean square of all
 * keys. A longer key's probabilities are wider, as exp(|k|^2 / c): the longest of 150 keys of 64 channels has |k|^2 / c
 * = 1 + 2.5 sqrt(2 / 64) = 1.44, so its errors are exp(0.44) = 1.55 times the mean, 3.3. Winograd's algorithm rounds V
 * = B^T x B and U = G w G^T: an output sums 9 of the 16 products U V, whose variance is (1 + 3/4 + 3/4)^2 4 = 25 times
 * that of a term where the 9 taps' is 9, so 5/3 r for each of the two, together 2.4 r or 1.0 units, 5 at five
 * deviations. dw sums (A dy A^T) V with G^T on both sides: at a corner's tap the variance is 16 for 4, so 2 r for each
 * of the two, 2.8 r or 1.2 units together, 6 at five deviations; the sums are float32, without a rounding at the end.
 * In images of one row or column two taps of three are zero, which lowers the root mean square, but not the errors:
 * sqrt(3) more.
 *
 * Operations of float32 that may take tf32's factors are here, too. Half a unit in the last place is 2^-11 there: two
 * factors are sqrt(2) r of that off, 3.0 at five standard deviations, and 1.2 times that in the widest row of 64, whose
 * norm is sqrt(1.44) times the mean: 3.6. Attention's scores, off by 0.6 times their size,
 * are its probabilities' relative errors; with their own rounding and the other factor's that is 1.04, of a long
 * key 1.6, and of a key that few look at more: 10 at the most. */
#include "check.h"

#include "kernels/bf16.h"

#define UNIT 0x1p-8
#define MAX_BUFFERS 32

struct side {
        const struct kernels *k;
        struct device *d;
        struct stream *s;
        void *buffers[MAX_BUFFERS];
        int n;
};

static struct side tested, wanted; /* one thread */
static uint64_t seed;
static bool all_digits;
static int n_bad, n_cases;
static double worst;

static double normal(void)
{
        struct philox p = philox_draw(1, 0, 0, (uint32_t)seed++, 0, 0, 0);
        float a, b;

        philox_normal_pair(p.v[0], p.v[1], &a, &b);
        return a;
}

static void *buffer(struct side *side, const void *from, size_t bytes)
{
        void *p = side->k->memory_new(side->d, bytes);

        if (!p || side->n == MAX_BUFFERS)
                abort();
        side->k->copy_in(side->s, p, from, bytes);
        (void)side->k->stream_sync(side->s, NULL);
        side->buffers[side->n++] = p;
        return p;
}

/* NaN. */
static void *room(struct side *side, size_t bytes)
{
        char *from = malloc(bytes + 1);
        void *p;

        memset(from, 0xff, bytes);
        p = buffer(side, from, bytes);
        free(from);
        return p;
}

/* The same n normal values, which bf16 holds (unless all_digits), for both; typed: bf16 for the tested side. */
static void both(size_t n, double scale, bool typed, void **ret_tested, void **ret_wanted)
{
        uint16_t *small = malloc(n * sizeof(*small));
        float *wide = malloc(n * sizeof(*wide));

        for (size_t i = 0; i < n; i++) {
                const float value = (float)(scale * normal());

                small[i] = bf16_round(value);
                wide[i] = all_digits ? value : bf16_widen(small[i]);
        }
        *ret_tested = typed ? buffer(&tested, small, n * sizeof(*small)) : buffer(&tested, wide, n * sizeof(*wide));
        *ret_wanted = buffer(&wanted, wide, n * sizeof(*wide));
        free(small);
        free(wide);
}

static double fetch(struct side *side, const void *p, size_t n, bool typed, double *ret)
{
        size_t bytes = n * (typed ? sizeof(uint16_t) : sizeof(float));
        void *host = malloc(bytes);
        double rms = 0;

        side->k->copy_out(side->s, host, p, bytes);
        if (side->k->stream_sync(side->s, NULL) < 0)
                n_bad++;
        for (size_t i = 0; i < n; i++) {
                ret[i] = value_at(typed ? DTYPE_BF16 : DTYPE_FLOAT32, host, (int64_t)i);
                rms += ret[i] * ret[i];
        }
        free(host);
        return sqrt(rms / (double)n);
}

/* Half a unit of its rounding, and what the sums' own rounding adds. */
static void expect_same(const char *what, const void *got, const void *want, size_t n, bool typed, double limit)
{
        double *x = malloc(n * sizeof(*x)), *y = malloc(n * sizeof(*y)), most = 0;
        double rms = fetch(&wanted, want, n, false, y);
        const double least = rms > 0 ? 0 : 1e-4; /* what cancels leaves the sums' rounding of terms of about 1 */

        (void)fetch(&tested, got, n, typed, x);
        for (size_t i = 0; i < n; i++) {
                double error = fabs(x[i] - y[i]) / ((typed ? UNIT : 0x1p-24) * (fabs(y[i]) + rms + least));

                most = x[i] == y[i] ? most : error <= most ? most : isnan(error) ? HUGE_VAL : error;
        }
        if (!(most <= limit))
                printf("FAIL %s: %.3g units, at most %.3g\n", what, most, limit);
        n_bad += !(most <= limit);
        n_cases++;
        worst = typed ? fmax(worst, most) : worst;
        free(x);
        free(y);
}

static void forget(void)
{
        struct side *sides[2] = {&tested, &wanted};

        for (int i = 0; i < 2; i++)
                while (sides[i]->n > 0)
                        sides[i]->k->memory_free(sides[i]->d, sides[i]->buffers[--sides[i]->n]);
}

/* op on both sides: arguments in terms of SIDE(x) and `typed`, whether this side's type is bf16. */
#define SIDE(x) (typed ? x##_t : x##_w)
#define BOTH(op, ...)                                                                                                  \
        do {                                                                                                           \
                for (int i_ = 0; i_ < 2; i_++) {                                                                       \
                        struct side *side_ = i_ ? &wanted : &tested;                                                   \
                        const bool typed = !i_;                                                                        \
                        const enum dtype type = typed ? DTYPE_BF16 : DTYPE_FLOAT32;                                    \
                        struct op##_args args_ = {__VA_ARGS__};                                                        \
                        (void)type;                                                                                    \
                        side_->k->op(side_->s, &args_);                                                                \
                }                                                                                                      \
        } while (0)
#define TENSOR(x, n, scale, typed)                                                                                     \
        void *x##_t, *x##_w;                                                                                           \
        both((size_t)(n), scale, typed, &x##_t, &x##_w)
/* Memory of as many bytes as each side's `of` asks for its plan. */
#define ROOM(x, of) void *x##_t = room(&tested, tested.k->of(plan_t)), *x##_w = room(&wanted, wanted.k->of(plan_w))
#define PLAN(kind, shape_t, shape_w)                                                                                   \
        struct kind *plan_t = NULL, *plan_w = NULL;                                                                    \
        struct error err_ = {0};                                                                                       \
        if (tested.k->kind##_new(tested.d, shape_t, &plan_t, &err_) < 0 ||                                             \
            wanted.k->kind##_new(wanted.d, shape_w, &plan_w, &err_) < 0) {                                             \
                printf("FAIL %s: no plan: %s\n", #kind, err_.text);                                                    \
                n_bad++;                                                                                               \
                return;                                                                                                \
        }                                                                                                              \
        ROOM(work, kind##_workspace)
#define PLAN_END(kind)                                                                                                 \
        do {                                                                                                           \
                (void)tested.k->kind##_free(plan_t);                                                                   \
                (void)wanted.k->kind##_free(plan_w);                                                                   \
                forget();                                                                                              \
        } while (0)

#define ROUNDED 1.1 /* one rounding, at most half a unit in the last place: 2^-8 of a value just above a power of 2 */
#define TWICE (2 * ROUNDED) /* before and after what is added: cuBLASLt on a GPU, seen: 1.34 */
#define SUMMED 64           /* float32 results of sums in float32 */
#define ATTENTION (ROUNDED + 3.3)
#define TF32 (3.6 * 0x1p13) /* in units of float32's rounding */
#define ATTENTION_TF32 (10 * 0x1p13)
#define WINOGRAD (ROUNDED + 5)
#define WINOGRAD_DW (6 * UNIT / 0x1p-24)

static void elementwise(void)
{
        enum { M = 1000 };
        TENSOR(x, M, 3, true);
        TENSOR(dy, M, 1, true);
        TENSOR(y, M, 1, true);
        TENSOR(z, 3 * M, 1, false);
        TENSOR(f, 15 * M, 1, true);
        TENSOR(dz, 3 * M, 1, false);

        BOTH(add, M, type, SIDE(x), SIDE(y));
        expect_same("add", y_t, y_w, M, true, ROUNDED);
        BOTH(fourier_backward, M, type, SIDE(z), NULL, SIDE(f), SIDE(dz), true);
        expect_same("fourier_backward", dz_t, dz_w, 3 * M, false, SUMMED);
        BOTH(fourier_forward, M, type, SIDE(z), NULL, SIDE(f));
        expect_same("fourier_forward", f_t, f_w, 15 * M, true, ROUNDED);
        BOTH(swish_forward, M, type, SIDE(x), NULL, SIDE(y), NULL);
        expect_same("swish_forward", y_t, y_w, M, true, ROUNDED);
        BOTH(swish_backward, M, type, SIDE(x), SIDE(dy), SIDE(y));
        expect_same("swish_backward", y_t, y_w, M, true, ROUNDED);
        forget();
}

static void copies(bool from, bool to, bool accumulate)
{
        enum { ROWS = 7, COLUMNS = 33 };
        TENSOR(x, ROWS * 40, 1, from);
        TENSOR(y, ROWS * 35, 1, to);

        BOTH(copy_2d, ROWS, COLUMNS, from ? type : DTYPE_FLOAT32, to ? type : DTYPE_FLOAT32, SIDE(x), 40, SIDE(y), 35,
             accumulate, 1.7f, -0.3f);
        expect_same("copy_2d", y_t, y_w, ROWS * 35, to, to ? ROUNDED : 4);
        forget();
}

static void conv(int64_t ni, int64_t height, int64_t width, int64_t ci, int64_t co, enum dtype x_type,
                 enum dtype y_type)
{
        int64_t p = ni * height * width;
        bool tx = x_type == DTYPE_BF16, ty = y_type == DTYPE_BF16;
        PLAN(conv, (&(struct conv_shape){ni, height, width, ci, co, 3, 3, 1, 1, x_type, y_type}),
             (&(struct conv_shape){ni, height, width, ci, co, 3, 3, 1, 1}));
        TENSOR(x, p * ci, 1, tx);
        TENSOR(w, 9 * ci * co, 0.1, false);
        TENSOR(b, co, 1, false);
        TENSOR(dy, p * co, 1, ty);
        TENSOR(y, p * co, 1, ty);
        TENSOR(dx, p * ci, 1, tx);
        TENSOR(dw, 9 * ci * co, 0.1, false);

        for (int sum = 0; sum < 2; sum++) {
                BOTH(conv_forward, SIDE(plan), SIDE(x), SIDE(w), sum ? SIDE(b) : NULL, sum ? SIDE(dy) : NULL, SIDE(y),
                     SIDE(work));
                expect_same("conv_forward", y_t, y_w, (size_t)(p * co), ty, ty ? WINOGRAD : SUMMED);
                BOTH(conv_backward_data, SIDE(plan), SIDE(dy), SIDE(w), SIDE(dx), sum, SIDE(work));
                expect_same("conv_backward_data", dx_t, dx_w, (size_t)(p * ci), tx, tx ? WINOGRAD : SUMMED);
                BOTH(conv_backward_weights, SIDE(plan), SIDE(x), SIDE(dy), SIDE(dw), SIDE(b), sum, SIDE(work));
                expect_same("conv_backward_weights", dw_t, dw_w, (size_t)(9 * ci * co), false,
                            tx && ty ? WINOGRAD_DW * sqrt((height == 1 ? 3 : 1) * (width == 1 ? 3 : 1)) : SUMMED);
                expect_same("conv_backward_weights, db", b_t, b_w, (size_t)co, false, SUMMED);
        }
        PLAN_END(conv);
}

static void dense(int64_t m, int64_t k, int64_t o)
{
        PLAN(dense, (&(struct dense_shape){m, k, o, DTYPE_BF16}), (&(struct dense_shape){m, k, o}));
        TENSOR(x, m * k, 1, true);
        TENSOR(w, k * o, 0.2, false);
        TENSOR(b, o, 1, false);
        TENSOR(dy, m * o, 1, true);
        TENSOR(y, m * o, 1, true);
        TENSOR(dx, m * k, 1, true);

        BOTH(dense_forward, SIDE(plan), SIDE(x), SIDE(w), SIDE(b), SIDE(y), true, SIDE(work));
        expect_same("dense_forward", y_t, y_w, (size_t)(m * o), true, TWICE);
        BOTH(dense_backward_data, SIDE(plan), SIDE(dy), SIDE(w), SIDE(dx), true, SIDE(work));
        expect_same("dense_backward_data", dx_t, dx_w, (size_t)(m * k), true, TWICE);
        BOTH(dense_backward_weights, SIDE(plan), SIDE(x), SIDE(dy), SIDE(w), SIDE(b), true, SIDE(work));
        expect_same("dense_backward_weights", w_t, w_w, (size_t)(k * o), false, SUMMED);
        expect_same("dense_backward_weights, db", b_t, b_w, (size_t)(o), false, SUMMED);
        PLAN_END(dense);
}

enum mask { NO_MASK, DRAWN, GIVEN };

static void norm(int64_t images, int64_t pixels, int64_t ca, int64_t cb, bool swish, enum mask mask)
{
        int64_t c = ca + cb, p = images * pixels;
        const struct step_state state = {.seed = 5, .step = 3};
        struct dropout dropout_t = {.rate = mask == DRAWN ? 0.2f : 0, .block = 2}, dropout_w = dropout_t;
        struct row rows[4] = {{.image = 7}, {.image = 1}, {.image = 900}};
        PLAN(norm, (&(struct norm_shape){images, pixels, ca, cb, 32, DTYPE_BF16}),
             (&(struct norm_shape){images, pixels, ca, cb, 32}));
        TENSOR(a, p * ca, 1, true);
        TENSOR(b, p * cb, 1, true);
        TENSOR(addend, images * c, 1, false);
        TENSOR(scale, c, 1, false);
        TENSOR(bias, c, 1, false);
        TENSOR(dscale, c, 1, false);
        TENSOR(dbias, c, 1, false);
        TENSOR(stats, images * 64, 1, false);
        TENSOR(y, p * c, 1, true);
        TENSOR(dy, p * c, 1, true);
        TENSOR(da, p * ca, 1, true);
        TENSOR(db, p * cb, 1, true);
        TENSOR(daddend, images * c, 1, false);
        TENSOR(multipliers, p * c, 1, false);

        dropout_t.state = buffer(&tested, &state, sizeof state);
        dropout_w.state = buffer(&wanted, &state, sizeof state);
        dropout_t.rows = buffer(&tested, rows, sizeof rows);
        dropout_w.rows = buffer(&wanted, rows, sizeof rows);
        dropout_t.mask = mask == GIVEN ? multipliers_t : NULL;
        dropout_w.mask = mask == GIVEN ? multipliers_w : NULL;
        BOTH(norm_forward, SIDE(plan), SIDE(a), SIDE(b), SIDE(addend), SIDE(scale), SIDE(bias), swish, SIDE(dropout),
             SIDE(y), SIDE(stats), SIDE(work));
        expect_same("norm_forward", y_t, y_w, (size_t)(p * c), true, ROUNDED);
        expect_same("norm_forward, stats", stats_t, stats_w, (size_t)(images * 64), false, SUMMED);
        BOTH(norm_backward, .norm = SIDE(plan), .dy = SIDE(dy), .a = SIDE(a), .b = SIDE(b), .addend = SIDE(addend),
             .scale = SIDE(scale), .bias = SIDE(bias), .stats = SIDE(stats), .swish = swish, .dropout = SIDE(dropout),
             .da = SIDE(da), .db = SIDE(db), .accumulate_b = true, .dscale = SIDE(dscale), .dbias = SIDE(dbias),
             .daddend = SIDE(daddend), .workspace = SIDE(work));
        expect_same("norm_backward, da", da_t, da_w, (size_t)(p * ca), true, ROUNDED);
        expect_same("norm_backward, db", db_t, db_w, (size_t)(p * cb), true, ROUNDED);
        expect_same("norm_backward, dscale", dscale_t, dscale_w, (size_t)c, false, SUMMED);
        expect_same("norm_backward, dbias", dbias_t, dbias_w, (size_t)c, false, SUMMED);
        if (c > 32) /* with a group a channel an addend changes nothing */
                expect_same("norm_backward, daddend", daddend_t, daddend_w, (size_t)(images * c), false, SUMMED);
        PLAN_END(norm);
}

static void attention(int64_t images, int64_t pixels, int64_t c, bool tf32)
{
        const size_t n = (size_t)(images * pixels * c);
        const bool small = !tf32;
        const double limit = tf32 ? ATTENTION_TF32 : ATTENTION;
        PLAN(attention, (&(struct attention_shape){images, pixels, c, 1, tf32 ? DTYPE_FLOAT32 : DTYPE_BF16, tf32}),
             (&(struct attention_shape){images, pixels, c, 1}));
        TENSOR(q, n, 1, small);
        TENSOR(k, n, 1, small);
        TENSOR(v, n, 1, small);
        TENSOR(d_o, n, 1, small);
        TENSOR(o, n, 1, small);
        TENSOR(dq, n, 1, small);
        TENSOR(dk, n, 1, small);
        TENSOR(dv, n, 1, small);
        ROOM(saved, attention_saved);

        BOTH(attention_forward, SIDE(plan), SIDE(q), SIDE(k), SIDE(v), SIDE(o), SIDE(saved), SIDE(work));
        expect_same("attention_forward", o_t, o_w, n, small, limit);
        BOTH(attention_backward, SIDE(plan), SIDE(d_o), SIDE(q), SIDE(k), SIDE(v), SIDE(o), SIDE(saved), SIDE(dq),
             SIDE(dk), SIDE(dv), SIDE(work));
        expect_same("attention_backward, dq", dq_t, dq_w, n, small, limit);
        expect_same("attention_backward, dk", dk_t, dk_w, n, small, limit);
        expect_same("attention_backward, dv", dv_t, dv_w, n, small, limit);
        PLAN_END(attention);
}

/* conv, dense and attention in float32, their factors tf32 where the back end has it. */
static void conv_tf32(void)
{
        enum { P = 2 * 6 * 6, CI = 32, CO = 24 };
        PLAN(conv, (&(struct conv_shape){2, 6, 6, CI, CO, 3, 3, 1, 1, .tf32 = true}),
             (&(struct conv_shape){2, 6, 6, CI, CO, 3, 3, 1, 1}));
        TENSOR(x, P * CI, 1, false);
        TENSOR(w, 9 * CI * CO, 0.1, false);
        TENSOR(dy, P * CO, 1, false);
        TENSOR(y, P * CO, 1, false);
        TENSOR(dx, P * CI, 1, false);
        TENSOR(dw, 9 * CI * CO, 0.1, false);

        BOTH(conv_forward, SIDE(plan), SIDE(x), SIDE(w), NULL, NULL, SIDE(y), SIDE(work));
        expect_same("conv_forward, tf32", y_t, y_w, P * CO, false, TF32);
        BOTH(conv_backward_data, SIDE(plan), SIDE(dy), SIDE(w), SIDE(dx), false, SIDE(work));
        expect_same("conv_backward_data, tf32", dx_t, dx_w, P * CI, false, TF32);
        BOTH(conv_backward_weights, SIDE(plan), SIDE(x), SIDE(dy), SIDE(dw), NULL, false, SIDE(work));
        expect_same("conv_backward_weights, tf32", dw_t, dw_w, 9 * CI * CO, false, TF32);
        PLAN_END(conv);
}

static void dense_tf32(void)
{
        enum { M = 130, K = 64, N = 96 };
        PLAN(dense, (&(struct dense_shape){M, K, N, .tf32 = true}), (&(struct dense_shape){M, K, N}));
        TENSOR(x, M * K, 1, false);
        TENSOR(w, K * N, 0.2, false);
        TENSOR(dy, M * N, 1, false);
        TENSOR(y, M * N, 1, false);
        TENSOR(dx, M * K, 1, false);
        TENSOR(dw, K * N, 1, false);

        BOTH(dense_forward, SIDE(plan), SIDE(x), SIDE(w), NULL, SIDE(y), false, SIDE(work));
        expect_same("dense_forward, tf32", y_t, y_w, M * N, false, TF32);
        BOTH(dense_backward_data, SIDE(plan), SIDE(dy), SIDE(w), SIDE(dx), false, SIDE(work));
        expect_same("dense_backward_data, tf32", dx_t, dx_w, M * K, false, TF32);
        BOTH(dense_backward_weights, SIDE(plan), SIDE(x), SIDE(dy), SIDE(dw), NULL, false, SIDE(work));
        expect_same("dense_backward_weights, tf32", dw_t, dw_w, K * N, false, TF32);
        PLAN_END(dense);
}

/* Ties go to the even neighbour, what lies a little beside them does not, and a double is rounded once. */
static void rounding(void)
{
        static const struct {
                double x, want;
        } cases[] = {{1, 1},
                     {1 + 0x1p-8, 1},
                     {1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-7},
                     {1 + 0x1p-8 - 0x1p-40, 1},
                     {1 + 0x3p-8, 1 + 0x1p-6},
                     {1 + 0x3p-8 - 0x1p-50, 1 + 0x1p-7},
                     {-1 - 0x1p-8 - 0x1p-50, -1 - 0x1p-7},
                     {0x1.ffp127, HUGE_VAL},
                     {0, 0},
                     {HUGE_VAL, HUGE_VAL}};

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                double got = bf16_widen(bf16_round_double(cases[i].x));

                if (got != cases[i].want)
                        printf("FAIL %a is rounded to %a instead of %a\n", cases[i].x, got, cases[i].want);
                n_bad += got != cases[i].want;
        }
        n_bad += !isnan(bf16_widen(bf16_round(NAN))) || !isnan(bf16_widen(bf16_round_double(NAN)));
}

static void open_side(struct side *side, const struct kernels *k)
{
        side->k = k;
        if (k->device_open(&(struct device_settings){.threads = 2}, &side->d, NULL) < 0 ||
            k->stream_new(side->d, &side->s, NULL) < 0)
                abort();
}

static void close_side(struct side *side)
{
        (void)side->k->stream_free(side->s);
        (void)side->k->device_close(side->d);
}

int bf16_main(const struct kernels *k)
{
        const struct kernels *reference;

        if (kernels_find("reference", &reference, NULL) < 0)
                return EXIT_FAILURE;
        open_side(&wanted, reference);
        open_side(&tested, k);
        rounding();
        elementwise();
        for (int i = 1; i < 8; i++)
                copies(i & 1, i & 2, i & 4);
        for (int i = 1; i < 4; i++)
                conv(2, 6, 6, 16, 24, i & 1 ? DTYPE_BF16 : DTYPE_FLOAT32, i & 2 ? DTYPE_BF16 : DTYPE_FLOAT32);
        conv(1, 5, 7, 15, 3, DTYPE_BF16, DTYPE_BF16);
        /* whole vectors of channels (Winograd's): odd sizes, less than a tile, one row, more than a strip; two types */
        conv(2, 9, 7, 64, 32, DTYPE_BF16, DTYPE_BF16);
        conv(1, 1, 1, 32, 96, DTYPE_BF16, DTYPE_BF16);
        conv(1, 1, 33, 96, 64, DTYPE_BF16, DTYPE_BF16);
        conv(1, 29, 31, 128, 64, DTYPE_BF16, DTYPE_BF16);
        conv(1, 6, 6, 32, 32, DTYPE_BF16, DTYPE_FLOAT32);
        dense(37, 50, 21);
        dense(1, 7, 5);
        dense(700, 33, 65);
        dense(130, 64, 96);
        for (int mask = NO_MASK; mask <= GIVEN; mask++) {
                norm(2, 30, 64, 64, true, mask);
                norm(1, 35, 96, 0, false, mask);
                norm(3, 9, 33, 63, true, mask);
                norm(1, 1030, 32, 0, true, mask);
        }
        attention(2, 25, 32, false);
        attention(1, 1, 5, false);
        attention(3, 130, 17, false);
        attention(1, 150, 64, false); /* more than a tile of keys on tensor cores */
        attention(2, 64, 128, false); /* tiles exactly, and the width of the published networks */
        all_digits = true;
        conv_tf32();
        dense_tf32();
        for (int64_t c = 32; c <= 128; c *= 2)
                attention(2, 150, c, true);
        close_side(&tested);
        close_side(&wanted);
        printf("bf16: %d results, worst %.3g units, %d failed\n", n_cases, worst, n_bad);
        return n_bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
