/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: where it listens.
 */
#include <errno.h>
#include <string.h>

#include "base/parse.h"
#include "cli/serve_opts_priv.h"

static bool parse_port(const char *text, uint16_t *out, struct err **errp)
{
    unsigned v;

    if (!serve_parse_uint(text, "--port", 0, 65535, &v, errp))
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool room(unsigned n, const char *option, struct err **errp)
{
    return n < LISTEN_MAX ||
           err_set(errp, E2BIG, "%s: at most %d are possible", option, LISTEN_MAX);
}

static bool take_vsock(const char *arg, struct listen_opts *l, struct err **errp)
{
    uint64_t port;

    if (!arg) { /* as nbdkit has it: with -p */
        l->vsock_not_tcp = true;
        return true;
    }
    if (!room(l->n_vsock, "--vsock", errp) ||
        !parse_u64(arg, "--vsock", 0, UINT32_MAX - 1, &port, errp))
        return false;
    l->vsock[l->n_vsock++] = (uint32_t)port;
    return true;
}

static bool take_fd(const char *arg, struct listen_opts *l, struct err **errp)
{
    uint64_t fd;

    if (!room(l->n_fds, "--socket-fd", errp) ||
        !parse_u64(arg, "--socket-fd", 3, INT32_MAX, &fd, errp))
        return false;
    for (unsigned i = 0; i < l->n_fds; i++) {
        if (l->fd[i] == (int)fd)
            return err_set(errp, EEXIST, "--socket-fd: %s is given twice", arg);
    }
    l->fd[l->n_fds++] = (int)fd;
    return true;
}

enum take serve_take_listen(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    struct listen_opts *l = &o->listen;

    switch (opt) {
    case 'k':
        if (strcmp(arg, "-") == 0) {
            l->private_socket = true;
            return TAKE_OK;
        }
        return take_if(room(l->n_sockets, "--socket", errp) && (l->socket[l->n_sockets++] = arg));
    case 'p':
        return take_if(room(l->n_ports, "--port", errp) &&
                       parse_port(arg, &l->port[l->n_ports++], errp));
    case 'b':
        return take_if(room(l->n_hosts, "--bind", errp) && (l->host[l->n_hosts++] = arg));
    case OPT_VSOCK:
        return take_if(take_vsock(arg, l, errp));
    case OPT_SOCKET_FD:
        return take_if(take_fd(arg, l, errp));
    case OPT_STDIN:
        l->use_stdin = true;
        return TAKE_OK;
    }
    return TAKE_OTHER;
}
