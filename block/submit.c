/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The way into a node. node_submit is on the path of every request at every node of a chain, so
 * its common case (aligned, in range, nobody drains, nobody listens) is a handful of branches
 * around the driver's call: no allocation, no list, no lock. All else is in dispatch.c.
 */
#include "block/submit_priv.h"

#include <stddef.h>

#define unlikely(x) __builtin_expect(!!(x), 0)

/* is_plain: may r go to the driver just as it is? May say no to one that could. */
static inline bool is_plain(const struct node *n, const struct req *r)
{
    const struct limits *l = &n->limits;
    uint64_t end = r->off + r->len;

    if (unlikely(r->op > REQ_WRITE || r->len == 0 || end < r->off || end > n->size))
        return false;
    if (unlikely(n->track_reads))
        return false;
    if (unlikely(((r->off | r->len) & (l->align - 1)) | ((uintptr_t)r->buf & (l->mem_align - 1))))
        return false;
    /* max_len 0 (none) wraps to the largest number. */
    if (unlikely(r->len - 1 > l->max_len - 1))
        return false;
    if (r->op == REQ_READ)
        return true;
    /* With align > 1 a write must be seen by read-modify-write cycles. */
    return !n->read_only && l->align == 1 && !n->drv->event && !n->bitmaps && !n->detect_zeroes &&
           (!(r->flags & REQ_FUA) || has_native_fua(n, REQ_WRITE));
}

int node_submit(struct node *n, struct req *r)
{
    if (unlikely(n->drained || n->guards) && !(r->flags & REQ_INSIDE))
        n = gate_enter(n, r);
    n->in_flight++;
    int ret;
    if (is_plain(n, r)) {
        ret = driver_submit(n, r);
        n->write_gen += r->op; /* READ is 0 and WRITE 1 */
    } else {
        ret = submit_slow(n, r);
    }
    if (unlikely(--n->in_flight == 0 && n->drained))
        co_queue_wake_all(&n->idle_waiters);
    return ret;
}

_Static_assert(REQ_READ == 0 && REQ_WRITE == 1, "is_plain and write_gen count on it");

int node_read(struct node *n, uint64_t off, void *buf, uint64_t len)
{
    struct req r = {.op = REQ_READ, .off = off, .len = len, .buf = buf};
    return node_submit(n, &r);
}

int node_write_kind(struct node *n, uint64_t off, const void *buf, uint64_t len, uint32_t flags,
                    enum req_kind kind)
{
    struct req r = {
        .op = REQ_WRITE, .flags = flags, .kind = kind, .off = off, .len = len, .buf = (void *)buf};
    return node_submit(n, &r);
}

int node_write(struct node *n, uint64_t off, const void *buf, uint64_t len, uint32_t flags)
{
    return node_write_kind(n, off, buf, len, flags, KIND_DATA);
}

int node_zero(struct node *n, uint64_t off, uint64_t len, uint32_t flags)
{
    struct req r = {.op = REQ_ZERO, .flags = flags, .off = off, .len = len};
    return node_submit(n, &r);
}

int node_discard(struct node *n, uint64_t off, uint64_t len)
{
    struct req r = {.op = REQ_DISCARD, .off = off, .len = len};
    return node_submit(n, &r);
}

int node_flush(struct node *n)
{
    struct req r = {.op = REQ_FLUSH};
    return node_submit(n, &r);
}

int node_truncate(struct node *n, uint64_t size)
{
    struct req r = {.op = REQ_TRUNCATE, .off = size};
    return node_submit(n, &r);
}

int node_status(struct node *n, uint64_t off, uint64_t len, struct extents *ext)
{
    extents_clear(ext);
    struct req r = {.op = REQ_STATUS, .off = off, .len = len, .ext = ext};
    return node_submit(n, &r);
}

int node_depth(struct node *n, uint64_t off, uint64_t len, struct extents *ext)
{
    struct extents x;
    struct req r = {.op = REQ_STATUS, .flags = REQ_DEPTH, .off = off, .len = len, .ext = &x};

    extents_clear(ext);
    extents_init(&x, ext->max);
    int ret = node_submit(n, &r);
    for (size_t i = 0; i < x.n && ret >= 0; i++) {
        uint32_t flags = x.v[i].flags;
        ret = extents_add(ext, x.v[i].len, flags & EXTENT_NOWHERE ? 0 : 1 + flags / EXTENT_LEVEL);
    }
    extents_free(&x);
    return ret < 0 ? ret : 0;
}
