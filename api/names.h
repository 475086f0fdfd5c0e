/* The query's `names`: series, separated by commas. A name that has a comma in it, or begins with a quote, stands in
 * quotes, as in CSV: names="a, b",train/bpd; a quote in there is doubled. */
#pragma once

#include "api/request.h"

#define NAMES_MAX 50

struct names {
        size_t n; /* each once */
        const char *items[NAMES_MAX];
        char *memory; /* where they lie */
};

/* A list's first item, without its quotes, which lies in the list; *list is then what is behind it, or NULL. NULL: its
 * quotes are not closed, or something stands behind them. */
char *names_take(char **list);

/* 1: read; 0: absent; negative: added to r->errs, and nothing is in *ret. */
int request_query_names(struct request *r, struct names *ret);
void names_done(struct names *n);

/* Which of them that is; -1: none. */
int names_find(const struct names *n, const char *name);
