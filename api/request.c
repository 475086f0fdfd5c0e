#include "api/request.h"

#include "api/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "contract/text.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* What the daemon is given as `user`: outlives the request when the server ends before the daemon answers. One lock for
 * all of them, held only for the hand-over; resuming under it keeps server_free from stopping MHD in between. */
struct pending {
        struct request *request; /* NULL: abandoned */
        struct server *server;
        struct pending *next, **link;
};
static pthread_mutex_t pending_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pending *pendings;

static void unlink_pending(struct pending *p)
{
        *p->link = p->next;
        if (p->next)
                p->next->link = p->link;
        p->link = NULL;
        p->next = NULL;
}

struct request *request_new(struct server *s, struct MHD_Connection *c, const char *url)
{
        struct request *r = malloc(sizeof *r);

        if (!r) {
                log_error("no memory for a request: its connection is closed");
                return NULL;
        }
        memset(r, 0, offsetof(struct request, errs.items));
        r->server = s;
        r->connection = c;
        r->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        r->body.ceiling = s->settings.max_body_bytes;
        r->came_us = clock_monotonic_us();
        r->line_target = url;
        r->line_target_bytes = strlen(url); /* now: libmicrohttpd takes it apart, in place */
        (void)snprintf(r->shown, sizeof r->shown, "%s", url);
        if (target_parse(url, &r->target, &r->target_error) >= 0)
                target_drop_prefix(&r->target, s->settings.prefix);
        return r;
}

static void forget_pending(struct request *r)
{
        (void)pthread_mutex_lock(&pending_lock);
        if (r->pending) {
                r->pending->request = NULL;
                unlink_pending(r->pending);
        }
        (void)pthread_mutex_unlock(&pending_lock);
}

struct request *request_free(struct request *r)
{
        if (!r)
                return NULL;
        if (r->asked)
                forget_pending(r);
        target_done(&r->target);
        request_drop_body(r);
        server_count_long(r, false);
        job_row_done(&r->answer_job);
        free(r->answer_left);
        free(r->kept);
        if (r->response)
                MHD_destroy_response(r->response);
        if (r->reader)
                server_put_reader(r->server, r->reader);
        server_release(r->server, r->held_bytes);
        free(r);
        return NULL;
}

void request_identify(struct request *r, const char *method)
{
        const char *given = request_header(r, "X-Request-Id");

        (void)snprintf(r->method, sizeof r->method, "%s", method);
        if (given && text_is_plain_name(given, REQUEST_ID_MAX))
                (void)snprintf(r->request_id, sizeof r->request_id, "%s", given);
        else
                (void)snprintf(r->request_id, sizeof r->request_id, "%08x-%llx", r->server->identity,
                               (unsigned long long)++r->server->n_requests);
}

const struct server_settings *request_settings(const struct request *r)
{
        return &r->server->settings;
}

