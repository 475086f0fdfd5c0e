/* Files of flax: what other programs wrote reads as it is, all else is refused by place and offset.
 *
 *   test-flax --export CHECKPOINT FORMAT CHUNK_BYTES TO   for foreign.py: a checkpoint as another program's file
 *   test-flax --list FILE                                  a line a leaf: path, dtype, shape, l2 norm or value */
#include "engine/formats/export.h"
#include "engine/formats/flax.h"
#include "engine/formats/msgpack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char folder[64], path[96];

static int set_up(void **state _unused_)
{
        strcpy(folder, "/tmp/mulund-flax.XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        (void)snprintf(path, sizeof path, "%s/a.flax", folder);
        return 0;
}

static int tear_down(void **state _unused_)
{
        return file_remove_tree(folder, NULL);
}

static void put(const void *data, size_t size)
{
        assert_int_equal(file_write_atomic(path, data, size, NULL, NULL), 0);
}

static void assert_refused(const char *text)
{
        struct flax *f = NULL;
        struct error err = {0};

        assert_int_equal(flax_open(path, &f, &err), -EBADMSG);
        assert_null(f);
        assert_string_equal(err.path, path);
        if (!strstr(err.text, text))
                fail_msg("\"%s\" lacks \"%s\"", err.text, text);
        for (const char *c = err.text; *c; c++)
                assert_in_range(*c, ' ', '~');
}

#define PUT(bytes) put(bytes, sizeof(bytes) - 1)

/* {"a": float32 [1, 2], "b": {"c": 7, "d": nil, "e": [1.5, true]}, "f": bfloat16 [], "g": 1 + 2 i, "h": int64 scalar}
 */
static const char small[] =
        "\x85\xa1"
        "a\xc7\x16\x01\x93\x92\x01\x02\xa7"
        "float32\xc4\x08\x00\x00\x80\x3f\x00\x00\x00\xc0"
        "\xa1"
        "b\x83\xa1"
        "c\x07\xa1"
        "d\xc0\xa1"
        "e\x92\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc3\xa1"
        "f\xc7\x0f\x01\x93\x90\xa8"
        "bfloat16\xc4\x02\x40\xc0\xa1"
        "g\xc7\x13\x02\x92\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xcb\x40\x00\x00\x00\x00\x00\x00\x00\xa1"
        "h\xc7\x12\x03\x93\x90\xa5"
        "int64\xc4\x08\xff\xff\xff\xff\xff\xff\xff\xff";

static void small_file_is_read(void **state _unused_)
{
        _cleanup_(flax_closep) struct flax *f = NULL;
        const struct flax_node *n;
        struct error err = {0};
        char where[64];
        int64_t i = 0;
        float v[2];

        PUT(small);
        if (flax_open(path, &f, &err) < 0)
                fail_msg("%s", err.text);
        n = flax_find(f, f->nodes, "a");
        assert_true(n && flax_is_real(n) && n->n_dims == 2 && n->shape[0] == 1 && n->shape[1] == 2);
        assert_int_equal(flax_reals(f, n, 0, 2, v, &err), 0);
        assert_true(v[0] == 1 && v[1] == -2);
        assert_int_equal(flax_reals(f, n, 1, 1, v, &err), 0);
        assert_true(v[0] == -2);
        assert_int_equal(flax_integer(f, n, &i, &err), -EINVAL);
        assert_int_equal(flax_integer(f, flax_find(f, f->nodes, "b/c"), &i, &err), 0);
        assert_int_equal(i, 7);
        n = flax_find(f, f->nodes, "b/e/1");
        assert_non_null(n);
        flax_path(f, n, where, sizeof where);
        assert_string_equal(where, "/b/e/1");
        n = flax_find(f, f->nodes, "f");
        assert_true(n->n_dims == 0 && n->size == 1 && n->dtype == FLAX_BFLOAT16);
        assert_int_equal(flax_reals(f, n, 0, 1, v, &err), 0);
        assert_true(v[0] == -3);
        assert_int_equal(flax_integer(f, flax_find(f, f->nodes, "h"), &i, &err), 0);
        assert_int_equal(i, -1);
        assert_null(flax_find(f, f->nodes, "b/c/d"));
        assert_null(flax_find(f, f->nodes, "z"));
}

/* Chunks in another order than their numbers', which no writer of flax makes, are put in theirs. */
static void chunks_are_joined_by_their_numbers(void **state _unused_)
{
        static const char file[] = "\x81\xa1"
                                   "a\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x82\xa1"
                                   "1\x01\xa1"
                                   "0\x03\xa6"
                                   "chunks\x82\xa1"
                                   "1\xc7\x11\x01\x93\x91\x01\xa7"
                                   "float32\xc4\x04\x00\x00\x40\x40\xa1"
                                   "0\xc7\x15\x01\x93\x91\x02\xa7"
                                   "float32\xc4\x08\x00\x00\x80\x3f\x00\x00\x00\x40";
        _cleanup_(flax_closep) struct flax *f = NULL;
        const struct flax_node *a;
        struct error err = {0};
        float v[3];

        PUT(file);
        if (flax_open(path, &f, &err) < 0)
                fail_msg("%s", err.text);
        a = flax_find(f, f->nodes, "a");
        assert_true(a && a->n_dims == 2 && a->shape[0] == 3 && a->shape[1] == 1);
        assert_int_equal(flax_reals(f, a, 0, 3, v, &err), 0);
        assert_true(v[0] == 1 && v[1] == 2 && v[2] == 3);
        assert_int_equal(flax_reals(f, a, 1, 2, v, &err), 0);
        assert_true(v[0] == 2 && v[1] == 3);
}

/* One value of each dtype of reals, and where float32 cannot hold it. */
static void reals_of_every_dtype_are_read(void **state _unused_)
{
        static const struct {
                const char *dtype, *bytes;
                size_t size;
                float value;
        } rows[] = {
                {"float16", "\x00\x3c", 2, 1},
                {"float16", "\x01\x00", 2, 0x1p-24f},
                {"float16", "\x00\xfc", 2, -INFINITY},
                {"float16", "\xff\x7b", 2, 65504},
                {"float16", "\x55\xb5", 2, -0.333251953125f},
                {"bfloat16", "\x80\x3f", 2, 1},
                {"float32", "\x00\x00\x80\x3f", 4, 1},
                {"float64", "\x9a\x99\x99\x99\x99\x99\xb9\x3f", 8, 0.1f},
                {"float64", "\x9c\x75\x00\x88\x3c\xe4\x37\x7e", 8, INFINITY},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                _cleanup_(flax_closep) struct flax *f = NULL;
                _cleanup_(buf_done) struct buf b = BUF_INIT(100);
                size_t n = strlen(rows[i].dtype);
                const struct flax_node *a;
                float v = 0;

                assert_int_equal(msgpack_put_map(&b, 1, NULL), 0);
                assert_int_equal(msgpack_put_text(&b, "a", 1, NULL), 0);
                assert_int_equal(msgpack_put_ext_head(&b, 1, (uint32_t)(5 + n + rows[i].size), NULL), 0);
                assert_int_equal(msgpack_put_list(&b, 3, NULL), 0);
                assert_int_equal(msgpack_put_list(&b, 0, NULL), 0);
                assert_int_equal(msgpack_put_text(&b, rows[i].dtype, n, NULL), 0);
                assert_int_equal(msgpack_put_bytes_head(&b, (uint32_t)rows[i].size, NULL), 0);
                assert_int_equal(buf_append(&b, rows[i].bytes, rows[i].size, NULL), 0);
                put(b.data, b.size);
                assert_int_equal(flax_open(path, &f, NULL), 0);
                a = flax_find(f, f->nodes, "a");
                assert_true(a && flax_is_real(a));
                assert_int_equal(flax_reals(f, a, 0, 1, &v, NULL), 0);
                if (v != rows[i].value)
                        fail_msg("row %zu: %g", i, (double)v);
        }
}

static void every_cut_is_refused(void **state _unused_)
{
        for (size_t n = 0; n < sizeof small - 1; n++) {
                put(small, n);
                assert_refused("");
        }
        put(small, sizeof small); /* with the NUL */
        assert_refused("ends here");
}

/* An array's header around a few bytes: {"a": ext type 1 of list, shape, dtype, bytes}. */
static void wrong_files_are_refused(void **state _unused_)
{
#define ROW(bytes, text)                                                                                               \
        {                                                                                                              \
                bytes, sizeof(bytes) - 1, text                                                                         \
        }
        static const struct {
                const char *bytes;
                size_t size;
                const char *text;
        } rows[] = {
                ROW("\x93\x01\x02\x03", "no checkpoint of flax"),
                ROW("\x07", "no checkpoint of flax"),
                ROW("\x81\xa1"
                    "a\xc1",
                    "/a, byte 3: no token begins with c1"),
                ROW("\x81\x07\x07", "a key is an integer"),
                ROW("\x81\xa2"
                    "a\0\x07",
                    "a key holds a NUL"),
                ROW("\x82\xa1"
                    "a\x07\xa1"
                    "a\x08",
                    "/a, byte 6: this key occurs twice"),
                ROW("\x82\xa1"
                    "a\x80\xa1"
                    "a\x08",
                    "twice"),
                ROW("\x81\xa1"
                    "a\xdd\xff\xff\xff\xff\x01",
                    "a list begins here and is cut"),
                ROW("\x81\xa1"
                    "a\xdf\xff\xff\xff\xff\x01",
                    "a map begins here and is cut"),
                ROW("\x81\xa1"
                    "a\xc6\xff\xff\xff\xff\x01",
                    "bytes begins here and is cut"),
                ROW("\x81\xa1"
                    "a\xc9\xff\xff\xff\xff\x01\x01",
                    "an extension begins here and is cut"),
                ROW("\x81\xa1"
                    "a\xd4\x05\x01",
                    "an extension of type 5 is none of flax"),
                ROW("\x81\xa1"
                    "a\xd4\x01\x01",
                    "expected shape, dtype and bytes"),
                ROW("\x81\xa1"
                    "a\xc7\x04\x01\x93\x01\x02\x03",
                    "shape is an integer"),
                ROW("\x81\xa1"
                    "a\xc7\x0d\x01\x93\x91\xff\xa7"
                    "float32\xc4\x00",
                    "shape is none"),
                ROW("\x81\xa1"
                    "a\xc7\x11\x01\x93\x91\x01\xa7"
                    "float33\xc4\x04zzzz",
                    "dtype float33 is not known"),
                ROW("\x81\xa1"
                    "a\xc7\x11\x01\x93\x91\x02\xa7"
                    "float32\xc4\x04zzzz",
                    "/a, byte 17: its values have 4 bytes"),
                ROW("\x81\xa1"
                    "a\xc7\x12\x01\x93\x91\x01\xa7"
                    "float32\xc4\x04zzzzz",
                    "bytes behind its value"),
                ROW("\x81\xa1"
                    "a\xc7\x15\x01\x93\x91\x01\xa7"
                    "float32\xc4\x08zzzzzzzz",
                    "its values have 8 bytes"),
                ROW("\x81\xa1"
                    "a\xc7\x1e\x01\x93\x92\xcf\x40\x00\x00\x00\x00\x00\x00\x00\x10\xa7"
                    "float32\xc4\x08zzzzzzzz",
                    "shape is none"),
                ROW("\x81\xa1"
                    "a\xd5\x02\x92\x01",
                    "a list begins here and is cut"),
                ROW("\x81\xa1"
                    "a\xc7\x03\x02\x92\xc0\xc0",
                    "complex"),
                ROW("\x81\xa1"
                    "a\x81\xb9__msgpack_chunked_array__\xc3",
                    "no shape or no chunks"),
                ROW("\x81\xa1"
                    "a\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x81\xa1"
                    "0\x02\xa6"
                    "chunks\x81\xa1"
                    "0\xc7\x11\x01\x93\x91\x01\xa7"
                    "float32\xc4\x04zzzz",
                    "its chunks hold 1 values, its shape 2"),
                ROW("\x81\xa1"
                    "a\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x81\xa1"
                    "1\x01\xa6"
                    "chunks\x81\xa1"
                    "0\xc7\x11\x01\x93\x91\x01\xa7"
                    "float32\xc4\x04zzzz",
                    "chunked array's shape is none"),
                ROW("\x81\xa1"
                    "a\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x81\xa1"
                    "0\x01\xa6"
                    "chunks\x81\xa1"
                    "1\xc7\x11\x01\x93\x91\x01\xa7"
                    "float32\xc4\x04zzzz",
                    "its chunks are not numbered from 0"),
                ROW("\x81\xa3"
                    "\x1b[m\xc1",
                    "/?[m, byte 5"),
        };
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                put(rows[i].bytes, rows[i].size);
                assert_refused(rows[i].text);
        }
}

