/* Bringing in what other programs wrote. Its bytes are anybody's, so that it is done here, in a process of its own. */
#include "engine/import.h"

#include "base/clock.h"
#include "worker/import.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

static json_t *result_json(const struct assignment_import *i, const struct import_result *r)
{
        return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:[f,f,f]}", "what", import_what_names[i->what],
                         "dataset", i->name, "source", r->format, "train", (json_int_t)r->count[SPLIT_TRAIN], "test",
                         (json_int_t)r->count[SPLIT_TEST], "resized", (json_int_t)r->resized, "digest", r->digest,
                         "mean", r->mean[0], r->mean[1], r->mean[2]);
}

/* Written in the job's folder, so that what a killed attempt leaves is the job's; then it gets its place at once. */
static int import_images(struct task *t, struct task_progress *progress, json_t **ret_result, struct error *err)
{
        const struct assignment_import *a = &t->assignment->import;
        char name[80], path[PATH_MAX], scratch[PATH_MAX];
        struct import i = {
                .path = a->path,
                .test_path = a->test_path,
                .format = a->format,
                .test_share = a->test_share,
                .scratch = scratch,
                .progress = task_between,
                .user = progress,
        };
        struct import_result result;
        int r;

        (void)snprintf(name, sizeof name, "%s.images", a->name);
        task_path(t, name, path, sizeof path);
        task_path(t, "unpacked", scratch, sizeof scratch);
        r = import_dataset(&i, path, &result, err);
        if (r >= 0)
                r = file_move(path, a->target, err);
        if (r < 0)
                return r;
        *ret_result = result_json(a, &result);
        return *ret_result ? 0 : error_set(err, -ENOMEM, NULL, "no memory for the result");
}

static int (*const imports[])(struct task *t, struct task_progress *progress, json_t **ret_result,
                              struct error *err) = {
        [IMPORT_DATASET] = import_images, [IMPORT_CHECKPOINT] = import_checkpoint, [IMPORT_EVENTS] = import_events};
static_assert(ARRAY_LEN(imports) == IMPORT_WHAT_N, "a function for each");

int task_import(struct task *t, struct error *err)
{
        const struct assignment_import *a = &t->assignment->import;
        struct task_progress progress = {t, clock_monotonic_us()};
        _cleanup_json_ json_t *result = NULL;
        int r = a->what != IMPORT_DATASET || a->target ? 0
                                                       : error_set(err, -EINVAL, "/import/target", "expected a path");

        if (r >= 0)
                r = reporter_start(t->reporter, 0, 0, 0, 0, "import", 1, err);
        if (r >= 0)
                r = imports[a->what](t, &progress, &result, err);
        if (r == -ECANCELED)
                return reporter_stopped(t->reporter, 0, err);
        if (r < 0)
                return error_is_hosts(r) ? r : REPORTER_DATA; /* all else is in what was to be imported */
        return reporter_done(t->reporter, result, err);
}
