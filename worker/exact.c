/* Evaluation by the exact likelihood. What is done is kept in the job's folder from time to time, so that an attempt
 * after a kill goes on from there. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/exact.h"
#include "engine/inspect.h"
#include "worker/task.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEPT_NAME "ode-results.bin"
#define KEEP_US (10 * US_PER_S)
#define RESULTS_MAX ((int64_t)1 << 26)

struct exact_task {
        struct task *task;
        struct exact_evaluation what;
        struct flow_result *results;
        struct task_progress progress;
        int64_t kept_us;   /* monotonic */
        int64_t kept_done; /* how many results were there then */
};

/* What kept results are of: the file's first bytes. Native byte order: the file is read where it was written. */
struct kept_header {
        char format[16];
        char identity[DIGEST_SIZE], checkpoint[DIGEST_SIZE], data[DIGEST_SIZE];
        char padding[5];
        int64_t n_images, n_samples;
};

static struct kept_header header_of(const struct exact_task *x)
{
        const struct assignment *a = x->task->assignment;
        struct kept_header h = {.format = "mulund-ode-1", .n_images = x->what.n_images, .n_samples = x->what.n_samples};

        (void)snprintf(h.identity, sizeof h.identity, "%s", a->identity);
        (void)snprintf(h.checkpoint, sizeof h.checkpoint, "%s", a->checkpoints[0].digest);
        (void)snprintf(h.data, sizeof h.data, "%s", x->task->data);
        return h;
}

static int64_t n_results(const struct exact_task *x)
{
        return x->what.n_images * x->what.n_samples;
}

static int64_t count_done(const struct exact_task *x)
{
        int64_t n = 0;

        for (int64_t i = 0; i < n_results(x); i++)
                n += x->results[i].n_evaluations != 0;
        return n;
}

static bool is_result(const struct flow_result *r)
{
        return r->n_evaluations >= 0 && r->n_rejected >= 0 && !r->failed &&
               (!r->n_evaluations || (isfinite(r->log_p) && isfinite(r->log_q) && isfinite(r->kl)));
}

/* A file that is not what this attempt would have written is passed over: it costs time, not truth. */
static int read_kept(struct exact_task *x, struct error *err)
{
        size_t bytes = (size_t)n_results(x) * sizeof *x->results;
        _cleanup_(buf_done) struct buf b = BUF_INIT(sizeof(struct kept_header) + bytes);
        struct kept_header h = header_of(x);
        char path[PATH_MAX];
        struct error inner;

        task_path(x->task, KEPT_NAME, path, sizeof path);
        if (file_read(path, &b, &inner) < 0) {
                if (inner.code != -ENOENT)
                        log_warning("%s: %s; the evaluation begins anew", path, inner.text);
                return inner.code == -ENOMEM ? error_set(err, -ENOMEM, NULL, "%s", inner.text) : 0;
        }
        if (b.size != sizeof h + bytes || memcmp(b.data, &h, sizeof h) != 0) {
                log_warning("%s is not of this evaluation, which begins anew", path);
                return 0;
        }
        memcpy(x->results, b.data + sizeof h, bytes);
        for (int64_t i = 0; i < n_results(x); i++)
                if (!is_result(&x->results[i]))
                        x->results[i] = (struct flow_result){0};
        log_info("%lld of %lld trajectories were done before", (long long)count_done(x), (long long)n_results(x));
        return 0;
}

static int keep(struct exact_task *x, struct error *err)
{
        struct kept_header h = header_of(x);
        struct file_writer *w = NULL;
        char path[PATH_MAX];
        int r;

        task_path(x->task, KEPT_NAME, path, sizeof path);
        r = file_writer_new(path, &w, err);
        if (r >= 0)
                r = file_writer_append(w, &h, sizeof h, err);
        if (r >= 0)
                r = file_writer_append(w, x->results, (size_t)n_results(x) * sizeof *x->results, err);
        if (r >= 0)
                r = file_writer_commit(w, NULL, NULL, err);
        (void)file_writer_free(w);
        x->kept_us = clock_monotonic_us();
        x->kept_done = count_done(x);
        return r;
}

/* Progress is said in images. A disk without room is no reason to end: the results are in memory. */
static int between(void *user, int64_t done, int64_t all, struct error *err)
{
        struct exact_task *x = user;
        int64_t k = x->what.n_samples;
        struct error inner;
        int r = task_between(&x->progress, done / k, all / k, err);

        if (task_leads(x->task) && (r < 0 || clock_monotonic_us() - x->kept_us >= KEEP_US) &&
            count_done(x) > x->kept_done && keep(x, &inner) < 0)
                log_warning("%s: %s; what is done so far is not kept", inner.path, inner.text);
        return r;
}

