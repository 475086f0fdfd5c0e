/* The one connection of mulunctl to the server's API. */
#pragma once

#include "base/json.h"

#include <stdio.h>

struct client;

/* server: a URL, or the path of a Unix socket. token: what it is shown, or NULL. */
int client_new(const char *server, const char *token, struct client **ret, struct error *err);
/* Whether nobody answered the last request. */
bool client_is_alone(const struct client *c);
struct client *client_free(struct client *c);

/* How long an answer may take, from now on; 0: as long as it does. A minute at first. */
void client_set_patience(struct client *c, long seconds);

/* Documents of replies are to be as they came. Else what in their texts would give a terminal orders is replaced. */
void client_set_exact(struct client *c);

struct reply {
        long status;
        struct buf body;     /* followed by a NUL */
        json_t *document;    /* the body's JSON, or NULL */
        int64_t next_offset; /* of a log: X-Log-Next-Offset; -1 without */
};
void reply_done(struct reply *r);

/* method and path ("/v1/jobs?limit=3"; what comes from a user in it is escaped by client_escape) with body (borrowed)
 * or NULL. 0 when the server answered, whatever it said. -ECONNREFUSED when nobody did, or only what stands before it
 * (a proxy's 502, 503, 504); err says what to do. */
int client_request(struct client *c, const char *method, const char *path, const json_t *body, struct reply *ret,
                   struct error *err);

/* The same, and a reply that is no success is an error too: -EREMOTEIO, the problem's title and details in text, which
 * may have several lines; -EAGAIN where the server says that it can be asked again soon. text is appended to. */
int client_expect(struct client *c, const char *method, const char *path, const json_t *body, struct reply *ret,
                  struct buf *text);

/* GETs path and writes the answer to a file as it comes, without a limit of time or size. A reply that is no success is
 * an error as above, and nothing is written; -ECONNREFUSED: no answer, and nothing is written; -EIO: it broke off. */
int client_download(struct client *c, const char *path, FILE *to, struct buf *text);

/* The same to standard output, which tells the offset behind it in ret (a log's), -1 where there was no answer. */
int client_stream(struct client *c, const char *path, int64_t *ret_next, int64_t *ret_bytes, struct buf *text);

/* A file of the server, by HEAD. */
struct file_head {
        char name[256]; /* plain: no folder in it */
        char digest[64];
        int64_t bytes;
};
int client_head(struct client *c, const char *path, struct file_head *ret, struct buf *text);
/* Appends to the local file what it lacks of the server's, telling how far it is. What is there after a failure is a
 * beginning of it. */
int client_continue(struct client *c, const char *path, const struct file_head *head, const char *file,
                    void (*progress)(void *user, int64_t done, int64_t total), void *user, struct buf *text);

/* Percent-encoded; the caller frees with free(). NULL without memory. */
char *client_escape(const char *s);
/* A list of the API's (names of series, values of a configuration): where one has a comma in it, or a quote, it stands
 * in quotes. As above. */
char *client_list(const char *const *items, size_t n);
/* The same, percent-encoded. */
char *client_escape_list(const char *const *items, size_t n);

DEFINE_CLEANUP(struct client *, client_free);
