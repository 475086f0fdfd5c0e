/* Operations run or recorded: a recording keeps each operation's function and a copy of its arguments, in order. */
#include "kernels/host.h"

#include <errno.h>
#include <string.h>

struct recorded {
        const char *op;
        host_call *call;
        size_t at; /* of its arguments in the graph's bytes */
};

struct graph {
        struct stream *joined; /* or NULL */
        struct error error;    /* the first thing that may not be recorded */
        struct recorded *ops;
        size_t n_ops, max_ops;
        char *bytes; /* arguments, each aligned for any type */
        size_t n_bytes, max_bytes;
};

#define ARGS_ALIGN sizeof(max_align_t)

static void run_now(struct stream *s, const char *op, host_call *call, const void *args)
{
        int r;

        if (s->error.code < 0 || s->device->plan_only)
                return;
        host_enter(s->device);
        r = call(args);
        if (r < 0)
                (void)error_set(&s->error, r, op, "operation failed on the processor");
}

/* Room for n more in an array of max; doubling, so that a long recording is cheap. */
static bool make_room(void *array, size_t size, size_t n, size_t more, size_t *max)
{
        size_t want = MAX(2 * *max, n + more);
        void *p;

        if (n + more <= *max)
                return true;
        p = realloc(*(void **)array, want * size);
        if (!p)
                return false;
        *(void **)array = p;
        *max = want;
        return true;
}

static void record(struct graph *g, const char *op, host_call *call, const void *args, size_t bytes)
{
        size_t padded = (bytes + ARGS_ALIGN - 1) / ARGS_ALIGN * ARGS_ALIGN;

        if (g->error.code < 0)
                return;
        if (!make_room(&g->ops, sizeof(*g->ops), g->n_ops, 1, &g->max_ops) ||
            !make_room(&g->bytes, 1, g->n_bytes, padded, &g->max_bytes)) {
                (void)error_set(&g->error, -ENOMEM, op, "out of memory for a recording");
                return;
        }
        memcpy(g->bytes + g->n_bytes, args, bytes);
        g->ops[g->n_ops++] = (struct recorded){op, call, g->n_bytes};
        g->n_bytes += padded;
}

void host_run(struct stream *s, const char *op, host_call *call, const void *args, size_t bytes)
{
        s->behind = s->recording && s->recording->joined == s;
        if (s->recording)
                record(s->recording, op, call, args, bytes);
        else
                run_now(s, op, call, args);
}

bool host_refused(struct device *d, const char *what)
{
        if (!d || !d->recording)
                return false;
        if (d->recording->error.code == 0)
                (void)error_set(&d->recording->error, -EINVAL, what, "only operations can be recorded");
        return true;
}

int host_graph_begin(struct stream *s, struct error *err)
{
        struct graph *g;

        if (s->device->recording)
                return error_set(err, -EINVAL, "graph_begin", "a stream of the device records already");
        g = calloc(1, sizeof(*g));
        if (!g)
                return error_set(err, -ENOMEM, "", "out of memory");
        s->recording = s->device->recording = g;
        s->device->n_recordings++;
        return 0;
}

void host_graph_join(struct stream *s)
{
        struct graph *g = s->device->recording;

        if (g->joined && g->joined != s)
                (void)host_refused(s->device, "stream_wait");
        else
                s->recording = g;
        g->joined = g->joined ? g->joined : s;
}

static void leave(struct graph *g)
{
        if (g->joined && g->joined->behind && g->error.code == 0)
                (void)error_set(&g->error, -EINVAL, "graph_end", "what another stream was given is not waited for");
        if (g->joined)
                g->joined->recording = NULL;
        g->joined = NULL;
}

int host_graph_end(struct stream *s, struct graph **ret, struct error *err)
{
        struct graph *g = s->recording;
        int r;

        if (!g)
                return error_set(err, -EINVAL, "graph_end", "the stream does not record");
        if (g->joined == s)
                return error_set(err, -EINVAL, "graph_end", "another stream began the recording");
        leave(g);
        s->recording = s->device->recording = NULL;
        r = g->error.code;
        if (r < 0) {
                if (err)
                        *err = g->error;
                (void)host_graph_free(g);
                return r;
        }
        *ret = g;
        return 0;
}

void host_graph_launch(struct stream *s, const struct graph *g)
{
        if (host_refused(s->recording ? s->device : NULL, "graph_launch"))
                return;
        for (size_t i = 0; i < g->n_ops; i++)
                run_now(s, g->ops[i].op, g->ops[i].call, g->bytes + g->ops[i].at);
}

struct graph *host_graph_free(struct graph *g)
{
        if (!g)
                return NULL;
        free(g->ops);
        free(g->bytes);
        free(g);
        return NULL;
}

void host_graph_drop(struct stream *s)
{
        struct graph *g = s->recording;

        if (!g)
                return;
        if (g->joined == s) {
                g->joined = NULL;
                (void)host_refused(s->device, "stream_free");
                return;
        }
        leave(g);
        s->device->recording = NULL;
        (void)host_graph_free(g);
}
