#include "ctl/client.h"

#include "contract/text.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define REPLY_BYTES_MAX ((size_t)256 << 20)
#define CONNECT_TIMEOUT_S 5L
#define TIMEOUT_S 60L

struct client {
        CURL *curl;
        struct curl_slist *headers, *plain; /* with a body, and without */
        char *server;                       /* without a slash at its end */
        char *socket;                       /* its path, or NULL */
        bool alone;                         /* nobody answered the last request */
        bool exact;
        long patience_s;
};

/* An answer on its way: to a file when it is a success, else to the reply. */
struct download {
        struct client *client;
        struct reply *reply;
        FILE *to;
        int64_t done, total;                                       /* bytes that it has, and will have */
        void (*progress)(void *user, int64_t done, int64_t total); /* or NULL */
        void *user;
};

/* Header "name: value" to both lists. */
static bool add_header(struct client *c, const char *name, const char *value)
{
        _cleanup_(freep) char *line = NULL;
        struct curl_slist *with, *without;

        if (asprintf(&line, "%s: %s", name, value) < 0)
                return false;
        with = curl_slist_append(c->headers, line);
        without = curl_slist_append(c->plain, line);
        c->headers = with ? with : c->headers;
        c->plain = without ? without : c->plain;
        return with && without;
}

int client_new(const char *server, const char *token, struct client **ret, struct error *err)
{
        _cleanup_(client_freep) struct client *c = calloc(1, sizeof *c);
        bool socket = server[0] == '/';

        if (!c || curl_global_init(CURL_GLOBAL_DEFAULT))
                return error_set(err, -ENOMEM, NULL, "no memory");
        if (!socket && strncasecmp(server, "http://", 7) != 0 && strncasecmp(server, "https://", 8) != 0)
                return error_set(err, -EINVAL, NULL,
                                 "the server is a URL such as http://127.0.0.1:8700, or the path of its socket");
        c->patience_s = TIMEOUT_S;
        c->server = strdup(socket ? "http://localhost" : server);
        c->socket = socket ? strdup(server) : NULL;
        c->curl = curl_easy_init();
        c->headers = curl_slist_append(NULL, "Content-Type: application/json");
        if (!c->server || !c->curl || !c->headers || (socket && !c->socket))
                return error_set(err, -ENOMEM, NULL, "no memory");
        if (token && *token) {
                _cleanup_(freep) char *value = NULL;

                if (asprintf(&value, "Bearer %s", token) < 0 || !add_header(c, "Authorization", value))
                        return error_set(err, -ENOMEM, NULL, "no memory");
        }
        while (*c->server && c->server[strlen(c->server) - 1] == '/')
                c->server[strlen(c->server) - 1] = 0;
        *ret = TAKE_PTR(c);
        return 0;
}

struct client *client_free(struct client *c)
{
        if (!c)
                return NULL;
        curl_easy_cleanup(c->curl);
        curl_slist_free_all(c->headers);
        curl_slist_free_all(c->plain);
        free(c->server);
        free(c->socket);
        free(c);
        return NULL;
}

bool client_is_alone(const struct client *c)
{
        return c->alone;
}

/* How it is called in messages. */
static const char *shown(const struct client *c)
{
        return c->socket ? c->socket : c->server;
}

void client_set_patience(struct client *c, long seconds)
{
        c->patience_s = seconds;
}

void client_set_exact(struct client *c)
{
        c->exact = true;
}

/* All texts of a document, whose keys are the API's own. */
static void make_plain(json_t *v)
{
        const char *key;
        json_t *of;
        size_t i;

        if (json_is_string(v)) {
                _cleanup_(freep) char *text = strdup(json_string_value(v));

                if (text)
                        text_make_plain(text, "\n\t");
                (void)json_string_set(v, text ? text : "");
        }
        json_object_foreach(v, key, of)
        {
                make_plain(of);
        }
        json_array_foreach(v, i, of)
        {
                make_plain(of);
        }
}

