/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Flushes. The steps and their reasons are in node.h under "Flush".
 *
 * Generations: write_gen counts the writes to a node that have ended, flushed_gen is what a
 * successful flush covered. Equal means that nothing can be volatile because of this node. The
 * count is taken at the start: a write that ends while the flush runs may have missed it. Flushes
 * take turns, so that a second one finds what the first has done and is mostly free.
 */
#include "block/submit_priv.h"

static int flush_format(struct node *n, struct req *r, bool written)
{
    node_event(n->child[0], EV_FLUSH_TO_OS);
    int ret = n->drv->write_back(n);
    if (ret < 0)
        return ret;
    if (written)
        node_event(n->child[0], EV_FLUSH_TO_DISK);
    return n->drv->submit(n, r);
}

int flush_node(struct node *n)
{
    struct req r = {.op = REQ_FLUSH};
    int ret = 0;

    /* What is durable stays durable: no driver can have anything to do. */
    if (n->read_only && n->write_gen == n->flushed_gen)
        return 0;

    co_lock(&n->flush_lock);
    uint64_t gen = n->write_gen;
    bool written = gen != n->flushed_gen;
    if (n->drv->write_back)
        ret = flush_format(n, &r, written);
    else if (written)
        ret = driver_submit(n, &r);
    else if (n->drv->is_filter)
        ret = node_submit(n->child[0], &r); /* somebody else may have written to it */
    if (ret == 0)
        n->flushed_gen = gen;
    co_unlock(&n->flush_lock);
    return ret;
}
