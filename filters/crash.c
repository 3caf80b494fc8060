/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One state that a power cut may have left, as a disk: nothing of the medium is copied, and nothing
 * is written to it. What survived of the cache and what is written later lie over it in memory.
 */
#include <errno.h>

#include "base/bytes.h"
#include "filters/cache_priv.h"

#define PRIVATE_MAX (256 * MiB)

struct crash_node {
    struct pages over;
};

static int crash_write(struct node *n, const struct req *r)
{
    struct crash_node *c = n->state;

    if (pages_bytes(&c->over) + r->len > PRIVATE_MAX)
        return -ENOSPC;
    if (!pages_write(&c->over, r->off, r->op == REQ_WRITE ? r->buf : NULL, r->len))
        return -ENOMEM;
    n->size = max_u64(n->size, r->off + r->len);
    return 0;
}

/* The medium may be shorter: what was written last may not have reached it. */
static int crash_read(struct node *n, struct req *r)
{
    struct crash_node *c = n->state;
    struct node *medium = n->child[0];
    struct req part = *r;
    int ret = 0;

    part.len = r->off >= medium->size ? 0 : min_u64(r->len, medium->size - r->off);
    memset((uint8_t *)r->buf + part.len, 0, r->len - part.len);
    if (part.len)
        ret = node_submit(medium, &part);
    if (ret == 0)
        pages_patch(&c->over, r->off, r->buf, r->len);
    return ret;
}

static int crash_status(struct node *n, struct req *r)
{
    struct crash_node *c = n->state;
    struct node *medium = n->child[0];
    bool held;
    uint64_t run = pages_run(&c->over, r->off, r->len, &held);
    struct req part = *r;

    if (held)
        return extents_add(r->ext, run, 0) < 0 ? -ENOMEM : 0;
    if (r->off >= medium->size)
        return extents_add(r->ext, run, EXTENT_HOLE | EXTENT_ZERO) < 0 ? -ENOMEM : 0;
    part.len = min_u64(run, medium->size - r->off);
    return node_submit(medium, &part);
}

static int crash_truncate(struct node *n, const struct req *r)
{
    struct crash_node *c = n->state;

    /* What lies behind the new end on the medium must not come back. */
    if (r->off < n->size) {
        struct req zero = {.op = REQ_ZERO, .off = r->off, .len = n->size - r->off};
        int ret = r->off < n->child[0]->size ? crash_write(n, &zero) : 0;

        if (ret < 0)
            return ret;
        if (r->off >= n->child[0]->size)
            pages_drop(&c->over, r->off, n->size - r->off);
    }
    n->size = r->off;
    return 0;
}

static int crash_submit(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        return crash_read(n, r);
    case REQ_WRITE:
    case REQ_ZERO:
        return crash_write(n, r);
    case REQ_STATUS:
        return crash_status(n, r);
    case REQ_TRUNCATE:
        return crash_truncate(n, r);
    default:
        return 0; /* nothing here outlives the server, and discards keep what is there */
    }
}

static void crash_close(struct node *n)
{
    struct crash_node *c = n->state;

    pages_free(&c->over);
}

const struct driver crash_driver = {
    .name = "crash",
    .state_size = sizeof(struct crash_node),
    .submit = crash_submit,
    .close = crash_close,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD,
};

unsigned cache_crash_count(const struct node *cache)
{
    const struct cache_node *c = cache->state;

    return c->crash ? crash_count(c->crash) : 0;
}

bool cache_crash_describe(const struct node *cache, unsigned i, char *buf, size_t len)
{
    const struct cache_node *c = cache->state;

    return c->crash && crash_describe(c->crash, i, buf, len);
}

struct node *cache_crash_open(struct node *cache, unsigned i, struct err **errp)
{
    struct cache_node *c = cache->state;
    struct node *medium = cache->child[0], *n;
    struct crash_node *s;

    if (i >= cache_crash_count(cache)) {
        err_set(errp, ENOENT, "there is no crash state %u: %s", i,
                c->cut ? "they are counted from 0" : "the power was not cut");
        return NULL;
    }
    n = node_over(&crash_driver, medium, errp);
    if (!n)
        return NULL;
    node_ref(medium); /* node_over took one over */
    s = n->state;
    n->size = cache->size;
    n->growable = cache->growable;
    n->limits.cluster = cache->limits.cluster;
    if (!crash_build(c->crash, i, &s->over)) {
        pages_free(&s->over);
        n->n_child = 0;
        node_unref(medium);
        node_unref(n);
        err_set(errp, ENOMEM, "no memory for crash state %u", i);
        return NULL;
    }
    return n;
}
