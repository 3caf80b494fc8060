/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A bitmap's point in time: freeze, then abdicate or reclaim; and merging.
 *
 * While a bitmap is frozen its bits do not change and an anonymous successor records what is
 * written. If the backup that reads the frozen bits succeeds they have served and the successor's
 * become the bitmap's own (abdicate); if it fails the next one needs both (reclaim). So no outcome
 * loses a change.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "bitmap/bitmap_priv.h"

bool bitmap_freeze(struct bitmap *b, struct err **errp)
{
    if (!bitmap_check_idle(b, errp))
        return false;
    assert(!b->successor);
    b->successor = bitmap_new(NULL, b->size, b->granularity);
    if (!b->successor)
        return err_set(errp, ENOMEM, "No memory to freeze bitmap '%s'", b->name ? b->name : "");
    b->successor->enabled = b->enabled;
    b->enabled = false;
    b->busy++;
    return true;
}

/* Take the successor off, with what both ways to thaw have in common. */
static struct bitmap *thaw(struct bitmap *b)
{
    struct bitmap *s = b->successor;

    assert(s && b->busy > 0);
    b->successor = NULL;
    b->enabled = s->enabled;
    b->busy--;
    return s;
}

void bitmap_abdicate(struct bitmap *b)
{
    struct bitmap *s = thaw(b);
    struct hbits *served = b->bits;

    b->bits = s->bits;
    b->all_dirty = s->all_dirty;
    s->bits = served;
    bitmap_free(s);
}

void bitmap_reclaim(struct bitmap *b)
{
    struct bitmap *s = thaw(b);

    b->all_dirty = b->all_dirty || s->all_dirty;
    if (hbits_or(b->bits, s->bits) < 0)
        bitmap_give_up(b);
    bitmap_free(s);
}

/* OR src into dst, whose granularity differs. */
static int merge_runs(struct hbits *dst_bits, const struct bitmap *dst, const struct bitmap *src)
{
    uint64_t off = 0;
    int ret = 0;

    while (off < src->size && ret == 0) {
        bool dirty;
        uint64_t end = bitmap_next(src, off, &dirty);

        if (dirty) {
            uint64_t first = off / dst->granularity;
            uint64_t last = (end - 1) / dst->granularity;

            ret = hbits_set(dst_bits, first, last - first + 1);
        }
        off = end;
    }
    return ret;
}

bool bitmap_merge(struct bitmap *dst, const struct bitmap *src, struct err **errp)
{
    struct hbits *joined;
    int ret;

    if (!bitmap_check_writable(dst, errp) || !bitmap_check_idle(src, errp))
        return false;
    if (dst == src)
        return true;
    if (dst->size != src->size)
        return err_set(errp, EINVAL,
                       "Bitmaps are of different sizes (destination size is %" PRIu64
                       ", source size is %" PRIu64 ") and can't be merged",
                       dst->size, src->size);

    /* Into a copy, so that without memory dst is what it was. */
    if (dst->granularity == src->granularity) {
        joined = hbits_union(dst->bits, src->bits);
        ret = joined ? 0 : -ENOMEM;
    } else {
        joined = hbits_new(hbits_size(dst->bits));
        ret = joined ? hbits_or(joined, dst->bits) : -ENOMEM;
        if (ret == 0)
            ret = merge_runs(joined, dst, src);
    }
    if (ret < 0) {
        hbits_free(joined);
        return err_set(errp, ENOMEM, "No memory to merge bitmaps");
    }
    hbits_free(dst->bits);
    dst->bits = joined;
    dst->all_dirty = dst->all_dirty || src->all_dirty;
    return true;
}
