/* Chunks, batches and cells as bytes: what went in comes out, bit by bit, and what is not ours is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/cells.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static unsigned seed = 1;

static double uniform(void)
{
        return ((double)rand_r(&seed) + 0.5) / ((double)RAND_MAX + 1);
}

static double noise(void)
{
        return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static uint64_t bits(void)
{
        return (uint64_t)rand_r(&seed) << 62 ^ (uint64_t)rand_r(&seed) << 31 ^ (uint64_t)rand_r(&seed);
}

static double from_bits(uint64_t b)
{
        double v;

        memcpy(&v, &b, sizeof v);
        return v;
}

/* Kinds of values: noise with a float's precision, the same as doubles, a schedule, any bits at all, what is not
 * finite, one value. */
static double value_of(int kind, size_t i)
{
        static const double others[] = {NAN, INFINITY, -INFINITY, -0.0, 5e-324, 3.5};

        switch (kind) {
        case 0:
                return (double)(float)(2.55 + 0.05 * noise());
        case 1:
                return 2.55 + 0.05 * noise();
        case 2:
                return (double)(float)(1e-4 * (1 + cos((double)i / 9000)));
        case 3:
                return from_bits(bits());
        case 4:
                return others[rand_r(&seed) % 6];
        default:
                return 0.25;
        }
}

#define KINDS 6

static void fill(struct point *p, size_t n, int kind, int stride)
{
        int64_t step = rand_r(&seed) % 1000, time_ms = 1795797129139;

        for (size_t i = 0; i < n; i++) {
                p[i] = (struct point){step, time_ms, value_of(kind, i)};
                step += stride == 0 ? rand_r(&seed) % 3 : stride;
                time_ms += 20 + (int64_t)(2 * noise()); /* a clock may be set back */
        }
}

static void every_bit_comes_back(void **state _unused_)
{
        static const size_t sizes[] = {1, 2, 47, 48, 1000, CHUNK_POINTS};
        struct codec *c = codec_new();
        struct point *p = calloc(CHUNK_POINTS, sizeof *p), *q = calloc(CHUNK_POINTS, sizeof *q);

        for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
                for (int kind = 0; kind < KINDS; kind++)
                        for (int stride = 0; stride < 3; stride++) {
                                struct buf b = BUF_INIT((size_t)1 << 20);
                                size_t n = sizes[s], got;

                                fill(p, n, kind, stride * 50);
                                assert_int_equal(chunk_encode(c, p, n, &b, NULL), 0);
                                assert_int_equal(chunk_decode(c, b.data, b.size, q, &got, NULL), 0);
                                assert_int_equal(got, n);
                                assert_memory_equal(p, q, n * sizeof *p);
                                buf_done(&b);
                        }
        free(p);
        free(q);
        (void)codec_free(c);
}

static void steps_and_times_may_be_any(void **state _unused_)
{
        struct codec *c = codec_new();
        struct point p[] = {{INT64_MIN, INT64_MAX, 1}, {-1, INT64_MIN, 2}, {INT64_MAX, 0, 3}}, q[CHUNK_POINTS];
        struct buf b = BUF_INIT(1000);
        size_t n;

        assert_int_equal(chunk_encode(c, p, 3, &b, NULL), 0);
        assert_int_equal(chunk_decode(c, b.data, b.size, q, &n, NULL), 0);
        assert_memory_equal(p, q, sizeof p);
        buf_done(&b);
        (void)codec_free(c);
}

/* The curve that the specification names: a loss falling from 5.55 to 2.55 with noise 0.05, times in ms. */
static void a_noisy_curve_takes_three_bytes_a_point(void **state _unused_)
{
        enum { N = 32 * CHUNK_POINTS };
        struct codec *c = codec_new();
        struct point *p = calloc(N, sizeof *p);
        size_t bytes = 0;
        double t = 1795797129139;

        for (int i = 0; i < N; i++) {
                t += 20 + noise();
                p[i] = (struct point){i, (int64_t)t, (double)(float)(2.55 + 3 * exp(-5.0 * i / N) + 0.05 * noise())};
        }
        for (int i = 0; i < N; i += CHUNK_POINTS) {
                struct buf b = BUF_INIT((size_t)1 << 20);
                struct cells cells;

                cells_from_points(p + i, CHUNK_POINTS, &cells);
                assert_int_equal(chunk_encode(c, p + i, CHUNK_POINTS, &b, NULL), 0);
                assert_int_equal(cells_encode(&cells, &b, NULL), 0);
                bytes += b.size;
                buf_done(&b);
        }
        print_message("%.3f bytes a point\n", (double)bytes / N);
        assert_true((double)bytes / N < 2.9);
        free(p);
        (void)codec_free(c);
}

