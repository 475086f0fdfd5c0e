/* The audit log, for whoever may read it. */
#include "api/response.h"

#include <errno.h>
#include <string.h>

struct listing {
        json_t *list;
        int64_t limit, last;
};

static json_t *text_or_null(const char *s)
{
        return *s ? json_string(s) : json_null();
}

static int add_row(const struct audit_row *a, void *user)
{
        struct listing *x = user;

        x->last = a->id;
        return json_array_append_new(x->list,
                                     json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:o}", "id", (json_int_t)a->id,
                                               "time", json_from_time(a->time_us), "uid",
                                               a->uid < 0 ? json_null() : json_integer(a->uid), "user",
                                               text_or_null(a->user), "token", text_or_null(a->token), "address",
                                               text_or_null(a->address), "request_id", a->request, "action", a->action,
                                               "job", a->job ? json_integer(a->job) : json_null())) < 0
                       ? -ENOMEM
                       : 0;
}

static void list_audit(struct request *r)
{
        struct listing x = {.limit = 200};
        struct reader *reader;
        struct error err;
        int64_t after = 0;
        bool more;
        int code;

        (void)request_query_int(r, "after", 0, INT64_MAX, &after);
        (void)request_query_int(r, "limit", 1, 1000, &x.limit);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        reader = request_reader(r);
        if (!reader)
                return;
        x.list = json_array();
        code = reader_audit(reader, after, x.limit, add_row, &x, &err);
        if (code < 0) {
                json_decref(x.list);
                problem_failed(r, "the audit log cannot be read", code, &err);
                return;
        }
        more = (int64_t)json_array_size(x.list) == x.limit;
        response_json(r, 200,
                      json_pack("{s:o, s:o}", "audit", x.list, "next", more ? json_integer(x.last) : json_null()));
}

void audit_list(struct request *r)
{
        request_apart(r, list_audit, false);
}
