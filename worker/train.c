/* Training with all that happens between steps. At a boundary after step s: sample, evaluate, then save, so that a
 * checkpoint at s means that the rest was done; what it holds of the evaluation is said again when a later attempt
 * resumes there, since its points from s on replace those of the attempt before. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/inspect.h"
#include "engine/exact.h"
#include "engine/likelihood.h"
#include "engine/sampler.h"
#include "engine/trainer.h"
#include "worker/task.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ALL_SECTIONS ((1u << SECTION_N) - 1)

struct training {
        struct task *task;
        struct trainer *trainer;
        struct evaluator *evaluator; /* NULL without evaluations */
        struct sampler *sampler;
        struct runtime_need others; /* of these two */
        int64_t saved;              /* step of the newest checkpoint, -1: none */
        int64_t evaluated;          /* step of the newest evaluation, -1: none */
        struct bound_parts evaluation;
        double standard_error;
        bool checkpoint_asked;
        int64_t step_us, n_timed; /* time spent in steps, and how many, since the window of rates began */
        double images_per_second; /* NAN until known */
        double best;              /* bits per dimension of the best evaluation; INFINITY: none */
        int64_t best_step;        /* its step, if it was in this attempt */
        bool data_changed;        /* it goes on from a checkpoint that was trained on other data */
};

static int64_t evaluation_images(const struct config *c, const struct dataset *d)
{
        return MIN(c->num_steps_eval * c->batch_size_eval, dataset_count(d, SPLIT_TEST));
}

static int64_t sampler_batch(const struct config *c)
{
        return MIN(c->sampling_n_images, c->batch_size_eval);
}

/* The models of a training job, and what they need; the first rank samples. The trainer is the last: its parts fit into
 * what is left. */
static int make_models(struct training *x, struct runtime *rt, struct runtime_need *need, struct error *err)
{
        const struct config *c = rt->config;
        int r = rt->ranks.rank ? 0 : sampler_new(rt, sampler_batch(c), &x->sampler, need, err);

        if (r >= 0 && c->num_steps_eval)
                r = evaluator_new(rt, c->batch_size_eval, &x->evaluator, need, err);
        x->others = *need;
        return r < 0 ? r : trainer_new(rt, ALL_SECTIONS, &x->trainer, need, err);
}

/* What does not fit is refused with what would. */
static int allocate(struct training *x, struct runtime *rt, const struct runtime_need *need, struct error *err)
{
        int r = runtime_allocate(rt, ALL_SECTIONS, true, need, err);
        const size_t n = r == -ENOMEM ? strlen(err->text) : 0;

        char advice[256];

        if (n) {
                trainer_advise(rt, ALL_SECTIONS, &x->others, runtime_memory_share(rt), advice, sizeof advice);
                (void)snprintf(err->text + n, sizeof err->text - n, "; %s", advice);
        }
        return r;
}

static void free_models(struct training *x)
{
        x->trainer = trainer_free(x->trainer);
        x->evaluator = evaluator_free(x->evaluator);
        x->sampler = sampler_free(x->sampler);
}

/* ---- checkpoints */

static json_t *state_json(const struct training *x)
{
        json_t *state = json_pack("{s:o*}", "trainer", trainer_state(x->trainer));

        if (state && isfinite(x->best))
                (void)json_object_set_new(state, "best", json_from_real(x->best));
        if (state && x->evaluated >= 0)
                (void)json_object_set_new(state, "evaluation",
                                          json_pack("{s:I, s:o, s:o, s:o, s:o, s:o}", "step", (json_int_t)x->evaluated,
                                                    "bpd", json_from_real(x->evaluation.bpd), "recon",
                                                    json_from_real(x->evaluation.recon), "latent",
                                                    json_from_real(x->evaluation.latent), "diff",
                                                    json_from_real(x->evaluation.diff), "standard_error",
                                                    json_from_real(x->standard_error)));
        return state;
}