/* Whatever is cut off or changed: an error or points whose steps do not descend, never more. */
static void other_bytes_are_refused(void **state _unused_)
{
        struct codec *c = codec_new();
        struct point *p = calloc(CHUNK_POINTS, sizeof *p), *q = calloc(CHUNK_POINTS, sizeof *q);

        for (int kind = 0; kind < KINDS; kind++) {
                struct buf b = BUF_INIT((size_t)1 << 20);
                size_t n;

                fill(p, 300, kind, 0);
                assert_int_equal(chunk_encode(c, p, 300, &b, NULL), 0);
                for (size_t size = 0; size < b.size; size++)
                        assert_int_equal(chunk_decode(c, b.data, size, q, &n, NULL), -EBADMSG);
                for (int i = 0; i < 3000; i++) {
                        size_t at = (size_t)rand_r(&seed) % b.size;
                        char old = b.data[at];
                        int r;

                        b.data[at] ^= (char)(1 << rand_r(&seed) % 8);
                        r = chunk_decode(c, b.data, b.size, q, &n, NULL);
                        assert_true(r == 0 || r == -EBADMSG);
                        for (size_t k = 1; r == 0 && k < n; k++)
                                assert_true(q[k].step >= q[k - 1].step);
                        b.data[at] = old;
                }
                assert_int_equal(buf_append(&b, "", 1, NULL), 0);
                assert_int_equal(chunk_decode(c, b.data, b.size, q, &n, NULL), -EBADMSG);
                buf_done(&b);
        }
        fill(p, 2, 0, 1);
        p[1].step = p[0].step - 1;
        struct buf b = BUF_INIT(1000);
        size_t n;

        assert_int_equal(chunk_encode(c, p, 2, &b, NULL), 0);
        assert_int_equal(chunk_decode(c, b.data, b.size, q, &n, NULL), -EBADMSG);
        buf_done(&b);
        free(p);
        free(q);
        (void)codec_free(c);
}

static void a_batch_comes_back_whole_or_one_column(void **state _unused_)
{
        struct codec *c = codec_new();
        int64_t step[100], time_ms[100];
        double value[3][100];
        struct batch b = {100, 3, step, time_ms, {7, 9, INT64_MAX}, {value[0], value[1], value[2]}, NULL}, got;
        struct buf bytes = BUF_INIT(100000);

        for (size_t i = 0; i < 100; i++) {
                step[i] = (int64_t)(1000 - i); /* any order: as it came */
                time_ms[i] = (int64_t)(i * i);
                for (int k = 0; k < 3; k++)
                        value[k][i] = value_of(k, i);
        }
        assert_int_equal(batch_encode(c, &b, &bytes, NULL), 0);
        assert_int_equal(batch_decode(c, bytes.data, bytes.size, 0, &got, NULL), 0);
        assert_true(got.n_rows == 100 && got.n_columns == 3);
        assert_memory_equal(got.step, step, sizeof step);
        assert_memory_equal(got.time_ms, time_ms, sizeof time_ms);
        for (int k = 0; k < 3; k++) {
                assert_int_equal(got.series[k], b.series[k]);
                assert_memory_equal(got.value[k], value[k], sizeof value[k]);
        }
        batch_done(&got);
        assert_int_equal(batch_decode(c, bytes.data, bytes.size, 9, &got, NULL), 0);
        assert_int_equal(got.n_columns, 1);
        assert_memory_equal(got.value[0], value[1], sizeof value[1]);
        batch_done(&got);
        for (size_t size = 0; size < bytes.size; size++)
                assert_int_equal(batch_decode(c, bytes.data, size, 0, &got, NULL), -EBADMSG);
        buf_done(&bytes);
        (void)codec_free(c);
}

/* ---- cells */

static bool same(double a, double b)
{
        return a == b || (isnan(a) && isnan(b));
}

