/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Internal snapshots of an image that is open for writing, also while it is in use: requests wait
 * meanwhile. Each of these operations happens in one step: a crash leaves the image as it was
 * before or as it is afterwards (docs/qcow2.md). What snapshots there are, qc_inspect tells.
 *
 * None of them may be called from within a request on the node. All of them yield.
 */
#ifndef QCOW2_SNAPSHOT_H
#define QCOW2_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct node;

/* Which one: the first whose id is `any`, or else the first whose name it is; or, if any is NULL,
 * the first with this id and this name, each if it is not NULL. */
struct qc_snapshot_ref {
    const char *any, *id, *name;
};

#define QC_SNAPSHOT_NAME_MAX 255 /* bytes: what QEMU can show */

struct qc_new_snapshot {
    const char *name;             /* up to QC_SNAPSHOT_NAME_MAX bytes; need not be unique */
    uint32_t date_sec, date_nsec; /* since 1970, UTC */
};

/* qc_snapshot_create: keep the present content of the guest disk. Its id, the number after the
 * largest one in use, goes into id (24 bytes) unless that is NULL. EFBIG: 65,536 snapshots, a table
 * that is too large, or refcounts that are too narrow for one more reference; ENOTSUP: external
 * data file. */
bool qc_snapshot_create(struct node *n, const struct qc_new_snapshot *opts, char *id,
                        struct err **errp);
/* qc_snapshot_apply: make the disk what it was when the snapshot was made. That changes its size if
 * it was another one then: EINVAL unless may_resize (filters above n keep the size that they know).
 * What the disk holds now is lost, and n's bitmaps say that all has changed; those of filters above
 * n see nothing of it. ENOENT: there is no such snapshot. */
bool qc_snapshot_apply(struct node *n, const struct qc_snapshot_ref *which, bool may_resize,
                       struct err **errp);
/* qc_snapshot_delete: forget the snapshot and free what only it refers to. */
bool qc_snapshot_delete(struct node *n, const struct qc_snapshot_ref *which, struct err **errp);

#endif
