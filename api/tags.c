/* The tags that jobs have. */
#include "api/page.h"

static int add_tag(const char *tag, int64_t n, void *user)
{
        return page_add(user, json_pack("{s:s, s:I}", "tag", tag, "jobs", (json_int_t)n), json_string(tag));
}

void tags_list(struct request *r)
{
        const char *after = "";
        struct reader *reader;
        struct error err;
        struct page p;
        int code;

        (void)request_query_text(r, "after", 64, &after);
        reader = request_reader(r);
        if (!reader || !page_begin(r, 200, 1000, &p))
                return;
        code = reader_tags(reader, after, p.limit, add_tag, &p, &err);
        page_answer(r, &p, "tags", code, &err);
}
