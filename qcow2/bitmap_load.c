/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking the stored bitmaps of an image and making them bitmaps of its node. Nothing here writes.
 *
 * A bitmap that is in use on disk was not saved since: it is loaded as inconsistent, so that it can
 * be seen and removed. So is one with extra data that must be understood. Without the autoclear bit
 * nothing of the extension is believed: a program without bitmaps has written to the image, and may
 * have done anything to the clusters too.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qcow2/bitmap_priv.h"

static bool check_table(const struct qc *q, const struct qc_stored_bitmap *s, uint64_t disk_size,
                        struct err **errp)
{
    uint64_t bytes = bitmap_stored_size(disk_size, UINT32_C(1) << s->granularity_bits);
    uint64_t want = max_u64(div_round_up(bytes, q->cluster_size), 1);

    if (s->table_size == 0 || s->table_size > QC_MAX_BITMAP_TABLE)
        return err_set(errp, EINVAL,
                       "bitmap '%s' at 0x%" PRIx64 ": bitmap_table_size is %" PRIu32
                       ", must be 1 to %" PRIu64,
                       s->name, s->entry_off, s->table_size, QC_MAX_BITMAP_TABLE);
    if (s->table_off == 0 || !is_aligned(s->table_off, q->cluster_size) ||
        s->table_off >= q->file->size)
        return err_set(errp, EINVAL,
                       "bitmap '%s' at 0x%" PRIx64 ": bitmap_table_offset is 0x%" PRIx64
                       ", must be a multiple of the cluster size and inside the file",
                       s->name, s->entry_off, s->table_off);
    if (!qc_bitmap_usable(s))
        return true; /* its size may be outdated */
    if (bytes > QC_MAX_BITMAP_BYTES)
        return err_set(errp, EFBIG,
                       "bitmap '%s' at 0x%" PRIx64 ": %" PRIu64 " bytes of bits, the limit is "
                       "%" PRIu64,
                       s->name, s->entry_off, bytes, QC_MAX_BITMAP_BYTES);
    if (s->table_size != want)
        return err_set(errp, EINVAL,
                       "bitmap '%s' at 0x%" PRIx64 ": bitmap_table_size is %" PRIu32
                       ", a disk of %" PRIu64 " bytes needs %" PRIu64,
                       s->name, s->entry_off, s->table_size, disk_size, want);
    return true;
}

static bool read_directory(struct qc *q, const struct qc_header *h, struct err **errp)
{
    struct qc_bitmaps *m = &q->bitmaps;
    struct qc_bitmap_iter it = {
        .file = q->file, .n = h->n_bitmaps, .off = h->bitmap_dir_off, .len = h->bitmap_dir_len};
    int r;

    if (h->bitmap_dir_len < (uint64_t)h->n_bitmaps * QC_BITMAP_ENTRY_LEN)
        return err_set(errp, EINVAL,
                       "bitmaps extension: bitmap_directory_size is %" PRIu64
                       ", too small for nb_bitmaps %" PRIu32,
                       h->bitmap_dir_len, h->n_bitmaps);
    if (h->bitmap_dir_off == 0 || h->bitmap_dir_off >= q->file->size)
        return err_set(errp, EINVAL,
                       "bitmaps extension: bitmap_directory_offset is 0x%" PRIx64
                       ", not inside the file of 0x%" PRIx64 " bytes",
                       h->bitmap_dir_off, q->file->size);
    m->v = mem_array(h->n_bitmaps, sizeof(*m->v));
    if (!m->v)
        return err_set(errp, ENOMEM, "out of memory for %" PRIu32 " bitmaps", h->n_bitmaps);
    while (m->n < h->n_bitmaps) {
        r = qc_bitmap_next(&it, &m->v[m->n], errp);
        if (r < 0)
            return false;
        m->n++;
        if (!check_table(q, &m->v[m->n - 1], h->size, errp))
            return false;
    }
    struct qc_stored_bitmap none;
    r = qc_bitmap_next(&it, &none, errp); /* no byte is left over */
    m->dir_off = h->bitmap_dir_off;
    m->dir_len = h->bitmap_dir_len;
    return r == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct qc_stored_bitmap *const *)a)->name,
                  (*(const struct qc_stored_bitmap *const *)b)->name);
}

static bool check_names(const struct qc *q, struct err **errp)
{
    uint32_t n = q->bitmaps.n;
    AUTO_FREE const struct qc_stored_bitmap **v = mem_array(n, sizeof(*v));

    if (!v)
        return err_set(errp, ENOMEM, "out of memory for %" PRIu32 " bitmaps", n);
    for (uint32_t i = 0; i < n; i++)
        v[i] = &q->bitmaps.v[i];
    qsort(v, n, sizeof(*v), by_name);
    for (uint32_t i = 1; i < n; i++)
        if (strcmp(v[i - 1]->name, v[i]->name) == 0)
            return err_set(errp, EINVAL,
                           "bitmap '%s' appears twice in the bitmap directory, at 0x%" PRIx64
                           " and 0x%" PRIx64,
                           v[i]->name, v[i - 1]->entry_off, v[i]->entry_off);
    return true;
}

static bool load_one(struct qc *q, const struct qc_stored_bitmap *s, uint64_t *budget,
                     bool read_only, struct err **errp)
{
    struct bitmap *b = bitmap_new(s->name, q->node->size, UINT32_C(1) << s->granularity_bits);

    if (!b)
        return err_set(errp, ENOMEM, "out of memory for bitmap '%s'", s->name);
    b->persistent = true;
    b->readonly = read_only;
    b->inconsistent = !qc_bitmap_usable(s);
    b->foreign = s->extra_len && !(s->flags & QC_BITMAP_EXTRA_COMPATIBLE);
    b->enabled = (s->flags & QC_BITMAP_AUTO) && !b->inconsistent;
    if ((b->inconsistent || qc_bitmap_read(q, s, b, budget, errp)) &&
        node_bitmap_attach(q->node, b, errp))
        return true;
    bitmap_free(b);
    return false;
}

bool qc_bitmaps_load(struct qc *q, const struct qc_header *h, bool read_only, struct err **errp)
{
    uint64_t budget = round_up(q->file->size, q->cluster_size);

    if (!h->has_bitmaps)
        return true;
    if (!(h->autoclear & QC_AUTOCLEAR_BITMAPS)) {
        log_warn("%s: the image has %" PRIu32 " stored bitmaps, but was written to by a program "
                 "that does not know of them: they are not used",
                 q->node->name, h->n_bitmaps);
        return true;
    }
    if (!read_directory(q, h, errp) || !check_names(q, errp))
        return false;
    for (uint32_t i = 0; i < q->bitmaps.n; i++)
        if (!load_one(q, &q->bitmaps.v[i], &budget, read_only, errp))
            return false;
    return true;
}

void qc_bitmaps_free(struct qc *q)
{
    qc_bitmap_dir_free(q->bitmaps.v, q->bitmaps.n);
    q->bitmaps.v = NULL;
    q->bitmaps.n = 0;
}
