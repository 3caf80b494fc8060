/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests that are not plain: check the range, then go by operation. The rules for what a driver
 * gets to see are in node.h at node_submit.
 */
#include "block/submit_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* The range is legal and may go to the driver; or the answer is known. */
static int check_range(struct node *n, const struct req *r, bool writes)
{
    uint64_t end;
    if (__builtin_add_overflow(r->off, r->len, &end) || end > INT64_MAX)
        return -EINVAL;
    /* A filter's size may be stale: another parent of its child can have grown it. */
    if (end > n->size && n->drv->is_filter)
        n->size = n->child[0]->size;
    if (end > n->size && !n->growable)
        return writes ? -ENOSPC : -EINVAL;
    return 0;
}

/* in_node: how much of [off, off + len) lies in the node's own blocks. More only if it can grow. */
static uint64_t in_node(const struct node *n, uint64_t off, uint64_t len)
{
    uint64_t size = round_up(n->size, n->limits.align);
    return off >= size ? 0 : min_u64(len, size - off);
}

int transfer(struct node *n, const struct req *r, uint64_t off, void *buf, uint64_t len,
             uint32_t flags)
{
    uint64_t max = round_down(n->limits.max_len ? n->limits.max_len : INT64_MAX, n->limits.align);
    assert(max > 0);
    while (len) {
        struct req part = {.op = r->op,
                           .flags = flags,
                           .kind = r->kind,
                           .off = off,
                           .len = min_u64(len, max),
                           .buf = buf};
        int ret = driver_submit(n, &part);
        if (ret < 0)
            return ret;
        off += part.len;
        buf = (char *)buf + part.len;
        len -= part.len;
    }
    return 0;
}

static int read_op(struct node *n, const struct req *r)
{
    struct req in = *r;
    in.len = in_node(n, r->off, r->len);
    if (in.len < r->len)
        memset((char *)r->buf + in.len, 0, r->len - in.len);
    if (in.len == 0)
        return 0;
    bool fits = is_aligned(in.off | in.len, n->limits.align) &&
                is_aligned((uintptr_t)in.buf, n->limits.mem_align);
    return fits ? transfer(n, &in, in.off, in.buf, in.len, in.flags) : bounce_read(n, &in);
}

/* While it reads, no write that wants the range alone begins: a read of an overlay may be on its
 * way to the backing image. */
static int tracked_read(struct node *n, const struct req *r)
{
    struct overlap o;

    overlap_begin(&n->overlaps, &o, r->off, r->len, false);
    int ret = read_op(n, r);
    overlap_end(&n->overlaps, &o);
    return ret;
}

static int status_op(struct node *n, const struct req *r)
{
    struct req in = *r;
    uint64_t before = r->ext->total;
    int ret = 0;

    if (r->len == 0)
        return -EINVAL;
    in.len = r->off >= n->size ? 0 : min_u64(r->len, n->size - r->off);
    if (in.len) {
        ret = driver_submit(n, &in);
        if (ret == -ENOTSUP)
            ret = extents_add(r->ext, in.len, 0);
        if (ret < 0)
            return ret;
        extents_trim(r->ext, before + in.len);
    }
    /* Past the end of a growable node there is a hole, told of once the rest has been. */
    if (r->ext->total == before + in.len)
        ret = extents_add(r->ext, r->len - in.len, EXTENT_HOLE | EXTENT_ZERO);
    return ret < 0 ? ret : 0;
}

static int cache_op(struct node *n, const struct req *r)
{
    struct req in = *r;
    in.len = r->off >= n->size ? 0 : min_u64(r->len, n->size - r->off);
    int ret = in.len ? driver_submit(n, &in) : 0;
    return ret == -ENOTSUP ? 0 : ret;
}

static int truncate_op(struct node *n, struct req *r)
{
    int ret = 0;

    if (r->off > INT64_MAX)
        return -EFBIG;
    if (n->bitmaps)
        ret = bitmaps_may_resize(n, r->off);
    if (ret < 0)
        return ret;
    ret = driver_submit(n, r);
    note_write(n);
    if (n->bitmaps)
        bitmaps_follow(n);
    return ret;
}

/* What the node's owner wants of zeros and of space that is not needed. */
static void apply_wishes(const struct node *n, struct req *r)
{
    if (n->detect_zeroes && r->op == REQ_WRITE && !(r->flags & (REQ_COMPRESSED | REQ_KEEP)) &&
        bytes_are_zero(r->buf, r->len)) {
        r->op = REQ_ZERO;
        if (n->detect_zeroes == DETECT_ZEROES_UNMAP)
            r->flags |= REQ_MAY_UNMAP;
    }
    if (n->ignore_discard && r->op == REQ_ZERO)
        r->flags &= ~(uint32_t)REQ_MAY_UNMAP;
}

/* A WRITE, ZERO or DISCARD. Marking comes after the driver returned, so that a freeze in between
 * cannot file the change under a point in time that does not hold it; and it comes also when the
 * driver failed, since a failed write may have changed the disk. */
static int change_op(struct node *n, const struct req *asked)
{
    struct req wish = *asked;
    const struct req *r = &wish;
    int ret = 0;

    if (n->ignore_discard && r->op == REQ_DISCARD)
        return 0;
    apply_wishes(n, &wish);
    bool marks = !(r->flags & REQ_KEEP);
    if (n->bitmaps && marks)
        ret = bitmaps_reach(n, r->off + r->len);
    if (ret < 0)
        return ret;
    ret = r->op == REQ_DISCARD ? discard_op(n, r) : write_op(n, r);
    if (n->bitmaps && marks) /* they may have gone meanwhile */
        bitmaps_mark(n, r->off, r->len);
    return ret;
}

int submit_slow(struct node *n, struct req *r)
{
    assert((unsigned)r->op < REQ_OP_COUNT);
    bool writes = r->op == REQ_WRITE || r->op == REQ_ZERO;
    bool changes = writes || r->op == REQ_DISCARD || r->op == REQ_TRUNCATE;

    if (changes && n->read_only)
        return -EPERM;
    if (r->op == REQ_FLUSH)
        return flush_node(n);
    if (r->op == REQ_TRUNCATE)
        return truncate_op(n, r);

    int ret = check_range(n, r, writes);
    if (ret < 0)
        return ret;
    switch (r->op) {
    case REQ_STATUS:
        return status_op(n, r);
    case REQ_READ:
        return n->track_reads ? tracked_read(n, r) : read_op(n, r);
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        return r->len ? change_op(n, r) : 0;
    default:
        return cache_op(n, r);
    }
}
