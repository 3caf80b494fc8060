/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where `breakwater serve` listens: see serve_listen.h.
 */
#include "cli/serve_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/uri_text.h"

#define DEFAULT_PORT 10809 /* IANA */
#define MAX_ADDRESSES 16   /* that one name resolves to */

/* Before anything is opened that could get the number of a descriptor that was not inherited. */
static bool check_inherited(const struct listen_opts *o, struct err **errp)
{
    enum socket_kind kind;
    char what[48];

    for (unsigned i = 0; i < o->n_fds; i++) {
        snprintf(what, sizeof(what), "--socket-fd: descriptor %d", o->fd[i]);
        if (!socket_inherited(o->fd[i], what, &kind, errp))
            return false;
    }
    for (unsigned i = 0; i < o->activation.n; i++) {
        snprintf(what, sizeof(what), "LISTEN_FDS: descriptor %d", o->activation.fd[i]);
        if (!socket_inherited(o->activation.fd[i], what, &kind, errp))
            return false;
    }
    return o->use_stdin ? socket_inherited(STDIN_FILENO, "--stdin: standard input", &kind, errp)
                        : true;
}

bool listen_check(struct listen_opts *o, struct err **errp)
{
    unsigned other =
        o->private_socket + o->n_sockets + o->n_vsock + o->n_fds + o->activation.n + o->use_stdin;

    if (o->use_stdin && other + o->n_hosts + o->n_ports > 1)
        return err_set(errp, EINVAL, "--stdin serves one client and listens nowhere else");
    if (!check_inherited(o, errp))
        return false;
    if (o->vsock_not_tcp && o->n_hosts > 0)
        return err_set(errp, EINVAL, "--vsock and --bind exclude each other; give --vsock a port");
    if (other > 0 && o->n_hosts + o->n_ports == 0 && !o->vsock_not_tcp)
        return true;
    if (o->n_ports == 0)
        o->port[o->n_ports++] = DEFAULT_PORT;
    if (o->n_hosts == 0 && !o->vsock_not_tcp)
        o->host[o->n_hosts++] = o->default_host;
    return true;
}

/* Is it the same file, and not just another terminal? */
static bool same_file(int a, int b)
{
    struct stat sa, sb;

    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

bool listen_standard_streams(struct listen_opts *o, struct err **errp)
{
    if (!o->use_stdin)
        return true;
    int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return err_set_errno(errp, errno, "--stdin");
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) {
        close(fd);
        return err_set_errno(errp, errno, "/dev/null");
    }
    /* inetd gives the connection as all three. A log is kept where it goes elsewhere. */
    for (int i = STDERR_FILENO; i >= STDIN_FILENO; i--) {
        if (i != STDERR_FILENO || same_file(i, fd))
            dup2(null_fd, i);
    }
    close(null_fd);
    o->fd[0] = fd;
    o->n_fds = 1;
    return true;
}

/* The exports that can be found at each place. */
struct found {
    const struct listen_opts *o;
    const struct listen_export *v;
    unsigned n;
    struct listening *l;
};

/* Where clients can connect to. */
struct place {
    enum { AT_UNIX, AT_TCP, AT_VSOCK } kind;
    const char *text; /* a path or a host */
    uint32_t cid, port;
};

static char *place_uri(const struct place *p, const struct listen_export *x)
{
    switch (p->kind) {
    case AT_UNIX:
        return uri_unix(x->tls, p->text, x->name);
    case AT_TCP:
        return uri_tcp(x->tls, p->text, (uint16_t)p->port, x->name);
    case AT_VSOCK:
        return uri_vsock(x->tls, p->cid, p->port, x->name);
    }
    return NULL;
}

static bool print_uris(const struct found *f, const struct place *p, struct err **errp)
{
    for (unsigned i = 0; i < f->n; i++) {
        AUTO_FREE char *uri = place_uri(p, &f->v[i]);

        if (!uri)
            return err_set(errp, ENOMEM, "out of memory for the URI");
        if (!f->o->quiet)
            printf("%s\n", uri);
        if (!f->l->uri)
            f->l->uri = steal(uri);
    }
    return true;
}

static bool listen_unix(struct server *s, const char *path, struct listening *l, struct err **errp)
{
    int fd;

    if (!socket_listen_unix(path, 0600, &fd, errp))
        return false;
    l->path[l->n_files] = path;
    l->file[l->n_files++] = socket_file_note(path);
    return server_listen(s, fd, errp);
}

/* A Unix socket that nobody else finds. */
static bool listen_private(struct server *s, const struct found *f, struct listening *l,
                           struct err **errp)
{
    const char *dir = getenv("TMPDIR");

    l->private_dir = mem_printf("%s/breakwater-XXXXXX", dir && *dir ? dir : "/tmp");
    if (!l->private_dir)
        return err_set(errp, ENOMEM, "out of memory for a socket");
    if (!mkdtemp(l->private_dir)) {
        err_set_errno(errp, errno, "a folder '%s' for a socket", l->private_dir);
        mem_free(steal(l->private_dir));
        return false;
    }
    l->private_path = mem_printf("%s/nbd.sock", l->private_dir);
    if (!l->private_path)
        return err_set(errp, ENOMEM, "out of memory for a socket");
    return listen_unix(s, l->private_path, l, errp) &&
           print_uris(f, &(struct place){.kind = AT_UNIX, .text = l->private_path}, errp);
}

