/* Curves against a model that keeps every point: whatever attempts, batches and steps that go back made of them,
 * buckets, points, names and summaries are the model's, while they wait in tails, when they are in chunks, and under
 * levels. */
#include "helpers.h"

#define N_NAMES 3
static const char *const names[N_NAMES] = {"a", "b", "c"};

struct known {
        int64_t attempt; /* number */
        int name;
        struct point p;
};
struct answer {
        struct known *k;
        size_t n;
        int64_t attempt;
        size_t of_points; /* so many there were */
        int64_t of_attempts;
};
struct model {
        struct fixture *f;
        struct known *points; /* in order of arrival */
        size_t n, room;
        int64_t job, attempts;
        int64_t ids[64], first_step[64], seq[64]; /* by number */
        struct answer answers[N_NAMES];
        unsigned seed;
};

static unsigned draw(struct model *m, unsigned below)
{
        return (unsigned)rand_r(&m->seed) % below;
}

static double value(struct model *m)
{
        static const double others[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 0.1};

        return draw(m, 50) == 0 ? others[draw(m, 6)] : (double)(float)(2.5 + draw(m, 1000) / 997.0);
}

static void start(struct model *m, int64_t first_step)
{
        int64_t k = ++m->attempts;

        m->ids[k] = new_attempt(m->f, m->job, first_step);
        m->first_step[k] = first_step;
        m->seq[k] = 1;
        assert_int_equal(send(m->f, m->ids[k], plain(EVENT_START, 1, first_step)), 0);
}

static void say(struct model *m, int64_t attempt, int64_t step, size_t rows, int stride, unsigned back)
{
        struct event e = scalars(++m->seq[attempt], step, rows, names[0], identity);
        int first = (int)draw(m, 2);

        free(e.column_name[0]);
        e.column_name[0] = strdup(names[first]);
        e.n_columns = 2;
        e.column_name[1] = strdup(names[first + 1]);
        e.column[1] = calloc(rows, sizeof *e.column[1]);
        for (size_t i = 0; i < rows; i++) {
                e.row_step[i] = step;
                e.row_time_ms[i] = 1000 + (int64_t)m->n;
                step += stride ? stride : (int)draw(m, 3);
                if (back && draw(m, back) == 0)
                        step = MAX(step - (int64_t)draw(m, 40), 0);
                for (int c = 0; c < 2; c++) {
                        e.column[c][i] = value(m);
                        m->points = m->n == m->room
                                            ? realloc(m->points, (m->room = 2 * m->room + 64) * sizeof *m->points)
                                            : m->points;
                        m->points[m->n++] =
                                (struct known){attempt, first + c, {e.row_step[i], e.row_time_ms[i], e.column[c][i]}};
                }
        }
        assert_int_equal(send(m->f, m->ids[attempt], e), 0);
}

static bool shown(const struct model *m, const struct known *k, int64_t attempt)
{
        if (attempt)
                return k->attempt == attempt;
        for (int64_t later = k->attempt + 1; later <= m->attempts; later++)
                if (m->first_step[later] <= k->p.step)
                        return false;
        return true;
}

static bool in_order(const struct known *a, const struct known *b)
{
        return a->p.step < b->p.step || (a->p.step == b->p.step && a->attempt <= b->attempt);
}

static struct known *sort(struct known *k, size_t n)
{
        struct known *other = calloc(n + 1, sizeof *k), *swap;

        for (size_t width = 1; width < n; width *= 2, swap = k, k = other, other = swap)
                for (size_t begin = 0; begin < n; begin += 2 * width) {
                        size_t a = begin, middle = MIN(begin + width, n), b = middle, end = MIN(begin + 2 * width, n);

                        for (size_t i = begin; i < end; i++)
                                other[i] = b == end || (a < middle && in_order(&k[a], &k[b])) ? k[a++] : k[b++];
                }
        free(other);
        return k;
}

/* Those of a series, by (step, attempt, arrival); kept until another attempt of it is asked for, or points came. */
static const struct known *expected(struct model *m, int name, int64_t attempt, size_t *ret_n)
{
        struct answer *x = &m->answers[name];
        bool sorted = true;

        if (!x->k || x->attempt != attempt || x->of_points != m->n || x->of_attempts != m->attempts) {
                free(x->k);
                *x = (struct answer){calloc(m->n + 1, sizeof *x->k), 0, attempt, m->n, m->attempts};
                for (size_t i = 0; i < m->n; i++)
                        if (m->points[i].name == name && shown(m, &m->points[i], attempt)) {
                                x->k[x->n++] = m->points[i];
                                sorted = sorted && (x->n == 1 || in_order(&x->k[x->n - 2], &x->k[x->n - 1]));
                        }
                if (!sorted)
                        x->k = sort(x->k, x->n);
        }
        *ret_n = x->n;
        return x->k;
}

