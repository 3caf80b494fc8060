/* SPDX-License-Identifier: BSD-3-Clause
 *
 * New refcount blocks, and a larger refcount table.
 *
 * A region (the host clusters that one refcount block counts) that has no block yet is wholly free.
 * So its block goes into the region's own first cluster and counts itself: no other block needs
 * to change, and the algorithm cannot recurse. A larger table goes the same way into an area behind
 * everything counted so far: the blocks that count the area, then the table.
 *
 * Order: blocks and table are durable before the entry, or the header, that points at them. A
 * header switch that fails leaves us not knowing which table is on disk; both are right as of now,
 * so from then on nothing may be written back (flush_error).
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/qcow2_priv.h"

/* The first region behind all that have a block. */
static uint64_t first_uncounted(const struct qc *q)
{
    uint64_t i = q->reftable_size;
    while (i > 0 && qc_reftable_get(q, i - 1) == 0)
        i--;
    return i;
}

/* Blocks needed to count themselves and n clusters after them. */
static uint64_t blocks_for(const struct qc *q, uint64_t n)
{
    uint64_t per_block = UINT64_C(1) << q->refblock_bits, blocks = 1;
    while (blocks * per_block < blocks + n)
        blocks = div_round_up(blocks + n, per_block);
    return blocks;
}

/* Write the blocks of `blocks` regions from `region` on, with `payload` clusters counted behind. */
static int write_area(struct qc *q, uint64_t region, uint64_t blocks, uint64_t payload)
{
    uint64_t off = (region << q->refblock_bits) << q->cluster_bits;
    uint64_t used = blocks + payload;
    if (off + (used << q->cluster_bits) > QC_MAX_HOST_OFF)
        return -ENOSPC;
    if (qc_meta_hits(q, off, used << q->cluster_bits))
        return qc_corrupt(
            q, "no refcount block counts host offset 0x%" PRIx64 ", but there is metadata there",
            off);
    if (!qc_meta_reserve(q, blocks))
        return -ENOMEM;
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(blocks << q->cluster_bits, 4096);
    if (!buf)
        return -ENOMEM;
    memset(buf, 0, blocks << q->cluster_bits);
    /* Blocks lie one behind the other, so entry i of the area is entry i of the buffer. */
    for (uint64_t i = 0; i < used; i++)
        qc_ref_write(q->refcount_order, buf, i, 1);
    q->fresh_from = max_u64(q->fresh_from, off + (used << q->cluster_bits));
    return qc_write_table(q, off, buf, blocks << q->cluster_bits, KIND_REFBLOCK);
}

/* Point the reftable entries of new blocks at them. A failure is safe: a retry writes the same. */
static int hook_up(struct qc *q, uint64_t region, uint64_t blocks)
{
    AUTO_FREE uint8_t *be = mem_alloc(blocks * 8);
    if (!be)
        return -ENOMEM;
    uint64_t off = (region << q->refblock_bits) << q->cluster_bits;
    for (uint64_t i = 0; i < blocks; i++)
        put_be64(be + i * 8, off + (i << q->cluster_bits));
    int r = qc_barrier(q);
    if (r < 0)
        return r;
    node_event(q->file, EV_REFBLOCK_ALLOC_HOOKUP);
    r = node_write_kind(q->file, q->reftable_off + region * 8, be, blocks * 8, 0, KIND_REFTABLE);
    if (r < 0)
        return r;
    memcpy(q->reftable + region * 8, be, blocks * 8);
    for (uint64_t i = 0; i < blocks; i++)
        qc_meta_add(q, off + (i << q->cluster_bits));
    return 0;
}

/* Entries and clusters of a table that has room for `need` entries beside those of its own area. */
static int table_plan(const struct qc *q, uint64_t region, uint64_t need, uint64_t *clusters,
                      uint64_t *blocks)
{
    uint64_t limit = QC_MAX_REFTABLE_BYTES / 8;
    uint64_t entries = max_u64(need, min_u64(q->reftable_size + q->reftable_size / 2, limit));
    for (;;) {
        *clusters = qc_clusters(q, entries * 8);
        *blocks = blocks_for(q, *clusters);
        uint64_t want = max_u64(need, region + *blocks);
        if (*clusters << q->cluster_bits > QC_MAX_REFTABLE_BYTES)
            return -ENOSPC;
        if (want <= (*clusters << q->cluster_bits) / 8)
            return 0;
        entries = want;
    }
}

