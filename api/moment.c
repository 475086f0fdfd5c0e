#include "api/moment.h"

#include "api/job_json.h"

#include <errno.h>

#define TEXT_BYTES_MAX ((size_t)8 << 20) /* of all events of a moment; a detail has some hundred bytes */

int moment_put(struct buf *b, const char *type, int64_t id, json_t *data, struct error *err)
{
        _cleanup_(freep) char *text = data ? json_to_text(data) : NULL;
        int r = 0;

        json_decref(data);
        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory for an event");
        if (id)
                r = buf_printf(b, err, "id: %lld\n", (long long)id);
        return r < 0 ? r : buf_printf(b, err, "event: %s\ndata: %s\n\n", type, text);
}

struct adding {
        struct moment *moment;
        struct error *err;
        int64_t n;
};

static int add_event(const struct job_event_row *e, void *user)
{
        struct adding *x = user;

        x->n++;
        x->moment->to = e->id;
        return moment_put(&x->moment->events, "job", e->id, job_event_to_json(e), x->err);
}

static int read_events(struct moment *m, struct reader *reader, int64_t job, struct error *err)
{
        struct adding x = {m, err, 0};
        int r = job ? reader_job_events(reader, job, m->from, MOMENT_EVENTS_MAX, add_event, &x, err)
                    : reader_events(reader, m->from, MOMENT_EVENTS_MAX, add_event, &x, err);

        m->more = x.n == MOMENT_EVENTS_MAX;
        return r;
}

/* A job that was removed meanwhile has none. */
static int read_progress(struct moment *m, struct reader *reader, int64_t job, struct error *err)
{
        struct moment_job *x = &m->running[m->n_running];
        struct job_row row;
        json_t *data;

        if (reader_job_without(reader, job, WITHOUT_CONFIG | WITHOUT_OUTCOME, &row, NULL) < 0)
                return 0;
        m->n_running++;
        *x = (struct moment_job){.job = job, .step = row.step, .progress = BUF_INIT(TEXT_BYTES_MAX)};
        data = json_pack("{s:I, s:o}", "job", (json_int_t)job, "progress", job_progress_to_json(&row));
        job_row_done(&row);
        return moment_put(&x->progress, "progress", 0, data, err);
}

static bool is_known(const struct moment *m, int64_t job)
{
        for (size_t i = 0; i < m->n_running; i++)
                if (m->running[i].job == job)
                        return true;
        return false;
}

static int read_state(struct moment *m, struct reader *reader, struct control *control, int64_t job, struct error *err)
{
        struct control_status status;
        int r = 0;

        control->status(control, &status);
        for (size_t i = 0; r >= 0 && i < status.n_devices; i++) {
                int64_t runs = status.devices[i].job;

                if (runs && (!job || job == runs) && !is_known(m, runs)) /* one may have several devices */
                        r = read_progress(m, reader, runs, err);
        }
        if (r < 0 || job)
                return r;
        r = reader_job_counts(reader, &m->counts, err);
        return r < 0 ? r : moment_put(&m->counts_text, "counts", 0, job_counts_to_json(&m->counts), err);
}

int moment_read(struct reader *reader, struct control *control, int64_t job, int64_t after, struct moment **ret,
                struct error *err)
{
        _cleanup_(moment_unrefp) struct moment *m = calloc(1, sizeof *m);
        int r;

        if (!m)
                return error_set(err, -ENOMEM, NULL, "no memory for events");
        m->n_refs = 1;
        m->events = m->counts_text = BUF_INIT(TEXT_BYTES_MAX);
        r = after < 0 ? reader_last_event(reader, &after, err) : 0;
        m->from = m->to = after;
        if (r >= 0)
                r = read_events(m, reader, job, err);
        if (r >= 0)
                r = read_state(m, reader, control, job, err);
        if (r >= 0)
                *ret = TAKE_PTR(m);
        return r;
}

struct moment *moment_ref(struct moment *m)
{
        if (m)
                m->n_refs++;
        return m;
}

struct moment *moment_unref(struct moment *m)
{
        if (!m || --m->n_refs > 0)
                return NULL;
        for (size_t i = 0; i < m->n_running; i++)
                buf_done(&m->running[i].progress);
        buf_done(&m->events);
        buf_done(&m->counts_text);
        free(m);
        return NULL;
}