static void model_done(struct model *m)
{
        for (int i = 0; i < N_NAMES; i++)
                free(m->answers[i].k);
        free(m->points);
}

static void expect_points(struct model *m, int name)
{
        struct point_place place = POINTS_BEGIN;
        struct point p[700];
        size_t n, got, seen = 0;
        const struct known *k = expected(m, name, 0, &n);
        int r = reader_points_behind(m->f->reader, m->job, names[name], &place, 700, p, &got, NULL);

        assert_true(r == 0 || (r == -ENOENT && n == 0));
        while (r == 0 && got) {
                for (size_t i = 0; i < got; i++, seen++) {
                        assert_true(seen < n);
                        assert_memory_equal(&p[i], &k[seen].p, sizeof p[i]);
                }
                r = reader_points_behind(m->f->reader, m->job, names[name], &place, 700, p, &got, NULL);
        }
        assert_int_equal(seen, n);
}

static bool near(double a, double b)
{
        return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b)) ||
               (fabs(a) > 1e280 || fabs(b) > 1e280) || fabs(a - b) < 1e288 * 0;
}

static void expect_bucket(const struct curve *c, size_t b, const struct known *k, size_t n)
{
        double min = NAN, max = NAN, sum = 0;
        int64_t finite = 0, other[3] = {0};
        bool huge = false;

        for (size_t i = 0; i < n; i++) {
                double v = k[i].p.value;

                if (!isfinite(v)) {
                        other[isnan(v) ? 0 : v > 0 ? 1 : 2]++;
                        continue;
                }
                min = fmin(min, v);
                max = fmax(max, v);
                sum += v;
                finite++;
                huge |= fabs(v) > 1e200;
        }
        assert_int_equal(c->count[b], n);
        assert_true(c->not_a_number[b] == other[0] && c->infinite[b] == other[1] && c->minus_infinite[b] == other[2]);
        assert_true(near(c->min[b], min) && near(c->max[b], max));
        if (huge)
                assert_true(c->mean[b] >= min && c->mean[b] <= max);
        else
                assert_true(near(c->mean[b], finite ? sum / (double)finite : NAN));
        assert_true(c->step[b] == k[n - 1].p.step && c->time_ms[b] == k[n - 1].p.time_ms);
        assert_memory_equal(&c->last[b], &k[n - 1].p.value, sizeof(double));
}

struct checking {
        struct model *m;
        struct curve_question *q;
        struct grid grid; /* of all */
        int found;
};

/* Those of a question's times, by looking at each point: from the first step whose last point came at from_ms or later
 * to before the first that came later than to_ms. */
static const struct known *in_time(const struct curve_question *q, const struct known *k, size_t *n)
{
        size_t begin = 0, end;

        while (begin < *n && k[begin].p.time_ms < q->from_ms)
                begin++;
        while (begin > 0 && k[begin - 1].p.step == k[begin].p.step)
                begin--;
        for (end = begin; end < *n && k[end].p.time_ms <= q->to_ms;)
                end++;
        while (end > begin && end < *n && k[end - 1].p.step == k[end].p.step)
                end--;
        *n = end - begin;
        return k + begin;
}

static int check_curve(int64_t job, const char *name, struct curve *c, void *user)
{
        struct checking *x = user;
        size_t n, b = 0, i = 0;
        const struct known *k = expected(x->m, name[0] - 'a', x->q->attempt, &n);

        assert_int_equal(job, x->m->job);
        if (x->found++)
                assert_memory_equal(&c->grid, &x->grid, sizeof x->grid);
        x->grid = c->grid;
        k = in_time(x->q, k, &n);
        assert_true((int64_t)c->n <= x->q->n_buckets);
        for (; i < n && k[i].p.step < x->q->from; i++)
                ;
        for (size_t end; i < n && k[i].p.step <= x->q->to; i = end, b++) {
                for (end = i; end < n && k[end].p.step <= x->q->to &&
                              grid_index(&c->grid, k[end].p.step) == grid_index(&c->grid, k[i].p.step);)
                        end++;
                assert_true(b < c->n);
                expect_bucket(c, b, k + i, end - i);
        }
        assert_int_equal(b, c->n);
        return 0;
}

