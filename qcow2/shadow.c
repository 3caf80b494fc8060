/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copies of the refcount structures, to be changed at leisure and put in force by one write.
 *
 * The refcount cache finds its slices through the refcount table in memory. So once that table
 * names the copies, everything that counts (the cache, its write-back, the allocator) works on them
 * without knowing; and going back is to put the old table back and to forget the cache.
 *
 * The clusters of the copies are allocated in the old structures first, in memory only: the copies
 * then count themselves.
 */
#include <errno.h>

#include "qcow2/remake.h"

static uint64_t regions_used(const struct qc *q)
{
    uint64_t i = q->reftable_size;
    while (i > 0 && qc_reftable_get(q, i - 1) == 0)
        i--;
    return i;
}

/* Clusters of a table with room for `more` clusters, wherever they come to lie. */
static int plan(const struct qc *q, uint64_t more, uint64_t *clusters)
{
    uint64_t half = UINT64_C(1) << (q->refblock_bits - 1), entries = regions_used(q);
    more += entries + (entries * 8 >> q->cluster_bits) + 2;
    /* Whatever must be contiguous begins a region of its own: so much for the tables. */
    entries += 12 + 2 * (more / half);
    *clusters = qc_clusters(q, entries * 8);
    return *clusters << q->cluster_bits > QC_MAX_REFTABLE_BYTES ? -EFBIG : 0;
}

static int alloc_blocks(struct qc *q, uint8_t *table, uint64_t entries)
{
    for (bool more = true; more;) {
        more = false;
        for (uint64_t i = 0; i < q->reftable_size; i++) {
            uint64_t off, got;
            bool fresh;
            if (qc_reftable_get(q, i) == 0 || (i < entries && get_be64(table + i * 8)))
                continue;
            if (i >= entries)
                return -EFBIG;
            int r = qc_alloc_quiet(q, 1, &off, &got, &fresh); /* may make one more block */
            if (r < 0)
                return r;
            put_be64(table + i * 8, off);
            more = true;
        }
    }
    return 0;
}

static int copy_blocks(struct qc *q, const uint8_t *table)
{
    uint64_t slices = UINT64_C(1) << (q->refblock_bits - q->ref_slice_shift);
    uint64_t bytes = UINT64_C(1) << q->ref.slice_bits;
    for (uint64_t i = 0; i < q->reftable_size; i++) {
        if (qc_reftable_get(q, i) == 0)
            continue;
        for (uint64_t k = 0; k < slices; k++) {
            struct qc_slice *s;
            int r = qc_cache_get(&q->ref, i * slices + k, &s);
            if (r < 0)
                return r;
            qc_slice_pin(s);
            node_event(q->file, EV_REFBLOCK_UPDATE_PART);
            r = node_write_kind(q->file, get_be64(table + i * 8) + k * bytes, s->data, bytes, 0,
                                KIND_REFBLOCK);
            qc_slice_unpin(s);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int qc_shadow_begin(struct qc_shadow *s, struct qc *q, uint64_t more)
{
    uint64_t clusters, off;
    uint8_t *table = NULL;
    s->old_hint = q->free_hint;
    int r = plan(q, more, &clusters);
    if (r == 0)
        r = qc_alloc_exact(q, clusters, &off);
    if (r == 0 && !(table = mem_alloc_aligned(clusters << q->cluster_bits, 4096)))
        r = -ENOMEM;
    if (r == 0) {
        memset(table, 0, clusters << q->cluster_bits);
        r = alloc_blocks(q, table, (clusters << q->cluster_bits) / 8);
    }
    if (r == 0)
        r = copy_blocks(q, table);
    if (r < 0) {
        mem_free(table);
        qc_cache_clear(&q->ref);
        q->free_hint = s->old_hint;
        return r;
    }
    qc_cache_set_clean(&q->ref); /* as it was just written, to its new place */
    *s = (struct qc_shadow){.on = true,
                            .old_table = q->reftable,
                            .old_size = q->reftable_size,
                            .old_off = q->reftable_off,
                            .old_hint = s->old_hint};
    q->reftable = table;
    q->reftable_size = (clusters << q->cluster_bits) / 8;
    q->reftable_off = off;
    q->reftable_fixed = true;
    return 0;
}

int qc_shadow_write(struct qc *q)
{
    int r = qc_write_refblocks(q);
    return r < 0 ? r
                 : qc_write_table(q, q->reftable_off, q->reftable, q->reftable_size * 8,
                                  KIND_REFTABLE);
}

void qc_shadow_abort(struct qc_shadow *s, struct qc *q)
{
    if (!s->on)
        return;
    mem_free(q->reftable);
    q->reftable = s->old_table;
    q->reftable_size = s->old_size;
    q->reftable_off = s->old_off;
    q->reftable_fixed = false;
    q->free_hint = s->old_hint;
    qc_cache_clear(&q->ref);
    s->on = false;
}

void qc_shadow_commit(struct qc_shadow *s, struct qc *q)
{
    mem_free(s->old_table);
    q->reftable_fixed = false;
    s->on = false;
}

/* Is anything in use in a region, but the cluster `self`? 1, 0 or -errno. *last: the last one. */
static int region_in_use(struct qc *q, uint64_t region, uint64_t self, uint64_t *last)
{
    uint64_t slices = UINT64_C(1) << (q->refblock_bits - q->ref_slice_shift);
    for (uint64_t k = slices; k-- > 0;) {
        struct qc_slice *s;
        uint64_t index = region * slices + k;
        int r = qc_cache_get(&q->ref, index, &s);
        if (r < 0)
            return r;
        for (uint64_t pos = UINT64_C(1) << q->ref_slice_shift; pos-- > 0;) {
            uint64_t cluster = (index << q->ref_slice_shift) + pos;
            if (cluster == self || qc_ref_read(q->refcount_order, s->data, pos) == 0)
                continue;
            if (last)
                *last = cluster;
            return 1;
        }
    }
    return 0;
}

int qc_shadow_trim(struct qc *q)
{
    uint64_t slices = UINT64_C(1) << (q->refblock_bits - q->ref_slice_shift);
    for (uint64_t i = q->reftable_size; i-- > 0;) {
        uint64_t self = qc_reftable_get(q, i) >> q->cluster_bits, pos;
        struct qc_slice *s;
        if (self == 0)
            continue;
        int r = region_in_use(q, i, self, NULL);
        if (r == 0)
            r = qc_ref_slice(q, self, &s, &pos);
        else if (r > 0)
            continue;
        if (r < 0)
            return r;
        qc_ref_set(q, s, pos, 0);
        for (uint64_t k = 0; k < slices; k++)
            qc_cache_forget(&q->ref, i * slices + k);
        put_be64(q->reftable + i * 8, 0);
    }
    return 0;
}

int qc_shadow_end(struct qc *q, uint64_t *clusters)
{
    for (uint64_t i = q->reftable_size; i-- > 0;) {
        uint64_t last;
        int r = qc_reftable_get(q, i) ? region_in_use(q, i, 0, &last) : 0;
        if (r < 0)
            return r;
        if (r > 0) {
            *clusters = last + 1;
            return 0;
        }
    }
    return -EIO;
}
