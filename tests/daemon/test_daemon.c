/* The loop, the table of a job's life, the queue, the scheduler, the spool's reader, the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/units.h"
#include "daemon/daemon.h"
#include "daemon/disk.h"
#include "daemon/failure.h"
#include "daemon/life.h"
#include "daemon/limit.h"
#include "daemon/loop.h"
#include "daemon/memory.h"
#include "daemon/scheduler.h"
#include "daemon/settings_value.h"
#include "daemon/spool.h"
#include "daemon/stall.h"
#include "daemon/state.h"
#include "daemon/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>

/* ---- where the state may lie */

static void file_systems_of_other_machines_are_known(void **state _unused_)
{
        static const struct {
                unsigned long magic;
                const char *type;
                bool local;
        } table[] = {
                {EXT4_SUPER_MAGIC, "ext4", true},
                {XFS_SUPER_MAGIC, "xfs", true},
                {BTRFS_SUPER_MAGIC, "btrfs", true},
                {TMPFS_MAGIC, "tmpfs", true},
                {OVERLAYFS_SUPER_MAGIC, "overlay", true},
                {0x2fc12fc1, "zfs", true},
                {FUSE_SUPER_MAGIC, "fuseblk", true},
                {FUSE_SUPER_MAGIC, "fuse.fuse-overlayfs", true},
                {FUSE_SUPER_MAGIC, "fuse.sshfs", false},
                {FUSE_SUPER_MAGIC, "fuse.glusterfs", false},
                {FUSE_SUPER_MAGIC, "fuse", false},
                {FUSE_SUPER_MAGIC, "virtiofs", false},
                {FUSE_SUPER_MAGIC, "", false},
                {NFS_SUPER_MAGIC, "nfs4", false},
                {0xff534d42, "cifs", false},
                {0xfe534d42, "smb3", false},
                {V9FS_MAGIC, "9p", false},
                {0x00c36400, "ceph", false},
                {0x6b414653, "afs", false},
                {0x5346414f, "afs", false},
                {0x0bd00bd0, "lustre", false},
                {0x47504653, "gpfs", false},
                {0x19830326, "beegfs", false},
                {0x20030528, "pvfs2", false},
                {0x7461636f, "ocfs2", false},
                {0x01161970, "gfs2", false},
                {0x786f4256, "vboxsf", false},
        };
        char type[STATE_TYPE_SIZE];

        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if (state_file_system_is_local(table[i].magic, table[i].type) != table[i].local)
                        fail_msg("%s", table[i].type);
        state_file_system_type("/proc/self", type);
        assert_string_equal(type, "proc");
        state_file_system_type("/no/such/place", type);
        assert_string_equal(type, "");
}

/* ---- loop */

struct counting {
        struct loop *loop;
        struct source *sources[4];
        int fds[4];
        int calls[4], order[16], n;
};

static struct loop *new_loop(void)
{
        struct loop *l = NULL;

        assert_int_equal(loop_new(&l, NULL), 0);
        return l;
}

static void quit(void *user)
{
        loop_quit(user);
}

static void quit_after_ms(struct loop *l, int64_t ms)
{
        struct source *s;

        assert_int_equal(loop_add_timer(l, clock_monotonic_us() + ms * US_PER_MS, quit, l, &s, NULL), 0);
}

static void remove_the_other(void *user, uint32_t events _unused_)
{
        struct counting *c = user;

        c->n++;
        c->sources[0] = loop_remove(c->loop, c->sources[0]);
        c->sources[1] = loop_remove(c->loop, c->sources[1]);
        c->sources[2] = loop_remove(c->loop, c->sources[2]);
}

static void handler_may_remove_any_source(void **state _unused_)
{
        struct counting c = {.loop = new_loop()};

        for (int i = 0; i < 3; i++) { /* all ready at once: only the first handler runs */
                c.fds[i] = eventfd(1, EFD_CLOEXEC);
                assert_int_equal(loop_add_fd(c.loop, c.fds[i], EPOLLIN, remove_the_other, &c, &c.sources[i], NULL), 0);
        }
        quit_after_ms(c.loop, 30);
        assert_int_equal(loop_run(c.loop, NULL), 0);
        assert_int_equal(c.n, 1);
        for (int i = 0; i < 3; i++)
                (void)close(c.fds[i]);
        (void)loop_free(c.loop);
}

static struct counting *timers;

static void timer_0(void *user _unused_)
{
        timers->order[timers->n++] = 0;
        timers->sources[2] = loop_remove(timers->loop, timers->sources[2]); /* due in the same round */
}

static void timer_1(void *user _unused_)
{
        timers->order[timers->n++] = 1;
}

