/* GET /v1/events: what happens, as it happens, over one connection.
 *
 * A stream has no queue of its own: what it sends is what the store's event log has behind the last id that it sent, so
 * that a client that comes back with Last-Event-ID misses nothing, and a slow one holds no memory. Progress and counts,
 * which only matter as they are now, are sent beside them when they have changed, without an id.
 *
 * A stream that has nothing to send is suspended (libmicrohttpd then holds no thread and no time-out for it). After a
 * commit the thread below, at most ten times a second, reads what is to be told, once for all (moment.h), and resumes
 * all of them, a group at a time: the next when the one before has been answered, so that a request comes behind a
 * group of them at most, and not behind a thousand. A stream that is behind, or of one job, reads for itself. Without
 * streams the thread sleeps. */
#include "api/events.h"

#include "api/internal.h"
#include "api/response.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define WAKE_EVERY_US (100 * US_PER_MS)
#define GROUP 32
#define GROUP_EVERY_US (2 * US_PER_MS) /* time for others */
#define PATIENCE_US US_PER_S           /* with one that does not come to look: nobody is to wait for it for ever */

struct event_stream {
        struct sleeper sleeper;
        atomic_llong *n_open; /* the server's count */
        struct control *control;
        int64_t job; /* 0: all */
        int64_t last_id;
        bool began, more; /* more: than the last piece had */
        struct told {
                int64_t job, step;
        } told[CONTROL_DEVICES_MAX]; /* progress that was sent */
        struct job_counts counts;
};

struct events {
        struct server *server; /* whose readers it takes */
        int64_t heartbeat_us;
        pthread_t thread;
        pthread_mutex_t lock; /* of what follows */
        pthread_cond_t wake;
        bool stopping, changed;
        uint64_t generation, beats;               /* how often something was told, heartbeats among that */
        struct moment *moment;                    /* what; NULL: streams read for themselves */
        size_t n_streams, n_resumed;              /* n_resumed: that have not looked yet */
        TAILQ_HEAD(suspended, sleeper) suspended; /* those that have seen least come first */
};

/* ---- the thread */

/* At most so many of those that have not seen what was told; whether there may be others. */
static bool resume_some(struct events *e, size_t most)
{
        for (; most; most--) {
                struct sleeper *x = TAILQ_FIRST(&e->suspended);

                if (!x || x->seen == e->generation)
                        return false;
                TAILQ_REMOVE(&e->suspended, x, link);
                x->state = SLEEPER_RESUMED;
                e->n_resumed++;
                MHD_resume_connection(x->connection);
        }
        return true;
}

/* Until a time, or until something is told. */
static void wait_until(struct events *e, int64_t at_us)
{
        struct timespec until = {at_us / US_PER_S, at_us % US_PER_S * 1000};

        (void)pthread_cond_timedwait(&e->wake, &e->lock, &until);
}

/* What there is to tell behind what was told; NULL: it cannot be read. Without the lock. */
static struct moment *read_moment(struct events *e, const struct moment *before)
{
        struct moment *m = NULL;
        struct reader *reader;
        struct error err;

        if (server_take_reader(e->server, &reader, &err) < 0)
                return NULL;
        (void)moment_read(reader, e->server->settings.control, 0, before ? before->to : -1, &m, &err);
        server_put_reader(e->server, reader);
        return m;
}

static void begin_generation(struct events *e)
{
        _cleanup_(moment_unrefp) struct moment *before = TAKE_PTR(e->moment);
        struct moment *m;

        e->changed = false;
        (void)pthread_mutex_unlock(&e->lock);
        m = read_moment(e, before);
        (void)pthread_mutex_lock(&e->lock);
        e->moment = m;
        e->changed |= m && m->more;
        e->generation++;
}

