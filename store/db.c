/* Connections: pragmas, errors, prepared statements, and the file's own checks and migrations.
 *
 * A new file is made under another name, migrated and renamed, so that STATE/mulund.db is never half made: whatever is
 * there and is not a whole database of ours is somebody's data that was damaged. It is refused and left as it is; the
 * check runs on a read-only connection, which neither recovers nor checkpoints. */
#include "store/internal.h"

#include "store/schema.h" /* made by the build: the migrations' texts */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define APPLICATION_ID 0x4d4c4e44 /* "MLND" */
#define CHECK_WHOLE_BYTES                                                                                              \
        ((int64_t)256 << 20) /* larger files are checked at their head only: a start takes a second                    \
                              */

static const struct {
        const char *sql;
        bool read;
} texts[ST_N] = {
#define READ(name, sql) [ST_##name] = {sql, true},
#define WRITE(name, sql) [ST_##name] = {sql, false},
#include "store/statements.def"
#undef READ
#undef WRITE
};

static int code_of(sqlite3 *h)
{
        switch (sqlite3_errcode(h) & 0xff) {
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_IOERR:
                return sqlite3_system_errno(h) == ENOSPC ? -ENOSPC : -EIO;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_INTERRUPT:
                return -ECANCELED;
        case SQLITE_CONSTRAINT:
                return -EINVAL;
        default:
                return -EIO;
        }
}

int db_fail(struct db *db, struct error *err)
{
        return error_set(err, code_of(db->handle), db->path, "%s", sqlite3_errmsg(db->handle));
}

int db_exec(struct db *db, const char *sql, struct error *err)
{
        return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_fail(db, err);
}

sqlite3_stmt *db_statement(struct db *db, enum statement s)
{
        sqlite3_stmt *st = db->statements[s];

        (void)sqlite3_reset(st);
        (void)sqlite3_clear_bindings(st);
        return st;
}

void bind_int(sqlite3_stmt *st, const char *name, int64_t v)
{
        (void)sqlite3_bind_int64(st, sqlite3_bind_parameter_index(st, name), v);
}

void bind_real(sqlite3_stmt *st, const char *name, double v)
{
        (void)sqlite3_bind_double(st, sqlite3_bind_parameter_index(st, name), v);
}

void bind_text(sqlite3_stmt *st, const char *name, const char *v)
{
        (void)sqlite3_bind_text(st, sqlite3_bind_parameter_index(st, name), v, -1, SQLITE_STATIC);
}

int db_step(struct db *db, sqlite3_stmt *st, struct error *err)
{
        switch (sqlite3_step(st)) {
        case SQLITE_ROW:
                return 1;
        case SQLITE_DONE:
                return 0;
        default:
                return db_fail(db, err);
        }
}

int db_run(struct db *db, sqlite3_stmt *st, struct error *err)
{
        int r = db_step(db, st, err);

        (void)sqlite3_reset(st);
        return r < 0 ? r : 0;
}

static int open_handle(struct db *db, const char *path, int flags, struct error *err)
{
        (void)snprintf(db->path, sizeof db->path, "%s", path);
        if (sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) !=
            SQLITE_OK) {
                int r = db->handle ? db_fail(db, err) : error_set(err, -ENOMEM, path, "no memory to open it");

                db_close(db);
                return r;
        }
        (void)sqlite3_busy_timeout(db->handle, DB_BUSY_MS);
        return 0;
}

static int query_int(struct db *db, const char *sql, int64_t *ret, struct error *err)
{
        sqlite3_stmt *st = NULL;
        int r;

        if (sqlite3_prepare_v2(db->handle, sql, -1, &st, NULL) != SQLITE_OK)
                return db_fail(db, err);
        r = db_step(db, st, err);
        if (r == 1)
                *ret = sqlite3_column_int64(st, 0);
        (void)sqlite3_finalize(st);
        return r < 0 ? r : 0;
}

