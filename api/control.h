/* What the API asks of the daemon. The daemon fills the table; tests fake it. Every call comes from an HTTP thread with
 * the request's connection suspended, takes ownership of what it says it takes, and calls done exactly once, from any
 * thread, possibly before it returns. */
#pragma once

#include "store/store.h"

/* What came of it. id: the job. On failure r is negative: -ENOENT no such job or checkpoint; -EBUSY the action does not
 * fit the job's state (state is set); -EEXIST: a name is taken, or what has it is in use; -EINVAL with errs: what is
 * wrong in the request, at its pointers; -ENOSPC; -EIO.
 */
struct control_answer {
        int r;
        int64_t id;
        enum job_state state;
        const struct errors *errs; /* borrowed, valid during done; for -ENOENT and others the first item says what */
};
typedef void control_done(void *user, const struct control_answer *answer);

/* A submission after the request's own checks: config is whole and valid by config_from_json. */
struct submission {
        enum job_kind kind;
        char *name, *config_name; /* "" where there is none */
        json_t *tags;             /* array of strings */
        json_t *import;    /* import: as import_from_json reads it, but for the paths, which are as they were given */
        json_t *config;    /* train, and import of a checkpoint: whole. With a source: NULL; the daemon takes that job's
                              and applies overrides */
        json_t *overrides; /* with a source: object dotted path -> value, or NULL; evaluate and sample have
                              evaluation.*, sampling.*, machine.* alone */
        bool accept_changed_data; /* train */
        int64_t source_job;       /* evaluate, sample: whose checkpoint; train: 0, or whose it starts from */
        int64_t source_step;      /* -1: latest, -2: best, else that step */
};
struct submission *submission_free(struct submission *s);

/* How a job that is over is queued again. */
struct reopening {
        bool retry;    /* a failed or cancelled job of any kind as it is; else a training job goes on */
        int64_t steps; /* not of a retry: above 0 a new num_steps_train */
        bool accept_changed_data;
};

/* How the daemon is. */
struct control_status {
        bool disk_low; /* nothing new starts */
        int64_t disk_free_bytes, disk_reserve_bytes;
        char waiting[160]; /* why no queued job starts, "" while they may */
};

struct control {
        void *daemon;
        /* takes s. Refuses (-EINVAL) an unknown data set, a batch larger than the split, too little memory, a path
         * outside the folders for imports; -EEXIST a name that is taken. */
        void (*submit)(struct control *c, struct submission *s, control_done *done, void *user);
        void (*cancel)(struct control *c, int64_t job, control_done *done, void *user);
        /* From its last checkpoint, where it has one. -EINVAL when steps is not above that one's step. */
        void (*reopen)(struct control *c, int64_t job, const struct reopening *how, control_done *done, void *user);
        /* Removes a job that is not queued or running, its files first. */
        void (*remove)(struct control *c, int64_t job, control_done *done, void *user);
        /* Removes an imported data set, its file first. -EEXIST: a job that is not over uses it, or it is the command
         * line's. */
        void (*remove_dataset)(struct control *c, const char *name, control_done *done, void *user);
        /* mulunctl stop: checkpoint and end the workers (jobs go back to queued), then end the daemon. */
        void (*stop)(struct control *c, control_done *done, void *user);
        /* At once, from any thread. */
        void (*status)(struct control *c, struct control_status *ret);
};
