/* The worker's end of contract/event.h. The spool is the only copy of the events: what is sent is read back from it
 * (the page cache has it), and memory holds 8 bytes an event, where its line ends. So a connection's state is small:
 *
 *   closed     -> connect(2), at most every CHANNEL_RECONNECT_US; a Unix socket answers at once
 *   connected     says hello, waits for {"ack":N}
 *   welcome       sends the spool from where event N ends, byte by byte as the socket takes it
 *
 * and any failure, an end of file or a line that is neither an answer nor a command goes back to closed: the next hello
 * tells again what the daemon has, whatever was lost on the way. A daemon may know less than it acknowledged once (it
 * was restored from a backup): hello's answer decides. Sockets never block and are written with MSG_NOSIGNAL.
 *
 * Spool: a hello, which says whose it is, then lines of JSON as sent, line k + 1 is event k; each appended by one
 * write(2) and cut back if that fails. A disk without room is waited for, a while: training stands still, nothing is
 * lost. Assumed: SIGXFSZ is ignored where a file size limit is set; nobody else writes to the spool; one thread. */
#include "worker/channel.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#ifndef CHANNEL_RECONNECT_US /* tests are in more of a hurry */
#define CHANNEL_RECONNECT_US (500 * US_PER_MS)
#endif
#ifndef CHANNEL_FULL_WAIT_US
#define CHANNEL_FULL_WAIT_US (600 * US_PER_S)
#endif
#define FULL_RETRY_MS 100
#define CHUNK_BYTES 65536
#define CHUNKS_A_CALL 16           /* so that a long spool does not hold up the trainer */
#define COMMAND_MAX ((size_t)4096) /* bytes of a line of the daemon */

struct channel {
        int lock_fd, spool_fd;
        char spool_path[PATH_MAX];
        struct event hello_event;
        struct sockaddr_un address;

        int64_t n_events;
        int64_t *end; /* [capacity]; end[k]: where event k ends, 0 <= k <= n_events; end[0]: its hello */
        size_t capacity;
        bool half_line; /* bytes beyond end[n_events] may be in the spool */
        struct buf line;

        bool alone;    /* nobody listens */
        int socket_fd; /* -1: closed */
        int64_t next_connect_us;
        bool unreadable_said;
        bool welcome;
        struct buf hello; /* what is left to send of it */
        int64_t sent;     /* bytes of the spool, on this connection or before what hello's answer skips */
        int64_t acked;    /* events */
        struct buf in;
        struct channel_commands commands;
        char chunk[CHUNK_BYTES];
};

/* ---- opening and closing */

