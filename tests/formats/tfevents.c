/* Event files: what is written comes back bit by bit; what other programs wrote is read as it is (foreign.py); all else
 * is refused by record and byte.
 *
 *   test-tfevents --list FILE      a line of JSON a value, then one of the file
 *   test-tfevents --bench FILE     reads it, prints bytes and seconds */
#include "base/clock.h"
#include "base/json.h"
#include "engine/formats/records.h"
#include "engine/formats/tfevents.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char folder[64], path[96];

static int set_up(void **state _unused_)
{
        strcpy(folder, "/tmp/mulund-tfevents.XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        (void)snprintf(path, sizeof path, "%s/events", folder);
        return 0;
}

static int tear_down(void **state _unused_)
{
        return file_remove_tree(folder, NULL);
}

static void put(const struct buf *b)
{
        assert_int_equal(file_write_atomic(path, b->data ? b->data : "", b->size, NULL, NULL), 0);
}

static void put_event(struct buf *b, const void *event, size_t n)
{
        uint8_t head[RECORD_HEAD_BYTES], foot[RECORD_FOOT_BYTES];

        records_frame(event, n, head, foot);
        assert_int_equal(buf_append(b, head, sizeof head, NULL), 0);
        assert_int_equal(buf_append(b, event, n, NULL), 0);
        assert_int_equal(buf_append(b, foot, sizeof foot, NULL), 0);
}

static struct tfevents *open_events(void)
{
        struct tfevents *t = NULL;
        struct error err;

        assert_int_equal(tfevents_open(path, &t, &err), 0);
        return t;
}

static void scalars_come_back_as_they_were(void **state _unused_)
{
        static const double values[] = {0,        -0.0, 1.5,       0.1,      (double)0.1F, 1e300, -1e-310,
                                        INFINITY, NAN,  -INFINITY, 16777217, 0x1p-149,     1e-45, 3.14159};
        _cleanup_(tfevents_closep) struct tfevents *t = NULL;
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 20);
        struct tfevents_value v;

        assert_int_equal(tfevents_put_version(&b, 12.5, NULL), 0);
        for (size_t i = 0; i < ARRAY_LEN(values); i++)
                assert_int_equal(tfevents_put_scalar(&b, 1.7e9 + (double)i / 1000, (int64_t)i << 40, "train/bpd é",
                                                     values[i], NULL),
                                 0);
        put(&b);
        t = open_events();
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
                assert_int_equal(tfevents_next(t, &v, NULL), 1);
                assert_int_equal(v.kind, TFEVENTS_SCALAR);
                assert_true(v.step == (int64_t)i << 40 && v.wall == 1.7e9 + (double)i / 1000);
                assert_true(v.tag_bytes == strlen("train/bpd é") && !memcmp(v.tag, "train/bpd é", v.tag_bytes));
                assert_true(isnan(values[i]) ? isnan(v.scalar)
                                             : v.scalar == values[i] && signbit(v.scalar) == signbit(values[i]));
        }
        assert_int_equal(tfevents_next(t, &v, NULL), 0);
        assert_string_equal(tfevents_version(t), "brain.Event:2");
        assert_int_equal(tfevents_events(t), ARRAY_LEN(values) + 1);
        assert_true(tfevents_bytes_done(t) == tfevents_bytes(t) && tfevents_bytes(t) == (int64_t)b.size);
}

static void images_come_back_as_they_were(void **state _unused_)
{
        static const uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\0\7 and so on";
        _cleanup_(tfevents_closep) struct tfevents *t = NULL;
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 20);
        struct tfevents_value v;

        assert_int_equal(tfevents_put_image(&b, 1.5, 300, "samples", png, sizeof png, NULL), 0);
        assert_int_equal(tfevents_put_image(&b, 1.5, 300, "x", png + 1, sizeof png - 1, NULL), -EINVAL);
        assert_int_equal(tfevents_put_image(&b, 1.5, 300, "x", png, 20, NULL), -EINVAL);
        put(&b);
        t = open_events();
        assert_int_equal(tfevents_next(t, &v, NULL), 1);
        assert_true(v.kind == TFEVENTS_IMAGE && v.step == 300 && v.wall == 1.5 && v.image_bytes == sizeof png);
        assert_memory_equal(v.image, png, sizeof png);
        assert_int_equal(tfevents_next(t, &v, NULL), 0);
}

