/* What the files of daemon/ share: one struct, owned by the loop's thread, but for what its comment says. */
#pragma once

#include "api/control.h"
#include "api/server.h"
#include "base/log.h"
#include "daemon/commit.h"
#include "daemon/disk.h"
#include "daemon/failure.h"
#include "daemon/group.h"
#include "daemon/job.h"
#include "daemon/loop.h"
#include "daemon/queue.h"
#include "daemon/scheduler.h"
#include "daemon/settings.h"

#include <pthread.h>

struct backup;
struct channel;
struct estimates;
struct helper;
struct notify;
struct removal;
struct watch;
struct webhooks;

#define DEVICES_MAX CONTROL_DEVICES_MAX
#define ALL_DATASETS_MAX 256 /* of the command line and imported */

struct dataset {
        struct dataset_row row;
        bool available; /* else its name is taken all the same */
};

struct daemon {
        struct settings settings;
        struct settings loaded; /* the same before paths were resolved: what a reload compares with */
        int argc;               /* of the command line, for a reload */
        char **argv;
        char socket[108];
        struct loop *loop;
        struct notify *notify; /* NULL: no service manager listens */
        int inherited;         /* the socket that it listens on for us; -1 */
        struct store *store;
        struct reader *reader;
        struct queue queue;
        struct device devices[DEVICES_MAX];
        size_t n_devices;
        struct watch *watch;  /* NULL: there are no GPUs */
        int64_t memory_bytes; /* that there is for workers on the processor */
        struct groups groups; /* control groups of attempts */
        struct worker *workers;
        struct channel *channel;
        struct server *server;
        size_t connections; /* that the server may have */
        struct dataset datasets[ALL_DATASETS_MAX];
        size_t n_datasets;
        struct webhooks *webhooks; /* NULL: the settings name none */
        struct backup *backup;     /* that is being made; NULL */
        struct removal *removals;  /* checkpoints whose files are going */
        int commits;               /* on their way to the disk */
        bool terminated;           /* SIGTERM, SIGINT */
        bool draining;             /* the end: the loop runs until no write is on its way */
        bool stopping;             /* control.stop: no new work, workers come to their end */
        int moving;                /* many jobs are on their way out of the queue: nothing of it starts */
        bool disk_failing;         /* said so in the log */
        int hold_failed;           /* why no room is kept on the disk, said so in the log; 0 */
        bool waiting_said;         /* a job waits for a data set: said so in the log */
        int64_t behind_us;         /* monotonic: before it nobody behind one that waits for devices is looked for */
        int64_t promised_us[2];    /* the earliest that was said of a reservation: who runs behind it is over by then */
        bool look_again;           /* what kept a job from starting passes: the queue is looked at again, soon */
        struct source *schedule_timer, *disk_timer, *quit_timer, *stop_timer;

        struct control control;
        pthread_mutex_t control_lock;           /* of these, which HTTP threads touch */
        struct disk disk;                       /* written by the loop's thread alone */
        struct control_reservation reserved[2]; /* the same; on the processor, on GPUs */
        struct control_device device_status[DEVICES_MAX];
        int64_t devices_per_owner, disk_reserve_bytes; /* as the settings have them, which a reload changes */
        bool control_closed;
        struct estimates *estimates; /* submit.c */
        struct op *ops;              /* operations that are not answered yet */
};

/* Starts what can be started now. */
void daemon_schedule(struct daemon *d);
/* An attempt failed and it was not the job's fault: its devices rest, twice as long each time, and the job makes way
 * for others. */
void daemon_back_off(struct daemon *d, struct job *j, uint64_t devices, enum failure f);
/* A checkpoint, or an outcome that is the job's own: the device works. j may be NULL. */
void daemon_device_works(struct daemon *d, struct job *j, uint64_t devices);
/* A job's transition ended, or something else of it: operations that waited for it, room for another, its source's
 * checkpoints. The job is not held any more, and is forgotten when nothing is going on with it. */
void daemon_job_settled(struct daemon *d, struct job *j);
/* Logs the first failure of a row of them, and that they ended. */
void daemon_note_write(struct daemon *d, int r, const struct error *err);
/* Begins to stop: workers are told, nothing new begins. */
void daemon_stop(struct daemon *d);
/* While stopping: ends the loop when the last worker is gone. */
void daemon_check_stopped(struct daemon *d);
const struct dataset *daemon_dataset(const struct daemon *d, const char *name);
/* The device of this name, or the first. */
size_t daemon_device(const struct daemon *d, const char *name);
/* STATE/jobs/ID[/name]; false when it does not fit. */
bool daemon_job_path(const struct daemon *d, int64_t job, const char *name, char *ret, size_t size);

/* control.c */
void control_init(struct daemon *d);
/* From now on, operations that have not begun to write are answered with -ESHUTDOWN. */
void control_close(struct daemon *d);
/* After the loop's last round: those whose write was not answered in time too. */
void control_end(struct daemon *d);
void control_job_settled(struct daemon *d, struct job *j);
/* A submission on its way, or a job that is being queued again, names this checkpoint; step -1: any of that job. */
bool control_pins(struct daemon *d, int64_t job, int64_t step);

/* submit.c */
void estimates_done(struct daemon *d);

/* recover.c: jobs and workers of the daemon before. */
int recover(struct daemon *d, struct error *err);

/* datasets.c: asks the worker about each data set of the settings and each that was imported; runs the loop until all
 * have answered. */
int datasets_describe(struct daemon *d, struct error *err);
/* STATE/datasets/NAME.images; false when it does not fit. */
bool datasets_path(const struct daemon *d, const char *name, char *ret, size_t size);
/* Whether the name is taken, also by one that is not available. */
struct dataset *datasets_find(struct daemon *d, const char *name);
/* An import of this name says that it is done: before its job is over, so that whoever sees that may use it. */
void datasets_imported(struct daemon *d, const char *name, const json_t *result);
/* An import is over: what a job that did not succeed left under its name goes. */
void datasets_import_over(struct daemon *d, const struct job *j);
