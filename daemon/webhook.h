/* Webhooks: what happens to jobs (the store's event log, in its order) is POSTed to the URLs of the settings, by a
 * thread of its own that sleeps while there is nothing to tell. Only who writes the settings says where to; an answer
 * that sends elsewhere is a failure. Each hook has in STATE/webhooks: NAME.key    64 hexadecimal digits, drawn when it
 * is first used: its secret, for whoever receives NAME.json   {"after": the last event that was taken or given up,
 * "attempts": at the next one} NAME.log    a line an attempt: time, event, attempt, the answer's code or why there was
 * none A delivery that fails is tried again, each time after twice as long, up to an hour, until the event is a day
 * old; those behind it wait. A hook begins with what happens after it is first seen; a receiver may get an event twice
 * (a daemon that is killed between an answer and its note), with the same id. */
#pragma once

#include "base/error.h"

struct daemon;
struct webhooks;

#define WEBHOOK_SIGNATURE "X-Mulund-Signature" /* sha256=HEX of HMAC-SHA256(key, TIME "." body) */
#define WEBHOOK_TIME "X-Mulund-Time"           /* seconds since 1970, of the attempt */
#define WEBHOOK_ATTEMPT "X-Mulund-Attempt"

/* NULL in *ret where the settings name none. */
int webhooks_new(struct daemon *d, struct webhooks **ret, struct error *err);
/* Something was committed. From any thread; NULL is fine. */
void webhooks_changed(struct webhooks *h);
/* Gives up what is on its way; it is tried again at the next start. */
struct webhooks *webhooks_free(struct webhooks *h);
