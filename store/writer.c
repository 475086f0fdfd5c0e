/* The writing thread. A write that was done in part (a removal) goes behind those that came meanwhile, and on. It takes
 * whatever is queued, applies each write within a savepoint of one transaction, commits, and only then calls the
 * completions, in order. A write that fails is undone alone. When the disk is full SQLite undoes the whole transaction:
 * then all of them fail, nothing is half done, and the next batch begins afresh.
 *
 * The log is folded back into the file here and nowhere else, after the completions, so that nobody waits for it. */
#include "store/internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define BATCH_MAX 1024
#define CHECKPOINT_PAGES 2000 /* of the log, 8 MB: fold what readers allow */
#define RESTART_PAGES 32000   /* 128 MB: wait for readers a moment, and begin the log anew */
#define PATIENT_PAGES 256000  /* 1 GB: wait for them in earnest */
#define IMPATIENT_MS 20

struct outcome {
        int r;
        struct error err;
};

static struct write *take_all(struct store *s)
{
        struct write *batch;

        (void)pthread_mutex_lock(&s->lock);
        while (!s->first && !s->closing)
                (void)pthread_cond_wait(&s->wake, &s->lock);
        batch = s->first;
        s->first = NULL;
        s->last = &s->first;
        (void)pthread_mutex_unlock(&s->lock);
        return batch;
}

static bool in_transaction(struct store *s)
{
        return !sqlite3_get_autocommit(s->db.handle);
}

static int run(struct store *s, enum statement which, struct error *err)
{
        return db_run(&s->db, db_statement(&s->db, which), err);
}

static void apply_one(struct store *s, struct write *w, struct outcome *o)
{
        o->r = run(s, ST_SAVEPOINT, &o->err);
        if (o->r < 0)
                return;
        o->r = apply_write(&s->db, w, &o->err);
        if (!in_transaction(s))
                return;
        if (o->r < 0)
                (void)run(s, ST_ROLLBACK_TO, NULL);
        (void)run(s, ST_RELEASE, NULL);
}

/* All of the batch has this outcome. */
static void fail_all(struct outcome *o, size_t n, const struct outcome *why)
{
        struct outcome copy = *why;

        for (size_t i = 0; i < n; i++)
                if (o[i].r >= 0)
                        o[i] = copy;
}

static void commit_batch(struct store *s, struct write **w, struct outcome *o, size_t n)
{
        struct outcome whole = {0};

        memset(o, 0, n * sizeof *o);
        whole.r = run(s, ST_BEGIN_IMMEDIATE, &whole.err);
        if (whole.r < 0) {
                fail_all(o, n, &whole);
                return;
        }
        for (size_t i = 0; i < n; i++) {
                apply_one(s, w[i], &o[i]);
                if (!in_transaction(s)) {
                        if (o[i].r >= 0)
                                o[i].r = error_set(&o[i].err, -EIO, s->path, "the transaction ended by itself");
                        whole = o[i];
                        fail_all(o, n, &whole);
                        return;
                }
        }
        atomic_fetch_add(&s->stamp, 1);
        whole.r = run(s, ST_COMMIT, &whole.err);
        atomic_fetch_add(&s->stamp, 1);
        if (whole.r >= 0)
                return;
        if (in_transaction(s))
                (void)sqlite3_exec(s->db.handle, "ROLLBACK", NULL, NULL, NULL);
        fail_all(o, n, &whole);
}

static int on_wal(void *user, sqlite3 *handle _unused_, const char *name _unused_, int pages)
{
        struct store *s = user;

        s->wal_pages = pages;
        return SQLITE_OK;
}

