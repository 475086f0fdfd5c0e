#include "daemon/backup.h"

#include "base/backup.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#define WAIT_US (20 * US_PER_MS) /* for removals that have begun */

struct backup {
        struct post post; /* its first member */
        struct daemon *daemon;
        struct op *op;
        pthread_t thread;
        bool runs;            /* the thread */
        struct source *timer; /* until it begins */
        atomic_bool cancelled;
        char state[PATH_MAX], folder[PATH_MAX], partial[PATH_MAX];
        struct store *store;
        int64_t began_us;
        int r; /* of the thread, once it has ended */
        struct error err;
};

/* ---- on the backup's own thread */

static int write_manifest(const char *partial, struct error *err)
{
        char path[PATH_MAX + 32], now[RFC3339_SIZE];
        _cleanup_json_ json_t *o =
                json_pack("{s:s, s:s}", "mulund", MULUND_VERSION, "made", clock_rfc3339(clock_wall_us(), now));
        _cleanup_(freep) char *text = o ? json_to_text(o) : NULL;

        (void)snprintf(path, sizeof path, "%s/" BACKUP_MANIFEST, partial);
        return text ? file_write_atomic(path, text, strlen(text), NULL, err)
                    : error_set(err, -ENOMEM, NULL, "no memory for a backup");
}

static int copy_part(struct backup *b, const char *name, struct error *err)
{
        char from[PATH_MAX + 16], to[PATH_MAX + 16];

        (void)snprintf(from, sizeof from, "%s/%s", b->state, name);
        (void)snprintf(to, sizeof to, "%s/%s", b->partial, name);
        return backup_copy(from, to, &b->cancelled, err);
}

/* The snapshot first: what it names is there until the backup is whole. */
static int make(struct backup *b, struct error *err)
{
        static const char *const parts[] = {"jobs", "datasets", "plans"};
        char database[PATH_MAX + 16];
        int r = file_make_folder(b->partial, err);

        (void)snprintf(database, sizeof database, "%s/mulund.db", b->partial);
        if (r >= 0)
                r = store_copy(b->store, database, &b->cancelled, err);
        for (size_t i = 0; r >= 0 && i < ARRAY_LEN(parts); i++)
                r = copy_part(b, parts[i], err);
        if (r >= 0)
                r = write_manifest(b->partial, err);
        return r < 0 ? r : file_move(b->partial, b->folder, err);
}

static void on_made(struct post *p);

static void *run(void *user)
{
        struct backup *b = user;

        b->r = make(b, &b->err);
        if (b->r < 0)
                (void)file_remove_tree(b->partial, NULL);
        loop_post(b->daemon->loop, &b->post, on_made);
        return NULL;
}

/* ---- on the loop's */

static void on_told(struct daemon *d _unused_, const struct commit *c, void *user)
{
        if (c->r < 0)
                op_fail(user, JOB_QUEUED, &c->err);
        else
                op_answer(user, 0, 0, JOB_QUEUED, NULL);
}

/* It is the copy that failed: a file that is not there says nothing about the request. */
static void tell_failure(const struct backup *b)
{
        struct error err;

        (void)error_set(&err, b->r == -ENOSPC || b->r == -ECANCELED ? b->r : -EIO, NULL, "%s%s%s", b->err.path,
                        b->err.path[0] ? ": " : "", b->err.text);
        log_error("backup: %s", err.text);
        op_fail(b->op, JOB_QUEUED, &err);
}

static void finish(struct backup *b)
{
        double seconds = (double)(clock_monotonic_us() - b->began_us) / 1e6;

        if (b->runs)
                (void)pthread_join(b->thread, NULL);
        b->timer = loop_remove(b->daemon->loop, b->timer);
        b->daemon->backup = NULL;
        if (b->r < 0) {
                tell_failure(b);
        } else {
                log_info("backup: %s was made in %.1f s", b->folder, seconds);
                op_commit(b->op, write_new(WRITE_AUDIT), on_told);
        }
        free(b);
}

