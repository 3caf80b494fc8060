/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Giving clusters to space that a disk is about to get, which nobody can write to yet.
 *
 * A cluster is linked only if it reads as zeros: one that was never written does, others are zeroed
 * first. Order and durability are those of any write (flush.c). The cluster that the old disk ended
 * in may show the backing file: zeros are written to the rest of it, which copies that.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

/* Make n clusters of the data file or image file read as zeros, with the space set aside if so
 * wanted. */
static int make_zeros(struct qc *q, uint64_t host_off, uint64_t n, bool fresh, bool set_aside)
{
    uint64_t len = n << q->cluster_bits;
    if (q->has_data_file) /* which is as long as the disk will be */
        len = min_u64(len, q->data->size - host_off);
    if (!fresh || set_aside)
        return node_zero(q->data, host_off, len, set_aside ? 0 : REQ_MAY_UNMAP);
    return host_off + len > q->file->size && q->file->growable
               ? node_truncate(q->file, host_off + len)
               : 0;
}

/* The first of n clusters that has a place already; n if none. */
static uint64_t count_free(const struct qc *q, const struct qc_slice *s, size_t pos, uint64_t n)
{
    uint64_t i = 0;
    while (i < n && !(qc_cell_get(q, s, pos, i).entry & (q->host_mask | QC_COMPRESSED)))
        i++;
    return i;
}

static int place(struct qc *q, uint64_t guest_off, uint64_t *n, uint64_t *host_off, bool *fresh)
{
    *host_off = guest_off;
    *fresh = false;
    if (q->has_data_file)
        return 0;
    co_lock(&q->lock);
    int r = qc_alloc(q, *n, host_off, n, fresh);
    co_unlock(&q->lock);
    return r;
}

/* Clusters from guest_off on, within one slice. *n: how many, in and out. */
static int place_run(struct qc *q, struct qc_slice *s, uint64_t guest_off, uint64_t *n,
                     bool set_aside)
{
    size_t pos = qc_l2_pos(q, guest_off);
    uint64_t host_off;
    bool fresh;
    *n = count_free(q, s, pos, *n);
    if (*n == 0) {
        *n = 1; /* this one has its place */
        return 0;
    }
    int r = place(q, guest_off, n, &host_off, &fresh);
    if (r < 0)
        return r;
    r = make_zeros(q, host_off, *n, fresh, set_aside);
    if (r < 0) {
        if (!q->has_data_file)
            qc_alloc_undo(q, host_off, *n);
        return r;
    }
    qc_gate(q);
    for (uint64_t i = 0; i < *n; i++)
        qc_cell_put(q, s, pos, i,
                    (struct qc_cell){.entry = (host_off + (i << q->cluster_bits)) | QC_COPIED,
                                     .map = q->extended_l2 ? UINT32_MAX : 0});
    q->links_dirty = true;
    return 0;
}

static int place_all(struct qc *q, uint64_t from, uint64_t end, bool set_aside)
{
    uint64_t slice_clusters = UINT64_C(1) << (q->l2_slice_shift - q->cluster_bits);
    uint64_t first = from >> q->cluster_bits, last = qc_clusters(q, end);
    while (first < last) {
        struct qc_slice *s;
        struct qc_inflight f;
        uint64_t n = min_u64(last - first, slice_clusters - (first & (slice_clusters - 1)));
        int r = qc_l2_get_write(q, first << q->cluster_bits, &s);
        if (r < 0)
            return r;
        while (qc_inflight_wait(q, first, first + n))
            ;
        qc_inflight_begin(q, &f, first, first + n);
        r = place_run(q, s, first << q->cluster_bits, &n, set_aside);
        qc_inflight_end(q, &f);
        qc_slice_unpin(s);
        if (r < 0)
            return r;
        first += n;
    }
    return 0;
}

int qc_preallocate(struct qc *q, uint64_t from, uint64_t end, enum qc_preallocation mode)
{
    uint64_t whole = min_u64(round_up(from, q->cluster_size), end);
    if (mode == QC_PREALLOC_FULL)
        whole = end;
    int r = qc_write_zeros(q, from, whole - from);
    return r < 0 || whole == end ? r : place_all(q, whole, end, mode == QC_PREALLOC_FALLOC);
}