static int save(struct training *x, struct error *err)
{
        struct task *t = x->task;
        _cleanup_json_ json_t *state = state_json(x);
        _cleanup_(freep) char *text = NULL;
        char name[64], path[PATH_MAX], digest[DIGEST_SIZE];
        int64_t bytes;
        int r;

        if (x->saved == t->step || !task_leads(t)) {
                x->saved = t->step;
                return 0;
        }
        r = state ? task_add_origin(t, state, err) : -ENOMEM;
        text = r < 0 ? NULL : json_to_text(state);
        if (!text)
                return error_set(err, -ENOMEM, NULL, "no memory for the trainer's state");
        (void)snprintf(name, sizeof name, "step-%lld.safetensors", (long long)t->step);
        task_path(t, name, path, sizeof path);
        r = runtime_save(t->rt, path, t->step, text, digest, &bytes, err);
        if (r >= 0)
                r = reporter_artifact(t->reporter, ARTIFACT_CHECKPOINT, t->step, name, bytes, digest,
                                      x->evaluated == t->step ? x->evaluation.bpd : NAN, err);
        if (r >= 0)
                x->saved = t->step;
        return r;
}

static int take_state(struct training *x, int64_t step, const char *text, struct error *err)
{
        _cleanup_json_ json_t *state = NULL;
        json_t *trainer = NULL, *evaluation = NULL;
        int r = json_parse(text ? text : "{}", text ? strlen(text) : 2, &state, err);

        if (r >= 0)
                r = json_get_container(state, "", "trainer", JSON_OBJECT, &trainer, err);
        if (r == 0)
                return error_set(err, -EBADMSG, "/trainer", "expected an object");
        if (r >= 0)
                r = trainer_restore(x->trainer, step, trainer, err);
        if (r >= 0)
                r = json_get_real(state, "", "best", false, &x->best, err);
        if (r >= 0)
                r = json_get_container(state, "", "evaluation", JSON_OBJECT, &evaluation, err);
        if (r <= 0)
                return r;
        r = json_get_int(evaluation, "/evaluation", "step", 0, INT64_MAX, &x->evaluated, err);
        if (r >= 0)
                r = json_get_real(evaluation, "/evaluation", "bpd", true, &x->evaluation.bpd, err);
        if (r >= 0)
                r = json_get_real(evaluation, "/evaluation", "recon", true, &x->evaluation.recon, err);
        if (r >= 0)
                r = json_get_real(evaluation, "/evaluation", "latent", true, &x->evaluation.latent, err);
        if (r >= 0)
                r = json_get_real(evaluation, "/evaluation", "diff", true, &x->evaluation.diff, err);
        if (r >= 0)
                r = json_get_real(evaluation, "/evaluation", "standard_error", true, &x->standard_error, err);
        return r < 0 ? r : 0;
}

/* Weights that other images than these have made go on only if the user says so. */
static int check_data(struct training *x, const struct assignment_checkpoint *c, const char *trained_on,
                      struct error *err)
{
        const struct task *t = x->task;

        if (!trained_on[0])
                log_warning("%s does not say on which data it was trained", c->path);
        x->data_changed = trained_on[0] && strcmp(trained_on, t->data) != 0;
        if (!x->data_changed)
                return 0;
        log_warning("%s was trained on data with digest %s; these have %s", c->path, trained_on, t->data);
        if (t->assignment->accept_changed_data)
                return 0;
        return error_set(err, REPORTER_DATA, "/data/dataset",
                         "the checkpoint at step %lld was trained on other data (digest %s) than %s holds now (%s): "
                         "bring those back, or retry with \"accept_changed_data\": true",
                         (long long)c->step, trained_on, t->assignment->dataset_name, t->data);
}

/* What the file says of itself, then its values. */
static int take_checkpoint(struct training *x, const struct assignment_checkpoint *c, struct error *err)
{
        struct task *t = x->task;
        _cleanup_(freep) char *state = NULL;
        char trained_on[DIGEST_SIZE];
        int r = task_check_origin(t, c, trained_on, err);

        if (r >= 0)
                r = check_data(x, c, trained_on, err);
        if (r >= 0)
                r = runtime_load(t->rt, c->path, c->digest, &t->step, &state, err);
        return r < 0 ? r : take_state(x, t->step, state, err);
}