struct summary {
        double mean, published, latent, flow, standard_error;
        double evaluations, rejected;
        int64_t most;
};

static struct summary summarise(const struct exact_task *x)
{
        struct summary s = {0};
        int64_t n = x->what.n_images, k = x->what.n_samples;
        bool published = x->task->config.ode_constants == ODE_CONSTANTS_PUBLISHED;
        double squares = 0;

        for (int64_t i = 0; i < n; i++) {
                struct exact_bpd b = exact_bpd(x->results + i * k, k, x->what.dequantisation);

                s.mean += b.exact / (double)n;
                s.published += b.published / (double)n;
                s.latent += b.latent / (double)n;
                s.flow += (published ? b.published - b.latent : b.flow) / (double)n;
        }
        for (int64_t i = 0; i < n * k; i++) {
                s.evaluations += (double)x->results[i].n_evaluations / (double)(n * k);
                s.rejected += (double)x->results[i].n_rejected / (double)(n * k);
                s.most = MAX(s.most, x->results[i].n_evaluations);
        }
        /* the constants are the same for all images, and so the spread is, too */
        for (int64_t i = 0; i < n; i++)
                squares += pow(exact_bpd(x->results + i * k, k, x->what.dequantisation).exact - s.mean, 2);
        s.standard_error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : NAN;
        return s;
}

static int write_table(struct exact_task *x, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 31);
        int64_t k = x->what.n_samples;
        int r = buf_printf(&b, err, "image,bpd,bpd_published,latent,flow,evaluations,rejected\n");

        for (int64_t i = 0; i < x->what.n_images && r >= 0; i++) {
                struct exact_bpd bpd = exact_bpd(x->results + i * k, k, x->what.dequantisation);
                int64_t evaluations = 0, rejected = 0;

                for (int64_t j = i * k; j < (i + 1) * k; j++) {
                        evaluations += x->results[j].n_evaluations;
                        rejected += x->results[j].n_rejected;
                }
                r = buf_printf(&b, err, "%lld,%.9g,%.9g,%.9g,%.9g,%lld,%lld\n", (long long)i, bpd.exact, bpd.published,
                               bpd.latent, bpd.flow, (long long)evaluations, (long long)rejected);
        }
        return r < 0 ? r : task_write_table(x->task, BPD_TABLE, &b, err);
}

/* How the number came about: what another number must share to be compared with it. */
static json_t *method_json(const struct exact_task *x, const struct summary *s)
{
        static const char *const latents[] = {
                [LATENT_TOPK] = "hard top k", [LATENT_GUMBEL] = "largest", [LATENT_GAUSSIAN] = "mean"};
        const struct config *c = &x->task->config;

        return json_pack("{s:s, s:f, s:f, s:I, s:s, s:s, s:s, s:b, s:s, s:f, s:f, s:s, s:s, s:s, s:{s:f, s:I, s:f}}",
                         "constants", ode_constants_names[c->ode_constants], "bpd_exact", s->mean, "bpd_published",
                         s->published, "n_samples", (json_int_t)x->what.n_samples, "dequantisation",
                         ode_noise_names[c->ode_dequantisation], "latent",
                         c->vdm_type == VDM_VDM ? "none" : latents[c->latent_type], "probe",
                         ode_probe_names[c->ode_probe], "fresh_probe", c->ode_fresh_probe, "solver",
                         ode_solver_names[c->ode_solver], "rtol", c->ode_rtol, "atol", c->ode_atol, "step_size",
                         ode_step_names[c->ode_step], "step_control", ode_control_names[c->ode_control], "error_norm",
                         ode_norm_names[c->ode_norm], "evaluations", "mean", s->evaluations, "most",
                         (json_int_t)s->most, "rejected_steps", s->rejected);
}

static int report(struct exact_task *x, int64_t start_us, struct error *err)
{
        struct summary s = summarise(x);
        double bpd = x->task->config.ode_constants == ODE_CONSTANTS_PUBLISHED ? s.published : s.mean;
        _cleanup_json_ json_t *method = method_json(x, &s), *json = NULL;

        json = task_evaluation_json(x->task, bpd, s.standard_error,
                                    json_pack("{s:f, s:f}", "latent", s.latent, "flow", s.flow), x->what.n_images,
                                    start_us);
        if (!json || !method || json_object_update(json, method) < 0)
                return error_set(err, -ENOMEM, NULL, "no memory for the result");
        log_info("%.5f bits per dimension on %lld images (standard error %.5f), %.1f evaluations and %.1f rejected "
                 "steps a trajectory",
                 bpd, (long long)x->what.n_images, s.standard_error, s.evaluations, s.rejected);
        return reporter_done(x->task->reporter, json, err);
}

