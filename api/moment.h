/* What streams of events say of one moment, as text: read from the store once, and sent by all whom it fits. Immutable
 * once it is read, and counted: whoever refers to it may be the last. */
#pragma once

#include "api/control.h"
#include "base/buf.h"
#include "store/store.h"

#include <stdatomic.h>

#define MOMENT_EVENTS_MAX 200

struct moment {
        atomic_int n_refs;
        int64_t from, to;  /* events behind the one, up to the other */
        bool more;         /* there are events behind that */
        struct buf events; /* theirs */
        size_t n_running;
        struct moment_job {
                int64_t job, step;
                struct buf progress;
        } running[CONTROL_DEVICES_MAX];
        struct job_counts counts; /* of one of all jobs */
        struct buf counts_text;   /* empty: of one job */
};

/* Of a job, or 0: of all, with at most MOMENT_EVENTS_MAX events behind `after`, negative: without any of before. */
int moment_read(struct reader *reader, struct control *control, int64_t job, int64_t after, struct moment **ret,
                struct error *err);
struct moment *moment_ref(struct moment *m);   /* m, which may be NULL */
struct moment *moment_unref(struct moment *m); /* NULL */
DEFINE_CLEANUP(struct moment *, moment_unref);

/* Appends an event of a stream; takes data, NULL: no memory. id 0: it has none. */
int moment_put(struct buf *b, const char *type, int64_t id, json_t *data, struct error *err);
