/* Devices, memory and streams on the processor: an operation has run when its call returns, so events have nothing to
 * do. */
#include "kernels/host.h"

#include "base/clock.h"
#include "base/system.h"
#include "kernels/host_plans.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <xmmintrin.h>

#define MXCSR_FLUSH_AND_ZERO 0x8040u
#define LARGE_PAGE ((size_t)2 << 20)

/* Asks for a team of that many; how many came. OMP_THREAD_LIMIT and its like can make it fewer, and oneDNN, which waits
 * for as many as it is told, would wait for ever. */
static int team_new(int threads)
{
        int n = 1;

        omp_set_dynamic(0);
        omp_set_num_threads(threads);
#pragma omp parallel
        {
                _mm_setcsr(_mm_getcsr() | MXCSR_FLUSH_AND_ZERO);
#pragma omp master
                n = omp_get_num_threads();
        }
        omp_set_num_threads(n);
        return n;
}

void host_enter(const struct device *d)
{
        static _Thread_local int pool_threads; /* of the calling thread's pool, 0 before its first time here */

        if (pool_threads != d->threads)
                pool_threads = team_new(d->threads);
}

/* Processor time of the process so far, all of its threads together. */
static int64_t worked_us(void)
{
        struct timespec t = {0};

        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

int host_device_open(const struct device_settings *settings, struct device **ret, struct error *err)
{
        struct device *d;

        if (settings->index != 0)
                return error_set(err, -ENODEV, "device", "the processor is device 0, there is no device %d",
                                 settings->index);
        if (settings->threads < 1)
                return error_set(err, -EINVAL, "device", "expected at least 1 thread, got %d", settings->threads);
        d = calloc(1, sizeof(*d));
        if (!d)
                return error_set(err, -ENOMEM, "", "out of memory");
        d->plan_only = settings->plan_only;
        if (settings->plans_folder)
                (void)plans_open(settings->plans_folder, &d->plans, err); /* a warning: the rule chooses then */
        d->threads = team_new(settings->threads);
        d->asked_us = clock_monotonic_us();
        d->worked_us = worked_us();
        host_enter(d);
        *ret = d;
        return 0;
}

struct device *host_device_close(struct device *d)
{
        if (d)
                (void)plans_close(d->plans);
        free(d);
        return NULL;
}

int host_device_info(struct device *d, struct device_info *ret, struct error *err)
{
        struct device_info info = {.threads = d->threads};
        int r = host_info_read("", &info, err);

        if (r < 0)
                return r;
        __builtin_cpu_init();
        info.bf16 = __builtin_cpu_supports("avx512bf16");
        *ret = info;
        return 0;
}

int host_device_use(struct device *d, struct device_use *ret, struct error *err)
{
        int64_t kib = system_number("", "proc/self/status", "VmRSS"), now = clock_monotonic_us(), worked = worked_us();
        double had = (double)(now - d->asked_us) * d->threads;

        if (kib < 0)
                return error_set(err, -EIO, "/proc/self/status", "does not tell the memory of this process");
        /* threads beside the team's, which read and write, may have some time too */
        *ret = (struct device_use){.memory_bytes = kib * 1024,
                                   .busy = had > 0 ? fmin(1, (double)(worked - d->worked_us) / had) : NAN,
                                   .celsius = host_celsius(""),
                                   .watts = NAN};
        d->asked_us = now;
        d->worked_us = worked;
        return 0;
}

/* Asks for large pages where whole ones lie in the block: one is first touched, and looked up, where 512 small ones
 * are. A kernel that has none to give goes on with small ones. */
static void prefer_large_pages(const char *block, size_t bytes)
{
        size_t begin = ((size_t)block + LARGE_PAGE - 1) & -LARGE_PAGE, end = ((size_t)block + bytes) & -LARGE_PAGE;

        if (begin < end)
                (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

void *host_memory_new(struct device *d, size_t bytes)
{
        size_t rounded = host_align(MAX(bytes, (size_t)1)), whole;
        char *start, *p;

        (void)d;
        /* calloc leaves large blocks to the kernel, which gives zeroed pages when they are first touched: what a task
         * never touches is never taken. The block's start stands before what is handed out. */
        if (rounded < bytes || !size_mul_add(1, rounded, 2 * KERNELS_ALIGN, &whole))
                return NULL;
        start = calloc(1, whole);
        if (!start)
                return NULL;
        prefer_large_pages(start, whole);
        p = (char *)host_align((size_t)start + sizeof start);
        memcpy(p - sizeof start, &start, sizeof start);
        return p;
}

void host_memory_free(struct device *d, void *p)
{
        char *start;

        (void)d;
        if (!p)
                return;
        memcpy(&start, (char *)p - sizeof start, sizeof start);
        free(start);
}

int host_stream_new(struct device *d, struct stream **ret, struct error *err)
{
        struct stream *s = calloc(1, sizeof(*s));

        if (!s)
                return error_set(err, -ENOMEM, "", "out of memory");
        s->device = d;
        *ret = s;
        return 0;
}

struct stream *host_stream_free(struct stream *s)
{
        if (!s)
                return NULL;
        host_graph_drop(s);
        free(s);
        return NULL;
}

int host_stream_sync(struct stream *s, struct error *err)
{
        (void)host_refused(s->recording ? s->device : NULL, "stream_sync");
        if (s->error.code < 0 && err)
                *err = s->error;
        return s->error.code;
}

static void copy(struct stream *s, const char *what, void *dst, const void *src, size_t bytes)
{
        if (!host_refused(s->recording ? s->device : NULL, what) && s->error.code == 0 && !s->device->plan_only &&
            bytes > 0)
                memcpy(dst, src, bytes);
}

void host_copy_in(struct stream *s, void *dst, const void *src, size_t bytes)
{
        copy(s, "copy_in", dst, src, bytes);
}

void host_copy_out(struct stream *s, void *dst, const void *src, size_t bytes)
{
        copy(s, "copy_out", dst, src, bytes);
}

/* ---- events: what a stream was given has run, or is recorded in order, so there is nothing to wait for */

struct event {
        struct device *device;
        struct stream *from; /* that it was recorded on, */
        int64_t recording;   /* in that recording of the device; 0: in none */
};

int host_event_new(struct device *d, struct event **ret, struct error *err)
{
        struct event *e;

        if (host_refused(d, "event_new"))
                return error_set(err, -EINVAL, "event", "an event is not made while a stream records");
        e = calloc(1, sizeof(*e));
        if (!e)
                return error_set(err, -ENOMEM, "", "out of memory");
        e->device = d;
        *ret = e;
        return 0;
}

struct event *host_event_free(struct event *e)
{
        free(e);
        return NULL;
}

void host_event_record(struct stream *s, struct event *e)
{
        assert(e->device == s->device);
        e->from = s;
        e->recording = s->recording ? s->device->n_recordings : 0;
}

void host_stream_wait(struct stream *s, struct event *e)
{
        bool recorded = s->device->recording && e->recording == s->device->n_recordings;

        assert(e->device == s->device);
        if (recorded && !s->recording)
                host_graph_join(s);
        else if (recorded)
                e->from->behind = false;
        else
                (void)host_refused(s->recording ? s->device : NULL, "stream_wait");
}
