#include "api/job_json.h"

#include "api/kept.h"
#include "api/response.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static json_t *object_or_null(json_t *o)
{
        return o ? json_incref(o) : json_null();
}

static json_t *get_tags(const struct job_view *v)
{
        return v->row->tags ? json_incref(v->row->tags) : json_array();
}

static json_t *get_after(const struct job_view *v)
{
        json_t *a = json_array();

        for (size_t i = 0; i < v->row->n_after; i++)
                (void)json_array_append_new(a, json_integer(v->row->after[i]));
        return a;
}

static json_t *get_limits(const struct job_view *v)
{
        json_t *o = json_object();

        for (int i = 0; i < LIMIT_N; i++)
                (void)json_object_set_new(o, limit_names[i], json_int_or_null(v->row->limits.of[i]));
        return o;
}

json_t *job_progress_to_json(const struct job_row *row)
{
        return json_pack("{s:I, s:I, s:o, s:o}", "step", (json_int_t)row->step, "steps", (json_int_t)row->steps,
                         "images_per_second", json_real_or_null(row->images_per_second), "seconds_left",
                         json_real_or_null(row->seconds_left));
}

static json_t *get_progress(const struct job_view *v)
{
        return job_progress_to_json(v->row);
}

static json_t *get_checkpoint(const struct job_view *v)
{
        return !v->row->source_job ? json_null()
                                   : json_pack("{s:I, s:I}", "job", (json_int_t)v->row->source_job, "step",
                                               (json_int_t)v->row->source_step);
}

static json_t *get_paused(const struct job_view *v)
{
        if (v->row->state != JOB_PAUSED)
                return json_null();
        return json_pack("{s:s, s:o}", "reason", v->row->moved_by, "detail", json_text_or_null(v->row->moved_why));
}

static json_t *get_links(const struct job_view *v)
{
        static const char *const names[] = {"log", "series", "artifacts", "events", "attempts"};
        json_t *o = json_object();
        char path[64 + PREFIX_MAX];

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                (void)snprintf(path, sizeof path, "%s/v1/jobs/%lld/%s", v->prefix, (long long)v->row->id, names[i]);
                (void)json_object_set_new(o, names[i], json_string(path));
        }
        return o;
}

#define GET(name, value)                                                                                               \
        static json_t *get_##name(const struct job_view *v)                                                            \
        {                                                                                                              \
                return value;                                                                                          \
        }
GET(id, json_integer(v->row->id))
GET(kind, json_string(job_kind_names[v->row->kind]))
GET(name, json_string(v->row->name))
GET(notes, json_string(v->row->notes))
GET(priority, json_integer(v->row->priority))
GET(state, json_string(job_state_names[v->row->state]))
GET(created, json_from_time(v->row->created_us))
GET(started, json_from_time(v->row->started_us))
GET(ended, json_from_time(v->row->ended_us))
GET(attempts, json_integer(v->row->attempts))
GET(version, json_integer(v->row->version))
GET(config,
    object_or_null(json_object_size(v->row->config) || json_is_verbatim(v->row->config) ? v->row->config : NULL))
GET(import, object_or_null(v->row->import))
GET(owner, json_text_or_null(v->row->owner))
GET(config_name, json_text_or_null(v->row->config_name))
GET(accept_changed_data, json_boolean(v->row->accept_changed_data))
GET(cancel_requested, json_boolean(v->row->stop_requested == STOP_CANCEL))
GET(stopping, json_text_or_null(stop_reason_names[v->row->stop_requested]))
GET(waiting, waiting_to_json(v))
GET(devices, v->row->ran_on ? json_incref(v->row->ran_on) : json_array())
GET(dataset, object_or_null(v->row->data))
GET(result, object_or_null(v->row->result))
GET(error, object_or_null(v->row->error))
#undef GET

static const struct {
        const char *name;
        json_t *(*get)(const struct job_view *v);
        unsigned needs; /* of what a row can be read without */
} members[] = {
#define M(name)                                                                                                        \
        {                                                                                                              \
#name, get_##name, 0                                                                                   \
        }
#define NEEDS(name, what)                                                                                              \
        {                                                                                                              \
#name, get_##name, WITHOUT_##what                                                                      \
        }
        M(id),
        M(kind),
        M(name),
        M(tags),
        M(notes),
        M(priority),
        M(state),
        M(created),
        M(started),
        M(ended),
        M(attempts),
        M(after),
        M(limits),
        M(version),
        M(owner),
        M(progress),
        NEEDS(config, CONFIG),
        NEEDS(import, CONFIG),
        M(config_name),
        M(checkpoint),
        M(accept_changed_data),
        M(cancel_requested),
        M(stopping),
        NEEDS(paused, OUTCOME),
        NEEDS(waiting, OUTCOME),
        NEEDS(devices, OUTCOME),
        NEEDS(dataset, OUTCOME),
        NEEDS(result, OUTCOME),
        NEEDS(error, OUTCOME),
        M(links),
#undef NEEDS
#undef M
};
_Static_assert(ARRAY_LEN(members) <= 64, "a bit each");

