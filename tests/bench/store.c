/* The store's numbers, as spec/service.md ("Numbers") asks for them: bench-store FOLDER [WHAT..], all of them without
 * WHAT.
 *
 *   ingest      scalars a second through the writer, committed, events of 16 columns x 256 rows from 4 threads, decoded
 *               before; and meanwhile what a page of the list takes
 *   decode      the same events, from their packed lines
 *   curve       10 million noisy points (loss 5.55 to 2.55, noise 0.05, times in ms): bytes a point, the curve reduced
 * to 1,000 buckets, warm and with nothing of the file in memory; a zoom of each depth submit      durable submissions a
 * second from 64 threads remove      what another write waits for while a job of a million points is removed, or
 * resumed
 *
 * Medians; FOLDER must be on the disk that is meant. */
#include "base/clock.h"
#include "store/store.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MILLION 1000000.0

static struct store *store;
static struct reader *reader;
static char folder[1000];

static void check(int r, const struct error *err)
{
        if (r >= 0)
                return;
        (void)fprintf(stderr, "%s: %s\n", err->path, err->text);
        exit(1);
}

static double now(void)
{
        return (double)clock_monotonic_us() / 1e6;
}

static void open_all(void)
{
        struct error err;

        check(store_open(folder, &store, &err), &err);
        check(reader_open(store, &reader, &err), &err);
}

static void close_all(void)
{
        reader = reader_close(reader);
        store = store_close(store);
}

