#include "api/connections.h"

#include "base/clock.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <malloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define LOOK_EVERY_US (2 * US_PER_S)
#define REQUEST_US (60 * US_PER_S)        /* so long may headers take, and so long a body */
#define REQUEST_CROWDED_US (5 * US_PER_S) /* when more than half of the connections are taken */
#define CROWD 64                          /* whose memory is worth giving back */
#define HEADROOM 16                       /* of so many parts of all connections one is for newcomers */

enum waiting { WAITS_HEADERS, WAITS_BODY, WAITS_US, WAITS_READER, WAITING_N };

static const struct rule {
        bool is_request; /* we wait for it: it has a time, and may have to make room */
        bool can_idle;
        bool is_answer; /* it waits for the client only while the socket holds something unread */
} rules[WAITING_N] = {[WAITS_HEADERS] = {true, true, false},
                      [WAITS_BODY] = {true, true, false},
                      [WAITS_US] = {false, false, false},
                      [WAITS_READER] = {false, true, true}};

/* What a connection waits for is written by its own thread, without the lock, four times a request; since_us before
 * waiting: whoever looks sees no new waiting with an old time. */
struct connection {
        struct connection *next, **link;
        int fd;
        _Atomic enum waiting waiting;
        _Atomic int64_t since_us; /* of this waiting */
        bool ending;              /* its socket is shut down: MHD closes it soon */
        int64_t progress_us;      /* when bytes was seen to grow */
        uint64_t bytes;           /* received and acknowledged */
};

struct connections {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        pthread_t thread;
        bool stopping;
        size_t n, most, peak; /* peak: since memory was given back */
        int64_t idle_us;
        struct connection *first;
};

/* gcc 12 reads an atomic that is itself the index of an array as if it were none. */
static struct rule rule_of(const struct connection *x)
{
        enum waiting waiting = x->waiting;

        return rules[waiting];
}

/* Shutting a socket down makes MHD close it. Its number cannot have been given to another: MHD tells us before it
 * closes, and we hold the lock. */
static void end_connection(struct connection *x)
{
        x->ending = true;
        (void)shutdown(x->fd, SHUT_RDWR);
}

static bool is_idle(const struct connections *c, struct connection *x, int64_t now_us)
{
        struct tcp_info info = {0};
        socklen_t size = sizeof info;
        uint64_t bytes;
        int unread;

        if (ioctl(x->fd, SIOCOUTQ, &unread) < 0)
                return false;
        if (getsockopt(x->fd, IPPROTO_TCP, TCP_INFO, &info, &size) >= 0)
                bytes = info.tcpi_bytes_received + info.tcpi_bytes_acked;
        else /* a Unix socket tells only what its other end has not read */
                bytes = (uint64_t)unread;
        if (bytes != x->bytes || (rule_of(x).is_answer && !unread)) { /* it is we who have nothing to send yet */
                x->bytes = bytes;
                x->progress_us = now_us;
        }
        return now_us - MAX(x->progress_us, x->since_us) > c->idle_us;
}

static void look(struct connections *c)
{
        int64_t now_us = clock_monotonic_us(), patience_us = 2 * c->n > c->most ? REQUEST_CROWDED_US : REQUEST_US;

        for (struct connection *x = c->first; x; x = x->next)
                if (!x->ending && ((rule_of(x).is_request && now_us - x->since_us > patience_us) ||
                                   (rule_of(x).can_idle && is_idle(c, x, now_us))))
                        end_connection(x);
}

/* What a crowd took goes back to the system when it has gone: the allocator would keep it. True: done, and the lock was
 * free meanwhile. */
static bool give_back(struct connections *c)
{
        if (c->peak < CROWD || c->n > c->peak / 4)
                return false;
        c->peak = c->n;
        (void)pthread_mutex_unlock(&c->lock);
        (void)malloc_trim(0);
        (void)pthread_mutex_lock(&c->lock);
        return true;
}

