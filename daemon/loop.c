#include "daemon/loop.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#define ROUND 64
#define RESERVE                                                                                                        \
        1024 /* more than there are timers and connections: what must be waited for can be when memory is short */

enum source_kind { SOURCE_FD, SOURCE_TIMER };

struct source {
        enum source_kind kind;
        bool dead;
        int fd;
        int64_t at_us;
        void (*on_fd)(void *user, uint32_t events);
        void (*on_timer)(void *user);
        void *user;
        struct source *next; /* timers by time; the dead */
};

struct signal_handler {
        int signal;
        void (*handler)(void *user, int signal);
        void *user;
};

struct loop {
        struct source reserve[RESERVE], *unused;
        pthread_t thread;
        int epoll, wake, signals;
        bool quit;
        struct source *timers, *dead;
        struct source *wake_source, *signal_source;
        sigset_t mask;
        struct signal_handler handlers[16];
        size_t n_handlers;

        pthread_mutex_t lock; /* of the queue below */
        struct post *first, **last;
};

static void assert_thread(const struct loop *l)
{
        assert(pthread_equal(l->thread, pthread_self()));
        (void)l;
}

static struct source *source_new(struct loop *l)
{
        struct source *s = calloc(1, sizeof *s);

        if (!s && l->unused) {
                s = l->unused;
                l->unused = s->next;
        }
        return s;
}

static void source_free(struct loop *l, struct source *s)
{
        if (s < l->reserve || s >= l->reserve + RESERVE) {
                free(s);
                return;
        }
        s->next = l->unused;
        l->unused = s;
}

static void on_wake(void *user, uint32_t events _unused_)
{
        struct loop *l = user;
        struct post *p;
        uint64_t n;

        (void)!read(l->wake, &n, sizeof n);
        (void)pthread_mutex_lock(&l->lock);
        p = l->first;
        l->first = NULL;
        l->last = &l->first;
        (void)pthread_mutex_unlock(&l->lock);
        while (p) {
                struct post *next = p->next; /* fn may free p */

                p->fn(p);
                p = next;
        }
}

void loop_post(struct loop *l, struct post *p, void (*fn)(struct post *p))
{
        uint64_t one = 1;

        p->fn = fn;
        p->next = NULL;
        (void)pthread_mutex_lock(&l->lock);
        *l->last = p;
        l->last = &p->next;
        (void)pthread_mutex_unlock(&l->lock);
        (void)!write(l->wake, &one, sizeof one); /* full only when it is awake anyway */
}

