/* The report goes to the log a line a tensor that is not simply matched, and to import.csv whole. Nothing is written
 * before everything fits; a value that is no weight ends the writing, which leaves no file. */
#include "worker/import.h"

#include "base/log.h"
#include "engine/formats/published.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

#define ROW_MAX 900

static int write_report(struct task *t, const struct published *x, struct error *err)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)256 << 20);
        int r = buf_printf(&b, err, "%s\n", published_headings);

        for (size_t i = 0; i < x->n_rows && r >= 0; i++) {
                char line[ROW_MAX];

                published_describe(x, &x->rows[i], line, sizeof line);
                if (x->rows[i].status != PUBLISHED_MATCHED)
                        log_info("%s", line);
                r = buf_printf(&b, err, "%s\n", line);
        }
        log_info("%zu tensors matched, %zu missing, %zu left over", x->n[PUBLISHED_MATCHED], x->n[PUBLISHED_MISSING],
                 x->n[PUBLISHED_LEFT_OVER]);
        if (x->updates >= 0 && x->updates != x->step)
                log_warning("the optimizer counted %lld updates, the checkpoint %lld steps: bias corrections go by "
                            "the steps",
                            (long long)x->updates, (long long)x->step);
        return r < 0 ? r : task_write_table(t, IMPORT_REPORT, &b, err);
}

/* What training goes on from: no open log window, and whose it is. It does not say on which data it was trained. */
static int make_state(const struct task *t, char **ret, struct error *err)
{
        _cleanup_json_ json_t *state = json_pack("{s:{}}", "trainer");
        int r = state ? task_add_origin(t, state, err) : -ENOMEM;

        *ret = r < 0 ? NULL : json_to_text(state);
        return *ret ? 0 : error_set(err, -ENOMEM, NULL, "no memory for a checkpoint's state");
}

static int write_checkpoint(struct task *t, struct published *x, struct error *err)
{
        _cleanup_(freep) char *state = NULL;
        char name[64], path[PATH_MAX], digest[DIGEST_SIZE];
        int64_t bytes;
        int r = make_state(t, &state, err);

        (void)snprintf(name, sizeof name, "step-%lld.safetensors", (long long)x->step);
        task_path(t, name, path, sizeof path);
        if (r >= 0)
                r = published_write(x, path, &t->config, state, digest, &bytes, err);
        return r < 0 ? r : reporter_artifact(t->reporter, ARTIFACT_CHECKPOINT, x->step, name, bytes, digest, NAN, err);
}

int import_checkpoint(struct task *t, struct task_progress *progress, json_t **ret_result, struct error *err)
{
        _cleanup_(params_freep) struct params *params = NULL;
        _cleanup_(published_closep) struct published *x = NULL;
        int r = t->assignment->config ? params_new(&t->config, &params, err)
                                      : error_set(err, -EINVAL, "/config", "expected the checkpoint's configuration");

        if (r >= 0)
                r = published_open(t->assignment->import.path, params, &x, err);
        if (r >= 0)
                r = task_between(progress, 0, 1, err);
        if (r >= 0)
                t->step = x->step;
        if (r >= 0)
                r = write_report(t, x, err);
        if (r >= 0)
                r = write_checkpoint(t, x, err);
        if (r < 0)
                return r;
        reporter_progress(t->reporter, 1, 1, NAN, NAN);
        *ret_result = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "what", import_what_names[IMPORT_CHECKPOINT], "step",
                                (json_int_t)x->step, "parameters", (json_int_t)params->n_parameters, "matched",
                                (json_int_t)x->n[PUBLISHED_MATCHED], "missing", (json_int_t)x->n[PUBLISHED_MISSING],
                                "left_over", (json_int_t)x->n[PUBLISHED_LEFT_OVER]);
        return *ret_result ? 0 : error_set(err, -ENOMEM, NULL, "no memory for the result");
}
