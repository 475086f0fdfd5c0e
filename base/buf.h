/* A growing buffer that knows its ceiling from birth, so that no input can make it eat the machine. */
#pragma once

#include "base/error.h"

struct buf {
        char *data; /* always followed by a NUL when not NULL */
        size_t size;
        size_t capacity;
        size_t ceiling; /* most bytes of data */
};

#define BUF_INIT(max) ((struct buf){.ceiling = (max)})

/* -E2BIG past the ceiling, -ENOMEM; the buffer keeps what it had. */
int buf_append(struct buf *b, const void *data, size_t size, struct error *err);
int buf_printf(struct buf *b, struct error *err, const char *fmt, ...) _printf_(3, 4);

/* Room for size more bytes at data + size (for read(2)); the caller then adds to size itself. */
int buf_reserve(struct buf *b, size_t size, struct error *err);

/* Drops the first n bytes. */
void buf_consume(struct buf *b, size_t n);
void buf_clear(struct buf *b); /* size 0, memory kept */
void buf_done(struct buf *b);  /* memory freed */
