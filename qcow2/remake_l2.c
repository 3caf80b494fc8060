/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walking L2 tables: what they refer to, and new ones with true COPIED flags.
 *
 * Tables are read from the file, not through the cache: those of snapshots have no place in it, and
 * nothing in it is dirty now.
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/remake.h"

static unsigned entries_bits(const struct qc *q)
{
    return q->l1_shift - q->cluster_bits;
}

/* The L2 table of entry i of an L1 table into m->l2. 1: read; 0: there is none; -errno. */
static int l2_read(struct qc_remake *m, uint64_t i, uint64_t entry)
{
    struct qc *q = m->q;
    uint64_t off = entry & QC_OFFSET_MASK;
    if (entry == 0)
        return 0;
    if (off == 0 || (entry & QC_L1_RESERVED) || !is_aligned(off, q->cluster_size) ||
        off >= q->file->size)
        return qc_corrupt(q,
                          "entry %" PRIu64 " of an L1 table is 0x%" PRIx64
                          ", not the offset of a table in the file of %" PRIu64 " bytes",
                          i, entry, q->file->size);
    node_event(q->file, EV_L2_LOAD);
    int r = qc_read_host(q, off, m->l2, q->cluster_size);
    return r < 0 ? r : 1;
}

int qc_remake_add(struct qc_remake *m, uint64_t cluster, int by)
{
    if (cluster >= m->limit)
        return qc_corrupt(m->q,
                          "a table refers to host offset 0x%" PRIx64 ", past the end of the file",
                          cluster << m->q->cluster_bits);
    int r = qc_delta_add(&m->delta, cluster, by);
    if (r == -EAGAIN) {
        r = qc_remake_apply(m);
        if (r == 0)
            r = qc_delta_add(&m->delta, cluster, by);
    }
    return r;
}

int qc_remake_refer_clusters(struct qc_remake *m, uint64_t host_off, uint64_t clusters, int by)
{
    for (uint64_t i = 0; i < clusters; i++) {
        int r = qc_remake_add(m, (host_off >> m->q->cluster_bits) + i, by);
        if (r < 0)
            return r;
    }
    return 0;
}

static int refer_entry(struct qc_remake *m, uint64_t entry, int by)
{
    struct qc *q = m->q;
    uint64_t off = entry & QC_OFFSET_MASK, len;
    if (entry & QC_COMPRESSED) {
        qc_zip_span(q, entry, &off, &len);
        uint64_t start = round_down(off, q->cluster_size);
        return qc_remake_refer_clusters(m, start, qc_clusters(q, off + len - start), by);
    }
    if (off == 0 || m->external)
        return 0;
    if (!is_aligned(off, q->cluster_size))
        return qc_corrupt(q, "an L2 entry is 0x%" PRIx64 ": offset is not aligned to a cluster",
                          entry);
    return qc_remake_add(m, off >> q->cluster_bits, by);
}

int qc_remake_refer(struct qc_remake *m, const uint8_t *l1, uint64_t l1_size, uint64_t from, int by)
{
    struct qc *q = m->q;
    uint64_t n = UINT64_C(1) << entries_bits(q), size = q->cluster_size >> entries_bits(q);
    for (uint64_t i = from >> q->l1_shift; i < l1_size; i++) {
        uint64_t entry = get_be64(l1 + i * 8), start = i << q->l1_shift;
        int r = l2_read(m, i, entry);
        if (r == 0)
            continue;
        if (r > 0)
            r = start >= from ? qc_remake_add(m, (entry & QC_OFFSET_MASK) >> q->cluster_bits, by)
                              : 0;
        for (uint64_t k = start >= from ? 0 : (from - start) >> q->cluster_bits; r == 0 && k < n;
             k++)
            r = refer_entry(m, get_be64(m->l2 + k * size), by);
        if (r < 0)
            return r;
    }
    return 0;
}

static int apply_one(struct qc_remake *m, uint64_t cluster, int by)
{
    struct qc *q = m->q;
    struct qc_slice *s;
    uint64_t pos, bits = UINT64_C(1) << q->refcount_order;
    uint64_t max = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    int r = qc_ref_slice(q, cluster, &s, &pos);
    if (r < 0 && r != -ENOENT)
        return r;
    uint64_t count = r < 0 ? 0 : qc_ref_read(q->refcount_order, s->data, pos);
    uint64_t now = qc_bits_get(&m->gone, cluster) ? 0 : count;
    if (by < 0 && now < (uint64_t)-by)
        return qc_corrupt(
            q, "host cluster 0x%" PRIx64 " has refcount %" PRIu64 ", but more references",
            cluster << q->cluster_bits, now);
    if (by > 0 && now == 0 && !qc_bits_get(&m->gone, cluster))
        return qc_corrupt(q, "host cluster 0x%" PRIx64 " is in use with refcount 0",
                          cluster << q->cluster_bits);
    if (by > 0 && max - now < (uint64_t)by)
        return -EOVERFLOW;
    now += (uint64_t)(int64_t)by;
    /* What nothing refers to any more keeps its 1 for now: the old tables are still in force. */
    qc_bits_put(&m->gone, cluster, now == 0);
    if (max_u64(now, 1) != count)
        qc_ref_set(q, s, pos, max_u64(now, 1));
    return 0;
}