/* What another job logged, evaluated and saved is not this one's; what was measured on other data is measured again
 * where it is due. */
static void begin_from(struct training *x, bool other_run)
{
        if (other_run)
                (void)trainer_take_window(x->trainer);
        else
                x->saved = x->task->step;
        if (!other_run && !x->data_changed)
                return;
        x->evaluated = -1;
        x->best = INFINITY;
}

/* From the newest whole checkpoint, else from the seed. A torn, altered or foreign one is named in the log and passed
 * over. */
static int resume(struct training *x, struct error *err)
{
        struct task *t = x->task;
        const struct assignment *a = t->assignment;

        for (size_t i = 0; i < a->n_checkpoints; i++) {
                const struct assignment_checkpoint *c = &a->checkpoints[i];
                struct error inner = {0};
                int r = take_checkpoint(x, c, &inner);

                if (r >= 0) {
                        log_info("resuming from %s at step %lld", c->path, (long long)t->step);
                        begin_from(x, strcmp(c->identity, a->identity) != 0);
                        return 0;
                }
                log_warning("checkpoint refused: %s: %s", inner.path, inner.text);
                if (r != -EBADMSG && r != -ENOENT)
                        return error_set(err, r, inner.path, "%s", inner.text);
        }
        if (a->n_checkpoints)
                return error_set(err, -EBADMSG, NULL, "none of the %zu checkpoints can be used; the log says why",
                                 a->n_checkpoints);
        t->step = 0;
        return runtime_initialise(t->rt, (uint32_t)t->config.seed, err);
}

/* Every rank has read the same checkpoint, and goes on as the first does. */
static int agree_on_start(struct training *x, struct error *err)
{
        struct task *t = x->task;
        int64_t step = t->step;
        int r = ranks_agree(t->rt, &step, sizeof step, err);

        if (r >= 0 && step != t->step)
                return error_set(err, -EBADMSG, NULL, "the first rank goes on from step %lld, this one from %lld",
                                 (long long)step, (long long)t->step);
        return r;
}

/* ---- between steps */

static int say_evaluation(struct training *x, struct error *err)
{
        const struct {
                const char *name;
                double value;
        } rows[] = {{"eval/bpd", x->evaluation.bpd},
                    {"eval/bpd_recon", x->evaluation.recon},
                    {"eval/bpd_latent", x->evaluation.latent},
                    {"eval/bpd_diff", x->evaluation.diff},
                    {"eval/standard_error", x->standard_error}};
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(rows) && r >= 0; i++)
                r = reporter_scalar(x->task->reporter, x->evaluated, rows[i].name, rows[i].value, err);
        return r;
}

/* What a run that goes on says at its first step. */
static int say_beginning(struct training *x, struct error *err)
{
        const struct task *t = x->task;
        int r = 0;

        if (x->data_changed) /* for whoever looks at the curve */
                r = reporter_scalar(t->reporter, t->step, "train/data_changed", 1, err);
        if (r < 0)
                return r;
        if (x->evaluated == t->step && x->evaluator)
                r = say_evaluation(x, err);
        return r;
}

static int64_t steps_left(const struct training *x)
{
        return MAX(x->task->config.num_steps_train - x->task->step, 0);
}

static void say_progress(struct training *x)
{
        const struct config *c = &x->task->config;
        double rate = x->images_per_second;

        reporter_progress(x->task->reporter, x->task->step, c->num_steps_train, rate,
                          (double)(steps_left(x) * c->batch_size_train) / rate);
}

/* -ECANCELED when a stop was asked for. */
static int between(void *user, int64_t done, int64_t all, struct error *err)
{
        struct training *x = user;

        (void)done;
        (void)all;
        return task_poll(x->task, &x->checkpoint_asked, err);
}

