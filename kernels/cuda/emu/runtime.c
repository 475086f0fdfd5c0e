/* The part of cudart that device.c calls, on the host: memory with guards that is NaN until written, streams that run
 * what they are given at once, captures of one stream into a list that is replayed. */
#include "kernels/cuda/emu/emu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEVICE_BYTES_LOG2 = 33, GUARD_BYTES = 256, MAX_DYNAMIC = 232448, PLAIN_DYNAMIC = 48 << 10 };

static cudaError_t last_error;

static cudaError_t failed(cudaError_t e)
{
        last_error = e;
        return e;
}

cudaError_t cudaGetLastError(void)
{
        cudaError_t e = last_error;

        last_error = cudaSuccess;
        return e;
}

const char *cudaGetErrorName(cudaError_t e)
{
        return e == cudaSuccess ? "cudaSuccess" : "emulated";
}

const char *cudaGetErrorString(cudaError_t e)
{
        static _Thread_local char text[32];

        (void)snprintf(text, sizeof text, "error %d", (int)e);
        return text;
}

/* ---- the device */

cudaError_t cudaGetDeviceCount(int *n)
{
        *n = 1;
        return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
        return device == 0 ? cudaSuccess : failed(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
        if (device != 0)
                return failed(cudaErrorInvalidDevice);
        memset(p, 0, sizeof *p);
        (void)snprintf(p->name, sizeof p->name, "emulated device");
        p->major = 9;
        p->multiProcessorCount = 132;
        p->totalGlobalMem = (size_t)1 << DEVICE_BYTES_LOG2;
        return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
        return cudaSuccess;
}

/* ---- memory: a header in front knows its size; what lies between is poisoned under address sanitizer */

struct header {
        size_t bytes;
};

static size_t allocated;

cudaError_t cudaMemGetInfo(size_t *ret_free, size_t *ret_total)
{
        *ret_total = (size_t)1 << DEVICE_BYTES_LOG2;
        *ret_free = *ret_total - allocated;
        return cudaSuccess;
}

cudaError_t cudaMalloc(void **ret, size_t bytes)
{
        size_t whole = (bytes + 3 * GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES;
        char *p;

        if (bytes > ((size_t)1 << DEVICE_BYTES_LOG2) - allocated)
                return failed(cudaErrorMemoryAllocation);
        p = aligned_alloc(GUARD_BYTES, whole);
        if (!p)
                return failed(cudaErrorMemoryAllocation);
        *(struct header *)(void *)p = (struct header){bytes};
        memset(p + GUARD_BYTES, 0xff, bytes);
        emu_poison(p + sizeof(struct header), GUARD_BYTES - sizeof(struct header));
        emu_poison(p + GUARD_BYTES + bytes, whole - GUARD_BYTES - bytes);
        allocated += bytes;
        *ret = p + GUARD_BYTES;
        return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
        char *start;
        size_t bytes;

        if (!p)
                return cudaSuccess;
        start = (char *)p - GUARD_BYTES;
        bytes = ((struct header *)(void *)start)->bytes;
        allocated -= bytes;
        emu_unpoison(start, (bytes + 3 * GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES);
        free(start);
        return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
        memset(p, value, bytes);
        return cudaSuccess;
}

/* ---- streams, and what they are given */

struct operation {
        struct operation *next;
        void (*fn)(const void *args); /* or NULL: a launch */
        struct emu_launch launch;
        size_t bytes;
        _Alignas(16) unsigned char args[];
};

struct CUgraph_st {
        struct operation *first, **last;
};

struct CUgraphExec_st {
        struct operation *first;
};

struct CUstream_st {
        struct CUgraph_st *capture; /* or NULL */
};

struct CUevent_st {
        struct timespec when;
};

static void run(const struct operation *o)
{
        if (o->fn)
                o->fn(o->args);
        else
                emu_run(&o->launch, o->args);
}

static cudaError_t submit(const struct operation *head, const void *args, cudaStream_t s)
{
        struct operation *o;

        if (!s)
                emu_fault("work on the default stream: %s", head->launch.name);
        o = aligned_alloc(16, (sizeof *o + head->bytes + 15) / 16 * 16);
        if (!o)
                return failed(cudaErrorMemoryAllocation);
        *o = *head;
        memcpy(o->args, args, head->bytes);
        if (s->capture) {
                *s->capture->last = o;
                s->capture->last = &o->next;
                return cudaSuccess;
        }
        run(o);
        free(o);
        return cudaSuccess;
}

cudaError_t emu_enqueue(const char *name, void (*fn)(const void *args), const void *args, size_t bytes, cudaStream_t s)
{
        struct operation o = {.fn = fn, .launch = {.name = name}, .bytes = bytes};

        return submit(&o, args, s);
}

/* Kernels that may ask for more dynamic shared memory than 48 KiB. */
static struct {
        const void *kernel;
        size_t dynamic;
} attributes[64];
static size_t n_attributes;

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
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
        struct operation o = {.launch = *l, .bytes = bytes};

        if (!launch_fits(l) || bytes > 32764)
                return failed(cudaErrorInvalidConfiguration);
        return submit(&o, args, s);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned flags)
{
        (void)flags;
        *ret = calloc(1, sizeof **ret);
        return *ret ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
        free(s);
        return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
        return s->capture ? failed(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

struct copy {
        void *dst;
        const void *src;
        size_t bytes;
};

static void copy(const void *args)
{
        const struct copy *c = args;

        memcpy(c->dst, c->src, c->bytes);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s)
{
        (void)kind;
        return emu_enqueue("copy", copy, &(struct copy){dst, src, bytes}, sizeof(struct copy), s);
}

/* ---- events: what a stream was given has run */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned flags)
{
        (void)flags;
        *ret = calloc(1, sizeof **ret);
        return *ret ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
        free(e);
        return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
        if (s->capture)
                return failed(cudaErrorStreamCaptureUnsupported);
        (void)clock_gettime(CLOCK_MONOTONIC, &e->when);
        return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
        (void)e;
        (void)flags;
        return s->capture ? failed(cudaErrorStreamCaptureIsolation) : cudaSuccess;
}

/* ---- captures */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
        (void)mode;
        if (s->capture)
                return failed(cudaErrorIllegalState);
        s->capture = calloc(1, sizeof *s->capture);
        if (!s->capture)
                return failed(cudaErrorMemoryAllocation);
        s->capture->last = &s->capture->first;
        return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *ret)
{
        *ret = s->capture;
        s->capture = NULL;
        return *ret ? cudaSuccess : failed(cudaErrorIllegalState);
}

static struct operation *list_free(struct operation *o)
{
        while (o) {
                struct operation *next = o->next;

                free(o);
                o = next;
        }
        return NULL;
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

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
        if (s->capture)
                return failed(cudaErrorStreamCaptureUnsupported);
        for (const struct operation *o = exec->first; o; o = o->next)
                run(o);
        return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
        exec->first = list_free(exec->first);
        free(exec);
        return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
        g->first = list_free(g->first);
        free(g);
        return cudaSuccess;
}
