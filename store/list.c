/* Lists of jobs: a filter becomes one or several streams of ids, each by an index and each no longer than the page;
 * what they bring together is put in order, and only the page's rows are read. So a page costs the same in a table of a
 * million: but that a tag, or a text, is filtered by state and kind as it comes, that a configuration's values are in
 * no index, and that a sorted list is looked through whole. */
#include "store/internal.h"

#include "base/array.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define TRIGRAM 3 /* letters: a shorter text is in no index, and all jobs are walked */
#define FEW 1000  /* jobs, which are sooner walked than a text is looked up */
#define MANY 4    /* one in so many, whose rows take longer than an index of all */

struct ids {
        int64_t *items;
        size_t n, room;
};

enum stream { STREAM_ALL, STREAM_OF, STREAM_TAGGED, STREAM_TEXT, STREAM_FROM, STREAM_NAMED, STREAM_N };

static enum statement statement_of(enum stream s, enum job_order order)
{
        static const enum statement statements[STREAM_N][2] = {
                [STREAM_ALL] = {ST_IDS_ALL_NEWEST, ST_IDS_ALL_OLDEST},
                [STREAM_OF] = {ST_IDS_OF_NEWEST, ST_IDS_OF_OLDEST},
                [STREAM_TAGGED] = {ST_IDS_TAGGED_NEWEST, ST_IDS_TAGGED_OLDEST},
                [STREAM_TEXT] = {ST_IDS_TEXT_NEWEST, ST_IDS_TEXT_OLDEST},
                [STREAM_FROM] = {ST_IDS_FROM_NEWEST, ST_IDS_FROM_OLDEST},
                [STREAM_NAMED] = {ST_IDS_NAMED_NEWEST, ST_IDS_NAMED_OLDEST},
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

static int64_t count(const struct job_counts *c, unsigned states, unsigned kinds)
{
        int64_t n = 0;

        for (int state = 0; state < JOB_STATE_N; state++)
                for (int kind = 0; kind < JOB_KIND_N; kind++)
                        if (states >> state & 1 && kinds >> kind & 1)
                                n += c->n[state][kind];
        return n;
}

/* What is read: ids, or, where `by` is not NULL, the first of all in its order. */
struct walk {
        struct reader *r;
        const struct job_filter *f;
        const struct job_sorting *by;
        struct ids ids; /* where it is sorted: of the growing that were met */
        struct ids growing;
        struct sort sort;
        int64_t total;
};

/* The whole filter in one stream, or STREAM_OF: one for each pair of state and kind. Of what is filtered as it comes
 * the fewest jobs are walked: those that are named, those of a checkpoint, those of these states and kinds, or of the
 * tag; how many a text brings nobody knows, so it is looked up where the others are many. */
static int choose_stream(const struct walk *w, enum stream *ret, struct error *err)
{
        const struct job_filter *f = w->f;
        bool any = is_any(f->states, JOB_STATE_N) && is_any(f->kinds, JOB_KIND_N);
        bool indexed = f->text && n_letters(f->text) >= TRIGRAM;
        int64_t kept = INT64_MAX, tagged = INT64_MAX;
        struct job_counts counts;
        int n = 0;

        *ret = f->order == ORDER_QUEUE ? STREAM_ALL : f->ids ? STREAM_NAMED : f->source_job ? STREAM_FROM : STREAM_OF;
        if (*ret != STREAM_OF)
                return 0;
        *ret = any ? STREAM_ALL : STREAM_OF;
        if (!any && (f->tag || f->text || w->by)) {
                n = reader_job_counts(w->r, &counts, err);
                kept = n < 0 ? 0 : count(&counts, f->states, f->kinds);
                if (w->by && n >= 0 && kept > count(&counts, JOB_ANY, JOB_ANY) / MANY)
                        *ret = STREAM_ALL; /* whose index has all that it is sorted by */
        }
        if (n >= 0 && f->tag)
                n = tag_total(w->r, f->tag, &tagged, err);
        if (indexed && MIN(kept, tagged) > FEW)
                *ret = STREAM_TEXT;
        else if (f->tag && tagged <= kept)
                *ret = STREAM_TAGGED;
        return n;
}

static void bind_bound(sqlite3_stmt *st, const struct job_filter *f)
{
        int64_t first = f->order == ORDER_NEWEST ? INT64_MAX : 0;

        bind_int(st, ":bound", f->bound ? f->bound : first);
        bind_int(st, ":rank", f->bound ? -f->bound_priority : -INT64_MAX);
        bind_int(st, ":limit", f->limit);
}

/* What the stream is read by needs no second look. */
static void bind_filter(sqlite3_stmt *st, const struct job_filter *f, enum stream s)
{
        bind_int(st, ":states", f->states);
        bind_int(st, ":kinds", f->kinds);
        bind_text(st, s == STREAM_TAGGED ? ":with_tag" : ":tag", f->tag);
        bind_text(st, s == STREAM_NAMED ? ":named" : ":ids", f->ids);
        if (s != STREAM_TEXT)
                bind_text(st, ":text", f->text);
        if (f->source_job)
                bind_int(st, s == STREAM_FROM ? ":from" : ":source", f->source_job);
        bind_text(st, ":config", f->config);
}

static int oldest_first(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

static int newest_first(const void *a, const void *b)
{
        return oldest_first(b, a);
}

static int add_id(struct ids *ids, int64_t id)
{
        if (!array_grow(&ids->items, ids->n, &ids->room, sizeof *ids->items))
                return -ENOMEM;
        ids->items[ids->n++] = id;
        return 0;
}

static int take(struct walk *w, sqlite3_stmt *st)
{
        int64_t id = sqlite3_column_int64(st, 0);
        struct sort_key key;

        if (!w->by)
                return add_id(&w->ids, id);
        w->total++;
        if (w->growing.n && bsearch(&id, w->growing.items, w->growing.n, sizeof id, oldest_first))
                return add_id(&w->ids, id);
        key = sort_key_read(st, 1, id);
        sort_add(&w->sort, &key);
        return 0;
}

/* state and kind: of STREAM_OF. */
static int read_stream(struct walk *w, enum stream s, int state, int kind, struct error *err)
{
        struct db *db = &w->r->db;
        _cleanup_statement_ sqlite3_stmt *st = db_statement(db, statement_of(s, w->f->order));
        _cleanup_(freep) char *match = s == STREAM_TEXT ? phrase(w->f->text) : NULL;
        int n = s == STREAM_TEXT && !match ? -ENOMEM : 0;

        bind_bound(st, w->f);
        bind_filter(st, w->f, s);
        bind_int(st, ":state", state);
        bind_int(st, ":kind", kind);
        bind_text(st, ":match", match);
        bind_int(st, ":sort", w->by ? w->by->by : SORT_NONE);
        if (w->by) {
                bind_int(st, ":now", w->by->now_us);
                bind_text(st, ":sort_path", w->by->path);
        }
        while (n >= 0 && (n = db_step(db, st, err)) > 0)
                n = take(w, st);
        (void)sqlite3_clear_bindings(st); /* match goes */
        return n == -ENOMEM ? error_set(err, n, NULL, "no memory for a list") : n;
}

static int read_streams(struct walk *w, enum stream *ret, struct error *err)
{
        const struct job_filter *f = w->f;
        int n = choose_stream(w, ret, err);

        if (n < 0 || *ret != STREAM_OF)
                return n < 0 ? n : read_stream(w, *ret, 0, 0, err);
        for (int state = 0; state < JOB_STATE_N; state++)
                for (int kind = 0; n >= 0 && kind < JOB_KIND_N; kind++)
                        if (f->states >> state & 1 && f->kinds >> kind & 1)
                                n = read_stream(w, STREAM_OF, state, kind, err);
        return n;
}

static int read_ids(struct walk *w, struct error *err)
{
        enum stream s = STREAM_ALL;
        int n = read_streams(w, &s, err);

        if (w->ids.n && (s == STREAM_OF || s == STREAM_NAMED))
                qsort(w->ids.items, w->ids.n, sizeof *w->ids.items,
                      w->f->order == ORDER_NEWEST ? newest_first : oldest_first);
        w->ids.n = MIN(w->ids.n, (size_t)w->f->limit);
        return n;
}

/* A positive answer: it went just now. */
static int read_row(struct walk *w, int64_t id, int (*row)(const struct job_row *j, void *user), void *user,
                    struct error *err)
{
        struct job_row j;
        int n = reader_job_without(w->r, id, w->f->without, &j, err);

        if (n < 0)
                return n == -ENOENT ? 1 : n;
        n = row(&j, user);
        job_row_done(&j);
        return MIN(n, 0);
}

int reader_jobs(struct reader *r, const struct job_filter *f, int (*row)(const struct job_row *j, void *user),
                void *user, struct error *err)
{
        struct walk w = {.r = r, .f = f};
        int n = read_ids(&w, err);

        for (size_t i = 0; n >= 0 && i < w.ids.n; i++)
                n = read_row(&w, w.ids.items[i], row, user, err);
        free(w.ids.items);
        return MIN(n, 0);
}

static int read_growing(struct walk *w, struct error *err)
{
        _cleanup_statement_ sqlite3_stmt *st = db_statement(&w->r->db, ST_IDS_GROWING);
        int n = 0;

        bind_int(st, ":sort", w->by->by);
        while (n >= 0 && (n = db_step(&w->r->db, st, err)) > 0)
                n = add_id(&w->growing, sqlite3_column_int64(st, 0));
        if (w->growing.n)
                qsort(w->growing.items, w->growing.n, sizeof *w->growing.items, oldest_first);
        return n == -ENOMEM ? error_set(err, n, NULL, "no memory for a list") : n;
}

struct curve_value {
        enum job_sort by;
        double value; /* NAN: it has no such curve, or its last point is not a number */
};

static int note_value(const struct series_row *s, void *user)
{
        struct curve_value *v = user;
        bool test = v->by == SORT_TEST_BPD || v->by == SORT_BEST_TEST_BPD;

        if (!strcmp(s->name, test ? "eval/bpd" : "train/bpd"))
                v->value = v->by == SORT_TEST_BPD || v->by == SORT_TRAIN_BPD ? s->last : s->min;
        return 0;
}

/* Those that were left out: their curves as they are shown, with what is in no summary yet. */
static int sort_growing(struct walk *w, struct error *err)
{
        int n = 0;

        for (size_t i = 0; n >= 0 && i < w->ids.n; i++) {
                struct curve_value v = {w->by->by, __builtin_nan("")};
                struct sort_key key;

                n = reader_series(w->r, w->ids.items[i], note_value, &v, err);
                key = (struct sort_key){
                        .type = isnan(v.value) ? SORT_NOTHING : SORT_NUMBER, .number = v.value, .id = w->ids.items[i]};
                sort_add(&w->sort, &key);
        }
        return n;
}

int reader_jobs_sorted(struct reader *r, const struct job_filter *f, const struct job_sorting *s,
                       int (*row)(const struct job_row *j, void *user), void *user, struct job_sorted *ret,
                       struct error *err)
{
        struct job_filter all = *f;
        struct walk w = {.r = r, .f = &all, .by = s};
        enum stream stream;
        int n;

        all.order = ORDER_NEWEST;
        all.bound = 0;
        all.limit = INT64_MAX;
        if (sort_begin(&w.sort, (size_t)f->limit, s->descending, s->behind) < 0)
                return error_set(err, -ENOMEM, NULL, "no memory for a list");
        n = read_growing(&w, err);
        if (n >= 0)
                n = read_streams(&w, &stream, err);
        if (n >= 0)
                n = sort_growing(&w, err);
        sort_end(&w.sort);
        *ret = (struct job_sorted){.total = w.total, .more = w.sort.more};
        for (size_t i = 0; n >= 0 && i < w.sort.n; i++) {
                ret->last = w.sort.keys[i];
                n = read_row(&w, ret->last.id, row, user, err);
        }
        sort_done(&w.sort);
        free(w.growing.items);
        free(w.ids.items);
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
        struct walk w = {.r = r, .f = &newest};
        int n = read_stream(&w, STREAM_ALL, 0, 0, err);

        bind_int(st, ":after", w.ids.n ? w.ids.items[0] - MEASURED_OF : 0);
        free(w.ids.items);
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
        bool plain = !f->text && !f->ids && !f->config && !f->source_job;
        struct job_filter all = *f;
        struct walk w = {.r = r, .f = &all};
        struct job_counts counts;
        int n;

        if (plain && !f->tag) {
                n = reader_job_counts(r, &counts, err);
                *ret = n < 0 ? 0 : count(&counts, f->states, f->kinds);
                return n;
        }
        if (plain && is_any(f->states, JOB_STATE_N) && is_any(f->kinds, JOB_KIND_N))
                return tag_total(r, f->tag, ret, err);
        all.bound = 0;
        all.limit = max + 1;
        n = read_ids(&w, err);
        *ret = (int64_t)w.ids.n > max ? -1 : (int64_t)w.ids.n;
        free(w.ids.items);
        return MIN(n, 0);
}
