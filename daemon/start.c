#include "daemon/start.h"

#include "base/array.h"
#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/folder.h"
#include "daemon/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Checkpoints for the assignment, newest first, but bad ones behind all others; of an evaluation or a sampling only its
 * source's. */
struct collecting {
        const struct daemon *daemon;
        const struct job *job;
        bool own;             /* checkpoints of this job, all of them; else the one that it was submitted with */
        const char *identity; /* of the job whose they are */
        struct assignment *a;
        bool bad; /* collects those that others are taken before */
        size_t room;
};

static int collect(const struct artifact_row *row, void *user)
{
        struct collecting *x = user;
        struct assignment_checkpoint *c;
        char path[PATH_MAX];

        if (!x->own && (row->step != x->job->source_step || x->a->n_checkpoints))
                return 0;
        if (x->own && artifact_is_bad(row) != x->bad)
                return 0;
        if (!daemon_job_path(x->daemon, row->job, row->name, path, sizeof path))
                return -ENAMETOOLONG;
        if (!array_grow(&x->a->checkpoints, x->a->n_checkpoints, &x->room, sizeof *c))
                return -ENOMEM;
        c = &x->a->checkpoints[x->a->n_checkpoints];
        *c = (struct assignment_checkpoint){.path = strdup(path), .step = row->step};
        (void)snprintf(c->digest, sizeof c->digest, "%s", row->digest);
        (void)snprintf(c->identity, sizeof c->identity, "%s", x->identity);
        if (!c->path)
                return -ENOMEM;
        x->a->n_checkpoints++;
        return 0;
}

static int collect_checkpoints(struct daemon *d, const struct job *j, struct assignment *a, struct error *err)
{
        struct job_row source = {0};
        struct collecting x = {.daemon = d, .job = j, .own = true, .identity = j->identity, .a = a};
        int r = 0;

        for (int bad = 0; bad <= 1 && r >= 0 && j->kind == JOB_TRAIN; bad++) {
                x.bad = bad;
                r = reader_artifacts(d->reader, j->id, ARTIFACT_CHECKPOINT, collect, &x, err);
        }
        if (r >= 0 && j->source_job && !a->n_checkpoints) {
                r = reader_job(d->reader, j->source_job, &source, err);
                if (r == -ENOENT)
                        return 0; /* it is gone, and its checkpoints with it */
                x.own = false;
                x.identity = source.identity;
                if (r >= 0)
                        r = reader_artifacts(d->reader, j->source_job, ARTIFACT_CHECKPOINT, collect, &x, err);
                job_row_done(&source);
        }
        if (r == -ENOMEM || r == -ENAMETOOLONG)
                return error_set(err, r, NULL, "its checkpoints cannot be listed: %s", strerror(-r));
        return r;
}

/* What is imported, and where its outcome goes. */
static int fill_import(const struct daemon *d, const struct job_row *row, struct assignment *a, struct error *err)
{
        char path[PATH_MAX];
        int r = import_from_json(row->import, "/import", &a->import, err);

        if (r < 0 || a->import.what != IMPORT_DATASET)
                return r;
        if (!datasets_path(d, a->import.name, path, sizeof path))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of its data set is too long");
        free(a->import.target);
        a->import.target = strdup(path);
        return a->import.target ? 0 : error_set(err, -ENOMEM, NULL, "no memory for an assignment");
}

static int fill_dataset(const struct daemon *d, const struct job *j, struct assignment *a, struct error *err)
{
        const struct dataset *dataset = daemon_dataset(d, j->dataset);

        if (!dataset)
                return error_set(err, -ENOENT, NULL, "its data set is not available");
        a->dataset_name = strdup(dataset->row.name);
        a->dataset_path = strdup(dataset->row.path);
        a->dataset_digest = strdup(dataset->row.digest);
        return a->dataset_name && a->dataset_path && a->dataset_digest
                       ? 0
                       : error_set(err, -ENOMEM, NULL, "no memory for an assignment");
}

/* What of its data set is noted with an attempt. *ret NULL: it needs none. */
static int note_data(const struct daemon *d, const struct job *j, json_t **ret)
{
        const struct dataset *dataset = j->kind == JOB_IMPORT ? NULL : daemon_dataset(d, j->dataset);

        *ret = dataset ? json_pack("{s:s, s:s, s:I, s:I}", "name", dataset->row.name, "digest", dataset->row.digest,
                                   "train", (json_int_t)dataset->row.n_train, "test", (json_int_t)dataset->row.n_test)
                       : NULL;
        return dataset && !*ret ? -ENOMEM : 0;
}

static int fill_assignment(struct daemon *d, const struct job *j, int64_t attempt, struct assignment *a,
                           struct error *err)
{
        char folder[PATH_MAX], plans[PATH_MAX + 8];
        struct job_row row;
        int r = reader_job(d->reader, j->id, &row, err);

