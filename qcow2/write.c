/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writes that change the mapping: allocation and copy on write.
 *
 * The guest clusters are entered as in flight, host clusters are allocated, the data is written
 * with whatever of the first and last cluster it does not cover, and only then are the L2 entries
 * changed, in memory. The old mapping stays readable until that moment, and all of it after an
 * error. What was written is durable before the entries are (flush.c).
 *
 * The uncovered parts: where they read as zeros and the host clusters were never written, nothing
 * is written for them. Otherwise one I/O writes all of it, merged in a buffer, unless it is large
 * and zero, which is cheaper to tell the file system.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/qcow2_priv.h"

#define MERGE_ZERO_MAX (UINT64_C(16) << 10) /* up to here zeros are written with the data */
#define MERGE_COW_MAX                                                                              \
    (UINT64_C(256) << 10)                   /* a longer run is cut into its edges and its middle   \
                                             */
#define MERGE_READ_MAX (UINT64_C(16) << 10) /* up to here head and tail are read in one go */

struct job {                 /* one run of clusters to be remapped */
    uint64_t guest_off, len; /* of the data */
    const uint8_t *buf;
    uint64_t first, n;   /* guest clusters */
    uint64_t head, tail; /* bytes of the first and last cluster that the data leaves out */
    bool reuse;          /* the clusters are there already, behind zero flags */
    bool fresh;          /* never written, reads as zeros */
    bool zero_edges;     /* head and tail read as zeros now */
    uint64_t host_off;
    struct qc_slice *slice; /* pinned */
    size_t pos;             /* of the first entry in it */
};

static bool reusable(uint64_t e)
{
    return qc_entry_type(e) == QC_ZERO_ALLOCATED && (e & QC_COPIED);
}

static bool overwritable(uint64_t e)
{
    return qc_entry_type(e) == QC_NORMAL && (e & QC_COPIED);
}

static uint64_t entry_at(const struct job *j, uint64_t i)
{
    return get_be64(j->slice->data + j->pos + i * 8);
}

static bool reads_zero(const struct qc *q, uint64_t entry, uint64_t guest_off, uint64_t len)
{
    if (len == 0)
        return true;
    switch (qc_entry_type(entry)) {
    case QC_UNALLOCATED:
        return guest_off >= qc_backing_end(q);
    case QC_ZERO_PLAIN:
    case QC_ZERO_ALLOCATED:
        return true;
    default:
        return false;
    }
}

