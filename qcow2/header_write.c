/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing the header's extensions in place: the reference to the bitmap directory.
 *
 * Only the first cluster is changed, and only what belongs to the bitmaps extension; all others,
 * known or not, stay byte for byte where they are. The disk writes sectors of 512 bytes whole or
 * not at all, so one write within a sector is one step:
 *
 *  - a new extension is appended: first what lies behind the end marker, which nobody reads, then
 *    the type and length that turn the marker into the extension, then the autoclear bit;
 *  - an extension that is there gets its new content in one step if it lies within a sector;
 *    else the autoclear bit is cleared meanwhile, and a crash then costs the bitmaps (they are not
 *    believed any more), but nothing wrong is ever believed;
 *  - to drop it the bit is cleared, and then the type becomes the end marker, if it is the last. If
 *    it is not, it stays without the bit, and so without meaning. (Closing the gap would take
 * several steps through states that no reader understands.)
 *
 * Source: qcow2.txt, "Header extensions" and "Bitmaps extension".
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "qcow2/qcow2_priv.h"

#define SECTOR_LEN 512
#define EXT_HEAD 8
#define EXT_SPACE (EXT_HEAD + QC_BITMAPS_EXT_LEN)

/* The first cluster, and what of it matters here. */
struct first {
    uint8_t *buf;
    uint64_t len;
    uint64_t bitmaps; /* where the extension is; 0: there is none */
    uint64_t end;     /* where the end marker is, or would be */
    uint64_t limit;   /* the extensions end at the latest here */
};

static bool first_read(struct qc *q, struct first *f, struct err **errp)
{
    f->len = q->cluster_size;
    f->buf = mem_alloc_aligned(f->len, 4096);
    if (!f->buf)
        return err_set(errp, ENOMEM, "out of memory");
    int r = qc_read_host(q, 0, f->buf, f->len);
    if (r < 0)
        return err_set_errno(errp, -r, "cannot read the header");
    uint64_t backing = get_be64(f->buf + QCH_BACKING_OFF);
    uint64_t at = get_be32(f->buf + QCH_HEADER_LEN);
    f->limit = backing ? min_u64(backing, f->len) : f->len;
    f->bitmaps = 0;
    while (at + EXT_HEAD <= f->limit && get_be32(f->buf + at) != QC_EXT_END) {
        uint64_t len = get_be32(f->buf + at + 4);

        if (len > f->limit - at - EXT_HEAD)
            return err_set(errp, EINVAL,
                           "header extension at 0x%" PRIx64 " has changed to nonsense", at);
        if (get_be32(f->buf + at) == QC_EXT_BITMAPS)
            f->bitmaps = at;
        at += EXT_HEAD + round_up(len, 8);
    }
    f->end = at;
    return true;
}

/* One step: durable when it returns 0. */
static int step(struct qc *q, uint64_t off, const void *bytes, size_t len)
{
    int r = node_write_kind(q->file, off, bytes, len, 0, KIND_HEADER);
    return r < 0 ? r : qc_barrier(q);
}

static int set_vouching(struct qc *q, bool on)
{
    uint64_t bit = QC_AUTOCLEAR_BITMAPS, want = on ? q->autoclear | bit : q->autoclear & ~bit;
    uint8_t be[8];

    if (want == q->autoclear && !q->autoclear_unsure)
        return 0;
    put_be64(be, want);
    int r = step(q, QCH_AUTOCLEAR, be, sizeof(be));
    q->autoclear_unsure = r < 0;
    if (r == 0)
        q->autoclear = want;
    return r;
}