static void timers_run_by_time_and_can_be_removed(void **state _unused_)
{
        struct counting c = {.loop = new_loop()};
        int64_t now = clock_monotonic_us();

        timers = &c;
        assert_int_equal(loop_add_timer(c.loop, now + 2000, timer_1, NULL, &c.sources[1], NULL), 0);
        assert_int_equal(loop_add_timer(c.loop, now + 1000, timer_0, NULL, &c.sources[0], NULL), 0);
        assert_int_equal(loop_add_timer(c.loop, now + 1001, timer_1, NULL, &c.sources[2], NULL), 0);
        assert_int_equal(loop_add_timer(c.loop, now + 100 * US_PER_S, timer_1, NULL, &c.sources[3], NULL), 0);
        quit_after_ms(c.loop, 20);
        assert_int_equal(loop_run(c.loop, NULL), 0);
        assert_int_equal(c.n, 2);
        assert_true(c.order[0] == 0 && c.order[1] == 1);
        (void)loop_free(c.loop);
}

static void on_signal(void *user, int number)
{
        *(int *)user = number;
}

static void signals_arrive_in_the_loop(void **state _unused_)
{
        struct loop *l = new_loop();
        int got = 0;

        assert_int_equal(loop_add_signal(l, SIGUSR1, on_signal, &got, NULL), 0);
        (void)kill(getpid(), SIGUSR1);
        quit_after_ms(l, 20);
        assert_int_equal(loop_run(l, NULL), 0);
        assert_int_equal(got, SIGUSR1);
        (void)loop_free(l);
}

#define POSTERS 4
#define POSTS 1000

struct posting {
        struct post post;
        struct loop *loop;
        int thread, number;
};

static struct posting posts[POSTERS][POSTS];
static int next_number[POSTERS], n_posted;

static void posted(struct post *p)
{
        struct posting *x = (struct posting *)p;

        assert_int_equal(x->number, next_number[x->thread]);
        next_number[x->thread]++;
        if (++n_posted == POSTERS * POSTS)
                loop_quit(x->loop);
}

static void *poster(void *user)
{
        struct posting *p = user;

        for (int i = 0; i < POSTS; i++)
                loop_post(p[i].loop, &p[i].post, posted);
        return NULL;
}

static void posts_of_other_threads_arrive_once_and_in_order(void **state _unused_)
{
        struct loop *l = new_loop();
        pthread_t threads[POSTERS];

        for (int t = 0; t < POSTERS; t++) {
                for (int i = 0; i < POSTS; i++)
                        posts[t][i] = (struct posting){.loop = l, .thread = t, .number = i};
                assert_int_equal(pthread_create(&threads[t], NULL, poster, posts[t]), 0);
        }
        assert_int_equal(loop_run(l, NULL), 0);
        for (int t = 0; t < POSTERS; t++)
                (void)pthread_join(threads[t], NULL);
        assert_int_equal(n_posted, POSTERS * POSTS);
        (void)loop_free(l);
}

/* ---- the life of a job */

static void every_pair_of_state_and_trigger(void **state _unused_)
{
        /* written out by hand, not from job.def: -1 where nothing fits */
        static const int expected[JOB_STATE_N][TRIGGER_N] = {
                /* start, cancel, pause, limit, preempt, disk, refuse, done, error, lost, stop, resume, retry */
                [JOB_QUEUED] = {JOB_RUNNING, JOB_CANCELLED, JOB_PAUSED, -1, -1, -1, JOB_FAILED, -1, -1, -1, -1, -1, -1},
                [JOB_RUNNING] = {-1, JOB_CANCELLED, JOB_PAUSED, JOB_PAUSED, JOB_QUEUED, JOB_QUEUED, -1, JOB_SUCCEEDED,
                                 JOB_FAILED, JOB_QUEUED, JOB_QUEUED, -1, -1},
                [JOB_SUCCEEDED] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, JOB_QUEUED, -1},
                [JOB_FAILED] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, JOB_QUEUED, JOB_QUEUED},
                [JOB_CANCELLED] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, JOB_QUEUED, JOB_QUEUED},
                [JOB_PAUSED] = {-1, JOB_CANCELLED, -1, -1, -1, -1, -1, -1, -1, -1, -1, JOB_QUEUED, -1},
        };

        for (int s = 0; s < JOB_STATE_N; s++)
                for (int t = 0; t < TRIGGER_N; t++) {
                        int next = job_next((enum job_state)s, (enum job_trigger)t);

                        if (next != (expected[s][t] < 0 ? -EINVAL : expected[s][t]))
                                fail_msg("%s, %s: %d", job_state_names[s], job_trigger_names[t], next);
                }
}

/* ---- a worker's life */

#define NO (-EINVAL)

