/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reference counts of host clusters: entries of every width, and the slice that holds one.
 * Source: qcow2.txt, "Host cluster management".
 *
 * A refcount may rise on disk at any time (a crash then leaks a cluster), but falls only after
 * nothing durable points at the cluster (free.c). So refcount blocks can be written back whenever
 * it suits.
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/qcow2_priv.h"

uint64_t qc_ref_read(unsigned order, const uint8_t *table, uint64_t i)
{
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned per_byte_bits = 3 - order, width = 1u << order;
        unsigned shift = (unsigned)(i & ((1u << per_byte_bits) - 1)) * width;
        return (table[i >> per_byte_bits] >> shift) & ((1u << width) - 1);
    }
    case 3:
        return table[i];
    case 4:
        return get_be16(table + i * 2);
    case 5:
        return get_be32(table + i * 4);
    default:
        return get_be64(table + i * 8);
    }
}

void qc_ref_write(unsigned order, uint8_t *table, uint64_t i, uint64_t value)
{
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned per_byte_bits = 3 - order, width = 1u << order;
        unsigned shift = (unsigned)(i & ((1u << per_byte_bits) - 1)) * width;
        unsigned mask = ((1u << width) - 1) << shift;
        uint8_t *b = &table[i >> per_byte_bits];
        *b = (uint8_t)((*b & ~mask) | ((unsigned)value << shift));
        break;
    }
    case 3:
        table[i] = (uint8_t)value;
        break;
    case 4:
        put_be16(table + i * 2, (uint16_t)value);
        break;
    case 5:
        put_be32(table + i * 4, (uint32_t)value);
        break;
    default:
        put_be64(table + i * 8, value);
    }
}

static int ref_locate(struct qc *q, uint64_t index, uint64_t *host_off)
{
    uint64_t region = (index << q->ref_slice_shift) >> q->refblock_bits;
    uint64_t e = qc_reftable_get(q, region);
    if ((e & QC_REFTABLE_RESERVED) || !is_aligned(e, q->cluster_size))
        return qc_corrupt(q,
                          "refcount table entry %" PRIu64 " (at 0x%" PRIx64 ") is 0x%" PRIx64
                          ", not a cluster offset",
                          region, q->reftable_off + region * 8, e);
    if (e >= q->file->size)
        return qc_corrupt(q,
                          "refcount table entry %" PRIu64 " (at 0x%" PRIx64 ") is 0x%" PRIx64
                          ", past the end of the file at 0x%" PRIx64,
                          region, q->reftable_off + region * 8, e, q->file->size);
    uint64_t slices = UINT64_C(1) << (q->refblock_bits - q->ref_slice_shift);
    *host_off = e + ((index & (slices - 1)) << q->ref.slice_bits);
    return 0;
}

const struct qc_cache_ops qc_ref_ops = {
    .locate = ref_locate,
    .kind = KIND_REFBLOCK,
    .write_event = EV_REFBLOCK_UPDATE_PART,
};

int qc_ref_slice(struct qc *q, uint64_t cluster, struct qc_slice **out, uint64_t *pos)
{
    uint64_t region = cluster >> q->refblock_bits;
    if (region >= q->reftable_size || qc_reftable_get(q, region) == 0)
        return -ENOENT;
    *pos = cluster & ((UINT64_C(1) << q->ref_slice_shift) - 1);
    return qc_cache_get(&q->ref, cluster >> q->ref_slice_shift, out);
}

void qc_ref_set(struct qc *q, struct qc_slice *s, uint64_t pos, uint64_t value)
{
    qc_ref_write(q->refcount_order, s->data, pos, value);
    size_t byte = (size_t)((pos << q->refcount_order) >> 3);
    size_t width = q->refcount_order < 3 ? 1 : (size_t)1 << (q->refcount_order - 3);
    qc_cache_dirty(&q->ref, s, byte, byte + width);
}
