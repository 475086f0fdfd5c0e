/* One action on all jobs that a filter takes. Those that only lie in the store are moved there, all in a few
 * transactions, where the daemon can do that; the others, among them those with which something is going on, are asked
 * one by one, each with its own answer. */
#include "api/filter.h"
#include "api/response.h"

#include <errno.h>
#include <string.h>

#define MATCHED_MAX 100000
#define EACH_MAX 10000 /* where each is asked by itself: a commit each */
#define PAGE 1000

struct action {
        unsigned states; /* that it fits */
        /* Of one job, and, or NULL, of many that only lie in the store. */
        void (*one)(struct control *c, const struct audit_row *by, int64_t id, control_done *done, void *user);
        void (*many)(struct control *c, const struct audit_row *by, const int64_t *ids, size_t n, control_done *done,
                     void *user);
};

/* r->kept: one block, so that it is freed as one. Behind the jobs for the store come those that are asked by
 * themselves. */
struct bulk {
        const struct action *action;
        int64_t changed, refused;
        size_t n_stored, n, room, at; /* at: of those that are asked */
        int64_t ids[];
};

/* ---- which */

struct collecting {
        const struct action *action;
        struct bulk *stored, *others; /* those that the store moves, and those that are asked by themselves */
        int64_t last, n;
};

static bool is_plain(const struct job_row *j)
{
        return j->kind == JOB_TRAIN && !j->source_job && j->state != JOB_RUNNING;
}

static int add_id(struct bulk **at, int64_t id)
{
        struct bulk *b = *at;

        if (b->n == b->room) {
                size_t room = MAX((size_t)64, 2 * b->room);

                b = realloc(b, sizeof *b + room * sizeof *b->ids);
                if (!b)
                        return -ENOMEM;
                b->room = room;
                *at = b;
        }
        b->ids[b->n++] = id;
        return 0;
}

static size_t matched_max(const struct action *a)
{
        return a->many ? MATCHED_MAX : EACH_MAX;
}

static int collect(const struct job_row *j, void *user)
{
        struct collecting *x = user;

        x->last = j->id;
        x->n++;
        if (x->stored->n + x->others->n == matched_max(x->action))
                return -E2BIG;
        return add_id(x->action->many && is_plain(j) ? &x->stored : &x->others, j->id);
}

static int collect_all(struct request *r, struct reader *reader, struct job_filter *f, struct error *err)
{
        const struct bulk *b = r->kept;
        struct collecting x = {.action = b->action, .stored = r->kept, .others = calloc(1, sizeof *x.others)};
        int code = x.others ? 0 : -ENOMEM;

        while (code >= 0) {
                x.n = 0;
                code = reader_jobs(reader, f, collect, &x, err);
                f->bound = x.last;
                if (x.n < f->limit)
                        break;
        }
        x.stored->n_stored = x.stored->n;
        for (size_t i = 0; code >= 0 && i < x.others->n; i++)
                code = add_id(&x.stored, x.others->ids[i]);
        r->kept = x.stored; /* it may have moved */
        free(x.others);
        return code;
}

/* ---- asking */

static void ask_next(struct request *r);

static void answer(struct request *r)
{
        const struct bulk *b = r->kept;

        response_json(r, 200,
                      json_pack("{s:I, s:I, s:I}", "matched", (json_int_t)(b->changed + b->refused), "changed",
                                (json_int_t)b->changed, "refused", (json_int_t)b->refused));
}

static void on_one(struct request *r)
{
        struct bulk *b = r->kept;

        if (r->answer.r == -ESHUTDOWN || r->answer.r == -ECANCELED || r->answer.r == -ENOSPC) {
                request_refused(r, PROBLEM_REQUEST_INVALID);
                return;
        }
        b->changed += r->answer.r >= 0;
        b->refused += r->answer.r < 0;
        ask_next(r);
}

static void ask_next(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct bulk *b = r->kept;
        struct pending *pending;
        struct audit_row by = r->by;

        if (b->n_stored + b->at == b->n) {
                answer(r);
                return;
        }
        by.job = b->ids[b->n_stored + b->at++];
        pending = request_ask(r, on_one);
        if (pending)
                b->action->one(control, &by, by.job, request_done, pending);
}

static void on_many(struct request *r)
{
        struct bulk *b = r->kept;

        if (r->answer.r < 0) {
                request_refused(r, PROBLEM_REQUEST_INVALID);
                return;
        }
        b->changed = r->answer.changed;
        b->refused = (int64_t)b->n_stored - b->changed - (int64_t)r->answer.n_left;
        for (size_t i = 0; i < r->answer.n_left; i++)
                if (add_id((struct bulk **)&r->kept, r->answer.left[i]) < 0)
                        b->refused++;
        ask_next(r);
}

