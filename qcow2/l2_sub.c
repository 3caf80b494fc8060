/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Lookups in extended L2 entries. Source: qcow2.txt, "Extended L2 Entries".
 *
 * A run is counted in subclusters: bit tricks within one entry, then on into the next as long as
 * entries end with the same type and their host clusters, if any, continue each other. Whether the
 * cluster has a place is one question, whether a subcluster of it holds data another: a subcluster
 * without data is unallocated, with or without a place.
 */
#include "qcow2/qcow2_priv.h"

static enum qc_type sub_type(const struct qc *q, struct qc_cell c, unsigned sub)
{
    if (c.entry & QC_COMPRESSED)
        return QC_COMPRESSED_TYPE;
    if (qc_map_alloc(c.map) >> sub & 1)
        return QC_NORMAL;
    if (qc_map_zero(c.map) >> sub & 1)
        return (c.entry & q->host_mask) ? QC_ZERO_ALLOCATED : QC_ZERO_PLAIN;
    return QC_UNALLOCATED;
}

/* How many subclusters from sub on have this type. */
static unsigned sub_count(struct qc_cell c, enum qc_type type, unsigned sub)
{
    uint32_t same = type == QC_NORMAL        ? qc_map_alloc(c.map)
                    : type == QC_UNALLOCATED ? ~(qc_map_alloc(c.map) | qc_map_zero(c.map))
                                             : qc_map_zero(c.map);
    uint32_t other = ~(same >> sub);
    unsigned n = other ? (unsigned)__builtin_ctz(other) : QC_SUBS;
    return n < QC_SUBS - sub ? n : QC_SUBS - sub;
}

/* What may follow in a run: sound, and in the next host cluster, or in none like the first. */
static bool sub_joins(const struct qc *q, struct qc_cell first, struct qc_cell c, uint64_t i,
                      enum qc_type type)
{
    if (c.entry & (QC_COMPRESSED | QC_ZERO) || (qc_map_alloc(c.map) & qc_map_zero(c.map)) ||
        (qc_map_alloc(c.map) && !(c.entry & q->host_mask)) || sub_type(q, c, 0) != type)
        return false;
    return c.entry == ((first.entry & q->host_mask) ? first.entry + (i << q->cluster_bits) : 0);
}

/* Subclusters, the last of them in the same slice and, if it has a place, in the file. */
static uint64_t run_subs(const struct qc *q, const struct qc_slice *s, size_t pos,
                         enum qc_type type, unsigned sub, uint64_t max)
{
    struct qc_cell first = qc_cell_get(q, s, pos, 0);
    uint64_t n = sub_count(first, type, sub);
    if (n < QC_SUBS - sub)
        return n;
    if ((first.entry & q->host_mask) && !q->has_data_file)
        max = min_u64(max, qc_clusters(q, q->file->size - (first.entry & QC_OFFSET_MASK)));
    for (uint64_t i = 1; i < max; i++) {
        struct qc_cell c = qc_cell_get(q, s, pos, i);
        if (!sub_joins(q, first, c, i, type))
            break;
        unsigned more = sub_count(c, type, 0);
        n += more;
        if (more < QC_SUBS)
            break;
    }
    return n;
}

int qc_sub_lookup(struct qc *q, const struct qc_slice *s, size_t pos, uint64_t l1_entry,
                  uint64_t guest_off, uint64_t len, struct qc_run *run)
{
    struct qc_cell c = qc_cell_get(q, s, pos, 0);
    uint64_t in_cluster = guest_off & (q->cluster_size - 1);
    if (c.entry | c.map) {
        int r = qc_l2_check(q, guest_off, c);
        if (r < 0)
            return r;
    }
    unsigned sub = (unsigned)(in_cluster >> q->sub_bits);
    enum qc_type type = run->type = sub_type(q, c, sub);
    run->copied = (c.entry & l1_entry & QC_COPIED) != 0;
    run->placed = type != QC_COMPRESSED_TYPE && (c.entry & q->host_mask);
    if (type == QC_COMPRESSED_TYPE) {
        run->host_off = c.entry;
        run->len = min_u64(len, q->cluster_size - in_cluster);
        return 0;
    }
    uint64_t left = ((UINT64_C(1) << q->l2.slice_bits) - pos) >> q->l2_entry_shift;
    uint64_t subs = run_subs(q, s, pos, type, sub, min_u64(left, qc_clusters(q, in_cluster + len)));
    run->host_off = run->placed ? (c.entry & QC_OFFSET_MASK) + in_cluster : 0;
    run->len = min_u64(len, ((sub + subs) << q->sub_bits) - in_cluster);
    return 0;
}
