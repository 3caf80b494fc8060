/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The first cluster of a new image. Source: qcow2.txt, "Header", "Header extensions".
 */
#include "qcow2/create_priv.h"

#define SPARE 64 /* for extensions that come later: a table of names must not keep them out */

static const struct feature_name {
    uint8_t type, bit; /* type: 0 incompatible, 1 compatible, 2 autoclear */
    const char *name;
} feature_names[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

static uint8_t *put_ext(uint8_t *p, uint32_t type, const void *data, size_t len)
{
    put_be32(p, type);
    put_be32(p + 4, (uint32_t)len);
    memcpy(p + 8, data, len);
    return p + 8 + round_up(len, 8);
}

static uint8_t *put_feature_names(uint8_t *p)
{
    uint8_t table[sizeof(feature_names) / sizeof(feature_names[0])][QC_FEATURE_NAME_ENTRY] = {0};
    for (size_t i = 0; i < ARRAY_LEN(feature_names); i++) {
        table[i][0] = feature_names[i].type;
        table[i][1] = feature_names[i].bit;
        memcpy(table[i] + 2, feature_names[i].name, strlen(feature_names[i].name));
    }
    return put_ext(p, QC_EXT_FEATURE_NAMES, table, sizeof(table));
}

static void put_v3(const struct qc_layout *l, uint8_t *buf)
{
    const struct qc_create_opts *o = &l->o;
    uint64_t incompatible = (o->data_file ? QC_INCOMPAT_DATA_FILE : 0) |
                            (o->zstd ? QC_INCOMPAT_COMPRESSION : 0) |
                            (o->extended_l2 ? QC_INCOMPAT_EXTENDED_L2 : 0);
    put_be64(buf + QCH_INCOMPATIBLE, incompatible);
    put_be64(buf + QCH_COMPATIBLE, o->lazy_refcounts ? QC_COMPAT_LAZY_REFCOUNTS : 0);
    put_be64(buf + QCH_AUTOCLEAR, o->data_file_raw ? QC_AUTOCLEAR_RAW_DATA : 0);
    put_be32(buf + QCH_REFCOUNT_ORDER, l->refcount_order);
    put_be32(buf + QCH_HEADER_LEN, QC_V3_HEADER_LEN);
    buf[QCH_COMPRESSION] = o->zstd;
}

uint64_t qc_layout_header(const struct qc_layout *l, uint8_t *buf)
{
    const struct qc_create_opts *o = &l->o;
    size_t backing = o->backing_name ? strlen(o->backing_name) : 0;
    uint8_t *p = buf + QC_V2_HEADER_LEN;

    put_be32(buf + QCH_MAGIC, QC_MAGIC);
    put_be32(buf + QCH_VERSION, o->version);
    put_be32(buf + QCH_CLUSTER_BITS, l->cluster_bits);
    put_be64(buf + QCH_SIZE, o->size);
    put_be32(buf + QCH_L1_SIZE, (uint32_t)l->l1_size);
    put_be64(buf + QCH_L1_OFF, l->l1_off);
    put_be64(buf + QCH_REFTABLE_OFF, l->reftable_off);
    put_be32(buf + QCH_REFTABLE_CLUSTERS, (uint32_t)l->reftable_clusters);
    if (o->version >= 3) {
        put_v3(l, buf);
        p = buf + QC_V3_HEADER_LEN;
    }
    if (backing)
        p = put_ext(p, QC_EXT_BACKING_FORMAT, o->backing_format, strlen(o->backing_format));
    if (o->data_file)
        p = put_ext(p, QC_EXT_DATA_FILE, o->data_file, strlen(o->data_file));
    size_t names = 8 + ARRAY_LEN(feature_names) * QC_FEATURE_NAME_ENTRY;
    if (o->version >= 3 && (size_t)(p - buf) + names + 8 + backing + SPARE <= o->cluster_size)
        p = put_feature_names(p);
    p += 8; /* the end marker: zeros */
    if (backing) {
        put_be64(buf + QCH_BACKING_OFF, (uint64_t)(p - buf));
        put_be32(buf + QCH_BACKING_LEN, (uint32_t)backing);
        memcpy(p, o->backing_name, backing);
        p += backing;
    }
    return (uint64_t)(p - buf);
}
