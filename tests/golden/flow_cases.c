/* The probability flow and what is made with it: its drift, samples, the exact likelihood. */
#include "tests/golden/network.h"

#include "engine/dataset.h"
#include "engine/exact.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The k largest of each row of uniform(input/e). */
static float *upload_hard_latent(struct golden *g, int64_t m, int64_t size, int64_t k)
{
        _cleanup_(freep) double *u = golden_uniform("input/e", m * size);
        _cleanup_(freep) float *e = golden_zeros(m * size);

        for (int64_t i = 0; i < m; i++)
                for (int64_t a = 0; a < size; a++) {
                        int64_t larger = 0;

                        for (int64_t b = 0; b < size; b++)
                                larger += u[i * size + b] > u[i * size + a];
                        e[i * size + a] = larger < k;
                }
        return golden_upload(g, e, (size_t)(m * size) * sizeof *e);
}

/* The drift of the probability flow and the estimate of its divergence. */
struct flow {
        float *x, *e, *t, *probe, *k, *dx;
};

static void flow_pass(struct model *model, void *user)
{
        struct flow *f = user;
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);

        p->grads = NULL;
        schedule_begin(p, &model->schedule, f->e);
        model_flow(model, f->x, NULL, f->t, f->e, false, f->probe, f->k, f->dx);
        arena_release_since(p->arena, mark);
}

/* -1 where the uniform is below 1/2, else 1 */
static float *upload_probe(struct golden *g, const char *name, int64_t n)
{
        _cleanup_(freep) double *u = golden_uniform(name, n);
        _cleanup_(freep) float *probe = golden_zeros(n);

        for (int64_t i = 0; i < n; i++)
                probe[i] = u[i] < 0.5 ? -1 : 1;
        return golden_upload(g, probe, (size_t)n * sizeof *probe);
}

int run_flow(struct golden *g)
{
        static const char *const times[] = {"0.0", "0.1", "0.5", "0.9", "1.0"};
        int64_t m = g->batch, n = m * DIMENSIONS;
        _cleanup_(freep) float *t = golden_zeros(m), *dx = golden_zeros(n), *probe = golden_zeros(n),
                               *divergence = golden_zeros(m);
        struct flow f = {.x = upload_normal(g, "input/z", n),
                         .e = g->config.vdm_type == VDM_VDM
                                      ? NULL
                                      : upload_hard_latent(g, m, g->config.latent_size, g->config.latent_k),
                         .t = golden_device(g, m),
                         .probe = upload_probe(g, "input/probe", n),
                         .k = golden_device(g, n),
                         .dx = golden_device(g, n)};
        char name[32];

        golden_download(g, f.probe, probe, (size_t)n * sizeof *probe);
        for (size_t i = 0; i < ARRAY_LEN(times); i++) {
                struct network net;
                int r;

                for (int64_t j = 0; j < m; j++) {
                        t[j] = strtof(times[i], NULL);
                        divergence[j] = 0;
                }
                golden_write(g, f.t, t, (size_t)m * sizeof *t);
                r = network_open(g, m, true, flow_pass, &f, &net);
                if (r)
                        return r;
                (void)snprintf(name, sizeof name, "drift_%s", times[i]);
                golden_device_tensor(g, name, f.k, n);
                golden_download(g, f.dx, dx, (size_t)n * sizeof *dx);
                for (int64_t j = 0; j < m; j++) {
                        double sum = 0;

                        for (int64_t d = j * DIMENSIONS; d < (j + 1) * DIMENSIONS; d++)
                                sum += (double)dx[d] * probe[d];
                        divergence[j] = (float)sum;
                }
                (void)snprintf(name, sizeof name, "divergence_%s", times[i]);
                golden_tensor(g, name, divergence, m);
                network_close(&net);
        }
        return 0;
}

struct sampling {
        struct golden *g;
        int64_t n_steps, m;
        float *z, *e, *net, *t, *s; /* times as device memory [n_steps + 1, m] */
        const float **eps;          /* [n_steps] */
        float *z_first;
        uint8_t *x;
};

static void sampling_pass(struct model *model, void *user)
{
        struct sampling *c = user;
        struct pass *p = &model->pass;
        struct schedule *s = &model->schedule;
        struct schedule_at from, to;
        int64_t n = c->m * DIMENSIONS;
        size_t mark = arena_mark(p->arena);

        schedule_begin(p, s, c->e);
        for (int64_t i = 0; i < c->n_steps; i++) {
                schedule_evaluate(p, s, c->t + i * c->m, &from);
                schedule_evaluate(p, s, c->t + (i + 1) * c->m, &to);
                model_denoise(model, c->z, c->e, &from, c->net);
                RUN(p, ancestral_step, .m = c->m, .d = DIMENSIONS, .g = s->d,
                    .parameterisation = model->parameterisation, .gamma_t = from.gamma, .gamma_s = to.gamma,
                    .net = c->net, .eps = c->eps[i], .z = c->z);
                if (i == 0)
                        RUN(p, copy_2d, .rows = 1, .columns = n, .x = c->z, .y = c->z_first, .scale = 1);
                if (i == c->n_steps - 1)
                        RUN(p, decode, .m = c->m, .d = DIMENSIONS, .g = s->d, .z = c->z, .gamma_0 = to.gamma,
                            .x = c->x);
        }
        arena_release_since(p->arena, mark);
}

