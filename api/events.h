/* Streams of events (server-sent events): who waits for news, and the one thread that tells them. */
#pragma once

#include "api/moment.h"
#include "api/request.h"

#include <sys/queue.h>

struct events;

/* Whose answer is a stream that waits for news. All of it is under the lock of events. */
struct sleeper {
        struct events *events;
        struct MHD_Connection *connection;
        TAILQ_ENTRY(sleeper) link; /* of suspended ones */
        enum { SLEEPER_AWAKE, SLEEPER_SUSPENDED, SLEEPER_RESUMED /* and has not looked yet */ } state;
        uint64_t seen, beats; /* generation and heartbeats that it has looked at */
};

/* Each stream hears a heartbeat that often, so that one whose client has gone is noticed. */
/* server: whose readers it takes. */
int events_new(struct server *server, int64_t heartbeat_us, struct events **ret, struct error *err);
/* Ends every stream; those that wait are resumed, so that libmicrohttpd may stop. */
void events_stop(struct events *e);
/* After the last stream is gone. */
struct events *events_free(struct events *e);

/* Something was committed: from any thread, at once. */
void events_changed(struct events *e);

void sleeper_enter(struct sleeper *s, struct events *e, struct MHD_Connection *connection);
void sleeper_leave(struct sleeper *s);
/* Whatever is told from now on ends a wait. *ret, where it is not NULL: a reference to what was told last, or NULL.
 * True: a heartbeat was among it. */
bool sleeper_look(struct sleeper *s, struct moment **ret);
/* STREAM_WAITS: nothing was told since it looked, and it is suspended until something is. 0: look. -ESHUTDOWN: the
 * stream is to end. */
int sleeper_wait(struct sleeper *s);
