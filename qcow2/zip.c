/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing compressed clusters.
 *
 * Clusters are packed on worker threads, some requests side by side; they are written in the order
 * in which the requests came, one behind the other, so that the file is as dense as if they had
 * been packed one by one. They are linked only after they are written, like any other data: a power
 * cut or an error leaves the old content. What does not shrink is written plainly. Unlike QEMU, a
 * cluster that is allocated already can be replaced.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/zip_priv.h"

#define BATCH_BYTES (UINT64_C(1) << 20)

struct zip_run { /* clusters of a batch on their way, of one slice */
    struct qc_zip_batch *b;
    unsigned first, n; /* in the batch */
    uint64_t guest_off;
    uint64_t host_off[QC_ZIP_BATCH];
    struct qc_slice *slice; /* pinned */
    size_t pos;             /* of the first entry */
    uint64_t n_freed;
};

static uint64_t make_entry(const struct qc *q, uint64_t host_off, uint64_t len)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t more = (host_off + len - 1) / 512 - host_off / 512;
    return QC_COMPRESSED | more << x | host_off;
}

static int run_link(struct qc *q, struct zip_run *z)
{
    qc_gate(q);
    if (!qc_freed_reserve(&q->freed, z->n))
        return -ENOMEM;
    for (unsigned i = 0; i < z->n; i++) {
        uint64_t old = qc_cell_get(q, z->slice, z->pos, i).entry;
        uint64_t new = make_entry(q, z->host_off[i], z->b->len[z->first + i]);
        if (qc_entry_owns(q, old)) {
            qc_free_entry(q, old, false);
            z->n_freed++;
        }
        qc_zip_forget(q, new);
        qc_cell_put(q, z->slice, z->pos, i, (struct qc_cell){new, 0});
    }
    q->links_dirty = true;
    return 0;
}

/* Room for each; for fewer of them (z->n) if it ends in between. */
static int run_alloc(struct qc *q, struct zip_run *z)
{
    int r = 0;
    unsigned i = 0;
    co_lock(&q->lock);
    for (; r == 0 && i < z->n; i++) {
        r = qc_bytes_alloc(q, z->b->len[z->first + i], &z->host_off[i]);
        if (r < 0)
            break;
        node_event(q->file, EV_L2_UPDATE_COMPRESSED);
    }
    co_unlock(&q->lock);
    z->n = i;
    return i ? 0 : r;
}

/* Most of the time all of them lie one behind the other: move the packed bytes together, and write
 * them at once. */
static int run_write(struct qc *q, struct zip_run *z)
{
    const size_t *len = z->b->len + z->first;
    uint8_t *at = z->b->packed + z->first * z->b->cluster;
    for (unsigned i = 0, next; i < z->n; i = next) {
        uint64_t total = 0;
        for (next = i; next < z->n && z->host_off[next] == z->host_off[i] + total; next++) {
            memmove(at + total, z->b->packed + (z->first + next) * z->b->cluster, len[next]);
            total += len[next];
            node_event(q->file, EV_WRITE_COMPRESSED);
        }
        if (qc_meta_hits(q, z->host_off[i], total))
            return qc_corrupt(
                q, "compressed data would be written to 0x%" PRIx64 ", where metadata is",
                z->host_off[i]);
        int r = node_write_kind(q->file, z->host_off[i], at, total, 0, KIND_DATA);
        if (r < 0)
            return r;
        at += total;
    }
    return 0;
}

static int run_do(struct qc *q, struct zip_run *z)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < z->n; i++)
        r = qc_l2_check_unlink(q, z->guest_off + i * q->cluster_size,
                               qc_cell_get(q, z->slice, z->pos, i));
    if (r == 0)
        r = run_alloc(q, z);
    if (r < 0)
        return r;
    r = run_write(q, z);
    if (r == 0)
        r = run_link(q, z);
    for (unsigned i = 0; r < 0 && i < z->n; i++)
        qc_bytes_undo(q, z->host_off[i], z->b->len[z->first + i]);
    return r;
}

