/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writes that change the mapping: allocation and copy on write.
 *
 * The guest clusters are entered as in flight, host clusters are allocated, the data is written
 * with whatever of the first and last cluster it does not cover, and only then are the L2 entries
 * changed, in memory. The old mapping stays readable until that moment, and all of it after an
 * error. What was written is durable before the entries are (flush.c).
 *
 * With subclusters, only what the data leaves of its first and last subcluster is copied, unless
 * the cluster moves: then everything that has a place in it does. Subclusters that are added to a
 * cluster with a place go straight there, as nothing reads them before the entry changes.
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
    uint64_t head, tail; /* bytes before and behind the data that are written with it */
    uint64_t lead;       /* offset of the head in the first cluster */
    bool reuse;          /* the clusters have their places already */
    bool fresh;          /* never written, reads as zeros */
    bool zero_edges;     /* head and tail read as zeros now */
    uint64_t host_off;
    struct qc_slice *slice; /* pinned */
    size_t pos;             /* of the first entry in it */
};

static struct qc_cell cell_at(const struct qc *q, const struct job *j, uint64_t i)
{
    return qc_cell_get(q, j->slice, j->pos, i);
}

/* May bytes [lo, hi) of the cluster be written in place? *whole: without a change of the entry. */
static bool reusable(const struct qc *q, struct qc_cell c, uint64_t lo, uint64_t hi, bool *whole)
{
    *whole = false;
    if (!(c.entry & QC_COPIED) || (c.entry & QC_COMPRESSED) || !(c.entry & q->host_mask))
        return false;
    if (q->extended_l2)
        *whole = !(qc_map_mask(q, lo, hi) & ~qc_map_alloc(c.map));
    else
        *whole = !(c.entry & QC_ZERO);
    return true;
}

static bool reads_zero(const struct qc *q, struct qc_cell c, uint64_t guest_off, uint64_t len)
{
    if (len == 0)
        return true;
    if (q->extended_l2 && !(c.entry & QC_COMPRESSED)) {
        uint64_t lo = guest_off & (q->cluster_size - 1);
        uint32_t mask = qc_map_mask(q, lo, lo + len);
        return !(mask & qc_map_alloc(c.map)) &&
               (!(mask & ~qc_map_zero(c.map)) || guest_off >= qc_backing_end(q));
    }
    switch (qc_entry_type(q, c.entry)) {
    case QC_UNALLOCATED:
        return guest_off >= qc_backing_end(q);
    case QC_ZERO_PLAIN:
    case QC_ZERO_ALLOCATED:
        return true;
    default:
        return false;
    }
}

