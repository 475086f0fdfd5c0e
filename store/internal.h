/* What the files of store/ share. A struct db is one connection with its prepared statements; it belongs to one thread.
 */
#pragma once

#include "store/cells.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

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
        struct codec *codec;  /* db_codec */
        struct point *points; /* [CHUNK_POINTS], db_points */
};

#define DB_BUSY_MS 10000 /* for another connection */

enum db_mode { DB_READ, DB_WRITE };
int db_open(struct db *db, const char *path, enum db_mode mode, struct error *err);
void db_close(struct db *db);
/* folder/mulund.db as it is, without changing it: 1: it is whole, 0: it is absent. */
int db_check_file(const char *folder, char *ret_path, size_t size, struct error *err);
/* Makes folder/mulund.db when it is absent, else checks that it is whole, without changing it; then migrates. */
int db_prepare_file(const char *folder, char *ret_path, size_t size, struct error *err);

/* The parts of that: a connection without statements; one statement; a number; migrations (migrate.c), whose copy of
 * the file is whole or absent: without it nothing is changed. */
int db_open_file(struct db *db, const char *path, int flags, struct error *err);
int db_open_to_look(struct db *db, const char *path, struct error *err);
int db_prepare(struct db *db, enum statement s, struct error *err);
int db_query_int(struct db *db, const char *sql, int64_t *ret, struct error *err);
/* How many versions older than this program's its schema is; -ENOTSUP: it is newer. */
int db_schema(struct db *db, int64_t *ret_behind, struct error *err);
int db_migrate(struct db *db, struct error *err);
/* The whole file as it is now, to a path where nothing is. cancelled: NULL, or looked at now and then: -ECANCELED. */
int db_copy(struct db *db, const char *path, const atomic_bool *cancelled, struct error *err);

/* Scratch memory for reading points, made when it is first needed; NULL without memory. What is in points lasts until
 * the next read. */
struct codec *db_codec(struct db *db, struct error *err);
struct point *db_points(struct db *db, struct error *err);

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

/* A place in the queue, and when it was there. */
struct place {
        int64_t rank, id; /* id INT64_MAX: the queue is shorter */
        int64_t before;   /* jobs before it */
        int64_t read_us;  /* monotonic; 0: never */
};

struct reader {
        struct db db;
        struct place places[2]; /* by gpu: reader_ready_before's */
        bool (*cancelled)(void *user);
        void *user;
};

/* The job of a key, as reader_request_key. */
int request_key_find(struct db *db, const struct request_key *key, int64_t *ret_id, struct error *err);

/* The attempts of a job, ascending by id: below which step their points are shown, and whether some are in the tail. */
struct limits {
        int64_t spoken; /* number of the newest attempt that has said anything; 0: none has */
        size_t n;
        struct limit {
                int64_t attempt, number, below;
                bool tail;
        } * items;
};
/* as_of: as if attempts with a higher number were not there. */
int limits_read(struct db *db, int64_t job, int64_t as_of, struct limits *ret, struct error *err);
void limits_done(struct limits *l);
/* A digest of which points they show. */
uint64_t limits_digest(const struct limits *l);
/* Of that attempt; NULL: it is none of the job's. */
const struct limit *limits_find(const struct limits *l, int64_t attempt);

/* Summary of a series, while points are added at its end. */
struct summary {
        int64_t points, last_step;
        double last, min, max;
};
#define SUMMARY_NONE ((struct summary){0, 0, __builtin_nan(""), __builtin_nan(""), __builtin_nan("")})
void summary_add(struct summary *s, int64_t step, double value);
int summary_write(struct db *db, int64_t series, const struct summary *s, struct error *err);
/* Computes it anew from the series' chunks, and writes it. Where they are damaged it stays as it is. */
int summary_recompute(struct db *db, const struct limits *l, int64_t series, struct error *err);

/* ---- where points are: curves.c reads, tracks.c writes; README.md says how they hang together */

#define LEVEL_FAN 16
#define LEVEL_N 8 /* 16384 x 16^7 points and more are read from level 7 */
#define NUMBER_BITS 29

struct track {
        int64_t id, points, first_step, last_step; /* steps: where there are points */
};

/* The row of a level of a track; 0: there is no room for it. */
static inline int64_t chunk_id(int64_t track, int level, int64_t number)
{
        if (track >= (int64_t)1 << 31 || number >= (int64_t)1 << NUMBER_BITS)
                return 0;
        return track << 32 | (int64_t)level << NUMBER_BITS | number;
}

