/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copy on read. A range whose clusters are being copied is exclusive: no write through this node
 * may come between the read of the old content and its being written, or it would be undone.
 * What is nowhere in the chain is not copied: without its backing image it reads as the same zeros.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "filters/filters_priv.h"
#include "filters/stack.h"

#define PIECE_MAX (1u << 20)
#define UNIT_UNKNOWN (64u << 10)
#define EXTENTS_MAX 64

struct cor {
    struct overlap_list busy;
};

static uint64_t unit_of(const struct node *n)
{
    return n->limits.cluster ? n->limits.cluster : UNIT_UNKNOWN;
}

/* As node_depth says it: 0 nowhere, 1 child's own, from 2 on in a backing image. */
static bool is_below(uint32_t depth)
{
    return depth > 1;
}

/* Write to child what of buf, its content from start to stop, is not its own. */
static int keep(struct node *child, uint64_t start, uint64_t stop, const uint8_t *buf)
{
    struct extents x;
    uint64_t off = start;
    int ret = 0;

    extents_init(&x, EXTENTS_MAX);
    while (off < stop && ret == 0) {
        ret = node_depth(child, off, stop - off, &x);
        for (size_t i = 0; i < x.n && ret == 0; i++) {
            const uint8_t *from = buf + (off - start);
            uint64_t len = x.v[i].len;

            if (is_below(x.v[i].flags)) {
                node_event(child, EV_COR_WRITE);
                ret = bytes_are_zero(from, len) ? node_zero(child, off, len, 0)
                                                : node_write(child, off, from, len, 0);
            }
            off += len;
        }
    }
    extents_free(&x);
    return ret;
}

/* Read up to len bytes, at least one, and keep their clusters; buf NULL: only that. *done: how
 * many. */
static int copy_piece(struct node *n, uint64_t off, uint8_t *buf, uint64_t len, uint64_t *done)
{
    struct cor *c = n->state;
    struct node *child = n->child[0];
    uint64_t unit = unit_of(n), start = round_down(off, unit);
    uint64_t stop = min_u64(round_up(off + min_u64(len, PIECE_MAX), unit), child->size);
    AUTO_FREE uint8_t *content = mem_alloc(stop - start);
    struct overlap o;
    int ret;

    if (!content)
        return -ENOMEM;
    overlap_begin(&c->busy, &o, start, stop - start, true);
    ret = node_read(child, start, content, stop - start);
    if (ret == 0)
        ret = keep(child, start, stop, content);
    overlap_end(&c->busy, &o);
    *done = min_u64(len, stop - off);
    if (ret == 0 && buf)
        memcpy(buf, content + (off - start), *done);
    return ret;
}

/* How many bytes from off on are either all in child itself (or nowhere), or all below it. */
static int look(struct node *child, uint64_t off, uint64_t len, uint64_t *run, bool *below)
{
    struct extents x;
    int ret;

    extents_init(&x, EXTENTS_MAX);
    ret = node_depth(child, off, len, &x);
    *run = 0;
    *below = ret == 0 && is_below(x.v[0].flags);
    for (size_t i = 0; ret == 0 && i < x.n && is_below(x.v[i].flags) == *below; i++)
        *run += x.v[i].len;
    extents_free(&x);
    return ret;
}

static int read_op(struct node *n, struct req *r)
{
    uint64_t off = r->off, end = r->off + r->len;
    uint8_t *buf = r->op == REQ_READ ? r->buf : NULL;
    int ret = 0;

    while (off < end && ret == 0) {
        uint64_t run;
        bool below;

        ret = look(n->child[0], off, end - off, &run, &below);
        if (ret == 0 && below)
            ret = copy_piece(n, off, buf, run, &run);
        else if (ret == 0 && buf)
            ret = node_read(n->child[0], off, buf, run);
        off += run;
        buf = buf ? buf + run : NULL;
    }
    return ret;
}

static int change_op(struct node *n, struct req *r)
{
    struct cor *c = n->state;
    uint64_t unit = unit_of(n), start = round_down(r->off, unit);
    struct overlap o;
    int ret;

    overlap_begin(&c->busy, &o, start, round_up(r->off + r->len, unit) - start, false);
    ret = node_submit(n->child[0], r);
    overlap_end(&c->busy, &o);
    return ret;
}

static int cor_submit(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
    case REQ_CACHE:
        return read_op(n, r);
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        return change_op(n, r);
    default:
        return node_submit(n->child[0], r);
    }
}

const struct driver copy_on_read_driver = {
    .name = "copy-on-read",
    .state_size = sizeof(struct cor),
    .is_filter = true,
    .submit = cor_submit,
    .fua_ops = ALL_FUA,
};

struct node *copy_on_read_open(struct node *child, struct err **errp)
{
    if (child->read_only) {
        err_set(errp, EPERM, "Block node is read-only");
        return NULL;
    }
    return node_over(&copy_on_read_driver, child, errp);
}
