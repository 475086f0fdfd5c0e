#include "api/connections.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define LOOK_EVERY_S 2
#define HEADERS_US (60 * US_PER_S)        /* so long may headers take */
#define HEADERS_CROWDED_US (5 * US_PER_S) /* when more than half of the connections are taken */

struct connection {
        struct connection *next, **link;
        int fd;
        int64_t waiting_since_us; /* for headers; 0: a request is under way */
};

struct connections {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        pthread_t thread;
        bool stopping;
        size_t n, most;
        struct connection *first;
};

/* Shutting a socket down makes MHD close it. Its number cannot have been given to another: MHD tells us before it
 * closes, and we hold the lock. */
static void look(struct connections *c)
{
        int64_t now = clock_monotonic_us(), patience = 2 * c->n > c->most ? HEADERS_CROWDED_US : HEADERS_US;

        for (struct connection *x = c->first; x; x = x->next)
                if (x->waiting_since_us && now - x->waiting_since_us > patience)
                        (void)shutdown(x->fd, SHUT_RDWR);
}

static void *watch(void *user)
{
        struct connections *c = user;

        (void)pthread_mutex_lock(&c->lock);
        while (!c->stopping) {
                struct timespec until;

                if (!c->first) {
                        (void)pthread_cond_wait(&c->wake, &c->lock);
                        continue;
                }
                (void)clock_gettime(CLOCK_MONOTONIC, &until);
                until.tv_sec += LOOK_EVERY_S;
                if (pthread_cond_timedwait(&c->wake, &c->lock, &until) == ETIMEDOUT)
                        look(c);
        }
        (void)pthread_mutex_unlock(&c->lock);
        return NULL;
}

int connections_new(size_t most, struct connections **ret, struct error *err)
{
        struct connections *c = calloc(1, sizeof *c);
        pthread_condattr_t attributes;

        if (!c)
                return error_set(err, -ENOMEM, NULL, "no memory for connections");
        c->most = most;
        (void)pthread_mutex_init(&c->lock, NULL);
        (void)pthread_condattr_init(&attributes);
        (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&c->wake, &attributes);
        (void)pthread_condattr_destroy(&attributes);
        if (pthread_create(&c->thread, NULL, watch, c)) {
                free(c);
                return error_set(err, -EAGAIN, NULL, "no thread for connections");
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

static void start(struct connections *c, struct MHD_Connection *connection, void **slot)
{
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct connection *x = calloc(1, sizeof *x);

        if (!x)
                return; /* it is not watched */
        x->fd = info->connect_fd;
        x->waiting_since_us = clock_monotonic_us();
        *slot = x;
        (void)pthread_mutex_lock(&c->lock);
        x->next = c->first;
        x->link = &c->first;
        if (x->next)
                x->next->link = &x->next;
        else
                (void)pthread_cond_signal(&c->wake);
        c->first = x;
        c->n++;
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

static void set_waiting(struct connections *c, struct MHD_Connection *connection, int64_t since_us)
{
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct connection *x = info ? info->socket_context : NULL;

        if (!x)
                return;
        (void)pthread_mutex_lock(&c->lock);
        x->waiting_since_us = since_us;
        (void)pthread_mutex_unlock(&c->lock);
}

void connection_heard(struct connections *c, struct MHD_Connection *connection)
{
        set_waiting(c, connection, 0);
}

void connection_answered(struct connections *c, struct MHD_Connection *connection)
{
        set_waiting(c, connection, clock_monotonic_us());
}
