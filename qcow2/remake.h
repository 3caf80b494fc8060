/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing all of an image's metadata in one step.
 *
 * Creating, applying and deleting a snapshot, shrinking and emptying change the refcounts of any
 * number of clusters together with the COPIED flags of the tables that point at them. Neither order
 * of the two is right in between. So nothing is changed in place: new refcount blocks, L2 tables,
 * L1 and snapshot table are written to free clusters, made durable, and one write inside the first
 * sector of the header (size, L1 table, refcount table, snapshot table) puts them in force. A crash
 * leaves the old state or the new one, and no leak; an error before that write leaves the old one.
 *
 * It costs no more writing than changing in place, as all of these tables change anyway, but room
 * for them a second time, until the old ones are free.
 */
#ifndef QCOW2_REMAKE_H
#define QCOW2_REMAKE_H

#include "qcow2/delta.h"
#include "qcow2/qcow2_priv.h"

/* The new refcount structures, while they are being built (shadow.c). */
struct qc_shadow {
    bool on; /* q's refcount table is the new one; it is on no disk yet */
    uint8_t *old_table;
    uint64_t old_size, old_off, old_hint;
};

/* qc_shadow_begin: from here on, refcounts change in copies of the refcount blocks. more: clusters
 * that will be allocated at most. lock is held, q is settled. Yields. */
int qc_shadow_begin(struct qc_shadow *s, struct qc *q, uint64_t more);
/* qc_shadow_write: write what is needed to put them in force, but for the header. */
int qc_shadow_write(struct qc *q);
/* qc_shadow_abort: as before qc_shadow_begin. Does not yield. */
void qc_shadow_abort(struct qc_shadow *s, struct qc *q);
/* qc_shadow_commit: the header points at them. */
void qc_shadow_commit(struct qc_shadow *s, struct qc *q);
/* qc_shadow_trim: give up the blocks of regions in which nothing else is in use. */
int qc_shadow_trim(struct qc *q);
/* qc_shadow_end: the number of host clusters up to the last one in use. */
int qc_shadow_end(struct qc *q, uint64_t *clusters);

/* A new snapshot table, or the old one. */
struct qc_new_snaps {
    const uint8_t *table; /* as on disk; NULL: the old one stays */
    uint64_t len;         /* bytes */
    uint32_t n;
    /* A new snapshot: its L1 table is a copy of the active one, whose offset goes to this place in
     * the table. */
    bool added;
    uint64_t l1_off_at;
};

struct qc_remake {
    struct qc *q;
    /* What is to be; set between begin and commit. As begin leaves it: as it is. */
    uint64_t size;     /* of the guest disk */
    const uint8_t *l1; /* the active L1 table, as on disk; borrowed */
    uint64_t l1_size;  /* entries */
    uint64_t cut;      /* guest offset: active entries from here on are cleared */
    struct qc_new_snaps snaps;
    bool all_dirty; /* what a guest reads changes: all of it is marked in the dirty bitmaps */
    bool trim;      /* give up refcount blocks that count nothing */
    enum blk_event before_l1, before_write, after_switch; /* to announce; EV_COUNT: nothing */
    bool emptying; /* announce the switch as that of an emptied image */

    /* How it goes. */
    struct qc_shadow shadow;
    struct qc_delta delta;
    struct qc_bits one;  /* clusters with refcount one */
    struct qc_bits gone; /* clusters that nothing refers to any more; counted as 1 until the end */
    uint64_t limit;      /* host clusters that an old table may refer to */
    uint8_t *l2;         /* buffer: one L2 table */
    uint8_t *new_l1, *new_snaps; /* whole clusters */
    uint64_t l1_off, snap_l1_off, snaps_off;
    bool external; /* data clusters are in another file and not counted */
};

/* qc_settle: everything that is cached is durable, nothing waits to be freed. lock is held, and no
 * request runs. Yields. */
int qc_settle(struct qc *q);

/* qc_remake_hold: hold requests and other such changes back, settle. Yields. Always followed by
 * qc_remake_end. qc_remake_begin: then, begin. more: clusters that will be needed for tables,
 * besides those of the active mapping as it is. */
int qc_remake_hold(struct qc_remake *m, struct qc *q);
int qc_remake_begin(struct qc_remake *m, uint64_t more);
/* qc_remake_resize: the disk is to have this size: are its bitmaps ready for it? False if one is in
 * use or inconsistent. Before the commit. */
bool qc_remake_resize(struct qc_remake *m, uint64_t size, struct err **errp);
/* qc_remake_refer: add `by` (1, -1) to the refcount of all L2 tables of an L1 table and of all
 * clusters that these refer to, as far as they map guest offsets from `from` on; tables that map
 * something before it are left out. */
int qc_remake_refer(struct qc_remake *m, const uint8_t *l1, uint64_t l1_size, uint64_t from,
                    int by);
/* qc_remake_refer_clusters: the same for a range of clusters. */
int qc_remake_refer_clusters(struct qc_remake *m, uint64_t host_off, uint64_t clusters, int by);
/* qc_remake_read_l1: an L1 table that is not the active one, in new memory. */
int qc_remake_read_l1(struct qc_remake *m, uint64_t host_off, uint64_t l1_size, uint8_t **out);
/* qc_remake_commit: make it so. */
int qc_remake_commit(struct qc_remake *m);
/* qc_remake_end: undo what was not committed; requests go on. */
void qc_remake_end(struct qc_remake *m);

/* qc_remake_truncate: cut off what is unused at the end of the host file, if it can be. */
void qc_remake_truncate(struct qc_remake *m);

/* remake_l2.c */

/* qc_remake_tables: give the new active L1 table (m->new_l1) L2 tables with true COPIED flags, new
 * ones where they differ from the old. */
int qc_remake_tables(struct qc_remake *m);
/* qc_remake_apply: carry out what m->delta has collected. */
int qc_remake_apply(struct qc_remake *m);
/* qc_remake_add: one change; applies what is collected if there is no more room. */
int qc_remake_add(struct qc_remake *m, uint64_t cluster, int by);

#endif
