/* Who asks, and what he may: a token (Authorization: Bearer), a browser's session (a cookie, by a one-time link), a
 * peer on this machine's Unix socket, or, where the settings say that this machine has a single user, whoever comes to
 * loopback. Who comes through a proxy on this machine is not thereby of this machine: its peer and its address are the
 * proxy's, and do not count. Each route has a role (routes.def). */
#pragma once

#include "store/store.h"

struct access;
struct reader;
struct request;

/* Who asks. */
struct asker {
        enum role role;
        int64_t uid; /* of a peer on this machine; -1: not known */
        char token[65], address[64];
        bool has_shown;  /* something that names him, and not only where he comes from */
        bool by_session; /* a browser's */
        bool forwarded;  /* by a proxy, whose place is not his */
};

int access_new(double rate, struct access **ret, struct error *err);
struct access *access_free(struct access *a);

/* Finds out who asks. False: answered, since what he shows is not good, or he asks too often. */
bool access_identify(struct request *r);
/* Whether he may do what the route does; false: answered with what is needed. */
bool access_allows(struct request *r);
/* Whether what he showed then is still good: a token may be removed, a session end, while an answer goes on. */
bool access_holds(const struct request *r, struct reader *reader);

/* As the audit log has it, for whoever changes something: with the name of his user. */
void access_audit(const struct request *r, struct audit_row *ret);
