/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The two directories of an image: its snapshots and its stored bitmaps. Source: qcow2.txt,
 * "Snapshots" and "Bitmap directory".
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "qcow2/inspect_priv.h"

#define SNAPSHOT_ENTRY 40
#define SNAPSHOT_EXTRA_MAX 1024
#define BITMAP_ENTRY QC_BITMAP_ENTRY_LEN
#define BITMAP_NAME_LIMIT 1023
#define BITMAP_EXTRA_LIMIT 1024 /* what a snapshot may have; nobody is known to write any */

/* A string of the file in new memory. */
static int read_text(struct node *file, uint64_t off, uint32_t len, char **out)
{
    *out = mem_alloc((size_t)len + 1);
    if (!*out)
        return -ENOMEM;
    (*out)[len] = '\0';
    return qc_bytes_read(file, off, *out, len);
}

static int read_snapshot(struct node *file, uint64_t off, struct qc_snapshot *s, uint64_t *len)
{
    uint8_t e[SNAPSHOT_ENTRY + 24] = {0};
    int r = qc_bytes_read(file, off, e, sizeof(e));
    if (r < 0)
        return r;
    uint32_t id_len = get_be16(e + 12), name_len = get_be16(e + 14);
    *s = (struct qc_snapshot){
        .entry_off = off,
        .l1_off = get_be64(e),
        .l1_size = get_be32(e + 8),
        .date_sec = get_be32(e + 16),
        .date_nsec = get_be32(e + 20),
        .vm_clock_ns = get_be64(e + 24),
        .vm_state_bytes = get_be32(e + 32),
        .extra_len = get_be32(e + 36),
        .disk_size = UINT64_MAX,
        .icount = UINT64_MAX,
    };
    if (s->extra_len > SNAPSHOT_EXTRA_MAX)
        return -EFBIG;
    if (s->extra_len >= 8)
        s->vm_state_bytes = get_be64(e + 40);
    if (s->extra_len >= 16)
        s->disk_size = get_be64(e + 48);
    if (s->extra_len >= 24)
        s->icount = get_be64(e + 56);
    uint64_t id_off = off + SNAPSHOT_ENTRY + s->extra_len;
    *len = round_up(SNAPSHOT_ENTRY + s->extra_len + id_len + name_len, 8);
    r = read_text(file, id_off, id_len, &s->id);
    return r < 0 ? r : read_text(file, id_off + id_len, name_len, &s->name);
}

int qc_snapshot_next(struct qc_snapshot_iter *it, struct qc_snapshot *s, struct err **errp)
{
    uint64_t len = 0;

    *s = (struct qc_snapshot){0};
    if (it->i == it->h->nb_snapshots)
        return 0;
    uint64_t off = it->h->snapshots_off + it->pos;
    int r = off < it->file->size ? read_snapshot(it->file, off, s, &len) : 0;
    if (r == -EFBIG)
        err_set(errp, EFBIG,
                "snapshot %" PRIu32 " at 0x%" PRIx64 ": extra_data_size is %" PRIu32
                ", the limit is %d",
                it->i, off, s->extra_len, SNAPSHOT_EXTRA_MAX);
    else if (r < 0)
        err_set_errno(errp, -r, "cannot read snapshot %" PRIu32 " at 0x%" PRIx64, it->i, off);
    else if (len == 0 || off + len > round_up(it->file->size, 8)) /* the last may be unpadded */
        err_set(errp, EINVAL,
                "snapshot %" PRIu32 " of %" PRIu32 ", at 0x%" PRIx64
                ", reaches past the end of the file",
                it->i, it->h->nb_snapshots, off);
    else if (it->pos + len > QC_MAX_SNAPSHOT_TABLE)
        err_set(errp, EFBIG, "the snapshot table is larger than %" PRIu64 " bytes",
                QC_MAX_SNAPSHOT_TABLE);
    else {
        it->pos += len;
        it->i++;
        return 1;
    }
    qc_snapshot_free(s);
    return -1;
}

void qc_snapshot_free(struct qc_snapshot *s)
{
    mem_free(s->id);
    mem_free(s->name);
    *s = (struct qc_snapshot){0};
}

void qc_bitmap_begin(struct qc_bitmap_iter *it, struct node *file, const struct qc_first *f)
{
    uint32_t len;
    const uint8_t *x = qc_ext_find(f, QC_EXT_BITMAPS, &len);

    *it = (struct qc_bitmap_iter){.file = file};
    if (!x || !(f->h.autoclear & QC_AUTOCLEAR_BITMAPS))
        return;
    it->n = get_be32(x);
    it->len = get_be64(x + 8);
    it->off = get_be64(x + 16);
}

