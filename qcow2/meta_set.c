/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where the metadata is, so that no guest write can land on it.
 *
 * A table entry that points at metadata is what turns one flipped bit into a lost disk, so every
 * data write asks here first. The big tables are ranges and compared directly; L2 tables and
 * refcount blocks are scattered, so their cluster numbers are in a hash set (open addressing,
 * half full at most: a lookup is about one cache line, and 16 to 32 bytes per table is small
 * beside the table). A table that was given up stays in the set until reopen:
 * it belongs to a snapshot then.
 */
#include "qcow2/qcow2_priv.h"

static inline uint64_t slot_of(const struct qc_meta_set *m, uint64_t cluster)
{
    return (cluster * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - __builtin_ctzll(m->cap));
}

static void insert(struct qc_meta_set *m, uint64_t cluster)
{
    uint64_t i = slot_of(m, cluster);
    while (m->slot[i] && m->slot[i] != cluster + 1)
        i = (i + 1) & (m->cap - 1);
    if (!m->slot[i]) {
        m->slot[i] = cluster + 1;
        m->n++;
    }
}

bool qc_meta_reserve(struct qc *q, size_t more)
{
    struct qc_meta_set *m = &q->meta;
    size_t cap = m->cap ? m->cap : 64;
    while ((m->n + more) * 2 > cap)
        cap *= 2;
    if (cap == m->cap)
        return true;
    struct qc_meta_set bigger = {.slot = mem_array(cap, sizeof(uint64_t)), .cap = cap};
    if (!bigger.slot)
        return false;
    for (size_t i = 0; i < m->cap; i++)
        if (m->slot[i])
            insert(&bigger, m->slot[i] - 1);
    mem_free(m->slot);
    *m = bigger;
    return true;
}

bool qc_meta_add(struct qc *q, uint64_t host_off)
{
    if (!qc_meta_reserve(q, 1))
        return false;
    insert(&q->meta, host_off >> q->cluster_bits);
    return true;
}

bool qc_meta_load(struct qc *q)
{
    size_t n = 0;
    for (uint64_t i = 0; i < q->l1_size; i++)
        n += (qc_l1_get(q, i) & QC_OFFSET_MASK) != 0;
    for (uint64_t i = 0; i < q->reftable_size; i++)
        n += qc_reftable_get(q, i) != 0;
    if (!qc_meta_reserve(q, n))
        return false;
    for (uint64_t i = 0; i < q->l1_size; i++) {
        uint64_t off = qc_l1_get(q, i) & QC_OFFSET_MASK;
        if (off)
            insert(&q->meta, off >> q->cluster_bits);
    }
    for (uint64_t i = 0; i < q->reftable_size; i++) {
        uint64_t off = qc_reftable_get(q, i) & QC_REFTABLE_MASK;
        if (off)
            insert(&q->meta, off >> q->cluster_bits);
    }
    return true;
}

bool qc_meta_reload(struct qc *q)
{
    memset(q->meta.slot, 0, q->meta.cap * sizeof(*q->meta.slot));
    q->meta.n = 0;
    return qc_meta_load(q);
}

/* Nothing meets what is empty: an offset may stay behind in the header when the last snapshot goes.
 */
static inline bool meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return b_len && a < b + b_len && b < a + a_len;
}

bool qc_meta_hits(const struct qc *q, uint64_t host_off, uint64_t len)
{
    if (host_off < q->cluster_size || meet(host_off, len, q->l1_off, q->l1_size * 8) ||
        meet(host_off, len, q->reftable_off, q->reftable_size * 8) ||
        meet(host_off, len, q->snapshots_off, q->snapshots_len) ||
        meet(host_off, len, q->bitmaps.dir_off, q->bitmaps.dir_len))
        return true;
    const struct qc_meta_set *m = &q->meta;
    uint64_t last = (host_off + len - 1) >> q->cluster_bits;
    for (uint64_t c = host_off >> q->cluster_bits; c <= last; c++)
        for (uint64_t i = slot_of(m, c); m->slot[i]; i = (i + 1) & (m->cap - 1))
            if (m->slot[i] == c + 1)
                return true;
    return false;
}
