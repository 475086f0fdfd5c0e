/* A grid of images as an 8-bit RGB PNG (ISO/IEC 15948), made in memory and written whole or not at all. No time stamp
 * is put in: the same images give the same file. Fewer images than columns make one row of them; gaps, and places of
 * the last row that no image fills, are white.
 *
 * libpng reports by longjmp. The one function with setjmp changes no variable of its own after it; what changes lies
 * in struct canvas, which outlives the jump. */
#include "engine/grid.h"

#include "engine/dataset.h"

#include <errno.h>
#include <png.h>
#include <string.h>

#define SIDE 32
#define GAP 2
#define SIDE_MAX 1000000 /* pixels; what libpng reads back by default */

struct canvas {
        const uint8_t *images;
        int64_t n, columns, rows, width, height;
        uint8_t *row; /* width x 3 */
        struct buf out;
        png_structp png;
        png_infop info;
        int code; /* of the failure, with its text */
        char text[sizeof((struct error *)0)->text];
};

static void fail(png_structp png, png_const_charp text)
{
        struct canvas *e = png_get_error_ptr(png);

        if (!e->code) {
                e->code = -EIO;
                (void)snprintf(e->text, sizeof e->text, "libpng: %s", text);
        }
        png_longjmp(png, 1);
}

static void ignore_warning(png_structp png _unused_, png_const_charp text _unused_)
{
}

static void append(png_structp png, png_bytep data, size_t size)
{
        struct canvas *e = png_get_io_ptr(png);
        struct error inner;
        int r = buf_append(&e->out, data, size, &inner);

        if (r < 0) {
                e->code = r;
                (void)snprintf(e->text, sizeof e->text, "%s", inner.text);
                png_error(png, "write");
        }
}

static void flush(png_structp png _unused_)
{
}

static void fill_row(struct canvas *e, int64_t y)
{
        int64_t row = y / (SIDE + GAP), h = y % (SIDE + GAP);

        memset(e->row, 255, (size_t)e->width * 3);
        for (int64_t c = 0, i = row * e->columns; h < SIDE && c < e->columns && i < e->n; c++, i++)
                memcpy(e->row + c * (SIDE + GAP) * 3, e->images + i * IMAGE_BYTES + h * SIDE * 3, SIDE * 3);
}

static int encode(struct canvas *e)
{
        e->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, e, fail, ignore_warning);
        e->info = e->png ? png_create_info_struct(e->png) : NULL;
        if (!e->info) {
                (void)snprintf(e->text, sizeof e->text, "no memory");
                return e->code = -ENOMEM;
        }
        if (setjmp(png_jmpbuf(e->png)))
                return e->code;
        png_set_write_fn(e->png, e, append, flush);
        png_set_IHDR(e->png, e->info, (png_uint_32)e->width, (png_uint_32)e->height, 8, PNG_COLOR_TYPE_RGB,
                     PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
        png_write_info(e->png, e->info);
        for (int64_t y = 0; y < e->height; y++) {
                fill_row(e, y);
                png_write_row(e->png, e->row);
        }
        png_write_end(e->png, NULL);
        return 0;
}

static void canvas_done(struct canvas *e)
{
        png_destroy_write_struct(&e->png, &e->info);
        buf_done(&e->out);
        free(e->row);
}

int grid_write_png(const char *path, const uint8_t *images, int64_t n, int64_t columns, char ret_digest[DIGEST_SIZE],
                   int64_t *ret_bytes, struct error *err)
{
        _cleanup_(canvas_done) struct canvas e = {.images = images, .n = n, .columns = MIN(columns, n)};
        int r;

        if (n < 1 || columns < 1)
                return error_set(err, -EINVAL, path, "a grid of %lld images in %lld columns cannot be drawn",
                                 (long long)n, (long long)columns);
        e.rows = (n - 1) / e.columns + 1;
        if (e.columns > SIDE_MAX / (SIDE + GAP) || e.rows > SIDE_MAX / (SIDE + GAP))
                return error_set(err, -EINVAL, path, "a grid of %lld x %lld images is too large", (long long)e.columns,
                                 (long long)e.rows);
        e.width = e.columns * (SIDE + GAP) - GAP;
        e.height = e.rows * (SIDE + GAP) - GAP;
        /* Filtered rows that do not compress grow by a few bytes in a thousand. */
        e.out = BUF_INIT((size_t)e.width * (size_t)e.height * 4 + ((size_t)1 << 16));
        e.row = malloc((size_t)e.width * 3);
        if (!e.row)
                return error_set(err, -ENOMEM, path, "no memory to draw it");
        r = encode(&e);
        if (r < 0)
                return error_set(err, r, path, "cannot be made: %s", e.text);
        r = file_write_atomic(path, e.out.data, e.out.size, ret_digest, err);
        if (r < 0)
                return r;
        if (ret_bytes)
                *ret_bytes = (int64_t)e.out.size;
        return 0;
}
