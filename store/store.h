/* The store: jobs, attempts, their events, curves, artifacts and data sets in one SQLite file, STATE/mulund.db (WAL).
 *
 * One thread writes: every change is a struct write, handed over with its ownership to the writer's queue, done in the
 * order of submission, many to a commit, durable (synchronous=FULL) before its completion is called. Readers have a
 * connection each and see only what is committed. No other process opens the file. All SQL is in this folder. */
#pragma once

#include "contract/event.h"
#include "store/grid.h"

#include <stdatomic.h>

struct store;
struct reader;

/* As the file has them: a state is added at the end. */
enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED, JOB_PAUSED, JOB_STATE_N };
extern const char *const job_state_names[];
static inline bool job_state_is_final(enum job_state s)
{
        return s == JOB_SUCCEEDED || s == JOB_FAILED || s == JOB_CANCELLED;
}

/* Why a worker is told to stop, and how its attempt ended. */
enum stop_reason {
        STOP_NONE,
        STOP_CANCEL,
        STOP_PAUSE,
        STOP_LIMIT,
        STOP_SHUTDOWN,
        STOP_PREEMPT,
        STOP_DISK,
        STOP_REASON_N
};
extern const char *const stop_reason_names[]; /* "" for none */
enum attempt_outcome { OUTCOME_NONE, OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_STOPPED, OUTCOME_N };
extern const char *const attempt_outcome_names[]; /* "" for none: it has not ended */

/* What a job may use, all its attempts together. Failures: attempts that failed and that would be made again. */
enum job_limit { LIMIT_WALL /* seconds */, LIMIT_DEVICE_SECONDS, LIMIT_STEPS, LIMIT_FAILURES, LIMIT_N };
extern const char *const limit_names[];
struct limits_row {
        int64_t of[LIMIT_N]; /* 0: none */
};

#define PRIORITY_MAX 1000
#define NOTES_BYTES_MAX 16384
#define AFTER_MAX 32
#define SERIES_MAX 100000 /* of a job; an event with more is refused, which the job's log says once */

/* Opens or makes the file below folder, checks its integrity marker and migrates it (schema/0001_*.sql ..., each in a
 * transaction; a newer schema than ours is refused), and starts the writer. */
int store_open(const char *folder, struct store **ret, struct error *err);
/* What that would meet, without changing it: 1: a whole database, of a schema so many versions older than ours; 0: none
 * yet. Nobody else may have it open. */
int store_look(const char *folder, int64_t *ret_behind, struct error *err);
/* Commits what is queued, ends the writer, closes. */
struct store *store_close(struct store *s);

/* ---- rows. Strings and JSON are owned by the row; _done frees. Times in wall microseconds, 0 where there is none. */

struct job_row {
        int64_t id;
        enum job_kind kind;
        enum job_state state;
        char *name, *config_name; /* "" where there is none */
        json_t *tags;             /* array of strings */
        json_t *config;           /* whole and frozen; of an import empty */
        int64_t devices;          /* on which it runs at once, job_devices of its configuration */
        json_t *import;           /* of an import, as import_from_json reads it; else NULL */
        json_t *result, *error;   /* object or NULL; error: {"class","detail","step"?} */
        json_t *ran_on, *data;    /* devices and data of its last attempt, as of attempt_row; NULL: there is none */
        int64_t created_us, started_us, ended_us;
        int64_t attempts;
        int64_t step, steps;
        double images_per_second, seconds_left; /* NAN: unknown */
        bool gpu;                               /* it runs on one, else on the processor */
        int64_t memory_bytes;                   /* that its worker needs; 0: not known */
        int64_t source_job, source_step;        /* whose checkpoint, at which step (frozen at submission); 0: none */
        enum stop_reason stop_requested;        /* of a running one: what it was asked for */
        int64_t priority;                       /* -PRIORITY_MAX..PRIORITY_MAX; more runs first */
        int64_t unmet;                          /* jobs that it waits for and that have not succeeded */
        int64_t version;                        /* grows with every change by a person */
        struct limits_row limits;
        char *notes;
        char owner[65];    /* who asked for it: the name of his token, else his own; "": not known */
        char dataset[65];  /* that it needs, or, of an import, makes; "" where there is none */
        char identity[33]; /* of what is its own: 32 hexadecimal digits; "" of a job from before there were any */
        bool accept_changed_data;   /* goes on from a checkpoint that was trained on other data */
        char *moved_by, *moved_why; /* of a queued or paused one: the trigger and the detail of its last transition, ""
                                       where there is none */
        int64_t after[AFTER_MAX];   /* jobs that it waits for, or did: written once, with the job */
        size_t n_after;             /* reader_job fills them */
};
void job_row_done(struct job_row *j);

