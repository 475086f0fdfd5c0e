/* Imports, and the end of what they brought: what the daemon knows and the request's own checks could not. A path is
 * resolved here, once, and must lie below a folder of the settings, so that what a page in a browser or a script asks
 * for cannot read the rest of the machine. */
#include "base/buf.h"
#include "base/file.h"
#include "contract/text.h"
#include "daemon/op.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *root_of(const struct daemon *d, size_t i, char own[PATH_MAX])
{
        if (i < d->settings.n_import_roots)
                return d->settings.import_roots[i];
        (void)snprintf(own, PATH_MAX, "%.*s/imports", PATH_MAX - 16, d->settings.state);
        return own;
}

static bool is_allowed(const struct daemon *d, const char *path)
{
        char own[PATH_MAX];

        for (size_t i = 0; i <= d->settings.n_import_roots; i++)
                if (file_below(path, root_of(d, i, own)))
                        return true;
        return false;
}

static int outside(const struct daemon *d, const char *pointer, struct errors *errs)
{
        struct buf list = BUF_INIT(240); /* one that does not fit is left out */
        char own[PATH_MAX];

        for (size_t i = 0; i <= d->settings.n_import_roots; i++)
                (void)buf_printf(&list, NULL, "%s%s", list.size ? ", " : "", root_of(d, i, own));
        (void)errors_add(errs, -EINVAL, pointer,
                         "is not below a folder from which this server imports (%s); mulund --import-root DIR allows "
                         "another",
                         list.size ? list.data : "..");
        buf_done(&list);
        return -EINVAL;
}

/* A component of it is "..": its text says nothing of where it leads. */
static bool climbs(const char *path)
{
        for (const char *p = path; (p = strstr(p, "..")); p += 2)
                if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/'))
                        return true;
        return false;
}

/* The member of the import becomes the path with its links resolved. What does not exist outside the allowed folders
 * is outside, too: nobody learns what is there. */
static int resolve(const struct daemon *d, json_t *import, const char *key, struct errors *errs)
{
        const char *given = json_string_value(json_object_get(import, key));
        char path[PATH_MAX], pointer[32];

        if (!given)
                return 0;
        (void)snprintf(pointer, sizeof pointer, "/%s", key);
        if (!realpath(given, path))
                return is_allowed(d, given) && !climbs(given)
                               ? errors_add(errs, -EINVAL, pointer, "cannot be found: %s", strerror(errno))
                               : outside(d, pointer, errs);
        if (!is_allowed(d, path))
                return outside(d, pointer, errs);
        if (text_valid_utf8(path, strlen(path)) != strlen(path))
                return errors_add(errs, -EINVAL, pointer, "its links resolved, it is not UTF-8");
        return json_object_set_new(import, key, json_string(path)) < 0 ? errors_add(errs, -ENOMEM, "", "no memory") : 0;
}

/* The operation's import, new or to run again, is on its way to the store and makes a data set of this name. */
static bool is_making(const struct op *op, const char *name)
{
        bool makes = op->kind == OP_REOPEN || (op->storing && op->submission->kind == JOB_IMPORT);

        return makes && !strcmp(op->dataset, name);
}

/* An import that is not over, or on its way to the store, makes a data set of this name. */
static bool is_coming(const struct op *op, const char *name)
{
        struct daemon *d = op->daemon;
        int64_t id;
        bool coming = reader_user_of_dataset(d->reader, name, true, &id, NULL) != -ENOENT;

        (void)pthread_mutex_lock(&d->control_lock);
        for (const struct op *o = d->ops; o && !coming; o = o->next)
                coming = o != op && is_making(o, name);
        (void)pthread_mutex_unlock(&d->control_lock);
        return coming;
}

int import_check_name(struct op *op, const json_t *import, struct errors *errs)
{
        const char *name = import_dataset_name(import);

        if (!name)
                return 0;
        (void)snprintf(op->dataset, sizeof op->dataset, "%s", name);
        if (datasets_find(op->daemon, name))
                return errors_add(errs, -EEXIST, "/name", "there is a data set %s already", name);
        if (is_coming(op, name))
                return errors_add(errs, -EEXIST, "/name", "a data set %s is being imported", name);
        if (op->daemon->n_datasets == ALL_DATASETS_MAX)
                return errors_add(errs, -EEXIST, "/name", "there are %d data sets, which is all there may be",
                                  ALL_DATASETS_MAX);
        return 0;
}

void op_import(struct op *op)
{
        json_t *import = op->submission->import;
        struct errors errs = {0};
        int r = import_check_name(op, import, &errs);

        if (r >= 0) {
                (void)resolve(op->daemon, import, "path", &errs);
                (void)resolve(op->daemon, import, "test_path", &errs);
                r = errs.n ? -EINVAL : 0;
        }
        op->config = TAKE_PTR(op->submission->config);
        if (r < 0)
                op_answer(op, r, 0, JOB_QUEUED, &errs);
        else
                op_store_job(op);
}

/* ---- the end of a data set */

/* *ret_user: the job that needs the data set: 0: none. -1: one that is about to be stored. */
static int find_user(const struct op *op, int64_t *ret_user, struct error *err)
{
        struct daemon *d = op->daemon;
        int64_t user = 0;
        int r = reader_user_of_dataset(d->reader, op->dataset, false, &user, err);

        if (r < 0 && r != -ENOENT)
                return r;
        (void)pthread_mutex_lock(&d->control_lock);
        for (const struct op *o = d->ops; o && !user; o = o->next)
                if (o->kind == OP_SUBMIT && !strcmp(o->dataset, op->dataset))
                        user = -1;
        (void)pthread_mutex_unlock(&d->control_lock);
        *ret_user = user;
        return 0;
}

static void on_removed(struct daemon *d _unused_, const struct commit *c, void *user)
{
        struct op *op = user;

        if (c->r < 0)
                op_fail(op, JOB_QUEUED, &c->err); /* its file is gone: the next start does not list it */
        else
                op_answer(op, 0, 0, JOB_QUEUED, NULL);
}

static int may_remove(const struct op *op, const struct dataset *s, struct error *err)
{
        int64_t user;
        int r;

        if (!s)
                return error_set(err, -ENOENT, NULL, "there is no data set %s", op->dataset);
        if (!s->row.imported)
                return error_set(err, -EEXIST, NULL,
                                 "the data set is named by the command line: start mulund without --dataset %s=..",
                                 op->dataset);
        r = find_user(op, &user, err);
        if (r < 0)
                return r;
        if (user > 0)
                return error_set(err, -EEXIST, NULL, "job %lld, which is not over, uses it", (long long)user);
        return user ? error_set(err, -EEXIST, NULL, "a job that is being submitted uses it") : 0;
}

void op_remove_dataset(struct op *op)
{
        struct daemon *d = op->daemon;
        struct dataset *s = datasets_find(d, op->dataset);
        struct write *w;
        struct error err;

        if (may_remove(op, s, &err) < 0) {
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        if (unlink(s->row.path) < 0 && errno != ENOENT) {
                (void)error_set(&err, -EIO, NULL, "its file cannot be removed: %s", strerror(errno));
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        log_info("data set %s is removed", op->dataset);
        w = write_new(WRITE_DATASET_REMOVE);
        if (w)
                w->dataset = s->row;
        *s = d->datasets[--d->n_datasets];
        op_commit(op, w, on_removed);
}
