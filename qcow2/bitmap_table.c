/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A stored bitmap's table and the clusters with its bits. Source: qcow2.txt, "Bitmap table" and
 * "Bitmap data".
 *
 * Pieces that are all clear or all set take no cluster: their table entries say so. New content
 * always goes into new clusters: what the header leads to changes in one step only (bitmap_dir.c).
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/bitmap_priv.h"

#define CHUNK (UINT64_C(2) << 20)

uint64_t qc_bitmap_table_entries(const struct qc *q, uint64_t disk_size, uint32_t granularity)
{
    return div_round_up(bitmap_stored_size(disk_size, granularity), q->cluster_size);
}

bool qc_bitmap_usable(const struct qc_stored_bitmap *s)
{
    return !(s->flags & QC_BITMAP_IN_USE) &&
           (!s->extra_len || (s->flags & QC_BITMAP_EXTRA_COMPATIBLE));
}

static bool check_entry(const struct qc *q, const struct qc_stored_bitmap *s, uint64_t i,
                        uint64_t entry, struct err **errp)
{
    uint64_t off = entry & QC_OFFSET_MASK;

    if ((entry & QC_BITMAP_TABLE_RESERVED) || (off && (entry & QC_BITMAP_ALL_ONES)))
        return err_set(errp, EINVAL,
                       "bitmap '%s': table entry %" PRIu64 " (at 0x%" PRIx64 ") is 0x%" PRIx64
                       ": reserved bits are set",
                       s->name, i, s->table_off + i * 8, entry);
    if (!is_aligned(off, q->cluster_size))
        return err_set(errp, EINVAL,
                       "bitmap '%s': table entry %" PRIu64 " (at 0x%" PRIx64 ") is 0x%" PRIx64
                       ", not aligned to a cluster",
                       s->name, i, s->table_off + i * 8, entry);
    if (off >= q->file->size)
        return err_set(errp, EINVAL,
                       "bitmap '%s': table entry %" PRIu64 " (at 0x%" PRIx64 ") is 0x%" PRIx64
                       ", past the end of the file at 0x%" PRIx64,
                       s->name, i, s->table_off + i * 8, entry, q->file->size);
    return true;
}

/* The table in new memory. */
static uint8_t *read_table(struct qc *q, const struct qc_stored_bitmap *s, struct err **errp)
{
    uint64_t len = (uint64_t)s->table_size * 8;
    uint8_t *table = mem_alloc_aligned(round_up(len, 512), 4096);
    int r;

    if (!table) {
        err_set(errp, ENOMEM, "out of memory for the table of bitmap '%s'", s->name);
        return NULL;
    }
    r = qc_read_table(q, s->table_off, table, len);
    if (r == 0)
        return table;
    mem_free(table);
    err_set_errno(errp, -r, "cannot read the table of bitmap '%s' at 0x%" PRIx64, s->name,
                  s->table_off);
    return NULL;
}

/* How many entries from i on name data clusters that lie one behind the other. */
static uint64_t data_run(const struct qc *q, const uint8_t *table, uint64_t i, uint64_t n)
{
    uint64_t first = get_be64(table + i * 8), k = 1;

    while (i + k < n && (k + 1) << q->cluster_bits <= CHUNK &&
           get_be64(table + (i + k) * 8) == first + (k << q->cluster_bits))
        k++;
    return k;
}

static bool load_run(struct qc *q, const struct qc_stored_bitmap *s, uint64_t i, uint64_t k,
                     uint64_t host_off, uint8_t *buf, struct bitmap *b, struct err **errp)
{
    uint64_t len = k << q->cluster_bits;
    int r = qc_read_host(q, host_off, buf, len);

    if (r == 0)
        r = bitmap_load(b, i << q->cluster_bits, buf, len);
    return r == 0 ||
           err_set_errno(errp, -r, "cannot load bitmap '%s' from 0x%" PRIx64, s->name, host_off);
}

/* A byte of the file is in one place of one bitmap only: this bounds time and memory. */
static bool spend(uint64_t *budget, uint64_t bytes, const struct qc_stored_bitmap *s,
                  struct err **errp)
{
    if (bytes > *budget)
        return err_set(errp, EINVAL,
                       "bitmap '%s' takes more bytes than the file has left: tables "
                       "or data of bitmaps overlap",
                       s->name);
    *budget -= bytes;
    return true;
}

bool qc_bitmap_read(struct qc *q, const struct qc_stored_bitmap *s, struct bitmap *b,
                    uint64_t *budget, struct err **errp)
{
    uint64_t n = s->table_size, granules_per_cluster = q->cluster_size * 8;
    if (!spend(budget, n * 8, s, errp))
        return false;
    AUTO_FREE uint8_t *table = read_table(q, s, errp);
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(max_u64(CHUNK, q->cluster_size), 4096);

    if (!table || !buf)
        return !table ? false : err_set(errp, ENOMEM, "out of memory for bitmap '%s'", s->name);
    for (uint64_t i = 0, k; i < n; i += k) {
        uint64_t entry = get_be64(table + i * 8), off = entry & QC_OFFSET_MASK;

        k = 1;
        if (!check_entry(q, s, i, entry, errp))
            return false;
        if (entry == QC_BITMAP_ALL_ONES)
            bitmap_mark(b, i * granules_per_cluster * b->granularity,
                        granules_per_cluster * b->granularity);
        if (!off)
            continue;
        k = data_run(q, table, i, n);
        if (!spend(budget, k << q->cluster_bits, s, errp) ||
            !load_run(q, s, i, k, off, buf, b, errp))
            return false;
    }
    return true;
}

