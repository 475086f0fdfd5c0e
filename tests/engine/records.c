/* What must hold of record files: what is framed comes back, and a file that is cut or altered at any byte is told as
 * such, with the record and where it begins; nothing is taken on trust from a length. */
#include "base/file.h"
#include "engine/formats/records.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#define MAX_BYTES 4096

static char path[] = "/tmp/mulund-records.XXXXXX";

static int set_up(void **state _unused_)
{
        int fd;

        strcpy(path, "/tmp/mulund-records.XXXXXX");
        fd = mkstemp(path);
        return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state _unused_)
{
        return unlink(path);
}

static void add_record(struct buf *b, const char *data, size_t size)
{
        uint8_t head[RECORD_HEAD_BYTES], foot[RECORD_FOOT_BYTES];

        records_frame((const uint8_t *)data, size, head, foot);
        assert_int_equal(buf_append(b, head, sizeof head, NULL), 0);
        assert_int_equal(buf_append(b, data, size, NULL), 0);
        assert_int_equal(buf_append(b, foot, sizeof foot, NULL), 0);
}

static struct records *open_bytes(const void *data, size_t size)
{
        struct records *r = NULL;

        assert_int_equal(file_write_atomic(path, data, size, NULL, NULL), 0);
        assert_int_equal(records_open(path, MAX_BYTES, &r, NULL), 0);
        return r;
}

/* Records until one fails or the file ends; the last answer. */
static int read_all(struct records *r, struct error *err)
{
        const uint8_t *data;
        size_t size;
        int e;

        while ((e = records_next(r, &data, &size, err)) > 0)
                ;
        return e;
}

/* The check value of CRC-32C is that of "123456789": 0xe3069283. */
static void the_checksum_is_castagnolis(void **state _unused_)
{
        static const uint8_t check[] = "123456789";
        uint8_t head[RECORD_HEAD_BYTES], foot[RECORD_FOOT_BYTES];
        uint32_t crc = 0xe3069283u, masked = (crc >> 15 | crc << 17) + 0xa282ead8u;

        records_frame(check, 9, head, foot);
        for (int i = 0; i < 4; i++)
                assert_int_equal(foot[i], masked >> 8 * i & 255);
        assert_int_equal(head[0], 9);
        for (int i = 1; i < 8; i++)
                assert_int_equal(head[i], 0);
}

static void what_is_framed_comes_back(void **state _unused_)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 20);
        char longest[MAX_BYTES];
        const char *const texts[] = {"a record", "", longest, "the last"};
        const size_t sizes[] = {8, 0, sizeof longest, 8};
        struct records *r;
        const uint8_t *data;
        int64_t done = 0;
        size_t size;

        memset(longest, 0xa5, sizeof longest);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                add_record(&b, texts[i], sizes[i]);
        r = open_bytes(b.data, b.size);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                assert_int_equal(records_next(r, &data, &size, NULL), 1);
                assert_int_equal(size, sizes[i]);
                assert_memory_equal(data, texts[i], size);
                done += (int64_t)size + RECORD_HEAD_BYTES + RECORD_FOOT_BYTES;
                assert_int_equal(records_count(r), i + 1);
                assert_int_equal(records_bytes_done(r), done);
        }
        assert_int_equal(records_next(r, &data, &size, NULL), 0);
        assert_int_equal(records_bytes(r), done);
        r = records_free(r);
}

static void an_empty_file_has_no_records(void **state _unused_)
{
        struct records *r = open_bytes("", 0);

        assert_int_equal(read_all(r, NULL), 0);
        assert_int_equal(records_count(r), 0);
        r = records_free(r);
}

static void a_file_that_is_cut_says_where(void **state _unused_)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 20);
        size_t first;

        add_record(&b, "first", 5);
        first = b.size;
        add_record(&b, "second", 6);
        for (size_t size = 1; size < b.size; size++) {
                struct records *r = open_bytes(b.data, size);
                struct error err = {0};
                char where[128];

                if (size == first) {
                        assert_int_equal(read_all(r, &err), 0);
                } else {
                        assert_int_equal(read_all(r, &err), -ENODATA);
                        (void)snprintf(where, sizeof where, "record %d at byte %zu is cut: the file ends at byte %zu",
                                       size > first, size > first ? first : 0, size);
                        assert_string_equal(err.text, where);
                        assert_string_equal(err.path, path);
                }
                assert_int_equal(records_count(r), size >= first);
                r = records_free(r);
        }
}