int run_sampling(struct golden *g)
{
        int64_t m = g->batch, n = m * DIMENSIONS, T = json_integer_value(json_object_get(g->json, "T"));
        _cleanup_(freep) const float **eps = calloc((size_t)T, sizeof *eps);
        _cleanup_(freep) float *times = golden_zeros((T + 1) * m), *floats = golden_zeros(n);
        _cleanup_(freep) uint8_t *bytes = malloc((size_t)n);
        struct sampling c = {.g = g,
                             .n_steps = T,
                             .m = m,
                             .eps = eps,
                             .z = upload_normal(g, "noise/z_1", n),
                             .net = golden_device(g, n),
                             .z_first = golden_device(g, n),
                             .x = golden_upload(g, NULL, (size_t)n)};
        struct network net;
        char name[64];
        int r;

        assert(eps && bytes);
        c.e = upload_hard_latent(g, m, g->config.latent_size, 15);
        for (int64_t i = 0; i < (T + 1) * m; i++)
                times[i] = (float)((double)(T - i / m) / (double)T);
        c.t = golden_upload(g, times, (size_t)((T + 1) * m) * sizeof *times);
        for (int64_t i = 0; i < T; i++) {
                (void)snprintf(name, sizeof name, "noise/sample%lld", (long long)i);
                eps[i] = upload_normal(g, name, n);
        }
        r = network_open(g, m, false, sampling_pass, &c, &net);
        if (r)
                return r;
        golden_device_tensor(g, "z_1", c.z_first, n);
        (void)snprintf(name, sizeof name, "z_%lld", (long long)T);
        golden_device_tensor(g, name, c.z, n);
        golden_download(g, c.x, bytes, (size_t)n);
        for (int64_t i = 0; i < n; i++)
                floats[i] = bytes[i];
        golden_tensor(g, "x", floats, n);
        network_close(&net);
        return 0;
}

/* ---- the exact likelihood: the golden file's own noise and probes, one importance sample after another */

struct exact_case {
        struct golden *g;
        struct flow_memory memory;
        struct flow_solve solve;
        float *f, *e, *kl;
        int64_t n_evaluations;
};

static bool exact_done(struct exact_case *x)
{
        struct trajectory at[64];
        bool done = true;

        golden_download(x->g, x->memory.trajectories, at, (size_t)x->g->batch * sizeof *at);
        for (int64_t i = 0; i < x->g->batch; i++)
                done &= at[i].done;
        x->n_evaluations = at[0].n_evaluations;
        return done;
}

static void exact_pass(struct model *model, void *user)
{
        struct exact_case *x = user;
        struct pass *p = &model->pass;
        size_t mark = arena_mark(p->arena);

        p->grads = NULL;
        model_latent(model, x->f, x->e, x->kl);
        schedule_begin(p, &model->schedule, x->e);
        do
                flow_step(model, &x->memory, x->e, &x->solve);
        while (p->k == x->g->k && !exact_done(x)); /* a dry run has no end */
        arena_release_since(p->arena, mark);
}

static struct flow_memory exact_memory(struct golden *g, int64_t m)
{
        int64_t n = m * DIMENSIONS;

        return (struct flow_memory){.x = golden_device(g, n),
                                    .x_low = golden_device(g, n),
                                    .y = golden_device(g, n),
                                    .y_low = golden_device(g, n),
                                    .k = golden_device(g, FLOW_STAGES * n),
                                    .dx = golden_device(g, n),
                                    .probe = golden_device(g, n),
                                    .t = golden_device(g, m),
                                    .trajectories = golden_upload(g, NULL, (size_t)m * sizeof(struct trajectory))};
}

/* What log q has beside the noise's own part, as published. */
#define LOG_Q_ALL (-DIMENSIONS * (0.5 * log(2 * M_PI) + log(0.9974613)))

/* Spec 7, 1: f + exp(-13.3 / 2) u, u normal and clamped to [-3, 3] here. Returns log q of each image. */
static void exact_dequantise(struct exact_case *x, int k, const float *f, double *ret_log_q)
{
        int64_t m = x->g->batch, n = m * DIMENSIONS;
        _cleanup_(freep) float *high = golden_zeros(n), *low = golden_zeros(n), *u = NULL;
        char name[64];

        (void)snprintf(name, sizeof name, "noise/dequantise%d", k);
        u = golden_normal(name, n);
        for (int64_t i = 0; i < m; i++)
                ret_log_q[i] = LOG_Q_ALL;
        for (int64_t i = 0; i < n; i++) {
                double clamped = fmin(fmax(u[i], -3), 3), value = f[i] + exp(-13.3 / 2) * clamped;

                high[i] = (float)value;
                low[i] = (float)(value - high[i]);
                ret_log_q[i / DIMENSIONS] -= 0.5 * clamped * clamped;
        }
        golden_write(x->g, x->memory.x, high, (size_t)n * sizeof *high);
        golden_write(x->g, x->memory.x_low, low, (size_t)n * sizeof *low);
}