json_t *job_to_json(const struct job_view *v, uint64_t which)
{
        _cleanup_json_ json_t *o = json_object();
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(members); i++)
                if (which >> i & 1)
                        r |= json_object_set_new(o, members[i].name, members[i].get(v));
        return r ? NULL : TAKE_PTR(o);
}

json_t *job_counts_to_json(const struct job_counts *c)
{
        json_t *states = json_object(), *kinds = json_object();

        for (int state = 0; state < JOB_STATE_N; state++) {
                int64_t n = 0;

                for (int kind = 0; kind < JOB_KIND_N; kind++)
                        n += c->n[state][kind];
                (void)json_object_set_new(states, job_state_names[state], json_integer(n));
        }
        for (int kind = 0; kind < JOB_KIND_N; kind++) {
                int64_t n = 0;

                for (int state = 0; state < JOB_STATE_N; state++)
                        n += c->n[state][kind];
                (void)json_object_set_new(kinds, job_kind_names[kind], json_integer(n));
        }
        return json_pack("{s:o, s:o}", "state", states, "kind", kinds);
}

json_t *job_event_to_json(const struct job_event_row *e)
{
        return json_pack("{s:I, s:I, s:o, s:o, s:s, s:s, s:o}", "id", (json_int_t)e->id, "job", (json_int_t)e->job,
                         "time", json_from_time(e->time_us), "from",
                         e->from < 0 ? json_null() : json_string(job_state_names[e->from]), "to",
                         job_state_names[e->to], "trigger", e->trigger, "detail", json_text_or_null(e->detail));
}

int job_members(const char *names, uint64_t *ret, unsigned *ret_without, struct error *err)
{
        uint64_t which = 0;
        unsigned needs = 0;

        for (const char *p = names; *p; p += strspn(p, ",")) {
                size_t n = strcspn(p, ","), i = 0;

                while (i < ARRAY_LEN(members) && (strlen(members[i].name) != n || memcmp(members[i].name, p, n) != 0))
                        i++;
                if (i == ARRAY_LEN(members))
                        return error_set(err, -EINVAL, NULL, "a job has no member \"%.*s\"", (int)MIN(n, (size_t)40),
                                         p);
                which |= UINT64_C(1) << i;
                needs |= members[i].needs;
                p += n;
        }
        *ret = which;
        *ret_without = (WITHOUT_CONFIG | WITHOUT_OUTCOME) & ~needs;
        return 0;
}

struct energy {
        double j;
        int64_t attempts; /* that are over */
        bool unknown;     /* of one of them */
};

static int add_energy(const struct attempt_row *a, void *user)
{
        struct energy *sum = user;

        if (!a->ended_us)
                return 0;
        sum->attempts++;
        sum->unknown |= isnan(a->energy_j);
        sum->j += a->energy_j;
        return 0;
}

/* Of all its attempts that are over; null where one of them does not say. It asks the store, which a list cannot do. */
static json_t *energy_of(struct reader *reader, const struct job_row *j)
{
        struct energy sum = {0};

        if (!j->attempts || reader_attempts(reader, j->id, add_energy, &sum, NULL) < 0 || !sum.attempts || sum.unknown)
                return json_null();
        return json_real(sum.j);
}

void answer_job(struct request *r, int64_t id, const struct job_row *row, unsigned status)
{
        struct reader *reader = request_reader(r);
        struct control *control = request_settings(r)->control;
        struct control_status now;
        _cleanup_(job_row_done) struct job_row j = {0};
        json_t *job;

        kept_begin(r);
        if (!reader || (!row && request_job(r, reader, id, &j) < 0))
                return;
        row = row ? row : &j;
        r->waits = row->state == JOB_QUEUED;
        if (r->waits)
                control->status(control, &now);
        job = job_to_json(&(struct job_view){row, reader, control, &now, request_settings(r)->prefix}, JOB_ALL);
        (void)json_object_set_new(job, "energy_j", energy_of(reader, row)); /* NULL is answered as no memory */
        response_json(r, status, job);
}
