#include "api/apart.h"

#include "api/internal.h"
#include "api/response.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define THREADS 3
#define LONG_MAX_RUNNING (THREADS - 1)
#define QUICK_MAX 256 /* that wait; more are told to come again */
#define LONG_MAX 64
#define PATIENCE_US (250 * US_PER_MS) /* a client that has closed its half may still read a quick answer */
#define NICE 10                       /* whoever asks for little goes first, also where processors are few */
#define LOOK_US (20 * US_PER_MS)

struct lane {
        struct request *first, **last;
        size_t n, most;
};

struct apart {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        pthread_t threads[THREADS];
        size_t n_threads;
        struct lane quick, slow; /* under lock, as are these */
        size_t n_slow_running;
        bool closed;
        atomic_bool cancelled; /* the same, for those that run, without the lock */
};

static void push(struct lane *l, struct request *r)
{
        r->next_apart = NULL;
        l->n++;
        *l->last = r;
        l->last = &r->next_apart;
}

static struct request *pop(struct lane *l)
{
        struct request *r = l->first;

        if (r) {
                l->n--;
                l->first = r->next_apart;
                if (!l->first)
                        l->last = &l->first;
        }
        return r;
}

/* What this thread may do now, or NULL. With the lock. */
static struct request *next(struct apart *a)
{
        struct request *r = pop(&a->quick);

        if (!r && (a->n_slow_running < LONG_MAX_RUNNING || a->closed)) {
                r = pop(&a->slow);
                a->n_slow_running += r != NULL;
        }
        return r;
}

bool apart_cancelled(void *user)
{
        struct request *r = user;
        struct pollfd p = {.fd = r->fd, .events = POLLRDHUP};
        int64_t now_us;

        if (r->server->apart->cancelled)
                return true;
        if (!r->is_long)
                return false; /* it is done before anybody could tell */
        now_us = clock_monotonic_us();
        if (now_us - r->began_us < PATIENCE_US || now_us - r->looked_us < LOOK_US)
                return false;
        r->looked_us = now_us;
        return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

static void work(struct request *r)
{
        if (apart_cancelled(r)) /* while it waited: its client has gone, or the daemon ends */
                problem(r, PROBLEM_UNAVAILABLE, "ask again when it has started again");
        else {
                (void)json_ran_out(); /* of a request before */
                r->apart(r);
        }
        if (r->reader)
                server_put_reader(r->server, TAKE_PTR(r->reader));
        r->apart = NULL;
        r->worked = true;
        MHD_resume_connection(r->connection); /* from here on it is its connection's again */
}

static void *serve(void *user)
{
        struct apart *a = user;
        struct request *r;

        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone, on Linux */
        (void)pthread_mutex_lock(&a->lock);
        for (;;) {
                bool is_long;

                r = next(a);
                if (!r && a->closed)
                        break;
                if (!r) {
                        (void)pthread_cond_wait(&a->wake, &a->lock);
                        continue;
                }
                is_long = r->is_long;
                (void)pthread_mutex_unlock(&a->lock);
                work(r);
                (void)pthread_mutex_lock(&a->lock);
                a->n_slow_running -= is_long;
                if (is_long)
                        (void)pthread_cond_signal(&a->wake); /* another of them may begin */
        }
        (void)pthread_mutex_unlock(&a->lock);
        return NULL;
}

int apart_new(struct apart **ret, struct error *err)
{
        struct apart *a = calloc(1, sizeof *a);

        if (!a)
                return error_set(err, -ENOMEM, NULL, "no memory for threads");
        (void)pthread_mutex_init(&a->lock, NULL);
        (void)pthread_cond_init(&a->wake, NULL);
        a->quick = (struct lane){.last = &a->quick.first, .most = QUICK_MAX};
        a->slow = (struct lane){.last = &a->slow.first, .most = LONG_MAX};
        while (a->n_threads < THREADS) {
                int r = pthread_create(&a->threads[a->n_threads], NULL, serve, a);

                if (r) {
                        (void)apart_free(a);
                        return error_set(err, -r, NULL, "no thread for heavy requests: %s", strerror(r));
                }
                a->n_threads++;
        }
        *ret = a;
        return 0;
}

bool apart_submit(struct apart *a, struct request *r)
{
        struct lane *l = r->is_long ? &a->slow : &a->quick;

        (void)pthread_mutex_lock(&a->lock);
        if (l->n == l->most || a->closed) {
                (void)pthread_mutex_unlock(&a->lock);
                return false;
        }
        r->began_us = clock_monotonic_us();
        MHD_suspend_connection(r->connection);
        push(l, r);
        (void)pthread_cond_signal(&a->wake);
        (void)pthread_mutex_unlock(&a->lock);
        return true;
}

void apart_stop(struct apart *a)
{
        if (!a)
                return;
        (void)pthread_mutex_lock(&a->lock);
        a->closed = true;
        a->cancelled = true;
        (void)pthread_cond_broadcast(&a->wake);
        (void)pthread_mutex_unlock(&a->lock);
        for (; a->n_threads; a->n_threads--)
                (void)pthread_join(a->threads[a->n_threads - 1], NULL);
}

struct apart *apart_free(struct apart *a)
{
        if (!a)
                return NULL;
        apart_stop(a);
        (void)pthread_cond_destroy(&a->wake);
        (void)pthread_mutex_destroy(&a->lock);
        free(a);
        return NULL;
}