static int by_size(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double quantile(double *v, size_t n, double q)
{
        qsort(v, n, sizeof *v, by_size);
        return v[MIN((size_t)(q * (double)n), n - 1)];
}

/* ---- jobs and events */

static struct write *job_write(void)
{
        struct write *w = write_new(WRITE_JOB_NEW);

        w->row.kind = JOB_TRAIN;
        w->row.name = strdup("a run with a name");
        w->row.tags = json_pack("[s, s]", "bench", "store");
        w->row.config = json_pack("{s:{s:s, s:i}, s:{s:i, s:f}}", "data", "dataset", "photos32", "n", 1, "training",
                                  "steps", 1000, "rate", 2e-4);
        w->row.created_us = w->time_us = clock_wall_us();
        return w;
}

static int64_t new_job(void)
{
        struct error err;
        int64_t id = 0;

        check(store_write(store, job_write(), &id, &err), &err);
        return id;
}

static int64_t new_attempt(int64_t job, int64_t first_step)
{
        struct write *w = write_new(WRITE_ATTEMPT_NEW);
        struct error err;
        int64_t id = 0;

        w->attempt_row.job = job;
        w->attempt_row.first_step = first_step;
        w->time_us = clock_wall_us();
        check(store_write(store, w, &id, &err), &err);
        return id;
}

static double noise(unsigned *seed)
{
        double u = ((double)rand_r(seed) + 1) / ((double)RAND_MAX + 1), v = (double)rand_r(seed) / (double)RAND_MAX;

        return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static int64_t time_of(int64_t step)
{
        return 1795797129139 + 20 * step;
}

/* total: of the curve, which falls to its end over so many steps. */
static struct event event_of(int64_t seq, int64_t first, size_t rows, size_t columns, double total, unsigned *seed)
{
        struct event e = {.type = EVENT_SCALARS, .seq = seq, .n_rows = rows, .n_columns = columns};

        e.row_step = calloc(rows, sizeof *e.row_step);
        e.row_time_ms = calloc(rows, sizeof *e.row_time_ms);
        for (size_t k = 0; k < columns; k++) {
                char name[32];

                (void)snprintf(name, sizeof name, columns == 1 ? "train/bpd" : "train/scalar-%zu", k);
                e.column_name[k] = strdup(name);
                e.column[k] = calloc(rows, sizeof *e.column[k]);
        }
        for (size_t i = 0; i < rows; i++) {
                e.row_step[i] = first + (int64_t)i;
                e.row_time_ms[i] = time_of(e.row_step[i]) + (int64_t)lrint(noise(seed));
                for (size_t k = 0; k < columns; k++)
                        e.column[k][i] = (double)(float)(2.55 + 3 * exp(-5.0 * (double)e.row_step[i] / total) +
                                                         0.05 * noise(seed));
        }
        return e;
}

static struct write *events_write(int64_t attempt, struct event e)
{
        struct write *w = write_new(WRITE_EVENTS);

        w->attempt = attempt;
        w->events = calloc(1, sizeof e);
        w->events[0] = e;
        w->n_events = 1;
        w->time_us = clock_wall_us();
        return w;
}

/* A job with one series of n points. */
static int64_t job_with_points(int64_t n)
{
        int64_t job = new_job(), attempt = new_attempt(job, 0);
        unsigned seed = 1;
        struct error err;

        for (int64_t at = 0, seq = 1; at < n; at += EVENT_ROWS_MAX, seq++)
                check(store_write(store,
                                  events_write(attempt, event_of(seq, at, (size_t)MIN(n - at, EVENT_ROWS_MAX), 1,
                                                                 (double)n, &seed)),
                                  NULL, &err),
                      &err);
        return job;
}

/* ---- ingest */

#define WORKERS 4
#define EVENTS 400
#define ROWS 256
#define COLUMNS 16

static void *send_events(void *user)
{
        struct event *e = user;
        int64_t attempt = new_attempt(new_job(), 0);
        struct error err;

        for (int i = 0; i < EVENTS; i++)
                check(store_write(store, events_write(attempt, e[i]), NULL, &err), &err);
        return NULL;
}

static int nothing(const struct job_row *j _unused_, void *user _unused_)
{
        return 0;
}

static volatile bool listing;

/* Pages of the list until told to end: how long each took. */
static void *list(void *user)
{
        double *took = user;
        struct reader *own;
        struct error err;
        size_t n = 0;

        check(reader_open(store, &own, &err), &err);
        while (listing && n < 100000) {
                struct job_filter f = {
                        .states = JOB_ANY, .kinds = JOB_ANY, .limit = 50, .without = WITHOUT_CONFIG | WITHOUT_OUTCOME};
                double began = now();

                check(reader_jobs(own, &f, nothing, NULL, &err), &err);
                took[++n] = now() - began;
                (void)usleep(2000);
        }
        took[0] = (double)n;
        (void)reader_close(own);
        return NULL;
}

static void bench_ingest(void)
{
        double *took = calloc(100001, sizeof *took), began, seconds;
        struct event *e[WORKERS];
        pthread_t threads[WORKERS], lister;

        for (int w = 0; w < WORKERS; w++) {
                unsigned seed = (unsigned)w + 1;

                e[w] = calloc(EVENTS, sizeof **e);
                for (int i = 0; i < EVENTS; i++)
                        e[w][i] = event_of(i + 1, (int64_t)i * ROWS, ROWS, COLUMNS, EVENTS * ROWS, &seed);
        }
        for (int i = 0; i < 200; i++)
                (void)new_job();
        listing = true;
        (void)pthread_create(&lister, NULL, list, took);
        began = now();
        for (int w = 0; w < WORKERS; w++)
                (void)pthread_create(&threads[w], NULL, send_events, e[w]);
        for (int w = 0; w < WORKERS; w++)
                (void)pthread_join(threads[w], NULL);
        seconds = now() - began;
        listing = false;
        (void)pthread_join(lister, NULL);
        (void)printf(
                "ingest: %.2f million scalars/s committed, %d at once; a page of the list meanwhile: median %.2f ms, "
                "p99 %.2f ms (%.0f pages)\n",
                (double)WORKERS * EVENTS * ROWS * COLUMNS / seconds / MILLION, WORKERS,
                1e3 * quantile(took + 1, (size_t)took[0], 0.5), 1e3 * quantile(took + 1, (size_t)took[0], 0.99),
                took[0]);
        for (int w = 0; w < WORKERS; w++)
                free(e[w]);
        free(took);
}

static void bench_decode(void)
{
        struct buf b = BUF_INIT(16 * EVENT_LINE_MAX);
        unsigned seed = 1;
        struct event e = event_of(1, 0, ROWS, COLUMNS, 1e4, &seed);
        double began;
        struct error err;
        int n = 200;

        check(event_encode(&e, &b, &err), &err);
        event_done(&e);
        began = now();
        for (int i = 0; i < n; i++) {
                check(event_decode(b.data, b.size - 1, &e, &err), &err);
                event_done(&e);
        }
        (void)printf("decode: %.2f million scalars/s packed, %.1f bytes each\n",
                     n * ROWS * COLUMNS / (now() - began) / MILLION, (double)b.size / ROWS / COLUMNS);
        buf_done(&b);
}

/* ---- curve */

#define LONG ((int64_t)10000000)

static int64_t file_bytes(void)
{
        char path[1100];
        struct stat st;

        (void)snprintf(path, sizeof path, "%s/mulund.db", folder);
        return stat(path, &st) < 0 ? 0 : (int64_t)st.st_size;
}

/* Nothing of the file stays in memory. */
static void forget_file(void)
{
        char path[1100];
        int fd;

        (void)snprintf(path, sizeof path, "%s/mulund.db", folder);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        (void)fdatasync(fd);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void)close(fd);
}

static int count_buckets(int64_t job _unused_, const char *name _unused_, struct curve *c, void *user)
{
        *(size_t *)user = c->n;
        return 0;
}

/* A thousand buckets of train/bpd. */
static double time_curve(struct curve_question q, int64_t job, size_t *ret_n)
{
        const char *name = "train/bpd";
        struct error err;
        double began = now();

        q.n_jobs = q.n_names = 1;
        q.jobs = &job;
        q.names = &name;
        q.n_buckets = 1000;
        q.to = q.to ? q.to : INT64_MAX;
        q.to_ms = q.to_ms ? q.to_ms : INT64_MAX;
        check(reader_curves(reader, &q, count_buckets, ret_n, &err), &err);
        return now() - began;
}

static double median_curve(struct curve_question q, int64_t job, bool cold, size_t *ret_n)
{
        double took[15];

        for (size_t i = 0; i < ARRAY_LEN(took); i++) {
                if (cold) {
                        struct error err;

                        reader = reader_close(reader);
                        forget_file();
                        check(reader_open(store, &reader, &err), &err);
                }
                took[i] = time_curve(q, job, ret_n);
        }
        return quantile(took, ARRAY_LEN(took), 0.5);
}

static void print_curve(const char *what, struct curve_question q, int64_t job)
{
        size_t n;
        double warm = median_curve(q, job, false, &n), cold = median_curve(q, job, true, &n);

        (void)printf("curve: %s: warm %.2f ms, cold %.2f ms (%zu buckets)\n", what, 1e3 * warm, 1e3 * cold, n);
}

static void bench_curve(void)
{
        int64_t before, job;
        double began, seconds;

        close_all(); /* folds the log into the file */
        before = file_bytes();
        open_all();
        began = now();
        job = job_with_points(LONG);
        seconds = now() - began;
        close_all();
        (void)printf("curve: %.3f bytes a point of the file, %.2f million points/s written by one that waits\n",
                     (double)(file_bytes() - before) / (double)LONG, (double)LONG / seconds / MILLION);
        open_all();
        print_curve("10 million points to 1,000 buckets", (struct curve_question){0}, job);
        print_curve("on a logarithmic axis", (struct curve_question){.logarithmic = true}, job);
        print_curve("a third of the time",
                    (struct curve_question){.from_ms = time_of(LONG / 3), .to_ms = time_of(2 * LONG / 3)}, job);
        for (int64_t range = LONG / 4; range >= 1000; range /= 4) {
                int64_t from = LONG / 3;
                char what[60];

                (void)snprintf(what, sizeof what, "zoom to %8lld steps", (long long)range);
                print_curve(what, (struct curve_question){.from = from, .to = from + range}, job);
        }
}

/* ---- submissions */

#define SUBMITTERS 64
#define SUBMISSIONS 200

static void *submit(void *user _unused_)
{
        for (int i = 0; i < SUBMISSIONS; i++)
                (void)new_job();
        return NULL;
}

static void bench_submit(void)
{
        pthread_t threads[SUBMITTERS];
        double began = now();

        for (int i = 0; i < SUBMITTERS; i++)
                (void)pthread_create(&threads[i], NULL, submit, NULL);
        for (int i = 0; i < SUBMITTERS; i++)
                (void)pthread_join(threads[i], NULL);
        (void)printf("submit: %.0f durable submissions/s, %d at once\n", SUBMITTERS * SUBMISSIONS / (now() - began),
                     SUBMITTERS);
        began = now();
        for (int i = 0; i < SUBMISSIONS; i++)
                (void)new_job();
        (void)printf("submit: %.0f durable submissions/s one after the other\n", SUBMISSIONS / (now() - began));
}

/* ---- what holds up the writer */

static double wait_behind(struct write *w)
{
        double began = now();

        store_submit(store, w);
        (void)new_job();
        return 1e3 * (now() - began);
}

static struct write *of_job(enum write_kind kind, int64_t job)
{
        struct write *w = write_new(kind);

        w->job = job;
        w->from = JOB_QUEUED;
        w->to = JOB_CANCELLED;
        w->trigger = "bench";
        w->time_us = clock_wall_us();
        return w;
}

static void bench_remove(void)
{
        int64_t job = job_with_points(1000000), attempt = new_attempt(job, 500000);
        struct error err;

        (void)printf(
                "hold: a submission behind a resume in the middle of a million points: %.1f ms, ",
                wait_behind(events_write(
                        attempt, (struct event){.type = EVENT_START, .seq = 1, .step = 500000, .steps = 2000000})));
        (void)printf("behind nothing %.1f ms\n", wait_behind(of_job(WRITE_JOB_STOP, job)));
        check(store_write(store, of_job(WRITE_JOB_TRANSITION, job), NULL, &err), &err);
        check(store_write(store, of_job(WRITE_JOB_MARK, job), NULL, &err), &err);
        (void)printf("hold: a submission behind the removal of a million points: %.1f ms\n",
                     wait_behind(of_job(WRITE_JOB_REMOVE, job)));
}

static const struct {
        const char *name;
        void (*run)(void);
} benches[] = {{"decode", bench_decode},
               {"ingest", bench_ingest},
               {"submit", bench_submit},
               {"curve", bench_curve},
               {"remove", bench_remove}};

int main(int argc, char **argv)
{
        if (argc < 2)
                return 2;
        (void)snprintf(folder, sizeof folder, "%s", argv[1]);
        open_all();
        for (size_t i = 0; i < ARRAY_LEN(benches); i++) {
                bool wanted = argc == 2;

                for (int k = 2; k < argc; k++)
                        wanted |= !strcmp(argv[k], benches[i].name);
                if (wanted)
                        benches[i].run();
                (void)fflush(stdout);
        }
        close_all();
        return 0;
}
