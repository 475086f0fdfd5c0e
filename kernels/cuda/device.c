/* Devices, memory, streams, events and recordings on CUDA. A recording is a captured graph; what may not be recorded is
 * refused here, before CUDA sees it, so that the stream stays as it was. */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/convolver.h"
#include "kernels/cuda/multiplier.h"
#include "kernels/plans_file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

struct graph {
        struct error error; /* the first thing that may not be recorded */
        cudaGraphExec_t exec;
        struct device *device;
        void *scratch;         /* of the operations recorded */
        struct stream *joined; /* another stream that is recorded, too; or NULL */
};

struct event {
        struct device *device;
        cudaEvent_t handle;
        int64_t recording; /* of the device, in which it was recorded; 0: in none */
};

/* What is refused because of what was asked says nothing against the device; all else is its failure: an Xid, or it
 * is gone. */
static int code_of(cudaError_t e)
{
        switch (e) {
        case cudaErrorMemoryAllocation:
                return -ENOMEM;
        case cudaErrorInvalidValue:
        case cudaErrorInvalidConfiguration:
        case cudaErrorInvalidDeviceFunction:
        case cudaErrorInvalidResourceHandle:
        case cudaErrorIllegalState:
        case cudaErrorNotReady:
        case cudaErrorNotSupported:
        case cudaErrorStreamCaptureUnsupported:
        case cudaErrorStreamCaptureInvalidated:
        case cudaErrorStreamCaptureIsolation:
                return -EIO;
        default:
                return -ENODEV;
        }
}

static int fail(struct error *err, const char *what, cudaError_t e)
{
        return error_set(err, code_of(e), what, "CUDA: %s (%s)", cudaGetErrorString(e), cudaGetErrorName(e));
}

bool device_refused(struct device *d, const char *what)
{
        if (!d || !d->recording)
                return false;
        if (d->recording->error.code == 0)
                (void)error_set(&d->recording->error, -EINVAL, what, "only operations can be recorded");
        return true;
}

int device_may_plan(struct device *d, const char *what, struct error *err)
{
        if (device_refused(d, what))
                return error_set(err, -EINVAL, what, "a plan is not made while a stream records");
        return 0;
}

/* ---- devices */