/* Move the backing file's name behind what the extensions need. Every step leaves a good header. */
static bool move_backing_name(struct qc *q, struct first *f, uint64_t need, struct err **errp)
{
    uint64_t old = get_be64(f->buf + QCH_BACKING_OFF);
    uint32_t len = get_be32(f->buf + QCH_BACKING_LEN);
    uint64_t to = max_u64(need, round_up(old + len, 8));
    uint8_t be[8];

    if (f->end + EXT_HEAD > f->limit || to + len > f->len)
        return err_set(errp, ENOSPC,
                       "there is no room for the bitmaps extension: the header, its extensions and "
                       "the backing file's name fill the first cluster of %" PRIu64 " bytes",
                       f->len);
    int r = step(q, to, f->buf + old, len);
    put_be64(be, to);
    if (r == 0)
        r = step(q, QCH_BACKING_OFF, be, sizeof(be));
    if (r < 0)
        return err_set_errno(errp, -r, "cannot move the backing file's name in the header");
    f->limit = to;
    return true;
}

static bool append(struct qc *q, struct first *f, const uint8_t *data, bool *unsure,
                   struct err **errp)
{
    uint8_t x[EXT_SPACE + EXT_HEAD] = {0}; /* with the new end marker */
    uint64_t need = f->end + sizeof(x);

    if (need > f->limit && f->limit == f->len)
        return err_set(errp, ENOSPC,
                       "there is no room for the bitmaps extension: the header and its extensions "
                       "fill the first cluster of %" PRIu64 " bytes",
                       f->len);
    if (need > f->limit && !move_backing_name(q, f, need, errp))
        return false;
    put_be32(x, QC_EXT_BITMAPS);
    put_be32(x + 4, QC_BITMAPS_EXT_LEN);
    memcpy(x + EXT_HEAD, data, QC_BITMAPS_EXT_LEN);
    int r = step(q, f->end + EXT_HEAD, x + EXT_HEAD, sizeof(x) - EXT_HEAD);
    *unsure = r == 0;
    if (r == 0)
        r = step(q, f->end, x, EXT_HEAD);
    return r == 0 || err_set_errno(errp, -r, "cannot write the bitmaps extension");
}

static bool replace(struct qc *q, struct first *f, const uint8_t *data, bool *unsure,
                    struct err **errp)
{
    uint64_t at = f->bitmaps + EXT_HEAD;
    int r = 0;

    if (at / SECTOR_LEN != (at + QC_BITMAPS_EXT_LEN - 1) / SECTOR_LEN)
        r = set_vouching(q, false);
    *unsure = true;
    if (r == 0)
        r = step(q, at, data, QC_BITMAPS_EXT_LEN);
    return r == 0 || err_set_errno(errp, -r, "cannot write the bitmaps extension");
}

bool qc_header_set_bitmaps(struct qc *q, uint32_t n, uint64_t dir_off, uint64_t dir_len,
                           bool *unsure, struct err **errp)
{
    uint8_t data[QC_BITMAPS_EXT_LEN] = {0};
    struct first f = {0};

    *unsure = false;
    put_be32(data, n);
    put_be64(data + 8, dir_len);
    put_be64(data + 16, dir_off);
    bool ok = first_read(q, &f, errp) &&
              (f.bitmaps ? replace(q, &f, data, unsure, errp) : append(q, &f, data, unsure, errp));
    mem_free(f.buf);
    int r = ok ? set_vouching(q, true) : 0;
    return r < 0 ? err_set_errno(errp, -r, "cannot set the autoclear bit of bitmaps") : ok;
}

bool qc_header_drop_bitmaps(struct qc *q, bool *unsure, struct err **errp)
{
    static const uint8_t end[EXT_HEAD];
    struct first f = {0};
    int r = 0;

    *unsure = false;
    bool ok = first_read(q, &f, errp);
    if (ok) {
        *unsure = true;
        r = set_vouching(q, false);
        if (r == 0 && f.bitmaps && f.bitmaps + EXT_SPACE == f.end)
            r = step(q, f.bitmaps, end, sizeof(end));
    }
    mem_free(f.buf);
    return r < 0 ? err_set_errno(errp, -r, "cannot remove the bitmaps extension") : ok;
}