static void *tell(void *user)
{
        struct events *e = user;
        int64_t told_us = 0, group_us = 0, beat_us = clock_monotonic_us();
        bool behind = false; /* some have not seen it yet; nothing else is told before they have */

        (void)pthread_mutex_lock(&e->lock);
        while (!e->stopping) {
                int64_t now_us = clock_monotonic_us();

                if (!e->n_streams) {
                        e->moment = moment_unref(e->moment);
                        (void)pthread_cond_wait(&e->wake, &e->lock);
                        beat_us = clock_monotonic_us();
                } else if (behind && e->n_resumed && now_us - group_us < PATIENCE_US) {
                        wait_until(e, group_us + PATIENCE_US);
                } else if (behind && now_us - group_us >= GROUP_EVERY_US) {
                        group_us = now_us;
                        behind = resume_some(e, GROUP);
                } else if (behind) {
                        wait_until(e, group_us + GROUP_EVERY_US);
                } else if (now_us - beat_us >= e->heartbeat_us) {
                        beat_us = told_us = now_us;
                        e->beats++;
                        begin_generation(e);
                        behind = true;
                } else if (e->changed && now_us - told_us >= WAKE_EVERY_US) {
                        told_us = now_us;
                        begin_generation(e);
                        behind = true;
                } else {
                        wait_until(e, e->changed ? told_us + WAKE_EVERY_US : beat_us + e->heartbeat_us);
                }
        }
        (void)pthread_mutex_unlock(&e->lock);
        return NULL;
}

int events_new(struct server *server, int64_t heartbeat_us, struct events **ret, struct error *err)
{
        struct events *e = calloc(1, sizeof *e);
        int r;

        if (!e)
                return error_set(err, -ENOMEM, NULL, "no memory for events");
        e->server = server;
        e->heartbeat_us = heartbeat_us;
        TAILQ_INIT(&e->suspended);
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
        (void)moment_unref(e->moment);
        (void)pthread_cond_destroy(&e->wake);
        (void)pthread_mutex_destroy(&e->lock);
        free(e);
        return NULL;
}

void events_changed(struct events *e)
{
        (void)pthread_mutex_lock(&e->lock);
        if (e->n_streams && !e->changed) {
                e->changed = true;
                (void)pthread_cond_signal(&e->wake);
        }
        (void)pthread_mutex_unlock(&e->lock);
}

/* ---- who waits */

void sleeper_enter(struct sleeper *s, struct events *e, struct MHD_Connection *connection)
{
        *s = (struct sleeper){.events = e, .connection = connection};
        (void)pthread_mutex_lock(&e->lock);
        e->n_streams++;
        s->beats = e->beats;
        (void)pthread_cond_signal(&e->wake);
        (void)pthread_mutex_unlock(&e->lock);
}

/* The lock is held. It has looked, or is over. */
static void leave_group(struct sleeper *s)
{
        if (s->state == SLEEPER_RESUMED && !--s->events->n_resumed)
                (void)pthread_cond_signal(&s->events->wake);
        s->state = SLEEPER_AWAKE;
}

void sleeper_leave(struct sleeper *s)
{
        struct events *e = s->events;

        (void)pthread_mutex_lock(&e->lock);
        if (s->state == SLEEPER_SUSPENDED)
                TAILQ_REMOVE(&e->suspended, s, link);
        leave_group(s);
        e->n_streams--;
        (void)pthread_mutex_unlock(&e->lock);
}

bool sleeper_look(struct sleeper *s, struct moment **ret)
{
        struct events *e = s->events;
        bool beat;

        (void)pthread_mutex_lock(&e->lock);
        leave_group(s);
        beat = s->beats != e->beats;
        s->beats = e->beats;
        s->seen = e->generation;
        if (ret)
                *ret = moment_ref(e->moment);
        (void)pthread_mutex_unlock(&e->lock);
        return beat;
}

int sleeper_wait(struct sleeper *s)
{
        struct events *e = s->events;
        int r = 0;

        (void)pthread_mutex_lock(&e->lock);
        leave_group(s);
        if (e->stopping) {
                r = -ESHUTDOWN;
        } else if (s->seen == e->generation) {
                s->state = SLEEPER_SUSPENDED;
                TAILQ_INSERT_TAIL(&e->suspended, s, link);
                MHD_suspend_connection(s->connection);
                r = STREAM_WAITS;
        }
        (void)pthread_mutex_unlock(&e->lock);
        return r;
}

/* ---- what a stream sends */

/* The step that was told of a job last; a place for it when it was none. NULL: there are more than can run. */
static struct told *told_of(struct event_stream *s, int64_t job, const struct moment *m)
{
        struct told *place = NULL;

