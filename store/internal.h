/* What the files of store/ share. A struct db is one connection with its prepared statements; it belongs to one thread.
 */
#pragma once

#include "store/store.h"

#include <pthread.h>
#include <sqlite3.h>

enum statement {
#define READ(name, sql) ST_##name,
#define WRITE(name, sql)
#include "store/statements.def"
        ST_READ_N,
        ST_READ_LAST = ST_READ_N - 1,
#undef READ
#undef WRITE
#define READ(name, sql)
#define WRITE(name, sql) ST_##name,
#include "store/statements.def"
#undef READ
#undef WRITE
        ST_N
};

struct db {
        sqlite3 *handle;
        char path[1200];
        sqlite3_stmt *statements[ST_N];
};

#define DB_BUSY_MS 10000 /* for another connection */

enum db_mode { DB_READ, DB_WRITE };
int db_open(struct db *db, const char *path, enum db_mode mode, struct error *err);
void db_close(struct db *db);
/* Makes folder/mulund.db when it is absent, else checks that it is whole, without changing it; then migrates. */
int db_prepare_file(const char *folder, char *ret_path, size_t size, struct error *err);

/* SQLite's last failure as -ENOSPC, -EIO, -ENOMEM, -EINVAL (a constraint), .. with its own words. */
int db_fail(struct db *db, struct error *err);
int db_exec(struct db *db, const char *sql, struct error *err);

/* A statement, reset and without bindings. */
sqlite3_stmt *db_statement(struct db *db, enum statement s);
void bind_int(sqlite3_stmt *st, const char *name, int64_t v);
void bind_real(sqlite3_stmt *st, const char *name, double v);      /* NAN becomes NULL */
void bind_text(sqlite3_stmt *st, const char *name, const char *v); /* borrowed until reset; NULL becomes NULL */
static inline double column_real(sqlite3_stmt *st, int i)
{
        return sqlite3_column_type(st, i) == SQLITE_NULL ? __builtin_nan("") : sqlite3_column_double(st, i);
}
/* 1: a row, 0: done, negative. */
int db_step(struct db *db, sqlite3_stmt *st, struct error *err);
/* Runs a statement that answers no row. */
int db_run(struct db *db, sqlite3_stmt *st, struct error *err);

static inline void statement_reset(sqlite3_stmt **st)
{
        if (*st)
                (void)sqlite3_reset(*st);
}
#define _cleanup_statement_ _cleanup_(statement_reset)

struct reader {
        struct db db;
        bool (*cancelled)(void *user);
        void *user;
};

/* The job of a key, as reader_request_key. */
int request_key_find(struct db *db, const struct request_key *key, int64_t *ret_id, struct error *err);

/* From which step on an attempt's points are superseded, ascending by attempt id. */
struct limits {
        size_t n;
        struct limit {
                int64_t attempt, below;
        } * items;
};
int limits_read(struct db *db, int64_t job, struct limits *ret, struct error *err);
void limits_done(struct limits *l);
bool limits_visible(const struct limits *l, int64_t attempt, int64_t step);

/* Summary of a series, while points are added at its end. */
struct summary {
        int64_t points, last_step;
        double last, min, max;
};
void summary_add(struct summary *s, int64_t step, double value);
int summary_write(struct db *db, int64_t series, const struct summary *s, struct error *err);
/* Computes it anew from the points. */
int summary_recompute(struct db *db, const struct limits *l, int64_t series, struct error *err);

/* One write, inside the writer's transaction. */
int apply_write(struct db *db, struct write *w, struct error *err);
int apply_events(struct db *db, struct write *w, struct error *err);

struct store {
        char path[1200];
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct write *first, **last; /* the queue, under lock */
        bool closing;                /* under lock */
        struct db db;                /* the writer thread's */
        int64_t wal_pages;           /* the writer thread's */
};
int writer_start(struct store *s, struct error *err);
void writer_stop(struct store *s);
