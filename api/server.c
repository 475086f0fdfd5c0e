/* MHD set-up, and the way of a request through it:
 *   uri_seen (first line read: struct request) -> on_request without body: checks that need only headers
 *   -> on_request with pieces of the body: kept, or dropped once there is an answer or too much of it
 *   -> on_request at its end: the route's handler, which answers or asks the daemon (suspended, then on_request again)
 *   -> on_completed: freed.
 * Times are bounded: silence by MHD, headers by connections.c, a body here. */
#include "api/server.h"

#include "api/internal.h"
#include "api/response.h"
#include "api/sessions.h"
#include "api/tls.h"
#include "base/clock.h"
#include "contract/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#define CONNECTIONS_MAX 1536
#define CONNECTION_MEMORY ((size_t)32 << 10) /* bounds the headers: 431 above it */
#define BODY_DROP_MAX ((int64_t)256 << 20)   /* so much of an unwanted body is read, so that its answer arrives */
#define BODY_FREE ((size_t)16 << 10)         /* of each body, always taken: a submission has less */
#define BODY_HELD_MAX ((size_t)32 << 20)     /* of what bodies have beyond it, all together */
#define STOP_WAIT_S 2
#define HELD_BYTES_MAX ((size_t)96 << 20) /* of answers that clients do not read */
#define IDLE_DEFAULT_US (30 * US_PER_S)
#define BODY_BYTES_DEFAULT ((size_t)1 << 20)
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" /* RFC 8996: nothing before these */

/* ---- readers */

int server_take_reader(struct server *s, struct reader **ret, struct error *err)
{
        struct reader *reader = NULL;

        (void)pthread_mutex_lock(&s->lock);
        if (s->n_readers)
                reader = s->readers[--s->n_readers];
        (void)pthread_mutex_unlock(&s->lock);
        if (!reader)
                return reader_open(s->settings.store, ret, err);
        *ret = reader;
        return 0;
}

void server_put_reader(struct server *s, struct reader *reader)
{
        (void)pthread_mutex_lock(&s->lock);
        reader_watch(reader, NULL, NULL);
        if (s->n_readers < READERS_MAX) {
                s->readers[s->n_readers++] = reader;
                reader = NULL;
        }
        (void)pthread_mutex_unlock(&s->lock);
        if (reader)
                (void)reader_close(reader);
}

/* ---- memory of answers */

bool server_hold(struct server *s, size_t bytes)
{
        bool fits;

        (void)pthread_mutex_lock(&s->lock);
        fits = s->held_bytes + bytes <= HELD_BYTES_MAX;
        if (fits)
                s->held_bytes += bytes;
        (void)pthread_mutex_unlock(&s->lock);
        return fits;
}

void server_release(struct server *s, size_t bytes)
{
        if (!bytes)
                return;
        (void)pthread_mutex_lock(&s->lock);
        s->held_bytes -= bytes;
        (void)pthread_mutex_unlock(&s->lock);
}

bool server_hold_body(struct request *r, size_t bytes)
{
        struct server *s = r->server;
        size_t more = bytes > BODY_FREE + r->body_held ? bytes - BODY_FREE - r->body_held : 0;
        bool fits;

        (void)pthread_mutex_lock(&s->lock);
        fits = s->body_bytes + more <= BODY_HELD_MAX;
        if (fits) {
                s->body_bytes += more;
                r->body_held += more;
        }
        (void)pthread_mutex_unlock(&s->lock);
        return fits;
}

void request_drop_body(struct request *r)
{
        if (r->body_held) {
                (void)pthread_mutex_lock(&r->server->lock);
                r->server->body_bytes -= r->body_held;
                (void)pthread_mutex_unlock(&r->server->lock);
        }
        r->body_held = 0;
        buf_done(&r->body);
}

bool server_count_long(struct request *r, bool begins)
{
        struct server *s = r->server;
        size_t most = s->settings.connections - s->settings.connections / 8;
        bool fits = true;

        if (begins == r->counted_long)
                return true;
        (void)pthread_mutex_lock(&s->lock);
        if (begins)
                fits = s->n_long < most;
        if (fits)
                s->n_long += begins ? 1 : -1;
        (void)pthread_mutex_unlock(&s->lock);
        r->counted_long = begins && fits;
        return fits;
}

/* ---- checks before a handler, from the headers alone */