static void a_bit_that_changed_is_seen(void **state _unused_)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 20);

        add_record(&b, "one record", 10);
        for (size_t bit = 0; bit < 8 * b.size; bit++) {
                struct records *r;
                struct error err = {0};

                b.data[bit / 8] ^= (char)(1u << bit % 8);
                r = open_bytes(b.data, b.size);
                assert_int_equal(read_all(r, &err), -EBADMSG);
                assert_non_null(strstr(err.text, "record 0 at byte 0: the checksum of its "));
                r = records_free(r);
                b.data[bit / 8] ^= (char)(1u << bit % 8);
        }
}

/* A length whose own checksum is right, of data that are not there or too many. */
static void a_length_is_not_taken_on_trust(void **state _unused_)
{
        static const uint64_t lengths[] = {UINT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 15, (uint64_t)1 << 40, 17};
        char large[MAX_BYTES + 1] = "";
        _cleanup_(buf_done) struct buf b = BUF_INIT(1 << 20);
        struct error err = {0};
        struct records *r;

        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                uint8_t bytes[32] = "", foot[RECORD_FOOT_BYTES];

                for (int k = 0; k < 8; k++)
                        bytes[k] = (uint8_t)(lengths[i] >> 8 * k);
                records_frame(bytes, 8, (uint8_t[RECORD_HEAD_BYTES]){0}, foot);
                memcpy(bytes + 8, foot, sizeof foot);
                r = open_bytes(bytes, sizeof bytes);
                assert_int_equal(read_all(r, &err), -ENODATA);
                r = records_free(r);
        }
        add_record(&b, large, sizeof large);
        r = open_bytes(b.data, b.size);
        assert_int_equal(read_all(r, &err), -E2BIG);
        assert_string_equal(err.text, "record 0 at byte 0 has 4097 bytes, more than 4096");
        r = records_free(r);
}

static void what_is_no_file_is_refused(void **state _unused_)
{
        char fifo[] = "/tmp/mulund-records-fifo.XXXXXX";
        struct records *r = NULL;
        struct error err = {0};

        assert_int_equal(records_open("/tmp", MAX_BYTES, &r, &err), -EINVAL);
        assert_int_equal(records_open("/nowhere/at/all", MAX_BYTES, &r, &err), -ENOENT);
        assert_non_null(mkdtemp(fifo));
        assert_int_equal(rmdir(fifo), 0);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(records_open(fifo, MAX_BYTES, &r, &err), -EINVAL);
        assert_string_equal(err.text, "is no regular file");
        assert_int_equal(unlink(fifo), 0);
        assert_null(r);
}

/* Written by TensorFlow Extended. */
static void a_real_file_is_read(void **state _unused_)
{
        struct records *r = NULL;
        struct error err = {0};

        if (access(SHARED "/data/foreign/tfrecord/tfx_cifar10_train.tfrecord", R_OK) < 0)
                skip(); /* its licence is not known, so that it is not in the repository */
        assert_int_equal(records_open(SHARED "/data/foreign/tfrecord/tfx_cifar10_train.tfrecord", 1 << 20, &r, &err),
                         0);
        assert_int_equal(read_all(r, &err), 0);
        assert_int_equal(records_count(r), 128);
        assert_int_equal(records_bytes_done(r), records_bytes(r));
        r = records_free(r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_checksum_is_castagnolis),  cmocka_unit_test(what_is_framed_comes_back),
                cmocka_unit_test(an_empty_file_has_no_records), cmocka_unit_test(a_file_that_is_cut_says_where),
                cmocka_unit_test(a_bit_that_changed_is_seen),   cmocka_unit_test(a_length_is_not_taken_on_trust),
                cmocka_unit_test(what_is_no_file_is_refused),   cmocka_unit_test(a_real_file_is_read),
        };

        return cmocka_run_group_tests_name("records", tests, set_up, tear_down);
}