/* z->n clusters, or as many of them as could be done. */
static int run_clusters(struct qc *q, struct zip_run *z)
{
    struct qc_inflight f;
    z->guest_off = z->b->guest_off + z->first * q->cluster_size;
    uint64_t c = z->guest_off >> q->cluster_bits;
    int r = qc_l2_get_write(q, z->guest_off, &z->slice);
    if (r < 0)
        return r;
    z->pos = qc_l2_pos(q, z->guest_off);
    uint64_t left = ((UINT64_C(1) << q->l2.slice_bits) - z->pos) >> q->l2_entry_shift;
    z->n = (unsigned)min_u64(z->n, left);
    while (qc_inflight_wait(q, c, c + z->n))
        ;
    qc_inflight_begin(q, &f, c, c + z->n);
    r = run_do(q, z);
    qc_inflight_end(q, &f);
    qc_slice_unpin(z->slice);
    if (z->n_freed)
        qc_free_announce(q, z->n_freed);
    return r < 0 || !z->n_freed ? r : qc_relieve(q);
}

/* Guest bytes of clusters of a batch, which the disk may not have all of. */
static uint64_t guest_len(const struct qc_zip_batch *b, unsigned first, unsigned n)
{
    uint64_t off = b->guest_off + first * b->cluster;
    return min_u64(n * b->cluster, b->q->node->size - off);
}

static int batch_write(struct qc_zip_batch *b)
{
    int r = 0;
    for (unsigned i = 0, n; r == 0 && i < b->n; i += n) {
        struct zip_run z = {.b = b, .first = i};
        n = 1;
        while (i + n < b->n && !b->len[i + n] == !b->len[i])
            n++;
        z.n = n;
        r = b->len[i] ? run_clusters(b->q, &z) : -EFBIG;
        if (r == 0)
            n = z.n;
        else if (r == -EFBIG && b->len[i])
            n = 1; /* no place that a compressed cluster could have */
        if (r == -EFBIG)
            r = qc_write(b->q, b->guest_off + i * b->cluster, b->src + i * b->cluster,
                         guest_len(b, i, n));
    }
    return r;
}

/* --- Requests, in the order in which they came --- */

static void turn_wait(struct qc_zip *z, uint64_t ticket)
{
    while (z->turn != ticket)
        co_queue_wait(&z->turn_queue);
}

static int write_batches(struct qc *q, struct qc_zip_batch *b, const uint8_t *buf, uint64_t len,
                         uint64_t ticket)
{
    int r = 0;
    while (r == 0 && len) {
        uint64_t n = min_u64(len, max_u64(BATCH_BYTES, b->cluster));
        n = min_u64(n, QC_ZIP_BATCH * b->cluster);
        b->src = buf;
        b->n = (unsigned)qc_clusters(q, n);
        r = qc_zip_pack(b);
        turn_wait(&q->zip, ticket);
        if (r == 0)
            r = batch_write(b);
        b->guest_off += n;
        buf += n;
        len -= n;
    }
    return r;
}

/* All but what the disk has no whole cluster of; that is padded with zeros. */
static int write_all(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len,
                     uint64_t ticket)
{
    uint64_t cluster = q->cluster_size, whole = round_down(len, cluster), rest = len - whole;
    uint64_t room = min_u64(max_u64(whole, cluster), max_u64(BATCH_BYTES, cluster));
    room = min_u64(room, QC_ZIP_BATCH * cluster);
    size_t packed_len[QC_ZIP_BATCH];
    AUTO_FREE uint8_t *packed = mem_alloc_aligned(room, 4096);
    AUTO_FREE uint8_t *last = rest ? mem_alloc_aligned(cluster, 4096) : NULL;
    if (!packed || (rest && !last))
        return -ENOMEM;
    struct qc_zip_batch b = {
        .q = q, .cluster = cluster, .guest_off = guest_off, .packed = packed, .len = packed_len};
    int r = write_batches(q, &b, buf, whole, ticket);
    if (r < 0 || !rest)
        return r;
    memcpy(last, buf + whole, rest);
    memset(last + rest, 0, cluster - rest);
    return write_batches(q, &b, last, cluster, ticket);
}

int qc_write_compressed(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len)
{
    uint64_t cluster = q->cluster_size;
    if (!is_aligned(guest_off, cluster) ||
        (!is_aligned(len, cluster) && guest_off + len != q->node->size))
        return -EINVAL;
    if (q->has_data_file) /* nothing can be compressed there */
        return qc_write(q, guest_off, buf, len);
    uint64_t ticket = q->zip.tickets++;
    int r = write_all(q, guest_off, buf, len, ticket);
    turn_wait(&q->zip, ticket);
    q->zip.turn++;
    co_queue_wake_all(&q->zip.turn_queue);
    return r;
}
