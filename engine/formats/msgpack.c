/* The first byte of a token, and what follows it, big endian:
 *
 *   00..7f fixint     80..8f fixmap     90..9f fixarray   a0..bf fixstr     e0..ff negative fixint
 *   c0 nil            c1 never          c2 false          c3 true
 *   c4 c5 c6          bytes, size in 1, 2, 4 bytes        c7 c8 c9          extension, size in 1, 2, 4, then its type
 *   ca cb             float, double                       cc..cf            unsigned of 1, 2, 4, 8 bytes
 *   d0..d3            signed of 1, 2, 4, 8 bytes          d4..d8            extension of 1, 2, 4, 8, 16 bytes, its type
 *   d9 da db          text, size in 1, 2, 4 bytes         dc dd             list, of 2 or 4 bytes  de df  map likewise
 *
 * Why not Debian's msgpack-c: it makes room for the items of a list as soon as it has read their number (a file of five
 * bytes asks for 100 GB), needs a whole object in memory, and its errors do not say where. */
#include "engine/formats/msgpack.h"

#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

const char *const msgpack_type_names[] = {"nil",    "a truth value", "an integer", "an integer above 2^63",
                                          "a real", "a text",        "bytes",      "a list",
                                          "a map",  "an extension"};
static_assert(ARRAY_LEN(msgpack_type_names) == MSGPACK_N_TYPES, "a name a type");

/* ---- reading */

int msgpack_bytes(struct msgpack_reader *r, void *ret, size_t n, struct error *err)
{
        assert((int64_t)n <= r->end - r->at);
        if (r->at < r->window_at || r->at + (int64_t)n > r->window_at + r->window_n) {
                int64_t wanted = MIN((int64_t)sizeof r->window, r->end - r->at);
                int x;

                if (n > sizeof r->window) {
                        x = file_read_at(r->fd, r->path, r->at, ret, n, err);
                        r->at += (int64_t)n;
                        return x;
                }
                r->window_n = 0;
                x = file_read_at(r->fd, r->path, r->at, r->window, (size_t)wanted, err);
                if (x < 0)
                        return x;
                r->window_at = r->at;
                r->window_n = wanted;
        }
        memcpy(ret, r->window + (r->at - r->window_at), n);
        r->at += (int64_t)n;
        return 0;
}

void msgpack_pass(struct msgpack_reader *r, int64_t n)
{
        assert(n >= 0 && n <= r->end - r->at);
        r->at += n;
}

static int cut(const struct msgpack_reader *r, int64_t at, const char *what, struct error *err)
{
        return error_set(err, -EBADMSG, r->path, "byte %" PRId64 ": %s begins here and is cut at byte %" PRId64, at,
                         what, r->end);
}

/* A big-endian number of n bytes; *ret keeps the high bits zero. */
static int number(struct msgpack_reader *r, int64_t token_at, int n, uint64_t *ret, struct error *err)
{
        uint8_t b[8];
        uint64_t v = 0;

        if (r->end - r->at < n)
                return cut(r, token_at, "a token", err);
        int x = msgpack_bytes(r, b, (size_t)n, err);

        for (int i = 0; i < n && x >= 0; i++)
                v = v << 8 | b[i];
        *ret = v;
        return x;
}

static int read_real(struct msgpack_reader *r, struct msgpack_token *t, int n, struct error *err)
{
        uint64_t bits = 0;
        int x = number(r, t->at, n, &bits, err);
        uint32_t low = (uint32_t)bits;
        float single;

        t->type = MSGPACK_REAL;
        if (n == 8) {
                memcpy(&t->real, &bits, sizeof t->real);
        } else {
                memcpy(&single, &low, sizeof single);
                t->real = single;
        }
        return x;
}

static int read_integer(struct msgpack_reader *r, struct msgpack_token *t, int n, bool is_signed, struct error *err)
{
        uint64_t bits = 0;
        int x = number(r, t->at, n, &bits, err), shift = 64 - 8 * n;

        t->integer = is_signed ? (int64_t)(bits << shift) >> shift : (int64_t)bits;
        t->type = !is_signed && bits > INT64_MAX ? MSGPACK_UINT : MSGPACK_INT;
        return x;
}

/* A size of n bytes. */
static int read_size(struct msgpack_reader *r, struct msgpack_token *t, enum msgpack_type type, int n,
                     struct error *err)
{
        uint64_t size = 0;
        int x = number(r, t->at, n, &size, err);

        t->type = type;
        t->size = (int64_t)size;
        return x;
}

static int read_ext(struct msgpack_reader *r, struct msgpack_token *t, struct error *err)
{
        uint64_t type = 0;
        int x = number(r, t->at, 1, &type, err);

        t->type = MSGPACK_EXT;
        t->ext = (int8_t)type;
        return x;
}

