/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making an empty image: what may be asked for, and where its parts go.
 *
 * Tables first (create_tables.c), then a flush, then the header (create_header.c): a file is no
 * image until it is a whole one.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/create_priv.h"

static bool check_geometry(const struct qc_create_opts *o, struct err **errp)
{
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
    if (o->size % 512)
        return err_set(errp, EINVAL, "size %" PRIu64 " is not a multiple of 512", o->size);
    if (o->extended_l2 && o->cluster_size < QC_MIN_EXTENDED_CLUSTER)
        return err_set(errp, EINVAL,
                       "cluster size %" PRIu32 " is too small for extended L2 entries, which need "
                       "at least %d",
                       o->cluster_size, QC_MIN_EXTENDED_CLUSTER);
    return true;
}

/* What version 2 has no place for. */
static bool check_version(const struct qc_create_opts *o, struct err **errp)
{
    if (o->version != 2)
        return true;
    if (o->refcount_bits != 16)
        return err_set(errp, EINVAL, "version 2 has 16-bit refcounts only, not %" PRIu32,
                       o->refcount_bits);
    const char *what = o->zstd             ? "zstd compression"
                       : o->extended_l2    ? "extended L2 entries"
                       : o->data_file      ? "an external data file"
                       : o->lazy_refcounts ? "lazy refcounts"
                                           : NULL;
    return !what || err_set(errp, EINVAL, "version 2 cannot have %s, only version 3", what);
}

static bool check_name(const char *what, const char *name, struct err **errp)
{
    return (*name && strlen(name) <= QC_MAX_BACKING_NAME) ||
           err_set(errp, EINVAL, "the %s name must have 1 to %d bytes", what, QC_MAX_BACKING_NAME);
}

static bool check_files(const struct qc_create_opts *o, struct err **errp)
{
    if (o->backing_name && (!o->backing_format || !*o->backing_format))
        return err_set(errp, EINVAL, "backing file '%s' needs a format", o->backing_name);
    if (o->backing_name && strcmp(o->backing_format, "raw") != 0 &&
        strcmp(o->backing_format, "qcow2") != 0)
        return err_set(errp, ENOTSUP, "backing format '%s' is not supported, only qcow2 and raw",
                       o->backing_format);
    if (o->data_file_raw && !o->data_file)
        return err_set(errp, EINVAL, "a raw data file is wanted, but no data file is named");
    if (o->data_file_raw && o->backing_name)
        return err_set(errp, EINVAL,
                       "a raw data file holds the whole disk: there cannot be a backing file '%s'",
                       o->backing_name);
    if (o->preallocation != QC_PREALLOC_OFF && o->backing_name && !o->extended_l2)
        return err_set(errp, EINVAL,
                       "preallocated clusters would hide the backing file '%s', but with extended "
                       "L2 entries",
                       o->backing_name);
    return (!o->backing_name || check_name("backing file", o->backing_name, errp)) &&
           (!o->data_file || check_name("data file", o->data_file, errp));
}

static bool check_opts(struct qc_create_opts *o, struct err **errp)
{
    o->version = o->version ? o->version : 3;
    o->cluster_size = o->cluster_size ? o->cluster_size : 65536;
    o->refcount_bits = o->refcount_bits ? o->refcount_bits : 16;
    /* The data file speaks for itself only if the tables say that all of it is in use. */
    if (o->data_file_raw && o->preallocation == QC_PREALLOC_OFF)
        o->preallocation = QC_PREALLOC_METADATA;
    return check_geometry(o, errp) && check_version(o, errp) && check_files(o, errp);
}

