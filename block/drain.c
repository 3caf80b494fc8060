/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Draining a node: a moment in which no request runs in it.
 *
 * node_submit counts requests and stops at the gate while the node is drained. What a request that
 * runs already sends further down, or does again on its own node (padding, the flush after a FUA
 * write), does not pass the gate: it must end for the drain to end.
 */
#include "block/submit_priv.h"

#include <assert.h>

void node_drain_begin(struct node *n)
{
    n->drained++;
    while (n->in_flight)
        co_queue_wait(&n->idle_waiters);
}

void node_drain_end(struct node *n)
{
    assert(n->drained > 0);
    if (--n->drained == 0)
        co_queue_wake_all(&n->drain_waiters);
}
