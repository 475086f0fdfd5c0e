/* Points as bytes: what a chunk and a batch look like in the file. Pure: no SQL, no state but scratch memory. */
#pragma once

#include "store/store.h"

#define CHUNK_POINTS 16384 /* of a chunk that is full */

/* Scratch memory and zstd's contexts, made at first use; of one thread. */
struct codec;
struct codec *codec_new(void); /* NULL without memory */
struct codec *codec_free(struct codec *c);

/* Appends n (1..CHUNK_POINTS) points, steps not descending, to b. Whatever the bits of a value, they come back.
 * -ENOMEM, -E2BIG. */
int chunk_encode(struct codec *c, const struct point *p, size_t n, struct buf *b, struct error *err);
/* ret [CHUNK_POINTS]. -EBADMSG: no such bytes are ever written. */
int chunk_decode(struct codec *c, const void *data, size_t size, struct point *ret, size_t *ret_n, struct error *err);

/* What one event said: rows of the series that are its columns. */
struct batch {
        size_t n_rows, n_columns; /* at most EVENT_ROWS_MAX, EVENT_COLUMNS_MAX */
        const int64_t *step, *time_ms;
        int64_t series[EVENT_COLUMNS_MAX];
        const double *value[EVENT_COLUMNS_MAX];
        void *memory; /* of one that was decoded; owned */
};
int batch_encode(struct codec *c, const struct batch *batch, struct buf *b, struct error *err);
/* only: a series whose columns alone are wanted; 0: all. -EBADMSG. */
int batch_decode(struct codec *c, const void *data, size_t size, int64_t only, struct batch *ret, struct error *err);
void batch_done(struct batch *b);

/* What formats of this folder are made of. A varint has 7 bits a byte, low ones first; a zigzag one has the sign in its
 * lowest bit. Getters answer false at the end of the bytes, or for a number that does not fit. */
struct bytes {
        const uint8_t *p, *end;
};
int put_varint(struct buf *b, uint64_t v, struct error *err);
bool get_varint(struct bytes *in, uint64_t *ret);
int put_byte(struct buf *b, uint8_t v, struct error *err);
bool get_byte(struct bytes *in, uint8_t *ret);
/* 4 bytes where all n have float's precision, else 8; little-endian. */
bool reals_are_floats(const double *v, size_t n);
static inline uint64_t zigzag(int64_t v)
{
        return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}
static inline int64_t unzigzag(uint64_t v)
{
        return (int64_t)(v >> 1 ^ -(v & 1));
}

DEFINE_CLEANUP(struct codec *, codec_free);
