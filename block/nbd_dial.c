/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From an address to a connection. A name can have several addresses; they are tried in the order
 * of the system's resolver, which runs on a worker thread as it may take its time.
 */
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/un.h>

#include "block/nbd_priv.h"
#include "io/io.h"

static struct nbd_link *dial_address(const struct nbd_opts *o, const struct sockaddr *addr,
                                     socklen_t addr_len, int64_t deadline_ns,
                                     struct nbd_link **opening, struct err **errp)
{
    struct nbd_link *l = link_new(errp);
    bool ok;

    if (!l)
        return NULL;
    *opening = l;
    ok = link_connect(l, o->export ? o->export : "", addr, addr_len, deadline_ns, errp);
    *opening = NULL;
    if (ok)
        return l;
    link_unref(l);
    return NULL;
}

static struct nbd_link *dial_unix(const struct nbd_opts *o, int64_t deadline_ns,
                                  struct nbd_link **opening, struct err **errp)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct nbd_link *l;
    struct err *e = NULL;

    if (strlen(o->path) >= sizeof(un.sun_path)) {
        err_set(errp, EINVAL, "UNIX socket path '%s' is too long", o->path);
        return NULL;
    }
    strcpy(un.sun_path, o->path);
    l = dial_address(o, (struct sockaddr *)&un, sizeof(un), deadline_ns, opening, &e);
    if (!l)
        err_set(errp, err_code(e), "Failed to connect to '%s': %s", o->path, err_msg(e));
    err_free(e);
    return l;
}

struct lookup {
    const char *host, *port;
    struct addrinfo *found;
};

static int look_up(void *arg)
{
    struct lookup *k = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};

    return getaddrinfo(k->host, k->port, &hints, &k->found);
}

static struct nbd_link *dial_tcp(const struct nbd_opts *o, int64_t deadline_ns,
                                 struct nbd_link **opening, struct err **errp)
{
    struct lookup k = {.host = o->host, .port = o->port};
    struct nbd_link *l = NULL;
    struct err *e = NULL;
    int ret = io_offload(look_up, &k);

    if (ret != 0) {
        err_set(errp, EHOSTUNREACH, "address resolution failed for %s:%s: %s", o->host, o->port,
                gai_strerror(ret));
        return NULL;
    }
    for (const struct addrinfo *a = k.found; a && !l; a = a->ai_next) {
        err_free(e);
        e = NULL;
        l = dial_address(o, a->ai_addr, a->ai_addrlen, deadline_ns, opening, &e);
    }
    freeaddrinfo(k.found);
    if (!l)
        err_set(errp, err_code(e), "Failed to connect to '%s:%s': %s", o->host, o->port,
                err_msg(e));
    err_free(e);
    return l;
}

struct nbd_link *nbd_dial(const struct nbd_opts *o, int64_t deadline_ns, struct nbd_link **opening,
                          struct err **errp)
{
    return o->path ? dial_unix(o, deadline_ns, opening, errp)
                   : dial_tcp(o, deadline_ns, opening, errp);
}
