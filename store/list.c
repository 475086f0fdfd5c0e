/* Lists of jobs: a filter becomes one or several streams of ids, each by an index and each no longer than the page;
 * what they bring together is put in order, and only the page's rows are read. So a page costs the same in a table of a
 * million: but that a tag, or a text, is filtered by state and kind as it comes. */
#include "store/internal.h"

#include "base/array.h"

#include <errno.h>
#include <string.h>

#define TRIGRAM 3 /* letters: a shorter text is in no index, and all jobs are walked */
#define FEW 1000  /* jobs, which are sooner walked than a text is looked up */

struct ids {
        int64_t *items;
        size_t n, room;
};

enum stream { STREAM_ALL, STREAM_OF, STREAM_TAGGED, STREAM_TEXT, STREAM_SHORT, STREAM_N };

static enum statement statement_of(enum stream s, enum job_order order)
{
        static const enum statement statements[STREAM_N][2] = {
                [STREAM_ALL] = {ST_IDS_ALL_NEWEST, ST_IDS_ALL_OLDEST},
                [STREAM_OF] = {ST_IDS_OF_NEWEST, ST_IDS_OF_OLDEST},
                [STREAM_TAGGED] = {ST_IDS_TAGGED_NEWEST, ST_IDS_TAGGED_OLDEST},
                [STREAM_TEXT] = {ST_IDS_TEXT_NEWEST, ST_IDS_TEXT_OLDEST},
                [STREAM_SHORT] = {ST_IDS_SHORT_NEWEST, ST_IDS_SHORT_OLDEST},
        };

        return order == ORDER_QUEUE ? ST_IDS_QUEUE : statements[s][order];
}

static size_t n_letters(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += (*s & 0xc0) != 0x80;
        return n;
}

/* The text as one phrase of FTS5's language: in quotes, its own doubled. NULL without memory. */
static char *phrase(const char *text)
{
        char *p = malloc(2 * strlen(text) + 3), *to = p;

        if (!p)
                return NULL;
        *to++ = '"';
        for (; *text; text++) {
                if (*text == '"')
                        *to++ = '"';
                *to++ = *text;
        }
        *to++ = '"';
        *to = 0;
        return p;
}

static bool is_any(unsigned mask, unsigned n)
{
        return (mask & ((1U << n) - 1)) == (1U << n) - 1;
}

static int tag_total(struct reader *r, const char *tag, int64_t *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_TAG_COUNT);
        int n;

        bind_text(st, ":tag", tag);
        n = db_step(&r->db, st, err);
        *ret = n > 0 ? sqlite3_column_int64(st, 0) : 0;
        (void)sqlite3_clear_bindings(st);
        return MIN(n, 0);
}

int reader_job_counts(struct reader *r, struct job_counts *ret, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOB_COUNTS);
        int n;

        *ret = (struct job_counts){0};
        while ((n = db_step(&r->db, st, err)) > 0) {
                int state = sqlite3_column_int(st, 0), kind = sqlite3_column_int(st, 1);

                if (state < JOB_STATE_N && kind < JOB_KIND_N)
                        ret->n[state][kind] = sqlite3_column_int64(st, 2);
        }
        return n;
}

static int kept_total(struct reader *r, const struct job_filter *f, int64_t *ret, struct error *err)
{
        struct job_counts counts;
        int n = reader_job_counts(r, &counts, err);

        *ret = 0;
        for (int state = 0; n >= 0 && state < JOB_STATE_N; state++)
                for (int kind = 0; kind < JOB_KIND_N; kind++)
                        if (f->states >> state & 1 && f->kinds >> kind & 1)
                                *ret += counts.n[state][kind];
        return n;
}

/* The whole filter in one stream, or STREAM_OF: one for each pair of state and kind. Of what is filtered as it comes
 * the fewest jobs are walked: those of these states and kinds, or of the tag; how many a text brings nobody knows, so
 * it is looked up where the others are many. */
static int choose_stream(struct reader *r, const struct job_filter *f, enum stream *ret, struct error *err)
{
        bool any = is_any(f->states, JOB_STATE_N) && is_any(f->kinds, JOB_KIND_N);
        bool indexed = f->text && n_letters(f->text) >= TRIGRAM;
        int64_t kept = INT64_MAX, tagged = INT64_MAX;
        int n = 0;

        *ret = any || f->order == ORDER_QUEUE ? STREAM_ALL : STREAM_OF;
        if (f->order == ORDER_QUEUE || (!f->tag && !f->text))
                return 0;
        if (!any)
                n = kept_total(r, f, &kept, err);
        if (n >= 0 && f->tag)
                n = tag_total(r, f->tag, &tagged, err);
        if (indexed && MIN(kept, tagged) > FEW)
                *ret = STREAM_TEXT;
        else if (f->tag && tagged <= kept)
                *ret = STREAM_TAGGED;
        else if (any)
                *ret = STREAM_SHORT;
        return n;
}

static void bind_bound(sqlite3_stmt *st, const struct job_filter *f)
{
        int64_t first = f->order == ORDER_NEWEST ? INT64_MAX : 0;

        bind_int(st, ":bound", f->bound ? f->bound : first);
        bind_int(st, ":rank", f->bound ? -f->bound_priority : -INT64_MAX);
        bind_int(st, ":limit", f->limit);
}

