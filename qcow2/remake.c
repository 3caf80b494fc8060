/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The course of a change of all metadata: hold requests back, build, switch, adopt.
 *
 * Nothing that the old tables refer to is handed out while the new ones are built: what loses its
 * last reference keeps a refcount of one until everything has been allocated.
 *
 * If the write of the header fails, or the barrier after it, it is not known which tables are in
 * force. Either are right as of now, but not after a guest's write: so there is none until reopen.
 */
#include "qcow2/remake.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"

#define SETTLE_ROUNDS 4

int qc_settle(struct qc *q)
{
    for (unsigned i = 0; i < SETTLE_ROUNDS; i++) {
        int r = qc_write_back(q->node);
        if (r == 0)
            r = qc_flush(q);
        if (r == 0 && q->ref.n_dirty) { /* what the flush has freed */
            r = qc_write_refblocks(q);
            if (r == 0)
                r = qc_barrier(q);
        }
        if (r < 0)
            return r;
        if (!q->freed.n && !q->written.n && !q->settled.n && !q->ref.n_dirty && !q->l2.n_dirty)
            return 0;
    }
    return q->free_error ? q->free_error : -ENOMEM; /* what waits to be freed cannot be */
}

static void announce(struct qc_remake *m, enum blk_event ev)
{
    if (ev != EV_COUNT)
        node_event(m->q->file, ev);
}

/* What is replaced whatever is to be done: the refcount structures and the L1 table. */
static int give_up_old(struct qc_remake *m)
{
    struct qc *q = m->q;
    const struct qc_shadow *s = &m->shadow;
    int r = qc_remake_refer_clusters(m, s->old_off, qc_clusters(q, s->old_size * 8), -1);
    for (uint64_t i = 0; r == 0 && i < s->old_size; i++) {
        uint64_t off = get_be64(s->old_table + i * 8);
        if (off)
            r = qc_remake_refer_clusters(m, off, 1, -1);
    }
    return r < 0 ? r : qc_remake_refer_clusters(m, q->l1_off, qc_clusters(q, q->l1_size * 8), -1);
}

int qc_remake_hold(struct qc_remake *m, struct qc *q)
{
    *m = (struct qc_remake){.q = q, .cut = UINT64_MAX};
    m->before_l1 = m->before_write = m->after_switch = EV_COUNT;
    m->external = q->incompatible & QC_INCOMPAT_DATA_FILE;
    node_drain_begin(q->node);
    co_lock(&q->bitmaps.lock); /* nor are bitmaps stored meanwhile */
    co_lock(&q->lock);
    m->size = q->node->size;
    m->l1 = q->l1;
    m->l1_size = q->l1_size;
    if (q->read_only || q->bitmaps.stored) /* stored for the last time, to be right from now on */
        return -EROFS;
    return q->frozen ? q->frozen : q->corrupt ? -EIO : qc_settle(q);
}

bool qc_remake_resize(struct qc_remake *m, uint64_t size, struct err **errp)
{
    struct bitmap_set *all = m->q->node->bitmaps;
    if (size == m->size)
        return true;
    for (const struct bitmap *b = all ? all->head : NULL; b; b = b->next)
        if (!bitmap_check_idle(b, errp))
            return false;
    /* Larger first: they may reach further than the disk, never less far. */
    if (all && size > all->size && !bitmap_set_resize(all, size, errp))
        return false;
    m->size = size;
    return true;
}

int qc_remake_begin(struct qc_remake *m, uint64_t more)
{
    struct qc *q = m->q;
    more += 2 * qc_clusters(q, q->l1_size * 8);
    for (uint64_t i = 0; i < q->l1_size; i++)
        more += qc_l1_get(q, i) != 0;
    int r = qc_shadow_begin(&m->shadow, q, more);
    if (r < 0)
        return r;
    uint64_t end = max_u64(q->file->size, q->file->growable ? q->fresh_from : 0);
    m->limit = qc_clusters(q, end) + 1; /* one that starts just at the end: see qc_l2_check */
    m->l2 = mem_alloc_aligned(q->cluster_size, 4096);
    if (!m->l2 || !qc_delta_init(&m->delta, m->limit) || !qc_bits_init(&m->one, m->limit) ||
        !qc_bits_init(&m->gone, m->limit))
        return -ENOMEM;
    return give_up_old(m);
}

int qc_remake_read_l1(struct qc_remake *m, uint64_t host_off, uint64_t l1_size, uint8_t **out)
{
    struct qc *q = m->q;
    uint64_t len = l1_size * 8;
    *out = NULL;
    if (len && (host_off >= q->file->size || q->file->size - host_off < len))
        return -EINVAL;
    uint8_t *l1 = mem_alloc_aligned(max_u64(len, 8), 4096);
    if (!l1)
        return -ENOMEM;
    int r = qc_read_table(q, host_off, l1, len);
    if (r < 0)
        mem_free(l1);
    else
        *out = l1;
    return r;
}