static void expect_curves(struct model *m)
{
        int64_t last = 1;

        for (size_t i = 0; i < m->n; i++)
                last = MAX(last, m->points[i].p.step);
        for (int i = 0; i < 12; i++) {
                bool whole = i < 2 || i == 8;
                struct curve_question q = {.n_jobs = 1,
                                           .n_names = N_NAMES,
                                           .jobs = &m->job,
                                           .names = names,
                                           .from = whole ? 0 : draw(m, (unsigned)last),
                                           .to = whole ? INT64_MAX : draw(m, (unsigned)last),
                                           .to_ms = INT64_MAX,
                                           .n_buckets = 1 + (int64_t)draw(m, i % 2 ? 10 : 1000),
                                           .logarithmic = draw(m, 2),
                                           .attempt = i >= 8 ? 1 + draw(m, (unsigned)m->attempts) : 0};
                struct checking x = {.m = m, .q = &q};

                if (q.from > q.to) {
                        int64_t swap = q.from;

                        q.from = q.to;
                        q.to = swap;
                }
                assert_int_equal(reader_curves(m->f->reader, &q, check_curve, &x, NULL), 0);
        }
}

static int check_series(const struct series_row *s, void *user)
{
        struct model *m = user;
        size_t n;
        const struct known *k = expected(m, s->name[0] - 'a', 0, &n);
        double min = NAN, max = NAN;

        for (size_t i = 0; i < n; i++)
                if (isfinite(k[i].p.value)) {
                        min = fmin(min, k[i].p.value);
                        max = fmax(max, k[i].p.value);
                }
        assert_int_equal(s->points, n);
        assert_true(near(s->min, min) && near(s->max, max));
        if (n) {
                assert_int_equal(s->last_step, k[n - 1].p.step);
                assert_true(s->last == k[n - 1].p.value || isnan(s->last) == isnan(k[n - 1].p.value));
        }
        return 0;
}

static void expect_all(struct model *m)
{
        for (int k = 0; k < N_NAMES; k++)
                expect_points(m, k);
        assert_int_equal(reader_series(m->f->reader, m->job, check_series, m, NULL), 0);
        expect_curves(m);
}

static void end(struct model *m, int64_t attempt)
{
        struct write *w = write_new(WRITE_ATTEMPT_END);

        w->attempt = m->ids[attempt];
        w->attempt_row.ended_us = 9;
        assert_int_equal(store_write(m->f->store, w, NULL, NULL), 0);
}

/* What only repeats is left to the plain build (./check sets it). */
static bool is_quick(void)
{
        return getenv("TEST_QUICK");
}

static void curves_are_what_the_model_says(void **state)
{
        for (unsigned seed = 1; seed <= (is_quick() ? 3 : 6); seed++) {
                struct model m = {.f = *state, .seed = seed};
                int64_t step = 0;

                m.job = new_job(m.f, "x", JOB_TRAIN, NULL);
                start(&m, 0);
                for (int i = 0; i < 60; i++) {
                        size_t rows = draw(&m, 4) == 0 ? 1 + draw(&m, 1500) : 1 + draw(&m, 20);

                        say(&m, draw(&m, 9) ? m.attempts : 1 + draw(&m, (unsigned)m.attempts), step, rows, 0,
                            seed % 3 ? 0 : 30);
                        step += (int64_t)rows;
                        if (draw(&m, 12) == 0) {
                                if (draw(&m, 2))
                                        end(&m, m.attempts);
                                step = draw(&m, (unsigned)step + 1);
                                start(&m, step);
                        }
                        if (i % 20 == 0)
                                expect_all(&m);
                }
                expect_all(&m);
                fixture_close(m.f);
                fixture_open(m.f);
                expect_all(&m);
                for (int64_t k = 1; k <= m.attempts; k++)
                        end(&m, k);
                expect_all(&m);
                model_done(&m);
        }
}

/* More points than 16 chunks have, of a series each, so that there are rows above the chunks; a resume in the middle.
 */
