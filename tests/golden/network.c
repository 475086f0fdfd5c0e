#include "tests/golden/network.h"

#include "engine/dataset.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

float *upload_normal(struct golden *g, const char *name, int64_t n)
{
        _cleanup_(freep) float *host = golden_normal(name, n);

        return golden_upload(g, host, (size_t)n * sizeof *host);
}

void *upload_images(struct golden *g, int64_t batch)
{
        int64_t n = batch * DIMENSIONS;
        _cleanup_(freep) double *u = golden_uniform("input/x", n);
        _cleanup_(freep) uint8_t *x = malloc((size_t)n);

        assert(x);
        for (int64_t i = 0; i < n; i++)
                x[i] = (uint8_t)floor(u[i] * 256);
        return golden_upload(g, x, (size_t)n);
}

int network_open(struct golden *g, int64_t m, bool keep, void (*f)(struct model *, void *), void *user,
                 struct network *ret)
{
        _cleanup_(freep) float *host = NULL;
        struct error err;
        size_t bytes;
        int r;

        *ret = (struct network){.g = g};
        r = params_new(&g->config, &ret->layout, &err);
        if (r == -ENOTSUP || r == -ENODEV) {
                (void)printf("SKIPPED %s: %s: %s\n", g->folder, err.path, err.text);
                return SKIPPED;
        }
        if (r >= 0)
                r = model_new(g->k, g->device, g->stream, ret->layout, &g->config, m, g->config.precision, &ret->model,
                              &err);
        if (r < 0)
                goto fail;
        host = golden_zeros(ret->layout->n_values);
        params_hash(ret->layout, (float)g->gain, host);
        ret->params = golden_upload(g, host, (size_t)ret->layout->n_values * sizeof *host);
        ret->grads = golden_device(g, ret->layout->n_values);
        ret->model->pass.params = ret->params;
        ret->model->pass.grads = ret->grads;
        ret->model->pass.keep = keep;
        r = model_dry_run(ret->model, f, user, &bytes, &err);
        if (r < 0)
                goto fail;
        r = arena_new(golden_upload(g, NULL, bytes), bytes, &ret->arena, &err);
        if (r < 0)
                goto fail;
        ret->model->pass.arena = ret->arena;
        f(ret->model, user);
        return 0;
fail:
        (void)printf("FAILED %s: %s\n", g->folder, err.text);
        return 1;
}

void network_close(struct network *n)
{
        (void)model_free(n->model);
        (void)params_free(n->layout);
        (void)arena_free(n->arena);
}
