#include "api/access.h"

#include "api/internal.h"
#include "api/response.h"
#include "api/sessions.h"
#include "api/tokens.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/system.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define BUCKETS 64
#define BURST_S 10 /* who was silent may ask for so much at once */

/* What a token has left of its rate; the bucket of whoever asked least lately goes to a newcomer. */
struct bucket {
        char token[65];
        double left;
        int64_t filled_us; /* monotonic */
};

struct access {
        double rate;        /* requests a second of a token; 0: as many as it likes */
        int64_t filters;    /* of system calls that this process has, as its children have at least; -1: not known */
        atomic_bool warned; /* of a proxy */
        pthread_mutex_t lock;
        struct bucket buckets[BUCKETS];
};

/* -1: the process is gone, or the kernel does not say (5.9 and later do). */
static int64_t filters_of(const char *process)
{
        char path[48];

        (void)snprintf(path, sizeof path, "proc/%s/status", process);
        return system_number("", path, "Seccomp_filters");
}

int access_new(double rate, struct access **ret, struct error *err)
{
        struct access *a = calloc(1, sizeof *a);

        if (!a)
                return error_set(err, -ENOMEM, NULL, "no memory for tokens' rates");
        a->rate = rate;
        a->filters = filters_of("self");
        (void)pthread_mutex_init(&a->lock, NULL);
        *ret = a;
        return 0;
}

struct access *access_free(struct access *a)
{
        if (a)
                (void)pthread_mutex_destroy(&a->lock);
        free(a);
        return NULL;
}

/* ---- rates */

static struct bucket *bucket_of(struct access *a, const char *token, int64_t now_us)
{
        struct bucket *oldest = a->buckets;

        for (size_t i = 0; i < BUCKETS; i++) {
                if (!strcmp(a->buckets[i].token, token))
                        return &a->buckets[i];
                if (a->buckets[i].filled_us < oldest->filled_us)
                        oldest = &a->buckets[i];
        }
        *oldest = (struct bucket){.left = BURST_S * a->rate, .filled_us = now_us};
        (void)snprintf(oldest->token, sizeof oldest->token, "%s", token);
        return oldest;
}

/* Seconds until this request may be made; 0: now, and it is counted. */
static double wait_of(struct access *a, const char *token)
{
        int64_t now_us = clock_monotonic_us();
        struct bucket *b;
        double wait = 0;

        (void)pthread_mutex_lock(&a->lock);
        b = bucket_of(a, token, now_us);
        b->left = MIN(b->left + a->rate * (double)(now_us - b->filled_us) / US_PER_S, BURST_S * a->rate);
        b->filled_us = now_us;
        if (b->left >= 1)
                b->left--;
        else
                wait = (1 - b->left) / a->rate;
        (void)pthread_mutex_unlock(&a->lock);
        return wait;
}

static bool check_rate(struct request *r)
{
        struct access *a = r->server->access;
        double wait = r->who.token[0] && a->rate > 0 ? wait_of(a, r->who.token) : 0;
        char seconds[24];

        if (wait <= 0)
                return true;
        problem(r, PROBLEM_TOO_MANY, "the token %s may ask %g times a second", r->who.token, a->rate);
        (void)snprintf(seconds, sizeof seconds, "%.0f", ceil(wait));
        response_header(r, "Retry-After", seconds);
        return false;
}

/* ---- what he shows */

static void unauthorized(struct request *r, const char *text)
{
        problem(r, PROBLEM_UNAUTHORIZED, "%s", text);
        response_header(r, "WWW-Authenticate", "Bearer realm=\"mulund\"");
}

static const char *token_of(const char *header)
{
        return header + 7 + strspn(header + 7, " ");
}

static bool by_token(struct request *r, const char *header)
{
        struct reader *reader;

        if (strncasecmp(header, "Bearer ", 7) != 0) {
                unauthorized(r, "Authorization takes \"Bearer TOKEN\" here");
                return false;
        }
        reader = request_reader(r);
        if (!reader)
                return false;
        r->who.has_shown = true;
        if (token_check(reader, token_of(header), &r->who))
                return true;
        unauthorized(r, "this is no token of this server, or no longer");
        return false;
}

/* Root and the daemon's own user may all; whoever else can open the socket submits. */
static enum role role_of_peer(int64_t uid)
{
        return uid == 0 || uid == (int64_t)geteuid() ? ROLE_ADMIN : ROLE_SUBMIT;
}

/* A worker is of our user, too, but in a sandbox, which nothing leads out of: whoever has more filters than we have is
 * not that user himself. A process that is not to be seen from here (0) is no worker. */
static bool is_confined(const struct access *a, const struct ucred *peer)
{
        char process[16];

        if (peer->uid != geteuid() || peer->pid <= 0 || a->filters < 0)
                return false;
        (void)snprintf(process, sizeof process, "%d", (int)peer->pid);
        return (uint64_t)filters_of(process) > (uint64_t)a->filters; /* one that is gone counts as confined */
}

/* A session is its token's, or its user's, as that is now. False: there is none, or none any more. */
static bool session_of(const struct request *r, struct reader *reader, const char *key, struct asker *ret)
{
        struct asker who = r->who;
        struct session_row s;

        if (!session_hash(key, s.hash) || reader_session(reader, s.hash, clock_wall_us(), &s, NULL) < 0)
                return false;
        who.uid = s.uid;
        who.has_shown = who.by_session = true;
        memcpy(who.token, s.token, sizeof who.token);
        if (who.token[0]) {
                if (!token_role(reader, who.token, &who.role))
                        return false;
        } else if (who.uid >= 0) {
                who.role = role_of_peer(who.uid);
        } else { /* of whoever came to loopback: as long as that is enough */
                if (!request_settings(r)->single_user)
                        return false;
                who.role = ROLE_ADMIN;
        }
        *ret = who;
        return true;
}

