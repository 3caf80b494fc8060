/* SPDX-License-Identifier: BSD-3-Clause
 *
 * L2 entries: lookups, and what an entry says. A part of qcow2_priv.h.
 */
#ifndef QCOW2_L2_PRIV_H
#define QCOW2_L2_PRIV_H

#include "qcow2/qcow2_priv.h"

/* --- l2.c: guest to host --- */

enum qc_type { QC_UNALLOCATED, QC_ZERO_PLAIN, QC_ZERO_ALLOCATED, QC_NORMAL, QC_COMPRESSED_TYPE };

/* A stretch of guest clusters of one type, inside one slice, with contiguous host clusters. */
struct qc_run {
    enum qc_type type;
    bool copied;       /* unshared (of L1 and L2 entry both): may be written in place */
    bool placed;       /* there is a host cluster, whatever is read */
    uint64_t host_off; /* of the byte at guest_off; 0 if there is none; compressed: the L2 entry */
    uint64_t len;      /* bytes, at most what was asked for */
};

extern const struct qc_cache_ops qc_l2_ops;
/* qc_l2_lookup: what is at guest_off. Yields only if the slice is not cached; nothing yields
 * between the lookup itself and the return. */
int qc_l2_lookup(struct qc *q, uint64_t guest_off, uint64_t len, struct qc_run *run);
/* qc_l2_get_write: the slice of guest_off, pinned, in a table that is unshared and exists. */
int qc_l2_get_write(struct qc *q, uint64_t guest_off, struct qc_slice **out);

/* An L2 entry. map: qcow2.txt, "Extended L2 Entries"; 0 where there are none. */
struct qc_cell {
    uint64_t entry, map;
};
/* qc_l2_check: 0, or -EIO after marking the image corrupt: the entry cannot be true. */
int qc_l2_check(struct qc *q, uint64_t guest_off, struct qc_cell cell);
/* qc_l2_check_unlink: the same, before the entry gives up what it refers to. */
int qc_l2_check_unlink(struct qc *q, uint64_t guest_off, struct qc_cell cell);
/* qc_entry_type: by the entry alone, which says all where there are no subclusters. */
static inline enum qc_type qc_entry_type(const struct qc *q, uint64_t entry)
{
    if (entry & QC_COMPRESSED)
        return QC_COMPRESSED_TYPE;
    if (entry & QC_ZERO)
        return (entry & q->host_mask) ? QC_ZERO_ALLOCATED : QC_ZERO_PLAIN;
    return (entry & q->host_mask) ? QC_NORMAL : QC_UNALLOCATED;
}
/* qc_entry_owns: does the entry refer to host clusters of the image file? */
static inline bool qc_entry_owns(const struct qc *q, uint64_t entry)
{
    return (entry & QC_COMPRESSED) || ((entry & QC_OFFSET_MASK) && !q->has_data_file);
}
/* qc_l2_pos: byte offset of guest_off's entry inside its slice. */
static inline size_t qc_l2_pos(const struct qc *q, uint64_t guest_off)
{
    return ((guest_off >> q->cluster_bits) << q->l2_entry_shift) &
           ((UINT64_C(1) << q->l2.slice_bits) - 1);
}
/* qc_cell_get, qc_cell_put: the i-th entry after the one at byte pos of a slice. put: marks it for
 * writing. */
static inline struct qc_cell qc_cell_get(const struct qc *q, const struct qc_slice *s, size_t pos,
                                         uint64_t i)
{
    const uint8_t *p = s->data + pos + (i << q->l2_entry_shift);
    return (struct qc_cell){get_be64(p), q->extended_l2 ? get_be64(p + 8) : 0};
}
void qc_cell_put(struct qc *q, struct qc_slice *s, size_t pos, uint64_t i, struct qc_cell cell);

/* --- l2_sub.c: subclusters --- */

#define QC_SUBS 32
/* Halves of a map. A subcluster is at most in one of them. */
static inline uint32_t qc_map_alloc(uint64_t map)
{
    return (uint32_t)map;
}
static inline uint32_t qc_map_zero(uint64_t map)
{
    return (uint32_t)(map >> QC_SUBS);
}
#define QC_MAP_ALL_ZERO (UINT64_C(0xffffffff) << QC_SUBS)
/* qc_map_mask: the subclusters that bytes [lo, hi) of a cluster touch; lo < hi. */
static inline uint32_t qc_map_mask(const struct qc *q, uint64_t lo, uint64_t hi)
{
    unsigned first = (unsigned)(lo >> q->sub_bits), last = (unsigned)((hi - 1) >> q->sub_bits);
    return (UINT32_MAX >> (QC_SUBS - 1 - last)) & (UINT32_MAX << first);
}
/* qc_sub_lookup: qc_l2_lookup in a slice of extended entries. pos: of the first one. */
int qc_sub_lookup(struct qc *q, const struct qc_slice *s, size_t pos, uint64_t l1_entry,
                  uint64_t guest_off, uint64_t len, struct qc_run *run);

/* --- l2_table.c --- */
/* qc_l2_table_make: give the L1 entry of guest_off an unshared table: new, or a copy. Takes lock.
 */
int qc_l2_table_make(struct qc *q, uint64_t guest_off);
int qc_l1_check(struct qc *q, uint64_t l1_index, uint64_t entry);
/* qc_l1_write: set an entry in memory and in the file. lock is held. */
int qc_l1_write(struct qc *q, uint64_t l1_index, uint64_t entry);

#endif
