/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Repairing entries of L1 and L2 tables, as long as that changes nothing of what the guest reads:
 * COPIED flags, reserved bits, the offset of a cluster that reads as zeros anyhow. Source:
 * qcow2.txt, "Cluster mapping".
 */
#include <errno.h>

#include "base/cleanup.h"
#include "qcow2/repair_priv.h"

#define L2_RESERVED UINT64_C(0x3f000000000001fe)

/* What bit 63 of an active entry should be. */
static bool want_copied(const struct qcr *q, uint64_t entry, uint64_t cluster)
{
    bool is = entry & QC_COPIED, once = qcc_counts_get(&q->c->counts, cluster) == 1;
    if (q->all)
        return once;
    /* A refcount that falls to one; there is no other damage. */
    return is || (once && !q->c->r->corruptions);
}

static uint64_t with_copied(uint64_t entry, bool copied)
{
    return copied ? entry | QC_COPIED : entry & ~QC_COPIED;
}

/* Can there be a cluster at off that was counted? */
static bool was_counted(const struct qcc *c, uint64_t off)
{
    return off && is_aligned(off, c->cluster) && off < c->file->size;
}

static uint64_t fix_l1_entry(const struct qcr *q, uint64_t entry, bool active)
{
    const struct qcc *c = q->c;
    uint64_t off = entry & QC_OFFSET_MASK;
    if (off && !was_counted(c, off))
        return entry;
    if (q->all)
        entry &= ~QC_L1_RESERVED;
    if (off == 0)
        return q->all ? 0 : entry;
    return active ? with_copied(entry, want_copied(q, entry, off >> c->cluster_bits)) : entry;
}

static uint64_t fix_compressed(const struct qcr *q, uint64_t entry, uint64_t bitmap)
{
    return q->all && !q->c->data_file && !bitmap ? entry & ~QC_COPIED : entry;
}

static uint64_t fix_l2_entry(const struct qcr *q, uint64_t entry, uint64_t bitmap, bool active)
{
    const struct qcc *c = q->c;
    uint64_t off = entry & QC_OFFSET_MASK;
    if (entry & QC_COMPRESSED)
        return fix_compressed(q, entry, bitmap);
    if (c->data_file) /* its clusters are not counted: they have one reference by definition */
        return q->all && active && (off || (entry & QC_COPIED))
                   ? with_copied(entry & ~L2_RESERVED, true)
                   : entry;
    if (off && !is_aligned(off, c->cluster) && q->all && qcc_entry_is_zero(c, entry))
        return QC_ZERO;
    if (off && !was_counted(c, off))
        return entry;
    if (q->all)
        entry &= ~L2_RESERVED;
    if (off == 0)
        return q->all ? entry & ~QC_COPIED : entry;
    return active ? with_copied(entry, want_copied(q, entry, off >> c->cluster_bits)) : entry;
}

static int fix_l1_part(struct qcr *q, const struct qcc_l1 *t, uint64_t off, uint64_t len,
                       uint8_t *was)
{
    struct qcc *c = q->c;
    if (qcc_counts_get(&c->counts, off >> c->cluster_bits) != 1)
        return 0; /* something else is there, too */
    int r = qcc_read(c, off, len);
    if (r <= 0)
        return r;
    memcpy(was, c->buf, len);
    for (uint64_t i = 0; i < len; i += 8)
        put_be64(c->buf + i, fix_l1_entry(q, get_be64(was + i), t->active));
    return qcr_changed(q, off, was, c->buf, len, KIND_L1);
}

static int fix_l2_table(struct qcr *q, const struct qcc_l2 *t, uint8_t *was)
{
    struct qcc *c = q->c;
    uint64_t step = UINT64_C(1) << c->l2_entry_shift, off = t->cluster << c->cluster_bits;
    if (qcc_counts_get(&c->counts, t->cluster) != t->times)
        return 0;
    int r = qcc_read(c, off, c->cluster);
    if (r <= 0)
        return r;
    memcpy(was, c->buf, c->cluster);
    for (uint64_t i = 0; i < c->cluster; i += step) {
        uint64_t bitmap = c->extended_l2 ? get_be64(was + i + 8) : 0;
        put_be64(c->buf + i, fix_l2_entry(q, get_be64(was + i), bitmap, t->active));
    }
    return qcr_changed(q, off, was, c->buf, c->cluster, KIND_L2);
}

int qcr_fix_tables(struct qcr *q)
{
    struct qcc *c = q->c;
    AUTO_FREE uint8_t *was = mem_alloc(c->cluster);
    int r = was ? 0 : -ENOMEM;
    for (size_t i = 0; i < c->n_l1 && r == 0; i++)
        for (uint64_t done = 0; done < c->l1[i].bytes && r == 0; done += c->cluster)
            r = fix_l1_part(q, &c->l1[i], c->l1[i].off + done,
                            min_u64(c->l1[i].bytes - done, c->cluster), was);
    for (size_t i = 0; i < c->n_l2 && r == 0; i++)
        r = fix_l2_table(q, &c->l2[i], was);
    return r;
}
