/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dirty bitmaps of a node. A bitmap is known by (node, name).
 *
 * A node marks in all its bitmaps what is changed through it (writes, zeroes, discards): after the
 * change has ended, also if it failed, and before its submitter hears of it. Changes that reach its
 * children past it are not seen. A resize takes the bitmaps along: it is refused while one is busy
 * (-EBUSY) or inconsistent (-ENOTSUP), and what a disk grows by is dirty.
 *
 * Of a node whose driver says bitmaps_below the bitmaps are those of the node below.
 *
 * What works on one bitmap alone is in bitmap/bitmap.h: clear, enable, merge, freeze (drain the
 * node around a freeze). A pointer to a bitmap is good until the bitmap is removed; who keeps one
 * across a yield makes it busy.
 */
#ifndef BLOCK_NODE_BITMAP_H
#define BLOCK_NODE_BITMAP_H

#include "bitmap/bitmap.h"
#include "block/node.h"

/* What a driver that stores bitmaps offers. All yield; what they are told to do is checked. */
struct bitmap_ops {
    /* add: make a place for b, which is new and clear, marked as in use: from now on a crash leaves
     * it in the image as inconsistent. What cannot be stored is refused by name. */
    bool (*add)(struct node *n, const struct bitmap *b, struct err **errp);
    /* remove: the image knows no bitmap of that name afterwards. */
    bool (*remove)(struct node *n, const char *name, struct err **errp);
    /* store: write all persistent bitmaps, and that they are right. Changes of n are refused from
     * then on. Nothing happens if that was done before. */
    bool (*store)(struct node *n, struct err **errp);
};

/* node_bitmap_add: a new, clear, enabled bitmap. granularity 0: from the node's clusters.
 * persistent: it is stored with the image (EROFS, ENOTSUP if it cannot be). Drains n. Errors: as
 * bitmap_add. Yields. A name of NULL: for internal use, not found by any name. */
struct bitmap *node_bitmap_add(struct node *n, const char *name, uint32_t granularity,
                               bool persistent, struct err **errp);
/* node_bitmap_remove: also from the image, if it is stored there. An error then (of I/O) leaves it
 * in the node. ENOENT "Dirty bitmap 'NAME' not found". Yields. */
bool node_bitmap_remove(struct node *n, const char *name, struct err **errp);

/* node_bitmap_find: n's own bitmap of that name, or NULL. */
struct bitmap *node_bitmap_find(const struct node *n, const char *name);
/* node_bitmap_search: the first of that name from top down through filters and backing images.
 * NULL: there is none. *owner (may be NULL): whose it is. */
struct bitmap *node_bitmap_search(struct node *top, const char *name, struct node **owner);
/* node_bitmap_first: n's bitmaps in the order in which they were made, linked by ->next; those
 * without a name are nobody's business. */
struct bitmap *node_bitmap_first(const struct node *n);

/* node_bitmap_attach: make a free-standing bitmap of the size of n's bitmaps one of them. Its name
 * is free. For drivers that load bitmaps: does not touch the image, and yields only if requests are
 * in flight. ENOMEM: b stays the caller's. node_bitmap_detach: the reverse; does not yield. */
bool node_bitmap_attach(struct node *n, struct bitmap *b, struct err **errp);
void node_bitmap_detach(struct node *n, struct bitmap *b);

/* node_bitmap_store: write n's persistent bitmaps into the image, before n is closed (which does it
 * too, but can tell nobody when it fails). n takes no changes any more. True if there are none.
 * Yields. */
bool node_bitmap_store(struct node *n, struct err **errp);
/* node_bitmap_store_chain: the same for all nodes from top down through filters. */
bool node_bitmap_store_chain(struct node *top, struct err **errp);

/* node_bitmap_drop_all: free n's bitmaps, busy or not. For the end of n. */
void node_bitmap_drop_all(struct node *n);

#endif
