/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Streams: the socket, and an in-memory pipe of two rings that works on a simulated clock.
 */
#include "io/stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "io/io.h"
#include "io/lock.h"
#include "io/reactor.h"

ssize_t stream_recv(struct stream *s, void *buf, size_t len, int64_t deadline_ns)
{
    return s->ops->recv(s, buf, len, false, deadline_ns);
}

ssize_t stream_recv_whole(struct stream *s, void *buf, size_t len, int64_t deadline_ns)
{
    return s->ops->recv(s, buf, len, true, deadline_ns);
}

int stream_recv_all(struct stream *s, void *buf, size_t len, int64_t deadline_ns)
{
    char *p = buf;
    while (len > 0) {
        ssize_t n = s->ops->recv(s, p, len, true, deadline_ns);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -ECONNRESET;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int stream_sendv(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns)
{
    return s->ops->sendv(s, iov, iov_len, deadline_ns);
}

size_t stream_unread(struct stream *s)
{
    return s->ops->unread ? s->ops->unread(s) : 0;
}

void stream_reset(struct stream *s)
{
    if (s->ops->reset)
        s->ops->reset(s);
    else
        stream_shutdown(s);
}

void stream_peer(struct stream *s, char *buf, size_t len)
{
    buf[0] = 0;
    if (s->ops->peer)
        s->ops->peer(s, buf, len);
}

void stream_offer(struct stream *s, const void *buf, size_t len)
{
    if (s->ops->offer)
        s->ops->offer(s, buf, len);
}

void stream_rest(struct stream *s)
{
    if (s->ops->rest)
        s->ops->rest(s);
}

void stream_shutdown(struct stream *s)
{
    s->ops->shutdown(s);
}

void stream_free(struct stream *s)
{
    if (s)
        s->ops->free(s);
}

/* --- Sockets. --- */

struct socket_stream {
    struct stream stream;
    int fd;
    bool is_unix;
};

static ssize_t socket_recv(struct stream *s, void *buf, size_t len, bool whole, int64_t deadline_ns)
{
    int fd = ((struct socket_stream *)s)->fd;
    return whole ? io_recv_whole(fd, buf, len, deadline_ns) : io_recv(fd, buf, len, deadline_ns);
}

static int socket_sendv(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns)
{
    return io_sendv(((struct socket_stream *)s)->fd, iov, iov_len, deadline_ns);
}

static size_t socket_unread(struct stream *s)
{
    const struct socket_stream *ss = (struct socket_stream *)s;
    int bytes = 0;
    if (!ss->is_unix || ioctl(ss->fd, SIOCOUTQ, &bytes) != 0 || bytes < 0)
        return 0;
    return (size_t)bytes;
}

static void socket_offer(struct stream *s, const void *buf, size_t len)
{
    ssize_t n = send(((struct socket_stream *)s)->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)n; /* it was an offer */
}

static void socket_shutdown(struct stream *s)
{
    int fd = ((struct socket_stream *)s)->fd;
    shutdown(fd, SHUT_RDWR);
    io_cancel_fd(fd);
}

/* A TCP socket that is dissolved says so by a reset; others have nothing like it. */
static void socket_reset(struct stream *s)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    const struct socket_stream *ss = (struct socket_stream *)s;

    if (!ss->is_unix)
        (void)!connect(ss->fd, &none, sizeof(none));
    socket_shutdown(s);
}

static void socket_peer(struct stream *s, char *buf, size_t len)
{
    int fd = ((struct socket_stream *)s)->fd;
    struct sockaddr_storage a;
    socklen_t n = sizeof(a);
    struct ucred who;
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getpeername(fd, (struct sockaddr *)&a, &n) != 0)
        return;
    if (a.ss_family == AF_UNIX) {
        n = sizeof(who);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0)
            snprintf(buf, len, "unix:pid=%d,uid=%u", (int)who.pid, (unsigned)who.uid);
    } else if (getnameinfo((struct sockaddr *)&a, n, host, sizeof(host), port, sizeof(port),
                           NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(buf, len, a.ss_family == AF_INET6 ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
    }
}

static void socket_free(struct stream *s)
{
    close(((struct socket_stream *)s)->fd);
    mem_free(s);
}

static const struct stream_ops socket_ops = {
    .recv = socket_recv,
    .sendv = socket_sendv,
    .unread = socket_unread,
    .offer = socket_offer,
    .shutdown = socket_shutdown,
    .free = socket_free,
    .reset = socket_reset,
    .peer = socket_peer,
};

/* On a Unix socket, what fits into the send buffer is all that a send can hand over before it must
 * wait for the peer; the default holds a fifth of a 1 MiB reply. (TCP sizes its own.) */
#define UNIX_SEND_BUFFER (1 << 20)

static bool fd_is_unix(int fd)
{
    int domain = 0;
    socklen_t len = sizeof(domain);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

static void widen_unix_buffer(int fd)
{
    int bytes = UNIX_SEND_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)); /* up to wmem_max */
}

struct stream *stream_from_fd(int fd)
{
    struct socket_stream *s = mem_new(struct socket_stream);
    if (!s) {
        close(fd);
        return NULL;
    }
    s->stream.ops = &socket_ops;
    s->fd = fd;
    s->is_unix = fd_is_unix(fd);
    if (s->is_unix)
        widen_unix_buffer(fd);
    int on = 1; /* both fail harmlessly on Unix sockets */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    return &s->stream;
}