void reply_done(struct reply *r)
{
        buf_done(&r->body);
        json_decref(r->document);
        *r = (struct reply){0};
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
        struct reply *r = user;

        return buf_append(&r->body, data, size * n, NULL) < 0 ? 0 : size * n;
}

static size_t on_header(char *data, size_t size, size_t n, void *user)
{
        static const char name[] = "X-Log-Next-Offset:";
        struct reply *r = user;
        char value[32];

        if (size * n > strlen(name) && !strncasecmp(data, name, strlen(name))) {
                (void)snprintf(value, sizeof value, "%.*s", (int)(size * n - strlen(name)), data + strlen(name));
                r->next_offset = strtoll(value, NULL, 10);
        }
        return size * n;
}

static void set_options(struct client *c, const char *method, const char *url, const char *body, struct reply *r)
{
        CURL *curl = c->curl;

        curl_easy_reset(curl); /* keeps the connection */
        (void)curl_easy_setopt(curl, CURLOPT_URL, url);
        (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "127.0.0.1,localhost");
        (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
        (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, c->patience_s);
        (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "mulunctl/" MULUND_VERSION);
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, r);
        (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
        (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, r);
        if (c->socket)
                (void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
        (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, c->plain);
        if (!strcmp(method, "POST") || !strcmp(method, "PATCH")) {
                (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, c->headers);
                (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
                (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        }
}

static int nobody(struct client *c, struct error *err)
{
        c->alone = true;
        return error_set(err, -ECONNREFUSED, NULL, "no answer from %s: is mulund running?", shown(c));
}

static int perform(struct client *c, struct error *err)
{
        CURLcode code = curl_easy_perform(c->curl);

        c->alone = code == CURLE_COULDNT_CONNECT || code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR ||
                   code == CURLE_SEND_ERROR || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_COULDNT_RESOLVE_HOST;
        if (code == CURLE_OK)
                return 0;
        if (c->alone)
                return nobody(c, err);
        return error_set(err, -EIO, NULL, "%s: %s", shown(c), curl_easy_strerror(code));
}

/* A proxy's word that there is nobody behind it, not one of mulund's problems. */
static bool is_of_proxy(const struct reply *r)
{
        return (r->status == 502 || r->status == 503 || r->status == 504) && !json_object_get(r->document, "title");
}

int client_request(struct client *c, const char *method, const char *path, const json_t *body, struct reply *ret,
                   struct error *err)
{
        _cleanup_(freep) char *text = body ? json_to_text(body) : strdup("{}");
        _cleanup_(buf_done) struct buf url = BUF_INIT(1 << 20);
        struct reply r = {.body = BUF_INIT(REPLY_BYTES_MAX), .next_offset = -1};
        int n = buf_printf(&url, err, "%s%s", c->server, path);

        if (n < 0)
                return n;
        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory");
        set_options(c, method, url.data, text, &r);
        n = perform(c, err);
        if (n < 0) {
                reply_done(&r);
                return n;
        }
        (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &r.status);
        (void)json_parse(r.body.data, r.body.size, &r.document, NULL);
        if (is_of_proxy(&r)) {
                reply_done(&r);
                return nobody(c, err);
        }
        if (!c->exact)
                make_plain(r.document);
        *ret = r;
        return 0;
}

static void describe_problem(const struct client *c, const struct reply *r, struct buf *text)
{
        const char *title = json_string_value(json_object_get(r->document, "title"));
        const char *detail = json_string_value(json_object_get(r->document, "detail"));
        const json_t *errors = json_object_get(r->document, "errors"), *e;
        size_t i;

        if (!title) {
                (void)buf_printf(text, NULL, "%s answered %ld: is it mulund?", shown(c), r->status);
                return;
        }
        (void)buf_printf(text, NULL, "%s%s%s", title, detail ? ": " : "", detail ? detail : "");
        json_array_foreach(errors, i, e)
        {
                const char *where = json_string_value(json_object_get(e, "pointer"));
                const char *what = json_string_value(json_object_get(e, "detail"));

                if (!where)
                        where = json_string_value(json_object_get(e, "parameter"));
                (void)buf_printf(text, NULL, "\n  %s: %s", where && *where ? where : "/", what ? what : "is not valid");
        }
        if (text->data)
                text_make_plain(text->data, "\n\t");
}

/* Others in a while, or it is starting or ending. */
static bool comes_again(const struct reply *r)
{
        return r->status == 429 || r->status == 503;
}

int client_expect(struct client *c, const char *method, const char *path, const json_t *body, struct reply *ret,
                  struct buf *text)
{
        struct reply r;
        struct error err;
        int n = client_request(c, method, path, body, &r, &err);

        if (n < 0) {
                (void)buf_printf(text, NULL, "%s", err.text);
                return n;
        }
        if (r.status < 200 || r.status > 299) {
                describe_problem(c, &r, text);
                n = comes_again(&r) ? -EAGAIN : -EREMOTEIO;
        } else if (r.status != 204 && !json_is_object(r.document)) { /* a page of whoever else listens there */
                (void)buf_printf(text, NULL, "%s answered what is no answer of mulund's: is it mulund?", shown(c));
                n = -EREMOTEIO;
        }
        if (n < 0) {
                reply_done(&r);
                return n;
        }
        *ret = r;
        return 0;
}

static size_t on_download(char *data, size_t size, size_t n, void *user)
{
        struct download *d = user;
        long status = 0;

        (void)curl_easy_getinfo(d->client->curl, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200 && status != 206)
                return on_body(data, size, n, d->reply);
        d->done += (int64_t)(size * n);
        if (d->progress)
                d->progress(d->user, d->done, d->total);
        return fwrite(data, 1, size * n, d->to);
}

/* GET to a file as it comes; what is no success becomes a reply whose problem is described. */
static int transfer(struct client *c, const char *path, struct download *d, struct buf *text)
{
        _cleanup_(buf_done) struct buf url = BUF_INIT(1 << 20);
        struct reply *r = d->reply;
        int64_t had = d->done;
        struct error err;
        int n;

        if (buf_printf(&url, NULL, "%s%s", c->server, path) < 0)
                return -ENOMEM;
        set_options(c, "GET", url.data, NULL, r);
        (void)curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 0L);
        (void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        (void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, TIMEOUT_S);
        (void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_download);
        (void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, d);
        if (d->done > 0)
                (void)curl_easy_setopt(c->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)d->done);
        n = perform(c, &err);
        if (n < 0) {
                (void)buf_printf(text, NULL, "%s", err.text);
                return d->done > had ? -EIO : n;
        }
        (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &r->status);
        if (r->status == 200 || r->status == 206)
                return 0;
        (void)json_parse(r->body.data ? r->body.data : "", r->body.size, &r->document, NULL);
        if (is_of_proxy(r)) {
                n = nobody(c, &err);
                (void)buf_printf(text, NULL, "%s", err.text);
                return n;
        }
        describe_problem(c, r, text);
        return comes_again(r) ? -EAGAIN : -EREMOTEIO;
}

int client_download(struct client *c, const char *path, FILE *to, struct buf *text)
{
        _cleanup_(reply_done) struct reply r = {.body = BUF_INIT(REPLY_BYTES_MAX)};

        return transfer(c, path, &(struct download){.client = c, .reply = &r, .to = to}, text);
}

int client_stream(struct client *c, const char *path, int64_t *ret_next, int64_t *ret_bytes, struct buf *text)
{
        _cleanup_(reply_done) struct reply r = {.body = BUF_INIT(REPLY_BYTES_MAX), .next_offset = -1};
        struct download d = {.client = c, .reply = &r, .to = stdout};
        int n = transfer(c, path, &d, text);

        *ret_next = r.next_offset;
        *ret_bytes = d.done;
        return n;
}

/* ---- files that go on */

static size_t on_head(char *data, size_t size, size_t n, void *user)
{
        struct file_head *h = user;
        char line[512], *at;

        (void)snprintf(line, sizeof line, "%.*s", (int)(size * n), data);
        line[strcspn(line, "\r\n")] = 0;
        if (!strncasecmp(line, "ETag: \"", 7))
                (void)snprintf(h->digest, sizeof h->digest, "%.*s", (int)strcspn(line + 7, "\""), line + 7);
        else if (!strncasecmp(line, "Content-Length: ", 16))
                h->bytes = strtoll(line + 16, NULL, 10);
        else if (!strncasecmp(line, "Content-Disposition: ", 21) && (at = strstr(line, "filename=\"")))
                (void)snprintf(h->name, sizeof h->name, "%.*s", (int)strcspn(at + 10, "\""), at + 10);
        return size * n;
}

int client_head(struct client *c, const char *path, struct file_head *ret, struct buf *text)
{
        _cleanup_(reply_done) struct reply r = {.body = BUF_INIT(REPLY_BYTES_MAX)};
        _cleanup_(buf_done) struct buf url = BUF_INIT(1 << 20);
        struct file_head h = {.bytes = -1};
        struct error err;

        if (buf_printf(&url, NULL, "%s%s", c->server, path) < 0)
                return -ENOMEM;
        set_options(c, "HEAD", url.data, NULL, &r);
        (void)curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
        (void)curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_head);
        (void)curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, &h);
        if (perform(c, &err) < 0) {
                (void)buf_printf(text, NULL, "%s", err.text);
                return -EIO;
        }
        (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &r.status);
        if (r.status != 200 || h.bytes < 0 || !*h.digest || !*h.name || strchr(h.name, '/') || *h.name == '.' ||
            strchr(h.digest, '/')) {
                (void)buf_printf(text, NULL, r.status == 404 ? "there is no such artifact" : "%s answered %ld",
                                 shown(c), r.status);
                return -EREMOTEIO;
        }
        *ret = h;
        return 0;
}

int client_continue(struct client *c, const char *path, const struct file_head *head, const char *file,
                    void (*progress)(void *user, int64_t done, int64_t total), void *user, struct buf *text)
{
        _cleanup_(reply_done) struct reply r = {.body = BUF_INIT(REPLY_BYTES_MAX)};
        struct download d = {.client = c, .reply = &r, .total = head->bytes, .progress = progress, .user = user};
        int n = 0;

        d.to = fopen(file, "ab");
        if (!d.to) {
                (void)buf_printf(text, NULL, "%s cannot be written: %s", file, strerror(errno));
                return -EIO;
        }
        d.done = ftello(d.to);
        if (d.done < head->bytes)
                n = transfer(c, path, &d, text);
        if (fclose(d.to) && n >= 0) {
                n = -EIO;
                (void)buf_printf(text, NULL, "%s cannot be written: %s", file, strerror(errno));
        }
        return n;
}

char *client_escape(const char *s)
{
        char *escaped = curl_easy_escape(NULL, s, 0), *copy = escaped ? strdup(escaped) : NULL;

        curl_free(escaped);
        return copy;
}

char *client_list(const char *const *items, size_t n)
{
        _cleanup_(buf_done) struct buf list = BUF_INIT(1 << 20);
        int r = buf_reserve(&list, 1, NULL); /* none: an empty list */

        for (size_t i = 0; i < n && r >= 0; i++) {
                const bool quoted = strpbrk(items[i], ",\"") != NULL;

                r = buf_printf(&list, NULL, "%s%s", i ? "," : "", quoted ? "\"" : "");
                for (const char *c = items[i]; *c && r >= 0; c++)
                        r = buf_append(&list, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1, NULL);
                if (r >= 0 && quoted)
                        r = buf_append(&list, "\"", 1, NULL);
        }
        return r < 0 ? NULL : strdup(list.data);
}

char *client_escape_list(const char *const *items, size_t n)
{
        _cleanup_(freep) char *list = client_list(items, n);

        return list ? client_escape(list) : NULL;
}
