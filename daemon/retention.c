#include "daemon/retention.h"

#include "base/array.h"

#include "daemon/daemon.h"
#include "daemon/folder.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct removal {
        struct artifact_row artifact;
        struct removal *next;
};

struct list {
        struct artifact_row *items;
        size_t n, room;
};

static int keep_row(const struct artifact_row *a, void *user)
{
        struct list *l = user;

        if (!array_grow(&l->items, l->n, &l->room, sizeof *l->items))
                return -ENOMEM;
        l->items[l->n++] = *a;
        return 0;
}

bool retention_is_removing(const struct daemon *d, int64_t job, int64_t step)
{
        for (const struct removal *r = d->removals; r; r = r->next)
                if (r->artifact.job == job && r->artifact.step == step)
                        return true;
        return false;
}

static bool is_read(struct daemon *d, int64_t job, int64_t step)
{
        int64_t id;
        int r = reader_user_of_checkpoint(d->reader, job, step, &id, NULL);

        return r != -ENOENT || control_pins(d, job, step); /* who cannot be asked is taken to need it */
}

static void removal_free(struct daemon *d, struct removal *r)
{
        struct removal **at = &d->removals;

        while (*at && *at != r)
                at = &(*at)->next;
        if (*at)
                *at = r->next;
        free(r);
}

void retention_done(struct daemon *d)
{
        while (d->removals)
                removal_free(d, d->removals);
}

static void on_removed(struct daemon *d, const struct commit *c _unused_, void *user)
{
        removal_free(d, user); /* a row that stayed is marked: the next start removes it */
}

static void unlink_artifact(const struct daemon *d, const struct artifact_row *a)
{
        char path[PATH_MAX];

        if (daemon_job_path(d, a->job, a->name, path, sizeof path) && unlink(path) < 0 && errno != ENOENT)
                log_warning("job %lld: %s cannot be removed: %s", (long long)a->job, a->name, strerror(errno));
}

static void on_marked(struct daemon *d, const struct commit *c, void *user)
{
        struct removal *r = user;
        struct write *w;

        if (c->r < 0) {
                removal_free(d, r);
                return;
        }
        unlink_artifact(d, &r->artifact);
        w = write_new(WRITE_ARTIFACT_REMOVE);
        if (w)
                w->artifact = r->artifact.id;
        commit_submit(d, w, on_removed, r);
}

/* It costs room, and no more: the next checkpoint comes by here again. */
static void later(int64_t job, const char *why)
{
        log_warning("job %lld: its checkpoints are not thinned out now: %s", (long long)job, why);
}

static void remove_checkpoint(struct daemon *d, const struct artifact_row *a)
{
        struct removal *r = calloc(1, sizeof *r);
        struct write *w = write_new(WRITE_ARTIFACT_MARK);

        if (!r || !w) {
                free(r);
                (void)write_free(w);
                later(a->job, "no memory");
                return;
        }
        r->artifact = *a;
        r->next = d->removals;
        d->removals = r;
        w->artifact = a->id;
        commit_submit(d, w, on_marked, r);
}

void retention_run(struct daemon *d, int64_t job)
{
        struct list l = {0};
        struct error err = {0};
        size_t best = SIZE_MAX;
        int kept = 0, r;

        if (d->backup) /* it links them; the next checkpoint comes by here again */
                return;
        r = reader_artifacts(d->reader, job, ARTIFACT_CHECKPOINT, keep_row, &l, &err);
        if (r < 0) {
                later(job, r == -ENOMEM ? "no memory" : err.text);
                free(l.items);
                return;
        }
        for (size_t i = 0; i < l.n; i++)
                if (!isnan(l.items[i].metric) && (best == SIZE_MAX || l.items[i].metric < l.items[best].metric))
                        best = i;
        for (size_t i = 0; i < l.n; i++) {
                const struct artifact_row *a = &l.items[i];

                if (kept < d->settings.keep_checkpoints)
                        kept += !artifact_is_bad(a); /* a bad one stands for none */
                else if (i != best && !a->pinned && !is_read(d, job, a->step) &&
                         !retention_is_removing(d, job, a->step))
                        remove_checkpoint(d, a);
        }
        free(l.items);
}

void retention_recover(struct daemon *d)
{
        struct artifact_row a;
        struct error err;
        struct write *w;
        int64_t job = 0;

        for (a.id = 0; reader_marked_artifact(d->reader, a.id, &a, &err) >= 0;) {
                unlink_artifact(d, &a);
                w = write_new(WRITE_ARTIFACT_REMOVE);
                if (w) {
                        w->artifact = a.id;
                        (void)store_write(d->store, w, NULL, NULL);
                }
        }
        while (reader_marked_job(d->reader, job, &job, &err) >= 0) {
                if (folder_remove(d, job, &err) < 0) { /* the next start goes on */
                        log_warning("job %lld, which was removed, leaves files behind: %s: %s", (long long)job,
                                    err.path, err.text);
                        continue;
                }
                w = write_new(WRITE_JOB_REMOVE);
                if (w) {
                        w->job = job;
                        (void)store_write(d->store, w, NULL, NULL);
                }
        }
}