static void cells_are_what_their_points_come_to(void **state _unused_)
{
        struct point *p = calloc(CHUNK_POINTS, sizeof *p);

        for (int kind = 0; kind < KINDS; kind++)
                for (int stride = 0; stride < 3; stride++) {
                        struct cells cells, again;
                        struct buf b = BUF_INIT(100000);
                        size_t at = 0, n = 1 + (size_t)rand_r(&seed) % CHUNK_POINTS;

                        fill(p, n, kind, stride * 7);
                        cells_from_points(p, n, &cells);
                        assert_in_range(cells.n, 1, CELLS_MAX);
                        for (size_t i = 0; i < cells.n; i++) {
                                const struct cell *x = &cells.cell[i];
                                struct cell y = {0};

                                for (int64_t k = 0; k < x->count; k++, at++) {
                                        assert_int_equal(p[at].step >> cells.shift, x->last_step >> cells.shift);
                                        cell_add(&y, p + at, 1);
                                }
                                assert_true(same(x->min, y.min) && same(x->max, y.max) && same(x->last, y.last));
                                assert_true(x->count == y.count && x->not_a_number == y.not_a_number &&
                                            x->infinite == y.infinite && x->minus_infinite == y.minus_infinite &&
                                            x->last_step == y.last_step && x->last_time_ms == y.last_time_ms);
                        }
                        assert_int_equal(at, n);
                        assert_int_equal(cells_encode(&cells, &b, NULL), 0);
                        assert_int_equal(cells_decode(b.data, b.size, &again, NULL), 0);
                        assert_true(again.n == cells.n && again.shift == cells.shift);
                        assert_memory_equal(again.cell, cells.cell, cells.n * sizeof *cells.cell);
                        for (size_t size = 0; size < b.size; size++)
                                assert_int_equal(cells_decode(b.data, size, &again, NULL), -EBADMSG);
                        buf_done(&b);
                }
        free(p);
}

/* However a bucket is put together, its mean is the same to the last bit: reading by another level changes nothing. */
static void a_mean_does_not_depend_on_how_it_was_added_up(void **state _unused_)
{
        struct point p[1000];

        fill(p, 1000, 0, 1);
        for (int i = 0; i < 100; i++) {
                size_t cut = 1 + (size_t)rand_r(&seed) % 998, cut2 = cut + 1 + (size_t)rand_r(&seed) % (999 - cut);
                struct cell whole = {0}, a = {0}, b = {0}, c = {0};

                cell_add(&whole, p, 1000);
                cell_add(&a, p, cut);
                cell_add(&b, p + cut, cut2 - cut);
                cell_add(&c, p + cut2, 1000 - cut2);
                cell_merge(&b, &c);
                cell_merge(&b, &a);
                assert_true(cell_mean(&whole) == cell_mean(&b));
                assert_true(b.last_step == p[999].step && b.last == p[999].value);
        }
}

static void sums_do_not_overflow(void **state _unused_)
{
        const struct point p[] = {{0, 0, 1.7e308}, {1, 0, 1.7e308}, {2, 0, -1.7e308}, {3, 0, 1.7e308}};
        struct cell x = {0};

        cell_add(&x, p, 2);
        assert_true(cell_mean(&x) == 1.7e308);
        cell_add(&x, p + 2, 2);
        assert_true(fabs(cell_mean(&x) / 0.85e308 - 1) < 1e-12);
        x = (struct cell){0};
        cell_add(&x, &(struct point){0, 0, 5e-324}, 1);
        assert_true(cell_mean(&x) == 5e-324);
        x = (struct cell){0};
        cell_add(&x, &(struct point){0, 0, NAN}, 1);
        assert_true(isnan(cell_mean(&x)) && isnan(x.min) && x.not_a_number == 1);
}

/* Cells that say more than a row holds, or that go beyond a number's range, are not taken. */
static void cells_of_other_bytes_are_refused(void **state _unused_)
{
        static const char *const texts[] = {"", "\x01", "\x02\x00\x01", "\x01\x3f\x01", "\x01\x00\x00", "\x01\x00\x22",
                                            /* one cell, whose count is 0; whose others are more than its count */
                                            "\x01\x00\x01\x02\x00", "\x01\x00\x01\x02\x03\x05\x01\x01"};
        static const size_t sizes[] = {0, 1, 3, 3, 3, 3, 5, 8};
        struct cells c, many = {.shift = 0};

        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                assert_int_equal(cells_decode(texts[i], sizes[i], &c, NULL), -EBADMSG);
        for (int64_t i = 0; i < CELLS_MAX; i++)
                many.cell[many.n++] = (struct cell){.count = 1, .last_step = i};
        c = (struct cells){.shift = 0, .n = 1, .cell = {{.count = 1, .last_step = 1000}}};
        assert_int_equal(cells_merge(&many, &c, NULL), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_bit_comes_back),
                cmocka_unit_test(steps_and_times_may_be_any),
                cmocka_unit_test(a_noisy_curve_takes_three_bytes_a_point),
                cmocka_unit_test(other_bytes_are_refused),
                cmocka_unit_test(a_batch_comes_back_whole_or_one_column),
                cmocka_unit_test(cells_are_what_their_points_come_to),
                cmocka_unit_test(a_mean_does_not_depend_on_how_it_was_added_up),
                cmocka_unit_test(sums_do_not_overflow),
                cmocka_unit_test(cells_of_other_bytes_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
