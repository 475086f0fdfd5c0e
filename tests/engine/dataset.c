/* What must hold of data sets: images come out as the files hold them, what is not a data set is refused with the file
 * and the reason, and the order of training is a permutation in every epoch. */
#include "engine/dataset.h"
#include "kernels/philox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <cmocka.h>

#define RECORD 3073

static char folder[] = "/tmp/mulund-dataset.XXXXXX";

static int set_up(void **state _unused_)
{
        strcpy(folder, "/tmp/mulund-dataset.XXXXXX");
        return mkdtemp(folder) && chmod(folder, 0755) == 0 ? 0 : -1;
}

static int tear_down(void **state _unused_)
{
        return file_remove_tree(folder, NULL);
}

static const char *in_folder(const char *name)
{
        static char path[PATH_MAX];

        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        return path;
}

/* Byte b of plane k of image i of a file with this tag. */
static uint8_t value(int tag, int64_t i, int k, int b)
{
        return (uint8_t)(tag * 101 + i * 31 + k * 67 + b * 7 + b / 32);
}

static void write_file(const char *name, int tag, int64_t n_images, int64_t bytes)
{
        uint8_t *data = calloc(1, (size_t)(n_images + 1) * RECORD);

        for (int64_t i = 0; i < n_images; i++) {
                data[i * RECORD] = 255;
                for (int k = 0; k < 3; k++)
                        for (int b = 0; b < 1024; b++)
                                data[i * RECORD + 1 + k * 1024 + b] = value(tag, i, k, b);
        }
        assert_int_equal(
                file_write_atomic(in_folder(name), data, (size_t)(bytes < 0 ? n_images * RECORD : bytes), NULL, NULL),
                0);
        free(data);
}

static void assert_image(const struct dataset *d, enum split split, int64_t index, int tag, int64_t i)
{
        uint8_t image[IMAGE_BYTES];

        dataset_image(d, split, index, image);
        for (int h = 0; h < 32; h++)
                for (int w = 0; w < 32; w++)
                        for (int c = 0; c < 3; c++)
                                assert_int_equal(image[(32 * h + w) * 3 + c], value(tag, i, c, 32 * h + w));
}

static void images_come_in_numeric_order_of_the_files(void **state _unused_)
{
        _cleanup_(dataset_freep) struct dataset *d = NULL;

        write_file("data_batch_10.bin", 10, 1, -1);
        write_file("data_batch_2.bin", 2, 3, -1);
        write_file("data_batch_1.bin", 1, 2, -1);
        write_file("test_batch.bin", 77, 2, -1);
        write_file("batches.meta.txt", 0, 0, 7);
        assert_int_equal(dataset_open(folder, &d, NULL), 0);
        assert_string_equal(dataset_format(d), "cifar10");
        assert_int_equal(dataset_count(d, SPLIT_TRAIN), 6);
        assert_int_equal(dataset_count(d, SPLIT_TEST), 2);
        assert_image(d, SPLIT_TRAIN, 0, 1, 0);
        assert_image(d, SPLIT_TRAIN, 1, 1, 1);
        assert_image(d, SPLIT_TRAIN, 2, 2, 0);
        assert_image(d, SPLIT_TRAIN, 4, 2, 2);
        assert_image(d, SPLIT_TRAIN, 5, 10, 0);
        assert_image(d, SPLIT_TEST, 0, 77, 0);
        assert_image(d, SPLIT_TEST, 1, 77, 1);
}

static void digest_follows_names_sizes_and_contents(void **state _unused_)
{
        char first[DIGEST_SIZE] = "", again[DIGEST_SIZE] = "", other[DIGEST_SIZE] = "";
        struct dataset *d = NULL;

        write_file("data_batch_1.bin", 1, 2, -1);
        write_file("test_batch.bin", 9, 1, -1);
        for (int i = 0; i < 5; i++) {
                struct error err = {0};
                char *ret = i == 0 ? first : i == 4 ? again : other;

                if (i == 1)
                        write_file("data_batch_1.bin", 2, 2, -1);
                if (i == 2)
                        write_file("data_batch_1.bin", 1, 1, -1);
                if (i == 3) {
                        write_file("data_batch_1.bin", 1, 2, -1);
                        assert_int_equal(rename(in_folder("data_batch_1.bin"),
                                                strcat(strcpy((char[64]){0}, folder), "/data_batch_3.bin")),
                                         0);
                }
                if (i == 4) {
                        assert_int_equal(unlink(in_folder("data_batch_3.bin")), 0);
                        write_file("data_batch_1.bin", 1, 2, -1);
                }
                assert_int_equal(dataset_open(folder, &d, &err), 0);
                assert_int_equal(dataset_digest(d, ret, &err), 0);
                assert_int_equal(strlen(ret), 32);
                if (i > 0 && i < 4)
                        assert_string_not_equal(first, other);
                d = dataset_free(d);
        }
        assert_string_equal(first, again);
}

