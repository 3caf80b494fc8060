/* SPDX-License-Identifier: BSD-3-Clause
 *
 * New refcount structures for the whole image: where the old ones are missing, cannot be where they
 * should be, or share a cluster with something else.
 *
 * They lie in one piece behind the end of the file, where nothing can be that anything refers to:
 * the refcount table, the blocks, and the new snapshot table if there is to be one. They count
 * themselves and do not count what they replace, so that nothing is left to clean up. Until the
 * header is written, in one sector, the image is what it was. Source: qcow2.txt, "Host cluster
 * management".
 */
#include <errno.h>

#include "base/cleanup.h"
#include "qcow2/repair_priv.h"

struct rebuild {
    struct qcr *q;
    bool unknown;               /* what the refcounts were: the table is no table */
    uint8_t *used;              /* for each region: it needs a block */
    uint64_t n_used, regions;   /* of them; of the table */
    uint64_t first, n;          /* the new clusters */
    uint64_t table_n, shared_n; /* of these, for the refcount table and the snapshot table */
    uint8_t *table, *block, *snapshots;
    uint64_t snapshots_len;
};

/* Is the refcount table nothing else, and all of it there? */
static bool table_is_good(const struct qcc *c)
{
    uint64_t first = c->first.h.reftable_off >> c->cluster_bits;
    if (!c->reftable_size || !c->reftable_counted)
        return false;
    for (uint64_t i = 0; i < c->first.h.reftable_clusters; i++)
        if (qcc_counts_get(&c->counts, first + i) != 1)
            return false;
    return true;
}

bool qcr_must_rebuild(const struct qcr *q)
{
    const struct qcc *c = q->c;
    uint64_t n = qcr_end(c);
    if (!table_is_good(c) || c->snapshots.rewrite)
        return true;
    for (uint64_t i = 0; i < c->reftable_size; i++) {
        uint64_t entry = qcc_reftable_get(c, i);
        if (entry && ((c->block[i] & QCC_BLOCK_BAD) ||
                      qcc_counts_get(&c->counts, entry >> c->cluster_bits) != 1))
            return true;
    }
    for (uint64_t k = 0; k < n;) { /* is anything in use without a block? */
        const struct qcc_page *p = &c->counts.page[k / QCC_PAGE];
        if (!p->word && !p->wide)
            k = (k / QCC_PAGE + 1) * QCC_PAGE;
        else if (qcc_reftable_get(c, k >> c->refblock_bits))
            k = ((k >> c->refblock_bits) + 1) << c->refblock_bits;
        else if (qcc_counts_get(&c->counts, k++))
            return true;
    }
    return false;
}

/* The structures that are to be replaced give up their clusters. */
static void drop_old(struct qcc *c)
{
    const struct qc_header *h = &c->first.h;
    for (uint64_t i = 0; c->reftable_counted && i < h->reftable_clusters; i++)
        qcc_counts_drop(&c->counts, (h->reftable_off >> c->cluster_bits) + i);
    for (uint64_t i = 0; i < c->reftable_size; i++)
        if (qcc_reftable_get(c, i) && !(c->block[i] & QCC_BLOCK_BAD))
            qcc_counts_drop(&c->counts, qcc_reftable_get(c, i) >> c->cluster_bits);
    uint64_t n = c->snapshots.rewrite ? div_round_up(c->snapshots.bytes, c->cluster) : 0;
    for (uint64_t i = 0; i < n; i++)
        qcc_counts_drop(&c->counts, (h->snapshots_off >> c->cluster_bits) + i);
}

/* Does the region hold a refcount other than 0, of a cluster before the new ones? */
static bool region_is_used(const struct rebuild *b, uint64_t region)
{
    const struct qcr *q = b->q;
    const struct qcc *c = q->c;
    uint64_t from = region << c->refblock_bits;
    uint64_t to = min_u64(qcr_end(c), from + (UINT64_C(1) << c->refblock_bits));
    if (!q->may_lower && (b->unknown || qcc_reftable_get(c, region)))
        return true; /* what it says stays */
    while (from < to) {
        const struct qcc_page *p = &c->counts.page[from / QCC_PAGE];
        uint64_t end = min_u64(to, (from / QCC_PAGE + 1) * QCC_PAGE);
        for (uint64_t k = from; (p->word || p->wide) && k < end; k++)
            if (qcc_counts_get(&c->counts, k))
                return true;
        from = end;
    }
    return false;
}

static void need_region(struct rebuild *b, uint64_t region)
{
    b->n_used += !b->used[region];
    b->used[region] = 1;
    b->regions = max_u64(b->regions, region + 1);
}

