/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Guest offset to host offset. Source: qcow2.txt, "Cluster mapping".
 *
 * The lookup of a cached slice is the hot path of the whole format: two table steps, then one
 * comparison for each further cluster, since a contiguous run differs from its predecessor by
 * exactly one cluster. It checks what it returns: an entry that cannot be true is corruption, and
 * a run is cut before one.
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/qcow2_priv.h"

static int l2_locate(struct qc *q, uint64_t index, uint64_t *host_off)
{
    uint64_t guest_off = index << q->l2_slice_shift;
    uint64_t l1_index = guest_off >> q->l1_shift;
    uint64_t e = qc_l1_get(q, l1_index);
    int r = qc_l1_check(q, l1_index, e);
    if (r < 0)
        return r;
    uint64_t slices = UINT64_C(1) << (q->cluster_bits - q->l2.slice_bits);
    *host_off = (e & QC_OFFSET_MASK) + ((index & (slices - 1)) << q->l2.slice_bits);
    return 0;
}

const struct qc_cache_ops qc_l2_ops = {
    .locate = l2_locate,
    .kind = KIND_L2,
    .write_event = EV_L2_UPDATE,
    .has_load_event = true,
    .load_event = EV_L2_LOAD,
};

static int bad_entry(struct qc *q, uint64_t guest_off, struct qc_cell cell, const char *why)
{
    uint64_t table = qc_l1_get(q, guest_off >> q->l1_shift) & QC_OFFSET_MASK;
    uint64_t i = (guest_off >> q->cluster_bits) & ((q->cluster_size >> q->l2_entry_shift) - 1);
    uint64_t at = table + (i << q->l2_entry_shift);
    if (q->extended_l2)
        return qc_corrupt(q,
                          "L2 entry at 0x%" PRIx64 " (guest offset 0x%" PRIx64 ") is 0x%" PRIx64
                          ", its subclusters 0x%" PRIx64 ": %s",
                          at, guest_off, cell.entry, cell.map, why);
    return qc_corrupt(q,
                      "L2 entry at 0x%" PRIx64 " (guest offset 0x%" PRIx64 ") is 0x%" PRIx64 ": %s",
                      at, guest_off, cell.entry, why);
}

static int check_compressed(struct qc *q, uint64_t guest_off, struct qc_cell cell)
{
    uint64_t off, len;
    if (q->has_data_file)
        return bad_entry(q, guest_off, cell, "compressed, in an image with a data file");
    if (cell.map)
        return bad_entry(q, guest_off, cell, "compressed, with subclusters");
    qc_zip_span(q, cell.entry, &off, &len);
    if (off >= QC_MAX_HOST_OFF)
        return bad_entry(q, guest_off, cell, "offset of compressed data exceeds 56 bits");
    if (round_down(off, q->cluster_size) > q->file->size)
        return bad_entry(q, guest_off, cell, "compressed data is past the end of the file");
    return 0;
}

int qc_l2_check_unlink(struct qc *q, uint64_t guest_off, struct qc_cell cell)
{
    uint64_t off, len;
    int r = qc_l2_check(q, guest_off, cell);
    if (r < 0 || !(cell.entry & QC_COMPRESSED))
        return r;
    qc_zip_span(q, cell.entry, &off, &len);
    uint64_t start = round_down(off, q->cluster_size); /* whole clusters: refcounts will fall */
    return qc_meta_hits(q, start, round_up(off + len - start, q->cluster_size))
               ? bad_entry(q, guest_off, cell, "compressed data where there is metadata")
               : 0;
}

/* What only images with subclusters or a data file can have wrong. */
static int check_special(struct qc *q, uint64_t guest_off, struct qc_cell cell)
{
    if (q->extended_l2) {
        if (cell.entry & QC_ZERO)
            return bad_entry(q, guest_off, cell, "zero flag in an image with subclusters");
        if (qc_map_alloc(cell.map) & qc_map_zero(cell.map))
            return bad_entry(q, guest_off, cell, "a subcluster is both allocated and zero");
        if (qc_map_alloc(cell.map) && !(cell.entry & q->host_mask))
            return bad_entry(q, guest_off, cell, "allocated subclusters without a cluster");
    }
    if (q->has_data_file && (cell.entry & q->host_mask) &&
        (cell.entry & QC_OFFSET_MASK) != round_down(guest_off, q->cluster_size))
        return bad_entry(q, guest_off, cell, "not at its guest offset in the data file");
    return 0;
}

