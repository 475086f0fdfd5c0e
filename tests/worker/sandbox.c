/* What a process may still do in its sandbox: each try is made in a child, and its errno is its exit code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/system.h"
#include "worker/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char root[] = "/tmp/mulun-sandbox.XXXXXX";

/* Below the test's own folder. */
static const char *at(const char *name)
{
        static char paths[4][PATH_MAX];
        static unsigned i;
        char *path = paths[i++ % ARRAY_LEN(paths)];

        (void)snprintf(path, PATH_MAX, "%s/%s", root, name);
        return path;
}

static int create(const char *path)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0)
                return errno;
        (void)close(fd);
        return 0;
}

static int result(int r)
{
        return r < 0 ? errno : 0;
}

static int write_in_its_folder(void)
{
        return create(at("job/new"));
}
static int write_in_its_plans(void)
{
        return create(at("plans/new"));
}
static int rename_to_the_target(void)
{
        return result(rename(at("job/whole"), at("datasets/whole")));
}
static int unnamed_file_in_its_folder(void)
{
        int fd = open(at("job"), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        return result(fd);
}
static int write_to_null(void)
{
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

        return fd < 0 ? errno : result((int)write(fd, "x", 1));
}
static int read_elsewhere(void)
{
        return result(open(at("other/there"), O_RDONLY | O_CLOEXEC));
}
static int read_a_secret(void)
{
        return result(open(at("webhooks/lab.key"), O_RDONLY | O_CLOEXEC));
}
static int read_a_secret_by_a_link(void)
{
        return result(open(at("other/way"), O_RDONLY | O_CLOEXEC));
}
static int read_what_a_pattern_hides(void)
{
        return result(open(at("mulund.db-wal"), O_RDONLY | O_CLOEXEC));
}
static int list_what_is_hidden(void)
{
        return result(open(at("webhooks"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}
static int read_what_it_wrote(void)
{
        int r = create(at("job/own"));

        return r ? r : result(open(at("job/own"), O_RDONLY | O_CLOEXEC));
}
static int read_the_system(void)
{
        return result(open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) ||
               result(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}
static int write_elsewhere(void)
{
        return create(at("other/new"));
}
static int change_elsewhere(void)
{
        return result(open(at("other/there"), O_WRONLY | O_CLOEXEC));
}
static int truncate_elsewhere(void)
{
        return result(truncate(at("other/there"), 0));
}
static int remove_elsewhere(void)
{
        return result(unlink(at("other/there")));
}
static int move_in_from_elsewhere(void)
{
        return result(rename(at("other/there"), at("job/taken")));
}
static int write_beside_itself(void)
{
        return create(at("new"));
}
static int local_socket(void)
{
        return result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static int internet_socket(void)
{
        return result(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static int new_namespace(void)
{
        return result(unshare(CLONE_NEWUSER));
}
static int new_namespace_by_clone(void)
{
        return result((int)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL));
}
static int clone_by_a_structure(void)
{
        return result((int)syscall(SYS_clone3, NULL, 0));
}
static int mount_something(void)
{
        return result(mount("none", at("job"), "tmpfs", 0, NULL));
}
static int watch_performance(void)
{
        return result((int)syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}
static int signal_the_parent(void)
{
        return result(kill(getppid(), 0));
}
static int child_in_its_folder(void)
{
        pid_t pid = fork();
        int status;

        if (!pid)
                _exit(create(at("job/of-a-child")) || create(at("other/of-a-child")) != EACCES);
        return pid < 0 || waitpid(pid, &status, 0) < 0 ? errno : WEXITSTATUS(status);
}
static int no_way_to_more_rights(void)
{
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : EINVAL;
}

enum who { ALONE = 1, RANKS = 2, READER = 4, ALL = 7 };

/* expected: 0, or the errno; landlock: the least version that holds it. */
static const struct {
        const char *name;
        int (*try)(void);
        int who, expected, landlock;
} tries[] = {
#define TRY(name, who, expected, landlock)                                                                             \
        {                                                                                                              \
#name, name, who, expected, landlock                                                                   \
        }
        TRY(write_in_its_folder, ALONE | RANKS, 0, 0),
        TRY(write_in_its_folder, READER, EACCES, 2),
        TRY(write_in_its_plans, ALONE | RANKS, 0, 0),
        TRY(rename_to_the_target, ALONE | RANKS, 0, 0),
        TRY(unnamed_file_in_its_folder, ALONE | RANKS, 0, 0),
        TRY(write_to_null, ALL, 0, 0),
        TRY(read_elsewhere, ALL, 0, 0),
        TRY(read_a_secret, ALL, EACCES, 2),
        TRY(read_a_secret_by_a_link, ALL, EACCES, 2),
        TRY(read_what_a_pattern_hides, ALL, EACCES, 2),
        TRY(list_what_is_hidden, ALL, 0, 0),
        TRY(read_what_it_wrote, ALONE | RANKS, 0, 0),
        TRY(read_the_system, ALL, 0, 0),
        TRY(write_elsewhere, ALL, EACCES, 2),
        TRY(change_elsewhere, ALL, EACCES, 2),
        TRY(truncate_elsewhere, ALL, EACCES, 3),
        TRY(remove_elsewhere, ALL, EACCES, 2),
        TRY(move_in_from_elsewhere, ALL, EACCES, 2),
        TRY(write_beside_itself, ALL, EACCES, 2),
        TRY(local_socket, ALL, 0, 0),
        TRY(internet_socket, ALONE | READER, EPERM, 0),
        TRY(internet_socket, RANKS, 0, 0),
        TRY(new_namespace, ALL, EPERM, 0),
        TRY(new_namespace_by_clone, ALL, EPERM, 0),
        TRY(clone_by_a_structure, ALL, ENOSYS, 0),
        TRY(mount_something, ALL, EPERM, 0),
        TRY(watch_performance, ALL, EPERM, 0),
        TRY(signal_the_parent, ALL, EPERM, 6),
        TRY(child_in_its_folder, ALONE | RANKS, 0, 2),
        TRY(no_way_to_more_rights, ALL, 0, 0),
};

static int try_in_a_sandbox(int (*try)(void), enum who who)
{
        pid_t pid;
        int status;

        assert_int_equal(create(at("job/whole")), 0);
        assert_int_equal(create(at("other/there")), 0);
        pid = fork();
        if (!pid) {
                struct assignment a = {.kind = JOB_IMPORT,
                                       .folder = (char *)at("job"),
                                       .plans = (char *)at("plans"),
                                       .import.target = (char *)at("datasets/whole")};
                struct assignment reader = {.dataset_path = (char *)at("other")};
                struct error err;

                _exit(sandbox_enter(who == READER ? &reader : &a, who == RANKS, &err) < 0 ? 255 : try());
        }
        assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void what_a_worker_may_and_may_not(void **state _unused_)
{
        int abi = system_landlock();

        for (size_t i = 0; i < ARRAY_LEN(tries); i++)
                for (int who = ALONE; who <= READER; who *= 2) {
                        int r;

                        if (!(tries[i].who & who) || abi < tries[i].landlock)
                                continue;
                        r = try_in_a_sandbox(tries[i].try, (enum who)who);
                        if (r != tries[i].expected)
                                fail_msg("%s, as %d: %s, expected %s", tries[i].name, who, strerror(r),
                                         strerror(tries[i].expected));
                }
}

static void it_can_be_left_out(void **state _unused_)
{
        (void)setenv("MULUN_SANDBOX", "no", 1);
        assert_int_equal(try_in_a_sandbox(write_elsewhere, ALONE), 0);
        assert_int_equal(try_in_a_sandbox(internet_socket, ALONE), 0);
        (void)unsetenv("MULUN_SANDBOX");
}

static int read_past_a_folder_that_cannot_be_listed(void)
{
        int r = opendir(at("way")) ? EISDIR : result(open(at("way/state/jobs/there"), O_RDONLY | O_CLOEXEC));

        return r ? r : result(open(at("way/state/webhooks/lab.key"), O_RDONLY | O_CLOEXEC)) == EACCES ? 0 : EBADF;
}

static void what_is_hidden_may_lie_below_what_cannot_be_listed(void **state _unused_)
{
        static const char *const folders[] = {"way", "way/state", "way/state/jobs", "way/state/webhooks"};
        char before[2 * PATH_MAX], hidden[2 * PATH_MAX];
        pid_t pid;
        int status;

        if (system_landlock() < 2)
                skip();
        (void)snprintf(before, sizeof before, "%s", getenv("MULUN_HIDDEN"));
        (void)snprintf(hidden, sizeof hidden, "%s/way/state/webhooks", root);
        (void)setenv("MULUN_HIDDEN", hidden, 1);
        for (size_t i = 0; i < ARRAY_LEN(folders); i++)
                assert_int_equal(mkdir(at(folders[i]), 0755), 0);
        assert_int_equal(create(at("way/state/jobs/there")) || create(at("way/state/webhooks/lab.key")), 0);
        assert_int_equal(chmod(at("way/state/jobs/there"), 0644) || chmod(at("way/state/webhooks/lab.key"), 0644) ||
                                 chmod(at("way"), 0111) || chmod(root, 0711),
                         0);
        pid = fork();
        if (!pid) {
                struct assignment reader = {.dataset_path = NULL};
                struct error err;

                if (!getuid() && setresuid(65534, 65534, 65534) < 0) /* whom modes bind */
                        _exit(254);
                _exit(sandbox_enter(&reader, false, &err) < 0 ? 255 : read_past_a_folder_that_cannot_be_listed());
        }
        assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        assert_int_equal(chmod(at("way"), 0700) || chmod(root, 0700), 0);
        (void)setenv("MULUN_HIDDEN", before, 1);
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void more_than_can_be_hidden_is_refused(void **state _unused_)
{
        char before[2 * PATH_MAX], many[17 * PATH_MAX] = "";
        struct assignment reader = {.dataset_path = NULL};
        struct error err;

        if (system_landlock() < 2)
                skip();
        (void)snprintf(before, sizeof before, "%s", getenv("MULUN_HIDDEN"));
        for (int i = 0; i < 17; i++)
                (void)snprintf(many + strlen(many), PATH_MAX, "%s%s/key", i ? "\n" : "", root);
        (void)setenv("MULUN_HIDDEN", many, 1);
        assert_int_equal(sandbox_enter(&reader, false, &err), -E2BIG); /* before anything is bound */
        assert_string_equal(err.path, "MULUN_HIDDEN");
        (void)setenv("MULUN_HIDDEN", before, 1);
}

static int make(void **state _unused_)
{
        char hidden[2 * PATH_MAX];
        static const char *const folders[] = {"job", "plans", "datasets", "other", "webhooks"};

        (void)setenv("TMPDIR", "/nowhere", 1); /* ranks may write there, and this test's folder lies in /tmp */
        if (!mkdtemp(root))
                return -1;
        for (size_t i = 0; i < ARRAY_LEN(folders); i++)
                if (mkdir(at(folders[i]), 0700) < 0)
                        return -1;
        (void)snprintf(hidden, sizeof hidden, "%s/mulund.db*\n%s/webhooks\n/nowhere/key.pem", root, root);
        return create(at("webhooks/lab.key")) || create(at("mulund.db-wal")) ||
               symlink("../webhooks/lab.key", at("other/way")) || setenv("MULUN_HIDDEN", hidden, 1);
}

static int clear(void **state _unused_)
{
        return file_remove_tree(root, NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_a_worker_may_and_may_not),
                cmocka_unit_test(what_is_hidden_may_lie_below_what_cannot_be_listed),
                cmocka_unit_test(it_can_be_left_out),
                cmocka_unit_test(more_than_can_be_hidden_is_refused),
        };

        return cmocka_run_group_tests(tests, make, clear);
}
