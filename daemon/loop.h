/* The event loop: descriptors, timers, signals, and calls from other threads. One thread runs it and owns what is in
 * it; only loop_post may come from another. A handler may remove any source, its own too: sources die after the round.
 * At rest it sleeps without a timeout. */
#pragma once

#include "base/error.h"

struct loop;
struct source;

int loop_new(struct loop **ret, struct error *err);
struct loop *loop_free(struct loop *l);

/* Until loop_quit, or negative. May be run again. */
int loop_run(struct loop *l, struct error *err);
void loop_quit(struct loop *l);

/* events: EPOLLIN, EPOLLOUT; 0 keeps only errors and hang-up. The descriptor stays the caller's, who removes the source
 * before closing it. */
int loop_add_fd(struct loop *l, int fd, uint32_t events, void (*handler)(void *user, uint32_t events), void *user,
                struct source **ret, struct error *err);
int loop_set_events(struct loop *l, struct source *s, uint32_t events);
/* Once, at a monotonic time in microseconds; the source is removed before the handler is called. */
int loop_add_timer(struct loop *l, int64_t at_us, void (*handler)(void *user), void *user, struct source **ret,
                   struct error *err);
/* The signal is blocked in this thread (and those that it makes later) and handled here. */
int loop_add_signal(struct loop *l, int signal, void (*handler)(void *user, int signal), void *user, struct error *err);
/* NULL is fine; returns NULL. */
struct source *loop_remove(struct loop *l, struct source *s);

/* From any thread: fn(post) on the loop's thread. The caller owns the node, which must live until then; in order. */
struct post {
        void (*fn)(struct post *p);
        struct post *next;
};
void loop_post(struct loop *l, struct post *p, void (*fn)(struct post *p));

DEFINE_CLEANUP(struct loop *, loop_free);
