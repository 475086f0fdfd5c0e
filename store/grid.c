#include "store/grid.h"

#include "base/macros.h"

#include <math.h>

/* Of a logarithmic axis: buckets of a doubling, as a power of two. */
static int fineness(const struct grid *g)
{
        return 62 - g->shift;
}

/* Of a positive step: 2^e is the power of two that it reaches. */
static int octave(int64_t step)
{
        return 63 - __builtin_clzll((uint64_t)step);
}

int64_t grid_index(const struct grid *g, int64_t step)
{
        int m = fineness(g), e;

        if (!g->logarithmic)
                return g->shift > 62 ? 0 : step >> g->shift;
        if (g->shift == GRID_SHIFT_MAX || step == 0)
                return 0;
        e = octave(step);
        if (m < 0)
                return 1 + (e >> -m);
        return e < m ? step : ((int64_t)(e - m) << m) + (step >> (e - m));
}

/* value << shift, both not negative. */
static int64_t shift_up(int64_t value, int64_t shift)
{
        return value == 0 ? 0 : shift > 62 || value > INT64_MAX >> shift ? INT64_MAX : value << shift;
}

static int64_t begin(const struct grid *g, int64_t index)
{
        int m = fineness(g);

        if (g->shift == GRID_SHIFT_MAX)
                return index == 0 ? 0 : INT64_MAX;
        if (!g->logarithmic)
                return shift_up(index, g->shift);
        if (m < 0)
                return index == 0 ? 0 : shift_up(1, (index - 1) << -m);
        if (index >> m <= 1)
                return index;
        return shift_up((index & (((int64_t)1 << m) - 1)) + ((int64_t)1 << m), (index >> m) - 1);
}

int64_t grid_begin(const struct grid *g, int64_t step)
{
        return begin(g, grid_index(g, step));
}

int64_t grid_end(const struct grid *g, int64_t step)
{
        int64_t index = grid_index(g, step);

        return index == INT64_MAX ? INT64_MAX : begin(g, index + 1);
}

double grid_ratio(const struct grid *g)
{
        int m = fineness(g);

        return m < 0 ? exp2(exp2(-m)) : 1 + exp2(-m);
}

void grid_fit(struct grid *g, int64_t first, int64_t last, int64_t n)
{
        while (first <= last && grid_index(g, last) - grid_index(g, first) >= n)
                g->shift++;
}

int64_t grid_stretch(const struct grid *g, int64_t step, int *ret_shift)
{
        int m = fineness(g), e;

        if (!g->logarithmic || g->shift == GRID_SHIFT_MAX) {
                *ret_shift = MIN(g->shift, 62);
                return INT64_MAX;
        }
        if (step >> MAX(m, 0) <= 1) { /* a bucket each */
                *ret_shift = 0;
                return m < 0 ? MIN(step, 1) : m > 61 ? INT64_MAX : ((int64_t)2 << m) - 1;
        }
        e = octave(step);
        *ret_shift = e - MAX(m, 0);
        return e == 62 ? INT64_MAX : ((int64_t)2 << e) - 1;
}
