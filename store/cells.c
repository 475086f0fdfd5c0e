/* Cells and their bytes, version 1:
 *
 *   01 shift (a byte) n (varint) cell x n
 *   cell    its index, step >> shift: the first zigzag, each other less the one before (varint, at least 1)
 *           count << 1 | others (varint); where others is 1: how many are not a number, infinite, minus infinite
 *           last_step - (index << shift) (varint)
 *           last_time_ms, less that of the cell before (zigzag)
 *           w, a byte: 04 or 08, and min, max, last as floats or doubles; sum, a double. Little-endian.
 *
 * Valid are 1 to CELLS_MAX cells whose counts are not below the sum of the others, and nothing left over. */
#include "store/cells.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#define VERSION 1
#define SUM_UNIT 0x1p64

static int bad(struct error *err)
{
        return error_set(err, -EBADMSG, NULL, "a summary of points cannot be read: its bytes are damaged");
}

/* ---- arithmetic */

static int64_t n_finite(const struct cell *c)
{
        return c->count - c->not_a_number - c->infinite - c->minus_infinite;
}

static void count_other(struct cell *c, double v)
{
        if (isnan(v))
                c->not_a_number++;
        else if (v > 0)
                c->infinite++;
        else
                c->minus_infinite++;
}

double cell_mean(const struct cell *c)
{
        int64_t n = n_finite(c);
        double mean = c->sum / (double)n * SUM_UNIT;

        if (n <= 0)
                return NAN;
        return mean < c->min ? c->min : mean > c->max ? c->max : mean; /* rounding does not lead out of the points */
}

void cell_add(struct cell *c, const struct point *p, size_t n)
{
        struct cell x = {.count = (int64_t)n, .min = INFINITY, .max = -INFINITY};

        for (size_t i = 0; i < n; i++) {
                double v = p[i].value;

                if (!isfinite(v)) {
                        count_other(&x, v);
                        continue;
                }
                x.min = v < x.min ? v : x.min;
                x.max = v > x.max ? v : x.max;
                x.sum += v * (1 / SUM_UNIT);
        }
        if (!n_finite(&x))
                x.min = x.max = NAN;
        x.last_step = p[n - 1].step;
        x.last_time_ms = p[n - 1].time_ms;
        x.last = p[n - 1].value;
        cell_merge(c, &x);
}

void cell_merge(struct cell *c, const struct cell *other)
{
        int64_t before = n_finite(c), more = n_finite(other);

        if (c->count == 0) {
                *c = *other;
                return;
        }
        if (other->last_step >= c->last_step) {
                c->last_step = other->last_step;
                c->last_time_ms = other->last_time_ms;
                c->last = other->last;
        }
        if (more) {
                c->sum += other->sum;
                c->min = before && c->min < other->min ? c->min : other->min;
                c->max = before && c->max > other->max ? c->max : other->max;
        }
        c->count += other->count;
        c->not_a_number += other->not_a_number;
        c->infinite += other->infinite;
        c->minus_infinite += other->minus_infinite;
}

/* ---- rows */

int cells_shift(int64_t first, int64_t last, int shift)
{
        while (shift < 62 && (uint64_t)(last >> shift) - (uint64_t)(first >> shift) >= CELLS_MAX)
                shift++;
        return shift;
}

void cells_from_points(const struct point *p, size_t n, struct cells *ret)
{
        ret->shift = cells_shift(p[0].step, p[n - 1].step, 0);
        ret->n = 0;
        for (size_t i = 0, end; i < n; i = end) {
                for (end = i + 1; end < n && p[end].step >> ret->shift == p[i].step >> ret->shift;)
                        end++;
                ret->cell[ret->n] = (struct cell){0};
                cell_add(&ret->cell[ret->n++], p + i, end - i);
        }
}

int cells_merge(struct cells *c, const struct cells *other, struct error *err)
{
        for (size_t i = 0; i < other->n; i++) {
                int64_t at = other->cell[i].last_step >> c->shift;

                if (c->n == 0 || c->cell[c->n - 1].last_step >> c->shift != at) {
                        if (c->n == CELLS_MAX)
                                return bad(err);
                        c->cell[c->n++] = (struct cell){0};
                }
                cell_merge(&c->cell[c->n - 1], &other->cell[i]);
        }
        return 0;
}

/* ---- bytes */

static void real_to_bytes(double v, size_t width, uint8_t *ret)
{
        float f = (float)v;
        uint32_t low;
        uint64_t bits;

        memcpy(&low, &f, sizeof low);
        memcpy(&bits, &v, sizeof bits);
        bits = htole64(width == 4 ? low : bits);
        memcpy(ret, &bits, width);
}

static double real_from_bytes(const uint8_t *p, size_t width)
{
        uint64_t bits = 0;
        uint32_t low;
        float f;
        double v;

        memcpy(&bits, p, width);
        bits = le64toh(bits);
        low = (uint32_t)bits;
        memcpy(&f, &low, sizeof f);
        memcpy(&v, &bits, sizeof v);
        return width == 4 ? (double)f : v;
}

