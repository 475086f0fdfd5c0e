/* The bytes of chunks and batches, version 1.
 *
 *   chunk   01 n steps times values                      n: varint, 1..CHUNK_POINTS
 *   batch   02 n steps times k (series values) x k       n: 1..EVENT_ROWS_MAX; k: varint; series: varint
 *   steps, times
 *           first (zigzag), then, for n > 1: the smallest difference (zigzag), w (a byte, 0..8), w planes of the n - 1
 *           differences less the smallest. Equal differences have no plane.
 *   values  w (04 or 08), m (a byte), w planes
 *           w 04: floats' bits, where all values have a float's precision; 08: doubles'. m 00: the bits as they are;
 * 01: each less the one before (the first less 0), zigzag in w bytes: what is shorter. Noise likes the first, a
 *           schedule the second.
 *   plane   byte j of every number, most significant plane first: 00 byte (all are that), 01 n bytes, or 02 size
 *           (varint) and a zstd frame of n bytes. Apart from each other, so that each has the code that fits it: the
 *           lower ones of a noisy curve are noise and stay as they are, the upper ones have few values.
 *
 * Batches are never zstd: they live until the next chunk. All arithmetic wraps, so that any 64 bits come back; but a
 * chunk's steps do not descend, and bytes that would make them are refused, as is whatever is left over at the end. */
#include "store/chunk.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include <zstd.h>

#define CHUNK_VERSION 1
#define BATCH_VERSION 2
#define ZSTD_LEVEL 1
#define PACKED_MIN 48 /* numbers: fewer are not worth a frame */

enum plane { PLANE_CONSTANT, PLANE_RAW, PLANE_ZSTD };
enum mode { MODE_BITS, MODE_DIFFERENCES };

struct codec {
        ZSTD_CCtx *compress;
        ZSTD_DCtx *decompress;
        uint64_t words[CHUNK_POINTS]; /* the numbers of a column */
        uint64_t differences[CHUNK_POINTS];
        uint8_t plane[CHUNK_POINTS];
        uint8_t packed[ZSTD_COMPRESSBOUND(CHUNK_POINTS)];
};

struct codec *codec_new(void)
{
        return calloc(1, sizeof(struct codec));
}

struct codec *codec_free(struct codec *c)
{
        if (c) {
                (void)ZSTD_freeCCtx(c->compress);
                (void)ZSTD_freeDCtx(c->decompress);
        }
        free(c);
        return NULL;
}

static int bad(struct error *err)
{
        return error_set(err, -EBADMSG, NULL, "points that are stored cannot be read: their bytes are damaged");
}

/* ---- bytes */

int put_byte(struct buf *b, uint8_t v, struct error *err)
{
        return buf_append(b, &v, 1, err);
}

bool get_byte(struct bytes *in, uint8_t *ret)
{
        if (in->p == in->end)
                return false;
        *ret = *in->p++;
        return true;
}

int put_varint(struct buf *b, uint64_t v, struct error *err)
{
        uint8_t bytes[10];
        size_t n = 0;

        for (; v >= 0x80; v >>= 7)
                bytes[n++] = (uint8_t)(v | 0x80);
        bytes[n++] = (uint8_t)v;
        return buf_append(b, bytes, n, err);
}

bool get_varint(struct bytes *in, uint64_t *ret)
{
        uint64_t v = 0;

        for (int shift = 0; shift < 64 && in->p < in->end; shift += 7) {
                uint8_t byte = *in->p++;

                if (shift == 63 && byte > 1)
                        return false;
                v |= (uint64_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80)) {
                        *ret = v;
                        return true;
                }
        }
        return false;
}

/* ---- planes */

static int compress_plane(struct codec *c, size_t n, size_t *ret, struct error *err)
{
        if (!c->compress) {
                c->compress = ZSTD_createCCtx();
                if (!c->compress)
                        return error_set(err, -ENOMEM, NULL, "no memory to compress points");
                (void)ZSTD_CCtx_setParameter(c->compress, ZSTD_c_compressionLevel, ZSTD_LEVEL);
                (void)ZSTD_CCtx_setParameter(c->compress, ZSTD_c_contentSizeFlag, 0);
                /* a plane of noise matches itself by chance: naming such matches takes more than Huffman's codes */
                (void)ZSTD_CCtx_setParameter(c->compress, ZSTD_c_minMatch, 7);
                (void)ZSTD_CCtx_setParameter(c->compress, ZSTD_c_hashLog, 6);
        }
        *ret = ZSTD_compress2(c->compress, c->packed, sizeof c->packed, c->plane, n);
        return ZSTD_isError(*ret) ? error_set(err, -ENOMEM, NULL, "points cannot be compressed") : 0;
}