/* Of MIG instances a process sees one alone, that which its environment names. */
static void write_uuid(char *ret, size_t size, const struct cudaDeviceProp *prop)
{
        const unsigned char *u = (const unsigned char *)prop->uuid.bytes;
        const char *seen = getenv("CUDA_VISIBLE_DEVICES");

        if (seen && !strncmp(seen, "MIG-", 4)) {
                (void)snprintf(ret, size, "%.*s", (int)strcspn(seen, ","), seen);
                return;
        }
        (void)snprintf(ret, size, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
                       u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

/* Names, libraries, plans; err is set, but nothing fails, where choices cannot be kept. */
static int device_fill(struct device *d, const char *plans_folder, struct error *err)
{
        struct cudaDeviceProp prop;
        cudaError_t e = cudaGetDeviceProperties(&prop, d->index);
        int r = convolver_new(&d->convolver, err);

        if (r >= 0)
                r = multiplier_new(&d->multiplier, err);
        if (r < 0)
                return r;
        if (e != cudaSuccess)
                return fail(err, "device", e);
        plans_printable(d->name, sizeof d->name, prop.name);
        write_uuid(d->uuid, sizeof d->uuid, &prop);
        d->watch = watch_open(d->uuid);
        if (plans_folder)
                (void)plans_file_open(plans_folder, &d->plans, err);
        return 0;
}

int cuda_device_open(const struct device_settings *settings, struct device **ret, struct error *err)
{
        struct device *d;
        int n = 0, r;
        cudaError_t e = cudaGetDeviceCount(&n);

        if (settings->threads < 1)
                return error_set(err, -EINVAL, "device", "expected at least 1 thread, got %d", settings->threads);
        if (e != cudaSuccess || settings->index < 0 || settings->index >= n) {
                (void)cudaGetLastError();
                return error_set(err, -ENODEV, "device", "there is no CUDA device %d: %s (%s)", settings->index,
                                 e != cudaSuccess ? cudaGetErrorString(e) : "fewer were found", cudaGetErrorName(e));
        }
        e = cudaSetDevice(settings->index);
        if (e != cudaSuccess)
                return fail(err, "device", e);
        d = calloc(1, sizeof(*d));
        if (!d)
                return error_set(err, -ENOMEM, "", "out of memory");
        d->index = settings->index;
        d->plan_only = settings->plan_only;
        r = device_fill(d, settings->plans_folder, err);
        if (r < 0) {
                (void)cuda_device_close(d);
                return r;
        }
        *ret = d;
        return 0;
}

struct device *cuda_device_close(struct device *d)
{
        if (d) {
                (void)convolver_free(d->convolver);
                (void)multiplier_free(d->multiplier);
                (void)plans_file_close(d->plans);
                (void)watch_close(d->watch);
        }
        free(d);
        return NULL;
}

/* FLOP of products a clock and multiprocessor, a multiply-add as two: by the architecture's documentation. */
static const struct {
        int major, minor;
        double float32, tf32, bf16;
} per_clock[] = {{8, 0, 128, 1024, 2048}, {8, 6, 256, 512, 1024}, {8, 9, 256, 512, 1024}, {9, 0, 256, 2048, 4096}};

int cuda_device_info(struct device *d, struct device_info *ret, struct error *err)
{
        struct device_info info = {.bf16 = true};
        struct cudaDeviceProp prop;
        size_t memory_free, memory_total;
        int kilohertz = 0;
        cudaError_t e = cudaGetDeviceProperties(&prop, d->index);

        if (e == cudaSuccess)
                e = cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, d->index);
        if (e == cudaSuccess)
                e = cudaMemGetInfo(&memory_free, &memory_total);
        if (e != cudaSuccess)
                return fail(err, "device", e);
        (void)snprintf(info.name, sizeof(info.name), "%.*s", (int)sizeof(info.name) - 1, prop.name);
        write_uuid(info.uuid, sizeof info.uuid, &prop);
        info.memory_total = (int64_t)memory_total;
        info.memory_free = (int64_t)memory_free;
        info.compute_major = prop.major;
        info.compute_minor = prop.minor;
        for (size_t i = 0; i < ARRAY_LEN(per_clock); i++) {
                const double clocks = 1e3 * kilohertz * prop.multiProcessorCount; /* of all of it, a second */

                if (per_clock[i].major != prop.major || per_clock[i].minor != prop.minor)
                        continue;
                info.flops_float32 = clocks * per_clock[i].float32;
                info.flops_tf32 = clocks * per_clock[i].tf32;
                info.flops_bf16 = clocks * per_clock[i].bf16;
        }
        *ret = info;
        return 0;
}

int cuda_device_use(struct device *d, struct device_use *ret, struct error *err)
{
        size_t memory_free, memory_total;
        cudaError_t e = cudaMemGetInfo(&memory_free, &memory_total);

        if (e != cudaSuccess)
                return fail(err, "device", e);
        ret->memory_bytes = (int64_t)(memory_total - memory_free);
        watch_use(d->watch, ret);
        return 0;
}

/* ---- memory */

void *cuda_memory_new(struct device *d, size_t bytes)
{
        void *p = NULL;

        (void)d;
        if (cudaMalloc(&p, MAX(bytes, (size_t)1)) != cudaSuccess) {
                (void)cudaGetLastError(); /* the next launch is not to be blamed for it */
                return NULL;
        }
        /* Streams here do not wait for the default one. */
        if (cudaMemset(p, 0, MAX(bytes, (size_t)1)) != cudaSuccess || cudaDeviceSynchronize() != cudaSuccess) {
                (void)cudaGetLastError();
                (void)cudaFree(p);
                return NULL;
        }
        return p;
}

void cuda_memory_free(struct device *d, void *p)
{
        (void)d;
        (void)cudaFree(p);
}

/* ---- streams */

bool stream_ready(const struct stream *s)
{
        return s->error.code == 0 && !s->device->plan_only && !(s->recording && s->recording->error.code < 0);
}

struct error *stream_error(struct stream *s)
{
        return s->recording ? &s->recording->error : &s->error;
}

void stream_launched(struct stream *s, const char *op, cudaError_t e)
{
        if (e != cudaSuccess)
                (void)fail(stream_error(s), op, e);
}

void *stream_scratch(const struct stream *s)
{
        return s->recording ? s->recording->scratch : s->scratch;
}

int cuda_stream_new(struct device *d, struct stream **ret, struct error *err)
{
        struct stream *s = calloc(1, sizeof(*s));
        cudaError_t e;

        if (!s)
                return error_set(err, -ENOMEM, "", "out of memory");
        s->device = d;
        e = cudaStreamCreateWithFlags(&s->handle, cudaStreamNonBlocking);
        if (e == cudaSuccess)
                e = cudaMalloc(&s->scratch, SCRATCH_BYTES);
        if (e != cudaSuccess) {
                (void)cuda_stream_free(s);
                return fail(err, "stream", e);
        }
        *ret = s;
        return 0;
}

static void leave(struct graph *g)
{
        if (g->joined)
                g->joined->recording = NULL;
        g->joined = NULL;
}

static void recording_drop(struct stream *s)
{
        cudaGraph_t captured = NULL;

        leave(s->recording);

        if (cudaStreamEndCapture(s->handle, &captured) == cudaSuccess && captured)
                (void)cudaGraphDestroy(captured);
        (void)cudaGetLastError();
        s->recording = s->device->recording = NULL;
}

struct stream *cuda_stream_free(struct stream *s)
{
        struct graph *g;

        if (!s)
                return NULL;
        g = s->recording;
        if (g && g->joined == s) {
                (void)device_refused(s->device, "stream_free");
                leave(g);
        } else if (g) {
                recording_drop(s);
                (void)cuda_graph_free(g);
        }
        if (s->handle) {
                (void)cudaStreamSynchronize(s->handle);
                (void)cudaStreamDestroy(s->handle);
        }
        (void)cudaFree(s->scratch);
        free(s);
        return NULL;
}

int cuda_stream_sync(struct stream *s, struct error *err)
{
        if (!device_refused(s->recording ? s->device : NULL, "stream_sync")) {
                cudaError_t e = cudaStreamSynchronize(s->handle);

                if (e != cudaSuccess && s->error.code == 0)
                        (void)fail(&s->error, "stream_sync", e);
        }
        if (s->error.code < 0 && err)
                *err = s->error;
        return s->error.code;
}

static void copy(struct stream *s, const char *what, void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
        if (!device_refused(s->recording ? s->device : NULL, what) && stream_ready(s) && bytes > 0)
                stream_launched(s, what, cudaMemcpyAsync(dst, src, bytes, kind, s->handle));
}

void cuda_copy_in(struct stream *s, void *dst, const void *src, size_t bytes)
{
        copy(s, "copy_in", dst, src, bytes, cudaMemcpyHostToDevice);
}

void cuda_copy_out(struct stream *s, void *dst, const void *src, size_t bytes)
{
        copy(s, "copy_out", dst, src, bytes, cudaMemcpyDeviceToHost);
}

/* ---- events */

int cuda_event_new(struct device *d, struct event **ret, struct error *err)
{
        struct event *e;
        cudaError_t r;

        if (device_refused(d, "event_new"))
                return error_set(err, -EINVAL, "event", "an event is not made while a stream records");
        e = calloc(1, sizeof(*e));
        if (!e)
                return error_set(err, -ENOMEM, "", "out of memory");
        e->device = d;
        r = cudaEventCreateWithFlags(&e->handle, cudaEventDisableTiming);
        if (r != cudaSuccess) {
                free(e);
                return fail(err, "event", r);
        }
        *ret = e;
        return 0;
}

struct event *cuda_event_free(struct event *e)
{
        if (e)
                (void)cudaEventDestroy(e->handle);
        free(e);
        return NULL;
}

void cuda_event_record(struct stream *s, struct event *e)
{
        assert(e->device == s->device);
        e->recording = s->recording ? s->device->n_recordings : 0;
        if (stream_ready(s))
                stream_launched(s, "event_record", cudaEventRecord(e->handle, s->handle));
}

/* Whether s may wait for it: not in a recording for what was recorded outside, or by a third stream. */
static bool may_wait(struct stream *s, const struct event *e)
{
        struct graph *g = s->device->recording;
        bool recorded = g && e->recording == s->device->n_recordings;

        if (recorded && !s->recording && !g->joined) {
                g->joined = s;
                s->recording = g;
        }
        if (recorded && s->recording)
                return true;
        return !(s->recording || recorded) || !device_refused(s->device, "stream_wait");
}

void cuda_stream_wait(struct stream *s, struct event *e)
{
        assert(e->device == s->device);
        if (may_wait(s, e) && stream_ready(s))
                stream_launched(s, "stream_wait", cudaStreamWaitEvent(s->handle, e->handle, 0));
}

/* ---- recordings */

int cuda_graph_begin(struct stream *s, struct error *err)
{
        struct graph *g;
        cudaError_t e;

        if (s->device->recording)
                return error_set(err, -EINVAL, "graph_begin", "a stream of the device records already");
        g = calloc(1, sizeof(*g));
        if (!g)
                return error_set(err, -ENOMEM, "", "out of memory");
        g->device = s->device;
        e = cudaMalloc(&g->scratch, SCRATCH_BYTES);
        if (e == cudaSuccess)
                e = cudaStreamBeginCapture(s->handle, cudaStreamCaptureModeThreadLocal);
        if (e != cudaSuccess) {
                (void)cuda_graph_free(g);
                return fail(err, "graph_begin", e);
        }
        s->recording = s->device->recording = g;
        s->device->n_recordings++;
        return 0;
}

int cuda_graph_end(struct stream *s, struct graph **ret, struct error *err)
{
        struct graph *g = s->recording;
        cudaGraph_t captured = NULL;
        cudaError_t e;

        if (!g)
                return error_set(err, -EINVAL, "graph_end", "the stream does not record");
        if (g->joined == s)
                return error_set(err, -EINVAL, "graph_end", "another stream began the recording");
        leave(g);
        e = cudaStreamEndCapture(s->handle, &captured);
        if (e == cudaErrorStreamCaptureUnjoined && g->error.code == 0)
                (void)error_set(&g->error, -EINVAL, "graph_end", "what another stream was given is not waited for");
        s->recording = s->device->recording = NULL;
        if (e == cudaSuccess && g->error.code == 0)
                e = cudaGraphInstantiate(&g->exec, captured, 0);
        if (e != cudaSuccess && g->error.code == 0)
                (void)fail(&g->error, "graph_end", e);
        (void)cudaGetLastError();
        if (captured)
                (void)cudaGraphDestroy(captured);
        if (g->error.code < 0) {
                int r = g->error.code;

                if (err)
                        *err = g->error;
                (void)cuda_graph_free(g);
                return r;
        }
        *ret = g;
        return 0;
}

void cuda_graph_launch(struct stream *s, const struct graph *g)
{
        if (!device_refused(s->recording ? s->device : NULL, "graph_launch") && stream_ready(s))
                stream_launched(s, "graph_launch", cudaGraphLaunch(g->exec, s->handle));
}

struct graph *cuda_graph_free(struct graph *g)
{
        if (!g)
                return NULL;
        if (g->exec)
                (void)cudaGraphExecDestroy(g->exec);
        (void)cudaFree(g->scratch);
        free(g);
        return NULL;
}
