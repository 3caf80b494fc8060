/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets.
 */
#include "io/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

/* unix_is_dead: true if path is a socket file that nobody listens on. */
static bool unix_is_dead(const struct sockaddr_un *addr)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    /* Non-blocking: an owner that hangs may have a full queue, and is alive all the same. */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool dead =
        connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0 && errno == ECONNREFUSED;
    close(fd);
    return dead;
}

bool socket_listen_unix(const char *path, int mode, int *fd_out, struct err **errp)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0)
        return err_set(errp, EINVAL, "the socket path is empty");
    if (len >= sizeof(addr.sun_path))
        return err_set(errp, ENAMETOOLONG, "socket path '%s' has %zu bytes; at most %zu fit", path,
                       len, sizeof(addr.sun_path) - 1);
    memcpy(addr.sun_path, path, len + 1);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set_errno(errp, errno, "socket");
    /* The mode is right from the start: nobody can connect between bind and chmod. */
    mode_t old = umask((mode_t)(~mode & 0777));
    int err = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? errno : 0;
    if (err == EADDRINUSE && unix_is_dead(&addr) && unlink(path) == 0)
        err = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? errno : 0;
    umask(old);
    if (!err && listen(fd, BACKLOG) != 0) {
        err = errno;
        unlink(path);
    }
    if (err) {
        close(fd);
        if (err == EADDRINUSE)
            return err_set(errp, err,
                           "socket '%s' is in use by another process (or is not a socket); "
                           "choose another path or stop that process",
                           path);
        return err_set_errno(errp, err, "cannot listen on socket '%s'", path);
    }
    *fd_out = fd;
    return true;
}

/* tcp_bind_one: 0 or an errno. */
static int tcp_bind_one(const struct addrinfo *ai, int *fd_out)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
    if (fd < 0)
        return errno;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6) /* 0.0.0.0 and :: are two sockets, not one that takes both */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int err = errno;
        close(fd);
        return err;
    }
    *fd_out = fd;
    return 0;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
        return 0;
    if (ss.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
    return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

bool socket_listen_tcp(const char *host, uint16_t port, int *fds, int max, int *n_out,
                       uint16_t *port_out, struct err **errp)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char service[8];
    if (!host)
        host = "localhost";
    hints.ai_flags = AI_PASSIVE;
    snprintf(service, sizeof(service), "%u", port);
    int res = getaddrinfo(host, service, &hints, &list);
    if (res != 0)
        return err_set(errp, EINVAL, "cannot resolve address '%s': %s", host, gai_strerror(res));

    int n = 0;
    int first_err = 0;
    for (struct addrinfo *ai = list; ai && n < (port ? max : 1); ai = ai->ai_next) {
        int err = tcp_bind_one(ai, &fds[n]);
        if (!err)
            n++;
        else if (!first_err || err == EADDRINUSE)
            first_err = err;
    }
    freeaddrinfo(list);
    /* An address family that the host lacks is no reason to fail; a port in use is. */
    if (n == 0 || first_err == EADDRINUSE) {
        while (n > 0)
            close(fds[--n]);
        if (first_err == EADDRINUSE)
            return err_set(errp, EADDRINUSE,
                           "port %u on '%s' is in use by another process; choose another with -p",
                           port, host);
        return err_set_errno(errp, first_err, "cannot listen on '%s' port %u", host, port);
    }
    *n_out = n;
    *port_out = bound_port(fds[0]);
    return true;
}