static void bombs_are_refused(void **state _unused_)
{
        size_t n = (size_t)1 << 20;
        char *bytes = malloc(n);

        for (size_t i = 0; i < n; i += 3)
                memcpy(bytes + i, "\x81\xa1x", MIN((size_t)3, n - i));
        put(bytes, n);
        assert_refused("nested deeper than 64");
        memset(bytes, 0xc0, n);
        memcpy(bytes, "\x81\xa1x\xdd\x00\x0f\xff\xf8", 8);
        put(bytes, n);
        assert_refused("more values than");
        free(bytes);
}

static void what_is_no_file_is_refused(void **state _unused_)
{
        struct flax *f = NULL;
        struct error err;

        assert_int_equal(flax_open("/nonexistent/x", &f, &err), -ENOENT);
        assert_int_equal(flax_open(folder, &f, &err), -EBADMSG);
        assert_int_equal(flax_open("/dev/null", &f, &err), -EBADMSG);
}

/* Every form of every token comes back from what the writer makes of it. */
static void numbers_have_their_shortest_form(void **state _unused_)
{
        static const int64_t values[] = {
                0,  1,   127, 128,  255,  256,    65535,  65536,         4294967295,    4294967296, INT64_MAX,
                -1, -32, -33, -128, -129, -32768, -32769, -2147483648LL, -2147483649LL, INT64_MIN};
        static const size_t sizes[] = {1, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9};
        struct msgpack_reader *r = calloc(1, sizeof *r);
        struct msgpack_token t;

        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
                _cleanup_(buf_done) struct buf b = BUF_INIT(64);

                assert_int_equal(msgpack_put_int(&b, values[i], NULL), 0);
                assert_int_equal(b.size, sizes[i]);
                put(b.data, b.size);
                *r = (struct msgpack_reader){.fd = open(path, O_RDONLY), .path = path, .end = (int64_t)b.size};
                assert_int_equal(msgpack_next(r, &t, NULL), 0);
                assert_true(t.type == MSGPACK_INT && t.integer == values[i] && r->at == r->end);
                (void)close(r->fd);
        }
        free(r);
}