static int read_named(struct msgpack_reader *r, struct msgpack_token *t, unsigned first, struct error *err)
{
        int x;

        switch (first) {
        case 0xc0:
                t->type = MSGPACK_NIL;
                return 0;
        case 0xc2 ... 0xc3:
                t->type = MSGPACK_BOOL;
                t->integer = first == 0xc3;
                return 0;
        case 0xc4 ... 0xc6:
                return read_size(r, t, MSGPACK_BYTES, 1 << (first - 0xc4), err);
        case 0xc7 ... 0xc9:
                x = read_size(r, t, MSGPACK_EXT, 1 << (first - 0xc7), err);
                return x < 0 ? x : read_ext(r, t, err);
        case 0xca ... 0xcb:
                return read_real(r, t, 4 << (first - 0xca), err);
        case 0xcc ... 0xcf:
                return read_integer(r, t, 1 << (first - 0xcc), false, err);
        case 0xd0 ... 0xd3:
                return read_integer(r, t, 1 << (first - 0xd0), true, err);
        case 0xd4 ... 0xd8:
                t->size = 1 << (first - 0xd4);
                return read_ext(r, t, err);
        case 0xd9 ... 0xdb:
                return read_size(r, t, MSGPACK_TEXT, 1 << (first - 0xd9), err);
        case 0xdc ... 0xdd:
                return read_size(r, t, MSGPACK_LIST, 2 << (first - 0xdc), err);
        case 0xde ... 0xdf:
                return read_size(r, t, MSGPACK_MAP, 2 << (first - 0xde), err);
        default:
                return error_set(err, -EBADMSG, r->path, "byte %" PRId64 ": no token begins with %02x", t->at, first);
        }
}

static int read_token(struct msgpack_reader *r, struct msgpack_token *t, unsigned first, struct error *err)
{
        if (first < 0x80 || first >= 0xe0) {
                t->type = MSGPACK_INT;
                t->integer = (int8_t)first;
        } else if (first < 0x90) {
                t->type = MSGPACK_MAP;
                t->size = first & 15;
        } else if (first < 0xa0) {
                t->type = MSGPACK_LIST;
                t->size = first & 15;
        } else if (first < 0xc0) {
                t->type = MSGPACK_TEXT;
                t->size = first & 31;
        } else {
                return read_named(r, t, first, err);
        }
        return 0;
}

int msgpack_next(struct msgpack_reader *r, struct msgpack_token *ret, struct error *err)
{
        uint64_t first = 0;
        int64_t least;
        int x;

        *ret = (struct msgpack_token){.at = r->at};
        if (r->at >= r->end)
                return error_set(err, -EBADMSG, r->path, "is cut at byte %" PRId64 ": expected a value", r->at);
        x = number(r, ret->at, 1, &first, err);
        if (x >= 0)
                x = read_token(r, ret, (unsigned)first, err);
        if (x < 0)
                return x;
        least = ret->type == MSGPACK_MAP ? 2 * ret->size : ret->size; /* a byte an item at least */
        return least <= r->end - r->at ? 0 : cut(r, ret->at, msgpack_type_names[ret->type], err);
}

/* ---- writing */

static int put(struct buf *b, unsigned first, uint64_t v, int n, struct error *err)
{
        uint8_t bytes[9] = {(uint8_t)first};

        for (int i = 0; i < n; i++)
                bytes[1 + i] = (uint8_t)(v >> 8 * (n - 1 - i));
        return buf_append(b, bytes, (size_t)(1 + n), err);
}

/* The shortest of the forms first, first + 1, first + 2, whose sizes have 1, 2, 4 bytes. */
static int put_size(struct buf *b, unsigned first, uint32_t n, struct error *err)
{
        int form = n < 256 ? 0 : n < 65536 ? 1 : 2;

        return put(b, first + (unsigned)form, n, 1 << form, err);
}

int msgpack_put_int(struct buf *b, int64_t v, struct error *err)
{
        int form = 0;

        if (v >= -32 && v < 128)
                return put(b, (uint8_t)v, 0, 0, err);
        if (v >= 0) {
                while (form < 3 && (uint64_t)v >> (8 << form))
                        form++;
                return put(b, 0xcc + (unsigned)form, (uint64_t)v, 1 << form, err);
        }
        while (form < 3 && v < -((int64_t)1 << ((8 << form) - 1)))
                form++;
        return put(b, 0xd0 + (unsigned)form, (uint64_t)v, 1 << form, err);
}

int msgpack_put_true(struct buf *b, struct error *err)
{
        return put(b, 0xc3, 0, 0, err);
}

int msgpack_put_text(struct buf *b, const char *s, size_t n, struct error *err)
{
        int r = n < 32 ? put(b, 0xa0 | (unsigned)n, 0, 0, err) : put_size(b, 0xd9, (uint32_t)n, err);

        return r < 0 ? r : buf_append(b, s, n, err);
}

int msgpack_put_bytes_head(struct buf *b, uint32_t n, struct error *err)
{
        return put_size(b, 0xc4, n, err);
}

int msgpack_put_list(struct buf *b, uint32_t n, struct error *err)
{
        if (n < 16)
                return put(b, 0x90 | n, 0, 0, err);
        return n < 65536 ? put(b, 0xdc, n, 2, err) : put(b, 0xdd, n, 4, err);
}

int msgpack_put_map(struct buf *b, uint32_t n, struct error *err)
{
        if (n < 16)
                return put(b, 0x80 | n, 0, 0, err);
        return n < 65536 ? put(b, 0xde, n, 2, err) : put(b, 0xdf, n, 4, err);
}

int msgpack_put_ext_head(struct buf *b, int8_t type, uint32_t n, struct error *err)
{
        int r, form = 0;

        while (form < 5 && n != 1u << form)
                form++;
        r = form < 5 ? put(b, 0xd4 + (unsigned)form, 0, 0, err) : put_size(b, 0xc7, n, err);
        return r < 0 ? r : put(b, (uint8_t)type, 0, 0, err);
}
