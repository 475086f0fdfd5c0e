/* Whatever the daemon does, the spool holds every event and the trainer is not held up; whatever connection breaks,
 * the daemon gets every event once and in order. Most tests play the daemon by hand, in lockstep; one runs it in a
 * thread that hangs up at random. SIGPIPE keeps its deadly default in all of them. */
#include "worker/channel.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>

static char folder[64], socket_path[96], spool_path[96];
static struct assignment assignment;

/* The channel of this program calls these two, and not the C library's; each fails as often as is said here. */
static int fdatasync_failures, ftruncate_failures, full_syncs;
int fdatasync(int fd);
int ftruncate(int fd, off_t size);

static int fails(int *times)
{
        if (*times > 0) {
                --*times;
                errno = EIO;
                return 1;
        }
        return 0;
}

int fdatasync(int fd)
{
        if (full_syncs > 0) {
                full_syncs--;
                errno = ENOSPC;
                return -1;
        }
        return fails(&fdatasync_failures) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
        return fails(&ftruncate_failures) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

static int set_up(void **state _unused_)
{
        strcpy(folder, "/tmp/mulund-channel.XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        (void)snprintf(socket_path, sizeof socket_path, "%s/worker.sock", folder);
        (void)snprintf(spool_path, sizeof spool_path, "%s/attempt-7.events", folder);
        assignment = (struct assignment){.job = 3, .attempt = 7, .folder = folder, .socket = socket_path};
        strcpy(assignment.identity, "0123456789abcdef0123456789abcdef");
        return 0;
}

static int tear_down(void **state _unused_)
{
        return file_remove_tree(folder, NULL);
}

static struct channel *open_channel(void)
{
        struct channel *ch = NULL;
        struct error err = {0};

        if (channel_open(&assignment, CHANNEL_WHOLE, &ch, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
        return ch;
}

static int send_event(struct channel *ch, int64_t n, bool sync, struct error *err)
{
        struct event e = {
                .type = EVENT_PROGRESS, .step = 3 * n, .steps = 1000000, .images_per_second = 1.5, .seconds_left = NAN};
        int r = channel_send(ch, &e, sync, err);

        if (r >= 0)
                assert_int_equal(e.seq, n);
        return r;
}

static void send_events(struct channel *ch, int64_t from, int64_t to)
{
        for (int64_t n = from; n <= to; n++)
                assert_int_equal(send_event(ch, n, false, NULL), 0);
}

static struct channel_commands poll_for(struct channel *ch, int timeout_ms)
{
        struct channel_commands c = {0};

        assert_int_equal(channel_poll(ch, timeout_ms, &c, NULL), 0);
        return c;
}

/* The spool is exactly events 1..n. */
static void assert_spool(int64_t n)
{
        struct buf b = BUF_INIT((size_t)1 << 30);
        int64_t seq = 0;

        assert_int_equal(file_read(spool_path, &b, NULL), 0);
        for (char *p = b.data, *newline; b.size && p < b.data + b.size; p = newline + 1) {
                struct event e;

                newline = memchr(p, '\n', (size_t)(b.data + b.size - p));
                assert_non_null(newline);
                assert_int_equal(event_decode(p, (size_t)(newline - p), &e, NULL), 0);
                if (p == b.data) { /* it says whose it is */
                        assert_int_equal(e.type, EVENT_HELLO);
                        assert_true(e.job == 3 && e.attempt == 7);
                        assert_string_equal(e.identity, assignment.identity);
                        event_done(&e);
                        continue;
                }
                assert_int_equal(e.seq, ++seq);
                if (e.type == EVENT_PROGRESS)
                        assert_int_equal(e.step, 3 * seq);
                event_done(&e);
        }
        assert_int_equal(seq, n);
        buf_done(&b);
}

/* ---- a daemon by hand */

struct peer {
        int fd;
        struct buf in;
};

static int listen_here(void)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        (void)snprintf(a.sun_path, sizeof a.sun_path, "%s", socket_path);
        (void)unlink(socket_path);
        return bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4) < 0 ? -1 : fd;
}

static void peer_close(struct peer *p)
{
        (void)close(p->fd);
        buf_done(&p->in);
}

/* Reads what there is; 0: end of file or broken. */
static int peer_read(struct peer *p)
{
        assert_int_equal(buf_reserve(&p->in, 1 << 16, NULL), 0);
        ssize_t n = recv(p->fd, p->in.data + p->in.size, 1 << 16, MSG_DONTWAIT);

        if (n <= 0)
                return n < 0 && errno == EAGAIN;
        p->in.size += (size_t)n;
        p->in.data[p->in.size] = 0;
        return 1;
}

/* 1: a line was there and is decoded. */
static int peer_line(struct peer *p, struct event *ret)
{
        char *newline = p->in.size ? memchr(p->in.data, '\n', p->in.size) : NULL;

        if (!newline)
                return 0;
        assert_int_equal(event_decode(p->in.data, (size_t)(newline - p->in.data), ret, NULL), 0);
        buf_consume(&p->in, (size_t)(newline + 1 - p->in.data));
        return 1;
}

static void peer_say(struct peer *p, const char *text)
{
        assert_int_equal(send(p->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Takes the next connection and its hello. */
static struct peer accept_hello(int listener, struct channel *ch)
{
        struct peer p = {.fd = -1, .in = BUF_INIT((size_t)1 << 28)};
        struct event e;

        for (int i = 0; i < 2000 && p.fd < 0; i++) {
                p.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (p.fd < 0)
                        (void)poll_for(ch, 1);
        }
        assert_true(p.fd >= 0);
        for (int i = 0; i < 2000 && !memchr(p.in.data ? p.in.data : "", '\n', p.in.size); i++) {
                (void)poll_for(ch, 0);
                assert_int_equal(peer_read(&p), 1);
        }
        assert_int_equal(peer_line(&p, &e), 1);
        assert_int_equal(e.type, EVENT_HELLO);
        assert_int_equal(e.protocol, EVENT_PROTOCOL);
        assert_int_equal(e.job, 3);
        assert_int_equal(e.attempt, 7);
        assert_int_equal(e.pid, getpid());
        event_done(&e);
        return p;
}

/* Expects events from..to and no other, while the channel is polled. */
static void peer_expect(struct peer *p, struct channel *ch, int64_t from, int64_t to)
{
        struct event e;

        for (int i = 0; i < 100000 && from <= to; i++) {
                (void)poll_for(ch, 0);
                assert_int_equal(peer_read(p), 1);
                while (peer_line(p, &e)) {
                        assert_int_equal(e.seq, from++);
                        event_done(&e);
                }
        }
        assert_int_equal(from, to + 1);
        (void)poll_for(ch, 0);
        assert_int_equal(peer_read(p), 1);
        assert_int_equal(p->in.size, 0);
}

static bool hung_up(struct peer *p, struct channel *ch)
{
        for (int i = 0; i < 100; i++) {
                (void)poll_for(ch, 0);
                if (!peer_read(p))
                        return true;
        }
        return false;
}

/* ---- the tests */

static void events_wait_for_the_answer_to_hello(void **state _unused_)
{
        int listener = listen_here();
        struct channel *ch = open_channel();
        struct peer p;

        send_events(ch, 1, 3);
        p = accept_hello(listener, ch);
        peer_expect(&p, ch, 1, 0);
        peer_say(&p, "{\"ack\":0}\n");
        peer_expect(&p, ch, 1, 3);
        send_events(ch, 4, 5);
        peer_expect(&p, ch, 4, 5);
        assert_int_equal(channel_drain(ch, 5, NULL), -ETIMEDOUT);
        peer_say(&p, "{\"ack\":4}\n{\"ack\":2}\n"); /* a lower one later says nothing new */
        assert_int_equal(channel_drain(ch, 5, NULL), -ETIMEDOUT);
        peer_say(&p, "{\"ack\":5}\n");
        assert_int_equal(channel_drain(ch, 1000, NULL), 0);
        peer_close(&p);
        ch = channel_close(ch);
        assert_null(ch);
        assert_spool(5);
        (void)close(listener);
}

static void what_hello_acknowledges_decides(void **state _unused_)
{
        static const struct {
                const char *answer;
                int64_t from;
        } rows[] = {{"{\"ack\":10}\n", 11}, {"{\"ack\":20}\n", 21}, {"{\"ack\":3}\n", 4}, {"{\"ack\":0}\n", 1}};
        int listener = listen_here();
        struct channel *ch = open_channel();
        struct peer p = accept_hello(listener, ch);

        send_events(ch, 1, 20);
        peer_say(&p, "{\"ack\":0}\n");
        peer_expect(&p, ch, 1, 20);
        peer_say(&p, "{\"ack\":20}\n");
        assert_int_equal(channel_drain(ch, 1000, NULL), 0);
        peer_close(&p);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                p = accept_hello(listener, ch);
                peer_say(&p, rows[i].answer);
                peer_expect(&p, ch, rows[i].from, 20);
                assert_int_equal(channel_drain(ch, 5, NULL), rows[i].from == 21 ? 0 : -ETIMEDOUT);
                peer_close(&p);
        }
        ch = channel_close(ch);
        (void)close(listener);
}

static void garbage_ends_the_connection_not_the_worker(void **state _unused_)
{
        static const char *const rows[] = {
                "hello\n",
                "\n",
                "{}\n",
                "[1]\n",
                "{\"ack\":-1}\n",
                "{\"ack\":6}\n", /* five were sent */
                "{\"ack\":1.5}\n",
                "{\"ack\":99999999999999999999}\n",
                "{\"ack\":null}\n",
                "{\"command\":\"\"}\n",
                "{\"ack\":1}}\n",
                "{\"ack\":-1,\"protocol\":2}\n",
                "\x80\xff\xfe\n",
        };
        int listener = listen_here();
        struct channel *ch = open_channel();
        char *endless = malloc(5001);
        struct peer p;

        memset(endless, 'x', 5000);
        endless[5000] = 0;
        send_events(ch, 1, 5);
        for (size_t i = 0; i <= ARRAY_LEN(rows); i++)
                for (int welcome = 0; welcome < 2; welcome++) {
                        p = accept_hello(listener, ch);
                        if (welcome) {
                                peer_say(&p, "{\"ack\":0}\n");
                                peer_expect(&p, ch, 1, 5);
                        }
                        peer_say(&p, i < ARRAY_LEN(rows) ? rows[i] : endless);
                        assert_true(hung_up(&p, ch));
                        peer_close(&p);
                }
        assert_int_equal(channel_drain(ch, 0, NULL), -ETIMEDOUT);
        p = accept_hello(listener, ch);
        peer_say(&p, "{\"ack\":5}\n");
        assert_int_equal(channel_drain(ch, 1000, NULL), 0);
        peer_close(&p);
        ch = channel_close(ch);
        free(endless);
        (void)close(listener);
}

static void commands_are_kept_until_they_are_asked_for(void **state _unused_)
{
        int listener = listen_here();
        struct channel *ch = open_channel();
        struct peer p = accept_hello(listener, ch);
        struct channel_commands c;
        int64_t before;

        peer_say(&p, "{\"command\":\"checkpoint\"}\n"); /* before hello is answered */
        peer_say(&p, "{\"ack\":0}\n");
        send_events(ch, 1, 1); /* notices it, keeps it */
        peer_say(&p, "{\"command\":\"sto");
        c = poll_for(ch, 0);
        assert_true(c.checkpoint && !c.stop);
        c = poll_for(ch, 0);
        assert_true(!c.checkpoint && !c.stop);
        peer_say(&p, "p\"}\n");
        before = clock_monotonic_us();
        c = poll_for(ch, 10000); /* comes back at once */
        assert_true(!c.checkpoint && c.stop);
        assert_in_range(clock_monotonic_us() - before, 0, 5 * US_PER_S);
        peer_say(&p, "{\"command\":\"stop\"}\n{\"command\":\"checkpoint\"}\n");
        peer_close(&p); /* the last words count */
        c = poll_for(ch, 100);
        assert_true(c.checkpoint && c.stop);
        before = clock_monotonic_us();
        c = poll_for(ch, 30);
        assert_true(!c.checkpoint && !c.stop);
        assert_in_range(clock_monotonic_us() - before, 30 * US_PER_MS, 5 * US_PER_S);
        ch = channel_close(ch);
        (void)close(listener);
}

static void without_a_socket_nothing_is_waited_for(void **state _unused_)
{
        struct channel *ch;
        int64_t before;

        assignment.socket = NULL;
        ch = open_channel();
        send_events(ch, 1, 3);
        before = clock_monotonic_us();
        assert_int_equal(channel_drain(ch, 60000, NULL), 0);
        assert_in_range(clock_monotonic_us() - before, 0, 5 * US_PER_S);
        before = clock_monotonic_us();
        (void)poll_for(ch, 30);
        assert_in_range(clock_monotonic_us() - before, 30 * US_PER_MS, 5 * US_PER_S);
        ch = channel_close(ch);
        assert_spool(3);
}

static void no_daemon_costs_less_than_a_millisecond(void **state _unused_)
{
        const int64_t n = 5000;
        struct channel *ch = open_channel();
        int64_t before = clock_monotonic_us();
        struct error err = {0};
        int fd;

        send_events(ch, 1, n);
        assert_in_range(clock_monotonic_us() - before, 0, n * US_PER_MS);
        assert_int_equal(channel_drain(ch, 10, &err), -ETIMEDOUT);
        assert_string_equal(err.path, spool_path);
        /* nor does a socket file that nobody listens at */
        fd = listen_here();
        (void)close(fd);
        before = clock_monotonic_us();
        send_events(ch, n + 1, 2 * n);
        assert_in_range(clock_monotonic_us() - before, 0, n * US_PER_MS);
        ch = channel_close(ch);
        assert_spool(2 * n);
}

static void a_daemon_that_does_not_read_holds_nothing_up(void **state _unused_)
{
        const int64_t n = 20000; /* 2 MB: ten times what the socket holds */
        int listener = listen_here();
        struct channel *ch = open_channel();
        struct peer p = accept_hello(listener, ch);
        int64_t before, worst = 0;

        peer_say(&p, "{\"ack\":0}\n");
        (void)poll_for(ch, 0);
        before = clock_monotonic_us();
        for (int64_t i = 1; i <= n; i++) {
                int64_t start = clock_monotonic_us();

                assert_int_equal(send_event(ch, i, false, NULL), 0);
                worst = MAX(worst, clock_monotonic_us() - start);
        }
        assert_in_range(clock_monotonic_us() - before, 0, n * US_PER_MS);
        assert_in_range(worst, 0, US_PER_S);
        peer_expect(&p, ch, 1, n);
        peer_say(&p, "{\"ack\":20000}\n");
        assert_int_equal(channel_drain(ch, 1000, NULL), 0);
        peer_close(&p);
        ch = channel_close(ch);
        (void)close(listener);
}

/* A file size limit stands for a full disk, at every byte of an event's line. */
static void a_full_disk_leaves_no_half_line(void **state _unused_)
{
        struct channel *ch = open_channel();
        struct rlimit old;
        struct error err = {0};
        struct stat hello, st;

        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(stat(spool_path, &hello), 0);
        send_events(ch, 1, 10);
        assert_int_equal(stat(spool_path, &st), 0);
        for (int64_t size = st.st_size; size < st.st_size + (st.st_size - hello.st_size) / 10; size++) {
                struct rlimit limit = {(rlim_t)size, old.rlim_max};
                int r;

                assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
                r = send_event(ch, 11, size & 1, &err);
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
                assert_int_equal(r, -EFBIG);
                assert_string_equal(err.path, spool_path);
                assert_spool(10);
        }
        assert_int_equal(send_event(ch, 11, true, NULL), 0);
        ch = channel_close(ch);
        assert_spool(11);
}

/* No room for a while: the event waits for it and nothing is lost. No room for longer: an error, and no half line. */
static void a_disk_without_room_is_waited_for(void **state _unused_)
{
        struct channel *ch = open_channel();
        struct error err = {0};

        send_events(ch, 1, 3);
        full_syncs = 3;
        assert_int_equal(send_event(ch, 4, true, NULL), 0);
        assert_int_equal(full_syncs, 0);
        assert_spool(4);
        full_syncs = 1000;
        assert_int_equal(send_event(ch, 5, true, &err), -ENOSPC);
        assert_in_range(full_syncs, 980, 998);
        full_syncs = 0;
        assert_spool(4);
        ch = channel_close(ch);
}

static void what_cannot_be_synced_is_not_recorded(void **state _unused_)
{
        struct channel *ch = open_channel();
        struct error err = {0};

        send_events(ch, 1, 1);
        fdatasync_failures = 1;
        assert_int_equal(send_event(ch, 2, true, &err), -EIO);
        assert_string_equal(err.path, spool_path);
        assert_spool(1);
        /* nor can it be cut back: twice in vain, then the next event does it first */
        fdatasync_failures = 1;
        ftruncate_failures = 3;
        assert_int_equal(send_event(ch, 2, true, &err), -EIO);
        assert_int_equal(send_event(ch, 2, false, &err), -EIO);
        assert_int_equal(ftruncate_failures, 0);
        send_events(ch, 2, 2);
        assert_spool(2);
        fdatasync_failures = 1; /* closing cuts it too */
        ftruncate_failures = 1;
        assert_int_equal(send_event(ch, 3, true, &err), -EIO);
        ch = channel_close(ch);
        assert_spool(2);
}

static void an_event_that_is_no_event_is_not_recorded(void **state _unused_)
{
        struct channel *ch = open_channel();
        struct event wrong = {.type = EVENT_PROGRESS, .step = -1}, long_one = {.type = EVENT_DONE};
        struct error err = {0};
        char *text = malloc(EVENT_LINE_MAX + 1);

        send_events(ch, 1, 1);
        assert_int_equal(channel_send(ch, &wrong, false, &err), -EINVAL);
        memset(text, 'x', EVENT_LINE_MAX);
        text[EVENT_LINE_MAX] = 0;
        long_one.result = json_pack("{s:s}", "text", text);
        assert_int_equal(channel_send(ch, &long_one, true, &err), -E2BIG);
        event_done(&long_one);
        free(text);
        send_events(ch, 2, 2);
        ch = channel_close(ch);
        assert_spool(2);
}

static void an_attempt_is_one_process(void **state _unused_)
{
        struct channel *ch = open_channel(), *other = NULL;
        struct error err = {0};
        int ready[2], status;
        char c;
        pid_t pid;

        assert_int_equal(channel_open(&assignment, CHANNEL_WHOLE, &other, &err), -EBUSY);
        assert_null(other);
        assert_non_null(strstr(err.path, "attempt-7.lock"));
        ch = channel_close(ch);
        assert_int_equal(channel_open(&assignment, CHANNEL_WHOLE, &other, &err),
                         -EEXIST); /* somebody was it: its spool says so */
        assert_int_equal(unlink(spool_path), 0);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                if (channel_open(&assignment, CHANNEL_WHOLE, &ch, NULL) < 0)
                        _exit(1);
                (void)!write(ready[1], "r", 1);
                for (;;)
                        (void)pause();
        }
        assert_int_equal(read(ready[0], &c, 1), 1);
        assert_int_equal(channel_open(&assignment, CHANNEL_WHOLE, &other, &err), -EBUSY);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(channel_open(&assignment, CHANNEL_WHOLE, &other, &err), -EEXIST); /* its lock went with it */
        assert_string_equal(err.path, spool_path);
        (void)close(ready[0]);
        (void)close(ready[1]);
}

static void what_cannot_work_is_told_at_opening(void **state _unused_)
{
        struct channel *ch = NULL;
        struct error err = {0};
        char nowhere[96], at_length[200];

        (void)snprintf(nowhere, sizeof nowhere, "%s/nowhere", folder);
        memset(at_length, 'x', sizeof at_length);
        at_length[sizeof at_length - 1] = 0;
        assignment.socket = at_length;
        assert_int_equal(channel_open(&assignment, CHANNEL_WHOLE, &ch, &err), -ENAMETOOLONG);
        assignment.socket = socket_path;
        assignment.folder = nowhere;
        assert_int_equal(channel_open(&assignment, CHANNEL_WHOLE, &ch, &err), -ENOENT);
        assignment.folder = folder;
        assert_int_equal(mkdir(spool_path, 0700), 0);
        assert_true(channel_open(&assignment, CHANNEL_WHOLE, &ch, &err) < 0);
        assert_string_equal(err.path, spool_path);
        assert_null(ch);
        assert_null(channel_close(NULL));
}

/* ---- a daemon that hangs up a hundred times */

struct unsteady {
        int64_t committed, n_duplicates;
        atomic_int n_hangups;
        const char *fault; /* cmocka's asserts belong to the main thread */
        atomic_bool over;
};

static uint32_t random_below(uint32_t *state, uint32_t n)
{
        *state = *state * 1664525u + 1013904223u;
        return (uint32_t)((uint64_t)*state * n >> 32);
}

/* Everything in buf that is whole; false when it is not what must come. */
static bool commit_lines(struct unsteady *u, struct buf *b, bool *said_hello, bool *ret_hello_now)
{
        char *newline;

        *ret_hello_now = false;
        while (b->size && (newline = memchr(b->data, '\n', b->size))) {
                struct event e;

                if (event_decode(b->data, (size_t)(newline - b->data), &e, NULL) < 0)
                        return u->fault = "a line that is no event", false;
                if (!*said_hello) {
                        if (e.type != EVENT_HELLO)
                                return u->fault = "no hello", false;
                        *said_hello = *ret_hello_now = true;
                } else if (e.seq > u->committed + 1) {
                        return u->fault = "an event was lost", false;
                } else if (e.seq <= u->committed) {
                        u->n_duplicates++;
                } else if (e.type != EVENT_PROGRESS || e.step != 3 * e.seq) {
                        return u->fault = "another event than was sent", false;
                } else {
                        u->committed++;
                }
                event_done(&e);
                buf_consume(b, (size_t)(newline + 1 - b->data));
        }
        return true;
}

static void acknowledge(int fd, int64_t ack)
{
        char text[64];

        (void)snprintf(text, sizeof text, "{\"ack\":%lld}\n", (long long)ack);
        (void)send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* One connection, for at most `life` reads of odd sizes; not every batch is acknowledged. */
static void serve(struct unsteady *u, int fd, uint32_t life, uint32_t *random)
{
        _cleanup_(buf_done) struct buf b = BUF_INIT((size_t)1 << 24);
        bool said_hello = false, hello_now;
        struct pollfd p = {.fd = fd, .events = POLLIN};

        while (life-- && !atomic_load(&u->over)) {
                ssize_t n;

                if (poll(&p, 1, 20) <= 0) { /* nothing more comes before the last batch is acknowledged */
                        if (said_hello)
                                acknowledge(fd, u->committed);
                        continue;
                }
                if (buf_reserve(&b, 4096, NULL) < 0)
                        return;
                n = recv(fd, b.data + b.size, 1 + random_below(random, 4096), MSG_DONTWAIT);
                if (n <= 0)
                        return;
                b.size += (size_t)n;
                if (!commit_lines(u, &b, &said_hello, &hello_now))
                        return;
                if (said_hello && (hello_now || random_below(random, 3))) {
                        int64_t ack = u->committed;

                        if (hello_now && random_below(random, 3) == 0) /* forgot some; what it has, it drops */
                                ack = random_below(random, (uint32_t)ack + 1);
                        acknowledge(fd, ack);
                }
        }
}

static void *run_unsteady(void *user)
{
        struct unsteady *u = user;
        uint32_t random = 20261124;
        int listener = -1;

        while (!atomic_load(&u->over) && !u->fault) {
                struct pollfd p = {.events = POLLIN};
                int fd;

                if (listener < 0)
                        listener = listen_here();
                p.fd = listener;
                if (poll(&p, 1, 20) <= 0)
                        continue;
                fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0)
                        continue;
                serve(u, fd, u->n_hangups < 100 ? random_below(&random, 12) : UINT32_MAX, &random);
                (void)close(fd);
                u->n_hangups++;
                if (random_below(&random, 4) == 0) { /* dies whole: nobody listens for a while */
                        (void)close(listener);
                        listener = -1;
                        (void)poll(NULL, 0, 2);
                }
        }
        if (listener >= 0)
                (void)close(listener);
        return NULL;
}

/* Long enough for a busy machine: what is tested is that all arrives, not how soon. */
#ifdef __SANITIZE_ADDRESS__
#define HANGUPS_US (600 * US_PER_S)
#else
#define HANGUPS_US (100 * US_PER_S)
#endif

static void events_arrive_once_and_in_order_over_100_hangups(void **state _unused_)
{
        struct unsteady u = {0};
        struct channel *ch = open_channel();
        struct error err = {0};
        pthread_t thread;
        int64_t n = 0, deadline = clock_monotonic_us() + HANGUPS_US;
        int r;

        assert_int_equal(pthread_create(&thread, NULL, run_unsteady, &u), 0);
        for (int i = 0; i < 3000; i++) {
                assert_int_equal(send_event(ch, ++n, false, NULL), 0);
                if (i % 7 == 0)
                        (void)poll_for(ch, i % 3 == 0);
        }
        while ((r = channel_drain(ch, 100, &err)) == -ETIMEDOUT && clock_monotonic_us() < deadline)
                ;
        while (atomic_load(&u.n_hangups) < 100 && r == 0 && clock_monotonic_us() < deadline) {
                assert_int_equal(send_event(ch, ++n, false, NULL), 0);
                r = channel_drain(ch, 10000, &err);
        }
        atomic_store(&u.over, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        ch = channel_close(ch);
        if (u.fault)
                fail_msg("%s", u.fault);
        assert_int_equal(r, 0);
        assert_int_equal(u.committed, n);
        assert_true(u.n_hangups >= 100);
        print_message("%lld events, %d hang-ups, %lld sent again\n", (long long)n, u.n_hangups,
                      (long long)u.n_duplicates);
        assert_spool(n);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                T(events_wait_for_the_answer_to_hello),
                T(what_hello_acknowledges_decides),
                T(garbage_ends_the_connection_not_the_worker),
                T(commands_are_kept_until_they_are_asked_for),
                T(without_a_socket_nothing_is_waited_for),
                T(no_daemon_costs_less_than_a_millisecond),
                T(a_daemon_that_does_not_read_holds_nothing_up),
                T(a_full_disk_leaves_no_half_line),
                T(a_disk_without_room_is_waited_for),
                T(what_cannot_be_synced_is_not_recorded),
                T(an_event_that_is_no_event_is_not_recorded),
                T(an_attempt_is_one_process),
                T(what_cannot_work_is_told_at_opening),
                T(events_arrive_once_and_in_order_over_100_hangups),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
