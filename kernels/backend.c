/* Finding a back end by name, and the table that does nothing. */
#include "kernels/kernels.h"

#include "kernels/cpu/cpu.h"
#include "kernels/module.h"
#include "kernels/reference/reference.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Every entry set? An operation is added in kernels.def and must not be forgotten in a table. */
static bool table_complete(const struct kernels *k)
{
        bool ok = k->abi == KERNELS_ABI && k->name && k->device_open && k->device_close && k->device_info &&
                  k->device_use && k->memory_new && k->memory_free && k->stream_new && k->stream_free &&
                  k->stream_sync && k->copy_in && k->copy_out && k->event_new && k->event_free && k->event_record &&
                  k->stream_wait && k->graph_begin && k->graph_end && k->graph_launch && k->graph_free &&
                  k->collectives && k->conv_new && k->conv_free && k->conv_workspace && k->dense_new && k->dense_free &&
                  k->dense_workspace && k->norm_new && k->norm_free && k->norm_workspace && k->attention_new &&
                  k->attention_free && k->attention_workspace && k->attention_saved;

#define KERNEL(op) ok = ok && k->op;
#include "kernels/kernels.def"
#undef KERNEL
        return ok;
}

int kernels_find(const char *name, const struct kernels **ret, struct error *err)
{
        const struct kernels *k;
        int r = 0;

        if (strcmp(name, "reference") == 0)
                k = &kernels_reference;
        else if (strcmp(name, "cpu") == 0)
                k = cpu_table();
        else if (strcmp(name, "cuda") == 0 || strcmp(name, "cuda-emu") == 0 || strcmp(name, "cuda-asan") == 0 ||
                 strcmp(name, "cuda-race") == 0)
                r = module_load(name, &k, err);
        else
                r = error_set(err, -EINVAL, "", "expected \"reference\", \"cpu\" or \"cuda\"");
        if (r < 0)
                return r;
        assert(table_complete(k));
        *ret = k;
        return 0;
}

/* ---- the dry table */

#define KERNEL(op)                                                                                                     \
        static void dry_##op(struct stream *s, const struct op##_args *args)                                           \
        {                                                                                                              \
                (void)s;                                                                                               \
                (void)args;                                                                                            \
        }
#include "kernels/kernels.def"
#undef KERNEL

static void *dry_memory_new(struct device *d, size_t bytes)
{
        (void)d;
        (void)bytes;
        return NULL;
}

static void dry_memory_free(struct device *d, void *p)
{
        (void)d;
        (void)p;
}

static void dry_copy_in(struct stream *s, void *dst, const void *src, size_t bytes)
{
        (void)s;
        (void)dst;
        (void)src;
        (void)bytes;
}

static void dry_copy_out(struct stream *s, void *dst, const void *src, size_t bytes)
{
        dry_copy_in(s, dst, src, bytes);
}

static int dry_stream_sync(struct stream *s, struct error *err)
{
        (void)s;
        (void)err;
        return 0;
}

/* No event and no graph: NULL, which the real _free takes. */
static int dry_event_new(struct device *d, struct event **ret, struct error *err)
{
        (void)d;
        (void)err;
        *ret = NULL;
        return 0;
}

static void dry_event(struct stream *s, struct event *e)
{
        (void)s;
        (void)e;
}

static int dry_graph_begin(struct stream *s, struct error *err)
{
        (void)s;
        (void)err;
        return 0;
}

static int dry_graph_end(struct stream *s, struct graph **ret, struct error *err)
{
        (void)s;
        (void)err;
        *ret = NULL;
        return 0;
}

static void dry_graph_launch(struct stream *s, const struct graph *g)
{
        (void)s;
        (void)g;
}

/* Plans stay the real ones: they know their workspaces, and making them takes no device memory. */
void kernels_dry(const struct kernels *k, struct kernels *ret_dry)
{
        *ret_dry = *k;
        ret_dry->memory_new = dry_memory_new;
        ret_dry->memory_free = dry_memory_free;
        ret_dry->stream_sync = dry_stream_sync;
        ret_dry->copy_in = dry_copy_in;
        ret_dry->copy_out = dry_copy_out;
        ret_dry->event_new = dry_event_new;
        ret_dry->event_record = dry_event;
        ret_dry->stream_wait = dry_event;
        ret_dry->graph_begin = dry_graph_begin;
        ret_dry->graph_end = dry_graph_end;
        ret_dry->graph_launch = dry_graph_launch;
#define KERNEL(op) ret_dry->op = dry_##op;
#include "kernels/kernels.def"
#undef KERNEL
}
