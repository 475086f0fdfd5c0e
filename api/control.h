/* What the API asks of the daemon. The daemon fills the table; tests fake it. Every call comes from an HTTP thread with
 * the request's connection suspended, takes ownership of what it says it takes, and calls done exactly once, from any
 * thread, possibly before it returns. */
#pragma once

#include "store/store.h"

#include <sched.h>
#include <stdatomic.h>

struct config;

/* What came of it. id: the job. On failure r is negative: -ENOENT no such job or checkpoint; -EBUSY the action does not
 * fit the job's state (state is set); -ESTALE: the job has another version than was named; -EKEYREJECTED: the key was
 * that of another request; -EEXIST: a name is taken, or
 * what has it is in use; -EINVAL with errs: what is wrong in the request, at its pointers; -ENOSPC; -EIO.
 */
struct control_answer {
        int r;
        int64_t id;
        enum job_state state;
        int64_t changed;     /* halt_many: how many it has */
        const int64_t *left; /* halt_many: jobs with which something is going on, for halt; borrowed, during done */
        size_t n_left;
        struct job_row *job; /* of a submission: the job as it was stored, or would be; during done what it holds may be
                                taken. NULL: it is to be read */
        const struct errors *errs; /* borrowed, valid during done; for -ENOENT and others the first item says what */
};
typedef void control_done(void *user, const struct control_answer *answer);

/* A submission after the request's own checks: config is whole and valid by config_from_json. */
struct submission {
        enum job_kind kind;
        char *name, *config_name; /* "" where there is none */
        json_t *tags;             /* array of strings */
        char *notes;              /* or NULL */
        int64_t priority;
        struct limits_row limits;
        int64_t after[AFTER_MAX]; /* jobs that it waits for */
        size_t n_after;
        json_t *import; /* import: as import_from_json reads it, but for the paths, which are as they were given */
        json_t *config; /* train, and import of a checkpoint: whole, json_verbatim. With a source: NULL; the daemon
                           takes that job's and applies overrides */
        struct config *checked;   /* that configuration, as read: it is checked once. NULL without one */
        json_t *overrides;        /* with a source: object dotted path -> value, or NULL; evaluate and sample have
                                     evaluation.*, sampling.*, machine.* alone */
        struct request_key key;   /* what its client calls it */
        bool accept_changed_data; /* train */
        bool dry;                 /* only checked: answered with the row that it would have, and nothing is stored */
        int64_t source_job;       /* evaluate, sample: whose checkpoint; train: 0, or whose it starts from */
        int64_t source_step;      /* -1: latest, -2: best, else that step */
};
struct submission *submission_free(struct submission *s);

/* How a job that is over or paused is queued again. */
struct reopening {
        bool retry;    /* a failed or cancelled job of any kind as it is; else a paused or a training job goes on */
        int64_t steps; /* not of a retry: above 0 a new num_steps_train */
        bool accept_changed_data;
        unsigned change; /* bits of enum job_change: these limits instead of those that it has */
        struct limits_row limits;
};

/* What a person changes of a job. */
struct changing {
        unsigned change; /* bits of enum job_change: which of these are given */
        char *name, *notes;
        json_t *tags;
        int64_t priority;
        struct limits_row limits;
        int64_t version; /* that it must have; 0: any */
};
void changing_done(struct changing *c);

#define CONTROL_DEVICES_MAX 64
#define CONTROL_OCCUPANTS_MAX 4 /* of more the first are named */

/* A process that computes on a GPU and is no job's that runs there. */
struct control_occupant {
        int64_t pid;
        int64_t bytes; /* of its memory; -1: not known */
        char user[33]; /* by name, else by number; "" where the process cannot be seen from here */
};

struct control_device {
        char name[32];
        bool gpu;     /* else cores of the processor */
        bool out;     /* of service */
        bool suspect; /* jobs failed on it at once: it is checked, and nothing starts before */
        bool watched; /* what follows of others is known */
        bool has_cores;
        cpu_set_t cores;
        char uuid[64], model[96];
        int64_t memory_bytes;   /* that it has */
        int64_t job_bytes;      /* that its job needs */
        int64_t job;            /* that it runs; 0: none */
        int64_t rests_until_us; /* monotonic: nothing starts on it before */
        char why[160];          /* it is out of service, or suspect; "": a person took it out */
        struct control_occupant others[CONTROL_OCCUPANTS_MAX];
        size_t n_others;
};

/* Something may start on it now. */
static inline bool control_device_is_free(const struct control_device *d, int64_t now_us)
{
        return !d->out && !d->suspect && !d->job && !d->n_others && d->rests_until_us <= now_us;
}

#define CONTROL_WEBHOOKS_MAX 16