static void every_cut_is_said(void **state _unused_)
{
        _cleanup_(buf_done) struct buf whole = BUF_INIT(1 << 20);
        size_t first;

        assert_int_equal(tfevents_put_version(&whole, 1, NULL), 0);
        first = whole.size;
        assert_int_equal(tfevents_put_scalar(&whole, 1, 2, "a", 0.1, NULL), 0);
        for (size_t n = 0; n < whole.size; n++) {
                _cleanup_(tfevents_closep) struct tfevents *t = NULL;
                struct tfevents_value v;
                struct error err;
                int r;

                assert_int_equal(file_write_atomic(path, whole.data, n, NULL, NULL), 0);
                t = open_events();
                r = tfevents_next(t, &v, &err);
                assert_int_equal(r, n == 0 || n == first ? 0 : -ENODATA);
        }
}

/* Value of a tensor: {dtype, fields..} in event {summary {value {tag "x", tensor}}}, or -1 when it is no scalar. */
#define ROW(bytes, is, value)                                                                                          \
        {                                                                                                              \
                bytes, sizeof(bytes) - 1, is, value                                                                    \
        }
static void tensors_of_one_number_are_scalars(void **state _unused_)
{
        static const struct {
                const char *tensor;
                size_t size;
                bool scalar;
                double value;
        } rows[] = {
                ROW("\x08\x01\x12\x00\x22\x04\x00\x00\x80\x3f", true, 1),
                ROW("\x08\x01\x2a\x04\x00\x00\x80\x3f", true, 1),
                ROW("\x08\x01\x2d\x00\x00\x80\x3f", true, 1),
                ROW("\x2d\x00\x00\x80\x3f\x08\x01", true, 1),
                ROW("\x08\x02\x31\x00\x00\x00\x00\x00\x00\xf0\x3f", true, 1),
                ROW("\x08\x03\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", true, -1),
                ROW("\x08\x03\x3a\x01\x07", true, 7),
                ROW("\x08\x03\x22\x04\xfe\xff\xff\xff", true, -2),
                ROW("\x08\x09\x50\x05", true, 5),
                ROW("\x08\x09\x22\x08\xff\xff\xff\xff\xff\xff\xff\xff", true, -1),
                ROW("\x08\x04\x22\x01\xff", true, 255),
                ROW("\x08\x06\x22\x01\xff", true, -1),
                ROW("\x08\x0a\x58\x01", true, 1),
                ROW("\x08\x13\x68\x80\x78", true, 1),
                ROW("\x08\x0e\x68\x80\x7f", true, 1),
                ROW("\x08\x17\x22\x08\xff\xff\xff\xff\xff\xff\xff\xff", true, 18446744073709551615.0),
                ROW("\x08\x01\x12\x00", true, 0),
                ROW("\x08\x01", false, 0),
                ROW("\x08\x01\x12\x04\x12\x02\x08\x01\x2d\x00\x00\x80\x3f", true, 1),
                ROW("\x08\x01\x12\x04\x12\x02\x08\x02\x2d\x00\x00\x80\x3f", false, 0), /* filled: two of them */
                ROW("\x08\x01\x2a\x08\x00\x00\x80\x3f\x00\x00\x80\x3f", false, 0),
                ROW("\x08\x01\x22\x08\x00\x00\x80\x3f\x00\x00\x80\x3f", false, 0),
                ROW("\x08\x01\x38\x01", false, 0), /* of another type's list */
                ROW("\x08\x07\x42\x01x", false, 0),
                ROW("\x08\x63\x22\x04zzzz", false, 0),
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                _cleanup_(tfevents_closep) struct tfevents *t = NULL;
                _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 16);
                struct tfevents_value v;
                uint8_t event[80] = {0x2a, (uint8_t)(rows[i].size + 7), 0x0a, (uint8_t)(rows[i].size + 5), 0x0a, 1, 'x',
                                     0x42, (uint8_t)rows[i].size};

                memcpy(event + 9, rows[i].tensor, rows[i].size);
                put_event(&b, event, 9 + rows[i].size);
                put(&b);
                t = open_events();
                assert_int_equal(tfevents_next(t, &v, NULL), 1);
                if ((v.kind == TFEVENTS_SCALAR) != rows[i].scalar || (rows[i].scalar && v.scalar != rows[i].value))
                        fail_msg("row %zu: kind %d, %g", i, (int)v.kind, v.scalar);
                assert_int_equal(tfevents_next(t, &v, NULL), 0);
        }
}

