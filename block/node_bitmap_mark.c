/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The dispatcher's calls around changes of a node that has bitmaps.
 *
 * Invariant: the bitmaps reach as far as the node, or further; so no mark can fall off their end.
 * Growing takes them along before the node has the new space. Shrinking drops bits only once the
 * bytes are gone. A node can also grow without being told to: by a write past its end, or, a
 * filter, by another parent of its child.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/node_bitmap.h"
#include "block/submit_priv.h"

int bitmaps_reach(struct node *n, uint64_t end)
{
    struct err *e = NULL;

    if (end <= n->bitmaps->size || bitmap_set_resize(n->bitmaps, max_u64(end, n->size), &e))
        return 0;
    log_error("%s: write refused, the bitmaps cannot follow the disk's growth: %s", n->name,
              err_msg(e));
    err_free(e);
    return -EIO;
}

void bitmaps_mark(struct node *n, uint64_t off, uint64_t len)
{
    bitmap_set_mark(n->bitmaps, off, len);
}

int bitmaps_may_resize(struct node *n, uint64_t new_size)
{
    struct err *e = NULL;
    int ret = 0;

    for (const struct bitmap *b = n->bitmaps->head; b && ret == 0; b = b->next)
        if (!bitmap_check_idle(b, &e))
            ret = b->busy ? -EBUSY : -ENOTSUP;
    if (ret < 0)
        log_warn("%s: not resized: %s", n->name, err_msg(e));
    else if (new_size > n->bitmaps->size && !bitmap_set_resize(n->bitmaps, new_size, &e))
        ret = -err_code(e);
    err_free(e);
    return ret;
}

void bitmaps_follow(struct node *n)
{
    /* Refused if a bitmap became busy in the meantime: larger than the disk it harms nobody, and
     * smaller it cannot be. */
    if (n->size != n->bitmaps->size)
        bitmap_set_resize(n->bitmaps, n->size, NULL);
}