/* A place for len bytes; 0 for none. */
static int place(struct qc *q, uint64_t len, uint64_t *host_off)
{
    *host_off = 0;
    return len ? qc_alloc_exact(q, qc_clusters(q, len), host_off) : 0;
}

static int place_tables(struct qc_remake *m)
{
    struct qc *q = m->q;
    int r = place(q, m->l1_size * 8, &m->l1_off);
    if (r == 0 && m->snaps.added)
        r = place(q, m->l1_size * 8, &m->snap_l1_off);
    if (r < 0 || !m->snaps.table)
        return r;
    uint64_t len = round_up(m->snaps.len, q->cluster_size);
    m->new_snaps = mem_zalloc(max_u64(len, 8));
    if (!m->new_snaps)
        return -ENOMEM;
    memcpy(m->new_snaps, m->snaps.table, m->snaps.len);
    if (m->snaps.added)
        put_be64(m->new_snaps + m->snaps.l1_off_at, m->snap_l1_off);
    return place(q, m->snaps.len, &m->snaps_off);
}

/* A snapshot's table says nothing about what is unshared. */
static int write_snapshot_l1(struct qc_remake *m, uint64_t bytes)
{
    uint8_t *copy = mem_alloc_aligned(max_u64(bytes, 8), 4096);
    if (!copy)
        return -ENOMEM;
    for (uint64_t i = 0; i < bytes; i += 8)
        put_be64(copy + i, get_be64(m->new_l1 + i) & ~QC_COPIED);
    int r = qc_write_table(m->q, m->snap_l1_off, copy, bytes, KIND_L1);
    mem_free(copy);
    return r;
}

static int write_tables(struct qc_remake *m)
{
    struct qc *q = m->q;
    uint64_t bytes = round_up(m->l1_size * 8, q->cluster_size);
    announce(m, m->before_l1);
    int r = qc_write_table(q, m->l1_off, m->new_l1, bytes, KIND_L1);
    if (r == 0 && m->snaps.added)
        r = write_snapshot_l1(m, bytes);
    if (r == 0 && m->snaps.table)
        r = qc_write_table(q, m->snaps_off, m->new_snaps, round_up(m->snaps.len, q->cluster_size),
                           KIND_SNAPSHOT);
    return r;
}

/* Nothing will be allocated any more: what is gone may go. */
static int drop_gone(struct qc_remake *m)
{
    struct qc *q = m->q;
    for (uint64_t c = 0; (c = qc_bits_next(&m->gone, c)) < m->limit; c++) {
        struct qc_slice *s;
        uint64_t pos;
        int r = qc_ref_slice(q, c, &s, &pos);
        if (r < 0)
            return r;
        qc_ref_set(q, s, pos, 0);
    }
    return m->trim ? qc_shadow_trim(q) : 0;
}

static bool reserve_meta(struct qc_remake *m)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->l1_size; i++)
        n += get_be64(m->new_l1 + i * 8) != 0;
    for (uint64_t i = 0; i < m->q->reftable_size; i++)
        n += qc_reftable_get(m->q, i) != 0;
    return qc_meta_reserve(m->q, n);
}

static int build(struct qc_remake *m)
{
    struct qc *q = m->q;
    /* At least a sector: entries are written in groups of 512 bytes. */
    uint64_t bytes = max_u64(round_up(m->l1_size * 8, q->cluster_size), 512);
    m->new_l1 = mem_alloc_aligned(bytes, 4096);
    if (!m->new_l1)
        return -ENOMEM;
    memset(m->new_l1, 0, bytes);
    memcpy(m->new_l1, m->l1, m->l1_size * 8);
    int r = m->snaps.table ? qc_remake_refer_clusters(m, q->snapshots_off,
                                                      qc_clusters(q, q->snapshots_len), -1)
                           : 0;
    if (r == 0)
        r = qc_remake_apply(m);
    if (r == 0)
        r = qc_remake_tables(m);
    if (r == 0)
        r = place_tables(m);
    if (r == 0)
        r = write_tables(m);
    if (r == 0)
        r = drop_gone(m);
    if (r == 0 && !reserve_meta(m))
        r = -ENOMEM;
    announce(m, m->before_write);
    if (r == 0)
        r = qc_shadow_write(q);
    return r < 0 ? r : qc_barrier(q);
}