int loop_new(struct loop **ret, struct error *err)
{
        struct loop *l = calloc(1, sizeof *l);
        int r;

        if (!l)
                return error_set(err, -ENOMEM, NULL, "no memory for the event loop");
        for (size_t i = 0; i < RESERVE; i++)
                source_free(l, &l->reserve[i]);
        l->thread = pthread_self();
        (void)pthread_mutex_init(&l->lock, NULL);
        l->last = &l->first;
        l->signals = -1;
        (void)sigemptyset(&l->mask);
        l->epoll = epoll_create1(EPOLL_CLOEXEC);
        l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (l->epoll < 0 || l->wake < 0)
                r = error_set(err, -errno, NULL, "the event loop cannot be made: %s", strerror(errno));
        else
                r = loop_add_fd(l, l->wake, EPOLLIN, on_wake, l, &l->wake_source, err);
        if (r < 0) {
                (void)loop_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

static void bury(struct loop *l)
{
        while (l->dead) {
                struct source *s = l->dead;

                l->dead = s->next;
                source_free(l, s);
        }
}

struct loop *loop_free(struct loop *l)
{
        if (!l)
                return NULL;
        while (l->timers)
                (void)loop_remove(l, l->timers);
        (void)loop_remove(l, l->wake_source);
        (void)loop_remove(l, l->signal_source);
        bury(l);
        closep(&l->signals);
        closep(&l->wake);
        closep(&l->epoll);
        (void)pthread_mutex_destroy(&l->lock);
        free(l);
        return NULL;
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, void (*handler)(void *user, uint32_t events), void *user,
                struct source **ret, struct error *err)
{
        struct source *s;
        struct epoll_event e = {.events = events};

        assert_thread(l);
        s = source_new(l);
        if (!s)
                return error_set(err, -ENOMEM, NULL, "no memory for an event source");
        *s = (struct source){.kind = SOURCE_FD, .fd = fd, .on_fd = handler, .user = user};
        e.data.ptr = s;
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
                int r = error_set(err, -errno, NULL, "a descriptor cannot be watched: %s", strerror(errno));

                source_free(l, s);
                return r;
        }
        *ret = s;
        return 0;
}

int loop_set_events(struct loop *l, struct source *s, uint32_t events)
{
        struct epoll_event e = {.events = events, .data.ptr = s};

        assert_thread(l);
        return epoll_ctl(l->epoll, EPOLL_CTL_MOD, s->fd, &e) < 0 ? -errno : 0;
}

int loop_add_timer(struct loop *l, int64_t at_us, void (*handler)(void *user), void *user, struct source **ret,
                   struct error *err)
{
        struct source *s, **at = &l->timers;

        assert_thread(l);
        s = source_new(l);
        if (!s)
                return error_set(err, -ENOMEM, NULL, "no memory for a timer");
        *s = (struct source){.kind = SOURCE_TIMER, .fd = -1, .at_us = at_us, .on_timer = handler, .user = user};
        while (*at && (*at)->at_us <= at_us)
                at = &(*at)->next;
        s->next = *at;
        *at = s;
        *ret = s;
        return 0;
}

struct source *loop_remove(struct loop *l, struct source *s)
{
        if (!s || s->dead)
                return NULL;
        assert_thread(l);
        if (s->kind == SOURCE_TIMER) {
                struct source **at = &l->timers;

                while (*at && *at != s)
                        at = &(*at)->next;
                if (*at)
                        *at = s->next;
        } else {
                (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
        }
        s->dead = true;
        s->next = l->dead;
        l->dead = s;
        return NULL;
}

static void on_signal(void *user, uint32_t events _unused_)
{
        struct loop *l = user;
        struct signalfd_siginfo info;

        while (read(l->signals, &info, sizeof info) == sizeof info)
                for (size_t i = 0; i < l->n_handlers; i++)
                        if (l->handlers[i].signal == (int)info.ssi_signo)
                                l->handlers[i].handler(l->handlers[i].user, l->handlers[i].signal);
}

int loop_add_signal(struct loop *l, int signal, void (*handler)(void *user, int signal), void *user, struct error *err)
{
        int fd;

        assert_thread(l);
        if (l->n_handlers == ARRAY_LEN(l->handlers))
                return error_set(err, -ENOSPC, NULL, "too many signals");
        (void)sigaddset(&l->mask, signal);
        (void)pthread_sigmask(SIG_BLOCK, &l->mask, NULL);
        fd = signalfd(l->signals, &l->mask, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                return error_set(err, -errno, NULL, "signals cannot be watched: %s", strerror(errno));
        l->handlers[l->n_handlers++] = (struct signal_handler){signal, handler, user};
        if (l->signals >= 0)
                return 0;
        l->signals = fd;
        return loop_add_fd(l, fd, EPOLLIN, on_signal, l, &l->signal_source, err);
}

void loop_quit(struct loop *l)
{
        assert_thread(l);
        l->quit = true;
}

static int timeout_ms(const struct loop *l)
{
        int64_t left;

        if (!l->timers)
                return -1;
        left = l->timers->at_us - clock_monotonic_us();
        return left <= 0 ? 0 : (int)MIN((left + 999) / 1000, (int64_t)3600 * 1000);
}

/* Those that are due now; what a handler adds waits for the next round. */
static void run_timers(struct loop *l)
{
        int64_t now = clock_monotonic_us();

        while (!l->quit && l->timers && l->timers->at_us <= now) {
                struct source *s = l->timers;
                void (*handler)(void *user) = s->on_timer;
                void *user = s->user;

                (void)loop_remove(l, s);
                handler(user);
        }
}

int loop_run(struct loop *l, struct error *err)
{
        struct epoll_event events[ROUND];

        assert_thread(l);
        l->quit = false;
        while (!l->quit) {
                int n = epoll_wait(l->epoll, events, ROUND, timeout_ms(l));

                if (n < 0 && errno != EINTR)
                        return error_set(err, -errno, NULL, "the event loop cannot wait: %s", strerror(errno));
                for (int i = 0; i < n; i++) {
                        struct source *s = events[i].data.ptr;

                        if (!s->dead)
                                s->on_fd(s->user, events[i].events);
                }
                run_timers(l);
                bury(l);
        }
        return 0;
}
