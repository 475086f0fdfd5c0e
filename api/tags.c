/* The tags that jobs have. */
#include "api/response.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct listing {
        json_t *list;
        char last[256];
};

static int add_tag(const char *tag, int64_t n, void *user)
{
        struct listing *x = user;

        (void)snprintf(x->last, sizeof x->last, "%s", tag);
        return json_array_append_new(x->list, json_pack("{s:s, s:I}", "tag", tag, "jobs", (json_int_t)n)) < 0 ? -ENOMEM
                                                                                                              : 0;
}

void tags_list(struct request *r)
{
        struct listing x = {0};
        const char *after = "";
        struct reader *reader;
        struct error err;
        int64_t limit = 200;
        int code;

        (void)request_query_text(r, "after", 64, &after);
        (void)request_query_int(r, "limit", 1, 1000, &limit);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        reader = request_reader(r);
        if (!reader)
                return;
        x.list = json_array();
        code = reader_tags(reader, after, limit, add_tag, &x, &err);
        if (code < 0) {
                json_decref(x.list);
                problem_failed(r, "the tags cannot be read", code, &err);
                return;
        }
        response_json(r, 200,
                      json_pack("{s:o, s:o}", "tags", x.list, "next",
                                (int64_t)json_array_size(x.list) == limit ? json_string(x.last) : json_null()));
}