int qc_l2_check(struct qc *q, uint64_t guest_off, struct qc_cell cell)
{
    if (cell.entry & QC_COMPRESSED)
        return check_compressed(q, guest_off, cell);
    uint64_t host = cell.entry & QC_OFFSET_MASK;
    if ((cell.entry & QC_ZERO) && q->version < 3)
        return bad_entry(q, guest_off, cell, "zero flag in a version 2 image");
    if (q->special_l2) {
        int r = check_special(q, guest_off, cell);
        if (r < 0 || q->has_data_file)
            return r;
    }
    if (host == 0)
        return 0;
    if (host & (q->cluster_size - 1))
        return bad_entry(q, guest_off, cell, "offset is not aligned to a cluster");
    /* A cluster that starts just at the end was allocated but never reached, as when a crash of the
     * host lost the growth of the file: it reads as zeros, as with QEMU. (A check calls it damage.)
     * Farther out, what was there is lost. */
    if (host > q->file->size)
        return bad_entry(q, guest_off, cell, "offset is past the end of the file");
    return 0;
}

void qc_cell_put(struct qc *q, struct qc_slice *s, size_t pos, uint64_t i, struct qc_cell cell)
{
    size_t at = pos + (i << q->l2_entry_shift);
    put_be64(s->data + at, cell.entry);
    if (q->extended_l2)
        put_be64(s->data + at + 8, cell.map);
    qc_cache_dirty(&q->l2, s, at, at + ((size_t)1 << q->l2_entry_shift));
}

/* How many of the next max entries continue the first one. */
static uint64_t run_length(const struct qc *q, const uint8_t *p, uint64_t entry, enum qc_type type,
                           uint64_t max)
{
    uint64_t n = 1;
    if (type == QC_NORMAL || type == QC_ZERO_ALLOCATED) {
        uint64_t room = q->has_data_file
                            ? UINT64_MAX
                            : q->file->size - (entry & QC_OFFSET_MASK); /* >= 0: checked */
        max = min_u64(max, qc_clusters(q, room));
        while (n < max && get_be64(p + n * 8) == entry + (n << q->cluster_bits))
            n++;
    } else if (type != QC_COMPRESSED_TYPE) {
        while (n < max && qc_entry_type(q, get_be64(p + n * 8)) == type)
            n++;
    }
    return n;
}

int qc_l2_lookup(struct qc *q, uint64_t guest_off, uint64_t len, struct qc_run *run)
{
    uint64_t l1_index = guest_off >> q->l1_shift;
    uint64_t l1_entry = qc_l1_get(q, l1_index);
    if (l1_entry == 0) {
        run->type = QC_UNALLOCATED;
        run->copied = run->placed = false;
        run->host_off = 0;
        run->len = min_u64(len, ((l1_index + 1) << q->l1_shift) - guest_off);
        return 0;
    }
    struct qc_slice *s = qc_cache_find(&q->l2, guest_off >> q->l2_slice_shift);
    if (!s) {
        int r = qc_cache_get(&q->l2, guest_off >> q->l2_slice_shift, &s);
        if (r < 0)
            return r;
        l1_entry = qc_l1_get(q, l1_index);
    }
    size_t pos = qc_l2_pos(q, guest_off);
    if (q->extended_l2)
        return qc_sub_lookup(q, s, pos, l1_entry, guest_off, len, run);
    uint64_t entry = get_be64(s->data + pos);
    enum qc_type type = qc_entry_type(q, entry);
    run->type = type;
    run->copied = (entry & l1_entry & QC_COPIED) != 0;
    if (entry != 0) {
        int r = qc_l2_check(q, guest_off, (struct qc_cell){entry, 0});
        if (r < 0)
            return r;
    }
    uint64_t in_cluster = guest_off & (q->cluster_size - 1);
    uint64_t left = ((UINT64_C(1) << q->l2.slice_bits) - pos) >> 3;
    uint64_t n =
        run_length(q, s->data + pos, entry, type, min_u64(left, qc_clusters(q, in_cluster + len)));
    run->placed = type == QC_NORMAL || type == QC_ZERO_ALLOCATED;
    run->host_off = run->placed                  ? (entry & QC_OFFSET_MASK) + in_cluster
                    : type == QC_COMPRESSED_TYPE ? entry
                                                 : 0;
    run->len = min_u64(len, (n << q->cluster_bits) - in_cluster);
    return 0;
}

int qc_l2_get_write(struct qc *q, uint64_t guest_off, struct qc_slice **out)
{
    for (;;) {
        uint64_t e = qc_l1_get(q, guest_off >> q->l1_shift);
        if (!(e & QC_OFFSET_MASK) || !(e & QC_COPIED)) {
            int r = qc_l2_table_make(q, guest_off);
            if (r < 0)
                return r;
            continue;
        }
        int r = qc_cache_get(&q->l2, guest_off >> q->l2_slice_shift, out);
        if (r < 0)
            return r;
        qc_slice_pin(*out);
        return 0;
    }
}