int channel_lock(const struct assignment *a, int *ret_fd, struct error *err)
{
        _cleanup_(closep) int fd = -1;
        char path[PATH_MAX];

        if (snprintf(path, sizeof path, "%s/attempt-%lld.lock", a->folder, (long long)a->attempt) >= (int)sizeof path)
                return error_set(err, -ENAMETOOLONG, a->folder, "the path is too long");
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? error_set(err, -EBUSY, path, "is locked: another process is this attempt")
                                            : error_set(err, -errno, path, "cannot be locked: %s", strerror(errno));
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int open_spool(struct channel *ch, const struct assignment *a, bool go_on, struct error *err)
{
        _cleanup_(closep) int folder_fd = open(a->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const char *path = ch->spool_path;
        struct stat st;

        if (folder_fd < 0)
                return error_set(err, -errno, a->folder, "the folder cannot be opened: %s", strerror(errno));
        if (snprintf(ch->spool_path, sizeof ch->spool_path, "%s/attempt-%lld.events", a->folder,
                     (long long)a->attempt) >= (int)sizeof ch->spool_path)
                return error_set(err, -ENAMETOOLONG, a->folder, "the path is too long");
        ch->spool_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
        if (ch->spool_fd < 0 || fstat(ch->spool_fd, &st) < 0)
                return error_set(err, -errno, path, "cannot be opened: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EEXIST, path, "is not a regular file");
        if (st.st_size && !go_on)
                return error_set(err, -EEXIST, path, "has %lld bytes; an attempt begins with an empty spool",
                                 (long long)st.st_size);
        if (fsync(folder_fd) < 0)
                return error_set(err, -errno, a->folder, "cannot be synced: %s", strerror(errno));
        return 0;
}

static void disconnect(struct channel *ch)
{
        closep(&ch->socket_fd);
        ch->socket_fd = -1;
        ch->welcome = false;
        buf_clear(&ch->hello);
        buf_clear(&ch->in);
}

static int service(struct channel *ch, struct error *err);
static int record(struct channel *ch, const struct event *e, bool sync, struct error *err);

/* The spool says itself whose it is. */
static int begin_spool(struct channel *ch, struct error *err)
{
        int r = record(ch, &ch->hello_event, false, err);

        if (r >= 0)
                ch->end[0] = (int64_t)ch->line.size;
        return r;
}

/* For one more event. */
static int make_room(struct channel *ch, struct error *err)
{
        int64_t *end;

        if ((size_t)ch->n_events + 2 <= ch->capacity)
                return 0;
        end = realloc(ch->end, 2 * ch->capacity * sizeof *end);
        if (!end)
                return error_set(err, -ENOMEM, ch->spool_path, "no memory for another event");
        ch->end = end;
        ch->capacity *= 2;
        return 0;
}

/* Where the events of a spool end that another process wrote. */
static int find_events(struct channel *ch, struct error *err)
{
        int64_t at = 0, n_lines = 0;
        ssize_t n;

        while ((n = pread(ch->spool_fd, ch->chunk, CHUNK_BYTES, at)) > 0) {
                for (ssize_t i = 0; i < n; i++) {
                        if (ch->chunk[i] != '\n')
                                continue;
                        ch->n_events = n_lines; /* the first is its hello */
                        ch->end[n_lines++] = at + i + 1;
                        if (make_room(ch, err) < 0)
                                return -ENOMEM;
                }
                at += n;
        }
        ch->half_line = at > ch->end[ch->n_events];
        return n < 0 ? error_set(err, -errno, ch->spool_path, "cannot be read: %s", strerror(errno)) : 0;
}

int channel_open(const struct assignment *a, enum channel_part part, struct channel **ret, struct error *err)
{
        _cleanup_(channel_closep) struct channel *ch = calloc(1, sizeof *ch);
        int r;

        if (!ch)
                return error_set(err, -ENOMEM, NULL, "no memory for a channel");
        ch->lock_fd = ch->spool_fd = ch->socket_fd = -1;
        ch->hello_event = (struct event){.type = EVENT_HELLO,
                                         .protocol = EVENT_PROTOCOL,
                                         .protocol_min = EVENT_PROTOCOL,
                                         .job = a->job,
                                         .attempt = a->attempt,
                                         .pid = getpid()};
        (void)snprintf(ch->hello_event.identity, sizeof ch->hello_event.identity, "%s", a->identity);
        ch->line = BUF_INIT(EVENT_LINE_MAX);
        ch->hello = BUF_INIT(COMMAND_MAX);
        ch->in = BUF_INIT(COMMAND_MAX);
        ch->capacity = 1024;
        ch->end = calloc(ch->capacity, sizeof *ch->end);
        if (!ch->end)
                return error_set(err, -ENOMEM, NULL, "no memory for a channel");
        ch->address.sun_family = AF_UNIX;
        ch->alone = !a->socket || !*a->socket;
        ch->next_connect_us = ch->alone ? INT64_MAX : 0;
        if (!ch->alone && strlen(a->socket) >= sizeof ch->address.sun_path)
                return error_set(err, -ENAMETOOLONG, a->socket, "a socket's path may have at most %zu bytes",
                                 sizeof ch->address.sun_path - 1);
        (void)snprintf(ch->address.sun_path, sizeof ch->address.sun_path, "%s", ch->alone ? "" : a->socket);
        r = part == CHANNEL_WHOLE ? channel_lock(a, &ch->lock_fd, err) : 0;
        if (r >= 0)
                r = open_spool(ch, a, part == CHANNEL_LAUNCHER, err);
        if (r >= 0 && part == CHANNEL_LAUNCHER)
                r = find_events(ch, err);
        if (r >= 0 && !ch->end[0])
                r = begin_spool(ch, err);
        if (r >= 0)
                r = service(ch, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(ch);
        return 0;
}

static int cut_half_line(struct channel *ch)
{
        if (ch->half_line && ftruncate(ch->spool_fd, ch->end[ch->n_events]) < 0)
                return -errno;
        ch->half_line = false;
        return 0;
}

struct channel *channel_close(struct channel *ch)
{
        if (!ch)
                return NULL;
        (void)cut_half_line(ch);
        disconnect(ch);
        closep(&ch->spool_fd);
        closep(&ch->lock_fd); /* the file stays: removing it would let two processes lock two files of its name */
        buf_done(&ch->line);
        buf_done(&ch->hello);
        buf_done(&ch->in);
        free(ch->end);
        free(ch);
        return NULL;
}

/* ---- the socket */

/* What does not work now may later: nothing of it is an error of the attempt. */
static void try_connect(struct channel *ch)
{
        int64_t now = clock_monotonic_us();

        if (now < ch->next_connect_us)
                return;
        ch->next_connect_us = now + CHANNEL_RECONNECT_US;
        ch->socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (ch->socket_fd < 0)
                return; /* no descriptors */
        /* nobody there; EAGAIN: too many at its door */
        if (connect(ch->socket_fd, (const struct sockaddr *)&ch->address, sizeof ch->address) < 0 ||
            event_encode(&ch->hello_event, &ch->hello, NULL) < 0)
                disconnect(ch);
}

/* False when the line is not what a daemon says. */
static bool take_line(struct channel *ch, const char *line, size_t size)
{
        struct command c;

        if (command_decode(line, size, &c, NULL) < 0)
                return false;
        switch (c.type) {
        case COMMAND_CHECKPOINT:
                ch->commands.checkpoint = true;
                return true;
        case COMMAND_STOP:
                ch->commands.stop = true;
                return true;
        case COMMAND_ACK:
                if (c.ack < 0 || c.ack > ch->n_events)
                        return false;
                if (!ch->welcome && c.protocol && c.protocol != EVENT_PROTOCOL)
                        return false; /* a spool is in one protocol */
                if (!ch->welcome) {
                        ch->acked = c.ack;
                        ch->sent = ch->end[c.ack];
                        ch->welcome = true;
                } else if (ch->end[c.ack] > ch->sent) {
                        return false; /* what it has not been told */
                }
                ch->acked = MAX(ch->acked, c.ack);
                return true;
        case COMMAND_UNKNOWN: /* of a newer daemon */
                return true;
        default:
                return false;
        }
}

static void receive(struct channel *ch)
{
        for (int i = 0; i < CHUNKS_A_CALL; i++) {
                char *newline;
                ssize_t n;

                if (ch->in.size == COMMAND_MAX || buf_reserve(&ch->in, COMMAND_MAX - ch->in.size, NULL) < 0) {
                        disconnect(ch); /* a line without end */
                        return;
                }
                n = recv(ch->socket_fd, ch->in.data + ch->in.size, COMMAND_MAX - ch->in.size, 0);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n <= 0) {
                        disconnect(ch);
                        return;
                }
                ch->in.size += (size_t)n;
                while ((newline = memchr(ch->in.data, '\n', ch->in.size))) {
                        size_t size = (size_t)(newline - ch->in.data);

                        if (!take_line(ch, ch->in.data, size)) {
                                disconnect(ch);
                                return;
                        }
                        buf_consume(&ch->in, size + 1);
                }
        }
}

/* Bytes that the socket took, 0 when it is full or (disconnected) gone. */
static size_t send_some(struct channel *ch, const char *data, size_t size)
{
        ssize_t n = send(ch->socket_fd, data, size, MSG_NOSIGNAL);

        if (n >= 0)
                return (size_t)n;
        if (errno != EAGAIN && errno != EINTR)
                disconnect(ch);
        return 0;
}

static bool wants_to_send(const struct channel *ch)
{
        return ch->hello.size || (ch->welcome && ch->sent < ch->end[ch->n_events]);
}

/* Training needs nothing of it, and the daemon reads it after the end: it is tried again with the next connection. */
static void unreadable(struct channel *ch, int code)
{
        if (!ch->unreadable_said)
                log_warning("%s: cannot be read at byte %lld: %s; it is tried again", ch->spool_path,
                            (long long)ch->sent, strerror(code));
        ch->unreadable_said = true;
        disconnect(ch);
}

static int transmit(struct channel *ch, struct error *err)
{
        size_t n;

        if (ch->hello.size) {
                n = send_some(ch, ch->hello.data, ch->hello.size);
                if (ch->hello.size)
                        buf_consume(&ch->hello, n);
        }
        for (int i = 0; i < CHUNKS_A_CALL && !ch->hello.size && wants_to_send(ch); i++) {
                ssize_t size = pread(ch->spool_fd, ch->chunk,
                                     (size_t)MIN(CHUNK_BYTES, ch->end[ch->n_events] - ch->sent), ch->sent);

                if (size == 0)
                        return error_set(err, -EIO, ch->spool_path, "cannot be read at byte %lld: it was cut",
                                         (long long)ch->sent);
                if (size < 0) {
                        unreadable(ch, errno);
                        return 0;
                }
                n = send_some(ch, ch->chunk, (size_t)size);
                ch->sent += (int64_t)n;
                if (n < (size_t)size)
                        break;
        }
        return 0;
}

/* All that can be done without waiting. */
static int service(struct channel *ch, struct error *err)
{
        if (ch->socket_fd < 0)
                try_connect(ch);
        if (ch->socket_fd >= 0)
                receive(ch);
        return ch->socket_fd >= 0 ? transmit(ch, err) : 0;
}

/* Sleeps until the socket has something to do, a connection may be tried or the deadline is over. Negative: a signal.
 */
static int wait_for_work(const struct channel *ch, int64_t deadline_us)
{
        struct pollfd p = {.fd = ch->socket_fd, .events = (short)(POLLIN | (wants_to_send(ch) ? POLLOUT : 0))};
        int64_t until = ch->socket_fd < 0 ? MIN(deadline_us, ch->next_connect_us) : deadline_us;
        int64_t ms = (until - clock_monotonic_us() + US_PER_MS - 1) / US_PER_MS;

        return poll(&p, 1, (int)MIN(MAX(ms, 0), INT_MAX)); /* a negative descriptor is left out */
}

/* ---- what the trainer calls */

/* One write, or the spool as it was. */
static int append_once(struct channel *ch, bool sync)
{
        size_t done = 0;
        int r = cut_half_line(ch);

        while (r >= 0 && done < ch->line.size) {
                ssize_t n = write(ch->spool_fd, ch->line.data + done, ch->line.size - done);

                if (n < 0 && errno == EINTR)
                        continue;
                ch->half_line = true;
                if (n < 0)
                        r = -errno;
                else if (n == 0)
                        r = -EIO;
                else
                        done += (size_t)n; /* short: the next one tells why */
        }
        if (r >= 0 && sync && fdatasync(ch->spool_fd) < 0)
                r = -errno;
        if (r < 0)
                (void)cut_half_line(ch); /* tried again before the next line */
        else
                ch->half_line = false;
        return r;
}

/* The line of an event that a daemon of this release understands: it would leave out any other. */
static int encode(const struct event *e, struct buf *line, struct error *err)
{
        _cleanup_(event_done) struct event decoded = {0};
        int r;

        buf_clear(line);
        r = event_encode(e, line, err);
        return r < 0 ? r : event_decode(line->data, line->size - 1, &decoded, err);
}

static int record_once(struct channel *ch, const struct event *e, bool sync, struct error *err)
{
        int r = make_room(ch, err);

        if (r >= 0)
                r = encode(e, &ch->line, err);
        if (r < 0)
                return r;
        r = append_once(ch, sync);
        return r < 0 ? error_set(err, r, ch->spool_path, "cannot be written: %s", strerror(-r)) : 0;
}

/* A full disk, or no memory for a line, is the host's trouble and passes: the daemon starts nothing new meanwhile.
 * Whoever makes it wait longer than that gets the error. */
static int record(struct channel *ch, const struct event *e, bool sync, struct error *err)
{
        int64_t deadline_us = clock_monotonic_us() + CHANNEL_FULL_WAIT_US;
        struct error why = {0};
        int r;

        for (bool said = false; (r = record_once(ch, e, sync, &why)) == -ENOSPC || r == -EDQUOT || r == -ENOMEM;
             said = true) {
                if (!said)
                        log_warning("%s: there is no room: waiting for it: %s", ch->spool_path, why.text);
                if (clock_monotonic_us() >= deadline_us)
                        break;
                (void)poll(NULL, 0, FULL_RETRY_MS);
                (void)service(ch, NULL);
        }
        if (r < 0 && err)
                *err = why;
        return r;
}

int channel_send(struct channel *ch, struct event *e, bool sync, struct error *err)
{
        int r;

        assert(e->type != EVENT_HELLO);
        e->seq = ch->n_events + 1;
        r = record(ch, e, sync, err);
        if (r < 0)
                return r;
        ch->n_events++;
        ch->end[ch->n_events] = ch->end[ch->n_events - 1] + (int64_t)ch->line.size;
        (void)service(ch, NULL); /* it is recorded: a failure to send it is channel_poll's to tell */
        return 0;
}

int channel_poll(struct channel *ch, int timeout_ms, struct channel_commands *ret, struct error *err)
{
        int64_t deadline_us = clock_monotonic_us() + MAX(timeout_ms, 0) * US_PER_MS;

        for (;;) {
                int r = service(ch, err);

                if (r < 0)
                        return r;
                if (ch->commands.checkpoint || ch->commands.stop || clock_monotonic_us() >= deadline_us ||
                    wait_for_work(ch, deadline_us) < 0)
                        break;
        }
        *ret = ch->commands;
        ch->commands = (struct channel_commands){0};
        return 0;
}

int channel_drain(struct channel *ch, int timeout_ms, struct error *err)
{
        int64_t deadline_us = clock_monotonic_us() + MAX(timeout_ms, 0) * US_PER_MS;

        for (;;) {
                int r = service(ch, err);

                if (r < 0)
                        return r;
                if (ch->alone || ch->acked == ch->n_events)
                        return 0;
                if (clock_monotonic_us() >= deadline_us)
                        return error_set(err, -ETIMEDOUT, ch->spool_path,
                                         "the daemon acknowledged %lld of %lld events in time; it will read them here",
                                         (long long)ch->acked, (long long)ch->n_events);
                (void)wait_for_work(ch, deadline_us);
        }
}
