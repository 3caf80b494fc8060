/* SPDX-License-Identifier: BSD-3-Clause
 *
 * QEMU's pair of drivers for a snapshot that clients of the control socket put together:
 * copy-before-write, through which a disk is written, and snapshot-access, which shows what the
 * disk held when the former was opened.
 */
#ifndef FILTERS_SNAPSHOT_H
#define FILTERS_SNAPSHOT_H

#include "bitmap/bitmap.h"
#include "block/node.h"

extern const struct driver copy_before_write_driver, snapshot_access_driver;

struct copy_before_write_opts {
    struct node *file, *target; /* references are taken over on success */
    const struct bitmap *only;  /* the snapshot has these granules only; NULL: all. Not kept */
    bool fail_writes;    /* a write fails if what it destroys cannot be kept; else the snapshot is
                            lost */
    uint64_t timeout_ns; /* after which it cannot be; 0: never */
};

/* copy_before_write_open: from now on old data is copied to target before file is changed, by
 * whomever; but a change past the node never fails for that. Drains file: yields. EINVAL: only is
 * of another size. */
struct node *copy_before_write_open(const struct copy_before_write_opts *o, struct err **errp);

/* snapshot_access_open: cbw's snapshot. Its node may be discarded: what is, nobody can read any
 * more, and its room in the target is given back. Takes the reference over on success. EINVAL: cbw
 * is no copy-before-write node. */
struct node *snapshot_access_open(struct node *cbw, struct err **errp);

/* snapshot_show: the same for a view (filters.h), of which it takes a reference of its own. */
struct node *snapshot_show(struct node *view, struct err **errp);

#endif