static void long_curves_are_what_the_model_says(void **state)
{
        struct model m = {.f = *state, .seed = 77};
        const int n = is_quick() ? 66 : 100, resumed = n * 1500 + 1;

        m.job = new_job(m.f, "x", JOB_TRAIN, NULL);
        start(&m, 0);
        for (int i = 0; i < n; i++)
                say(&m, 1, i * 4096, 4096, 1, 0);
        expect_curves(&m);
        start(&m, resumed);
        for (int i = 0; i < n; i++)
                say(&m, 2, resumed + 3 * i * 4000, 4000, 3, 0);
        expect_all(&m);
        model_done(&m);
}

/* Two attempts, chunks, a tail; several points at a step, which stays whole. */
static void a_range_of_times_is_a_range_of_steps(void **state)
{
        struct model m = {.f = *state, .seed = 5};

        m.job = new_job(m.f, "x", JOB_TRAIN, NULL);
        for (int64_t attempt = 1, step = 0; attempt <= 2; attempt++, step = 30000) {
                start(&m, step);
                for (int i = 0; i < 12; i++, step += 4096)
                        say(&m, attempt, step, 4000, 0, 0);
                say(&m, attempt, step, 7, 0, 0);
        }
        for (int i = 0; i < 200; i++) {
                int64_t last = 1000 + (int64_t)m.n, from = i % 4 ? draw(&m, (unsigned)last + 50) : 0,
                        to = i % 3 ? from + draw(&m, i % 5 ? (unsigned)last : 3) : INT64_MAX;
                struct curve_question q = {.n_jobs = 1,
                                           .n_names = N_NAMES,
                                           .jobs = &m.job,
                                           .names = names,
                                           .from = i % 7 ? 0 : 1000,
                                           .to = i % 11 ? INT64_MAX : 40000,
                                           .from_ms = from,
                                           .to_ms = to,
                                           .n_buckets = 1 + (int64_t)draw(&m, 300),
                                           .logarithmic = draw(&m, 2)};
                struct checking x = {.m = &m, .q = &q};

                assert_int_equal(reader_curves(m.f->reader, &q, check_curve, &x, NULL), 0);
                assert_int_equal(x.found, N_NAMES);
        }
        model_done(&m);
}

/* ---- each rule by itself */

static int one_series(const struct series_row *s, void *user)
{
        *(struct series_row *)user = *s;
        return 0;
}

static double negative(int64_t step)
{
        return -(double)step - 1;
}

static void later_attempt_supersedes_the_tail(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), first = new_attempt(f, job, 0), second;
        struct series_row s;
        struct curve c;

        assert_int_equal(send(f, first, plain(EVENT_START, 1, 0)), 0);
        assert_int_equal(send(f, first, scalars(2, 0, 100, "a", identity)), 0);
        second = new_attempt(f, job, 80); /* has not said anything: hides nothing */
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 1000, &c, NULL), 0);
        assert_int_equal(c.points_total, 100);
        curve_done(&c);
        assert_int_equal(send(f, second, plain(EVENT_START, 1, 50)), 0); /* from an older checkpoint than was offered */
        assert_int_equal(reader_series(f->reader, job, one_series, &s, NULL), 0);
        assert_int_equal(s.points, 50);
        assert_int_equal(s.last_step, 49);
        assert_true(s.max == 49);
        assert_int_equal(send(f, second, scalars(2, 50, 20, "a", negative)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 1000, &c, NULL), 0);
        assert_int_equal(c.points_total, 70);
        for (size_t i = 0; i < c.n; i++) {
                assert_int_equal(c.step[i], i);
                assert_true(c.last[i] == (i < 50 ? identity((int64_t)i) : negative((int64_t)i)));
        }
        curve_done(&c);
        assert_int_equal(reader_series(f->reader, job, one_series, &s, NULL), 0);
        assert_int_equal(s.points, 70);
        assert_true(s.min == -70 && s.max == 49 && s.last == -70);
}

/* The points themselves, some at a time. */
static void points_are_read_behind_a_place(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), first = new_attempt(f, job, 0), second;
        struct point_place place = POINTS_BEGIN;
        struct point p[30];
        size_t n = 0, seen = 0;

        assert_int_equal(send(f, first, plain(EVENT_START, 1, 0)), 0);
        assert_int_equal(send(f, first, scalars(2, 0, 100, "a", identity)), 0);
        second = new_attempt(f, job, 50);
        assert_int_equal(send(f, second, plain(EVENT_START, 1, 50)), 0);
        assert_int_equal(send(f, second, scalars(2, 50, 20, "a", negative)), 0);
        do {
                assert_int_equal(reader_points_behind(f->reader, job, "a", &place, 30, p, &n, NULL), 0);
                for (size_t i = 0; i < n; i++, seen++) {
                        assert_int_equal(p[i].step, seen);
                        assert_true(p[i].value == (seen < 50 ? identity(p[i].step) : negative(p[i].step)));
                }
        } while (n == 30);
        assert_int_equal(seen, 70);
        assert_int_equal(reader_points_behind(f->reader, job, "a", &place, 30, p, &n, NULL), 0);
        assert_int_equal(n, 0);
        assert_int_equal(reader_points_behind(f->reader, job, "b", &place, 30, p, &n, NULL), -ENOENT);
}

