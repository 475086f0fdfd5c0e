/* The format is in records.h. A record's length is believed only after its checksum matched and where the file has that
 * many bytes left, so that memory is never taken for data that are not there. */
#include "engine/formats/records.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define WINDOW ((size_t)1 << 20) /* bytes that are read at once; a longer record takes as many as it has */

struct records {
        int fd;
        size_t max_bytes;
        int64_t bytes, done, count;
        uint8_t *data; /* a window of the file: [at, n) is not handed out yet */
        size_t at, n, capacity;
        char path[PATH_MAX];
};

#ifdef __x86_64__
/* The processor's own instruction: an event of TensorBoard has 50 bytes, and its checksum is most of reading it. */
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(const uint8_t *data, size_t size)
{
        uint64_t crc = UINT32_MAX, word;

        for (; size >= sizeof word; size -= sizeof word, data += sizeof word) {
                memcpy(&word, data, sizeof word);
                crc = __builtin_ia32_crc32di(crc, word);
        }
        for (; size; size--, data++)
                crc = __builtin_ia32_crc32qi((uint32_t)crc, *data);
        return ~(uint32_t)crc;
}
#endif

/* Castagnoli's polynomial 0x82f63b78 (bits reversed), four bits at a time. */
static uint32_t crc32c_table(const uint8_t *data, size_t size)
{
        static const uint32_t table[16] = {
                0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
        };
        uint32_t crc = UINT32_MAX;

        for (size_t i = 0; i < size; i++) {
                crc ^= data[i];
                crc = table[crc & 15] ^ crc >> 4;
                crc = table[crc & 15] ^ crc >> 4;
        }
        return ~crc;
}

static uint32_t crc32c(const uint8_t *data, size_t size)
{
#ifdef __x86_64__
        if (__builtin_cpu_supports("sse4.2"))
                return crc32c_sse42(data, size);
#endif
        return crc32c_table(data, size);
}

static uint32_t masked_crc(const uint8_t *data, size_t size)
{
        uint32_t crc = crc32c(data, size);

        return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void put_crc(uint8_t ret[4], const uint8_t *data, size_t size)
{
        uint32_t crc = htole32(masked_crc(data, size));

        memcpy(ret, &crc, sizeof crc);
}

static bool crc_matches(const uint8_t stored[4], const uint8_t *data, size_t size)
{
        uint8_t expected[4];

        put_crc(expected, data, size);
        return !memcmp(stored, expected, sizeof expected);
}

void records_frame(const uint8_t *data, size_t size, uint8_t ret_head[RECORD_HEAD_BYTES],
                   uint8_t ret_foot[RECORD_FOOT_BYTES])
{
        uint64_t length = htole64(size);

        memcpy(ret_head, &length, sizeof length);
        put_crc(ret_head + sizeof length, ret_head, sizeof length);
        put_crc(ret_foot, data, size);
}

int records_open(const char *path, size_t max_bytes, struct records **ret, struct error *err)
{
        _cleanup_(records_freep) struct records *r = calloc(1, sizeof *r);
        struct stat st;

        if (!r)
                return error_set(err, -ENOMEM, path, "no memory to read it");
        r->fd = -1;
        if (strlen(path) >= sizeof r->path)
                return error_set(err, -ENAMETOOLONG, path, "the path is too long");
        memcpy(r->path, path, strlen(path) + 1);
        /* Not to wait for whoever writes into a FIFO. */
        r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (r->fd < 0 || fstat(r->fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EINVAL, path, "is no regular file");
        r->max_bytes = max_bytes;
        r->bytes = st.st_size;
        *ret = TAKE_PTR(r);
        return 0;
}

struct records *records_free(struct records *r)
{
        if (!r)
                return NULL;
        closep(&r->fd);
        free(r->data);
        free(r);
        return NULL;
}

int64_t records_count(const struct records *r)
{
        return r->count;
}

int64_t records_bytes_done(const struct records *r)
{
        return r->done;
}

int64_t records_bytes(const struct records *r)
{
        return r->bytes;
}

static int bad(const struct records *r, int code, const char *what, struct error *err)
{
        return error_set(err, code, r->path, "record %lld at byte %lld: %s", (long long)r->count, (long long)r->done,
                         what);
}

static int cut(const struct records *r, struct error *err)
{
        return error_set(err, -ENODATA, r->path, "record %lld at byte %lld is cut: the file ends at byte %lld",
                         (long long)r->count, (long long)r->done, (long long)r->bytes);
}

/* Room for `size` bytes from what is not handed out yet, which moves to the window's start. */
static int make_room(struct records *r, size_t size, struct error *err)
{
        size_t capacity = MAX(size, (size_t)MIN((int64_t)WINDOW, r->bytes - r->done)); /* no more than there is */
        uint8_t *data = r->data;

        if (r->at < r->n)
                memmove(r->data, r->data + r->at, r->n - r->at);
        r->n -= r->at;
        r->at = 0;
        if (capacity <= r->capacity)
                return 0;
        data = realloc(r->data, capacity);
        if (!data)
                return bad(r, -ENOMEM, "no memory for it", err);
        r->data = data;
        r->capacity = capacity;
        return 0;
}

/* So many bytes at data + at; what the file has short of them is its end. */
static int fill(struct records *r, size_t size, struct error *err)
{
        int e = size <= r->n - r->at ? 0 : make_room(r, size, err);

        while (e >= 0 && r->n - r->at < size) {
                ssize_t n = read(r->fd, r->data + r->n, r->capacity - r->n);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, r->path, "cannot be read: %s", strerror(errno));
                if (n == 0)
                        return cut(r, err);
                r->n += (size_t)n;
        }
        return e;
}

static int read_length(struct records *r, size_t *ret, struct error *err)
{
        const uint8_t *head;
        uint64_t length;
        int e = fill(r, RECORD_HEAD_BYTES, err);

        if (e < 0)
                return e;
        head = r->data + r->at;
        if (!r->done && head[0] == 0x1f && head[1] == 0x8b)
                return bad(r, -EBADMSG, "begins as gzip's files do: unpack it first", err);
        if (!crc_matches(head + sizeof length, head, sizeof length))
                return bad(r, -EBADMSG, "the checksum of its length does not match: not a TFRecord, or damaged", err);
        memcpy(&length, head, sizeof length);
        length = le64toh(length);
        if (length > (uint64_t)(r->bytes - r->done))
                return cut(r, err);
        if (length > r->max_bytes)
                return error_set(err, -E2BIG, r->path, "record %lld at byte %lld has %llu bytes, more than %zu",
                                 (long long)r->count, (long long)r->done, (unsigned long long)length, r->max_bytes);
        *ret = (size_t)length;
        return 0;
}

int records_next(struct records *r, const uint8_t **ret_data, size_t *ret_size, struct error *err)
{
        const uint8_t *data;
        size_t size = 0;
        int e;

        if (r->done == r->bytes)
                return 0;
        e = read_length(r, &size, err);
        if (e < 0)
                return e;
        e = fill(r, RECORD_HEAD_BYTES + size + RECORD_FOOT_BYTES, err);
        if (e < 0)
                return e;
        data = r->data + r->at + RECORD_HEAD_BYTES;
        if (!crc_matches(data + size, data, size))
                return bad(r, -EBADMSG, "the checksum of its data does not match", err);
        r->at += RECORD_HEAD_BYTES + size + RECORD_FOOT_BYTES;
        r->done += (int64_t)(RECORD_HEAD_BYTES + size + RECORD_FOOT_BYTES);
        r->count++;
        *ret_data = data;
        *ret_size = size;
        return 1;
}
