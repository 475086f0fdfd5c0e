/* Puts points straight into a store, for tests and benchmarks that need more than they can send:
 *
 *     add_points FOLDER ATTEMPT FIRST N NAME..
 *
 * N points of each series NAME, at steps FIRST, FIRST + 1, .., a value step / 7 at 10^12 + step ms. It may run beside a
 * daemon: the writer keeps nothing in memory between two writes. */
#include "store/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

static int64_t last_seq(const char *folder, const char *attempt)
{
        char path[1200], sql[100];
        sqlite3 *db;
        sqlite3_stmt *st;
        int64_t seq = -1;

        (void)snprintf(path, sizeof path, "%s/mulund.db", folder);
        (void)snprintf(sql, sizeof sql, "SELECT last_seq FROM attempt WHERE id = %lld", atoll(attempt));
        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
            sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK) {
                if (sqlite3_step(st) == SQLITE_ROW)
                        seq = sqlite3_column_int64(st, 0);
                (void)sqlite3_finalize(st);
        }
        (void)sqlite3_close(db);
        return seq;
}

static struct write *batch(int64_t attempt, int64_t seq, int64_t first, size_t n, char **names, size_t n_names)
{
        struct write *w = write_new(WRITE_EVENTS);
        struct event *e = calloc(1, sizeof *e);

        *e = (struct event){.type = EVENT_SCALARS, .seq = seq, .n_rows = n, .n_columns = n_names};
        e->row_step = calloc(n, sizeof *e->row_step);
        e->row_time_ms = calloc(n, sizeof *e->row_time_ms);
        for (size_t k = 0; k < n_names; k++) {
                e->column_name[k] = strdup(names[k]);
                e->column[k] = calloc(n, sizeof *e->column[k]);
        }
        for (size_t i = 0; i < n; i++) {
                e->row_step[i] = first + (int64_t)i;
                e->row_time_ms[i] = 1000000000000 + e->row_step[i];
                for (size_t k = 0; k < n_names; k++)
                        e->column[k][i] = (double)e->row_step[i] / 7;
        }
        w->attempt = attempt;
        w->events = e;
        w->n_events = 1;
        return w;
}

int main(int argc, char **argv)
{
        struct store *s;
        struct error err;
        int64_t attempt, seq, first, n;
        int r;

        if (argc < 6 || argc - 5 > EVENT_COLUMNS_MAX)
                return 2;
        attempt = atoll(argv[2]);
        first = atoll(argv[3]);
        n = atoll(argv[4]);
        r = store_open(argv[1], &s, &err);
        seq = r < 0 ? -1 : last_seq(argv[1], argv[2]);
        if (r >= 0 && seq < 0)
                r = error_set(&err, -ENOENT, argv[1], "there is no attempt %s", argv[2]);
        for (int64_t i = 0; r >= 0 && i < n; i += EVENT_ROWS_MAX)
                r = store_write(s,
                                batch(attempt, ++seq, first + i, (size_t)MIN(n - i, EVENT_ROWS_MAX), argv + 5,
                                      (size_t)argc - 5),
                                NULL, &err);
        if (r < 0)
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
        else
                (void)store_close(s);
        return r < 0;
}
