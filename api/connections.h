/* Bounds what a client may take of a connection's time. MHD bounds only silence, and takes a socket that it cannot
 * write to for one, however fast its other end reads; here it is what the kernel counts as received and as acknowledged
 * that tells progress. So: headers and bodies have a time, silence ends a connection, an answer that is read however
 * slowly does not. A newcomer always finds room: of the connections that only wait for a request, the oldest makes it.
 * A thread looks at the open connections; it sleeps while there are none. */
#pragma once

#include "base/error.h"

#include <microhttpd.h>

struct connections;

/* idle_us: without a byte, while one is waited for. */
int connections_new(size_t most, int64_t idle_us, struct connections **ret, struct error *err);
/* After MHD has ended. */
struct connections *connections_free(struct connections *c);

/* For MHD_OPTION_NOTIFY_CONNECTION; user is the struct. */
void connections_notify(void *user, struct MHD_Connection *connection, void **slot,
                        enum MHD_ConnectionNotificationCode code);

/* The headers of a request are there, its body is waited for; it is whole, and we work on it; its answer is being sent;
 * that is done, and headers are waited for again. */
void connection_heard(struct MHD_Connection *connection);
void connection_works(struct MHD_Connection *connection);
void connection_sends(struct MHD_Connection *connection);
void connection_answered(struct MHD_Connection *connection);
