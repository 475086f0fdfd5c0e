/* One-time links for browsers: whoever may ask gets one; who opens it within a minute has a session of his, until he
 * ends it, or a week has passed. */
#include "api/internal.h"
#include "api/response.h"
#include "api/sessions.h"
#include "base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What a browser on this machine, or on another, opens: a URL a listener. */
static json_t *urls_of(const struct request *r, const char *path)
{
        json_t *list = json_array();
        char host[HOST_NAME_MAX + 1] = "localhost", text[128], url[HOST_NAME_MAX + 512];

        (void)gethostname(host, sizeof host - 1);
        for (size_t i = 0; i < request_settings(r)->n_listeners; i++) {
                const struct listener_setting *l = &request_settings(r)->listeners[i];
                const char *port;

                if (l->address.any.sa_family == AF_UNIX)
                        continue;
                listener_text(l, r->server->ports[i], text, sizeof text);
                port = strrchr(text, ':');
                if (listener_is_local(l))
                        (void)snprintf(url, sizeof url, "http%s://%s%s", l->tls ? "s" : "", text, path);
                else
                        (void)snprintf(url, sizeof url, "https://%s%s%s", host, port, path);
                (void)json_array_append_new(list, json_string(url));
        }
        return list;
}

void links_make(struct request *r)
{
        static const char *const none[] = {NULL};
        _cleanup_json_ json_t *body = NULL;
        char key[SESSION_KEY_SIZE], path[64 + PREFIX_MAX + SESSION_KEY_SIZE];

        if (!request_body(r, none, true, &body))
                return;
        link_add(r->server->links, &r->who, key);
        (void)snprintf(path, sizeof path, "%s/open?code=%s", request_settings(r)->prefix, key);
        response_json(r, 201,
                      json_pack("{s:s, s:o, s:o}", "path", path, "urls", urls_of(r, path), "expires",
                                json_from_time(clock_wall_us() + LINK_S * US_PER_S)));
}

/* By us, or by a proxy that says so: who says it without one loses his own cookie by it, and nothing else. */
static bool is_encrypted(const struct request *r)
{
        const char *scheme = request_header(r, "X-Forwarded-Proto"), *forwarded = request_header(r, "Forwarded");

        return MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION) ||
               (scheme && !strncasecmp(scheme, "https", 5)) || (forwarded && strcasestr(forwarded, "proto=https"));
}

/* key: "" takes the cookie away. */
static void set_cookie(struct request *r, const char *key)
{
        char cookie[PREFIX_MAX + 256];

        (void)snprintf(cookie, sizeof cookie, SESSION_COOKIE "=%s; Path=%s/; Max-Age=%d; SameSite=Strict; HttpOnly%s",
                       key, request_settings(r)->prefix, key[0] ? SESSION_S : 0, is_encrypted(r) ? "; Secure" : "");
        response_header(r, "Set-Cookie", cookie);
        response_header(r, "Cache-Control", "no-store");
}

/* The session is stored; r->kept is its key. */
static void opened(struct request *r)
{
        char home[PREFIX_MAX + 2];

        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_REQUEST_INVALID);
                return;
        }
        response_empty(r, 303);
        (void)snprintf(home, sizeof home, "%s/", request_settings(r)->prefix);
        response_header(r, "Location", home);
        set_cookie(r, r->kept);
}

void links_open(struct request *r)
{
        struct control *control = request_settings(r)->control;
        const char *code = target_param(&r->target, "code");
        struct session_row s = {.until_us = clock_wall_us() + SESSION_S * US_PER_S};
        struct pending *pending;
        struct asker who;

        if (!strcmp(r->method, "HEAD")) { /* who only looks does not use it up */
                response_empty(r, 200);
                return;
        }
        if (!code || !link_take(r->server->links, code, &who)) {
                problem(r, PROBLEM_UNAUTHORIZED, "this link was used, or is too old: mulunctl open makes another");
                return;
        }
        r->kept = malloc(SESSION_KEY_SIZE);
        if (!r->kept) {
                problem(r, PROBLEM_INTERNAL, "no memory");
                return;
        }
        session_draw(r->kept);
        if (!session_hash(r->kept, s.hash)) {
                problem(r, PROBLEM_INTERNAL, "the session's key cannot be hashed");
                return;
        }
        s.uid = r->who.uid = who.uid; /* the link says who asks */
        memcpy(s.token, who.token, sizeof s.token);
        memcpy(r->who.token, who.token, sizeof r->who.token);
        access_audit(r, &r->by);
        pending = request_ask(r, opened);
        if (pending)
                control->session(control, &r->by, &s, false, request_done, pending);
}

void session_read(struct request *r)
{
        struct audit_row shown;

        access_audit(r, &shown);
        response_json(r, 200,
                      json_pack("{s:s, s:s?, s:s?, s:b}", "role", role_names[r->who.role], "token",
                                shown.token[0] ? shown.token : NULL, "user", shown.user[0] ? shown.user : NULL,
                                "session", (int)r->who.by_session));
}

static void ended(struct request *r)
{
        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_REQUEST_INVALID);
                return;
        }
        response_empty(r, 204);
        set_cookie(r, "");
}

void session_end(struct request *r)
{
        struct control *control = request_settings(r)->control;
        const char *key = MHD_lookup_connection_value(r->connection, MHD_COOKIE_KIND, SESSION_COOKIE);
        struct session_row s = {0};
        struct pending *pending;

        if (!r->who.by_session || !session_hash(key, s.hash)) { /* he asks otherwise: there is nothing to end */
                ended(r);
                return;
        }
        pending = request_ask(r, ended);
        if (pending)
                control->session(control, &r->by, &s, true, request_done, pending);
}
