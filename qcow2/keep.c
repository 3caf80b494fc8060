/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making an image's own what it shows of its backing image, while guests write to it.
 *
 * Whoever read the backing image hands in what it holds. What a guest has written meanwhile is
 * newer: so a cluster is written only if, with its mapping held, the image has nothing of it.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

/* How many bytes from the start of buf on are clusters of zeros, or clusters that are none. */
static uint64_t same_kind(const struct qc *q, const uint8_t *buf, uint64_t len, bool *zero)
{
    uint64_t n = min_u64(len, q->cluster_size);
    *zero = bytes_are_zero(buf, n);
    while (n < len) {
        uint64_t more = min_u64(len - n, q->cluster_size);
        if (bytes_are_zero(buf + n, more) != *zero)
            break;
        n += more;
    }
    return n;
}

/* A run of which the image has nothing, as it seems. */
static int keep_run(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len,
                    uint64_t *done)
{
    bool zero = false;
    bool whole = is_aligned(guest_off, q->cluster_size) &&
                 (is_aligned(len, q->cluster_size) || guest_off + len == q->node->size);
    uint64_t n = whole ? same_kind(q, buf, len, &zero) : len;
    if (zero) {
        int r = qc_zero_absent(q, guest_off, n);
        *done = n;
        if (r != -ENOTSUP)
            return r;
    }
    node_event(q->file, EV_COR_WRITE);
    return qc_write_alloc(q, guest_off, buf, n, true, done);
}

int qc_keep(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len)
{
    uint64_t unit = UINT64_C(1) << q->sub_bits;
    if (!is_aligned(guest_off, unit) ||
        (!is_aligned(len, unit) && guest_off + len != q->node->size))
        return -EINVAL;
    while (len) {
        struct qc_run run;
        int r = qc_l2_lookup(q, guest_off, len, &run);
        uint64_t done = run.len;
        if (r == 0 && run.type == QC_UNALLOCATED)
            r = keep_run(q, guest_off, buf, run.len, &done);
        if (r < 0)
            return r;
        guest_off += done;
        buf += done;
        len -= done;
    }
    return 0;
}