static void every_pair_of_a_workers_state_and_event(void **state _unused_)
{
        static const int expected[LIFE_N][LIFE_EVENT_N] = {
                /* process, no_process, found, found_closed, write, write_outcome, written, refused, rested, exit */
                [LIFE_PREPARED] = {LIFE_STARTING, LIFE_ENDED, LIFE_WORKING, LIFE_LINGERING, NO, NO, NO, NO, NO, NO},
                [LIFE_STARTING] = {NO, NO, NO, NO, NO, NO, LIFE_WORKING, LIFE_WORKING, NO, LIFE_ENDED_WRITING},
                [LIFE_WORKING] = {NO, NO, NO, NO, LIFE_WRITING, LIFE_CLOSING, NO, LIFE_RESTING, NO, LIFE_ENDED},
                [LIFE_WRITING] = {NO, NO, NO, NO, NO, NO, LIFE_WORKING, LIFE_RESTING, NO, LIFE_ENDED_WRITING},
                [LIFE_CLOSING] = {NO, NO, NO, NO, NO, NO, LIFE_LINGERING, LIFE_RESTING, NO, LIFE_ENDED_CLOSING},
                [LIFE_RESTING] = {NO, NO, NO, NO, NO, NO, NO, NO, LIFE_WORKING, LIFE_ENDED_RESTING},
                [LIFE_LINGERING] = {NO, NO, NO, NO, NO, NO, NO, NO, NO, LIFE_OVER},
                [LIFE_ENDED] = {NO, NO, NO, NO, LIFE_ENDED_WRITING, LIFE_ENDED_CLOSING, NO, LIFE_ENDED_RESTING, NO, NO},
                [LIFE_ENDED_WRITING] = {NO, NO, NO, NO, NO, NO, LIFE_ENDED, LIFE_ENDED_RESTING, NO, NO},
                [LIFE_ENDED_CLOSING] = {NO, NO, NO, NO, NO, NO, LIFE_OVER, LIFE_ENDED_RESTING, NO, NO},
                [LIFE_ENDED_RESTING] = {NO, NO, NO, NO, NO, NO, NO, NO, LIFE_ENDED, NO},
                [LIFE_OVER] = {NO, NO, NO, NO, LIFE_OVER_WRITING, NO, NO, NO, NO, NO},
                [LIFE_OVER_WRITING] = {NO, NO, NO, NO, NO, NO, LIFE_GONE, LIFE_OVER_RESTING, NO, NO},
                [LIFE_OVER_RESTING] = {NO, NO, NO, NO, NO, NO, NO, NO, LIFE_OVER, NO},
                [LIFE_GONE] = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
        };

        for (int s = 0; s < LIFE_N; s++)
                for (int e = 0; e < LIFE_EVENT_N; e++)
                        if (life_next((enum life)s, (enum life_event)e) != expected[s][e])
                                fail_msg("%s, %s: %d", life_names[s], life_event_names[e],
                                         life_next((enum life)s, (enum life_event)e));
}

static uint64_t reachable(int from)
{
        uint64_t set = UINT64_C(1) << from, before = 0;

        while (set != before) {
                before = set;
                for (int s = 0; s < LIFE_N; s++)
                        for (int e = 0; set >> s & 1 && e < LIFE_EVENT_N; e++) {
                                int next = life_next((enum life)s, (enum life_event)e);

                                set |= next < 0 ? 0 : UINT64_C(1) << next;
                        }
        }
        return set;
}

static void whatever_happens_a_worker_can_come_to_its_end(void **state _unused_)
{
        assert_true(reachable(LIFE_PREPARED) == (UINT64_C(1) << LIFE_N) - 1);
        for (int s = 0; s < LIFE_N; s++) {
                bool writes = life_next((enum life)s, LIFE_WRITTEN) >= 0;

                assert_true(reachable(s) >> LIFE_GONE & 1);
                /* a write that is on its way may be refused, and nothing else is submitted meanwhile */
                assert_true(!writes || life_next((enum life)s, LIFE_REFUSED) >= 0);
                assert_true(!writes || life_next((enum life)s, LIFE_WRITE) < 0);
                /* what is closed stays closed, whoever has no process gets none */
                for (int e = 0; e < LIFE_EVENT_N; e++) {
                        int next = life_next((enum life)s, (enum life_event)e);

                        assert_true(next < 0 || !life_is_closed((enum life)s) || life_is_closed((enum life)next));
                        assert_true(next < 0 || s == LIFE_PREPARED || life_has_process((enum life)s) ||
                                    !life_has_process((enum life)next));
                }
        }
}

/* ---- locks */

/* Who cannot be asked is taken to be alive: taken for dead, a worker would be ended, or get a second beside it. */
static void a_lock_that_cannot_be_read_is_taken_to_be_held(void **state _unused_)
{
        static struct daemon d;
        char folder[] = "/tmp/mulund-lock-XXXXXX", path[100];
        int fd, second;

        assert_non_null(mkdtemp(folder));
        (void)snprintf(d.settings.state, sizeof d.settings.state, "%s", folder);
        (void)snprintf(path, sizeof path, "%s/jobs/1", folder);
        assert_int_equal(file_make_folder(path, NULL), 0);
        assert_false(attempt_lock_is_held(&d, 1, 2));
        (void)snprintf(path, sizeof path, "%s/jobs/1/attempt-2.lock", folder);
        assert_int_equal(symlink("/dev/null", path), 0);
        assert_true(attempt_lock_is_held(&d, 1, 2));
        assert_int_equal(unlink(path), 0);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_false(attempt_lock_is_held(&d, 1, 2));
        second = open(path, O_RDWR | O_CLOEXEC); /* a description of its own, as another process has */
        assert_int_equal(flock(second, LOCK_EX | LOCK_NB), 0);
        assert_true(attempt_lock_is_held(&d, 1, 2));
        (void)close(fd);
        (void)close(second);
        assert_int_equal(file_remove_tree(folder, NULL), 0);
}

