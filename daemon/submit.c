/* Submissions: what the request's own checks could not know (data sets, memory, checkpoints), then the job's row. */
#include "daemon/op.h"
#include "daemon/process.h"
#include "daemon/retention.h"
#include "daemon/worker.h"

#include "base/clock.h"
#include "contract/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ESTIMATE_TIMEOUT_US (30 * US_PER_S)
#define ESTIMATES_MAX 2

/* ---- checkpoints */

struct resolving {
        const struct daemon *daemon;
        int64_t which, step;
        double metric;
        bool found;
};

static int consider(const struct artifact_row *a, void *user)
{
        struct resolving *x = user;
        bool take;

        if (retention_is_removing(x->daemon, a->job, a->step))
                return 0;
        if (x->which == -1)
                take = !x->found; /* newest first */
        else if (x->which == -2)
                take = !isnan(a->metric) && (!x->found || a->metric < x->metric);
        else
                take = a->step == x->which;
        if (take) {
                x->found = true;
                x->step = a->step;
                x->metric = a->metric;
        }
        return 0;
}

int checkpoint_resolve(struct daemon *d, int64_t job, int64_t which, int64_t *ret_step, struct error *err)
{
        struct resolving x = {.daemon = d, .which = which};
        int r = reader_artifacts(d->reader, job, ARTIFACT_CHECKPOINT, consider, &x, err);

        if (r < 0)
                return r;
        if (!x.found && which == -1)
                return error_set(err, -ENOENT, "/checkpoint", "job %lld has no checkpoint yet", (long long)job);
        if (!x.found && which == -2)
                return error_set(err, -ENOENT, "/checkpoint/which", "job %lld has no checkpoint with a metric yet",
                                 (long long)job);
        if (!x.found)
                return error_set(err, -ENOENT, "/checkpoint/step", "job %lld has no checkpoint at step %lld",
                                 (long long)job, (long long)which);
        *ret_step = x.step;
        return 0;
}

/* ---- checks */

static void check_train(const struct config *c, const struct dataset_row *d, struct errors *errs)
{
        if (c->batch_size_train > d->n_train)
                (void)errors_add(errs, -EINVAL, "/training/batch_size_train",
                                 "%lld images a step, but data set %s has %lld to train on",
                                 (long long)c->batch_size_train, d->name, (long long)d->n_train);
        if (c->num_steps_eval > 0 && c->batch_size_eval > d->n_test)
                (void)errors_add(errs, -EINVAL, "/training/batch_size_eval",
                                 "%lld images a batch, but data set %s has %lld to test on",
                                 (long long)c->batch_size_eval, d->name, (long long)d->n_test);
}

static void check_evaluate(const struct config *c, const struct dataset_row *d, struct errors *errs)
{
        int64_t n = c->evaluation_split == SPLIT_TRAIN ? d->n_train : d->n_test;

        if (n == 0)
                (void)errors_add(errs, -EINVAL, "/evaluation/split", "data set %s has no images in it", d->name);
        else if (c->evaluation_n_images > n)
                (void)errors_add(
                        errs, -EINVAL, "/evaluation/n_images", "%lld images, but the split %s of data set %s has %lld",
                        (long long)c->evaluation_n_images, split_names[c->evaluation_split], d->name, (long long)n);
}

/* No buffer depends on these, so that a sweep over learning rates asks once. */
static void set_estimate_key(struct op *op, const struct config *c)
{
        static const char *const without[] = {
                "optimizer",
                "data",
                "training.seed",
                "training.num_steps_lr_warmup",
                "training.num_steps_train",
                "training.steps_per_logging",
                "training.steps_per_eval",
                "training.steps_per_save",
                "evaluation.seed",
                "evaluation.ode.rtol",
                "evaluation.ode.atol",
                "sampling.seed",
                "sampling.rtol",
                "sampling.atol",
                "sampling.n_steps",
                NULL,
        };
        char digest[DIGEST_SIZE];

        config_digest(c, without, digest);
        (void)snprintf(op->estimate_key, sizeof op->estimate_key, "%s %s", job_kind_names[op->submission->kind],
                       digest);
}

