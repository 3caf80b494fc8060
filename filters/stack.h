/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Filters that clients of the control socket put into a stack: QEMU's copy-on-read, compress and
 * blkverify. Each constructor takes over references on success only; none yields.
 */
#ifndef FILTERS_STACK_H
#define FILTERS_STACK_H

#include "block/node.h"

extern const struct driver copy_on_read_driver, compress_driver, verify_driver;

/* copy_on_read_open: what reads find in a backing image of child, or below, is written to child, in
 * whole clusters; later reads need the backing image no more. Announces cor_write to child. child
 * must be writable (EPERM); the node may be read-only. */
struct node *copy_on_read_open(struct node *child, struct err **errp);

/* compress_open: writes reach child, an image of a format that can compress, as compressed
 * clusters; the rest of a cluster that is written in part is read first. ENOTSUP: child has no
 * clusters. */
struct node *compress_open(struct node *child, struct err **errp);

/* verify_open: a mirror of two disks that should never differ. Writes go to both; reads compare
 * them, and a byte or a result that differs is logged (the first time) and becomes EIO. raw must be
 * at least as large as test. */
struct node *verify_open(struct node *test, struct node *raw, struct err **errp);

#endif
