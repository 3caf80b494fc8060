/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Guards: who must act before a node is changed, whoever changes it.
 *
 * A filter sees what passes through it; a guard sees every change of one node, from exports, jobs
 * and parents alike, and can come and go while they hold on to the node. It runs before the request
 * counts as in flight: so it may read the node itself, and the node can be drained meanwhile. What
 * a guard has done must hold at the moment when the request is let in: after it has acted all of
 * them are asked again.
 */
#ifndef BLOCK_GUARD_H
#define BLOCK_GUARD_H

#include "block/node.h"

struct node_guard {
    /* before: r is a WRITE, ZERO, DISCARD or TRUNCATE whose range was not checked yet. False:
     * nothing was to be done, and it has not yielded. True: ask again. May yield. */
    bool (*before)(struct node_guard *g, struct node *n, const struct req *r);
    struct node_guard *next;
    unsigned busy; /* requests in before */
    struct co_queue idle;
};

/* node_guard_add: from now on. n is drained: no change is under way. */
void node_guard_add(struct node *n, struct node_guard *g);
/* node_guard_remove: no more; waits for those that are in before. Yields. n is not drained by the
 * caller, unless that was so since the guard was added. */
void node_guard_remove(struct node *n, struct node_guard *g);

#endif
