/* Connections: pragmas, errors, prepared statements, and the file's own checks.
 *
 * A new file is made under another name, migrated and renamed, so that STATE/mulund.db is never half made: whatever is
 * there and is not a whole database of ours is somebody's data that was damaged. It is refused and left as it is; the
 * check runs on a read-only connection, which neither recovers nor checkpoints. */
#include "store/internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

/* The errno of the last call on one of the database's two files that failed. */
static int file_error(sqlite3 *h, bool log)
{
        sqlite3_file *file = NULL;
        int e = 0;

        if (!log)
                (void)sqlite3_file_control(h, "main", SQLITE_FCNTL_LAST_ERRNO, &e);
        else if (sqlite3_file_control(h, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) == SQLITE_OK && file &&
                 file->pMethods)
                (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &e);
        return e;
}

/* The system's error of what SQLite could not do, or 0 (it does not keep that of a file that it could not open). A full
 * disk is told from a broken one by this alone. SQLite has no error of a commit's sync, and calls a file malformed that
 * cannot be read (EIO): then the files are asked. What is written goes to the log first. */
static int system_error(sqlite3 *h)
{
        int code = sqlite3_errcode(h) & 0xff, e = 0;

        if (code == SQLITE_IOERR)
                e = sqlite3_system_errno(h);
        if (!e && (code == SQLITE_IOERR || code == SQLITE_CORRUPT))
                e = file_error(h, code == SQLITE_IOERR) ?: file_error(h, code == SQLITE_CORRUPT);
        return e;
}

