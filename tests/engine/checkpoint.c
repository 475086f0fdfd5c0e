/* A checkpoint comes back bit by bit or not at all: cut, altered and wrong files are refused before the first value is
 * handed over, and a write that fails leaves the old file and nothing else.
 *
 *   test-checkpoint --write PATH   writes the small model's file, for checkpoint_file.py
 *   test-checkpoint --read PATH    exit status 0 when PATH holds that model's values at step 1000 */
#include "engine/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <cmocka.h>

#define ALL ((1u << SECTION_N) - 1)

static struct param small_items[] = {
        {.name = "a/kernel", .n_dims = 4, .shape = {1, 3, 2, 1}, .size = 6, .offset = 0, .decayed = true},
        {.name = "a/bias", .n_dims = 1, .shape = {5}, .size = 5, .offset = 32},
        {.name = "w", .n_dims = 2, .shape = {2, 2}, .size = 4, .offset = 16, .decayed = true},
};
static const struct params small = {.n = 3, .items = small_items, .n_values = 48, .n_parameters = 15};

/* larger than a piece, by one value */
static struct param large_items[] = {
        {.name = "b", .n_dims = 1, .shape = {1}, .size = 1, .offset = 2097168},
        {.name = "k", .n_dims = 1, .shape = {2097153}, .size = 2097153, .offset = 0, .decayed = true},
};
static const struct params large = {.n = 2, .items = large_items, .n_values = 2097184, .n_parameters = 2097154};

static char folder[64], path[96];
static struct config config;

/* Values in memory as a device has them. Reading in pieces, at most max_piece seen; fails at call fail_at. */
struct memory {
        uint32_t *values[SECTION_N];
        int64_t n_values, max_piece, calls, fail_at;
};

static uint32_t bits(int s, int64_t i)
{
        uint32_t x = (uint32_t)(s + 1) * 2654435761u ^ (uint32_t)i * 2246822519u;

        x = (x ^ x >> 15) * 2654435761u;
        return x ^ x >> 13; /* NaNs with payload, infinities and denormals included */
}

static int take_call(struct memory *m, int64_t n, struct error *err)
{
        m->max_piece = MAX(m->max_piece, n);
        return ++m->calls == m->fail_at ? error_set(err, -ENODEV, "device", "lost") : 0;
}

static int memory_read(void *user, enum section s, int64_t offset, int64_t n, float *ret, struct error *err)
{
        struct memory *m = user;

        assert_true(offset >= 0 && n > 0 && offset + n <= m->n_values);
        memcpy(ret, m->values[s] + offset, (size_t)n * 4);
        return take_call(m, n, err);
}

static int memory_write(void *user, enum section s, int64_t offset, int64_t n, const float *values, struct error *err)
{
        struct memory *m = user;

        assert_true(offset >= 0 && n > 0 && offset + n <= m->n_values);
        memcpy(m->values[s] + offset, values, (size_t)n * 4);
        return take_call(m, n, err);
}

static void memory_init(struct memory *m, struct checkpoint_io *io, const struct params *p, bool filled)
{
        *m = (struct memory){.n_values = p->n_values};
        for (int s = 0; s < SECTION_N; s++) {
                m->values[s] = calloc((size_t)p->n_values, 4);
                for (size_t k = 0; k < p->n && filled; k++)
                        for (int64_t i = p->items[k].offset; i < p->items[k].offset + p->items[k].size; i++)
                                m->values[s][i] = bits(s, i);
        }
        *io = (struct checkpoint_io){m, memory_read, memory_write};
}

static void memory_done(struct memory *m)
{
        for (int s = 0; s < SECTION_N; s++)
                free(m->values[s]);
}

static bool equal(const struct memory *a, const struct memory *b, unsigned sections)
{
        for (int s = 0; s < SECTION_N; s++)
                if (sections >> s & 1 && memcmp(a->values[s], b->values[s], (size_t)a->n_values * 4))
                        return false;
        return true;
}

