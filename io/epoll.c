/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The back end without io_uring: sockets are non-blocking and watched by epoll, file I/O runs on
 * worker threads. Slower, and everywhere the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/reactor_priv.h"

#define EVENTS_PER_WAIT 64

/* What waits on a descriptor: one reader and one writer at most. */
struct watch {
    struct io_op *in, *out;
    uint32_t armed; /* events that epoll knows of; 0 = not registered */
};

struct epoll_state {
    int fd;
    struct watch *watch; /* by descriptor */
    size_t n_watch;
};

static bool epoll_init(struct reactor *r, struct err **errp)
{
    struct epoll_state *s = mem_new(struct epoll_state);
    if (!s)
        return err_set(errp, ENOMEM, "epoll: out of memory");
    s->fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = r->event_fd};
    if (s->fd < 0 || epoll_ctl(s->fd, EPOLL_CTL_ADD, r->event_fd, &ev) != 0) {
        err_set_errno(errp, errno, "epoll");
        if (s->fd >= 0)
            close(s->fd);
        mem_free(s);
        return false;
    }
    r->backend_state = s;
    return true;
}

static void epoll_destroy(struct reactor *r)
{
    struct epoll_state *s = r->backend_state;
    close(s->fd);
    mem_free(s->watch);
    mem_free(s);
}

/* --- Files: one job on a worker thread. --- */

struct file_job {
    struct offload_job job;
    struct reactor *reactor;
    struct io_op *op;
    int64_t res;
};

static int file_job_run(void *arg)
{
    struct file_job *j = arg;
    struct io_op *op = j->op;
    ssize_t n = -1;
    do {
        errno = 0;
        switch (op->kind) {
        case IO_READ:
            n = pread(op->fd, op->buf, op->len, (off_t)op->off);
            break;
        case IO_WRITE:
            n = pwrite(op->fd, op->buf, op->len, (off_t)op->off);
            break;
        case IO_FDATASYNC:
            n = fdatasync(op->fd);
            break;
        case IO_FALLOCATE:
            n = fallocate(op->fd, op->mode, (off_t)op->off, (off_t)op->len);
            break;
        default:
            errno = ENOSYS;
            break;
        }
    } while (n < 0 && errno == EINTR);
    j->res = n < 0 ? -errno : n;
    return 0;
}

static void file_job_done(void *arg)
{
    struct file_job *j = arg;
    struct io_op *op = j->op;
    int64_t res = j->res;
    struct reactor *r = j->reactor;
    mem_free(j);
    io_complete(r, op, res);
}

static void submit_file(struct reactor *r, struct io_op *op)
{
    struct file_job *j = mem_new(struct file_job);
    if (!j) {
        io_complete(r, op, -ENOMEM);
        return;
    }
    *j = (struct file_job){
        .job = {.fn = file_job_run, .arg = j, .done = {.fn = file_job_done, .arg = j}},
        .reactor = r,
        .op = op,
    };
    if (!offload_submit(r, &j->job)) {
        mem_free(j);
        io_complete(r, op, -ENOMEM); /* not EAGAIN: the caller would try again at once */
    }
}

/* --- Sockets: try, then watch. --- */