int qc_remake_apply(struct qc_remake *m)
{
    for (uint64_t p = 0; p < m->delta.n_page; p++) {
        const int16_t *page = m->delta.page[p];
        for (uint64_t i = 0; page && i < QC_DELTA_PAGE; i++) {
            int r = page[i] ? apply_one(m, p * QC_DELTA_PAGE + i, page[i]) : 0;
            if (r < 0)
                return r;
        }
    }
    qc_delta_clear(&m->delta);
    return 0;
}

/* Which clusters have exactly one reference? */
static int find_ones(struct qc_remake *m)
{
    struct qc *q = m->q;
    uint64_t per_slice = UINT64_C(1) << q->ref_slice_shift, pos;
    for (uint64_t c = 0; c < m->limit; c += per_slice) {
        struct qc_slice *s;
        int r = qc_ref_slice(q, c, &s, &pos);
        if (r == -ENOENT)
            continue;
        if (r < 0)
            return r;
        for (uint64_t k = 0; k < min_u64(per_slice, m->limit - c); k++)
            if (qc_ref_read(q->refcount_order, s->data, k) == 1 && !qc_bits_get(&m->gone, c + k))
                qc_bits_put(&m->one, c + k, true);
    }
    return 0;
}

/* Put m->l2, the table of entry i, right. True if anything was to be changed. */
static bool fix_table(struct qc_remake *m, uint64_t i)
{
    struct qc *q = m->q;
    uint64_t n = UINT64_C(1) << entries_bits(q), size = q->cluster_size >> entries_bits(q);
    uint64_t start = i << q->l1_shift;
    bool changed = false;
    for (uint64_t k = 0; k < n; k++) {
        uint8_t *at = m->l2 + k * size;
        uint64_t old = get_be64(at), new = old, off = old &QC_OFFSET_MASK;
        if (start + (k << q->cluster_bits) >= m->cut) {
            for (uint64_t b = 0; b < size; b++)
                changed |= at[b] != 0;
            memset(at, 0, size);
            continue;
        }
        if (m->external)
            continue;
        new &= ~QC_COPIED;
        if (!(old & QC_COMPRESSED) && off && qc_bits_get(&m->one, off >> q->cluster_bits))
            new |= QC_COPIED;
        changed |= new != old;
        put_be64(at, new);
    }
    return changed;
}

/* A new table with the content of m->l2 in the place of the one that entry i refers to. */
static int replace_table(struct qc_remake *m, uint64_t i, uint64_t old_off)
{
    struct qc *q = m->q;
    unsigned owners = m->snaps.added ? 2 : 1; /* L1 tables that will refer to it */
    uint64_t off, got, pos;
    struct qc_slice *s;
    bool fresh;
    int r = qc_alloc_quiet(q, 1, &off, &got, &fresh);
    if (r == 0) {
        node_event(q->file, EV_L2_UPDATE);
        r = qc_write_table(q, off, m->l2, q->cluster_size, KIND_L2);
    }
    if (r == 0)
        r = qc_ref_slice(q, off >> q->cluster_bits, &s, &pos);
    if (r < 0)
        return r;
    qc_ref_set(q, s, pos, owners);
    put_be64(m->new_l1 + i * 8, off | (owners == 1 ? QC_COPIED : 0));
    for (unsigned k = 0; r == 0 && k < owners; k++)
        r = qc_remake_add(m, old_off >> q->cluster_bits, -1);
    return r;
}

int qc_remake_tables(struct qc_remake *m)
{
    int r = find_ones(m);
    for (uint64_t i = 0; r >= 0 && i < m->l1_size; i++) {
        uint64_t off = get_be64(m->new_l1 + i * 8) & QC_OFFSET_MASK;
        r = l2_read(m, i, get_be64(m->new_l1 + i * 8));
        if (r <= 0)
            continue;
        if (fix_table(m, i)) {
            r = replace_table(m, i, off);
        } else {
            bool one = qc_bits_get(&m->one, off >> m->q->cluster_bits);
            put_be64(m->new_l1 + i * 8, off | (one ? QC_COPIED : 0));
        }
    }
    return r < 0 ? r : qc_remake_apply(m);
}
