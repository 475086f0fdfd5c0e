#include "daemon/notify.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */

struct notify {
        struct loop *loop;
        struct source *timer;
        int64_t period_us; /* of the watchdog; 0: none */
        int fd;
        struct sockaddr_un address;
        socklen_t address_size;
};

void notify_send(struct notify *n, const char *state)
{
        if (n && sendto(n->fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&n->address,
                        n->address_size) < 0)
                log_debug("the service manager does not take %s: %s", state, strerror(errno));
}

static void arm(struct notify *n);

static void on_watchdog(void *user)
{
        struct notify *n = user;

        n->timer = NULL;
        notify_send(n, "WATCHDOG=1");
        arm(n);
}

static void arm(struct notify *n)
{
        if (n->period_us)
                (void)loop_add_timer(n->loop, clock_monotonic_us() + n->period_us, on_watchdog, n, &n->timer, NULL);
}

/* A number of the environment that is meant for this process; 0: none. */
static int64_t meant_for_us(const char *name, const char *pid_name)
{
        const char *value = getenv(name), *pid = getenv(pid_name);

        return value && (!pid || strtoll(pid, NULL, 10) == getpid()) ? strtoll(value, NULL, 10) : 0;
}

int notify_new(struct loop *l, struct notify **ret, struct error *err)
{
        const char *path = getenv("NOTIFY_SOCKET");
        size_t size = path ? strlen(path) : 0;
        struct notify *n;

        if (!size)
                return 0;
        if ((path[0] != '/' && path[0] != '@') || size >= sizeof n->address.sun_path)
                return error_set(err, -EINVAL, "NOTIFY_SOCKET", "expected an absolute path or an abstract name");
        n = calloc(1, sizeof *n);
        if (!n)
                return error_set(err, -ENOMEM, NULL, "no memory to speak to the service manager");
        n->loop = l;
        n->address.sun_family = AF_UNIX;
        memcpy(n->address.sun_path, path, size);
        if (path[0] == '@')
                n->address.sun_path[0] = 0;
        n->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
        n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (n->fd < 0) {
                free(n);
                return error_set(err, -errno, NULL, "no socket to speak to the service manager: %s", strerror(errno));
        }
        n->period_us = MAX(meant_for_us("WATCHDOG_USEC", "WATCHDOG_PID"), 0) / 2; /* as sd_watchdog_enabled(3) says */
        arm(n);
        *ret = n;
        return 0;
}

struct notify *notify_free(struct notify *n)
{
        if (!n)
                return NULL;
        n->timer = loop_remove(n->loop, n->timer);
        closep(&n->fd);
        free(n);
        return NULL;
}

int notify_listening_socket(void)
{
        int listens = 0;
        socklen_t size = sizeof listens;

        if (!getenv("LISTEN_PID") || meant_for_us("LISTEN_FDS", "LISTEN_PID") < 1)
                return -1;
        if (getsockopt(LISTEN_FDS_START, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens)
                return -1;
        (void)fcntl(LISTEN_FDS_START, F_SETFD, FD_CLOEXEC);
        return LISTEN_FDS_START;
}
