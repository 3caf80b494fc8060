/* SPDX-License-Identifier: BSD-3-Clause
 *
 * L1 entries, and new L2 tables: empty ones, and copies of those that a snapshot shares.
 *
 * Order: the refcount of the new table and its content are durable before the L1 entry points at
 * it (one barrier for both). If writing the L1 entry fails, it may be on disk all the same, so the
 * new table is leaked, never given back.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/qcow2_priv.h"

#define L1_SECTOR_ENTRIES 64

int qc_l1_check(struct qc *q, uint64_t l1_index, uint64_t entry)
{
    uint64_t off = entry & QC_OFFSET_MASK;
    if (!(entry & QC_L1_RESERVED) && is_aligned(off, q->cluster_size) && off < q->file->size &&
        off != 0)
        return 0;
    return qc_corrupt(q,
                      "L1 entry %" PRIu64 " (at 0x%" PRIx64 ") is 0x%" PRIx64
                      ", not the offset of a table in the file of %" PRIu64 " bytes",
                      l1_index, q->l1_off + l1_index * 8, entry, q->file->size);
}

int qc_l1_write(struct qc *q, uint64_t l1_index, uint64_t entry)
{
    uint8_t sector[L1_SECTOR_ENTRIES * 8];
    uint64_t first = round_down(l1_index, L1_SECTOR_ENTRIES);
    uint64_t n = min_u64(L1_SECTOR_ENTRIES, q->l1_size - first);
    memcpy(sector, q->l1 + first * 8, n * 8);
    put_be64(sector + (l1_index - first) * 8, entry);
    node_event(q->file, EV_L1_UPDATE);
    int r = node_write_kind(q->file, q->l1_off + first * 8, sector, n * 8, 0, KIND_L1);
    if (r == 0)
        put_be64(q->l1 + l1_index * 8, entry);
    return r;
}

/* Write the slices of the table at host_off: copies of those of the old one, or zeros. */
static int write_slices(struct qc *q, uint64_t first_index, bool copy, uint64_t host_off)
{
    uint64_t slices = UINT64_C(1) << (q->cluster_bits - q->l2.slice_bits);
    uint64_t bytes = UINT64_C(1) << q->l2.slice_bits;
    AUTO_FREE uint8_t *zeros = NULL;
    if (!copy && !(zeros = mem_alloc_aligned(bytes, 4096)))
        return -ENOMEM;
    if (zeros)
        memset(zeros, 0, bytes);
    for (uint64_t i = 0; i < slices; i++) {
        struct qc_slice *s = NULL;
        if (copy) {
            node_event(q->file, EV_L2_ALLOC_COW_READ);
            int r = qc_cache_get(&q->l2, first_index + i, &s);
            if (r < 0)
                return r;
            qc_slice_pin(s);
        }
        node_event(q->file, EV_L2_ALLOC_WRITE);
        node_event(q->file, EV_L2_UPDATE);
        int r = node_write_kind(q->file, host_off + i * bytes, copy ? s->data : zeros, bytes, 0,
                                KIND_L2);
        if (s)
            qc_slice_unpin(s);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Put the slice that the caller is about to change into the cache as zeros, so that it need not be
 * read back. Before the L1 entry is set: until then nobody else can look for it. */
static int seed_slice(struct qc *q, uint64_t guest_off, struct qc_slice **s)
{
    int r = qc_cache_new(&q->l2, guest_off >> q->l2_slice_shift, s);
    if (r == 0)
        qc_slice_pin(*s);
    return r;
}

static int table_make_locked(struct qc *q, uint64_t guest_off, uint64_t old)
{
    uint64_t l1_index = guest_off >> q->l1_shift;
    bool copy = (old & QC_OFFSET_MASK) != 0, fresh;
    uint64_t host_off, got;
    struct qc_slice *seed = NULL;
    int r = qc_alloc(q, 1, &host_off, &got, &fresh);
    if (r < 0)
        return r;
    r = qc_write_refblocks(q);
    if (r == 0)
        r = write_slices(q, (l1_index << q->l1_shift) >> q->l2_slice_shift, copy, host_off);
    if (r == 0 && !copy)
        r = seed_slice(q, guest_off, &seed);
    if (r == 0)
        r = qc_meta_reserve(q, 1) ? qc_barrier(q) : -ENOMEM;
    if (r < 0) {
        if (seed)
            qc_slice_unpin(seed);
        qc_alloc_undo(q, host_off, 1);
        return r;
    }
    r = qc_l1_write(q, l1_index, host_off | QC_COPIED);
    if (seed)
        qc_slice_unpin(seed);
    if (r < 0)
        return r;
    qc_meta_add(q, host_off);
    if (!copy)
        return 0;
    if (qc_freed_reserve(&q->freed, 1)) /* else the old table leaks */
        qc_free_later(q, old & QC_OFFSET_MASK, 1, false);
    qc_free_announce(q, 1);
    return 0;
}

int qc_l2_table_make(struct qc *q, uint64_t guest_off)
{
    uint64_t l1_index = guest_off >> q->l1_shift;
    co_lock(&q->lock);
    uint64_t e = qc_l1_get(q, l1_index);
    int r = 0;
    if (e != 0)
        r = qc_l1_check(q, l1_index, e);
    if (r == 0 && (e == 0 || !(e & QC_COPIED)))
        r = table_make_locked(q, guest_off, e);
    co_unlock(&q->lock);
    return r;
}
