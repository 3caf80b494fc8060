/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Block status: what is allocated and what reads as zeros, through the whole backing chain.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

/* Add what another file says of [off, off + len), all of it inside that file. flags: of the
 * request.
 */
static int status_below(struct node *file, uint64_t off, uint64_t len, uint32_t flags,
                        struct extents *ext)
{
    struct extents below;
    uint32_t level = flags & REQ_DEPTH ? EXTENT_LEVEL : 0;
    int r = 1;
    extents_init(&below, ext->max);
    while (len && r > 0) {
        struct req ask = {.op = REQ_STATUS, .flags = flags, .off = off, .len = len, .ext = &below};
        extents_clear(&below);
        r = node_submit(file, &ask);
        if (r < 0)
            break;
        uint64_t got = min_u64(below.total, len);
        if (got == 0) {
            r = -EIO;
            break;
        }
        extents_trim(&below, got);
        r = 1;
        for (size_t i = 0; i < below.n && r > 0; i++)
            r = extents_add(ext, below.v[i].len, below.v[i].flags + level);
        off += got;
        len -= got;
    }
    extents_free(&below);
    return r;
}

static int status_run(struct qc *q, uint64_t guest_off, const struct qc_run *run, uint32_t flags,
                      struct extents *ext)
{
    uint32_t nothing = EXTENT_HOLE | EXTENT_ZERO;
    uint64_t len = run->len, end = qc_backing_end(q);
    switch (run->type) {
    case QC_NORMAL:
        /* The tables of a raw data file need not know of its holes: usually they do not. */
        if (q->raw_data && q->data) {
            uint64_t data_end = q->data->size;
            uint64_t have = guest_off < data_end ? min_u64(len, data_end - guest_off) : 0;
            int r = have ? status_below(q->data, guest_off, have, flags & ~(uint32_t)REQ_DEPTH, ext)
                         : 1;
            return r <= 0 || have == len ? r
                                         : extents_add(ext, len - have, EXTENT_HOLE | EXTENT_ZERO);
        }
        return extents_add(ext, len, 0);
    case QC_COMPRESSED_TYPE:
        return extents_add(ext, len, 0);
    case QC_ZERO_ALLOCATED:
        return extents_add(ext, len, EXTENT_ZERO);
    case QC_ZERO_PLAIN:
        return extents_add(ext, len, EXTENT_HOLE | EXTENT_ZERO);
    default:
        if (guest_off < end) {
            uint64_t have = min_u64(len, end - guest_off);
            int r = status_below(q->backing, guest_off, have, flags, ext);
            if (r <= 0)
                return r;
            len -= have;
        }
        /* A backing image that ends earlier has the zeros behind its end. */
        if (flags & REQ_DEPTH)
            nothing += q->backing ? EXTENT_LEVEL : EXTENT_NOWHERE;
        return len ? extents_add(ext, len, nothing) : 1;
    }
}

int qc_status(struct qc *q, uint64_t guest_off, uint64_t len, uint32_t flags, struct extents *ext)
{
    while (len) {
        struct qc_run run;
        int r = qc_l2_lookup(q, guest_off, len, &run);
        if (r < 0)
            return r;
        r = status_run(q, guest_off, &run, flags, ext);
        if (r <= 0)
            return r; /* 0: the list is full */
        guest_off += run.len;
        len -= run.len;
    }
    return 0;
}
