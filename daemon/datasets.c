/* Data sets: those of the command line, and those that were imported, STATE/datasets/NAME.images. Each is described by
 * `mulun-worker --describe PATH`, two at a time at most, before the daemon serves. One that fails is logged with its
 * reason; its name is not available. A machine that has no memory or no process for the question is no answer to it:
 * then the daemon does not start, since every job of that data set would be refused for as long as it runs. An import
 * that succeeds describes its own by its result.
 *
 * Which data sets there are is said by the command line and that folder, never by the store's table, which is made
 * anew at every start: a file is there whole or not at all. */
#include "contract/text.h"
#include "daemon/daemon.h"
#include "daemon/process.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DESCRIBE_TIMEOUT_US (600 * US_PER_S) /* it reads every byte, for the digest */
#define TOGETHER 2
#define SUFFIX ".images"

struct describing {
        struct daemon *daemon;
        size_t index;
};

struct all {
        struct daemon *daemon;
        size_t next, running;
        int r; /* this machine cannot do it now: the daemon does not start without data sets that are there */
        struct error *err;
        struct helper *helpers[ALL_DATASETS_MAX];
        struct describing describing[ALL_DATASETS_MAX];
};

static struct all all; /* of the one call at start */
static void start_more(void);

/* ---- what is known of them */

bool datasets_path(const struct daemon *d, const char *name, char *ret, size_t size)
{
        int n = snprintf(ret, size, "%s/datasets/%s" SUFFIX, d->settings.state, name);

        return n >= 0 && (size_t)n < size;
}

struct dataset *datasets_find(struct daemon *d, const char *name)
{
        for (size_t i = 0; i < d->n_datasets; i++)
                if (!strcmp(d->datasets[i].row.name, name))
                        return &d->datasets[i];
        return NULL;
}

/* A new one that is not available yet. NULL: the path is too long, or there are too many. */
static struct dataset *add(struct daemon *d, const char *name, const char *path, bool imported)
{
        struct dataset *s = &d->datasets[d->n_datasets];

        if (d->n_datasets == ARRAY_LEN(d->datasets) || strlen(path) >= sizeof s->row.path)
                return NULL;
        *s = (struct dataset){.row = {.imported = imported}};
        (void)snprintf(s->row.name, sizeof s->row.name, "%s", name);
        (void)snprintf(s->row.path, sizeof s->row.path, "%s", path);
        d->n_datasets++;
        return s;
}

static int read_mean(const json_t *o, double ret[3], struct error *err)
{
        const json_t *mean = json_object_get(o, "mean");

        for (size_t k = 0; k < 3; k++) {
                if (!json_is_number(json_array_get(mean, k)))
                        return error_set(err, -EINVAL, "/mean", "expected three numbers");
                ret[k] = json_number_value(json_array_get(mean, k));
        }
        return 0;
}

/* Of a description, or of an import's result; format is the data set's own. */
static int read_row(const json_t *o, const char *format, struct dataset_row *row, struct error *err)
{
        const char *digest = NULL, *source = NULL;
        int r;

        if ((r = json_get_string(o, "", "digest", sizeof row->digest - 1, &digest, err)) < 0 ||
            (r = json_get_string(o, "", "source", sizeof row->source - 1, &source, err)) < 0 ||
            (r = json_get_int(o, "", "train", 0, INT64_MAX, &row->n_train, err)) < 0 ||
            (r = json_get_int(o, "", "test", 0, INT64_MAX, &row->n_test, err)) < 0 ||
            (r = read_mean(o, row->mean, err)) < 0)
                return r;
        if (!format || !digest || !text_is_digest(digest))
                return error_set(err, -EINVAL, NULL, "expected format, digest, train and test");
        (void)snprintf(row->format, sizeof row->format, "%s", format);
        (void)snprintf(row->digest, sizeof row->digest, "%s", digest);
        (void)snprintf(row->source, sizeof row->source, "%s", source ? source : "");
        return 0;
}

static int read_description(const struct buf *output, struct dataset_row *row, struct error *err)
{
        _cleanup_json_ json_t *o = NULL;
        const char *format = NULL, *path = NULL, *detail = NULL, *remark = NULL;
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
        r = json_get_string(o, "", "format", sizeof row->format - 1, &format, err);
        if (r >= 0)
                r = read_row(o, format, row, err);
        if (r < 0)
                return r;
        (void)json_get_string(o, "", "remark", 4096, &remark, NULL);
        if (remark)
                log_warning("data set %s (%s): %s", row->name, row->path, remark);
        return 0;
}

static void say(const struct dataset_row *row)
{
        log_info("data set %s: %s, %lld images to train on, %lld to test on, in %s", row->name, row->format,
                 (long long)row->n_train, (long long)row->n_test, row->path);
}

/* ---- at start */

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
                say(&s->row);
        return r;
}

