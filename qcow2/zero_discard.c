/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Write zeroes and discard: changes of L2 entries that move no data.
 *
 * Discard follows QEMU: an allocated cluster becomes a zero cluster, and with a backing file an
 * unallocated one does too, so that backing data never shows through. Version 2 has no zero flag:
 * there, entries are cleared where nothing lies behind them, and everything else is -ENOTSUP (the
 * dispatcher then writes zeros, or ignores the discard).
 *
 * In a data file every cluster has its one place, so what loses it can be given back to the file
 * system at once, before anybody else may write there. A raw data file must read right without the
 * tables: there, the zeros go into the file and the tables stay as they are.
 *
 * A cluster that is unlinked goes into quarantine (free.c): a write that was translated before may
 * still be on its way to it.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qcow2/qcow2_priv.h"

enum change { CHANGE_ZERO, CHANGE_UNMAP_ZERO, CHANGE_DISCARD, CHANGE_ABSENT };

/* The new value of an entry without subclusters. */
static int change_entry(const struct qc *q, enum change how, uint64_t old, uint64_t *new)
{
    enum qc_type type = qc_entry_type(q, old);
    *new = old;
    if (how == CHANGE_ABSENT && type != QC_UNALLOCATED)
        return 0;
    if (type == QC_UNALLOCATED || type == QC_ZERO_PLAIN) {
        if (type == QC_UNALLOCATED && q->has_backing)
            *new = QC_ZERO;
        return 0;
    }
    if (q->version < 3) {
        if (how == CHANGE_ZERO)
            return -ENOTSUP;
        *new = 0;
    } else {
        bool keep = how == CHANGE_ZERO && (type == QC_NORMAL || type == QC_ZERO_ALLOCATED);
        *new = keep ? old | QC_ZERO : QC_ZERO;
    }
    return 0;
}

/* The same with them; subs: which of them. A cluster that loses its last one loses its place, but
 * for CHANGE_ZERO. */
static int change_subs(const struct qc *q, enum change how, uint32_t subs, struct qc_cell *c)
{
    if (c->entry & QC_COMPRESSED) {
        if (subs != UINT32_MAX)
            return -ENOTSUP;
        *c = (struct qc_cell){0, QC_MAP_ALL_ZERO};
        return 0;
    }
    if (c->entry == 0 && !q->has_backing) /* nothing shows through: all of it reads as zeros */
        return 0;
    c->map = (c->map & ~(uint64_t)subs) | (uint64_t)subs << QC_SUBS;
    if (how != CHANGE_ZERO && !qc_map_alloc(c->map))
        c->entry = 0;
    return 0;
}

static int change_cell(const struct qc *q, enum change how, uint32_t subs, struct qc_cell *c)
{
    return q->extended_l2 ? change_subs(q, how, subs, c)
                          : change_entry(q, how, c->entry, &c->entry);
}

/* Change the n entries at pos; all or none. Does not yield. *n_freed: how many lost their place. */
static int change_entries(struct qc *q, struct qc_slice *s, size_t pos, uint64_t n, enum change how,
                          uint32_t subs, uint64_t *n_freed)
{
    for (uint64_t i = 0; i < n; i++) {
        struct qc_cell c = qc_cell_get(q, s, pos, i);
        int r = change_cell(q, how, subs, &c);
        if (r < 0)
            return r;
    }
    if (!qc_freed_reserve(&q->freed, n))
        return -ENOMEM;
    for (uint64_t i = 0; i < n; i++) {
        struct qc_cell old = qc_cell_get(q, s, pos, i), new = old;
        change_cell(q, how, subs, &new);
        if (new.entry == old.entry &&new.map == old.map)
            continue;
        qc_cell_put(q, s, pos, i, new);
        uint64_t place = q->host_mask | QC_COMPRESSED;
        if (!(old.entry & place) || new.entry & place)
            continue;
        if (qc_entry_owns(q, old.entry))
            qc_free_entry(q, old.entry, (old.entry & (QC_COPIED | QC_COMPRESSED)) != 0);
        ++*n_freed;
    }
    return 0;
}

/* Give the space of these clusters of a data file back: none of them has a place any more. Until
 * the tables say so on the disk, too, a power cut brings the old entries back: for zeros, what is
 * read through those must then be zeros, if not the old data. */
