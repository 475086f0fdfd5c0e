/* Columns of scalars as bytes: a line that a processor reads as fast as it copies it, which is what a worker of
 * protocol 2 sends and spools. Still a line, so whatever goes by lines (the socket, the spool, a torn end) goes by
 * these.
 *
 *   0x01  STUFFED  '\n'
 *
 * STUFFED is the payload without a byte '\n', by consistent overhead byte stuffing (Cheshire and Baker, 1999): of each
 * block of at most 254 bytes without '\n' first comes a byte that says where the next '\n' would be, itself never '\n'.
 * The payload is little-endian and a multiple of 8 bytes but for its names:
 *
 *   uint64 seq   uint32 n_rows   uint32 n_columns
 *   int64 step[n_rows]   int64 time_ms[n_rows]   double value[n_columns][n_rows]
 *   n_columns names, a NUL after each
 *
 * and valid when its length is exactly that, rows and columns, steps, times and names are what they may be (event.h).
 * Values are bits: what is not finite arrives as it was. */
#pragma once

#include "contract/event.h"

#define PACKED_MARK '\x01' /* no line of JSON begins with it */

/* Appends the line, newline included; -E2BIG: longer than EVENT_LINE_MAX, -EINVAL: an event that a decoder refuses. */
int packed_encode(const struct event *e, struct buf *b, struct error *err);

/* A line without its newline. The event's arrays and names lie in e->packed, which event_done frees. -EINVAL with what
 * is wrong; *ret_seq is its number where that can be told all the same, else 0. */
int packed_decode(const char *line, size_t size, struct event *ret, int64_t *ret_seq, struct error *err);