static void exact_log_p(struct exact_case *x, double *ret)
{
        int64_t m = x->g->batch, n = m * DIMENSIONS;
        _cleanup_(freep) float *high = golden_zeros(n), *low = golden_zeros(n);
        struct trajectory at[64];

        golden_download(x->g, x->memory.x, high, (size_t)n * sizeof *high);
        golden_download(x->g, x->memory.x_low, low, (size_t)n * sizeof *low);
        golden_download(x->g, x->memory.trajectories, at, (size_t)m * sizeof *at);
        for (int64_t i = 0; i < m; i++)
                ret[i] = at[i].l - DIMENSIONS * 0.5 * log(2 * M_PI);
        for (int64_t i = 0; i < n; i++)
                ret[i / DIMENSIONS] -= 0.5 * pow((double)high[i] + low[i], 2);
}

static void exact_results(struct golden *g, const double *log_p, const double *log_q, const float *kl, int64_t K)
{
        int64_t m = g->batch;
        _cleanup_(freep) float *p = golden_zeros(K * m), *q = golden_zeros(K * m), *bpd = golden_zeros(m);
        struct flow_result results[64];
        char name[32];

        for (int64_t i = 0; i < K * m; i++) {
                p[i] = (float)log_p[i];
                q[i] = (float)log_q[i];
        }
        golden_tensor(g, "log_p", p, K * m);
        golden_tensor(g, "log_q", q, K * m);
        golden_tensor(g, "kl", kl, m);
        for (int64_t n = 1; n <= K; n += MAX(K - 1, (int64_t)1)) {
                for (int64_t i = 0; i < m; i++) {
                        for (int64_t j = 0; j < n; j++)
                                results[j] = (struct flow_result){
                                        .log_p = log_p[j * m + i], .log_q = log_q[j * m + i] - LOG_Q_ALL, .kl = kl[i]};
                        bpd[i] = (float)exact_bpd(results, n, DEQUANTISE_TRUNCATED).published;
                }
                (void)snprintf(name, sizeof name, "bpd_k%lld", (long long)n);
                golden_tensor(g, name, bpd, m);
        }
}

int run_exact(struct golden *g)
{
        int64_t m = g->batch, n = m * DIMENSIONS;
        int64_t K = json_integer_value(json_object_get(g->json, "K"));
        _cleanup_(freep) float *f = golden_zeros(n), *kl = golden_zeros(m);
        double log_p[64], log_q[64];
        struct exact_case x = {.g = g,
                               .memory = exact_memory(g, m),
                               .solve = {.rtol = json_number_value(json_object_get(g->json, "rtol")),
                                         .atol = json_number_value(json_object_get(g->json, "atol")),
                                         .shared = true,
                                         .divergence = true},
                               .f = golden_device(g, n),
                               .e = golden_device(g, m * g->config.latent_size),
                               .kl = golden_device(g, m)};
        struct pass p = {.k = g->k, .stream = g->stream};

        RUN(&p, encode_image, .n = n, .x = upload_images(g, m), .f = x.f);
        golden_download(g, x.f, f, (size_t)n * sizeof *f);
        for (int k = 0; k < K; k++) {
                struct trajectory fresh[64] = {{0}};
                struct network net;
                char name[64];
                int r;

                for (int64_t i = 0; i < m; i++)
                        fresh[i].fresh = 1;
                golden_write(g, x.memory.trajectories, fresh, (size_t)m * sizeof *fresh);
                exact_dequantise(&x, k, f, log_q + k * m);
                (void)snprintf(name, sizeof name, "noise/probe%d", k);
                x.memory.probe = upload_probe(g, name, n);
                r = network_open(g, m, true, exact_pass, &x, &net);
                if (r)
                        return r;
                if (k == 0) {
                        golden_download(g, x.kl, kl, (size_t)m * sizeof *kl);
                        golden_device_tensor(g, "z_1", x.memory.x, n);
                }
                exact_log_p(&x, log_p + k * m);
                if (x.n_evaluations !=
                    json_integer_value(json_array_get(json_object_get(g->json, "evaluations"), (size_t)k))) {
                        (void)printf("FAILED %s: %lld evaluations\n", g->folder, (long long)x.n_evaluations);
                        g->n_failed++;
                }
                network_close(&net);
        }
        exact_results(g, log_p, log_q, kl, K);
        return 0;
}