static double spiky(int64_t step)
{
        return step == 777 ? 1e300 : step == 778 ? -1e300 : step % 100 == 3 ? NAN : step == 1500 ? INFINITY : 1.0;
}

static void buckets_keep_spikes_and_what_is_not_a_number(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct series_row s;
        struct curve c;
        double min = 0, max = 0;
        int64_t count = 0;

        assert_int_equal(send(f, attempt, scalars(1, 0, 3000, "a", spiky)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 100, &c, NULL), 0);
        assert_int_equal(c.bucket_width, 32);
        assert_true(c.n <= 100);
        assert_int_equal(c.points_total, 3000);
        for (size_t i = 0; i < c.n; i++) {
                min = fmin(min, c.min[i]);
                max = fmax(max, c.max[i]);
                count += c.count[i];
                assert_true(isfinite(c.mean[i]));
        }
        assert_true(min == -1e300 && max == 1e300 && count == 3000);
        curve_done(&c);
        /* alone in its bucket it is itself */
        assert_int_equal(reader_curve(f->reader, job, "a", 103, 103, 100, &c, NULL), 0);
        assert_int_equal(c.n, 1);
        assert_true(isnan(c.last[0]) && isnan(c.min[0]) && isnan(c.mean[0]));
        curve_done(&c);
        assert_int_equal(reader_curve(f->reader, job, "a", 1500, 1500, 100, &c, NULL), 0);
        assert_true(isinf(c.last[0]) && isnan(c.max[0]));
        curve_done(&c);
        assert_int_equal(reader_series(f->reader, job, one_series, &s, NULL), 0);
        assert_true(s.min == -1e300 && s.max == 1e300);
        assert_int_equal(reader_curve(f->reader, job, "a", 5000, 6000, 100, &c, NULL), 0);
        assert_int_equal(c.n, 0);
        curve_done(&c);
        assert_int_equal(reader_curve(f->reader, job, "b", 0, 10, 100, &c, NULL), -ENOENT);
}

static double one(int64_t step _unused_)
{
        return 1;
}

static void equal_steps_are_all_kept_in_order(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct event e = scalars(1, 0, 3, "a", identity);
        struct curve c;

        e.row_step[0] = e.row_step[1] = e.row_step[2] = 5;
        assert_int_equal(send(f, attempt, e), 0);
        assert_int_equal(send(f, attempt, scalars(2, 5, 1, "a", one)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 10, &c, NULL), 0);
        assert_int_equal(c.count[0], 4);
        assert_true(c.last[0] == 1 && c.max[0] == 2);
        curve_done(&c);
}

static void buckets_of_the_same_question_are_the_same(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct curve a, b;

        assert_int_equal(send(f, attempt, scalars(1, 0, 1001, "a", identity)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 300, &a, NULL), 0);
        assert_int_equal(send(f, attempt, scalars(2, 1001, 1, "a", identity)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 300, &b, NULL), 0);
        assert_int_equal(a.bucket_width, b.bucket_width);
        assert_int_equal(a.n, b.n);
        for (size_t i = 0; i + 1 < a.n; i++)
                assert_true(a.step[i] == b.step[i] && a.mean[i] == b.mean[i] && a.count[i] == b.count[i]);
        curve_done(&a);
        curve_done(&b);
}

static double noisy(int64_t step)
{
        return (double)(float)(2.5 + (double)(step * 7919 % 1000) / 997);
}