static int check_config(struct op *op, struct errors *errs)
{
        const struct dataset *dataset;
        struct config c;

        if (op->submission->checked)
                c = *op->submission->checked;
        else if (config_from_json(op->config, &c, errs) < 0)
                return -EINVAL;
        dataset = daemon_dataset(op->daemon, c.dataset);
        if (!dataset)
                return errors_add(errs, -EINVAL, "/data/dataset", "this server has no data set of this name");
        (void)snprintf(op->dataset, sizeof op->dataset, "%s", c.dataset);
        if (op->submission->kind == JOB_TRAIN)
                check_train(&c, &dataset->row, errs);
        else if (op->submission->kind == JOB_EVALUATE)
                check_evaluate(&c, &dataset->row, errs);
        set_estimate_key(op, &c);
        op->gpu = c.backend == BACKEND_CUDA;
        op->n_devices = job_devices(op->submission->kind, c.devices);
        op->config_steps = op->submission->kind == JOB_TRAIN    ? c.num_steps_train
                           : op->submission->kind == JOB_SAMPLE ? c.sampling_n_steps
                                                                : 0;
        return errs->n ? -EINVAL : 0;
}

/* ---- the row */

static void on_job_stored(struct daemon *d, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r < 0) {
                op_fail(op, JOB_QUEUED, &c->err);
                return;
        }
        log_info("job %lld: %s is queued", (long long)c->ret_id, job_kind_names[op->submission->kind]);
        op->stored = c->row;
        op_answer(op, 0, c->ret_id, JOB_QUEUED, NULL);
        daemon_schedule(d);
}

/* What was submitted moves into the row, whole: the row goes to threads that share nothing. */
static void fill_row(struct op *op, struct job_row *row)
{
        struct submission *s = op->submission;

        row->kind = s->kind;
        row->steps = op->config_steps;
        row->source_job = op->pinned_job;
        row->source_step = op->pinned_step;
        row->accept_changed_data = s->accept_changed_data;
        row->name = TAKE_PTR(s->name);
        row->config_name = TAKE_PTR(s->config_name);
        row->tags = TAKE_PTR(s->tags);
        row->notes = TAKE_PTR(s->notes);
        row->priority = s->priority;
        row->memory_bytes = op->memory_bytes;
        row->gpu = op->gpu;
        row->devices = op->n_devices;
        row->limits = s->limits;
        (void)snprintf(row->owner, sizeof row->owner, "%s", op->by.token[0] ? op->by.token : op->by.user);
        row->n_after = s->n_after;
        memcpy(row->after, s->after, sizeof s->after);
        (void)snprintf(row->dataset, sizeof row->dataset, "%s", op->dataset);
        row->import = TAKE_PTR(s->import);
        row->config = TAKE_PTR(op->config);
}

/* It was only to be checked. */
static void answer_checked(struct op *op)
{
        struct job_row row = {0};

        fill_row(op, &row);
        op->stored = &row;
        op_answer(op, 0, 0, JOB_QUEUED, NULL);
        job_row_done(&row);
}

void op_store_job(struct op *op)
{
        struct write *w;

        if (op->submission->dry) {
                answer_checked(op);
                return;
        }
        w = write_new(WRITE_JOB_NEW);
        op->storing = true;
        if (w) {
                w->time_us = clock_wall_us();
                w->key = op->submission->key;
                fill_row(op, &w->row);
                w->row.created_us = w->time_us;
        }
        op_commit(op, w, on_job_stored);
}

/* ---- memory */

/* What is known of a configuration: the memory that it needs and, where the device has too little, what would fit. */
struct known {
        char key[sizeof((struct op *)0)->estimate_key]; /* "": nothing yet */
        int64_t bytes;
        char advice[256];
};