bool qc_taken_add(struct qc *q, struct qc_freed_list *taken, uint64_t host_off, uint64_t clusters)
{
    if (!qc_freed_reserve(taken, 1)) {
        qc_alloc_undo(q, host_off, clusters);
        return false;
    }
    taken->v[taken->n++] = (struct qc_freed){.host_off = host_off, .clusters = clusters};
    return true;
}

void qc_taken_undo(struct qc *q, struct qc_freed_list *taken)
{
    for (size_t i = 0; i < taken->n; i++)
        qc_alloc_undo(q, taken->v[i].host_off, taken->v[i].clusters);
    mem_free(taken->v);
    *taken = (struct qc_freed_list){0};
}

void qc_give_up(struct qc *q, struct qc_freed_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (qc_freed_reserve(&q->freed, 1))
            qc_free_later(q, l->v[i].host_off, l->v[i].clusters, false);
    mem_free(l->v);
    *l = (struct qc_freed_list){0};
}

/* Write pieces [i, i + k) of b, and their entries. *done: how many, at least one. */
static int write_run(struct qc *q, const struct bitmap *b, uint64_t i, uint64_t k, uint8_t *buf,
                     uint8_t *table, struct qc_freed_list *taken, uint64_t *done)
{
    uint64_t host_off;
    bool fresh;
    int r = qc_alloc(q, k, &host_off, done, &fresh);

    if (r < 0)
        return r;
    if (!qc_taken_add(q, taken, host_off, *done))
        return -ENOMEM;
    for (k = 0; k < *done; k++)
        put_be64(table + (i + k) * 8, host_off + (k << q->cluster_bits));
    bitmap_save(b, i << q->cluster_bits, buf, *done << q->cluster_bits);
    return qc_write_table(q, host_off, buf, *done << q->cluster_bits, KIND_BITMAP);
}

static int write_data(struct qc *q, const struct bitmap *b, uint8_t *table, uint64_t entries,
                      struct qc_freed_list *taken)
{
    uint64_t most = max_u64(CHUNK >> q->cluster_bits, 1), size = q->cluster_size;
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(most << q->cluster_bits, 4096);

    if (!buf)
        return -ENOMEM;
    for (uint64_t i = 0, k; i < entries; i += k) {
        enum bitmap_piece kind = bitmap_piece_kind(b, i * size, size);

        k = 1;
        if (kind == BITMAP_PIECE_SET)
            put_be64(table + i * 8, QC_BITMAP_ALL_ONES);
        if (kind != BITMAP_PIECE_MIXED)
            continue;
        while (k < most && i + k < entries &&
               bitmap_piece_kind(b, (i + k) * size, size) == BITMAP_PIECE_MIXED)
            k++;
        int r = write_run(q, b, i, k, buf, table, taken, &k);
        if (r < 0)
            return r;
    }
    return 0;
}

bool qc_bitmap_write(struct qc *q, const struct bitmap *b, uint64_t entries,
                     struct qc_stored_bitmap *s, struct qc_freed_list *taken, struct err **errp)
{
    uint64_t clusters = max_u64(qc_clusters(q, entries * 8), 1), len = clusters << q->cluster_bits;
    AUTO_FREE uint8_t *table = mem_alloc_aligned(len, 4096);
    uint64_t host_off;
    int r = table ? 0 : -ENOMEM;

    if (r == 0) {
        memset(table, 0, len);
        r = b ? write_data(q, b, table, entries, taken) : 0;
    }
    if (r == 0)
        r = qc_alloc_exact(q, clusters, &host_off);
    if (r == 0 && !qc_taken_add(q, taken, host_off, clusters))
        r = -ENOMEM;
    if (r == 0)
        r = qc_write_table(q, host_off, table, len, KIND_BITMAP);
    if (r < 0)
        return err_set_errno(errp, -r, "cannot write bitmap '%s'", s->name);
    s->table_off = host_off;
    s->table_size = (uint32_t)max_u64(entries, 1);
    return true;
}

bool qc_bitmap_clusters(struct qc *q, const struct qc_stored_bitmap *s, struct qc_freed_list *l,
                        struct err **errp)
{
    AUTO_FREE uint8_t *table = read_table(q, s, errp);
    uint64_t n = s->table_size;

    if (!table)
        return false;
    for (uint64_t i = 0, k; i < n; i += k) {
        uint64_t entry = get_be64(table + i * 8), off = entry & QC_OFFSET_MASK;

        k = 1;
        /* What cannot be true is nothing to act on: it leaks. */
        if (!off || !check_entry(q, s, i, entry, NULL))
            continue;
        k = data_run(q, table, i, n);
        if (!qc_freed_reserve(l, 2))
            return err_set(errp, ENOMEM, "out of memory for the clusters of bitmap '%s'", s->name);
        l->v[l->n++] = (struct qc_freed){.host_off = off, .clusters = k};
    }
    if (!qc_freed_reserve(l, 1))
        return err_set(errp, ENOMEM, "out of memory for the clusters of bitmap '%s'", s->name);
    l->v[l->n++] = (struct qc_freed){.host_off = s->table_off, .clusters = qc_clusters(q, n * 8)};
    return true;
}