struct attempt_row {
        int64_t id, job, number; /* number: 1, 2, .. of the job */
        int64_t started_us, ended_us;
        int64_t first_step, last_seq; /* last_seq: highest committed sequence number */
        int64_t last_step;            /* that it spoke of */
        int64_t checkpoints;          /* how many it has made */
        json_t *devices;              /* array of their names */
        json_t *data;  /* its data set's name, digest, train and test (images); NULL: none, or not known */
        int64_t ranks; /* processes */
        enum attempt_outcome outcome;
        enum stop_reason stop; /* of one that was stopped */
        char class[16];        /* of one that failed: of what kind, and whose failure that is; "" of others */
        char blame[8];
        char *detail;    /* what the worker, or the daemon about it, said; "" */
        double energy_j; /* that its devices used from its start to its end; NAN: not known */
        int64_t pid;
        char boot[40];       /* the boot in which it had that pid, "" where it is not known */
        int64_t start_ticks; /* when that process started: field 22 of /proc/PID/stat */
};

void attempt_row_done(struct attempt_row *a);

/* What happened to a job. from is -1 for its submission; from == to: something was asked for or changed. */
struct job_event_row {
        int64_t id, job, time_us;
        int from, to;
        const char *trigger, *detail; /* borrowed for the call; detail may be NULL */
};

struct artifact_row {
        int64_t id, job, attempt, step, bytes, created_us;
        enum artifact_kind kind;
        char name[EVENT_NAME_MAX + 1];
        char digest[33];
        double metric;         /* NAN: none */
        bool pinned;           /* a person keeps it */
        int64_t failed_starts; /* attempts that began with it and crashed before a step */
};
/* Of a checkpoint, that others are taken before it. */
#define FAILED_STARTS_BAD 2
static inline bool artifact_is_bad(const struct artifact_row *a)
{
        return a->failed_starts >= FAILED_STARTS_BAD;
}

struct series_row {
        char name[EVENT_NAME_MAX + 1];
        int64_t points, last_step;
        double last, min, max; /* min, max of the finite ones; NAN when there is none */
        int64_t as_of;         /* number of the job's newest attempt that has said anything: see point_place */
};

struct dataset_row {
        char name[65];
        char path[1024];
        char format[16];
        char digest[33];
        int64_t n_train, n_test;
        double mean[3];  /* of the training images, by channel */
        char source[16]; /* the format that it was imported from; "" of others */
        bool imported;   /* by a job, into STATE/datasets; else named by the command line */
};

/* ---- reading. A reader belongs to one thread. -ENOENT where there is no such row. */

const char *store_library_version(void); /* SQLite's, as it runs */

/* The database as it is now, to a path where nothing is; while others read and write, from any thread. cancelled is
 * looked at now and then: -ECANCELED; what is there on failure is the caller's to remove. */
int store_copy(const struct store *s, const char *path, const atomic_bool *cancelled, struct error *err);

/* A number above 0 that each commit changes; 0 while one is under way. What was read after it was asked for, and is
 * still the same when it is asked for again, is what is stored. From any thread. */
int64_t store_stamp(const struct store *s);

int reader_open(struct store *s, struct reader **ret, struct error *err);
struct reader *reader_close(struct reader *r);

/* While it reads, asks every few thousand steps of SQLite whether to go on: true ends the statement with -ECANCELED.
 * NULL: no longer. */
