/* MessagePack (github.com/msgpack/msgpack, spec.md): a pull parser over a file, a token at a time, and a writer into a
 * buffer. The body of a text, of bytes or of an extension is left where it is: its caller reads or passes over it, so
 * that an array of a gigabyte needs no memory. Nothing is believed before it is seen: a size that the file does not
 * hold is refused at its token, whose offset every error names. */
#pragma once

#include "base/buf.h"

enum msgpack_type {
        MSGPACK_NIL,
        MSGPACK_BOOL,
        MSGPACK_INT,
        MSGPACK_UINT, /* above INT64_MAX */
        MSGPACK_REAL,
        MSGPACK_TEXT,
        MSGPACK_BYTES,
        MSGPACK_LIST,
        MSGPACK_MAP,
        MSGPACK_EXT,
        MSGPACK_N_TYPES
};

/* What it is called in an error: "a map". */
extern const char *const msgpack_type_names[];

struct msgpack_token {
        enum msgpack_type type;
        int ext;         /* of MSGPACK_EXT: its type */
        int64_t integer; /* of BOOL and INT; of UINT its bits */
        double real;
        int64_t size; /* bytes of TEXT, BYTES, EXT; items of LIST; pairs of MAP */
        int64_t at;   /* its first byte in the file; the body begins where the reader stands */
};

#define MSGPACK_WINDOW 65536

/* Filled by the caller: fd (borrowed), path (for errors), at, end, the rest zero. */
struct msgpack_reader {
        int fd;
        const char *path;
        int64_t at, end; /* the next byte; where the file, or the body that is read, ends */
        int64_t window_at, window_n;
        uint8_t window[MSGPACK_WINDOW];
};

/* The next token. -EBADMSG: the bytes are none, or end within it; -EIO and others: the file cannot be read. */
int msgpack_next(struct msgpack_reader *r, struct msgpack_token *ret, struct error *err);
/* n bytes of the body that the reader stands before, which has as many. */
int msgpack_bytes(struct msgpack_reader *r, void *ret, size_t n, struct error *err);
void msgpack_pass(struct msgpack_reader *r, int64_t n);

/* Writing: each the shortest form, as Python's msgpack writes it. The size of a body goes before it: its bytes are
 * appended by the caller. 0, -ENOMEM or -E2BIG (buf.h). */
int msgpack_put_int(struct buf *b, int64_t v, struct error *err);
int msgpack_put_true(struct buf *b, struct error *err);
int msgpack_put_text(struct buf *b, const char *s, size_t n, struct error *err);
int msgpack_put_bytes_head(struct buf *b, uint32_t n, struct error *err);
int msgpack_put_list(struct buf *b, uint32_t n, struct error *err);
int msgpack_put_map(struct buf *b, uint32_t n, struct error *err);
int msgpack_put_ext_head(struct buf *b, int8_t type, uint32_t n, struct error *err);
