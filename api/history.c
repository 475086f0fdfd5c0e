/* What happened to a job: its event log, and its attempts. */
#include "api/job_json.h"
#include "api/kept.h"
#include "api/response.h"

#include <errno.h>
#include <stdio.h>

#define EVENTS_DEFAULT 200
#define EVENTS_MAX 1000

static json_t *text_or_null(const char *s)
{
        return s && *s ? json_string(s) : json_null();
}

struct page {
        json_t *items;
        int64_t limit, last_id;
        bool more;
};

static int add_event(const struct job_event_row *e, void *user)
{
        struct page *p = user;

        if ((int64_t)json_array_size(p->items) == p->limit) {
                p->more = true;
                return 0;
        }
        p->last_id = e->id;
        return json_array_append_new(p->items, job_event_to_json(e)) < 0 ? -ENOMEM : 0;
}

static void answer_items(struct request *r, json_t *items, const char *key, const json_t *next, int code,
                         const struct error *err)
{
        if (code >= 0) {
                json_t *o = json_pack("{s:o}", key, items);

                if (next)
                        (void)json_object_set(o, "next", (json_t *)next);
                response_json(r, 200, o);
                return;
        }
        json_decref(items);
        problem_failed(r, "they cannot be read", code, err);
}

void events_list(struct request *r)
{
        struct page p = {.limit = EVENTS_DEFAULT};
        _cleanup_json_ json_t *next = NULL;
        _cleanup_(job_row_done) struct job_row j = {0};
        struct reader *reader;
        struct error err = {0};
        int64_t after = 0;
        int code;

        (void)request_query_int(r, "after", 0, INT64_MAX, &after);
        (void)request_query_int(r, "limit", 1, EVENTS_MAX, &p.limit);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        kept_begin(r);
        reader = request_reader(r);
        if (!reader || request_job(r, reader, r->id, &j) < 0)
                return;
        p.items = json_array();
        code = reader_job_events(reader, r->id, after, p.limit + 1, add_event, &p, &err);
        next = p.more ? json_integer(p.last_id) : json_null();
        answer_items(r, p.items, "events", next, code, &err);
}

static int add_attempt(const struct attempt_row *a, void *user)
{
        json_t *o = json_pack("{s:I, s:o, s:o, s:I, s:I, s:I, s:O, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "number",
                              (json_int_t)a->number, "started", json_from_time(a->started_us), "ended",
                              json_from_time(a->ended_us), "first_step", (json_int_t)a->first_step, "last_step",
                              (json_int_t)a->last_step, "checkpoints", (json_int_t)a->checkpoints, "devices",
                              a->devices, "ranks", (json_int_t)a->ranks, "boot", text_or_null(a->boot), "outcome",
                              text_or_null(attempt_outcome_names[a->outcome]), "stop",
                              text_or_null(stop_reason_names[a->stop]), "class", text_or_null(a->class), "blame",
                              text_or_null(a->blame), "detail", text_or_null(a->detail));

        return json_array_append_new(user, o) < 0 ? -ENOMEM : 0;
}

void attempts_list(struct request *r)
{
        struct reader *reader = request_reader(r);
        _cleanup_(job_row_done) struct job_row j = {0};
        struct error err = {0};
        json_t *items;
        int code;

        kept_begin(r);
        if (!reader || request_job(r, reader, r->id, &j) < 0)
                return;
        items = json_array();
        code = reader_attempts(reader, r->id, add_attempt, items, &err);
        answer_items(r, items, "attempts", NULL, code, &err);
}