static void data_drop(struct qc *q, uint64_t first, uint64_t n, enum change how)
{
    uint64_t off = first << q->cluster_bits,
             end = min_u64(off + (n << q->cluster_bits), q->data->size);
    int r = 0;
    if (off < end && how == CHANGE_DISCARD)
        r = node_discard(q->data, off, end - off);
    else if (off < end)
        r = node_zero(q->data, off, end - off, REQ_MAY_UNMAP | REQ_NO_FALLBACK);
    if (r < 0 && r != -ENOTSUP)
        log_debug("%s: discard in the data file failed: %d", q->node->name, r);
}

/* Part of one slice: n clusters from cluster `first` on. subs: which subclusters of each.
 * -ENOTSUP: not without writing zeros. */
static int change_slice(struct qc *q, uint64_t first, uint64_t n, enum change how, uint32_t subs)
{
    struct qc_slice *s;
    uint64_t guest_off = first << q->cluster_bits, n_freed = 0;
    int r = qc_l2_get_write(q, guest_off, &s);
    if (r < 0)
        return r;
    do {
        qc_gate(q);
    } while (qc_inflight_wait(q, first, first + n));
    size_t pos = qc_l2_pos(q, guest_off);
    for (uint64_t i = 0; r == 0 && i < n; i++)
        r = qc_l2_check_unlink(q, guest_off + (i << q->cluster_bits), qc_cell_get(q, s, pos, i));
    struct qc_inflight f;
    if (q->has_data_file)
        qc_inflight_begin(q, &f, first, first + n);
    if (r == 0)
        r = change_entries(q, s, pos, n, how, subs, &n_freed);
    if (n_freed && q->has_data_file)
        data_drop(q, first, n, how);
    if (q->has_data_file)
        qc_inflight_end(q, &f);
    qc_slice_unpin(s);
    if (n_freed && !q->has_data_file)
        qc_free_announce(q, n_freed);
    return r < 0 ? r : qc_relieve(q);
}

/* Whole clusters [first, end). */
static int change_clusters(struct qc *q, uint64_t first, uint64_t end, enum change how)
{
    uint64_t slice_clusters = UINT64_C(1) << (q->l2_slice_shift - q->cluster_bits);
    uint64_t l1_clusters = UINT64_C(1) << (q->l1_shift - q->cluster_bits);
    if (q->version < 3 && q->has_backing)
        return -ENOTSUP;
    while (first < end) {
        uint64_t n = min_u64(end - first, slice_clusters - (first & (slice_clusters - 1)));
        if (qc_l1_get(q, (first << q->cluster_bits) >> q->l1_shift) == 0 && !q->has_backing) {
            /* No table, nothing behind: reads as zeros as it is. An allocation that is about to
             * make the table is concurrent with us, and may come after. */
            n = min_u64(end - first, l1_clusters - (first & (l1_clusters - 1)));
        } else {
            int r = change_slice(q, first, n, how, UINT32_MAX);
            if (r < 0)
                return r;
        }
        first += n;
    }
    return 0;
}

int qc_zero_absent(struct qc *q, uint64_t guest_off, uint64_t len)
{
    uint64_t first = guest_off >> q->cluster_bits;
    if (q->extended_l2)
        return -ENOTSUP;
    return change_clusters(q, first, first + qc_clusters(q, len), CHANGE_ABSENT);
}

/* Part of one cluster, or of one subcluster. */
static int zero_bytes(struct qc *q, uint64_t guest_off, uint64_t len, uint32_t flags)
{
    struct qc_run run;
    if (len == 0)
        return 0;
    while (qc_inflight_wait(q, guest_off >> q->cluster_bits, (guest_off >> q->cluster_bits) + 1))
        ;
    int r = qc_l2_lookup(q, guest_off, len, &run);
    if (r < 0)
        return r;
    if (run.len == len && (run.type == QC_ZERO_PLAIN || run.type == QC_ZERO_ALLOCATED ||
                           (run.type == QC_UNALLOCATED && guest_off >= qc_backing_end(q))))
        return 0;
    if (flags & REQ_NO_FALLBACK)
        return -ENOTSUP;
    return qc_write_zeros(q, guest_off, len);
}

