/* The framing of TensorFlow's record files: TFRecords of examples, and TensorBoard's event files. A file is records
 * without header, one behind the other (tensorflow/core/lib/io/record_writer.h):
 *
 *   0      8 bytes  length n of the data, little endian
 *   8      4 bytes  masked CRC-32C of those 8 bytes
 *   12     n bytes  data
 *   12 + n 4 bytes  masked CRC-32C of the data
 *
 * CRC-32C is Castagnoli's (RFC 3720, B.4); masked: rotated right by 15 bits, plus 0xa282ead8. A file without a record
 * is valid. */
#pragma once

#include "base/error.h"

#define RECORD_HEAD_BYTES 12
#define RECORD_FOOT_BYTES 4

struct records;

/* A record of more than max_bytes is refused. As open(2); -EINVAL for what is no regular file. The path is copied. */
int records_open(const char *path, size_t max_bytes, struct records **ret, struct error *err);
struct records *records_free(struct records *r);

/* The next record's data, borrowed until the next call. 1; 0 at the end of the file. -ENODATA: the file ends inside a
 * record (its writer was killed, or still writes; what came before is good). -EBADMSG: a checksum does not match.
 * -E2BIG: more than max_bytes. err names the file and says which record, from 0, and at which byte it begins. */
int records_next(struct records *r, const uint8_t **ret_data, size_t *ret_size, struct error *err);

/* How many were handed out, and how many bytes of the file those and what the file has in all. */
int64_t records_count(const struct records *r);
int64_t records_bytes_done(const struct records *r);
int64_t records_bytes(const struct records *r);

/* What a writer puts before and behind the data. */
void records_frame(const uint8_t *data, size_t size, uint8_t ret_head[RECORD_HEAD_BYTES],
                   uint8_t ret_foot[RECORD_FOOT_BYTES]);

DEFINE_CLEANUP(struct records *, records_free);
