/* Webhooks: where events go, what was sent there, and once more. */
#include "api/page.h"
#include "api/response.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>

static json_t *webhook_to_json(const struct control_webhook *h)
{
        return json_pack("{s:s, s:s, s:I, s:I, s:o}", "name", h->name, "url", h->url, "told", (json_int_t)h->told,
                         "failed", (json_int_t)h->failed, "next_try", json_from_time(h->next_us));
}

/* The one of the path. False: there is none, which is answered. */
static bool find(struct request *r, struct control_webhook *ret)
{
        struct control *control = request_settings(r)->control;
        struct control_webhook all[CONTROL_WEBHOOKS_MAX];
        size_t n = control->webhooks(control, all);

        for (size_t i = 0; i < n; i++)
                if (!strcmp(all[i].name, r->name)) {
                        *ret = all[i];
                        return true;
                }
        problem(r, PROBLEM_NOT_FOUND, "there is no webhook %s", r->name);
        return false;
}

void webhooks_list(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct control_webhook all[CONTROL_WEBHOOKS_MAX];
        size_t n = control->webhooks(control, all);
        json_t *list = json_array();

        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(list, webhook_to_json(&all[i]));
        response_json(r, 200, json_pack("{s:o}", "webhooks", list));
}

/* ---- deliveries */

static int add_delivery(const struct delivery_row *d, void *user)
{
        json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:o, s:f, s:o, s:o}", "id", (json_int_t)d->id, "event",
                              (json_int_t)d->event, "job", (json_int_t)d->job, "attempt", (json_int_t)d->attempt,
                              "time", json_from_time(d->time_us), "seconds", (double)d->took_us / US_PER_S, "code",
                              json_int_or_null(d->code), "error", json_text_or_null(d->detail));

        return page_add(user, o, json_integer(d->id));
}

void deliveries_list(struct request *r)
{
        struct reader *reader = request_reader(r);
        struct control_webhook h;
        int64_t after = INT64_MAX;
        struct error err;
        struct page p;
        int code;

        (void)request_query_int(r, "after", 1, INT64_MAX, &after);
        if (!reader || !find(r, &h) || !page_begin(r, 50, 500, &p))
                return;
        code = reader_deliveries(reader, h.name, after, p.limit, add_delivery, &p, &err);
        page_answer(r, &p, "deliveries", code, &err);
}

/* ---- once more */

static void sent(struct request *r)
{
        struct control_webhook h;

        if (r->answer.r < 0)
                request_refused(r, PROBLEM_REQUEST_INVALID);
        else if (find(r, &h))
                response_json(r, 202, webhook_to_json(&h));
}

void webhooks_send_again(struct request *r)
{
        static const char *const keys[] = {"event", NULL};
        struct control *control = request_settings(r)->control;
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct pending *pending;
        int64_t event = 0;
        struct error err;

        if (!request_body(r, keys, true, &body))
                return;
        if (json_get_int(body, "", "event", 1, INT64_MAX, &event, &err) < 0) {
                (void)errors_add(&errs, -EINVAL, err.path, "%s", err.text);
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        pending = request_ask(r, sent);
        if (pending)
                control->webhook_send(control, &r->by, r->name, event, request_done, pending);
}