static int set_up(void **state _unused_)
{
        strcpy(folder, "/tmp/mulund-checkpoint.XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        (void)snprintf(path, sizeof path, "%s/step-1000.safetensors", folder);
        config_defaults(&config);
        return 0;
}

static int tear_down(void **state _unused_)
{
        return file_remove_tree(folder, NULL);
}

static void write_model(const struct params *p, char digest[DIGEST_SIZE])
{
        _cleanup_(memory_done) struct memory m;
        struct checkpoint_io io;
        struct error err = {0};

        memory_init(&m, &io, p, true);
        assert_int_equal(checkpoint_write(path, p, &config, 1000, NULL, &io, digest, NULL, &err), 0);
}

static void put(const void *data, size_t size)
{
        assert_int_equal(file_write_atomic(path, data, size, NULL, NULL), 0);
}

/* Reads path with the small model. Whatever is refused hands over nothing and leaves the step alone. */
static int try_read(const char *digest, bool *ret_equal, struct error *err)
{
        _cleanup_(memory_done) struct memory m, expected;
        struct checkpoint_io io;
        int64_t step = -7;
        int r;

        memory_init(&expected, &io, &small, true);
        memory_init(&m, &io, &small, false);
        r = checkpoint_read(path, digest, &small, ALL, &io, &step, NULL, err);
        if (r < 0) {
                assert_int_equal(m.calls, 0);
                assert_int_equal(step, -7);
        }
        *ret_equal = equal(&m, &expected, ALL);
        return r;
}

static void assert_refused(const char *digest, const char *text)
{
        struct error err = {0};
        bool same;

        assert_int_equal(try_read(digest, &same, &err), -EBADMSG);
        assert_string_equal(err.path, path);
        if (!strstr(err.text, text))
                fail_msg("\"%s\" lacks \"%s\"", err.text, text);
}

static void round_trip_is_bit_identical(void **state _unused_)
{
        const struct params *models[] = {&small, &large};

        for (size_t i = 0; i < ARRAY_LEN(models); i++) {
                _cleanup_(memory_done) struct memory a, b;
                struct checkpoint_io io;
                char digest[DIGEST_SIZE], on_disk[DIGEST_SIZE];
                int64_t bytes, on_disk_bytes, step = 0;

                memory_init(&a, &io, models[i], true);
                assert_int_equal(checkpoint_write(path, models[i], &config, INT64_MAX, NULL, &io, digest, &bytes, NULL),
                                 0);
                assert_in_range(a.max_piece, 1, 1 << 20);
                assert_int_equal(file_digest(path, on_disk, &on_disk_bytes, NULL), 0);
                assert_string_equal(digest, on_disk);
                assert_int_equal(bytes, on_disk_bytes);
                assert_int_equal((bytes - 16 * models[i]->n_parameters) % 64, 0);
                for (unsigned sections = 0; sections <= ALL; sections++) {
                        memory_init(&b, &io, models[i], false);
                        assert_int_equal(checkpoint_read(path, sections & 1 ? digest : "", models[i], sections, &io,
                                                         &step, NULL, NULL),
                                         0);
                        assert_true(equal(&a, &b, sections));
                        for (int s = 0; s < SECTION_N; s++)
                                if (!(sections >> s & 1))
                                        assert_int_equal(b.values[s][models[i]->items[0].offset], 0);
                        assert_int_equal(step, INT64_MAX);
                        assert_in_range(b.max_piece, 0, 1 << 20);
                        if (sections < ALL)
                                memory_done(&b);
                }
        }
}

static void every_cut_is_refused(void **state _unused_)
{
        char digest[DIGEST_SIZE];
        struct stat st;

        write_model(&small, digest);
        assert_int_equal(stat(path, &st), 0);
        for (off_t size = st.st_size - 1; size >= 0; size--) {
                assert_int_equal(truncate(path, size), 0);
                assert_refused("", "");
                assert_refused(digest, "");
        }
}

static void longer_is_refused(void **state _unused_)
{
        struct stat st;
        char digest[DIGEST_SIZE];

        write_model(&small, digest);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, st.st_size + 1), 0);
        assert_refused("", "bytes of data, expected 240");
        assert_refused(digest, "XXH128");
}