/* What libmicrohttpd takes for one request and a proxy in front may take for two. libmicrohttpd (0.9.75, this
 * release's) parses in place: each line's CR and LF become NULs, and keys and values point into what was received. So
 * whatever is not exactly "name: value CR LF" shows as a gap between where one line ends and the next begins: a bare
 * LF, a folded value (which is copied elsewhere), a NUL in a value, and the same in the request line and the empty one.
 * Of a chunked body it takes bare LFs too, and no trace of them is left: what follows one on its connection, which may
 * be a part of it for a proxy, is not read. */
struct framing {
        int lengths, encodings;
        const char *next;  /* where the next line must begin */
        const char *wrong; /* or NULL */
};

static const char odd_lines[] = "a line does not end in CR LF, is folded, or holds a control character";

static enum MHD_Result look_at_header(void *user, enum MHD_ValueKind kind _unused_, const char *key, size_t key_size,
                                      const char *value, size_t value_size)
{
        static const char token[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        struct framing *f = user;

        if (key != f->next || !value || text_has_control(value, value_size, "\t") ||
            value[value_size + 1]) /* RFC 9110, 5.5 */
                f->wrong = odd_lines;
        else
                f->next = value + value_size + 2;
        if (!key_size || strspn(key, token) != key_size)
                f->wrong = "a header's name holds a space or another character that no name has";
        f->lengths += !strcasecmp(key, "Content-Length");
        if (!strcasecmp(key, "Transfer-Encoding") && (f->encodings++ || !value || strcasecmp(value, "chunked") != 0))
                f->wrong = "the only transfer encoding that is taken is chunked, once";
        return MHD_YES;
}

static bool check_framing(struct request *r, const char *method, const char *version)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
        struct framing f = {.next = version + strlen(version) + 2};

        (void)MHD_get_connection_values_n(r->connection, MHD_HEADER_KIND, look_at_header, &f);
        if (!f.wrong && info && f.next + 2 != method + info->header_size)
                f.wrong = odd_lines;
        /* one space each: what libmicrohttpd takes for the target ends at a NUL, or spans others */
        if (r->line_target != method + strlen(method) + 1 || r->line_target + r->line_target_bytes + 1 != version)
                f.wrong = "the request's line is not three words, one space between them";
        if (!f.wrong && f.lengths + f.encodings > 1)
                f.wrong = "the length of the body is said twice";
        r->must_close = f.wrong != NULL;
        r->is_last = f.wrong || f.encodings;
        if (f.wrong)
                problem(r, PROBLEM_BAD_HEADER, "%s", f.wrong);
        return !r->response;
}

static enum MHD_Result count_header(void *user, enum MHD_ValueKind kind _unused_, const char *key,
                                    const char *value _unused_)
{
        *(int *)user += !strcasecmp(key, "Host");
        return MHD_YES;
}

/* Files of the dashboard say nothing: whatever name a proxy asks for them by, and from whichever page. */
static bool is_file(const struct request *r)
{
        return r->route && r->route->handler == static_read;
}

static bool check_host(struct request *r)
{
        const char *host = request_header(r, "Host"), *allowed = request_settings(r)->allowed_hosts;
        int n = 0;

        (void)MHD_get_connection_values(r->connection, MHD_HEADER_KIND, count_header, &n);
        if (n > 1)
                problem(r, PROBLEM_BAD_HEADER, "there are %d Host headers", n);
        else if (!host)
                problem(r, PROBLEM_FOREIGN_HOST, "there is no Host header; 127.0.0.1 and localhost are served");
        else if (!is_file(r) && !host_is_allowed(host, allowed))
                problem(r, PROBLEM_FOREIGN_HOST,
                        "the Host header is \"%.200s\"; 127.0.0.1 and localhost are served, on any port, and what the "
                        "setting allowed-hosts names",
                        host);
        return !r->response;
}

static bool check_origin(struct request *r)
{
        const char *origin = request_header(r, "Origin"), *site = request_header(r, "Sec-Fetch-Site");

        if (is_file(r))
                return true;
        if (origin && !origin_is_host(origin, request_header(r, "Host")) &&
            !origin_is_allowed(origin, request_settings(r)->allowed_hosts))
                problem(r, PROBLEM_FOREIGN_ORIGIN,
                        "the Origin header is \"%.200s\", the Host header \"%.200s\"; the setting allowed-hosts names "
                        "whose pages may ask",
                        origin, request_header(r, "Host"));
        else if (site && !strcasecmp(site, "cross-site"))
                problem(r, PROBLEM_FOREIGN_ORIGIN, "the browser says Sec-Fetch-Site: cross-site");
        return !r->response;
}