static bool check_bitmap(const struct qc_bitmap_iter *it, const uint8_t *e, uint64_t len,
                         struct err **errp)
{
    uint64_t at = it->off + it->pos;
    uint32_t flags = get_be32(e + 12), name_len = get_be16(e + 18);

    if (len > it->len - it->pos)
        return err_set(errp, EINVAL,
                       "bitmap %" PRIu32 " at 0x%" PRIx64 ": its entry of %" PRIu64
                       " bytes reaches past the directory's end",
                       it->i, at, len);
    if (name_len == 0 || name_len > BITMAP_NAME_LIMIT)
        return err_set(errp, EINVAL,
                       "bitmap %" PRIu32 " at 0x%" PRIx64 ": name_size is %" PRIu32
                       ", must be 1 to %d",
                       it->i, at, name_len, BITMAP_NAME_LIMIT);
    if (get_be32(e + 20) > BITMAP_EXTRA_LIMIT)
        return err_set(errp, EFBIG,
                       "bitmap %" PRIu32 " at 0x%" PRIx64 ": extra_data_size is %" PRIu32
                       ", the limit is %d",
                       it->i, at, get_be32(e + 20), BITMAP_EXTRA_LIMIT);
    if (flags & ~7u)
        return err_set(errp, EINVAL,
                       "bitmap %" PRIu32 " at 0x%" PRIx64 ": reserved flags in 0x%" PRIx32, it->i,
                       at, flags);
    if (e[16] != 1)
        return err_set(errp, EINVAL,
                       "bitmap %" PRIu32 " at 0x%" PRIx64
                       ": type is %u, only 1 (dirty tracking) is defined",
                       it->i, at, e[16]);
    if (e[17] < 9 || e[17] > 31)
        return err_set(errp, EINVAL,
                       "bitmap %" PRIu32 " at 0x%" PRIx64
                       ": granularity_bits is %u, must be 9 to 31",
                       it->i, at, e[17]);
    return true;
}

static int read_extra(struct node *file, uint64_t off, uint32_t len, struct qc_stored_bitmap *b)
{
    b->extra = mem_alloc(len);
    b->extra_len = len;
    return b->extra ? qc_bytes_read(file, off, b->extra, len) : -ENOMEM;
}

int qc_bitmap_next(struct qc_bitmap_iter *it, struct qc_stored_bitmap *b, struct err **errp)
{
    uint8_t e[BITMAP_ENTRY] = {0};
    uint64_t at = it->off + it->pos;

    *b = (struct qc_stored_bitmap){0};
    if (it->i == it->n) {
        if (it->pos == it->len)
            return 0;
        err_set(errp, EINVAL, "the bitmap directory has %" PRIu64 " bytes, its entries %" PRIu64,
                it->len, it->pos);
        return -1;
    }
    if (at < it->off || at + BITMAP_ENTRY > it->file->size) {
        err_set(errp, EINVAL,
                "bitmap %" PRIu32 " of %" PRIu32 ", at 0x%" PRIx64 ", is past the end of the file",
                it->i, it->n, at);
        return -1;
    }
    int r = qc_bytes_read(it->file, at, e, sizeof(e));
    uint32_t name_len = get_be16(e + 18), extra = get_be32(e + 20);
    uint64_t len = round_up(BITMAP_ENTRY + (uint64_t)extra + name_len, 8);
    if (r == 0 && !check_bitmap(it, e, len, errp))
        return -1;
    if (r == 0 && extra)
        r = read_extra(it->file, at + BITMAP_ENTRY, extra, b);
    if (r == 0)
        r = read_text(it->file, at + BITMAP_ENTRY + extra, name_len, &b->name);
    if (r < 0) {
        qc_stored_bitmap_free(b);
        err_set_errno(errp, -r, "cannot read bitmap %" PRIu32 " at 0x%" PRIx64, it->i, at);
        return -1;
    }
    if (strlen(b->name) != name_len) {
        qc_stored_bitmap_free(b);
        err_set(errp, EINVAL, "bitmap %" PRIu32 " at 0x%" PRIx64 ": its name holds a NUL byte",
                it->i, at);
        return -1;
    }
    b->entry_off = at;
    b->table_off = get_be64(e);
    b->table_size = get_be32(e + 8);
    b->flags = get_be32(e + 12);
    b->type = e[16];
    b->granularity_bits = e[17];
    it->pos += len;
    it->i++;
    return 1;
}

void qc_stored_bitmap_free(struct qc_stored_bitmap *b)
{
    mem_free(b->name);
    mem_free(b->extra);
    *b = (struct qc_stored_bitmap){0};
}
