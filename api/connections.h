/* Bounds the time in which a client says its request line and headers. MHD bounds only silence, so that a byte now and
 * then would hold a connection for ever. A thread looks at the open connections; it sleeps while there are none. */
#pragma once

#include "base/error.h"

#include <microhttpd.h>

struct connections;

int connections_new(size_t most, struct connections **ret, struct error *err);
/* After MHD has ended. */
struct connections *connections_free(struct connections *c);

/* For MHD_OPTION_NOTIFY_CONNECTION; user is the struct. */
void connections_notify(void *user, struct MHD_Connection *connection, void **slot,
                        enum MHD_ConnectionNotificationCode code);

/* The headers of a request are there; its answer is sent, and headers are waited for again. */
void connection_heard(struct connections *c, struct MHD_Connection *connection);
void connection_answered(struct connections *c, struct MHD_Connection *connection);