static void fold_log(struct store *s)
{
        if (s->wal_pages < CHECKPOINT_PAGES)
                return;
        /* a curve of many points may be read for seconds: whoever writes meanwhile does not wait for that, as long as
         * the log does not grow without end */
        (void)sqlite3_busy_timeout(s->db.handle, s->wal_pages > PATIENT_PAGES ? DB_BUSY_MS : IMPATIENT_MS);
        (void)sqlite3_wal_checkpoint_v2(
                s->db.handle, NULL,
                s->wal_pages > RESTART_PAGES ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        (void)sqlite3_busy_timeout(s->db.handle, DB_BUSY_MS);
        s->wal_pages = 0; /* the next commit tells; a failed fold is tried again then */
}

static void enqueue(struct store *s, struct write *w)
{
        w->next = NULL;
        (void)pthread_mutex_lock(&s->lock);
        *s->last = w;
        s->last = &w->next;
        (void)pthread_cond_signal(&s->wake);
        (void)pthread_mutex_unlock(&s->lock);
}

static void complete(struct write *w, const struct outcome *o)
{
        w->next = NULL;
        if (w->done)
                w->done(w, o->r, o->r < 0 ? &o->err : NULL);
        (void)write_free(w);
}

static void *writer_main(void *user)
{
        struct store *s = user;
        struct write *queue, *w[BATCH_MAX];
        struct outcome *o = NULL;

        o = calloc(BATCH_MAX, sizeof *o);
        while ((queue = take_all(s))) {
                while (queue) {
                        size_t n = 0;

                        while (queue && n < (o ? BATCH_MAX : 1)) {
                                w[n++] = queue;
                                queue = queue->next;
                        }
                        struct outcome single;

                        commit_batch(s, w, o ? o : &single, n);
                        for (size_t i = 0; i < n; i++) {
                                struct outcome *x = o ? &o[i] : &single;

                                if (x->r > 0)
                                        enqueue(s, w[i]); /* behind those that wait by now */
                                else
                                        complete(w[i], x);
                        }
                }
                fold_log(s);
        }
        free(o);
        return NULL;
}

int writer_start(struct store *s, struct error *err)
{
        int r;

        (void)sqlite3_wal_hook(s->db.handle, on_wal, s);
        s->last = &s->first;
        s->stamp = 2;
        (void)pthread_mutex_init(&s->lock, NULL);
        (void)pthread_cond_init(&s->wake, NULL);
        r = pthread_create(&s->thread, NULL, writer_main, s);
        return r ? error_set(err, -r, s->path, "the writer's thread cannot start: %s", strerror(r)) : 0;
}

void writer_stop(struct store *s)
{
        (void)pthread_mutex_lock(&s->lock);
        s->closing = true;
        (void)pthread_cond_signal(&s->wake);
        (void)pthread_mutex_unlock(&s->lock);
        (void)pthread_join(s->thread, NULL);
        (void)pthread_cond_destroy(&s->wake);
        (void)pthread_mutex_destroy(&s->lock);
}

void store_submit(struct store *s, struct write *w)
{
        assert(!s->closing); /* whoever closes has ended all that could submit */
        enqueue(s, w);
}

/* ---- waiting for one */

struct waiter {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        bool finished;
        int r;
        int64_t id;
        struct error err;
};

static void waiter_done(struct write *w, int r, const struct error *err)
{
        struct waiter *x = w->user;

        (void)pthread_mutex_lock(&x->lock);
        x->finished = true;
        x->r = r;
        x->id = w->ret_id;
        if (err)
                x->err = *err;
        (void)pthread_cond_signal(&x->wake);
        (void)pthread_mutex_unlock(&x->lock);
}

int store_write(struct store *s, struct write *w, int64_t *ret_id, struct error *err)
{
        struct waiter x = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

        w->done = waiter_done;
        w->user = &x;
        store_submit(s, w);
        (void)pthread_mutex_lock(&x.lock);
        while (!x.finished)
                (void)pthread_cond_wait(&x.wake, &x.lock);
        (void)pthread_mutex_unlock(&x.lock);
        if (x.r < 0) {
                if (err)
                        *err = x.err;
                return x.r;
        }
        if (ret_id)
                *ret_id = x.id;
        return 0;
}
