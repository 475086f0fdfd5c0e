/* Cells: what points come to, by equal widths of step. A row of them summarises a chunk, or 16 rows of the level below;
 * the buckets of an answer are cells, too. Pure. */
#pragma once

#include "store/chunk.h"

#define CELLS_MAX 33 /* of a row: 32 widths of step touch 33 cells */

struct cell {
        int64_t count; /* of all its points, at least 1 */
        int64_t not_a_number, infinite, minus_infinite;
        double min, max; /* of the finite ones; NAN when there is none */
        double sum;      /* of the finite ones, in units of 2^64, so that no sum overflows. Of values with a float's
                            precision and of like size it is exact, and so the same whatever row it was read from */
        int64_t last_step, last_time_ms;
        double last; /* the value of its last point, whatever it is */
};

/* Points of one cell, in order, behind those that it has. n at least 1. */
void cell_add(struct cell *c, const struct point *p, size_t n);
/* Whatever the order: of two last points the one with the higher step is the last, of equal steps the other's. */
void cell_merge(struct cell *c, const struct cell *other);

/* Mean of the finite ones; NAN when there is none. */
double cell_mean(const struct cell *c);

/* In steps of 1 << shift; cells ascending, none without a point. */
struct cells {
        int shift; /* 0..62 */
        size_t n;
        struct cell cell[CELLS_MAX];
};
/* The finest that holds n (at least 1) points, whose steps do not descend. */
void cells_from_points(const struct point *p, size_t n, struct cells *ret);
/* The finest shift, not below `shift`, for steps first..last. */
int cells_shift(int64_t first, int64_t last, int shift);
/* Adds what another row has, whose shift is not above c's. -EBADMSG: there is no room for that, so its bytes were not
 * written by us. */
int cells_merge(struct cells *c, const struct cells *other, struct error *err);

int cells_encode(const struct cells *c, struct buf *b, struct error *err);
/* -EBADMSG. */
int cells_decode(const void *data, size_t size, struct cells *ret, struct error *err);