static bool listen_tcp(struct server *s, const char *host, uint16_t *port, struct err **errp)
{
    int fds[MAX_ADDRESSES], n = 0;
    bool ok = true;

    if (!socket_listen_tcp(host, *port, fds, MAX_ADDRESSES, &n, port, errp))
        return false;
    for (int i = 0; i < n; i++) {
        if (ok)
            ok = server_listen(s, fds[i], errp);
        else
            close(fds[i]);
    }
    return ok;
}

/* Where a descriptor listens that somebody else made. text: room for what p->text points to. False:
 * at no place that has a URI. */
static bool inherited_place(int fd, char text[NI_MAXHOST], struct place *p)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    char port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
        return false;
    if (ss.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (struct sockaddr_un *)&ss;
        size_t n = len > offsetof(struct sockaddr_un, sun_path)
                       ? len - offsetof(struct sockaddr_un, sun_path)
                       : 0;
        memset(text, 0, NI_MAXHOST);
        memcpy(text, un->sun_path, min_u64(n, sizeof(un->sun_path)));
        if (n > 1 && !text[0])
            text[0] = '@';
        *p = (struct place){.kind = AT_UNIX, .text = text};
        return *text;
    }
    if (getnameinfo((struct sockaddr *)&ss, len, text, NI_MAXHOST, port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    *p = (struct place){AT_TCP, text, 0, (uint32_t)strtoul(port, NULL, 10)};
    return true;
}

/* fd is taken over, also on failure. */
static bool listen_inherited(struct server *s, const struct found *f, int fd, const char *what,
                             struct err **errp)
{
    char text[NI_MAXHOST];
    enum socket_kind kind;
    struct place p;

    if (!socket_inherited(fd, what, &kind, errp)) {
        close(fd);
        return false;
    }
    if (kind == SOCKET_LISTENING) {
        bool has_uri = inherited_place(fd, text, &p);
        return server_listen(s, fd, errp) && (!has_uri || print_uris(f, &p, errp));
    }
    struct stream *stream = stream_from_fd(fd);
    return stream ? server_serve(s, stream, errp)
                  : err_set(errp, ENOMEM, "out of memory for a connection");
}

static bool listen_vsock(struct server *s, const struct found *f, uint32_t port, struct err **errp)
{
    struct place p = {.kind = AT_VSOCK};
    int fd;

    return socket_listen_vsock(port, &fd, &p.cid, &p.port, errp) && server_listen(s, fd, errp) &&
           print_uris(f, &p, errp);
}

static bool listen_internet(struct server *s, const struct found *f, struct err **errp)
{
    const struct listen_opts *o = f->o;

    for (unsigned p = 0; p < o->n_ports; p++) {
        if (o->vsock_not_tcp && !listen_vsock(s, f, o->port[p], errp))
            return false;
        for (unsigned h = 0; h < o->n_hosts; h++) {
            uint16_t port = o->port[p];
            if (!listen_tcp(s, o->host[h], &port, errp) ||
                !print_uris(f, &(struct place){AT_TCP, o->host[h], 0, port}, errp))
                return false;
        }
    }
    for (unsigned i = 0; i < o->n_vsock; i++) {
        if (!listen_vsock(s, f, o->vsock[i], errp))
            return false;
    }
    return true;
}

bool listen_all(struct server *s, const struct listen_opts *o, const struct listen_export *exports,
                unsigned n_exports, struct listening *l, struct err **errp)
{
    struct found f = {o, exports, n_exports, l};

    if (o->private_socket && !listen_private(s, &f, l, errp))
        return false;
    for (unsigned i = 0; i < o->n_sockets; i++) {
        if (!listen_unix(s, o->socket[i], l, errp) ||
            !print_uris(&f, &(struct place){.kind = AT_UNIX, .text = o->socket[i]}, errp))
            return false;
    }
    if (!listen_internet(s, &f, errp))
        return false;
    for (unsigned i = 0; i < o->n_fds; i++) {
        AUTO_FREE char *what = o->use_stdin ? mem_strdup("--stdin: standard input")
                                            : mem_printf("--socket-fd: descriptor %d", o->fd[i]);
        if (!listen_inherited(s, &f, o->fd[i], what ? what : "--socket-fd", errp))
            return false;
    }
    for (unsigned i = 0; i < o->activation.n; i++) {
        const char *name = o->activation.name[i];
        AUTO_FREE char *what = mem_printf("the socket '%s' of the service manager", name);
        log_info("listening on socket '%s' of the service manager", name);
        if (!listen_inherited(s, &f, o->activation.fd[i], what ? what : name, errp))
            return false;
    }
    return true;
}

void listen_remove_files(struct listening *l)
{
    for (unsigned i = 0; i < l->n_files; i++)
        socket_file_remove(l->path[i], l->file[i]);
    l->n_files = 0;
}

void listen_end(struct listening *l)
{
    listen_remove_files(l);
    if (l->private_dir)
        rmdir(l->private_dir);
    mem_free(l->private_dir);
    mem_free(l->private_path);
    mem_free(l->uri);
    *l = (struct listening){0};
}
