/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the repair share.
 */
#ifndef QCOW2_REPAIR_PRIV_H
#define QCOW2_REPAIR_PRIV_H

#include "qcow2/check_priv.h"
#include "qcow2/repair.h"

struct qcr { /* one round: a finished check, and what may be done about it */
    struct qcc *c;
    bool all;       /* not only leaks */
    bool may_lower; /* every reference is known: a refcount that is too high is a leak */
    bool wrote;     /* something */
};

/* qcr_write: to the host file, noting that something was written. qcr_changed: write the bytes of a
 * table that differ, from the first to the last; size is a multiple of 8. 0 or -errno. Yield. */
int qcr_write(struct qcr *q, uint64_t off, const void *buf, uint64_t len, enum req_kind kind);
int qcr_changed(struct qcr *q, uint64_t off, const uint8_t *was, const uint8_t *now, uint64_t len,
                enum req_kind kind);

/* --- repair_tables.c --- */
/* qcr_fix_tables: the flags and reserved bits of L1 and L2 entries. 0 or -errno. Yields. */
int qcr_fix_tables(struct qcr *q);

/* --- repair_refs.c --- */
/* qcr_refcount: what a cluster's refcount has to be, where it is `old` now. */
uint64_t qcr_refcount(const struct qcr *q, uint64_t cluster, uint64_t old);
/* qcr_fix_refcounts: in the blocks that there are. 0 or -errno. Yields.
 * qcr_refcounts_are_wrong: would it change one? 1, 0 or -errno. Yields. */
int qcr_fix_refcounts(struct qcr *q);
int qcr_refcounts_are_wrong(struct qcr *q);
static inline uint64_t qcr_end(const struct qcc *c) /* clusters: everything is before it */
{
    return c->n + (qcc_counts_get(&c->counts, c->n) > 0);
}

/* --- repair_rebuild.c --- */
/* qcr_must_rebuild: are the refcount blocks that there are not enough? */
bool qcr_must_rebuild(const struct qcr *q);
/* qcr_rebuild: new refcount structures (and a new snapshot table if need be), and one write of the
 * header that switches to them. 0, -EFBIG if they cannot be placed, or -errno. Yields. */
int qcr_rebuild(struct qcr *q);

/* --- repair_snapshots.c --- */
/* qcr_snapshots_build: the snapshot table as it should be, in new memory. 0 or -errno. Yields. */
int qcr_snapshots_build(struct qcr *q, uint8_t **table, uint64_t *len);

/* --- repair_dry.c --- */
/* qcr_dry_open: a node over file that keeps what is written to it in memory. */
struct node *qcr_dry_open(struct node *file, struct err **errp);

#endif
