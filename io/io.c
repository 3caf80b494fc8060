/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The I/O calls: an io_op on the caller's stack, handed to the back end, and a yield.
 */
#include "io/io.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "io/reactor_priv.h"

static int64_t op_run(struct io_op *op)
{
    struct reactor *r = reactor_current();
    r->backend->submit(r, op);
    if (!op->done) {
        op->co = co_self();
        co_yield ();
    }
    return op->res;
}

static void op_cancel(struct io_op *op, int reason)
{
    struct reactor *r = reactor_current();
    if (op->canceled || op->done)
        return;
    op->canceled = true;
    op->reason = reason;
    r->backend->cancel(r, op);
}

static void op_timeout(void *arg)
{
    op_cancel(arg, -ETIMEDOUT);
}

static void op_list(struct reactor *r, struct io_op *op)
{
    op->prev = NULL;
    op->next = r->waiting;
    if (r->waiting)
        r->waiting->prev = op;
    r->waiting = op;
}

static void op_unlist(struct reactor *r, struct io_op *op)
{
    if (op->prev)
        op->prev->next = op->next;
    else
        r->waiting = op->next;
    if (op->next)
        op->next->prev = op->prev;
}

/* op_run_until: like op_run, but it can be cancelled by descriptor and by time. */
static int64_t op_run_until(struct io_op *op, int64_t deadline_ns)
{
    struct reactor *r = reactor_current();
    r->backend->submit(r, op);
    if (op->done)
        return op->res;

    struct timer t = {0};
    op->co = co_self();
    op_list(r, op);
    if (deadline_ns != IO_NO_DEADLINE && !timer_set(&t, deadline_ns, op_timeout, op))
        op_cancel(op, -ENOMEM);
    /* Cancelling may have completed it, and made us ready, already: yielding is right all the same.
     */
    co_yield ();
    timer_cancel(&t);
    op_unlist(r, op);
    return op->canceled && op->res == -ECANCELED ? op->reason : op->res;
}

void io_cancel_fd(int fd)
{
    struct io_op *next;
    for (struct io_op *op = reactor_current()->waiting; op; op = next) {
        next = op->next;
        if (op->fd == fd)
            op_cancel(op, -ECANCELED);
    }
}

static int64_t op_run_retrying(struct io_op *op)
{
    int64_t res;
    do {
        op->done = false;
        op->co = NULL;
        res = op_run(op);
    } while (res == -EINTR || res == -EAGAIN);
    return res;
}

ssize_t io_pread(int fd, void *buf, size_t len, uint64_t file_off)
{
    struct io_op op = {.kind = IO_READ, .fd = fd, .buf = buf, .len = len, .off = file_off};
    return op_run_retrying(&op);
}

ssize_t io_pwrite(int fd, const void *buf, size_t len, uint64_t file_off)
{
    struct io_op op = {.kind = IO_WRITE, .fd = fd, .buf = (void *)buf, .len = len, .off = file_off};
    return op_run_retrying(&op);
}

int io_fdatasync(int fd)
{
    struct io_op op = {.kind = IO_FDATASYNC, .fd = fd};
    return (int)op_run_retrying(&op);
}

int io_fallocate(int fd, int mode, uint64_t file_off, uint64_t len)
{
    struct io_op op = {.kind = IO_FALLOCATE, .fd = fd, .mode = mode, .off = file_off, .len = len};
    return (int)op_run_retrying(&op);
}

/* socket_run: EAGAIN comes from an io_uring (before Linux 5.19) that takes a non-blocking listener
 * at its word. Trying again at once would spin; wait for readiness instead. */
static int64_t socket_run(struct io_op op, int64_t deadline_ns)
{
    short events = op.kind == IO_SENDMSG ? POLLOUT : POLLIN;
    int64_t res;
    do {
        struct io_op fresh = op;
        res = op_run_until(&fresh, deadline_ns);
        if (res == -EAGAIN && op.kind != IO_POLL) {
            fresh = (struct io_op){.kind = IO_POLL, .fd = op.fd, .mode = events};
            res = op_run_until(&fresh, deadline_ns);
            if (res >= 0)
                res = -EAGAIN;
        }
    } while (res == -EINTR || res == -EAGAIN);
    return res;
}

ssize_t io_recv(int fd, void *buf, size_t len, int64_t deadline_ns)
{
    return socket_run((struct io_op){.kind = IO_RECV, .fd = fd, .buf = buf, .len = len},
                      deadline_ns);
}

ssize_t io_recv_whole(int fd, void *buf, size_t len, int64_t deadline_ns)
{
    return socket_run(
        (struct io_op){.kind = IO_RECV, .fd = fd, .buf = buf, .len = len, .mode = MSG_WAITALL},
        deadline_ns);
}

int io_accept(int fd, int64_t deadline_ns)
{
    return (int)socket_run((struct io_op){.kind = IO_ACCEPT, .fd = fd}, deadline_ns);
}

int io_poll(int fd, short events, int64_t deadline_ns)
{
    return (int)socket_run((struct io_op){.kind = IO_POLL, .fd = fd, .mode = events}, deadline_ns);
}

/* iov_advance: drop the first n bytes of the vector. */
static void iov_advance(struct iovec **iov, int *iov_len, size_t n)
{
    while (*iov_len > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*iov_len)--;
    }
    if (n > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

int io_sendv(int fd, struct iovec *iov, int iov_len, int64_t deadline_ns)
{
    iov_advance(&iov, &iov_len, 0); /* leading empty entries */
    while (iov_len > 0) {
        struct msghdr msg = {
            .msg_iov = iov,
            .msg_iovlen = iov_len > IOV_MAX ? IOV_MAX : (size_t)iov_len,
        };
        int64_t n =
            socket_run((struct io_op){.kind = IO_SENDMSG, .fd = fd, .msg = &msg}, deadline_ns);
        if (n < 0)
            return (int)n;
        iov_advance(&iov, &iov_len, (size_t)n);
    }
    return 0;
}