/* ---- failures */

static void only_a_jobs_own_failures_end_it(void **state _unused_)
{
        static const bool retried[FAILURE_N] = {[FAILURE_DEVICE] = true, [FAILURE_HOST] = true, [FAILURE_LOST] = true};

        for (int f = 0; f < FAILURE_N; f++) {
                assert_int_equal(failure_rules[f].retried, retried[f]);
                assert_int_equal(failure_rules[f].rests, retried[f]);
        }
        for (int c = 0; c < ERROR_CLASS_N; c++)
                assert_string_equal(failure_rules[failure_of_error((enum error_class)c)].name, error_class_names[c]);
        assert_int_equal(failure_wait_us(3, 1), 3);
        assert_int_equal(failure_wait_us(3, 3), 12);
        assert_int_equal(failure_wait_us(3, 8), 300);
        assert_int_equal(failure_wait_us(3, 1000000), 300);
}

/* ---- what the system says */

static void put(const char *root, const char *path, const char *text)
{
        char whole[300];
        struct error err;

        (void)snprintf(whole, sizeof whole, "%s/%s", root, path);
        *strrchr(whole, '/') = 0;
        assert_int_equal(file_make_folder(whole, &err), 0);
        (void)snprintf(whole, sizeof whole, "%s/%s", root, path);
        assert_int_equal(file_write_atomic(whole, text, strlen(text), NULL, &err), 0);
}

