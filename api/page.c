#include "api/page.h"

#include "api/response.h"

#include <errno.h>

bool page_begin(struct request *r, int64_t usual, int64_t most, struct page *ret)
{
        int64_t limit = usual;

        (void)request_query_int(r, "limit", 1, most, &limit);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return false;
        }
        *ret = (struct page){.items = json_array(), .limit = limit + 1};
        return true;
}

int page_add(struct page *p, json_t *item, json_t *place)
{
        p->more = (int64_t)json_array_size(p->items) == p->limit - 1;
        if (p->more) {
                json_decref(item);
                json_decref(place);
                return 0;
        }
        json_decref(p->next);
        p->next = place;
        return json_array_append_new(p->items, item) < 0 || !place ? -ENOMEM : 0;
}

void page_answer(struct request *r, struct page *p, const char *name, int code, const struct error *err)
{
        if (code < 0)
                problem_failed(r, "they cannot be read", code, err);
        else
                response_json(r, 200, json_pack("{s:O, s:O}", name, p->items, "next", p->more ? p->next : json_null()));
        json_decref(p->items);
        json_decref(p->next);
}
