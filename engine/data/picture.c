/* Both libraries report errors by longjmp. A function with setjmp changes no variable of its own after it; what changes
 * lies in struct picture, which outlives the jump. */
#include "engine/data/picture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>
#include <setjmp.h>

#define SIDE_MAX 32768
#define PIXELS_MAX ((int64_t)1 << 26)
#define CHUNK_MAX ((png_alloc_size_t)8 << 20) /* bytes of a PNG's chunk beside its pixels */
#define SCANS_MAX 128                         /* of a JPEG: each costs a pass over all its pixels */

struct picture {
        int64_t width, height;
        uint8_t *rgb;   /* [height, width, 3] */
        uint8_t **rows; /* [height] */
        const uint8_t *at;
        size_t left;
        png_structp png;
        png_infop info;
        struct jpeg_decompress_struct jpeg;
        struct jpeg_error_mgr jpeg_errors;
        struct jpeg_progress_mgr jpeg_progress;
        jmp_buf jpeg_jump;
        bool has_jpeg;
        int code; /* of the failure, with its text */
        char text[sizeof((struct error *)0)->text];
};

static void picture_done(struct picture *p)
{
        if (p->png)
                png_destroy_read_struct(&p->png, &p->info, NULL);
        if (p->has_jpeg)
                jpeg_destroy_decompress(&p->jpeg);
        free(p->rgb);
        free(p->rows);
}

/* The first reason stands. */
_printf_(3, 4) static int fail(struct picture *p, int code, const char *fmt, ...)
{
        va_list ap;

        if (p->code)
                return p->code;
        va_start(ap, fmt);
        (void)vsnprintf(p->text, sizeof p->text, fmt, ap);
        va_end(ap);
        return p->code = code;
}

static int make_rows(struct picture *p, int64_t width, int64_t height)
{
        if (width < 1 || height < 1)
                return fail(p, -EBADMSG, "is an image of %lld x %lld", (long long)width, (long long)height);
        if (width > SIDE_MAX || height > SIDE_MAX || width * height > PIXELS_MAX)
                return fail(p, -E2BIG, "is %lld x %lld; at most %d a side and %lld pixels are read", (long long)width,
                            (long long)height, SIDE_MAX, (long long)PIXELS_MAX);
        p->width = width;
        p->height = height;
        /* zeroed: what a decoder leaves out must not show */
        p->rgb = calloc((size_t)(width * height), 3);
        p->rows = calloc((size_t)height, sizeof *p->rows);
        if (!p->rgb || !p->rows)
                return fail(p, -ENOMEM, "no memory for an image of %lld x %lld", (long long)width, (long long)height);
        for (int64_t y = 0; y < height; y++)
                p->rows[y] = p->rgb + y * width * 3;
        return 0;
}

/* ---- PNG */

static void png_failed(png_structp png, png_const_charp text)
{
        (void)fail(png_get_error_ptr(png), -EBADMSG, "libpng: %s", text);
        png_longjmp(png, 1);
}

static void png_warned(png_structp png _unused_, png_const_charp text _unused_)
{
}

static void png_read_bytes(png_structp png, png_bytep ret, size_t size)
{
        struct picture *p = png_get_io_ptr(png);

        if (size > p->left)
                png_error(png, "the image is cut");
        memcpy(ret, p->at, size);
        p->at += size;
        p->left -= size;
}

static int read_png(struct picture *p)
{
        p->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, p, png_failed, png_warned);
        p->info = p->png ? png_create_info_struct(p->png) : NULL;
        if (!p->info)
                return fail(p, -ENOMEM, "no memory to read it");
        if (setjmp(png_jmpbuf(p->png)))
                return p->code;
        png_set_read_fn(p->png, p, png_read_bytes);
        png_set_user_limits(p->png, SIDE_MAX, SIDE_MAX);
        png_set_chunk_malloc_max(p->png, CHUNK_MAX);
        png_read_info(p->png, p->info);
        if (png_get_color_type(p->png, p->info) == PNG_COLOR_TYPE_PALETTE)
                png_set_palette_to_rgb(p->png);
        else if (!(png_get_color_type(p->png, p->info) & PNG_COLOR_MASK_COLOR)) {
                if (png_get_bit_depth(p->png, p->info) < 8)
                        png_set_expand_gray_1_2_4_to_8(p->png);
                png_set_gray_to_rgb(p->png);
        }
        png_set_scale_16(p->png);
        png_set_strip_alpha(p->png);
        (void)png_set_interlace_handling(p->png);
        png_read_update_info(p->png, p->info);
        if (make_rows(p, png_get_image_width(p->png, p->info), png_get_image_height(p->png, p->info)) < 0)
                return p->code;
        if (png_get_rowbytes(p->png, p->info) != (size_t)p->width * 3)
                return fail(p, -EOPNOTSUPP, "has pixels that are not read");
        png_read_image(p->png, p->rows);
        png_read_end(p->png, NULL);
        return 0;
}

/* ---- JPEG */

static void jpeg_failed(j_common_ptr jpeg)
{
        struct picture *p = jpeg->client_data;
        char text[JMSG_LENGTH_MAX];

        jpeg->err->format_message(jpeg, text);
        (void)fail(p, -EBADMSG, "libjpeg: %s", text);
        longjmp(p->jpeg_jump, 1);
}