static void *watch(void *user)
{
        struct connections *c = user;
        int64_t every_us = MIN(LOOK_EVERY_US, c->idle_us / 2);

        (void)pthread_mutex_lock(&c->lock);
        while (!c->stopping) {
                struct timespec until;
                int64_t at_us;

                if (give_back(c))
                        continue;
                if (!c->first) {
                        (void)pthread_cond_wait(&c->wake, &c->lock);
                        continue;
                }
                at_us = clock_monotonic_us() + every_us;
                until = (struct timespec){at_us / US_PER_S, at_us % US_PER_S * 1000};
                if (pthread_cond_timedwait(&c->wake, &c->lock, &until) == ETIMEDOUT)
                        look(c);
        }
        (void)pthread_mutex_unlock(&c->lock);
        return NULL;
}

int connections_new(size_t most, int64_t idle_us, struct connections **ret, struct error *err)
{
        struct connections *c = calloc(1, sizeof *c);
        int r;

        if (!c)
                return error_set(err, -ENOMEM, NULL, "no memory for connections");
        c->most = most;
        c->idle_us = idle_us;
        (void)pthread_mutex_init(&c->lock, NULL);
        clock_cond_init(&c->wake);
        r = pthread_create(&c->thread, NULL, watch, c);
        if (r) {
                free(c);
                return error_set(err, -r, NULL, "no thread for connections: %s", strerror(r));
        }
        *ret = c;
        return 0;
}

struct connections *connections_free(struct connections *c)
{
        if (!c)
                return NULL;
        (void)pthread_mutex_lock(&c->lock);
        c->stopping = true;
        (void)pthread_cond_signal(&c->wake);
        (void)pthread_mutex_unlock(&c->lock);
        (void)pthread_join(c->thread, NULL);
        (void)pthread_cond_destroy(&c->wake);
        (void)pthread_mutex_destroy(&c->lock);
        free(c);
        return NULL;
}

/* Whoever has waited longest without a whole request goes; nobody whose request we have. */
static void make_room(struct connections *c)
{
        struct connection *oldest = NULL;
        size_t ending = 0;

        for (struct connection *x = c->first; x; x = x->next) {
                ending += x->ending;
                if (!x->ending && rule_of(x).is_request && (!oldest || x->since_us < oldest->since_us))
                        oldest = x;
        }
        if (oldest && c->n - ending > c->most - c->most / HEADROOM)
                end_connection(oldest);
}

static void start(struct connections *c, struct MHD_Connection *connection, void **slot)
{
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct connection *x = calloc(1, sizeof *x);

        if (!x)
                return; /* it is not watched */
        x->fd = info->connect_fd;
        x->since_us = clock_monotonic_us();
        *slot = x;
        (void)pthread_mutex_lock(&c->lock);
        make_room(c);
        x->next = c->first;
        x->link = &c->first;
        if (x->next)
                x->next->link = &x->next;
        else
                (void)pthread_cond_signal(&c->wake);
        c->first = x;
        c->n++;
        c->peak = MAX(c->peak, c->n);
        (void)pthread_mutex_unlock(&c->lock);
}

static void end(struct connections *c, struct connection *x)
{
        (void)pthread_mutex_lock(&c->lock);
        *x->link = x->next;
        if (x->next)
                x->next->link = x->link;
        c->n--;
        (void)pthread_mutex_unlock(&c->lock);
        free(x);
}

void connections_notify(void *user, struct MHD_Connection *connection, void **slot,
                        enum MHD_ConnectionNotificationCode code)
{
        if (code == MHD_CONNECTION_NOTIFY_STARTED)
                start(user, connection, slot);
        else if (*slot)
                end(user, TAKE_PTR(*slot));
}

static void set_waiting(struct MHD_Connection *connection, enum waiting waiting)
{
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct connection *x = info ? info->socket_context : NULL;

        if (!x)
                return;
        x->since_us = clock_monotonic_us();
        x->waiting = waiting;
}

void connection_heard(struct MHD_Connection *connection)
{
        set_waiting(connection, WAITS_BODY);
}

void connection_works(struct MHD_Connection *connection)
{
        set_waiting(connection, WAITS_US);
}

void connection_sends(struct MHD_Connection *connection)
{
        set_waiting(connection, WAITS_READER);
}

void connection_answered(struct MHD_Connection *connection)
{
        set_waiting(connection, WAITS_HEADERS);
}
