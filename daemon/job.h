/* A job with which something is going on, in the daemon's memory, and the one door to another state. Owned by the
 * loop's thread. One that only waits, or is paused, is in the store alone: it is read when it is needed, so that a
 * queue of a million costs what one of ten does. */
#pragma once

#include "daemon/commit.h"

enum job_trigger {
        TRIGGER_START,
        TRIGGER_CANCEL,
        TRIGGER_PAUSE,
        TRIGGER_LIMIT,
        TRIGGER_PREEMPT,
        TRIGGER_DISK,
        TRIGGER_REFUSE,
        TRIGGER_DONE,
        TRIGGER_ERROR,
        TRIGGER_LOST,
        TRIGGER_STOP,
        TRIGGER_RESUME,
        TRIGGER_RETRY,
        TRIGGER_N
};
extern const char *const job_trigger_names[];

struct worker;
struct op;

struct job {
        int64_t id;
        enum job_kind kind;
        enum job_state state;  /* as committed */
        bool pending;          /* a transition is on its way to the disk: nothing else may begin */
        bool held;             /* somebody has it in hands: it is not to be forgotten */
        enum stop_reason stop; /* that its worker was asked for, and that the store knows or is being told */
        bool noting_stop;      /* the request is on its way to the disk: no answer says it yet */
        bool started;          /* has a start time */
        int64_t priority;
        struct limits_row limits;
        char owner[65];   /* "": not known */
        char dataset[65]; /* of an import: the one that it makes, "" where it makes none */
        char identity[33];
        bool accept_changed_data;
        int64_t source_job, source_step;
        int n_devices;         /* on which it runs at once */
        int failures;          /* in a row, none of them its own: it makes way for others meanwhile */
        int64_t not_before_us; /* monotonic; after these, or a failed write. By job_rest alone */
        char rests_why[256];   /* "": its last event says it */
        struct worker *worker;
        struct op *waiting; /* control operations that came while it was pending */
};

/* The state after a trigger, or -EINVAL. */
int job_next(enum job_state state, enum job_trigger trigger);

/* The trigger by which a job moves whose worker stopped for a reason; none: it stopped by itself. */
enum job_trigger job_stop_trigger(enum stop_reason reason);

/* The job by its id: as it is in memory, or from the store, when it is not over. -ENOENT: over, or no such job. */
int job_load(struct daemon *d, int64_t id, struct job **ret, struct error *err);
/* It is not to start before then; why: for people, where no event of the job says it, else NULL. */
void job_rest(struct daemon *d, struct job *j, int64_t not_before_us, const struct error *why);
/* Forgets the job if nothing is going on with it. */
void job_forget(struct daemon *d, int64_t id);

/* Moves the job: one write with its row in the event log. carrier is the write that goes with it (a new attempt, an
 * attempt's end, its last events) or NULL; error, result and detail are in its row. The job's state changes, and done
 * is called, when it is committed; on failure (the commit's r) the job stays as it is. Takes the carrier. */
typedef void job_moved(struct daemon *d, struct job *j, const struct commit *c, void *user);
int job_transition(struct daemon *d, struct job *j, enum job_trigger trigger, struct write *carrier, job_moved *done,
                   void *user, struct error *err);

/* A line of the event log of a job that runs: it stays as it is. */
void job_note(struct daemon *d, int64_t id, const char *trigger, const char *fmt, ...) _printf_(4, 5);

/* The data set that an import (a job's or a submission's) makes, borrowed; NULL: none. import may be NULL. */
const char *import_dataset_name(const json_t *import);

struct job *job_new(const struct job_row *row, struct error *err);
struct job *job_free(struct job *j);

/* {"class", "detail", "step"}; step below 0: left out. NULL without memory. */
json_t *job_error(const char *class, const char *detail, int64_t step);
