/* A request: made when its first line has been read, freed when its answer is sent. One thread of the server has it at
 * a time. While the daemon is asked (request_ask .. its done), the connection is suspended and nobody has it.
 *
 * The answer (response, status) is set once, by a handler or by a check before it, and queued when the body is over: a
 * body is always read to its end, or dropped piece by piece, before an answer, since a closed socket with unread bytes
 * in it takes the answer with it. */
#pragma once

#include "api/access.h"
#include "api/problem.h"
#include "api/routes.h"
#include "api/server.h"

#include <microhttpd.h>

struct pending;

#define REQUEST_ID_MAX 64

struct request {
        struct server *server;
        struct MHD_Connection *connection;
        int fd;                              /* its socket, borrowed */
        char request_id[REQUEST_ID_MAX + 1]; /* "" before its headers were read */
        const char *line_target;             /* as it was received, borrowed; its bytes */
        size_t line_target_bytes;
        char method[12], shown[200]; /* and path, as sent but for secrets: for logs; cut to what fits */
        int64_t came_us, sent_bytes; /* monotonic; of the answer's body, without what a stream did not reach */
        bool checked, handled;
        bool must_close; /* where its body ends is in doubt */
        bool is_last;    /* of its connection */

        struct target target; /* undefined when target_error.code */
        struct error target_error;
        const struct route *route;
        bool head;        /* HEAD: a GET whose answer has no body */
        int64_t id;       /* of {id} */
        const char *name; /* of {name}, borrowed from target */

        struct buf body;
        size_t body_held;  /* of the server's budget */
        int64_t body_seen; /* bytes that came, kept or dropped */

        struct asker who;    /* where the route has a role */
        struct audit_row by; /* the same, of what changes something */
        void *kept;          /* a handler's, for its continuation; freed with the request */

        struct reader *reader;
        int64_t stamp;             /* kept_begin's: the store's; 0: its answer is not kept */
        bool waits;                /* the answer says why a job waits, which other things than the store decide */
        unsigned long long causes; /* kept_begin's: of these */
        int64_t read_us;           /* kept_begin's: the time */

        struct MHD_Response *response;
        size_t held_bytes; /* the answer's memory, counted until it is sent */
        bool long_answer;  /* more than a socket takes at once */
        bool counted_long; /* in the server's count of them */
        unsigned status;

        route_handler *apart; /* what a thread of the pool is to do */
        bool worked;          /* it did */
        bool is_long;
        int64_t began_us, looked_us;
        struct request *next_apart;

        bool asked;              /* the daemon, at any time */
        struct pending *pending; /* while it is; with request.c's lock */
        route_handler *then;     /* continues with answer */
        struct control_answer answer;
        struct job_row answer_job; /* what answer.job points to */
        int64_t *answer_left;      /* and answer.left */

        struct errors errs; /* what request_query_* found, or the daemon: answer.errs. The last member, of which only
                               the count is cleared: it is larger than all others together */
};

struct request *request_new(struct server *s, struct MHD_Connection *c, const char *url);
struct request *request_free(struct request *r);
DEFINE_CLEANUP(struct request *, request_free);

/* Its method, and what it is called: by X-Request-Id where that is plain (letters, digits, '.', '-', '_'), so that a
 * proxy's log and ours can be laid side by side; else by us. */
void request_identify(struct request *r, const char *method);

const struct server_settings *request_settings(const struct request *r);
const char *request_header(const struct request *r, const char *name); /* the first of it; NULL: absent */

/* A reader of the store, for the rest of this call of the handler; NULL: the request was answered with a problem. */
struct reader *request_reader(struct request *r);

/* The job of that id, job_row_done by the caller; negative: the request was answered with a problem. */
int request_job(struct request *r, struct reader *reader, int64_t id, struct job_row *ret);

/* Parameters of the query. 1: found and stored; 0: absent; negative: added to r->errs. */
int request_query_int(struct request *r, const char *name, int64_t min, int64_t max, int64_t *ret);
/* The index of the name that is n bytes of s; -1, with an error of that parameter, when there is none. */
int request_choice(struct request *r, const char *param, const char *const *names, const char *s, size_t n);
int request_query_choice(struct request *r, const char *name, const char *const *names, int *ret);
/* Several choices, separated by commas: their bits. */
int request_query_choices(struct request *r, const char *name, const char *const *names, unsigned *ret);
int request_query_text(struct request *r, const char *name, size_t max_bytes, const char **ret);
/* Ids of jobs, separated by commas: each once, max at most. */
int request_query_ids(struct request *r, const char *name, size_t max, int64_t *ret, size_t *ret_n);

/* Adds an id to *n of them, unless it is there; false: there are max. */
bool ids_add(int64_t *ids, size_t *n, size_t max, int64_t id);

/* The rest of the request is heavy: when the handler returns, work continues it on a thread of a small pool, which
 * answers it; there its reader gives up when the client goes or the server ends. is_long: it may take more than a
 * moment, and leaves a thread to those that do not. */
void request_apart(struct request *r, route_handler *work, bool is_long);

/* The body as an object with no other keys than these. false: the request was answered with a problem. An empty body is
 * an empty object where empty_too. *ret is owned. */
bool request_body(struct request *r, const char *const *keys, bool empty_too, json_t **ret);

/* The header Idempotency-Key, where it is there, with the digest of the body. False: answered with a problem. */
bool request_read_key(struct request *r, struct request_key *ret);

/* jobs.c: continuations for what others submit or remove, too: 201 with the new job, and 204. */
route_handler jobs_submitted, answer_removed;

/* Asks the daemon: suspends the connection; `then` runs on a thread of the server when the answer is there. Call
 * control's function with request_done and the pointer that this returns; NULL: answered with a problem. The request is
 * not to be touched after control's function was called. */
struct pending *request_ask(struct request *r, route_handler *then);
control_done request_done;

/* Answers with what a negative control_answer means. */
void request_refused(struct request *r, enum problem for_invalid);

/* Resumes every request that waits for the daemon, as unavailable. Later answers to them are dropped. */
void pending_abandon_all(struct server *s);