static int read_estimate(const struct buf *output, int status, struct known *ret, struct error *err)
{
        _cleanup_json_ json_t *o = NULL;
        const char *text = NULL;
        json_t *problem;
        int r = output->size ? json_parse(output->data, output->size, &o, err) : -EIO;

        if (r < 0 || !json_is_object(o))
                return error_set(err, -EIO, NULL,
                                 "the memory that it needs is unknown: the worker's estimate ended with status %d",
                                 status);
        problem = json_object_get(o, "error");
        if (problem) {
                text = json_string_value(json_is_object(problem) ? json_object_get(problem, "detail") : problem);
                return error_set(err, -EIO, NULL, "the memory that it needs is unknown: %s",
                                 text ? text : "the worker cannot estimate it");
        }
        text = json_string_value(json_object_get(o, "advice"));
        (void)snprintf(ret->advice, sizeof ret->advice, "%s", text ? text : "");
        r = json_get_int(o, "", "bytes", 0, INT64_MAX, &ret->bytes, err);
        return r > 0 ? 0
                     : error_set(err, -EIO, NULL,
                                 "the memory that it needs is unknown: the worker's estimate has no bytes");
}

/* Estimates take a process: few at a time, and the same question once. */
struct estimates {
        int running;
        struct op *waiting; /* by next_waiting */
        size_t next;
        struct known known[32];
};

static struct estimates *estimates(struct daemon *d)
{
        if (!d->estimates)
                d->estimates = calloc(1, sizeof *d->estimates);
        return d->estimates;
}

void estimates_done(struct daemon *d)
{
        free(d->estimates);
        d->estimates = NULL;
}

/* Of the GPU that has most; INT64_MAX: not known, or there is none (yet). */
static int64_t gpu_memory(const struct daemon *d)
{
        int64_t most = 0;

        for (size_t i = 0; i < d->n_devices; i++)
                if (d->devices[i].gpu)
                        most = MAX(most, d->devices[i].memory_bytes);
        return most ? most : INT64_MAX;
}

/* Ranks that share a memory: on the processor all, a GPU has one. */
static int sharers(const struct op *op)
{
        return op->gpu ? 1 : op->n_devices;
}

/* Against what there is at all, not what is free at this moment: it may wait for the rest. */
static int64_t memory_most(const struct op *op)
{
        return op->gpu ? gpu_memory(op->daemon) : op->daemon->memory_bytes;
}

static void check_memory(struct op *op, const struct known *x)
{
        int64_t total = memory_most(op), bytes = x->bytes * sharers(op);
        struct errors errs = {0};

        op->memory_bytes = bytes;
        if (bytes <= total) {
                op_store_job(op);
                return;
        }
        (void)errors_add(&errs, -EINVAL, "/model",
                         "it needs %lld bytes of memory (%.1f GiB), %s has %lld (%.1f GiB)%s%s", (long long)bytes,
                         (double)bytes / 0x1p30, op->gpu ? "the largest GPU" : "this machine", (long long)total,
                         (double)total / 0x1p30, x->advice[0] ? "; " : "", x->advice);
        op_answer(op, -EINVAL, 0, JOB_QUEUED, &errs);
}

static void estimate(struct op *op);

static void on_estimate(void *user, int r, int status, const struct buf *output, const struct error *why)
{
        struct op *op = user, *next;
        struct estimates *e = estimates(op->daemon);
        struct known found = {0};
        struct error err;

        op->helper = NULL;
        e->running--;
        if (r < 0)
                r = error_set(&err, -EIO, NULL, "the memory that it needs is unknown: %s", why->text);
        else
                r = read_estimate(output, status, &found, &err);
        if (r >= 0) {
                (void)snprintf(found.key, sizeof found.key, "%s", op->estimate_key);
                e->known[e->next] = found;
                e->next = (e->next + 1) % ARRAY_LEN(e->known);
                check_memory(op, &found);
        } else {
                log_error("a submission fails: %s", err.text);
                op_fail(op, JOB_QUEUED, &err);
        }
        while ((next = e->waiting) && e->running < ESTIMATES_MAX) {
                e->waiting = next->next_waiting;
                estimate(next); /* perhaps it is known by now */
        }
}

