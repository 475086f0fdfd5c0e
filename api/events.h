/* Streams of events (server-sent events): who waits for news, and the one thread that tells them. */
#pragma once

#include "api/request.h"

struct events;

/* Each stream hears a heartbeat that often, so that one whose client has gone is noticed. */
/* server: whose readers it takes. */
int events_new(struct server *server, int64_t heartbeat_us, struct events **ret, struct error *err);
/* Ends every stream; those that wait are resumed, so that libmicrohttpd may stop. */
void events_stop(struct events *e);
/* After the last stream is gone. */
struct events *events_free(struct events *e);

/* Something was committed: from any thread, at once. */
void events_changed(struct events *e);
