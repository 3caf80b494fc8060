/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A byte stream: a socket, an in-memory pipe (tests, simulated clock), TLS over either. Code above
 * never asks which. One coroutine may receive while another sends; never two of a kind at once.
 */
#ifndef IO_STREAM_H
#define IO_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct iovec;
struct stream;

struct stream_ops {
    ssize_t (*recv)(struct stream *s, void *buf, size_t len, bool whole, int64_t deadline_ns);
    int (*sendv)(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns);
    size_t (*unread)(struct stream *s);                           /* NULL: not known */
    void (*offer)(struct stream *s, const void *buf, size_t len); /* NULL: never */
    void (*rest)(struct stream *s); /* NULL: there is nothing to give back */
    void (*shutdown)(struct stream *s);
    void (*reset)(struct stream *s);                       /* NULL: as shutdown */
    void (*peer)(struct stream *s, char *buf, size_t len); /* NULL: nobody that has a name */
    void (*free)(struct stream *s);
};
struct stream {
    const struct stream_ops *ops;
};

/* stream_recv: 1..len bytes, 0 at the end, or -errno. Yields. */
ssize_t stream_recv(struct stream *s, void *buf, size_t len, int64_t deadline_ns);
/* stream_recv_whole: the same for a known rest of a message: tries to return only once len bytes
 * are there, which saves wake-ups; may still return less. Yields. */
ssize_t stream_recv_whole(struct stream *s, void *buf, size_t len, int64_t deadline_ns);
/* stream_recv_all: exactly len bytes; 0, -ECONNRESET at a premature end, or -errno. Yields. */
int stream_recv_all(struct stream *s, void *buf, size_t len, int64_t deadline_ns);
/* stream_sendv: all of iov (which it may modify), 0 or -errno. Yields. */
int stream_sendv(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns);
/* stream_unread: about how many bytes were sent that the peer has not taken yet; 0 if there is no
 * way to know (TCP tells what was acknowledged, not what was read). Does not yield. */
size_t stream_unread(struct stream *s);
/* stream_offer: send without waiting what fits, and forget the rest: for a last word before
 * stream_shutdown. No send may be pending. Does not yield. */
void stream_offer(struct stream *s, const void *buf, size_t len);
/* stream_rest: nothing was received or sent for a while: give memory back that may not be needed
 * soon. A receive may be pending. Does not yield. */
void stream_rest(struct stream *s);
/* stream_shutdown: both directions; a pending recv returns 0 or an error, a pending send fails.
 * Does not yield; may be called from another coroutine. */
void stream_shutdown(struct stream *s);
/* stream_reset: as stream_shutdown, but without a word of farewell where the transport has that. */
void stream_reset(struct stream *s);
/* stream_peer: "tcp:127.0.0.1:4711", "tcp:[::1]:4711", "unix:pid=12,uid=0", or "" into buf. Does
 * not yield. */
void stream_peer(struct stream *s, char *buf, size_t len);
/* stream_free: closes. No call may be pending. NULL is allowed. */
void stream_free(struct stream *s);

/* stream_from_fd: a connected stream socket; takes fd (closes it also on failure). Sets
 * TCP_NODELAY and keepalive where they apply. NULL without memory. */
struct stream *stream_from_fd(int fd);

/* stream_pipe: two ends of an in-memory connection, each direction bounded to capacity bytes.
 * Works on every reactor, also SIM. */
bool stream_pipe(size_t capacity, struct stream *ends[2]);

#endif
