/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Buffers in between, for requests that the driver cannot take as they are: ranges that are no
 * multiple of its block, memory that direct I/O cannot use. Bounded: long transfers go through one
 * buffer of BOUNCE_MAX piece by piece.
 *
 * A write that covers its first or last block only in part must first read that block (and hold an
 * exclusive range over it: write.c). If that read fails the write fails, or it would destroy the
 * neighbours of what it was given.
 */
#include "block/submit_priv.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

static void *bounce_alloc(const struct node *n, uint64_t len)
{
    return mem_alloc_aligned(len, max_u64(n->limits.mem_align, sizeof(void *)));
}

/* bounce_size: of the buffer for a transfer of len bytes, a multiple of align. */
static uint64_t bounce_size(const struct node *n, uint64_t len)
{
    uint64_t size = min_u64(len, max_u64(BOUNCE_MAX, n->limits.align));
    if (n->limits.max_len)
        size = min_u64(size, round_down(n->limits.max_len, n->limits.align));
    return size;
}

int bounce_read(struct node *n, const struct req *r)
{
    uint64_t end = r->off + r->len;
    uint64_t pos = round_down(r->off, n->limits.align);
    uint64_t stop = round_up(end, n->limits.align);
    uint64_t size = bounce_size(n, stop - pos);
    uint8_t *buf = bounce_alloc(n, size);
    int ret = buf ? 0 : -ENOMEM;

    while (ret == 0 && pos < stop) {
        uint64_t len = min_u64(size, stop - pos);
        ret = transfer(n, r, pos, buf, len, r->flags);
        if (ret == 0) {
            uint64_t from = max_u64(pos, r->off);
            uint64_t to = min_u64(pos + len, end);
            memcpy((uint8_t *)r->buf + (from - r->off), buf + (from - pos), to - from);
            pos += len;
        }
    }
    mem_free(buf);
    return ret;
}

static int rmw_read(struct node *n, uint64_t off, void *buf, uint64_t len)
{
    struct req r = {.op = REQ_READ, .off = off, .len = len, .buf = buf};
    return transfer(n, &r, off, buf, len, 0);
}

/* Head and tail lie in one read: blkdebug's order is head, tail, after_head, after_tail. */
static int rmw_read_merged(struct node *n, struct rmw *m)
{
    if (m->head)
        announce(n, EV_PWRITEV_RMW_HEAD);
    if (m->tail)
        announce(n, EV_PWRITEV_RMW_TAIL);
    int ret = rmw_read(n, m->start, m->buf, m->buf_len);
    if (ret < 0)
        return ret;
    if (m->head)
        announce(n, EV_PWRITEV_RMW_AFTER_HEAD);
    if (m->tail)
        announce(n, EV_PWRITEV_RMW_AFTER_TAIL);
    return 0;
}

static int rmw_read_ends(struct node *n, struct rmw *m)
{
    uint32_t align = n->limits.align;
    int ret = 0;
    if (m->head) {
        announce(n, EV_PWRITEV_RMW_HEAD);
        ret = rmw_read(n, m->start, m->buf, align);
        if (ret < 0)
            return ret;
        announce(n, EV_PWRITEV_RMW_AFTER_HEAD);
    }
    if (m->tail) {
        announce(n, EV_PWRITEV_RMW_TAIL);
        ret = rmw_read(n, m->stop - align, m->tail_block, align);
        if (ret < 0)
            return ret;
        announce(n, EV_PWRITEV_RMW_AFTER_TAIL);
    }
    return ret;
}

int rmw_begin(struct node *n, uint64_t off, uint64_t len, struct rmw *m)
{
    uint32_t align = n->limits.align;
    *m = (struct rmw){.start = round_down(off, align), .stop = round_up(off + len, align)};
    m->head = off - m->start;
    m->tail = m->stop - (off + len);
    if (!m->head && !m->tail)
        return 0;

    uint64_t whole = m->stop - m->start;
    m->buf_len = m->head && m->tail && whole > align ? 2 * (uint64_t)align : align;
    m->merged = whole == m->buf_len;
    m->buf = bounce_alloc(n, m->buf_len);
    if (!m->buf)
        return -ENOMEM;
    m->tail_block = m->buf + m->buf_len - align;
    int ret = m->merged ? rmw_read_merged(n, m) : rmw_read_ends(n, m);
    if (ret < 0)
        rmw_end(m);
    return ret;
}

void rmw_end(struct rmw *m)
{
    mem_free(m->buf);
    m->buf = NULL;
}

/* Copy what belongs at [pos, pos + len) of the widened range to dst. */
static void assemble(const struct req *r, const struct rmw *m, uint32_t align, uint8_t *dst,
                     uint64_t pos, uint64_t len)
{
    uint64_t end = pos + len;
    if (pos < r->off) {
        uint64_t n = min_u64(end, r->off) - pos;
        memcpy(dst, m->buf + (pos - m->start), n);
    }
    uint64_t from = max_u64(pos, r->off);
    uint64_t to = min_u64(end, r->off + r->len);
    if (from < to)
        memcpy(dst + (from - pos), (const uint8_t *)r->buf + (from - r->off), to - from);
    from = max_u64(pos, r->off + r->len);
    if (from < end)
        memcpy(dst + (from - pos), m->tail_block + (from - (m->stop - align)), end - from);
}

int bounce_write(struct node *n, const struct req *r, const struct rmw *m, uint32_t flags)
{
    uint64_t size = bounce_size(n, m->stop - m->start);
    uint8_t *buf = bounce_alloc(n, size);
    int ret = buf ? 0 : -ENOMEM;
    struct req w = {.op = REQ_WRITE, .kind = r->kind};

    for (uint64_t pos = m->start; ret == 0 && pos < m->stop; pos += size) {
        uint64_t len = min_u64(size, m->stop - pos);
        assemble(r, m, n->limits.align, buf, pos, len);
        ret = transfer(n, &w, pos, buf, len, flags);
    }
    mem_free(buf);
    return ret;
}
