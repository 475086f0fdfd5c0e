/* What a worker and the daemon say to each other: newline-delimited JSON over the stream socket STATE/worker.sock.
 * The worker connects, says hello, and sends its events in order; the daemon answers each batch with the highest
 * sequence number that is committed, and sends commands. Every event is also in the spool, JOB/attempt-N.events (the
 * same lines), until the attempt is over: what a broken connection or a dead daemon missed is sent or read again.
 * An event whose seq is not above the attempt's last committed one is dropped: applying twice changes nothing.
 * The spool's first line is the hello, so that it says itself whose it is; line k + 1 is event k. Unknown members are
 * ignored on both sides; an event that cannot be understood but has a seq is acknowledged like all others, and the
 * daemon keeps the spool aside.
 *
 * Hello names the highest protocol that the worker speaks and the lowest; the daemon takes the highest that both do and
 * says it with its answer. In protocol 1 scalars are a line of JSON, as below; in protocol 2 a line of packed columns
 * (packed.h). A worker of this release speaks 2; a daemon of this release both, since workers of the release before
 * outlive it.
 *
 *   worker -> daemon
 *   {"type":"hello","protocol":2,"protocol_min":2,"job":3,"attempt":7,"pid":123,"identity":".."}
 *                                                 answered by {"ack":N,"protocol":2}: send from N + 1
 *   {"seq":1,"type":"start","step":0,"steps":3000,"memory_bytes":1,"parameters":1,"backend":"cpu","threads":2}
 *   {"seq":2,"type":"progress","step":10,"steps":3000,"images_per_second":11.5,"seconds_left":2000.0}
 *   {"seq":3,"type":"scalars","step":[1,2],"time_ms":[..],"columns":{"train/bpd":[9.1,"NaN"],...}}
 *   {"seq":4,"type":"artifact","kind":"checkpoint","step":1000,"name":"step-1000.safetensors","bytes":1,"xxh128":"..",
 *    "metric":7.3}                                kind: checkpoint | image | table; metric: bpd that "best" goes by, or
 * null
 *   {"seq":5,"type":"done","result":{..}}         result: as a job's, or null
 *   {"seq":6,"type":"stopped","step":1200}        after command stop, its checkpoint written
 *   {"seq":7,"type":"error","class":"numeric","detail":"..","step":17}   class: configuration|numeric|memory|
 *    data|device|host (which of them are retried, and whom they are charged to: daemon/failure.def)
 *   daemon -> worker
 *   {"ack":6}   {"command":"checkpoint"}   {"command":"stop"}
 */
#pragma once

#include "base/json.h"

#define EVENT_PROTOCOL 2     /* the highest that this release speaks */
#define EVENT_PROTOCOL_MIN 1 /* the lowest that a daemon of this release understands: what outlived its upgrade */
#define EVENT_LINE_MAX ((size_t)1 << 20) /* bytes of a line */
#define EVENT_COLUMNS_MAX 64
#define EVENT_ROWS_MAX 4096
#define EVENT_NAME_MAX 200

enum event_type {
        EVENT_HELLO,
        EVENT_START,
        EVENT_PROGRESS,
        EVENT_SCALARS,
        EVENT_ARTIFACT,
        EVENT_DONE,
        EVENT_STOPPED,
        EVENT_ERROR,
        EVENT_UNKNOWN, /* never on the wire: see event_decode_unknown */
        EVENT_TYPE_N
};
enum artifact_kind { ARTIFACT_CHECKPOINT, ARTIFACT_IMAGE, ARTIFACT_TABLE, ARTIFACT_KIND_N };
enum error_class {
        ERROR_CONFIGURATION,
        ERROR_NUMERIC,
        ERROR_MEMORY,
        ERROR_DATA,
        ERROR_DEVICE,
        ERROR_HOST,
        ERROR_CLASS_N
};

extern const char *const event_type_names[];
extern const char *const artifact_kind_names[];
extern const char *const error_class_names[];

