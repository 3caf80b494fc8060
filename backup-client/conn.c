/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Driving libnbd from a reactor.
 *
 * libnbd calls completion callbacks from within nbd_aio_notify_*, which only the pump calls, or
 * while a command is issued. After a connection is given up (timeout, interrupt) libnbd is not
 * called any more but to free the handle, which makes no callbacks; so the requests are ended here
 * and their buffers are safe.
 */
#include "backup-client/conn_priv.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>

#include "base/mem.h"
#include "io/io.h"
#include "io/reactor.h"

struct conn *conn_new(uint64_t timeout_ms, struct err **errp)
{
    struct conn *c = mem_new(struct conn);
    if (c) {
        c->timeout_ms = timeout_ms;
        c->fd = -1;
        c->nbd = nbd_create();
    }
    if (!c || !c->nbd) {
        err_set(errp, ENOMEM, "out of memory");
        mem_free(c);
        return NULL;
    }
    return c;
}

void conn_free(struct conn *c)
{
    if (!c)
        return;
    nbd_close(c->nbd);
    mem_free(c);
}

static void op_unlink(struct conn *c, struct nbd_op *op)
{
    if (op->prev)
        op->prev->next = op->next;
    else
        c->ops = op->next;
    if (op->next)
        op->next->prev = op->prev;
    op->prev = op->next = NULL;
}

static void op_finish(struct nbd_op *op, int error)
{
    if (op->done)
        return;
    op->done = true;
    op->error = error;
    if (op->waiter)
        co_wake(op->waiter);
    op->waiter = NULL;
}

int op_callback(void *arg, int *error)
{
    op_finish(arg, *error);
    return 1;
}

void op_begin(struct conn *c, struct nbd_op *op)
{
    *op = (struct nbd_op){.next = c->ops};
    if (!c->ops)
        c->heard_ns = clock_ns();
    else
        c->ops->prev = op;
    c->ops = op;
}

static void give_up(struct conn *c, const char *why, int error)
{
    if (!c->dead)
        c->why = why;
    c->dead = true;
    for (struct nbd_op *op = c->ops; op; op = op->next)
        op_finish(op, error);
}

/* To be called after a command was issued, before anything yields. Issuing sends, and if the peer
 * has gone libnbd closes the socket then, under a pump that sleeps on it: epoll forgets a closed
 * descriptor without a word. */
static void notice_death(struct conn *c)
{
    if (c->dead || !(nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd)))
        return;
    give_up(c, NULL, ECONNRESET);
    io_cancel_fd(c->fd);
}

void op_cancel(struct conn *c, struct nbd_op *op)
{
    op_unlink(c, op);
    notice_death(c);
}

int op_wait(struct conn *c, struct nbd_op *op)
{
    notice_death(c);
    /* The pump sleeps on reading only; make it look again if the request could not be sent whole.
     */
    if (!op->done && !c->dead && nbd_aio_get_direction(c->nbd) & LIBNBD_AIO_DIRECTION_WRITE)
        io_cancel_fd(c->fd);
    while (!op->done) {
        op->waiter = co_self();
        co_yield ();
    }
    op_unlink(c, op);
    return -op->error;
}

int conn_step(struct conn *c)
{
    unsigned dir = nbd_aio_get_direction(c->nbd);
    short events = (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                   (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
    int64_t now = clock_ns(), limit = (int64_t)c->timeout_ms * NS_PER_MS;
    int64_t since = c->ops ? c->heard_ns : now;
    c->fd = nbd_aio_get_fd(c->nbd);
    int r = io_poll(c->fd, events, since + limit);

    if (c->dead)
        return -ECANCELED;
    if (r == -ECANCELED)
        return c->closing ? r : 0;
    if (r == -ETIMEDOUT) {
        /* Silence is only wrong while an answer is due, and the answer may have come while this
         * process was stopped. */
        struct pollfd late = {.fd = nbd_aio_get_fd(c->nbd), .events = events};
        if (c->pumps && (!c->ops || clock_ns() < c->heard_ns + limit))
            return 0;
        if (poll(&late, 1, 0) > 0) {
            c->heard_ns = clock_ns();
            return 0;
        }
        give_up(c, "the server did not answer in time", ETIMEDOUT);
        return -ETIMEDOUT;
    }
    if (r < 0) {
        give_up(c, "poll failed", -r);
        return r;
    }
    c->heard_ns = clock_ns();
    int failed =
        r & POLLIN || !(r & POLLOUT) ? nbd_aio_notify_read(c->nbd) : nbd_aio_notify_write(c->nbd);
    if (failed < 0 || nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd)) {
        int why = failed < 0 && nbd_get_errno() ? nbd_get_errno() : ECONNRESET;
        give_up(c, NULL, why);
        return -why;
    }
    return 0;
}

static void pump(void *arg)
{
    struct conn *c = arg;
    struct co_group *group = c->pumps;
    while (!c->closing && !c->dead)
        conn_step(c);
    give_up(c, c->why, ECONNRESET);
    co_group_done(group);
}

bool conn_pump(struct conn *c, struct co_group *group)
{
    c->pumps = group;
    co_group_add(group);
    if (co_start(pump, c))
        return true;
    co_group_done(group);
    c->pumps = NULL;
    return false;
}

void conn_stop(struct conn *c, const char *why)
{
    if (c->dead)
        return;
    c->closing = true;
    give_up(c, why, ECANCELED);
    io_cancel_fd(c->fd);
}
