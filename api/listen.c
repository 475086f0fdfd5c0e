#include "api/listen.h"

#include "api/target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BACKLOG 1024
#define SOCKET_MODE 0660

/* ---- what it is called */

static int parse_host(const char *host, uint16_t port, union listener_address *ret)
{
        size_t n = strlen(host);
        char inner[INET6_ADDRSTRLEN];

        if (inet_pton(AF_INET, host, &ret->in.sin_addr) == 1) {
                ret->in.sin_family = AF_INET;
                ret->in.sin_port = htons(port);
                return 0;
        }
        if (n < 2 || n - 1 > sizeof inner || host[0] != '[' || host[n - 1] != ']')
                return -EINVAL;
        (void)snprintf(inner, sizeof inner, "%.*s", (int)n - 2, host + 1);
        if (inet_pton(AF_INET6, inner, &ret->in6.sin6_addr) != 1)
                return -EINVAL;
        ret->in6.sin6_family = AF_INET6;
        ret->in6.sin6_port = htons(port);
        return 0;
}

int listener_parse(const char *text, struct listener_setting *ret, struct error *err)
{
        struct listener_setting l = {.tls = !strncmp(text, "tls:", 4)};
        const char *rest = text + (l.tls ? 4 : 0), *colon = strrchr(rest, ':');
        char host[64];
        int64_t port = 0;

        (void)snprintf(host, sizeof host, "%.*s", colon ? (int)(colon - rest) : 0, rest);
        if (!colon || !int_parse(colon + 1, 0, 65535, &port) || (size_t)(colon - rest) >= sizeof host ||
            parse_host(host, (uint16_t)port, &l.address) < 0)
                return error_set(
                        err, -EINVAL, NULL,
                        "expected ADDRESS:PORT, such as 127.0.0.1:8700, [::1]:8700, or tls:0.0.0.0:8443; names "
                        "(localhost) are refused");
        *ret = l;
        return 0;
}

int listener_unix(const char *path, struct listener_setting *ret, struct error *err)
{
        *ret = (struct listener_setting){.address.un.sun_family = AF_UNIX};
        if (snprintf(ret->address.un.sun_path, sizeof ret->address.un.sun_path, "%s", path) >=
            (int)sizeof ret->address.un.sun_path)
                return error_set(err, -ENAMETOOLONG, path, "the path is too long for a socket: at most %zu bytes",
                                 sizeof ret->address.un.sun_path - 1);
        return 0;
}

int listener_inherit(int fd, struct listener_setting *ret, struct error *err)
{
        struct listener_setting l = {.inherited = fd};
        socklen_t size = sizeof l.address;
        int flags = fcntl(fd, F_GETFL);

        if (getsockname(fd, &l.address.any, &size) < 0 || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return error_set(err, -errno, NULL, "the inherited socket cannot be used: %s", strerror(errno));
        if (l.address.any.sa_family != AF_INET && l.address.any.sa_family != AF_INET6 &&
            l.address.any.sa_family != AF_UNIX)
                return error_set(err, -EINVAL, NULL, "the inherited socket is of no family that is served");
        *ret = l;
        return 0;
}

bool listener_is_local(const struct listener_setting *l)
{
        switch (l->address.any.sa_family) {
        case AF_INET:
                return ntohl(l->address.in.sin_addr.s_addr) >> 24 == 127;
        case AF_INET6:
                return IN6_IS_ADDR_LOOPBACK(&l->address.in6.sin6_addr);
        default:
                return true;
        }
}

void listener_text(const struct listener_setting *l, int port, char *ret, size_t size)
{
        char host[INET6_ADDRSTRLEN] = "?";
        bool six = l->address.any.sa_family == AF_INET6;

        if (l->address.any.sa_family == AF_UNIX) {
                (void)snprintf(ret, size, "%s", l->address.un.sun_path);
                return;
        }
        if (six)
                (void)inet_ntop(AF_INET6, &l->address.in6.sin6_addr, host, sizeof host);
        else
                (void)inet_ntop(AF_INET, &l->address.in.sin_addr, host, sizeof host);
        (void)snprintf(ret, size, "%s%s%s:%u", six ? "[" : "", host, six ? "]" : "",
                       port > 0 ? (unsigned)port : (unsigned)ntohs(l->address.in.sin_port)); /* in6's lies there, too */
}

/* ---- sockets */

static socklen_t address_size(const struct listener_setting *l)
{
        switch (l->address.any.sa_family) {
        case AF_INET:
                return sizeof l->address.in;
        case AF_INET6:
                return sizeof l->address.in6;
        default:
                return sizeof l->address.un;
        }
}

/* What a server before left there. Anything but a socket is somebody's file, and where somebody answers it is his. */
static int remove_old_socket(const struct listener_setting *l)
{
        const char *path = l->address.un.sun_path;
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EEXIST;
        if (fd < 0)
                return -errno;
        if (connect(fd, &l->address.any, sizeof l->address.un) == 0 || errno == EAGAIN) /* its backlog is full */
                return -EADDRINUSE;
        if (errno != ECONNREFUSED && errno != ENOENT)
                return -errno;
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_to(int fd, const struct listener_setting *l, gid_t group)
{
        const char *path = l->address.un.sun_path;
        int r;

        if (l->address.any.sa_family != AF_UNIX) {
                (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
                if (l->address.any.sa_family == AF_INET6)
                        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int));
                return bind(fd, &l->address.any, address_size(l)) < 0 ? -errno : 0;
        }
        r = remove_old_socket(l);
        if (r < 0)
                return r;
        /* nobody can connect before it listens, so it has its owner and mode in time */
        if (bind(fd, &l->address.any, address_size(l)) < 0 ||
            (group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0) || chmod(path, SOCKET_MODE) < 0)
                return -errno;
        return 0;
}

/* What is accepted there has it, too. A client whose machine is gone says nothing of it, and who follows a log that
 * nobody writes is sent nothing: without this he would keep his connection for ever. */
static void ask_whether_alive(int fd)
{
        static const struct {
                int level, name, value;
        } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
                       {IPPROTO_TCP, TCP_KEEPIDLE, 30},
                       {IPPROTO_TCP, TCP_KEEPINTVL, 10},
                       {IPPROTO_TCP, TCP_KEEPCNT, 3}};

        for (size_t i = 0; i < ARRAY_LEN(options); i++)
                (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

int listener_open(const struct listener_setting *l, gid_t group, int *ret_fd, int *ret_port, struct error *err)
{
        _cleanup_(closep) int fd =
                l->inherited > 0 ? l->inherited
                                 : socket(l->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        union listener_address bound = {0};
        socklen_t size = sizeof bound;
        char where[128];
        int r;

        listener_text(l, 0, where, sizeof where);
        if (fd < 0)
                return error_set(err, -errno, where, "no socket: %s", strerror(errno));
        r = l->inherited > 0 ? 0 : bind_to(fd, l, group);
        if (r >= 0 && ((l->inherited <= 0 && listen(fd, BACKLOG) < 0) || getsockname(fd, &bound.any, &size) < 0))
                r = -errno;
        if (r == -EEXIST)
                return error_set(err, r, where, "cannot listen: there is something else than a socket, which is left");
        if (r < 0)
                return error_set(err, r, where, "cannot listen: %s", strerror(-r));
        if (l->address.any.sa_family != AF_UNIX)
                ask_whether_alive(fd);
        *ret_port = l->address.any.sa_family == AF_UNIX ? 0 : ntohs(bound.in.sin_port);
        *ret_fd = TAKE_FD(fd);
        return 0;
}