static int between_alone(void *user, int64_t done, int64_t all, struct error *err)
{
        struct training *x = user;

        (void)done;
        (void)all;
        return task_poll_alone(x->task, &x->checkpoint_asked, err);
}

static int sample_grid(struct training *x, struct error *err)
{
        struct task *t = x->task;
        const struct config *c = &t->config;
        /* the published fixed latent while training, so that grids can be compared over time */
        struct sampling what = {.n_images = c->sampling_n_images,
                                .n_steps = c->sampling_n_steps,
                                .rtol = c->sampling_rtol,
                                .atol = c->sampling_atol,
                                .seed = (uint32_t)c->sampling_seed,
                                .weights = c->sampling_weights,
                                .latent = SAMPLING_LATENT_FIXED};
        _cleanup_(freep) uint8_t *images = malloc((size_t)what.n_images * IMAGE_BYTES);
        char name[64];
        int r;

        if (!images)
                return error_set(err, -ENOMEM, NULL, "no memory for the samples");
        r = sampler_run(x->sampler, &what, NULL, NULL, &(struct between){between_alone, x}, images, err);
        if (r < 0)
                return r;
        (void)snprintf(name, sizeof name, "samples-step-%lld.png", (long long)t->step);
        return task_write_picture(t, name, images, what.n_images, (int64_t)ceil(sqrt((double)what.n_images)), err);
}

static int evaluate(struct training *x, struct error *err)
{
        struct task *t = x->task;
        const struct config *c = &t->config;
        struct evaluation e = {.method = LIKELIHOOD_SPARSE,
                               .split = SPLIT_TEST,
                               .weights = WEIGHTS_EMA,
                               .n_images = evaluation_images(c, t->dataset),
                               .seed = (uint32_t)c->evaluation_seed};
        struct evaluation_result result;
        int r = evaluator_run(x->evaluator, t->dataset, &e, &(struct between){between, x}, &result, err);

        if (r < 0)
                return r;
        free(result.images);
        x->evaluation = result.mean;
        x->standard_error = result.standard_error;
        x->evaluated = t->step;
        if (result.mean.bpd < x->best) {
                x->best = result.mean.bpd;
                x->best_step = t->step;
        }
        log_info("step %lld: %.4f bits per dimension on %lld test images", (long long)t->step, result.mean.bpd,
                 (long long)e.n_images);
        return say_evaluation(x, err);
}

/* What is due after step s. -ECANCELED: stopped in the middle; the attempt that resumes at s does it all. */
static int boundary(struct training *x, struct error *err)
{
        struct task *t = x->task;
        const struct config *c = &t->config;
        bool last = t->step >= c->num_steps_train, due = t->step > 0 && (last || t->step % c->steps_per_eval == 0);
        int r = 0;

        if (due && x->evaluated != t->step) {
                r = task_after_alone(t, task_leads(t) ? sample_grid(x, err) : 0, err);
                if (r >= 0 && x->evaluator)
                        r = evaluate(x, err);
                else if (r >= 0)
                        x->evaluation = (struct bound_parts){NAN, NAN, NAN, NAN}, x->evaluated = t->step;
        }
        if (r >= 0 && t->step > 0 &&
            (last || x->checkpoint_asked || t->step % c->steps_per_save == 0 || x->best_step == t->step))
                r = save(x, err);
        if (r >= 0)
                x->checkpoint_asked = false;
        return r;
}

/* The products' speed that the device's maker promises for the configuration's precision; 0: not known. */
static double peak_flops(const struct task *t)
{
        const struct device_info *i = &t->rt->info;
        const double peaks[] = {[PRECISION_FLOAT32] = i->flops_float32,
                                [PRECISION_BF16] = i->flops_bf16,
                                [PRECISION_TF32] = i->flops_tf32};

        return peaks[t->config.precision] * (double)t->rt->ranks.size;
}