/* Each with less than the one before: the machine, version 1, a container's root of version 2, its own group. */
static void kills_for_want_of_memory_are_found_where_they_are_counted(void **state _unused_)
{
        char root[] = "/tmp/mulund-system-XXXXXX";

        assert_non_null(mkdtemp(root));
        assert_int_equal(memory_oom_kills(root), -1);
        put(root, "proc/vmstat", "oom_kills 9\noom_kill 5\n");
        assert_int_equal(memory_oom_kills(root), 5);
        put(root, "proc/self/cgroup", "12:cpu,memory:/docker/a\n0::/system.slice/mulund.service\n");
        put(root, "sys/fs/cgroup/memory/docker/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        assert_int_equal(memory_oom_kills(root), 4);
        put(root, "sys/fs/cgroup/memory.events", "low 0\nhigh 0\nmax 8\noom 7\noom_kill 3\n");
        assert_int_equal(memory_oom_kills(root), 3);
        put(root, "sys/fs/cgroup/system.slice/mulund.service/memory.events", "max 8\noom 7\noom_kill 0\n");
        assert_int_equal(memory_oom_kills(root), 0);
        assert_int_equal(file_remove_tree(root, NULL), 0);
}

static void memory_is_what_the_machine_or_its_group_has(void **state _unused_)
{
        char root[] = "/tmp/mulund-system-XXXXXX";

        assert_non_null(mkdtemp(root));
        assert_int_equal(memory_total(root), INT64_MAX);
        put(root, "proc/meminfo", "MemTotal:       8000 kB\nMemAvailable:   10 kB\n");
        assert_int_equal(memory_total(root), 8000 * 1024);
        put(root, "proc/self/cgroup", "12:cpu,memory:/docker/a\n0::/system.slice/mulund.service\n");
        put(root, "sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
        assert_int_equal(memory_total(root), 8000 * 1024);
        put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "5000000\n");
        assert_int_equal(memory_total(root), 5000000);
        put(root, "sys/fs/cgroup/system.slice/mulund.service/memory.max", "max\n");
        put(root, "sys/fs/cgroup/system.slice/memory.max", "4000000\n"); /* a level above it */
        assert_int_equal(memory_total(root), 4000000);
        put(root, "sys/fs/cgroup/system.slice/mulund.service/memory.max", "3000000\n");
        assert_int_equal(memory_total(root), 3000000);
        assert_int_equal(file_remove_tree(root, NULL), 0);
}

static void low_disk_ends_with_some_room_between(void **state _unused_)
{
        struct disk now = disk_read("/", 0, false);
        char text[160];

        assert_false(now.low);
        assert_true(now.free_bytes > 0);
        assert_true(disk_read("/", now.free_bytes * 2, false).low);
        assert_false(disk_read("/", now.free_bytes / 10 * 9, false).low);
        assert_true(disk_read("/", now.free_bytes / 10 * 9, true).low);
        assert_false(disk_read("/", now.free_bytes / 2, true).low);
        assert_false(disk_read("/nonexistent", INT64_MAX, false).low);
        disk_describe(&now, text, sizeof text);
        assert_string_equal(text, "");
        now = disk_read("/", -1, false);
        assert_true(now.reserve_bytes > 0 && now.reserve_bytes <= (int64_t)2 << 30);
}

/* ---- queue and scheduler */

static struct job *job(int64_t id)
{
        struct job_row row = {.id = id, .state = JOB_QUEUED};

        return job_new(&row, NULL);
}

static void queue_is_by_id(void **state _unused_)
{
        struct queue q = {0};

        for (int64_t i = 0; i < 1000; i++)
                assert_int_equal(queue_add(&q, job(1 + i * 389 % 1000), NULL), 0);
        for (size_t i = 0; i < q.n; i++)
                assert_int_equal(q.jobs[i]->id, i + 1);
        assert_null(queue_find(&q, 1001));
        (void)job_free(queue_take(&q, 500));
        assert_null(queue_find(&q, 500));
        assert_null(queue_take(&q, 500));
        assert_int_equal(queue_find(&q, 501)->id, 501);
        assert_int_equal(q.n, 999);
        queue_done(&q);
}

static void a_job_starts_on_a_free_device_when_nothing_holds_it(void **state _unused_)
{
        struct device devices[5] = {{.name = "a"},
                                    {.name = "b", .users = 1},
                                    {.name = "c", .not_before_us = 60},
                                    {.name = "d", .gpu = true},
                                    {.name = "e", .out = true}};
        struct job j = {.state = JOB_QUEUED, .not_before_us = 100};
        size_t free[5];

        assert_int_equal(scheduler_free(devices, 5, false, 50, free), 1);
        assert_int_equal(free[0], 0);
        assert_int_equal(scheduler_free(devices, 5, false, 60, free), 2);
        assert_int_equal(free[1], 2);
        assert_int_equal(scheduler_free(devices, 5, true, 0, free), 1);
        assert_int_equal(free[0], 3);
        assert_true(scheduler_fits(devices, 5, 70, 100)); /* nothing is known of b's job */
        devices[1].job_bytes = 40;
        assert_false(scheduler_fits(devices, 5, 70, 100));
        assert_true(scheduler_fits(devices, 5, 60, 100));
        devices[1].users = 0;
        assert_true(scheduler_fits(devices, 5, 700, 100)); /* alone it may try */
        assert_true(scheduler_eligible(NULL, 0));
        assert_false(scheduler_eligible(&j, 99));
        assert_true(scheduler_eligible(&j, 100));
        j.pending = true;
        assert_false(scheduler_eligible(&j, 100));
        j = (struct job){.state = JOB_RUNNING};
        assert_false(scheduler_eligible(&j, 100));
}

static void a_wide_job_gets_devices_that_are_alike(void **state _unused_)
{
        struct device devices[6] = {{.name = "a", .gpu = true, .model = "X"},
                                    {.name = "b", .gpu = true, .model = "Y"},
                                    {.name = "c"},
                                    {.name = "d", .gpu = true, .model = "Y", .users = 1},
                                    {.name = "e", .gpu = true, .model = "Y"},
                                    {.name = "f"}};

        assert_int_equal(scheduler_pick(devices, 6, true, 1, 0), 1 << 0);
        assert_int_equal(scheduler_pick(devices, 6, true, 2, 0), 1 << 1 | 1 << 4);
        assert_int_equal(scheduler_pick(devices, 6, true, 3, 0), 0);
        assert_int_equal(scheduler_pick(devices, 6, false, 2, 0), 1 << 2 | 1 << 5);
        assert_int_equal(scheduler_most(devices, 6, true), 3);
        devices[3].users = 0;
        assert_int_equal(scheduler_pick(devices, 6, true, 3, 0), 1 << 1 | 1 << 3 | 1 << 4);
        devices[4].not_before_us = 5;
        assert_int_equal(scheduler_pick(devices, 6, true, 3, 4), 0);
        assert_int_equal(scheduler_most(devices, 6, true), 3);
        devices[1].out = true;
        assert_int_equal(scheduler_most(devices, 6, true), 2);
        assert_int_equal(scheduler_most(devices, 6, false), 2);
}

static void slots_of_one_gpu_are_not_two_gpus(void **state _unused_)
{
        struct device devices[4] = {{.name = "a", .gpu = true, .model = "X", .uuid = "1"},
                                    {.name = "b", .gpu = true, .model = "X", .uuid = "1"},
                                    {.name = "c", .gpu = true, .model = "X", .uuid = "2"},
                                    {.name = "d", .gpu = true, .model = "X", .uuid = "2"}};
        int64_t free_us[4] = {1, 2, 5, 9};

        assert_int_equal(device_slots(devices, 4, 1), 1 << 0 | 1 << 1);
        assert_int_equal(scheduler_pick(devices, 4, true, 2, 0), 1 << 0 | 1 << 2);
        assert_int_equal(scheduler_pick(devices, 4, true, 3, 0), 0);
        assert_int_equal(scheduler_most(devices, 4, true), 2);
        assert_int_equal(scheduler_when(devices, 4, true, 2, free_us), 5);
        devices[0].users = 1; /* another goes where nobody is */
        assert_int_equal(scheduler_pick(devices, 4, true, 1, 0), 1 << 2);
        assert_int_equal(scheduler_pick(devices, 4, true, 2, 0), 1 << 1 | 1 << 2);
        devices[2].users = 1;
        assert_int_equal(scheduler_pick(devices, 4, true, 1, 0), 1 << 1);
        devices[3].out = devices[2].out = true;
        assert_int_equal(scheduler_most(devices, 4, true), 1);
}

static void a_reservation_is_when_enough_that_are_alike_are_free(void **state _unused_)
{
        struct device devices[5] = {{.gpu = true, .model = "a"},
                                    {.gpu = true, .model = "b"},
                                    {.gpu = true, .model = "a"},
                                    {.gpu = true, .model = "a"},
                                    {.gpu = false}};
        int64_t free_us[5] = {5, 1, 9, 7, 2};

        assert_int_equal(scheduler_when(devices, 5, true, 1, free_us), 1);
        assert_int_equal(scheduler_when(devices, 5, true, 2, free_us), 7);
        assert_int_equal(scheduler_when(devices, 5, true, 3, free_us), 9);
        assert_int_equal(scheduler_when(devices, 5, true, 4, free_us), INT64_MAX);
        assert_int_equal(scheduler_when(devices, 5, false, 1, free_us), 2);
        free_us[3] = INT64_MAX;
        assert_int_equal(scheduler_when(devices, 5, true, 2, free_us), 9);
        assert_int_equal(scheduler_when(devices, 5, true, 3, free_us), INT64_MAX);
}

static void every_limit_is_reached_at_its_value(void **state _unused_)
{
        const struct usage all = {INT64_MAX, INT64_MAX, INT64_MAX};
        struct limits_row l = {0};
        struct error err;

        assert_false(limit_reached(&l, &all, INT64_MAX, &err));
        l.of[LIMIT_WALL] = 10;
        assert_false(limit_reached(&l, &(struct usage){9999999, INT64_MAX, INT64_MAX}, INT64_MAX, &err));
        assert_true(limit_reached(&l, &(struct usage){10000000, 0, 0}, 0, &err));
        assert_string_equal(err.path, "/limits/wall");
        l = (struct limits_row){.of[LIMIT_DEVICE_SECONDS] = 10};
        assert_false(limit_reached(&l, &(struct usage){INT64_MAX, 9999999, INT64_MAX}, INT64_MAX, &err));
        assert_true(limit_reached(&l, &(struct usage){0, 10000000, 0}, 0, &err));
        assert_string_equal(err.path, "/limits/device_seconds");
        l = (struct limits_row){.of[LIMIT_STEPS] = 10};
        assert_false(limit_reached(&l, &all, 9, &err));
        assert_true(limit_reached(&l, &(struct usage){0}, 10, &err));
        assert_string_equal(err.path, "/limits/steps");
        l = (struct limits_row){.of[LIMIT_FAILURES] = 2};
        assert_false(limit_reached(&l, &(struct usage){INT64_MAX, INT64_MAX, 1}, INT64_MAX, &err));
        assert_true(limit_reached(&l, &(struct usage){0, 0, 2}, 0, &err));
        assert_string_equal(err.path, "/limits/failures");
}

static void the_time_that_limits_leave_is_that_of_the_nearest(void **state _unused_)
{
        const struct usage used = {.wall_us = 3000000, .device_us = 12000000};
        struct limits_row l = {.of[LIMIT_STEPS] = 1, .of[LIMIT_FAILURES] = 1};

        assert_int_equal(limit_time_left_us(&l, &used, 4), INT64_MAX);
        l.of[LIMIT_WALL] = 10;
        assert_int_equal(limit_time_left_us(&l, &used, 4), 7000000);
        l.of[LIMIT_DEVICE_SECONDS] = 20;
        assert_int_equal(limit_time_left_us(&l, &used, 4), 2000000);
        l.of[LIMIT_DEVICE_SECONDS] = 11;
        assert_int_equal(limit_time_left_us(&l, &used, 4), 0);
}

static void every_reason_to_stop_moves_a_running_job(void **state _unused_)
{
        static const enum job_state expected[STOP_REASON_N] = {
                [STOP_NONE] = JOB_QUEUED,  [STOP_CANCEL] = JOB_CANCELLED, [STOP_PAUSE] = JOB_PAUSED,
                [STOP_LIMIT] = JOB_PAUSED, [STOP_SHUTDOWN] = JOB_QUEUED,  [STOP_PREEMPT] = JOB_QUEUED,
                [STOP_DISK] = JOB_QUEUED,
        };

        for (int reason = 0; reason < STOP_REASON_N; reason++)
                assert_int_equal(job_next(JOB_RUNNING, job_stop_trigger((enum stop_reason)reason)), expected[reason]);
}

static void a_torn_line_is_left_out_and_a_huge_one_said(void **state _unused_)
{
        char path[] = "/tmp/mulund-spool-XXXXXX";
        int fd = mkstemp(path);
        size_t size = (size_t)3 << 20;
        char *huge = malloc(size);
        struct spool *s;
        const char *line;
        size_t n;

        memset(huge, 'x', size);
        assert_int_equal(write(fd, "one\n\ntwo\n", 9), 9);
        assert_int_equal(write(fd, huge, size), size);
        assert_int_equal(write(fd, "\nthree\nto", 9), 9);
        (void)close(fd);
        free(huge);
        assert_int_equal(spool_open(path, &s, NULL), 0);
        static const char *const expected[] = {"one", "", "two", "three"};

        for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
                if (i == 3)
                        assert_int_equal(spool_next(s, &line, &n, NULL), -EMSGSIZE);
                assert_int_equal(spool_next(s, &line, &n, NULL), 1);
                assert_int_equal(n, strlen(expected[i]));
                assert_memory_equal(line, expected[i], n);
        }
        assert_int_equal(spool_next(s, &line, &n, NULL), 0);
        (void)spool_close(s);
        (void)unlink(path);
        assert_int_equal(spool_open(path, &s, NULL), -ENOENT);
}

