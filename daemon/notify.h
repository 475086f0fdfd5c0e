/* The service manager (systemd): told that the daemon is ready, reads its settings again, ends; and that it lives, as
 * often as it wants to hear. Its protocol is datagrams of NAME=VALUE lines to $NOTIFY_SOCKET (sd_notify(3)); without
 * that variable all of this is nothing. Of the loop's thread. */
#pragma once

#include "base/error.h"

#include <stdint.h>

struct loop;
struct notify;

/* Reads what the service manager has put into the environment, and begins to answer its watchdog. */
int notify_new(struct loop *l, struct notify **ret, struct error *err);
struct notify *notify_free(struct notify *n);
/* "READY=1", "STOPPING=1", lines like them; NULL is fine, and a manager that does not listen. */
void notify_send(struct notify *n, const char *state);

/* The first socket that the service manager listens on for this process (sd_listen_fds(3)), close-on-exec; -1: none. */
int notify_listening_socket(void);