struct control_webhook {
        char name[33], url[1024];
        int64_t told;    /* the last event that was taken, or given up */
        int64_t failed;  /* attempts at the next one */
        int64_t next_us; /* wall: when that is tried again; 0: there is none, or at once */
};

/* What is free of a kind of devices is held for a job that wants several. */
struct control_reservation {
        int64_t job;     /* 0: for none */
        int64_t from_us; /* when it will have them, monotonic; INT64_MAX: nobody can say */
};

/* How the daemon is. */
struct control_status {
        bool disk_low; /* nothing new starts */
        int64_t disk_free_bytes, disk_reserve_bytes;
        char disk_waiting[160];                 /* the same as a sentence, "" while it is not low */
        struct control_reservation reserved[2]; /* on the processor, on GPUs */
        size_t n_devices;
        struct control_device devices[CONTROL_DEVICES_MAX];
};

/* by: who asks, for the audit log; borrowed for the call. */
struct control {
        void *daemon;
        /* takes s. Refuses (-EINVAL) an unknown data set, a batch larger than the split, too little memory, a path
         * outside the folders for imports; -EEXIST a name that is taken. */
        void (*submit)(struct control *c, const struct audit_row *by, struct submission *s, control_done *done,
                       void *user);
        /* Cancels or pauses a job: one that runs, after a checkpoint. */
        void (*halt)(struct control *c, const struct audit_row *by, int64_t job, enum stop_reason reason,
                     control_done *done, void *user);
        /* The same of many that are queued or paused, train, and begin with no other's checkpoint: at once, and of what
         * is of no such state nothing comes. ids are copied. */
        void (*halt_many)(struct control *c, const struct audit_row *by, const int64_t *ids, size_t n,
                          enum stop_reason reason, control_done *done, void *user);
        /* takes what c holds. -EBUSY when what is to change is only of a job that is not over, and it is. */
        void (*change)(struct control *c, const struct audit_row *by, int64_t job, struct changing *what,
                       control_done *done, void *user);
        /* From its last checkpoint, where it has one. -EINVAL when steps is not above that one's step, or a limit is
         * used up. */
        void (*reopen)(struct control *c, const struct audit_row *by, int64_t job, const struct reopening *how,
                       control_done *done, void *user);
        /* Removes a job that is over, its files first. */
        void (*remove)(struct control *c, const struct audit_row *by, int64_t job, control_done *done, void *user);
        /* Removes an imported data set, its file first. -EEXIST: a job that is not over uses it, or it is the command
         * line's. */
        void (*remove_dataset)(struct control *c, const struct audit_row *by, const char *name, control_done *done,
                               void *user);
        /* Takes a device out of service, or in again; preempt: what runs there stops after a checkpoint and is queued
         * again. It stays so over restarts. -ENOENT: there is no such device. */
        void (*service)(struct control *c, const struct audit_row *by, const char *name, bool out, bool preempt,
                        control_done *done, void *user);
        /* Adds a token, or removes the one of its name. -EEXIST, -ENOENT. */
        void (*token)(struct control *c, const struct audit_row *by, const struct token_row *t, bool remove,
                      control_done *done, void *user);
        /* Adds a session, or ends the one of its hash, where there is one. */
        void (*session)(struct control *c, const struct audit_row *by, const struct session_row *s, bool end,
                        control_done *done, void *user);
        /* Sends a webhook an event that it was told of before, once more; 0: tries at once what waits for its next
         * try. -ENOENT: there is no such hook or event; -EEXIST: too many are to be sent already. */
        void (*webhook_send)(struct control *c, const struct audit_row *by, const char *name, int64_t event,
                             control_done *done, void *user);
        /* Copies the state, as it is now, to STATE/backups/NAME; done when it is whole. -EEXIST: there is one, or one
         * is being made; -ENOSPC. name: plain, at most 64 bytes. */
        void (*backup)(struct control *c, const struct audit_row *by, const char *name, control_done *done, void *user);
        /* mulunctl stop: checkpoint and end the workers (jobs go back to queued), then end the daemon. */
        void (*stop)(struct control *c, const struct audit_row *by, control_done *done, void *user);
        /* At once, from any thread. */
        void (*status)(struct control *c, struct control_status *ret);
        /* The same: webhooks of the settings, and how far each is. Answers how many. */
        size_t (*webhooks)(struct control *c, struct control_webhook ret[CONTROL_WEBHOOKS_MAX]);
        /* The same: a line of the request log. NULL: none is kept. */
        void (*log)(struct control *c, const char *line);
        /* Another number whenever something that may hold a job up, and is not in the store, has changed: devices, the
         * disk, a rest. It changes after that is seen by the calls above. */
        atomic_ullong causes;
        /* The same: until when a queued job is not to start, monotonic; 0: it may. ret_why: "" where its last event
         * says why. */
        int64_t (*rests)(struct control *c, int64_t job, char *ret_why, size_t size);
};
