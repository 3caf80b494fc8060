/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking L2 tables. Source: qcow2.txt, "Cluster mapping", "Extended L2 Entries".
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/check_priv.h"

#define STANDARD_RESERVED UINT64_C(0x3f000000000001fe)

struct walk { /* of one table */
    const struct qcc_l2 *t;
    uint64_t i;    /* entry */
    uint64_t next; /* host offset that would continue the last data cluster; 0: none yet */
};

static uint64_t entry_off(const struct qcc *c, const struct walk *w)
{
    return (w->t->cluster << c->cluster_bits) + (w->i << c->l2_entry_shift);
}

static void bad(struct qcc *c, const struct walk *w, uint64_t entry, const char *why)
{
    uint64_t per_table = c->cluster >> c->l2_entry_shift;
    uint64_t guest = ((uint64_t)w->t->l1_index * per_table + w->i) << c->cluster_bits;
    qcc_corrupt(c, 1,
                "L2 entry at 0x%" PRIx64 " (guest offset 0x%" PRIx64 "%s) is 0x%" PRIx64 ": %s",
                entry_off(c, w), guest, w->t->active ? "" : ", of a snapshot", entry, why);
}

static int refer(struct qcc *c, const struct walk *w, uint64_t entry, uint64_t off, uint64_t len)
{
    if (off >= c->file->size || off + len >= c->file->size + c->cluster) {
        bad(c, w, entry, "the cluster is past the end of the file");
        return 0;
    }
    uint64_t last = (off + len - 1) >> c->cluster_bits;
    for (uint64_t k = off >> c->cluster_bits; k <= last; k++) {
        int r = qcc_counts_add(&c->counts, k, w->t->times);
        if (r < 0)
            return r;
    }
    return 1;
}

/* "Compressed Clusters Descriptor". */
static int check_compressed(struct qcc *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
    unsigned x = 62 - (c->cluster_bits - 8);
    uint64_t off = entry & ((UINT64_C(1) << x) - 1) & (QC_MAX_HOST_OFF - 1);
    uint64_t sectors = (entry & (QC_COMPRESSED - 1)) >> x;

    if (entry & QC_COPIED)
        bad(c, w, entry, "COPIED on a compressed cluster");
    if (c->data_file) {
        bad(c, w, entry, "a compressed cluster in an image with a data file");
        return 0;
    }
    if (bitmap) {
        bad(c, w, entry, "a compressed cluster with a subcluster bitmap");
        return 0;
    }
    if (w->t->active) {
        c->r->allocated_clusters++;
        c->r->compressed_clusters++;
        c->r->fragmented_clusters++;
    }
    int r = refer(c, w, entry, off, round_down(off, 512) + (sectors + 1) * 512 - off);
    return r < 0 ? r : 0;
}

static int check_allocated(struct qcc *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
    uint64_t off = entry & QC_OFFSET_MASK;

    if (bitmap & bitmap >> 32)
        bad(c, w, entry, "a subcluster is both allocated and zero");
    if (!is_aligned(off, c->cluster))
        bad(c, w, entry, "the cluster is not aligned");
    if (w->t->active) {
        c->r->allocated_clusters++;
        c->r->fragmented_clusters += w->next && off != w->next;
        w->next = off + c->cluster;
    }
    if (c->data_file) { /* its clusters are not counted: their refcount is always one */
        if (w->t->active && !(entry & QC_COPIED))
            bad(c, w, entry, "COPIED is 0 in an image with a data file");
        return 0;
    }
    if (!is_aligned(off, c->cluster))
        return 0;
    int r = refer(c, w, entry, off, c->cluster);
    if (r > 0 && w->t->active && qcc_copied_is_wrong(c, entry, off >> c->cluster_bits))
        bad(c, w, entry,
            entry & QC_COPIED ? "COPIED is 1, but the refcount is not one"
                              : "COPIED is 0, but the refcount is one");
    return r < 0 ? r : 0;
}

static int check_entry(struct qcc *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
    if (entry & QC_COMPRESSED)
        return check_compressed(c, w, entry, bitmap);
    if (entry & STANDARD_RESERVED)
        bad(c, w, entry, "reserved bits");
    if ((entry & QC_ZERO) && c->first.h.version < 3)
        bad(c, w, entry, "zero flag in a version 2 image");
    if ((entry & QC_ZERO) && c->extended_l2)
        bad(c, w, entry, "zero flag in an image with subclusters");
    if ((entry & QC_OFFSET_MASK) || (c->data_file && (entry & QC_COPIED)))
        return check_allocated(c, w, entry, bitmap);
    if (entry & QC_COPIED)
        bad(c, w, entry, "COPIED without a cluster");
    if (bitmap & UINT32_MAX)
        bad(c, w, entry, "allocated subclusters without a cluster");
    return 0;
}

static int check_table(struct qcc *c, const struct qcc_l2 *t)
{
    struct walk w = {.t = t};
    uint64_t n = c->cluster >> c->l2_entry_shift;
    int r = qcc_read(c, t->cluster << c->cluster_bits, c->cluster);
    if (r <= 0)
        return r;
    for (; w.i < n; w.i++) {
        const uint8_t *p = c->buf + (w.i << c->l2_entry_shift);
        uint64_t entry = get_be64(p), bitmap = c->extended_l2 ? get_be64(p + 8) : 0;
        if (entry == 0 && bitmap == 0)
            continue;
        r = check_entry(c, &w, entry, bitmap);
        if (r < 0)
            return r;
    }
    return 0;
}

int qcc_check_l2_tables(struct qcc *c)
{
    qcc_l2_compact(c);
    c->all = c->done + c->n_l2 + min_u64(c->reftable_size, (c->n >> c->refblock_bits) + 1);
    for (size_t i = 0; i < c->n_l2; i++) {
        int r = check_table(c, &c->l2[i]);
        if (r < 0)
            return r;
        qcc_step(c);
    }
    return 0;
}