static int code_of(sqlite3 *h)
{
        switch (sqlite3_errcode(h) & 0xff) {
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_IOERR:
                return system_error(h) == ENOSPC ? -ENOSPC : -EIO;
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
        int code = code_of(db->handle), e = system_error(db->handle);
        const char *text = sqlite3_errmsg(db->handle);

        return error_set(err, code, db->path, "%s%s%s", text, e ? ": " : "", e ? strerror(e) : "");
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

struct codec *db_codec(struct db *db, struct error *err)
{
        if (!db->codec)
                db->codec = codec_new();
        if (!db->codec)
                (void)error_set(err, -ENOMEM, db->path, "no memory to read points");
        return db->codec;
}

struct point *db_points(struct db *db, struct error *err)
{
        if (!db->points)
                db->points = malloc(CHUNK_POINTS * sizeof *db->points);
        if (!db->points)
                (void)error_set(err, -ENOMEM, db->path, "no memory to read points");
        return db->points;
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

int db_open_file(struct db *db, const char *path, int flags, struct error *err)
{
        (void)snprintf(db->path, sizeof db->path, "%s", path);
        if (sqlite3_open_v2(path, &db->handle, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) !=
            SQLITE_OK) {
                int r = db->handle ? db_fail(db, err) : error_set(err, -ENOMEM, path, "no memory to open it");

                db_close(db);
                return r;
        }
        /* SQLite is content with reading where a file cannot be opened for writing, also for a moment */
        if (flags & SQLITE_OPEN_READWRITE && sqlite3_db_readonly(db->handle, "main")) {
                db_close(db);
                return error_set(err, -EIO, path, "could only be opened for reading");
        }
        (void)sqlite3_busy_timeout(db->handle, DB_BUSY_MS);
        return 0;
}

/* The file's URI: whatever is no letter in its path as %XX. */
static int write_uri(const char *path, struct buf *ret, struct error *err)
{
        int r = buf_printf(ret, err, "file:");

        for (const unsigned char *c = (const unsigned char *)path; *c && r >= 0; c++)
                r = buf_printf(ret, err, strchr("/.-_", *c) || (*c < 0x80 && isalnum(*c)) ? "%c" : "%%%02x", *c);
        return r < 0 ? r : buf_printf(ret, err, "?immutable=1");
}

/* Without a log SQLite would make one, and memory beside it, for reading, too: whoever only looks leaves nothing. */
int db_open_to_look(struct db *db, const char *path, struct error *err)
{
        _cleanup_(buf_done) struct buf uri = BUF_INIT(4 * PATH_MAX);
        char file[PATH_MAX], wal[PATH_MAX + 8];
        struct stat st;
        int r;

        if (!realpath(path, file))
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        (void)snprintf(wal, sizeof wal, "%s-wal", file);
        if (stat(wal, &st) == 0 && st.st_size > 0)
                return db_open_file(db, path, SQLITE_OPEN_READONLY, err);
        r = write_uri(file, &uri, err);
        if (r >= 0)
                r = db_open_file(db, uri.data, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, err);
        (void)snprintf(db->path, sizeof db->path, "%s", path);
        return r;
}

#define COPY_PAGES 256 /* between two looks at whether to go on */

int db_copy(struct db *db, const char *path, const atomic_bool *cancelled, struct error *err)
{
        struct db copy = {0};
        sqlite3_backup *b;
        int r = db_open_file(&copy, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);

        if (r < 0)
                return r;
        b = sqlite3_backup_init(copy.handle, "main", db->handle, "main");
        do
                r = b ? sqlite3_backup_step(b, cancelled ? COPY_PAGES : -1) : SQLITE_ERROR;
        while (r == SQLITE_OK && !atomic_load(cancelled));
        if (r == SQLITE_OK)
                (void)sqlite3_backup_finish(b);
        if (r == SQLITE_OK)
                r = error_set(err, -ECANCELED, path, "the copy was given up");
        else if (!b || sqlite3_backup_finish(b) != SQLITE_OK || r != SQLITE_DONE)
                r = db_fail(&copy, err);
        else
                r = 0;
        db_close(&copy);
        return r;
}

int db_query_int(struct db *db, const char *sql, int64_t *ret, struct error *err)
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

int db_prepare(struct db *db, enum statement s, struct error *err)
{
        return sqlite3_prepare_v3(db->handle, texts[s].sql, -1, SQLITE_PREPARE_PERSISTENT, &db->statements[s], NULL) ==
                               SQLITE_OK
                       ? 0
                       : db_fail(db, err);
}

int db_open(struct db *db, const char *path, enum db_mode mode, struct error *err)
{
        int r;

        *db = (struct db){0};
        r = db_open_file(db, path, mode == DB_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, err);
        if (r < 0)
                return r;
        r = db_exec(db,
                    "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
                    "PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;",
                    err);
        for (enum statement s = 0; r >= 0 && s < ST_N; s++)
                if (texts[s].read || mode == DB_WRITE)
                        r = db_prepare(db, s, err);
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
        db->codec = codec_free(db->codec);
        free(db->points);
        db->points = NULL;
        (void)sqlite3_close(db->handle);
        db->handle = NULL;
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
        r = db_open_file(&db, name, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
        if (r < 0)
                return r;
        r = db_exec(&db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", err);
        if (r >= 0)
                r = db_exec(&db, pragma, err);
        if (r >= 0)
                r = db_migrate(&db, err);
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

/* Whatever else fails is the host's affair, and says nothing about the file. */
static int damaged_or_failed(struct db *db, struct error *err)
{
        int e = sqlite3_errcode(db->handle) & 0xff;

        return (e == SQLITE_CORRUPT || e == SQLITE_NOTADB) && !system_error(db->handle)
                       ? damaged(db->path, sqlite3_errmsg(db->handle), err)
                       : db_fail(db, err);
}

static int check_pages(struct db *db, int64_t bytes, struct error *err)
{
        sqlite3_stmt *st = NULL;
        const char *sql = bytes <= CHECK_WHOLE_BYTES ? "PRAGMA quick_check(1)" : "PRAGMA quick_check(dataset)", *found;
        int r;

        if (sqlite3_prepare_v2(db->handle, sql, -1, &st, NULL) != SQLITE_OK)
                return damaged_or_failed(db, err);
        r = sqlite3_step(st) == SQLITE_ROW;
        found = r ? (const char *)sqlite3_column_text(st, 0) : NULL;
        if (!found)
                r = damaged_or_failed(db, err);
        else if (!strcmp(found, "ok"))
                r = 0;
        else if (file_error(db->handle, false)) /* a page that cannot be read now says nothing about what is in it */
                r = error_set(err, -EIO, db->path, "cannot be read: %s", strerror(file_error(db->handle, false)));
        else
                r = damaged(db->path, found, err);
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
        r = file_read_at(fd, path, 0, head, sizeof head, err);
        if (r < 0 && r != -EBADMSG)
                return r;
        if (r < 0 || memcmp(head, "SQLite format 3", 16) != 0)
                return damaged(path, "it does not begin as a database", err);
        r = db_open_to_look(&db, path, err);
        if (r < 0)
                return r;
        if (db_query_int(&db, "PRAGMA application_id", &id, err) < 0)
                r = damaged_or_failed(&db, err);
        else if (id != APPLICATION_ID)
                r = error_set(err, -EINVAL, path, "it is a database of another program; it was left as it is");
        else
                r = check_pages(&db, (int64_t)st->st_size, err);
        db_close(&db);
        return r;
}

int db_check_file(const char *folder, char *ret_path, size_t size, struct error *err)
{
        char wal[1200];
        struct stat st, link;
        int r;

        if (snprintf(ret_path, size, "%s/mulund.db", folder) >= (int)size)
                return error_set(err, -ENAMETOOLONG, folder, "the path is too long");
        (void)snprintf(wal, sizeof wal, "%s-wal", ret_path);
        r = stat(ret_path, &st) < 0 ? -errno : 0;
        if (r == 0 && !S_ISREG(st.st_mode)) /* a FIFO would be waited for */
                return damaged(ret_path, "it is no regular file", err);
        if (r == 0) {
                r = check(ret_path, &st, err);
                return r < 0 ? r : 1;
        }
        if (r != -ENOENT)
                return error_set(err, r, ret_path, "cannot be opened: %s", strerror(-r));
        if (lstat(ret_path, &link) == 0) /* a new one would replace the link, and all jobs would be gone */
                return error_set(err, -ENOENT, ret_path, "is a link that leads nowhere: is its disk mounted?");
        if (stat(wal, &st) == 0 && st.st_size > 0)
                return damaged(ret_path, "it is missing, but its log mulund.db-wal is there", err);
        return 0;
}

int db_prepare_file(const char *folder, char *ret_path, size_t size, struct error *err)
{
        struct db db = {0};
        int r = db_check_file(folder, ret_path, size, err);

        if (r == 0)
                r = create(folder, ret_path, err);
        if (r < 0)
                return r;
        r = db_open_file(&db, ret_path, SQLITE_OPEN_READWRITE, err);
        if (r >= 0)
                r = db_migrate(&db, err);
        db_close(&db);
        return r;
}