/* Also where what stood in chunks is read from the level above them afterwards. */
static void a_new_point_changes_the_last_bucket_alone(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0), at = 0;
        struct curve a, b;

        for (int64_t seq = 1; at < 262000; seq++, at += 1000)
                assert_int_equal(send(f, attempt, scalars(seq, at, 1000, "a", noisy)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 40, &a, NULL), 0);
        assert_int_equal(a.bucket_width, 8192);
        assert_int_equal(send(f, attempt, scalars(500, at, 2000, "a", noisy)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 40, &b, NULL), 0);
        assert_true(a.bucket_width == b.bucket_width && b.n >= a.n);
        for (size_t i = 0; i + 1 < a.n; i++)
                assert_true(a.step[i] == b.step[i] && a.time_ms[i] == b.time_ms[i] && a.count[i] == b.count[i] &&
                            a.mean[i] == b.mean[i] && a.min[i] == b.min[i] && a.max[i] == b.max[i] &&
                            a.last[i] == b.last[i]);
        curve_done(&a);
        curve_done(&b);
}

static int note_width(int64_t job _unused_, const char *name _unused_, struct curve *c, void *user)
{
        int64_t **at = user;

        *(*at)++ = c->bucket_width;
        return 0;
}

static void all_series_of_a_question_share_their_edges(void **state)
{
        struct fixture *f = *state;
        int64_t jobs[] = {new_job(f, "x", JOB_TRAIN, NULL), new_job(f, "y", JOB_TRAIN, NULL)}, width[4], *at = width;
        struct curve_question q = {.n_jobs = 2,
                                   .n_names = 1,
                                   .jobs = jobs,
                                   .names = names,
                                   .to = INT64_MAX,
                                   .to_ms = INT64_MAX,
                                   .n_buckets = 100};

        assert_int_equal(send(f, new_attempt(f, jobs[0], 0), scalars(1, 0, 4000, "a", identity)), 0);
        assert_int_equal(send(f, new_attempt(f, jobs[1], 0), scalars(1, 0, 50, "a", identity)), 0);
        assert_int_equal(reader_curves(f->reader, &q, note_width, &at, NULL), 0);
        q.own_grid = true;
        assert_int_equal(reader_curves(f->reader, &q, note_width, &at, NULL), 0);
        assert_int_equal(at - width, 4);
        assert_true(width[0] == 64 && width[1] == 64 && width[2] == 64 && width[3] == 1);
}

/* A worker that says little for long: what it said is in one chunk in the end, not in a row an event. */
static void a_tail_becomes_chunks_and_the_last_chunk_grows(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct curve c;

        for (int64_t i = 0; i < 1000; i += 10) {
                struct event e[10];

                for (int64_t k = 0; k < 10; k++)
                        e[k] = scalars(i + k + 1, i + k, 1, "a", identity);
                assert_int_equal(store_write(f->store, events_write(attempt, e, 10), NULL, NULL), 0);
        }
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 1000, &c, NULL), 0);
        assert_int_equal(c.n, 1000);
        for (size_t i = 0; i < c.n; i++)
                assert_true(c.step[i] == (int64_t)i && c.last[i] == (double)i);
        curve_done(&c);
        assert_int_equal(count(f, "SELECT count(*) FROM chunk"), 1);
        assert_in_range(count(f, "SELECT count(*) FROM tail"), 1, 127);
        assert_int_equal(count(f, "SELECT count(*) FROM track"), 1);
        struct write *w = write_new(WRITE_ATTEMPT_END);

        w->attempt = attempt;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(count(f, "SELECT count(*) FROM tail"), 0);
        assert_int_equal(count(f, "SELECT count(*) FROM chunk"), 1);
}

static void what_is_damaged_is_said_and_the_rest_is_read(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct curve c;
        struct error err;

        assert_int_equal(send(f, attempt, scalars(1, 0, 4000, "a", identity)), 0);
        assert_int_equal(send(f, attempt, scalars(2, 0, 4000, "b", identity)), 0);
        run_sql(f, "UPDATE chunk SET cells = x'0100', points = zeroblob(length(points)) WHERE id = (SELECT min(id) "
                   "FROM chunk)");
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 10, &c, &err), -EBADMSG);
        assert_non_null(strstr(err.text, "damaged"));
        assert_int_equal(reader_curve(f->reader, job, "a", 5, 5, 10, &c, &err), -EBADMSG);
        assert_int_equal(reader_curve(f->reader, job, "b", 0, INT64_MAX, 10, &c, NULL), 0);
        curve_done(&c);
        run_sql(f, "DELETE FROM chunk WHERE id = (SELECT min(id) FROM chunk)");
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 10, &c, &err), -EBADMSG);
}

static int count_damaged(const struct job_event_row *e, void *user)
{
        *(int *)user += !strcmp(e->trigger, "damaged_points");
        return 0;
}

