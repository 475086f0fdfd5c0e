/* The one connection of mulunctl to the server's API. */
#pragma once

#include "base/json.h"

#include <stdio.h>

struct client;

int client_new(const char *server, struct client **ret, struct error *err);
struct client *client_free(struct client *c);

struct reply {
        long status;
        struct buf body;     /* followed by a NUL */
        json_t *document;    /* the body's JSON, or NULL */
        int64_t next_offset; /* of a log: X-Log-Next-Offset; -1 without */
};
void reply_done(struct reply *r);

/* method and path ("/v1/jobs?limit=3"; what comes from a user in it is escaped by client_escape) with body (borrowed)
 * or NULL. 0 when the server answered, whatever it said. -ECONNREFUSED when nobody did, err says what to do. */
int client_request(struct client *c, const char *method, const char *path, const json_t *body, struct reply *ret,
                   struct error *err);

/* The same, and a reply that is no success is an error too: -EREMOTEIO, the problem's title and details in text, which
 * may have several lines. text is appended to. */
int client_expect(struct client *c, const char *method, const char *path, const json_t *body, struct reply *ret,
                  struct buf *text);

/* GETs path and writes the answer to a file as it comes, without a limit of time or size. A reply that is no success is
 * an error as above, and nothing is written. */
int client_download(struct client *c, const char *path, FILE *to, struct buf *text);

/* Percent-encoded; the caller frees with free(). NULL without memory. */
char *client_escape(const char *s);

DEFINE_CLEANUP(struct client *, client_free);