/* --- The in-memory pipe. --- */

struct ring { /* one direction */
    char *data;
    size_t cap, head, used;
    bool closed; /* no more will come, nobody will read */
    struct co_queue readers, writers;
};

struct pipe_shared {
    struct ring ring[2];
    int refs;
};

struct pipe_stream {
    struct stream stream;
    struct pipe_shared *shared;
    struct ring *in, *out;
};

/* ring_wait: wait on q, but not past the deadline. The timer wakes the whole queue; whoever finds
 * nothing changed and the deadline passed gives up. */
struct ring_alarm {
    struct co_queue *q;
};

static void ring_alarm_fire(void *arg)
{
    co_queue_wake_all(((struct ring_alarm *)arg)->q);
}

static int ring_wait(struct co_queue *q, int64_t deadline_ns)
{
    if (deadline_ns != IO_NO_DEADLINE && clock_ns() >= deadline_ns)
        return -ETIMEDOUT;
    struct ring_alarm alarm = {q};
    struct timer t = {0};
    if (deadline_ns != IO_NO_DEADLINE && !timer_set(&t, deadline_ns, ring_alarm_fire, &alarm))
        return -ENOMEM;
    co_queue_wait(q);
    timer_cancel(&t);
    return 0;
}

static ssize_t pipe_recv(struct stream *s, void *buf, size_t len, bool whole, int64_t deadline_ns)
{
    struct ring *in = ((struct pipe_stream *)s)->in;
    while (in->used == 0) {
        if (in->closed || len == 0)
            return 0;
        int err = ring_wait(&in->readers, deadline_ns);
        if (err)
            return err;
    }
    size_t n = (size_t)min_u64(len, in->used);
    size_t first = (size_t)min_u64(n, in->cap - in->head);
    memcpy(buf, in->data + in->head, first);
    memcpy((char *)buf + first, in->data, n - first);
    in->head = (in->head + n) % in->cap;
    in->used -= n;
    co_queue_wake_all(&in->writers);
    return (ssize_t)n;
}

static int ring_send(struct ring *out, const char *p, size_t len, int64_t deadline_ns)
{
    while (len > 0) {
        if (out->closed)
            return -EPIPE;
        size_t room = out->cap - out->used;
        if (room == 0) {
            int err = ring_wait(&out->writers, deadline_ns);
            if (err)
                return err;
            continue;
        }
        size_t at = (out->head + out->used) % out->cap;
        size_t n = (size_t)min_u64(min_u64(len, room), out->cap - at);
        memcpy(out->data + at, p, n);
        out->used += n;
        p += n;
        len -= n;
        co_queue_wake_all(&out->readers);
    }
    return 0;
}

static int pipe_sendv(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns)
{
    struct ring *out = ((struct pipe_stream *)s)->out;
    for (int i = 0; i < iov_len; i++) {
        int err = ring_send(out, iov[i].iov_base, iov[i].iov_len, deadline_ns);
        if (err)
            return err;
    }
    return 0;
}

static void pipe_offer(struct stream *s, const void *buf, size_t len)
{
    struct ring *out = ((struct pipe_stream *)s)->out;

    ring_send(out, buf, (size_t)min_u64(len, out->cap - out->used), IO_NO_DEADLINE);
}

static size_t pipe_unread(struct stream *s)
{
    return ((struct pipe_stream *)s)->out->used;
}

static void ring_close(struct ring *ring)
{
    ring->closed = true;
    co_queue_wake_all(&ring->readers);
    co_queue_wake_all(&ring->writers);
}

static void pipe_shutdown(struct stream *s)
{
    ring_close(((struct pipe_stream *)s)->in);
    ring_close(((struct pipe_stream *)s)->out);
}

static void pipe_shared_unref(struct pipe_shared *shared)
{
    if (--shared->refs > 0)
        return;
    mem_free(shared->ring[0].data);
    mem_free(shared->ring[1].data);
    mem_free(shared);
}

static void pipe_free(struct stream *s)
{
    pipe_shutdown(s);
    pipe_shared_unref(((struct pipe_stream *)s)->shared);
    mem_free(s);
}

static const struct stream_ops pipe_ops = {
    .recv = pipe_recv,
    .sendv = pipe_sendv,
    .unread = pipe_unread,
    .offer = pipe_offer,
    .shutdown = pipe_shutdown,
    .free = pipe_free,
};

bool stream_pipe(size_t capacity, struct stream *ends[2])
{
    struct pipe_shared *shared = mem_new(struct pipe_shared);
    struct pipe_stream *end[2] = {mem_new(struct pipe_stream), mem_new(struct pipe_stream)};
    if (!shared || !end[0] || !end[1])
        goto fail;
    for (int i = 0; i < 2; i++) {
        shared->ring[i].cap = capacity;
        shared->ring[i].data = mem_alloc(capacity);
        if (!shared->ring[i].data)
            goto fail;
        end[i]->stream.ops = &pipe_ops;
        end[i]->shared = shared;
        end[i]->in = &shared->ring[i];
        end[i]->out = &shared->ring[1 - i];
    }
    shared->refs = 2;
    ends[0] = &end[0]->stream;
    ends[1] = &end[1]->stream;
    return true;
fail:
    if (shared) {
        mem_free(shared->ring[0].data);
        mem_free(shared->ring[1].data);
    }
    mem_free(shared);
    mem_free(end[0]);
    mem_free(end[1]);
    return false;
}