static int put_plane(struct codec *c, size_t n, bool pack, struct buf *b, struct error *err)
{
        size_t packed = n;
        int r;

        if (!memcmp(c->plane, c->plane + 1, n - 1)) {
                r = put_byte(b, PLANE_CONSTANT, err);
                return r < 0 ? r : put_byte(b, c->plane[0], err);
        }
        if (pack && n >= PACKED_MIN) {
                r = compress_plane(c, n, &packed, err);
                if (r < 0)
                        return r;
        }
        if (packed + 3 >= n) {
                r = put_byte(b, PLANE_RAW, err);
                return r < 0 ? r : buf_append(b, c->plane, n, err);
        }
        r = put_byte(b, PLANE_ZSTD, err);
        if (r >= 0)
                r = put_varint(b, packed, err);
        return r < 0 ? r : buf_append(b, c->packed, packed, err);
}

static int put_planes(struct codec *c, const uint64_t *words, size_t n, int width, bool pack, struct buf *b,
                      struct error *err)
{
        int r = 0;

        for (int j = width - 1; r >= 0 && j >= 0; j--) {
                for (size_t i = 0; i < n; i++)
                        c->plane[i] = (uint8_t)(words[i] >> (8 * j));
                r = put_plane(c, n, pack, b, err);
        }
        return r;
}

static bool unpack_plane(struct codec *c, struct bytes *in, size_t n)
{
        uint64_t size;

        if (!c->decompress)
                c->decompress = ZSTD_createDCtx();
        if (!c->decompress || !get_varint(in, &size) || size > (uint64_t)(in->end - in->p))
                return false;
        if (ZSTD_decompressDCtx(c->decompress, c->plane, n, in->p, size) != n)
                return false;
        in->p += size;
        return true;
}

/* ret: n bytes, of the input or of c->plane; NULL for all *ret_constant. */
static bool get_plane(struct codec *c, struct bytes *in, size_t n, const uint8_t **ret, uint8_t *ret_constant)
{
        uint8_t kind;

        if (!get_byte(in, &kind))
                return false;
        *ret = NULL;
        if (kind == PLANE_CONSTANT)
                return get_byte(in, ret_constant);
        if (kind == PLANE_RAW) {
                if (n > (size_t)(in->end - in->p))
                        return false;
                *ret = in->p;
                in->p += n;
                return true;
        }
        *ret = c->plane;
        return kind == PLANE_ZSTD && unpack_plane(c, in, n);
}

/* Into c->words. */
static bool get_planes(struct codec *c, struct bytes *in, size_t n, int width)
{
        memset(c->words, 0, n * sizeof *c->words);
        for (int j = width - 1; j >= 0; j--) {
                const uint8_t *plane;
                uint8_t constant = 0;

                if (!get_plane(c, in, n, &plane, &constant))
                        return false;
                if (plane)
                        for (size_t i = 0; i < n; i++)
                                c->words[i] |= (uint64_t)plane[i] << (8 * j);
                else if (constant)
                        for (size_t i = 0; i < n; i++)
                                c->words[i] |= (uint64_t)constant << (8 * j);
        }
        return true;
}

static bool skip_planes(struct bytes *in, size_t n, int width)
{
        for (; width > 0; width--) {
                uint64_t size = n;
                uint8_t kind;

                if (!get_byte(in, &kind) || kind > PLANE_ZSTD || (kind == PLANE_ZSTD && !get_varint(in, &size)))
                        return false;
                if (kind == PLANE_CONSTANT)
                        size = 1;
                if (size > (uint64_t)(in->end - in->p))
                        return false;
                in->p += size;
        }
        return true;
}

/* ---- steps and times */

static int width_of(uint64_t v)
{
        return v ? (71 - __builtin_clzll(v)) / 8 : 0;
}

/* The n numbers are in c->words. */
static int put_ints(struct codec *c, size_t n, bool pack, struct buf *b, struct error *err)
{
        uint64_t all = 0, *d = c->differences;
        int64_t least = INT64_MAX;
        int r = put_varint(b, zigzag((int64_t)c->words[0]), err);

        if (r < 0 || n == 1)
                return r;
        for (size_t i = 1; i < n; i++) {
                d[i - 1] = c->words[i] - c->words[i - 1];
                least = MIN(least, (int64_t)d[i - 1]);
        }
        for (size_t i = 0; i < n - 1; i++) {
                d[i] -= (uint64_t)least;
                all |= d[i];
        }
        r = put_varint(b, zigzag(least), err);
        if (r >= 0)
                r = put_byte(b, (uint8_t)width_of(all), err);
        return r < 0 ? r : put_planes(c, d, n - 1, width_of(all), pack, b, err);
}