static bool check_target(struct request *r)
{
        if (r->target_error.code == -ENAMETOOLONG)
                problem(r, PROBLEM_URL_TOO_LONG, "%s", r->target_error.text);
        else if (r->target_error.code)
                problem(r, r->target_error.code == -ENOMEM ? PROBLEM_INTERNAL : PROBLEM_BAD_URL, "%s",
                        r->target_error.text);
        return !r->response;
}

/* The methods of the path; what stands before the answer is whether this client may ask at all. */
static unsigned find_route(struct request *r, const char *method)
{
        struct route_match m = {0};

        if (!r->target_error.code)
                route_find(method_parse(method), &r->target, &m);
        r->route = m.route;
        r->id = m.id;
        r->name = m.name;
        return m.methods;
}

/* Of the query nothing is written down that may be a secret: a one-time code, or what is no parameter here, as a token
 * that somebody put there. */
static void hide_secrets(struct request *r)
{
        bool plain = r->route && r->route->handler != links_open;

        for (size_t i = 0; plain && i < r->target.n_params; i++)
                plain = route_takes_param(r->route, r->target.params[i].name);
        if (!plain)
                r->shown[strcspn(r->shown, "?")] = 0;
}

static bool check_route(struct request *r, unsigned methods)
{
        char allow[64];

        if (!methods) {
                problem(r, PROBLEM_NOT_FOUND, "no resource has this path");
        } else if (!r->route) {
                problem(r, PROBLEM_METHOD_NOT_ALLOWED, "this path takes %s", methods_text(methods, allow));
                response_header(r, "Allow", allow);
        }
        return !r->response;
}

/* What it took to know who asks goes back at once: the body may take its time. */
static bool check_access(struct request *r)
{
        bool known = access_identify(r);

        if (r->reader)
                server_put_reader(r->server, TAKE_PTR(r->reader));
        return known && access_allows(r);
}

/* Names the nearest that there is. */
static void unknown_param(struct request *r, const char *name)
{
        const char *list = r->route->params;
        char nearest[32] = "", known[32];
        size_t best = SIZE_MAX, n;

        for (const char *p = list; *p; p += n + (p[n] == ' ')) {
                n = strcspn(p, " ");
                (void)snprintf(known, sizeof known, "%.*s", (int)n, p);
                if (text_is_nearer(known, name, &best))
                        memcpy(nearest, known, sizeof nearest);
        }
        (void)errors_add(&r->errs, -EINVAL, name, "there is no such parameter%s%s%s%s%s", *nearest ? "; is it " : "",
                         nearest, *nearest ? " that is meant?" : "",
                         !*list     ? ""
                         : *nearest ? " There are: "
                                    : "; there are: ",
                         list);
}

static bool check_params(struct request *r)
{
        if (r->route->handler == static_read)
                return true; /* files take none and ignore them: a cache-busting ?v=2 is harmless */
        for (size_t i = 0; i < r->target.n_params; i++)
                if (!route_takes_param(r->route, r->target.params[i].name))
                        unknown_param(r, r->target.params[i].name);
        if (r->errs.n)
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
        return !r->response;
}

/* What the Content-Length header says, 0 without one; MHD has refused what is no number. */
static int64_t content_length(const struct request *r)
{
        const char *s = request_header(r, "Content-Length");

        return s ? (int64_t)MIN(strtoull(s, NULL, 10), (unsigned long long)INT64_MAX) : 0;
}

static void too_large(struct request *r)
{
        problem(r, PROBLEM_BODY_TOO_LARGE, "at most %zu bytes are taken", r->body.ceiling);
}

static bool check_body(struct request *r)
{
        const char *type = request_header(r, "Content-Type"), *coding = request_header(r, "Content-Encoding");

        if ((r->route->method == METHOD_POST || r->route->method == METHOD_PATCH) &&
            (!type || !media_type_is_json(type)))
                problem(r, PROBLEM_NOT_JSON_TYPE, "POST and PATCH take Content-Type: application/json");
        else if (coding && strcasecmp(coding, "identity") != 0)
                problem(r, PROBLEM_NOT_JSON_TYPE,
                        "the body is compressed (Content-Encoding: %.40s): it is taken as it is", coding);
        else if (content_length(r) > (int64_t)r->body.ceiling)
                too_large(r);
        return !r->response;
}