/* Before compressed clusters are given up. */
static int check_compressed(struct qc *q, const struct job *j)
{
    for (uint64_t i = 0; i < j->n; i++) {
        uint64_t e = entry_at(j, i);
        int r = e & QC_COMPRESSED ? qc_l2_check_unlink(q, (j->first + i) << q->cluster_bits, e) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* The longest run that can be done in one go, from the first cluster on. 0 clusters: the first one
 * can be overwritten in place by now. */
static int job_plan(struct qc *q, struct job *j, uint64_t len)
{
    uint64_t in_cluster = j->guest_off & (q->cluster_size - 1);
    uint64_t left = ((UINT64_C(1) << q->l2.slice_bits) - j->pos) >> 3;
    uint64_t max = min_u64(min_u64(left, qc_clusters(q, in_cluster + len)), j->n);
    uint64_t e = entry_at(j, 0);
    j->n = 0;
    if (overwritable(e))
        return 0;
    j->reuse = reusable(e);
    j->host_off = j->reuse ? e & QC_OFFSET_MASK : 0;
    uint64_t n = 1, seen = e;
    for (; n < max; n++) {
        uint64_t x = entry_at(j, n);
        if (j->reuse ? x != e + (n << q->cluster_bits) : (overwritable(x) || reusable(x)))
            break;
        seen |= x;
    }
    j->n = n;
    return seen & QC_COMPRESSED ? check_compressed(q, j) : 0;
}

/* Head, tail and length for j->n clusters. */
static void job_measure(const struct qc *q, struct job *j, uint64_t len)
{
    j->head = j->guest_off & (q->cluster_size - 1);
    j->len = min_u64(len, (j->n << q->cluster_bits) - j->head);
    j->tail = (j->n << q->cluster_bits) - j->head - j->len;
    uint64_t start = j->first << q->cluster_bits;
    j->zero_edges = reads_zero(q, entry_at(j, 0), start, j->head) &&
                    reads_zero(q, entry_at(j, j->n - 1), j->guest_off + j->len, j->tail);
}

/* A long run with a part to copy: only its first cluster, or all but the last, in this round. */
static void job_cut(const struct qc *q, struct job *j, uint64_t len)
{
    if (j->n == 1 || j->zero_edges || j->n << q->cluster_bits <= MERGE_COW_MAX)
        return;
    j->n = j->head ? 1 : j->n - 1;
    job_measure(q, j, len);
}

/* Read guest bytes, zeros beyond the end of the disk. */
static int cow_read(struct qc *q, uint64_t guest_off, uint8_t *buf, uint64_t len)
{
    uint64_t size = q->node->size;
    uint64_t have = guest_off < size ? min_u64(len, size - guest_off) : 0;
    node_event(q->file, EV_COW_READ);
    memset(buf + have, 0, len - have);
    return qc_read(q, guest_off, buf, have);
}

static int write_merged(struct qc *q, struct job *j)
{
    uint64_t total = j->n << q->cluster_bits;
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(total, 4096);
    if (!buf)
        return -ENOMEM;
    int r = 0;
    uint64_t start = j->first << q->cluster_bits, end = start + total;
    if (j->zero_edges) {
        memset(buf, 0, j->head);
        memset(buf + total - j->tail, 0, j->tail);
    } else if (j->head && j->tail && j->len <= MERGE_READ_MAX) {
        r = cow_read(q, start, buf, total);
    } else {
        if (j->head)
            r = cow_read(q, start, buf, j->head);
        if (r == 0 && j->tail)
            r = cow_read(q, end - j->tail, buf + total - j->tail, j->tail);
    }
    if (r < 0)
        return r;
    memcpy(buf + j->head, j->buf, j->len);
    node_event(q->file, EV_WRITE_AIO);
    if (!j->zero_edges)
        node_event(q->file, EV_COW_WRITE);
    return node_write_kind(q->file, j->host_off, buf, total, 0, KIND_DATA);
}

static int write_zero_edges(struct qc *q, const struct job *j)
{
    int r = 0;
    if (j->head)
        r = node_zero(q->file, j->host_off, j->head, 0);
    if (r == 0 && j->tail)
        r = node_zero(q->file, j->host_off + (j->n << q->cluster_bits) - j->tail, j->tail, 0);
    return r;
}

static int job_write(struct qc *q, struct job *j)
{
    uint64_t total = j->n << q->cluster_bits;
    bool edges = j->head || j->tail;
    if (qc_meta_hits(q, j->host_off, total))
        return qc_corrupt(q,
                          "guest offset 0x%" PRIx64 " would be written to host offset 0x%" PRIx64
                          ", where there is metadata",
                          j->guest_off, j->host_off);
    if (edges && !j->zero_edges)
        return write_merged(q, j);
    if (edges) {
        node_event(q->file, EV_CLUSTER_ALLOC_SPACE);
        if (!j->fresh && total <= MERGE_ZERO_MAX)
            return write_merged(q, j);
        int r = j->fresh ? 0 : write_zero_edges(q, j);
        if (r < 0)
            return r;
    }
    node_event(q->file, EV_WRITE_AIO);
    return node_write_kind(q->file, j->host_off + j->head, j->buf, j->len, 0, KIND_DATA);
}

/* Change the entries. The clusters are ours alone (in flight), so they are as they were planned. */
static int job_link(struct qc *q, struct job *j, uint64_t *n_freed)
{
    qc_gate(q);
    if (!qc_freed_reserve(&q->freed, j->n))
        return -ENOMEM;
    for (uint64_t i = 0; i < j->n; i++) {
        uint64_t old = entry_at(j, i);
        if (!j->reuse && qc_entry_owns(old)) { /* shared or compressed: give up our reference */
            qc_free_entry(q, old, false);
            ++*n_freed;
        }
        put_be64(j->slice->data + j->pos + i * 8,
                 (j->host_off + (i << q->cluster_bits)) | QC_COPIED);
    }
    qc_cache_dirty(&q->l2, j->slice, j->pos, j->pos + j->n * 8);
    q->links_dirty = true;
    return 0;
}

static int job_alloc(struct qc *q, struct job *j, uint64_t len)
{
    uint64_t got;
    if (j->reuse)
        return 0;
    co_lock(&q->lock);
    int r = qc_alloc(q, j->n, &j->host_off, &got, &j->fresh);
    co_unlock(&q->lock);
    if (r < 0)
        return r;
    if (got < j->n) {
        j->n = got;
        job_measure(q, j, len);
    }
    return 0;
}

static int job_run(struct qc *q, struct job *j, uint64_t len, uint64_t *n_freed)
{
    int r = job_alloc(q, j, len);
    if (r < 0)
        return r;
    r = job_write(q, j);
    if (r == 0)
        r = job_link(q, j, n_freed);
    if (r < 0 && !j->reuse)
        qc_alloc_undo(q, j->host_off, j->n);
    return r;
}

int qc_write_alloc(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len,
                   uint64_t *done)
{
    struct job j = {.guest_off = guest_off, .buf = buf, .first = guest_off >> q->cluster_bits};
    *done = 0;
    int r = qc_l2_get_write(q, guest_off, &j.slice);
    if (r < 0)
        return r;
    j.pos = qc_l2_pos(q, guest_off);
    j.n = qc_clusters(q, (guest_off & (q->cluster_size - 1)) + len);
    if (qc_inflight_clip(q, j.first, &j.n)) {
        qc_slice_unpin(j.slice);
        return 0;
    }
    r = job_plan(q, &j, len);
    if (r < 0 || j.n == 0) {
        qc_slice_unpin(j.slice);
        return r;
    }
    job_measure(q, &j, len);
    job_cut(q, &j, len);

    struct qc_inflight f;
    uint64_t n_freed = 0;
    qc_inflight_begin(q, &f, j.first, j.first + j.n);
    r = job_run(q, &j, len, &n_freed);
    qc_inflight_end(q, &f);
    qc_slice_unpin(j.slice);
    if (r < 0)
        return r;
    *done = j.len;
    if (n_freed)
        qc_free_announce(q, n_freed);
    return n_freed ? qc_relieve(q) : 0;
}
