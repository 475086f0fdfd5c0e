/* Browsers: a one-time link, which mulunctl asks for, becomes a session, which a cookie names. Links are in memory
 * alone, for a minute; sessions are in the store, by a hash of their key. */
#pragma once

#include "api/access.h"

#define SESSION_KEY_SIZE 33 /* 32 hexadecimal digits */
#define SESSION_COOKIE "mulund_session"
#define SESSION_S (7 * 24 * 3600)
#define LINK_S 60

struct links;

int links_new(struct links **ret, struct error *err);
struct links *links_free(struct links *l);

/* A link for him, for a minute. Of too many the oldest goes. */
void link_add(struct links *l, const struct asker *who, char ret[SESSION_KEY_SIZE]);
/* Whose link it is, which is used up by this. False: there is none, or none any more. */
bool link_take(struct links *l, const char *key, struct asker *ret);

/* A key for a session that is to begin. */
void session_draw(char ret[SESSION_KEY_SIZE]);
/* By which the store knows it. False: it is no key. */
bool session_hash(const char *key, char ret[65]);
