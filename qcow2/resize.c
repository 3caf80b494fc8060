/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growing the virtual disk; shrinking is in empty.c, as what is cut off must be freed.
 *
 * Order: the larger L1 table is durable before the header points at it; what must read as zeros in
 * the new space (a backing file may be longer than the old disk, and the last cluster may hold
 * more than the disk did), and the clusters that are allocated for it, are durable before the
 * header's size makes it visible. So no guest can write to what is still being prepared.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>

#include "base/cleanup.h"
#include "qcow2/qcow2_priv.h"

static int write_header(struct qc *q, uint64_t off, const void *be, size_t len)
{
    int r = qc_barrier(q);
    if (r < 0)
        return r;
    r = node_write_kind(q->file, off, be, len, 0, KIND_HEADER);
    if (r < 0) {
        q->flush_error = r; /* which header is on disk? Both are right as of now: change nothing */
        return r;
    }
    return qc_barrier(q);
}

static int l1_write_table(struct qc *q, const uint8_t *table, uint64_t bytes, uint64_t host_off)
{
    node_event(q->file, EV_L1_GROW_WRITE_TABLE);
    return qc_write_table(q, host_off, table, bytes, KIND_L1);
}

/* lock is held. need: entries. */
static int l1_grow(struct qc *q, uint64_t need)
{
    if (need <= q->l1_size)
        return 0;
    if (need > QC_MAX_L1_BYTES / 8)
        return -EFBIG;
    uint64_t clusters = qc_clusters(q, need * 8), bytes = clusters << q->cluster_bits, host_off;
    AUTO_FREE uint8_t *table = mem_alloc_aligned(bytes, 4096);
    if (!table || !qc_freed_reserve(&q->freed, 1))
        return -ENOMEM;
    node_event(q->file, EV_L1_GROW_ALLOC_TABLE);
    int r = qc_alloc_exact(q, clusters, &host_off);
    if (r < 0)
        return r;
    memset(table, 0, bytes);
    memcpy(table, q->l1, q->l1_size * 8);
    r = qc_write_refblocks(q);
    if (r == 0)
        r = l1_write_table(q, table, bytes, host_off);
    if (r < 0) {
        qc_alloc_undo(q, host_off, clusters);
        return r;
    }
    uint8_t be[12];
    put_be32(be, (uint32_t)need);
    put_be64(be + 4, host_off);
    node_event(q->file, EV_L1_GROW_ACTIVATE_TABLE);
    r = write_header(q, QCH_L1_SIZE, be, sizeof(be));
    if (r < 0)
        return r;
    uint64_t old_off = q->l1_off, old_clusters = qc_clusters(q, q->l1_size * 8);
    mem_free(q->l1);
    q->l1 = steal(table);
    q->l1_off = host_off;
    q->l1_size = need;
    if (old_clusters && qc_freed_reserve(&q->freed, 1)) {
        qc_free_later(q, old_off, old_clusters, false);
        qc_free_announce(q, 1);
    }
    return 0;
}

/* The data file goes along. What it may hold beyond the old size must not come to light in it. */
static int data_grow(struct qc *q, uint64_t old_size, uint64_t size)
{
    int r = 0;
    if (!q->has_data_file)
        return 0;
    if (q->raw_data && q->data->size > old_size)
        r = node_zero(q->data, old_size, min_u64(q->data->size, size) - old_size, REQ_MAY_UNMAP);
    if (r == 0 && q->data->size < size)
        r = node_truncate(q->data, size);
    return r;
}

/* Make what becomes visible read as zeros. */
static int zero_new_space(struct qc *q, uint64_t old_size, uint64_t size)
{
    uint64_t end = round_up(old_size, q->cluster_size);
    if (q->has_backing && !q->backing) /* not opened: it may be of any size */
        end = size;
    end = min_u64(size, max_u64(end, qc_backing_end(q)));
    if (end <= old_size)
        return 0;
    int r = qc_zero(q, old_size, end - old_size, 0);
    return r == -ENOTSUP ? qc_write_zeros(q, old_size, end - old_size) : r;
}

