/* A table that measures: each operation is waited for and its time added to its row, with its cost. A recording's
 * operations run when it is launched, where they cannot be told apart: a graph is one row, its calls its launches. */
#include "kernels/cost.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum {
#define KERNEL(op) OP_##op,
#include "kernels/kernels.def"
#undef KERNEL
        OP_GRAPH,
        OP_N
};

static const char *const names[OP_N] = {
#define KERNEL(op) [OP_##op] = #op,
#include "kernels/kernels.def"
#undef KERNEL
        [OP_GRAPH] = "graph_launch",
};

/* One at a time in a process, on one thread (cost.h): a table's operations know no more than their stream. */
static struct {
        const struct kernels *real;
        bool recording;
        struct timing_row rows[OP_N];
} timed;

static double now(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add(int op, struct stream *s, double start, struct cost cost)
{
        struct timing_row *row = &timed.rows[op];

        (void)timed.real->stream_sync(s, NULL); /* a failure stays for who asks */
        row->calls++;
        row->seconds += now() - start;
        row->flop += cost.flop;
        row->bytes += cost.bytes;
}

#define KERNEL(op)                                                                                                     \
        static void timed_##op(struct stream *s, const struct op##_args *args)                                         \
        {                                                                                                              \
                double start = now();                                                                                  \
                                                                                                                       \
                if (timed.real->range_begin)                                                                           \
                        timed.real->range_begin(#op);                                                                  \
                timed.real->op(s, args);                                                                               \
                if (!timed.recording)                                                                                  \
                        add(OP_##op, s, start, cost_##op(args));                                                       \
                if (timed.real->range_end)                                                                             \
                        timed.real->range_end();                                                                       \
        }
#include "kernels/kernels.def"
#undef KERNEL

static int timed_graph_begin(struct stream *s, struct error *err)
{
        int r = timed.real->graph_begin(s, err);

        timed.recording = timed.recording || r >= 0;
        return r;
}

static int timed_graph_end(struct stream *s, struct graph **ret, struct error *err)
{
        timed.recording = false;
        return timed.real->graph_end(s, ret, err);
}

static void timed_graph_launch(struct stream *s, const struct graph *g)
{
        double start = now();

        timed.real->graph_launch(s, g);
        add(OP_GRAPH, s, start, (struct cost){0});
}

void kernels_timed_begin(const struct kernels *real, struct kernels *ret_timed)
{
        memset(&timed, 0, sizeof(timed));
        timed.real = real;
        for (int i = 0; i < OP_N; i++)
                timed.rows[i].name = names[i];
        *ret_timed = *real;
        ret_timed->graph_begin = timed_graph_begin;
        ret_timed->graph_end = timed_graph_end;
        ret_timed->graph_launch = timed_graph_launch;
#define KERNEL(op) ret_timed->op = timed_##op;
#include "kernels/kernels.def"
#undef KERNEL
}

static int dearest_first(const void *a, const void *b)
{
        double x = ((const struct timing_row *)a)->seconds, y = ((const struct timing_row *)b)->seconds;

        return x < y ? 1 : x > y ? -1 : 0;
}

int kernels_timed_end(struct timing_row **ret_rows, size_t *ret_n, struct error *err)
{
        struct timing_row *rows = calloc(OP_N, sizeof(*rows));
        size_t n = 0;

        if (!rows)
                return error_set(err, -ENOMEM, "", "out of memory");
        for (int i = 0; i < OP_N; i++)
                if (timed.rows[i].calls > 0)
                        rows[n++] = timed.rows[i];
        qsort(rows, n, sizeof(*rows), dearest_first);
        timed.real = NULL;
        *ret_rows = rows;
        *ret_n = n;
        return 0;
}
