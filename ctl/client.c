#include "ctl/client.h"

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
        struct curl_slist *headers;
        char *server; /* without a slash at its end */
};

/* An answer on its way: to a file when it is a success, else to the reply. */
struct download {
        struct client *client;
        struct reply *reply;
        FILE *to;
};

int client_new(const char *server, struct client **ret, struct error *err)
{
        _cleanup_(client_freep) struct client *c = calloc(1, sizeof *c);

        if (!c || curl_global_init(CURL_GLOBAL_DEFAULT))
                return error_set(err, -ENOMEM, NULL, "no memory");
        if (strncasecmp(server, "http://", 7) != 0 && strncasecmp(server, "https://", 8) != 0)
                return error_set(err, -EINVAL, NULL, "the server is a URL such as http://127.0.0.1:8700");
        c->server = strdup(server);
        c->curl = curl_easy_init();
        c->headers = curl_slist_append(NULL, "Content-Type: application/json");
        if (!c->server || !c->curl || !c->headers)
                return error_set(err, -ENOMEM, NULL, "no memory");
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
        free(c->server);
        free(c);
        return NULL;
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
        (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, TIMEOUT_S);
        (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "mulunctl/" MULUND_VERSION);
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, r);
        (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
        (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, r);
        if (!strcmp(method, "POST") || !strcmp(method, "PATCH")) {
                (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, c->headers);
                (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
                (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        }
}

int client_request(struct client *c, const char *method, const char *path, const json_t *body, struct reply *ret,
                   struct error *err)
{
        _cleanup_(freep) char *text = body ? json_to_text(body) : strdup("{}");
        _cleanup_(buf_done) struct buf url = BUF_INIT(1 << 20);
        struct reply r = {.body = BUF_INIT(REPLY_BYTES_MAX), .next_offset = -1};
        CURLcode code;
        int n = buf_printf(&url, err, "%s%s", c->server, path);

        if (n < 0)
                return n;
        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory");
        set_options(c, method, url.data, text, &r);
        code = curl_easy_perform(c->curl);
        if (code != CURLE_OK) {
                reply_done(&r);
                if (code == CURLE_COULDNT_CONNECT || code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR ||
                    code == CURLE_SEND_ERROR || code == CURLE_OPERATION_TIMEDOUT)
                        return error_set(err, -ECONNREFUSED, NULL, "no answer from %s: is mulund running?", c->server);
                return error_set(err, -EINVAL, NULL, "%s: %s", c->server, curl_easy_strerror(code));
        }
        (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &r.status);
        (void)json_parse(r.body.data, r.body.size, &r.document, NULL);
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
                (void)buf_printf(text, NULL, "%s answered %ld: is it mulund?", c->server, r->status);
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
                reply_done(&r);
                return -EREMOTEIO;
        }
        *ret = r;
        return 0;
}

static size_t on_download(char *data, size_t size, size_t n, void *user)
{
        struct download *d = user;
        long status = 0;

        (void)curl_easy_getinfo(d->client->curl, CURLINFO_RESPONSE_CODE, &status);
        return status == 200 ? fwrite(data, 1, size * n, d->to) : on_body(data, size, n, d->reply);
}

int client_download(struct client *c, const char *path, FILE *to, struct buf *text)
{
        _cleanup_(reply_done) struct reply r = {.body = BUF_INIT(REPLY_BYTES_MAX)};
        _cleanup_(buf_done) struct buf url = BUF_INIT(1 << 20);
        struct download d = {.client = c, .reply = &r, .to = to};
        CURLcode code;

        if (buf_printf(&url, NULL, "%s%s", c->server, path) < 0)
                return -ENOMEM;
        set_options(c, "GET", url.data, NULL, &r);
        (void)curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 0L);
        (void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_download);
        (void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &d);
        code = curl_easy_perform(c->curl);
        (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &r.status);
        if (code != CURLE_OK) {
                (void)buf_printf(text, NULL, "%s: %s", c->server, curl_easy_strerror(code));
                return -EIO;
        }
        (void)json_parse(r.body.data ? r.body.data : "", r.body.size, &r.document, NULL);
        if (r.status == 200)
                return 0;
        describe_problem(c, &r, text);
        return -EREMOTEIO;
}

char *client_escape(const char *s)
{
        char *escaped = curl_easy_escape(NULL, s, 0), *copy = escaped ? strdup(escaped) : NULL;

        curl_free(escaped);
        return copy;
}