/* The refcounts count themselves: grow them until they count all. */
static bool place_refcounts(struct qc_layout *l, struct err **errp)
{
    uint64_t cluster = l->o.cluster_size, per_block = cluster * 8 / l->o.refcount_bits;
    l->refblocks = l->reftable_clusters = 1;
    for (;;) {
        l->total = 1 + l->reftable_clusters + l->refblocks + l->l1_clusters + l->l2_tables +
                   l->data_clusters;
        uint64_t blocks = div_round_up(l->total, per_block);
        uint64_t table = div_round_up(blocks * 8, cluster);
        if (table << l->cluster_bits > QC_MAX_REFTABLE_BYTES ||
            l->total > QC_MAX_HOST_OFF >> l->cluster_bits)
            return err_set(errp, EFBIG,
                           "size %" PRIu64 " is too large to be preallocated with cluster size "
                           "%" PRIu64 " and %" PRIu32 "-bit refcounts",
                           l->o.size, cluster, l->o.refcount_bits);
        if (blocks <= l->refblocks && table <= l->reftable_clusters)
            return true;
        l->refblocks = max_u64(blocks, l->refblocks);
        l->reftable_clusters = max_u64(table, l->reftable_clusters);
    }
}

bool qc_layout_plan(struct qc_layout *l, struct err **errp)
{
    if (!check_opts(&l->o, errp))
        return false;
    uint64_t cluster = l->o.cluster_size;
    l->cluster_bits = (unsigned)__builtin_ctzll(cluster);
    l->refcount_order = (unsigned)__builtin_ctz(l->o.refcount_bits);
    l->l2_entry_shift = l->o.extended_l2 ? 4 : 3;
    l->l1_size = div_round_up(l->o.size, UINT64_C(1) << (2 * l->cluster_bits - l->l2_entry_shift));
    if (l->l1_size > QC_MAX_L1_BYTES / 8)
        return err_set(errp, EFBIG, "size %" PRIu64 " is too large for cluster size %" PRIu64,
                       l->o.size, cluster);
    l->l1_clusters = div_round_up(l->l1_size * 8, cluster);
    if (l->o.preallocation != QC_PREALLOC_OFF) {
        l->l2_tables = l->l1_size;
        l->guest_clusters = div_round_up(l->o.size, cluster);
        l->data_clusters = l->o.data_file ? 0 : l->guest_clusters;
    }
    if (!place_refcounts(l, errp))
        return false;
    l->reftable_off = cluster;
    l->refblock_off = l->reftable_off + l->reftable_clusters * cluster;
    uint64_t end = l->refblock_off + l->refblocks * cluster;
    l->l1_off = l->l1_size ? end : 0;
    l->l2_off = end + l->l1_clusters * cluster;
    l->data_off = l->l2_off + l->l2_tables * cluster;
    return true;
}

bool qc_create(struct node *file, const struct qc_create_opts *opts, struct err **errp)
{
    struct qc_layout l = {.o = *opts};
    if (!qc_layout_plan(&l, errp))
        return false;
    if (file->size != 0)
        return err_set(errp, EINVAL, "%s: not empty (%" PRIu64 " bytes)", file->name, file->size);
    size_t room = l.o.cluster_size + QC_HEADER_ROOM;
    AUTO_FREE uint8_t *header = mem_alloc_aligned(room, 4096);
    if (!header)
        return err_set(errp, ENOMEM, "out of memory");
    memset(header, 0, room);
    if (qc_layout_header(&l, header) > l.o.cluster_size)
        return err_set(
            errp, EINVAL,
            "the name of the %s file, '%s', does not fit into a first cluster of %" PRIu32 " bytes",
            l.o.backing_name ? "backing" : "data",
            l.o.backing_name ? l.o.backing_name : l.o.data_file, l.o.cluster_size);
    int r = qc_layout_write(&l, file);
    if (r == 0)
        r = node_flush(file);
    if (r == 0)
        r = node_write_kind(file, 0, header, l.o.cluster_size, 0, KIND_HEADER);
    if (r == 0)
        r = node_flush(file);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot write the new image", file->name);
}

bool qc_create_data(struct node *data, const struct qc_create_opts *opts, struct err **errp)
{
    int r = qc_layout_fill(data, 0, opts->size, opts->preallocation);
    if (r == 0)
        r = node_flush(data);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot write the new data file", data->name);
}
