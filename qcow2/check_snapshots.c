/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking the snapshot table. It is read here without the limits that the driver has, as far as
 * entries can be told apart: a table with some entry that is too long can be repaired
 * (repair_snapshots.c). Source: qcow2.txt, "Snapshots".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "qcow2/check_priv.h"

int qcc_snapshot_read(struct qcc *c, uint32_t i, uint64_t pos, struct qcc_snapshot *s)
{
    uint8_t e[QCC_SNAPSHOT_ENTRY];
    uint64_t off = c->first.h.snapshots_off + pos, end = round_up(c->file->size, 8);
    *s = (struct qcc_snapshot){.off = off};
    /* The last entry may be unpadded. */
    if (i >= QC_MAX_SNAPSHOTS || off + sizeof(e) > end || pos + sizeof(e) > QC_MAX_SNAPSHOT_TABLE)
        return 0;
    int r = qc_bytes_read(c->file, off, e, sizeof(e));
    if (r < 0)
        return r;
    s->l1_off = get_be64(e);
    s->l1_size = get_be32(e + 8);
    s->id_len = get_be16(e + 12);
    s->name_len = get_be16(e + 14);
    s->extra_len = get_be32(e + 36);
    s->zeros = bytes_are_zero(e, sizeof(e));
    s->len = round_up(sizeof(e) + (uint64_t)s->extra_len + s->id_len + s->name_len, 8);
    return off + s->len <= end && pos + s->len <= QC_MAX_SNAPSHOT_TABLE;
}

static void check_extra(struct qcc *c, const struct qcc_snapshot *s, uint32_t i)
{
    bool too_short = c->first.h.version >= 3 && s->extra_len < QCC_EXTRA_V3;
    if (!too_short && s->extra_len <= QCC_EXTRA_MAX)
        return;
    qcc_corrupt(c, 1,
                "snapshot %" PRIu32 " at 0x%" PRIx64 ": extra_data_size is %" PRIu32 ", %s %d", i,
                s->off, s->extra_len, too_short ? "version 3 needs" : "the limit is",
                too_short ? QCC_EXTRA_V3 : QCC_EXTRA_MAX);
    c->snapshots.rewrite = true;
}

static int check_snapshot(struct qcc *c, const struct qcc_snapshot *s, uint32_t i)
{
    char owner[64];
    check_extra(c, s, i);
    /* The header is no table: it would refer to what a repair makes. */
    if (!is_aligned(s->l1_off, c->cluster) || s->l1_size > QC_MAX_L1_BYTES / 8 ||
        (s->l1_off == 0 && s->l1_size > 0)) {
        qcc_corrupt(c, 1,
                    "snapshot %" PRIu32 " at 0x%" PRIx64 ": its L1 table cannot be at 0x%" PRIx64
                    " with %" PRIu32 " entries",
                    i, s->off, s->l1_off, s->l1_size);
        qcc_not_followed(c, s->l1_off, (uint64_t)s->l1_size * 8);
        return 0;
    }
    snprintf(owner, sizeof(owner), "the L1 table of snapshot %" PRIu32, i);
    return qcc_check_l1(c, s->l1_off, s->l1_size, false, owner);
}

/* An entry of zeros, and zeros up to the end of the cluster in which it ends: 1: there is no
 * snapshot, whatever their number is said to be; 0: there is one, be it of nothing (its neighbours
 * in the cluster need it to be found); -errno. A repair gives what it keeps extra data, so that a
 * snapshot of nothing is one wherever it comes to lie. */
static int is_padding(struct qcc *c, const struct qcc_snapshot *s)
{
    uint64_t end = s->off + QCC_SNAPSHOT_ENTRY;
    uint64_t limit = min_u64(round_up(end, c->cluster), c->file->size);
    if (!s->zeros || end >= limit)
        return s->zeros;
    int r = qcc_read(c, end, limit - end);
    return r < 0 ? r : r == 0 || bytes_are_zero(c->buf, limit - end);
}

/* An entry that is not inside the file and the limits, and all that would come behind it. What
 * cannot be read at all is no loss; but an entry with a length that cannot be true may hide a
 * snapshot that somebody wants to save by hand. */
static void overhang(struct qcc *c, const struct qcc_snapshot *s, uint32_t i)
{
    qcc_corrupt(c, 1,
                "snapshot %" PRIu32 " of %" PRIu32 ", at 0x%" PRIx64
                ", is not there: it is only zeros, or past the end of the file, or over a limit "
                "(%u snapshots, a table of %" PRIu64 " bytes)",
                i, c->first.h.nb_snapshots, s->off, QC_MAX_SNAPSHOTS, QC_MAX_SNAPSHOT_TABLE);
    c->snapshots.rewrite = s->len == 0;
    if (s->len) {
        qcc_not_followed(c, s->off, s->len);
        qcc_not_followed(c, s->l1_off, (uint64_t)s->l1_size * 8);
    }
}

int qcc_check_snapshots(struct qcc *c)
{
    const struct qc_header *h = &c->first.h;
    struct qcc_snapshots *t = &c->snapshots;
    struct qcc_snapshot s;
    int r = 1;

    if (c->data_file && h->nb_snapshots)
        qcc_corrupt(c, 1, "%" PRIu32 " snapshots in an image with a data file", h->nb_snapshots);
    for (uint32_t i = 0; i < h->nb_snapshots; i++) {
        r = qcc_snapshot_read(c, i, t->bytes, &s);
        if (r < 0)
            return r;
        int padding = r > 0 ? is_padding(c, &s) : 0;
        if (padding < 0)
            return padding;
        if (padding)
            s.len = 0;
        if (r == 0 || padding) {
            overhang(c, &s, i);
            break;
        }
        r = check_snapshot(c, &s, i);
        if (r < 0)
            return r;
        t->n++;
        t->bytes += s.len;
    }
    r = t->bytes ? qcc_refer_table(c, h->snapshots_off, t->bytes, "the snapshot table",
                                   QCH_SNAPSHOTS_OFF)
                 : 0;
    return r < 0 ? r : 0;
}