/* What is appended later is in what was kept. */
static void a_kept_spool_outlives_its_first_name(void **state _unused_)
{
        char folder[] = "/tmp/mulund-spool-XXXXXX", path[64], kept[64];
        struct error err;
        struct spool *s;
        const char *line;
        size_t n;
        FILE *f;

        assert_non_null(mkdtemp(folder));
        (void)snprintf(path, sizeof path, "%s/a", folder);
        (void)snprintf(kept, sizeof kept, "%s/b", folder);
        assert_int_equal(spool_keep(path, kept, &err), -ENOENT);
        f = fopen(path, "w");
        assert_int_equal(spool_keep(path, kept, &err), 0);
        assert_int_equal(spool_keep(path, kept, &err), 0);
        assert_true(fputs("later\n", f) >= 0 && fclose(f) == 0 && unlink(path) == 0);
        assert_int_equal(spool_open(kept, &s, NULL), 0);
        assert_int_equal(spool_next(s, &line, &n, NULL), 1);
        assert_true(n == 5 && !memcmp(line, "later", 5));
        (void)spool_close(s);
        assert_true(unlink(kept) == 0 && rmdir(folder) == 0);
}

/* ---- stalls */

static void patience_is_ten_usual_steps(void **state _unused_)
{
        struct stall s = {0};

        assert_int_equal(stall_patience_us(&s, 7), 7);
        for (int i = 0; i < 40; i++) /* a slow one now and then changes nothing */
                s.steps_us[s.n_steps++ % STALL_STEPS] = i % 5 ? 100 : 1000000;
        assert_int_equal(stall_patience_us(&s, 7), 1000);
        assert_int_equal(stall_patience_us(&s, 2000), 2000);
        s = (struct stall){.n_steps = 2, .steps_us = {INT64_MAX / 2, INT64_MAX / 2}};
        assert_true(stall_patience_us(&s, 7) == INT64_MAX);
}