static int put_reals(const struct cell *c, struct buf *b, struct error *err)
{
        const double v[] = {c->min, c->max, c->last};
        size_t width = reals_are_floats(v, ARRAY_LEN(v)) ? 4 : 8;
        uint8_t bytes[1 + 4 * 8];

        bytes[0] = (uint8_t)width;
        for (size_t i = 0; i < ARRAY_LEN(v); i++)
                real_to_bytes(v[i], width, bytes + 1 + i * width);
        real_to_bytes(c->sum, 8, bytes + 1 + 3 * width);
        return buf_append(b, bytes, 1 + 3 * width + 8, err);
}

static bool get_reals(struct bytes *in, struct cell *c)
{
        uint8_t width;

        if (!get_byte(in, &width) || (width != 4 && width != 8) || in->end - in->p < 3 * width + 8)
                return false;
        c->min = real_from_bytes(in->p, width);
        c->max = real_from_bytes(in->p + width, width);
        c->last = real_from_bytes(in->p + 2 * width, width);
        c->sum = real_from_bytes(in->p + 3 * width, 8);
        in->p += 3 * width + 8;
        return true;
}

static int put_counts(const struct cell *c, struct buf *b, struct error *err)
{
        bool others = n_finite(c) < c->count;
        int r = put_varint(b, (uint64_t)c->count << 1 | others, err);

        if (r >= 0 && others)
                r = put_varint(b, (uint64_t)c->not_a_number, err);
        if (r >= 0 && others)
                r = put_varint(b, (uint64_t)c->infinite, err);
        return r < 0 || !others ? r : put_varint(b, (uint64_t)c->minus_infinite, err);
}

static bool get_counts(struct bytes *in, struct cell *c)
{
        uint64_t n, other[3] = {0};

        if (!get_varint(in, &n) || n >> 1 == 0 || n >> 1 > INT64_MAX / 4)
                return false;
        for (int i = 0; (n & 1) && i < 3; i++)
                if (!get_varint(in, &other[i]) || other[i] > n >> 1)
                        return false;
        c->count = (int64_t)(n >> 1);
        c->not_a_number = (int64_t)other[0];
        c->infinite = (int64_t)other[1];
        c->minus_infinite = (int64_t)other[2];
        return n_finite(c) >= 0;
}

int cells_encode(const struct cells *c, struct buf *b, struct error *err)
{
        int64_t before = 0, time_ms = 0;
        int r = put_byte(b, VERSION, err);

        if (r >= 0)
                r = put_byte(b, (uint8_t)c->shift, err);
        if (r >= 0)
                r = put_varint(b, c->n, err);
        for (size_t i = 0; r >= 0 && i < c->n; i++) {
                const struct cell *x = &c->cell[i];
                int64_t at = x->last_step >> c->shift;

                r = put_varint(b, i ? (uint64_t)at - (uint64_t)before : zigzag(at), err);
                if (r >= 0)
                        r = put_counts(x, b, err);
                if (r >= 0)
                        r = put_varint(b, (uint64_t)x->last_step & (((uint64_t)1 << c->shift) - 1), err);
                if (r >= 0)
                        r = put_varint(b, zigzag((int64_t)((uint64_t)x->last_time_ms - (uint64_t)time_ms)), err);
                if (r >= 0)
                        r = put_reals(x, b, err);
                before = at;
                time_ms = x->last_time_ms;
        }
        return r;
}

/* index: of the cell before, of the first 0 as it may be negative. */
static bool get_index(struct bytes *in, bool first, int shift, int64_t *index)
{
        uint64_t v, offset;
        const int64_t max = INT64_MAX >> shift;

        if (!get_varint(in, &v))
                return false;
        if (first) {
                *index = unzigzag(v);
                return *index >= -max - 1 && *index <= max;
        }
        offset = (uint64_t)max - (uint64_t)*index; /* index is not above max */
        if (v < 1 || v > offset)
                return false;
        *index = (int64_t)((uint64_t)*index + v);
        return true;
}

static bool get_cell(struct bytes *in, bool first, int shift, int64_t *index, int64_t *time_ms, struct cell *ret)
{
        uint64_t offset, later;

        if (!get_index(in, first, shift, index) || !get_counts(in, ret) || !get_varint(in, &offset) ||
            offset >> shift != 0 || !get_varint(in, &later) || !get_reals(in, ret))
                return false;
        ret->last_step = (int64_t)((uint64_t)*index << shift | offset);
        *time_ms = (int64_t)((uint64_t)*time_ms + (uint64_t)unzigzag(later));
        ret->last_time_ms = *time_ms;
        return true;
}

int cells_decode(const void *data, size_t size, struct cells *ret, struct error *err)
{
        struct bytes in = {data, (const uint8_t *)data + size};
        int64_t index = 0, time_ms = 0;
        uint8_t version, shift;
        uint64_t n;
        bool good = get_byte(&in, &version) && version == VERSION && get_byte(&in, &shift) && shift <= 62 &&
                    get_varint(&in, &n) && n >= 1 && n <= CELLS_MAX;

        for (size_t i = 0; good && i < n; i++)
                good = get_cell(&in, i == 0, shift, &index, &time_ms, &ret->cell[i]);
        if (!good || in.p != in.end)
                return bad(err);
        ret->shift = shift;
        ret->n = (size_t)n;
        return 0;
}
