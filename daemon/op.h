/* One operation that the API asked for, from an HTTP thread's call to its answer. The loop's thread owns it after the
 * post; the list of all is under the daemon's control_lock. */
#pragma once

#include "daemon/daemon.h"

enum op_kind { OP_SUBMIT, OP_HALT, OP_CHANGE, OP_REOPEN, OP_REMOVE, OP_REMOVE_DATASET, OP_SERVICE, OP_STOP };

struct op {
        struct post post;
        struct daemon *daemon;
        enum op_kind kind;
        struct submission *submission;
        int64_t job;
        enum stop_reason reason;  /* halt */
        struct changing changing; /* change; owned */
        struct reopening how;     /* reopen */
        char dataset[65]; /* remove_dataset: its name; submit: of the data that the job needs; reopen: that it makes */
        char device[32];  /* service */
        bool out, preempt;
        bool storing; /* submit: the job's row is on its way */
        control_done *done;
        void *user;
        struct op *next;         /* of all that are open */
        struct op *next_waiting; /* of those that wait for a job's transition */

        json_t *config; /* of the new job */
        int64_t config_steps;
        int64_t memory_bytes;            /* that its worker needs */
        bool gpu;                        /* it runs on one */
        int64_t pinned_job, pinned_step; /* checkpoint that it names; 0: none */
        struct helper *helper;
        struct source *timer;
        enum job_state from;
};

/* Answers and frees. errs may be NULL. */
void op_answer(struct op *op, int r, int64_t id, enum job_state state, const struct errors *errs);
/* The same with one error, whose code is r. */
void op_fail(struct op *op, enum job_state state, const struct error *err);

/* submit.c */
void op_submit(struct op *op);
/* Its checks are done: stores the job and answers. */
void op_store_job(struct op *op);

/* import.c */
void op_import(struct op *op);
void op_remove_dataset(struct op *op);
/* Whether an import that is over may run again: its name is still free. */
int import_check_retry(struct op *op, const struct job_row *row, struct errors *errs);
/* latest (-1), best (-2) or the checkpoint at a step of a training job. -ENOENT, err says which is missing. */
int checkpoint_resolve(struct daemon *d, int64_t job, int64_t which, int64_t *ret_step, struct error *err);
