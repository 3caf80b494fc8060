/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Compressed writes. A format compresses whole clusters only (the last of a disk may be cut), so
 * one that is written in part is read, changed and written: exclusive, or a write to the rest of it
 * would be undone.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "filters/filters_priv.h"
#include "filters/stack.h"

struct compress {
    struct overlap_list busy;
};

static int write_whole(struct node *n, const struct req *r, uint64_t off, const void *buf,
                       uint64_t len)
{
    return node_write_kind(n->child[0], off, buf, len, r->flags | REQ_COMPRESSED, r->kind);
}

/* The part of r from off on that lies within one cluster. */
static int write_part(struct node *n, const struct req *r, uint64_t off, uint64_t len)
{
    uint64_t unit = n->limits.cluster, start = round_down(off, unit);
    uint64_t whole = min_u64(unit, n->child[0]->size - start);
    AUTO_FREE uint8_t *cluster = mem_alloc(whole);
    int ret;

    if (!cluster)
        return -ENOMEM;
    ret = node_read(n->child[0], start, cluster, whole);
    if (ret < 0)
        return ret;
    memcpy(cluster + (off - start), (const uint8_t *)r->buf + (off - r->off), len);
    return write_whole(n, r, start, cluster, whole);
}

static int write_op(struct node *n, const struct req *r)
{
    uint64_t unit = n->limits.cluster, off = r->off, end = r->off + r->len;
    uint64_t whole_end = end == n->child[0]->size ? end : round_down(end, unit);
    int ret = 0;

    while (off < end && ret == 0) {
        uint64_t next = min_u64(round_down(off, unit) + unit, end);

        if (is_aligned(off, unit) && whole_end > off) {
            next = whole_end;
            ret = write_whole(n, r, off, (const uint8_t *)r->buf + (off - r->off), next - off);
        } else {
            ret = write_part(n, r, off, next - off);
        }
        off = next;
    }
    return ret;
}

static int compress_submit(struct node *n, struct req *r)
{
    struct compress *c = n->state;
    uint64_t unit = n->limits.cluster, start = round_down(r->off, unit);
    bool changes = r->op == REQ_WRITE || r->op == REQ_ZERO || r->op == REQ_DISCARD;
    bool whole = is_aligned(r->off, unit) &&
                 (is_aligned(r->len, unit) || r->off + r->len == n->child[0]->size);
    struct overlap o;
    int ret;

    if (!changes)
        return node_submit(n->child[0], r);
    overlap_begin(&c->busy, &o, start, round_up(r->off + r->len, unit) - start,
                  r->op == REQ_WRITE && !whole);
    ret = r->op == REQ_WRITE ? write_op(n, r) : node_submit(n->child[0], r);
    overlap_end(&c->busy, &o);
    return ret;
}

const struct driver compress_driver = {
    .name = "compress",
    .state_size = sizeof(struct compress),
    .is_filter = true,
    .submit = compress_submit,
    .fua_ops = ALL_FUA,
};

struct node *compress_open(struct node *child, struct err **errp)
{
    if (!child->limits.cluster) {
        err_set(errp, ENOTSUP, "Compression is not supported for underlying format: %s",
                child->drv->name);
        return NULL;
    }
    return node_over(&compress_driver, child, errp);
}