/* ---- command line */

struct told {
        int n;
        struct error first;
};

static void on_wrong(void *user, const struct error *err)
{
        struct told *t = user;

        if (!t->n++)
                t->first = *err;
}

static int parse(struct settings *s, struct error *err, const char *a, const char *b)
{
        char *argv[] = {(char *)"mulund", (char *)a, (char *)b, NULL};
        struct told t = {0};
        int r = settings_load(b ? 3 : a ? 2 : 1, argv, s, on_wrong, &t);

        assert_true((r < 0) == (t.n > 0));
        *err = t.first;
        return r;
}

static void command_line_defaults_and_values(void **state _unused_)
{
        static struct settings s;
        struct error err;
        char text[128];

        (void)setenv("XDG_STATE_HOME", "/xdg", 1);
        assert_int_equal(parse(&s, &err, NULL, NULL), 0);
        assert_string_equal(s.state, "/xdg/mulund");
        listener_text(&s.listeners[0], 0, text, sizeof text);
        assert_string_equal(text, "127.0.0.1:8700");
        assert_true(s.n_listeners == 1 && !s.single_user && !s.request_log);
        assert_true(s.stop_timeout_us == 60 * US_PER_S && s.retry_us == 3 * US_PER_S && s.disk_reserve_bytes == -1);
        (void)unsetenv("XDG_STATE_HOME");
        (void)setenv("HOME", "/home/x", 1);
        assert_int_equal(parse(&s, &err, NULL, NULL), 0);
        assert_string_equal(s.state, "/home/x/.local/state/mulund");
        assert_int_equal(parse(&s, &err, "--dataset=a=/tmp", NULL), 0);
        assert_true(s.n_datasets == 1 && !strcmp(s.datasets[0].name, "a") && !strcmp(s.datasets[0].path, "/tmp"));
        assert_int_equal(parse(&s, &err, "--dataset", "a=/nowhere/at=all"), 0);
        assert_string_equal(s.datasets[0].path, "/nowhere/at=all");
        assert_int_equal(parse(&s, &err, "--listen", "127.0.0.1:0"), 0);
        assert_true(s.n_listeners == 1 && s.listeners[0].address.in.sin_port == 0);
        assert_int_equal(parse(&s, &err, "--listen", "localhost:0"), -EINVAL);
        assert_string_equal(err.path, "--listen");
        assert_int_equal(parse(&s, &err, "--worker", NULL), -EINVAL);
        assert_string_equal(err.path, "--worker");
        assert_int_equal(parse(&s, &err, "--lisen", "127.0.0.1:0"), -EINVAL);
        assert_non_null(strstr(err.text, "is it --listen that is meant"));
}