static int make_space(struct qc *q, uint64_t old_size, uint64_t size, enum qc_preallocation mode)
{
    int r = data_grow(q, old_size, size);
    if (r == 0)
        r = zero_new_space(q, old_size, size);
    if (r == 0 && mode != QC_PREALLOC_OFF)
        r = qc_preallocate(q, old_size, size, mode);
    if (r == 0)
        r = qc_write_back(q->node);
    if (r < 0 && mode != QC_PREALLOC_OFF) {
        uint64_t end = q->raw_data ? size : round_up(size, q->cluster_size);
        qc_discard(q, old_size, end - old_size); /* if that fails, too, they stay, and unused */
    }
    return r;
}

static int resize_locked(struct qc *q, uint64_t size, enum qc_preallocation mode)
{
    uint64_t old_size = q->node->size;
    if (size % 512)
        return -EINVAL;
    if (size < old_size || !qc_snapshots_sized(q))
        return -ENOTSUP;
    if (size == old_size)
        return 0;
    if (size > (uint64_t)INT64_MAX - q->cluster_size)
        return -EFBIG;
    uint64_t need = (size >> q->l1_shift) + ((size & ((UINT64_C(1) << q->l1_shift) - 1)) != 0);
    if (need > INT_MAX)
        return -EFBIG;
    co_lock(&q->lock);
    int r = l1_grow(q, need);
    co_unlock(&q->lock);
    if (r == 0)
        r = make_space(q, old_size, size, mode);
    if (r < 0)
        return r;
    uint8_t be[8];
    put_be64(be, size);
    co_lock(&q->lock);
    r = write_header(q, QCH_SIZE, be, sizeof(be));
    co_unlock(&q->lock);
    if (r == 0)
        q->node->size = size;
    return r;
}

/* One at a time: a smaller growth that ends after a larger one would cut the disk. */
int qc_resize(struct qc *q, uint64_t size, enum qc_preallocation mode)
{
    co_lock(&q->resize_lock);
    int r = resize_locked(q, size, mode);
    co_unlock(&q->resize_lock);
    return r;
}

/* Without a size of its own a snapshot has that of the disk: which then must not change. Version 2
 * does not ask for it, so its readers need not look for it. */
bool qc_snapshots_sized(const struct qc *q)
{
    return q->nb_snapshots == 0 || (q->version >= 3 && !q->snapshot_unsized);
}

bool qc_truncate(struct node *n, uint64_t size, const struct qc_truncate_opts *opts,
                 struct err **errp)
{
    struct qc *q = n->state;
    if (size % 512)
        return err_set(errp, EINVAL, "%s: size %" PRIu64 " is not a multiple of 512", n->name,
                       size);
    if (n->read_only)
        return err_set(errp, EROFS, "%s: the image is open read-only", n->name);
    if (size != n->size && !qc_snapshots_sized(q))
        return err_set(errp, ENOTSUP,
                       "%s: the image has snapshots that do not store their size (%s), so it "
                       "cannot be resized",
                       n->name, q->version < 3 ? "version 2" : "incomplete extra data");
    if (size < n->size && !opts->shrink)
        return err_set(errp, EINVAL,
                       "%s: size %" PRIu64 " is less than the present %" PRIu64
                       ": what is beyond it would be lost",
                       n->name, size, n->size);
    if (size < n->size)
        return qc_shrink(q, size, errp) || err_prefix(errp, "%s: ", n->name);
    struct req grow = {.op = REQ_TRUNCATE, .flags = REQ_OWN * opts->preallocation, .off = size};
    int r = node_submit(n, &grow);
    return r == 0 ||
           err_set_errno(errp, -r, "%s: cannot be resized to %" PRIu64 " bytes", n->name, size);
}
