/* GET /v1/events: what happens, as it happens, over one connection.
 *
 * A stream has no queue of its own: what it sends it reads from the store's event log behind the last id that it sent,
 * so that a client that comes back with Last-Event-ID misses nothing, and a slow one holds no memory. Progress and
 * counts, which only matter as they are now, are sent beside them when they have changed, without an id.
 *
 * A stream that has nothing to send is suspended (libmicrohttpd then holds no thread and no time-out for it); a commit
 * wakes the thread below, which resumes all of them, at most ten times a second, and some at a time: a thousand at once
 * would keep the connections' threads from everybody else for as long. Without streams it sleeps. */
#include "api/events.h"

#include "api/internal.h"
#include "api/job_json.h"
#include "api/response.h"
#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WAKE_EVERY_US (100 * US_PER_MS)
#define GROUP 32
#define GROUP_EVERY_US (2 * US_PER_MS)
#define EVENTS_PER_PIECE 200

struct event_stream {
        struct event_stream *next, **link; /* of all; under the lock of events */
        struct events *events;
        struct MHD_Connection *connection;
        atomic_llong *n_open; /* the server's count */
        bool suspended;
        uint64_t seen; /* the generation that it has looked at */
        struct control *control;

        /* of the thread that makes pieces */
        int64_t job; /* 0: all */
        int64_t last_id;
        bool began;
        struct told {
                int64_t job, step;
        } told[CONTROL_DEVICES_MAX]; /* progress that was sent */
        struct job_counts counts;
};

struct events {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        pthread_t thread;
        bool stopping, changed;
        int64_t heartbeat_us;
        uint64_t generation; /* how often something was told, heartbeats among that */
        struct event_stream *first;
};

/* ---- the thread */

/* At most so many of those that have not seen what was told; whether there may be others. */
static bool resume_some(struct events *e, size_t most)
{
        for (struct event_stream *x = e->first; x; x = x->next) {
                if (!x->suspended || x->seen == e->generation)
                        continue;
                if (!most--)
                        return true;
                x->suspended = false;
                MHD_resume_connection(x->connection);
        }
        return false;
}

/* Until a time, or until something is told. */
static void wait_until(struct events *e, int64_t at_us)
{
        struct timespec until = {at_us / US_PER_S, at_us % US_PER_S * 1000};

        (void)pthread_cond_timedwait(&e->wake, &e->lock, &until);
}

static void *tell(void *user)
{
        struct events *e = user;
        int64_t told_us = 0, group_us = 0, beat_us = clock_monotonic_us();
        bool behind = false; /* some have not seen it yet; nothing else is told before they have */

        (void)pthread_mutex_lock(&e->lock);
        while (!e->stopping) {
                int64_t now_us = clock_monotonic_us();

                if (!e->first) {
                        (void)pthread_cond_wait(&e->wake, &e->lock);
                        beat_us = clock_monotonic_us();
                } else if (behind && now_us - group_us >= GROUP_EVERY_US) {
                        group_us = now_us;
                        behind = resume_some(e, GROUP);
                } else if (behind) {
                        wait_until(e, group_us + GROUP_EVERY_US);
                } else if (now_us - beat_us >= e->heartbeat_us) {
                        beat_us = told_us = now_us;
                        e->changed = false;
                        e->generation++;
                        behind = true;
                } else if (e->changed && now_us - told_us >= WAKE_EVERY_US) {
                        told_us = now_us;
                        e->changed = false;
                        e->generation++;
                        behind = true;
                } else {
                        wait_until(e, e->changed ? told_us + WAKE_EVERY_US : beat_us + e->heartbeat_us);
                }
        }
        (void)pthread_mutex_unlock(&e->lock);
        return NULL;
}

int events_new(int64_t heartbeat_us, struct events **ret, struct error *err)
{
        struct events *e = calloc(1, sizeof *e);
        int r;

        if (!e)
                return error_set(err, -ENOMEM, NULL, "no memory for events");
        e->heartbeat_us = heartbeat_us;
        e->generation = 1;
        (void)pthread_mutex_init(&e->lock, NULL);
        clock_cond_init(&e->wake);
        r = pthread_create(&e->thread, NULL, tell, e);
        if (r) {
                free(e);
                return error_set(err, -r, NULL, "no thread for events: %s", strerror(r));
        }
        *ret = e;
        return 0;
}

