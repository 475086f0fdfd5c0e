/* A worker's end of the protocol in contract/event.h: lock, spool and socket of one attempt. The spool is the truth:
 * an event is appended to FOLDER/attempt-N.events first, then sent if somebody listens. A daemon that is away costs
 * nothing: the channel reconnects (at most every 500 ms, never blocking the caller) and resends what is not
 * acknowledged. One thread. */
#pragma once

#include "contract/event.h"

struct channel;

/* Which part of an attempt a process is. Of several ranks the launcher holds the lock from before the first of them
 * until after the last; the first rank has the spool, and where it ended without an outcome the launcher goes on with
 * what is there, cutting half a line. */
enum channel_part { CHANNEL_WHOLE, CHANNEL_RANK, CHANNEL_LAUNCHER };

/* The attempt's lock, close-on-exec. -EBUSY: another process is this attempt. */
int channel_lock(const struct assignment *a, int *ret_fd, struct error *err);
/* Takes the lock (whole), opens the spool (it must be new or empty, but for the launcher's), connects if it can. */
int channel_open(const struct assignment *a, enum channel_part part, struct channel **ret, struct error *err);

/* Numbers the event (e->seq is set) and takes nothing: e stays the caller's. sync: fdatasync the spool (checkpoints and
 * outcomes; scalars need not). -ENOSPC (after ten minutes of waiting for room),
 * -EIO: the event is not recorded, the spool holds no half line. */
int channel_send(struct channel *ch, struct event *e, bool sync, struct error *err);

/* Sends and receives what can be without waiting longer than timeout_ms (0: not at all). Commands that arrived since
 * the last call are stored; both may be set. */
struct channel_commands {
        bool checkpoint, stop;
};
int channel_poll(struct channel *ch, int timeout_ms, struct channel_commands *ret, struct error *err);

/* Waits until everything is acknowledged, at most timeout_ms; 0 or -ETIMEDOUT (the daemon will read the spool). */
int channel_drain(struct channel *ch, int timeout_ms, struct error *err);
struct channel *channel_close(struct channel *ch);

DEFINE_CLEANUP(struct channel *, channel_close);