/* With the digest every altered byte is refused; without it, what is not refused reads the same values. */
static void every_altered_byte_is_refused_or_equal(void **state _unused_)
{
        _cleanup_(buf_done) struct buf whole = BUF_INIT(1 << 20);
        static const uint8_t masks[] = {1, 32, 255};
        char digest[DIGEST_SIZE];
        size_t data_start, n_refused = 0;
        int fd;

        write_model(&small, digest);
        assert_int_equal(file_read(path, &whole, NULL), 0);
        data_start = whole.size - 240;
        fd = open(path, O_RDWR);
        for (size_t i = 0; i < whole.size; i++)
                for (size_t k = 0; k < ARRAY_LEN(masks); k++) {
                        char byte = (char)(whole.data[i] ^ masks[k]);
                        struct error err;
                        bool same;

                        assert_int_equal(pwrite(fd, &byte, 1, (off_t)i), 1);
                        if (i < data_start) {
                                int r = try_read("", &same, &err);

                                assert_true(r == 0 || r == -EBADMSG);
                                assert_true(r < 0 || same);
                                n_refused += r < 0;
                        }
                        if (k == 0)
                                assert_refused(digest, "XXH128");
                        assert_int_equal(pwrite(fd, whole.data + i, 1, (off_t)i), 1);
                }
        (void)close(fd);
        assert_true(n_refused > 500);
        assert_int_equal(try_read(digest, &(bool){false}, NULL), 0);
}

static void another_digest_is_refused(void **state _unused_)
{
        char digest[DIGEST_SIZE];

        write_model(&small, digest);
        assert_refused("00000000000000000000000000000000", digest);
        assert_refused("x", "expected x");
}

/* A header text with the small model's 240 bytes of data behind it. */
static void put_header(const char *text, uint64_t size, size_t data_bytes)
{
        size_t n = strlen(text);
        char *file = calloc(1, 8 + n + data_bytes + 1);

        memcpy(file, &size, 8);
        memcpy(file + 8, text, n);
        for (size_t i = 0; i < data_bytes; i++)
                file[8 + n + i] = (char)i;
        put(file, 8 + n + data_bytes);
        free(file);
}

static char *good_header(void)
{
        struct buf whole = BUF_INIT(1 << 20);
        char digest[DIGEST_SIZE], *text;

        write_model(&small, digest);
        assert_int_equal(file_read(path, &whole, NULL), 0);
        text = strndup(whole.data + 8, whole.size - 240 - 8);
        buf_done(&whole);
        return text;
}