static void on_made(struct post *p)
{
        finish((struct backup *)p);
}

void backup_stop(struct daemon *d)
{
        if (!d->backup)
                return;
        atomic_store(&d->backup->cancelled, true);
        if (!d->backup->runs)
                d->backup->r = error_set(&d->backup->err, -ECANCELED, NULL, "it was given up before it began");
        finish(d->backup); /* its post finds no loop that runs */
}

static int prepare(struct backup *b, struct error *err)
{
        struct daemon *d = b->daemon;
        char parent[PATH_MAX];
        int r;

        if (d->backup)
                return error_set(err, -EEXIST, NULL, "another backup is being made");
        if (d->disk.low)
                return error_set(err, -ENOSPC, NULL, "the disk is nearly full: a backup would fill it");
        if (snprintf(b->folder, sizeof b->folder, "%s/backups/%s", d->settings.state, b->op->name) >=
            (int)sizeof b->folder)
                return error_set(err, -EINVAL, NULL, "the name is too long");
        r = backup_partial(b->folder, b->partial, err);
        (void)snprintf(b->state, sizeof b->state, "%s", d->settings.state);
        (void)snprintf(parent, sizeof parent, "%.*s/backups", PATH_MAX - 16, d->settings.state);
        if (r >= 0 && access(b->folder, F_OK) == 0)
                return error_set(err, -EEXIST, NULL, "there is a backup of that name");
        if (r >= 0)
                r = file_make_folder(parent, err);
        return r < 0 ? r : file_remove_tree(b->partial, err);
}

/* A removal that has begun, of which the snapshot would not know: no other begins meanwhile. */
static bool something_goes(struct daemon *d)
{
        bool found = d->removals != NULL;

        (void)pthread_mutex_lock(&d->control_lock);
        for (const struct op *op = d->ops; op && !found; op = op->next)
                found = op->kind == OP_REMOVE || op->kind == OP_REMOVE_DATASET;
        (void)pthread_mutex_unlock(&d->control_lock);
        return found;
}

static void begin(void *user)
{
        struct backup *b = user;
        int r = 0;

        b->timer = NULL;
        if (something_goes(b->daemon))
                r = loop_add_timer(b->daemon->loop, clock_monotonic_us() + WAIT_US, begin, b, &b->timer, &b->err);
        if (b->timer)
                return;
        if (r >= 0) {
                r = -pthread_create(&b->thread, NULL, run, b);
                if (r < 0)
                        (void)error_set(&b->err, r, NULL, "no thread for a backup: %s", strerror(-r));
        }
        b->runs = r >= 0;
        if (r < 0) {
                b->r = r;
                finish(b);
        }
}

void op_backup(struct op *op)
{
        struct daemon *d = op->daemon;
        struct backup *b = calloc(1, sizeof *b);
        struct error err;
        int r = b ? 0 : error_set(&err, -ENOMEM, NULL, "no memory for a backup");

        if (b) {
                *b = (struct backup){.daemon = d, .op = op, .store = d->store, .began_us = clock_monotonic_us()};
                r = prepare(b, &err);
        }
        if (r < 0) {
                free(b);
                op_fail(op, JOB_QUEUED, &err);
                return;
        }
        d->backup = b; /* from here on nothing else is removed */
        begin(b);
}

void backup_recover(struct daemon *d)
{
        char folder[PATH_MAX], path[PATH_MAX + 300];
        _cleanup_(closedirp) DIR *dir = NULL;
        struct dirent *e;

        (void)snprintf(folder, sizeof folder, "%.*s/backups", PATH_MAX - 16, d->settings.state);
        dir = opendir(folder);
        while (dir && (e = readdir(dir)))
                if (fnmatch("*" BACKUP_PARTIAL, e->d_name, 0) == 0) {
                        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
                        log_warning("%s: half a backup, whose daemon ended, is removed", path);
                        (void)file_remove_tree(path, NULL);
                }
}