/* The header fields from size to snapshots_offset lie side by side in one sector. */
static int switch_header(struct qc_remake *m)
{
    struct qc *q = m->q;
    uint8_t be[QCH_INCOMPATIBLE - QCH_SIZE] = {0};
    bool snaps = m->snaps.table;
    put_be64(be, m->size);
    put_be32(be + QCH_L1_SIZE - QCH_SIZE, (uint32_t)m->l1_size);
    put_be64(be + QCH_L1_OFF - QCH_SIZE, m->l1_off);
    put_be64(be + QCH_REFTABLE_OFF - QCH_SIZE, q->reftable_off);
    put_be32(be + QCH_REFTABLE_CLUSTERS - QCH_SIZE, (uint32_t)qc_clusters(q, q->reftable_size * 8));
    put_be32(be + QCH_NB_SNAPSHOTS - QCH_SIZE, snaps ? m->snaps.n : q->nb_snapshots);
    put_be64(be + QCH_SNAPSHOTS_OFF - QCH_SIZE, snaps ? m->snaps_off : q->snapshots_off);
    if (m->emptying) {
        node_event(q->file, EV_L1_UPDATE);
        node_event(q->file, EV_REFTABLE_UPDATE);
    }
    int r = node_write_kind(q->file, QCH_SIZE, be, sizeof(be), 0, KIND_HEADER);
    return r < 0 ? r : qc_barrier(q);
}

static void adopt(struct qc_remake *m)
{
    struct qc *q = m->q;
    mem_free(q->l1);
    q->l1 = m->new_l1;
    m->new_l1 = NULL;
    q->l1_size = m->l1_size;
    q->l1_off = m->l1_off;
    q->node->size = m->size;
    if (m->snaps.table) {
        q->nb_snapshots = m->snaps.n;
        q->snapshots_off = m->snaps_off;
        q->snapshots_len = round_up(m->snaps.len, q->cluster_size);
    }
    if (q->node->bitmaps && m->all_dirty)
        bitmap_set_mark(q->node->bitmaps, 0, q->node->bitmaps->size);
    qc_shadow_commit(&m->shadow, q);
    qc_cache_clear(&q->l2);
    q->zip.free_byte = 0;
    for (unsigned i = 0; i < QC_ZIP_SLOTS; i++)
        q->zip.v[i].entry = 0;
    qc_meta_reload(q);
    q->free_hint = min_u64(q->free_hint, qc_bits_next(&m->gone, 0));
}

/* Give the space of what is gone back to the file system. Nobody else has got it yet. */
static void discard_gone(struct qc_remake *m)
{
    struct qc *q = m->q;
    for (uint64_t c = 0; (c = qc_bits_next(&m->gone, c)) < m->limit;) {
        uint64_t end = c + 1;
        while (end < m->limit && qc_bits_get(&m->gone, end))
            end++;
        int r = node_discard(q->file, c << q->cluster_bits, (end - c) << q->cluster_bits);
        if (r < 0 && r != -ENOTSUP)
            log_debug("%s: discard of freed clusters failed: %d", q->node->name, r);
        c = end;
    }
}

int qc_remake_commit(struct qc_remake *m)
{
    struct qc *q = m->q;
    int r = build(m);
    if (r < 0)
        return r;
    r = switch_header(m);
    if (r < 0) {
        q->frozen = r;
        if (!q->flush_error)
            q->flush_error = r;
        log_error("%s: it is not known which tables are in force, as the header could not be "
                  "written (error %d): nothing is written until the image is opened again",
                  q->node->name, -r);
        return r;
    }
    adopt(m);
    announce(m, m->after_switch);
    if (m->emptying)
        node_event(q->file, EV_REFBLOCK_ALLOC);
    discard_gone(m);
    return 0;
}

void qc_remake_truncate(struct qc_remake *m)
{
    struct qc *q = m->q;
    uint64_t clusters;
    if (!q->file->growable || qc_shadow_end(q, &clusters) < 0 ||
        clusters << q->cluster_bits >= q->file->size)
        return;
    int r = node_truncate(q->file, clusters << q->cluster_bits);
    if (r < 0)
        log_warn("%s: the end of the file, which is not used any more, could not be cut off: "
                 "error %d",
                 q->node->name, -r);
}

void qc_remake_end(struct qc_remake *m)
{
    struct qc *q = m->q;
    if (m->shadow.on) {
        qc_shadow_abort(&m->shadow, q);
        qc_meta_reload(q); /* blocks of the attempt are in it */
    }
    /* What grew for a disk that did not: bitmaps are stored for the disk as it is. */
    if (q->node->bitmaps && q->node->bitmaps->size != q->node->size)
        bitmap_set_resize(q->node->bitmaps, q->node->size, NULL);
    qc_delta_free(&m->delta);
    qc_bits_free(&m->one);
    qc_bits_free(&m->gone);
    mem_free(m->l2);
    mem_free(m->new_l1);
    mem_free(m->new_snaps);
    co_unlock(&q->lock);
    co_unlock(&q->bitmaps.lock);
    node_drain_end(q->node);
}
