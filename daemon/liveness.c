#include "daemon/liveness.h"

#include "base/clock.h"
#include "daemon/loop.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOCK_EVERY_US (US_PER_S / 2)

void liveness_init(struct liveness *l, struct loop *loop, bool (*is_locked)(void *user), void (*on_end)(void *user),
                   void *user)
{
        *l = (struct liveness){
                .loop = loop, .is_locked = is_locked, .on_end = on_end, .user = user, .pidfd = -1, .status = INT_MIN};
}

void liveness_done(struct liveness *l)
{
        l->pidfd_source = loop_remove(l->loop, l->pidfd_source);
        l->lock_timer = loop_remove(l->loop, l->lock_timer);
        closep(&l->pidfd);
        l->pidfd = -1;
}

static void look(void *user);

static void watch_lock(struct liveness *l)
{
        if (!l->lock_timer)
                (void)loop_add_timer(l->loop, clock_monotonic_us() + LOCK_EVERY_US, look, l, &l->lock_timer, NULL);
}

static void end(struct liveness *l)
{
        liveness_done(l);
        l->on_end(l->user);
}

static void look(void *user)
{
        struct liveness *l = user;

        l->lock_timer = NULL;
        if (l->is_locked(l->user))
                watch_lock(l);
        else
                end(l);
}

static void on_pidfd(void *user, uint32_t events _unused_)
{
        struct liveness *l = user;
        siginfo_t info = {0};

        if (!l->child) { /* the process that had this id has ended; the lock says whether it was the worker */
                liveness_done(l);
                l->pid = 0;
                look(l);
                return;
        }
        (void)kill(-l->pid, SIGKILL); /* what it left behind; the id is still its own until it is reaped */
        (void)waitid(P_PIDFD, (id_t)l->pidfd, &info, WEXITED);
        l->status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        end(l);
}

int liveness_watch_child(struct liveness *l, pid_t pid, int pidfd, struct error *err)
{
        int r = loop_add_fd(l->loop, pidfd, EPOLLIN, on_pidfd, l, &l->pidfd_source, err);

        l->pid = pid;
        l->pidfd = pidfd;
        l->child = true;
        if (r >= 0)
                return 0;
        (void)kill(-pid, SIGKILL);
        (void)waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED);
        liveness_done(l);
        return r;
}

void liveness_watch(struct liveness *l, pid_t pid, int pidfd)
{
        l->pidfd = pidfd;
        if (pidfd < 0 || loop_add_fd(l->loop, pidfd, EPOLLIN, on_pidfd, l, &l->pidfd_source, NULL) < 0) {
                closep(&l->pidfd);
                l->pidfd = -1;
                watch_lock(l);
                return;
        }
        l->pid = pid;
        l->lock_timer = loop_remove(l->loop, l->lock_timer);
}

bool liveness_knows(const struct liveness *l)
{
        return l->pidfd >= 0;
}

bool liveness_kill(struct liveness *l)
{
        if (!liveness_knows(l) || l->pid <= 0)
                return false;
        if (!l->child && poll(&(struct pollfd){.fd = l->pidfd, .events = POLLIN}, 1, 0) != 0)
                return false; /* not ours to reap: the number may be another's already */
        l->killed = true;
        (void)kill(-l->pid, SIGKILL);
        (void)pidfd_send_signal(l->pidfd, SIGKILL, NULL, 0);
        return true;
}
