/* Grids of buckets over steps: where buckets begin and end, so that the same question has the same ones and those of
 * two runs can be compared. Pure.
 *
 * On a linear axis all are 1 << shift steps wide and begin at multiples of that. On a logarithmic one each doubling of
 * the step has 2^m buckets of one width, m = 62 - shift, and at least a step each: their edges are 2^e (1 + k / 2^m).
 * Where m is negative a bucket is 2^-m doublings. So each bucket is made of whole cells (store/cells.h), and one of a
 * coarser grid of whole buckets of a finer one. Steps are not negative. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GRID_SHIFT_MAX 69 /* all steps are in one bucket */

struct grid {
        bool logarithmic;
        int shift; /* 0, where each step has a bucket of its own, to GRID_SHIFT_MAX */
};

/* Of the bucket that a step lies in: its number, without gaps; its first step; the first one behind it, or INT64_MAX:
 * there is none. */
int64_t grid_index(const struct grid *g, int64_t step);
int64_t grid_begin(const struct grid *g, int64_t step);
int64_t grid_end(const struct grid *g, int64_t step);
/* What a bucket's end is to its begin, at most. */
double grid_ratio(const struct grid *g);

/* The finest with which first..last are in at most n buckets; not finer than it was. */
void grid_fit(struct grid *g, int64_t first, int64_t last, int64_t n);

/* Up to which step cells of 1 << *ret_shift steps, the widest that are sure to, lie each in one bucket. */
int64_t grid_stretch(const struct grid *g, int64_t step, int *ret_shift);
