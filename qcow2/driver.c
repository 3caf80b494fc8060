/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The driver table of the format: requests in, calls out. The dispatcher has checked ranges and
 * read-only before, and announces the flush events and the write-back itself (block/node.h).
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

static int qc_submit(struct node *n, struct req *r)
{
    struct qc *q = n->state;
    if (r->op == REQ_READ)
        return qc_read(q, r->off, r->buf, r->len);
    if (r->op == REQ_STATUS)
        return qc_status(q, r->off, r->len, r->flags, r->ext);
    if ((q->corrupt || q->frozen) && r->op != REQ_CACHE)
        return q->read_only && r->op == REQ_FLUSH ? 0 : q->frozen ? q->frozen : -EIO;
    switch (r->op) {
    case REQ_WRITE:
        if (r->flags & REQ_KEEP)
            return qc_keep(q, r->off, r->buf, r->len);
        return r->flags & REQ_COMPRESSED ? qc_write_compressed(q, r->off, r->buf, r->len)
                                         : qc_write(q, r->off, r->buf, r->len);
    case REQ_ZERO:
        return qc_zero(q, r->off, r->len, r->flags);
    case REQ_DISCARD:
        return qc_discard(q, r->off, r->len);
    case REQ_FLUSH:
        return qc_flush(q);
    case REQ_TRUNCATE:
        return qc_resize(q, r->off, (enum qc_preallocation)(r->flags / REQ_OWN));
    default:
        return -ENOTSUP;
    }
}

static struct node *qc_backing(const struct node *n)
{
    return ((const struct qc *)n->state)->backing;
}

const struct driver qcow2_driver = {
    .name = "qcow2",
    .state_size = sizeof(struct qc),
    .submit = qc_submit,
    .write_back = qc_write_back,
    .close = qc_close,
    .backing = qc_backing,
    .child_set = qc_child_set,
    .set_read_only = qc_set_read_only,
    .bitmap_ops = &qc_bitmap_ops,
};
