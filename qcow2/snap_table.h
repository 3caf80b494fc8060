/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The snapshot table of an open image, read when it is needed.
 */
#ifndef QCOW2_SNAP_TABLE_H
#define QCOW2_SNAP_TABLE_H

#include "qcow2/inspect_priv.h"
#include "qcow2/snapshot.h"

struct qc_snap_table {
    uint8_t *raw; /* as on disk */
    uint64_t raw_off;
    struct qc_snapshot *v;
    uint32_t n;
};

/* qc_snap_table_load: free t with qc_snap_table_free, also after a failure. Yields. */
bool qc_snap_table_load(struct qc *q, struct qc_snap_table *t, struct err **errp);
void qc_snap_table_free(struct qc_snap_table *t);
/* qc_snap_find: NULL, and *errp (ENOENT), if there is none. */
const struct qc_snapshot *qc_snap_find(const struct qc_snap_table *t,
                                       const struct qc_snapshot_ref *which, struct err **errp);
/* qc_snap_table_build: the bytes of a table without `drop` and with `add` (each may be NULL) at the
 * end, in new memory. *at: where the entry of `add` begins. add's id and name say what its strings
 * are; extra_len is of no account. NULL on failure. */
uint8_t *qc_snap_table_build(struct qc *q, const struct qc_snap_table *t,
                             const struct qc_snapshot *drop, const struct qc_snapshot *add,
                             uint64_t *len, uint64_t *at, struct err **errp);

#endif
