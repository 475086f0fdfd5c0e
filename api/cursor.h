/* The cursor of GET /v1/series: what an answer said, so that the next one says only what is new. It is a text,
 *
 *   DIGEST.INDEX-SHIFT-EDGE-BELOW-LAST-VIEW.INDEX-..     numbers in hexadecimal digits
 *
 * with an item for each series that there was. The digest is of the question and of the items, so that neither another
 * question's cursor nor one that was cut is taken. Points are never taken out of a view, only added: as many below an
 * edge as there were are those that there were. Nothing is kept in the server. */
#pragma once

#include "base/buf.h"

#define CURSOR_BYTES_MAX 8192 /* half of a URL: of some 200 series */

struct cursor {
        size_t n, room;
        struct cursor_item {
                uint64_t index; /* of the series in the question; ascending */
                uint64_t shift; /* of its buckets' grid */
                uint64_t edge;  /* where its last bucket begins, a step */
                uint64_t below; /* points before that */
                uint64_t last;  /* and of that bucket */
                uint64_t view;  /* struct curve's */
        } * items;
};
void cursor_done(struct cursor *c);

/* -EINVAL: it is none, or not this question's; -ENOMEM. Nothing is in *ret then. */
int cursor_parse(const char *text, const char *question, struct cursor *ret);
const struct cursor_item *cursor_find(const struct cursor *c, uint64_t index); /* NULL: none */

int cursor_add(struct cursor *c, const struct cursor_item *item); /* -ENOMEM */
/* *ret, of CURSOR_BYTES_MAX: -E2BIG where there are too many; -ENOMEM. */
int cursor_print(const struct cursor *c, const char *question, struct buf *ret);
