/* Where the server listens: TCP addresses, plain or TLS, and the machine's own Unix socket. */
#pragma once

#include "base/error.h"

#include <netinet/in.h>
#include <sys/un.h>

#define LISTENERS_MAX 8

struct listener_setting {
        union listener_address {
                struct sockaddr any;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
                struct sockaddr_un
                        un; /* a stale socket there is replaced: whoever starts a server has the state's lock */
        } address;
        bool tls;
        int inherited; /* a socket that somebody else listens on for us, closed at the end, never shut down or removed;
                          0: none */
};

/* "127.0.0.1:8700", "[::1]:8700", "tls:0.0.0.0:8443"; port 0: any free one. -EINVAL, err says what is expected. */
int listener_parse(const char *text, struct listener_setting *ret, struct error *err);
/* A Unix socket at a path. -ENAMETOOLONG. */
int listener_unix(const char *path, struct listener_setting *ret, struct error *err);
/* An open socket, by its own address. */
int listener_inherit(int fd, struct listener_setting *ret, struct error *err);
/* Whether only this machine reaches it. */
bool listener_is_local(const struct listener_setting *l);
/* As it was parsed; the port is port where that is above 0. */
void listener_text(const struct listener_setting *l, int port, char *ret, size_t size);
/* An open socket that listens; group: of a Unix socket (mode 0660), -1: that of the process. port: the bound one, 0 of
 * a Unix socket. -EADDRINUSE, .. */
int listener_open(const struct listener_setting *l, gid_t group, int *ret_fd, int *ret_port, struct error *err);
