/* One operation that the API asked for, from an HTTP thread's call to its answer. The loop's thread owns it after the
 * post; the list of all is under the daemon's control_lock. */
#pragma once

#include "daemon/daemon.h"

enum op_kind {
        OP_SUBMIT,
        OP_HALT,
        OP_HALT_MANY,
        OP_CHANGE,
        OP_CHANGE_CHECKPOINT,
        OP_REOPEN,
        OP_REMOVE,
        OP_REMOVE_DATASET,
        OP_SERVICE,
        OP_TOKEN,
        OP_SESSION,
        OP_WEBHOOK_SEND,
        OP_BACKUP,
        OP_STOP
};

struct op {
        struct post post;
        struct daemon *daemon;
        enum op_kind kind;
        struct submission *submission;
        int64_t job;
        enum stop_reason reason; /* halt, halt_many */
        int64_t *ids;            /* halt_many: owned; those that are left stand first, when they are known */
        size_t n_ids, n_left;
        int64_t changed;
        struct changing changing; /* change; owned */
        struct checkpoint_changing checkpoint;
        struct reopening how; /* reopen */
        char dataset[65];     /* remove_dataset: its name; submit, reopen: of the data that the job needs or makes */
        char device[32];      /* service */
        char name[65];        /* backup, webhook_send */
        int64_t event;        /* webhook_send */
        bool out, preempt;
        bool storing;               /* submit: the job's row is on its way */
        struct token_row token;     /* token; out: it goes */
        struct session_row session; /* session; out: it ends */
        struct audit_row by;        /* who asks: told with the first write of the change */
        control_done *done;
        void *user;
        struct op *next;         /* of all that are open */
        struct op *next_waiting; /* of those that wait for a job's transition */

        json_t *config;                      /* of the new job */
        char estimate_key[16 + DIGEST_SIZE]; /* what the memory that it needs depends on */
        struct job_row *stored;              /* it, while that is answered; borrowed */
        int64_t config_steps;
        int64_t memory_bytes;            /* that its worker needs */
        bool gpu;                        /* it runs on one */
        int n_devices;                   /* so many at once */
        int64_t pinned_job, pinned_step; /* checkpoint that it names; 0: none */
        struct helper *helper;
        struct source *timer;
        enum job_state from;
};

/* The write that makes the change, with who asked for it. w may be NULL: no memory. */
void op_commit(struct op *op, struct write *w, void (*done)(struct daemon *d, const struct commit *c, void *user));
/* Answers and frees. errs may be NULL. */
void op_answer(struct op *op, int r, int64_t id, enum job_state state, const struct errors *errs);
/* The same with one error, whose code is r. */
void op_fail(struct op *op, enum job_state state, const struct error *err);
/* The same with -EBUSY. */
void op_busy(struct op *op, enum job_state state, const char *text);
/* The job's row as the store has it, for operations on jobs that are over. False: answered. */
bool op_read_job(struct op *op, struct job_row *ret);
/* It is run again when the job's transition is done. */
void op_wait_for(struct job *j, struct op *op);

/* submit.c */
void op_submit(struct op *op);
/* Its checks are done: stores the job and answers. */
void op_store_job(struct op *op);

/* reopen.c, remove.c */
void op_reopen(struct op *op);
void op_remove(struct op *op);

/* import.c */
void op_import(struct op *op);
void op_remove_dataset(struct op *op);
/* Whether the data set that an import makes, if it makes one, may have its name; op knows it from then on. */
int import_check_name(struct op *op, const json_t *import, struct errors *errs);
/* latest (-1), best (-2) or the checkpoint at a step of a training job. -ENOENT, err says which is missing. */
int checkpoint_resolve(struct daemon *d, int64_t job, int64_t which, int64_t *ret_step, struct error *err);
