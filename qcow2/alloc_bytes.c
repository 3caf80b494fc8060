/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Room for compressed clusters, which begin at any byte and share host clusters.
 *
 * Data is packed one behind the other: into the rest of the last host cluster if it fits, or if the
 * next cluster is free and continues it; else a new one is begun. Each span adds one to the
 * refcount of every cluster that it touches.
 *
 * A cluster that anything was freed from is not appended to any more: when its refcount falls to
 * what the freed span held, it may be given back to the file system as a whole.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

void qc_bytes_leave(struct qc *q, uint64_t host_off, uint64_t clusters)
{
    uint64_t at = q->zip.free_byte;
    if (at && at >= host_off && at - host_off < clusters << q->cluster_bits)
        q->zip.free_byte = 0;
}

/* Count one more reference to the cluster that free_byte lies in. -ENOENT: it is to be left. */
static int tail_share(struct qc *q, uint64_t tail)
{
    struct qc_slice *s;
    uint64_t pos;
    unsigned bits = 1u << q->refcount_order;
    uint64_t max = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    node_event(q->file, EV_REFBLOCK_ALLOC);
    node_event(q->file, EV_REFBLOCK_LOAD);
    int r = qc_ref_slice(q, tail >> q->cluster_bits, &s, &pos);
    if (r < 0)
        return r;
    if (q->zip.free_byte != tail) /* freed meanwhile */
        return -ENOENT;
    uint64_t count = qc_ref_read(q->refcount_order, s->data, pos);
    if (count == 0 || count == max)
        return -ENOENT;
    qc_ref_set(q, s, pos, count + 1);
    return 0;
}

/* Begin a new cluster, or continue the last one into it. */
static int bytes_in_new(struct qc *q, uint64_t tail, uint64_t *host_off)
{
    uint64_t fresh_off, got;
    bool fresh;
    int r = qc_alloc_quiet(q, 1, &fresh_off, &got, &fresh);
    if (r < 0)
        return r;
    *host_off = fresh_off;
    if (!tail || round_up(tail, q->cluster_size) != fresh_off)
        return 0;
    r = tail_share(q, tail);
    if (r == 0)
        *host_off = tail;
    else if (r != -ENOENT)
        qc_alloc_undo(q, fresh_off, 1);
    return r == -ENOENT ? 0 : r;
}

int qc_bytes_alloc(struct qc *q, uint64_t len, uint64_t *host_off)
{
    uint64_t tail = q->zip.free_byte;
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t end_max = x < 56 ? UINT64_C(1) << x : QC_MAX_HOST_OFF;
    int r = -ENOENT;
    node_event(q->file, EV_CLUSTER_ALLOC_BYTES);
    if (tail && round_up(tail, q->cluster_size) - tail >= len) {
        r = tail_share(q, tail);
        *host_off = tail;
    }
    if (r == -ENOENT)
        r = bytes_in_new(q, tail == q->zip.free_byte ? tail : 0, host_off);
    if (r < 0)
        return r;
    if (*host_off > end_max - len) {
        qc_bytes_undo(q, *host_off, len);
        return -EFBIG;
    }
    uint64_t end = *host_off + len;
    q->zip.free_byte = end & (q->cluster_size - 1) ? end : 0;
    return 0;
}

void qc_bytes_undo(struct qc *q, uint64_t host_off, uint64_t len)
{
    uint64_t first = host_off >> q->cluster_bits, last = (host_off + len - 1) >> q->cluster_bits;
    qc_bytes_leave(q, first << q->cluster_bits, last - first + 1);
    qc_free_announce(q, 1);
    for (uint64_t c = first; c <= last; c++)
        qc_ref_lower(q, c); /* an error leaves a leak, which a check finds */
}
