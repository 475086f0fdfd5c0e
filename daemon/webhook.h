/* Webhooks: what happens to jobs (the store's event log, in its order) is POSTed to the URLs of the settings, by a
 * thread of its own that sleeps while there is nothing to tell. Only who writes the settings says where to; an answer
 * that sends elsewhere is a failure. Each hook has in STATE/webhooks: NAME.key, 64 hexadecimal digits, drawn when it is
 * first used: its secret, for whoever receives; and NAME.json, {"after": the last event that was taken or given up,
 * "attempts": at the next one, "waited_s": since one was taken}. Each attempt is a row of the store (delivery_row). A
 * delivery that fails is tried again, each time after twice as long, up to an hour, until the event is a day old and
 * the receiver has been tried for a day; those behind it wait. A hook begins with what happens after it is first seen;
 * a receiver may get an event twice (a daemon that is killed between an answer and its note), with the same id. */
#pragma once

#include "base/error.h"

struct control_webhook;
struct daemon;
struct reader;
struct webhooks;

#define WEBHOOK_SIGNATURE "X-Mulund-Signature" /* sha256=HEX of HMAC-SHA256(key, TIME "." body) */
#define WEBHOOK_TIME "X-Mulund-Time"           /* seconds since 1970, of the attempt */
#define WEBHOOK_ATTEMPT "X-Mulund-Attempt"

/* NULL in *ret where the settings name none. */
int webhooks_new(struct daemon *d, struct webhooks **ret, struct error *err);
/* Something was committed. From any thread; NULL is fine. */
void webhooks_changed(struct webhooks *h);
/* On the loop's thread: whether there is such a hook, and, where it is not 0, such an event. -ENOENT. */
int webhooks_can_send(struct webhooks *h, struct reader *reader, const char *name, int64_t event, struct error *err);
/* Sends it that event once more, whatever comes of it; 0: tries the one that waits at once. It can be sent. -EEXIST:
 * too many are to be. */
int webhooks_send(struct webhooks *h, const char *name, int64_t event, struct error *err);
/* How each is, [CONTROL_WEBHOOKS_MAX]; answers how many. From any thread; NULL: none. */
size_t webhooks_status(struct webhooks *h, struct control_webhook *ret);
/* Gives up what is on its way; it is tried again at the next start. */
struct webhooks *webhooks_free(struct webhooks *h);
