/* The server's inside, for server.c and request.c only. */
#pragma once

#include "api/connections.h"
#include "api/request.h"

#include <pthread.h>

#define READERS_MAX 16

struct server {
        struct server_settings settings; /* strings owned */
        struct MHD_Daemon *mhd;
        struct connections *connections;
        int port;
        bool stopping; /* with request.c's lock: nothing may wait for the daemon any more */

        pthread_mutex_t lock; /* of what follows */
        pthread_cond_t idle;  /* n_handled came to 0 */
        size_t n_handled;     /* requests that a handler has or had, not yet sent */
        size_t held_bytes;    /* of answers in memory that are not sent yet */
        size_t n_readers;
        struct reader *readers[READERS_MAX]; /* free ones */
};

/* Counts an answer of so many bytes in memory; false when there are too many, of clients that do not read. */
bool server_hold(struct server *s, size_t bytes);
void server_release(struct server *s, size_t bytes);

int server_take_reader(struct server *s, struct reader **ret, struct error *err);
void server_put_reader(struct server *s, struct reader *reader);