/* Into ret, of which every stride-th is one: a member of an array of structures, or an array. */
static bool get_ints(struct codec *c, struct bytes *in, size_t n, int64_t *ret, size_t stride)
{
        uint64_t first, least;
        uint8_t width;

        if (!get_varint(in, &first))
                return false;
        *ret = unzigzag(first);
        if (n == 1)
                return true;
        if (!get_varint(in, &least) || !get_byte(in, &width) || width > 8 || !get_planes(c, in, n - 1, width))
                return false;
        first = (uint64_t)*ret;
        least = (uint64_t)unzigzag(least);
        for (size_t i = 0; i < n - 1; i++) {
                first += c->words[i] + least;
                ret[(i + 1) * stride] = (int64_t)first;
        }
        return true;
}

/* ---- values */

static uint64_t bits_of(double v)
{
        uint64_t bits;

        memcpy(&bits, &v, sizeof bits);
        return bits;
}

static double real_of(uint64_t bits)
{
        double v;

        memcpy(&v, &bits, sizeof v);
        return v;
}

static uint32_t float_bits_of(double v)
{
        float f = (float)v;
        uint32_t bits;

        memcpy(&bits, &f, sizeof bits);
        return bits;
}

static double real_of_float_bits(uint64_t bits)
{
        uint32_t low = (uint32_t)bits;
        float f;

        memcpy(&f, &low, sizeof f);
        return (double)f;
}

static bool is_float(double v)
{
        if (isfinite(v) && fabs(v) > (double)FLT_MAX)
                return false;
        return bits_of((double)(float)v) == bits_of(v);
}

bool reals_are_floats(const double *v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!is_float(v[i]))
                        return false;
        return true;
}

static void take_differences(const uint64_t *words, size_t n, int width, uint64_t *ret)
{
        uint64_t before = 0;

        for (size_t i = 0; i < n; i++) {
                int64_t d = (int64_t)(words[i] - before);

                ret[i] = width == 4 ? (uint32_t)zigzag((int32_t)d) : zigzag(d);
                before = words[i];
        }
}

static void add_differences(uint64_t *words, size_t n, int width)
{
        uint64_t v = 0;

        for (size_t i = 0; i < n; i++) {
                v += (uint64_t)unzigzag(words[i]);
                words[i] = width == 4 ? (uint32_t)v : v;
        }
}

static int put_values_as(struct codec *c, const uint64_t *words, size_t n, int width, enum mode m, bool pack,
                         struct buf *b, struct error *err)
{
        const uint8_t head[2] = {(uint8_t)width, (uint8_t)m};
        int r = buf_append(b, head, sizeof head, err);

        return r < 0 ? r : put_planes(c, words, n, width, pack, b, err);
}

/* The bits of n doubles are in c->words. */
static int put_values(struct codec *c, size_t n, bool pack, struct buf *b, struct error *err)
{
        size_t begin = b->size, plain;
        int width = 4, r;

        for (size_t i = 0; i < n && width == 4; i++)
                if (!is_float(real_of(c->words[i])))
                        width = 8;
        if (width == 4)
                for (size_t i = 0; i < n; i++)
                        c->words[i] = float_bits_of(real_of(c->words[i]));
        r = put_values_as(c, c->words, n, width, MODE_BITS, pack, b, err);
        if (r < 0 || !pack || n < PACKED_MIN)
                return r;
        plain = b->size - begin;
        take_differences(c->words, n, width, c->differences);
        r = put_values_as(c, c->differences, n, width, MODE_DIFFERENCES, pack, b, err);
        if (r < 0)
                return r;
        if (b->size - begin - plain < plain) {
                memmove(b->data + begin, b->data + begin + plain, b->size - begin - plain);
                b->size -= plain;
        } else {
                b->size = begin + plain;
        }
        return 0;
}

/* ret NULL: they are passed over. */
static bool get_values(struct codec *c, struct bytes *in, size_t n, double *ret, size_t stride)
{
        uint8_t width, mode;

        if (!get_byte(in, &width) || !get_byte(in, &mode) || (width != 4 && width != 8) || mode > MODE_DIFFERENCES)
                return false;
        if (!ret)
                return skip_planes(in, n, width);
        if (!get_planes(c, in, n, width))
                return false;
        if (mode == MODE_DIFFERENCES)
                add_differences(c->words, n, width);
        for (size_t i = 0; i < n; i++)
                ret[i * stride] = width == 4 ? real_of_float_bits(c->words[i]) : real_of(c->words[i]);
        return true;
}

/* ---- chunks */

int chunk_encode(struct codec *c, const struct point *p, size_t n, struct buf *b, struct error *err)
{
        int r = put_byte(b, CHUNK_VERSION, err);

        if (r >= 0)
                r = put_varint(b, n, err);
        for (size_t i = 0; i < n; i++)
                c->words[i] = (uint64_t)p[i].step;
        if (r >= 0)
                r = put_ints(c, n, true, b, err);
        for (size_t i = 0; i < n; i++)
                c->words[i] = (uint64_t)p[i].time_ms;
        if (r >= 0)
                r = put_ints(c, n, true, b, err);
        for (size_t i = 0; i < n; i++)
                c->words[i] = bits_of(p[i].value);
        return r < 0 ? r : put_values(c, n, true, b, err);
}

