/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Adding up what an image will need. Source: qcow2.txt for the sizes; qemu-img measure for what is
 * counted.
 */
#include "qcow2/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "qcow2/create_priv.h"

#define STATUS_EXTENTS 256
#define STATUS_SPAN (UINT64_C(1) << 30)
#define DIR_ENTRY 24 /* "Bitmap directory": fixed part of an entry */

struct tally { /* clusters that hold data */
    uint64_t cluster, bytes;
    uint64_t counted_to;
};

static void tally_add(struct tally *t, uint64_t off, uint64_t len)
{
    uint64_t from = max_u64(round_down(off, t->cluster), t->counted_to);
    uint64_t to = round_up(off + len, t->cluster);
    if (to <= from)
        return;
    t->bytes += to - from;
    t->counted_to = to;
}

static int count_data(struct node *src, struct tally *t)
{
    struct extents ext;
    int r = 0;
    extents_init(&ext, STATUS_EXTENTS);
    for (uint64_t off = 0; r == 0 && off < src->size;) {
        r = node_status(src, off, min_u64(src->size - off, STATUS_SPAN), &ext);
        if (r == 0 && ext.n == 0)
            r = -EIO;
        for (size_t i = 0; r == 0 && i < ext.n; i++) {
            if (!(ext.v[i].flags & EXTENT_ZERO))
                tally_add(t, off, ext.v[i].len);
            off += ext.v[i].len;
        }
    }
    extents_free(&ext);
    return r;
}

/* Refcount blocks and their table count themselves, too: add until nothing is missing. */
static uint64_t refcount_bytes(const struct qc_create_opts *o, uint64_t clusters)
{
    uint64_t per_block = (uint64_t)o->cluster_size * 8 / o->refcount_bits;
    uint64_t per_table = o->cluster_size / 8;
    uint64_t blocks = 0, table = 0, before;
    do {
        before = blocks + table;
        blocks = div_round_up(clusters + before, per_block);
        table = div_round_up(blocks, per_table);
    } while (blocks + table != before);
    return (blocks + table) * o->cluster_size;
}

static uint64_t full_bytes(const struct qc_create_opts *o, uint64_t data)
{
    uint64_t cluster = o->cluster_size, entry = o->extended_l2 ? 16 : 8;
    uint64_t l2 = round_up(data / cluster * entry, cluster);
    uint64_t l1 = round_up(l2 / cluster * 8, cluster);
    uint64_t all = cluster + l2 + l1 + data;
    return all + refcount_bytes(o, all / cluster);
}

bool qc_measure(struct node *src, const struct qc_create_opts *opts, struct qc_measured *out,
                struct err **errp)
{
    struct qc_layout l = {.o = *opts};
    if (src)
        l.o.size = src->size;
    if (l.o.size > INT64_MAX - 4 * MiB)
        return err_set(errp, EFBIG, "size %" PRIu64 " is too large", l.o.size);
    l.o.size = round_up(l.o.size, 512);
    l.o.preallocation = QC_PREALLOC_OFF; /* how much of it there is plays no role */
    if (!qc_layout_plan(&l, errp))
        return false;
    uint64_t size = round_up(l.o.size, l.o.cluster_size);
    struct tally t = {.cluster = l.o.cluster_size};
    bool all = opts->preallocation == QC_PREALLOC_FALLOC ||
               opts->preallocation == QC_PREALLOC_FULL || (src && opts->backing_name);
    int r = src && !all ? count_data(src, &t) : 0;
    if (r < 0)
        return err_set_errno(errp, -r, "%s: cannot map it", src->name);
    out->fully_allocated = full_bytes(&l.o, size);
    out->required = out->fully_allocated - size + (all ? size : t.bytes);
    return true;
}

uint64_t qc_measure_bitmaps(const struct qc_image_info *info, uint32_t cluster_size)
{
    uint64_t total = 0, directory = 0;
    for (size_t i = 0; i < info->n_bitmaps; i++) {
        const struct qc_stored_bitmap *b = &info->bitmaps[i];
        if (b->flags & QC_BITMAP_IN_USE) /* inconsistent: it is not copied */
            continue;
        uint64_t bits = div_round_up(info->size, UINT64_C(1) << b->granularity_bits);
        uint64_t clusters = div_round_up(div_round_up(bits, 8), cluster_size);
        total += clusters * cluster_size + round_up(clusters * 8, cluster_size);
        directory += round_up(DIR_ENTRY + strlen(b->name), 8);
    }
    return total + round_up(directory, cluster_size);
}