static void start_estimate(struct op *op)
{
        char *worker = op->daemon->settings.worker;
        char kind[16], most[24], *argv[] = {worker, (char[]){"--estimate"}, kind, most, NULL};
        _cleanup_(freep) char *text = json_to_text(op->config);
        struct error err;
        int r;

        (void)snprintf(kind, sizeof kind, "%s", job_kind_names[op->submission->kind]);
        (void)snprintf(most, sizeof most, "%lld", (long long)memory_most(op) / sharers(op));
        r = text ? helper_run(op->daemon->loop, worker, argv, text, NULL, ESTIMATE_TIMEOUT_US, 65536, on_estimate, op,
                              &op->helper, &err)
                 : error_set(&err, -ENOMEM, NULL, "no memory");
        if (r >= 0) {
                estimates(op->daemon)->running++;
                return;
        }
        log_error("a submission fails: the worker's estimate: %s", err.text);
        err.code = -EIO;
        op_fail(op, JOB_QUEUED, &err);
}

static void estimate(struct op *op)
{
        struct estimates *e = estimates(op->daemon);
        struct op **at;
        struct error err;

        if (!e) {
                (void)error_set(&err, -ENOMEM, NULL, "no memory for a submission");
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        for (size_t i = 0; i < ARRAY_LEN(e->known); i++)
                if (!strcmp(e->known[i].key, op->estimate_key)) {
                        check_memory(op, &e->known[i]);
                        return;
                }
        if (e->running < ESTIMATES_MAX) {
                start_estimate(op);
                return;
        }
        for (at = &e->waiting; *at; at = &(*at)->next_waiting)
                ;
        op->next_waiting = NULL;
        *at = op;
}

/* ---- what begins with a checkpoint */

/* What a run may change of the network that it goes on with: nothing that its weights were made for. */
static int check_network(const json_t *before, const json_t *after, struct errors *errs)
{
        static const char *const free_keys[] = {"sm_pdrop", "antithetic_time_sampling", "sample_softmax",
                                                "sigma_prior"};
        const json_t *model = json_object_get(before, "model"), *v;
        const char *key;

        if (!json_equal(json_object_get(before, "vdm_type"), json_object_get(after, "vdm_type")))
                (void)errors_add(errs, -EINVAL, "/vdm_type", "is the checkpoint's and cannot be changed");
        json_object_foreach((json_t *)model, key, v)
        {
                char pointer[sizeof((struct error *)0)->path];
                size_t i = 0;

                while (i < ARRAY_LEN(free_keys) && strcmp(free_keys[i], key) != 0)
                        i++;
                json_pointer_append(pointer, sizeof pointer, "/model", key);
                if (i == ARRAY_LEN(free_keys) && !json_equal(v, json_object_get(json_object_get(after, "model"), key)))
                        (void)errors_add(errs, -EINVAL, pointer, "is the checkpoint's network and cannot be changed");
        }
        return errs->n ? -EINVAL : 0;
}

/* A training that starts from another's checkpoint. */
static int check_start(struct op *op, const json_t *before, struct errors *errs)
{
        struct config c, old;
        _cleanup_json_ json_t *was = NULL, *is = NULL;

        if (config_from_json(op->config, &c, errs) < 0 || config_from_json(before, &old, errs) < 0)
                return -EINVAL;
        was = config_to_json(&old); /* both in one form: 5 is 5.0 */
        is = config_to_json(&c);
        if (!was || !is)
                return errors_add(errs, -ENOMEM, "", "no memory for a configuration");
        (void)check_network(was, is, errs);
        if (c.num_steps_train <= op->pinned_step)
                (void)errors_add(errs, -EINVAL, "/training/num_steps_train",
                                 "the checkpoint is at step %lld: expected more steps than that",
                                 (long long)op->pinned_step);
        if (strcmp(c.dataset, old.dataset) != 0 && !op->submission->accept_changed_data)
                (void)errors_add(errs, -EINVAL, "/data/dataset",
                                 "the checkpoint was trained on %s; \"accept_changed_data\": true allows other data",
                                 old.dataset);
        json_decref(op->config);
        op->config = TAKE_PTR(is);
        return errs->n ? -EINVAL : 0;
}

static int derive_config(struct op *op, struct errors *errs)
{
        struct submission *s = op->submission;
        bool train = s->kind == JOB_TRAIN;
        const char *where = train ? "/start_from/job" : "/checkpoint/job";
        _cleanup_(job_row_done) struct job_row source = {0};
        struct error err;
        const char *path;
        json_t *v;
        int r = reader_job(op->daemon->reader, s->source_job, &source, &err);

        if (r < 0)
                return errors_add(errs, r, where, "%s", err.text);
        if (source.kind != JOB_TRAIN && (source.kind != JOB_IMPORT || !json_object_size(source.config)))
                return errors_add(errs, -ENOENT, where, "job %lld does not train: it has no checkpoints",
                                  (long long)s->source_job);
        op->config = json_deep_copy(source.config);
        if (!op->config)
                return errors_add(errs, -ENOMEM, "", "no memory for a configuration");
        json_object_foreach(s->overrides, path, v)
        {
                if (config_override(op->config, path, v, errs) < 0)
                        return -EINVAL;
        }
        r = checkpoint_resolve(op->daemon, s->source_job, s->source_step, &op->pinned_step, &err);
        if (r < 0)
                return errors_add(errs, r, train ? "/start_from/checkpoint" : err.path, "%s", err.text);
        op->pinned_job = s->source_job;
        if (!train)
                return 0;
        free(s->config_name);
        s->config_name = strdup(source.config_name);
        return s->config_name ? check_start(op, source.config, errs) : errors_add(errs, -ENOMEM, "", "no memory");
}

static int check_after(struct op *op, struct errors *errs)
{
        const struct submission *s = op->submission;

        for (size_t i = 0; i < s->n_after; i++) {
                struct job_row row;
                struct error err;
                char pointer[32];
                int r = reader_job(op->daemon->reader, s->after[i], &row, &err);

                (void)snprintf(pointer, sizeof pointer, "/after/%zu", i);
                if (r < 0)
                        (void)errors_add(errs, r == -ENOENT ? -EINVAL : r, pointer, "%s", err.text);
                else
                        job_row_done(&row);
        }
        return errs->n ? errs->items[0].code : 0;
}

void op_submit(struct op *op)
{
        struct submission *s = op->submission;
        struct errors errs = {0};
        int64_t made;
        int r = s->key.key[0] ? reader_request_key(op->daemon->reader, &s->key, &made, NULL) : -ENOENT;

        if (r >= 0) { /* asked again: the answer to the first has been lost */
                op_answer(op, 0, made, JOB_QUEUED, NULL);
                return;
        }
        r = check_after(op, &errs);
        if (r < 0) {
                op_answer(op, r, 0, JOB_QUEUED, &errs);
                return;
        }
        if (s->kind == JOB_IMPORT) {
                op_import(op);
                return;
        }
        if (!s->source_job)
                op->config = TAKE_PTR(s->config);
        else
                r = derive_config(op, &errs);
        if (r >= 0)
                r = check_config(op, &errs);
        if (r < 0)
                op_answer(op, r, 0, JOB_QUEUED, &errs);
        else
                estimate(op);
}
