/* The server's inside, for server.c and request.c only. */
#pragma once

#include "api/apart.h"
#include "api/connections.h"
#include "api/events.h"
#include "api/kept.h"
#include "api/metrics.h"
#include "api/request.h"

#include <pthread.h>
#include <stdatomic.h>

#define READERS_MAX 16

struct server {
        struct server_settings settings;        /* strings owned */
        struct MHD_Daemon *mhds[LISTENERS_MAX]; /* one a listener */
        int ports[LISTENERS_MAX];
        struct tls *tls; /* or NULL */
        struct connections *connections;
        struct apart *apart;
        struct events *events;
        struct kept *kept;
        struct access *access;
        struct links *links;
        struct metrics metrics;
        unsigned identity;        /* random: no two servers give requests the same ids */
        atomic_ullong n_requests; /* that were named here */
        bool stopping;            /* with request.c's lock: nothing may wait for the daemon any more */

        pthread_mutex_t lock; /* of what follows */
        pthread_cond_t idle;  /* n_handled came to 0 */
        size_t n_handled;     /* requests that a handler has or had, not yet sent */
        size_t held_bytes;    /* of answers in memory that are not sent yet */
        size_t body_bytes;    /* of bodies, beyond what each may have */
        size_t n_long;        /* long answers on their way */
        size_t n_readers;
        struct reader *readers[READERS_MAX]; /* free ones */
};

/* Counts an answer of so many bytes in memory; false when there are too many, of clients that do not read. */
bool server_hold(struct server *s, size_t bytes);
void server_release(struct server *s, size_t bytes);

/* Room for a body of so many bytes in all; false when all of them together have too many. */
bool server_hold_body(struct request *r, size_t bytes);
void request_drop_body(struct request *r);
/* Counts a long answer, or no longer; false when there are too many of clients that read slowly. */
bool server_count_long(struct request *r, bool begins);

/* request_log.c: tells the log, where one is kept, of a request that is over. */
void request_logged(const struct request *r);

int server_take_reader(struct server *s, struct reader **ret, struct error *err);
void server_put_reader(struct server *s, struct reader *reader);