static int switch_table(struct qc *q, uint64_t table_off, uint64_t clusters)
{
    uint8_t be[12];
    put_be64(be, table_off);
    put_be32(be + 8, (uint32_t)clusters);
    node_event(q->file, EV_REFBLOCK_ALLOC_SWITCH_TABLE);
    int r = node_write_kind(q->file, QCH_REFTABLE_OFF, be, sizeof(be), 0, KIND_HEADER);
    if (r < 0) {
        q->flush_error = r;
        return r;
    }
    return qc_barrier(q);
}

static int grow_table(struct qc *q, uint64_t need)
{
    uint64_t region = first_uncounted(q), clusters, blocks;
    if (q->reftable_fixed)
        return -ENOSPC;
    node_event(q->file, EV_REFTABLE_GROW);
    int r = table_plan(q, region, need, &clusters, &blocks);
    if (r < 0)
        return r;
    if (!qc_freed_reserve(&q->freed, 1))
        return -ENOMEM;
    AUTO_FREE uint8_t *table = mem_alloc_aligned(clusters << q->cluster_bits, 4096);
    if (!table)
        return -ENOMEM;
    uint64_t off = (region << q->refblock_bits) << q->cluster_bits;
    memset(table, 0, clusters << q->cluster_bits);
    memcpy(table, q->reftable, q->reftable_size * 8);
    for (uint64_t i = 0; i < blocks; i++)
        put_be64(table + (region + i) * 8, off + (i << q->cluster_bits));

    node_event(q->file, EV_REFBLOCK_ALLOC_WRITE_BLOCKS);
    r = write_area(q, region, blocks, clusters);
    if (r < 0)
        return r;
    uint64_t table_off = off + (blocks << q->cluster_bits);
    node_event(q->file, EV_REFBLOCK_ALLOC_WRITE_TABLE);
    r = qc_write_table(q, table_off, table, clusters << q->cluster_bits, KIND_REFTABLE);
    if (r == 0)
        r = qc_barrier(q);
    if (r == 0)
        r = switch_table(q, table_off, clusters);
    if (r < 0)
        return r;

    uint64_t old_off = q->reftable_off, old_clusters = qc_clusters(q, q->reftable_size * 8);
    uint8_t *old = q->reftable;
    q->reftable = steal(table);
    q->reftable_off = table_off;
    q->reftable_size = (clusters << q->cluster_bits) / 8;
    mem_free(old);
    for (uint64_t i = 0; i < blocks; i++)
        qc_meta_add(q, off + (i << q->cluster_bits));
    if (!qc_freed_reserve(&q->freed, 1)) /* others may have used it up meanwhile: then it leaks */
        return 0;
    qc_free_later(q, old_off, old_clusters, false);
    qc_free_announce(q, 1);
    return 0;
}

int qc_refblock_make(struct qc *q, uint64_t cluster)
{
    uint64_t region = cluster >> q->refblock_bits;
    node_event(q->file, EV_REFBLOCK_ALLOC);
    if (region >= q->reftable_size)
        return grow_table(q, region + 1);
    node_event(q->file, EV_REFBLOCK_ALLOC_WRITE);
    node_event(q->file, EV_REFBLOCK_UPDATE_PART);
    int r = write_area(q, region, 1, 0);
    return r < 0 ? r : hook_up(q, region, 1);
}

int qc_area_make(struct qc *q, uint64_t n, uint64_t *host_off)
{
    uint64_t blocks = blocks_for(q, n), region;
    if (q->frozen)
        return q->frozen;
    while ((region = first_uncounted(q)) + blocks > q->reftable_size) {
        int r = grow_table(q, region + 2 * blocks);
        if (r < 0)
            return r;
    }
    node_event(q->file, EV_REFBLOCK_ALLOC);
    node_event(q->file, EV_REFBLOCK_ALLOC_WRITE);
    node_event(q->file, EV_REFBLOCK_UPDATE_PART);
    int r = write_area(q, region, blocks, n);
    if (r == 0)
        r = hook_up(q, region, blocks);
    if (r == 0)
        *host_off = ((region << q->refblock_bits) + blocks) << q->cluster_bits;
    return r;
}