/* Appends the ids of a stream. state and kind: of STREAM_OF. */
static int read_stream(struct reader *r, const struct job_filter *f, enum stream s, int state, int kind,
                       struct ids *ids, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, statement_of(s, f->order));
        _cleanup_(freep) char *match = s == STREAM_TEXT ? phrase(f->text) : NULL;
        int n;

        if (s == STREAM_TEXT && !match)
                return error_set(err, -ENOMEM, NULL, "no memory for a list");
        bind_bound(st, f);
        bind_int(st, ":state", state);
        bind_int(st, ":kind", kind);
        bind_int(st, ":states", f->states);
        bind_int(st, ":kinds", f->kinds);
        bind_text(st, ":tag", f->tag);
        bind_text(st, ":text", f->text);
        bind_text(st, ":match", match);
        while ((n = db_step(&r->db, st, err)) > 0) {
                if (!array_grow(&ids->items, ids->n, &ids->room, sizeof *ids->items)) {
                        n = error_set(err, -ENOMEM, NULL, "no memory for a list");
                        break;
                }
                ids->items[ids->n++] = sqlite3_column_int64(st, 0);
        }
        (void)sqlite3_clear_bindings(st); /* match goes */
        return n;
}

static int newest_first(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x < y) - (x > y);
}

static int oldest_first(const void *a, const void *b)
{
        return newest_first(b, a);
}

static int read_ids(struct reader *r, const struct job_filter *f, struct ids *ids, struct error *err)
{
        enum stream s = STREAM_ALL;
        int n = choose_stream(r, f, &s, err);

        if (n < 0)
                return n;
        if (s != STREAM_OF)
                return read_stream(r, f, s, 0, 0, ids, err);
        for (int state = 0; state < JOB_STATE_N; state++)
                for (int kind = 0; n >= 0 && kind < JOB_KIND_N; kind++)
                        if (f->states >> state & 1 && f->kinds >> kind & 1)
                                n = read_stream(r, f, s, state, kind, ids, err);
        if (ids->n)
                qsort(ids->items, ids->n, sizeof *ids->items, f->order == ORDER_NEWEST ? newest_first : oldest_first);
        ids->n = MIN(ids->n, (size_t)f->limit);
        return n;
}

int reader_jobs(struct reader *r, const struct job_filter *f, int (*row)(const struct job_row *j, void *user),
                void *user, struct error *err)
{
        struct ids ids = {0};
        int n = read_ids(r, f, &ids, err);

        for (size_t i = 0; n >= 0 && i < ids.n; i++) {
                struct job_row j;

                n = reader_job_without(r, ids.items[i], f->without, &j, err);
                if (n == -ENOENT) { /* it went just now */
                        n = 0;
                        continue;
                }
                if (n < 0)
                        break;
                n = row(&j, user);
                job_row_done(&j);
        }
        free(ids.items);
        return MIN(n, 0);
}

/* ---- counts */

int reader_tags(struct reader *r, const char *after, int64_t limit, int (*row)(const char *tag, int64_t n, void *user),
                void *user, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_TAGS);
        int n;

        bind_text(st, ":after", after);
        bind_int(st, ":limit", limit);
        while ((n = db_step(&r->db, st, err)) > 0) {
                n = row((const char *)sqlite3_column_text(st, 0), sqlite3_column_int64(st, 1), user);
                if (n < 0)
                        break;
        }
        (void)sqlite3_clear_bindings(st);
        return MIN(n, 0);
}

#define MEASURED_OF 5000 /* ids: what is older says little of this machine */

int reader_step_cost(struct reader *r, const struct job_row *like, struct step_cost *ret, struct error *err)
{
        const struct job_filter newest = {.states = JOB_ANY, .kinds = JOB_ANY, .limit = 1};
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&r->db, ST_JOB_MEASURED);
        struct ids ids = {0};
        int n = read_stream(r, &newest, STREAM_ALL, 0, 0, &ids, err);

        bind_int(st, ":after", ids.n ? ids.items[0] - MEASURED_OF : 0);
        free(ids.items);
        bind_int(st, ":kind", like->kind);
        bind_int(st, ":gpu", like->gpu);
        bind_int(st, ":memory_bytes", like->memory_bytes);
        if (n >= 0)
                n = db_step(&r->db, st, err);
        if (n > 0)
                *ret = (struct step_cost){sqlite3_column_double(st, 0), column_real(st, 1)};
        return n > 0 ? 0 : n < 0 ? n : -ENOENT;
}

int reader_jobs_total(struct reader *r, const struct job_filter *f, int64_t max, int64_t *ret, struct error *err)
{
        struct job_filter all = *f;
        struct ids ids = {0};
        int n;

        if (!f->tag && !f->text)
                return kept_total(r, f, ret, err);
        if (f->tag && !f->text && is_any(f->states, JOB_STATE_N) && is_any(f->kinds, JOB_KIND_N))
                return tag_total(r, f->tag, ret, err);
        all.bound = 0;
        all.limit = max + 1;
        n = read_ids(r, &all, &ids, err);
        *ret = (int64_t)ids.n > max ? -1 : (int64_t)ids.n;
        free(ids.items);
        return MIN(n, 0);
}