static struct exact_evaluation evaluation_of(const struct task *t)
{
        static const enum flow_solver solvers[] = {[ODE_SOLVER_DORMAND_PRINCE] = FLOW_DORMAND_PRINCE,
                                                   [ODE_SOLVER_TSITOURAS] = FLOW_TSITOURAS,
                                                   [ODE_SOLVER_BOGACKI_SHAMPINE] = FLOW_BOGACKI_SHAMPINE};
        const struct config *c = &t->config;

        return (struct exact_evaluation){
                .split = c->evaluation_split,
                .weights = c->evaluation_weights,
                .n_images = task_evaluation_images(t),
                .n_samples = c->ode_n_samples,
                .seed = (uint32_t)c->evaluation_seed,
                .dequantisation =
                        c->ode_dequantisation == ODE_NOISE_UNIFORM ? DEQUANTISE_UNIFORM : DEQUANTISE_TRUNCATED,
                .solve = {.solver = solvers[c->ode_solver],
                          .rtol = c->ode_rtol,
                          .atol = c->ode_atol,
                          /* Hairer, Norsett & Wanner IV.2: 0.4 / q at most; theirs for order 5 is 0.04 */
                          .beta = c->ode_control == ODE_CONTROL_PI ? 0.2 / flow_tableaus[solvers[c->ode_solver]].order
                                                                   : 0,
                          .shared = c->ode_step == ODE_STEP_BATCH,
                          .apart = c->ode_norm == ODE_NORM_IMAGE,
                          .probe = c->ode_probe == ODE_PROBE_GAUSSIAN ? PROBE_GAUSSIAN : PROBE_RADEMACHER,
                          .probe_each = c->ode_fresh_probe}};
}

static int inspect(struct exact_task *x, struct inspector *v, struct error *err)
{
        int64_t n = x->what.n_images, k = x->what.n_samples;
        _cleanup_(freep) double *bpd = calloc((size_t)n, sizeof *bpd);

        if (!bpd)
                return error_set(err, -ENOMEM, NULL, "no memory for the inspection");
        for (int64_t i = 0; i < n; i++)
                bpd[i] = exact_bpd(x->results + i * k, k, x->what.dequantisation).exact;
        return task_inspect(x->task, v, bpd, n, err);
}

static int run(struct exact_task *x, struct exact *v, struct error *err)
{
        const struct between progress = {between, x};
        int r = task_leads(x->task) ? read_kept(x, err) : 0;

        if (r >= 0)
                r = ranks_agree(x->task->rt, x->results, (size_t)n_results(x) * sizeof *x->results, err);

        x->progress = (struct task_progress){x->task, clock_monotonic_us()};
        x->kept_us = x->progress.start_us;
        x->kept_done = count_done(x);
        if (r >= 0)
                r = exact_run(v, x->task->dataset, &x->what, x->results, &progress, err);
        return r < 0 ? r : write_table(x, err);
}

int task_evaluate_exact(struct task *t, struct error *err)
{
        struct exact_task x = {.task = t, .what = evaluation_of(t)};
        _cleanup_(exact_freep) struct exact *v = NULL;
        _cleanup_(inspector_freep) struct inspector *inspector = NULL;
        int64_t start = clock_monotonic_us();
        struct runtime_need need = {0};
        int r = 0;

        if (n_results(&x) > RESULTS_MAX)
                return error_set(err, -EINVAL, "/evaluation/ode/n_samples",
                                 "%lld images of %lld samples are more than %lld", (long long)x.what.n_images,
                                 (long long)x.what.n_samples, (long long)RESULTS_MAX);
        x.results = calloc((size_t)n_results(&x), sizeof *x.results);
        if (!x.results)
                r = error_set(err, -ENOMEM, NULL, "no memory for %lld results", (long long)n_results(&x));
        if (r >= 0)
                r = exact_new(t->rt, MIN(t->config.batch_size_eval, n_results(&x)), &v, &need, err);
        if (r >= 0 && t->config.evaluation_inspect)
                r = inspector_new(t->rt, MIN(t->config.batch_size_eval, x.what.n_images), &inspector, &need, err);
        if (r >= 0)
                r = task_load(t, x.what.weights, &need, x.what.n_images, err);
        if (r >= 0)
                r = exact_bind(v, err);
        if (r >= 0 && inspector)
                r = inspector_bind(inspector, err);
        if (r >= 0)
                r = run(&x, v, err);
        if (r >= 0 && inspector)
                r = inspect(&x, inspector, err);
        if (r >= 0)
                r = report(&x, start, err);
        free(x.results);
        return r;
}