        for (size_t i = 0; i < ARRAY_LEN(s->told); i++) {
                bool runs = false;

                if (s->told[i].job == job)
                        return &s->told[i];
                for (size_t k = 0; k < m->n_running; k++)
                        runs |= m->running[k].job == s->told[i].job;
                if (!place && (!s->told[i].job || !runs))
                        place = &s->told[i];
        }
        if (place)
                *place = (struct told){job, -1};
        return place;
}

/* What the client does not know of it yet. */
static int append_moment(struct event_stream *s, const struct moment *m, struct buf *piece, struct error *err)
{
        int r = 0;

        if (m->to > s->last_id) {
                r = buf_append(piece, m->events.data, m->events.size, err);
                s->last_id = m->to;
        }
        for (size_t i = 0; i < m->n_running && r >= 0; i++) {
                const struct moment_job *x = &m->running[i];
                struct told *told = told_of(s, x->job, m);

                if (!told || told->step == x->step)
                        continue;
                told->step = x->step;
                r = buf_append(piece, x->progress.data, x->progress.size, err);
        }
        if (r < 0 || !m->counts_text.size || !memcmp(&m->counts, &s->counts, sizeof s->counts))
                return r;
        s->counts = m->counts;
        return buf_append(piece, m->counts_text.data, m->counts_text.size, err);
}

/* Whether it lacks nothing that the moment is not about. */
static bool fits(const struct event_stream *s, const struct moment *m)
{
        return m && s->began && !s->job && (s->last_id == m->from || s->last_id >= m->to);
}

/* The first of all: where it stands, so that a client that breaks off at once knows where to go on. Behind all that
 * there is stands who saw another database, as one that a backup was put in place of: he would wait for its events. */
static int begin(struct event_stream *s, struct reader *reader, struct buf *piece, struct error *err)
{
        int64_t newest;
        int r = reader_last_event(reader, &newest, err);

        if (r >= 0 && (s->last_id < 0 || s->last_id > newest))
                s->last_id = newest;
        s->began = true;
        return r < 0 ? r : moment_put(piece, "ready", s->last_id, json_object(), err);
}

/* What is new. */
static int say(struct event_stream *s, struct reader *reader, struct buf *piece, struct error *err)
{
        _cleanup_(moment_unrefp) struct moment *m = NULL;
        bool beat = sleeper_look(&s->sleeper, &m);
        int r = 0;

        if (!fits(s, m)) {
                m = moment_unref(m);
                if (!s->began)
                        r = begin(s, reader, piece, err);
                if (r >= 0)
                        r = moment_read(reader, s->control, s->job, s->last_id, &m, err);
        }
        if (r >= 0)
                r = append_moment(s, m, piece, err);
        s->more = r >= 0 && m->more;
        return r >= 0 && beat && !piece->size ? buf_printf(piece, err, ":\n\n") : r;
}

/* stream_answer's next. */
static int next_events(void *user, struct reader *reader, struct buf *piece, struct error *err)
{
        struct event_stream *s = user;
        int r = 0;

        while (r == 0 && !piece->size) {
                if (s->began && !s->more)
                        r = sleeper_wait(&s->sleeper);
                if (r == 0)
                        r = say(s, reader, piece, err);
        }
        return r == -ESHUTDOWN ? 0 : r;
}

static void free_events(void *user)
{
        struct event_stream *s = user;

        sleeper_leave(&s->sleeper);
        (*s->n_open)--;
        free(s);
}

void events_stream(struct request *r)
{
        const char *header = request_header(r, "Last-Event-ID");
        struct event_stream *s;
        int64_t after = -1, job = 0;

        (void)request_query_int(r, "after", 0, INT64_MAX, &after);
        /* it wins: a browser that comes back says the same URL again, and where it was here */
        if (header && !int_parse(header, 0, INT64_MAX, &after))
                (void)errors_add(&r->errs, -EINVAL, "Last-Event-ID", "expected the id of an event");
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
        *s = (struct event_stream){.n_open = &r->server->metrics.streams,
                                   .control = request_settings(r)->control,
                                   .job = job,
                                   .last_id = after};
        (*s->n_open)++;
        sleeper_enter(&s->sleeper, r->server->events, r->connection);
        response_stream(r, &(struct stream_answer){.type = "text/event-stream",
                                                   .bytes = -1,
                                                   .endless = true,
                                                   .next = next_events,
                                                   .free = free_events,
                                                   .user = s});
        if (r->status == 200)
                response_header(r, "X-Accel-Buffering", "no");
}