static void on_described(void *user, int r, int status, const struct buf *output, const struct error *why)
{
        struct describing *x = user;
        struct dataset *s = &x->daemon->datasets[x->index];
        struct error err = *why;

        all.helpers[x->index] = NULL;
        if (r >= 0 && !output->size)
                r = error_set(&err, -ENODATA, NULL, "the worker ended with status %d and said nothing", status);
        else if (r >= 0)
                r = read_description(output, &s->row, &err);
        if (r >= 0)
                r = keep(all.daemon, s, &err);
        if (error_is_hosts(r) && !s->available) {
                *all.err = err;
                all.r = r;
        } else if (r < 0)
                log_error("data set %s (%s) is not %s: %s%s%s", s->row.name, s->row.path,
                          s->available ? "listed" : "available", err.path, err.path[0] ? ": " : "", err.text);
        all.running--;
        start_more();
}

static int start_one(size_t i, struct error *err)
{
        struct daemon *d = all.daemon;
        struct describing *x = &all.describing[i];
        char *argv[] = {d->settings.worker, (char[]){"--describe"}, d->datasets[i].row.path, NULL};
        int r = 0;

        *x = (struct describing){d, i};
        r = helper_run(d->loop, d->settings.worker, argv, NULL, NULL, DESCRIBE_TIMEOUT_US, 65536, on_described, x,
                       &all.helpers[i], err);
        if (r >= 0)
                all.running++;
        return r;
}

static void start_more(void)
{
        while (all.r >= 0 && all.running < TOGETHER && all.next < all.daemon->n_datasets)
                all.r = start_one(all.next++, all.err);
        if (all.r < 0 || !all.running)
                loop_quit(all.daemon->loop);
}

/* The name of a file NAME.images; false for others. */
static bool name_of_file(const char *file, char ret[65])
{
        size_t n = strlen(file), suffix = strlen(SUFFIX);

        if (n <= suffix || n - suffix > 64 || strcmp(file + n - suffix, SUFFIX) != 0)
                return false;
        (void)snprintf(ret, 65, "%.*s", (int)(n - suffix), file);
        return text_is_plain_name(ret, 64);
}

static void add_imported(struct daemon *d)
{
        char folder[PATH_MAX], path[PATH_MAX], name[65];
        struct dirent *e;

        (void)snprintf(folder, sizeof folder, "%.*s/datasets", PATH_MAX - 16, d->settings.state);
        _cleanup_(closedirp) DIR *list = opendir(folder);

        if (!list) {
                log_error("%s: cannot be listed: %s", folder, strerror(errno));
                return;
        }
        while ((e = readdir(list))) {
                if (!name_of_file(e->d_name, name))
                        continue;
                if (datasets_find(d, name))
                        log_warning("data set %s: that of the command line is used, not the imported one", name);
                else if (!datasets_path(d, name, path, sizeof path) || !add(d, name, path, true))
                        log_error("data set %s is not available: its path is too long, or there are more than %d", name,
                                  ALL_DATASETS_MAX);
        }
}

int datasets_describe(struct daemon *d, struct error *err)
{
        struct write *clear = write_new(WRITE_DATASETS_CLEAR);
        int r = clear ? store_write(d->store, clear, NULL, err) : error_set(err, -ENOMEM, NULL, "no memory");

        if (r < 0)
                log_error("the list of data sets cannot be renewed: %s", err->text);
        r = 0;
        for (size_t i = 0; i < d->settings.n_datasets; i++)
                if (!add(d, d->settings.datasets[i].name, d->settings.datasets[i].path, false))
                        return error_set(err, -ENAMETOOLONG, "--dataset", "the path of data set %s is too long",
                                         d->settings.datasets[i].name);
        add_imported(d);
        all = (struct all){.daemon = d, .err = err};
        while (all.r >= 0 && all.running < TOGETHER && all.next < d->n_datasets)
                all.r = start_one(all.next++, err);
        if (all.r >= 0 && all.running)
                r = loop_run(d->loop, err);
        for (size_t i = 0; i < d->n_datasets; i++) /* told to end meanwhile */
                all.helpers[i] = helper_cancel(all.helpers[i]);
        return MIN(r, all.r);
}

/* ---- of imports */

static void on_listed(struct daemon *d _unused_, const struct commit *c, void *user _unused_)
{
        if (c->r < 0)
                log_error("an imported data set is not listed: %s", c->err.text);
}

void datasets_imported(struct daemon *d, const char *name, const json_t *result)
{
        struct dataset *s = datasets_find(d, name);
        char path[PATH_MAX] = "";
        struct write *w;
        struct error err;

        if (!s && datasets_path(d, name, path, sizeof path))
                s = add(d, name, path, true);
        if (!s || !s->row.imported) {
                log_error("data set %s is imported, but there is no place for it on the list", name);
                return;
        }
        if (read_row(result, "images", &s->row, &err) < 0) {
                log_error("data set %s is imported, but not available before the next start: %s %s", name, err.path,
                          err.text);
                return;
        }
        s->available = true;
        say(&s->row);
        w = write_new(WRITE_DATASET);
        if (w)
                w->dataset = s->row;
        commit_submit(d, w, on_listed, NULL);
}

void datasets_import_over(struct daemon *d, const struct job *j)
{
        char path[PATH_MAX];

        if (j->state == JOB_SUCCEEDED || !j->dataset[0] || datasets_find(d, j->dataset))
                return;
        if (datasets_path(d, j->dataset, path, sizeof path) && unlink(path) == 0)
                log_info("data set %s: what a job that did not succeed left is removed", j->dataset);
}