static int64_t socket_try(struct io_op *op)
{
    ssize_t n = -1;
    do {
        switch (op->kind) {
        case IO_RECV:
            n = recv(op->fd, op->buf, op->len, MSG_DONTWAIT);
            break;
        case IO_SENDMSG:
            n = sendmsg(op->fd, op->msg, MSG_DONTWAIT | MSG_NOSIGNAL);
            break;
        case IO_ACCEPT:
            n = accept4(op->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            break;
        case IO_POLL: {
            struct pollfd pfd = {.fd = op->fd, .events = (short)op->mode};
            n = poll(&pfd, 1, 0);
            if (n > 0)
                return pfd.revents;
            if (n == 0)
                return -EAGAIN;
            break;
        }
        default:
            return -ENOSYS;
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static uint32_t events_of(const struct io_op *op)
{
    if (!op)
        return 0;
    if (op->kind == IO_POLL)
        return (uint32_t)op->mode; /* poll's and epoll's bits are the same */
    return op->kind == IO_SENDMSG ? EPOLLOUT : EPOLLIN;
}

static struct io_op **watch_slot(struct watch *w, const struct io_op *op)
{
    return events_of(op) & EPOLLOUT ? &w->out : &w->in;
}

static bool watch_grow(struct epoll_state *s, int fd)
{
    if ((size_t)fd < s->n_watch)
        return true;
    size_t n = s->n_watch ? s->n_watch : 64;
    while (n <= (size_t)fd)
        n *= 2;
    struct watch *w = mem_realloc(s->watch, n * sizeof(*w));
    if (!w)
        return false;
    memset(w + s->n_watch, 0, (n - s->n_watch) * sizeof(*w));
    s->watch = w;
    s->n_watch = n;
    return true;
}

/* watch_sync: make epoll's registration match what waits. 0 or -errno. */
static int watch_sync(struct epoll_state *s, int fd)
{
    struct watch *w = &s->watch[fd];
    uint32_t want = events_of(w->in) | events_of(w->out);
    if (want == w->armed)
        return 0;
    struct epoll_event ev = {.events = want, .data.fd = fd};
    int how = !want ? EPOLL_CTL_DEL : w->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(s->fd, how, fd, &ev) != 0 && want)
        return -errno;
    w->armed = want;
    return 0;
}

static void submit_socket(struct reactor *r, struct io_op *op)
{
    struct epoll_state *s = r->backend_state;
    int64_t res = socket_try(op);
    if (res != -EAGAIN) {
        io_complete(r, op, res);
        return;
    }
    if (!watch_grow(s, op->fd)) {
        io_complete(r, op, -ENOMEM);
        return;
    }
    struct io_op **slot = watch_slot(&s->watch[op->fd], op);
    if (*slot) {
        io_complete(r, op, -EBUSY);
        return;
    }
    *slot = op;
    int err = watch_sync(s, op->fd);
    if (err) {
        *slot = NULL;
        io_complete(r, op, err);
    }
}

static void epoll_submit(struct reactor *r, struct io_op *op)
{
    switch (op->kind) {
    case IO_READ:
    case IO_WRITE:
    case IO_FDATASYNC:
    case IO_FALLOCATE:
        submit_file(r, op);
        break;
    default:
        submit_socket(r, op);
        break;
    }
}

static void epoll_cancel(struct reactor *r, struct io_op *op)
{
    struct epoll_state *s = r->backend_state;
    if ((size_t)op->fd >= s->n_watch)
        return;
    struct io_op **slot = watch_slot(&s->watch[op->fd], op);
    if (*slot != op)
        return;
    *slot = NULL;
    watch_sync(s, op->fd);
    io_complete(r, op, -ECANCELED);
}

static void watch_fire(struct reactor *r, int fd, struct io_op **slot)
{
    struct io_op *op = *slot;
    int64_t res = socket_try(op);
    if (res == -EAGAIN)
        return;
    *slot = NULL;
    io_complete(r, op, res);
    (void)fd;
}

static void watch_event(struct reactor *r, int fd, uint32_t events)
{
    struct epoll_state *s = r->backend_state;
    struct watch *w = &s->watch[fd];
    /* Errors and hang-ups concern both directions. */
    uint32_t both = events & (EPOLLERR | EPOLLHUP);
    if (w->in && (both || events & events_of(w->in)))
        watch_fire(r, fd, &w->in);
    if (w->out && (both || events & events_of(w->out)))
        watch_fire(r, fd, &w->out);
    watch_sync(s, fd);
}

static void epoll_wait_for(struct reactor *r, int64_t timeout_ns)
{
    struct epoll_state *s = r->backend_state;
    struct epoll_event ev[EVENTS_PER_WAIT];
    struct timespec ts = {.tv_sec = timeout_ns / NS_PER_S, .tv_nsec = timeout_ns % NS_PER_S};
    int n = epoll_pwait2(s->fd, ev, EVENTS_PER_WAIT, timeout_ns < 0 ? NULL : &ts, NULL);
    if (n < 0 && errno == ENOSYS) { /* before Linux 5.11. Rounded up: no busy loop before a timer */
        int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + NS_PER_MS - 1) / NS_PER_MS;
        n = epoll_wait(s->fd, ev, EVENTS_PER_WAIT, ms > INT_MAX ? INT_MAX : (int)ms);
    }
    if (n < 0 && errno != EINTR)
        log_error("epoll_wait failed: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        if (ev[i].data.fd == r->event_fd)
            reactor_take_mail(r);
        else
            watch_event(r, ev[i].data.fd, ev[i].events);
    }
}

const struct io_backend epoll_backend = {
    .name = "threads",
    .init = epoll_init,
    .destroy = epoll_destroy,
    .submit = epoll_submit,
    .cancel = epoll_cancel,
    .wait = epoll_wait_for,
};