static void wrong_headers_are_refused(void **state _unused_)
{
        static const struct {
                const char *from, *to, *text;
        } rows[] = {
                {"\"dtype\":\"F32\"", "\"dtype\":\"BF16\"", "params/a/kernel has dtype \"BF16\", expected F32"},
                {"\"dtype\":\"F32\"", "\"dtype\":7", "dtype"},
                {"\"dtype\":\"F32\",", "", "dtype \"\""},
                {"[1,3,2,1]", "[3,1,2,1]", "params/a/kernel has shape [3,1,2,1], expected [1,3,2,1]"},
                {"[1,3,2,1]", "[1,3,2]", "shape"},
                {"[1,3,2,1]", "[]", "shape"},
                {"[1,3,2,1]", "6", "shape"},
                {"[1,3,2,1]", "[1,3,2,1.0]", "shape"},
                {"\"shape\":[1,3,2,1],", "", "shape"},
                {"[0,24]", "[4,28]", "leave a gap"},
                {"[0,24]", "[24,0]", "data_offsets"},
                {"[0,24]", "[-24,0]", "data_offsets"},
                {"[0,24]", "[0,23]", "data_offsets"},
                {"[0,24]", "[0]", "data_offsets"},
                {"[0,24]", "[0,24,0]", "data_offsets"},
                {"[0,24]", "[\"0\",24]", "data_offsets"},
                {"[0,24]", "[240,264]", "the file is cut"},
                {"[0,24]", "[9223372036854775784,9223372036854775807]", "data_offsets"},
                {"[0,24]", "[9223372036854775783,9223372036854775807]", "the file is cut"},
                {"[0,24]", "[0,18446744073709551640]", "not JSON"},
                {"[24,44]", "[0,20]", "overlap"},
                {"params/a/bias", "params/a/bia", "has no tensor params/a/bias"},
                {"ema/w", "params/w", "not JSON"}, /* twice */
                {"\"ema/w\":", "\"ema/x\":{},\"ema/w\":", "has a tensor ema/x, which the model has not"},
                {"\"ema/w\":", "\"ema/\\u001b[1m\\u00e9\":{},\"ema/w\":", "has a tensor ema/?[1m??"},
                {"\"ema/w\":", "\"ema/w\\u0000\":{},\"ema/w\":", "not JSON"},
                {"\"ema/w\":", "\"ema/w\":{},\"x\":", "ema/w"},
                {"{\"dtype\"", "{\"extra\":1,\"dtype\"", "extra"},
                {"\"mulund-1\"", "\"mulund-2\"", "its format is \"mulund-2\""},
                {"\"step\":\"1000\"", "\"step\":\"-1\"", "step"},
                {"\"step\":\"1000\"", "\"step\":\"1e3\"", "step"},
                {"\"step\":\"1000\"", "\"step\":\"01\"", "step"},
                {"\"step\":\"1000\"", "\"step\":\"\"", "step"},
                {"\"step\":\"1000\"", "\"step\":\"9223372036854775808\"", "step"},
                {"\"step\":\"1000\"", "\"step\":1000", "step"},
                {"\"step\":\"1000\",", "", "step"},
                {"\"__metadata__\"", "\"__metadatb__\"", "__metadata__"},
                {"\"__metadata__\":{", "\"__metadata__\":{\"more\":\"\",", "more"},
                {"{\"__metadata__\"", "[\"__metadata__\"", "not JSON"},
        };
        _cleanup_(freep) char *good = good_header();

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                const char *at = strstr(good, rows[i].from);
                char *text;

                assert_non_null(at);
                assert_true(asprintf(&text, "%.*s%s%s", (int)(at - good), good, rows[i].to, at + strlen(rows[i].from)) >
                            0);
                put_header(text, strlen(text), 240);
                assert_refused("", rows[i].text);
                free(text);
        }
        put_header(good, strlen(good), 240);
        assert_int_equal(try_read("", &(bool){false}, NULL), 0);
}

static void wrong_header_sizes_are_refused(void **state _unused_)
{
        _cleanup_(freep) char *good = good_header(), *spaces = NULL;
        static const uint64_t sizes[] = {(uint64_t)1 << 63, UINT64_MAX, (uint64_t)INT64_MAX, (uint64_t)1 << 32,
                                         UINT64_MAX - 7};
        const size_t much = (size_t)8 << 20;

        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                put_header(good, sizes[i], 240);
                assert_refused("", "its header should have");
        }
        put_header(good, 0, 240);
        assert_refused("", "not JSON");
        put_header("[]", 2, 240);
        assert_refused("", "not a JSON object");
        put_header("{}", 2, 0);
        assert_refused("", "__metadata__");
        spaces = malloc(much + 1);
        memset(spaces, ' ', much);
        spaces[much] = 0;
        memcpy(spaces, good, strlen(good));
        put_header(spaces, much, 240);
        assert_refused("", "expected at most");
        memset(spaces, '[', much);
        spaces[1 << 20] = 0;
        put_header(spaces, 1 << 20, 240);
        assert_refused("", "not JSON");
        put_header("{\"a\":1}", 10, 3); /* takes in a NUL */
        assert_refused("", "NUL");
}

