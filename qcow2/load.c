/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bringing an image into memory: the tables that stay there while it is open, and the bounds of the
 * caches for those that do not. Nothing here writes.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qcow2/qcow2_priv.h"

#define L2_CACHE_MAX (UINT64_C(32) << 20)
#define REFCOUNT_CACHE_DEFAULT (UINT64_C(1) << 20)
#define MIN_SLICES 2

bool qc_header_read(struct node *file, struct qc_header *h, struct err **errp)
{
    uint8_t first[512];
    uint32_t bits;
    size_t have = (size_t)min_u64(sizeof(first), file->size);
    int r = have ? node_read(file, 0, first, have) : 0;
    if (r < 0)
        return err_set_errno(errp, -r, "cannot read the header");
    if (!qc_header_cluster_bits(first, have, &bits, errp))
        return false;
    uint64_t len = min_u64(UINT64_C(1) << bits, file->size);
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(len, 4096);
    if (!buf)
        return err_set(errp, ENOMEM, "out of memory");
    r = node_read(file, 0, buf, len);
    if (r < 0)
        return err_set_errno(errp, -r, "cannot read the header");
    return qc_header_parse(buf, len, file->size, h, NULL, errp);
}

static bool read_table(struct qc *q, const char *what, uint64_t off, uint8_t *buf, uint64_t len,
                       struct err **errp)
{
    int r = qc_read_table(q, off, buf, len);
    return r == 0 || err_set_errno(errp, -r, "cannot read %s at 0x%" PRIx64, what, off);
}

/* One snapshot table entry at off; *len: its size. Source: qcow2.txt, "Snapshots". */
static bool check_snapshot(struct qc *q, uint32_t i, uint64_t off, uint64_t *len, struct err **errp)
{
    uint8_t e[40];
    if (!read_table(q, "the snapshot table", off, e, sizeof(e), errp))
        return false;
    uint64_t l1_off = get_be64(e);
    uint32_t l1_size = get_be32(e + 8), extra = get_be32(e + 36);
    if (!is_aligned(l1_off, q->cluster_size))
        return err_set(errp, EINVAL,
                       "snapshot %" PRIu32 ": l1_table_offset is 0x%" PRIx64
                       ", not aligned to a cluster",
                       i, l1_off);
    if (l1_size > QC_MAX_L1_BYTES / 8)
        return err_set(errp, EFBIG,
                       "snapshot %" PRIu32 ": l1_size is %" PRIu32
                       " entries, the limit is %" PRIu64,
                       i, l1_size, QC_MAX_L1_BYTES / 8);
    if (extra > 1024)
        return err_set(errp, EFBIG,
                       "snapshot %" PRIu32 ": extra_data_size is %" PRIu32 ", the limit is 1024", i,
                       extra);
    q->snapshot_unsized |= extra < 16;
    *len = round_up(40 + (uint64_t)extra + get_be16(e + 12) + get_be16(e + 14), 8);
    return true;
}

static bool load_snapshots(struct qc *q, const struct qc_header *h, struct err **errp)
{
    uint64_t off = h->snapshots_off;
    q->nb_snapshots = h->nb_snapshots;
    for (uint32_t i = 0; i < h->nb_snapshots; i++) {
        uint64_t len = 0;
        if (!check_snapshot(q, i, off, &len, errp))
            return false;
        off += len;
        if (off - h->snapshots_off > QC_MAX_SNAPSHOT_TABLE)
            return err_set(errp, EFBIG, "the snapshot table is larger than %" PRIu64 " bytes",
                           QC_MAX_SNAPSHOT_TABLE);
        if (off > round_up(q->file->size, 8)) /* the last entry need not be padded */
            return err_set(errp, EINVAL,
                           "snapshot %" PRIu32 " of %" PRIu32 " ends at 0x%" PRIx64
                           ", past the end of the file",
                           i, h->nb_snapshots, off);
    }
    q->snapshots_off = h->snapshots_off;
    q->snapshots_len = round_up(off - h->snapshots_off, q->cluster_size);
    return true;
}

