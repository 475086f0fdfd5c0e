/* A file system without room: writes fail whole, nothing is half done, and the store goes on when there is room again.
 * Needs a small tmpfs, and so root; without it the test is skipped. */
#include "helpers.h"

#include <fcntl.h>
#include <sys/mount.h>

static void fill(const char *folder)
{
        char path[100];
        static char block[4096];
        int fd;

        (void)snprintf(path, sizeof path, "%s/ballast", folder);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        while (write(fd, block, sizeof block) > 0)
                ;
        (void)close(fd);
}

static void make_room(const char *folder)
{
        char path[100];

        (void)snprintf(path, sizeof path, "%s/ballast", folder);
        (void)unlink(path);
}

static void full_disk_fails_whole_and_passes(void **state)
{
        struct fixture *f = *state;
        int64_t job = new_job(f, "x", JOB_TRAIN, NULL), attempt = new_attempt(f, job, 0);
        int64_t seq = 1, committed = 0;
        struct error err;
        struct curve c;
        int r = 0;

        fill(f->folder);
        for (int i = 0; i < 200 && r >= 0; i++) {
                struct event e = scalars(seq, committed, 1000, "a", identity);

                r = store_write(f->store, events_write(attempt, &e, 1), NULL, &err);
                if (r >= 0) {
                        seq++;
                        committed += 1000;
                }
        }
        assert_true(r == -ENOSPC || r == -EIO);
        assert_true(err.text[0] != 0);
        if (committed) {
                assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 10, &c, NULL), 0);
                assert_int_equal(c.points_total, committed);
                curve_done(&c);
        }
        make_room(f->folder);
        for (int i = 0; i < 20; i++, seq++, committed += 1000)
                assert_int_equal(send(f, attempt, scalars(seq, committed, 1000, "a", identity)), 0);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 10, &c, NULL), 0);
        assert_int_equal(c.points_total, committed);
        curve_done(&c);
        fixture_close(f);
        fixture_open(f);
        assert_int_equal(reader_curve(f->reader, job, "a", 0, INT64_MAX, 10, &c, NULL), 0);
        assert_int_equal(c.points_total, committed);
        curve_done(&c);
}

static int setup_small(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);

        (void)snprintf(f->folder, sizeof f->folder, "/tmp/mulund-full-XXXXXX");
        if (!mkdtemp(f->folder) || mount("tmpfs", f->folder, "tmpfs", 0, "size=4m") < 0) {
                (void)fprintf(stderr, "skipped: a tmpfs cannot be mounted: %s\n", strerror(errno));
                exit(77);
        }
        fixture_open(f);
        *state = f;
        return 0;
}

static int teardown_small(void **state)
{
        struct fixture *f = *state;

        fixture_close(f);
        (void)umount2(f->folder, MNT_DETACH);
        (void)rmdir(f->folder);
        free(f);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(full_disk_fails_whole_and_passes, setup_small, teardown_small)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
