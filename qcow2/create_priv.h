/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files that make an empty image share.
 */
#ifndef QCOW2_CREATE_PRIV_H
#define QCOW2_CREATE_PRIV_H

#include "qcow2/qcow2_priv.h"

/* Where everything goes: header, refcount table, refcount blocks, L1 table, L2 tables, data, each
 * contiguous. */
struct qc_layout {
    struct qc_create_opts o; /* with defaults filled in */
    unsigned cluster_bits, refcount_order, l2_entry_shift;
    uint64_t l1_size; /* entries */
    uint64_t reftable_clusters, refblocks, l1_clusters;
    uint64_t l2_tables, guest_clusters;          /* preallocated; 0: none */
    uint64_t data_clusters;                      /* the same in this file */
    uint64_t reftable_off, refblock_off, l1_off; /* bytes */
    uint64_t l2_off, data_off, total;            /* total: clusters */
};

/* qc_layout_plan: fill in the defaults of l->o, refuse what cannot be, and place everything. */
bool qc_layout_plan(struct qc_layout *l, struct err **errp);
/* qc_layout_header: the first cluster into buf (zeros, room for QC_HEADER_ROOM more than a
 * cluster). Returns the length of what it says, which may exceed a cluster. */
uint64_t qc_layout_header(const struct qc_layout *l, uint8_t *buf);
#define QC_HEADER_ROOM 4096
/* qc_layout_write: all but the header. 0 or -errno. Yields. */
int qc_layout_write(const struct qc_layout *l, struct node *file);
/* qc_layout_fill: preallocate [off, off + len) of a new file, which ends there afterwards. Yields.
 */
int qc_layout_fill(struct node *file, uint64_t off, uint64_t len, enum qc_preallocation how);

#endif
