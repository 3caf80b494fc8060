/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cutting a range into pieces to be copied, zeroed or left alone.
 *
 * The source is mapped as it likes; the target has units (clusters) which are written whole. A unit
 * that lies in one extent has that extent's kind; one that several extents share is data unless all
 * of them agree: what the source reads there is right in any case.
 */
#include <errno.h>

#include "base/bytes.h"
#include "block/copy_priv.h"

#define STATUS_EXTENTS 256
/* Asked for at a time: a map may cost reads of metadata. */
#define STATUS_SPAN (UINT64_C(1) << 30)

void copy_map_init(struct copy_map *m, const struct copy_opts *o)
{
    *m = (struct copy_map){.o = o, .pos = o->off, .end = o->off + o->len};
    extents_init(&m->ext, STATUS_EXTENTS);
}

void copy_map_free(struct copy_map *m)
{
    extents_free(&m->ext);
}

static int map_by_status(struct copy_map *m, uint64_t off, uint64_t len, uint64_t *got,
                         enum copy_kind *kind)
{
    if (m->cursor >= m->ext.n) {
        int r = node_status(m->o->src, off, min_u64(len, STATUS_SPAN), &m->ext);
        if (r < 0)
            return r;
        m->cursor = 0;
        if (m->ext.n == 0)
            return -EIO;
    }
    const struct extent *x = &m->ext.v[m->cursor++];
    *got = x->len;
    *kind = x->flags & EXTENT_ZERO ? COPY_ZERO : COPY_DATA;
    return 0;
}

/* The extent after the last one; off is where it begins. */
static int map_more(struct copy_map *m, uint64_t off)
{
    const struct copy_ops *ops = m->o->ops;
    uint64_t got = 0, len = m->end - off;
    int r = ops && ops->map ? ops->map(m->o->arg, off, len, &got, &m->x_kind)
                            : map_by_status(m, off, len, &got, &m->x_kind);
    if (r < 0)
        return r;
    if (got == 0)
        return -EIO;
    m->x_start = off;
    m->x_end = off + min_u64(got, len);
    if (m->x_kind == COPY_ZERO && !m->o->zero_unit)
        m->x_kind = COPY_DATA;
    return 0;
}

/* The kind of the unit at `at`, and how far units of one extent reach. */
static int map_units(struct copy_map *m, uint64_t at, struct copy_piece *p)
{
    uint64_t unit_end = min_u64(at + m->o->unit, m->end);
    int r = at >= m->x_end ? map_more(m, at) : 0;
    if (r < 0)
        return r;
    p->off = at;
    p->kind = m->x_kind;
    if (m->x_end >= unit_end) {
        uint64_t end = m->x_end == m->end ? m->end : round_down(m->x_end, m->o->unit);
        p->len = end - at;
        return 0;
    }
    while (m->x_end < unit_end) {
        r = map_more(m, m->x_end);
        if (r < 0)
            return r;
        if (m->x_kind != p->kind)
            p->kind = COPY_DATA;
    }
    p->len = unit_end - at;
    return 0;
}

int copy_map_next(struct copy_map *m, uint64_t max, struct copy_piece *p)
{
    struct copy_piece got;
    *p = (struct copy_piece){.off = m->pos};
    while (m->pos < m->end) {
        if (!m->peeked) {
            int r = map_units(m, m->pos, &m->peek);
            if (r < 0)
                return r;
            m->peeked = true;
        }
        got = m->peek;
        if (p->len && got.kind != p->kind)
            break;
        /* Data ends at a multiple of max, so that the next piece is aligned, too. */
        uint64_t stop = got.kind == COPY_DATA ? round_down(p->off, max) + max : m->end;
        if (got.off >= stop)
            break;
        uint64_t n = min_u64(got.len, stop - got.off);
        p->kind = got.kind;
        p->len += n;
        m->pos += n;
        m->peek.off += n;
        m->peek.len -= n;
        m->peeked = m->peek.len > 0;
        if (p->kind != COPY_DATA) /* a long map of holes: let others go on meanwhile */
            break;
    }
    return 0;
}