static void set_geometry(struct qc *q, const struct qc_header *h)
{
    unsigned slice_bits = h->cluster_bits < QC_SLICE_MAX_BITS ? h->cluster_bits : QC_SLICE_MAX_BITS;
    q->version = h->version;
    q->cluster_bits = h->cluster_bits;
    q->cluster_size = UINT64_C(1) << h->cluster_bits;
    q->refcount_order = h->refcount_order;
    q->codec = h->compression_type;
    q->incompatible = h->incompatible;
    q->autoclear = h->autoclear;
    q->has_backing = h->has_backing;
    q->l1_size = h->l1_size;
    q->l1_off = h->l1_off;
    q->extended_l2 = h->incompatible & QC_INCOMPAT_EXTENDED_L2;
    q->has_data_file = h->incompatible & QC_INCOMPAT_DATA_FILE;
    q->raw_data = h->autoclear & QC_AUTOCLEAR_RAW_DATA;
    q->special_l2 = q->extended_l2 || q->has_data_file;
    q->l2_entry_shift = q->extended_l2 ? 4 : 3;
    q->sub_bits = h->cluster_bits - (q->extended_l2 ? 5 : 0);
    /* The first cluster of a data file is at offset 0: there, bit 63 tells it from none. */
    q->host_mask = QC_OFFSET_MASK | (q->has_data_file ? QC_COPIED : 0);
    q->l1_shift = 2 * h->cluster_bits - q->l2_entry_shift;
    q->reftable_off = h->reftable_off;
    q->reftable_size = ((uint64_t)h->reftable_clusters << h->cluster_bits) / 8;
    q->refblock_bits = h->cluster_bits + 3 - h->refcount_order;
    q->l2_slice_shift = slice_bits - q->l2_entry_shift + h->cluster_bits;
    q->ref_slice_shift = slice_bits + 3 - h->refcount_order;
    /* Only a file that grows has unwritten space behind its end. */
    q->fresh_from = q->file->growable ? round_up(q->file->size, q->cluster_size) : UINT64_MAX;
}

static void set_caches(struct qc *q, const struct qc_header *h, const struct qc_open_opts *opts)
{
    unsigned slice_bits = q->l2_slice_shift + q->l2_entry_shift - q->cluster_bits;
    uint64_t slices = (h->size >> q->l2_slice_shift) + 1;
    uint64_t l2_bytes = opts->l2_cache_bytes;
    if (!l2_bytes)
        l2_bytes = slices > L2_CACHE_MAX >> slice_bits ? L2_CACHE_MAX : slices << slice_bits;
    uint64_t ref_bytes =
        opts->refcount_cache_bytes ? opts->refcount_cache_bytes : REFCOUNT_CACHE_DEFAULT;
    qc_cache_init(&q->l2, q, &qc_l2_ops, slice_bits, l2_bytes, MIN_SLICES);
    qc_cache_init(&q->ref, q, &qc_ref_ops, slice_bits, ref_bytes, MIN_SLICES);
}

bool qc_load(struct qc *q, const struct qc_header *h, const struct qc_open_opts *opts,
             struct err **errp)
{
    set_geometry(q, h);
    set_caches(q, h, opts);
    /* Rounded up to sectors: entries are written in groups of 512 bytes. */
    q->l1 = mem_alloc_aligned(round_up(q->l1_size * 8 + 8, 512), 4096);
    q->reftable = mem_alloc_aligned(q->reftable_size * 8, 4096);
    q->bounce = mem_alloc_aligned((size_t)1 << q->l2.slice_bits, 4096);
    if (h->has_backing) {
        q->backing_name = mem_strdup(h->backing_name);
        q->backing_format = mem_strdup(h->backing_format);
    }
    if (q->has_data_file)
        q->data_name = mem_strdup(h->data_name);
    if (!q->l1 || !q->reftable || !q->bounce || (q->has_data_file && !q->data_name) ||
        (h->has_backing && (!q->backing_name || !q->backing_format)))
        return err_set(errp, ENOMEM, "out of memory for tables of %" PRIu64 " bytes",
                       q->l1_size * 8 + q->reftable_size * 8);
    if (!read_table(q, "the L1 table", q->l1_off, q->l1, q->l1_size * 8, errp))
        return false;
    node_event(q->file, EV_REFTABLE_LOAD);
    if (!read_table(q, "the refcount table", q->reftable_off, q->reftable, q->reftable_size * 8,
                    errp) ||
        !load_snapshots(q, h, errp))
        return false;
    if (!qc_meta_load(q))
        return err_set(errp, ENOMEM, "out of memory");
    if (h->size_rounded)
        log_warn("%s: size is not a multiple of 512; serving %" PRIu64 " bytes", q->node->name,
                 h->size);
    return true;
}
