/* The HTTP server: libmicrohttpd with its own epoll threads, a reader of the store for each. It knows the store's
 * readers and struct control, nothing else of the daemon. */
#pragma once

#include "api/control.h"
#include "api/listen.h"

struct server;

#define PREFIX_MAX 64

struct server_settings {
        struct listener_setting
                listeners[LISTENERS_MAX]; /* one that others reach needs TLS, and a token in the store */
        size_t n_listeners;
        gid_t socket_group;            /* of Unix sockets; -1: that of the process */
        const char *certificate, *key; /* PEM files, where a listener has TLS */
        const char *prefix;            /* below which a proxy serves all of this: "/mulund"; "" or NULL: none */
        const char *allowed_hosts;     /* names, separated by blanks, beside this machine's own; or NULL */
        const char *state_folder;      /* jobs/ID/NAME below it are the artifacts, jobs/ID/log the logs */
        const char *web_folder;        /* static files */
        const char *configs_folder;    /* NAME.json templates */
        struct store *store;
        struct control *control;
        bool single_user;      /* whoever comes to loopback may do everything */
        bool trust_forwarded;  /* also whoever a proxy there, or at the Unix socket, forwards */
        double token_rate;     /* requests a second of a token; 0: as many as it likes */
        int threads;           /* 2 to 4 */
        size_t connections;    /* at most; 0, or more than 512: 512 */
        size_t max_body_bytes; /* a larger body is a 413 */
        int64_t idle_us;       /* without a byte in either direction; 0: 30 s */
};

const char *server_library_version(void); /* libmicrohttpd's, as it runs */

/* -EADDRINUSE names the address; -EPERM: a listener that others reach lacks what it needs. */
int server_new(const struct server_settings *settings, struct server **ret, struct error *err);
int server_port(const struct server *s, size_t listener); /* the bound one */
/* Reads certificate and key again. */
int server_reload(struct server *s, struct error *err);
/* Something was committed, or a job's log has grown, which streams may tell: from any thread, at once. */
void server_changed(struct server *s);
/* Stops accepting, answers what is suspended as unavailable, ends the threads. */
struct server *server_free(struct server *s);