void reader_watch(struct reader *r, bool (*cancelled)(void *user), void *user);

int reader_job(struct reader *r, int64_t id, struct job_row *ret, struct error *err);

/* Members of a row that take time to read, and that a list may do without. */
enum job_without {
        WITHOUT_CONFIG = 1 /* and import */,
        WITHOUT_OUTCOME = 2 /* result, error, ran_on, data, moved_by, moved_why */,
        CONFIG_AS_TEXT = 4 /* json_verbatim, for who only passes it on; an empty one is an object */
};
int reader_job_without(struct reader *r, int64_t id, unsigned without, struct job_row *ret, struct error *err);

enum job_order { ORDER_NEWEST, ORDER_OLDEST, ORDER_QUEUE /* queued ones, as the queue goes */ };
#define JOB_ANY (~0U)
#define LIST_MAX 10000 /* rows of a page */

struct job_filter {
        unsigned states, kinds; /* bits; JOB_ANY */
        const char *tag;        /* or NULL */
        const char *text;       /* part of the name or the notes, letters large or small; or NULL */
        const char *ids;        /* JSON: [3, 5]: these alone; or NULL */
        const char *config;     /* JSON: {"$.training.seed": 3, ..}: values that the configuration has; or NULL */
        int64_t source_job;     /* began with a checkpoint of it; 0: any */
        enum job_order order;
        int64_t bound, bound_priority; /* cursor: only what comes behind this id (and, in the queue's order, priority);
                                          0: from the first */
        int64_t limit;
        unsigned without; /* bits of enum job_without */
};
/* Calls back once a row (borrowed), in the order asked for; a negative answer ends it and is returned. */
int reader_jobs(struct reader *r, const struct job_filter *f, int (*row)(const struct job_row *j, void *user),
                void *user, struct error *err);
/* How many the filter takes, whatever its bound: kept where it asks for states and kinds, or a tag; else counted, to
 * max at most. *ret -1: more than that. */
int reader_jobs_total(struct reader *r, const struct job_filter *f, int64_t max, int64_t *ret, struct error *err);

/* What a list is sorted by. */
enum job_sort {
        SORT_NONE,
        SORT_NAME,
        SORT_KIND,
        SORT_STATE,    /* running, queued, paused, succeeded, failed, cancelled */
        SORT_PROGRESS, /* the share of its steps */
        SORT_SPEED,
        SORT_TEST_BPD, /* of its result, else the last point of its curve */
        SORT_TRAIN_BPD,
        SORT_BEST_TEST_BPD, /* the least point of its curve */
        SORT_BEST_TRAIN_BPD,
        SORT_CREATED,
        SORT_STARTED,
        SORT_ENDED,
        SORT_DURATION, /* from its start to its end, or to now */
        SORT_STEP,
        SORT_ATTEMPTS,
        SORT_PRIORITY,
        SORT_OWNER,
        SORT_DEVICES,
        SORT_NOTES,
        SORT_CONFIG, /* the value at a path of its configuration */
        SORT_N
};
extern const char *const job_sort_names[]; /* as a query says them */

/* A place in a sorted list. Numbers come before texts, and what is neither after both, up or down; equals by id, newest
 * first. */
struct sort_key {
        enum { SORT_NUMBER, SORT_TEXT, SORT_NOTHING } type;
        double number;
        char text[64]; /* its beginning; letters large or small */
        int64_t id;
};
struct job_sorting {
        enum job_sort by;
        const char *path; /* of SORT_CONFIG: $.optimizer.learning_rate */
        bool descending;
        int64_t now_us;                /* wall */
        const struct sort_key *behind; /* cursor; NULL: from the first */
};
struct job_sorted {
        int64_t total;        /* that the filter takes */
        bool more;            /* behind the last row there is one */
        struct sort_key last; /* of the row that is called back with, and at the end of the last */
};
/* The same in the order of what a row says; f's order and bound say nothing here. It looks at all jobs that the filter
 * takes, by an index that has most of it side by side: 100,000 take some 40 ms, by a path of the configuration 0.4 s.
 */