static void digest_tells_that_a_file_shrank(void **state _unused_)
{
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        struct error err = {0};
        char digest[DIGEST_SIZE] = "untouched";

        write_file("data_batch_1.bin", 1, 2, -1);
        write_file("test_batch.bin", 9, 1, -1);
        assert_int_equal(dataset_open(folder, &d, &err), 0);
        assert_int_equal(truncate(in_folder("data_batch_1.bin"), RECORD), 0);
        assert_int_equal(dataset_digest(d, digest, &err), -EBADMSG);
        assert_string_equal(err.path, in_folder("data_batch_1.bin"));
        assert_string_equal(digest, "untouched");
}

static void assert_refused(int code, const char *name, const char *text)
{
        struct dataset *d = NULL;
        struct error err = {0};

        assert_int_equal(dataset_open(folder, &d, &err), code);
        assert_null(d);
        assert_string_equal(err.path, name[0] ? in_folder(name) : folder);
        if (!strstr(err.text, text))
                fail_msg("\"%s\" lacks \"%s\"", err.text, text);
}

static void what_is_missing_is_named(void **state _unused_)
{
        struct dataset *d = NULL;
        struct error err = {0};

        assert_refused(-ENOENT, "", "data_batch_1.bin");
        write_file("data_batch_1.bin", 1, 1, -1);
        assert_refused(-ENOENT, "test_batch.bin", "is missing");
        assert_int_equal(unlink(in_folder("data_batch_1.bin")), 0);
        write_file("test_batch.bin", 1, 1, -1);
        assert_refused(-ENOENT, "data_batch_1.bin", "is missing");
        assert_int_equal(dataset_open("/nowhere/at/all", &d, &err), -ENOENT);
        assert_string_equal(err.path, "/nowhere/at/all");
        assert_int_equal(dataset_open(in_folder("test_batch.bin"), &d, &err), -ENOTDIR);
}

static void cut_files_are_refused_with_their_size(void **state _unused_)
{
        static const struct {
                int64_t bytes;
                const char *text;
        } rows[] = {{3072, "3072 bytes"},
                    {1, "1 bytes"},
                    {3074, "3074 bytes"},
                    {2 * RECORD - 1, "6145 bytes"},
                    {0, "is empty"}};

        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                for (int test = 0; test < 2; test++) {
                        const char *name = test ? "test_batch.bin" : "data_batch_2.bin";

                        write_file("data_batch_1.bin", 1, 1, -1);
                        write_file("data_batch_2.bin", 1, 1, -1);
                        write_file("test_batch.bin", 1, 1, -1);
                        write_file(name, 1, 2, rows[i].bytes);
                        assert_refused(-EBADMSG, name, rows[i].text);
                        assert_refused(-EBADMSG, name, "3073");
                }
}

static void what_is_not_a_file_is_refused(void **state _unused_)
{
        write_file("data_batch_1.bin", 1, 1, -1);
        write_file("test_batch.bin", 1, 1, -1);
        assert_int_equal(mkdir(in_folder("data_batch_2.bin"), 0755), 0);
        assert_refused(-EBADMSG, "data_batch_2.bin", "is a folder");
        assert_int_equal(rmdir(in_folder("data_batch_2.bin")), 0);
        assert_int_equal(mkfifo(in_folder("data_batch_2.bin"), 0644), 0);
        assert_refused(-EBADMSG, "data_batch_2.bin", "not a regular file");
        assert_int_equal(unlink(in_folder("data_batch_2.bin")), 0);
        assert_int_equal(symlink("nothing", in_folder("data_batch_2.bin")), 0);
        assert_refused(-ENOENT, "data_batch_2.bin", "cannot be opened");
        assert_int_equal(unlink(in_folder("data_batch_2.bin")), 0);
        write_file("data_batch_copy.bin", 1, 1, -1);
        assert_refused(-EBADMSG, "data_batch_copy.bin", "without a number");
}

static void unreadable_files_are_named(void **state _unused_)
{
        write_file("data_batch_1.bin", 1, 1, -1);
        write_file("test_batch.bin", 1, 1, -1);
        assert_int_equal(chmod(in_folder("data_batch_1.bin"), 0), 0);
        (void)setfsuid(65534); /* root reads everything */
        assert_refused(-EACCES, "data_batch_1.bin", "cannot be opened");
        (void)setfsuid(geteuid());
        assert_int_equal(chmod(folder, 0), 0);
        (void)setfsuid(65534);
        assert_refused(-EACCES, "", "cannot be opened");
        (void)setfsuid(geteuid());
        assert_int_equal(chmod(folder, 0755), 0);
}

