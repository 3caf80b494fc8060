/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Driving libnbd from a reactor.
 *
 * libnbd calls completion callbacks from within nbd_aio_notify_*, which only the pump calls, or
 * while a command is issued. Once a connection is given up libnbd is not called any more but to
 * free the handle, which makes no callbacks; so the calls are ended here, and their buffers are
 * safe.
 */
#include "block/nbd_priv.h"

#include <assert.h>
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
#include "io/co.h"
#include "io/io.h"
#include "io/reactor.h"

struct nbd_link *link_new(struct err **errp)
{
    struct nbd_link *l = mem_new(struct nbd_link);

    if (l) {
        l->refs = 1;
        l->fd = -1;
        l->h = nbd_create();
    }
    if (l && l->h)
        return l;
    mem_free(l);
    err_set(errp, ENOMEM, "out of memory for an NBD connection");
    return NULL;
}

void link_unref(struct nbd_link *l)
{
    if (!l || --l->refs > 0)
        return;
    assert(!l->calls);
    nbd_close(l->h);
    mem_free(l->why);
    mem_free(l);
}

static void call_finish(struct nbd_call *c, int error)
{
    if (c->done)
        return;
    c->done = true;
    c->error = error;
    if (c->waiter)
        co_wake(c->waiter);
    c->waiter = NULL;
}

int call_callback(void *arg, int *error)
{
    call_finish(arg, *error);
    return 1;
}

static void give_up(struct nbd_link *l, int code, const char *why)
{
    void (*died)(void *arg) = l->died;

    if (l->dead)
        return;
    l->dead = true;
    l->code = code;
    l->why = why ? mem_strdup(why) : NULL;
    l->died = NULL;
    for (struct nbd_call *c = l->calls; c; c = c->next)
        call_finish(c, ENOTCONN);
    if (died)
        died(l->died_arg);
}

void link_kill(struct nbd_link *l)
{
    l->died = NULL;
    give_up(l, ECANCELED, NULL);
    if (l->fd >= 0)
        io_cancel_fd(l->fd);
}

/* Wait for the socket and let libnbd go on. */
static void link_step(struct nbd_link *l, int64_t deadline_ns)
{
    unsigned dir = nbd_aio_get_direction(l->h);
    short events = (short)((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                           (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    int r, failed;

    l->fd = nbd_aio_get_fd(l->h);
    r = io_poll(l->fd, events, deadline_ns);
    if (l->dead || r == -ECANCELED)
        return;
    if (r < 0) {
        give_up(l, -r, NULL);
        return;
    }
    failed = r & POLLIN || !(r & POLLOUT) ? nbd_aio_notify_read(l->h) : nbd_aio_notify_write(l->h);
    if (failed < 0)
        give_up(l, nbd_get_errno() ? nbd_get_errno() : ECONNRESET, nbd_get_error());
    else if (nbd_aio_is_dead(l->h) || nbd_aio_is_closed(l->h))
        give_up(l, ECONNRESET, NULL);
}

static bool prepare(struct nbd_handle *h, const char *export)
{
    return nbd_set_export_name(h, export) == 0 &&
           nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 &&
           nbd_set_pread_initialize(h, false) == 0 && nbd_set_tls(h, LIBNBD_TLS_DISABLE) == 0;
}

bool link_connect(struct nbd_link *l, const char *export, const struct sockaddr *addr,
                  socklen_t addr_len, int64_t deadline_ns, struct err **errp)
{
    if (!prepare(l->h, export) || nbd_aio_connect(l->h, addr, addr_len) < 0)
        return err_set(errp, nbd_get_errno() ? nbd_get_errno() : EINVAL, "%s", nbd_get_error());
    while (!l->dead && nbd_aio_is_connecting(l->h))
        link_step(l, deadline_ns);
    if (!l->dead && nbd_aio_is_ready(l->h))
        return true;
    if (!l->dead)
        give_up(l, ECONNRESET, NULL);
    if (l->why)
        return err_set(errp, l->code, "%s", l->why);
    return err_set_errno(errp, l->code, "no connection");
}

static void pump(void *arg)
{
    struct nbd_link *l = arg;
    struct co_group *pumps = l->pumps;

    while (!l->dead)
        link_step(l, IO_NO_DEADLINE);
    link_unref(l);
    co_group_done(pumps);
}

bool link_start(struct nbd_link *l, struct co_group *pumps, void (*died)(void *arg), void *arg,
                struct err **errp)
{
    l->pumps = pumps;
    l->died = died;
    l->died_arg = arg;
    l->refs++;
    co_group_add(pumps);
    if (co_start(pump, l))
        return true;
    co_group_done(pumps);
    l->refs--;
    return err_set(errp, ENOMEM, "out of memory for an NBD connection");
}

/* --- Requests --- */

void call_begin(struct nbd_link *l, struct nbd_call *c)
{
    *c = (struct nbd_call){.link = l, .next = l->calls};
    if (l->calls)
        l->calls->prev = c;
    l->calls = c;
    l->refs++;
}

static void call_end(struct nbd_call *c)
{
    struct nbd_link *l = c->link;

    if (c->prev)
        c->prev->next = c->next;
    else
        l->calls = c->next;
    if (c->next)
        c->next->prev = c->prev;
    link_unref(l);
}

/* After a command was issued, before anything yields. Issuing sends, and if the peer has gone
 * libnbd closes the socket then, under a pump that sleeps on it: epoll forgets a closed descriptor
 * without a word. And the pump sleeps on reading only: it must look again if the request could not
 * be sent whole. */
static void look_after(struct nbd_link *l)
{
    bool gone = nbd_aio_is_dead(l->h) || nbd_aio_is_closed(l->h);

    if (gone || nbd_aio_get_direction(l->h) & LIBNBD_AIO_DIRECTION_WRITE)
        io_cancel_fd(l->fd);
    if (gone)
        give_up(l, ECONNRESET, NULL);
}

int call_wait(struct nbd_call *c, int64_t issued)
{
    struct nbd_link *l = c->link;
    int error = issued < 0 ? nbd_get_errno() : 0;
    bool lost;

    if (!l->dead)
        look_after(l);
    while (issued >= 0 && !c->done) {
        c->waiter = co_self();
        co_yield ();
    }
    if (issued >= 0)
        error = c->error;
    else if (!error)
        error = EIO;
    lost = l->dead;
    call_end(c);
    return error && lost ? -ENOTCONN : -error;
}
