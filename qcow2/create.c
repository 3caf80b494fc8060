/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making an empty image.
 *
 * Layout: header, refcount table, refcount blocks, L1 table, each contiguous. Tables first, then a
 * flush, then the header: a file is no image until it is a whole one.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/qcow2_priv.h"

#define WRITE_CHUNK (UINT64_C(2) << 20)

struct layout {
    struct qc_create_opts o; /* with defaults filled in */
    unsigned cluster_bits, refcount_order;
    uint64_t l1_size; /* entries */
    uint64_t reftable_clusters, refblocks, l1_clusters;
    uint64_t reftable_off, refblock_off, l1_off, total; /* total: clusters */
};

static bool check_opts(struct layout *l, struct err **errp)
{
    struct qc_create_opts *o = &l->o;
    o->version = o->version ? o->version : 3;
    o->cluster_size = o->cluster_size ? o->cluster_size : 65536;
    o->refcount_bits = o->refcount_bits ? o->refcount_bits : 16;
    if (o->version != 2 && o->version != 3)
        return err_set(errp, ENOTSUP, "version %" PRIu32 " is not supported, only 2 and 3",
                       o->version);
    if (!is_power_of_2(o->cluster_size) || o->cluster_size < 512 || o->cluster_size > 2 * MiB)
        return err_set(errp, EINVAL,
                       "cluster size %" PRIu32 " is not a power of two from 512 to 2 MiB",
                       o->cluster_size);
    if (!is_power_of_2(o->refcount_bits) || o->refcount_bits > 64)
        return err_set(errp, EINVAL, "refcount width %" PRIu32 " is not a power of two up to 64",
                       o->refcount_bits);
    if (o->version == 2 && o->refcount_bits != 16)
        return err_set(errp, EINVAL, "version 2 has 16-bit refcounts only, not %" PRIu32,
                       o->refcount_bits);
    if (o->size % 512)
        return err_set(errp, EINVAL, "size %" PRIu64 " is not a multiple of 512", o->size);
    if (o->backing_name && (!o->backing_format || !*o->backing_format))
        return err_set(errp, EINVAL, "backing file '%s' needs a format", o->backing_name);
    if (o->backing_name && strcmp(o->backing_format, "raw") != 0 &&
        strcmp(o->backing_format, "qcow2") != 0)
        return err_set(errp, ENOTSUP, "backing format '%s' is not supported, only qcow2 and raw",
                       o->backing_format);
    if (o->backing_name && (!*o->backing_name || strlen(o->backing_name) > QC_MAX_BACKING_NAME))
        return err_set(errp, EINVAL, "the backing file name must have 1 to %d bytes",
                       QC_MAX_BACKING_NAME);
    return true;
}

static bool plan(struct layout *l, struct err **errp)
{
    if (!check_opts(l, errp))
        return false;
    uint64_t cluster = l->o.cluster_size;
    l->cluster_bits = (unsigned)__builtin_ctzll(cluster);
    l->refcount_order = (unsigned)__builtin_ctz(l->o.refcount_bits);
    l->l1_size = div_round_up(l->o.size, UINT64_C(1) << (2 * l->cluster_bits - 3));
    if (l->l1_size > QC_MAX_L1_BYTES / 8)
        return err_set(errp, EFBIG, "size %" PRIu64 " is too large for cluster size %" PRIu64,
                       l->o.size, cluster);
    l->l1_clusters = l->l1_size ? div_round_up(l->l1_size * 8, cluster) : 1;
    uint64_t per_block = cluster * 8 / l->o.refcount_bits;
    l->refblocks = l->reftable_clusters = 1;
    for (;;) {
        l->total = 1 + l->reftable_clusters + l->refblocks + l->l1_clusters;
        uint64_t blocks = div_round_up(l->total, per_block);
        uint64_t table = div_round_up(blocks * 8, cluster);
        if (blocks <= l->refblocks && table <= l->reftable_clusters)
            break;
        l->refblocks = max_u64(blocks, l->refblocks);
        l->reftable_clusters = max_u64(table, l->reftable_clusters);
    }
    l->reftable_off = cluster;
    l->refblock_off = l->reftable_off + l->reftable_clusters * cluster;
    l->l1_off = l->refblock_off + l->refblocks * cluster;
    return true;
}

static uint8_t *put_ext(uint8_t *p, uint32_t type, const char *data)
{
    size_t len = strlen(data);
    put_be32(p, type);
    put_be32(p + 4, (uint32_t)len);
    memcpy(p + 8, data, len);
    return p + 8 + round_up(len, 8);
}

