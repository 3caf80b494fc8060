/* SPDX-License-Identifier: BSD-3-Clause
 *
 * I/O calls for coroutines: each yields until the work is done and returns a result >= 0 or -errno.
 * Calls of one pass are submitted as one batch. Not available under REACTOR_SIM (-ENOSYS).
 *
 * deadline_ns: on the reactor's clock; IO_NO_DEADLINE for none; past it: -ETIMEDOUT.
 */
#ifndef IO_IO_H
#define IO_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define IO_NO_DEADLINE INT64_MAX

struct iovec;

/* File I/O. Transfers may be short, as pread and pwrite. Signals are retried inside. */
ssize_t io_pread(int fd, void *buf, size_t len, uint64_t file_off);
ssize_t io_pwrite(int fd, const void *buf, size_t len, uint64_t file_off);
int io_fdatasync(int fd);
/* io_fallocate: mode as fallocate(2). */
int io_fallocate(int fd, int mode, uint64_t file_off, uint64_t len);

/* Sockets (non-blocking or not). io_recv returns 0 at the end of the stream. io_sendv sends all of
 * the vector (which it may modify) or fails. Neither raises SIGPIPE. */
ssize_t io_recv(int fd, void *buf, size_t len, int64_t deadline_ns);
/* io_recv_whole: as io_recv, but with fewer wake-ups where much is on its way: it tries to return
 * only once len bytes are there. It may still return less. */
ssize_t io_recv_whole(int fd, void *buf, size_t len, int64_t deadline_ns);
int io_sendv(int fd, struct iovec *iov, int iov_len, int64_t deadline_ns);
/* io_accept: a new close-on-exec descriptor, or -errno. */
int io_accept(int fd, int64_t deadline_ns);
/* io_poll: wait for poll(2) events; returns those that are set. */
int io_poll(int fd, short events, int64_t deadline_ns);

/* io_cancel_fd: every call that now waits on fd returns -ECANCELED (file transfers that already
 * run may still end normally). Called from any coroutine or hook of the same reactor. */
void io_cancel_fd(int fd);

/* io_offload: run fn(arg) on a worker thread and return its result. Yields. fn must not touch
 * anything that belongs to the reactor. */
int io_offload(int (*fn)(void *arg), void *arg);

#endif
