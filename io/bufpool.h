/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A bounded pool of page-aligned buffers: what a server may hold in flight.
 *
 * Buffers come in power-of-two size classes and are reused last-in first-out, so that hot ones stay
 * in the CPU's cache. At the limit, takers wait their turn. Idle buffers above a small reserve
 * are given back to the system once they were not needed for a second.
 */
#ifndef IO_BUFPOOL_H
#define IO_BUFPOOL_H

#include <stdbool.h>
#include <stddef.h>

struct bufpool;

/* bufpool_new: limit_bytes: the most that may be out at once. Bound to this thread's
 * reactor. NULL without memory. */
struct bufpool *bufpool_new(size_t limit_bytes);
/* bufpool_free: all buffers must be back. NULL is allowed. */
void bufpool_free(struct bufpool *p);
/* bufpool_get: a buffer of at least len bytes (uninitialised), aligned to 4096. Yields while the
 * limit is reached; a request larger than the limit is served alone. NULL only without memory. */
void *bufpool_get(struct bufpool *p, size_t len);
/* bufpool_would_wait: would bufpool_get of len bytes have to wait now? */
bool bufpool_would_wait(const struct bufpool *p, size_t len);
/* bufpool_put: give back; len as given to bufpool_get. Wakes waiters. */
void bufpool_put(struct bufpool *p, void *buf, size_t len);
/* bufpool_in_use: bytes that are out now. bufpool_idle: bytes kept for reuse. */
size_t bufpool_in_use(const struct bufpool *p);
size_t bufpool_idle(const struct bufpool *p);

#endif
