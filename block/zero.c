/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing zeros: the driver's own way where it has one, else writes from a buffer of zeros.
 *
 * A range whose ends cover blocks only in part is three writes: the first block (read, modified,
 * written), the whole blocks, the last block; the order of events is blkdebug's.
 */
#include "block/submit_priv.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* Never written to: its pages all stay the kernel's one page of zeros. */
#define ZEROS_ALIGN 4096
static uint8_t zeros[NODE_ZEROS] __attribute__((aligned(ZEROS_ALIGN)));

const void *node_zeros(void)
{
    return zeros;
}

int node_write_zeros(struct node *n, uint64_t off, uint64_t len)
{
    int ret = 0;
    while (ret == 0 && len) {
        uint64_t now = min_u64(len, sizeof(zeros));
        ret = node_write(n, off, zeros, now, 0);
        off += now;
        len -= now;
    }
    return ret;
}

static int write_zeros(struct node *n, const struct req *r, uint64_t off, uint64_t len)
{
    struct req w = {.op = REQ_WRITE, .kind = r->kind};
    if (n->limits.align > sizeof(zeros) || n->limits.mem_align > ZEROS_ALIGN)
        return -ENOTSUP;
    while (len) {
        uint64_t now = min_u64(len, sizeof(zeros));
        int ret = transfer(n, &w, off, zeros, now, 0);
        if (ret < 0)
            return ret;
        off += now;
        len -= now;
    }
    return 0;
}

/* Whole blocks. Cut so that a piece is made of whole zero_align units or lies within one. *durable
 * is cleared if something was written that REQ_FUA does not cover. */
static int zero_pieces(struct node *n, const struct req *r, uint64_t off, uint64_t len,
                       bool *durable)
{
    uint64_t unit = max_u64(n->limits.zero_align, n->limits.align);
    while (len) {
        struct req part = {.op = REQ_ZERO, .flags = r->flags, .kind = r->kind, .off = off};
        part.len = len;
        if (off % unit)
            part.len = min_u64(len, unit - off % unit);
        else if (len > unit)
            part.len = len - len % unit;
        if (n->limits.max_zero)
            part.len = min_u64(part.len, n->limits.max_zero);
        if (part.len < len)
            *durable = false;
        if (!*durable)
            part.flags &= ~(uint32_t)REQ_FUA;

        int ret = driver_submit(n, &part);
        if (ret == -ENOTSUP && !(r->flags & REQ_NO_FALLBACK)) {
            *durable = false;
            ret = write_zeros(n, r, off, part.len);
        }
        if (ret < 0)
            return ret;
        off += part.len;
        len -= part.len;
    }
    return 0;
}

static int zero_blocks(struct node *n, const struct req *r, uint64_t off, uint64_t len)
{
    bool durable = has_native_fua(n, REQ_ZERO);
    announce(n, EV_PWRITEV_ZERO);
    int ret = zero_pieces(n, r, off, len, &durable);
    ret = write_finish(n, (r->flags & REQ_FUA) && !durable, ret);
    announce(n, EV_PWRITEV_DONE);
    return ret;
}

/* Write blocks that were read and modified; they are in a buffer that suits the driver. */
static int zero_write_back(struct node *n, const struct req *r, uint64_t off, void *buf,
                           uint64_t len)
{
    struct req w = {.op = REQ_WRITE, .kind = r->kind};
    announce(n, EV_PWRITEV);
    int ret = transfer(n, &w, off, buf, len, 0);
    ret = write_finish(n, r->flags & REQ_FUA, ret);
    announce(n, EV_PWRITEV_DONE);
    return ret;
}

static int zero_unaligned(struct node *n, const struct req *r, struct rmw *m)
{
    uint64_t align = n->limits.align;
    if (m->merged) {
        memset(m->buf + m->head, 0, r->len);
        return zero_write_back(n, r, m->start, m->buf, m->buf_len);
    }

    uint64_t start = m->start, stop = m->stop;
    int ret = 0;
    if (m->head) {
        memset(m->buf + m->head, 0, align - m->head);
        ret = zero_write_back(n, r, start, m->buf, align);
        start += align;
    }
    if (m->tail)
        stop -= align;
    if (ret == 0 && start < stop)
        ret = zero_blocks(n, r, start, stop - start);
    if (ret == 0 && m->tail) {
        memset(m->tail_block, 0, align - m->tail);
        ret = zero_write_back(n, r, stop, m->tail_block, align);
    }
    return ret;
}

int zero_op(struct node *n, const struct req *r)
{
    if (is_aligned(r->off | r->len, n->limits.align))
        return zero_blocks(n, r, r->off, r->len);
    struct rmw m;
    int ret = rmw_begin(n, r->off, r->len, &m);
    if (ret < 0)
        return ret;
    ret = zero_unaligned(n, r, &m);
    rmw_end(&m);
    return ret;
}