int reader_jobs_sorted(struct reader *r, const struct job_filter *f, const struct job_sorting *s,
                       int (*row)(const struct job_row *j, void *user), void *user, struct job_sorted *ret,
                       struct error *err);
/* How many there are of each state and kind. */
struct job_counts {
        int64_t n[JOB_STATE_N][JOB_KIND_N];
};
int reader_job_counts(struct reader *r, struct job_counts *ret, struct error *err);

/* Tags that jobs have, by name, behind one ("": from the first), and how many have each. */
int reader_tags(struct reader *r, const char *after, int64_t limit, int (*row)(const char *tag, int64_t n, void *user),
                void *user, struct error *err);
/* What a step took in the newest of the last jobs like this one (kind, gpu, memory_bytes) that succeeded. -ENOENT. */
struct step_cost {
        double seconds, joules; /* joules of all its devices; NAN: not known */
};
int reader_step_cost(struct reader *r, const struct job_row *like, struct step_cost *ret, struct error *err);

/* Jobs that may start on a GPU, or on the processor, in the order of the queue: (priority, id), those that wait for
 * others left out. A row's config, result, error and import are left out. A positive answer ends it, and is returned.
 */
int reader_ready(struct reader *r, bool gpu, int (*row)(const struct job_row *j, void *user), void *user,
                 struct error *err);
/* How many of them come before this one; max: so many or more, as of at most half a second ago. */
int reader_ready_before(struct reader *r, const struct job_row *j, int64_t max, int64_t *ret, struct error *err);
/* The first of them; -ENOENT: there is none. */
int reader_ready_first(struct reader *r, bool gpu, int64_t *ret_id, struct error *err);
/* Those of j->after that have not succeeded: at most AFTER_MAX. */
int reader_unmet(struct reader *r, int64_t job, int64_t ret[AFTER_MAX], size_t *ret_n, struct error *err);

/* Jobs that are not over and that need what is about to go: the first by id, or -ENOENT. */
int reader_user_of_job(struct reader *r, int64_t job, int64_t *ret_id, struct error *err); /* wait for it */
int reader_user_of_checkpoint(struct reader *r, int64_t job, int64_t step, int64_t *ret_id,
                              struct error *err); /* step -1: any */
int reader_user_of_dataset(struct reader *r, const char *name, bool import, int64_t *ret_id,
                           struct error *err); /* import: imports, which make it; else all others */

/* What happened to a job, oldest first, behind an event (0: from the first). */
int reader_job_events(struct reader *r, int64_t job, int64_t after, int64_t limit,
                      int (*row)(const struct job_event_row *e, void *user), void *user, struct error *err);

/* The same of all jobs; the id of the last of all. */
int reader_events(struct reader *r, int64_t after, int64_t limit, int (*row)(const struct job_event_row *e, void *user),
                  void *user, struct error *err);
int reader_last_event(struct reader *r, int64_t *ret_id, struct error *err);

/* Attempts of a job, oldest first; those of any job that have no end yet, by id; artifacts newest first (kind -1: any).
 */
int reader_attempts(struct reader *r, int64_t job, int (*row)(const struct attempt_row *a, void *user), void *user,
                    struct error *err);
int reader_attempts_open(struct reader *r, int (*row)(const struct attempt_row *a, void *user), void *user,
                         struct error *err);
int reader_artifacts(struct reader *r, int64_t job, int kind, int (*row)(const struct artifact_row *a, void *user),
                     void *user, struct error *err);
int reader_artifact(struct reader *r, int64_t id, struct artifact_row *ret, struct error *err);
int reader_datasets(struct reader *r, int (*row)(const struct dataset_row *d, void *user), void *user,
                    struct error *err);
int reader_dataset(struct reader *r, const char *name, struct dataset_row *ret, struct error *err);

/* Whether a device of that name was taken out of service, and why: "" by a person. */
int reader_device_out(struct reader *r, const char *name, bool *ret, char *ret_why, size_t size, struct error *err);