/* A worker is not held up by points of before that cannot be read; they are left. */
static void what_is_damaged_does_not_stop_what_comes(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0), seq = 1;
        int damaged = 0;
        struct curve c;

        assert_int_equal(send(f, attempt, scalars(seq++, 0, 4000, "a", identity)), 0);
        run_sql(f, "UPDATE chunk SET cells = x'0100', points = zeroblob(length(points))");
        assert_int_equal(send(f, attempt, scalars(seq++, 4000, 4000, "a", identity)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 4000, INT64_MAX, 10, &c, NULL), 0);
        assert_int_equal(c.points_total, 4000);
        curve_done(&c);
        assert_int_equal(send(f, attempt, scalars(seq++, 0, 3, "b", identity)), 0);
        run_sql(f, "UPDATE tail SET data = x'07'");
        for (int i = 0; i < 2; i++)
                assert_int_equal(send(f, attempt, scalars(seq++, 10 + 4000 * i, 4000, "b", identity)), 0);
        assert_int_equal(reader_curve(f->reader, job, "b", 0, INT64_MAX, 10, &c, NULL), 0);
        assert_int_equal(c.points_total, 8000);
        curve_done(&c);
        assert_int_equal(reader_job_events(f->reader, job, 0, 100, count_damaged, &damaged, NULL), 0);
        assert_int_equal(damaged, 1);
        assert_int_equal(count(f, "SELECT count(*) FROM tail WHERE attempt < 0"), 1);
        /* nor a resume */
        assert_int_equal(send(f, new_attempt(f, job, 100), plain(EVENT_START, 1, 100)), 0);
}

static void removing_a_job_leaves_no_point(void **state)
{
        struct fixture *f = *state;
        int64_t other = new_job(f, "y", JOB_TRAIN, NULL), job = new_job(f, "x", JOB_TRAIN, NULL);
        int64_t attempt = new_attempt(f, job, 0);
        struct write *w;

        assert_int_equal(send(f, new_attempt(f, other, 0), scalars(1, 0, 4000, "a", identity)), 0);
        assert_int_equal(send(f, attempt, scalars(1, 0, 4000, "a", identity)), 0);
        assert_int_equal(send(f, attempt, scalars(2, 10, 4000, "a", identity)), 0); /* goes back: another track */
        assert_int_equal(send(f, attempt, scalars(3, 10, 4, "b", identity)), 0);    /* in the tail */
        assert_int_equal(count(f, "SELECT count(*) FROM track"), 3);
        run_sql(f, "INSERT INTO tail SELECT -attempt, seq, data FROM tail"); /* as if it had been set aside */
        assert_int_equal(transition(f, job, JOB_QUEUED, JOB_CANCELLED), 0);
        w = write_new(WRITE_JOB_MARK);
        w->job = job;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        w = write_new(WRITE_JOB_REMOVE);
        w->job = job;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(count(f, "SELECT count(*) FROM track"), 1);
        assert_int_equal(count(f, "SELECT count(*) FROM chunk"), 1);
        assert_int_equal(count(f, "SELECT count(*) FROM tail"), 0);
        assert_int_equal(count(f, "SELECT count(*) FROM series"), 1);
}

static int64_t marked_job_of_many_chunks(struct fixture *f)
{
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        struct write *w = write_new(WRITE_JOB_MARK);
        char name[8];

        for (int i = 0; i < 60; i++) {
                (void)snprintf(name, sizeof name, "s%d", i);
                assert_int_equal(send(f, attempt, scalars(i + 1, 0, 4000, name, identity)), 0);
        }
        assert_int_equal(transition(f, job, JOB_QUEUED, JOB_CANCELLED), 0);
        w->job = job;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        return job;
}

static int completed[3], n_completed;

static void note_completed(struct write *w, int r, const struct error *err _unused_)
{
        assert_int_equal(r, 0);
        completed[n_completed++] = (int)w->kind;
}