static void a_step_behind_the_summary_counts(void **state _unused_)
{
        static const char event[] =
                "\x2a\x0a\x0a\x08\x0a\x01x\x15\x00\x00\x80\x3f\x10\x09\x2a\x0a\x0a\x08\x0a\x01y\x15\x00\x00"
                "\x00\x40\xf8\x07\x01";
        _cleanup_(tfevents_closep) struct tfevents *t = NULL;
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 16);
        struct tfevents_value v;

        put_event(&b, event, sizeof event - 1);
        put(&b);
        t = open_events();
        assert_int_equal(tfevents_next(t, &v, NULL), 1);
        assert_true(v.step == 9 && v.scalar == 1 && v.tag[0] == 'x');
        assert_int_equal(tfevents_next(t, &v, NULL), 1); /* of a second summary */
        assert_true(v.step == 9 && v.scalar == 2 && v.tag[0] == 'y');
        assert_int_equal(tfevents_next(t, &v, NULL), 0);
}

static void what_is_no_event_is_refused(void **state _unused_)
{
#define BYTES(b)                                                                                                       \
        {                                                                                                              \
                b, sizeof(b) - 1                                                                                       \
        }
        static const struct {
                const char *event;
                size_t size;
        } rows[] = {
                BYTES("\x0b"),                                             /* a group */
                BYTES("\x00"),                                             /* field 0 */
                BYTES("\x09\x00"),                                         /* a cut double */
                BYTES("\x10\xff"),                                         /* a cut varint */
                BYTES("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* one of 11 bytes */
                BYTES("\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),     /* a size of 2^64 */
                BYTES("\x2a\x02\x0a\x05"),                                 /* a value longer than its summary */
                BYTES("\x2a\x04\x0a\x02\x42\x01"),                         /* a cut tensor */
                BYTES("\x2a\x06\x0a\x04\x42\x02\x2a\x05"),
                BYTES("\x2a\x08\x0a\x06\x42\x04\x2a\x02\x00\x00"), /* packed floats of 2 bytes */
                BYTES("\x2a\x06\x0a\x04\x4a\x02\x0a\x07"),         /* cut metadata */
                BYTES("\x2a\x06\x0a\x04\x22\x02\x22\x07"),         /* a cut image */
                BYTES("\x2a\x15\x0a\x13\x42\x11\x12\x0f\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12"
                      "\x00"), /* -1 */
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                _cleanup_(tfevents_closep) struct tfevents *t = NULL;
                _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 16);
                struct tfevents_value v;
                struct error err;
                int r;

                assert_int_equal(tfevents_put_version(&b, 1, NULL), 0);
                put_event(&b, rows[i].event, rows[i].size);
                put(&b);
                t = open_events();
                r = tfevents_next(t, &v, &err);
                if (r != -EBADMSG || !strstr(err.text, "record 1, "))
                        fail_msg("row %zu: %d", i, r);
        }
}

/* ---- for foreign.py, and to measure */

static const char *const kinds[] = {"scalar", "image", "other"};

static void print_value(const struct tfevents_value *v)
{
        json_t *o = json_pack("{s:s%, s:s, s:I, s:o, s:o, s:I}", "tag", v->tag, v->tag_bytes, "kind", kinds[v->kind],
                              "step", (json_int_t)v->step, "wall", json_from_real(v->wall), "scalar",
                              json_from_real(v->scalar), "bytes", (json_int_t)v->image_bytes);
        char *text = json_to_text(o);

        (void)printf("%s\n", text);
        free(text);
        json_decref(o);
}

static int read_all(const char *file, bool print)
{
        _cleanup_(tfevents_closep) struct tfevents *t = NULL;
        int64_t start = clock_monotonic_us(), n = 0;
        struct tfevents_value v;
        struct error err;
        int r = tfevents_open(file, &t, &err);

        while (r >= 0 && (r = tfevents_next(t, &v, &err)) > 0) {
                n++;
                if (print)
                        print_value(&v);
        }
        if (r < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                return 1;
        }
        (void)printf("{\"version\": \"%s\", \"events\": %lld, \"values\": %lld, \"bytes\": %lld, \"seconds\": %g}\n",
                     tfevents_version(t), (long long)tfevents_events(t), (long long)n, (long long)tfevents_bytes(t),
                     (double)(clock_monotonic_us() - start) / 1e6);
        return 0;
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(scalars_come_back_as_they_were),
                T(images_come_back_as_they_were),
                T(every_cut_is_said),
                T(tensors_of_one_number_are_scalars),
                T(a_step_behind_the_summary_counts),
                T(what_is_no_event_is_refused),
        };

        if (argc == 3)
                return read_all(argv[2], !strcmp(argv[1], "--list"));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
