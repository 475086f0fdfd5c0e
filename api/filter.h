/* Which jobs a list shows, or an action is done with, and in which order: of a query, or of a body's "filter". */
#pragma once

#include "api/request.h"

#define FILTER_IDS_MAX 500

struct filter {
        struct job_filter of; /* with borrowed texts: of the request, and of what is below */
        struct job_sorting sorting;
        char path[128]; /* sorting's, and what is behind a cursor */
        struct sort_key behind;
        char *ids, *config; /* owned */
};
void filter_done(struct filter *f);

/* state, kind, tag, text, id, config, checkpoint_job; order or sort; cursor. Errors are added to r->errs. */
void filter_from_query(struct request *r, struct filter *ret);
/* The same of an object, at the pointer /filter, without order and cursor: {"state": ["failed"], "id": [3, 5],
 * "config": "seed=3", ..}. Nothing at all is no filter: who means all jobs says all states. Borrows from it. */
void filter_from_json(const json_t *filter, struct filter *ret, struct errors *errs);

/* Whether it may have to look at many jobs to find few. */
bool filter_may_walk(const struct request *r);

/* What a cursor says of the last row of a page: an id; in the queue's order priority and id; of a sorted list the
 * place.
 */
json_t *filter_next(const struct filter *f, int64_t id, int64_t priority, const struct sort_key *last);