int db_open(struct db *db, const char *path, enum db_mode mode, struct error *err)
{
        int r;

        *db = (struct db){0};
        r = open_handle(db, path, mode == DB_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, err);
        if (r < 0)
                return r;
        r = db_exec(db,
                    "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
                    "PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;",
                    err);
        for (int s = 0; r >= 0 && s < ST_N; s++)
                if ((texts[s].read || mode == DB_WRITE) &&
                    sqlite3_prepare_v3(db->handle, texts[s].sql, -1, SQLITE_PREPARE_PERSISTENT, &db->statements[s],
                                       NULL) != SQLITE_OK)
                        r = db_fail(db, err);
        if (r < 0)
                db_close(db);
        return r;
}

void db_close(struct db *db)
{
        for (int s = 0; s < ST_N; s++) {
                (void)sqlite3_finalize(db->statements[s]);
                db->statements[s] = NULL;
        }
        (void)sqlite3_close(db->handle);
        db->handle = NULL;
}

static int migrate(struct db *db, struct error *err)
{
        int64_t version = 0;
        int r = query_int(db, "PRAGMA user_version", &version, err);

        if (r < 0)
                return r;
        if (version > (int64_t)ARRAY_LEN(schema_texts))
                return error_set(err, -ENOTSUP, db->path,
                                 "its schema is version %lld, this program knows %zu: it is from a newer mulund",
                                 (long long)version, ARRAY_LEN(schema_texts));
        for (size_t v = (size_t)version; v < ARRAY_LEN(schema_texts); v++) {
                char pragma[64];

                (void)snprintf(pragma, sizeof pragma, "PRAGMA user_version = %zu; COMMIT", v + 1);
                r = db_exec(db, "BEGIN IMMEDIATE", err);
                if (r >= 0)
                        r = db_exec(db, schema_texts[v], err);
                if (r >= 0)
                        r = db_exec(db, pragma, err);
                if (r < 0) {
                        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
                        return r;
                }
        }
        return 0;
}

/* The file as it is before its schema changes, as path.schema-N, whole or absent: the way back to the release before,
 * and what is left should a migration be wrong. */
