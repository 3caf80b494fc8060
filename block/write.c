/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writes and discards that are not plain.
 *
 * On a node with blocks (limits.align > 1) every write enters the node's overlap list: shared if it
 * consists of whole blocks, exclusive if it must read, modify and write. So no cycle can put back
 * bytes that another write has changed in the meantime. So does a write that wants its range alone.
 *
 * FUA that the driver lacks becomes one flush after the last piece. The flush counts the write
 * first, or it could be skipped as if there were nothing to flush.
 */
#include "block/submit_priv.h"

#include <errno.h>

#include "base/bytes.h"

int write_finish(struct node *n, bool need_flush, int ret)
{
    note_write(n);
    return ret == 0 && need_flush ? flush_node(n) : ret;
}

/* A WRITE, its range already entered in the overlap list if need be. */
static int data_write(struct node *n, const struct req *r)
{
    const struct limits *l = &n->limits;
    struct rmw m;
    int ret = rmw_begin(n, r->off, r->len, &m);
    if (ret < 0)
        return ret;

    /* In one piece the driver's own FUA is best; for several, one flush at the end. */
    bool fua = r->flags & REQ_FUA;
    bool fits = !m.buf && is_aligned((uintptr_t)r->buf, l->mem_align);
    bool one = fits && (l->max_len == 0 || r->len <= l->max_len);
    bool native = fua && one && has_native_fua(n, REQ_WRITE);
    uint32_t flags = native ? r->flags : r->flags & ~(uint32_t)REQ_FUA;

    announce(n, EV_PWRITEV);
    ret = fits ? transfer(n, r, r->off, r->buf, r->len, flags) : bounce_write(n, r, &m, flags);
    ret = write_finish(n, fua && !native, ret);
    announce(n, EV_PWRITEV_DONE);
    rmw_end(&m);
    return ret;
}

int write_op(struct node *n, const struct req *asked)
{
    uint64_t align = n->limits.align;
    bool alone = asked->flags & REQ_ALONE;
    struct req in = *asked;
    const struct req *r = &in;

    in.flags &= ~(uint32_t)REQ_ALONE;
    if (align == 1 && !alone)
        return r->op == REQ_ZERO ? zero_op(n, r) : data_write(n, r);

    bool whole = is_aligned(r->off | r->len, align);
    if (!whole && r->op == REQ_ZERO && (r->flags & REQ_NO_FALLBACK))
        return -ENOTSUP;
    struct overlap o;
    uint64_t start = round_down(r->off, align);
    overlap_begin(&n->overlaps, &o, start, round_up(r->off + r->len, align) - start,
                  !whole || alone);
    int ret = r->op == REQ_ZERO ? zero_op(n, r) : data_write(n, r);
    overlap_end(&n->overlaps, &o);
    return ret;
}

/* Cut [off, stop) so that each piece is made of whole units or lies within one: a driver that can
 * only discard units then sees them. */
static int discard_pieces(struct node *n, uint64_t off, uint64_t stop)
{
    uint64_t unit = max_u64(n->limits.discard_align, n->limits.align);
    while (off < stop) {
        uint64_t len = stop - off;
        if (off % unit)
            len = min_u64(len, unit - off % unit);
        else if (len > unit)
            len -= len % unit;
        if (n->limits.max_discard)
            len = min_u64(len, n->limits.max_discard);
        struct req part = {.op = REQ_DISCARD, .off = off, .len = len};
        int ret = driver_submit(n, &part);
        if (ret < 0 && ret != -ENOTSUP)
            return ret;
        off += len;
    }
    return 0;
}

int discard_op(struct node *n, const struct req *r)
{
    /* Advisory: blocks that are not covered whole, or lie past the end, are left out. */
    uint64_t align = n->limits.align;
    uint64_t end = min_u64(r->off + r->len, n->size);
    uint64_t start = round_up(r->off, align);
    uint64_t stop = end == n->size ? round_up(end, align) : round_down(end, align);
    if (start >= stop)
        return 0;

    struct overlap o;
    if (align > 1)
        overlap_begin(&n->overlaps, &o, start, stop - start, false);
    int ret = discard_pieces(n, start, stop);
    ret = write_finish(n, r->flags & REQ_FUA, ret);
    if (align > 1)
        overlap_end(&n->overlaps, &o);
    return ret;
}
