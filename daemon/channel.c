#include "daemon/channel.h"

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONNECTIONS_MAX 64
#define ACCEPT_REST_US US_PER_S
#define HELLO_TIMEOUT_US (10 * US_PER_S)
#define REFUSED_MAX 16
#define OUT_MAX ((size_t)1 << 16) /* acknowledgements and commands that a worker does not read */

struct channel {
        struct daemon *daemon;
        int fd;
        struct source *source, *rest_timer;
        struct connection *connections;
        size_t n;
        pid_t refused[REFUSED_MAX]; /* of whom it was said last: a worker of another database comes twice a second */
        size_t n_refused;
};

struct connection {
        struct channel *channel;
        int fd;
        pid_t peer;
        int protocol;       /* that is spoken; 0 before hello */
        bool protocol_said; /* to the worker */
        struct source *source, *timer;
        struct buf in, out;
        size_t scanned; /* of in: no newline before it */
        bool paused;
        bool draining;
        bool busy; /* reading: a close waits */
        bool dead;
        struct worker *worker;
        struct connection *next;
};

static void connection_free(struct connection *c)
{
        struct connection **at = &c->channel->connections;

        while (*at && *at != c)
                at = &(*at)->next;
        if (*at) {
                *at = c->next;
                c->channel->n--;
        }
        (void)loop_remove(c->channel->daemon->loop, c->source);
        (void)loop_remove(c->channel->daemon->loop, c->timer);
        closep(&c->fd);
        buf_done(&c->in);
        buf_done(&c->out);
        free(c);
}

struct connection *connection_close(struct connection *c)
{
        struct worker *w;

        if (!c || c->dead)
                return NULL;
        c->dead = true;
        w = TAKE_PTR(c->worker);
        if (w)
                worker_disconnected(w, c);
        if (!c->busy)
                connection_free(c);
        return NULL;
}

/* Whether it is the first time, as far as is remembered. */
static bool remember_refused(struct channel *ch, pid_t pid)
{
        for (size_t i = 0; i < REFUSED_MAX; i++)
                if (ch->refused[i] == pid)
                        return false;
        ch->refused[ch->n_refused++ % REFUSED_MAX] = pid;
        return true;
}

static void refuse(struct connection *c, const struct error *err)
{
        if (c->worker)
                log_warning("job %lld: its worker's connection is closed: %s%s%s", (long long)c->worker->job_id,
                            err->path, err->path[0] ? ": " : "", err->text);
        else if (remember_refused(c->channel, c->peer))
                log_warning("a connection to the workers' socket (pid %d) is closed: %s%s%s", (int)c->peer, err->path,
                            err->path[0] ? ": " : "", err->text);
        (void)connection_close(c);
}

static void update_events(struct connection *c)
{
        (void)loop_set_events(c->channel->daemon->loop, c->source,
                              (c->paused ? 0 : EPOLLIN) | (c->out.size ? EPOLLOUT : 0));
}

static int take_hello(struct connection *c, struct event *e, struct error *err)
{
        struct worker *w;
        int r;

        if (e->type != EVENT_HELLO)
                return error_set(err, -EPROTO, NULL, "it did not begin with hello");
        r = event_choose_protocol(e, err);
        if (r < 0)
                return r;
        c->protocol = r;
        w = worker_find(c->channel->daemon, e->attempt);
        if (!w || w->job_id != e->job || !life_has_process(w->life) || strcmp(w->identity, e->identity) != 0)
                return error_set(err, -EPROTO, NULL, "job %lld of this state has no running attempt %lld",
                                 (long long)e->job, (long long)e->attempt);
        c->timer = loop_remove(c->channel->daemon->loop, c->timer);
        c->worker = w;
        return worker_hello(w, c, e, err);
}

static int take_line(struct connection *c, const char *line, size_t size, struct error *err)
{
        struct event e;
        int r;

        if (c->worker)
                return worker_take_line(c->worker, line, size, err);
        r = event_decode(line, size, &e, err);
        if (r < 0)
                return r;
        r = take_hello(c, &e, err);
        event_done(&e);
        return r;
}