static void ask_many(struct request *r)
{
        struct control *control = request_settings(r)->control;
        struct bulk *b = r->kept;
        struct pending *pending;

        if (!b->n_stored) {
                ask_next(r);
                return;
        }
        pending = request_ask(r, on_many);
        if (pending)
                b->action->many(control, &r->by, b->ids, b->n_stored, request_done, pending);
}

/* Apart: there may be many. What asks the daemon goes on where the connection is. */
static void find_jobs(struct request *r)
{
        static const char *const keys[] = {"filter", NULL};
        _cleanup_(filter_done) struct filter f = {0};
        struct bulk *b = r->kept;
        _cleanup_json_ json_t *body = NULL;
        struct errors errs = {0};
        struct reader *reader;
        struct error err = {.text = "no memory"};
        int code;

        if (!request_body(r, keys, false, &body))
                return;
        filter_from_json(json_object_get(body, "filter"), &f, &errs);
        if (errs.n) {
                problem_errors(r, PROBLEM_REQUEST_INVALID, &errs);
                return;
        }
        f.of.limit = PAGE;
        f.of.without = WITHOUT_CONFIG | WITHOUT_OUTCOME;
        f.of.states &= b->action->states;
        reader = request_reader(r);
        if (!reader)
                return;
        code = collect_all(r, reader, &f.of, &err);
        if (code == -E2BIG)
                problem(r, PROBLEM_ANSWER_TOO_LARGE, "it takes more than %zu jobs: narrow the filter",
                        matched_max(b->action));
        else if (code < 0)
                problem_failed(r, "the jobs cannot be read", code, &err);
        else
                r->then = ask_many;
}

static void act(struct request *r, const struct action *action)
{
        struct bulk *b = calloc(1, sizeof *b);

        if (!b) {
                problem(r, PROBLEM_INTERNAL, "no memory");
                return;
        }
        b->action = action;
        r->kept = b;
        request_apart(r, find_jobs, true);
}

/* ---- actions */

#define HALT(name, reason)                                                                                             \
        static void name##_one(struct control *c, const struct audit_row *by, int64_t id, control_done *done,          \
                               void *user)                                                                             \
        {                                                                                                              \
                c->halt(c, by, id, reason, done, user);                                                                \
        }                                                                                                              \
        static void name##_many(struct control *c, const struct audit_row *by, const int64_t *ids, size_t n,           \
                                control_done *done, void *user)                                                        \
        {                                                                                                              \
                c->halt_many(c, by, ids, n, reason, done, user);                                                       \
        }
HALT(cancel, STOP_CANCEL)
HALT(pause, STOP_PAUSE)
#undef HALT

static void resume_one(struct control *c, const struct audit_row *by, int64_t id, control_done *done, void *user)
{
        c->reopen(c, by, id, &(struct reopening){0}, done, user);
}

static void retry_one(struct control *c, const struct audit_row *by, int64_t id, control_done *done, void *user)
{
        c->reopen(c, by, id, &(struct reopening){.retry = true}, done, user);
}

static void remove_one(struct control *c, const struct audit_row *by, int64_t id, control_done *done, void *user)
{
        c->remove(c, by, id, done, user);
}

void jobs_cancel_many(struct request *r)
{
        static const struct action a = {1U << JOB_QUEUED | 1U << JOB_RUNNING | 1U << JOB_PAUSED, cancel_one,
                                        cancel_many};

        act(r, &a);
}

void jobs_pause_many(struct request *r)
{
        static const struct action a = {1U << JOB_QUEUED | 1U << JOB_RUNNING, pause_one, pause_many};

        act(r, &a);
}

void jobs_resume_many(struct request *r)
{
        static const struct action a = {1U << JOB_PAUSED, resume_one, NULL};

        act(r, &a);
}

void jobs_retry_many(struct request *r)
{
        static const struct action a = {1U << JOB_FAILED | 1U << JOB_CANCELLED, retry_one, NULL};

        act(r, &a);
}

/* Newest first, so that who read another's checkpoint goes before it. */
void jobs_remove_many(struct request *r)
{
        static const struct action a = {1U << JOB_SUCCEEDED | 1U << JOB_FAILED | 1U << JOB_CANCELLED, remove_one, NULL};

        act(r, &a);
}
