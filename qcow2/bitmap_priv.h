/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files about stored bitmaps share.
 *
 *   bitmap_load.c   checking and loading them at open
 *   bitmap_table.c  a bitmap's table and data: reading, writing, giving up
 *   bitmap_dir.c    the directory: writing it, switching to it, in-use flags in place
 *   bitmap_store.c  what the node asks for: add, remove, store
 */
#ifndef QCOW2_BITMAP_PRIV_H
#define QCOW2_BITMAP_PRIV_H

#include "qcow2/inspect_priv.h"

/* qc_bitmap_table_entries: of the table of a bitmap of the whole disk; its data have so many
 * clusters. */
uint64_t qc_bitmap_table_entries(const struct qc *q, uint64_t disk_size, uint32_t granularity);
/* qc_bitmap_usable: may its content be believed and used? Not if it is in use on disk, nor if it
 * has extra data that must be understood. */
bool qc_bitmap_usable(const struct qc_stored_bitmap *s);

/* qc_bitmap_read: the content of s into b, which is clear. *budget: bytes of the file that bitmaps
 * may still take; falls. Yields. */
bool qc_bitmap_read(struct qc *q, const struct qc_stored_bitmap *s, struct bitmap *b,
                    uint64_t *budget, struct err **errp);
/* qc_bitmap_write: the content of b (NULL: all clear) into new clusters, which go into *taken, and
 * their place into s. lock is held. Yields. */
bool qc_bitmap_write(struct qc *q, const struct bitmap *b, uint64_t entries,
                     struct qc_stored_bitmap *s, struct qc_freed_list *taken, struct err **errp);
/* qc_bitmap_clusters: append what s takes in the file to *l, as far as its table can be followed.
 * Yields. */
bool qc_bitmap_clusters(struct qc *q, const struct qc_stored_bitmap *s, struct qc_freed_list *l,
                        struct err **errp);

/* qc_taken_add: remember new clusters. False without memory (they are given back then). */
bool qc_taken_add(struct qc *q, struct qc_freed_list *taken, uint64_t host_off, uint64_t clusters);
/* qc_taken_undo: give all back that nothing points at, and free the list. */
void qc_taken_undo(struct qc *q, struct qc_freed_list *taken);
/* qc_give_up: free clusters that the header does not lead to any more; frees the list. Without
 * memory they leak. */
void qc_give_up(struct qc *q, struct qc_freed_list *l);

/* qc_bitmap_dir_switch: write a directory of v (n entries; 0: drop it) and let the header refer to
 * it; on success the old one is given up and v becomes q->bitmaps.v. taken: new clusters that v
 * refers to; it is freed: its clusters are given back if the directory did not get as far as the
 * header. lock is held. Yields. */
bool qc_bitmap_dir_switch(struct qc *q, struct qc_stored_bitmap *v, uint32_t n,
                          struct qc_freed_list *taken, struct err **errp);
/* qc_bitmap_dir_copy: the entries of q's directory without entry `skip` (none if >= n), with room
 * for one more behind. NULL without memory. Free with qc_bitmap_dir_free. */
struct qc_stored_bitmap *qc_bitmap_dir_copy(const struct qc *q, uint32_t skip);
void qc_bitmap_dir_free(struct qc_stored_bitmap *v, uint32_t n);

#endif