static void every_epoch_is_a_permutation(void **state _unused_)
{
        static const int64_t counts[] = {1, 2, 3, 4, 5, 7, 16, 17, 50, 7415, 50000};
        static const uint32_t seeds[] = {0, 1, UINT32_MAX};

        for (size_t i = 0; i < ARRAY_LEN(counts); i++)
                for (size_t s = 0; s < ARRAY_LEN(seeds); s++)
                        for (int64_t epoch = 0; epoch < 3; epoch++) {
                                uint8_t *seen = calloc(1, (size_t)counts[i]);

                                for (int64_t k = 0; k < counts[i]; k++) {
                                        int64_t at =
                                                (int64_t)philox_permutation(counts[i], seeds[s], epoch * counts[i] + k);

                                        assert_in_range(at, 0, counts[i] - 1);
                                        assert_int_equal(seen[at]++, 0);
                                }
                                free(seen);
                        }
}

/* Of two permutations of n, about one place agrees on average, whatever n: more than 20 has odds below 1e-18. */
static void epochs_and_seeds_differ(void **state _unused_)
{
        const int64_t n = 50000;
        int next_epoch = 0, next_seed = 0, itself = 0;

        for (int64_t k = 0; k < n; k++) {
                int64_t at = (int64_t)philox_permutation(n, 1, k);

                next_epoch += at == (int64_t)philox_permutation(n, 1, n + k);
                next_seed += at == (int64_t)philox_permutation(n, 2, k);
                itself += at == k;
        }
        assert_in_range(next_epoch, 0, 20);
        assert_in_range(next_seed, 0, 20);
        assert_in_range(itself, 0, 20);
}

/* Where each of 7 images stands in 14,000 epochs: 2,000 times at each place, within 6 standard deviations (41). And of
 * 2 images, both orders: 7,000 each within 6 x 59. */
static void orders_of_few_images_are_fair(void **state _unused_)
{
        int places[7][7] = {{0}}, swapped = 0;

        for (int64_t epoch = 0; epoch < 14000; epoch++) {
                for (int64_t k = 0; k < 7; k++)
                        places[k][(int64_t)philox_permutation(7, 5, 7 * epoch + k)]++;
                swapped += (int64_t)philox_permutation(2, 5, 2 * epoch) == 1;
        }
        for (int k = 0; k < 7; k++)
                for (int i = 0; i < 7; i++)
                        assert_in_range(places[k][i], 2000 - 248, 2000 + 248);
        assert_in_range(swapped, 7000 - 354, 7000 + 354);
}

/* Runs that resume on another release must meet the same images: these come from another program (Python) and stand. */
static void the_order_never_changes(void **state _unused_)
{
        static const int64_t expected[] = {9772, 3124, 31175, 6045, 18057, 5564, 24200, 27790, 21379, 19591};

        for (size_t k = 0; k < ARRAY_LEN(expected); k++)
                assert_int_equal((int64_t)philox_permutation(50000, 1, 49996 + (int64_t)k), expected[k]);
        assert_in_range((int64_t)philox_permutation(INT64_MAX, 1, INT64_MAX), 0, INT64_MAX - 1);
}

static void the_real_cifar10_opens(void **state _unused_)
{
        /* the first training image, a frog, as every viewer shows it: pixels (0, 0), (0, 1) and (31, 31) */
        static const uint8_t first[] = {59, 62, 63, 43, 46, 45}, last[] = {123, 92, 72};
        _cleanup_(dataset_freep) struct dataset *d = NULL;
        const char *shared = getenv("MULUND_SHARED");
        char path[PATH_MAX], digest[DIGEST_SIZE];
        uint8_t image[IMAGE_BYTES];

        (void)snprintf(path, sizeof path, "%s/data/cifar10/cifar-10-batches-bin", shared ? shared : SHARED);
        if (access(path, R_OK) < 0) {
                print_message("skipped: no %s\n", path);
                skip();
        }
        assert_int_equal(dataset_open(path, &d, NULL), 0);
        assert_int_equal(dataset_count(d, SPLIT_TRAIN), 50000);
        assert_in_range(dataset_count(d, SPLIT_TEST), 1000, 10000);
        dataset_image(d, SPLIT_TRAIN, 0, image);
        assert_memory_equal(image, first, sizeof first);
        assert_memory_equal(image + IMAGE_BYTES - 3, last, sizeof last);
        dataset_image(d, SPLIT_TRAIN, 49999, image);
        assert_int_equal(dataset_digest(d, digest, NULL), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(images_come_in_numeric_order_of_the_files),
                T(digest_follows_names_sizes_and_contents),
                T(digest_tells_that_a_file_shrank),
                T(what_is_missing_is_named),
                T(cut_files_are_refused_with_their_size),
                T(what_is_not_a_file_is_refused),
                T(unreadable_files_are_named),
                T(every_epoch_is_a_permutation),
                T(epochs_and_seeds_differ),
                T(orders_of_few_images_are_fair),
                T(the_order_never_changes),
                T(the_real_cifar10_opens),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
