/* The devices on which jobs run: the processor's cores, whole or in parts, and GPUs. Which there are comes from the
 * settings (--device), else from what the worker's program finds. Owned by the loop's thread. */
#pragma once

#include "api/control.h"

struct daemon;
struct helper;

/* A set of them: bit i stands for d->devices[i]. */
#define FOR_EACH_DEVICE(i, set)                                                                                        \
        for (size_t i = 0; (uint64_t)(set) >> i; i += 1)                                                               \
                if ((uint64_t)(set) >> i & 1)

struct device {
        struct daemon *daemon;
        char name[32];
        bool gpu;        /* else cores of the processor */
        bool has_cores;  /* these alone; else all that the daemon has */
        cpu_set_t cores; /* of a part of the processor */
        char uuid[64];   /* of a GPU */
        char model[96];  /* what the maker calls it, "" where it is not known */
        int64_t memory_bytes;
        bool out;              /* of service: nothing new starts */
        char out_why[160];     /* what is wrong with it; "": a person took it out */
        int users;             /* jobs that hold it: started, or whose worker has not ended yet */
        int64_t job;           /* the last of them */
        int64_t job_bytes;     /* memory that it needs, as far as that is known */
        int64_t released_us;   /* monotonic: when the last of them was gone */
        int failures;          /* of attempts in a row that were not their jobs' */
        int64_t not_before_us; /* monotonic; it rests until then */

        /* suspect.c */
        int64_t failed_early; /* the last job that failed on it at once; 0: none */
        bool suspect;         /* another one did, too: nothing starts before a check has passed */
        char suspect_why[160];
        struct helper *check; /* that runs */
        bool check_passed;    /* since the last job that worked there */

        /* watch.c; without `watched` nothing of this is known */
        bool watched;
        int64_t looked_us, answered_us; /* monotonic: of the last question, when it was asked and answered */
        int64_t energy_mj;              /* its counter; -1: not known */
        int64_t ecc_errors;             /* uncorrectable ones that were taken note of; -1: none was asked for yet */
        struct control_occupant others[CONTROL_OCCUPANTS_MAX]; /* processes on it that are no job's that runs there */
        size_t n_others;
};

/* Whether they are slots of one GPU: a GPU of several names has as many, each with its part of the memory. */
bool device_shares(const struct device *a, const struct device *b);
/* It and all that it shares a GPU with. */
uint64_t device_slots(const struct device *devices, size_t n_devices, size_t device);
/* Something may start on it: no job, nobody else, in service, and not at rest. */
static inline bool device_is_free(const struct device *x, int64_t now_us)
{
        return !x->out && !x->suspect && !x->users && !x->n_others && x->not_before_us <= now_us;
}

/* Asks the worker's program, and fills d->devices; runs the loop until it has answered. -ENODEV: a device of the
 * settings is not there. Without an answer there is the processor, whole. */
int devices_find(struct daemon *d, struct error *err);

/* A job holds them, and needs so many bytes of memory in all; and it holds them no longer. */
void devices_take(struct daemon *d, uint64_t set, int64_t job, int64_t bytes);
void devices_release(struct daemon *d, uint64_t set);
/* Their names, as an attempt's row has them: new reference, NULL without memory; and the set of such an array, the
 * first device where none of them is there. */
json_t *devices_names(const struct daemon *d, uint64_t set);
uint64_t devices_of(const struct daemon *d, const json_t *names);
/* Takes one out of service for what was found; why: for people. In the store, too; what runs there stops after a
 * checkpoint and is queued again; the queue is the caller's to look at. Nothing when it is out already. */
void device_out(struct daemon *d, struct device *x, const char *why);
/* The job that runs there stops after a checkpoint and is queued again; why: for its events. */
void device_preempt(struct daemon *d, const struct device *x, const char *why);
/* Those of an attempt on several, for its assignment. */
int devices_assign(const struct daemon *d, uint64_t set, struct assignment *a, struct error *err);