void events_stop(struct events *e)
{
        if (!e)
                return;
        (void)pthread_mutex_lock(&e->lock);
        e->stopping = true;
        (void)pthread_cond_signal(&e->wake);
        e->generation++;
        (void)resume_some(e, SIZE_MAX);
        (void)pthread_mutex_unlock(&e->lock);
}

struct events *events_free(struct events *e)
{
        if (!e)
                return NULL;
        events_stop(e);
        (void)pthread_join(e->thread, NULL);
        (void)pthread_cond_destroy(&e->wake);
        (void)pthread_mutex_destroy(&e->lock);
        free(e);
        return NULL;
}

void events_changed(struct events *e)
{
        (void)pthread_mutex_lock(&e->lock);
        if (e->first && !e->changed) {
                e->changed = true;
                (void)pthread_cond_signal(&e->wake);
        }
        (void)pthread_mutex_unlock(&e->lock);
}

/* ---- what a stream sends */

static int append(struct buf *piece, const char *type, int64_t id, json_t *data, struct error *err)
{
        _cleanup_(freep) char *text = data ? json_to_text(data) : NULL;
        int r = 0;

        json_decref(data);
        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory for an event");
        if (id)
                r = buf_printf(piece, err, "id: %lld\n", (long long)id);
        return r < 0 ? r : buf_printf(piece, err, "event: %s\ndata: %s\n\n", type, text);
}

struct adding {
        struct event_stream *stream;
        struct buf *piece;
        struct error *err;
        size_t n;
};

static int add_event(const struct job_event_row *e, void *user)
{
        struct adding *x = user;

        x->n++;
        x->stream->last_id = e->id;
        return append(x->piece, "job", e->id, job_event_to_json(e), x->err);
}

static int add_events(struct event_stream *s, struct reader *reader, struct buf *piece, size_t *ret_n,
                      struct error *err)
{
        struct adding x = {s, piece, err, 0};
        int r = s->job ? reader_job_events(reader, s->job, s->last_id, EVENTS_PER_PIECE, add_event, &x, err)
                       : reader_events(reader, s->last_id, EVENTS_PER_PIECE, add_event, &x, err);

        *ret_n = x.n;
        return r;
}

/* The step that was told of a job last; a place for it when it was none. NULL: there are more than can run. */
static struct told *told_of(struct event_stream *s, int64_t job, const struct control_status *status)
{
        struct told *place = NULL;

        for (size_t i = 0; i < ARRAY_LEN(s->told); i++) {
                bool runs = false;

                if (s->told[i].job == job)
                        return &s->told[i];
                for (size_t k = 0; k < status->n_devices; k++)
                        runs |= status->devices[k].job == s->told[i].job;
                if (!place && (!s->told[i].job || !runs))
                        place = &s->told[i];
        }
        if (place)
                *place = (struct told){job, -1};
        return place;
}

static int add_progress(struct event_stream *s, struct reader *reader, const struct control_status *status, int64_t job,
                        struct buf *piece, struct error *err)
{
        struct told *told = told_of(s, job, status);
        struct job_row row;
        json_t *data;

        if (!told || reader_job_without(reader, job, WITHOUT_CONFIG | WITHOUT_OUTCOME, &row, NULL) < 0)
                return 0;
        if (row.step == told->step) {
                job_row_done(&row);
                return 0;
        }
        told->step = row.step;
        data = json_pack("{s:I, s:o}", "job", (json_int_t)job, "progress", job_progress_to_json(&row));
        job_row_done(&row);
        return append(piece, "progress", 0, data, err);
}

static int add_counts(struct event_stream *s, struct reader *reader, struct buf *piece, struct error *err)
{
        struct job_counts counts;
        int r = reader_job_counts(reader, &counts, err);

        if (r < 0 || !memcmp(&counts, &s->counts, sizeof counts))
                return r;
        s->counts = counts;
        return append(piece, "counts", 0, job_counts_to_json(&counts), err);
}

