/* A job that is not over, in the daemon's memory, and the one door to another state. Owned by the loop's thread. */
#pragma once

#include "daemon/commit.h"

enum job_trigger {
        TRIGGER_START,
        TRIGGER_CANCEL,
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
        enum job_state state; /* as committed */
        bool pending;         /* a transition is on its way to the disk: nothing else may begin */
        bool cancel_requested;
        bool noting_cancel; /* the request is on its way to the disk: no answer says it yet */
        bool started;       /* has a start time */
        char dataset[65];   /* of an import: the one that it makes, "" where it makes none */
        char identity[33];
        bool accept_changed_data;
        int64_t source_job, source_step;
        int failures;          /* in a row, none of them its own: it makes way for others meanwhile */
        int64_t not_before_us; /* monotonic; after these, or a failed write */
        struct worker *worker;
        struct op *waiting; /* control operations that came while it was pending */
};

/* The state after a trigger, or -EINVAL. */
int job_next(enum job_state state, enum job_trigger trigger);

/* Moves the job: one write with its row in the event log. carrier is the write that goes with it (a new attempt, an
 * attempt's end, its last events) or NULL; error, result and detail are in its row. The job's state changes, and done
 * is called, when it is committed; on failure (the commit's r) the job stays as it is. Takes the carrier. */
typedef void job_moved(struct daemon *d, struct job *j, const struct commit *c, void *user);
int job_transition(struct daemon *d, struct job *j, enum job_trigger trigger, struct write *carrier, job_moved *done,
                   void *user, struct error *err);

/* The data set that an import (a job's or a submission's) makes, borrowed; NULL: none. import may be NULL. */
const char *import_dataset_name(const json_t *import);

struct job *job_new(const struct job_row *row, struct error *err);
struct job *job_free(struct job *j);

/* {"class", "detail", "step"}; step below 0: left out. NULL without memory. */
json_t *job_error(const char *class, const char *detail, int64_t step);