struct curves_query {
        int64_t series;
        const struct limits *limits;
        int64_t attempt;  /* its points, superseded ones too; 0: what is shown of all */
        int64_t from, to; /* steps, inclusive */
        int shift;        /* cells of 1 << shift steps are fine enough; -1: points */
        bool tails;       /* also those that are not in a chunk yet */
};

/* A source is a track or a tail; sources come in the order of arrival: of points with equal steps, those of a later
 * one are later. Within a track steps do not descend. */
struct curves_sink {
        void (*source)(void *user);                                 /* another begins; or NULL */
        int (*cells)(const struct cells *c, void *user);            /* all of its points lie in from..to */
        int (*points)(const struct point *p, size_t n, void *user); /* likewise. Positive: enough of this source */
        void *user;
};
int curves_read(struct db *db, const struct curves_query *q, const struct curves_sink *sink, struct error *err);

/* By step; those of equal steps stay in their order. */
int points_sort(struct point *p, size_t n, struct error *err);
/* The points of a row of level 0: ret [CHUNK_POINTS]. -EBADMSG: it is missing or damaged. */
int chunk_read(struct db *db, int64_t id, struct point *ret, size_t *ret_n, struct error *err);
/* Appends points of a series in order of arrival; they are sorted here. What is damaged stays as it is: points that
 * come go into another track. */
int track_append(struct db *db, int64_t series, int64_t attempt, struct point *p, size_t n, struct error *err);
/* Reads a tail, in order, calling back with each batch (borrowed). only: as batch_decode's. */
int tail_read(struct db *db, int64_t attempt, int64_t only, int (*batch)(const struct batch *b, void *user), void *user,
              struct error *err);
/* An attempt's points that are not in chunks yet. */
struct tail {
        int64_t job, attempt, seq; /* seq: of the event that comes */
        int64_t time_us;           /* of the write */
        int64_t rows, events;
        bool latest; /* of the job's attempts: nothing of it is superseded */
};
/* Adds an event's rows; puts all of it into chunks when it is long enough. Counts t's rows and events. */
int tail_add(struct db *db, struct tail *t, const struct batch *b, struct error *err);
/* Puts all of it into chunks. */
int tail_close(struct db *db, struct tail *t, struct error *err);
/* Removes what chunks have of a series, but not more than *budget of their rows, which it counts down. 1: there is
 * more. */
int tracks_remove(struct db *db, int64_t series, int64_t *budget, struct error *err);

/* The first of many by a key (sort.c): sort_add each, in any order; then sort_end, and they are in order. */
struct sort {
        struct sort_key *keys; /* owned */
        size_t n, limit;
        bool descending;
        bool more;                     /* than limit */
        const struct sort_key *behind; /* what does not come behind it is left out; NULL: nothing is */
};
int sort_begin(struct sort *s, size_t limit, bool descending, const struct sort_key *behind); /* -ENOMEM */
void sort_add(struct sort *s, const struct sort_key *k);
void sort_end(struct sort *s);
void sort_done(struct sort *s);
/* A column of a row, of a job. */
struct sort_key sort_key_read(sqlite3_stmt *st, int i, int64_t id);

/* One write, inside the writer's transaction. 1: a part of it was done; the rest is for another transaction. */
int apply_write(struct db *db, struct write *w, struct error *err);
/* Adds to the log of a job. from -1: it was submitted. */
int job_event_add(struct db *db, const struct job_event_row *e, struct error *err);
/* The same about a job as it is, unless its log has that already. */
int job_event_once(struct db *db, int64_t job, int64_t time_us, const char *trigger, const char *detail,
                   struct error *err);
/* access.c */
int apply_token(struct db *db, struct write *w, struct error *err);
int apply_delivery(struct db *db, const struct write *w, struct error *err);
int apply_session(struct db *db, const struct write *w, struct error *err);
int apply_audit(struct db *db, const struct write *w, struct error *err);
int apply_events(struct db *db, struct write *w, struct error *err);
/* Puts what the attempt has in its tail into chunks: it is over. */
int apply_points_close(struct db *db, struct write *w, struct error *err);

struct store {
        char path[1200];
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct write *first, **last; /* the queue, under lock */
        bool closing;                /* under lock */
        struct db db;                /* the writer thread's */
        atomic_llong stamp;          /* store_stamp's; odd while a commit is under way */
        int64_t wal_pages;           /* the writer thread's */
};
int writer_start(struct store *s, struct error *err);
void writer_stop(struct store *s);