        if (r < 0)
                return r;
        r = j->kind == JOB_IMPORT ? fill_import(d, &row, a, err) : fill_dataset(d, j, a, err);
        if (json_object_size(row.config))
                a->config = TAKE_PTR(row.config);
        job_row_done(&row);
        if (r < 0)
                return r;
        if (!daemon_job_path(d, j->id, NULL, folder, sizeof folder))
                return error_set(err, -ENAMETOOLONG, NULL, "the path of its folder is too long");
        (void)snprintf(plans, sizeof plans, "%s/plans", d->settings.state);
        a->job = j->id;
        a->attempt = attempt;
        a->kind = j->kind;
        a->accept_changed_data = j->accept_changed_data;
        (void)snprintf(a->identity, sizeof a->identity, "%s", j->identity);
        a->folder = strdup(folder);
        a->socket = strdup(d->socket);
        a->plans = strdup(plans);
        if (!a->folder || !a->socket || !a->plans)
                return error_set(err, -ENOMEM, NULL, "no memory for an assignment");
        r = folder_claim(d, j, err);
        if (r >= 0)
                r = folder_clear_attempt(d, j, attempt, err);
        return r < 0 ? r : collect_checkpoints(d, j, a, err);
}

/* It rests: something of the host's did not work, and the transition did not happen. */
static void not_now(struct daemon *d, struct job *j, struct worker *w, const struct error *why)
{
        log_warning("job %lld: it does not start yet: %s", (long long)j->id, why->text);
        worker_discard(w);
        job_rest(d, j, clock_monotonic_us() + d->settings.retry_us, why);
}

static void on_started(struct daemon *d, struct job *j, const struct commit *c, void *user)
{
        _cleanup_(assignment_done) struct assignment a = {0};
        struct worker *w = user;
        struct error err;

        if (c->r < 0) {
                not_now(d, j, w, &c->err);
                daemon_check_stopped(d);
        } else if (d->stopping) {
                worker_abandon(w, c->ret_id);
        } else if (fill_assignment(d, j, c->ret_id, &a, &err) < 0 ||
                   (j->n_devices > 1 && devices_assign(d, w->devices, &a, &err) < 0)) {
                worker_fail(w, c->ret_id, &err);
        } else {
                worker_start(w, c->ret_id, &a);
        }
}

static void refuse(struct daemon *d, struct job *j)
{
        struct write *w = write_new(WRITE_JOB_TRANSITION);
        char text[160];
        struct error err;

        (void)snprintf(text, sizeof text, "the checkpoint of job %lld at step %lld is gone", (long long)j->source_job,
                       (long long)j->source_step);
        if (w) {
                w->row.error = job_error("configuration", text, -1);
                w->detail = strdup(text);
        }
        if (job_transition(d, j, TRIGGER_REFUSE, w, NULL, NULL, &err) < 0)
                log_error("job %lld: %s", (long long)j->id, err.text);
}

bool start_job(struct daemon *d, struct job *j, uint64_t devices, int64_t bytes)
{
        _cleanup_(assignment_done) struct assignment a = {0};
        struct worker *worker;
        struct write *w;
        struct error err;

        if (collect_checkpoints(d, j, &a, &err) < 0) {
                log_error("job %lld: %s", (long long)j->id, err.text);
                job_rest(d, j, clock_monotonic_us() + d->settings.retry_us, &err);
                return false;
        }
        if (j->source_job && !a.n_checkpoints) {
                refuse(d, j);
                d->look_again |= !j->pending;
                return j->pending;
        }
        /* before the transition: a job that runs has its worker */
        worker = worker_new(d, j, devices, bytes);
        if (!worker) {
                (void)error_set(&err, -ENOMEM, NULL, "no memory for its worker");
                log_error("job %lld: %s", (long long)j->id, err.text);
                job_rest(d, j, clock_monotonic_us() + d->settings.retry_us, &err);
                return false;
        }
        w = write_new(WRITE_ATTEMPT_NEW);
        if (w) {
                w->attempt_row.job = j->id;
                w->attempt_row.started_us = worker->started_us;
                w->attempt_row.devices = devices_names(d, devices);
                w->attempt_row.ranks = j->n_devices;
                w->attempt_row.first_step = j->kind == JOB_TRAIN && a.n_checkpoints ? a.checkpoints[0].step : 0;
        }
        if (w && (!w->attempt_row.devices || note_data(d, j, &w->attempt_row.data) < 0))
                w = write_free(w);
        if (!w)
                (void)error_set(&err, -ENOMEM, NULL, "no memory for its attempt");
        if (!w || job_transition(d, j, TRIGGER_START, w, on_started, worker, &err) < 0) {
                not_now(d, j, worker, &err);
                return false;
        }
        return true;
}
