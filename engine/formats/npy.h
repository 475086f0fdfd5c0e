/* NumPy's .npy (numpy.lib.format, version 1.0), written: points of series as an array of records, each
 *
 *   series    n characters of 4 bytes, zeros behind its end   <Un
 *   step      8 bytes                                          <i8
 *   time_ms   8 bytes                                          <i8
 *   value     8 bytes                                          <f8
 *
 * behind a header that says so, and how many there are: that must be known before the first is written. */
#pragma once

#include "base/buf.h"

#define NPY_NAME_CHARS_MAX 200 /* of a series' name */

/* How many characters there are in valid UTF-8. */
size_t npy_chars(const char *utf8);

/* Appends the header of n_points records whose series have at most name_chars characters. */
int npy_put_header(struct buf *b, size_t name_chars, int64_t n_points, struct error *err);

/* A series' name as its records have it: of valid UTF-8, at most NPY_NAME_CHARS_MAX characters. */
struct npy_name {
        size_t bytes; /* of all that name_chars take */
        uint32_t chars[NPY_NAME_CHARS_MAX];
};
void npy_name_init(struct npy_name *n, const char *utf8, size_t name_chars);

int npy_put_point(struct buf *b, const struct npy_name *n, int64_t step, int64_t time_ms, double value,
                  struct error *err);
