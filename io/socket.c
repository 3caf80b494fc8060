/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets: Unix and TCP.
 */
#include "io/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128
#define ANY_PORT_TRIES 16

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

/* Fills addr; *len is its length, and *abstract tells the namespace. */
static bool unix_address(const char *path, struct sockaddr_un *addr, socklen_t *len, bool *abstract,
                         struct err **errp)
{
    size_t n = strlen(path);

    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    *abstract = path[0] == '@';
    if (n == 0)
        return err_set(errp, EINVAL, "the socket path is empty");
    if (*abstract && n == 1)
        return err_set(errp, EINVAL, "the abstract socket name is empty");
    if (n >= sizeof(addr->sun_path))
        return err_set(errp, ENAMETOOLONG, "socket path '%s' has %zu bytes; at most %zu fit", path,
                       n, sizeof(addr->sun_path) - 1);
    memcpy(addr->sun_path, path, n + 1);
    *len = sizeof(*addr);
    if (*abstract) {
        addr->sun_path[0] = '\0';
        *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    }
    return true;
}

bool socket_listen_unix(const char *path, int mode, int *fd_out, struct err **errp)
{
    struct sockaddr_un addr;
    socklen_t len;
    bool abstract;
    if (!unix_address(path, &addr, &len, &abstract, errp))
        return false;

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set_errno(errp, errno, "socket");
    /* The mode is right from the start: nobody can connect between bind and chmod. */
    mode_t old = umask((mode_t)(~mode & 0777));
    int err = bind(fd, (struct sockaddr *)&addr, len) ? errno : 0;
    if (err == EADDRINUSE && !abstract && unix_is_dead(&addr) && unlink(path) == 0)
        err = bind(fd, (struct sockaddr *)&addr, len) ? errno : 0;
    umask(old);
    if (!err && listen(fd, BACKLOG) != 0) {
        err = errno;
        if (!abstract)
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

struct socket_file socket_file_note(const char *path)
{
    struct socket_file file = {0};
    struct stat st;

    if (path[0] != '@' && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        file = (struct socket_file){st.st_dev, st.st_ino};
    return file;
}

void socket_file_remove(const char *path, struct socket_file file)
{
    struct socket_file now = socket_file_note(path);

    if (file.ino && now.ino == file.ino && now.dev == file.dev)
        unlink(path);
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

static void set_port(struct addrinfo *ai, uint16_t port)
{
    if (ai->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)ai->ai_addr)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)ai->ai_addr)->sin_port = htons(port);
}

static void close_all(const int *fds, int n)
{
    while (n > 0)
        close(fds[--n]);
}

/* All addresses at one port. How many descriptors, or a negative errno; none is then open. An
 * address family that the host lacks is no reason to fail; a port in use is. */
static int tcp_bind_all(struct addrinfo *list, uint16_t port, int *fds, int max)
{
    int n = 0, first_err = 0;

    for (struct addrinfo *ai = list; ai && n < max; ai = ai->ai_next) {
        if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
            continue;
        set_port(ai, port);
        int err = tcp_bind_one(ai, &fds[n]);
        if (!err && port == 0)
            port = bound_port(fds[n]); /* the others take the same */
        if (!err)
            n++;
        else if (!first_err || err == EADDRINUSE)
            first_err = err;
    }
    if (n > 0 && first_err != EADDRINUSE)
        return n;
    close_all(fds, n);
    return -(first_err ? first_err : EADDRNOTAVAIL);
}

bool socket_listen_tcp(const char *host, uint16_t port, int *fds, int max, int *n_out,
                       uint16_t *port_out, struct err **errp)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    const char *name = host ? host : "localhost";

    hints.ai_flags = AI_PASSIVE;
    int res = getaddrinfo(strcmp(name, "*") == 0 ? NULL : name, "0", &hints, &list);
    if (res != 0)
        return err_set(errp, EINVAL, "cannot resolve address '%s': %s", name, gai_strerror(res));
    int n, tries = 0;
    do /* a port that is free on one address may be taken on the next */
        n = tcp_bind_all(list, port, fds, max);
    while (n == -EADDRINUSE && port == 0 && ++tries < ANY_PORT_TRIES);
    freeaddrinfo(list);
    if (n == -EADDRINUSE)
        return err_set(errp, EADDRINUSE,
                       "port %u on '%s' is in use by another process; choose another with -p", port,
                       name);
    if (n < 0)
        return err_set_errno(errp, -n, "cannot listen on '%s' port %u", name, port);
    *n_out = n;
    *port_out = bound_port(fds[0]);
    return true;
}