static const char *session_key(const struct request *r)
{
        return MHD_lookup_connection_value(r->connection, MHD_COOKIE_KIND, SESSION_COOKIE);
}

/* One that is over is none: the browser need not know. */
static void by_session(struct request *r)
{
        const char *key = session_key(r);
        struct reader *reader = key ? request_reader(r) : NULL;

        if (reader)
                (void)session_of(r, reader, key, &r->who);
}

/* A proxy that says that it is one. */
static bool is_forwarded(const struct request *r)
{
        static const char *const names[] = {"Forwarded",         "X-Forwarded-For", "X-Forwarded-Host",
                                            "X-Forwarded-Proto", "X-Real-IP",       "Via"};

        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (request_header(r, names[i]))
                        return true;
        return false;
}

/* Once: what is refused from now on says so by itself. */
static void warn_forwarded(struct access *a)
{
        if (!atomic_exchange(&a->warned, true))
                log_warning("a proxy on this machine forwards requests: those without a token are refused, since "
                            "anybody may come through it; trust-forwarded = yes lets them in as this machine's users");
}

static void by_peer(struct request *r)
{
        struct ucred peer;
        socklen_t size = sizeof peer;

        if (getsockopt(r->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return;
        (void)snprintf(r->who.address, sizeof r->who.address, "uid:%u", (unsigned)peer.uid);
        if (r->who.forwarded) {
                warn_forwarded(r->server->access);
                return;
        }
        if (is_confined(r->server->access, &peer))
                return;
        r->who.uid = peer.uid;
        r->who.has_shown = true;
        r->who.role = role_of_peer(peer.uid);
}

static void by_network(struct request *r, const struct sockaddr *a)
{
        struct listener_setting l = {0};

        if (a->sa_family == AF_INET) {
                l.address.in = *(const struct sockaddr_in *)a;
                (void)inet_ntop(AF_INET, &l.address.in.sin_addr, r->who.address, sizeof r->who.address);
        } else {
                l.address.in6 = *(const struct sockaddr_in6 *)a;
                (void)inet_ntop(AF_INET6, &l.address.in6.sin6_addr, r->who.address, sizeof r->who.address);
        }
        if (!request_settings(r)->single_user || !listener_is_local(&l))
                return;
        if (r->who.forwarded)
                warn_forwarded(r->server->access);
        else
                r->who.role = ROLE_ADMIN;
}

static void by_address(struct request *r)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        const struct sockaddr *a = info ? info->client_addr : NULL;

        r->who.forwarded = !request_settings(r)->trust_forwarded && is_forwarded(r);
        if (a && a->sa_family == AF_UNIX)
                by_peer(r);
        if (a && (a->sa_family == AF_INET || a->sa_family == AF_INET6))
                by_network(r, a);
}

bool access_identify(struct request *r)
{
        const char *header = request_header(r, "Authorization");

        r->who = (struct asker){.uid = -1};
        by_address(r);
        if (r->route->role == ROLE_NONE)
                return true; /* nobody needs to know */
        if (header && !by_token(r, header))
                return false;
        if (!header)
                by_session(r);
        return !r->response && check_rate(r);
}

bool access_allows(struct request *r)
{
        const char *need = role_names[r->route->role];

        if (r->who.role >= r->route->role)
                return true;
        if (!r->who.has_shown && r->who.forwarded)
                unauthorized(r, "a proxy forwards this (X-Forwarded-For, Via or the like), so a token is needed, or a "
                                "browser's "
                                "session: trust-forwarded = yes would let it in as one of this machine's own users");
        else if (!r->who.has_shown)
                unauthorized(
                        r, "a token is needed (Authorization: Bearer ..), or a browser's session: mulunctl token add, "
                           "mulunctl open; this machine's own users may ask through the Unix socket without one, but "
                           "not from a sandbox, as workers are in");
        else
                problem(r, PROBLEM_FORBIDDEN, "this takes the role %s; %s%s has %s", need,
                        r->who.token[0] ? "the token " : "user ", r->who.token[0] ? r->who.token : r->who.address,
                        role_names[r->who.role]);
        return false;
}

bool access_holds(const struct request *r, struct reader *reader)
{
        const char *header = request_header(r, "Authorization");
        struct asker who = r->who;

        if (r->route->role == ROLE_NONE)
                return true;
        if (header)
                return token_check(reader, token_of(header), &who) && who.role >= r->route->role;
        return !who.by_session || (session_of(r, reader, session_key(r), &who) && who.role >= r->route->role);
}

/* ---- for the log of changes */

static void name_user(int64_t uid, char *ret, size_t size)
{
        struct passwd entry, *found = NULL;
        char buffer[4096];

        if (uid >= 0 && !getpwuid_r((uid_t)uid, &entry, buffer, sizeof buffer, &found) && found)
                (void)snprintf(ret, size, "%s", found->pw_name);
}

void access_audit(const struct request *r, struct audit_row *ret)
{
        *ret = (struct audit_row){.time_us = clock_wall_us(), .uid = r->who.uid, .job = r->id};
        name_user(r->who.uid, ret->user, sizeof ret->user);
        (void)snprintf(ret->token, sizeof ret->token, "%s", r->who.token);
        (void)snprintf(ret->address, sizeof ret->address, "%s", r->who.address);
        (void)snprintf(ret->request, sizeof ret->request, "%s", r->request_id);
        (void)snprintf(ret->action, sizeof ret->action, "%s %s", r->method, r->shown);
}