/* Whole lines of what was read; stops where the worker has enough. */
static int take_lines(struct connection *c, struct error *err)
{
        size_t begin = 0;
        int r = 0;

        while (!c->dead && !(c->paused && !c->draining)) {
                char *end = memchr(c->in.data + MAX(begin, c->scanned), '\n', c->in.size - MAX(begin, c->scanned));

                if (!end)
                        break;
                r = take_line(c, c->in.data + begin, (size_t)(end - c->in.data) - begin, err);
                if (r < 0)
                        return r;
                if (r > 0)
                        c->paused = true;
                begin = (size_t)(end - c->in.data) + 1;
                c->scanned = begin;
        }
        if (c->dead)
                return 0;
        buf_consume(&c->in, begin);
        c->scanned = c->paused ? 0 : c->in.size;
        if (!c->paused && c->in.size > EVENT_LINE_MAX)
                return error_set(err, -EPROTO, NULL, "a line of more than %zu bytes", EVENT_LINE_MAX);
        return 0;
}

/* 1: something was read; 0: nothing for now; negative: error, or the end (-ECONNRESET). */
static int read_some(struct connection *c, struct error *err)
{
        size_t room = MIN((size_t)1 << 16, c->in.ceiling - c->in.size);
        ssize_t n;
        int r;

        if (!room)
                return 0;
        r = buf_reserve(&c->in, room, err);
        if (r < 0)
                return r;
        n = read(c->fd, c->in.data + c->in.size, room);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : error_set(err, -errno, NULL, "%s", strerror(errno));
        if (n == 0)
                return error_set(err, -ECONNRESET, NULL, "it was closed");
        c->in.size += (size_t)n;
        return 1;
}

/* The end of anything that took lines: submits them, closes what is to be closed. */
static void after_lines(struct connection *c, int r, const struct error *err)
{
        struct worker *w = c->worker;

        c->busy = false;
        if (c->dead)
                connection_free(c);
        else if (r == -ECONNRESET)
                (void)connection_close(c);
        else if (r < 0)
                refuse(c, err);
        else if (!c->draining)
                update_events(c);
        if (w)
                worker_pump(w);
}

static bool flush_out(struct connection *c)
{
        while (c->out.size) {
                ssize_t n = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL);

                if (n < 0)
                        return errno == EAGAIN || errno == EINTR;
                buf_consume(&c->out, (size_t)n);
        }
        return true;
}

static void on_event(void *user, uint32_t events)
{
        struct connection *c = user;
        struct error err = {0};
        int r = 0;

        if (c->paused && events & (EPOLLHUP | EPOLLERR)) { /* the other end is gone: what is left is bounded */
                struct worker *w = c->worker;

                connection_drain(c);
                if (w)
                        worker_pump(w);
                return;
        }
        c->busy = true;
        if (events & EPOLLOUT && !flush_out(c))
                r = -ECONNRESET;
        if (r >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !c->paused) {
                r = read_some(c, &err);
                if (r > 0)
                        r = take_lines(c, &err);
        }
        after_lines(c, r, &err);
}

void connection_resume(struct connection *c)
{
        struct error err = {0};
        int r;

        if (!c->paused || c->busy || c->dead)
                return;
        c->paused = false;
        c->busy = true;
        r = take_lines(c, &err);
        after_lines(c, r, &err);
}

void connection_drain(struct connection *c)
{
        struct error err = {0};
        int r;

        if (c->busy || c->dead)
                return;
        c->busy = c->draining = true;
        c->paused = false;
        do {
                r = take_lines(c, &err);
                if (r >= 0 && !c->dead)
                        r = read_some(c, &err);
        } while (r > 0 && !c->dead);
        c->busy = false;
        if (c->dead)
                connection_free(c);
        else
                (void)connection_close(c);
}

static void send_command(struct connection *c, const struct command *command)
{
        if (c->dead)
                return;
        if (command_encode(command, &c->out, NULL) < 0 || !flush_out(c)) {
                (void)connection_close(c);
                return;
        }
        if (!c->busy)
                update_events(c);
}

void connection_send_ack(struct connection *c, int64_t seq)
{
        struct command ack = {.type = COMMAND_ACK, .ack = seq, .protocol = c->protocol_said ? 0 : c->protocol};

        c->protocol_said = true;
        send_command(c, &ack);
}

