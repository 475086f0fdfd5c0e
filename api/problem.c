#include "api/problem.h"

#include "api/response.h"
#include "base/log.h"
#include "contract/text.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
        const char *type, *title;
        unsigned status;
} problems[] = {
#define P(name, type_, status_, title_) [PROBLEM_##name] = {"problems/" type_, title_, status_},
#include "api/problem.def"
#undef P
};
static_assert(ARRAY_LEN(problems) == PROBLEM_N, "a row for each");

unsigned problem_status(enum problem p)
{
        return problems[p].status;
}

/* A text that may have been cut inside a character, or that a client sent. */
static json_t *text_to_json(const char *s)
{
        return json_stringn(s, text_valid_utf8(s, strlen(s)));
}

/* With the request's id, by which the log is searched. */
static void answer(struct request *r, enum problem p, const char *detail, const struct errors *errs)
{
        json_t *o = problem_to_json(p, detail, errs);

        if (o && json_object_set_new(o, "request_id", json_string(r->request_id)) < 0) {
                json_decref(o);
                o = NULL;
        }
        response_problem(r, problems[p].status, o);
}

json_t *problem_to_json(enum problem p, const char *detail, const struct errors *errs)
{
        /* an error of a query names its parameter, all others a place in a JSON document */
        const char *where = p == PROBLEM_QUERY_INVALID ? "parameter" : "pointer";
        _cleanup_json_ json_t *o = json_object();
        json_t *list;
        int r = json_object_set_new(o, "type", json_string(problems[p].type));

        r |= json_object_set_new(o, "title", json_string(problems[p].title));
        r |= json_object_set_new(o, "status", json_integer(problems[p].status));
        r |= json_object_set_new(o, "detail", text_to_json(detail));
        if (errs && errs->n) {
                r |= json_object_set_new(o, "errors", list = json_array());
                for (size_t i = 0; !r && i < errors_kept(errs); i++) {
                        json_t *item = json_object();

                        r |= json_array_append_new(list, item);
                        r |= json_object_set_new(item, where, text_to_json(errs->items[i].path));
                        r |= json_object_set_new(item, "detail", text_to_json(errs->items[i].text));
                }
        }
        return r ? NULL : TAKE_PTR(o);
}

void problem(struct request *r, enum problem p, const char *fmt, ...)
{
        char detail[600];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(detail, sizeof detail, fmt, ap);
        va_end(ap);
        answer(r, p, detail, NULL);
}

const char *problem_log(const struct request *r, const char *what, int code, const struct error *err)
{
        /* what ran out of memory in a callback has set no text */
        const char *why = code == -ENOMEM || !err || !err->text[0] ? strerror(-code) : err->text;

        log_error("request %s: %s: %s", r->request_id, what, why);
        return why;
}

void problem_failed(struct request *r, const char *what, int code, const struct error *err)
{
        problem(r, PROBLEM_INTERNAL, "%s: %s", what, problem_log(r, what, code, err));
}

void problem_errors(struct request *r, enum problem p, const struct errors *errs)
{
        char detail[100];

        for (size_t i = 0; i < errors_kept(errs); i++)
                if (error_is_hosts(errs->items[i].code)) { /* whatever else is wrong with the request */
                        problem(r, errs->items[i].code == -ENOSPC ? PROBLEM_DISK_FULL : PROBLEM_INTERNAL, "%s",
                                errs->items[i].text);
                        return;
                }
        (void)snprintf(detail, sizeof detail, "%zu error%s%s", errs->n, errs->n == 1 ? "" : "s",
                       errs->n > errors_kept(errs) ? ", the first of them listed" : "");
        answer(r, p, detail, errs);
}
