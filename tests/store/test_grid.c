/* Grids of buckets: each step is in one, edges nest, and none is wider than is said. */
#include "store/grid.h"

#include "base/macros.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* Around each power of two, and some by chance. */
static size_t fill(int64_t *ret)
{
        unsigned seed = 3;
        size_t n = 0;

        for (int64_t i = 0; i < 70; i++)
                ret[n++] = i;
        for (int e = 7; e < 63; e++) {
                const int64_t power = (int64_t)1 << e;

                ret[n++] = power - 1;
                ret[n++] = power;
                ret[n++] = power + 1;
                ret[n++] = power + (int64_t)((uint64_t)rand_r(&seed) * (uint64_t)rand_r(&seed) % (uint64_t)power);
        }
        ret[n++] = INT64_MAX;
        return n;
}

static void check_step(const struct grid *g, int64_t step)
{
        int64_t index = grid_index(g, step), begin = grid_begin(g, step), end = grid_end(g, step), width = end - begin;
        int shift = -1;
        int64_t until = grid_stretch(g, step, &shift);

        assert_true(index >= 0 && begin <= step && (step < end || end == INT64_MAX));
        assert_int_equal(grid_index(g, begin), index);
        if (step > 0 && begin == step)
                assert_int_equal(grid_index(g, step - 1), index - 1);
        if (end != INT64_MAX && begin > 0 && width > 1 && g->logarithmic)
                assert_true((double)end / (double)begin <= grid_ratio(g) * (1 + 1e-15));
        if (end != INT64_MAX && !(g->logarithmic && g->shift > 62)) { /* a power of two, at its multiples */
                assert_int_equal(width & (width - 1), 0);
                assert_int_equal(begin % width, 0);
        }
        /* a cell of the widest that is promised lies in the bucket */
        assert_true(until >= step && shift >= 0 && shift <= 62);
        assert_int_equal(grid_index(g, step >> shift << shift), index);
        if (((step >> shift) + 1) <= INT64_MAX >> shift)
                assert_int_equal(grid_index(g, (((step >> shift) + 1) << shift) - 1), index);
        if (g->logarithmic && g->shift <= 62 && end != INT64_MAX)
                assert_int_equal((int64_t)1 << shift, width);
}

static void each_step_is_in_one_bucket(void **state _unused_)
{
        int64_t steps[1000];
        const size_t n = fill(steps);

        for (int shift = 0; shift <= GRID_SHIFT_MAX; shift++)
                for (int logarithmic = 0; logarithmic < 2; logarithmic++) {
                        const struct grid g = {logarithmic, shift}, finer = {logarithmic, MAX(shift - 1, 0)};

                        for (size_t i = 0; i < n; i++) {
                                check_step(&g, steps[i]);
                                /* edges are a finer grid's, too */
                                int64_t begin = grid_begin(&g, steps[i]);

                                assert_int_equal(grid_begin(&finer, begin), begin);
                        }
                        for (size_t i = 1; i < n; i++)
                                if (steps[i - 1] <= steps[i])
                                        assert_true(grid_index(&g, steps[i - 1]) <= grid_index(&g, steps[i]));
                }
}

/* Written out: 4 buckets a doubling. */
static void a_doubling_has_as_many_buckets_as_it_says(void **state _unused_)
{
        static const int64_t begins[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80};
        const struct grid g = {true, 60}, octaves = {true, 62}, pairs = {true, 63};

        for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
                assert_int_equal(grid_index(&g, begins[i]), i);
                if (i)
                        assert_int_equal(grid_end(&g, begins[i - 1]), begins[i]);
        }
        assert_true(grid_ratio(&g) == 1.25 && grid_ratio(&octaves) == 2 && grid_ratio(&pairs) == 4);
        for (int i = 1; i < 62; i++) {
                assert_int_equal(grid_index(&octaves, (int64_t)1 << (i - 1)), i);
                assert_int_equal(grid_begin(&octaves, ((int64_t)1 << i) - 1), (int64_t)1 << (i - 1));
                if (i < 32)
                        assert_int_equal(grid_begin(&pairs, ((int64_t)1 << (2 * i - 1)) + 1),
                                         (int64_t)1 << 2 * (i - 1));
        }
}

static void the_finest_that_fits_is_taken(void **state _unused_)
{
        for (int logarithmic = 0; logarithmic < 2; logarithmic++)
                for (int64_t n = 1; n < 3000; n = n * 3 / 2 + 1)
                        for (int64_t last = 1; last < (int64_t)1 << 50; last *= 7) {
                                struct grid g = {.logarithmic = logarithmic}, finer;
                                const int64_t first = last % 5;

                                if (first > last)
                                        continue;
                                grid_fit(&g, first, last, n);
                                assert_true(g.shift <= GRID_SHIFT_MAX);
                                assert_true(grid_index(&g, last) - grid_index(&g, first) < n);
                                finer = (struct grid){logarithmic, g.shift - 1};
                                assert_true(g.shift == 0 || grid_index(&finer, last) - grid_index(&finer, first) >= n);
                        }
        /* 10 million steps in 1,000 buckets: a ratio of 1 + 1/32, where equal widths have 16,384 steps */
        struct grid g = {.logarithmic = true};

        grid_fit(&g, 0, 9999999, 1000);
        assert_true(grid_ratio(&g) == 1 + 1.0 / 32);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_step_is_in_one_bucket),
                cmocka_unit_test(a_doubling_has_as_many_buckets_as_it_says),
                cmocka_unit_test(the_finest_that_fits_is_taken),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
