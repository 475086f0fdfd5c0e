/* The tasks of a worker: train, evaluate, sample, import. Each runs an assignment to its end and reports; what it
 * returns is for the exit code and, when negative, for the error event. */
#pragma once

#include "engine/dataset.h"
#include "engine/runtime.h"
#include "worker/rank.h"
#include "worker/reporter.h"

struct task {
        const struct assignment *assignment;
        const struct rank *rank; /* of several; or NULL */
        struct config config;
        struct runtime *rt;
        struct dataset *dataset; /* NULL for samples that need none, and for an import, which has no runtime either */
        char data[DIGEST_SIZE];  /* its digest, as it was read when the attempt began */
        struct reporter *reporter;
        int64_t step;                   /* of training, or of the checkpoint in use; for errors */
        int64_t device_us, device_done; /* when, and at which progress, the device was told of last, between batches */
};

/* Whether this process is the one that writes files, reports and decides: the only one, or the first rank. */
static inline bool task_leads(const struct task *t)
{
        return !t->rank || t->rank->rank == 0;
}

/* 0: done or stopped, as reported; negative: err, not reported yet. */
int task_train(struct task *t, struct error *err);
int task_evaluate(struct task *t, struct error *err);
int task_sample(struct task *t, struct error *err);
int task_import(struct task *t, struct error *err);

/* The exact likelihood's part of task_evaluate, and what both methods share: how many images, the result (parts, which
 * may be NULL, is taken; NULL without memory). -ECANCELED: not reported. */
int task_evaluate_exact(struct task *t, struct error *err);
int64_t task_evaluation_images(const struct task *t);
json_t *task_evaluation_json(const struct task *t, double bpd, double standard_error, json_t *parts, int64_t n_images,
                             int64_t start_us);
/* What a model makes of the first n images, whose bits per dimension are given: ranked, their schedules and latents, as
 * files and series. And the diffusion term at n times, evenly over 0 .. 1. */
struct inspector;
int task_inspect(struct task *t, struct inspector *v, const double *bpd, int64_t n, struct error *err);
int task_tell_times(struct task *t, const double *diff_at, int64_t n, struct error *err);

/* Memory in bytes that a job of this kind will need beside the program itself, by a dry run of all its passes. Where
 * training needs more than `room`: what would fit (trainer_advise), else "". */
int task_estimate(const struct config *c, enum job_kind kind, size_t room, size_t *ret_bytes, char *ret_advice,
                  size_t advice_size, struct error *err);

/* A file of the job's folder that is an artifact at the task's step: a table, or images [n, 32, 32, 3] as a grid. */
#define BPD_TABLE "bpd-per-image.csv"
int task_write_table(struct task *t, const char *name, const struct buf *b, struct error *err);
int task_write_picture(struct task *t, const char *name, const uint8_t *images, int64_t n, int64_t columns,
                       struct error *err);

/* FOLDER/NAME of the assignment; name is a plain file name. */
void task_path(const struct task *t, const char *name, char *ret, size_t size);

/* Evaluate and sample: allocates for them, reads that section of the assignment's checkpoint, says that it starts. */
int task_load(struct task *t, enum weights weights, const struct runtime_need *need, int64_t steps, struct error *err);

/* What a checkpoint's state says of where it comes from: the run's identity and the digest of the data. 0 or -ENOMEM.
 */
int task_add_origin(const struct task *t, json_t *state, struct error *err);
/* Whether a checkpoint is of the run that the assignment says. -EBADMSG when it is not: one that has the name of this
 * job's own is set aside. ret_data: the data that it was trained on, "" when it does not say. */
int task_check_origin(const struct task *t, const struct assignment_checkpoint *c, char ret_data[DIGEST_SIZE],
                      struct error *err);

/* Sends what is due and takes commands; ret_checkpoint_asked: reporter_poll's. -ECANCELED when a stop was asked for.
 * Every rank calls it, and hears what the first has heard. */
int task_poll(struct task *t, bool *ret_checkpoint_asked, struct error *err);
/* The same of the first rank alone, in what the others do not do. They call task_after_alone when it is through, with
 * what it returned (they: 0), and all hear of a stop; no other failure comes back from it. */
int task_poll_alone(struct task *t, bool *ret_checkpoint_asked, struct error *err);
int task_after_alone(struct task *t, int result, struct error *err);
/* How much its device does, as series "device/..", at a step. */
int task_tell_device(struct task *t, int64_t step, struct error *err);
/* Between two batches, sampling steps or imported images: tells the progress and, now and then, of the device
 * (its steps are what is done), and task_poll. */
struct task_progress {
        struct task *task;
        int64_t start_us; /* monotonic */
};
int task_between(void *progress, int64_t done, int64_t all, struct error *err);

/* Removes what an earlier attempt left half-written in the job's folder. */
void task_sweep(const struct task *t);
