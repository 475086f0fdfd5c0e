/* A process that writes is killed at any moment, many times: whatever it acknowledged is there, and the file is whole.
 */
#include "helpers.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

/* Of kills; what only repeats is left to the plain build (./check sets it). */
static int n_rounds(void)
{
        return getenv("TEST_QUICK") ? 15 : 60;
}

static int pipe_fd;

static void tell(struct write *w, int r, const struct error *err _unused_)
{
        if (r == 0)
                (void)!write(pipe_fd, &w->ret_id, sizeof w->ret_id);
}

static void write_forever(const char *folder, int fd)
{
        struct fixture f = {0};
        struct error err;

        pipe_fd = fd;
        (void)snprintf(f.folder, sizeof f.folder, "%s", folder);
        if (store_open(folder, &f.store, &err) < 0) {
                (void)fprintf(stderr, "%s: %s\n", err.path, err.text);
                _exit(3);
        }
        for (int64_t i = 0;; i++) {
                struct write *w = job_write("x", JOB_TRAIN, "[\"t\"]");

                if (i % 16 == 15) { /* now and then wait, so that commits have different sizes */
                        int64_t id = 0;

                        if (store_write(f.store, w, &id, NULL) == 0)
                                (void)!write(fd, &id, sizeof id);
                        continue;
                }
                w->done = tell;
                store_submit(f.store, w);
        }
}

static void acknowledged_writes_survive_kill(void **state)
{
        struct fixture *f = *state;
        unsigned seed = 1;
        int64_t highest = 0, total = 0;

        fixture_close(f);
        for (int round = 0; round < n_rounds(); round++) {
                int fds[2], status;
                int64_t id;
                pid_t pid;

                assert_int_equal(pipe(fds), 0);
                pid = fork();
                if (pid == 0) {
                        (void)close(fds[0]);
                        write_forever(f->folder, fds[1]);
                }
                (void)close(fds[1]);
                if (round % 3) /* two of three have begun to write; one is killed as it opens the store, or before */
                        (void)poll(&(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, 10000);
                (void)usleep((useconds_t)(rand_r(&seed) % 40000));
                (void)kill(pid, SIGKILL);
                while (read(fds[0], &id, sizeof id) == sizeof id) {
                        highest = MAX(highest, id);
                        total++;
                }
                (void)close(fds[0]);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status));
                fixture_open(f); /* checks the file, too */
                if (highest) {
                        struct job_row j;

                        assert_int_equal(reader_job(f->reader, highest, &j, NULL), 0);
                        job_row_done(&j);
                }
                fixture_close(f);
        }
        fixture_open(f);
        for (int64_t id = 1; id <= highest; id++) { /* ids are given in order: none is missing */
                struct job_row j;

                assert_int_equal(reader_job(f->reader, id, &j, NULL), 0);
                job_row_done(&j);
        }
        print_message("%lld acknowledged writes in %d rounds\n", (long long)total, n_rounds());
        assert_true(total > n_rounds());
}

/* ---- points */

static size_t rows_of(int64_t seq)
{
        return seq % 50 == 0 ? 3000 : 1 + (size_t)(seq * 7919 % 90);
}

/* Steps of an event follow those before it. */
static int64_t first_of(int64_t seq)
{
        int64_t n = 0;

        for (int64_t i = 1; i < seq; i++)
                n += (int64_t)rows_of(i);
        return n;
}

static int last_seq_of(const struct attempt_row *a, void *user)
{
        *(int64_t *)user = a->last_seq;
        return 0;
}

static int64_t last_seq(struct fixture *f, int64_t job)
{
        int64_t seq = 0;

        assert_int_equal(reader_attempts(f->reader, job, last_seq_of, &seq, NULL), 0);
        return seq;
}

static void tell_seq(struct write *w, int r, const struct error *err _unused_)
{
        if (r == 0)
                (void)!write(pipe_fd, &w->ret_number, sizeof w->ret_number);
}

static void send_forever(const char *folder, int fd, int64_t job, int64_t attempt)
{
        struct fixture f = {0};
        int64_t step;

        pipe_fd = fd;
        (void)snprintf(f.folder, sizeof f.folder, "%s", folder);
        fixture_open(&f);
        step = first_of(last_seq(&f, job) + 1);
        for (int64_t seq = last_seq(&f, job) + 1;; seq++) {
                struct event e = scalars(seq, step, rows_of(seq), "a", identity);
                struct write *w = events_write(attempt, &e, 1);

                step += (int64_t)rows_of(seq);
                if (seq % 8 == 0) {
                        int64_t number = seq;

                        if (store_write(f.store, w, NULL, NULL) == 0)
                                (void)!write(fd, &number, sizeof number);
                        continue;
                }
                w->done = tell_seq;
                store_submit(f.store, w);
        }
}

static int note_points(const struct series_row *s, void *user)
{
        *(int64_t *)user = s->points;
        return 0;
}

/* Every point of the events that are committed, once, in order. */
static void expect_whole(struct fixture *f, int64_t job, int64_t seq)
{
        int64_t n = first_of(seq + 1), listed = 0, at = 0;
        struct point_place place = POINTS_BEGIN;
        struct point p[5000];
        size_t got = 1;

        assert_int_equal(reader_series(f->reader, job, note_points, &listed, NULL), 0);
        assert_int_equal(listed, n);
        while (got) {
                assert_int_equal(reader_points_behind(f->reader, job, "a", &place, 5000, p, &got, NULL), 0);
                for (size_t i = 0; i < got; i++, at++)
                        assert_true(p[i].step == at && p[i].value == (double)at);
        }
        assert_int_equal(at, n);
}

static void acknowledged_points_survive_kill(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0), highest = 0;
        unsigned seed = 2;

        fixture_close(f);
        for (int round = 0; round < n_rounds(); round++) {
                int fds[2], status;
                int64_t seq;
                pid_t pid;

                assert_int_equal(pipe(fds), 0);
                pid = fork();
                if (pid == 0) {
                        (void)close(fds[0]);
                        send_forever(f->folder, fds[1], job, attempt);
                }
                (void)close(fds[1]);
                if (round % 3)
                        (void)poll(&(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, 10000);
                (void)usleep((useconds_t)(rand_r(&seed) % 40000));
                (void)kill(pid, SIGKILL);
                while (read(fds[0], &seq, sizeof seq) == sizeof seq)
                        highest = MAX(highest, seq);
                (void)close(fds[0]);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status));
                fixture_open(f);
                seq = last_seq(f, job);
                assert_true(seq >= highest);
                if (seq)
                        expect_whole(f, job, seq);
                fixture_close(f);
        }
        fixture_open(f);
        print_message("%lld acknowledged events in %d rounds\n", (long long)highest, n_rounds());
        assert_true(highest > n_rounds());
}

int main(void)
{
        const struct CMUnitTest tests[] = {FIXTURE(acknowledged_writes_survive_kill),
                                           FIXTURE(acknowledged_points_survive_kill)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