static int back_up(struct db *db, int64_t version, struct error *err)
{
        char name[1200], temporary[1200];
        struct db copy = {0};
        sqlite3_backup *b;
        int r;

        (void)snprintf(name, sizeof name, "%.1100s.schema-%lld", db->path, (long long)version);
        (void)snprintf(temporary, sizeof temporary, "%.1190s.new", name);
        (void)unlink(temporary);
        r = open_handle(&copy, temporary, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
        if (r < 0)
                return r;
        b = sqlite3_backup_init(copy.handle, "main", db->handle, "main");
        r = b ? sqlite3_backup_step(b, -1) : SQLITE_ERROR;
        if (!b || sqlite3_backup_finish(b) != SQLITE_OK || r != SQLITE_DONE)
                r = db_fail(&copy, err);
        else
                r = 0;
        db_close(&copy);
        if (r >= 0 && (chmod(temporary, 0640) < 0 || rename(temporary, name) < 0))
                r = error_set(err, -errno, name, "cannot be made: %s", strerror(errno));
        if (r >= 0)
                return 0;
        (void)unlink(temporary);
        return r;
}

static int back_up_before_migration(struct db *db, struct error *err)
{
        int64_t version = 0;
        struct error why;
        int r = query_int(db, "PRAGMA user_version", &version, err);

        if (r < 0 || version == 0 || version >= (int64_t)ARRAY_LEN(schema_texts))
                return r;
        r = back_up(db, version, &why);
        return r < 0 ? error_set(err, r, why.path, "the database is copied before its schema changes: %s", why.text)
                     : 0;
}

/* A temporary name, migrated, closed (which folds the log into the file), renamed: whole or absent. */
static int create(const char *folder, const char *path, struct error *err)
{
        static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
        char name[1200], pragma[64];
        _cleanup_(closep) int fd = -1;
        struct db db = {0};
        int r;

        for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
                (void)snprintf(name, sizeof name, "%s.new%s", path, suffixes[i]);
                (void)unlink(name);
        }
        (void)snprintf(name, sizeof name, "%s.new", path);
        (void)snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d", APPLICATION_ID);
        r = open_handle(&db, name, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
        if (r < 0)
                return r;
        r = db_exec(&db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", err);
        if (r >= 0)
                r = db_exec(&db, pragma, err);
        if (r >= 0)
                r = migrate(&db, err);
        if (r >= 0)
                r = db_exec(&db, "PRAGMA wal_checkpoint(TRUNCATE)", err);
        db_close(&db);
        if (r < 0)
                return r;
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || chmod(name, 0640) < 0 || rename(name, path) < 0 || fsync(fd) < 0)
                return error_set(err, -errno, path, "cannot be made: %s", strerror(errno));
        return 0;
}

static int damaged(const char *path, const char *what, struct error *err)
{
        return error_set(
                err, -EIO, path,
                "the database is damaged (%s); it was left as it is: restore a backup, or move it away to begin anew",
                what);
}

static int check_pages(struct db *db, int64_t bytes, struct error *err)
{
        sqlite3_stmt *st = NULL;
        const char *sql = bytes <= CHECK_WHOLE_BYTES ? "PRAGMA quick_check(1)" : "PRAGMA quick_check(dataset)";
        int r;

        if (sqlite3_prepare_v2(db->handle, sql, -1, &st, NULL) != SQLITE_OK)
                return damaged(db->path, sqlite3_errmsg(db->handle), err);
        r = sqlite3_step(st);
        if (r != SQLITE_ROW || strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
                r = damaged(db->path,
                            r == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : sqlite3_errmsg(db->handle),
                            err);
        else
                r = 0;
        (void)sqlite3_finalize(st);
        return r;
}

/* The head by hand (SQLite would take an empty file for a new one), then SQLite's own check, read-only. */
static int check(const char *path, const struct stat *st, struct error *err)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        unsigned char head[100];
        struct db db = {0};
        int64_t id = 0;
        int r;

        if (fd < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (pread(fd, head, sizeof head, 0) != sizeof head || memcmp(head, "SQLite format 3", 16) != 0)
                return damaged(path, "it does not begin as a database", err);
        r = open_handle(&db, path, SQLITE_OPEN_READONLY, err);
        if (r < 0)
                return r;
        if (query_int(&db, "PRAGMA application_id", &id, err) < 0)
                r = damaged(path, sqlite3_errmsg(db.handle), err);
        else if (id != APPLICATION_ID)
                r = error_set(err, -EINVAL, path, "it is a database of another program; it was left as it is");
        else
                r = check_pages(&db, (int64_t)st->st_size, err);
        db_close(&db);
        return r;
}

int db_prepare_file(const char *folder, char *ret_path, size_t size, struct error *err)
{
        char wal[1200];
        struct db db = {0};
        struct stat st;
        int r;

        if (snprintf(ret_path, size, "%s/mulund.db", folder) >= (int)size)
                return error_set(err, -ENAMETOOLONG, folder, "the path is too long");
        (void)snprintf(wal, sizeof wal, "%s-wal", ret_path);
        if (stat(ret_path, &st) == 0)
                r = check(ret_path, &st, err);
        else if (errno != ENOENT)
                r = error_set(err, -errno, ret_path, "cannot be opened: %s", strerror(errno));
        else if (stat(wal, &st) == 0 && st.st_size > 0)
                r = damaged(ret_path, "it is missing, but its log mulund.db-wal is there", err);
        else
                r = create(folder, ret_path, err);
        if (r < 0)
                return r;
        r = open_handle(&db, ret_path, SQLITE_OPEN_READWRITE, err);
        if (r >= 0)
                r = back_up_before_migration(&db, err);
        if (r >= 0)
                r = migrate(&db, err);
        db_close(&db);
        return r;
}
