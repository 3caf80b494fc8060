/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which bitmaps a node has: adding, removing, finding, storing.
 *
 * Invariant: n->bitmaps is NULL or holds at least one bitmap, so that the data path of a node
 * without any pays for one load. n is drained while the first comes: a request that began without
 * bitmaps has ended then, and none is ever half watched.
 *
 * A bitmap is busy while the image is told about it. So its name is taken, and nobody else uses or
 * removes it in the meantime.
 */
#include "block/node_bitmap.h"

#include <errno.h>

#include "base/mem.h"

/* Whose the bitmaps of n are. */
static struct node *home(const struct node *n)
{
    while (n->drv->bitmaps_below)
        n = n->child[0];
    return (struct node *)n;
}

struct bitmap *node_bitmap_first(const struct node *n)
{
    n = home(n);
    return n->bitmaps ? n->bitmaps->head : NULL;
}

struct bitmap *node_bitmap_find(const struct node *n, const char *name)
{
    n = home(n);
    return n->bitmaps ? bitmap_find(n->bitmaps, name) : NULL;
}

static struct node *below(const struct node *n)
{
    if (n->drv->is_filter)
        return n->child[0];
    return n->drv->backing ? n->drv->backing(n) : NULL;
}

struct bitmap *node_bitmap_search(struct node *top, const char *name, struct node **owner)
{
    for (struct node *n = top; n; n = below(n)) {
        struct bitmap *b = node_bitmap_find(n, name);

        if (b && owner)
            *owner = home(n);
        if (b)
            return b;
    }
    return NULL;
}

bool node_bitmap_attach(struct node *n, struct bitmap *b, struct err **errp)
{
    bool ok = true;

    n = home(n);
    node_drain_begin(n);
    if (!n->bitmaps) {
        n->bitmaps = mem_new(struct bitmap_set);
        if (n->bitmaps)
            bitmap_set_init(n->bitmaps, n->size);
    }
    if (n->bitmaps)
        bitmap_set_insert(n->bitmaps, b);
    else
        ok = err_set(errp, ENOMEM, "%s: out of memory for a bitmap", n->name);
    node_drain_end(n);
    return ok;
}

void node_bitmap_detach(struct node *n, struct bitmap *b)
{
    n = home(n);
    bitmap_set_take(n->bitmaps, b);
    if (n->bitmaps->head)
        return;
    mem_free(n->bitmaps);
    n->bitmaps = NULL;
}

static bool can_store(const struct node *n, struct err **errp)
{
    if (!n->drv->bitmap_ops)
        return err_set(errp, ENOTSUP, "Cannot store dirty bitmaps in '%s' (%s)", n->name,
                       n->drv->name);
    return !n->read_only ||
           err_set(errp, EROFS, "Cannot store dirty bitmaps in '%s': it is read-only", n->name);
}

struct bitmap *node_bitmap_add(struct node *n, const char *name, uint32_t granularity,
                               bool persistent, struct err **errp)
{
    static const struct bitmap_set none;
    struct bitmap *b;

    n = home(n);
    if (granularity == 0)
        granularity = bitmap_default_granularity(n->limits.cluster);
    if (!bitmap_check_granularity(granularity, errp) || (persistent && !can_store(n, errp)))
        return NULL;
    /* From the look at the name until the bitmap is in the set nothing yields. */
    node_drain_begin(n);
    if (name && !bitmap_check_new(n->bitmaps ? n->bitmaps : &none, name, errp)) {
        node_drain_end(n);
        return NULL;
    }
    b = bitmap_new(name, n->bitmaps ? n->bitmaps->size : n->size, granularity);
    if (!b)
        err_set(errp, ENOMEM, "No memory for bitmap '%s'", name ? name : "");
    if (b && !node_bitmap_attach(n, b, errp)) {
        bitmap_free(b);
        b = NULL;
    }
    node_drain_end(n);
    if (!b || !persistent)
        return b;

    b->persistent = true;
    b->busy++;
    bool stored = n->drv->bitmap_ops->add(n, b, errp);
    b->busy--;
    if (stored)
        return b;
    node_bitmap_detach(n, b);
    bitmap_free(b);
    return NULL;
}

bool node_bitmap_remove(struct node *n, const char *name, struct err **errp)
{
    struct bitmap *b = node_bitmap_find(n, name);

    n = home(n);
    if (!b)
        return err_set(errp, ENOENT, "Dirty bitmap '%s' not found", name);
    if (!bitmap_check_removable(b, errp))
        return false;
    if (b->persistent) {
        b->busy++;
        bool gone = n->drv->bitmap_ops->remove(n, name, errp);
        b->busy--;
        if (!gone)
            return false;
    }
    node_bitmap_detach(n, b);
    bitmap_free(b);
    return true;
}

bool node_bitmap_store(struct node *n, struct err **errp)
{
    const struct bitmap *b = node_bitmap_first(n);
    bool ok;

    n = home(n);
    while (b && !b->persistent)
        b = b->next;
    if (!b || n->read_only)
        return true;
    /* What is still written is in the bitmaps then, and nothing comes after. */
    node_drain_begin(n);
    n->read_only = true;
    ok = n->drv->bitmap_ops->store(n, errp);
    node_drain_end(n);
    return ok;
}

bool node_bitmap_store_chain(struct node *top, struct err **errp)
{
    for (struct node *n = top;; n = n->child[0]) {
        if (!node_bitmap_store(n, errp))
            return false;
        if (n->n_child == 0)
            return true;
    }
}

void node_bitmap_drop_all(struct node *n)
{
    if (!n->bitmaps)
        return;
    bitmap_set_clear(n->bitmaps);
    mem_free(n->bitmaps);
    n->bitmaps = NULL;
}
