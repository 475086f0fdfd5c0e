/* Migrations: forward only, each in a transaction, after a copy of the file as it was. What SQL cannot say of one is a
 * function here. */
#include "store/internal.h"

#include "base/array.h"

#include "store/schema.h" /* made by the build: the migrations' texts */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- 6: a row a point becomes chunks */

/* Points of one attempt of the series that is moved, until they fill a chunk. */
struct moving {
        int64_t attempt;
        size_t n;
        struct point *points; /* [CHUNK_POINTS] */
};
struct movings {
        struct moving *items;
        size_t n, room;
};

static void movings_done(struct movings *m)
{
        for (size_t i = 0; i < m->n; i++)
                free(m->items[i].points);
        free(m->items);
}

static struct moving *find_moving(struct movings *m, int64_t attempt)
{
        struct point *points;

        for (size_t i = 0; i < m->n; i++)
                if (m->items[i].attempt == attempt || !m->items[i].attempt) {
                        m->items[i].attempt = attempt; /* those that are free stand behind those that are not */
                        return &m->items[i];
                }
        points = malloc(CHUNK_POINTS * sizeof *points);
        if (!points || !array_grow(&m->items, m->n, &m->room, sizeof *m->items)) {
                free(points);
                return NULL;
        }
        m->items[m->n] = (struct moving){attempt, 0, points};
        return &m->items[m->n++];
}

static int put_moving(struct db *db, int64_t series, struct moving *x, struct error *err)
{
        int r = x->n ? track_append(db, series, x->attempt, x->points, x->n, err) : 0;

        x->n = 0;
        return r;
}

/* st: step, attempt, time_ms, value of all its points, in order. */
static int move_series(struct db *db, int64_t series, sqlite3_stmt *st, struct movings *m, struct error *err)
{
        int r;

        while ((r = db_step(db, st, err)) > 0) {
                struct moving *x = find_moving(m, sqlite3_column_int64(st, 1));

                if (!x)
                        return error_set(err, -ENOMEM, NULL, "no memory for points");
                x->points[x->n++] =
                        (struct point){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 2), column_real(st, 3)};
                if (x->n == CHUNK_POINTS)
                        r = put_moving(db, series, x, err);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; r >= 0 && i < m->n; i++)
                r = put_moving(db, series, &m->items[i], err);
        return r;
}

/* Summaries of series stay as they are: they are of all points. */
static int move_all(struct db *db, sqlite3_stmt *series, sqlite3_stmt *points, struct error *err)
{
        _cleanup_(movings_done) struct movings m = {0};
        int r;

        while ((r = db_step(db, series, err)) > 0) {
                int64_t id = sqlite3_column_int64(series, 0);

                (void)sqlite3_reset(points);
                (void)sqlite3_bind_int64(points, 1, id);
                for (size_t i = 0; i < m.n; i++)
                        m.items[i].attempt = 0; /* free for whichever comes first */
                r = move_series(db, id, points, &m, err);
                if (r < 0)
                        return r;
        }
        return r;
}

static int move_points(struct db *db, struct error *err)
{
        static const enum statement needed[] = {ST_CHUNK, ST_CHUNK_POINTS, ST_TRACK_LATEST, ST_TRACK_PUT, ST_CHUNK_PUT};
        sqlite3_stmt *series = NULL, *points = NULL;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ARRAY_LEN(needed); i++)
                r = db_prepare(db, needed[i], err);
        if (r >= 0 &&
            (sqlite3_prepare_v2(db->handle, "SELECT id FROM series ORDER BY id", -1, &series, NULL) != SQLITE_OK ||
             sqlite3_prepare_v2(db->handle,
                                "SELECT step, attempt, time_ms, value FROM point WHERE series = ? "
                                "ORDER BY step, attempt, ordinal",
                                -1, &points, NULL) != SQLITE_OK))
                r = db_fail(db, err);
        if (r >= 0)
                r = move_all(db, series, points, err);
        (void)sqlite3_finalize(series);
        (void)sqlite3_finalize(points);
        return r < 0 ? r : db_exec(db, "DROP TABLE point", err);
}

/* ---- all of them */

static int (*const steps[ARRAY_LEN(schema_texts)])(struct db *db, struct error *err) = {
        [5] = move_points, /* after 0006 */
};

static int migrate_one(struct db *db, size_t version, struct error *err)
{
        char pragma[64];
        int r = db_exec(db, "BEGIN IMMEDIATE", err);

        (void)snprintf(pragma, sizeof pragma, "PRAGMA user_version = %zu; COMMIT", version + 1);
        if (r >= 0)
                r = db_exec(db, schema_texts[version], err);
        if (r >= 0 && steps[version])
                r = steps[version](db, err);
        if (r >= 0)
                r = db_exec(db, pragma, err);
        if (r < 0)
                (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
        return r;
}

/* The file as it is before its schema changes, as path.schema-N, whole or absent: the way back to the release before,
 * and what is left should a migration be wrong. */
static int back_up(struct db *db, int64_t version, struct error *err)
{
        char name[1200], temporary[1200];
        int r;

        (void)snprintf(name, sizeof name, "%.1100s.schema-%lld", db->path, (long long)version);
        (void)snprintf(temporary, sizeof temporary, "%.1190s.new", name);
        (void)unlink(temporary);
        r = db_copy(db, temporary, NULL, err);
        if (r >= 0 && (chmod(temporary, 0640) < 0 || rename(temporary, name) < 0))
                r = error_set(err, -errno, name, "cannot be made: %s", strerror(errno));
        if (r >= 0)
                return 0;
        (void)unlink(temporary);
        return r;
}

int db_schema(struct db *db, int64_t *ret_behind, struct error *err)
{
        int64_t version = 0;
        int r = db_query_int(db, "PRAGMA user_version", &version, err);

        if (r < 0)
                return r;
        if (version > (int64_t)ARRAY_LEN(schema_texts))
                return error_set(err, -ENOTSUP, db->path,
                                 "its schema is version %lld, this program knows %zu: it is from a newer mulund",
                                 (long long)version, ARRAY_LEN(schema_texts));
        *ret_behind = (int64_t)ARRAY_LEN(schema_texts) - version;
        return 0;
}

int db_migrate(struct db *db, struct error *err)
{
        int64_t behind = 0, version;
        struct error why;
        int r = db_schema(db, &behind, err);

        if (r < 0)
                return r;
        version = (int64_t)ARRAY_LEN(schema_texts) - behind;
        if (version > 0 && version < (int64_t)ARRAY_LEN(schema_texts)) {
                r = back_up(db, version, &why);
                if (r < 0)
                        return error_set(err, r, why.path, "the database is copied before its schema changes: %s",
                                         why.text);
        }
        for (size_t v = (size_t)version; r >= 0 && v < ARRAY_LEN(schema_texts); v++)
                r = migrate_one(db, v, err);
        return r;
}