/* A decoded event. Strings and arrays are owned; event_done frees them. Members that a type does not have are 0. */
struct event {
        enum event_type type;
        int64_t seq;                    /* from 1; 0 for hello */
        int64_t protocol, protocol_min; /* of hello: the highest and the lowest that it speaks; 0: only the one */
        int64_t job, attempt, pid;
        char identity[33];   /* "" where there is none */
        int64_t step, steps; /* scalars: step of the first row */
        int64_t memory_bytes, parameters, threads;
        double images_per_second, seconds_left; /* NAN: unknown */
        char *backend;

        size_t n_rows, n_columns; /* scalars */
        int64_t *row_step, *row_time_ms;
        char *column_name[EVENT_COLUMNS_MAX];
        double *column[EVENT_COLUMNS_MAX]; /* [n_rows] each */
        void *packed;                      /* where they all lie, when they came packed; or NULL */

        enum artifact_kind kind;
        char *name; /* a plain file name: letters, digits, '.', '-', '_'; no leading '.' */
        int64_t bytes;
        char digest[33];
        double metric; /* NAN: none */

        enum error_class error_class;
        char *detail;
        json_t *result; /* object or NULL */
};

/* One line without its newline, of JSON or packed. -EINVAL with the pointer of what is wrong; nothing half-filled. */
int event_decode(const char *line, size_t size, struct event *ret, struct error *err);

/* A line that event_decode refused: when it is a JSON object with a type and a valid seq, or packed columns with one,
 * an EVENT_UNKNOWN that has that seq and nothing else. */
int event_decode_unknown(const char *line, size_t size, struct event *ret, struct error *err);

/* Appends the line, newline included; scalars packed. */
int event_encode(const struct event *e, struct buf *b, struct error *err);

/* The last step that it speaks of; 0 where it speaks of none. */
int64_t event_last_step(const struct event *e);

void event_done(struct event *e);

enum command_type { COMMAND_ACK, COMMAND_CHECKPOINT, COMMAND_STOP, COMMAND_UNKNOWN, COMMAND_TYPE_N };
struct command {
        enum command_type type;
        int64_t ack;
        int64_t protocol; /* with hello's answer: the one that is spoken; 0: not said */
};
/* The highest protocol that both speak; -EPROTO when there is none. */
int event_choose_protocol(const struct event *hello, struct error *err);
int command_decode(const char *line, size_t size, struct command *ret, struct error *err);
int command_encode(const struct command *c, struct buf *b, struct error *err);

/* What the daemon gives a worker on its standard input, as one JSON document, when it starts it:
 *   {"job":3,"attempt":7,"kind":"train","config":{..},"dataset":{"name":"photos32","path":"/..","digest":".."},
 *    "identity":"..","accept_changed_data":false,"folder":"/state/jobs/3","socket":"/state/worker.sock",
 *    "checkpoints":[{"path":"/state/jobs/3/step-1000.safetensors","xxh128":"..","step":1000,"identity":".."}, ..]}
 * or, of kind import, "import" in the place of "config" and "dataset":
 *   {"job":4,"attempt":8,"kind":"import","import":{"what":"dataset","name":"mine","path":"/data/mine","test_path":"/..",
 *    "format":"folder","test_share":0.1,"target":"/state/datasets/mine.images"},"identity":"..",..}
 *   {..,"import":{"what":"checkpoint","path":"/data/ckpt-223.flax"},"config":{..},..} {..,"import":{"what":"events",..
 * of which the first has the configuration by which the checkpoint is read, and which its job then has.
 * identity: 32 hexadecimal digits, drawn when the job was submitted: the job's own, and of each checkpoint that of the
 * job whose it is. It stands in the spool's hello and in the checkpoints, so that nothing of another run that had the
 * same number is ever taken for this one's. Jobs of the releases before have none: absent, here and there.
 * socket: absent where nobody listens, as when a person runs a worker: the events are in the spool alone.
 * accept_changed_data: a checkpoint that was trained on other data than these is resumed all the same.
 * devices: absent, or [{"name":"left","place":"0-3"}, ..]: the process that gets the assignment starts a process on
 * each, rank 0, 1 ..; it ends when all have ended, and its lock is held until then.
 * checkpoints: newest first; train resumes from the first that is whole (none: from the start), evaluate and sample
 * read the first (only one is given). The attempt is alive while it holds flock(FOLDER/attempt-N.lock), which it takes
 * before anything else. Its standard error is FOLDER/log, append. */