/* Who may ask for what. A role has all that those before it have. */
enum role { ROLE_NONE, ROLE_READ, ROLE_SUBMIT, ROLE_ADMIN, ROLE_N };
extern const char *const role_names[];

struct token_row {
        char name[65];
        enum role role;
        char salt[33], hash[65]; /* hexadecimal: of SHA-256 of salt and secret */
        int64_t created_us;
};
int reader_token(struct reader *r, const char *name, struct token_row *ret, struct error *err);
int reader_tokens(struct reader *r, int (*row)(const struct token_row *t, void *user), void *user, struct error *err);

/* A browser's session: of its key SHA-256, hexadecimal; who opened it. */
struct session_row {
        char hash[65];
        char token[65]; /* name of the token by which he asked; "" */
        int64_t uid;    /* of a peer on this machine; -1: not known */
        int64_t until_us;
};
#define SESSIONS_MAX 1024 /* of more those that end first are over */
/* -ENOENT also when it is over. */
int reader_session(struct reader *r, const char *hash, int64_t now_us, struct session_row *ret, struct error *err);

/* An attempt to tell a webhook of an event. */
struct delivery_row {
        int64_t id, event, job, attempt, time_us, took_us;
        int64_t code;     /* of the answer; 0: there was none */
        char hook[33];    /* its name */
        char detail[200]; /* why there was none; "" */
};
#define DELIVERIES_MAX 1000 /* of a hook; of more the oldest go */
/* Newest first, before one (INT64_MAX: from the last). */
int reader_deliveries(struct reader *r, const char *hook, int64_t before, int64_t limit,
                      int (*row)(const struct delivery_row *d, void *user), void *user, struct error *err);
/* How often an event was sent to a hook. */
int reader_delivery_attempts(struct reader *r, const char *hook, int64_t event, int64_t *ret, struct error *err);

/* A change, and who asked for it. action "": none. */
struct audit_row {
        int64_t id, time_us, job; /* job 0: none */
        int64_t uid;              /* of a peer on this machine; -1: not known */
        char user[33], token[65], address[64], request[65], action[240];
};
/* Oldest first, behind one (0: from the first). */
int reader_audit(struct reader *r, int64_t after, int64_t limit, int (*row)(const struct audit_row *a, void *user),
                 void *user, struct error *err);

/* What a client called its request. The job that it made: -ENOENT: none; -EKEYREJECTED: that was another request. */
#define REQUEST_KEY_MAX 200 /* as its client says it; whose it is stands behind that, after a space */
struct request_key {
        char key[REQUEST_KEY_MAX + 1 + 65]; /* "": none */
        char digest[33];                    /* of the request */
};
int reader_request_key(struct reader *r, const struct request_key *key, int64_t *ret_id, struct error *err);

/* What a crash left half removed: ids above after (0: the first) of marked jobs, and marked artifacts. -ENOENT: no
 * more. */
int reader_marked_job(struct reader *r, int64_t after, int64_t *ret, struct error *err);
int reader_marked_artifact(struct reader *r, int64_t after, struct artifact_row *ret, struct error *err);

int reader_series(struct reader *r, int64_t job, int (*row)(const struct series_row *s, void *user), void *user,
                  struct error *err);

/* Points, reduced to at most n_buckets buckets, the finest that are so few (store/grid.h), the same for all series of a
 * question. */
