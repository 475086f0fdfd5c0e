/* How the end of a worker's process is known, and how it is ended by force. Whoever has one asks and is told, and knows
 * nothing of pidfds and locks: of a worker on another machine this will be another thing, as the connection
 * (daemon/channel.h) will be.
 *
 * Of a process that was started here its pidfd tells, with its exit status. Of one of the daemon before the lock on its
 * attempt's file does, asked for twice a second, until it is known which process it is: then that one's pidfd says when
 * to ask. */
#pragma once

#include "base/error.h"

#include <sys/types.h>

struct loop;
struct source;

struct liveness {
        struct loop *loop;
        bool (*is_locked)(void *user);
        void (*on_end)(void *user); /* once, and then nothing is watched any more */
        void *user;
        pid_t pid; /* 0: unknown */
        int pidfd;
        bool child;  /* of this daemon: it can be reaped */
        bool killed; /* by us */
        int status;  /* exit code; negative: signal; INT_MIN: unknown */
        struct source *pidfd_source, *lock_timer;
};

void liveness_init(struct liveness *l, struct loop *loop, bool (*is_locked)(void *user), void (*on_end)(void *user),
                   void *user);
/* Watches no more, also nothing that was. */
void liveness_done(struct liveness *l);
/* A child that was made just now; takes the pidfd. On failure it is ended and reaped. */
int liveness_watch_child(struct liveness *l, pid_t pid, int pidfd, struct error *err);
/* One of the daemon before; takes the pidfd, -1: by its lock alone. */
void liveness_watch(struct liveness *l, pid_t pid, int pidfd);
/* Whether it is known which process it is. */
bool liveness_knows(const struct liveness *l);
/* SIGKILL to it and its process group. False: it is not known which process that is, or it has just ended. */
bool liveness_kill(struct liveness *l);
