/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The bitmap directory on disk.
 *
 * A directory is never changed where it is, but for the in-use flags: a new one is written to new
 * clusters, made durable with all that it refers to, and then the header is switched to it in one
 * step. Setting the flags in place needs no such care: it changes nothing else, so that every
 * mixture of old and new sectors is a good directory, and nothing else is written before it is
 * durable. (QEMU clears the autoclear bit meanwhile; a crash there makes all bitmaps vanish.)
 *
 * Source: qcow2.txt, "Bitmap directory".
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/bitmap_priv.h"

static uint64_t entry_len(const struct qc_stored_bitmap *s)
{
    return round_up(QC_BITMAP_ENTRY_LEN + (uint64_t)s->extra_len + strlen(s->name), 8);
}

static uint64_t dir_len(const struct qc_stored_bitmap *v, uint32_t n)
{
    uint64_t len = 0;

    for (uint32_t i = 0; i < n; i++)
        len += entry_len(&v[i]);
    return len;
}

/* buf: zeros. */
static void encode(const struct qc_stored_bitmap *v, uint32_t n, uint8_t *buf)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct qc_stored_bitmap *s = &v[i];
        size_t name_len = strlen(s->name);

        put_be64(buf, s->table_off);
        put_be32(buf + 8, s->table_size);
        put_be32(buf + 12, s->flags);
        buf[16] = s->type;
        buf[17] = s->granularity_bits;
        put_be16(buf + 18, (uint16_t)name_len);
        put_be32(buf + 20, s->extra_len);
        if (s->extra_len)
            memcpy(buf + QC_BITMAP_ENTRY_LEN, s->extra, s->extra_len);
        memcpy(buf + QC_BITMAP_ENTRY_LEN + s->extra_len, s->name, name_len);
        buf += entry_len(s);
    }
}

static int write_dir(struct qc *q, const struct qc_stored_bitmap *v, uint32_t n, uint64_t len,
                     uint64_t host_off)
{
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(round_up(len, 512), 4096);

    if (!buf)
        return -ENOMEM;
    memset(buf, 0, round_up(len, 512));
    encode(v, n, buf);
    return qc_write_table(q, host_off, buf, len, KIND_BITMAP);
}

void qc_bitmap_dir_free(struct qc_stored_bitmap *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        qc_stored_bitmap_free(&v[i]);
    mem_free(v);
}

static bool copy_entry(struct qc_stored_bitmap *to, const struct qc_stored_bitmap *from)
{
    *to = *from;
    to->name = mem_strdup(from->name);
    to->extra = NULL;
    if (from->extra_len) {
        to->extra = mem_alloc(from->extra_len);
        if (to->extra)
            memcpy(to->extra, from->extra, from->extra_len);
    }
    return to->name && (to->extra || !from->extra_len);
}

struct qc_stored_bitmap *qc_bitmap_dir_copy(const struct qc *q, uint32_t skip)
{
    const struct qc_bitmaps *m = &q->bitmaps;
    struct qc_stored_bitmap *v = mem_array((size_t)m->n + 1, sizeof(*v));
    uint32_t n = 0;

    for (uint32_t i = 0; v && i < m->n; i++) {
        if (i == skip)
            continue;
        if (!copy_entry(&v[n++], &m->v[i])) {
            qc_bitmap_dir_free(v, n);
            return NULL;
        }
    }
    return v;
}

/* The new directory, and all that was written before it, durable at *host_off. */
static bool put_dir(struct qc *q, const struct qc_stored_bitmap *v, uint32_t n, uint64_t len,
                    uint64_t *host_off, struct qc_freed_list *taken, struct err **errp)
{
    uint64_t clusters = qc_clusters(q, len);
    int r = qc_alloc_exact(q, clusters, host_off);

    if (r == 0 && !qc_taken_add(q, taken, *host_off, clusters))
        r = -ENOMEM;
    if (r == 0)
        r = write_dir(q, v, n, len, *host_off);
    if (r == 0)
        r = qc_write_refblocks(q);
    if (r == 0)
        r = qc_barrier(q);
    return r == 0 || err_set_errno(errp, -r, "cannot write the bitmap directory");
}

bool qc_bitmap_dir_switch(struct qc *q, struct qc_stored_bitmap *v, uint32_t n,
                          struct qc_freed_list *taken, struct err **errp)
{
    struct qc_bitmaps *m = &q->bitmaps;
    uint64_t len = dir_len(v, n), off = 0;
    bool unsure = false, ok;

    if (n > QC_MAX_BITMAPS || len > QC_MAX_BITMAP_DIR)
        ok = err_set(errp, EFBIG,
                     "%" PRIu32 " bitmaps need a directory of %" PRIu64
                     " bytes; the limits are %d and %" PRIu64,
                     n, len, QC_MAX_BITMAPS, QC_MAX_BITMAP_DIR);
    else if (n == 0)
        ok = qc_header_drop_bitmaps(q, &unsure, errp);
    else
        ok = put_dir(q, v, n, len, &off, taken, errp) &&
             qc_header_set_bitmaps(q, n, off, len, &unsure, errp);
    if (ok || unsure) { /* the header may lead there: what is new must stay */
        mem_free(taken->v);
        *taken = (struct qc_freed_list){0};
    } else {
        qc_taken_undo(q, taken);
    }
    if (!ok)
        return false;
    if (m->dir_len && qc_freed_reserve(&q->freed, 1))
        qc_free_later(q, m->dir_off, qc_clusters(q, m->dir_len), false);
    qc_bitmap_dir_free(m->v, m->n);
    m->v = v;
    m->n = n;
    m->dir_off = off;
    m->dir_len = len;
    return true;
}

bool qc_bitmaps_begin(struct qc *q, struct err **errp)
{
    struct qc_bitmaps *m = &q->bitmaps;
    uint32_t changed = 0;
    int r;

    if (q->read_only)
        return true;
    for (uint32_t i = 0; i < m->n; i++) {
        struct qc_stored_bitmap *s = &m->v[i];
        bool foreign = s->extra_len && !(s->flags & QC_BITMAP_EXTRA_COMPATIBLE);

        /* What must be left as it is stays so, unless writing to the disk would make it wrong. */
        if ((s->flags & QC_BITMAP_IN_USE) || (foreign && !(s->flags & QC_BITMAP_AUTO)))
            continue;
        s->flags |= QC_BITMAP_IN_USE;
        changed++;
    }
    if (changed == 0)
        return true;
    r = write_dir(q, m->v, m->n, m->dir_len, m->dir_off);
    if (r == 0)
        r = qc_barrier(q);
    return r == 0 || err_set_errno(errp, -r, "cannot mark the stored bitmaps as in use");
}