static bool get_head(struct bytes *in, uint8_t version, size_t max, size_t *ret_n)
{
        uint64_t n;
        uint8_t v;

        if (!get_byte(in, &v) || v != version || !get_varint(in, &n) || n < 1 || n > max)
                return false;
        *ret_n = (size_t)n;
        return true;
}

int chunk_decode(struct codec *c, const void *data, size_t size, struct point *ret, size_t *ret_n, struct error *err)
{
        const size_t stride = sizeof *ret / sizeof(int64_t);
        struct bytes in = {data, (const uint8_t *)data + size};
        size_t n;

        if (!get_head(&in, CHUNK_VERSION, CHUNK_POINTS, &n) || !get_ints(c, &in, n, &ret->step, stride) ||
            !get_ints(c, &in, n, &ret->time_ms, stride) || !get_values(c, &in, n, &ret->value, stride) ||
            in.p != in.end)
                return bad(err);
        for (size_t i = 1; i < n; i++)
                if (ret[i].step < ret[i - 1].step)
                        return bad(err);
        *ret_n = n;
        return 0;
}

/* ---- batches */

static int put_column(struct codec *c, const struct batch *batch, size_t k, struct buf *b, struct error *err)
{
        int r = put_varint(b, (uint64_t)batch->series[k], err);

        memcpy(c->words, batch->value[k], batch->n_rows * sizeof *c->words);
        return r < 0 ? r : put_values(c, batch->n_rows, false, b, err);
}

int batch_encode(struct codec *c, const struct batch *batch, struct buf *b, struct error *err)
{
        int r = put_byte(b, BATCH_VERSION, err);

        if (r >= 0)
                r = put_varint(b, batch->n_rows, err);
        memcpy(c->words, batch->step, batch->n_rows * sizeof *c->words);
        if (r >= 0)
                r = put_ints(c, batch->n_rows, false, b, err);
        memcpy(c->words, batch->time_ms, batch->n_rows * sizeof *c->words);
        if (r >= 0)
                r = put_ints(c, batch->n_rows, false, b, err);
        if (r >= 0)
                r = put_varint(b, batch->n_columns, err);
        for (size_t k = 0; r >= 0 && k < batch->n_columns; k++)
                r = put_column(c, batch, k, b, err);
        return r;
}

static bool get_columns(struct codec *c, struct bytes *in, size_t n_columns, int64_t only, double *memory,
                        struct batch *ret)
{
        for (size_t k = 0; k < n_columns; k++) {
                uint64_t series;
                bool wanted;

                if (!get_varint(in, &series) || series < 1 || series > INT64_MAX)
                        return false;
                wanted = !only || (int64_t)series == only;
                if (!get_values(c, in, ret->n_rows, wanted ? memory : NULL, 1))
                        return false;
                if (!wanted)
                        continue;
                ret->series[ret->n_columns] = (int64_t)series;
                ret->value[ret->n_columns++] = memory;
                memory += ret->n_rows;
        }
        return in->p == in->end;
}

int batch_decode(struct codec *c, const void *data, size_t size, int64_t only, struct batch *ret, struct error *err)
{
        struct bytes in = {data, (const uint8_t *)data + size};
        struct batch b = {0};
        uint64_t n_columns;
        int64_t *axis;

        if (!get_head(&in, BATCH_VERSION, EVENT_ROWS_MAX, &b.n_rows))
                return bad(err);
        axis = calloc(b.n_rows * 2, sizeof *axis);
        b.memory = axis;
        if (!axis)
                return error_set(err, -ENOMEM, NULL, "no memory for points");
        if (!get_ints(c, &in, b.n_rows, axis, 1) || !get_ints(c, &in, b.n_rows, axis + b.n_rows, 1) ||
            !get_varint(&in, &n_columns) || n_columns > EVENT_COLUMNS_MAX) {
                batch_done(&b);
                return bad(err);
        }
        /* all in one piece of memory: steps, times, columns; a word each, whichever of the two it is */
        b.memory = realloc(axis, b.n_rows * (2 + n_columns) * sizeof *axis);
        if (!b.memory) {
                free(axis);
                return error_set(err, -ENOMEM, NULL, "no memory for points");
        }
        b.step = b.memory;
        b.time_ms = b.step + b.n_rows;
        if (!get_columns(c, &in, (size_t)n_columns, only, (double *)b.memory + 2 * b.n_rows, &b)) {
                batch_done(&b);
                return bad(err);
        }
        *ret = b;
        return 0;
}

void batch_done(struct batch *b)
{
        free(b->memory);
        *b = (struct batch){0};
}
