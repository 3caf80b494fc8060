/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where the content of a view is: in its own scratch; else in that of the next newer view that has
 * it, as nothing was written between the two instants; else on the live disk, as nothing has been
 * written since.
 */
#include <string.h>

#include "base/bytes.h"
#include "filters/cbw_priv.h"

/* What holder itself says about [off, off + len): false, and for how long, if it has no copy. */
static bool holder_has(struct cbw_view *holder, uint64_t off, struct place *p)
{
    uint64_t unit = off >> holder->unit_shift, end;
    bool copied, zero;

    if (off >= holder->node->size)
        return false; /* the disk was shorter at that instant: it knows nothing */
    end = hbits_next(holder->copied, unit, &copied);
    if (copied) {
        uint64_t same = hbits_next(holder->zero, unit, &zero);

        end = min_u64(end, same);
        p->source = zero ? SOURCE_ZERO : SOURCE_SCRATCH;
        p->holder = holder;
    }
    end = end == hbits_size(holder->copied) ? holder->node->size : end << holder->unit_shift;
    p->len = min_u64(p->len, end - off);
    return copied;
}

struct place view_find(struct cbw_view *v, uint64_t off, uint64_t len)
{
    struct place p = {.source = SOURCE_LIVE, .len = len};

    for (struct cbw_view *w = v; w; w = w->newer)
        if (holder_has(w, off, &p))
            break;
    return p;
}

int view_read(struct cbw_view *v, uint64_t off, void *buf, uint64_t len)
{
    struct node *live = v->cbw->child[0];
    int ret = 0;

    while (len > 0 && ret == 0) {
        struct place p = view_find(v, off, len);

        if (p.source == SOURCE_ZERO)
            memset(buf, 0, p.len);
        else if (p.source == SOURCE_SCRATCH)
            ret = scratch_read(&p.holder->scratch, off, buf, p.len);
        else
            ret = node_read(live, off, buf, p.len);
        buf = (char *)buf + p.len;
        off += p.len;
        len -= p.len;
    }
    return ret;
}

uint64_t view_extent(struct cbw_view *v, uint64_t off, uint64_t len, uint32_t *flags)
{
    struct place p = view_find(v, off, len);
    struct extents ext;

    *flags = 0;
    if (p.source == SOURCE_ZERO)
        *flags = EXTENT_HOLE | EXTENT_ZERO;
    if (p.source != SOURCE_LIVE)
        return p.len;
    extents_init(&ext, 1);
    if (node_status(v->cbw->child[0], off, p.len, &ext) == 0 && ext.n > 0) {
        p.len = ext.v[0].len;
        *flags = ext.v[0].flags;
    }
    extents_free(&ext);
    return p.len;
}