static void check(struct request *r, const char *method, const char *version)
{
        unsigned methods;

        request_identify(r, method);
        methods = find_route(r, method);
        hide_secrets(r);
        (void)(check_framing(r, method, version) && check_host(r) && check_origin(r) && check_target(r) &&
               check_route(r, methods) && check_access(r) && check_params(r) && check_body(r));
}

/* ---- the way of a request */

/* false: the connection is to be closed. */
static bool take_body(struct request *r, const char *data, size_t size)
{
        r->body_seen += (int64_t)size;
        if (!r->response && r->body_seen > (int64_t)r->body.ceiling)
                too_large(r);
        if (!r->response && !server_hold_body(r, r->body.size + size)) {
                problem(r, PROBLEM_BUSY, "too many large requests come in at once");
                response_header(r, "Retry-After", "10");
        }
        if (!r->response && buf_append(&r->body, data, size, NULL) < 0)
                problem(r, PROBLEM_INTERNAL, "no memory for the body");
        if (r->response)
                request_drop_body(r);
        return r->body_seen <= BODY_DROP_MAX;
}

static enum MHD_Result queue(struct request *r)
{
        struct MHD_Response *response;
        enum MHD_Result ok;

        if (r->response && r->long_answer && !server_count_long(r, true)) {
                problem(r, PROBLEM_BUSY, "ask again when others have read their answers");
                response_header(r, "Retry-After", "10");
        }
        connection_sends(r->connection);
        metrics_answered(&r->server->metrics, clock_monotonic_us() - r->came_us);
        if (r->response && r->is_last)
                response_header(r, "Connection", "close");
        response = TAKE_PTR(r->response);
        if (!response)
                return MHD_NO;
        ok = MHD_queue_response(r->connection, r->status, response);
        MHD_destroy_response(response);
        return ok;
}

/* What server_free waits for; who is still saying what he wants is not waited for. */
static void count_handled(struct server *s)
{
        (void)pthread_mutex_lock(&s->lock);
        s->n_handled++;
        (void)pthread_mutex_unlock(&s->lock);
}

/* The handler, or its continuation after the daemon's answer. */
static enum MHD_Result run(struct request *r)
{
        bool again = r->handled;
        route_handler *handler = again ? TAKE_PTR(r->then) : r->route->handler;

        if (!again)
                count_handled(r->server);
        if (!again && r->route->method != METHOD_GET)
                access_audit(r, &r->by);
        r->handled = true;
        connection_works(r->connection);
        (void)json_ran_out(); /* of a request before */
        if (again || r->route->method != METHOD_GET || !kept_answer(r))
                handler(r);
        if (r->reader)
                server_put_reader(r->server, TAKE_PTR(r->reader));
        if (r->apart && apart_submit(r->server->apart, r))
                return MHD_YES;
        if (TAKE_PTR(r->apart)) {
                problem(r, PROBLEM_BUSY, "too many ask for much at once");
                response_header(r, "Retry-After", "1");
        }
        if (r->then)
                return MHD_YES; /* suspended, or already resumed: in either case we are called again */
        if (!r->response)
                problem(r, PROBLEM_INTERNAL, "the request was not answered");
        return queue(r);
}

static enum MHD_Result on_request(void *user _unused_, struct MHD_Connection *c, const char *url _unused_,
                                  const char *method, const char *version, const char *data, size_t *size, void **slot)
{
        struct request *r = *slot;

        if (!r)
                return MHD_NO; /* no memory for it */
        if (!r->checked) {
                r->checked = true;
                r->head = !strcmp(method, "HEAD");
                connection_heard(c);
                check(r, method, version);
                if (r->must_close) /* what follows may be taken for another request: nothing more is read */
                        return queue(r);
                /* who waits for a 100, or announces more than we would drop, is answered at once */
                if (r->response && (request_header(r, "Expect") || content_length(r) > BODY_DROP_MAX))
                        return queue(r);
                return MHD_YES;
        }
        if (*size) {
                size_t n = *size;

                *size = 0;
                return take_body(r, data, n) ? MHD_YES : MHD_NO;
        }
        return r->response || (r->worked && !r->then) ? queue(r) : run(r);
}