void connection_send_stop(struct connection *c)
{
        send_command(c, &(struct command){.type = COMMAND_STOP});
}

int64_t connection_peer_pid(const struct connection *c)
{
        return c->peer;
}

static void on_hello_timeout(void *user)
{
        struct connection *c = user;
        struct error err;

        c->timer = NULL;
        (void)error_set(&err, -ETIMEDOUT, NULL, "it said no hello");
        refuse(c, &err);
}

static int add_connection(struct channel *ch, int fd, struct error *err)
{
        struct connection *c = calloc(1, sizeof *c);
        struct ucred peer = {0};
        socklen_t size = sizeof peer;
        int r;

        if (!c) {
                (void)close(fd);
                return error_set(err, -ENOMEM, NULL, "no memory for a connection");
        }
        /* a whole line and its newline, and what came with it */
        *c = (struct connection){
                .channel = ch, .fd = fd, .in = BUF_INIT(EVENT_LINE_MAX + (1 << 16)), .out = BUF_INIT(OUT_MAX)};
        c->next = ch->connections;
        ch->connections = c;
        ch->n++;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                r = error_set(err, -errno, NULL, "its other end is unknown: %s", strerror(errno));
        else if (peer.uid != getuid() && peer.uid != 0)
                r = error_set(err, -EACCES, NULL, "it is of another user (uid %u)", (unsigned)peer.uid);
        else if (ch->n > CONNECTIONS_MAX)
                r = error_set(err, -EMFILE, NULL, "there are %d already", CONNECTIONS_MAX);
        else
                r = loop_add_fd(ch->daemon->loop, fd, EPOLLIN, on_event, c, &c->source, err);
        c->peer = peer.pid;
        if (r >= 0)
                r = loop_add_timer(ch->daemon->loop, clock_monotonic_us() + HELLO_TIMEOUT_US, on_hello_timeout, c,
                                   &c->timer, err);
        if (r < 0)
                connection_free(c);
        return r;
}

static void on_rested(void *user)
{
        struct channel *ch = user;

        ch->rest_timer = NULL;
        (void)loop_set_events(ch->daemon->loop, ch->source, EPOLLIN);
}

/* Whoever knocks stays in the queue: looking at it again at once would only spin. */
static void rest(struct channel *ch, int code)
{
        struct error err;

        if (loop_add_timer(ch->daemon->loop, clock_monotonic_us() + ACCEPT_REST_US, on_rested, ch, &ch->rest_timer,
                           &err) < 0)
                return;
        log_warning("workers cannot connect for a moment: %s", strerror(code));
        (void)loop_set_events(ch->daemon->loop, ch->source, 0);
}

static void on_accept(void *user, uint32_t events _unused_)
{
        struct channel *ch = user;
        struct error err;
        int fd = accept4(ch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
                rest(ch, errno);
        if (fd >= 0 && add_connection(ch, fd, &err) < 0)
                log_warning("a connection to the workers' socket is refused: %s", err.text);
}

int channel_open(struct daemon *d, const char *path, struct channel **ret, struct error *err)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct channel *ch = calloc(1, sizeof *ch);
        mode_t mask;
        int r;

        if (!ch)
                return error_set(err, -ENOMEM, path, "no memory for the socket");
        ch->daemon = d;
        (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path); /* its length was checked */
        (void)unlink(path); /* of a daemon before: the state's lock is ours */
        ch->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        mask = umask(0177);
        r = ch->fd < 0 || bind(ch->fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(ch->fd, 64) < 0
                    ? -errno
                    : 0;
        (void)umask(mask);
        if (r < 0)
                r = error_set(err, r, path, "the workers' socket cannot be made: %s", strerror(-r));
        else
                r = loop_add_fd(d->loop, ch->fd, EPOLLIN, on_accept, ch, &ch->source, err);
        if (r < 0) {
                (void)channel_close(ch);
                return r;
        }
        *ret = ch;
        return 0;
}

struct channel *channel_close(struct channel *ch)
{
        if (!ch)
                return NULL;
        while (ch->connections)
                (void)connection_close(ch->connections);
        (void)loop_remove(ch->daemon->loop, ch->source);
        (void)loop_remove(ch->daemon->loop, ch->rest_timer);
        closep(&ch->fd);
        free(ch);
        return NULL;
}
