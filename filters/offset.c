/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A window on a part of a node: what qemu-nbd's and nbdkit's offset options show.
 *
 * Not a filter in the graph's sense, as bytes have other offsets above than below. Its size is
 * fixed.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "filters/filters_priv.h"

struct offset {
    uint64_t start; /* of the window in the child, bytes */
};

static int offset_submit(struct node *n, struct req *r)
{
    struct offset *o = n->state;
    struct req down = *r;

    if (r->op == REQ_TRUNCATE)
        return -ENOTSUP;
    if (r->op != REQ_FLUSH)
        down.off += o->start;
    return node_submit(n->child[0], &down);
}

const struct driver offset_driver = {
    .name = "offset",
    .state_size = sizeof(struct offset),
    .submit = offset_submit,
    .fua_ops = ALL_FUA,
};

struct node *offset_open(struct node *child, uint64_t off, uint64_t size, bool read_only,
                         struct err **errp)
{
    struct node *n;

    if (off > child->size) {
        err_set(errp, EINVAL, "%s: offset %" PRIu64 " is past its end (%" PRIu64 " bytes)",
                child->name, off, child->size);
        return NULL;
    }
    if (size == 0)
        size = child->size - off;
    if (size > child->size - off) {
        err_set(errp, EINVAL,
                "%s: %" PRIu64 " bytes at offset %" PRIu64 " reach past its end (%" PRIu64
                " bytes)",
                child->name, size, off, child->size);
        return NULL;
    }
    n = node_over(&offset_driver, child, errp);
    if (!n)
        return NULL;
    ((struct offset *)n->state)->start = off;
    n->size = size;
    n->read_only = read_only || child->read_only;
    if (child->limits.cluster && is_aligned(off, child->limits.cluster))
        n->limits.cluster = child->limits.cluster;
    return n;
}
