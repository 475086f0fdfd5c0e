/* Tokens, sessions, the audit log; and what webhooks were told. */
#include "store/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

const char *const role_names[] = {"none", "read", "submit", "admin", NULL};
static_assert(ARRAY_LEN(role_names) == ROLE_N + 1, "a name a role");

static void copy_text(char *to, size_t size, sqlite3_stmt *st, int i)
{
        const char *text = (const char *)sqlite3_column_text(st, i);

        (void)snprintf(to, size, "%s", text ? text : "");
}

/* ---- tokens */

static void fill_token(sqlite3_stmt *st, struct token_row *t)
{
        *t = (struct token_row){.role = (enum role)sqlite3_column_int(st, 1),
                                .created_us = sqlite3_column_int64(st, 4)};
        copy_text(t->name, sizeof t->name, st, 0);
        copy_text(t->salt, sizeof t->salt, st, 2);
        copy_text(t->hash, sizeof t->hash, st, 3);
}

int reader_token(struct reader *r, const char *name, struct token_row *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_TOKEN_BY_NAME);
        int n;

        bind_text(st, ":name", name);
        n = db_step(&r->db, st, err);
        if (n > 0)
                fill_token(st, ret);
        (void)sqlite3_clear_bindings(st);
        return n < 0 ? n : n == 0 ? error_set(err, -ENOENT, NULL, "there is no token of this name") : 0;
}

int reader_tokens(struct reader *r, int (*row)(const struct token_row *t, void *user), void *user, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_TOKENS);
        struct token_row t;
        int n;

        while ((n = db_step(&r->db, st, err)) > 0) {
                fill_token(st, &t);
                n = row(&t, user);
                if (n < 0)
                        return n;
        }
        return n;
}

/* Another token may have its name one day. */
static int end_sessions_of(struct db *db, const char *token, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_SESSIONS_OF_TOKEN_DELETE);

        bind_text(st, ":name", token);
        return db_run(db, st, err);
}

int apply_token(struct db *db, struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, w->out ? ST_TOKEN_DELETE : ST_TOKEN_INSERT);
        const struct token_row *t = &w->token;
        int r;

        bind_text(st, ":name", t->name);
        if (!w->out) {
                bind_int(st, ":role", t->role);
                bind_text(st, ":salt", t->salt);
                bind_text(st, ":hash", t->hash);
                bind_int(st, ":created", t->created_us);
        }
        r = db_run(db, st, err);
        if (r >= 0 && sqlite3_changes(db->handle))
                return w->out ? end_sessions_of(db, t->name, err) : 0;
        if (r < 0)
                return r;
        return w->out ? error_set(err, -ENOENT, NULL, "there is no token of this name")
                      : error_set(err, -EEXIST, NULL, "there is a token of this name");
}

/* ---- sessions */

int reader_session(struct reader *r, const char *hash, int64_t now_us, struct session_row *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_SESSION);
        struct session_row s = {0};
        int n;

        bind_text(st, ":hash", hash);
        n = db_step(&r->db, st, err);
        if (n > 0) {
                s.uid = sqlite3_column_int64(st, 1);
                s.until_us = sqlite3_column_int64(st, 2);
                copy_text(s.token, sizeof s.token, st, 0);
                (void)snprintf(s.hash, sizeof s.hash, "%s", hash);
        }
        (void)sqlite3_clear_bindings(st);
        if (n < 0)
                return n;
        if (s.until_us <= now_us)
                return error_set(err, -ENOENT, NULL, "there is no such session");
        *ret = s;
        return 0;
}

static int run_with_int(struct db *db, enum statement which, const char *name, int64_t value, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, which);

        bind_int(st, name, value);
        return db_run(db, st, err);
}

int apply_session(struct db *db, const struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, w->out ? ST_SESSION_DELETE : ST_SESSION_INSERT);
        const struct session_row *s = &w->session;
        int r;

        bind_text(st, ":hash", s->hash);
        if (!w->out) {
                bind_text(st, ":token", s->token);
                bind_int(st, ":uid", s->uid);
                bind_int(st, ":until", s->until_us);
        }
        r = db_run(db, st, err);
        if (r >= 0)
                r = run_with_int(db, ST_SESSIONS_EXPIRE, ":now", w->time_us, err);
        return r < 0 ? r : run_with_int(db, ST_SESSIONS_CROWD, ":most", SESSIONS_MAX, err);
}