static void every_default_and_example_is_a_value(void **state _unused_)
{
        static struct settings s;
        struct error err;
        size_t n;
        const struct setting *table = settings_table(&n);
        char value[PATH_MAX];

        for (const struct setting *row = table; row < table + n; row++) {
                if (row->default_value)
                        assert_int_equal(setting_parse(row, row->default_value, false, &s, &err), 0);
                (void)snprintf(value, sizeof value, "%s%s", setting_takes_any_name(row) ? "name=" : "", row->example);
                assert_int_equal(setting_parse(row, value, true, &s, &err), 0);
                for (const struct setting *other = table; other < row; other++) {
                        assert_string_not_equal(other->option, row->option);
                        assert_true(strcmp(other->section, row->section) != 0 || strcmp(other->key, row->key) != 0);
                }
        }
}

static void times_and_sizes_come_back_as_they_were(void **state _unused_)
{
        static const char *const times[] = {"0ms", "1ms", "1500ms", "1s", "90s", "1m", "25h", "2d"},
                                 *const sizes[] = {"0B", "1B", "1023B", "1KiB", "3MiB", "5GiB", "1025GiB", "2TiB"},
                                 *const wrong[] = {"",
                                                   "s",
                                                   "-1s",
                                                   "1.5s",
                                                   "1 s",
                                                   "1S",
                                                   "1y",
                                                   "0x1s",
                                                   "1ss",
                                                   "9999999999999999999",
                                                   "999999999999999999d"};
        char text[UNITS_SIZE];
        int64_t v;

        for (size_t i = 0; i < ARRAY_LEN(times); i++) {
                assert_true(units_time(times[i], &v));
                assert_string_equal(units_time_text(v, text), times[i]);
                assert_true(units_bytes(sizes[i], &v));
                assert_string_equal(units_bytes_text(v, text), sizes[i]);
        }
        for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
                assert_false(units_time(wrong[i], &v));
        assert_true(units_time("7", &v) && v == 7 * US_PER_S && units_bytes("7", &v) && v == 7);
        assert_false(units_bytes("1kB", &v) || units_bytes("9999999TiB", &v));
}

static void note_other(void *user, const struct setting *row)
{
        assert_string_equal(row->section, "datasets");
        ++*(int *)user;
}

static void a_reload_takes_what_it_may(void **state _unused_)
{
        static struct settings s, loaded, fresh;
        struct error err;
        int n = 0;

        assert_int_equal(parse(&s, &err, NULL, NULL), 0);
        loaded = s;
        (void)snprintf(s.state, sizeof s.state, "/resolved"); /* as the daemon does at its start */
        assert_int_equal(parse(&fresh, &err, "--stop-timeout", "7s"), 0);
        settings_take(&s, &loaded, &fresh, note_other, &n);
        assert_true(n == 0 && s.stop_timeout_us == 7 * US_PER_S && !strcmp(s.state, "/resolved"));
        assert_int_equal(parse(&fresh, &err, "--dataset", "a=/tmp"), 0);
        settings_take(&s, &loaded, &fresh, note_other, &n);
        assert_true(n == 1 && s.n_datasets == 0 && s.stop_timeout_us == 60 * US_PER_S);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(file_systems_of_other_machines_are_known),
                cmocka_unit_test(handler_may_remove_any_source),
                cmocka_unit_test(timers_run_by_time_and_can_be_removed),
                cmocka_unit_test(signals_arrive_in_the_loop),
                cmocka_unit_test(posts_of_other_threads_arrive_once_and_in_order),
                cmocka_unit_test(every_pair_of_state_and_trigger),
                cmocka_unit_test(every_pair_of_a_workers_state_and_event),
                cmocka_unit_test(whatever_happens_a_worker_can_come_to_its_end),
                cmocka_unit_test(a_lock_that_cannot_be_read_is_taken_to_be_held),
                cmocka_unit_test(only_a_jobs_own_failures_end_it),
                cmocka_unit_test(kills_for_want_of_memory_are_found_where_they_are_counted),
                cmocka_unit_test(memory_is_what_the_machine_or_its_group_has),
                cmocka_unit_test(low_disk_ends_with_some_room_between),
                cmocka_unit_test(queue_is_by_id),
                cmocka_unit_test(a_job_starts_on_a_free_device_when_nothing_holds_it),
                cmocka_unit_test(a_wide_job_gets_devices_that_are_alike),
                cmocka_unit_test(slots_of_one_gpu_are_not_two_gpus),
                cmocka_unit_test(a_reservation_is_when_enough_that_are_alike_are_free),
                cmocka_unit_test(every_limit_is_reached_at_its_value),
                cmocka_unit_test(the_time_that_limits_leave_is_that_of_the_nearest),
                cmocka_unit_test(every_reason_to_stop_moves_a_running_job),
                cmocka_unit_test(a_torn_line_is_left_out_and_a_huge_one_said),
                cmocka_unit_test(a_kept_spool_outlives_its_first_name),
                cmocka_unit_test(patience_is_ten_usual_steps),
                cmocka_unit_test(command_line_defaults_and_values),
                cmocka_unit_test(every_default_and_example_is_a_value),
                cmocka_unit_test(times_and_sizes_come_back_as_they_were),
                cmocka_unit_test(a_reload_takes_what_it_may),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
