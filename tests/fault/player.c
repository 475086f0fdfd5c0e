/* A worker whose task is nothing but what every task says: steps, checkpoints, an outcome. It speaks by worker/reporter
 * and worker/channel themselves, so a call of theirs that fails is one that fails in a real worker; and it is small, so
 * that hundreds of attempts take a minute. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "worker/reporter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define INPUT_MAX ((size_t)4 << 20)
#define STEP_MS 2
#define STEPS_A_CHECKPOINT 10
#define DRAIN_MS 5000

static bool write_all(int fd, const char *text, size_t size)
{
        while (size) {
                ssize_t n = write(fd, text, size);

                if (n < 0 && errno != EINTR)
                        return false;
                text += MAX(n, (ssize_t)0);
                size -= (size_t)MAX(n, (ssize_t)0);
        }
        return true;
}

/* Without memory of its own: what that would mean is the engine's affair, not the spool's. */
static int write_file(const char *path, const char *text, size_t size, struct error *err)
{
        char made[PATH_MAX + 8], folder[PATH_MAX];
        _cleanup_(closep) int fd = -1, folder_fd = -1;

        (void)snprintf(made, sizeof made, "%s.new", path);
        fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
        folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || folder_fd < 0 || !write_all(fd, text, size) || fsync(fd) < 0 || rename(made, path) < 0 ||
            fsync(folder_fd) < 0)
                return error_set(err, -errno, path, "cannot be written: %s", strerror(errno));
        return 0;
}

static int write_checkpoint(struct reporter *r, const struct assignment *a, int64_t step, struct error *err)
{
        char name[64], path[PATH_MAX], text[64];
        int n, e;

        (void)snprintf(name, sizeof name, "step-%lld.safetensors", (long long)step);
        (void)snprintf(path, sizeof path, "%s/%s", a->folder, name);
        n = snprintf(text, sizeof text, "job %lld, step %lld\n", (long long)a->job, (long long)step);
        e = write_file(path, text, (size_t)n, err);
        return e < 0 ? e
                     : reporter_artifact(r, ARTIFACT_CHECKPOINT, step, name, n, "00000000000000000000000000000000", NAN,
                                         err);
}

/* As a task does it: what cannot be gone on from fails the job. */
static int first_step(const struct assignment *a, int64_t *ret, struct error *err)
{
        *ret = a->n_checkpoints ? a->checkpoints[0].step : 0;
        return a->n_checkpoints && access(a->checkpoints[0].path, F_OK) < 0
                       ? error_set(err, -EBADMSG, a->checkpoints[0].path, "is gone")
                       : 0;
}

static int train(struct reporter *r, const struct assignment *a, int64_t *step, struct error *err)
{
        int64_t steps = json_integer_value(json_object_get(json_object_get(a->config, "training"), "num_steps_train"));
        int e = first_step(a, step, err);

        if (e >= 0)
                e = reporter_start(r, *step, steps, 1, 1, "player", 1, err);
        while (e >= 0 && *step < steps) {
                e = reporter_scalar(r, *step, "train/bpd", 10.0 / (double)(*step + 1), err);
                if (e >= 0 && ++*step % STEPS_A_CHECKPOINT == 0)
                        e = write_checkpoint(r, a, *step, err);
                reporter_progress(r, *step, steps, 1, 1);
                if (e >= 0)
                        e = reporter_poll(r, NULL, err);
                if (e < 0)
                        return e;
                if (reporter_stopping(r)) {
                        e = write_checkpoint(r, a, *step, err);
                        return e < 0 ? e : reporter_stopped(r, *step, err);
                }
                (void)poll(NULL, 0, STEP_MS);
        }
        return e < 0 ? e : reporter_done(r, NULL, err);
}

static int evaluate(struct reporter *r, struct error *err)
{
        _cleanup_json_ json_t *result = json_pack("{s:f}", "bpd", 3.5);
        int e = reporter_start(r, 0, 1, 1, 1, "player", 1, err);

        if (e >= 0 && !result) /* the task's, and a player has no task */
                e = error_set(err, -EIO, NULL, "no memory for a result");
        return e < 0 ? e : reporter_done(r, result, err);
}

static int play(const struct assignment *a)
{
        struct reporter *r = NULL;
        struct error err = {0}, second;
        int64_t step = 0;
        int e = reporter_new(a, CHANNEL_WHOLE, &r, &err);

        if (e >= 0)
                e = a->kind == JOB_TRAIN ? train(r, a, &step, &err) : evaluate(r, &err);
        if (e < 0) {
                log_error("%s: %s", err.path, err.text);
                if (r && reporter_error(r, reporter_class(e), err.text, step, &second) < 0)
                        log_error("%s: %s", second.path, second.text);
        }
        if (r)
                reporter_drain(r, DRAIN_MS);
        (void)reporter_free(r);
        return e < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
        _cleanup_(buf_done) struct buf input = BUF_INIT(INPUT_MAX);
        _cleanup_(assignment_done) struct assignment a = {0};
        _cleanup_json_ json_t *document = NULL;
        struct error err;

        if (argc > 1 && !strcmp(argv[1], "--describe"))
                return puts("{\"format\": \"cifar10\", \"train\": 1000, \"test\": 100, \"digest\": "
                            "\"00000000000000000000000000000000\", \"mean\": [1, 2, 3]}") < 0;
        if (argc > 1)
                return puts(strcmp(argv[1], "--probe") ? "{\"bytes\": 1000}" : "{\"devices\": []}") < 0;
        if (file_read("/dev/stdin", &input, &err) < 0 || json_parse(input.data, input.size, &document, &err) < 0 ||
            assignment_from_json(document, &a, &err) < 0) {
                log_error("%s: %s", err.path, err.text);
                return 1;
        }
        return play(&a);
}
