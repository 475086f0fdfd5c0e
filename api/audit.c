/* The audit log, for whoever may read it. */
#include "api/page.h"

static int add_row(const struct audit_row *a, void *user)
{
        json_t *o = json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:o}", "id", (json_int_t)a->id, "time",
                              json_from_time(a->time_us), "uid", a->uid < 0 ? json_null() : json_integer(a->uid),
                              "user", json_text_or_null(a->user), "token", json_text_or_null(a->token), "address",
                              json_text_or_null(a->address), "request_id", a->request, "action", a->action, "job",
                              json_int_or_null(a->job));

        return page_add(user, o, json_integer(a->id));
}

static void list_audit(struct request *r)
{
        struct reader *reader;
        struct error err;
        int64_t after = 0;
        struct page p;
        int code;

        (void)request_query_int(r, "after", 0, INT64_MAX, &after);
        reader = request_reader(r);
        if (!reader || !page_begin(r, 200, 1000, &p))
                return;
        code = reader_audit(reader, after, p.limit, add_row, &p, &err);
        page_answer(r, &p, "audit", code, &err);
}

void audit_list(struct request *r)
{
        request_apart(r, list_audit, false);
}