static void *uri_seen(void *user, const char *uri, struct MHD_Connection *c)
{
        return request_new(user, c, uri);
}

static void on_completed(void *user, struct MHD_Connection *c, void **slot,
                         enum MHD_RequestTerminationCode code _unused_)
{
        struct server *s = user;
        struct request *r = TAKE_PTR(*slot);
        bool counted = r && r->handled;

        if (r) {
                s->metrics.answers[MIN(r->status / 100, 5U)]++;
                s->metrics.bytes += (unsigned long long)r->sent_bytes;
                request_logged(r);
        }
        (void)request_free(r);
        connection_answered(c);
        if (!counted)
                return;
        (void)pthread_mutex_lock(&s->lock);
        if (!--s->n_handled)
                (void)pthread_cond_signal(&s->idle);
        (void)pthread_mutex_unlock(&s->lock);
}

/* The path and its query are decoded by target_parse, once. */
static size_t leave_escaped(void *user _unused_, struct MHD_Connection *c _unused_, char *s)
{
        return strlen(s);
}

/* ---- life */

static int copy_text(const char **text)
{
        *text = strdup(*text ? *text : "");
        return *text ? 0 : -ENOMEM;
}

static int copy_settings(const struct server_settings *from, struct server_settings *to, struct error *err)
{
        const char **texts[] = {&to->state_folder, &to->web_folder, &to->configs_folder, &to->certificate,
                                &to->key,          &to->prefix,     &to->allowed_hosts};
        int r = 0;

        *to = *from;
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                r |= copy_text(texts[i]);
        to->threads = MAX(1, MIN(from->threads, READERS_MAX));
        if (!to->connections || to->connections > CONNECTIONS_MAX)
                to->connections = CONNECTIONS_MAX;
        if (!to->idle_us)
                to->idle_us = IDLE_DEFAULT_US;
        if (!to->max_body_bytes)
                to->max_body_bytes = BODY_BYTES_DEFAULT;
        return r ? error_set(err, -ENOMEM, NULL, "no memory") : 0;
}

static void free_settings(struct server_settings *s)
{
        free((char *)s->state_folder);
        free((char *)s->web_folder);
        free((char *)s->configs_folder);
        free((char *)s->certificate);
        free((char *)s->key);
        free((char *)s->prefix);
        free((char *)s->allowed_hosts);
}

static int note_token(const struct token_row *t _unused_, void *user)
{
        *(bool *)user = true;
        return 0;
}

/* Whoever is not on this machine comes with a token, over TLS, or not at all. */
static int check_listeners(struct server *s, struct error *err)
{
        struct reader *reader;
        bool tokens = false;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < s->settings.n_listeners; i++) {
                const struct listener_setting *l = &s->settings.listeners[i];
                char where[128];

                listener_text(l, 0, where, sizeof where);
                if (l->tls && (!*s->settings.certificate || !*s->settings.key))
                        return error_set(err, -EPERM, where, "TLS needs certificate and key");
                if (listener_is_local(l))
                        continue;
                if (!l->tls)
                        return error_set(err, -EPERM, where, "others reach this address: it takes TLS (tls:%s)", where);
                r = server_take_reader(s, &reader, err);
                if (r >= 0) {
                        r = reader_tokens(reader, note_token, &tokens, err);
                        server_put_reader(s, reader);
                }
                if (r >= 0 && !tokens)
                        r = error_set(
                                err, -EPERM, where,
                                "others reach this address, and nobody has a token: make one before (start without "
                                "it, mulunctl token add NAME --role admin)");
        }
        return r;
}

