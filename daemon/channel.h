/* STATE/worker.sock: connections of workers. A line that is not an event, is too long, or does not fit closes its
 * connection and touches nothing else. Only processes of the daemon's own user (or root) are listened to. */
#pragma once

#include "daemon/loop.h"

struct daemon;
struct channel;
struct connection;

int channel_open(struct daemon *d, const char *path, struct channel **ret, struct error *err);
struct channel *channel_close(struct channel *c);

void connection_send_ack(struct connection *c, int64_t seq);
void connection_send_stop(struct connection *c);
/* Reads again after worker_take_event said that it is enough. */
void connection_resume(struct connection *c);
/* Its process ended: takes what is left in the socket, then closes. */
void connection_drain(struct connection *c);
struct connection *connection_close(struct connection *c);
int64_t connection_peer_pid(const struct connection *c);
