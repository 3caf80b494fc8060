/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From losing its last pointer to being free: the quarantine of host clusters.
 *
 * A cluster passes through three lists:
 *   freed    unlinked in a cached table; the table may still be volatile
 *   written  the table was written to the file, which was not flushed since
 *   settled  the unlinking is durable; I/O that was translated before it may still be running
 * and only then does its refcount fall, in memory, so that it can be handed out again. The fall
 * reaches the disk with a later write-back: until then a crash leaks the cluster, no more.
 *
 * The wait for old I/O is a grace period in the manner of RCU: I/O counts itself into the current
 * epoch's parity; the epoch may advance when the other parity has drained. A cluster unlinked in
 * epoch s is safe once epoch s has drained, too.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "qcow2/qcow2_priv.h"

#define RELIEVE_RANGES 4096                 /* about 128 KiB of list */
#define RELIEVE_BYTES (UINT64_C(256) << 20) /* what the file may grow by for lack of a flush */

bool qc_freed_reserve(struct qc_freed_list *l, size_t more)
{
    if (l->n + more <= l->cap)
        return true;
    size_t cap = l->cap ? l->cap * 2 : 16;
    while (cap < l->n + more)
        cap *= 2;
    struct qc_freed *v = mem_realloc(l->v, cap * sizeof(*v));
    if (!v)
        return false;
    l->v = v;
    l->cap = cap;
    return true;
}

void qc_free_later(struct qc *q, uint64_t host_off, uint64_t n, bool discard)
{
    struct qc_freed_list *l = &q->freed;
    q->freed_bytes += n << q->cluster_bits;
    struct qc_freed *last = l->n ? &l->v[l->n - 1] : NULL;
    if (last && last->discard == discard && last->epoch == q->io_epoch &&
        last->host_off + (last->clusters << q->cluster_bits) == host_off) {
        last->clusters += n;
        return;
    }
    l->v[l->n++] = (struct qc_freed){
        .host_off = host_off, .clusters = n, .epoch = q->io_epoch, .discard = discard};
}

void qc_free_entry(struct qc *q, uint64_t entry, bool discard)
{
    uint64_t off = entry & QC_OFFSET_MASK, len = q->cluster_size;
    if (entry & QC_COMPRESSED)
        qc_zip_span(q, entry, &off, &len);
    uint64_t start = round_down(off, q->cluster_size);
    qc_free_later(q, start, qc_clusters(q, off + len - start), discard);
}

void qc_free_announce(struct qc *q, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        node_event(q->file, EV_CLUSTER_FREE);
        node_event(q->file, EV_REFBLOCK_ALLOC);
        node_event(q->file, EV_REFBLOCK_LOAD);
    }
}

static void epoch_advance(struct qc *q)
{
    if (q->io_running[(q->io_epoch + 1) & 1] == 0)
        q->io_epoch++;
}

static bool grace_over(const struct qc *q, uint64_t s)
{
    return q->io_epoch >= s + 2 || (q->io_epoch == s + 1 && q->io_running[s & 1] == 0);
}

int qc_ref_lower(struct qc *q, uint64_t cluster)
{
    struct qc_slice *s;
    uint64_t pos;
    int r = qc_ref_slice(q, cluster, &s, &pos);
    if (r < 0 && r != -ENOENT)
        return r;
    uint64_t count = r < 0 ? 0 : qc_ref_read(q->refcount_order, s->data, pos);
    if (count == 0)
        return qc_corrupt(q, "host cluster 0x%" PRIx64 " was in use with refcount 0",
                          cluster << q->cluster_bits);
    qc_ref_set(q, s, pos, count - 1);
    if (count == 1)
        q->free_hint = min_u64(q->free_hint, cluster);
    return 0;
}

/* May the range be given back to the file system? Only if nobody else refers to any of it, by the
 * refcounts and not just by the COPIED flag: a false flag must not cost a snapshot its data. */
static bool sole_owner(struct qc *q, const struct qc_freed *f)
{
    for (uint64_t i = 0; i < f->clusters; i++) {
        struct qc_slice *s;
        uint64_t pos;
        if (qc_ref_slice(q, (f->host_off >> q->cluster_bits) + i, &s, &pos) < 0 ||
            qc_ref_read(q->refcount_order, s->data, pos) != 1)
            return false;
    }
    return true;
}

/* Frees from the end of the range, so that what is left after an error is still one range. */
static int drop_range(struct qc *q, struct qc_freed *f)
{
    qc_bytes_leave(q, f->host_off, f->clusters);
    if (f->discard && sole_owner(q, f)) {
        /* Before the refcounts fall: afterwards the clusters may be somebody else's. */
        int r = node_discard(q->file, f->host_off, f->clusters << q->cluster_bits);
        if (r < 0 && r != -ENOTSUP)
            log_debug("%s: discard of freed clusters failed: %d", q->node->name, r);
    }
    f->discard = false;
    for (; f->clusters; f->clusters--) {
        int r = qc_ref_lower(q, (f->host_off >> q->cluster_bits) + f->clusters - 1);
        if (r < 0)
            return r;
    }
    return 0;
}

int qc_free_settled(struct qc *q)
{
    struct qc_freed_list *l = &q->settled;
    if (!l->n)
        return 0;
    epoch_advance(q);
    epoch_advance(q);
    size_t keep = 0;
    int r = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (r == 0 && grace_over(q, l->v[i].epoch))
            r = drop_range(q, &l->v[i]);
        if (l->v[i].clusters)
            l->v[keep++] = l->v[i];
    }
    l->n = keep;
    return r;
}

int qc_relieve(struct qc *q)
{
    if (q->freed.n + q->written.n < RELIEVE_RANGES && q->freed_bytes < RELIEVE_BYTES)
        return 0;
    int r = qc_write_back(q->node);
    return r < 0 ? r : qc_flush(q);
}