static void a_long_removal_lets_others_pass_and_ends(void **state)
{
        struct fixture *f = *state;
        int64_t job = marked_job_of_many_chunks(f), left = 0;
        struct write *remove = write_new(WRITE_JOB_REMOVE), *other = job_write("y", JOB_TRAIN, NULL);

        remove->job = job;
        remove->done = other->done = note_completed;
        n_completed = 0;
        store_submit(f->store, remove);
        store_submit(f->store, other);
        fixture_close(f); /* what was begun is ended before it closes */
        fixture_open(f);
        assert_int_equal(n_completed, 2);
        assert_true(completed[0] == WRITE_JOB_NEW && completed[1] == WRITE_JOB_REMOVE);
        assert_int_equal(reader_marked_job(f->reader, 0, &left, NULL), -ENOENT);
        assert_int_equal(count(f, "SELECT (SELECT count(*) FROM chunk) + (SELECT count(*) FROM track) + "
                                  "(SELECT count(*) FROM series) + (SELECT count(*) FROM attempt)"),
                         0);
}

/* As a crash between two of its transactions leaves it. */
static void half_a_removal_is_read_as_nothing_and_goes_on(void **state)
{
        struct fixture *f = *state;
        int64_t job = marked_job_of_many_chunks(f), marked;
        struct write *w = write_new(WRITE_JOB_REMOVE);
        struct curve c;

        run_sql(f, "DELETE FROM track WHERE id < 10; DELETE FROM series WHERE id < 10; DELETE FROM chunk WHERE id >> "
                   "32 < 12;"
                   "UPDATE track SET points = 0 WHERE id < 13");
        assert_int_equal(reader_marked_job(f->reader, 0, &marked, NULL), 0);
        assert_int_equal(marked, job);
        assert_int_equal(reader_curve(f->reader, job, "s11", 0, INT64_MAX, 10, &c, NULL), 0);
        assert_int_equal(c.n, 0);
        curve_done(&c);
        w->job = job;
        assert_int_equal(store_write(f->store, w, NULL, NULL), 0);
        assert_int_equal(count(f, "SELECT count(*) FROM chunk"), 0);
        assert_int_equal(count(f, "SELECT count(*) FROM job"), 0);
}

static int count_refused(const struct job_event_row *e, void *user)
{
        if (!strcmp(e->trigger, "refused_series")) {
                assert_true(e->from == e->to);
                assert_non_null(strstr(e->detail, "more series"));
                ++*(int *)user;
        }
        return 0;
}

static void too_many_series_are_refused_and_the_log_says_so(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        int refused = 0;
        struct curve c;
        char sql[100];

        assert_int_equal(send(f, attempt, scalars(1, 0, 5, "a", identity)), 0);
        assert_int_equal(count(f, "SELECT series FROM job"), 1);
        (void)snprintf(sql, sizeof sql, "UPDATE job SET series = %d", SERIES_MAX - 1);
        run_sql(f, sql);
        assert_int_equal(send(f, attempt, scalars(2, 5, 5, "b", identity)), 0); /* the last that it may have */
        for (int i = 0; i < 3; i++)
                assert_int_equal(send(f, attempt, scalars(3 + i, 5, 5, "c", identity)), 0);
        assert_int_equal(send(f, attempt, scalars(6, 5, 5, "a", identity)), 0); /* those that it has go on */
        assert_int_equal(reader_job_events(f->reader, job, 0, 100, count_refused, &refused, NULL), 0);
        assert_int_equal(refused, 1);
        assert_int_equal(reader_curve(f->reader, job, "c", 0, INT64_MAX, 10, &c, NULL), -ENOENT);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 100, &c, NULL), 0);
        assert_int_equal(c.points_total, 10);
        curve_done(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                FIXTURE(curves_are_what_the_model_says),
                FIXTURE(long_curves_are_what_the_model_says),
                FIXTURE(later_attempt_supersedes_the_tail),
                FIXTURE(points_are_read_behind_a_place),
                FIXTURE(a_range_of_times_is_a_range_of_steps),
                FIXTURE(buckets_keep_spikes_and_what_is_not_a_number),
                FIXTURE(equal_steps_are_all_kept_in_order),
                FIXTURE(buckets_of_the_same_question_are_the_same),
                FIXTURE(a_new_point_changes_the_last_bucket_alone),
                FIXTURE(all_series_of_a_question_share_their_edges),
                FIXTURE(a_tail_becomes_chunks_and_the_last_chunk_grows),
                FIXTURE(what_is_damaged_is_said_and_the_rest_is_read),
                FIXTURE(what_is_damaged_does_not_stop_what_comes),
                FIXTURE(removing_a_job_leaves_no_point),
                FIXTURE(a_long_removal_lets_others_pass_and_ends),
                FIXTURE(too_many_series_are_refused_and_the_log_says_so),
                FIXTURE(half_a_removal_is_read_as_nothing_and_goes_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
