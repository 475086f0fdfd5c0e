/* A grid comes back from libpng pixel by pixel; a failure leaves what was there. */
#include "engine/grid.h"

#include "engine/dataset.h"

#include <errno.h>
#include <limits.h>
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

static char folder[64], path[96];

static int set_up(void **state _unused_)
{
        strcpy(folder, "/tmp/mulund-grid.XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        (void)snprintf(path, sizeof path, "%s/grid.png", folder);
        return 0;
}

static int tear_down(void **state _unused_)
{
        return file_remove_tree(folder, NULL);
}

static uint8_t *random_images(int64_t n)
{
        uint8_t *images = malloc((size_t)n * IMAGE_BYTES);
        uint32_t x = 12345;

        for (int64_t i = 0; i < n * IMAGE_BYTES; i++)
                images[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
        return images;
}

static void grid_reads_back(void **state _unused_)
{
        static const struct {
                int64_t n, columns, width, height;
        } rows[] = {{1, 1, 32, 32},  {1, 8, 32, 32},    {5, 8, 168, 32}, {8, 8, 270, 32},
                    {9, 8, 270, 66}, {64, 8, 270, 270}, {7, 3, 100, 100}};

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                uint8_t *images = random_images(rows[i].n), *pixels;
                char digest[DIGEST_SIZE], on_disk[DIGEST_SIZE];
                int64_t bytes, on_disk_bytes;
                png_image png = {.version = PNG_IMAGE_VERSION};

                assert_int_equal(grid_write_png(path, images, rows[i].n, rows[i].columns, digest, &bytes, NULL), 0);
                assert_int_equal(file_digest(path, on_disk, &on_disk_bytes, NULL), 0);
                assert_string_equal(digest, on_disk);
                assert_int_equal(bytes, on_disk_bytes);
                assert_true(png_image_begin_read_from_file(&png, path));
                assert_int_equal(png.format, PNG_FORMAT_RGB);
                assert_int_equal(png.width, rows[i].width);
                assert_int_equal(png.height, rows[i].height);
                pixels = malloc(PNG_IMAGE_SIZE(png));
                assert_true(png_image_finish_read(&png, NULL, pixels, 0, NULL));
                for (int64_t y = 0; y < rows[i].height; y++)
                        for (int64_t x = 0; x < rows[i].width; x++)
                                for (int64_t c = 0; c < 3; c++) {
                                        int64_t columns = MIN(rows[i].n, rows[i].columns);
                                        int64_t k = y / 34 * columns + x / 34, h = y % 34, w = x % 34;
                                        bool inside = h < 32 && w < 32 && k < rows[i].n;

                                        assert_int_equal(pixels[(y * rows[i].width + x) * 3 + c],
                                                         inside ? images[k * IMAGE_BYTES + (h * 32 + w) * 3 + c] : 255);
                                }
                free(pixels);
                free(images);
        }
}

static void impossible_grids_are_refused(void **state _unused_)
{
        static const int64_t rows[][2] = {{0, 1},        {-1, 1}, {1, 0}, {1, -1}, {30000, 1}, {INT64_MAX, INT64_MAX},
                                          {INT64_MAX, 1}};
        uint8_t image[IMAGE_BYTES] = {0};
        struct error err;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                assert_int_equal(grid_write_png(path, image, rows[i][0], rows[i][1], NULL, NULL, &err), -EINVAL);
                assert_string_equal(err.path, path);
        }
        assert_int_equal(access(path, F_OK), -1);
}

static void failure_leaves_what_was_there(void **state _unused_)
{
        uint8_t image[IMAGE_BYTES] = {0};
        char before[DIGEST_SIZE], after[DIGEST_SIZE], missing[128];

        assert_int_equal(grid_write_png(path, image, 1, 1, before, NULL, NULL), 0);
        (void)snprintf(missing, sizeof missing, "%s/no/folder.png", folder);
        assert_int_equal(grid_write_png(missing, image, 1, 1, NULL, NULL, NULL), -ENOENT);
        assert_int_equal(grid_write_png(path, image, 0, 1, NULL, NULL, NULL), -EINVAL);
        assert_int_equal(file_digest(path, after, NULL, NULL), 0);
        assert_string_equal(before, after);
        assert_int_equal(rmdir(folder), -1);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0); /* nothing else was left */
        assert_int_equal(mkdir(folder, 0700), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(grid_reads_back),
                T(impossible_grids_are_refused),
                T(failure_leaves_what_was_there),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