/* Where everything goes. The new clusters need refcounts, too, which may need more new clusters. */
static int place(struct rebuild *b)
{
    struct qcc *c = b->q->c;
    uint64_t most = QC_MAX_REFTABLE_BYTES / 8, old = qcr_end(c);
    b->first = max_u64(old, c->n);
    if ((old >> c->refblock_bits) + 1 > most)
        return -EFBIG;
    b->used = mem_zalloc(most);
    if (!b->used)
        return -ENOMEM;
    for (uint64_t i = 0; i <= old >> c->refblock_bits; i++)
        if (region_is_used(b, i))
            need_region(b, i);
    b->shared_n = div_round_up(b->snapshots_len, c->cluster);
    for (uint64_t before = 0; b->n == 0 || b->n != before;) {
        before = b->n;
        b->table_n = div_round_up(b->regions * 8, c->cluster);
        b->n = b->table_n + b->n_used + b->shared_n;
        uint64_t last = (b->first + b->n) >> c->refblock_bits;
        if (last >= most)
            return -EFBIG;
        for (uint64_t i = b->first >> c->refblock_bits; b->n && i <= last; i++)
            need_region(b, i);
    }
    uint64_t end = (b->first + b->n) << c->cluster_bits;
    return end > c->far || end > QC_MAX_HOST_OFF ? -EFBIG : 0;
}

/* The block of one region, in b->block. */
static int fill_block(struct rebuild *b, uint64_t region)
{
    struct qcr *q = b->q;
    struct qcc *c = q->c;
    uint64_t first = region << c->refblock_bits, entry = qcc_reftable_get(c, region);
    bool bad = b->unknown || (region < c->reftable_size && (c->block[region] & QCC_BLOCK_BAD));
    memset(b->block, 0, c->cluster);
    memset(c->buf, 0, c->cluster);
    if (!q->may_lower && entry && !bad) {
        int r = qc_bytes_read(c->file, entry, c->buf, c->cluster);
        if (r < 0)
            return r;
    }
    for (uint64_t i = 0; i < UINT64_C(1) << c->refblock_bits; i++) {
        uint64_t k = first + i, old = qc_ref_read(c->refcount_order, c->buf, i), now = 0;
        if (bad && !q->may_lower && k < c->n)
            old = 1; /* nobody knows: it may be in use */
        if (k >= b->first)
            now = k < b->first + b->n;
        else
            now = qcr_refcount(q, k, old);
        if (now)
            qc_ref_write(c->refcount_order, b->block, i, now);
    }
    return 0;
}

static int write_structures(struct rebuild *b)
{
    struct qcc *c = b->q->c;
    uint64_t at = (b->first + b->table_n) << c->cluster_bits;
    int r = 0;
    for (uint64_t i = 0; i < b->regions && r == 0; i++) {
        if (!b->used[i])
            continue;
        r = fill_block(b, i);
        if (r == 0)
            r = qcr_write(b->q, at, b->block, c->cluster, KIND_REFBLOCK);
        put_be64(b->table + i * 8, at);
        at += c->cluster;
    }
    if (r == 0)
        r = qcr_write(b->q, b->first << c->cluster_bits, b->table, b->table_n << c->cluster_bits,
                      KIND_REFTABLE);
    if (r == 0 && b->snapshots_len)
        r = qcr_write(b->q, at, b->snapshots, b->shared_n << c->cluster_bits, KIND_SNAPSHOT);
    return r == 0 ? node_flush(c->file) : r;
}

/* One write of 24 bytes: refcount table offset and clusters, number and offset of snapshots. */
static int switch_header(struct rebuild *b)
{
    struct qcc *c = b->q->c;
    uint8_t part[QCH_SNAPSHOTS_OFF + 8 - QCH_REFTABLE_OFF];
    uint64_t snapshots = (b->first + b->table_n + b->n_used) << c->cluster_bits;
    memcpy(part, c->first.buf + QCH_REFTABLE_OFF, sizeof(part));
    put_be64(part, b->first << c->cluster_bits);
    put_be32(part + (QCH_REFTABLE_CLUSTERS - QCH_REFTABLE_OFF), (uint32_t)b->table_n);
    if (c->snapshots.rewrite) {
        put_be32(part + (QCH_NB_SNAPSHOTS - QCH_REFTABLE_OFF), c->snapshots.n);
        put_be64(part + (QCH_SNAPSHOTS_OFF - QCH_REFTABLE_OFF), b->snapshots_len ? snapshots : 0);
    }
    int r = qcr_write(b->q, QCH_REFTABLE_OFF, part, sizeof(part), KIND_HEADER);
    return r == 0 ? node_flush(c->file) : r;
}

static int rebuild(struct rebuild *b)
{
    struct qcc *c = b->q->c;
    int r = c->snapshots.rewrite ? qcr_snapshots_build(b->q, &b->snapshots, &b->snapshots_len) : 0;
    b->unknown = !table_is_good(c);
    if (r == 0)
        r = place(b);
    if (r < 0)
        return r;
    b->table = mem_zalloc(b->table_n << c->cluster_bits);
    b->block = mem_alloc_aligned(c->cluster, 4096);
    if (!b->table || !b->block)
        return -ENOMEM;
    drop_old(c);
    r = write_structures(b);
    return r == 0 ? switch_header(b) : r;
}

int qcr_rebuild(struct qcr *q)
{
    struct rebuild b = {.q = q};
    int r = rebuild(&b);
    mem_free(b.used);
    mem_free(b.table);
    mem_free(b.block);
    mem_free(b.snapshots);
    return r;
}
