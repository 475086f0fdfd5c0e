/* A process that writes is killed at any moment, many times: whatever it acknowledged is there, and the file is whole.
 */
#include "helpers.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define ROUNDS 60

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
        for (int round = 0; round < ROUNDS; round++) {
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
        print_message("%lld acknowledged writes in %d rounds\n", (long long)total, ROUNDS);
        assert_true(total > ROUNDS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {FIXTURE(acknowledged_writes_survive_kill)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
