/* The part of cudart that device.c calls, on the host. Streams keep what they are given and run it when the host waits,
 * in an order that the streams and events allow and EMU_ORDER chooses; a capture is a list that is enqueued again at
 * each launch. Calls may come from several threads of the host. */
#include "kernels/cuda/emu/emu.h"

#include "kernels/cuda/emu/race.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DYNAMIC = 232448, PLAIN_DYNAMIC = 48 << 10, MAX_ARGS = 32764, MAX_PENDING = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local cudaError_t last_error;

static cudaError_t failed(cudaError_t e)
{
        if (e != cudaSuccess)
                last_error = e;
        return e;
}

static void release(pthread_mutex_t *const *m)
{
        (void)pthread_mutex_unlock(*m);
}

static pthread_mutex_t *acquire(void)
{
        (void)pthread_mutex_lock(&lock);
        return &lock;
}

/* Until the end of the function. */
#define LOCKED pthread_mutex_t *const held __attribute__((cleanup(release))) = acquire()

cudaError_t cudaGetLastError(void)
{
        cudaError_t e = emu_lost() != cudaSuccess ? emu_lost() : last_error;

        last_error = cudaSuccess;
        return e;
}

/* Those that a test may ask for, as cudart names and describes them. */
static const struct {
        cudaError_t code;
        const char *name, *text;
} errors[] = {
        {cudaSuccess, "cudaSuccess", "no error"},
        {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
        {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
        {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
        {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
         "CUDA-capable device(s) is/are busy or unavailable"},
        {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
        {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
        {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
        {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
        {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
        {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
        {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
        {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
         "operation not permitted when stream is capturing"},
        {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
         "dependency created on uncaptured work in another stream"},
        {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

static size_t error_row(cudaError_t e)
{
        size_t i = 0;

        while (errors[i].code != e && errors[i].code != cudaErrorUnknown)
                i++;
        return i;
}

const char *cudaGetErrorName(cudaError_t e)
{
        return errors[error_row(e)].name;
}

const char *cudaGetErrorString(cudaError_t e)
{
        return errors[error_row(e)].text;
}

/* ---- streams, and what they are given */

/* A point in a stream that others may wait for. */
struct mark {
        unsigned refs;
        bool reached;
        double ms; /* by the device's clock, when it was reached */
        struct emu_order order;
};

struct operation {
        struct operation *next;
        void (*fn)(const void *args); /* or NULL: a launch, or a mark */
        struct emu_launch launch;
        struct mark *reaches, *waits; /* or NULL */
        struct emu_order order;
        size_t bytes;
        _Alignas(16) unsigned char args[];
};

struct CUgraph_st {
        struct operation *first, **last;
        struct CUstream_st *origin;
        bool unjoined; /* a stream that joined was given what the first has not waited for */
};

struct CUgraphExec_st {
        struct operation *first;
};

struct CUstream_st {
        struct operation *first, **last;
        struct CUgraph_st *capture; /* or NULL */
        struct emu_order order;     /* of the last thing that it was given */
};

struct CUevent_st {
        struct mark *mark;          /* of the last record; NULL before */
        struct CUgraph_st *capture; /* in which that was, or NULL */
};

/* The first is the default stream, on which memory is set. */
static struct CUstream_st default_stream = {.last = &default_stream.first};
static struct CUstream_st *streams[EMU_STREAMS] = {&default_stream};
static uint32_t host_after[EMU_STREAMS]; /* what the host has waited for */
static size_t n_pending;

static struct mark *mark_drop(struct mark *m)
{
        if (m && --m->refs == 0)
                free(m);
        return NULL;
}

/* The device's clock: an operation takes a hundredth of a millisecond, and what a stand-in says that it takes beyond.
 * Nothing of it is this machine's, so that a choice by time is the same in every run. */
#define OPERATION_MS 0.01
static double device_ms;

void emu_take_time(double ms)
{
        device_ms += ms;
}

static void mark_reach(struct mark *m)
{
        m->reached = true;
        m->ms = device_ms;
}

static struct operation *operation_free(struct operation *o)
{
        o->reaches = mark_drop(o->reaches);
        o->waits = mark_drop(o->waits);
        free(o);
        return NULL;
}

static struct operation *list_free(struct operation *o)
{
        while (o) {
                struct operation *next = o->next;

                (void)operation_free(o);
                o = next;
        }
        return NULL;
}

static struct CUgraph_st *graph_free(struct CUgraph_st *g)
{
        if (g)
                (void)list_free(g->first);
        free(g);
        return NULL;
}

static struct operation *operation_new(const struct operation *head, const void *args)
{
        struct operation *o = aligned_alloc(16, (sizeof *o + head->bytes + 15) / 16 * 16);

        if (!o)
                return NULL;
        *o = *head;
        o->next = NULL;
        if (head->bytes > 0)
                memcpy(o->args, args, head->bytes);
        return o;
}

static void join(uint32_t into[EMU_STREAMS], const uint32_t from[EMU_STREAMS])
{
        for (int i = 0; i < EMU_STREAMS; i++)
                into[i] = into[i] > from[i] ? into[i] : from[i];
}

static void run(struct operation *o)
{
        if (o->reaches)
                mark_reach(o->reaches);
        if (o->reaches || o->waits || emu_lost() != cudaSuccess)
                return;
        emu_take_time(OPERATION_MS);
        race_begin(&o->order, o->launch.name);
        if (o->fn)
                o->fn(o->args);
        else
                emu_run(&o->launch, o->args, o->bytes);
        race_end();
}

static bool can_go_on(const struct CUstream_st *s)
{
        return s && s->first && !(s->first->waits && !s->first->waits->reached);
}

/* A stream's next operation, of those that may run now. Waits are for marks given to a stream before, so there is one.
 */
static void run_one(void)
{
        struct CUstream_st *ready[EMU_STREAMS], *s;
        struct operation *o;
        unsigned n = 0;

        for (int i = 0; i < EMU_STREAMS; i++)
                if (can_go_on(streams[i]))
                        ready[n++] = streams[i];
        s = ready[emu_choose(n)];
        o = s->first;
        s->first = o->next;
        if (!s->first)
                s->last = &s->first;
        n_pending--;
        run(o);
        (void)operation_free(o);
}

/* Runs until s has nothing left, or, with NULL, nobody has. */
static void drain(const struct CUstream_st *s)
{
        if (s ? !s->first : n_pending == 0)
                return;
        emu_memory_open();
        while (s ? s->first != NULL : n_pending > 0)
                run_one();
        emu_memory_close();
}

static void drain_all(void)
{
        drain(NULL);
        for (int i = 0; i < EMU_STREAMS; i++)
                if (streams[i])
                        join(host_after, streams[i]->order.after);
}

static void give(struct CUstream_st *s, struct operation *o)
{
        join(s->order.after, host_after);
        if (o->waits)
                join(s->order.after, o->waits->order.after);
        s->order.after[s->order.stream]++;
        o->order = s->order;
        if (o->reaches)
                o->reaches->order = s->order;
        *s->last = o;
        s->last = &o->next;
        if (++n_pending >= MAX_PENDING)
                drain(NULL); /* a device does not wait for its host for ever either */
}

static cudaError_t submit(const struct operation *head, const void *args, struct CUstream_st *s)
{
        struct operation *o = operation_new(head, args);

        if (!o)
                return cudaErrorMemoryAllocation;
        if (s->capture) {
                *s->capture->last = o;
                s->capture->last = &o->next;
                s->capture->unjoined |= s != s->capture->origin;
        } else {
                give(s, o);
        }
        return cudaSuccess;
}

cudaError_t emu_enqueue(const char *name, void (*fn)(const void *args), const void *args, size_t bytes, cudaStream_t s)
{
        LOCKED;
        struct operation o = {.fn = fn, .launch = {.name = name}, .bytes = bytes};
        cudaError_t e = emu_fail(EMU_LAUNCH);

        if (!s)
                emu_fault("work on the default stream: %s", name);
        return failed(e == cudaSuccess ? submit(&o, args, s) : e);
}

/* Kernels that may ask for more dynamic shared memory than 48 KiB. */
static struct {
        const void *kernel;
        size_t dynamic;
} attributes[64];
static size_t n_attributes;

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
        LOCKED;
        size_t i = 0;

        if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value > MAX_DYNAMIC)
                return failed(cudaErrorInvalidValue);
        while (i < n_attributes && attributes[i].kernel != kernel)
                i++;
        if (i == sizeof attributes / sizeof *attributes)
                return failed(cudaErrorMemoryAllocation);
        attributes[i].kernel = kernel;
        attributes[i].dynamic = (size_t)value;
        n_attributes = i == n_attributes ? i + 1 : n_attributes;
        return cudaSuccess;
}

static bool launch_fits(const struct emu_launch *l)
{
        uint64_t threads = (uint64_t)l->block.x * l->block.y * l->block.z;
        size_t dynamic = PLAIN_DYNAMIC;

        for (size_t i = 0; i < n_attributes; i++)
                if (attributes[i].kernel == l->kernel)
                        dynamic = attributes[i].dynamic;
        return threads >= 1 && threads <= EMU_MAX_THREADS && l->block.z <= 64 && l->grid.x >= 1 &&
               l->grid.x <= 0x7fffffff && l->grid.y >= 1 && l->grid.y <= 65535 && l->grid.z >= 1 &&
               l->grid.z <= 65535 && l->shared <= dynamic;
}

cudaError_t emu_enqueue_launch(const struct emu_launch *l, const void *args, size_t bytes, cudaStream_t s)
{
        LOCKED;
        struct operation o = {.launch = *l, .bytes = bytes};
        cudaError_t e = emu_fail(EMU_LAUNCH);

        if (!s)
                emu_fault("work on the default stream: %s", l->name);
        if (e == cudaSuccess && (!launch_fits(l) || bytes > MAX_ARGS))
                e = cudaErrorInvalidConfiguration;
        return failed(e == cudaSuccess ? submit(&o, args, s) : e);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned flags)
{
        LOCKED;
        unsigned i = 0;
        struct CUstream_st *s;

        (void)flags;
        while (i < EMU_STREAMS && streams[i])
                i++;
        s = emu_lost() == cudaSuccess && i < EMU_STREAMS ? calloc(1, sizeof *s) : NULL;
        if (!s)
                return failed(emu_lost() != cudaSuccess ? emu_lost() : cudaErrorMemoryAllocation);
        s->last = &s->first;
        s->order.stream = i;
        /* Another stream may have had the place: what it was given has been waited for. */
        memcpy(s->order.after, host_after, sizeof host_after);
        streams[i] = s;
        *ret = s;
        return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
        LOCKED;
        drain(s);
        join(host_after, s->order.after);
        streams[s->order.stream] = NULL;
        (void)graph_free(s->capture);
        free(s);
        return emu_lost();
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
        LOCKED;
        cudaError_t e = emu_fail(EMU_WAIT);

        if (e != cudaSuccess || s->capture)
                return failed(e != cudaSuccess ? e : cudaErrorStreamCaptureUnsupported);
        drain(s);
        join(host_after, s->order.after);
        return cudaSuccess;
}

/* ---- the device */

#define UUID_TEXT 36

/* As CUDA does, which shows what $CUDA_VISIBLE_DEVICES names: by number, or as GPU-UUID or MIG-UUID. */
static bool is_visible(void)
{
        const char *seen = getenv("CUDA_VISIBLE_DEVICES");

        return !seen || isdigit((unsigned char)seen[0]) ||
               ((!strncmp(seen, "GPU-", 4) || !strncmp(seen, "MIG-", 4)) && strcspn(seen, ",") == 4 + UUID_TEXT);
}

cudaError_t cudaGetDeviceCount(int *n)
{
        cudaError_t e = emu_fail(EMU_OPEN);

        *n = e == cudaSuccess && is_visible();
        return failed(e);
}

cudaError_t cudaSetDevice(int device)
{
        cudaError_t e = emu_fail(EMU_OPEN);

        return failed(e != cudaSuccess ? e : device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
        cudaError_t e = emu_fail(EMU_OPEN);
        size_t left;

        if (e != cudaSuccess || device != 0)
                return failed(e != cudaSuccess ? e : cudaErrorInvalidDevice);
        memset(p, 0, sizeof *p);
        (void)snprintf(p->name, sizeof p->name, "emulated device");
        p->major = 9;
        p->multiProcessorCount = 132;
        emu_memory_left(&left, &p->totalGlobalMem);
        return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *ret, enum cudaDeviceAttr attribute, int device)
{
        cudaError_t e = emu_fail(EMU_OPEN);

        if (e != cudaSuccess || device != 0 || attribute != cudaDevAttrClockRate)
                return failed(e != cudaSuccess ? e : cudaErrorInvalidValue);
        *ret = 1000000;
        return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
        LOCKED;
        cudaError_t e = emu_fail(EMU_WAIT);

        if (e == cudaSuccess)
                drain_all();
        return failed(e);
}

/* ---- memory */

cudaError_t cudaMemGetInfo(size_t *ret_free, size_t *ret_total)
{
        LOCKED;
        emu_memory_left(ret_free, ret_total);
        return failed(emu_lost());
}

cudaError_t cudaMalloc(void **ret, size_t bytes)
{
        LOCKED;
        cudaError_t e = emu_fail(EMU_MEMORY);

        return failed(e != cudaSuccess ? e : emu_memory_new(ret, bytes));
}

/* As the device: what was given to streams before is waited for. */
cudaError_t cudaFree(void *p)
{
        LOCKED;
        if (!p)
                return cudaSuccess;
        drain_all();
        emu_memory_free(p);
        return failed(emu_lost());
}

struct filling {
        void *p;
        int value;
        size_t bytes;
};

static void fill(const void *args)
{
        const struct filling *f = args;

        emu_touch(f->p, f->bytes, true);
        memset(f->p, f->value, f->bytes);
}

/* On the default stream, for which others do not wait. */
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
        LOCKED;
        struct operation o = {.fn = fill, .launch = {.name = "cudaMemset"}, .bytes = sizeof(struct filling)};
        cudaError_t e = emu_fail(EMU_LAUNCH);

        return failed(e == cudaSuccess ? submit(&o, &(struct filling){p, value, bytes}, &default_stream) : e);
}

struct copy {
        void *dst;
        const void *src;
        size_t bytes;
        bool in, out; /* which side is the device's */
};

static void copy(const void *args)
{
        const struct copy *c = args;

        if (c->out)
                emu_touch(c->src, c->bytes, false);
        if (c->in)
                emu_touch(c->dst, c->bytes, true);
        memcpy(c->dst, c->src, c->bytes);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s)
{
        struct copy c = {dst, src, bytes, kind != cudaMemcpyDeviceToHost, kind != cudaMemcpyHostToDevice};

        if (emu_memory_has(dst) != c.in || emu_memory_has(src) != c.out)
                return failed(cudaErrorInvalidValue);
        return emu_enqueue("copy", copy, &c, sizeof c, s);
}

/* ---- events */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned flags)
{
        (void)flags;
        *ret = emu_lost() == cudaSuccess ? calloc(1, sizeof **ret) : NULL;
        return failed(emu_lost() != cudaSuccess ? emu_lost() : *ret ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
        LOCKED;
        e->mark = mark_drop(e->mark);
        free(e);
        return emu_lost();
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
        LOCKED;
        struct mark *m;
        cudaError_t r;

        if (emu_lost() != cudaSuccess)
                return failed(emu_lost());
        e->capture = s->capture;
        if (s->capture) /* a capture is one list, in the order of its calls */
                return cudaSuccess;
        m = calloc(1, sizeof *m);
        if (!m)
                return failed(cudaErrorMemoryAllocation);
        m->refs = 2;
        r = submit(&(struct operation){.launch = {.name = "event"}, .reaches = m}, NULL, s);
        if (r != cudaSuccess) {
                free(m);
                return failed(r);
        }
        (void)mark_drop(e->mark);
        e->mark = m;
        return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ret, cudaEvent_t begin, cudaEvent_t end)
{
        LOCKED;
        const struct mark *a = begin->mark, *b = end->mark;

        if (!a || !b || !a->reached || !b->reached)
                return failed(a && b ? cudaErrorNotReady : cudaErrorInvalidResourceHandle);
        *ret = (float)(b->ms - a->ms);
        return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
        LOCKED;
        cudaError_t r;

        (void)flags;
        if (emu_lost() != cudaSuccess || (s->capture && e->capture != s->capture))
                return failed(emu_lost() != cudaSuccess ? emu_lost() : cudaErrorStreamCaptureIsolation);
        if (e->capture) {
                s->capture = e->capture;
                s->capture->unjoined &= s != s->capture->origin;
                return cudaSuccess;
        }
        if (!e->mark)
                return cudaSuccess; /* what was never recorded is not waited for */
        e->mark->refs++;
        r = submit(&(struct operation){.launch = {.name = "wait"}, .waits = e->mark}, NULL, s);
        if (r != cudaSuccess)
                (void)mark_drop(e->mark);
        return failed(r);
}

/* ---- captures */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
        LOCKED;
        (void)mode;
        if (emu_lost() != cudaSuccess || s->capture)
                return failed(emu_lost() != cudaSuccess ? emu_lost() : cudaErrorIllegalState);
        s->capture = calloc(1, sizeof *s->capture);
        if (!s->capture)
                return failed(cudaErrorMemoryAllocation);
        s->capture->last = &s->capture->first;
        s->capture->origin = s;
        return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *ret)
{
        LOCKED;
        cudaError_t e = emu_lost() != cudaSuccess ? emu_lost() : s->capture ? cudaSuccess : cudaErrorIllegalState;

        if (e == cudaSuccess && s->capture->unjoined)
                e = cudaErrorStreamCaptureUnjoined;
        *ret = s->capture;
        for (int i = 0; i < EMU_STREAMS && *ret; i++)
                if (streams[i] && streams[i]->capture == *ret)
                        streams[i]->capture = NULL;
        if (e != cudaSuccess)
                *ret = graph_free(*ret);
        return failed(e);
}

/* The graph's operations move to its executable: it is instantiated once. */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t g, unsigned long long flags)
{
        (void)flags;
        *ret = calloc(1, sizeof **ret);
        if (!*ret)
                return failed(cudaErrorMemoryAllocation);
        (*ret)->first = g->first;
        g->first = NULL;
        return cudaSuccess;
}

/* The stream gets the operations one by one, so that those of other streams may come between. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
        LOCKED;
        cudaError_t e = emu_fail(EMU_LAUNCH);

        if (e == cudaSuccess && s->capture)
                e = cudaErrorStreamCaptureUnsupported;
        for (const struct operation *o = exec->first; o && e == cudaSuccess; o = o->next)
                e = submit(o, o->args, s);
        return failed(e);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
        exec->first = list_free(exec->first);
        free(exec);
        return emu_lost();
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
        (void)graph_free(g);
        return emu_lost();
}
