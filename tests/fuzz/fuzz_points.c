/* Bytes as a chunk, as a batch, as cells: what is accepted comes back the same when it is written again, and is within
 * what readers count on. */
#include "store/cells.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
        if (!what)
                abort();
}

static struct codec *codec;
static struct point points[CHUNK_POINTS], again[CHUNK_POINTS];

static void as_chunk(const uint8_t *data, size_t size)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)CHUNK_POINTS * 32);
        size_t n, m;

        if (chunk_decode(codec, data, size, points, &n, NULL) < 0)
                return;
        require(n >= 1 && n <= CHUNK_POINTS);
        for (size_t i = 1; i < n; i++)
                require(points[i].step >= points[i - 1].step);
        require(chunk_encode(codec, points, n, &b, NULL) == 0);
        require(chunk_decode(codec, b.data, b.size, again, &m, NULL) == 0 && m == n);
        require(!memcmp(points, again, n * sizeof *points));
}

static void as_batch(const uint8_t *data, size_t size)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)16 << 20);
        struct batch x, y;

        if (batch_decode(codec, data, size, 0, &x, NULL) < 0)
                return;
        require(x.n_rows >= 1 && x.n_rows <= EVENT_ROWS_MAX && x.n_columns <= EVENT_COLUMNS_MAX);
        require(batch_encode(codec, &x, &b, NULL) == 0);
        require(batch_decode(codec, b.data, b.size, 0, &y, NULL) == 0);
        require(x.n_rows == y.n_rows && x.n_columns == y.n_columns);
        require(!memcmp(x.step, y.step, x.n_rows * sizeof *x.step));
        for (size_t k = 0; k < x.n_columns; k++)
                require(x.series[k] == y.series[k] && !memcmp(x.value[k], y.value[k], x.n_rows * sizeof *x.value[k]));
        batch_done(&x);
        batch_done(&y);
}

static void as_cells(const uint8_t *data, size_t size)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(65536), b2 = BUF_INIT(65536);
        struct cells c, all = {.shift = 62}, other;

        if (cells_decode(data, size, &c, NULL) < 0)
                return;
        for (size_t i = 0; i < c.n; i++) {
                require(c.cell[i].count >= 1);
                require(!i || c.cell[i].last_step >> c.shift > c.cell[i - 1].last_step >> c.shift);
        }
        require(cells_encode(&c, &b, NULL) == 0 && cells_decode(b.data, b.size, &other, NULL) == 0);
        require(cells_encode(&other, &b2, NULL) == 0 && b.size == b2.size && !memcmp(b.data, b2.data, b.size));
        require(cells_merge(&all, &c, NULL) == 0 && all.n >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (!codec)
                codec = codec_new();
        as_chunk(data, size);
        as_batch(data, size);
        as_cells(data, size);
        return 0;
}
