/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changes that lie over a disk in memory: crash states and recorded workloads work on such disks.
 * It is no filter in the graph's sense, as its content is not its child's.
 */
#include "filters/overlay.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "filters/filters_priv.h"

struct overlay_node {
    uint64_t limit;
    struct pages over;
};

static int overlay_write(struct node *n, const struct req *r)
{
    struct overlay_node *o = n->state;

    if (pages_bytes(&o->over) + r->len > o->limit)
        return -ENOSPC;
    if (!pages_write(&o->over, r->off, r->op == REQ_WRITE ? r->buf : NULL, r->len))
        return -ENOMEM;
    n->size = max_u64(n->size, r->off + r->len);
    return 0;
}

/* The medium may be shorter: what was written last may not have reached it. */
static int overlay_read(struct node *n, struct req *r)
{
    struct overlay_node *o = n->state;
    struct node *medium = n->child[0];
    struct req part = *r;
    int ret = 0;

    part.len = r->off >= medium->size ? 0 : min_u64(r->len, medium->size - r->off);
    memset((uint8_t *)r->buf + part.len, 0, r->len - part.len);
    if (part.len)
        ret = node_submit(medium, &part);
    if (ret == 0)
        pages_patch(&o->over, r->off, r->buf, r->len);
    return ret;
}

static int overlay_status(struct node *n, struct req *r)
{
    struct overlay_node *o = n->state;
    struct node *medium = n->child[0];
    bool held;
    uint64_t run = pages_run(&o->over, r->off, r->len, &held);
    struct req part = *r;

    if (held)
        return extents_add(r->ext, run, 0) < 0 ? -ENOMEM : 0;
    if (r->off >= medium->size)
        return extents_add(r->ext, run, EXTENT_HOLE | EXTENT_ZERO) < 0 ? -ENOMEM : 0;
    part.len = min_u64(run, medium->size - r->off);
    return node_submit(medium, &part);
}

static int overlay_truncate(struct node *n, const struct req *r)
{
    struct overlay_node *o = n->state;

    /* What lies behind the new end on the medium must not come back. */
    if (r->off < n->size) {
        struct req zero = {.op = REQ_ZERO, .off = r->off, .len = n->size - r->off};
        int ret = r->off < n->child[0]->size ? overlay_write(n, &zero) : 0;

        if (ret < 0)
            return ret;
        if (r->off >= n->child[0]->size)
            pages_drop(&o->over, r->off, n->size - r->off);
    }
    n->size = r->off;
    return 0;
}

static int overlay_submit(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        return overlay_read(n, r);
    case REQ_WRITE:
    case REQ_ZERO:
        return overlay_write(n, r);
    case REQ_STATUS:
        return overlay_status(n, r);
    case REQ_TRUNCATE:
        return overlay_truncate(n, r);
    default:
        return 0; /* nothing here outlives the server, and discards keep what is there */
    }
}

static void overlay_close(struct node *n)
{
    struct overlay_node *o = n->state;

    pages_free(&o->over);
}

const struct driver overlay_driver = {
    .name = "overlay",
    .state_size = sizeof(struct overlay_node),
    .submit = overlay_submit,
    .close = overlay_close,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD,
};

struct node *overlay_open(struct node *child, uint64_t limit, struct err **errp)
{
    struct node *n = node_over(&overlay_driver, child, errp);
    struct overlay_node *o;

    if (!n)
        return NULL;
    o = n->state;
    o->limit = limit;
    n->size = child->size;
    n->growable = child->growable;
    n->limits.cluster = child->limits.cluster;
    return n;
}

struct pages *overlay_pages(struct node *n)
{
    struct overlay_node *o = n->state;

    return &o->over;
}