/* How fast it is, and what it uses; what is not known has no series. */
static int log_speed(struct training *x, int64_t step, struct error *err)
{
        struct task *t = x->task;
        double steps_per_second = x->images_per_second / (double)t->config.batch_size_train;
        double flops = steps_per_second * trainer_flop(x->trainer), peak = peak_flops(t);
        const struct {
                const char *name;
                double value;
        } rows[] = {{"train/images_per_second", x->images_per_second},
                    {"train/step_ms", 1e3 / steps_per_second},
                    {"train/tflops", flops / 1e12},
                    {"train/flop_utilisation", peak > 0 ? flops / peak : NAN}};
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(rows) && r >= 0; i++)
                if (isfinite(rows[i].value))
                        r = reporter_scalar(t->reporter, step, rows[i].name, rows[i].value, err);
        return r < 0 ? r : task_tell_device(t, step, err);
}

static int log_scalars(struct training *x, const struct training_scalars *s, int64_t step, struct error *err)
{
        const struct {
                const char *name;
                double value;
        } rows[] = {{"train/bpd", s->bpd},
                    {"train/bpd_recon", s->recon},
                    {"train/bpd_latent", s->latent},
                    {"train/bpd_diff", s->diff},
                    {"train/var0", s->var_0},
                    {"train/var1", s->var_1},
                    {"train/learning_rate", trainer_learning_rate(x->trainer)}};
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(rows) && r >= 0; i++)
                r = reporter_scalar(x->task->reporter, step, rows[i].name, rows[i].value, err);
        return r < 0 ? r : log_speed(x, step, err);
}

static int log_window(struct training *x, struct error *err)
{
        struct training_scalars s = trainer_take_window(x->trainer);

        return log_scalars(x, &s, x->task->step - 1, err);
}

/* However it ends, nothing that was trained is without a point. It stands one step behind that of a whole window, so
 * that an attempt that goes on from there, and whose window goes on, replaces it. */
static int log_open_window(struct training *x, struct error *err)
{
        struct training_scalars s = trainer_take_window(x->trainer);

        return isnan(s.var_0) ? 0 : log_scalars(x, &s, x->task->step, err);
}

/* Steps until something is due between two of them: a log point, an evaluation, a checkpoint, the end. */
static int64_t steps_to_boundary(const struct training *x)
{
        const struct config *c = &x->task->config;
        const int64_t every[] = {c->steps_per_logging, c->steps_per_eval, c->steps_per_save};
        int64_t n = steps_left(x);

        for (size_t i = 0; i < ARRAY_LEN(every); i++)
                n = MIN(n, every[i] - x->task->step % every[i]);
        return n;
}

static int window(struct training *x, struct error *err)
{
        struct task *t = x->task;
        const struct config *c = &t->config;
        int64_t start = clock_monotonic_us(), n;
        int r = trainer_window(x->trainer, steps_to_boundary(x), &n, err);

        t->step = trainer_step_number(x->trainer);
        if (r < 0)
                return r;
        x->step_us += clock_monotonic_us() - start;
        x->n_timed += n;
        /* the mean of at least a second of steps: the first one, which touches all memory for the first time, alone */
        if (x->step_us >= US_PER_S || isnan(x->images_per_second)) {
                x->images_per_second = (double)(x->n_timed * c->batch_size_train) * 1e6 / (double)MAX(x->step_us, 1);
                x->step_us = x->n_timed = 0;
        }
        say_progress(x);
        return t->step % c->steps_per_logging == 0 ? log_window(x, err) : 0;
}

static json_t *training_result(const struct training *x)
{
        const struct task *t = x->task;
        json_t *result = json_pack("{s:I, s:I, s:s}", "step", (json_int_t)t->step, "images",
                                   (json_int_t)(t->step * t->config.batch_size_train), "dataset_digest", t->data);

        if (result && x->evaluator && x->evaluated == t->step) {
                (void)json_object_set_new(result, "bpd", json_from_real(x->evaluation.bpd));
                (void)json_object_set_new(result, "standard_error", json_from_real(x->standard_error));
                (void)json_object_set_new(result, "test_images",
                                          json_integer(evaluation_images(&t->config, t->dataset)));
                (void)json_object_set_new(result, "weights", json_string("ema"));
        }
        return result;
}