struct curve_question {
        size_t n_jobs, n_names;
        const int64_t *jobs;
        const char *const *names;
        int64_t from, to;       /* steps, inclusive */
        int64_t from_ms, to_ms; /* times, inclusive; 0 and INT64_MAX: any. From the first step whose last point came at
                                   from_ms or later, to before the first that came later than to_ms: steps are taken
                                   to ascend with time */
        int64_t n_buckets;      /* at least 1 */
        bool logarithmic;       /* their grid */
        int64_t attempt; /* number of the attempt whose points are wanted, superseded or not; 0: of all those that are
                            not superseded (no later attempt began at their step or before) */
        bool own_grid;   /* each series has the one that fits it */
};
struct curve {
        int64_t points_total;
        struct grid grid;
        int64_t bucket_width; /* steps of the widest bucket */
        uint64_t view; /* which attempts' points are shown below which step, as a number: while it is the same, points
                          only come */
        size_t n;      /* buckets that hold a point; arrays are owned */
        int64_t *step; /* step of the bucket's last point */
        int64_t *time_ms;                                          /* its time */
        int64_t *count, *not_a_number, *infinite, *minus_infinite; /* count: of all points */
        double *min, *max, *mean;                                  /* of the finite points; NAN when there is none */
        double *last;                                              /* whatever it is */
};
/* Calls back for every series that there is, job by job, in the order of the names; the curve is borrowed, or taken by
 * leaving it empty. A negative answer ends it and is returned. All is read from one view of the file. */
int reader_curves(struct reader *r, const struct curve_question *q,
                  int (*found)(int64_t job, const char *name, struct curve *c, void *user), void *user,
                  struct error *err);
/* The same of one series; *ret is the caller's. -ENOENT. */
int reader_curve(struct reader *r, int64_t job, const char *name, int64_t from, int64_t to, int64_t n_buckets,
                 struct curve *ret, struct error *err);
void curve_done(struct curve *c);

/* Points of one series as they are: at most n of those that are shown behind a place, in order of step, and of arrival
 * where the step is the same. The place is moved behind the last. *ret_n below n: there are no more. */
struct point {
        int64_t step, time_ms;
        double value; /* whatever it is */
};
struct point_place {
        int64_t step, passed; /* of the points with this step */
        int64_t as_of;        /* number of an attempt: what later ones supersede is shown all the same */
};
#define POINTS_BEGIN ((struct point_place){.step = INT64_MIN, .as_of = INT64_MAX})
int reader_points_behind(struct reader *r, int64_t job, const char *name, struct point_place *place, size_t n,
                         struct point *ret, size_t *ret_n, struct error *err);

/* ---- writing */

/* Every change of a job is also in its event log, in the same transaction.
 *
 * ATTEMPT_NEW and EVENTS with a trigger also make the job's transition (job, from, to, ..), in the same
 * transaction: a job that is running has an attempt, an outcome that is committed has moved its job. */
enum write_kind {
        WRITE_JOB_NEW,        /* job; ret_id. The row's id, attempts, started_us.. are ignored; state is queued; its
                                 identity is drawn here. In done the row is as a reader has it, but for the identity.
                                 With a key that is known, of the same request: that job's id, and none is made, the
                                 row's id is 0; of another: -EKEYREJECTED */
        WRITE_JOB_IDS_ABOVE,  /* job id: no new job has this id or one below */
        WRITE_JOB_TRANSITION, /* job id, from, to, trigger, detail; with started/ended/error/result as given */
        WRITE_JOBS_MOVE,   /* ids, to (cancelled or paused), trigger: those that are queued, or paused and not to be so;
                              ret_number: how many. Many take several transactions, as JOB_REMOVE */
        WRITE_JOB_STOP,    /* job id, stop_requested of a running job */
        WRITE_JOB_NOTE,    /* job id of a running job, trigger, detail: only a line of its event log */
        WRITE_JOB_SET,     /* job id, change, row: name, tags, notes, priority, limits; ret_number: its version now.
                              -ESTALE when row.version is given and another; -EAGAIN when it is over and priority or
                              limits are to change */
        WRITE_JOB_REOPEN,  /* job id, steps, config, accept_changed_data; limits by change: a job that is over or
                              paused is queued again */
        WRITE_JOB_MARK,    /* job id: readers do not see it any more; files and rows follow. -EBUSY when not final */
        WRITE_JOB_REMOVE,  /* job id and all its rows (files are gone before). Long curves take several transactions,
                              between which other writes are done: those that come later may complete before it.
                              What a crash leaves of it is still marked */
        WRITE_ATTEMPT_NEW, /* attempt (job, first_step); ret_id and its number; the job's attempts + 1 */
        WRITE_ATTEMPT_PID, /* attempt id; pid, boot, start_ticks of attempt_row */
        WRITE_ATTEMPT_END, /* attempt id, ended_us, energy_j */
        WRITE_EVENTS,      /* attempt id, events in order: those above last_seq are applied, all in this transaction */
        WRITE_ARTIFACT_MARK,   /* artifact id: readers do not see it any more; its file goes, then the row */
        WRITE_ARTIFACT_SET,    /* artifact id, change, artifact_row: pinned, failed_starts. -ENOENT */
        WRITE_ARTIFACT_REMOVE, /* artifact id */
        WRITE_DATASET,         /* dataset, inserted or replaced */
        WRITE_DATASET_REMOVE,  /* dataset.name */
        WRITE_DATASETS_CLEAR,  /* all data sets: at start, before those of this run */
        WRITE_DEVICE,   /* device, out: it is out of service (detail: why, NULL: a person says so), or in again */
        WRITE_TOKEN,    /* token; out: it goes, and its sessions. -EEXIST, -ENOENT */
        WRITE_SESSION,  /* session, at time_us; out: it goes, where it is there */
        WRITE_DELIVERY, /* delivery, but for its id */
        WRITE_AUDIT,    /* audit alone */
        WRITE_KIND_N
};

