/* Browsers: a one-time link, which mulunctl asks for, becomes a session, which a cookie names. Both are in memory
 * alone: when the server ends, so do they. */
#pragma once

#include "api/access.h"

#define SESSION_KEY_SIZE 33
#define SESSION_COOKIE "mulund_session"
#define SESSION_S (7 * 24 * 3600)
#define LINK_S 60

struct sessions;

int sessions_new(struct sessions **ret, struct error *err);
struct sessions *sessions_free(struct sessions *s);

/* A link for him, for a minute. Of too many the oldest goes. */
void sessions_link(struct sessions *s, const struct asker *who, char ret[SESSION_KEY_SIZE]);
/* What a link that was not used yet opens. False: there is none. */
bool sessions_open(struct sessions *s, const char *link, char ret[SESSION_KEY_SIZE]);
/* There is no such session any more. */
void sessions_end(struct sessions *s, const char *key);
/* Whose session a cookie names: role, uid and token of ret. */
bool sessions_find(struct sessions *s, const char *key, struct asker *ret);
