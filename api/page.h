/* A page of a list, `{NAME: [..], "next": .. or null}`: readers are asked for one row more than it takes, so that next
 * is null on the last one. */
#pragma once

#include "api/request.h"

struct page {
        json_t *items, *next; /* next: the place of the last one */
        int64_t limit;        /* of rows that a reader is asked for: one more than items */
        bool more;
};

/* Of as many items as the query's `limit` says. False: the query was answered with a problem, as it is with one that a
 * handler found in it before. */
bool page_begin(struct request *r, int64_t usual, int64_t most, struct page *ret);
/* Takes both; negative without memory. place: for `after`, of what comes behind it. */
int page_add(struct page *p, json_t *item, json_t *place);
/* Answers with what there is, or with what a reader failed of, and ends the page. */
void page_answer(struct request *r, struct page *p, const char *name, int code, const struct error *err);
