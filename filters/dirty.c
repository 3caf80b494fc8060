/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The dirty filter: marks in a set of bitmaps what is written through it.
 *
 * Invariant: when the submitter of a change hears of its end, the range is marked in every bitmap
 * that records. Marking comes after the child returned, so that a freeze in between cannot file the
 * write under a point in time that does not hold it; and it comes also when the child failed, since
 * a failed write may have changed the disk.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "filters/filters_priv.h"

struct dirty {
    struct bitmap_set *maps;
};

/* Growing marks what is new before the disk has it; if the child then refuses, the bitmaps go back.
 * Shrinking drops bits only once the bytes are gone. */
static int dirty_truncate(struct node *n, struct req *r)
{
    struct dirty *d = n->state;
    uint64_t old = d->maps->size, new = r->off;
    struct err *e = NULL;
    int ret;

    for (const struct bitmap *b = d->maps->head; b; b = b->next) {
        if (!bitmap_check_idle(b, &e)) {
            log_warn("%s: not resized: %s", n->name, err_msg(e));
            err_free(e);
            return -EBUSY;
        }
    }
    if (new > old && !bitmap_set_resize(d->maps, new, &e)) {
        ret = -err_code(e);
        err_free(e);
        return ret;
    }
    ret = node_submit(n->child[0], r);
    /* A bitmap that became busy in the meantime stays larger than the disk, which harms nobody. */
    if (new > old && ret < 0)
        bitmap_set_resize(d->maps, old, NULL);
    if (new < old && ret == 0)
        bitmap_set_resize(d->maps, new, NULL);
    return ret;
}

/* The child may have grown through another parent: the bitmaps must reach as far as any write. */
static bool maps_reach(struct node *n, uint64_t end)
{
    struct dirty *d = n->state;
    struct err *e = NULL;

    if (end <= d->maps->size || bitmap_set_resize(d->maps, n->child[0]->size, &e))
        return true;
    log_error("%s: write refused, the bitmaps cannot follow the disk's growth: %s", n->name,
              err_msg(e));
    err_free(e);
    return false;
}

static int dirty_submit(struct node *n, struct req *r)
{
    struct dirty *d = n->state;
    uint64_t off = r->off, len = r->len;
    int ret;

    switch (r->op) {
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        if (!maps_reach(n, off + len))
            return -EIO;
        ret = node_submit(n->child[0], r);
        bitmap_set_mark(d->maps, off, len);
        return ret;
    case REQ_TRUNCATE:
        return dirty_truncate(n, r);
    default:
        return node_submit(n->child[0], r);
    }
}

const struct driver dirty_driver = {
    .name = "dirty",
    .state_size = sizeof(struct dirty),
    .is_filter = true,
    .submit = dirty_submit,
    .fua_ops = ALL_FUA,
};

struct node *dirty_open(struct node *child, struct bitmap_set *maps, struct err **errp)
{
    struct node *n;

    if (maps->size != child->size) {
        err_set(errp, EINVAL, "%s: the bitmaps are for a disk of %llu bytes, but it has %llu",
                child->name, (unsigned long long)maps->size, (unsigned long long)child->size);
        return NULL;
    }
    n = node_over(&dirty_driver, child, errp);
    if (!n)
        return NULL;
    ((struct dirty *)n->state)->maps = maps;
    /* Past its end a disk changes its size only by TRUNCATE, or bits would be missing there. */
    n->growable = false;
    return n;
}
