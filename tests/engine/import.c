/* import_dataset for tests/engine/test_import.py, and what Python here cannot make:
 *
 *   test-import read FORMAT SOURCE TEST SHARE OUT    imports ("-": none); a line of JSON, exit 1 where it is refused
 *   test-import cut FILE FORMAT SOURCE TEST SHARE OUT
 *                        the same with FILE cut to every shorter size: the sizes that were accepted, as JSON; exit 2
 *                        where a refusal left a file, or said nothing
 *   test-import jpeg FILE WIDTH HEIGHT COLOURS MODE  an image whose pixel (x, y) is (8 x, 8 y, 128), MODE baseline,
 *                        progressive or arithmetic; 1 colour: 8 x; 4: CMYK
 *   test-import stop N FORMAT SOURCE TEST SHARE OUT  read, whose progress says no from N images on */
#include "engine/import.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

static int64_t stop_at = INT64_MAX;

static int progress(void *user, int64_t done, int64_t all, struct error *err)
{
        int64_t *last = user;

        if (done < *last || (all && all < 1))
                return error_set(err, -EIO, NULL, "progress goes back");
        *last = done;
        return done >= stop_at ? error_set(err, -ECANCELED, NULL, "told to end") : 0;
}

/* argv: FORMAT SOURCE TEST SHARE OUT */
static int import(char **argv, struct import_result *ret, struct error *err)
{
        char scratch[4096];
        int64_t last = 0;
        struct import i = {
                .path = argv[1],
                .test_path = strcmp(argv[2], "-") != 0 ? argv[2] : NULL,
                .format = strcmp(argv[0], "-") != 0 ? argv[0] : NULL,
                .test_share = strtod(argv[3], NULL),
                .scratch = scratch,
                .progress = progress,
                .user = &last,
        };

        (void)snprintf(scratch, sizeof scratch, "%s.scratch", argv[4]);
        return import_dataset(&i, argv[4], ret, err);
}

static int print(json_t *json)
{
        _cleanup_(freep) char *text = json_to_text(json);

        json_decref(json);
        return text && puts(text) >= 0 ? 0 : 2;
}

static int read_one(char **argv)
{
        struct import_result result = {0};
        struct error err = {0};
        int r = import(argv, &result, &err);

        if (r < 0)
                return print(json_pack("{s:i, s:s, s:s}", "code", r, "path", err.path, "error", err.text)) ? 2 : 1;
        return print(json_pack("{s:s, s:I, s:I, s:I, s:s, s:[f,f,f]}", "format", result.format, "train",
                               (json_int_t)result.count[SPLIT_TRAIN], "test", (json_int_t)result.count[SPLIT_TEST],
                               "resized", (json_int_t)result.resized, "digest", result.digest, "mean", result.mean[0],
                               result.mean[1], result.mean[2]));
}

static int cut(const char *file, char **argv)
{
        struct buf b = BUF_INIT((size_t)64 << 20);
        json_t *accepted = json_array();

        if (file_read(file, &b, NULL) < 0)
                return 2;
        for (size_t size = b.size; size-- > 0;) {
                struct import_result result;
                struct error err = {0};

                if (truncate(file, (off_t)size) < 0)
                        return 2;
                (void)unlink(argv[4]);
                if (import(argv, &result, &err) >= 0)
                        (void)json_array_append_new(accepted, json_integer((json_int_t)size));
                else if (!err.text[0] || access(argv[4], F_OK) == 0)
                        return 2;
        }
        buf_done(&b);
        return print(accepted);
}

static int write_jpeg(char **argv)
{
        struct jpeg_compress_struct c;
        struct jpeg_error_mgr errors;
        int width = atoi(argv[1]), height = atoi(argv[2]), colours = atoi(argv[3]);
        uint8_t *row = malloc((size_t)width * 4);
        FILE *f = fopen(argv[0], "wb");

        if (!f || !row)
                return 2;
        c.err = jpeg_std_error(&errors);
        jpeg_create_compress(&c);
        jpeg_stdio_dest(&c, f);
        c.image_width = (JDIMENSION)width;
        c.image_height = (JDIMENSION)height;
        c.input_components = colours;
        c.in_color_space = colours == 1 ? JCS_GRAYSCALE : colours == 3 ? JCS_RGB : JCS_CMYK;
        jpeg_set_defaults(&c);
        jpeg_set_quality(&c, 100, TRUE);
        if (!strcmp(argv[4], "progressive"))
                jpeg_simple_progression(&c);
        c.arith_code = !strcmp(argv[4], "arithmetic");
        jpeg_start_compress(&c, TRUE);
        for (int y = 0; y < height; y++) {
                for (int x = 0; x < width; x++) {
                        const int values[] = {8 * x, 8 * y, 128, 0};

                        for (int k = 0; k < colours; k++)
                                row[colours * x + k] = (uint8_t)values[k];
                }
                (void)jpeg_write_scanlines(&c, &row, 1);
        }
        jpeg_finish_compress(&c);
        jpeg_destroy_compress(&c);
        free(row);
        return fclose(f) == 0 ? 0 : 2;
}

int main(int argc, char **argv)
{
        if (argc == 7 && !strcmp(argv[1], "read"))
                return read_one(argv + 2);
        if (argc == 8 && !strcmp(argv[1], "cut"))
                return cut(argv[2], argv + 3);
        if (argc == 7 && !strcmp(argv[1], "jpeg"))
                return write_jpeg(argv + 2);
        if (argc == 8 && !strcmp(argv[1], "stop")) {
                stop_at = strtoll(argv[2], NULL, 10);
                return read_one(argv + 3);
        }
        return 2;
}