const char *request_header(const struct request *r, const char *name)
{
        return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

struct reader *request_reader(struct request *r)
{
        struct error err;
        int code;

        if (r->reader)
                return r->reader;
        code = server_take_reader(r->server, &r->reader, &err);
        if (code < 0)
                problem_failed(r, "the store cannot be read", code, &err);
        else if (r->apart)
                reader_watch(r->reader, apart_cancelled, r);
        return r->reader;
}

int request_job(struct request *r, struct reader *reader, int64_t id, struct job_row *ret)
{
        struct error err;
        int code = reader_job_without(reader, id, CONFIG_AS_TEXT, ret, &err);

        if (code == -ENOENT)
                problem(r, PROBLEM_NOT_FOUND, "there is no job %lld", (long long)id);
        else if (code < 0)
                problem_failed(r, "the job cannot be read", code, &err);
        return code;
}

void request_apart(struct request *r, route_handler *work, bool is_long)
{
        r->apart = work;
        r->is_long = is_long;
}

/* ---- the query */

int request_query_int(struct request *r, const char *name, int64_t min, int64_t max, int64_t *ret)
{
        const char *s = target_param(&r->target, name);

        if (!s)
                return 0;
        if (!int_parse(s, min, max, ret))
                return errors_add(&r->errs, -EINVAL, name, "expected an integer in %lld..%lld", (long long)min,
                                  (long long)max);
        return 1;
}

int request_choice(struct request *r, const char *param, const char *const *names, const char *s, size_t n)
{
        char list[400] = "";
        size_t used = 0;

        for (int i = 0; names[i]; i++) {
                if (strlen(names[i]) == n && !memcmp(names[i], s, n))
                        return i;
                used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
                assert(used < sizeof list);
        }
        (void)errors_add(&r->errs, -EINVAL, param, "expected one of %s", list);
        return -1;
}

int request_query_choice(struct request *r, const char *name, const char *const *names, int *ret)
{
        const char *s = target_param(&r->target, name);
        int i = s ? request_choice(r, name, names, s, strlen(s)) : -1;

        if (i >= 0)
                *ret = i;
        return !s ? 0 : i >= 0 ? 1 : -EINVAL;
}

int request_query_choices(struct request *r, const char *name, const char *const *names, unsigned *ret)
{
        const char *s = target_param(&r->target, name);
        unsigned bits = 0;

        if (!s)
                return 0;
        for (const char *p = s;; p++) {
                size_t n = strcspn(p, ",");
                int i = request_choice(r, name, names, p, n);

                if (i < 0)
                        return -EINVAL;
                bits |= 1U << i;
                p += n;
                if (!*p)
                        break;
        }
        *ret = bits;
        return 1;
}

int request_query_text(struct request *r, const char *name, size_t max_bytes, const char **ret)
{
        const char *s = target_param(&r->target, name);

        if (!s)
                return 0;
        if (!*s || strlen(s) > max_bytes)
                return errors_add(&r->errs, -EINVAL, name, "expected 1 to %zu bytes", max_bytes);
        *ret = s;
        return 1;
}

bool ids_add(int64_t *ids, size_t *n, size_t max, int64_t id)
{
        for (size_t i = 0; i < *n; i++)
                if (ids[i] == id)
                        return true;
        if (*n == max)
                return false;
        ids[(*n)++] = id;
        return true;
}

int request_query_ids(struct request *r, const char *name, size_t max, int64_t *ret, size_t *ret_n)
{
        const char *list = NULL;
        int found = request_query_text(r, name, TARGET_BYTES_MAX, &list);

        while (list) {
                char digits[24];
                size_t n = strcspn(list, ",");
                int64_t id;

                (void)snprintf(digits, sizeof digits, "%.*s", (int)MIN(n, sizeof digits - 1), list);
                if (!int_parse(digits, 1, INT64_MAX, &id))
                        return errors_add(&r->errs, -EINVAL, name, "expected ids of jobs, separated by commas");
                if (!ids_add(ret, ret_n, max, id))
                        return errors_add(&r->errs, -EINVAL, name, "at most %zu jobs at once", max);
                list = list[n] ? list + n + 1 : NULL;
        }
        return found;
}

/* ---- the body */

static void unknown_member(const char *const *keys, const char *key, const char *pointer, struct errors *errs)
{
        const char *nearest = text_nearest(keys, key);

        (void)errors_add(errs, -EINVAL, pointer, "there is no such member%s%s%s", nearest ? "; is it \"" : "",
                         nearest ? nearest : "", nearest ? "\" that is meant?" : "");
}

bool request_body(struct request *r, const char *const *keys, bool empty_too, json_t **ret)
{
        _cleanup_json_ json_t *o = NULL;
        struct errors errs = {0};
        struct error err;
        const char *key;
        json_t *v;
        int code;

        if (empty_too && !r->body.size) {
                *ret = json_object();
                return *ret != NULL;
        }
        /* a string may hold an escaped NUL, which is JSON: whoever reads the string refuses it where it does not
         * belong, at its pointer (a 422, not a 400) */
        code = json_parse_flags(r->body.data, r->body.size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &o, &err);
        if (code == -EEXIST) { /* which of them is meant, only its client knows */
                (void)errors_add(&errs, -EINVAL, "", "%s", err.text);
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return false;
        }
        if (code < 0) {
                problem(r, code == -ENOMEM ? PROBLEM_INTERNAL : PROBLEM_NOT_JSON, "%s", err.text);
                return false;
        }
        if (!json_is_object(o)) {
                (void)errors_add(&errs, -EINVAL, "", "expected an object");
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return false;
        }
        json_object_foreach(o, key, v)
        {
                const char *const *k = keys;
                char pointer[sizeof err.path];

                while (*k && strcmp(*k, key))
                        k++;
                if (*k)
                        continue;
                json_pointer_append(pointer, sizeof pointer, "", key);
                unknown_member(keys, key, pointer, &errs);
        }
        if (errs.n) {
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return false;
        }
        *ret = TAKE_PTR(o);
        return true;
}

bool request_read_key(struct request *r, struct request_key *ret)
{
        const char *key = request_header(r, "Idempotency-Key");
        size_t n = key ? strlen(key) : 0;

        if (!key)
                return true;
        for (size_t i = 0; i < n; i++)
                if (key[i] < '!' || key[i] > '~')
                        n = 0;
        if (!n || n > REQUEST_KEY_MAX) {
                problem(r, PROBLEM_BAD_HEADER, "Idempotency-Key takes 1 to %d letters, without spaces",
                        REQUEST_KEY_MAX);
                return false;
        }
        (void)snprintf(ret->key, sizeof ret->key, "%s", key);
        if (r->who.token[0]) /* another's key is another */
                (void)snprintf(ret->key + n, sizeof ret->key - n, " %s", r->who.token);
        else if (r->who.uid >= 0)
                (void)snprintf(ret->key + n, sizeof ret->key - n, " uid:%lld", (long long)r->who.uid);
        memory_digest(r->body.data, r->body.size, ret->digest);
        return true;
}

/* ---- asking the daemon */

struct pending *request_ask(struct request *r, route_handler *then)
{
        struct pending *p = calloc(1, sizeof *p);

        if (!p) {
                problem(r, PROBLEM_INTERNAL, "no memory");
                return NULL;
        }
        (void)pthread_mutex_lock(&pending_lock);
        if (r->server->stopping) {
                (void)pthread_mutex_unlock(&pending_lock);
                free(p);
                problem(r, PROBLEM_UNAVAILABLE, "ask again when it has started again");
                return NULL;
        }
        p->request = r;
        p->server = r->server;
        p->next = pendings;
        p->link = &pendings;
        if (pendings)
                pendings->link = &p->next;
        pendings = p;
        r->pending = p;
        r->asked = true;
        r->then = then;
        MHD_suspend_connection(r->connection);
        (void)pthread_mutex_unlock(&pending_lock);
        return p;
}

/* Without memory none is left: they are counted as refused. */
static const int64_t *keep_left(struct request *r, const struct control_answer *answer)
{
        free(r->answer_left);
        r->answer_left = answer->n_left ? malloc(answer->n_left * sizeof *r->answer_left) : NULL;
        if (r->answer_left)
                memcpy(r->answer_left, answer->left, answer->n_left * sizeof *r->answer_left);
        else
                r->answer.n_left = 0;
        return r->answer_left;
}

/* With the lock. */
static void resume(struct pending *p, const struct control_answer *answer)
{
        struct request *r = p->request;

        r->answer = *answer;
        errors_copy(&r->errs, answer->errs);
        r->answer.errs = &r->errs;
        r->answer.left = keep_left(r, answer);
        if (answer->job) {
                r->answer_job = *answer->job;
                *answer->job = (struct job_row){0};
                r->answer.job = &r->answer_job;
        }
        r->pending = NULL;
        p->request = NULL;
        unlink_pending(p);
        MHD_resume_connection(r->connection);
}

void request_done(void *user, const struct control_answer *answer)
{
        struct pending *p = user;

        (void)pthread_mutex_lock(&pending_lock);
        if (p->request)
                resume(p, answer);
        (void)pthread_mutex_unlock(&pending_lock);
        free(p);
}

void pending_abandon_all(struct server *s)
{
        static const struct control_answer unavailable = {.r = -ESHUTDOWN};

        (void)pthread_mutex_lock(&pending_lock);
        s->stopping = true;
        for (struct pending *p = pendings, *next; p; p = next) {
                next = p->next;
                if (p->server == s)
                        resume(p, &unavailable); /* p itself is freed when the daemon answers */
        }
        (void)pthread_mutex_unlock(&pending_lock);
}

void request_refused(struct request *r, enum problem for_invalid)
{
        const struct control_answer *a = &r->answer;
        const char *text = a->errs->n ? a->errs->items[0].text : NULL;

        switch (a->r) {
        case -EINVAL:
                problem_errors(r, for_invalid, a->errs);
                break;
        case -ENOENT:
                problem(r, PROBLEM_NOT_FOUND, "%s", text ? text : "there is no such job");
                break;
        case -EBUSY:
                assert(a->state < JOB_STATE_N);
                problem(r, PROBLEM_CONFLICT, "the job is %s%s%s", job_state_names[a->state], text ? ": " : "",
                        text ? text : "");
                break;
        case -EKEYREJECTED:
                problem(r, PROBLEM_KEY_REUSED, "give another request another key");
                break;
        case -ESTALE:
                problem(r, PROBLEM_CHANGED_MEANWHILE, "%s", text ? text : "read it again");
                break;
        case -EEXIST:
                problem(r, PROBLEM_CONFLICT, "%s", text ? text : "the name is taken");
                break;
        case -ENOSPC:
                problem(r, PROBLEM_DISK_FULL, "%s", text ? text : "there is no room for it");
                break;
        case -ESHUTDOWN:
        case -ECANCELED:
                problem(r, PROBLEM_UNAVAILABLE, "ask again when it has started again");
                break;
        default:
                problem(r, PROBLEM_INTERNAL, "%s", text ? text : strerror(-a->r));
                break;
        }
}
