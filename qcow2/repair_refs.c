/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Repairing refcounts in the blocks that there are. Each refcount is right or as it was, whichever
 * of them a crash keeps. Source: qcow2.txt, "Host cluster management".
 */
#include <errno.h>

#include "base/cleanup.h"
#include "qcow2/repair_priv.h"

static uint64_t refcount_max(const struct qcc *c)
{
    return c->refcount_order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << c->refcount_order)) - 1;
}

uint64_t qcr_refcount(const struct qcr *q, uint64_t cluster, uint64_t old)
{
    const struct qcc *c = q->c;
    uint64_t refs = cluster < qcr_end(c) ? qcc_counts_get(&c->counts, cluster) : 0;
    refs = min_u64(refs, refcount_max(c)); /* what is over cannot be repaired */
    if (refs > old)
        return q->all ? refs : old;
    /* With other damage about, only what nobody refers to is surely a leak. */
    bool lower = q->may_lower && (q->all || refs == 0 || !c->r->corruptions);
    return lower ? refs : old;
}

/* Do the refcounts of a region agree with its references, as far as that can be seen at once? */
static bool region_is_right(const struct qcc *c, uint64_t region)
{
    uint64_t from = region << c->refblock_bits, n = qcr_end(c);
    uint64_t to = min_u64(n, from + (UINT64_C(1) << c->refblock_bits));
    if (c->block[region] & QCC_BLOCK_OTHER)
        return false;
    while (from < to) {
        const struct qcc_page *p = &c->counts.page[from / QCC_PAGE];
        uint64_t end = min_u64(to, (from / QCC_PAGE + 1) * QCC_PAGE);
        if (p->wide)
            return false;
        for (uint64_t k = from; p->word && k < end; k += 64) {
            const struct qcc_word *w = &p->word[k % QCC_PAGE / 64];
            if (w->hi || w->lo != w->one)
                return false;
        }
        from = end;
    }
    return true;
}

/* write: 0: only say (1) that something is wrong. */
static int fix_block(struct qcr *q, uint64_t region, uint8_t *was, bool write)
{
    struct qcc *c = q->c;
    uint64_t off = qcc_reftable_get(c, region), first = region << c->refblock_bits;
    int r = qc_bytes_read(c->file, off, was, c->cluster);
    if (r < 0)
        return r;
    memcpy(c->buf, was, c->cluster);
    for (uint64_t i = 0; i < UINT64_C(1) << c->refblock_bits; i++) {
        uint64_t old = qc_ref_read(c->refcount_order, was, i);
        uint64_t now = qcr_refcount(q, first + i, old);
        if (now != old)
            qc_ref_write(c->refcount_order, c->buf, i, now);
    }
    if (!write)
        return memcmp(was, c->buf, c->cluster) != 0;
    return qcr_changed(q, off, was, c->buf, c->cluster, KIND_REFBLOCK);
}

static int fix_blocks(struct qcr *q, bool write)
{
    struct qcc *c = q->c;
    AUTO_FREE uint8_t *was = mem_alloc_aligned(c->cluster, 4096);
    int r = was ? 0 : -ENOMEM;
    for (uint64_t i = 0; i < c->reftable_size && r == 0; i++) {
        uint64_t entry = qcc_reftable_get(c, i);
        if (!entry || (c->block[i] & QCC_BLOCK_BAD) || i << c->refblock_bits >= qcr_end(c))
            continue;
        /* Nothing is written to a block that is also something else. */
        if (qcc_counts_get(&c->counts, entry >> c->cluster_bits) == 1 && !region_is_right(c, i))
            r = fix_block(q, i, was, write);
    }
    return r;
}

int qcr_fix_refcounts(struct qcr *q)
{
    return fix_blocks(q, true);
}

int qcr_refcounts_are_wrong(struct qcr *q)
{
    return fix_blocks(q, false);
}
