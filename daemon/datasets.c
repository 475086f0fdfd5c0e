/* Data sets of the command line: each is described by `mulun-worker --describe DIR`, two at a time at most, before the
 * daemon serves. One that fails is logged with its reason; its name is not available. */
#include "daemon/daemon.h"
#include "daemon/process.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DESCRIBE_TIMEOUT_US (600 * US_PER_S) /* it reads every byte, for the digest */
#define TOGETHER 2

struct describing {
        struct daemon *daemon;
        size_t index;
};

struct all {
        struct daemon *daemon;
        size_t next, running;
        struct helper *helpers[DATASETS_MAX];
        struct describing describing[DATASETS_MAX];
};

static struct all all; /* of the one call at start */
static void start_more(void);

static int read_description(const struct buf *output, struct dataset_row *row, struct error *err)
{
        _cleanup_json_ json_t *o = NULL;
        const char *format = NULL, *digest = NULL, *path = NULL, *detail = NULL, *remark = NULL;
        json_t *problem = NULL;
        int r = json_parse(output->data, output->size, &o, err);

        if (r < 0)
                return r;
        if (!json_is_object(o))
                return error_set(err, -EINVAL, NULL, "expected an object");
        if (json_get_container(o, "", "error", JSON_OBJECT, &problem, err) > 0) {
                (void)json_get_string(problem, "/error", "path", 4096, &path, NULL);
                (void)json_get_string(problem, "/error", "detail", 4096, &detail, NULL);
                return error_set(err, -EINVAL, path, "%s", detail ? detail : "no reason was given");
        }
        if ((r = json_get_string(o, "", "format", sizeof row->format - 1, &format, err)) < 0 ||
            (r = json_get_string(o, "", "digest", sizeof row->digest - 1, &digest, err)) < 0 ||
            (r = json_get_int(o, "", "train", 0, INT64_MAX, &row->n_train, err)) < 0 ||
            (r = json_get_int(o, "", "test", 0, INT64_MAX, &row->n_test, err)) < 0)
                return r;
        (void)json_get_string(o, "", "remark", 4096, &remark, NULL);
        if (remark)
                log_warning("data set %s (%s): %s", row->name, row->path, remark);
        if (!format || !digest)
                return error_set(err, -EINVAL, NULL, "expected format, digest, train and test");
        (void)snprintf(row->format, sizeof row->format, "%s", format);
        (void)snprintf(row->digest, sizeof row->digest, "%s", digest);
        return 0;
}

static int keep(struct daemon *d, struct dataset *s, struct error *err)
{
        struct write *w = write_new(WRITE_DATASET);
        int r;

        if (!w)
                return error_set(err, -ENOMEM, NULL, "no memory");
        w->dataset = s->row;
        s->available = true; /* jobs may use it even when a full disk keeps it off the list */
        r = store_write(d->store, w, NULL, err);
        if (r >= 0)
                log_info("data set %s: %s, %lld images to train on, %lld to test on, in %s", s->row.name, s->row.format,
                         (long long)s->row.n_train, (long long)s->row.n_test, s->row.path);
        return r;
}

static void on_described(void *user, int r, int status, const struct buf *output, const struct error *why)
{
        struct describing *x = user;
        struct dataset *s = &x->daemon->datasets[x->index];
        struct error err = *why;

        all.helpers[x->index] = NULL;
        if (r >= 0 && !output->size)
                r = error_set(&err, -EIO, NULL, "the worker ended with status %d and said nothing", status);
        else if (r >= 0)
                r = read_description(output, &s->row, &err);
        if (r >= 0)
                r = keep(all.daemon, s, &err);
        if (r < 0)
                log_error("data set %s (%s) is not %s: %s%s%s", s->row.name, s->row.path,
                          s->available ? "listed" : "available", err.path, err.path[0] ? ": " : "", err.text);
        all.running--;
        start_more();
}

static void start_one(size_t i)
{
        struct daemon *d = all.daemon;
        struct describing *x = &all.describing[i];
        char *argv[] = {d->settings.worker, (char[]){"--describe"}, d->settings.datasets[i].path, NULL};
        struct error err;
        int r;

        *x = (struct describing){d, i};
        r = helper_run(d->loop, d->settings.worker, argv, NULL, DESCRIBE_TIMEOUT_US, 65536, on_described, x,
                       &all.helpers[i], &err);
        if (r < 0) {
                log_error("data set %s is not available: %s", d->settings.datasets[i].name, err.text);
                return;
        }
        all.running++;
}

static void start_more(void)
{
        while (all.running < TOGETHER && all.next < all.daemon->n_datasets)
                start_one(all.next++);
        if (!all.running)
                loop_quit(all.daemon->loop);
}

int datasets_describe(struct daemon *d, struct error *err)
{
        struct write *clear = write_new(WRITE_DATASETS_CLEAR);
        int r = clear ? store_write(d->store, clear, NULL, err) : error_set(err, -ENOMEM, NULL, "no memory");

        if (r < 0)
                log_error("the list of data sets cannot be renewed: %s", err->text);
        r = 0;
        d->n_datasets = d->settings.n_datasets;
        for (size_t i = 0; i < d->n_datasets; i++) {
                (void)snprintf(d->datasets[i].row.name, sizeof d->datasets[i].row.name, "%s",
                               d->settings.datasets[i].name);
                if (snprintf(d->datasets[i].row.path, sizeof d->datasets[i].row.path, "%s",
                             d->settings.datasets[i].path) >= (int)sizeof d->datasets[i].row.path)
                        return error_set(err, -ENAMETOOLONG, "--dataset", "the path of data set %s is too long",
                                         d->settings.datasets[i].name);
        }
        all = (struct all){.daemon = d};
        while (all.running < TOGETHER && all.next < d->n_datasets)
                start_one(all.next++);
        if (all.running)
                r = loop_run(d->loop, err);
        for (size_t i = 0; i < d->n_datasets; i++) /* told to end meanwhile */
                all.helpers[i] = helper_cancel(all.helpers[i]);
        return r;
}