/* ---- the audit log */

int apply_audit(struct db *db, const struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_AUDIT_INSERT);
        const struct audit_row *a = &w->audit;

        bind_int(st, ":time", a->time_us);
        if (a->uid >= 0)
                bind_int(st, ":uid", a->uid);
        bind_text(st, ":user", a->user);
        bind_text(st, ":token", a->token);
        bind_text(st, ":address", a->address);
        bind_text(st, ":request", a->request);
        bind_text(st, ":action", a->action);
        bind_int(st, ":job", w->kind == WRITE_JOB_NEW ? w->ret_id : a->job);
        return db_run(db, st, err);
}

int reader_audit(struct reader *r, int64_t after, int64_t limit, int (*row)(const struct audit_row *a, void *user),
                 void *user, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_AUDIT);
        int n;

        bind_int(st, ":after", after);
        bind_int(st, ":limit", limit);
        while ((n = db_step(&r->db, st, err)) > 0) {
                struct audit_row a = {
                        .id = sqlite3_column_int64(st, 0),
                        .time_us = sqlite3_column_int64(st, 1),
                        .uid = sqlite3_column_type(st, 2) == SQLITE_NULL ? -1 : sqlite3_column_int64(st, 2),
                        .job = sqlite3_column_int64(st, 8),
                };

                copy_text(a.user, sizeof a.user, st, 3);
                copy_text(a.token, sizeof a.token, st, 4);
                copy_text(a.address, sizeof a.address, st, 5);
                copy_text(a.request, sizeof a.request, st, 6);
                copy_text(a.action, sizeof a.action, st, 7);
                n = row(&a, user);
                if (n < 0)
                        return n;
        }
        return n;
}

/* ---- webhooks */

int apply_delivery(struct db *db, const struct write *w, struct error *err)
{
        sqlite3_stmt *st = db_statement(db, ST_DELIVERY_INSERT);
        const struct delivery_row *d = &w->delivery;
        int r;

        bind_text(st, ":hook", d->hook);
        bind_int(st, ":event", d->event);
        bind_int(st, ":job", d->job);
        bind_int(st, ":attempt", d->attempt);
        bind_int(st, ":time", d->time_us);
        bind_int(st, ":took", d->took_us);
        bind_int(st, ":code", d->code);
        bind_text(st, ":detail", d->detail);
        r = db_run(db, st, err);
        if (r < 0)
                return r;
        st = db_statement(db, ST_DELIVERIES_CROWD);
        bind_text(st, ":hook", d->hook);
        bind_int(st, ":most", DELIVERIES_MAX);
        return db_run(db, st, err);
}

int reader_deliveries(struct reader *r, const char *hook, int64_t before, int64_t limit,
                      int (*row)(const struct delivery_row *d, void *user), void *user, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_DELIVERIES);
        int n;

        bind_text(st, ":hook", hook);
        bind_int(st, ":before", before);
        bind_int(st, ":limit", limit);
        while ((n = db_step(&r->db, st, err)) > 0) {
                struct delivery_row d = {
                        .id = sqlite3_column_int64(st, 0),
                        .event = sqlite3_column_int64(st, 1),
                        .job = sqlite3_column_int64(st, 2),
                        .attempt = sqlite3_column_int64(st, 3),
                        .time_us = sqlite3_column_int64(st, 4),
                        .took_us = sqlite3_column_int64(st, 5),
                        .code = sqlite3_column_int64(st, 6),
                };

                (void)snprintf(d.hook, sizeof d.hook, "%s", hook);
                copy_text(d.detail, sizeof d.detail, st, 7);
                n = row(&d, user);
                if (n < 0)
                        return n;
        }
        return n;
}

int reader_delivery_attempts(struct reader *r, const char *hook, int64_t event, int64_t *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_DELIVERY_LAST);
        int n;

        bind_text(st, ":hook", hook);
        bind_int(st, ":event", event);
        n = db_step(&r->db, st, err);
        if (n > 0)
                *ret = sqlite3_column_int64(st, 0);
        return MIN(n, 0);
}
