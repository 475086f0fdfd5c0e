#include "worker/task.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/grid.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DEVICE_EVERY_US (5 * US_PER_S)

void task_path(const struct task *t, const char *name, char *ret, size_t size)
{
        (void)snprintf(ret, size, "%s/%s", t->assignment->folder, name);
}

int task_write_table(struct task *t, const char *name, const struct buf *b, struct error *err)
{
        char path[PATH_MAX], digest[DIGEST_SIZE];
        int r;

        if (!task_leads(t))
                return 0;
        task_path(t, name, path, sizeof path);
        r = file_write_atomic(path, b->data, b->size, digest, err);
        return r < 0 ? r
                     : reporter_artifact(t->reporter, ARTIFACT_TABLE, t->step, name, (int64_t)b->size, digest, NAN,
                                         err);
}

int task_write_picture(struct task *t, const char *name, const uint8_t *images, int64_t n, int64_t columns,
                       struct error *err)
{
        char path[PATH_MAX], digest[DIGEST_SIZE];
        int64_t bytes;
        int r;

        if (!task_leads(t))
                return 0;
        task_path(t, name, path, sizeof path);
        r = grid_write_png(path, images, n, columns, digest, &bytes, err);
        return r < 0 ? r : reporter_artifact(t->reporter, ARTIFACT_IMAGE, t->step, name, bytes, digest, NAN, err);
}

int task_add_origin(const struct task *t, json_t *state, struct error *err)
{
        const struct {
                const char *key, *value;
        } members[] = {{"identity", t->assignment->identity}, {"data", t->data}};

        for (size_t i = 0; i < ARRAY_LEN(members); i++)
                if (members[i].value[0] &&
                    json_object_set_new(state, members[i].key, json_string(members[i].value)) < 0)
                        return error_set(err, -ENOMEM, NULL, "no memory for a checkpoint's state");
        return 0;
}

/* A file that only has the name of one of ours is somebody's: the next checkpoint would replace it. */
static int foreign(const struct task *t, const struct assignment_checkpoint *c, struct error *err)
{
        char aside[1300];
        bool own = !strcmp(c->identity, t->assignment->identity);
        struct error inner;

        if (own && file_set_aside(c->path, aside, sizeof aside, &inner) >= 0)
                log_warning("%s is set aside as %s", c->path, aside);
        else if (own)
                log_warning("%s: %s", inner.path, inner.text);
        return error_set(err, -EBADMSG, c->path, "is of another run: its identity is not this job's");
}

int task_check_origin(const struct task *t, const struct assignment_checkpoint *c, char ret_data[DIGEST_SIZE],
                      struct error *err)
{
        _cleanup_(freep) char *text = NULL;
        _cleanup_json_ json_t *state = NULL;
        const char *identity = "", *data = "";
        int64_t step;
        int r = checkpoint_peek(c->path, t->rt->layout, &step, &text, err);

        if (r >= 0)
                r = json_parse(text ? text : "{}", text ? strlen(text) : 2, &state, err);
        if (r >= 0)
                r = json_get_string(state, "", "identity", DIGEST_SIZE - 1, &identity, err);
        if (r >= 0)
                r = json_get_string(state, "", "data", DIGEST_SIZE - 1, &data, err);
        if (r < 0)
                return r == -EINVAL ? error_set(err, -EBADMSG, c->path, "its state is not what a checkpoint's is") : r;
        if (strcmp(identity, c->identity) != 0)
                return foreign(t, c, err);
        (void)snprintf(ret_data, DIGEST_SIZE, "%s", data);
        return 0;
}

int task_load(struct task *t, enum weights weights, const struct runtime_need *need, int64_t steps, struct error *err)
{
        const struct assignment *a = t->assignment;
        unsigned section = 1u << (weights == WEIGHTS_EMA ? SECTION_EMA : SECTION_PARAMS);
        char data[DIGEST_SIZE];
        int r;

        if (!a->n_checkpoints)
                return error_set(err, -EINVAL, "/checkpoints", "expected a checkpoint");
        r = task_check_origin(t, &a->checkpoints[0], data, err);
        if (r >= 0)
                r = runtime_allocate(t->rt, section, false, need, err);
        if (r >= 0)
                r = runtime_load(t->rt, a->checkpoints[0].path, a->checkpoints[0].digest, &t->step, NULL, err);
        if (r >= 0)
                r = reporter_start(t->reporter, 0, steps, (int64_t)runtime_total_bytes(t->rt, section, false, need),
                                   t->rt->layout->n_parameters, t->rt->k->name, t->rt->info.threads, err);
        return r;
}

static int stopped(struct error *err)
{
        return error_set(err, -ECANCELED, NULL, "a stop was asked for");
}

int task_poll(struct task *t, bool *ret_checkpoint_asked, struct error *err)
{
        struct {
                bool checkpoint, stop;
        } heard = {0};
        int r = reporter_poll(t->reporter, &heard.checkpoint, err);

        heard.stop = reporter_stopping(t->reporter);
        if (r >= 0 && t->rt)
                r = ranks_agree(t->rt, &heard, sizeof heard, err);
        if (r < 0)
                return r;
        if (ret_checkpoint_asked)
                *ret_checkpoint_asked |= heard.checkpoint;
        return heard.stop ? stopped(err) : 0;
}

int task_poll_alone(struct task *t, bool *ret_checkpoint_asked, struct error *err)
{
        int r = reporter_poll(t->reporter, ret_checkpoint_asked, err);

        return r < 0 || !reporter_stopping(t->reporter) ? r : stopped(err);
}

int task_after_alone(struct task *t, int result, struct error *err)
{
        bool stop = result == -ECANCELED;
        int r = result < 0 && !stop ? result : ranks_agree(t->rt, &stop, sizeof stop, err);

        return r < 0 || !stop ? r : stopped(err);
}

int task_tell_device(struct task *t, int64_t step, struct error *err)
{
        struct device_use use = {0, NAN, NAN, NAN};
        int r = t->rt->k->device_use(t->rt->device, &use, err);
        const struct {
                const char *name;
                double value;
        } rows[] = {{"device/busy", use.busy},
                    {"device/celsius", use.celsius},
                    {"device/memory_mib", (double)use.memory_bytes / 0x1p20},
                    {"device/watts", use.watts}};

        for (size_t i = 0; i < ARRAY_LEN(rows) && r >= 0; i++)
                if (isfinite(rows[i].value))
                        r = reporter_scalar(t->reporter, step, rows[i].name, rows[i].value, err);
        return r;
}

int task_between(void *progress, int64_t done, int64_t all, struct error *err)
{
        const struct task_progress *p = progress;
        struct task *t = p->task;
        int64_t now_us = clock_monotonic_us();
        double rate = (double)done / ((double)(now_us - p->start_us) / 1e6);
        int r = 0;

        reporter_progress(t->reporter, done, all, done ? rate : NAN, done ? (double)(all - done) / rate : NAN);
        if (t->rt && done > t->device_done && now_us - t->device_us >= DEVICE_EVERY_US) {
                t->device_us = now_us;
                t->device_done = done;
                r = task_tell_device(t, done, err);
        }
        return r < 0 ? r : task_poll(t, NULL, err);
}

/* What an attempt that was killed left half-written: files by their writer's pattern (base/file.h), up to a whole
 * checkpoint each. */
void task_sweep(const struct task *t)
{
        static const char *const written[] = {"safetensors", "png", "csv", "images", NULL};
        struct error err;

        if (file_sweep(t->assignment->folder, written, &err) < 0)
                log_warning("%s: %s", err.path, err.text);
}