/* Listeners have their connections each: whoever takes all of one leaves the others. */
static int start(struct server *s, size_t i, struct error *err)
{
        const struct listener_setting *l = &s->settings.listeners[i];
        const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
        bool local = l->address.any.sa_family == AF_UNIX;
        _cleanup_(closep) int fd = -1;
        int r = listener_open(l, s->settings.socket_group, &fd, &s->ports[i], err);

        if (r < 0)
                return r;
        s->mhds[i] = MHD_start_daemon(flags | (l->tls ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, s, /* */
                                      MHD_OPTION_LISTEN_SOCKET, fd,                                     /* */
                                      MHD_OPTION_THREAD_POOL_SIZE,
                                      (unsigned)(s->settings.threads > 1 && !local ? s->settings.threads : 0),
                                      MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->settings.connections, /* */
                                      MHD_OPTION_CONNECTION_TIMEOUT, 0U, /* connections.c knows what progress is */
                                      MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, /* */
                                      MHD_OPTION_STRICT_FOR_CLIENT, 1,                       /* */
                                      MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,     /* */
                                      MHD_OPTION_URI_LOG_CALLBACK, uri_seen, s,              /* */
                                      MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,          /* */
                                      MHD_OPTION_NOTIFY_CONNECTION, connections_notify, s->connections,
                                      l->tls ? MHD_OPTION_HTTPS_CERT_CALLBACK : MHD_OPTION_END, tls_callback(), /* */
                                      MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES, MHD_OPTION_END);
        if (!s->mhds[i])
                return error_set(err, -EIO, NULL, "libmicrohttpd does not start: %s", strerror(errno));
        (void)TAKE_FD(fd); /* MHD's now */
        return 0;
}

int server_new(const struct server_settings *settings, struct server **ret, struct error *err)
{
        struct server *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return error_set(err, -ENOMEM, NULL, "no memory for a server");
        (void)pthread_mutex_init(&s->lock, NULL);
        (void)pthread_cond_init(&s->idle, NULL);
        (void)getrandom(&s->identity, sizeof s->identity, 0);
        r = copy_settings(settings, &s->settings, err);
        if (r >= 0)
                r = check_listeners(s, err);
        if (r >= 0 && *s->settings.certificate)
                r = tls_new(s->settings.certificate, s->settings.key, &s->tls, err);
        if (r >= 0)
                r = connections_new(s->settings.connections, s->settings.idle_us, &s->connections, err);
        if (r >= 0)
                r = apart_new(&s->apart, err);
        if (r >= 0)
                r = events_new(s, s->settings.idle_us / 3, &s->events, err);
        if (r >= 0)
                r = kept_new(&s->kept, err);
        if (r >= 0)
                r = access_new(s->settings.token_rate, &s->access, err);
        if (r >= 0)
                r = links_new(&s->links, err);
        for (size_t i = 0; r >= 0 && i < s->settings.n_listeners; i++)
                r = start(s, i, err);
        if (r < 0) {
                (void)server_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

int server_reload(struct server *s, struct error *err)
{
        return s->tls ? tls_reload(s->tls, err) : 0;
}

const char *server_library_version(void)
{
        return MHD_get_version();
}

void server_changed(struct server *s)
{
        events_changed(s->events);
}

int server_port(const struct server *s, size_t listener)
{
        return s->ports[listener];
}

/* Answers under way are given a moment to be sent. */
static void wait_for_requests(struct server *s)
{
        struct timespec until;

        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += STOP_WAIT_S;
        (void)pthread_mutex_lock(&s->lock);
        while (s->n_handled)
                if (pthread_cond_timedwait(&s->idle, &s->lock, &until))
                        break;
        (void)pthread_mutex_unlock(&s->lock);
}

struct server *server_free(struct server *s)
{
        MHD_socket fds[LISTENERS_MAX];

        if (!s)
                return NULL;
        for (size_t i = 0; i < LISTENERS_MAX; i++)
                fds[i] = s->mhds[i] ? MHD_quiesce_daemon(s->mhds[i]) : MHD_INVALID_SOCKET;
        pending_abandon_all(s);
        apart_stop(s->apart);
        events_stop(s->events);
        wait_for_requests(s);
        for (size_t i = 0; i < LISTENERS_MAX; i++) {
                if (s->mhds[i])
                        MHD_stop_daemon(s->mhds[i]);
                if (fds[i] != MHD_INVALID_SOCKET)
                        (void)close(fds[i]);
        }
        s->apart = apart_free(s->apart);
        s->events = events_free(s->events);
        s->kept = kept_free(s->kept);
        s->connections = connections_free(s->connections);
        s->access = access_free(s->access);
        s->links = links_free(s->links);
        while (s->n_readers)
                (void)reader_close(s->readers[--s->n_readers]);
        s->tls = tls_free(s->tls);
        free_settings(&s->settings);
        (void)pthread_mutex_destroy(&s->lock);
        (void)pthread_cond_destroy(&s->idle);
        free(s);
        return NULL;
}
