/* Answers that stay what they are until something is committed: a job that does not wait, say. Their bytes are kept, by
 * URL and coding, and sent again without asking the store, as long as nothing was committed since they were made, nor
 * is being committed. What says why a job waits depends on devices, the disk and the time, too: it is kept while no
 * cause has changed (struct control), for a fifth of a second. A place is taken by whoever asked last, so memory is
 * bounded (1 MiB). From any thread. */
#pragma once

#include "base/buf.h"

struct kept;
struct request;

int kept_new(struct kept **ret, struct error *err);
struct kept *kept_free(struct kept *k);

/* The answer that a handler is about to read from the store depends on that and the URL alone, or, where it sets
 * r->waits, on what holds jobs up: response_json keeps it. */
void kept_begin(struct request *r);
/* Keeps an answer of status 200, where that was allowed. etag: of its JSON; coding: of the bytes in b, NULL: none. */
void kept_put(struct request *r, const char *etag, const char *coding, const struct buf *b);
/* Answers with what is kept. False: nothing is. */
bool kept_answer(struct request *r);