/* Level -1 is a warning: the data are damaged, and libjpeg would make something up. */
static void jpeg_said(j_common_ptr jpeg, int level)
{
        if (level < 0)
                jpeg_failed(jpeg);
}

static void jpeg_proceeds(j_common_ptr jpeg)
{
        struct picture *p = jpeg->client_data;

        if (p->jpeg.input_scan_number <= SCANS_MAX)
                return;
        (void)fail(p, -EBADMSG, "has more than %d scans", SCANS_MAX);
        longjmp(p->jpeg_jump, 1);
}

static int read_jpeg(struct picture *p)
{
        p->jpeg.err = jpeg_std_error(&p->jpeg_errors);
        p->jpeg_errors.error_exit = jpeg_failed;
        p->jpeg_errors.emit_message = jpeg_said;
        p->jpeg.client_data = p;
        if (setjmp(p->jpeg_jump))
                return p->code;
        jpeg_create_decompress(&p->jpeg);
        p->has_jpeg = true;
        p->jpeg_progress.progress_monitor = jpeg_proceeds;
        p->jpeg.progress = &p->jpeg_progress;
        jpeg_mem_src(&p->jpeg, p->at, p->left);
        (void)jpeg_read_header(&p->jpeg, TRUE);
        if (p->jpeg.num_components == 4)
                return fail(p, -EOPNOTSUPP, "is a JPEG of four colours (CMYK); make it RGB first");
        if (p->jpeg.num_components != 1 && p->jpeg.num_components != 3)
                return fail(p, -EOPNOTSUPP, "is a JPEG of %d colours", p->jpeg.num_components);
        if (make_rows(p, p->jpeg.image_width, p->jpeg.image_height) < 0)
                return p->code;
        p->jpeg.out_color_space = JCS_RGB;
        (void)jpeg_start_decompress(&p->jpeg);
        while (p->jpeg.output_scanline < p->jpeg.output_height)
                (void)jpeg_read_scanlines(&p->jpeg, p->rows + p->jpeg.output_scanline, 1);
        (void)jpeg_finish_decompress(&p->jpeg);
        return 0;
}

/* ---- to 32 x 32. Lengths are in 1/64 of a pixel, in which both the crop's corner and the edges of what falls on a
 * pixel are whole numbers. */

#define PARTS 64

struct side { /* along one side, of pixel i: from `first` on, n pixels with these weights */
        int64_t start, step;
};

static struct side crop(int64_t length, int64_t square)
{
        return (struct side){.start = (length - square) * (PARTS / 2), .step = square * (PARTS / IMAGE_SIDE)};
}

/* How much of pixel k lies in [from, to). */
static uint64_t overlap(int64_t k, int64_t from, int64_t to)
{
        return (uint64_t)(MIN(to, (k + 1) * PARTS) - MAX(from, k * PARTS));
}

/* Sum over the area x0..x1, y0..y1 of channel c; at most (2 x 32768)^2 x 255 fits. */
static uint64_t sum_area(const struct picture *p, int64_t x0, int64_t x1, int64_t y0, int64_t y1, int c)
{
        uint64_t sum = 0;

        for (int64_t y = y0 / PARTS; y * PARTS < y1; y++) {
                uint64_t row = 0;

                for (int64_t x = x0 / PARTS; x * PARTS < x1; x++)
                        row += overlap(x, x0, x1) * p->rows[y][3 * x + c];
                sum += row * overlap(y, y0, y1);
        }
        return sum;
}

static void fit_square(const struct picture *p, uint8_t ret[IMAGE_BYTES])
{
        int64_t square = MIN(p->width, p->height);
        struct side x = crop(p->width, square), y = crop(p->height, square);
        uint64_t area = (uint64_t)(x.step * y.step);

        for (int64_t h = 0; h < IMAGE_SIDE; h++)
                for (int64_t w = 0; w < IMAGE_SIDE; w++)
                        for (int c = 0; c < IMAGE_CHANNELS; c++) {
                                uint64_t sum = sum_area(p, x.start + w * x.step, x.start + (w + 1) * x.step,
                                                        y.start + h * y.step, y.start + (h + 1) * y.step, c);

                                *ret++ = (uint8_t)((sum + area / 2) / area);
                        }
}

int picture_read(const uint8_t *data, size_t size, bool fit, uint8_t ret[IMAGE_BYTES], bool *ret_resized,
                 struct error *err)
{
        static const uint8_t png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
        static const uint8_t jpeg_magic[3] = {0xff, 0xd8, 0xff};
        _cleanup_(picture_done) struct picture p = {.at = data, .left = size};
        int r;

        if (size >= sizeof png_magic && !memcmp(data, png_magic, sizeof png_magic))
                r = read_png(&p);
        else if (size >= sizeof jpeg_magic && !memcmp(data, jpeg_magic, sizeof jpeg_magic))
                r = read_jpeg(&p);
        else
                r = fail(&p, -EBADMSG, "is neither PNG nor JPEG by its first bytes");
        if (r >= 0 && !fit && (p.width != IMAGE_SIDE || p.height != IMAGE_SIDE))
                r = fail(&p, -EINVAL, "is %lld x %lld; expected 32 x 32", (long long)p.width, (long long)p.height);
        if (r < 0)
                return error_set(err, r, NULL, "%s", p.text);
        fit_square(&p, ret);
        *ret_resized = p.width != IMAGE_SIDE || p.height != IMAGE_SIDE;
        return 0;
}
