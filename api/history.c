/* What happened to a job: its event log, and its attempts. */
#include "api/job_json.h"
#include "api/kept.h"
#include "api/page.h"
#include "api/response.h"

#include <errno.h>
#include <stdio.h>

#define EVENTS_DEFAULT 200
#define EVENTS_MAX 1000

static int add_event(const struct job_event_row *e, void *user)
{
        return page_add(user, job_event_to_json(e), json_integer(e->id));
}

void events_list(struct request *r)
{
        _cleanup_(job_row_done) struct job_row j = {0};
        struct reader *reader = request_reader(r);
        struct error err;
        int64_t after = 0;
        struct page p;
        int code;

        (void)request_query_int(r, "after", 0, INT64_MAX, &after);
        kept_begin(r);
        if (!reader || request_job(r, reader, r->id, &j) < 0 || !page_begin(r, EVENTS_DEFAULT, EVENTS_MAX, &p))
                return;
        code = reader_job_events(reader, r->id, after, p.limit, add_event, &p, &err);
        page_answer(r, &p, "events", code, &err);
}

static int add_attempt(const struct attempt_row *a, void *user)
{
        json_t *o = json_pack("{s:I, s:o, s:o, s:I, s:I, s:I, s:O, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O?}",
                              "number", (json_int_t)a->number, "started", json_from_time(a->started_us), "ended",
                              json_from_time(a->ended_us), "first_step", (json_int_t)a->first_step, "last_step",
                              (json_int_t)a->last_step, "checkpoints", (json_int_t)a->checkpoints, "devices",
                              a->devices, "ranks", (json_int_t)a->ranks, "boot", json_text_or_null(a->boot), "outcome",
                              json_text_or_null(attempt_outcome_names[a->outcome]), "stop",
                              json_text_or_null(stop_reason_names[a->stop]), "class", json_text_or_null(a->class),
                              "blame", json_text_or_null(a->blame), "detail", json_text_or_null(a->detail), "energy_j",
                              json_real_or_null(a->energy_j), "dataset", a->data);

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
        if (code < 0) {
                json_decref(items);
                problem_failed(r, "they cannot be read", code, &err);
                return;
        }
        response_json(r, 200, json_pack("{s:o}", "attempts", items));
}