static void what_cannot_be_opened_is_named(void **state _unused_)
{
        struct error err = {0};
        bool same;

        assert_int_equal(try_read("", &same, &err), -ENOENT);
        assert_string_equal(err.path, path);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_refused("", "not a regular file");
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(mkfifo(path, 0700), 0);
        assert_refused("", "not a regular file");
}

static void another_model_is_refused(void **state _unused_)
{
        char digest[DIGEST_SIZE];

        write_model(&large, digest);
        assert_refused(digest, "has no tensor params/a/kernel");
}

static void failures_of_the_device_end_it(void **state _unused_)
{
        _cleanup_(memory_done) struct memory m;
        struct checkpoint_io io;
        struct error err = {0};
        char digest[DIGEST_SIZE];
        int64_t step = -1;

        write_model(&small, digest);
        memory_init(&m, &io, &small, true);
        for (m.fail_at = 1; m.fail_at <= 12; m.fail_at++) {
                m.calls = 0;
                assert_int_equal(checkpoint_write(path, &small, &config, 1, NULL, &io, NULL, NULL, &err), -ENODEV);
                assert_string_equal(err.text, "lost");
                m.calls = 0;
                assert_int_equal(checkpoint_read(path, digest, &small, ALL, &io, &step, NULL, &err), -ENODEV);
                assert_int_equal(m.calls, m.fail_at);
        }
        assert_int_equal(step, -1);
}

/* A file size limit stands for a full disk, at every 40th byte of the file. */
static void a_full_disk_leaves_the_old_file_and_no_other(void **state _unused_)
{
        _cleanup_(memory_done) struct memory m;
        struct checkpoint_io io;
        char before[DIGEST_SIZE], after[DIGEST_SIZE];
        struct rlimit old, limit;
        struct error err = {0};
        int64_t bytes;

        write_model(&small, before);
        assert_int_equal(file_digest(path, after, &bytes, NULL), 0);
        memory_init(&m, &io, &small, false);
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        for (int64_t size = 0; size < bytes; size += 40) {
                int r;

                limit = (struct rlimit){(rlim_t)size, old.rlim_max};
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
                r = checkpoint_write(path, &small, &config, 2000, NULL, &io, NULL, NULL, &err);
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
                assert_int_equal(r, -EFBIG);
        }
        assert_int_equal(file_digest(path, after, NULL, NULL), 0);
        assert_string_equal(before, after);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0);
        assert_int_equal(mkdir(folder, 0700), 0);
}

static int write_for_python(const char *to)
{
        (void)snprintf(path, sizeof path, "%s", to);
        config_defaults(&config);
        write_model(&small, (char[DIGEST_SIZE]){0});
        return 0;
}

static int read_for_python(const char *from)
{
        _cleanup_(memory_done) struct memory m, expected;
        struct checkpoint_io io;
        struct error err = {0};
        int64_t step = 0;

        memory_init(&expected, &io, &small, true);
        memory_init(&m, &io, &small, false);
        if (checkpoint_read(from, "", &small, ALL, &io, &step, NULL, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                return 1;
        }
        return equal(&m, &expected, ALL) && step == 1000 ? 0 : 2;
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(round_trip_is_bit_identical),
                T(every_cut_is_refused),
                T(longer_is_refused),
                T(every_altered_byte_is_refused_or_equal),
                T(another_digest_is_refused),
                T(wrong_headers_are_refused),
                T(wrong_header_sizes_are_refused),
                T(what_cannot_be_opened_is_named),
                T(another_model_is_refused),
                T(failures_of_the_device_end_it),
                T(a_full_disk_leaves_the_old_file_and_no_other),
        };

        if (argc == 3)
                return strcmp(argv[1], "--write") ? read_for_python(argv[2]) : write_for_python(argv[2]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