static int end_stopped(struct training *x, struct error *err)
{
        int r = log_open_window(x, err);

        return r < 0 ? r : reporter_stopped(x->task->reporter, x->task->step, err);
}

static int run(struct training *x, struct error *err)
{
        struct task *t = x->task;
        const struct config *c = &t->config;
        _cleanup_json_ json_t *result = NULL;
        struct error second;
        int r = 0;

        say_progress(x);
        r = say_beginning(x, err);
        while (r >= 0) {
                r = boundary(x, err);
                if (r < 0 || t->step >= c->num_steps_train)
                        break;
                r = between(x, 0, 0, err);
                if (r >= 0)
                        r = window(x, err);
        }
        if (r == -ECANCELED) {
                r = save(x, err);
                return r < 0 ? r : end_stopped(x, err);
        }
        if (r < 0) {
                (void)log_open_window(x, &second); /* the first error is the one to tell */
                return r;
        }
        r = log_open_window(x, err);
        if (r < 0)
                return r;
        result = training_result(x);
        return reporter_done(t->reporter, result, err);
}

int task_train(struct task *t, struct error *err)
{
        struct training x = {
                .task = t, .saved = -1, .evaluated = -1, .best = INFINITY, .best_step = -1, .images_per_second = NAN};
        struct runtime_need need = {0};
        int r = make_models(&x, t->rt, &need, err);

        if (r >= 0)
                r = allocate(&x, t->rt, &need, err);
        if (r >= 0)
                r = trainer_bind(x.trainer, t->dataset, err);
        if (r >= 0 && x.evaluator)
                r = evaluator_bind(x.evaluator, err);
        if (r >= 0 && x.sampler)
                r = sampler_bind(x.sampler, err);
        if (r >= 0)
                r = resume(&x, err);
        if (r >= 0)
                r = agree_on_start(&x, err);
        if (r >= 0)
                r = reporter_start(t->reporter, t->step, t->config.num_steps_train,
                                   (int64_t)runtime_total_bytes(t->rt, ALL_SECTIONS, true, &need),
                                   t->rt->layout->n_parameters, t->rt->k->name, t->rt->info.threads, err);
        if (r >= 0)
                r = run(&x, err);
        free_models(&x);
        return r;
}

int task_estimate(const struct config *c, enum job_kind kind, size_t room, size_t *ret_bytes, char *ret_advice,
                  size_t advice_size, struct error *err)
{
        _cleanup_(runtime_freep) struct runtime *rt = NULL;
        _cleanup_(exact_freep) struct exact *exact = NULL;
        _cleanup_(inspector_freep) struct inspector *inspector = NULL;
        struct training x = {0};
        struct runtime_need need = {0};
        bool train = kind == JOB_TRAIN;
        int r = runtime_new(c, true, NULL, &rt, err);

        if (r >= 0 && train)
                r = make_models(&x, rt, &need, err);
        else if (r >= 0 && kind == JOB_EVALUATE && c->evaluation_method == LIKELIHOOD_ODE)
                r = exact_new(rt, c->batch_size_eval, &exact, &need, err);
        else if (r >= 0 && kind == JOB_EVALUATE)
                r = evaluator_new(rt, c->batch_size_eval, &x.evaluator, &need, err);
        else if (r >= 0)
                r = sampler_new(rt, sampler_batch(c), &x.sampler, &need, err);
        if (r >= 0 && kind == JOB_EVALUATE && c->evaluation_inspect)
                r = inspector_new(rt, c->batch_size_eval, &inspector, &need, err);
        if (r >= 0)
                *ret_bytes = runtime_total_bytes(rt, train ? ALL_SECTIONS : 1, train, &need);
        ret_advice[0] = 0;
        if (r >= 0 && train && *ret_bytes > room)
                trainer_advise(rt, ALL_SECTIONS, &x.others, room, ret_advice, advice_size);
        free_models(&x);
        return r;
}