static int add_state(struct event_stream *s, struct reader *reader, struct buf *piece, struct error *err)
{
        struct control_status status;
        int r = 0;

        s->control->status(s->control, &status);
        for (size_t i = 0; r >= 0 && i < status.n_devices; i++)
                if (status.devices[i].job && (!s->job || s->job == status.devices[i].job))
                        r = add_progress(s, reader, &status, status.devices[i].job, piece, err);
        return r < 0 || s->job ? r : add_counts(s, reader, piece, err);
}

/* The first of all: where it stands, so that a client that breaks off at once knows where to go on. */
static int begin(struct event_stream *s, struct reader *reader, struct buf *piece, struct error *err)
{
        int r = s->last_id < 0 ? reader_last_event(reader, &s->last_id, err) : 0;

        s->began = true;
        return r < 0 ? r : append(piece, "ready", s->last_id, json_object(), err);
}

/* Suspends the stream when nothing was told since it looked. Negative: the end. */
static int look(struct event_stream *s, bool must_wait)
{
        struct events *e = s->events;
        int r = 0;

        (void)pthread_mutex_lock(&e->lock);
        if (e->stopping) {
                r = -ESHUTDOWN;
        } else if (must_wait && s->seen == e->generation) {
                s->suspended = true;
                MHD_suspend_connection(s->connection);
                r = STREAM_WAITS;
        } else {
                s->seen = e->generation;
        }
        (void)pthread_mutex_unlock(&e->lock);
        return r;
}

static int next_events(void *user, struct reader *reader, struct buf *piece, struct error *err)
{
        struct event_stream *s = user;
        size_t n = 0;
        int r = look(s, s->began);

        if (r)
                return r == -ESHUTDOWN ? 0 : r;
        if (!s->began)
                r = begin(s, reader, piece, err);
        if (r >= 0)
                r = add_events(s, reader, piece, &n, err);
        if (r >= 0 && n == EVENTS_PER_PIECE)
                s->seen = 0; /* there are more: look again at once */
        if (r >= 0 && n < EVENTS_PER_PIECE)
                r = add_state(s, reader, piece, err);
        if (r >= 0 && !piece->size)
                r = buf_printf(piece, err, ":\n\n"); /* a heartbeat, or news of others */
        return r < 0 ? r : 0;
}

static void free_events(void *user)
{
        struct event_stream *s = user;

        (void)pthread_mutex_lock(&s->events->lock);
        (*s->n_open)--;
        *s->link = s->next;
        if (s->next)
                s->next->link = s->link;
        (void)pthread_mutex_unlock(&s->events->lock);
        free(s);
}

static void enter(struct event_stream *s)
{
        struct events *e = s->events;

        (void)pthread_mutex_lock(&e->lock);
        s->next = e->first;
        s->link = &e->first;
        if (s->next)
                s->next->link = &s->next;
        e->first = s;
        (*s->n_open)++;
        (void)pthread_cond_signal(&e->wake);
        (void)pthread_mutex_unlock(&e->lock);
}

void events_stream(struct request *r)
{
        const char *header = request_header(r, "Last-Event-ID");
        struct event_stream *s;
        int64_t after = -1, job = 0;

        if (header && !int_parse(header, 0, INT64_MAX, &after))
                (void)errors_add(&r->errs, -EINVAL, "Last-Event-ID", "expected the id of an event");
        (void)request_query_int(r, "after", 0, INT64_MAX, &after);
        (void)request_query_int(r, "job", 1, INT64_MAX, &job);
        if (r->errs.n) {
                problem_errors(r, PROBLEM_QUERY_INVALID, &r->errs);
                return;
        }
        s = calloc(1, sizeof *s);
        if (!s) {
                problem(r, PROBLEM_INTERNAL, "no memory");
                return;
        }
        *s = (struct event_stream){.events = r->server->events,
                                   .connection = r->connection,
                                   .n_open = &r->server->metrics.streams,
                                   .control = request_settings(r)->control,
                                   .job = job,
                                   .last_id = after};
        enter(s);
        response_stream(
                r,
                &(struct stream_answer){
                        .type = "text/event-stream", .bytes = -1, .next = next_events, .free = free_events, .user = s});
        if (r->status == 200)
                response_header(r, "X-Accel-Buffering", "no");
}
