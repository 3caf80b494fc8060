/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Finding free host clusters.
 *
 * First fit from free_hint, below which nothing is free; so a run of allocations is contiguous and
 * costs one look at a cached slice each. What comes out is at least one cluster and at most what
 * was asked for: data does not need to be contiguous, tables that do use qc_alloc_exact.
 *
 * A result that is impossible in a sound image (cluster 0, or a place where metadata lives) is
 * corruption and never handed out.
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/qcow2_priv.h"

/* First free cluster at or after *cluster within its slice, or the slice's end. */
static uint64_t scan_free(const struct qc *q, const struct qc_slice *s, uint64_t pos)
{
    uint64_t n = UINT64_C(1) << q->ref_slice_shift;
    while (pos < n && qc_ref_read(q->refcount_order, s->data, pos) != 0)
        pos++;
    return pos;
}

/* The slice with the first free cluster from free_hint on, pinned. */
static int find_free(struct qc *q, struct qc_slice **out, uint64_t *pos, uint64_t *cluster)
{
    uint64_t per_slice = UINT64_C(1) << q->ref_slice_shift;
    uint64_t at = q->free_hint;
    for (;;) {
        if (at >= QC_MAX_HOST_OFF >> q->cluster_bits)
            return -ENOSPC;
        int r = qc_ref_slice(q, at, out, pos);
        if (r == -ENOENT) {
            r = qc_refblock_make(q, at);
            if (r < 0)
                return r;
            at = min_u64(at, q->free_hint);
            continue;
        }
        if (r < 0)
            return r;
        uint64_t found = scan_free(q, *out, *pos);
        if (found < per_slice) {
            *cluster = at - *pos + found;
            *pos = found;
            qc_slice_pin(*out);
            return 0;
        }
        at += per_slice - *pos;
    }
}

static uint64_t count_free(const struct qc *q, const struct qc_slice *s, uint64_t pos, uint64_t max)
{
    uint64_t per_slice = UINT64_C(1) << q->ref_slice_shift, n = 0;
    while (n < max && pos + n < per_slice && qc_ref_read(q->refcount_order, s->data, pos + n) == 0)
        n++;
    return n;
}

int qc_alloc_quiet(struct qc *q, uint64_t n, uint64_t *host_off, uint64_t *got, bool *fresh)
{
    struct qc_slice *s;
    uint64_t pos, cluster;
    if (q->frozen) /* what is free by our tables may hold those that are in force */
        return q->frozen;
    int r = find_free(q, &s, &pos, &cluster);
    if (r < 0)
        return r;
    node_event(q->file, EV_REFBLOCK_ALLOC);
    node_event(q->file, EV_REFBLOCK_LOAD);
    /* Counted only now, as the events may have yielded; what was free still is, under the lock. */
    uint64_t count = count_free(q, s, pos, n), off = cluster << q->cluster_bits;
    *fresh = off >= q->fresh_from;
    if (!*fresh && off + (count << q->cluster_bits) > q->fresh_from)
        count = (q->fresh_from - off) >> q->cluster_bits;
    if (qc_meta_hits(q, off, count << q->cluster_bits)) {
        qc_slice_unpin(s);
        return qc_corrupt(q,
                          "the refcount of host cluster 0x%" PRIx64 " says free, but there is "
                          "metadata in it or in the %" PRIu64 " clusters after it",
                          off, count - 1);
    }
    for (uint64_t i = 0; i < count; i++)
        qc_ref_set(q, s, pos + i, 1);
    qc_slice_unpin(s);
    q->free_hint = cluster + count;
    q->fresh_from = max_u64(q->fresh_from, off + (count << q->cluster_bits));
    *host_off = off;
    *got = count;
    return 0;
}

int qc_alloc(struct qc *q, uint64_t n, uint64_t *host_off, uint64_t *got, bool *fresh)
{
    node_event(q->file, EV_CLUSTER_ALLOC);
    return qc_alloc_quiet(q, n, host_off, got, fresh);
}

int qc_alloc_exact(struct qc *q, uint64_t n, uint64_t *host_off)
{
    uint64_t got;
    bool fresh;
    int r = qc_alloc(q, n, host_off, &got, &fresh);
    if (r < 0 || got == n)
        return r;
    qc_alloc_undo(q, *host_off, got);
    return qc_area_make(q, n, host_off);
}

void qc_alloc_undo(struct qc *q, uint64_t host_off, uint64_t n)
{
    qc_free_announce(q, 1);
    for (uint64_t i = 0; i < n; i++) {
        struct qc_slice *s;
        uint64_t pos, cluster = (host_off >> q->cluster_bits) + i;
        if (qc_ref_slice(q, cluster, &s, &pos) < 0)
            continue; /* a leak, which a check finds; better than a guess */
        qc_ref_set(q, s, pos, 0);
        q->free_hint = min_u64(q->free_hint, cluster);
    }
}
