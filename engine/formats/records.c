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

struct records {
        FILE *file;
        size_t max_bytes;
        int64_t bytes, done, count;
        uint8_t *data;
        size_t capacity;
        char path[PATH_MAX];
};

/* Castagnoli's polynomial 0x82f63b78 (bits reversed), four bits at a time. */
static uint32_t crc32c(const uint8_t *data, size_t size)
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
        _cleanup_(closep) int fd = -1;
        struct stat st;

        if (!r)
                return error_set(err, -ENOMEM, path, "no memory to read it");
        if (strlen(path) >= sizeof r->path)
                return error_set(err, -ENAMETOOLONG, path, "the path is too long");
        (void)snprintf(r->path, sizeof r->path, "%s", path);
        /* Not to wait for whoever writes into a FIFO. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EINVAL, path, "is no regular file");
        r->file = fdopen(fd, "r");
        if (!r->file)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        (void)TAKE_FD(fd);
        r->max_bytes = max_bytes;
        r->bytes = st.st_size;
        *ret = TAKE_PTR(r);
        return 0;
}

struct records *records_free(struct records *r)
{
        if (!r)
                return NULL;
        if (r->file)
                (void)fclose(r->file);
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

/* Into ret; what a stream has short of size is the file's end, or that it cannot be read. */
static int read_exactly(const struct records *r, void *ret, size_t size, struct error *err)
{
        if (fread(ret, 1, size, r->file) == size)
                return 0;
        if (ferror(r->file))
                return error_set(err, errno ? -errno : -EIO, r->path, "cannot be read: %s", strerror(errno));
        return cut(r, err);
}

static int make_room(struct records *r, size_t size, struct error *err)
{
        size_t capacity = MAX(size, MIN(2 * r->capacity, r->max_bytes + RECORD_FOOT_BYTES));
        uint8_t *data;

        if (size <= r->capacity)
                return 0;
        data = realloc(r->data, capacity);
        if (!data)
                return bad(r, -ENOMEM, "no memory for it", err);
        r->data = data;
        r->capacity = capacity;
        return 0;
}

static int read_length(const struct records *r, size_t *ret, struct error *err)
{
        uint8_t head[RECORD_HEAD_BYTES];
        uint64_t length;
        int e = read_exactly(r, head, sizeof head, err);

        if (e < 0)
                return e;
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
        size_t size = 0;
        int e;

        if (r->done == r->bytes)
                return 0;
        e = read_length(r, &size, err);
        if (e < 0)
                return e;
        e = make_room(r, size + RECORD_FOOT_BYTES, err);
        if (e < 0)
                return e;
        e = read_exactly(r, r->data, size + RECORD_FOOT_BYTES, err);
        if (e < 0)
                return e;
        if (!crc_matches(r->data + size, r->data, size))
                return bad(r, -EBADMSG, "the checksum of its data does not match", err);
        r->done += (int64_t)(RECORD_HEAD_BYTES + size + RECORD_FOOT_BYTES);
        r->count++;
        *ret_data = r->data;
        *ret_size = size;
        return 1;
}
