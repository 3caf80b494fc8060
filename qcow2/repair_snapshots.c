/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The snapshot table written anew, without what reaches past the end of the file, and with extra
 * data of a length that all readers take. Source: qcow2.txt, "Snapshots".
 */
#include <errno.h>

#include "qcow2/repair_priv.h"

/* How much extra data the entry is to have. Where version 2 wants none, zeros get it all the same:
 * in the new table, what follows them are perhaps zeros, too, which is how a table ends. */
static uint32_t extra_of(const struct qcc *c, const struct qcc_snapshot *s)
{
    uint32_t least = c->first.h.version >= 3 || s->zeros ? QCC_EXTRA_V3 : 0;
    uint32_t len = s->extra_len < least ? least : s->extra_len;
    return len > QCC_EXTRA_MAX ? QCC_EXTRA_MAX : len;
}

static uint64_t length_of(const struct qcc *c, const struct qcc_snapshot *s)
{
    return round_up(QCC_SNAPSHOT_ENTRY + (uint64_t)extra_of(c, s) + s->id_len + s->name_len, 8);
}

static int measure(struct qcr *q, uint64_t *len)
{
    struct qcc_snapshot s;
    uint64_t pos = 0;
    *len = 0;
    for (uint32_t i = 0; i < q->c->snapshots.n; i++) {
        int r = qcc_snapshot_read(q->c, i, pos, &s);
        if (r <= 0)
            return r < 0 ? r : -EIO; /* the check has read it */
        pos += s.len;
        *len += length_of(q->c, &s);
    }
    return *len > QC_MAX_SNAPSHOT_TABLE ? -EFBIG : 0;
}

static int copy_entry(struct qcr *q, const struct qcc_snapshot *s, uint8_t *out)
{
    struct qcc *c = q->c;
    uint32_t extra = extra_of(c, s), known = s->extra_len < extra ? s->extra_len : extra;
    uint8_t *e = out + QCC_SNAPSHOT_ENTRY;
    int r = qc_bytes_read(c->file, s->off, out, QCC_SNAPSHOT_ENTRY + known);
    if (r < 0)
        return r;
    /* What is missing means what it means when it is absent: the VM state's size is the 32-bit one,
     * the disk had the size that it has now. */
    if (known < 8 && extra >= 8)
        put_be64(e, get_be32(out + 32));
    if (known < 16 && extra >= 16)
        put_be64(e + 8, c->first.h.size);
    put_be32(out + 36, extra);
    return qc_bytes_read(c->file, s->off + QCC_SNAPSHOT_ENTRY + s->extra_len, e + extra,
                         (uint64_t)s->id_len + s->name_len);
}

int qcr_snapshots_build(struct qcr *q, uint8_t **table, uint64_t *len)
{
    struct qcc_snapshot s;
    uint64_t pos = 0, at = 0;
    int r = measure(q, len);
    if (r < 0 || *len == 0)
        return r;
    *table = mem_zalloc(round_up(*len, q->c->cluster));
    if (!*table)
        return -ENOMEM;
    for (uint32_t i = 0; i < q->c->snapshots.n && r >= 0; i++) {
        r = qcc_snapshot_read(q->c, i, pos, &s);
        if (r > 0)
            r = copy_entry(q, &s, *table + at);
        pos += s.len;
        at += length_of(q->c, &s);
    }
    return r < 0 ? r : 0;
}
