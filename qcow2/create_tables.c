/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tables of a new image, written piece by piece: a preallocated one of many terabytes has
 * gigabytes of them.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "qcow2/create_priv.h"

#define PIECE (UINT64_C(2) << 20)

/* Fills buf (len bytes, zeros) with a table's bytes from pos on. */
typedef void fill_fn(const struct qc_layout *l, uint8_t *buf, uint64_t pos, uint64_t len);

/* Not REQ_ZERO, whatever it holds: the file must end where the tables do, also on file systems
 * without fallocate. */
static int put_table(const struct qc_layout *l, struct node *file, uint64_t off, uint64_t clusters,
                     fill_fn *fill, enum req_kind kind)
{
    uint64_t len = clusters << l->cluster_bits;
    if (!len)
        return 0;
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(min_u64(len, PIECE), 4096);
    if (!buf)
        return -ENOMEM;
    for (uint64_t pos = 0; pos < len; pos += PIECE) {
        uint64_t n = min_u64(len - pos, PIECE);
        memset(buf, 0, n);
        fill(l, buf, pos, n);
        int r = node_write_kind(file, off + pos, buf, n, 0, kind);
        if (r < 0)
            return r;
    }
    return 0;
}

static void fill_reftable(const struct qc_layout *l, uint8_t *buf, uint64_t pos, uint64_t len)
{
    uint64_t first = pos / 8, end = min_u64(l->refblocks, first + len / 8);
    for (uint64_t i = first; i < end; i++)
        put_be64(buf + (i - first) * 8, l->refblock_off + (i << l->cluster_bits));
}

static void fill_refblocks(const struct qc_layout *l, uint8_t *buf, uint64_t pos, uint64_t len)
{
    uint64_t first = pos * 8 >> l->refcount_order;
    uint64_t end = min_u64(l->total, first + (len * 8 >> l->refcount_order));
    for (uint64_t i = first; i < end; i++)
        qc_ref_write(l->refcount_order, buf, i - first, 1);
}

static void fill_l1(const struct qc_layout *l, uint8_t *buf, uint64_t pos, uint64_t len)
{
    uint64_t first = pos / 8, end = min_u64(l->l2_tables, first + len / 8);
    for (uint64_t i = first; i < end; i++)
        put_be64(buf + (i - first) * 8, (l->l2_off + (i << l->cluster_bits)) | QC_COPIED);
}

/* With a backing file no subcluster is allocated, so that it shows through. */
static void fill_l2(const struct qc_layout *l, uint8_t *buf, uint64_t pos, uint64_t len)
{
    uint64_t first = pos >> l->l2_entry_shift, base = l->o.data_file ? 0 : l->data_off;
    uint64_t end = min_u64(l->guest_clusters, first + (len >> l->l2_entry_shift));
    for (uint64_t i = first; i < end; i++) {
        uint8_t *p = buf + ((i - first) << l->l2_entry_shift);
        put_be64(p, (base + (i << l->cluster_bits)) | QC_COPIED);
        if (l->o.extended_l2 && !l->o.backing_name)
            put_be64(p + 8, UINT32_MAX);
    }
}

int qc_layout_fill(struct node *file, uint64_t off, uint64_t len, enum qc_preallocation how)
{
    if (how == QC_PREALLOC_FALLOC && len)
        return node_zero(file, off, len, 0);
    if (how != QC_PREALLOC_FULL)
        return node_truncate(file, off + len);
    AUTO_FREE uint8_t *zeros = mem_alloc_aligned(min_u64(len + 1, PIECE), 4096);
    if (!zeros)
        return -ENOMEM;
    memset(zeros, 0, min_u64(len + 1, PIECE));
    for (uint64_t pos = 0; pos < len; pos += PIECE) {
        int r = node_write_kind(file, off + pos, zeros, min_u64(len - pos, PIECE), 0, KIND_DATA);
        if (r < 0)
            return r;
    }
    return 0;
}

int qc_layout_write(const struct qc_layout *l, struct node *file)
{
    int r = put_table(l, file, l->reftable_off, l->reftable_clusters, fill_reftable, KIND_REFTABLE);
    if (r == 0)
        r = put_table(l, file, l->refblock_off, l->refblocks, fill_refblocks, KIND_REFBLOCK);
    if (r == 0)
        r = put_table(l, file, l->l1_off, l->l1_clusters, fill_l1, KIND_L1);
    if (r == 0)
        r = put_table(l, file, l->l2_off, l->l2_tables, fill_l2, KIND_L2);
    if (r == 0 && l->data_clusters)
        r = qc_layout_fill(file, l->data_off, l->data_clusters << l->cluster_bits,
                           l->o.preallocation);
    return r;
}
