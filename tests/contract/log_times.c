/* When a log had how many bytes: each question has the first record that has as many, in any order of asking. */
#include "contract/log_times.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define N 3000

static char folder[] = "/tmp/log-times-XXXXXX", path[64];

static int make(int n)
{
        int fd;

        (void)unlink(path);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        for (int i = 0; i < n; i++)
                assert_int_equal(log_times_add(fd, (struct log_time){1000 + i, 10 * (i + 1)}, NULL), 0);
        return fd;
}

static int64_t expected(int64_t bytes, int n)
{
        int64_t i = bytes <= 10 ? 0 : (bytes - 1) / 10;

        return i < n ? 1000 + i : 0;
}

static void every_place_has_its_time(void **state _unused_)
{
        struct log_times t;

        log_times_open(&t, make(N));
        for (int64_t b = 1; b <= 10 * N + 5; b++)
                assert_int_equal(log_times_of(&t, b), expected(b, N));
        for (uint32_t i = 0, x = 1; i < 20000; i++) {
                x = x * 1664525U + 1013904223U;
                assert_int_equal(log_times_of(&t, x % (10 * N + 20) + 1), expected(x % (10 * N + 20) + 1, N));
        }
        log_times_close(&t);
        log_times_open(&t, -1);
        assert_int_equal(log_times_of(&t, 1), 0);
        log_times_close(&t);
}

static void a_torn_record_is_written_over(void **state _unused_)
{
        struct log_times t;
        int fd = make(2);

        assert_int_equal(pwrite(fd, "torn", 4, 32), 4);
        assert_int_equal(log_times_add(fd, (struct log_time){1002, 30}, NULL), 0);
        log_times_open(&t, fd);
        assert_int_equal(t.n, 3);
        assert_int_equal(log_times_of(&t, 25), 1002);
        log_times_close(&t);
}

static void thinned_it_has_half_and_its_last(void **state _unused_)
{
        struct log_times t;
        struct error err;

        for (int n = 99; n <= 100; n++) {
                (void)close(make(n));
                assert_int_equal(log_times_thin(path, 100, &err), 0);
                assert_int_equal(log_times_thin(path, 50, &err), 1);
                log_times_open(&t, open(path, O_RDONLY | O_CLOEXEC));
                assert_int_equal(t.n, 50);
                assert_int_equal(log_times_of(&t, 10 * n), 1000 + n - 1);
                assert_in_range(log_times_of(&t, 5), 1000, 1001);
                log_times_close(&t);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_place_has_its_time),
                cmocka_unit_test(a_torn_record_is_written_over),
                cmocka_unit_test(thinned_it_has_half_and_its_last),
        };
        int r;

        if (!mkdtemp(folder))
                return 1;
        (void)snprintf(path, sizeof path, "%s/log.times", folder);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        (void)unlink(path);
        (void)rmdir(folder);
        return r;
}
