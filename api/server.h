/* The HTTP server: libmicrohttpd with its own epoll threads, a reader of the store for each. It knows the store's
 * readers and struct control, nothing else of the daemon. */
#pragma once

#include "api/control.h"

#include <netinet/in.h>

struct server;

struct server_settings {
        struct sockaddr_in address; /* loopback; port 0: any free one */
        const char *state_folder;   /* jobs/ID/NAME below it are the artifacts, jobs/ID/log the logs */
        const char *web_folder;     /* static files */
        const char *configs_folder; /* NAME.json templates */
        struct store *store;
        struct control *control;
        int threads;           /* 2 to 4 */
        size_t connections;    /* at most; 0, or more than 512: 512 */
        size_t max_body_bytes; /* a larger body is a 413 */
        int64_t idle_us;       /* without a byte in either direction; 0: 30 s */
};

/* -EADDRINUSE names the address. */
int server_new(const struct server_settings *settings, struct server **ret, struct error *err);
int server_port(const struct server *s); /* the bound one */
/* Something was committed that streams of events may tell: from any thread, at once. */
void server_changed(struct server *s);
/* Stops accepting, answers what is suspended as unavailable, ends the threads. */
struct server *server_free(struct server *s);