/* ---- for foreign.py */

static double norm(const struct flax *f, const struct flax_node *n)
{
        double sum = 0;
        float v[1000];
        struct error err;

        for (int64_t i = 0, some; i < n->size; i += some) {
                some = MIN(n->size - i, (int64_t)ARRAY_LEN(v));
                if (flax_reals(f, n, i, some, v, &err) < 0)
                        return NAN;
                for (int64_t j = 0; j < some; j++)
                        sum += (double)v[j] * (double)v[j];
        }
        return sqrt(sum);
}

static void print_leaf(const struct flax *f, const struct flax_node *n)
{
        struct error err;
        char where[600];
        int64_t i;

        flax_path(f, n, where, sizeof where);
        (void)printf("%s\t%s\t[", where, n->type == FLAX_ARRAY ? flax_dtype_names[n->dtype] : "value");
        for (int d = 0; d < n->n_dims; d++)
                (void)printf("%s%" PRId64, d ? "," : "", n->shape[d]);
        (void)printf("]\t");
        if (flax_is_real(n))
                (void)printf("%.17g\n", norm(f, n));
        else if (flax_integer(f, n, &i, &err) == 0)
                (void)printf("%" PRId64 "\n", i);
        else
                (void)printf("\n");
}

static int list(const char *file)
{
        _cleanup_(flax_closep) struct flax *f = NULL;
        struct error err;

        if (flax_open(file, &f, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                return 1;
        }
        for (size_t i = 0; i < f->n_nodes; i++)
                if (!f->nodes[i].hidden && (f->nodes[i].type == FLAX_ARRAY || f->nodes[i].type == FLAX_VALUE))
                        print_leaf(f, &f->nodes[i]);
        return 0;
}

static int export_to(char **argv)
{
        _cleanup_(export_closep) struct export *e = NULL;
        _cleanup_(closep) int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
        enum export_format format = 0;
        struct error err;
        FILE *to = fopen(argv[3], "wb");
        char piece[997];

        while (format < EXPORT_N && strcmp(export_format_names[format], argv[1]))
                format++;
        if (!to || export_open(fd, argv[0], format, atoll(argv[2]), &e, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                return 1;
        }
        for (int64_t at = 0, n; at < export_bytes(e); at += n) {
                n = MIN(export_bytes(e) - at, (int64_t)sizeof piece);
                if (export_read(e, at, piece, (size_t)n, &err) < 0 || fwrite(piece, 1, (size_t)n, to) != (size_t)n)
                        return 1;
        }
        return fclose(to) ? 1 : 0;
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(small_file_is_read),
                T(reals_of_every_dtype_are_read),
                T(chunks_are_joined_by_their_numbers),
                T(every_cut_is_refused),
                T(wrong_files_are_refused),
                T(bombs_are_refused),
                T(what_is_no_file_is_refused),
                T(numbers_have_their_shortest_form),
        };

        if (argc == 3 && !strcmp(argv[1], "--list"))
                return list(argv[2]);
        if (argc == 6 && !strcmp(argv[1], "--export"))
                return export_to(argv + 2);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
