/* What the back ends on the processor share: devices, memory, streams that run at once or record, checks of shapes.
 * Private to kernels/. An operation here is `int X_OP(const struct OP_args *)`, 0 or negative errno; the table's
 * wrapper (HOST_RUN) does the rest of the contract: nothing after a failure, the first one kept with its name, recorded
 * while a recording is open. */
#pragma once

#include "kernels/kernels.h"

struct plans; /* choices of ways, kept in a folder: host_plans.h */

struct device {
        int threads; /* of the team that OpenMP gave, which oneDNN must be told too */
        bool plan_only;
        struct plans *plans;     /* or NULL: a fixed rule chooses */
        struct graph *recording; /* of one of its streams, or NULL */
        int64_t n_recordings;    /* begun so far */
        int64_t asked_us;        /* when its use was asked for last, at first when it was opened: clock_monotonic_us */
        int64_t worked_us;       /* the process's time on processors until then */
};

struct stream {
        struct device *device;
        struct error error;      /* the first failure; code 0 while there is none */
        struct graph *recording; /* or NULL: operations run */
        bool behind;             /* it has joined a recording, and was given what is not waited for yet */
};

typedef int host_call(const void *args);

/* Defines call_OP and the table's run_OP: `fn` computes the operation. */
#define HOST_RUN(op, fn)                                                                                               \
        static int call_##op(const void *args)                                                                         \
        {                                                                                                              \
                return fn(args);                                                                                       \
        }                                                                                                              \
        static void run_##op(struct stream *s, const struct op##_args *args)                                           \
        {                                                                                                              \
                host_run(s, #op, call_##op, args, sizeof(*args));                                                      \
        }

void host_run(struct stream *s, const char *op, host_call *call, const void *args, size_t bytes);

/* Gives the calling thread's OpenMP pool, which oneDNN shares, the device's number of threads: oneDNN's primitives must
 * be made and run with the same. Denormals are flushed in all of it: a step's small moments would cost ten times. */
void host_enter(const struct device *d);

int host_device_open(const struct device_settings *settings, struct device **ret, struct error *err);
struct device *host_device_close(struct device *d);
int host_device_info(struct device *d, struct device_info *ret, struct error *err);
int host_device_use(struct device *d, struct device_use *ret, struct error *err);
void *host_memory_new(struct device *d, size_t bytes);
void host_memory_free(struct device *d, void *p);
int host_stream_new(struct device *d, struct stream **ret, struct error *err);
struct stream *host_stream_free(struct stream *s);
int host_stream_sync(struct stream *s, struct error *err);
void host_copy_in(struct stream *s, void *dst, const void *src, size_t bytes);
void host_copy_out(struct stream *s, void *dst, const void *src, size_t bytes);
int host_event_new(struct device *d, struct event **ret, struct error *err);
struct event *host_event_free(struct event *e);
void host_event_record(struct stream *s, struct event *e);
void host_stream_wait(struct stream *s, struct event *e);
int host_graph_begin(struct stream *s, struct error *err);
int host_graph_end(struct stream *s, struct graph **ret, struct error *err);
/* A stream that waits for an event of the recording; and one that is freed: its recording goes, or goes on without it.
 */
void host_graph_join(struct stream *s);
void host_graph_drop(struct stream *s);
void host_graph_launch(struct stream *s, const struct graph *g);
struct graph *host_graph_free(struct graph *g);

extern const struct collectives host_collectives; /* comm.c */

/* Those members of a table. */
#define HOST_MEMBERS                                                                                                   \
        .abi = KERNELS_ABI, .device_open = host_device_open, .device_close = host_device_close,                        \
        .device_info = host_device_info, .device_use = host_device_use, .memory_new = host_memory_new,                 \
        .memory_free = host_memory_free, .stream_new = host_stream_new, .stream_free = host_stream_free,               \
        .stream_sync = host_stream_sync, .copy_in = host_copy_in, .copy_out = host_copy_out,                           \
        .event_new = host_event_new, .event_free = host_event_free, .event_record = host_event_record,                 \
        .stream_wait = host_stream_wait, .graph_begin = host_graph_begin, .graph_end = host_graph_end,                 \
        .graph_launch = host_graph_launch, .graph_free = host_graph_free, .collectives = &host_collectives

/* What may not happen while a stream of the device records: true, and the recording fails, when one does. */
bool host_refused(struct device *d, const char *what);

/* 0, or with a reason -EINVAL (sizes out of range, plans in a recording), -ENOTSUP (what these back ends lack): what
 * every plan asks of its shape. bf16: whether the back end computes it. */
int host_check_conv(struct device *d, const struct conv_shape *s, bool bf16, struct error *err);
int host_check_dense(struct device *d, const struct dense_shape *s, bool bf16, struct error *err);
int host_check_norm(struct device *d, const struct norm_shape *s, bool bf16, struct error *err);
int host_check_attention(struct device *d, const struct attention_shape *s, bool bf16, struct error *err);

/* name, memory_total and memory_free from the files below root ("" but in tests): proc/ and sys/fs/cgroup/. */
int host_info_read(const char *root, struct device_info *ret, struct error *err);
/* The temperature of the first processor that the kernel tells one of (hwmon), in degrees Celsius; NAN: of none. */
double host_celsius(const char *root);

/* Bytes rounded up to the alignment of workspaces' parts. */
static inline size_t host_align(size_t bytes)
{
        return (bytes + KERNELS_ALIGN - 1) & ~(size_t)(KERNELS_ALIGN - 1);
}

/* The next bytes of a workspace, aligned; base may be NULL: then only *at counts. */
static inline void *host_take(char *base, size_t *at, size_t bytes)
{
        void *p = base ? base + *at : NULL;

        *at += host_align(bytes);
        return p;
}
