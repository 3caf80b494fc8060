/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking what the bitmap directory refers to. Source: qcow2.txt, "Bitmaps extension".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "qcow2/check_priv.h"

/* A directory that cannot be followed is corruption; memory and I/O errors end the check. */
static int broken(struct qcc *c, struct err *e)
{
    int code = err_code(e);
    bool damaged = code == EINVAL || code == EFBIG || code == ENOTSUP;
    if (damaged)
        qcc_corrupt(c, 1, "%s", err_msg(e));
    c->incomplete |= damaged;
    err_free(e);
    return damaged ? 0 : -code;
}

static int check_bitmap_entry(struct qcc *c, uint64_t entry, uint64_t at)
{
    uint64_t off = entry & QC_OFFSET_MASK;
    if ((entry & QC_BITMAP_TABLE_RESERVED) || (off && (entry & 1)) ||
        !is_aligned(off, c->cluster)) {
        qcc_corrupt(c, 1, "bitmap table entry at 0x%" PRIx64 " is 0x%" PRIx64 ": %s", at, entry,
                    is_aligned(off, c->cluster) ? "reserved bits" : "not aligned to a cluster");
        c->incomplete = true;
        return 0;
    }
    if (!off)
        return 0;
    int r = qcc_refer_table(c, off, c->cluster, "bitmap data", at);
    return r < 0 ? r : 0;
}

static int check_bitmap(struct qcc *c, const struct qc_stored_bitmap *b, uint32_t i)
{
    uint64_t bytes = (uint64_t)b->table_size * 8;
    if (!is_aligned(b->table_off, c->cluster) || b->table_size > QC_MAX_L1_BYTES / 8 ||
        (bytes > 0 && b->table_off == 0)) {
        qcc_corrupt(c, 1,
                    "bitmap %" PRIu32 " at 0x%" PRIx64 ": its table cannot be at 0x%" PRIx64
                    " with %" PRIu32 " entries",
                    i, b->entry_off, b->table_off, b->table_size);
        qcc_not_followed(c, b->table_off, bytes);
        return 0;
    }
    if (!qcc_table_budget(c, bytes)) {
        qcc_corrupt(c, 1, "bitmap %" PRIu32 " at 0x%" PRIx64 ": tables overlap; not followed", i,
                    b->entry_off);
        qcc_not_followed(c, b->table_off, bytes);
        return 0;
    }
    int r = qcc_refer_table(c, b->table_off, bytes, "a bitmap table", b->entry_off);
    if (r <= 0)
        return r;
    for (uint64_t done = 0; done < bytes; done += c->cluster) {
        uint64_t part = min_u64(bytes - done, c->cluster);
        r = qcc_read(c, b->table_off + done, part);
        for (uint64_t k = 0; r > 0 && k < part; k += 8) {
            int ret = check_bitmap_entry(c, get_be64(c->buf + k), b->table_off + done + k);
            if (ret < 0)
                return ret;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int qcc_check_bitmaps(struct qcc *c)
{
    struct qc_bitmap_iter it;
    struct qc_stored_bitmap b;
    struct err *e = NULL;
    int r, ret = 0;

    qc_bitmap_begin(&it, c->file, &c->first);
    if (it.n == 0)
        return 0;
    ret = qcc_refer_table(c, it.off, it.len, "the bitmap directory", it.off);
    if (ret <= 0)
        return ret;
    ret = 0;
    while ((r = qc_bitmap_next(&it, &b, &e)) > 0 && ret == 0) {
        ret = check_bitmap(c, &b, it.i - 1);
        qc_stored_bitmap_free(&b);
    }
    if (r > 0)
        qc_stored_bitmap_free(&b);
    if (r < 0)
        ret = broken(c, e);
    return ret < 0 ? ret : 0;
}