/* Before compressed clusters are given up, and before maps are relied on. */
static int check_cells(struct qc *q, const struct job *j)
{
    for (uint64_t i = 0; i < j->n; i++) {
        struct qc_cell c = cell_at(q, j, i);
        int r = q->special_l2 || c.entry & QC_COMPRESSED
                    ? qc_l2_check_unlink(q, (j->first + i) << q->cluster_bits, c)
                    : 0;
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
    uint64_t left = ((UINT64_C(1) << q->l2.slice_bits) - j->pos) >> q->l2_entry_shift;
    uint64_t max = min_u64(min_u64(left, qc_clusters(q, in_cluster + len)), j->n);
    struct qc_cell c = cell_at(q, j, 0);
    bool whole;
    j->n = 0;
    j->reuse = reusable(q, c, in_cluster, min_u64(in_cluster + len, q->cluster_size), &whole);
    if (whole)
        return 0;
    j->host_off = j->reuse ? c.entry & QC_OFFSET_MASK : 0;
    uint64_t n = 1, seen = c.entry;
    for (; n < max; n++) {
        uint64_t x = cell_at(q, j, n).entry;
        if (j->reuse ? x != c.entry + (n << q->cluster_bits)
                     : reusable(q, (struct qc_cell){x, 0}, 0, 1, &whole))
            break;
        seen |= x;
    }
    j->n = n;
    return q->special_l2 || seen & QC_COMPRESSED ? check_cells(q, j) : 0;
}

/* From where on the first cluster must be written so that its subclusters are whole. in: where the
 * data begins in it. */
static uint64_t copy_from(const struct qc *q, const struct job *j, uint64_t in)
{
    struct qc_cell c = cell_at(q, j, 0);
    if (!q->extended_l2 || c.entry & QC_COMPRESSED)
        return 0;
    uint32_t alloc = qc_map_alloc(c.map);
    uint64_t from = round_down(in, UINT64_C(1) << q->sub_bits);
    if (!j->reuse)
        return alloc ? min_u64(from, (uint64_t)__builtin_ctz(alloc) << q->sub_bits) : from;
    return qc_map_mask(q, in, in + 1) & alloc ? in : from;
}

/* The same for the end of the last cluster. */
static uint64_t copy_to(const struct qc *q, const struct job *j, uint64_t end)
{
    struct qc_cell c = cell_at(q, j, j->n - 1);
    if (!q->extended_l2 || c.entry & QC_COMPRESSED)
        return q->cluster_size;
    uint32_t alloc = qc_map_alloc(c.map);
    uint64_t to = round_up(end, UINT64_C(1) << q->sub_bits);
    if (!j->reuse)
        return alloc ? max_u64(to, (uint64_t)(QC_SUBS - __builtin_clz(alloc)) << q->sub_bits) : to;
    return qc_map_mask(q, end - 1, end) & alloc ? end : to;
}

/* Head, tail and length for j->n clusters. */
static void job_measure(const struct qc *q, struct job *j, uint64_t len)
{
    uint64_t in = j->guest_off & (q->cluster_size - 1);
    j->len = min_u64(len, (j->n << q->cluster_bits) - in);
    uint64_t end = in + j->len - ((j->n - 1) << q->cluster_bits), guest_end = j->guest_off + j->len;
    j->lead = copy_from(q, j, in);
    j->head = in - j->lead;
    j->tail = copy_to(q, j, end) - end;
    if (q->has_data_file) /* it is to be no longer than the disk */
        j->tail = min_u64(j->tail, q->node->size - min_u64(guest_end, q->node->size));
    j->zero_edges = reads_zero(q, cell_at(q, j, 0), j->guest_off - j->head, j->head) &&
                    reads_zero(q, cell_at(q, j, j->n - 1), guest_end, j->tail);
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
    uint64_t total = j->head + j->len + j->tail;
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(total, 4096);
    if (!buf)
        return -ENOMEM;
    int r = 0;
    uint64_t start = j->guest_off - j->head, end = start + total;
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
    return node_write_kind(q->data, j->host_off + j->lead, buf, total, 0, KIND_DATA);
}

static int write_zero_edges(struct qc *q, const struct job *j)
{
    uint64_t host = j->host_off + j->lead;
    int r = 0;
    if (j->head)
        r = node_zero(q->data, host, j->head, 0);
    if (r == 0 && j->tail)
        r = node_zero(q->data, host + j->head + j->len, j->tail, 0);
    return r;
}

static int job_write(struct qc *q, struct job *j)
{
    bool edges = j->head || j->tail;
    if (!q->has_data_file && qc_meta_hits(q, j->host_off, j->n << q->cluster_bits))
        return qc_corrupt(q,
                          "guest offset 0x%" PRIx64 " would be written to host offset 0x%" PRIx64
                          ", where there is metadata",
                          j->guest_off, j->host_off);
    if (edges && !j->zero_edges)
        return write_merged(q, j);
    if (edges) {
        node_event(q->file, EV_CLUSTER_ALLOC_SPACE);
        if (!j->fresh && j->head + j->len + j->tail <= MERGE_ZERO_MAX)
            return write_merged(q, j);
        int r = j->fresh ? 0 : write_zero_edges(q, j);
        if (r < 0)
            return r;
    }
    node_event(q->file, EV_WRITE_AIO);
    return node_write_kind(q->data, j->host_off + j->lead + j->head, j->buf, j->len, 0, KIND_DATA);
}

/* The map of the i-th cluster once all that was written of it is allocated. */
static uint64_t map_linked(const struct qc *q, const struct job *j, uint64_t i, struct qc_cell old)
{
    if (!q->extended_l2)
        return 0;
    uint64_t lo = i == 0 ? j->lead : 0, hi = q->cluster_size;
    if (i == j->n - 1)
        hi = j->lead + j->head + j->len + j->tail - (i << q->cluster_bits);
    uint64_t mask = qc_map_mask(q, lo, hi), map = old.entry & QC_COMPRESSED ? 0 : old.map;
    return (map | mask) & ~(mask << QC_SUBS);
}

/* Change the entries. The clusters are ours alone (in flight), so they are as they were planned. */
static int job_link(struct qc *q, struct job *j, uint64_t *n_freed)
{
    qc_gate(q);
    if (!qc_freed_reserve(&q->freed, j->n))
        return -ENOMEM;
    for (uint64_t i = 0; i < j->n; i++) {
        struct qc_cell old = cell_at(q, j, i);
        if (!j->reuse && qc_entry_owns(q, old.entry)) { /* shared or compressed: give it up */
            qc_free_entry(q, old.entry, false);
            ++*n_freed;
        }
        qc_cell_put(q, j->slice, j->pos, i,
                    (struct qc_cell){(j->host_off + (i << q->cluster_bits)) | QC_COPIED,
                                     map_linked(q, j, i, old)});
    }
    q->links_dirty = true;
    return 0;
}

static int job_alloc(struct qc *q, struct job *j, uint64_t len)
{
    uint64_t got;
    if (j->reuse)
        return 0;
    if (q->has_data_file) {
        j->host_off = j->first << q->cluster_bits;
        return 0;
    }
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
    if (r < 0 && !j->reuse && !q->has_data_file)
        qc_alloc_undo(q, j->host_off, j->n);
    return r;
}

/* Is there still nothing where j is about to write? Its clusters are in flight by now. */
static int still_absent(struct qc *q, const struct job *j, bool *absent)
{
    struct qc_run run;
    int r = qc_l2_lookup(q, j->guest_off, j->len, &run);
    *absent = r == 0 && run.type == QC_UNALLOCATED && run.len >= j->len;
    return r;
}

int qc_write_alloc(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len,
                   bool only_absent, uint64_t *done)
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
    bool go = true;
    r = only_absent ? still_absent(q, &j, &go) : 0;
    if (r == 0 && go)
        r = job_run(q, &j, len, &n_freed);
    qc_inflight_end(q, &f);
    qc_slice_unpin(j.slice);
    if (r < 0)
        return r;
    *done = go ? j.len : 0;
    if (n_freed)
        qc_free_announce(q, n_freed);
    return n_freed ? qc_relieve(q) : 0;
}
