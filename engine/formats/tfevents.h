/* TensorBoard's event files: records (records.h) of tensorflow.Event, a protocol buffer of wall time, step and a
 * summary, whose values are scalars, images and others under a tag. Read a value at a time without a copy; written so
 * that TensorBoard opens them.
 *
 * Read as scalars: simple values, and tensors of one number of any numeric type, as lists or as tensor_content. Read as
 * images: encoded images, and tensors of strings of the plugin "images" (width, height, then an encoded image each).
 * All else is named and passed over. Unknown fields are skipped, as protocol buffers have it. */
#pragma once

#include "base/buf.h"

enum tfevents_kind { TFEVENTS_SCALAR, TFEVENTS_IMAGE, TFEVENTS_OTHER };

/* Borrowed from the reader until its next call. */
struct tfevents_value {
        enum tfevents_kind kind;
        const char *tag; /* of tag_bytes, not ended, any bytes */
        size_t tag_bytes;
        int64_t step;
        double wall; /* seconds since 1970 */
        double scalar;
        const uint8_t *image; /* as encoded: PNG, but whatever the file says */
        size_t image_bytes;
        int64_t number;   /* of an image in its tensor, from 0 */
        const char *what; /* of what is neither: "a histogram" */
};

struct tfevents;

int tfevents_open(const char *path, struct tfevents **ret, struct error *err);
struct tfevents *tfevents_close(struct tfevents *t);

/* 1: a value; 0: the file is over; -ENODATA: it ends within an event (its writer was killed, or still writes: what came
 * before is good). -EBADMSG: a checksum does not match, or a record is no event: which, and at which byte. */
int tfevents_next(struct tfevents *t, struct tfevents_value *ret, struct error *err);

int64_t tfevents_events(const struct tfevents *t); /* read so far */
int64_t tfevents_bytes_done(const struct tfevents *t);
int64_t tfevents_bytes(const struct tfevents *t);
/* "brain.Event:2", or "" where no event says it. */
const char *tfevents_version(const struct tfevents *t);

/* Appends an event in its record. The first of a file is the version. A value is a simple value, which is all that
 * TensorBoard shows; where float32 does not hold it, the double stands beside it, so that it comes back as it was. */
int tfevents_put_version(struct buf *b, double wall, struct error *err);
int tfevents_put_scalar(struct buf *b, double wall, int64_t step, const char *tag, double value, struct error *err);
/* A PNG file as it is, of at most TFEVENTS_IMAGE_MAX bytes; -EINVAL: it is none. */
#define TFEVENTS_IMAGE_MAX ((size_t)16 << 20)
int tfevents_put_image(struct buf *b, double wall, int64_t step, const char *tag, const uint8_t *png, size_t n,
                       struct error *err);

DEFINE_CLEANUP(struct tfevents *, tfevents_close);
