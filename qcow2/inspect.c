/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An image's metadata for people: header, extensions, snapshots, stored bitmaps.
 */
#include "qcow2/inspect.h"

#include <errno.h>
#include <inttypes.h>

#include "qcow2/inspect_priv.h"

int qc_bytes_read(struct node *file, uint64_t off, void *buf, uint64_t len)
{
    uint64_t have = off < file->size ? min_u64(len, file->size - off) : 0;
    memset((uint8_t *)buf + have, 0, len - have);
    return have ? node_read(file, off, buf, have) : 0;
}

bool qc_first_read(struct node *file, struct qc_first *f, struct qc_header_flaws *flaws,
                   struct err **errp)
{
    uint8_t start[QC_V2_HEADER_LEN];
    uint32_t bits;
    uint64_t have = min_u64(sizeof(start), file->size);

    *f = (struct qc_first){0};
    int r = have ? node_read(file, 0, start, have) : 0;
    if (r < 0)
        return err_set_errno(errp, -r, "cannot read the header");
    if (!qc_header_cluster_bits(start, have, &bits, errp))
        return false;
    f->len = min_u64(UINT64_C(1) << bits, file->size);
    f->buf = mem_alloc_aligned(f->len, 4096);
    if (!f->buf)
        return err_set(errp, ENOMEM, "out of memory");
    r = node_read(file, 0, f->buf, f->len);
    bool ok = r == 0 ? qc_header_parse(f->buf, f->len, file->size, &f->h, flaws, errp)
                     : err_set_errno(errp, -r, "cannot read the header");
    if (ok)
        return true;
    mem_free(f->buf);
    f->buf = NULL;
    return false;
}

/* qc_header_parse has been here: the extensions are well-formed. */
const uint8_t *qc_ext_find(const struct qc_first *f, uint32_t type, uint32_t *len)
{
    uint64_t end =
        f->h.has_backing ? get_be64(f->buf + QCH_BACKING_OFF) : UINT64_C(1) << f->h.cluster_bits;
    end = min_u64(end, f->len);
    for (uint64_t pos = f->h.header_len; pos + 8 <= end;) {
        uint32_t t = get_be32(f->buf + pos);
        *len = get_be32(f->buf + pos + 4);
        if (t == QC_EXT_END || *len > end - pos - 8)
            return NULL;
        if (t == type)
            return f->buf + pos + 8;
        pos += 8 + round_up((uint64_t)*len, 8);
    }
    return NULL;
}

static bool add_snapshots(struct node *file, const struct qc_first *f, struct qc_image_info *info,
                          struct err **errp)
{
    struct qc_snapshot_iter it = {.file = file, .h = &f->h};
    int r;

    info->snapshots = mem_array(f->h.nb_snapshots + 1, sizeof(*info->snapshots));
    if (!info->snapshots)
        return err_set(errp, ENOMEM, "out of memory");
    while ((r = qc_snapshot_next(&it, &info->snapshots[info->n_snapshots], errp)) > 0)
        info->n_snapshots++;
    return r == 0;
}

static bool add_bitmaps(struct node *file, const struct qc_first *f, struct qc_image_info *info,
                        struct err **errp)
{
    struct qc_bitmap_iter it;
    int r;

    qc_bitmap_begin(&it, file, f);
    info->bitmaps = mem_array(it.n + 1, sizeof(*info->bitmaps));
    if (!info->bitmaps)
        return err_set(errp, ENOMEM, "out of memory");
    while ((r = qc_bitmap_next(&it, &info->bitmaps[info->n_bitmaps], errp)) > 0)
        info->n_bitmaps++;
    return r == 0;
}

static bool copy_header(const struct qc_first *f, struct qc_image_info *info, struct err **errp)
{
    const struct qc_header *h = &f->h;
    uint32_t len;
    const uint8_t *name = qc_ext_find(f, QC_EXT_DATA_FILE, &len);

    info->version = h->version;
    info->cluster_size = 1u << h->cluster_bits;
    info->refcount_bits = 1u << h->refcount_order;
    info->size = h->size;
    info->dirty = h->incompatible & QC_INCOMPAT_DIRTY;
    info->corrupt = h->incompatible & QC_INCOMPAT_CORRUPT;
    info->extended_l2 = h->incompatible & QC_INCOMPAT_EXTENDED_L2;
    info->has_data_file = h->incompatible & QC_INCOMPAT_DATA_FILE;
    info->raw_data_file = h->autoclear & QC_AUTOCLEAR_RAW_DATA;
    info->lazy_refcounts = h->compatible & QC_COMPAT_LAZY_REFCOUNTS;
    info->compression = h->compression_type ? "zstd" : "zlib";
    if (h->has_backing)
        info->backing_name = mem_strdup(h->backing_name);
    if (h->has_backing && h->backing_format[0])
        info->backing_format = mem_strdup(h->backing_format);
    if (info->has_data_file && name)
        info->data_file = mem_strndup((const char *)name, len);
    if ((h->has_backing &&
         (!info->backing_name || (h->backing_format[0] && !info->backing_format))) ||
        (info->has_data_file && name && !info->data_file))
        return err_set(errp, ENOMEM, "out of memory");
    return true;
}

bool qc_inspect(struct node *file, struct qc_image_info *info, struct err **errp)
{
    struct qc_first *f = mem_new(struct qc_first);

    *info = (struct qc_image_info){0};
    if (!f)
        return err_set(errp, ENOMEM, "out of memory");
    bool ok = qc_first_read(file, f, NULL, errp) && copy_header(f, info, errp) &&
              add_snapshots(file, f, info, errp) && add_bitmaps(file, f, info, errp);
    mem_free(f->buf);
    mem_free(f);
    return ok || err_prefix(errp, "%s: ", file->name);
}

void qc_image_info_free(struct qc_image_info *info)
{
    for (size_t i = 0; i < info->n_snapshots; i++)
        qc_snapshot_free(&info->snapshots[i]);
    for (size_t i = 0; i < info->n_bitmaps; i++)
        qc_stored_bitmap_free(&info->bitmaps[i]);
    mem_free(info->snapshots);
    mem_free(info->bitmaps);
    mem_free(info->backing_name);
    mem_free(info->backing_format);
    mem_free(info->data_file);
    *info = (struct qc_image_info){0};
}