/* Whole subclusters of one cluster. in: where they begin in it. */
static int zero_subs(struct qc *q, uint64_t guest_off, uint64_t in, uint64_t len, uint32_t flags)
{
    enum change how = (flags & REQ_MAY_UNMAP) ? CHANGE_UNMAP_ZERO : CHANGE_ZERO;
    int r = -ENOTSUP;
    /* Without a table nothing is there to be marked, unless something shows through. */
    if (qc_l1_get(q, guest_off >> q->l1_shift) != 0 || q->has_backing)
        r = change_slice(q, guest_off >> q->cluster_bits, 1, how, qc_map_mask(q, in, in + len));
    return r == -ENOTSUP ? zero_bytes(q, guest_off, len, flags) : r;
}

/* Part of one cluster. */
static int zero_part(struct qc *q, uint64_t guest_off, uint64_t len, uint32_t flags)
{
    if (!q->extended_l2 || len == 0)
        return zero_bytes(q, guest_off, len, flags);
    uint64_t sub = UINT64_C(1) << q->sub_bits, in = guest_off & (q->cluster_size - 1);
    uint64_t end = in + len, base = guest_off - in;
    uint64_t first = round_up(in, sub), last = round_down(end, sub);
    if (base + end == q->node->size) /* what is left of the last subcluster does not exist */
        last = end;
    if (first >= last) {
        uint64_t mid = min_u64(end, first);
        int r = zero_bytes(q, guest_off, mid - in, flags);
        return r < 0 ? r : zero_bytes(q, base + mid, end - mid, flags);
    }
    int r = zero_bytes(q, guest_off, first - in, flags);
    if (r == 0)
        r = zero_subs(q, base + first, first, last - first, flags);
    return r < 0 ? r : zero_bytes(q, base + last, end - last, flags);
}

/* In a raw data file. What is being copied around a write there is not to undo it. */
static int zero_raw(struct qc *q, uint64_t guest_off, uint64_t len, uint32_t flags)
{
    uint64_t first = guest_off >> q->cluster_bits, end = qc_clusters(q, guest_off + len);
    struct qc_inflight f;
    while (qc_inflight_wait(q, first, end))
        ;
    qc_inflight_begin(q, &f, first, end);
    int r = node_zero(q->data, guest_off, len, flags);
    qc_inflight_end(q, &f);
    return r;
}

int qc_zero(struct qc *q, uint64_t guest_off, uint64_t len, uint32_t flags)
{
    uint64_t end = guest_off + len;
    uint64_t first = qc_clusters(q, guest_off), last = end >> q->cluster_bits;
    if (q->raw_data)
        return zero_raw(q, guest_off, len, flags);
    if (end == q->node->size) /* what is left of the last cluster does not exist */
        last = qc_clusters(q, end);
    if (first >= last) { /* within one cluster, or parts of two */
        uint64_t mid = min_u64(end, first << q->cluster_bits);
        int r = zero_part(q, guest_off, mid - guest_off, flags);
        return r < 0 ? r : zero_part(q, mid, end - mid, flags);
    }
    enum change how = (flags & REQ_MAY_UNMAP) ? CHANGE_UNMAP_ZERO : CHANGE_ZERO;
    int r = zero_part(q, guest_off, (first << q->cluster_bits) - guest_off, flags);
    if (r == 0)
        r = change_clusters(q, first, last, how);
    uint64_t mid = last << q->cluster_bits;
    if (r == 0 && end > mid)
        r = zero_part(q, mid, end - mid, flags);
    return r;
}

int qc_discard(struct qc *q, uint64_t guest_off, uint64_t len)
{
    uint64_t end = guest_off + len;
    uint64_t first = qc_clusters(q, guest_off), last = end >> q->cluster_bits;
    if (end == q->node->size)
        last = qc_clusters(q, end);
    if (first >= last)
        return 0;
    if (!q->raw_data)
        return change_clusters(q, first, last, CHANGE_DISCARD);
    end = min_u64(last << q->cluster_bits, end);
    int r = zero_raw(q, first << q->cluster_bits, end - (first << q->cluster_bits),
                     REQ_MAY_UNMAP | REQ_NO_FALLBACK);
    return r == -ENOTSUP ? 0 : r;
}
