#include "engine/program.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <math.h>

#define WINDOW_US 500000
/* What a dry run has for memory: it only asks whether there is any. */
#define NOWHERE ((void *)KERNELS_ALIGN)

void program_init(struct program *x, struct runtime *rt, int64_t n_rows)
{
        x->rt = rt;
        x->n_buffers = 0;
        program_buffer(x, &x->state, sizeof *x->state);
        program_buffer(x, &x->rows, (size_t)n_rows * sizeof *x->rows);
}

void program_buffer(struct program *x, void *place, size_t bytes)
{
        assert(x->n_buffers < PROGRAM_BUFFERS);
        x->buffers[x->n_buffers].place = place;
        x->buffers[x->n_buffers++].bytes = bytes;
}

int program_plan(struct program *x, int64_t m, enum precision precision, bool keep,
                 void (*body)(struct model *, void *user), void *user, struct runtime_need *need, struct error *err)
{
        size_t bytes;
        int r;

        for (size_t i = 0; i < x->n_buffers; i++) {
                need->buffer_bytes += x->buffers[i].bytes;
                *x->buffers[i].place = NOWHERE;
        }
        r = model_new(x->rt->k, x->rt->device, x->rt->stream, x->rt->layout, x->rt->config, m, precision, &x->model,
                      err);
        if (r < 0)
                return r;
        x->model->pass.keep = keep;
        x->model->pass.params = NOWHERE;
        x->model->pass.grads = keep ? NOWHERE : NULL;
        x->model->pass.state = x->state;
        x->model->pass.rows = x->rows;
        r = model_dry_run(x->model, body, user, &bytes, err);
        if (r >= 0)
                need->pass_bytes = MAX(need->pass_bytes, bytes);
        return r;
}

int program_bind(struct program *x, struct error *err)
{
        struct pass *p = &x->model->pass;

        for (size_t i = 0; i < x->n_buffers; i++) /* all are NULL or allocated, so that they can be freed */
                *x->buffers[i].place = NULL;
        for (size_t i = 0; i < x->n_buffers; i++)
                if (!(*x->buffers[i].place = runtime_memory(x->rt, x->buffers[i].bytes, err)))
                        return err->code;
        p->grads = p->keep ? x->rt->grads : NULL;
        p->state = x->state;
        p->rows = x->rows;
        return arena_new(x->rt->memory, x->rt->memory_bytes, &p->arena, err);
}

void program_done(struct program *x)
{
        for (size_t i = 0; i < x->n_buffers; i++)
                if (*x->buffers[i].place != NOWHERE)
                        x->rt->k->memory_free(x->rt->device, *x->buffers[i].place);
        if (x->model)
                x->model->pass.arena = arena_free(x->model->pass.arena);
        x->model = model_free(x->model);
        x->n_buffers = 0;
}

int program_record(struct program *x, void (*body)(struct model *, void *user), void *user, struct graph **ret,
                   struct error *err)
{
        int r = x->rt->k->graph_begin(x->rt->stream, err);

        if (r < 0)
                return r;
        body(x->model, user);
        return x->rt->k->graph_end(x->rt->stream, ret, err);
}

int program_window(struct program *x, const struct graph *g, int64_t most, int64_t *ret_n, struct error *err)
{
        const struct kernels *k = x->rt->k;
        double fit = x->launch_us > 0 ? fmax(WINDOW_US / x->launch_us, 1) : 1;
        int64_t n = (int64_t)fmin(fit, (double)most), start_us = clock_monotonic_us();
        int r = x->together ? ranks_agree(x->rt, &n, sizeof n, err) : 0;

        if (r < 0)
                return r;
        if (k->range_begin)
                k->range_begin("window");
        for (int64_t i = 0; i < n; i++)
                k->graph_launch(x->rt->stream, g);
        k->copy_out(x->rt->stream, &x->at, x->state, sizeof x->at);
        r = k->stream_sync(x->rt->stream, err);
        if (k->range_end)
                k->range_end();
        x->launch_us = (double)MAX(clock_monotonic_us() - start_us, (int64_t)1) / (double)n;
        *ret_n = n;
        return r;
}

int program_windows(struct program *x, const struct graph *g, int64_t n, struct progress progress,
                    const struct between *between, struct error *err)
{
        int64_t window = 0;
        int r = 0;

        for (int64_t done = 0; done < n && r >= 0; done += window) {
                r = program_window(x, g, n - done, &window, err);
                if (r >= 0 && between->f)
                        r = between->f(
                                between->user,
                                MIN(progress.first + (done + window) * progress.each / progress.per, progress.all),
                                progress.all, err);
        }
        return r < 0 ? r : 0;
}
