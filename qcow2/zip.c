/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing compressed clusters.
 *
 * Each cluster is packed on a worker thread, written, and only then linked, like any other data: a
 * power cut or an error leaves the old content. What does not shrink is written plainly. Unlike
 * QEMU, a cluster that is allocated already can be replaced.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/codec.h"
#include "qcow2/qcow2_priv.h"

struct pack {
    enum qc_codec codec;
    const uint8_t *src;
    uint8_t *dst;
    size_t len, packed;
};

static int pack_run(void *arg)
{
    struct pack *p = arg;
    p->packed = qc_codec_pack(p->codec, p->src, p->len, p->dst, p->len - 1);
    return 0;
}

struct zip_job { /* one cluster on its way */
    uint64_t guest_off;
    const uint8_t *packed;
    uint64_t len;
    uint64_t host_off;
    struct qc_slice *slice; /* pinned */
    size_t pos;
};

static uint64_t make_entry(const struct qc *q, const struct zip_job *j)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t more = (j->host_off + j->len - 1) / 512 - j->host_off / 512;
    return QC_COMPRESSED | more << x | j->host_off;
}

static int zip_link(struct qc *q, struct zip_job *j, bool *freed)
{
    qc_gate(q);
    if (!qc_freed_reserve(&q->freed, 1))
        return -ENOMEM;
    uint64_t old = qc_cell_get(q, j->slice, j->pos, 0).entry, new = make_entry(q, j);
    *freed = qc_entry_owns(q, old);
    if (*freed)
        qc_free_entry(q, old, false);
    qc_zip_forget(q, new);
    qc_cell_put(q, j->slice, j->pos, 0, (struct qc_cell){new, 0});
    q->links_dirty = true;
    return 0;
}

static int zip_write(struct qc *q, struct zip_job *j, bool *freed)
{
    int r = qc_l2_check_unlink(q, j->guest_off, qc_cell_get(q, j->slice, j->pos, 0));
    if (r < 0)
        return r;
    co_lock(&q->lock);
    r = qc_bytes_alloc(q, j->len, &j->host_off);
    co_unlock(&q->lock);
    if (r < 0)
        return r;
    node_event(q->file, EV_L2_UPDATE_COMPRESSED);
    if (qc_meta_hits(q, j->host_off, j->len))
        r = qc_corrupt(q, "compressed data would be written to 0x%" PRIx64 ", where metadata is",
                       j->host_off);
    if (r == 0) {
        node_event(q->file, EV_WRITE_COMPRESSED);
        r = node_write_kind(q->file, j->host_off, j->packed, j->len, 0, KIND_DATA);
    }
    if (r == 0)
        r = zip_link(q, j, freed);
    if (r < 0)
        qc_bytes_undo(q, j->host_off, j->len);
    return r;
}

static int zip_cluster(struct qc *q, struct zip_job *j)
{
    uint64_t c = j->guest_off >> q->cluster_bits;
    struct qc_inflight f;
    bool freed = false;
    int r = qc_l2_get_write(q, j->guest_off, &j->slice);
    if (r < 0)
        return r;
    while (qc_inflight_wait(q, c, c + 1))
        ;
    j->pos = qc_l2_pos(q, j->guest_off);
    qc_inflight_begin(q, &f, c, c + 1);
    r = zip_write(q, j, &freed);
    qc_inflight_end(q, &f);
    qc_slice_unpin(j->slice);
    if (freed)
        qc_free_announce(q, 1);
    return r < 0 || !freed ? r : qc_relieve(q);
}

int qc_write_compressed(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len)
{
    uint64_t cluster = q->cluster_size;
    if (!is_aligned(guest_off, cluster) ||
        (!is_aligned(len, cluster) && guest_off + len != q->node->size))
        return -EINVAL;
    if (q->has_data_file) /* nothing can be compressed there */
        return qc_write(q, guest_off, buf, len);
    AUTO_FREE uint8_t *packed = mem_alloc_aligned(cluster, 4096);
    AUTO_FREE uint8_t *last = is_aligned(len, cluster) ? NULL : mem_alloc_aligned(cluster, 4096);
    if (!packed || (!last && !is_aligned(len, cluster)))
        return -ENOMEM;
    int r = 0;
    while (r == 0 && len) {
        uint64_t n = min_u64(len, cluster);
        struct pack p = {q->codec, buf, packed, cluster, 0};
        if (n < cluster) { /* the disk ends here, the cluster goes on */
            memcpy(last, buf, n);
            memset(last + n, 0, cluster - n);
            p.src = last;
        }
        qc_zip_work(q, pack_run, &p);
        struct zip_job j = {.guest_off = guest_off, .packed = packed, .len = p.packed};
        r = p.packed ? zip_cluster(q, &j) : -EFBIG;
        if (r == -EFBIG)
            r = qc_write(q, guest_off, buf, n);
        guest_off += n;
        buf += n;
        len -= n;
    }
    return r;
}