enum job_change {
        CHANGE_NAME = 1,
        CHANGE_TAGS = 2,
        CHANGE_NOTES = 4,
        CHANGE_PRIORITY = 8,
        CHANGE_LIMIT = 16, /* the first of enum job_limit; the others follow */
        CHANGE_LIMITS = CHANGE_LIMIT * ((1 << LIMIT_N) - 1),
        CHANGE_OF_LIVE = CHANGE_PRIORITY | CHANGE_LIMITS, /* only of a job that is not over */
        CHANGE_PINNED = 1024,                             /* of a checkpoint */
        CHANGE_FAILED_STARTS = 2048,
};
_Static_assert(CHANGE_LIMITS < CHANGE_PINNED, "a bit a limit");

struct write {
        enum write_kind kind;
        int64_t job, attempt, artifact; /* ids, by kind */
        int64_t *ids;                   /* owned or NULL */
        size_t n_ids, ids_done;         /* ids_done: the writer's */
        enum job_state from, to;        /* -EAGAIN in done when the job is not in state `from` any more */
        const char *trigger;            /* static text, for the job's event log */
        char *detail;                   /* owned or NULL */
        struct job_row row;             /* owned */
        unsigned change;                /* bits of enum job_change */
        struct attempt_row attempt_row; /* owned. Of a transition from running: outcome, stop, class, blame, detail of
                                           the attempt */
        bool failed_start; /* of that: it crashed, and if that was before a step its checkpoint is to blame */
        struct artifact_row artifact_row;
        struct dataset_row dataset;
        char device[32];
        bool out;
        struct request_key key;
        struct token_row token;
        struct session_row session;
        struct delivery_row delivery;
        struct audit_row audit; /* of any kind: who asked for it, which is told in the same transaction */
        struct event *events;   /* owned array, each with event_done */
        size_t n_events;
        int64_t time_us;

        /* Called on the writer's thread after the commit (r 0) or the failure (negative, err). ret_id: the new row's
         * id. It must be quick and must not call the store; it usually posts to the loop. The write is freed after it.
         */
        void (*done)(struct write *w, int r, const struct error *err);
        void *user;
        int64_t ret_id, ret_number; /* ret_number: of a new attempt; of events: the attempt's last_seq now */
        struct write *next;         /* the queue's */
};

struct write *write_new(enum write_kind kind); /* NULL without memory */
struct write *write_free(struct write *w);

/* Takes ownership of w. Never blocks on the disk. */
void store_submit(struct store *s, struct write *w);

/* The same, waiting: for start-up, tests and tools; never on the loop's thread once it runs. */
int store_write(struct store *s, struct write *w, int64_t *ret_id, struct error *err);

DEFINE_CLEANUP(struct write *, write_free);