enum job_kind { JOB_TRAIN, JOB_EVALUATE, JOB_SAMPLE, JOB_IMPORT, JOB_KIND_N };
extern const char *const job_kind_names[]; /* train evaluate sample import */

/* On how many devices a job of that kind runs whose configuration asks for so many (machine.devices; 0: it has none): 1
 * but for training and evaluation. */
int job_devices(enum job_kind kind, int64_t asked);

/* What an import brings in. The row of the job, its submission and its assignment all hold this as a JSON object. */
enum import_what { IMPORT_DATASET, IMPORT_CHECKPOINT, IMPORT_EVENTS, IMPORT_WHAT_N };
extern const char *const import_what_names[]; /* dataset checkpoint events */
struct assignment_import {
        enum import_what what;
        char *name;        /* of a data set: a plain file name; NULL of others */
        char *path;        /* absolute, links resolved, in a folder from which may be imported */
        char *test_path;   /* the same; NULL: none */
        char *format;      /* NULL: by what is there */
        double test_share; /* 0: none */
        char *target;      /* where the outcome goes: STATE/datasets/NAME.images; NULL in what the store keeps */
};
int import_from_json(const json_t *o, const char *pointer, struct assignment_import *ret, struct error *err);
json_t *import_to_json(const struct assignment_import *i); /* new reference; NULL without memory */
void import_done(struct assignment_import *i);

struct assignment_checkpoint {
        char *path;
        char digest[33];
        int64_t step;
        char identity[33]; /* of the job whose it is */
};
/* One device of several, and the rank that runs on it is its place in the list. */
#define ASSIGNMENT_DEVICES_MAX 64
struct assignment_device {
        char *name;  /* as the daemon calls it */
        char *place; /* what its rank may use: of the processor cores as "0-3,8", of CUDA what CUDA_VISIBLE_DEVICES is
                      */
};
struct assignment {
        int64_t job, attempt;
        enum job_kind kind;
        char identity[33];
        bool accept_changed_data;
        json_t *config;                  /* whole; a worker reads it with config_from_json; NULL for an import but of a
                                            checkpoint */
        struct assignment_import import; /* of an import, which has no data set */
        char *dataset_name, *dataset_path, *dataset_digest;
        char *folder, *socket; /* socket: "" or NULL: nobody listens */
        char *plans;      /* folder where measured plans are kept (kernels.h, plans_folder); "" or NULL: by the rule */
        size_t n_devices; /* 0: one, which the worker finds by itself */
        struct assignment_device *devices;
        size_t n_checkpoints;
        struct assignment_checkpoint *checkpoints;
};
int assignment_from_json(const json_t *document, struct assignment *ret, struct error *err);
json_t *assignment_to_json(const struct assignment *a);
void assignment_done(struct assignment *a);

/* `mulun-worker --describe DIR` prints, as one JSON object:
 *   {"format":"cifar10","train":7415,"test":1228,"digest":"..","mean":[125.3,123.0,113.9],"source":"tfrecord",
 *    "remark":".."}
 * or {"error":{"path":"..","detail":".."}} with exit 1. mean: of the training images, by channel; source: the format
 * that it was imported from, where it was; remark, where there is one: what is odd in it though it can be used, such as
 * a gap in its files' numbers.
 */
