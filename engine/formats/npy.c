#include "engine/formats/npy.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAGIC_BYTES 8  /* and version */
#define LENGTH_BYTES 2 /* of what comes behind them */
#define ALIGNMENT 64   /* of the header, so that what follows can be mapped */

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are written as they lie in memory");

static bool begins_char(char c)
{
        return ((unsigned char)c & 0xc0) != 0x80;
}

size_t npy_chars(const char *utf8)
{
        size_t n = 0;

        for (; *utf8; utf8++)
                n += begins_char(*utf8);
        return n;
}

int npy_put_header(struct buf *b, size_t name_chars, int64_t n_points, struct error *err)
{
        char header[4 * ALIGNMENT] = "\x93NUMPY\x01";
        const size_t before = MAGIC_BYTES + LENGTH_BYTES;
        size_t n = before, size;

        n += (size_t)snprintf(header + n, sizeof header - n,
                              "{'descr': [('series', '<U%zu'), ('step', '<i8'), ('time_ms', '<i8'), ('value', '<f8')], "
                              "'fortran_order': False, 'shape': (%" PRId64 ",), }",
                              name_chars, n_points);
        size = (n + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        assert(size <= sizeof header);
        memset(header + n, ' ', size - n);
        header[size - 1] = '\n';
        header[MAGIC_BYTES] = (char)((size - before) & 0xff);
        header[MAGIC_BYTES + 1] = (char)((size - before) >> 8);
        return buf_append(b, header, size, err);
}

/* Of valid UTF-8. */
static uint32_t decode_char(const char **utf8)
{
        unsigned char first = (unsigned char)*(*utf8)++;
        uint32_t c = first < 0x80 ? first : first < 0xe0 ? first & 0x1f : first < 0xf0 ? first & 0x0f : first & 0x07;

        while (**utf8 && !begins_char(**utf8))
                c = c << 6 | ((unsigned char)*(*utf8)++ & 0x3f);
        return c;
}

void npy_name_init(struct npy_name *n, const char *utf8, size_t name_chars)
{
        assert(name_chars <= NPY_NAME_CHARS_MAX);
        *n = (struct npy_name){.bytes = name_chars * sizeof *n->chars};
        for (size_t i = 0; i < name_chars && *utf8; i++)
                n->chars[i] = decode_char(&utf8);
}

int npy_put_point(struct buf *b, const struct npy_name *n, int64_t step, int64_t time_ms, double value,
                  struct error *err)
{
        const int64_t place[] = {step, time_ms};
        char record[sizeof n->chars + sizeof place + sizeof value];

        memcpy(record, n->chars, n->bytes);
        memcpy(record + n->bytes, place, sizeof place);
        memcpy(record + n->bytes + sizeof place, &value, sizeof value);
        return buf_append(b, record, n->bytes + sizeof place + sizeof value, err);
}
