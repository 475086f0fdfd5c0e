/* A worker process of one attempt: made here or found alive after the daemon before. It is watched by its pidfd and by
 * the lock on its attempt's file; what it says comes from its connection, or, when it ended, from its spool. Events are
 * committed a batch at a time and acknowledged after that; one batch is on its way at most. */
#pragma once

#include "daemon/failure.h"
#include "daemon/job.h"
#include "daemon/joblog.h"
#include "daemon/life.h"
#include "daemon/liveness.h"
#include "daemon/stall.h"

#include <sys/types.h>

struct connection;
struct spool;

struct worker {
        struct daemon *daemon;
        enum life life;  /* changed by one function of worker.c alone, which goes by life.def */
        struct job *job; /* NULL: its outcome is committed, the job has moved on */
        int64_t job_id, attempt;
        char identity[33]; /* the job's */
        char owner[65];    /* the same */
        uint64_t devices;  /* a set: device.h */
        bool found;        /* of the daemon before */
        struct liveness alive;
        char no_start[sizeof((struct error *)0)->path + 2 +
                      sizeof((struct error *)0)->text]; /* why it was not started */
        struct source *kill_timer, *retry_timer, *limit_timer;

        int stdin_fd;
        char *assignment;
        size_t assignment_size, assignment_sent;
        struct source *stdin_source;

        struct connection *connection;
        bool hello_waits;               /* the connection's hello is to be answered when no write is on its way */
        int64_t last_seq, accepted_seq; /* committed; and taken into memory */
        int64_t last_step;              /* that it spoke of; -1: none */
        int64_t checkpoints;
        int64_t checkpoint_bytes; /* that the next will have, as far as that is known */
        struct event *events;     /* taken, not yet on their way */
        size_t n_events, room, events_bytes;
        bool batch_has_checkpoint; /* the one on its way */

        int64_t started_us;      /* by the wall, as in its attempt's row */
        int64_t began_us;        /* monotonic, also before this daemon */
        int64_t ran_us;          /* from then to its end; -1: it has none yet */
        int64_t energy_began_mj; /* its devices' counters then; -1: not known */
        double energy_j;         /* that they used until it was over; NAN: not known */
        struct stall stall;
        struct joblog log;
        enum failure failure; /* how it ended, when that is a failure that is retried; FAILURE_NONE */
        bool stop_requested;
        bool end_said;
        int64_t oom_kills; /* by the kernel, before it began or was found */
        struct spool *spool;
        bool spool_known;   /* its first line said whose it is */
        bool spool_read;    /* to its end */
        bool spool_none;    /* there was no process that could have written one */
        bool spool_kept;    /* something in it was not applied: it has a second name, attempt-N.kept */
        bool spool_stays;   /* that failed: it is not removed */
        bool spool_failing; /* it cannot be read: said so in the log */
        struct worker *next;
};

/* For an attempt that is about to be written down; takes its devices, and bytes of memory. NULL without memory: nothing
 * is taken. */
struct worker *worker_new(struct daemon *d, struct job *j, uint64_t devices, int64_t bytes);
/* The attempt was not written down. Gives back what was taken; w is freed. */
void worker_discard(struct worker *w);
/* Starts a process for the attempt, which is committed. On failure the attempt has ended: the job is queued again. */
void worker_start(struct worker *w, int64_t attempt, const struct assignment *a);
/* The same without a process: something of the host's failed, */
void worker_fail(struct worker *w, int64_t attempt, const struct error *why);
/* or the daemon stops. */
void worker_abandon(struct worker *w, int64_t attempt);
/* One of the daemon before: alive (its lock is held), or ended (its spool says how). pidfd: taken, of the process that
 * is provably this attempt's, or -1: then it is watched by its lock until its hello. */
int worker_adopt(struct daemon *d, struct job *j, const struct attempt_row *a, uint64_t devices, bool alive, int pidfd,
                 struct error *err);

/* One whose outcome is committed, but whose process, spool and lock are not tidied away: the daemon before was killed
 * in between. identity: its job's. The others as above. */
int worker_adopt_outcome(struct daemon *d, const struct attempt_row *a, const char *identity, uint64_t devices,
                         bool alive, int pidfd, struct error *err);

/* How long its attempt has run so far, or ran, whatever became of the wall's clock meanwhile. */
int64_t worker_age_us(const struct worker *w);

/* Command stop, and an end by force after the time-out. Again is nothing. */
void worker_stop(struct worker *w);
struct worker *worker_find(struct daemon *d, int64_t attempt);
/* Without touching the processes: the daemon ends. */
void worker_forget_all(struct daemon *d);

/* From the connection: */
int worker_hello(struct worker *w, struct connection *c, const struct event *hello, struct error *err);
/* Takes the event of a line that came after hello. One that cannot be understood but has its number is taken, too: the
 * spool is kept, and it is said once. 1: enough for now, read no more until resumed. -EINVAL: not an event;
 * -EPROTO: a gap before it, or a hello. */
int worker_take_line(struct worker *w, const char *line, size_t size, struct error *err);
void worker_disconnected(struct worker *w, struct connection *c);
/* Everything that was taken goes to the disk, unless a batch is on its way. */
void worker_pump(struct worker *w);

/* True when another process holds the lock, or when that cannot be told now: who may be alive is taken to be. A missing
 * file is not held. */
bool attempt_lock_is_held(const struct daemon *d, int64_t job, int64_t attempt);