/* Fill buf (one cluster of zeros, and room behind it) with the header; its length in bytes. */
static uint64_t build_header(const struct layout *l, uint8_t *buf)
{
    put_be32(buf + QCH_MAGIC, QC_MAGIC);
    put_be32(buf + QCH_VERSION, l->o.version);
    put_be32(buf + QCH_CLUSTER_BITS, l->cluster_bits);
    put_be64(buf + QCH_SIZE, l->o.size);
    put_be32(buf + QCH_L1_SIZE, (uint32_t)l->l1_size);
    put_be64(buf + QCH_L1_OFF, l->l1_off);
    put_be64(buf + QCH_REFTABLE_OFF, l->reftable_off);
    put_be32(buf + QCH_REFTABLE_CLUSTERS, (uint32_t)l->reftable_clusters);
    uint8_t *p = buf + QC_V2_HEADER_LEN;
    if (l->o.version >= 3) {
        put_be32(buf + QCH_REFCOUNT_ORDER, l->refcount_order);
        put_be32(buf + QCH_HEADER_LEN, QC_V3_HEADER_LEN);
        p = buf + QC_V3_HEADER_LEN;
    }
    if (l->o.backing_name)
        p = put_ext(p, QC_EXT_BACKING_FORMAT, l->o.backing_format);
    p += 8; /* the end marker: zeros */
    if (l->o.backing_name) {
        put_be64(buf + QCH_BACKING_OFF, (uint64_t)(p - buf));
        put_be32(buf + QCH_BACKING_LEN, (uint32_t)strlen(l->o.backing_name));
        memcpy(p, l->o.backing_name, strlen(l->o.backing_name));
        p += strlen(l->o.backing_name);
    }
    return (uint64_t)(p - buf);
}

static int write_chunks(struct node *file, uint64_t off, const uint8_t *buf, uint64_t len,
                        enum req_kind kind)
{
    for (uint64_t done = 0; done < len;) {
        uint64_t n = min_u64(len - done, WRITE_CHUNK);
        int r = node_write_kind(file, off + done, buf + done, n, 0, kind);
        if (r < 0)
            return r;
        done += n;
    }
    return 0;
}

/* The refcount table and the blocks behind it are neighbours: one buffer. */
static int write_refcounts(struct node *file, const struct layout *l)
{
    uint64_t table = l->reftable_clusters << l->cluster_bits;
    uint64_t blocks = l->refblocks << l->cluster_bits;
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(table + blocks, 4096);
    if (!buf)
        return -ENOMEM;
    memset(buf, 0, table + blocks);
    for (uint64_t i = 0; i < l->refblocks; i++)
        put_be64(buf + i * 8, l->refblock_off + (i << l->cluster_bits));
    for (uint64_t i = 0; i < l->total; i++)
        qc_ref_write(l->refcount_order, buf + table, i, 1);
    int r = write_chunks(file, l->reftable_off, buf, table, KIND_REFTABLE);
    return r < 0 ? r : write_chunks(file, l->refblock_off, buf + table, blocks, KIND_REFBLOCK);
}

/* Not REQ_ZERO: the file must end where the table does, also on file systems without fallocate. */
static int write_l1(struct node *file, const struct layout *l)
{
    uint64_t left = l->l1_clusters << l->cluster_bits, off = l->l1_off;
    AUTO_FREE uint8_t *zeros = mem_alloc_aligned(min_u64(left, WRITE_CHUNK), 4096);
    if (!zeros)
        return -ENOMEM;
    memset(zeros, 0, min_u64(left, WRITE_CHUNK));
    while (left) {
        uint64_t n = min_u64(left, WRITE_CHUNK);
        int r = node_write_kind(file, off, zeros, n, 0, KIND_L1);
        if (r < 0)
            return r;
        off += n;
        left -= n;
    }
    return 0;
}

bool qc_create(struct node *file, const struct qc_create_opts *opts, struct err **errp)
{
    struct layout l = {.o = *opts};
    if (!plan(&l, errp))
        return false;
    if (file->size != 0)
        return err_set(errp, EINVAL, "%s: not empty (%" PRIu64 " bytes)", file->name, file->size);
    size_t room = l.o.cluster_size + QC_V3_HEADER_LEN + 64 + QC_MAX_BACKING_NAME;
    AUTO_FREE uint8_t *header = mem_alloc_aligned(room, 4096);
    if (!header)
        return err_set(errp, ENOMEM, "out of memory");
    memset(header, 0, room);
    if (build_header(&l, header) > l.o.cluster_size)
        return err_set(errp, EINVAL,
                       "backing file name '%s' does not fit into a first cluster of %" PRIu32
                       " bytes",
                       l.o.backing_name, l.o.cluster_size);
    int r = write_refcounts(file, &l);
    if (r == 0)
        r = write_l1(file, &l);
    if (r == 0)
        r = node_flush(file);
    if (r == 0)
        r = node_write_kind(file, 0, header, l.o.cluster_size, 0, KIND_HEADER);
    if (r == 0)
        r = node_flush(file);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot write the new image", file->name);
}
